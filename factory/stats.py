"""Figures with their intervals: what a benchmark, a report or an evaluation may claim.

Pure functions over plain numbers, standard library only. The unit of everything is the *problem*: attempts at one
problem are not independent of each other, so intervals over many attempts resample problems, never attempts.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean


@dataclass(frozen=True)
class Interval:
    """A figure and how far it can be trusted."""

    value: float
    """The estimate itself, from the data as they are. Not always the middle."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    level: float
    """Share of such intervals that hold the true figure: what was asked for, or what the data could give."""

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of `k` attempts is right, from `n` attempts of which `c` were right: in [0, 1].

    Unbiased: 1 - C(n-c, k) / C(n, k), the share of k-subsets that hold a right attempt, as a product that neither
    overflows nor cancels. `n` must have been fixed beforehand; see `pass_rate_stopped` for a search that stops at its
    k-th success. Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", section 2.1.
    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n:
        raise ValueError(f"{c} right attempts of {n}")
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs k from 1 to {n}, the number of attempts")
    if n - c < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int) -> float:
    """Mean of `pass_at_k` over problems; `counts` holds one (attempts, right attempts) per problem.

    Raises ValueError for no problems, and where one has fewer than `k` attempts: leaving those out would choose
    problems by how they went.
    """
    if not counts:
        raise ValueError("no problems")
    return fmean(pass_at_k(n, c, k) for n, c in counts)


def mean_largest(values: Sequence[float], k: int) -> float:
    """Mean of the largest of `k` of some values, over all ways to choose them; in the unit of the values.

    What the longest of `k` attempts takes, from more of them. Raises ValueError unless 1 <= k <= the number of values.
    """
    n = len(values)
    if not 1 <= k <= n:
        raise ValueError(f"{k} of {n} values")
    choices = math.comb(n, k)
    ordered = sorted(values)
    return math.fsum(ordered[place] * (math.comb(place, k - 1) / choices) for place in range(k - 1, n))


def pass_rate_stopped(n: int, k: int) -> float:
    """Chance that one attempt is right, where attempts were drawn until the `k`-th right one, which was the `n`-th.

    The plain share k / n is too high under this rule, because the last attempt is right by construction;
    (k - 1) / (n - 1) is unbiased. In [0, 1]. Source: Haldane 1945, "On a method of estimating frequencies",
    Biometrika 33. Raises ValueError unless 2 <= k <= n: from a single success nothing unbiased of this form exists.
    """
    if not 2 <= k <= n:
        raise ValueError(f"the {k}-th success at attempt {n}: needs at least 2 successes and as many attempts")
    return (k - 1) / (n - 1)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Interval of a share from `successes` of `n` independent trials; inside [0, 1], and useful at 0 and at n.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.
    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    z = NormalDist().inv_cdf(0.5 + _checked(level) / 2)
    share = successes / n
    scale = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are exactly 0 and 1 where they should be, whatever the rounding.
    low = 0.0 if successes == 0 else min(share, middle - half)
    high = 1.0 if successes == n else max(share, middle + half)
    return Interval(share, low, high, level)


def fisher(right: int, fewer: int, n: int) -> float:
    """Chance that of two groups of `n` the second has `fewer` successes or less, where both had `right + fewer` and
    nothing but chance tells them apart: the one-sided p-value of a loss.

    Source: Fisher 1935, "The logic of inductive inference", JRSS 98. Raises ValueError unless both lie in [0, n].
    """
    if not (0 <= right <= n and 0 <= fewer <= n):
        raise ValueError(f"{right} and {fewer} successes of {n} trials each")
    both = right + fewer
    below = sum(math.comb(n, k) * math.comb(n, both - k) for k in range(max(0, both - n), fewer + 1))
    return below / math.comb(2 * n, both)


def detectable_loss(share: float, n: int, *, level: float = 0.05, power: float = 0.8) -> float | None:
    """The least loss of a share that `fisher` finds at `level` with chance `power`, of two groups of `n`; in [0, 1].

    None where not even the loss of all of it is found. Exact: the chances of all pairs of outcomes that the test calls
    a loss, summed. Source: Bennett and Hsu 1960, "On the power function of the exact test for the 2 x 2 contingency
    table", Biometrika 47. Found to a thousandth.
    """
    least = [_most_fewer(right, n, level) for right in range(n + 1)]
    before = _binomial(n, share)

    def found(loss: float) -> float:
        after = list(itertools.accumulate(_binomial(n, share - loss)))
        return sum(chance * after[most] for chance, most in zip(before, least, strict=True) if most >= 0)

    low, high = 0.0, share
    if found(high) < power:
        return None
    while high - low > 0.0005:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return round(high, 3)


def _most_fewer(right: int, n: int, level: float) -> int:
    """The most successes of the second group that are significantly fewer; -1 where not even none is."""
    return max((fewer for fewer in range(right) if fisher(right, fewer, n) <= level), default=-1)


