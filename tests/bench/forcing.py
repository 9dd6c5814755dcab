"""Budget forcing and revision on the bundled teacher, each beside fresh samples and beside what it changed.

    python -m tests.bench.forcing --problems 200 --save
    python -m tests.bench.forcing --problems 50 --http --save

For each budget: whether every attempt has a final answer, and whether its thinking, counted here from the token ids
alone, lies within the bounds. Then the *same chains unforced*: every attempt that was forced is gone on with from just
before the first injection as if nothing had been injected (with the end of thinking that was left out put back), and
judged as well, which gives the counts of right answers made wrong and wrong ones made right. Fresh samples at equal
tokens are independent attempts without forcing: coverage, paired by problem.

Revision criticises every first answer, right ones too, so that repaired and broken ones can be counted; a repair is
compared with what a fresh attempt at the same problem would have brought. As a strategy, where only wrong answers are
revised, it is compared with fresh samples at equal tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.config import Recipe, SandboxConfig, load_recipe
from factory.engines.base import Request
from factory.prune.transcripts import transcripts
from factory.rollout import extended
from factory.search.best_of_n import best_of_n
from factory.search.budget_forcing import Forcing, budget_forcing
from factory.search.growth import is_right
from factory.search.revise import revise
from factory.stats import Interval, bootstrap, paired_bootstrap
from factory.types import Attempt, FinishReason, Node, NodeState, Origin, Outcome, Problem, Tree, spans_of
from factory.verifiers.base import verdicts
from pipelines import build
from tests.bench._searching import FOLDER, RESULTS, Bench, Spent, Trial, at_equal_tokens, bench, spent, tools_of
from tests.contract.engine_cases import CONTEXT, SERVED, Server

END, WAIT, CUE = "</think>", "wait\n", "stop\n</think>\nanswer"
CRITICISM = "that is wrong try again"
BUDGETS = ((16, 40), (40, 80), (80, 140), (140, 220))
"""Least and most tokens of thinking. Half of this teacher's own chains end within 140."""
FRESH = 16
"""Independent attempts that all is compared with."""
LIMITS = (256, 400)
"""Tokens of a turn where answers are revised. Criticised, this teacher hardly gives up: most of its second answers are
cut by the one, and by what a first answer leaves of the context if not by the other."""
PLACES = 128
"""Requests that the server runs at once."""

judge = partial(verdicts, build.verifiers(SandboxConfig()))


def forcing_of(least: int, most: int) -> Forcing:
    return Forcing(least, most, END, WAIT, CUE, boundary="\n", slack=14)


# --- what was forced


@dataclass(frozen=True, slots=True)
class Forced:
    """One attempt."""

    problem: Problem
    path: list[Node]
    thinking: int
    """Tokens, counted from the ids."""
    right: bool
    has_answer: bool
    """Whether its turn was finished, with something said behind the thinking."""
    is_readable: bool
    """Whether the verifier found an expression in that."""
    unforced: bool
    """Whether the same chain is right without what was injected; `right`, where nothing was."""

    @property
    def injected(self) -> list[str]:
        return [node.text for node in self.path if node.origin is Origin.INJECTED]


async def forced(here: Bench, tree: Tree) -> list[Forced]:
    return await asyncio.gather(*(_forced(here, tree, leaf) for leaf in tree.leaves()))


async def _forced(here: Bench, tree: Tree, leaf: Node) -> Forced:
    path = tree.path(leaf.id)
    (end,) = here.tools.renderer.encode(END) or ()
    finished = leaf.state is NodeState.FINISHED
    readable = finished and leaf.verdicts[0].extracted is not None
    right = is_right(leaf)
    unforced = await _is_right_unforced(here, tree.problem, path) if _first_injected(path) is not None else right
    answered = finished and bool(leaf.text.strip())
    return Forced(tree.problem, path, thinking(path, end), right, answered, readable, unforced)


def thinking(path: Sequence[Node], end: int) -> int:
    """Tokens up to the first end of thinking: with it if the model wrote it, up to the cue that holds it otherwise."""
    before = 0
    for node in path:
        ids = node.token_ids or ()
        if end in ids:
            return before + (ids.index(end) + 1 if node.origin is Origin.SAMPLED else 0)
        before += len(ids)
    return before


def _first_injected(path: Sequence[Node]) -> int | None:
    return next((place for place, node in enumerate(path) if node.origin is Origin.INJECTED), None)


