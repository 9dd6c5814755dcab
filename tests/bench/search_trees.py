"""Beam search, diverse subtrees and Monte-Carlo tree search on the bundled teacher, each beside its ablated twin.

    python -m tests.bench.search_trees --split report --problems 400 --save

A step is a line. `solver` knows whether a state can still reach the target and is the ceiling of all scorers; `reward`
is the shipped reward model's guess, `judgement` the teacher's own. Each has a `shuffled` twin, the same scores at the
wrong nodes, which is its floor. Coverage is paired, problem by problem, with that of as many independent attempts as
cost the same tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from factory.scorers.base import Scorer
from factory.search.beam import beam
from factory.search.best_of_n import best_of_n
from factory.search.dvts import dvts
from factory.search.growth import Step
from factory.search.ladder import Rung, ladder
from factory.search.mcts import Puct, mcts
from factory.search.value import Valuation
from factory.search_config import JudgementScorer, RewardScorer
from pipelines.scorers import Asked, scorer
from tests.bench._searching import (
    FOLDER,
    RESULTS,
    Bench,
    Shuffled,
    Solver,
    Spent,
    Trial,
    at_equal_tokens,
    bench,
    figures,
    load,
    save,
    spent,
)

LINE = Step(stop=("\n",))
BASELINE = "best_of_64"
KEPT = FOLDER / "runs" / "bench"
"""Every problem's own figures of each trial: megabytes, so not in the repository."""


def trials() -> list[Trial]:
    """Every strategy by every guide, up to the first right leaf."""
    found = [Trial(BASELINE, lambda _: best_of_n(64))]
    for name, guide in guides():
        found += [
            Trial(f"beam 4x4 {name}", lambda _: beam(LINE, Valuation(), 4, 4, stop_at=1), guide),
            Trial(f"dvts 4x4 {name}", lambda _: dvts(LINE, Valuation(), 4, 4, stop_at=1), guide),
            Trial(f"mcts 256 {name}", lambda _: mcts(LINE, Valuation(), Puct(), 256, stop_at=1), guide),
        ]
        if "reward" in name:
            found.append(Trial(f"ladder {name}", lambda _: ladder(RUNGS, stop_at=1), guide))
    return found + by_rollouts(Valuation(rollouts=1)) + by_rollouts(Valuation(rollouts=2))


RUNGS: list[Rung] = [
    lambda missing: best_of_n(4, None, missing),
    lambda missing: dvts(LINE, Valuation(), 4, 4, stop_at=missing),
    lambda missing: dvts(LINE, Valuation(), 8, 4, stop_at=missing),
]
"""What a ladder climbs."""


def by_rollouts(worth: Valuation) -> list[Trial]:
    name = f"rollouts {worth.rollouts}"
    return [
        Trial(f"beam 2x2 {name}", lambda _: beam(LINE, worth, 2, 2, stop_at=1)),
        Trial(f"mcts 64 {name}", lambda _: mcts(LINE, worth, Puct(), 64, stop_at=1)),
    ]


def guides() -> Iterable[tuple[str, Callable[[Bench], Scorer]]]:
    yield "solver", lambda _: Solver()
    yield "shuffled solver", lambda _: Shuffled(Solver())
    yield "reward", reward
    yield "shuffled reward", lambda here: Shuffled(reward(here))
    yield "judgement", judgement
    yield "shuffled judgement", lambda here: Shuffled(judgement(here))


def judgement(here: Bench) -> Scorer:
    """The teacher's own, by the cue that it knows."""
    asked = Asked(here.tools.engine, here.tools.renderer, is_teacher=True)
    return scorer(JudgementScorer(kind="judgement", cue="judge"), asked)


def reward(here: Bench) -> Scorer:
    """The shipped reward model's."""
    assert here.reward is not None
    return scorer(RewardScorer(kind="reward"), here.reward)


async def measure(split: str, problems: int, wanted: Sequence[str]) -> dict[str, list[Spent]]:
    """What `wanted` trials came to; those that an earlier call has measured are read from where it put them."""
    kept = KEPT / f"search_trees_{split}_{problems}.json"
    found = load(kept) if kept.exists() else {}
    chosen = [one for one in trials() if one.name == BASELINE or any(part in one.name for part in wanted)]
    missing = [one for one in chosen if one.name not in found]
    if missing:
        async with bench(split, problems, reward=any("reward" in one.name for one in missing)) as here:
            for trial in missing:
                found[trial.name] = [spent(tree) for tree in await here.run(trial)]
                save(kept, found)
                print(line(trial.name, found), flush=True)
    return {one.name: found[one.name] for one in chosen}


def line(name: str, found: dict[str, list[Spent]]) -> str:
    table: dict[str, Any] = figures(found[name])
    said = f"{name:28} coverage {table['coverage']}, {table['tokens_per_problem']:,.0f} tokens a problem, "
    said += f"{table['leaves_per_problem']:.1f} leaves, cached {table['cached_share']:.2f} of prompts"
    if table["cached_of_sharable"] is not None:
        said += f" and {table['cached_of_sharable']:.2f} of what blocks can share"
    try:
        return f"{said}; {at_equal_tokens(found[name], found[BASELINE], stopping=name != BASELINE)}"
    except ValueError as error:
        return f"{said}; {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("tune", "gate", "report"), default="tune")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--only", action="append", help="trials whose names hold this; repeatable, all by default")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments.split, arguments.problems, arguments.only or [""]))
    lines = {name: line(name, found) for name in found}
    print("\n".join(lines.values()))
    if arguments.save:
        table = {name: figures(spends) | {"said": lines[name]} for name, spends in found.items()}
        path = RESULTS / f"search_trees_{arguments.split}.json"
        path.write_text(json.dumps({"problems": arguments.problems, "figures": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
