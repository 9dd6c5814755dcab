"""`factory estimate`: what a recipe will cost and yield, from a pilot of some of its problems.

The pilot is a part of the run that it forecasts: problems are drawn from the whole source by a hash of their ids, so
that the draw is random and the same each time, and are searched, verified and refined as any others. Kept in a folder
(`--out`), it is paid for once: a run there goes on from it.

Tokens and yield are sums over problems; `factory.forecast` has the intervals. Time is tokens over the speed of the
engine where the pilot had it fullest, for as many engines as there were, after a start like the pilot's. A pilot that
does not fill the engine is slower than the whole will be, which is said. Not forecast: the last problems of a run,
which leave the engine half empty, and a machine that becomes faster or slower.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from factory.budget import Budget, Spent
from factory.config import Recipe
from factory.driver import Ended, Progress
from factory.errors import ConfigError
from factory.forecast import LEAST, amount, count, rate
from factory.rows import Row
from factory.runs import Run, open_run
from factory.shards import current_rows, iter_sidecars
from factory.sources.base import unique
from factory.stats import Interval
from pipelines import build
from pipelines.report import console, print_json, print_pairs
from pipelines.run import Options, Reporter, run

FULL = 0.8
"""Share of the most requests at once from which on the engine counts as full."""

_NODE = "nodes.list.element"
_COLUMNS = [
    "problem_id",
    "solved",
    "writer",
    *(f"cost.{name}" for name in ("generated_tokens", "scoring_generated_tokens", "prompt_tokens")),
    *(f"{_NODE}.{name}" for name in ("generated_tokens", "seconds", "engine_seconds")),
]


@dataclass(frozen=True, slots=True)
class Pilot:
    """What the problems of a pilot came to, one number a problem."""

    tokens: list[float]
    """Generated ones, those of guesses included."""
    prompt_tokens: list[float]
    solved: list[float]
    kept: dict[str, list[float]]
    """Transcripts by variant."""
    speeds: list[tuple[float, float]]
    """Tokens generated while the engine was fullest, and seconds of the engine for them."""
    most: float
    """Requests at once, where they were most."""
    engines: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the whole; intervals hold it with a chance of 80%."""

    problems: int
    pilot: int
    figures: dict[str, Interval] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def estimate(recipe: Recipe, size: int, out: str | None, report: Reporter, *, as_json: bool) -> None:
    """Run a pilot and print the forecast. Raises UserError for what the user can mend."""
    ids, total = drawn(recipe, size)
    with _folder(out) as folder:
        started = _Start(report)
        ended = run(recipe, Options(folder, only=frozenset(ids)), started.reporter).ended
        if ended is Ended.INTERRUPTED:
            raise KeyboardInterrupt
        if ended is Ended.CAPPED:
            raise ConfigError("[budget] ends the run within the pilot: raise its caps, or take a smaller --pilot")
        pilot = observed(open_run(folder), ids)
    forecast = forecasted(recipe, pilot, total, started.seconds)
    if out is not None:
        forecast.notes.append(f"the pilot is the beginning of the run in {out}")
    _print(forecast, as_json=as_json)


def drawn(recipe: Recipe, size: int) -> tuple[list[str], int]:
    """Ids of a random sample of the source's items, and how many items there are."""
    found = 0

    def ids() -> Iterator[str]:
        nonlocal found
        for item in unique(build.source(recipe)):
            found += 1
            yield item.id

    chosen = heapq.nsmallest(size, ids(), key=_lot)
    if len(chosen) < LEAST:
        raise ConfigError(
            f"a pilot of {len(chosen)} problems tells nothing: --pilot and the source need {LEAST} or more"
        )
    return chosen, found


def _lot(id: str) -> bytes:
    return hashlib.sha256(f"pilot:{id}".encode()).digest()


