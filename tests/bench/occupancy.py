"""Whether tree search keeps the engine full: its running requests over time, and what that is worth.

    python -m tests.bench.occupancy --save

First a sweep: the same attempts through `LLM.generate`, by how many requests it may run at once; the number at which it
is fastest is the engine's running limit in what follows. Then many beam searches at once, as a worker begins them:
every 20 ms it is looked how many requests the engine runs, by its own counter, and how many trees are open, as long as
problems remain that are not begun. Last the same searches one problem at a time, for some of the problems. Searches
differ in how many continuations a step has, and in how long a step is: a line of this teacher is six tokens, less than
what a prefix loses to the cache's blocks of 32. All are guided by log-probabilities, to the end. Wants the machine to
itself.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from factory.config import Recipe
from factory.scorers.logprob import LogprobScorer
from factory.search.beam import beam
from factory.search.growth import Step
from factory.search.value import Valuation
from factory.types import Tree
from tests.bench._searching import RESULTS, Bench, Trial, bench
from tests.bench.engine import engine_alone, recipe_of

LIMITS = (4, 16, 64, 128, 256, 512)
FULL = 0.8
"""Of the running limit."""
LOOK = 0.02
"""Seconds between two looks."""
STEPS = {"a line": Step(stop=("\n",)), "32 tokens": Step(tokens=32)}
SIDES = (2, 4)
"""Prefixes that a beam keeps, and continuations of each."""


@dataclass(frozen=True, slots=True)
class Look:
    """At a moment while problems remain."""

    running: int
    open: int


def sweep(problems: int, attempts: int) -> dict[int, float]:
    """Tokens a second of `LLM.generate` by its running limit; of fewer problems where that is small."""
    found = {}
    for limit in LIMITS:
        table = recipe_of(max(8, min(problems, limit)), attempts).model_dump()
        table["engines"]["teacher"]["args"]["max_num_seqs"] = limit
        found[limit] = round(engine_alone(Recipe.model_validate(table)).rate, 1)
        print(f"LLM.generate, {limit} at once: {found[limit]:,.0f} tokens/s", flush=True)
    return found


async def looks(here: Bench, found: list[Look]) -> None:
    """Until it is cancelled."""
    while True:
        if 0 < here.begun < len(here.problems):
            found.append(Look(here.tools.engine.stats.running, here.open))
        await asyncio.sleep(LOOK)


async def many_at_once(here: Bench, search: Trial, limit: int) -> dict[str, Any]:
    found: list[Look] = []
    watch = asyncio.create_task(looks(here, found))
    start = time.perf_counter()
    trees = await here.run(search)
    seconds = time.perf_counter() - start
    watch.cancel()
    return {
        "problems": len(trees),
        "tokens": tokens(trees),
        "tokens_a_step": round(tokens(trees) / sum(len(tree.nodes) for tree in trees), 1),
        "seconds": round(seconds, 2),
        "tokens/s": round(tokens(trees) / seconds, 1),
        "looks": len(found),
        "open_trees": {"median": median(one.open for one in found), "most": max(one.open for one in found)},
        "running": {"mean": round(fmean(one.running for one in found), 1), "median": median(o.running for o in found)},
        "share_of_looks_at_80%": round(fmean(one.running >= FULL * limit for one in found), 3),
    }


async def one_at_a_time(here: Bench, search: Trial) -> dict[str, Any]:
    problems = here.problems
    total, start = 0, time.perf_counter()
    for problem in problems:
        here.problems = [problem]
        total += tokens(await here.run(search))
    seconds = time.perf_counter() - start
    return {
        "problems": len(problems),
        "tokens": total,
        "seconds": round(seconds, 2),
        "tokens/s": round(total / seconds, 1),
    }


def tokens(trees: Sequence[Tree]) -> int:
    return sum(tree.cost.generated_tokens for tree in trees)


def beam_of(name: str, step: Step, side: int) -> Trial:
    return Trial(
        f"beam {side}x{side}, {name} a step", lambda _: beam(step, Valuation(), side, side), lambda _: LogprobScorer()
    )


async def searches(limit: int, requests: int, alone: int) -> list[dict[str, Any]]:
    overrides = ["sampling.logprobs=true", f"engines.teacher.args.max_num_seqs={limit}"]
    async with bench("tune", requests // min(SIDES) ** 2, overrides) as here:
        problems, found = here.problems, []
        for (name, step), side in itertools.product(STEPS.items(), SIDES):
            search = beam_of(name, step, side)
            here.problems = problems[: requests // side**2]
            many = await many_at_once(here, search, limit)
            here.problems = problems[:alone]
            one = await one_at_a_time(here, search)
            ratio = round(many["tokens/s"] / one["tokens/s"], 2)
            found.append({"search": search.name, "many": many, "one": one, "many_over_one": ratio})
            print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3200, help="first steps of all trees of a search")
    parser.add_argument("--alone", type=int, default=8, help="problems that are searched one at a time")
    parser.add_argument("--limit", type=int, help="running limit, instead of the sweep")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    swept = {} if arguments.limit else sweep(96, 16)
    limit = arguments.limit or max(swept, key=swept.__getitem__)
    table = {
        "sweep": swept,
        "limit": limit,
        "searches": asyncio.run(searches(limit, arguments.requests, arguments.alone)),
    }
    if arguments.save:
        (RESULTS / "occupancy.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
