# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses against values worked by hand."""

import math

import pytest
import torch

from deeprx_training.receivers.pusch import levels
from deeprx_training.teaching.losses import (
    attention,
    bce,
    bernoulli_kl,
    channel_error,
    clipped_mse,
    error_weight,
    hint,
    objective,
    sinr_weight,
    skew_kl,
    symbol_likelihood,
)

DATA = torch.tensor([[True, False], [True, True]])  # [S, K]: one pilot


def grid(values):
    """[1, 2, 2, 1] LLRs; the pilot's (index 1) must never matter."""
    return torch.tensor(values, dtype=torch.float32).view(1, 2, 2, 1)


def test_bce():
    llr = grid([0.0, 99.0, math.log(3), -math.log(3)])
    bits = grid([1, 0, 1, 1])
    # -ln(1/2), -ln(3/4), -ln(1/4)
    assert float(bce(llr, bits, DATA)) == pytest.approx(
        (math.log(2) + math.log(4 / 3) + math.log(4)) / 3, rel=1e-6
    )


def test_bernoulli_kl():
    teacher, student = (
        grid([0.0, 50.0, math.log(3), 0.0]),
        grid([math.log(3), -50.0, math.log(3), 0.0]),
    )
    # KL(1/2 || 3/4) = ln(2/sqrt(3)); agreement is zero
    assert float(bernoulli_kl(student, teacher, DATA)) == pytest.approx(
        math.log(2 / math.sqrt(3)) / 3, rel=1e-5
    )
    # at T = 2 the same LLRs doubled give the same probabilities, times T^2
    assert float(bernoulli_kl(2 * student, 2 * teacher, DATA, temperature=2.0)) == pytest.approx(
        4 * math.log(2 / math.sqrt(3)) / 3, rel=1e-5
    )


def test_clipped_mse():
    assert float(
        clipped_mse(grid([1.0, 0, 20, -3]), grid([2.0, 9, 14, -3]), DATA, clip=10.0)
    ) == pytest.approx(1 / 3)


def test_skew_kl():
    teacher, student = grid([0.0, 50, 1.0, 0.0]), grid([math.log(3), -50, 1.0, 0.0])
    # q = 1/2, p = 3/4; m = q/5 + 4p/5 = 0.7: KL(1/2 || 0.7) = -ln(4 * 0.7 * 0.3) / 2
    expected = -math.log(4 * 0.7 * 0.3) / 2 / 3
    assert float(skew_kl(student, teacher, DATA, skew=0.2)) == pytest.approx(expected, rel=1e-5)
    assert float(
        skew_kl(2 * student, 2 * teacher, DATA, temperature=2.0, skew=0.2)
    ) == pytest.approx(4 * expected, rel=1e-5)
    # bounded by -ln(skew) where the student is sure and wrong
    wrong = skew_kl(grid([-99.0] * 4), grid([99.0] * 4), DATA, skew=0.2)
    assert float(wrong) == pytest.approx(-math.log(0.2), rel=1e-4)


def test_hint():
    one, two = torch.zeros(1, 2, 1, 2), torch.zeros(1, 3, 1, 2)
    one[0, :, 0, 0] = 5.0  # active on the left only: map (1, 0)
    two[0, :, 0, :] = 0.1  # everywhere alike: map (1, 1) / sqrt(2)
    assert attention(one).flatten().tolist() == [1.0, 0.0]
    expected = (1 - 1 / math.sqrt(2)) ** 2 + 0.5
    assert float(hint(one, two)) == pytest.approx(expected, rel=1e-5)
    assert float(hint(one, 7 * one)) == pytest.approx(0.0)
    # a finer teacher is averaged down to the student's grid
    fine = one.repeat_interleave(2, dim=3)
    assert float(hint(one, fine)) == pytest.approx(0.0)


def test_sinr_weight():
    w = sinr_weight(torch.tensor([0.0, 10 * math.log10(3), 10 * math.log10(7)]))
    assert w.tolist() == pytest.approx([0.5, 1.0, 1.5], rel=1e-5)


def test_error_weight():
    """Of two slots with one data RE, and two layers of 1 and 2 bits; what is no data or no bit of a
    layer does not count.
    """
    data = torch.tensor([[True, False], [False, False]])
    llr, bits = torch.zeros(2, 2, 2, 2, 2), torch.ones(2, 2, 2, 2, 2)
    llr[:, :, 0, 1:] = -99.0
    llr[:, 0, ..., 1] = -99.0
    llr[1, :, 0, 0] = math.log(3)
    weight = error_weight(llr, bits, data, [1, 2])
    expected = [1 / (math.log(x) + 0.03) for x in (2, 4 / 3)]
    assert weight.tolist() == pytest.approx(expected, rel=1e-5)


