"""What a sandboxed check of every attempt adds to the wall time of a busy engine, and how much of that is its CPU time.

    python -m tests.bench.verify_overlap --rounds 6

Here the engine itself wants every core, so verifiers cannot be free: what they compute, somebody waits for. The claim:
the added wall time is at most the verifiers' CPU seconds divided by the cores, plus 5%. What is above that would be an
engine that idles while it waits for verdicts, or cores that are lost between the two.

One engine and one set of verifiers are started once, and a real `Worker` (search, judging, shards; no Ray) runs the
same problems again and again. `without` has the problems' own check, `countdown`; `light` and `heavy` have a `program`
check as well, whose checker evaluates the answer in the sandbox, and for `heavy` spends 15 ms of CPU time first. Every
attempt is made (no early stop), so all sides ask for the same work.

Sampling is random, since a seed for each request slows vLLM's sampler; so what is compared is seconds per generated
token: a run without checks is a scaled clock for its neighbours. Each run with checks stands between two without, and
is held against their mean, which takes out a steady drift of the machine's speed:

    base   = mean seconds per token of the two neighbours * tokens of this run
    added  = seconds of this run - base
    bound  = (CPU seconds of verifiers in this run - mean of the same in its neighbours) / cores
    excess = (added - bound) / base, wanted at most 0.05

CPU seconds of verifiers are exact up to the clock's resolution: those of the judge threads and of the sandbox's thread
by their own clocks, and those of the sandbox's processes from the broker and everything below it, dead children
included, which the kernel adds to the parent that waits for them; every run is waited for.

It is told if `program` says UNKNOWN of an attempt, or does not agree with `countdown` about its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from factory.config import Recipe, load_recipe
from factory.lease import acquire
from factory.rollout import Tools
from factory.shards import commit, iter_rows
from factory.stats import median_interval
from factory.store import Store
from factory.types import Aspect, Check, Outcome, Problem
from factory.worker import Assignment, Identity, Limits, Report, Worker
from pipelines import build
from tests.bench._searching import tools_of

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "pipelines" / "demo.toml"
RESULTS = Path(__file__).parent / "results" / "verify_overlap.json"

CORES = os.cpu_count() or 1
WANTED = 0.05
"""The most that a run may be over its bound, as a share of what it takes without checks."""
SPIN_SECONDS = {"light": 0.0, "heavy": 0.015}
"""CPU time that a checker spends before it decides."""
LIMITS = Limits(tries=1, flush_rows=256, flush_seconds=10.0)

CHECKER = """
import ast
import time

OPERATIONS = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b}


def value(node, used):
    if isinstance(node, ast.Constant):
        used.append(node.value)
        return node.value
    left, right = value(node.left, used), value(node.right, used)
    if isinstance(node.op, ast.Div):
        return left / right
    return OPERATIONS[type(node.op)](left, right)


