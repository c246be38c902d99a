# SPDX-License-Identifier: GPL-3.0-or-later
import math

import numpy as np
import pytest

from deeprx_common.stats import (
    block_error_rate,
    error_rate,
    holm,
    paired_difference,
    paired_ratio,
    ratio_above,
    sinr_apart,
    sinr_at_ber,
    sinr_gain,
)


def fading_clusters(rng, clusters, bits=10_000, mean=0.02):
    """Errors of clusters whose error probability differs from draw to draw, as over fading."""
    return rng.binomial(bits, np.clip(rng.gamma(0.7, mean / 0.7, clusters), 0, 0.5))


def coverage(interval, trials=400, clusters=40):
    rng = np.random.default_rng(1)
    truth = 0.02  # of the gamma's mean; the clip at 0.5 moves it by less than 1e-6
    hits = 0
    for _ in range(trials):
        low, high = interval(fading_clusters(rng, clusters), np.full(clusters, 10_000))
        hits += low <= truth <= high
    return hits / trials


def test_interval_covers_the_truth_where_clusters_differ():
    assert coverage(lambda e, b: error_rate(e, b).ci95) >= 0.93


def test_interval_of_independent_blocks_covers_at_least_as_promised():
    rng, hits = np.random.default_rng(4), 0
    for _ in range(2000):
        low, high = block_error_rate(rng.random(60) < 0.05, np.ones(60)).ci95
        hits += low <= 0.05 <= high
    assert 0.95 <= hits / 2000 < 0.995
    assert block_error_rate([0] * 20, [1] * 20).ci95 == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert block_error_rate([1] * 20, [1] * 20).ci95 == pytest.approx((0.025 ** (1 / 20), 1))


def test_interval_of_blocks_that_share_a_channel_is_over_clusters():
    errors, blocks = [5, 0, 4, 0, 0], [5] * 5
    assert block_error_rate(errors, blocks) == error_rate(errors, blocks)


def test_an_interval_over_bits_would_not():
    def over_bits(errors, bits):
        p = errors.sum() / bits.sum()
        half = 1.96 * math.sqrt(p * (1 - p) / bits.sum())
        return p - half, p + half

    assert coverage(over_bits) < 0.2


def test_interval_is_not_wider_than_needed():
    # binomial clusters: the textbook interval of 4e5 bits at 1e-2 is +-3.1e-4
    errors = np.random.default_rng(2).binomial(10_000, 0.01, 40)
    low, high = error_rate(errors, np.full(40, 10_000)).ci95
    assert high - low < 2 * 2 * 3.1e-4


def test_rate_weighs_clusters_by_their_bits():
    rate = error_rate([10, 0], [100, 900])
    assert rate.rate == pytest.approx(0.01)
    assert (rate.errors, rate.bits, rate.clusters) == (10, 1000, 2)


@pytest.mark.parametrize("bits", [100, 10**9])
def test_without_errors_the_bound_counts_clusters(bits):
    assert error_rate([0] * 40, [bits] * 40).ci95 == pytest.approx((0, 1 - 0.025 ** (1 / 40)))


def test_few_clusters_with_errors_are_bounded_by_their_share():
    low, high = error_rate([500] + [0] * 99, [1000] * 100).ci95
    assert low < 0.005 < high < 0.06  # Clopper-Pearson of 1 in 100: 0.0545


def test_one_cluster_says_nothing_about_the_spread():
    assert error_rate([5], [1000]).ci95 == (0, 1)


def test_fewer_than_6_clusters_do_not_tell_a_difference():
    for clusters in range(1, 6):
        paired = paired_difference([5] * clusters, [9] * clusters, [1000] * clusters)
        assert paired.difference == pytest.approx(-4e-3)
        assert (paired.ci95, paired.clusters) == ((-1, 1), clusters)
    assert paired_difference([5] * 6, [9] * 6, [1000] * 6).ci95[1] < 0