@contextlib.contextmanager
def _folder(out: str | None) -> Iterator[str]:
    if out is not None:
        yield out
        return
    folder = tempfile.mkdtemp(prefix="factory-pilot-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Start:
    """Measures how long a run takes until an engine is up."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self.seconds = 0.0

    @contextlib.contextmanager
    def reporter(self, progress: Progress) -> Iterator[None]:
        began = time.monotonic()
        with self._report(progress):
            yield
        self.seconds = max(0.0, time.monotonic() - began - progress.engine_seconds)


def observed(run: Run, ids: Sequence[str]) -> Pilot:
    """What a run holds of these problems."""
    wanted = set(ids)
    rows = [row for row in current_rows(run.store, _COLUMNS) if row["problem_id"] in wanted]
    most = max((_together(node) for row in rows for node in row["nodes"]), default=0.0)
    kept = _kept(run)
    return Pilot(
        tokens=[row["cost"]["generated_tokens"] + row["cost"]["scoring_generated_tokens"] for row in rows],
        prompt_tokens=[row["cost"]["prompt_tokens"] for row in rows],
        solved=[float(row["solved"]) for row in rows],
        kept={variant: [counts[row["problem_id"]] for row in rows] for variant, counts in kept.items()},
        speeds=[_speed(row, FULL * most) for row in rows],
        most=most,
        engines=len({row["writer"][:4] for row in rows if row["writer"].startswith("w")}),
    )


def _together(node: Row) -> float:
    """Requests at once while a node was generated."""
    return node["seconds"] / node["engine_seconds"] if node["engine_seconds"] else 0.0


def _speed(row: Row, least: float) -> tuple[float, float]:
    full = [node for node in row["nodes"] if node["engine_seconds"] and _together(node) >= least]
    return sum(node["generated_tokens"] for node in full), math.fsum(node["engine_seconds"] for node in full)


def _kept(run: Run) -> dict[str, Counter[str]]:
    """Kept transcripts of each problem, by variant."""
    kept = {variant: Counter[str]() for variant in run.config["recipe"]["prune"]["variants"]}
    for sidecar in iter_sidecars(run.store, f"transcripts/{run.refinement}"):
        for entry in sidecar.entries:
            for variant in kept.keys() & entry.counters.keys():
                kept[variant][entry.problem_id] += entry.counters[variant]
    return kept


def forecasted(recipe: Recipe, pilot: Pilot, total: int, start: float) -> Forecast:
    """The whole, from the pilot; `start` in seconds."""
    figures = {
        "tokens": amount(pilot.tokens, total),
        "prompt_tokens": amount(pilot.prompt_tokens, total),
        "solved": count(pilot.solved, total),
    } | {f"kept_{variant}": count(values, total) for variant, values in pilot.kept.items()}
    forecast = Forecast(total, len(pilot.tokens), figures)
    if any(seconds for _, seconds in pilot.speeds):
        busy = rate(pilot.tokens, total, pilot.speeds)
        figures["engine_seconds"] = busy
        figures["seconds"] = _changed(busy, lambda value: start + value / max(1, pilot.engines))
        places = build.engine(recipe.teacher).capabilities.max_running
        if pilot.most < FULL * places:
            forecast.notes.append(
                f"the pilot had {pilot.most:.0f} requests in an engine at most, which runs {places}: "
                "a full engine is faster, so time is at most this"
            )
    _price(recipe, forecast)
    return forecast


def _price(recipe: Recipe, forecast: Forecast) -> None:
    """Money, where there are prices, and caps that the run will reach."""
    figures, budget = forecast.figures, Budget(**recipe.budget.model_dump(exclude={"problem", "order", "seconds"}))
    tokens, busy = figures["tokens"], figures.get("engine_seconds")
    if budget.token_price or (budget.hour_price and busy is not None):
        value, lowest, highest = (budget.cost(one) for one in _spents(tokens, busy))
        figures["money"] = Interval(value, lowest, highest, tokens.level)
    expected, low, _ = _spents(tokens, busy)
    cap = budget.reached(low) or budget.reached(expected)
    if cap is not None:
        surely = "" if budget.reached(low) else "probably "
        forecast.notes.append(f"budget.{cap} {surely}ends it before that")


def _spents(tokens: Interval, busy: Interval | None) -> list[Spent]:
    """Expected, at least, at most."""
    return [
        Spent(round(getattr(tokens, end)), 0.0 if busy is None else getattr(busy, end))
        for end in ("value", "low", "high")
    ]


def _changed(interval: Interval, by: Any) -> Interval:
    return replace(interval, value=by(interval.value), low=by(interval.low), high=by(interval.high))


def _print(forecast: Forecast, *, as_json: bool) -> None:
    if as_json:
        figures = {name: asdict(one) for name, one in forecast.figures.items()}
        print_json({"problems": forecast.problems, "pilot": forecast.pilot, "notes": forecast.notes} | figures)
        return
    out = console()
    out.print(f"{forecast.problems:,} problems, from a pilot of {forecast.pilot:,}; in brackets 80% intervals:")
    print_pairs(out, ((name.replace("_", " "), _shown(name, one)) for name, one in forecast.figures.items()))
    for note in forecast.notes:
        out.print(note, soft_wrap=True)


def _shown(name: str, interval: Interval) -> str:
    digits = 2 if name == "money" else 0
    value, low, high = (f"{one:,.{digits}f}" for one in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"
