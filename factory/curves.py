"""What a search reaches against what it spends: fits, saturation, what a doubling buys, and who is cheapest.

A curve is one strategy at several budgets, `Point`s that hold a number for each problem; all points of a comparison
have the same problems in the same order. The unit is the problem: every interval is a 95% percentile bootstrap over
problems, drawn together for all points, and which points a figure is about is decided on the data as they are.

Tokens are looked at by their logarithm to the base 2, so that a step is a doubling. Between two measured budgets a
curve is a straight line there; outside of them it is nothing, so no figure here is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from factory.stats import Interval, draws, resampled

DOUBLED = 1.8
"""A budget's doubling counts as measured where a larger budget spent at least so many times its tokens; what is reached
at twice the tokens, or at the most that was measured if that is less, is read off the curve."""
PAYING = 4.0
"""A doubling has stopped paying where a solve that it adds costs more than so many times what a solve cost on average
before it."""
LEAST = 3
"""Points that a fit needs."""
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Point:
    """A strategy at one budget."""

    label: str
    tokens: Sequence[float]
    """Generated ones, of each problem."""
    reached: Sequence[float]
    """In [0, 1], of each problem: whether it was solved, or the chance that it would be."""


@dataclass(frozen=True, slots=True)
class Fit:
    """reached = intercept + slope * log2(tokens), by least squares."""

    intercept: float
    slope: Interval
    """What a doubling adds."""
    r_squared: float | None
    """Share of the variance between its points that the line explains; None where they do not differ."""
    used: int
    """It is of the first so many points, in order of their tokens."""
    residuals: tuple[float, ...]
    """Measured less fitted, of every point, the ones that were not used included."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What it takes to reach a share of the problems, by each strategy that does."""

    level: float
    tokens: Mapping[str, float]
    """A problem, on average; the cheapest first."""
    at_most: frozenset[str]
    """Those whose smallest budget reached more: with less they might have reached it for fewer tokens."""
    sure: float
    """Share of the resamples in which the cheapest is the same."""


Line = Sequence[tuple[float, float]]
"""(log2 of mean tokens, mean of what was reached), ascending."""


def ordered(points: Sequence[Point]) -> list[Point]:
    """Ascending in mean tokens. Raises ValueError unless all have the same number of problems, at least one."""
    if any(len(each) != len(points[0].tokens) or not each for one in points for each in (one.tokens, one.reached)):
        raise ValueError("the points of a curve need the same problems, at least one")
    return sorted(points, key=lambda one: fmean(one.tokens))


def line(points: Sequence[Point], drawn: Sequence[int] | None = None) -> Line:
    """The curve of these problems, by their places; of all by default."""
    places = range(len(points[0].tokens)) if drawn is None else drawn
    found = [(_log2(fmean([one.tokens[i] for i in places])), fmean([one.reached[i] for i in places])) for one in points]
    return sorted(found)


def _log2(tokens: float) -> float:
    """Less than one token counts as one."""
    return math.log2(max(tokens, 1.0))


def at(curve: Line, x: float) -> float:
    """What is reached at log2 tokens `x`. Raises ValueError outside of what was measured."""
    if not curve[0][0] <= x <= curve[-1][0]:
        raise ValueError(f"2^{x:.2f} tokens were not measured")
    for (x1, y1), (x2, y2) in pairwise(curve):
        if x1 <= x <= x2 and x1 < x2:
            return y1 + (y2 - y1) * (x - x1) / (x2 - x1)
    return curve[-1][1]


def needed(curve: Line, level: float) -> float | None:
    """Mean tokens at which `level` is first reached, at the earliest those of the smallest budget; None if never."""
    if curve[0][1] >= level:
        return float(2 ** curve[0][0])
    for (x1, y1), (x2, y2) in pairwise(curve):
        if y1 < level <= y2:
            return float(2 ** (x1 + (x2 - x1) * (level - y1) / (y2 - y1)))
    return None


# --- one curve


def gain(points: Sequence[Point], place: int) -> Interval | None:
    """What doubling the tokens of one of a curve's points adds; None where nothing measured spent so many."""
    if not _is_doubled(points, place):
        return None
    return resampled(len(points[0].tokens), lambda drawn: _doubling(points, place, drawn)[1], resamples=RESAMPLES)


