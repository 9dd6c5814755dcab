"""`factory left`: what a run leaves over is the next run's source, under the same ids."""

import json
from pathlib import Path

import pytest

from factory.errors import ConfigError
from factory.sources.files import JsonlSource
from factory.sources.games import CountdownSource
from factory.types import Problem, StopReason
from pipelines.left import left
from tests.unit import run_folders as make
from tests.unit.run_folders import CUT, WRONG

PROBLEMS = list(CountdownSource(count=9, seed=1))
"""Those of the run's recipe."""
FATES = {
    0: StopReason.SOLVED,
    1: StopReason.EXHAUSTED,
    2: StopReason.GIVEN_UP,
    3: StopReason.CAPPED,
    4: StopReason.CAPPED,
    5: StopReason.ERROR,
}
"""Of the first problems; the fifth was capped and is solved, the others are owed."""


def right(problem: Problem) -> str:
    return f"<think>\ndone\n</think>\nanswer {problem.reference}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    trees = [
        make.failed(PROBLEMS[number], "EngineError: down")
        if stop is StopReason.ERROR
        else make.tree(PROBLEMS[number], [right(PROBLEMS[number]) if number in {0, 4} else WRONG, CUT], stop=stop)
        for number, stop in FATES.items()
    ]
    unreadable = Problem("f" * 20, messages=(), reference=None, checks=(), source="")
    trees.append(make.failed(unreadable, "SourceError: line 7: not JSON"))
    return make.write_run(tmp_path_factory.mktemp("run"), [trees[:3], trees[3:]], refined=False)


def named(run: str, *why: str) -> set[tuple[str, str]]:
    lines = [line.split() for line in left(run, why, names=True)]
    assert len(lines) == len({id for id, _ in lines})
    return {(id, reason) for id, reason in lines}


def ids(*numbers: int) -> set[str]:
    return {PROBLEMS[number].id for number in numbers}


def test_every_problem_without_a_right_answer_is_named_once_with_its_reason(run: str) -> None:
    reasons = {1: "exhausted", 2: "given_up", 3: "capped", 5: "error", 6: "owed", 7: "owed", 8: "owed"}
    expected = {(PROBLEMS[number].id, reason) for number, reason in reasons.items()}
    assert named(run) == expected | {("f" * 20, "error")}
    assert named(run, "capped", "given_up") == {one for one in expected if one[1] in {"capped", "given_up"}}
    assert named(run, "owed") == {one for one in expected if one[1] == "owed"}


def test_the_lines_are_the_same_problems(run: str, tmp_path: Path) -> None:
    file = tmp_path / "next.jsonl"
    file.write_text("".join(f"{line}\n" for line in left(run, [], names=False)))
    found = {one.id: one for one in JsonlSource((str(file),)) if isinstance(one, Problem)}
    assert found.keys() == ids(1, 2, 3, 5, 6, 7, 8), "what was never a problem is not one now"
    for before in (PROBLEMS[number] for number in (6, 7, 8)):
        after = found[before.id]
        assert (after.messages, after.reference, after.checks) == (before.messages, before.reference, before.checks)
        assert after.metadata == json.loads(json.dumps(dict(before.metadata)))


def test_a_reason_that_is_none_is_refused(run: str) -> None:
    with pytest.raises(ConfigError, match="--why solved: there are: owed, exhausted"):
        list(left(run, ["solved"], names=True))
