"""Adaptive spending on the bundled teacher: tokens at the coverage of best-of-16, and solved problems under a cap.

    python -m tests.bench.adaptive tune 200 --save       # to choose by; half an hour on two free cores
    python -m tests.bench.adaptive report 400 --save     # to report

The baseline makes attempts one by one up to the first right one, sixteen at most. Independent attempts that differ in
nothing but luck leave no room beside it: after m failures every problem promises the same, so trying each as often is
already the best that a rule can do that sees right and wrong. Whatever costs less must see more of an attempt: here,
`early_rejection` sees its lines as they come, by a rule that replays them (`chain`) and how often it turned back, or by
what the shipped reward model thinks of it (`reward`).

Every trial makes more attempts than it needs, without a stop. What a search with `stop_at = 1` and `wave = 1` would
have cost and solved is then known on average over all orders of them (`tests.bench._searching`), at any number of
attempts; numbers of attempts between two whole ones are mixed. The baseline's attempts are those of
`tests.bench.search_trees` where that has made some at the same problems. The interval is a bootstrap over problems of
the whole comparison: the coverage of 16 attempts in the resample, and the tokens at which the trial has it.

`random` is the ablated twin: attempts are left at lines with the same chance as by the scorer, whatever stands in them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from factory.scorers.base import Score, Scorer
from factory.scorers.chain import ChainScorer
from factory.search.best_of_n import best_of_n
from factory.search.early_rejection import Patience, early_rejection
from factory.search.growth import Step, is_right
from factory.types import ROOT, Node, Problem, Tree
from factory.verifiers.base import flaw
from factory.verifiers.countdown import CountdownVerifier
from tests.bench._searching import Spent, Trial, bench, chance_in, cost_of, load, spent
from tests.bench.search_trees import BASELINE, KEPT, reward

RESULTS = Path(__file__).parent / "results" / "adaptive.json"
N = 16
"""Attempts of the baseline, whose coverage everything is measured at."""
DEAD = "dead\n"
"""What this teacher says when it turns back."""
LINES = Step(("\n",), score=True)
TURNS = Step((DEAD, "</think>\n"), score=True)
"""Steps of a whole way to its end: three or four of them instead of ten."""
CHOSEN = ("chain, 3 turns", "reward, 0.06")
"""Of the trials, those that are reported on, each with its twin."""


class Random:
    """Leaves an attempt by chance, as often as a rule did."""

    name = "random"

    def __init__(self, chance: float) -> None:
        self._chance = chance
        self._draw = random.Random(4)

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        return Score(float(self._draw.random() >= self._chance))


def chain(_: Any) -> Scorer:
    return ChainScorer(partial(flaw, {"countdown": CountdownVerifier()}))


@dataclass(frozen=True, slots=True)
class Early:
    """One way to leave attempts early."""

    name: str
    n: int
    step: Step
    patience: Patience
    scorer: Callable[[Any], Scorer] | None

    def trial(self) -> Trial:
        step = replace(self.step, score=self.scorer is not None)
        return Trial(self.name, lambda _: early_rejection(self.n, step, self.patience), self.scorer)

    def twin(self, trees: Sequence[Tree]) -> Early:
        """With the chance that a line had in these trees of being the one at which an attempt was left."""
        scores = [node.score for tree in trees for node in tree.nodes if node.score is not None]
        chance = fmean(float(score < self.patience.keep) for score in scores)
        patience = replace(self.patience, keep=0.5)
        return Early(f"random for {self.name}", self.n, self.step, patience, lambda _: Random(chance))


def ways() -> list[Early]:
    three, four = Patience(backtrack=DEAD, max_backtracks=3), Patience(backtrack=DEAD, max_backtracks=4)
    return [
        Early("chain, 3 turns", 64, LINES, three, chain),
        Early("chain, 4 turns", 64, LINES, four, chain),
        Early("chain", 48, LINES, Patience(), chain),
        Early("chain, 3 turns, long steps", 64, TURNS, three, chain),
        Early("3 turns only", 64, replace(TURNS, stop=(DEAD,)), three, None),
        *(Early(f"reward, {keep}", 64, LINES, Patience(keep), reward) for keep in (0.04, 0.06, 0.08, 0.1)),
    ]


def attempts(tree: Tree) -> Spent:
    """A tree's figures, with what every attempt cost, in the order in which they began, also those that were left."""
    tokens: dict[int, int] = {}
    right: dict[int, bool] = {}
    began: dict[int, int] = {}
    for node in tree.nodes:
        first = began[node.id] = node.id if node.parent == ROOT else began[node.parent]
        tokens[first] = tokens.get(first, 0) + node.generated_tokens
        right[first] = right.get(first, False) or is_right(node)
    return replace(spent(tree), leaves=tuple((tokens[id], right[id]) for id in sorted(tokens)))


class Curves:
    """Of one trial: for each problem and number of attempts, the chance of a right one, and tokens up to the first."""

    def __init__(self, spends: Sequence[Spent]) -> None:
        most = min(len(one.leaves) for one in spends)
        self.chance = np.array([[chance_in(one, n) for n in range(most + 1)] for one in spends])
        self.cost = np.array([[cost_of(one, n, stopping=True) for n in range(most + 1)] for one in spends])

    def tokens_at(self, coverage: float, problems: Any) -> tuple[float, float]:
        """A problem's mean tokens where the trial has this coverage of these problems, and attempts; inf for never."""
        reached, cost = self.chance[problems].mean(axis=0), self.cost[problems].mean(axis=0)
        if reached[-1] < coverage:
            return float("inf"), float("inf")
        numbers = np.arange(len(reached), dtype=float)
        return float(np.interp(coverage, reached, cost)), float(np.interp(coverage, reached, numbers))


