"""Seam evidence on the bundled teacher: which cuts it withdraws, of those that replay knows to be harmless or harmful.

    python -m tests.bench.seams --save

Chains are the teacher's own: right attempts, whose lines replay without a fault. Harmless: what the replaying pruner
cuts, after which the chain replays and answers as before. Planted: cuts that take a needed step, after which it does
not: the step alone (`step`), a cut of an abandoned attempt that goes on over the step behind it (`too long`), or that
begins with the step before it (`too early`); one of each kind a chain, drawn at random. Evidence is the engine's alone:
nothing that replays takes part in it.

The threshold is chosen on problems of the split `tune` by a rule that stands in `chosen`, and everything is told of
`report`. Then, on `report`, fresh continuations from behind a cut, with what was removed and without, and how the
change of the share that verifies goes with the drop: Pearson's and Spearman's correlation, by kind of cut.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import StatisticsError, correlation, fmean
from typing import Any

from factory.config import SandboxConfig, SeamsConfig
from factory.prune.base import Cut
from factory.prune.countdown import CountdownPruner
from factory.prune.transcripts import Draft, drafts, is_right
from factory.search.best_of_n import best_of_n
from factory.stats import auroc, detectable_loss, quantile, resampled
from factory.types import Attempt, Origin, Seam, Span, Tree
from factory.verifiers.base import verdicts
from pipelines import build
from pipelines.seams import Seams
from tests.bench._searching import Bench, Trial, bench

RESULTS = Path(__file__).parent / "results" / "seams.json"
HARMLESS, KINDS = "harmless", ("step", "too long", "too early")
WINDOWS = (8, 16, 32)
NEVER = 1e9
"""A drop at which nothing is withdrawn, so that all figures are told."""

judge = partial(verdicts, build.verifiers(SandboxConfig()))


@dataclass(frozen=True, slots=True)
class Case:
    """A draft whose cuts are all harmless, or whose one cut is not."""

    kind: str
    draft: Draft


@dataclass(frozen=True, slots=True)
class Told:
    """What was found of one cut."""

    problem: str
    kind: str
    seam: Seam

    @property
    def is_bad(self) -> bool:
        return self.kind != HARMLESS


# --- cuts whose truth is known


def cases_of(trees: Sequence[Tree], seed: int = 3) -> list[Case]:
    """Of every right chain, each text of a problem once."""
    draw, seen, found = random.Random(seed), set[tuple[str, str]](), list[Case]()
    for tree in trees:
        for draft in drafts(tree, variants=["pruned"], pruners=[CountdownPruner()], judge=judge):
            key = (draft.full.problem.id, draft.full.text)
            if draft.made.rejection is None and key not in seen:
                seen.add(key)
                found += [Case(HARMLESS, draft)] if draft.cuts else []
                found += planted(draft, draw)
    return found


def planted(draft: Draft, draw: random.Random) -> Iterator[Case]:
    """One harmful cut of each kind that a chain has; that it is harmful is seen by replay."""
    text, cuts = draft.full.text, draft.cuts
    steps = [line for line in _lines(text) if text.startswith("try ", line[0]) and not _is_cut(line, cuts)]
    places = {
        "step": steps,
        "too long": [(cut.start, end) for cut in cuts for start, end in steps if start == cut.end],
        "too early": [(start, cut.end) for cut in cuts for start, end in steps if end == cut.start],
    }
    for kind, some in places.items():
        harmful = [place for place in some if not _holds(draft, place)]
        if harmful:
            start, end = draw.choice(harmful)
            yield Case(kind, replace(draft, cuts=(Cut(start, end, f"planted: {kind}"),)))


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield start, start + len(line)
        start += len(line)


def _is_cut(line: tuple[int, int], cuts: Sequence[Cut]) -> bool:
    return any(cut.start <= line[0] < cut.end for cut in cuts)


def _holds(draft: Draft, place: tuple[int, int]) -> bool:
    text = draft.full.text
    left = text[: place[0]] + text[place[1] :]
    return is_right(judge(draft.full.problem, Attempt((Span(left, Origin.SAMPLED),))))


# --- what the engine says


async def told(here: Bench, cases: Sequence[Case], window: int, continuations: int = 0) -> list[Told]:
    config = SeamsConfig(most_drop=NEVER, window=window, continuations=continuations)
    seams = Seams(config, here.tools.renderer, here.tools.policy.sampling, judge, own=True)
    found = await seams.tested(here.tools.engine, [case.draft for case in cases])
    return [
        Told(case.draft.full.problem.id, case.kind, cut.seam)
        for case, draft in zip(cases, found, strict=True)
        for cut in (*draft.cuts, *draft.withdrawn)
        if cut.seam.untested is None
    ]


# --- figures


def largest(one: Told) -> float:
    return one.seam.largest or 0.0


def mean(one: Told) -> float:
    return one.seam.drop or 0.0


STATISTICS = {"largest": largest, "mean": mean}


def chosen(tune: Sequence[Told]) -> float:
    """The middle, in ratio, of what 95% of harmless cuts stay below and 95% of planted ones stay above."""
    harmless = quantile(sorted(largest(one) for one in tune if not one.is_bad), 0.95)
    harmful = quantile(sorted(largest(one) for one in tune if one.is_bad), 0.05)
    return round(math.sqrt(max(harmless, 1e-3) * max(harmful, 1e-3)), 1)


def shares(found: Sequence[Told], threshold: float) -> dict[str, Any]:
    """How many of each kind lie above the threshold, with the interval over problems."""
    kinds = (HARMLESS, *KINDS, "all planted")
    return {kind: _share([one for one in found if _is_of(one, kind)], threshold) for kind in kinds}


def _is_of(one: Told, kind: str) -> bool:
    return one.is_bad if kind == "all planted" else one.kind == kind


def _share(found: Sequence[Told], threshold: float) -> dict[str, Any] | None:
    by_problem: dict[str, list[bool]] = {}
    for one in found:
        by_problem.setdefault(one.problem, []).append(largest(one) > threshold)
    if not by_problem:
        return None
    groups = list(by_problem.values())

    def share(places: Sequence[int]) -> float:
        return fmean(above for place in places for above in groups[place])

    value = resampled(len(groups), share)
    return {
        "cuts": len(found),
        "problems": len(groups),
        "withdrawn": sum(map(sum, groups)),
        "share": round(value.value, 4),
        "low": round(value.low, 4),
        "high": round(value.high, 4),
    }


def curve(found: Sequence[Told]) -> list[dict[str, float]]:
    """Of some thresholds, what is caught and what is withdrawn in vain."""
    points = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
    return [
        {
            "threshold": point,
            "caught": round(fmean(largest(one) > point for one in found if one.is_bad), 4),
            "in vain": round(fmean(largest(one) > point for one in found if not one.is_bad), 4),
        }
        for point in points
    ]


def spread(found: Sequence[Told]) -> dict[str, Any]:
    """Quantiles of the largest drop, by kind."""
    values = {kind: sorted(largest(one) for one in found if one.kind == kind) for kind in (HARMLESS, *KINDS)}
    wanted = (0.0, 0.05, 0.5, 0.95, 1.0)
    return {kind: [round(quantile(some, q), 2) for q in wanted] for kind, some in values.items() if some}


def correlations(found: Sequence[Told]) -> dict[str, Any]:
    """The loss of the share that verifies against the drop, by kind of cut."""
    groups = {"all": found} | {kind: [one for one in found if one.kind == kind] for kind in (HARMLESS, *KINDS)}
    return {name: _correlated(some) for name, some in groups.items()}


def _correlated(found: Sequence[Told]) -> dict[str, Any]:
    losses = [loss(one) for one in found]
    figures: dict[str, Any] = {"cuts": len(found), "mean loss": round(fmean(losses), 4) if losses else None}
    for name, statistic in STATISTICS.items():
        drops = [statistic(one) for one in found]
        figures[name] = {"pearson": _pearson(drops, losses), "spearman": _pearson(_ranks(drops), _ranks(losses))}
    return figures


def loss(one: Told) -> float:
    """Of the share of continuations that verify."""
    return ((one.seam.right_with or 0) - (one.seam.right_without or 0)) / one.seam.continuations


def _pearson(some: Sequence[float], others: Sequence[float]) -> float | None:
    try:
        return round(correlation(some, others), 3)
    except StatisticsError:  # too few, or all of one value
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    """Mean ranks, so that ties count half."""
    ordered = sorted(values)
    first = {value: place for place, value in reversed(list(enumerate(ordered)))}
    return [first[value] + (ordered.count(value) - 1) / 2 for value in values]


# --- the whole


async def measured(split: str, options: argparse.Namespace) -> tuple[dict[int, list[Told]], list[Told]]:
    """What is told of one split for each window, and with continuations (of the split `report` only)."""
    async with bench(split, options.problems) as here:
        trees = await here.run(Trial("best_of_n", lambda _: best_of_n(options.attempts)))
        cases = cases_of(trees)
        print(split, {kind: sum(case.kind == kind for case in cases) for kind in (HARMLESS, *KINDS)}, flush=True)
        start = time.perf_counter()
        found = {window: await told(here, cases, window) for window in WINDOWS}
        print(f"{len(cases) * len(WINDOWS)} drafts read in {time.perf_counter() - start:.1f} s", flush=True)
        print(json.dumps({"spread": spread(found[WINDOWS[-1]]), "chosen": chosen(found[WINDOWS[-1]])}), flush=True)
        if split != "report":
            return found, []
        some = [case for kind in (HARMLESS, *KINDS) for case in _first(cases, kind, options.continued)]
        start = time.perf_counter()
        continued = await told(here, some, WINDOWS[-1], options.continuations)
        print(f"{len(continued)} cuts continued in {time.perf_counter() - start:.1f} s", flush=True)
        return found, continued


def _first(cases: Sequence[Case], kind: str, most: int) -> list[Case]:
    return [case for case in cases if case.kind == kind][:most]


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--problems", type=int, default=100, help="of each split")
    parser.add_argument("--attempts", type=int, default=16)
    parser.add_argument("--continuations", type=int, default=8, help="from each prefix")
    parser.add_argument("--continued", type=int, default=25, help="drafts of each kind that are continued")
    options = parser.parse_args()
    tune, _ = await measured("tune", options)
    report, continued = await measured("report", options)
    wide = WINDOWS[-1]
    threshold = chosen(tune[wide])
    figures = {
        "options": {key: value for key, value in vars(options).items() if key != "save"},
        "threshold chosen on tune": threshold,
        "report": shares(report[wide], threshold),
        "report at the default": shares(report[wide], SeamsConfig().most_drop),
        "tune": shares(tune[wide], threshold),
        "largest drop, least to most (0, 5, 50, 95, 100%)": {
            "tune": spread(tune[wide]),
            "report": spread(report[wide]),
        },
        "auroc on report, by window": {
            str(window): {
                name: round(auroc([statistic(one) for one in some], [one.is_bad for one in some]), 4)
                for name, statistic in STATISTICS.items()
            }
            for window, some in report.items()
        },
        "roc on report": curve(report[wide]),
        "correlation with continuations": correlations(continued),
        "detectable": {str(p): detectable_loss(p, options.continuations) for p in (0.25, 0.5, 0.75, 1.0)},
    }
    print(json.dumps(figures, indent=1))
    if options.save:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
