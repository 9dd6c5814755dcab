"""`factory bench search`: strategies by budgets on one set of problems, and the curves that they make.

Each strategy at a budget is an ordinary run in OUT/runs, so the same line goes on where it was stopped and pays for
nothing twice; every figure is read from the runs' trees. Two curves, never mixed:

- *coverage*: whether any leaf of a tree was verified right, for searches that a verifier serves;
- *accuracy*: whether the one answer that is selected without a verifier is right, for searches that none guides.

All points are about the same problems: those that every run closed without an error, the rest is counted. A leaf that
no verifier could decide makes no problem solved; a problem is *undecided* where such a leaf might have. Tokens are
those that the trees hold, those of guesses included; what was generated of a request that the search cancelled is in
none.

Fewer independent attempts than were made are figured from all of them: the chance that so many hold a right one, their
mean cost and longest, and the answer that is selected of `DRAWS` random choices among them. Nothing tells how long they
would have taken: no seconds are given there.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from factory import curves
from factory.config import Recipe
from factory.curves import Fit, Point, Reach
from factory.driver import Ended
from factory.errors import ConfigError
from factory.runs import open_run
from factory.search.growth import is_right
from factory.selection import Score, best, last_score, majority, mean_probability, weighted_majority
from factory.shards import iter_sidecars, problem_states
from factory.sources.base import unique
from factory.stats import Interval, bootstrap, mean_largest, paired_ratio, pass_at_k, quantile
from factory.store import Store
from factory.types import Node, Outcome, Tree
from pipelines import build
from pipelines.bench_config import DIFFICULTY, Plan, Planned, Way, load_bench
from pipelines.run import Options, Reporter, on_cluster, refuse, run

DRAWS = 32
"""Random choices among a problem's attempts from which an answer is selected."""
LEVELS = tuple(tenths / 10 for tenths in range(1, 11))
"""At which the strategies' costs are compared."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one problem came to, by one strategy at one budget."""

    tokens: float
    """Generated."""
    sequential: float
    """Of them, the most on one path."""
    computed: float | None
    """Prompt tokens that no cache served; None where the engine does not tell."""
    seconds: float | None
    """Wall time of the tree, beside others; None where it was not measured."""
    solved: float
    """Whether any leaf is right, or the chance of that."""
    undecided: bool
    """Not solved, and no verifier could decide about some leaf."""
    selected: Mapping[Way, float]
    """The chance that the answer selected so is right."""


Found = Mapping[str, Spent]
"""By problem."""


def bench(path: Path, overrides: Sequence[str], out: str, report: Reporter) -> dict[str, Any]:
    """Make the runs that are missing, and return every figure. Raises UserError for what the user can mend."""
    plan = load_bench(path, overrides)
    runs = {name: (recipe, _folder(out, name)) for name, recipe in plan.runs().items()}
    for recipe, folder in runs.values():
        refuse(recipe, folder)
    ids = [item.id for item in unique(build.source(plan.recipe))]
    owed = {name: one for name, one in runs.items() if not _closed(one[1]).issuperset(ids)}
    with on_cluster(plan.recipe) if owed else contextlib.nullcontext():
        for place, (name, (recipe, folder)) in enumerate(owed.items(), start=1):
            print(f"run {place} of {len(owed)}: {name}", file=sys.stderr, flush=True)
            _run(recipe, folder, ids, report)
    return figures(plan, out, ids)


def _folder(out: str, name: str) -> str:
    return f"{out.rstrip('/')}/runs/{name}"


def _closed(folder: str) -> set[str]:
    return set(problem_states(iter_sidecars(Store(folder), "rollouts")))


def _run(recipe: Recipe, folder: str, ids: Sequence[str], report: Reporter) -> None:
    ended = run(recipe, Options(folder, only=frozenset(ids), refine=False), report).ended
    if ended is Ended.INTERRUPTED:
        raise KeyboardInterrupt
    if ended is Ended.CAPPED:
        raise ConfigError(f"[budget] ended {folder} before all its problems were closed: raise its caps")


