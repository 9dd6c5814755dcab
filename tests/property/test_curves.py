"""What holds of curves whatever was measured."""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.curves import Point, at, cheapest, fit, line, needed, ordered, saturation, stops_paying
from factory.stats import mean_largest

tokens = st.floats(0, 1e9, allow_nan=False)


@st.composite
def curves(draw: st.DrawFn, problems: int = 4) -> list[Point]:
    """Some budgets of one strategy, on the same problems, in order."""
    reached = st.lists(st.floats(0, 1), min_size=problems, max_size=problems)
    spent = st.lists(tokens, min_size=problems, max_size=problems)
    pairs = draw(st.lists(st.tuples(spent, reached), min_size=1, max_size=5))
    return ordered([Point(str(place), *pair) for place, pair in enumerate(pairs)])


@given(curves(), st.floats(0.01, 1))
def test_what_is_needed_reaches_the_level_and_lies_within_what_was_measured(points: list[Point], level: float) -> None:
    curve = line(points)
    found = needed(curve, level)
    if found is None:
        assert all(y < level for _, y in curve)
    else:
        lowest, highest = 2 ** curve[0][0], 2 ** curve[-1][0]
        assert lowest * (1 - 1e-9) <= found <= highest * (1 + 1e-9)


@given(curves(), st.floats(0, 1))
def test_a_curve_lies_between_its_points(points: list[Point], share: float) -> None:
    curve = line(points)
    x = min(curve[-1][0], curve[0][0] + share * (curve[-1][0] - curve[0][0]))
    heights = [y for _, y in curve]
    assert min(heights) - 1e-9 <= at(curve, x) <= max(heights) + 1e-9


@settings(max_examples=20)
@given(curves())
def test_every_figure_of_a_curve_is_about_its_points(points: list[Point]) -> None:
    saturated, stopped = saturation(points), stops_paying(points)
    for place in (saturated, stopped):
        assert place is None or 0 <= place < len(points) - 1, "the last budget has no doubling"
    found = fit(points, saturated)
    if found is not None:
        assert len(found.residuals) == len(points)
        assert found.slope.low <= found.slope.high
        used = found.residuals[: found.used]
        assert fmean(used) == pytest.approx(0.0, abs=1e-6), "least squares leaves nothing on average"


@settings(max_examples=10)
@given(st.dictionaries(st.sampled_from("abc"), curves(), max_size=3))
def test_the_cheapest_needs_the_least(named: dict[str, list[Point]]) -> None:
    for one in cheapest(named, [0.25, 0.5]):
        assert list(one.tokens.values()) == sorted(one.tokens.values())
        assert 0.0 <= one.sure <= 1.0
        assert one.at_most <= one.tokens.keys()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 6))
def test_the_mean_largest_is_that_of_every_choice(values: list[int], k: int) -> None:
    k = min(k, len(values))
    assert mean_largest(values, k) == pytest.approx(fmean(max(chosen) for chosen in combinations(values, k)))
