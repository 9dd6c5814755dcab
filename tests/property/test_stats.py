"""What holds for every input: bounds, monotonicity, symmetry."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.stats import (
    auroc,
    bootstrap,
    mean_pass_at_k,
    median_interval,
    paired_bootstrap,
    paired_ratio,
    pass_at_k,
    pass_rate_stopped,
    wilson,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)
pairs = st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e6)), min_size=1, max_size=20)


@st.composite
def attempts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 5000))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@given(attempts())
def test_pass_at_k_is_a_chance_that_grows_with_k_and_with_right_attempts(drawn: tuple[int, int, int]) -> None:
    n, c, k = drawn
    chance = pass_at_k(n, c, k)
    assert 0 <= chance <= 1
    assert (chance == 0) == (c == 0)
    if k < n:
        assert pass_at_k(n, c, k + 1) >= chance
    if c < n:
        assert pass_at_k(n, c + 1, k) >= chance
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert pass_at_k(n, c, n) == (c > 0)


@given(st.lists(attempts(), min_size=1, max_size=10))
def test_mean_pass_at_k_lies_between_its_problems(drawn: list[tuple[int, int, int]]) -> None:
    k = min(k for _, _, k in drawn)
    each = [pass_at_k(n, c, k) for n, c, _ in drawn]
    assert min(each) - 1e-12 <= mean_pass_at_k([(n, c) for n, c, _ in drawn], k) <= max(each) + 1e-12


@given(st.integers(2, 1000), st.integers(0, 1000))
def test_stopped_rate_is_below_the_plain_share(k: int, failures: int) -> None:
    n = k + failures
    rate = pass_rate_stopped(n, k)
    assert 0 < rate <= 1
    assert rate <= k / n
    assert pass_rate_stopped(n + 1, k) < rate


@given(attempts(), st.floats(0.01, 0.99))
def test_wilson_holds_its_share_and_is_symmetric(drawn: tuple[int, int, int], level: float) -> None:
    n, c, _ = drawn
    interval = wilson(c, n, level)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    mirrored = wilson(n - c, n, level)
    assert mirrored.low == pytest.approx(1 - interval.high, abs=1e-9)
    assert mirrored.high == pytest.approx(1 - interval.low, abs=1e-9)


@given(attempts(), st.floats(0.01, 0.98))
def test_wilson_widens_with_its_level_and_narrows_with_trials(drawn: tuple[int, int, int], level: float) -> None:
    n, c, _ = drawn
    interval, surer, more = wilson(c, n, level), wilson(c, n, level + 0.01), wilson(10 * c, 10 * n, level)
    assert surer.low <= interval.low
    assert surer.high >= interval.high
    assert more.high - more.low < interval.high - interval.low


@given(values, st.integers(0, 100))
def test_bootstrap_stays_within_its_values(drawn: list[float], seed: int) -> None:
    interval = bootstrap(drawn, resamples=50, seed=seed)
    slack = 1e-9 * (1 + max(abs(v) for v in drawn))
    assert min(drawn) - slack <= interval.low <= interval.high <= max(drawn) + slack


@given(pairs, st.integers(0, 100))
def test_paired_figures_turn_round_with_their_sides(drawn: list[tuple[float, float]], seed: int) -> None:
    a, b = [x for x, _ in drawn], [y for _, y in drawn]
    there, back = paired_bootstrap(a, b, resamples=50, seed=seed), paired_bootstrap(b, a, resamples=50, seed=seed)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high, rel=1e-6, abs=1e-6)
    assert there.high == pytest.approx(-back.low, rel=1e-6, abs=1e-6)


@given(pairs, st.integers(0, 100), st.floats(0.1, 10))
def test_a_ratio_stays_within_its_pairs_and_scales(drawn: list[tuple[float, float]], seed: int, factor: float) -> None:
    a, b = [x for x, _ in drawn], [y for _, y in drawn]
    ratios = [x / y for x, y in drawn]
    interval = paired_ratio(a, b, resamples=50, seed=seed)
    assert min(ratios) * (1 - 1e-9) <= interval.low <= interval.high <= max(ratios) * (1 + 1e-9)
    scaled = paired_ratio([factor * x for x in a], b, resamples=50, seed=seed)
    assert scaled.value == pytest.approx(factor * interval.value)
    assert scaled.high == pytest.approx(factor * interval.high)


@given(values, st.floats(0.01, 0.99))
def test_median_interval_is_made_of_values_and_states_its_level(drawn: list[float], level: float) -> None:
    interval = median_interval(drawn, level)
    assert interval.low in drawn
    assert interval.high in drawn
    assert interval.low <= interval.value <= interval.high
    spans_all = interval.low == min(drawn) and interval.high == max(drawn)
    assert interval.level >= level - 1e-12 or spans_all
    assert 0 <= interval.level < 1
    assert math.isfinite(interval.value)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_auroc_is_the_share_of_pairs_in_the_right_order(scored: list[tuple[int, bool]]) -> None:
    yes = [score for score, label in scored if label]
    no = [score for score, label in scored if not label]
    scores, labels = [float(score) for score, _ in scored], [label for _, label in scored]
    if not yes or not no:
        with pytest.raises(ValueError, match="both positives and negatives"):
            auroc(scores, labels)
        return
    wins = sum((a > b) + 0.5 * (a == b) for a in yes for b in no)
    assert auroc(scores, labels) == pytest.approx(wins / (len(yes) * len(no)))
    assert auroc(scores, labels) + auroc([-score for score in scores], labels) == pytest.approx(1.0)