async def _is_right_unforced(here: Bench, problem: Problem, path: Sequence[Node]) -> bool:
    place = _first_injected(path)
    before = list(path[:place])
    if place is not None and path[place].text == WAIT:
        before.append(replace(path[place], text=END, token_ids=here.tools.renderer.encode(END)))
    room = here.tools.policy.sampling.max_tokens - sum(len(node.token_ids or ()) for node in before)
    request = Request(replace(here.tools.policy.sampling, max_tokens=room), key=f"{problem.id}/unforced")
    made = await here.tools.engine.generate(extended(here.tools.renderer.render(problem.messages), before), request)
    if made.finish is FinishReason.LENGTH:
        return False
    whole = [*before, replace(path[0], text=made.text, token_ids=made.token_ids)]
    found = await asyncio.to_thread(judge, problem, Attempt(spans_of(whole)))
    return found[0].outcome is Outcome.PASS


async def measure_forcing(
    here: Bench, bounds: tuple[int, int], attempts: int, fresh: Sequence[Spent]
) -> dict[str, Any]:
    forcing = forcing_of(*bounds)
    trees = await here.run(Trial(f"forced {bounds}", lambda _: budget_forcing(attempts, forcing)))
    each = [await forced(here, tree) for tree in trees]
    spends = [spent(tree) for tree in trees]
    return {
        "least": bounds[0],
        "most": bounds[1],
        **counts([one for row in each for one in row], bounds),
        "kept_transcripts": kept(trees),
        "accuracy": shown(bootstrap([rate(row, "right") for row in each])),
        "accuracy_of_the_same_chains_unforced": shown(bootstrap([rate(row, "unforced") for row in each])),
        "forced_less_unforced": paired(each),
        "accuracy_of_fresh_attempts": shown(bootstrap([fmean(right for _, right in one.leaves) for one in fresh])),
        "forced_less_fresh_accuracy": shown(
            paired_bootstrap(
                [rate(row, "right") for row in each], [fmean(right for _, right in one.leaves) for one in fresh]
            )
        ),
        "tokens_an_attempt": fmean(one.tokens / attempts for one in spends),
        "coverage": shown(bootstrap([float(one.solved) for one in spends])),
        "against_fresh_samples_at_equal_tokens": at_equal_tokens(spends, fresh, stopping=False),
    }


