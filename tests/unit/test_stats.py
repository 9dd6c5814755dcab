"""Figures against brute force, published values and simulations."""

import math
import random
from itertools import combinations
from statistics import fmean, median

import pytest

from factory.stats import (
    bootstrap,
    detectable_loss,
    fisher,
    mean_pass_at_k,
    median_interval,
    paired_bootstrap,
    paired_ratio,
    pass_at_k,
    pass_rate_stopped,
    wilson,
)


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_attempt(n: int) -> None:
    for c in range(n + 1):
        attempts = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            assert pass_at_k(n, c, k) == pytest.approx(fmean(any(subset) for subset in combinations(attempts, k)))


def test_pass_at_k_survives_large_counts() -> None:
    exact = 1 - math.comb(99_990, 1_000) / math.comb(100_000, 1_000)
    assert pass_at_k(100_000, 10, 1_000) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0), (0, 0, 1)])
def test_pass_at_k_refuses_what_it_cannot_know(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_at_k(n, c, k)


def test_mean_pass_at_k_weighs_problems_alike() -> None:
    assert mean_pass_at_k([(4, 4), (100, 0), (2, 1)], 1) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no problems"):
        mean_pass_at_k([], 1)
    with pytest.raises(ValueError, match="pass@3"):
        mean_pass_at_k([(4, 4), (2, 1)], 3)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_stopping_at_the_kth_success_is_corrected(p: float, k: int) -> None:
    # The whole negative binomial distribution of n, summed to where nothing is left of it.
    chances = [(n, math.comb(n - 1, k - 1) * p**k * (1 - p) ** (n - k)) for n in range(k, 400)]
    assert math.fsum(chance for _, chance in chances) == pytest.approx(1)
    assert math.fsum(pass_rate_stopped(n, k) * chance for n, chance in chances) == pytest.approx(p)
    assert math.fsum(k / n * chance for n, chance in chances) > p + 0.01  # what is corrected


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 0), (2, 3)])
def test_stopped_rate_refuses_what_it_cannot_know(n: int, k: int) -> None:
    with pytest.raises(ValueError):
        pass_rate_stopped(n, k)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_values(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson(successes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    assert interval.value == successes / n


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_count(successes: int, n: int) -> None:
    with pytest.raises(ValueError):
        wilson(successes, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5])
def test_levels_lie_between_zero_and_one(level: float) -> None:
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, level)
    with pytest.raises(ValueError, match="level"):
        bootstrap([1.0, 2.0], level=level)
    with pytest.raises(ValueError, match="level"):
        median_interval([1.0], level)


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval() -> None:
    values = [float(i % 10) for i in range(400)]
    interval = bootstrap(values)
    half = 1.96 * math.sqrt(fmean((v - 4.5) ** 2 for v in values) / 400)
    assert interval.value == 4.5
    assert interval.low == pytest.approx(4.5 - half, abs=0.05)
    assert interval.high == pytest.approx(4.5 + half, abs=0.05)


def test_bootstrap_repeats_itself_and_takes_any_statistic() -> None:
    values = [1.0, 5.0, 2.0, 8.0, 3.0]
    assert bootstrap(values, median, seed=3) == bootstrap(values, median, seed=3)
    assert bootstrap(values, median, seed=3).value == 3.0
    assert bootstrap(values, resamples=9, seed=1) != bootstrap(values, resamples=9, seed=2)
    assert bootstrap([7.0] * 5) == bootstrap([7.0])


def test_pairing_takes_out_how_hard_a_problem_is() -> None:
    hard = [float(i) for i in range(50)]
    harder = [x + 1 + 0.1 * (i % 2) for i, x in enumerate(hard)]
    interval = paired_bootstrap(harder, hard)
    assert interval.value == pytest.approx(1.05)
    assert 1.0 <= interval.low < interval.value < interval.high <= 1.1


