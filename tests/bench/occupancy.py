"""Whether tree search keeps the engine full: its running requests over time, and what that is worth.

    python -m tests.bench.occupancy --save

First a sweep: the same attempts through `LLM.generate`, by how many requests it may run at once; the number at which it
is fastest is the engine's running limit in what follows. Then many beam searches (4 prefixes, 4 continuations of each,
a step a line, guided by log-probabilities, to the end) at once, as a worker begins them: every 20 ms it is looked how
many requests the engine runs, by its own counter, and how many trees are open, as long as problems remain that are not
begun. Last the same searches one problem at a time, for as many of the problems as told. Wants the machine to itself.
"""

from __future__ import annotations

import argparse
import asyncio
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

LIMITS = (64, 128, 256, 512)
FULL = 0.8
"""Of the running limit."""
LOOK = 0.02
"""Seconds between two looks."""
LINE = Step(stop=("\n",))
SEARCH = Trial("beam 4x4 logprob", lambda _: beam(LINE, Valuation(), 4, 4), lambda _: LogprobScorer())


@dataclass(frozen=True, slots=True)
class Look:
    """At a moment while problems remain."""

    running: int
    open: int


def sweep(problems: int, attempts: int) -> dict[int, float]:
    """Tokens a second of `LLM.generate` by its running limit."""
    found = {}
    for limit in LIMITS:
        table = recipe_of(problems, attempts).model_dump()
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


async def many_at_once(here: Bench, limit: int) -> dict[str, Any]:
    found: list[Look] = []
    watch = asyncio.create_task(looks(here, found))
    start = time.perf_counter()
    trees = await here.run(SEARCH)
    seconds = time.perf_counter() - start
    watch.cancel()
    return {
        "problems": len(trees),
        "tokens": tokens(trees),
        "seconds": round(seconds, 2),
        "tokens/s": round(tokens(trees) / seconds, 1),
        "looks": len(found),
        "open_trees": {"median": median(one.open for one in found), "least": min(one.open for one in found)},
        "running": {"mean": fmean(one.running for one in found), "median": median(one.running for one in found)},
        "share_of_looks_at_80%": fmean(one.running >= FULL * limit for one in found),
    }


async def one_at_a_time(here: Bench, count: int) -> dict[str, Any]:
    problems = here.problems
    total, start = 0, time.perf_counter()
    for problem in problems[:count]:
        here.problems = [problem]
        total += tokens(await here.run(SEARCH))
    seconds = time.perf_counter() - start
    here.problems = problems
    return {"problems": count, "tokens": total, "seconds": round(seconds, 2), "tokens/s": round(total / seconds, 1)}


def tokens(trees: Sequence[Tree]) -> int:
    return sum(tree.cost.generated_tokens for tree in trees)


async def searches(limit: int, problems: int, alone: int) -> dict[str, Any]:
    overrides = ["sampling.logprobs=true", f"engines.teacher.args.max_num_seqs={limit}"]
    async with bench("tune", problems, overrides) as here:
        return {"many": await many_at_once(here, limit), "one": await one_at_a_time(here, alone)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--alone", type=int, default=16, help="problems that are searched one at a time")
    parser.add_argument("--limit", type=int, help="running limit, instead of the sweep")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    swept = {} if arguments.limit else sweep(96, 16)
    limit = arguments.limit or max(swept, key=swept.__getitem__)
    found = asyncio.run(searches(limit, arguments.problems, arguments.alone))
    ratio = round(found["many"]["tokens/s"] / found["one"]["tokens/s"], 2)
    table = {"sweep": swept, "limit": limit, **found, "many_over_one": ratio}
    print(json.dumps(table, indent=1))
    if arguments.save:
        (RESULTS / "occupancy.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