def counts(each: Sequence[Forced], bounds: tuple[int, int]) -> dict[str, Any]:
    lengths = sorted(one.thinking for one in each)
    return {
        "attempts": len(each),
        "cut": sum(one.path[-1].state is not NodeState.FINISHED for one in each),
        "without_a_final_answer": sum(not one.has_answer for one in each),
        "with_one_that_is_no_expression": sum(one.has_answer and not one.is_readable for one in each),
        "outside_the_bounds": sum(not bounds[0] <= length <= bounds[1] for length in lengths),
        "thinking_least_median_most": [lengths[0], lengths[len(lengths) // 2], lengths[-1]],
        "untouched": sum(not one.injected for one in each),
        "waited": sum(WAIT in one.injected for one in each),
        "waits": dict(sorted(Counter(one.injected.count(WAIT) for one in each).items())),
        "ended_by_the_cue": sum(CUE in one.injected for one in each),
        "cue_within_a_line": sum(_is_within_a_line(one) for one in each),
        "wrong_to_right": sum(one.right and not one.unforced for one in each),
        "right_to_wrong": sum(one.unforced and not one.right for one in each),
    }


def _is_within_a_line(one: Forced) -> bool:
    texts = [node.text for node in one.path]
    return CUE in texts and not "".join(texts[: texts.index(CUE)]).endswith("\n")


def kept(trees: Sequence[Tree]) -> dict[str, int]:
    """What refining makes of the attempts: kept ones by variant, the others by reason."""
    make = partial(transcripts, variants=("full", "pruned"), pruners=build.pruners(), judge=judge)
    made = (one for tree in trees for one in make(tree))
    return dict(Counter(one.rejection or one.variant for one in made))


def rate(row: Sequence[Forced], name: str) -> float:
    return fmean(getattr(one, name) for one in row)


def paired(each: Sequence[Sequence[Forced]]) -> list[float]:
    return shown(paired_bootstrap([rate(row, "right") for row in each], [rate(row, "unforced") for row in each]))


# --- what was revised


async def measure_revision(here: Bench, limit: int, attempts: int, fresh: Sequence[Spent]) -> dict[str, Any]:
    room = {"max_tokens": limit}
    always = Trial("revise always", lambda _: revise(attempts, 1, CRITICISM, always=True), sampling=room)
    wrong = Trial("revise wrong", lambda _: revise(attempts, 1, CRITICISM), sampling=room)
    trees = await here.run(always)
    pairs = [revisions(tree) for tree in trees]
    spends = [spent(tree) for tree in await here.run(wrong)]
    return {
        "limit": limit,
        "first_answers": sum(len(row) for row in pairs),
        "cut_second_answers": sum(leaf.state is NodeState.TRUNCATED for tree in trees for leaf in second(tree)),
        **second_answers(pairs, fresh),
        "as_a_strategy": {
            "coverage": shown(bootstrap([float(one.solved) for one in spends])),
            "tokens_per_problem": fmean(one.tokens for one in spends),
            "against_fresh_samples_at_equal_tokens": at_equal_tokens(spends, fresh, stopping=False),
        },
    }


def revisions(tree: Tree) -> list[tuple[bool, bool]]:
    """Whether a first answer was right, and the one after the criticism; first answers that were cut are left out."""
    return [(is_right(tree.path(leaf.id)[0]), is_right(leaf)) for leaf in second(tree)]


def second(tree: Tree) -> list[Node]:
    return [leaf for leaf in tree.leaves() if any(node.role == "user" for node in tree.path(leaf.id))]


def second_answers(pairs: Sequence[Sequence[tuple[bool, bool]]], fresh: Sequence[Spent]) -> dict[str, Any]:
    """By what the first answer was; each mean over problems, beside that of fresh attempts at the same problems."""
    found: dict[str, Any] = {}
    for was, name in ((False, "wrong"), (True, "right")):
        rows = [[now for before, now in row if before is was] for row in pairs]
        chosen = [place for place, row in enumerate(rows) if row]
        now = [fmean(rows[place]) for place in chosen]
        again = [fmean(right for _, right in fresh[place].leaves) for place in chosen]
        found[f"first_{name}"] = {
            "answers": sum(map(len, rows)),
            "problems": len(chosen),
            "right_after_revision": sum(map(sum, rows)),
            "share_over_problems": shown(bootstrap(now)),
            "fresh_attempts_at_the_same_problems": fmean(again),
            "revised_less_fresh": shown(paired_bootstrap(now, again)),
        }
    return found


# --- the whole


def shown(interval: Interval) -> list[float]:
    return [round(part, 4) for part in (interval.value, interval.low, interval.high)]


@contextlib.asynccontextmanager
async def served(split: str, count: int) -> AsyncIterator[Bench]:
    """The same teacher behind vLLM's server."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(FOLDER / "pipelines" / "teachers" / "countdown", Path(folder) / "log", PLACES)
        try:
            await asyncio.to_thread(server.ensure)
            table = load_recipe(FOLDER / "pipelines" / "served.toml").model_dump()
            table["source"] = {"kind": "countdown", "split": split, "count": count}
            tokenizer = str(FOLDER / table["engines"]["teacher"]["tokenizer"])
            here = {"base_url": server.base_url, "model": SERVED, "tokenizer": tokenizer, "max_running": PLACES}
            table["engines"]["teacher"] |= here
            recipe = Recipe.model_validate(table)
            engine, tools = tools_of(recipe)
            await engine.start()
            assert engine.capabilities.max_context == CONTEXT
            yield Bench([one for one in build.source(recipe) if isinstance(one, Problem)], tools)
            await engine.close()
        finally:
            server.kill()


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    start = served if arguments.http else bench
    async with start(arguments.split, arguments.problems) as here:
        fresh = [spent(tree) for tree in await here.run(Trial("fresh", lambda _: best_of_n(FRESH)))]
        found: dict[str, Any] = {"split": arguments.split, "problems": len(here.problems), "http": arguments.http}
        found["fresh_tokens_an_attempt"] = fmean(one.tokens / FRESH for one in fresh)
        found["forcing"] = []
        for bounds in BUDGETS:
            found["forcing"].append(await measure_forcing(here, bounds, arguments.attempts, fresh))
            print(json.dumps(found["forcing"][-1]), flush=True)
        if not arguments.http:
            limits = (await measure_revision(here, limit, arguments.attempts, fresh) for limit in LIMITS)
            found["revision"] = [one async for one in limits]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("tune", "gate", "report"), default="tune")
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--http", action="store_true", help="behind vLLM's server, budgets only")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    found = asyncio.run(measure(arguments))
    print(json.dumps(found, indent=2))
    if arguments.save:
        path = RESULTS / f"forcing{'_http' if arguments.http else ''}_{arguments.split}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