def compared(trial: Curves, baseline: Curves, fixed: float, resamples: int = 1000) -> dict[str, Any]:
    """At the coverage of N attempts of the baseline, over its tokens; None for never.

    `fixed`: mean tokens of N attempts, all made.
    """
    count = len(baseline.chance)
    everything = np.arange(count)

    def ratio(problems: Any) -> float:
        coverage = float(baseline.chance[problems, N].mean())
        return trial.tokens_at(coverage, problems)[0] / float(baseline.cost[problems, N].mean())

    draw = np.random.default_rng(0)
    drawn = sorted(ratio(draw.integers(count, size=count)) for _ in range(resamples))
    tokens, number = trial.tokens_at(float(baseline.chance[:, N].mean()), everything)
    figures = {
        "attempts": number,
        "tokens": tokens,
        "over the baseline": ratio(everything),
        "low": drawn[int(0.025 * resamples)],
        "high": drawn[int(0.975 * resamples) - 1],
        "over 16 attempts without a stop": tokens / fixed,
    }
    return {name: round(value, 4) if math.isfinite(value) else None for name, value in figures.items()}


def under_caps(spends: Sequence[Spent]) -> dict[str, Any]:
    """Solved problems by share of the baseline's tokens: one problem after the other, and least tried first."""
    order = random.Random(5)
    runs: dict[str, dict[str, list[float]]] = {}
    for _ in range(20):
        shuffled = [replace(one, leaves=tuple(order.sample(one.leaves, len(one.leaves)))) for one in spends]
        order.shuffle(shuffled)
        whole = sum(tokens for one in shuffled for tokens, _ in _stopped(one))
        for share in (0.25, 0.5, 0.75):
            for name, way in (("by age", _by_age), ("by yield", _by_breadth)):
                solved = _within(way(shuffled), share * whole) / len(spends)
                runs.setdefault(name, {}).setdefault(str(share), []).append(solved)
    return {name: {share: round(fmean(found), 4) for share, found in one.items()} for name, one in runs.items()}


def _stopped(one: Spent) -> list[tuple[int, bool]]:
    until = next((place for place, (_, right) in enumerate(one.leaves[:N], start=1) if right), N)
    return list(one.leaves[:until])


def _by_age(spends: Sequence[Spent]) -> list[tuple[int, bool]]:
    return [attempt for one in spends for attempt in _stopped(one)]


def _by_breadth(spends: Sequence[Spent]) -> list[tuple[int, bool]]:
    rows = [_stopped(one) for one in spends]
    return [row[place] for place in range(N) for row in rows if place < len(row)]


def _within(attempts: Sequence[tuple[int, bool]], cap: float) -> int:
    solved = tokens = 0
    for cost, right in attempts:
        if tokens >= cap:
            break
        tokens += cost
        solved += right
    return solved


async def measured(split: str, count: int, names: Sequence[str]) -> dict[str, Any]:
    async with bench(split, count, reward=True) as here:
        kept = KEPT / f"search_trees_{split}_{count}.json"
        found = load(kept).get(BASELINE) if kept.exists() else None
        fixed = found or [attempts(tree) for tree in await here.run(Trial("best_of_n", lambda _: best_of_n(2 * N)))]
        baseline = Curves(fixed)
        sixteen = fmean(N * fmean(tokens for tokens, _ in one.leaves) for one in fixed)
        result: dict[str, Any] = {
            "problems": count,
            "coverage of 16 attempts": round(float(baseline.chance[:, N].mean()), 4),
            "tokens of the baseline": round(float(baseline.cost[:, N].mean()), 1),
            "baseline over 16 attempts without a stop": round(float(baseline.cost[:, N].mean()) / sixteen, 4),
            "under a cap, solved": under_caps(fixed),
        }
        print(json.dumps(result), flush=True)
        wanted = [one for one in ways() if not names or one.name in names]
        for way in wanted:
            trees = await here.run(way.trial())
            result[way.name] = _figures(trees, baseline, sixteen)
            print(way.name, json.dumps(result[way.name]), flush=True)
            if way.name in CHOSEN:
                wanted.append(way.twin(trees))
    return result


def _figures(trees: Sequence[Tree], baseline: Curves, sixteen: float) -> dict[str, Any]:
    spends = [attempts(tree) for tree in trees]
    requests = sum(one.generations for one in spends) / sum(len(one.leaves) for one in spends)
    prompts = sum(one.prompt_tokens - one.cached_tokens for one in spends) / sum(one.tokens for one in spends)
    return compared(Curves(spends), baseline, sixteen) | {
        "requests of an attempt": round(requests, 2),
        "prompt tokens computed for a generated one": round(prompts, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=["tune", "report"])
    parser.add_argument("count", type=int)
    parser.add_argument("--only", action="append", help="a trial by its name; repeatable, all by default")
    parser.add_argument("--save", action="store_true", help="write the results beside the others")
    arguments = parser.parse_args()
    names = arguments.only or (CHOSEN if arguments.split == "report" else ())
    result = asyncio.run(measured(arguments.split, arguments.count, names))
    print(json.dumps(result, indent=2))
    if arguments.save:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        whole = before | {arguments.split: before.get(arguments.split, {}) | result}
        RESULTS.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
