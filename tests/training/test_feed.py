# SPDX-License-Identifier: GPL-3.0-or-later
"""What training is fed: the same with and without a cache, in a thread, and over again."""

import importlib
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from deeprx_training.data import seeds
from deeprx_training.data.channels import SlotGenerator
from deeprx_training.data.conditions import Conditions
from deeprx_training.data.feed import BatchPlan, SlotCache, SlotFeed, code_sha256
from deeprx_training.files import TrainingError
from deeprx_training.teaching.ledger import Ledger

PLAN = BatchPlan(
    Conditions(channels=("TDL-B",), interferer=0.5, time_domain=0.5, n_prb=6),
    batch=2,
    chunk=2,
    distinct=0,
    seed=1,
    data_seed=3,
)


def feed(plan=PLAN, teach=None, sha256="teacher", phase=lambda *_: nullcontext(), **options):
    return SlotFeed(plan, torch.device("cpu"), phase, teach, sha256, **options)


def take(source, count, step=0):
    batches = source.batches(step, lambda _step: True)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def same(a, b):
    fields = ("y", "p", "bits", "data", "n0", "snr_db", "sir_db")
    return (
        a.config == b.config
        and a.domain == b.domain
        and all(torch.equal(getattr(a, f), getattr(b, f)) for f in fields)
    )


def teacher(batch):
    return batch.y[:, 0, :, :, :1] * 3.0


def test_batches_are_the_generators_in_order_and_resume_in_the_middle_of_a_chunk():
    generator = SlotGenerator(PLAN.conditions)
    drawn = [b for key in range(3) for b in generator.chunk(2, 2, 3, key)]
    taken = take(feed(), 5)
    assert all(same(a, b) for (a, llr), b in zip(taken, drawn, strict=False))
    assert same(take(feed(), 1, step=3)[0][0], drawn[3])


def test_the_cache_changes_nothing_and_asks_the_teacher_once(tmp_path):
    plain = take(feed(teach=teacher), 4)
    slots_seen = []

    def counting(batch):
        slots_seen.append(len(batch.y))
        return teacher(batch)

    ledgers = Ledger(gpu=False), Ledger(gpu=False)
    first, again = (feed(teach=counting, phase=x.phase, cache=tmp_path) for x in ledgers)
    filled = take(first, 4)
    read = take(again, 4)
    for (a, x), (b, y), (c, z) in zip(plain, filled, read, strict=True):
        assert same(a, b) and same(a, c)
        assert torch.equal(x, y) and torch.equal(x, z) and x.dtype == torch.float16
    assert len(slots_seen) == 4
    assert (first.cached_llr_slots, again.cached_llr_slots) == (0, 8)
    assert [ledger.phases["teacher"].slots for ledger in ledgers] == [8, 0]


def test_channels_are_kept_where_they_are_asked_for(tmp_path):
    drawn = SlotGenerator(PLAN.conditions).chunk(2, 2, 3, 0)
    without = take(feed(cache=tmp_path), 2)
    assert all(batch.h is None for batch, _ in (*without, *take(feed(), 2)))
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.pt")}
    for _ in range(2):  # drawn, then read
        stored = take(feed(channels=True, cache=tmp_path), 2)
        plain = take(feed(channels=True), 2)
        for (a, _), (b, _), (c, _), whole in zip(stored, plain, without, drawn, strict=True):
            assert same(a, b) and same(a, c)
            assert torch.equal(a.h, b.h) and a.h.dtype == torch.complex64
            assert (a.h - whole.h).abs().max() < 1e-3 * whole.h.abs().max()
    assert all(file.stat().st_mtime_ns == when for file, when in files.items())
    assert all(batch.h is None for batch, _ in take(feed(cache=tmp_path), 2))


def test_other_slots_or_another_teacher_never_share_cached_files(tmp_path):
    take(feed(teach=teacher, cache=tmp_path), 1)
    other = replace(PLAN, conditions=replace(PLAN.conditions, interferer=0.0))
    assert feed(other, cache=tmp_path).cache.slots != feed(cache=tmp_path).cache.slots
    assert feed(sha256="b", cache=tmp_path).cache.llrs != feed(cache=tmp_path).cache.llrs


def test_slots_of_another_device_version_or_code_are_never_used(tmp_path, monkeypatch):
    """Each changes what is drawn; a file that is there is read without a look at what made it."""
    cpu = feed(cache=tmp_path).cache.slots
    assert SlotCache(tmp_path, PLAN, torch.device("meta"), "").slots != cpu
    for place, other in (
        ("deeprx_training.data.feed.version", lambda name: f"9.9 of {name}"),
        ("torch.__version__", "9.9"),
        *(
            (f"deeprx_training.data.feed.{code}", seeds)
            for code in ("channels", "conditions", "slot", "gold", "modulation")
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, other)
            assert feed(cache=tmp_path).cache.slots != cpu
    assert feed(cache=tmp_path).cache.slots == cpu


def test_the_version_of_code_is_what_it_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for k, text in enumerate(
        (
            'def f(x):\n    """Doubles."""\n    return 2 * x\n',
            "# twice\ndef f(x):\n    return (2 * x)\n",
            "def f(x):\n    return 3 * x\n",
        )
    ):
        (tmp_path / f"drawing{k}.py").write_text(text)
        digests.append(code_sha256(importlib.import_module(f"drawing{k}")))
    assert digests[0] == digests[1] != digests[2]


def test_distinct_batches_come_again_in_another_order():
    repeating = feed(replace(PLAN, distinct=20))
    first, second = ([repeating.key(i) for i in range(e * 10, e * 10 + 10)] for e in range(2))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    other = feed(replace(PLAN, distinct=20, seed=2))
    assert [other.key(i) for i in range(10)] != first


def test_processes_see_different_chunks():
    ranks = [feed(rank=r, world=2) for r in range(2)]
    assert [f.key(i) for i in range(2) for f in ranks] == [0, 1, 2, 3]


def test_a_bad_cache_gets_one_line(tmp_path):
    take(feed(cache=tmp_path), 1)
    file = next(tmp_path.glob("slots-*/*.pt"))
    file.write_bytes(b"junk")
    key = int(file.stem)
    for junk in (None, {}, [1], [{"y": torch.zeros(1)}]):
        if junk is not None:
            torch.save(junk, file)
        with pytest.raises(TrainingError, match="expected cached slots, found something else"):
            take(feed(cache=tmp_path), 2, step=2 * key)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot hold a cache"):
        feed(cache=tmp_path / "file")