# --- from trees to figures


def figures(plan: Plan, out: str, ids: Sequence[str]) -> dict[str, Any]:
    """All that is told of the runs that are there. Raises ConfigError where no problem is in all of them."""
    found = [_read(one, _folder(out, one.run)) for one in plan.points]
    rates = _rates(_folder(out, DIFFICULTY)) if plan.difficulty else None
    everywhere = set.intersection(*(set(one) for one in found), *([set(rates)] if rates is not None else []))
    problems = [id for id in ids if id in everywhere]
    if not problems:
        raise ConfigError("no problem was closed without an error in every run: see `factory stats` of the runs")
    bins = {id: plan.difficulty.bin_of(rates[id]) for id in problems} if plan.difficulty and rates else {}
    points = [_figures(one, [spent[id] for id in problems]) for one, spent in zip(plan.points, found, strict=True)]
    for point, spent in zip(points, found, strict=True):
        point["by_difficulty"] = _by_difficulty(spent, bins, plan)
    return {
        "problems": len(problems),
        "left_out": len(ids) - len(problems),
        "rules": _rules(),
        "difficulty": _difficulty(plan, bins),
        "points": points,
        "curves": {name: _curves(each) for name, each in _measured(plan, found, problems).items()},
        "not_compared": _not_compared(plan),
    }


def _rules() -> dict[str, str]:
    """How the figures that need a rule are found."""
    return {
        "interval": "95%, percentile bootstrap over problems",
        "fit": f"least squares over log2 of mean tokens, on the budgets up to saturation, {curves.LEAST} at least",
        "saturates_at": "the first budget from which on the interval of what twice the tokens add holds 0 or less",
        "stops_paying_at": "the first budget from which on a solve that twice the tokens add costs more than "
        f"{curves.PAYING:g} times what a solve cost on average before",
        "doubling": f"read off the measured curve, where a budget spent {curves.DOUBLED:g} times as much or more",
        "cheapest": "tokens read off the measured curves, never beyond them; sure: the share of resamples that agree",
    }


def _read(planned: Planned, folder: str) -> dict[str, Spent]:
    """Of every tree without an error."""
    ways = _selectors(planned)
    trees = (tree for tree in open_run(folder).rollouts() if tree.error is None)
    if planned.first is None:
        return {tree.problem.id: spent(tree, ways) for tree in trees}
    return {tree.problem.id: spent_by(tree, planned.first, ways) for tree in trees}


Selectors = Mapping[Way, Callable[[Tree], Node | None]]


def _selectors(planned: Planned) -> Selectors:
    """Answers are weighed by what guided the search, or else by how probable the teacher found them."""
    score: Callable[[Tree], Score] = mean_probability if planned.recipe.scorer is None else last_score
    known: Selectors = {
        "majority": majority,
        "weighted": lambda tree: weighted_majority(tree, score(tree)),
        "best": lambda tree: best(tree, score(tree)),
    }
    return {way: known[way] for way in planned.select}


def spent(tree: Tree, ways: Selectors) -> Spent:
    """All of a closed tree."""
    cost = tree.cost
    solved = any(map(is_right, tree.nodes))
    return Spent(
        tokens=cost.generated_tokens + cost.scoring_generated_tokens,
        sequential=cost.sequential_tokens,
        computed=_computed(tree.nodes),
        seconds=cost.wall_seconds,
        solved=float(solved),
        undecided=not solved and _is_undecided(tree),
        selected={way: float(is_right(select(tree))) for way, select in ways.items()},
    )


def spent_by(tree: Tree, first: int, ways: Selectors) -> Spent:
    """What `first` of a tree's independent attempts would have come to; all of them where it has no more."""
    attempts, whole = tree.nodes, spent(tree, ways)
    if first >= len(attempts):
        return whole
    tokens = [node.generated_tokens for node in attempts]
    return replace(
        whole,
        tokens=first * fmean(tokens),
        sequential=mean_largest(tokens, first),
        computed=_computed(attempts[:first]),  # in the order of submission: none was served by a later one
        seconds=None,
        solved=pass_at_k(len(attempts), sum(map(is_right, attempts)), first),
        selected=_selected_of(tree, first, ways),
    )