def test_weight_scales_slots():
    llr = torch.zeros(2, 2, 2, 1)
    bits = torch.ones_like(llr)
    assert float(bce(llr, bits, DATA, torch.tensor([0.5, 1.5]))) == pytest.approx(math.log(2))


def layers(*values):
    """[1, L, 2, 2, 1]: a grid of each layer."""
    return torch.stack([grid(v) for v in values], 1)


def test_channel_error():
    """Of two antennas with noise of power 1 and 1/4, and a layer turned by 90 degrees."""
    h = torch.tensor([1 + 1j, 2.0]).view(1, 1, 2, 1, 1)
    whitener = torch.diag(torch.tensor([1.0, 1, 2, 2]))[None]
    turn = torch.tensor([0.0, 1]).view(1, 1, 2, 1, 1)
    right = torch.tensor([[1.0, -1], [0, -4]]).view(1, 1, 2, 2, 1, 1)  # -j (1 + j), -j 2 2
    assert float(channel_error([right], h, whitener, turn)) == 0
    wrong = right + torch.tensor([[1.0, 0], [0, 2]]).view(right.shape)  # (1 + 4) / 2 antennas
    expected = math.log(1 + 2.5) / 2  # mean of two exits
    assert float(channel_error([right, wrong], h, whitener, turn)) == pytest.approx(expected)


@pytest.mark.parametrize("orders", [(2,), (4, 8)])
def test_symbol_likelihood(orders):
    """Is least where the SINR is that of the noise, and doubt the share of symbols that lie
    somewhere else.
    """
    torch.manual_seed(5)
    bits = torch.randint(2, (8, len(orders), 14, 48, max(orders)))
    data = torch.ones(14, 48, dtype=bool)
    data[2] = False
    g, sent = torch.full((8, len(orders), 14, 48), 200.0), []
    for i, m in enumerate(orders):
        axes = bits[:, i, ..., :m].unflatten(-1, (m // 2, 2)).movedim(-1, 1)
        code = (axes * 2 ** torch.arange(m // 2 - 1, -1, -1)).sum(-1)
        sent.append(levels(m)[0][code])
    sent = torch.stack(sent, 1)
    x = sent + torch.randn_like(sent) / (2 * g[:, :, None]).sqrt()

    def loss(x, factor, doubt):
        q = torch.full_like(g, doubt)
        return float(symbol_likelihood([(x, factor * g, q)], bits, data, orders))

    assert loss(x, 1.0, 1e-9) < min(loss(x, 0.9, 1e-9), loss(x, 1.1, 1e-9), loss(x, 1.0, 1e-2))
    lost = torch.rand_like(x) < 0.1
    strayed = torch.where(lost, x.roll(7, -1), x)  # to another's place
    assert loss(strayed, 1.0, 0.03) < min(loss(strayed, 1.0, 1e-3), loss(strayed, 1.0, 0.4))


def test_layers_have_bits_of_their_own():
    llr, bits = torch.zeros(1, 2, 2, 2, 3), torch.ones(1, 2, 2, 2, 3)
    llr[:, 0, ..., :1] = math.log(3)  # of one bit, -ln(3/4); of two of the other layer, -ln(1/2)
    llr[:, 0, ..., 1:] = 99.0
    llr[:, 1, ..., 2:] = -99.0
    total, _ = objective(llr, bits, DATA, [1, 2], {"bce": 1.0})
    assert float(total) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-6)


def test_gradient_reaches_the_student_only():
    student, teacher = (layers(v).requires_grad_() for v in ([1.0, 0, 0, 0], [2.0, 1, 1, 1]))
    features = [torch.rand(1, channels, 2, 2).requires_grad_() for channels in (2, 5)]
    weights = {"bce": 0.5, "kl": 0.3, "mse": 0.2, "skew_kl": 0.1, "hint": 0.4}
    total, parts = objective(
        student,
        torch.ones_like(student),
        DATA,
        [1],
        weights,
        teacher,
        temperature=2.0,
        features=tuple(features),
    )
    total.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0 and student.grad[0, 0, 0, 1, 0] == 0
    assert features[1].grad is None and features[0].grad.abs().sum() > 0
    expected = sum(weights[name] * part for name, part in parts.items())
    assert float(total.detach()) == pytest.approx(float(expected), rel=1e-6)


def test_without_a_teacher_only_bce_remains():
    llr, bits = layers([0.0] * 4), layers([1.0] * 4)
    total, parts = objective(llr, bits, DATA, [1], {"bce": 1.0, "kl": 1.0})
    assert list(parts) == ["bce"] and float(total) == pytest.approx(math.log(2))