def _is_doubled(points: Sequence[Point], place: int) -> bool:
    return fmean(points[-1].tokens) >= DOUBLED * max(1.0, fmean(points[place].tokens))


def _doubling(points: Sequence[Point], place: int, drawn: Sequence[int] | None = None) -> tuple[float, float]:
    """Tokens that doubling a point's adds, and what is reached beyond the point with them."""
    curve = line(points, drawn)
    [(x, reached)] = line([points[place]], drawn)
    doubled = min(x + 1.0, curve[-1][0])
    return 2**doubled - 2**x, at(curve, doubled) - reached


def saturation(points: Sequence[Point]) -> int | None:
    """The first point from which on no doubling surely adds anything: the interval of its `gain` and of every later
    one holds 0 or less. None if there is none among those whose doubling was measured."""
    gains = {place: one for place in range(len(points)) if (one := gain(points, place)) is not None}
    return _first_of_last([one.low <= 0.0 for one in gains.values()])


def stops_paying(points: Sequence[Point]) -> int | None:
    """The first point from which on no doubling pays (`PAYING`). None if there is none among those measured."""
    return _first_of_last([not _pays(points, place) for place in range(len(points)) if _is_doubled(points, place)])


def _first_of_last(found: Sequence[bool]) -> int | None:
    """Where the true ones begin that go on to the end. What is measured is so from the first point on, since points
    are in order."""
    before = max((place for place, one in enumerate(found) if not one), default=-1)
    return before + 1 if before + 1 < len(found) else None


def _pays(points: Sequence[Point], place: int) -> bool:
    tokens, reached = fmean(points[place].tokens), fmean(points[place].reached)
    more_tokens, more = _doubling(points, place)
    # tokens of a further solve <= PAYING * tokens of a solve so far, without dividing by what may be 0
    return more > 0.0 and more_tokens * reached <= PAYING * tokens * more


def fit(points: Sequence[Point], saturated: int | None = None) -> Fit | None:
    """The line through a curve's points up to the one at which it saturates; None for fewer than `LEAST` of them."""
    used = list(points if saturated is None else points[: saturated + 1])
    if len(used) < LEAST:
        return None
    intercept, slope = _least_squares(line(used))
    measured = [line([one])[0] for one in points]
    residuals = [y - intercept - slope * x for x, y in measured]
    variance = _squares([y - fmean(y for _, y in measured[: len(used)]) for _, y in measured[: len(used)]])
    explained = 1.0 - _squares(residuals[: len(used)]) / variance if variance else None
    interval = resampled(len(used[0].tokens), lambda drawn: _least_squares(line(used, drawn))[1], resamples=RESAMPLES)
    return Fit(intercept, interval, explained, len(used), tuple(residuals))


def _least_squares(curve: Line) -> tuple[float, float]:
    """Intercept and slope; a flat line where all points spent the same."""
    middle_x, middle_y = fmean(x for x, _ in curve), fmean(y for _, y in curve)
    spread = _squares([x - middle_x for x, _ in curve])
    slope = math.fsum((x - middle_x) * (y - middle_y) for x, y in curve) / spread if spread else 0.0
    return middle_y - slope * middle_x, slope


def _squares(values: Sequence[float]) -> float:
    return math.fsum(value * value for value in values)


# --- several curves


def cheapest(curves: Mapping[str, Sequence[Point]], levels: Sequence[float]) -> list[Reach]:
    """For each level that any strategy reaches, what it takes by each."""
    if not curves:
        return []
    n = len(next(iter(curves.values()))[0].tokens)
    lines = {name: line(points) for name, points in curves.items()}
    again = [{name: line(points, drawn) for name, points in curves.items()} for drawn in draws(n, RESAMPLES)]
    found = []
    for level in levels:
        if tokens := _needed(lines, level):
            first = next(iter(tokens))
            sure = fmean(next(iter(_needed(one, level)), None) == first for one in again)
            at_most = frozenset(name for name in tokens if lines[name][0][1] > level)
            found.append(Reach(level, tokens, at_most, sure))
    return found


def _needed(lines: Mapping[str, Line], level: float) -> dict[str, float]:
    """By strategy, the cheapest first."""
    found = {name: tokens for name, one in lines.items() if (tokens := needed(one, level)) is not None}
    return dict(sorted(found.items(), key=lambda item: item[1]))