def _selected_of(tree: Tree, first: int, ways: Selectors) -> dict[Way, float]:
    """The same draws whatever is selected by."""
    draw = random.Random(f"{tree.problem.id}:{first}")
    places = range(len(tree.nodes))
    drawn = [sorted(draw.sample(places, first)) for _ in range(DRAWS if ways else 0)]
    parts = [replace(tree, nodes=tuple(tree.nodes[place] for place in each)) for each in drawn]
    return {way: fmean(float(is_right(select(part))) for part in parts) for way, select in ways.items()}


def _computed(nodes: Sequence[Node]) -> float | None:
    asked = [one for node in nodes for one in (node, node.scoring) if one is not None and one.prompt_tokens]
    if any(one.cached_tokens is None for one in asked):
        return None
    return sum(one.prompt_tokens - (one.cached_tokens or 0) for one in asked)


def _is_undecided(tree: Tree) -> bool:
    return any(leaf.outcome is Outcome.UNKNOWN for leaf in tree.leaves())


def _rates(folder: str) -> dict[str, float]:
    """The share of right attempts among those that were decided, by problem; not of one where none was."""
    decided = {tree.problem.id: _decided(tree) for tree in open_run(folder).rollouts() if tree.error is None}
    return {id: fmean(found) for id, found in decided.items() if found}


def _decided(tree: Tree) -> list[bool]:
    """Whether each leaf is right; one that the token limit cut is not."""
    return [is_right(leaf) for leaf in tree.leaves() if leaf.outcome is not Outcome.UNKNOWN]


def _figures(planned: Planned, found: Sequence[Spent]) -> dict[str, Any]:
    """One point in one table."""
    tokens, solved = [one.tokens for one in found], [one.solved for one in found]
    seconds = sorted(one.seconds for one in found if one.seconds is not None)
    computed = [one.computed for one in found if one.computed is not None]
    return {
        "strategy": planned.strategy,
        "budget": planned.label,
        "run": planned.run,
        "search": planned.recipe.search.model_dump(mode="json"),
        "undecided": sum(one.undecided for one in found),
        "coverage": _shown(bootstrap(solved)),
        "tokens_per_problem": _shown(bootstrap(tokens)),
        "tokens_per_solved": _shown(paired_ratio(tokens, solved)) if any(solved) else None,
        "sequential_tokens": _rounded(fmean(one.sequential for one in found)),
        "prompt_tokens_computed": _rounded(fmean(computed)) if len(computed) == len(found) else None,
        "seconds": {name: _rounded(quantile(seconds, share)) for name, share in (("p50", 0.5), ("p95", 0.95))}
        if len(seconds) == len(found)
        else None,
        "accuracy": {way: _shown(bootstrap([one.selected[way] for one in found])) for way in planned.select},
    }


