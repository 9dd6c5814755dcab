"""What the whole of a run will come to, from a pilot: sums over all problems of which some were drawn at random.

Pure functions over one number per problem of the pilot. The interval is for the sum itself, not for its expectation:
the bootstrap over problems says how well the pilot tells the mean, and what the problems that are not in the pilot vary
by is added. Where the pilot is the whole, the sum is known. A percentile interval of few problems is too narrow; it is
widened by what Student's t is wider than a normal distribution, and a standard deviation of n than one of n - 1.

Assumed: the pilot is a simple random sample, and the engine, its load and the machine stay what they were.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist, fmean

from factory.stats import Interval, quantile

RESAMPLES = 1000
LEAST = 8
"""Problems of a pilot that anything is told from."""


def amount(values: Sequence[float], total: int, *, level: float = 0.8, seed: int = 0) -> Interval:
    """Sum of a cost over `total` problems, such as tokens. Raises ValueError for a pilot of fewer than `LEAST`."""
    draws = _draws(values, total, random.Random(seed), _mean_and_deviation)
    return _interval(_expected(values, total), draws, len(values), level)


def count(values: Sequence[float], total: int, *, level: float = 0.8, seed: int = 0) -> Interval:
    """Sum over `total` problems of what many of them have none of, such as right answers or kept transcripts.

    How many have any is drawn from its posterior under Jeffreys' prior, so that a pilot without one, or with nothing
    else, does not pass for certainty. Raises ValueError like `amount`.
    """
    draws = _draws(values, total, random.Random(seed), _rare_mean_and_deviation)
    found = _interval(_expected(values, total), draws, len(values), level)
    most = math.fsum(values) + (total - len(values)) * (max(values) or 1.0)
    return replace(found, low=max(found.low, math.fsum(values)), high=min(found.high, most))


def rate(
    work: Sequence[float],
    total: int,
    speeds: Sequence[tuple[float, float]],
    *,
    level: float = 0.8,
    seed: int = 0,
) -> Interval:
    """Time for work over `total` problems: `speeds` holds work done and time taken, one pair a problem.

    Raises ValueError like `amount`, and where no time was taken.
    """
    rng = random.Random(seed)
    known = _speed(speeds)
    drawn = _draws(work, total, rng, _mean_and_deviation)
    times = [one / (_speed(rng.choices(speeds, k=len(speeds))) or known) for one in drawn]
    return _interval(_expected(work, total) / known, times, len(work), level)


def _speed(speeds: Sequence[tuple[float, float]]) -> float:
    time = math.fsum(seconds for _, seconds in speeds)
    if not time:
        return 0.0
    return math.fsum(done for done, _ in speeds) / time


Drawn = Callable[[Sequence[float], random.Random], tuple[float, float]]
"""Mean and standard deviation over problems, as another pilot might have told them."""


def _mean_and_deviation(values: Sequence[float], rng: random.Random) -> tuple[float, float]:
    sample = rng.choices(values, k=len(values))
    mean = fmean(sample)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in sample) / (len(sample) - 1))


def _rare_mean_and_deviation(values: Sequence[float], rng: random.Random) -> tuple[float, float]:
    some = [value for value in values if value] or [1.0]
    found = sum(map(bool, values))
    share = rng.betavariate(found + 0.5, len(values) - found + 0.5)
    sample = rng.choices(some, k=len(some))
    mean = fmean(sample)
    square = fmean(value * value for value in sample)
    return share * mean, math.sqrt(max(0.0, share * square - (share * mean) ** 2))


def _draws(values: Sequence[float], total: int, rng: random.Random, draw: Drawn) -> list[float]:
    """The sum, as it might be: what is known, and the rest."""
    if not LEAST <= len(values) <= total:
        raise ValueError(
            f"a pilot of {len(values)} of {total} problems: at least {LEAST} are needed, and no more than all"
        )
    known, rest = math.fsum(values), total - len(values)
    drawn = (draw(values, rng) for _ in range(RESAMPLES))
    return [known + max(0.0, rest * mean + rng.gauss(0.0, deviation * math.sqrt(rest))) for mean, deviation in drawn]


def _expected(values: Sequence[float], total: int) -> float:
    return fmean(values) * total


def _interval(value: float, draws: list[float], n: int, level: float) -> Interval:
    draws.sort()
    cut = (1 - level) / 2
    wider = _student(1 - cut, n - 1) / NormalDist().inv_cdf(1 - cut) * math.sqrt(n / (n - 1))
    low, high = (max(0.0, value + (quantile(draws, share) - value) * wider) for share in (cut, 1 - cut))
    return Interval(value, min(low, value), max(high, value), level)


def _student(share: float, freedom: int) -> float:
    """Quantile of Student's t, to three places for seven degrees of freedom and more (Fisher and Cornish 1960)."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