def _binomial(n: int, share: float) -> list[float]:
    """Chance of each number of successes."""
    share = min(1.0, max(0.0, share))
    return [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[Sequence[float]], float] = fmean,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a statistic over problems: `values` holds one number per problem, in any unit.

    Percentile bootstrap: problems are drawn with replacement. Honest for means of some dozens of problems and up; with
    fewer than about ten it is too narrow. The same seed gives the same interval. Source: Efron 1979, "Bootstrap
    methods: another look at the jackknife", Annals of Statistics 7. Raises ValueError for no values.
    """

    def one(sample: Sequence[int]) -> float:
        return statistic([values[i] for i in sample])

    return resampled(len(values), one, level=level, resamples=resamples, seed=seed)


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of the mean difference a - b, in the unit of both, where `a[i]` and `b[i]` are the same problem.

    Pairing takes out how hard each problem is, which is most of the noise between two ways of solving them.
    Percentile bootstrap over problems, as in `bootstrap`. Raises ValueError for no values or unequal lengths.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    return bootstrap(differences, level=level, resamples=resamples, seed=seed)


def paired_ratio(
    a: Sequence[float],
    b: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of sum(a) / sum(b), a pure number, where `a[i]` and `b[i]` are the same problem: tokens against tokens.

    A ratio of sums, not a mean of ratios, because that is what is paid. Percentile bootstrap over problems, as in
    `bootstrap`; a resample in which `b` sums to zero counts as infinite. Raises ValueError for no values, unequal
    lengths, a negative value, or where `b` sums to zero.
    """
    pairs = list(zip(a, b, strict=True))
    if any(x < 0 or y < 0 for x, y in pairs):
        raise ValueError("a ratio of sums needs values that are not negative")
    if pairs and not any(y for _, y in pairs):
        raise ValueError("the lower sum is zero")

    def ratio(sample: Sequence[int]) -> float:
        below = math.fsum(pairs[i][1] for i in sample)
        return math.fsum(pairs[i][0] for i in sample) / below if below else math.inf

    return resampled(len(pairs), ratio, level=level, resamples=resamples, seed=seed)


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Interval of the median of a few independent values, such as ratios of paired timings: any unit, any distribution.

    Its ends are two of the values themselves, as many places from either end of the sorted values as the binomial
    distribution allows. The result's `level` is the exact coverage, at least the one asked for where there are values
    enough: below 6 no pair reaches 0.95; the result then spans all values, and its `level` says how little that is.
    Source: Thompson 1936, "On confidence ranges for the median", Annals of Mathematical Statistics 7.
    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values")
    wanted = _checked(level)
    ordered = sorted(values)
    n = len(ordered)
    # Between the r-th value from either end lies the median unless fewer than r values fall on one side of it.
    r, outside = 1, 2.0 * 0.5**n
    while 2 * (r + 1) <= n + 1:
        wider = outside + 2.0 * math.exp(_log_choose(n, r) - n * math.log(2))
        if 1.0 - wider < wanted:
            break
        r, outside = r + 1, wider
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Interval(middle, ordered[r - 1], ordered[n - r], max(0.0, 1.0 - outside))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"a level lies between 0 and 1, not {level}")
    return level


def resampled(
    n: int,
    statistic: Callable[[Sequence[int]], float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a statistic of `n` problems, given as places below `n`: for figures that need many numbers of each.

    Percentile bootstrap over problems, as in `bootstrap`. Raises ValueError for no problems.
    """
    drawn = sorted(statistic(places) for places in draws(n, resamples, seed))
    cut = (1 - _checked(level)) / 2
    return Interval(statistic(range(n)), quantile(drawn, cut), quantile(drawn, 1 - cut), level)


def draws(n: int, resamples: int, seed: int = 0) -> Iterator[list[int]]:
    """So many resamples of `n` problems: places below `n`, drawn with replacement; the same for the same seed."""
    if n < 1:
        raise ValueError("no values")
    if resamples < 1:
        raise ValueError(f"{resamples} resamples")
    draw = random.Random(seed)
    return (draw.choices(range(n), k=n) for _ in range(resamples))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie, linear between neighbours."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    if place == below or ordered[below] == ordered[above]:  # also keeps infinities from becoming nan
        return ordered[below]
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """Chance that a random positive is scored above a random negative, ties counted half: in [0, 1].

    By the sum of ranks (Mann and Whitney 1947). Raises ValueError unless there are both positives and negatives.
    """
    ordered = sorted(zip(scores, labels, strict=True), key=lambda pair: pair[0])
    positives = sum(labels)
    negatives = len(ordered) - positives
    if not positives or not negatives:
        raise ValueError("both positives and negatives are needed")
    wins = below = 0.0
    for _, tied in itertools.groupby(ordered, key=lambda pair: pair[0]):
        found = [label for _, label in tied]
        wins += sum(found) * (below + (len(found) - sum(found)) / 2)
        below += len(found) - sum(found)
    return wins / (positives * negatives)