def check(answer, reference):
    until = time.process_time() + SPIN
    while time.process_time() < until:
        pass
    used = []
    try:
        result = value(ast.parse(answer.removeprefix("answer "), mode="eval").body, used)
    except (SyntaxError, AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
        return False, type(error).__name__
    return sorted(used) == sorted(NUMBERS) and abs(result - TARGET) < 1e-9
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run over all problems."""

    side: str
    seconds: float
    """From the first request until every tree is closed."""
    tokens: int
    attempts: int
    judged: int
    verifier_cpu: dict[str, float]
    """CPU seconds by where they were spent: `threads`, `processes`."""
    engine_cpu: float
    occupancy: float
    """Mean share of the engine's places that were running."""
    waiting: float
    """Attempts without a verdict, mean."""
    unknown: int
    """Checks by `program` that decided nothing."""
    disagreeing: int
    """Attempts about which `program` and `countdown` decided differently."""

    @property
    def cpu(self) -> float:
        return sum(self.verifier_cpu.values())

    @property
    def seconds_per_token(self) -> float:
        return self.seconds / self.tokens


def recipe_of(problems: int, attempts: int) -> Recipe:
    """The demo's recipe with every attempt made."""
    keep = [f"source.count={problems}", f"search.n={attempts}", f"search.wave={attempts}"]
    table = load_recipe(RECIPE, keep).model_dump()
    table["search"]["stop_at"] = None
    return Recipe.model_validate(table)


def checked(problem: Problem, side: str) -> Problem:
    """The problem with the checks of a side."""
    if side not in SPIN_SECONDS:
        return problem
    given = {"SPIN": SPIN_SECONDS[side], "NUMBERS": problem.metadata["numbers"], "TARGET": problem.metadata["target"]}
    program = "\n".join(f"{name} = {value!r}" for name, value in given.items()) + CHECKER
    return replace(problem, checks=(*problem.checks, Check("program", {"checker": program})))


# --- what is measured


def verifier_cpu() -> dict[str, float]:
    """CPU seconds that verifiers have spent so far, by where."""
    names = ("judge", "jail")
    clocks = [time.pthread_getcpuclockid(one.ident or 0) for one in threading.enumerate() if one.name.startswith(names)]
    brokers = [one for one in psutil.Process().children() if "sandboxes.broker" in " ".join(one.cmdline())]
    return {
        "threads": sum(time.clock_gettime(clock) for clock in clocks),
        "processes": sum(map(_family_cpu, brokers)),
    }


def engine_cpu() -> float:
    """Of the engine's processes; what this process does for it is not among them."""
    children = psutil.Process().children()
    return sum(_family_cpu(one) for one in children if "VLLM" in " ".join(one.cmdline()) or "VLLM" in one.name())


def _family_cpu(process: psutil.Process) -> float:
    """Of a process, of all that live below it, and of the dead ones that those have waited for."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(one.cpu_times()[:4])
    return total


class Watch:
    """Looks at the counters a few times a second."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._places = tools.engine.capabilities.max_running
        self._looks: list[tuple[float, float]] = []

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()

    async def _look(self) -> None:
        while True:
            judging = self._tools.judging.stats
            self._looks.append((self._tools.engine.stats.running / self._places, judging.waiting + judging.running))
            await asyncio.sleep(0.1)

    @property
    def means(self) -> tuple[float, float]:
        """Share of the engine's places that ran, and attempts without a verdict."""
        running, unjudged = zip(*self._looks, strict=True)
        return fmean(running), fmean(unjudged)


async def measure(side: str, problems: Sequence[Problem], tools: Tools) -> Measured:
    """One run over the problems, in a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/run")
        lease = acquire(store)
        worker = Worker(Identity(store.url, lease.epoch, "w0"), LIMITS, tools)
        watch, tokens, judged = Watch(tools), tools.engine.stats.generated_tokens, tools.judging.stats.judged
        cpu, engine, start = verifier_cpu(), engine_cpu(), time.perf_counter()
        worker.submit([Assignment(checked(problem, side)) for problem in problems])
        async with watch.watching():
            reports = await _finished(worker)
        seconds = time.perf_counter() - start
        cpu = {kind: spent - cpu[kind] for kind, spent in verifier_cpu().items()}
        engine = engine_cpu() - engine
        reports.append(await worker.stop())
        for written in itertools.chain.from_iterable(report.written for report in reports):
            commit(store, lease, written, config_digest="")
        unknown, disagreeing = _trouble(iter_rows(store, "rollouts", ["nodes"]))
        lease.release()
    occupancy, waiting = watch.means
    return Measured(
        side=side,
        seconds=seconds,
        tokens=tools.engine.stats.generated_tokens - tokens,
        attempts=sum(report.attempts for report in reports),
        judged=tools.judging.stats.judged - judged,
        verifier_cpu=cpu,
        engine_cpu=engine,
        occupancy=occupancy,
        waiting=waiting,
        unknown=unknown,
        disagreeing=disagreeing,
    )


async def _finished(worker: Worker) -> list[Report]:
    reports = [await worker.poll(0.0, hungry=False)]
    while not reports[-1].idle:
        reports.append(await worker.poll(1.0, hungry=False))
    return reports


def _trouble(rows: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Attempts that `program` could not decide about, and those about which it and `countdown` disagree."""
    unknown = disagreeing = 0
    for node in itertools.chain.from_iterable(row["nodes"] for row in rows):
        said = {one["verifier"]: one["outcome"] for one in node["verdicts"] if one["aspect"] == Aspect.ANSWER}
        unknown += said.get("program") == Outcome.UNKNOWN
        disagreeing += len(set(said.values()) - {Outcome.UNKNOWN}) > 1
    return unknown, disagreeing


# --- what it comes to


@dataclass(frozen=True, slots=True)
class Compared:
    """A run with checks against its two neighbours without."""

    side: str
    base: float
    """Seconds that the same tokens take without the check."""
    added: float
    """Seconds more."""
    bound: float
    """CPU seconds of the check, divided by the cores."""

    @property
    def excess(self) -> float:
        return (self.added - self.bound) / self.base


def compare(before: Measured, run: Measured, after: Measured) -> Compared:
    """What the check of `run` added, and what it may have."""
    base = fmean([before.seconds_per_token, after.seconds_per_token]) * run.tokens
    bound = (run.cpu - fmean([before.cpu, after.cpu])) / CORES
    return Compared(run.side, base, run.seconds - base, bound)


def summary(compared: Sequence[Compared]) -> dict[str, Any]:
    """Medians with intervals, by side."""
    found = {}
    for side in SPIN_SECONDS:
        of_side = [one for one in compared if one.side == side]
        excess = median_interval([one.excess for one in of_side])
        found[side] = {
            "added_share": asdict(median_interval([one.added / one.base for one in of_side])),
            "bound_share": asdict(median_interval([one.bound / one.base for one in of_side])),
            "excess_share": asdict(excess),
            "holds": excess.value <= WANTED,
        }
    return found


async def run_all(recipe: Recipe, rounds: int) -> list[Measured]:
    """Without, light, without, heavy, ..., without; after one of each that does not count."""
    engine, tools = tools_of(recipe)
    problems = [item for item in build.source(recipe) if isinstance(item, Problem)]
    await engine.start()
    try:
        for side in ("without", *SPIN_SECONDS):
            await measure(side, problems[: max(8, len(problems) // 8)], tools)
        runs = []
        for side in _sides(rounds):
            runs.append(await measure(side, problems, tools))
            print(_line(runs), flush=True)
        return runs
    finally:
        await engine.close()
        build.close_jails()


def _sides(rounds: int) -> Iterator[str]:
    for number in range(rounds):
        # The order alternates, so that neither side is always the later one.
        for side in list(SPIN_SECONDS)[:: -1 if number % 2 else 1]:
            yield from ("without", side)
    yield "without"


def _line(runs: Sequence[Measured]) -> str:
    run = runs[-1]
    line = (
        f"{run.side:8} {run.seconds:6.1f} s, {run.tokens / run.seconds:,.0f} tokens/s, "
        f"CPU s: engine {run.engine_cpu:.1f}, verifiers {run.cpu:.1f}; "
        f"{run.occupancy:.0%} occupied, {run.waiting:.1f} unjudged"
    )
    if run.unknown or run.disagreeing:
        line += f"; {run.unknown} UNKNOWN, {run.disagreeing} DISAGREE"
    if len(runs) % 2 == 1 and len(runs) > 1:
        found = compare(*runs[-3:])
        line += f"; {found.side} before it: {found.added:+.1f} s, bound {found.bound:.1f} s, excess {found.excess:+.3f}"
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--problems", type=int, default=192)
    parser.add_argument("--attempts", type=int, default=16)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    recipe = recipe_of(arguments.problems, arguments.attempts)
    runs = asyncio.run(run_all(recipe, arguments.rounds))
    compared = [compare(*runs[place - 1 : place + 2]) for place in range(1, len(runs), 2)]
    result = {
        "machine": f"{CORES} cores, {platform.machine()}, Linux {platform.release()}",
        "requests": {"source": recipe.source.model_dump(), "attempts": recipe.search.model_dump()["n"]},
        "spin_seconds": SPIN_SECONDS,
        "wanted_excess_share": WANTED,
        "sides": summary(compared),
        "unknown": sum(run.unknown for run in runs),
        "disagreeing": sum(run.disagreeing for run in runs),
    }
    print(json.dumps(result, indent=2))
    if arguments.save:
        parts = {
            "compared": [asdict(one) | {"excess": one.excess} for one in compared],
            "runs": list(map(asdict, runs)),
        }
        RESULTS.write_text(json.dumps(result | parts, indent=2) + "\n")


if __name__ == "__main__":
    main()
