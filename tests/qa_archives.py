# SPDX-License-Identifier: GPL-3.0-or-later
"""Python's reader of model files, and that all that reads them agrees."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import receiver_models
from gnuradio.deeprx import Engine
from hostile import archives
from hostile.archives import BAD, GOOD

from deeprx_common.model_archive import ModelArchive, ModelFileError, read_model_file
from deeprx_common.shipped import shipped_models, study_models
from deeprx_common.slot import SlotConfig
from deeprx_common.trusted import shipped_hashes


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_accepted_and_written_out_anew(name):
    archive = ModelArchive(GOOD[name]())
    anew = archive.rewritten()
    again = ModelArchive(anew)
    assert again.records == archive.records and again.rewritten() == anew


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(name):
    with pytest.raises(ModelFileError) as error:
        ModelArchive(BAD[name]())
    assert str(error.value).isprintable()


@pytest.mark.parametrize("path", [*shipped_models(), *study_models()])
def test_shipped_files_are_accepted(path):
    archive = read_model_file(path)
    assert archive.metadata["name"] == Path(path).stem
    assert archive.records.keys() >= {"data.pkl", "version", "extra/deeprx.json"}


def test_the_list_of_what_ships_is_that_of_the_folder():
    """In models/: sha256sum *.pt */*.pt >../python/common/deeprx_common/shipped_models.sha256"""
    files = [Path(path).read_bytes() for path in [*shipped_models(), *study_models()]]
    assert shipped_hashes() == {hashlib.sha256(data).hexdigest() for data in files}


@pytest.mark.parametrize(
    ("kind", "says"),
    [("folder", "found a folder"), ("pipe", "found a pipe"), ("device", "found a pipe, socket or")],
)
def test_what_is_no_regular_file_is_never_opened(tmp_path, kind, says):
    path = tmp_path / "m.pt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # opened, it would wait for a writer
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match=says):
        read_model_file(path)


@pytest.mark.parametrize("name", ["a\nb", "\ta \n\n b ", "n" * 600, "\u00e9\n"])
def test_a_name_of_several_lines_is_one_in_either_reader(name, tmp_path):
    path = receiver_models.save(receiver_models.ConvNet(), tmp_path / "m.pt", name=name)
    engine = Engine(path, slot=SlotConfig(n_prb=6), trust=[path])
    assert (
        engine.name
        == read_model_file(path).metadata["name"]
        == " ".join(name.split())[:497] + ("..." if len(name) > 500 else "")
    )


def test_what_was_read_stays_as_it_was(tmp_path):
    path = tmp_path / "m.pt"
    path.write_bytes(archives.zipped(archives.records()))
    read = read_model_file(path)
    path.write_bytes(b"another")
    assert hashlib.sha256(read.data).hexdigest() == read.sha256
    with pytest.raises(PermissionError):
        os.pwrite(read.data.fileno(), b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(read.data.fileno(), 0)


@pytest.mark.parametrize(
    "make",
    [archives.largest, lambda: archives.with_record("data/1", bytes(200_000_000))],
    ids=["largest", "storage"],
)
def test_only_the_file_size_and_64_mib_are_needed(make, tmp_path):
    (tmp_path / "m.pt").write_bytes(make())
    program = (
        "import re\n"
        "from pathlib import Path\n"
        "from deeprx_common.model_archive import read_model_file\n"
        "def kilobytes(what):\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    return int(re.search(what + r':\\s+(\\d+)', status)[1])\n"
        "Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew\n"
        "before = kilobytes('VmRSS')\n"
        f"read_model_file({str(tmp_path / 'm.pt')!r})\n"
        "print(kilobytes('VmHWM') - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    size = (tmp_path / "m.pt").stat().st_size
    assert int(done.stdout) * 1024 < size + (64 << 20), done


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (b'"' + b'\\"' * 130_000, "deeprx.json is not JSON"),
        (b"{" + b",".join(b'"%d":0' % k for k in [*range(24_000), 23_999]) + b"}", "twice"),
    ],
)
def test_the_verdict_on_long_metadata_takes_no_minutes(metadata, says, tmp_path):
    file = archives.zipped(archives.records() | {"extra/deeprx.json": metadata})
    (tmp_path / "long.pt").write_bytes(file)
    program = "import sys; from deeprx_common.model_archive import *; read_model_file(sys.argv[1])"
    command = [sys.executable, "-c", program, str(tmp_path / "long.pt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert says in done.stderr.splitlines()[-1]
