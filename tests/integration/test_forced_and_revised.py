"""From a recipe to training rows: forced and revised attempts of the scripted teacher, judged and pruned for real.

The scripted teacher knows the bundled one's cues. Its tokens are characters, so the numbers are larger.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest

from factory.config import Recipe, parse_recipe
from factory.prune.transcripts import transcripts
from factory.rollout import Rollout
from factory.rows import transcript_row
from factory.types import NodeState, Origin, Outcome, Problem, Transcript, Tree
from factory.verifiers.base import verdicts
from pipelines import build

CRITICISM = "that is wrong try again"
CUE = "stop\n</think>\nanswer"
FORCING = {
    "kind": "budget_forcing",
    "n": 4,
    "end": "</think>",
    "cue": CUE,
    "boundary": "\n",
    "slack": 40,
}


def recipe(search: dict[str, Any], **engine: Any) -> Recipe:
    table = {
        "source": {"kind": "countdown", "count": 40, "split": "tune"},
        "engines": {"teacher": {"kind": "scripted", "args": {"solve_rate": 0.4, **engine}}},
        "sampling": {"max_tokens": 2000},
        "search": search,
    }
    return parse_recipe(table, "recipe")


async def searched(asked: Recipe) -> list[Tree]:
    build.check_search(asked)
    table = asked.model_dump(mode="json")
    engine, tools = build.worker_tools(table, build.policy(asked, "digest"), {"teacher": "scripted"})
    await engine.start()
    problems = (item for item in build.source(asked) if isinstance(item, Problem))
    return [await Rollout(problem, tools).run() for problem in problems]


def refined(asked: Recipe, trees: list[Tree]) -> list[Transcript]:
    judge = partial(verdicts, build.verifiers(asked.sandbox))
    made = [
        one
        for tree in trees
        for one in transcripts(tree, variants=["full", "pruned"], pruners=build.pruners(), judge=judge)
    ]
    rows = [transcript_row(one) for one in made]
    assert all(
        "".join(turn["content"] for turn in row["completion"]) == one.text for row, one in zip(rows, made, strict=True)
    )
    return made


def kept(made: list[Transcript]) -> list[Transcript]:
    return [one for one in made if one.rejection is None]


def injected(one: Transcript) -> list[str]:
    return [span.text for span in one.spans if span.origin is Origin.INJECTED]


@pytest.mark.parametrize(("least", "most"), [(0, 60), (120, 200), (300, 400)])
async def test_every_forced_attempt_answers_within_its_bounds(least: int, most: int) -> None:
    asked = recipe(FORCING | {"min_thinking": least, "max_thinking": most} | ({"wait": "wait\n"} if least else {}))
    trees = await searched(asked)
    leaves = [(tree, leaf) for tree in trees for leaf in tree.leaves()]
    assert len(leaves) == 160
    cued = 0
    for tree, leaf in leaves:
        assert leaf.state is NodeState.FINISHED
        assert leaf.verdicts[0].extracted, "there is an answer"
        before, is_cued = thinking([node.text for node in tree.path(leaf.id)])
        assert least <= len(before) <= most
        cued += is_cued
    assert cued
    for one in kept(refined(asked, trees)):
        assert [verdict.outcome for verdict in one.verdicts] == [Outcome.PASS, Outcome.PASS]


def thinking(texts: list[str]) -> tuple[str, bool]:
    """What counts as such, and whether the cue ended it."""
    if CUE in texts:
        return "".join(texts[: texts.index(CUE)]), True
    before, end, _ = "".join(texts).partition("</think>")
    return before + end, False


async def test_a_chain_that_waited_is_kept_with_what_was_injected_marked() -> None:
    asked = recipe(FORCING | {"min_thinking": 150, "max_thinking": 600, "wait": "wait\n"})
    made = refined(asked, await searched(asked))
    full = [one for one in kept(made) if one.variant == "full" and "wait\n" in injected(one)]
    assert full
    assert all(one.text.count("wait\n") == injected(one).count("wait\n") for one in full)
    assert all(verdict.outcome is Outcome.PASS for one in full for verdict in one.verdicts)


async def test_a_chain_that_was_stopped_before_its_end_supports_nothing() -> None:
    asked = recipe(FORCING | {"max_thinking": 100})
    made = refined(asked, await searched(asked))
    reasons = Counter(one.rejection for one in made if CUE in injected(one))
    assert reasons["wrong_chain"], "a right answer behind a chain that was cut short"
    assert all("done\nstop" in one.text for one in kept(made) if CUE in injected(one))


async def test_a_revised_answer_is_kept_whole_and_alone() -> None:
    asked = recipe({"kind": "revise", "n": 2, "turns": 2, "criticism": CRITICISM})
    trees = await searched(asked)
    made = refined(asked, trees)
    revised = [one for one in kept(made) if CRITICISM in injected(one)]
    assert revised
    for one in revised:
        assert one.variant == "full"
        turns = transcript_row(one)["completion"]
        assert [turn["role"] for turn in turns] == (["assistant", "user"] * injected(one).count(CRITICISM)) + [
            "assistant"
        ]
    alone = [one for one in kept(made) if any(removal.reason == "earlier_turn" for removal in one.removals)]
    assert alone
    for one in alone:
        assert one.variant == "pruned"
        assert not injected(one)
        assert CRITICISM not in one.text
        assert [turn["role"] for turn in transcript_row(one)["completion"]] == ["assistant"]
        assert [verdict.outcome for verdict in one.verdicts] == [Outcome.PASS, Outcome.PASS]
    for tree in trees:
        wrong = {leaf.id for leaf in tree.leaves() if leaf.outcome is Outcome.FAIL}
        assert {node.parent for node in tree.nodes if node.role == "user"} <= wrong