def test_a_ratio_is_one_of_sums() -> None:
    interval = paired_ratio([100.0, 1.0] * 20, [200.0, 1.0] * 20)
    assert interval.value == pytest.approx(101 / 201)
    assert 0.5 < interval.low < interval.value < interval.high < 0.6
    assert paired_ratio([0.0, 0.0], [1.0, 2.0]).high == 0
    assert paired_ratio([1.0, 1.0], [0.0, 1.0]).high == math.inf


def test_paired_figures_refuse_what_is_not_paired() -> None:
    for figure in (paired_bootstrap, paired_ratio):
        with pytest.raises(ValueError):
            figure([1.0], [1.0, 2.0])
        with pytest.raises(ValueError, match="no values"):
            figure([], [])
    with pytest.raises(ValueError, match="zero"):
        paired_ratio([1.0], [0.0])
    with pytest.raises(ValueError, match="negative"):
        paired_ratio([1.0], [-1.0])
    with pytest.raises(ValueError, match="resamples"):
        bootstrap([1.0], resamples=0)


@pytest.mark.parametrize(
    ("n", "place", "level"),
    # n values, which of them from either end, and what that covers: 1 - 2 P(binomial(n, 1/2) < place), by hand.
    [(1, 1, 0.0), (5, 1, 0.9375), (6, 1, 0.96875), (8, 1, 0.9921875), (9, 2, 0.9609375), (20, 6, 0.9586105)],
)
def test_median_interval_takes_order_statistics(n: int, place: int, level: float) -> None:
    interval = median_interval([float(v) for v in reversed(range(1, n + 1))])
    assert (interval.low, interval.high) == (place, n + 1 - place)
    assert interval.value == (n + 1) / 2
    assert interval.level == pytest.approx(level)


def test_median_interval_covers_what_it_says() -> None:
    # All 2^n ways in which n values can fall below (0) or above (1) the median, each as likely as any other.
    for n in range(1, 13):
        interval = median_interval([float(v) for v in range(n)], 0.8)
        place = int(interval.low) + 1
        held = sum(math.comb(n, below) for below in range(n + 1) if place <= below <= n - place)
        assert interval.level == pytest.approx(held / 2**n)
        narrower = sum(math.comb(n, below) for below in range(n + 1) if place + 1 <= below <= n - place - 1)
        assert narrower / 2**n < 0.8


def test_a_median_needs_a_value() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


def test_fisher_gives_published_values() -> None:
    assert fisher(3, 1, 4) == pytest.approx(17 / 70)  # the lady who tastes tea, three cups of four right
    assert fisher(4, 0, 4) == pytest.approx(1 / 70)
    assert fisher(2, 5, 8) > 0.5
    with pytest.raises(ValueError, match="9 and 1 successes of 8 trials each"):
        fisher(9, 1, 8)


@pytest.mark.parametrize(("share", "n"), [(1.0, 3), (0.9, 8), (0.5, 16), (0.3, 40)])
def test_the_detectable_loss_is_found_four_times_out_of_five(share: float, n: int) -> None:
    loss = detectable_loss(share, n)
    assert loss is not None
    assert 0.775 < _found(share, loss, n) < 0.83
    assert _found(share, loss - 0.05, n) < 0.8


def _found(share: float, loss: float, n: int) -> float:
    """How often the test finds it, by simulation."""
    draw, found = random.Random(1), 0
    for _ in range(4000):
        right = sum(draw.random() < share for _ in range(n))
        fewer = sum(draw.random() < share - loss for _ in range(n))
        found += fisher(right, fewer, n) <= 0.05
    return found / 4000


def test_too_few_or_too_rare_to_lose_anything() -> None:
    assert detectable_loss(0.1, 16) is None
    assert detectable_loss(1.0, 2) is None
    assert detectable_loss(0.0, 64) is None


def test_an_interval_reads_well() -> None:
    assert str(wilson(81, 263)) == "0.308 [0.255, 0.366]"