@pytest.mark.parametrize("seed", range(20))
def test_a_difference_of_rates_stays_within_one(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(1, 4, 6)
    a, b = rng.binomial(blocks, 0.9), rng.binomial(blocks, 0.1)
    paired = paired_difference(a, b, blocks)
    assert -1 <= paired.ci95[0] <= paired.difference <= paired.ci95[1] <= 1
    swapped = paired_difference(b, a, blocks)
    assert swapped.ci95 == tuple(-end for end in reversed(paired.ci95))


def test_pairing_finds_what_separate_intervals_cannot():
    rng = np.random.default_rng(3)
    worse = fading_clusters(rng, 60)
    better = rng.binomial(worse, 0.95)  # 5 % fewer errors on the same clusters
    bits = np.full(60, 10_000)
    a, b = error_rate(better, bits), error_rate(worse, bits)
    assert a.ci95[1] > b.ci95[0]
    paired = paired_difference(better, worse, bits)
    assert paired.ci95[1] < 0
    assert paired.difference == pytest.approx(a.rate - b.rate)


def test_pairing_does_not_invent_a_difference():
    rng = np.random.default_rng(4)
    false = 0
    for _ in range(300):
        p = np.clip(rng.gamma(0.7, 0.03, 40), 0, 0.5)
        a, b = rng.binomial(10_000, p), rng.binomial(10_000, p)
        low, high = paired_difference(a, b, np.full(40, 10_000)).ci95
        false += not low <= 0 <= high
    assert false / 300 < 0.08


def delivered(gain, seed, link, clusters=60, slots=5, processes=8, transmissions=4):
    """Blocks that a link with retransmissions delivers, by cluster: energy adds up until it is
    enough. seed: of the fading; link: of what its blocks need.
    """
    rng, rng_of_link = np.random.default_rng(seed), np.random.default_rng((seed, link))
    fading = rng.gamma(2.0, 0.5, (clusters, 1)) * rng.uniform(0.9, 1.3, (clusters, slots))
    threshold = np.exp(0.1 * rng_of_link.standard_normal(fading.shape))
    energy, sent = np.zeros(processes), np.zeros(processes, int)
    counted = np.zeros(clusters, int)
    for k, (power, enough) in enumerate(zip(fading.ravel(), threshold.ravel(), strict=True)):
        process = k % processes
        energy[process] += gain * power
        sent[process] += 1
        good = energy[process] > enough
        counted[k // slots] += good
        if good or sent[process] == transmissions:
            energy[process] = sent[process] = 0
    return counted


def test_deliveries_of_two_links_are_not_told_apart_by_chance():
    """What one cluster fails the next one may repair: the interval is wide, never too narrow."""
    outside, differences = 0, []
    for seed in range(100):
        pair = [delivered(0.8, seed, link) for link in (0, 1)]
        low, high = paired_difference(*pair, np.full(60, 5)).ci95
        outside += not low <= 0 <= high
        pair[0] = delivered(1.2, seed, 0)
        differences.append(paired_difference(*pair, np.full(60, 5)))
    assert outside <= 5
    assert sum(d.ci95[0] > 0 for d in differences) > 50


def receivers_on_fading(rng, ratio, clusters=60, bits=10_000):
    """Errors of two receivers on the same channels, one with ratio times the other's rate."""
    rate = np.clip(rng.gamma(0.7, 0.02 / 0.7, clusters), 0, 0.3)
    return rng.binomial(bits, ratio * rate), rng.binomial(bits, rate)


def test_interval_of_a_ratio_covers_the_truth():
    rng = np.random.default_rng(6)
    pairs = (paired_ratio(*receivers_on_fading(rng, 1.1))[1] for _ in range(1000))
    assert 0.93 <= np.mean([low <= 1.1 <= high for low, high in pairs]) <= 0.98
    assert paired_ratio([0] * 9, [1] * 9) == (0.0, (0.0, pytest.approx(math.log(40) / 9)))


def test_a_ratio_is_above_its_limit_by_chance_as_often_as_p_says():
    rng = np.random.default_rng(7)
    at_limit = [ratio_above(*receivers_on_fading(rng, 1.01), 1.01) for _ in range(2000)]
    assert 0.03 < np.mean(np.array(at_limit) < 0.05) < 0.07
    above = [ratio_above(*receivers_on_fading(rng, 1.1), 1.01) for _ in range(200)]
    assert np.mean(np.array(above) < 0.05) > 0.9
    same, _ = receivers_on_fading(rng, 1.0)
    assert ratio_above(same, same, 1.01) > 0.99 and ratio_above(0 * same, same, 1.01) == 1.0


def test_holms_correction():
    """Steps down from the smallest; the order of the others stays."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.9]) == [1.0, 1.0, 1.0] and holm([]) == []


def test_identical_receivers_are_bounded_by_clusters():
    assert paired_difference([3] * 10, [3] * 10, [100] * 10).ci95[1] > 0.1


def curve(clusters=50, bits=100_000, seed=5):
    """A curve of one decade in 5 dB that crosses 1e-2 at 10 dB, with noise from few errors."""
    rng = np.random.default_rng(seed)
    return [
        (sinr, rng.binomial(bits, 10 ** (-sinr / 5), clusters), np.full(clusters, bits))
        for sinr in (15.0, 5.0, 8.0, 12.0)
    ]


def test_sinr_at_ber_interpolates_in_log_domain():
    sinr, (low, high) = sinr_at_ber(curve(), 1e-2)
    assert sinr == pytest.approx(10.0, abs=0.03)
    assert low <= sinr <= high
    assert high - low < 0.1


def test_sinr_interval_covers_the_truth():
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(100):
        points = []
        for sinr in (6.0, 9.0, 12.0):
            p = np.clip(10 ** (-sinr / 6) * rng.gamma(2.0, 0.5, 60), 0, 0.5)
            points.append((sinr, rng.binomial(10_000, p), np.full(60, 10_000)))
        low, high = sinr_at_ber(points, 10 ** (-10 / 6), resamples=300)[1]
        hits += low <= 10.0 <= high
    assert hits >= 88


def test_sinr_out_of_the_curve_is_infinite():
    assert sinr_at_ber(curve(), 1e-4)[0] == math.inf
    assert sinr_at_ber(curve(), 0.4)[0] == -math.inf


def test_gain_is_paired_and_its_interval_covers_the_truth():
    """Half a dB ahead on channels that differ by far more."""
    rng = np.random.default_rng(7)
    sinr, target = np.array([6.0, 9.0, 12.0, 15.0]), 10 ** (-10 / 6)
    hits, widths = 0, []
    for _ in range(60):
        fading = rng.gamma(2.0, 0.5, (4, 60))
        errors, other = (
            rng.binomial(10_000, np.clip(10 ** (-(sinr[:, None] + d) / 6) * fading, 0, 0.5))
            for d in (0.5, 0.0)
        )
        low, high = sinr_gain(sinr, errors[None], other[None], 10_000, target)[1]
        hits += low <= 0.5 <= high
        widths.append(high - low)
    assert hits >= 50
    points = [(s, e, [10_000] * 60) for s, e in zip(sinr, errors, strict=True)]
    alone = sinr_at_ber(points, target)[1]
    assert np.median(widths) < 0.5 * (alone[1] - alone[0])


def test_gain_is_a_mean_over_pairs():
    """Straight lines: ahead by 1 and by 3 dB; and what is never reached."""
    sinr = np.array([10.0, 0.0, 20.0])
    ber = 10.0 ** (-1 - sinr / 10)

    def counts(ahead):
        return np.full((3, 4), (1e8 * ber * 10.0 ** (-ahead / 10))[:, None])

    gains, ends = sinr_gain(
        sinr, np.stack([counts(1), counts(3)]), np.stack([counts(0)] * 2), 10**8, 1e-2
    )
    assert gains == pytest.approx([1, 3], abs=1e-6) and ends == pytest.approx((2, 2), abs=1e-6)
    (gains,), _ = sinr_gain(sinr, counts(1)[None], counts(0)[None], 10**8, 1e-6)
    assert math.isnan(gains)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: error_rate([], []), "not empty"),
        (lambda: error_rate([1], [2, 3]), "one length"),
        (lambda: error_rate([0, 0], [5, 0]), "every cluster must have bits"),
        (lambda: sinr_at_ber(curve()[:1], 0.1), "at least 2 points"),
        (lambda: sinr_gain([6.0], *np.ones((2, 1, 1, 9), int), 100, 0.1), "at least 2 points"),
        (lambda: sinr_at_ber(curve(), 0.7), "between 0 and 0.5"),
    ],
)
def test_bad_input_says_what_is_wrong(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def of_slots(sinr_db, lost, slots):
    """Block errors of slots at a SINR, and of another receiver's in the same ones, a few fewer."""
    more, fewer = ((np.arange(slots) < share * lost * slots).astype(int) for share in (1, 0.93))
    return (sinr_db, more), (sinr_db, fewer)


def test_two_curves_are_some_db_apart_though_a_draw_may_reach_neither():
    """Of 200 slots with 15.5 % lost one draw in a hundred has less than 10 %: by such a draw both
    curves begin below the target.
    """
    rates = (13.0, 0.16, 200), (14.0, 0.11, 4200), (15.0, 0.07, 7200)
    points, others = zip(*(of_slots(*at) for at in rates), strict=True)
    best, (low, high) = sinr_apart(points, others, 1, 0.1)
    assert 0 < low < best < high < 1.5
    nowhere = [(sinr_db, np.ones(200, int)) for sinr_db in (13.0, 14.0)]
    best, (low, high) = sinr_apart(nowhere, nowhere, 1, 0.1)
    assert np.isnan([best, low, high]).all()
