"""Curves of hand-made numbers, whose lines, doublings and crossings are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from factory.curves import Point, at, cheapest, fit, gain, line, needed, ordered, saturation, stops_paying
from factory.stats import mean_largest


def point(tokens: float, solved: int, problems: int = 100) -> Point:
    """The first `solved` of the problems, each for the same tokens."""
    return Point(f"{tokens:g}", [tokens] * problems, [float(number < solved) for number in range(problems)])


def curve(*pairs: tuple[float, int]) -> list[Point]:
    return [point(tokens, solved) for tokens, solved in pairs]


LINEAR = curve((64, 10), (128, 25), (256, 40), (512, 55))
"""15 points a doubling."""
BENT = curve((64, 20), (128, 40), (256, 60), (512, 60), (1024, 61))


def test_a_line_is_found_with_nothing_left_over() -> None:
    found = fit(LINEAR)
    assert found is not None
    assert found.slope.value == pytest.approx(0.15)
    assert found.slope.low < 0.15 < found.slope.high
    assert found.intercept == pytest.approx(0.10 - 6 * 0.15)
    assert found.r_squared == pytest.approx(1.0)
    assert found.residuals == pytest.approx([0.0] * 4)


def test_what_lies_beyond_saturation_takes_no_part_in_the_line_and_has_a_residual() -> None:
    found = fit(BENT, saturated=2)
    assert found is not None
    assert found.used == 3
    assert found.slope.value == pytest.approx(0.2)
    assert found.residuals == pytest.approx([0.0, 0.0, 0.0, -0.2, -0.39])
    whole = fit(BENT)
    assert whole is not None
    assert whole.slope.value < 0.2
    assert whole.r_squared is not None
    assert whole.r_squared < 0.9


@pytest.mark.parametrize(("points", "saturated"), [(LINEAR[:2], None), (LINEAR, 1)])
def test_two_points_are_no_line(points: Sequence[Point], saturated: int | None) -> None:
    assert fit(points, saturated) is None


def test_points_of_one_height_explain_nothing() -> None:
    found = fit(curve((64, 50), (128, 50), (256, 50)))
    assert found is not None
    assert (found.slope.value, found.r_squared) == (0.0, None)


def test_it_saturates_where_a_doubling_may_add_nothing() -> None:
    assert saturation(LINEAR) is None, "the last budget was not doubled, so nobody knows"
    assert saturation(BENT) == 2
    late = curve((64, 20), (128, 20), (256, 60), (512, 60))
    assert saturation(late) == 2, "a majority of two is the first of them, but one of four is not"
    assert saturation(curve((64, 20), (128, 10))) == 0


def test_the_gain_of_a_doubling_is_read_between_measured_budgets_and_never_beyond_them() -> None:
    sparse = curve((64, 10), (1024, 50))
    found = gain(sparse, 0)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert gain(sparse, 1) is None
    nearly = gain(curve((100, 10), (190, 30)), 0)
    assert nearly is not None, "1.9 times the tokens are a doubling"
    assert nearly.value == pytest.approx(0.2)
    assert gain(curve((100, 10), (170, 30)), 0) is None


def test_a_doubling_stops_paying_where_a_further_solve_costs_four_times_as_much_as_one_so_far() -> None:
    """From 256 to 512 tokens, 60 solves become 64: 25,600 tokens for 4, where 60 have cost as much."""
    assert stops_paying(curve((128, 50), (256, 60), (512, 64))) == 0, "128 tokens for 0.1 against 128 for 0.5"
    assert stops_paying(curve((128, 48), (256, 60), (512, 64))) == 1, "just four times as much still pays"
    assert stops_paying(curve((128, 0), (256, 60), (512, 90))) is None
    assert stops_paying(curve((128, 0), (256, 0))) == 0
    assert stops_paying(curve((128, 20), (256, 20), (512, 40), (1024, 42))) == 2
    assert stops_paying(curve((128, 20))) is None


def test_what_a_level_takes_lies_on_the_line_between_two_budgets() -> None:
    ours = line(LINEAR)
    assert needed(ours, 0.25) == pytest.approx(128)
    assert needed(ours, 0.325) == pytest.approx(math.sqrt(128 * 256))
    assert needed(ours, 0.05) == pytest.approx(64), "no budget is smaller"
    assert needed(ours, 0.56) is None
    assert at(ours, 7.5) == pytest.approx(0.325)
    with pytest.raises(ValueError, match="not measured"):
        at(ours, 9.1)


def test_the_cheapest_at_each_level_and_how_sure_that_is() -> None:
    steep = curve((128, 10), (256, 60))
    found = cheapest({"linear": LINEAR, "steep": steep}, [0.2, 0.5, 0.6, 0.7])
    assert [(one.level, next(iter(one.tokens))) for one in found] == [(0.2, "linear"), (0.5, "steep"), (0.6, "steep")]
    assert list(found[1].tokens) == ["steep", "linear"]
    assert found[1].sure > 0.9
    assert found[0].at_most == frozenset()
    low = cheapest({"linear": LINEAR, "steep": steep}, [0.05])
    assert low[0].at_most == {"linear", "steep"}
    assert cheapest({}, [0.5]) == []


def test_points_are_put_in_order_and_need_the_same_problems() -> None:
    assert ordered(BENT[::-1]) == BENT
    for other in (point(64, 1, problems=3), Point("odd", [1.0, 2.0], [1.0]), Point("none", [], [])):
        with pytest.raises(ValueError, match="same problems"):
            ordered([other, *LINEAR])


def test_the_mean_of_the_largest_of_some() -> None:
    assert mean_largest([1, 2, 3], 2) == pytest.approx((2 + 3 + 3) / 3)
    assert mean_largest([1, 2, 3], 3) == 3
    with pytest.raises(ValueError, match="4 of 3"):
        mean_largest([1, 2, 3], 4)