def _by_difficulty(found: Found, bins: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    """By bin, of the problems in it."""
    table = {}
    for name in plan.difficulty.bins() if plan.difficulty else ():
        inside = [found[id] for id, one in bins.items() if one == name]
        if inside:
            table[name] = {
                "coverage": _shown(bootstrap([one.solved for one in inside])),
                "tokens_per_problem": _rounded(fmean(one.tokens for one in inside)),
                "tokens_per_solved": _per(inside),
                "accuracy": {
                    way: _shown(bootstrap([one.selected[way] for one in inside])) for way in inside[0].selected
                },
            }
    return table


def _per(found: Sequence[Spent]) -> float | None:
    solved = sum(one.solved for one in found)
    return _rounded(sum(one.tokens for one in found) / solved) if solved else None


def _difficulty(plan: Plan, bins: Mapping[str, str]) -> dict[str, Any] | None:
    if plan.difficulty is None:
        return None
    numbers = Counter(bins.values())
    return {"attempts": plan.difficulty.attempts, "problems": {name: numbers[name] for name in plan.difficulty.bins()}}


# --- curves


def _measured(plan: Plan, found: Sequence[Found], problems: Sequence[str]) -> dict[str, dict[str, list[Point]]]:
    """Both comparisons: by strategy its points, in the order of their tokens."""
    coverage: dict[str, list[Point]] = {}
    accuracy: dict[str, list[Point]] = {}
    for planned, spends in zip(plan.points, found, strict=True):
        these = [spends[id] for id in problems]
        tokens = [one.tokens for one in these]
        if planned.not_covering is None:
            point = Point(planned.label, tokens, [one.solved for one in these])
            coverage.setdefault(planned.strategy, []).append(point)
        for way in planned.select:
            point = Point(planned.label, tokens, [one.selected[way] for one in these])
            accuracy.setdefault(f"{planned.strategy} {way}", []).append(point)
    both = {"coverage": coverage, "accuracy": accuracy}
    return {kind: {name: curves.ordered(one) for name, one in each.items()} for kind, each in both.items()}


def _curves(measured: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """Each strategy's curve, and which is the cheapest where."""
    return {
        "strategies": {name: _curve(points) for name, points in measured.items()},
        "cheapest": [_reach(one) for one in curves.cheapest(measured, LEVELS)],
    }


def _curve(points: Sequence[Point]) -> dict[str, Any]:
    saturated, stopped = curves.saturation(points), curves.stops_paying(points)
    gains = [curves.gain(points, place) for place in range(len(points))]
    return {
        "points": [_point(point, one) for point, one in zip(points, gains, strict=True)],
        "saturates_at": None if saturated is None else points[saturated].label,
        "stops_paying_at": None if stopped is None else points[stopped].label,
        "fit": _fit(curves.fit(points, saturated)),
    }


def _point(point: Point, doubled: Interval | None) -> dict[str, Any]:
    return {
        "budget": point.label,
        "tokens": _rounded(fmean(point.tokens)),
        "reached": _shown(bootstrap(point.reached)),
        "doubling_adds": None if doubled is None else _shown(doubled),
    }


def _fit(found: Fit | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "intercept": _rounded(found.intercept),
        "per_doubling": _shown(found.slope),
        "r_squared": None if found.r_squared is None else _rounded(found.r_squared),
        "points": found.used,
        "residuals": [_rounded(one) for one in found.residuals],
    }


def _reach(found: Reach) -> dict[str, Any]:
    tokens = {name: _rounded(one) for name, one in found.tokens.items()}
    return {**asdict(found), "tokens": tokens, "at_most": sorted(found.at_most), "cheapest": next(iter(tokens))}


def _not_compared(plan: Plan) -> dict[str, dict[str, str]]:
    """By curve, the strategies that have no place on it, each with the reason."""
    covering = {one.strategy: one.not_covering for one in plan.points if one.not_covering}
    verified = {
        one.strategy: f"{one.verified}: its selected answer was not chosen without one"
        for one in plan.points
        if one.verified
    }
    return {"coverage": covering, "accuracy": verified}


def _shown(interval: Interval) -> list[float | None]:
    """Value, lower and upper end; None for infinite."""
    return [_rounded(one) if one < float("inf") else None for one in (interval.value, interval.low, interval.high)]


def _rounded(value: float) -> float:
    return round(value, 4)


# --- files


def write(out: str, table: Mapping[str, Any]) -> Iterator[str]:
    """The figures as JSON, and the chart of them; gives the names of the files."""
    from pipelines.bench_figure import html, png

    store = Store(out)
    files = {
        "bench.json": json.dumps(table, indent=1).encode() + b"\n",
        "bench.html": html(table),
        "bench.png": png(table),
    }
    for name, content in files.items():
        store.put(name, content)
        yield f"{out.rstrip('/')}/{name}"
