"""What a reward model learns from: the worth of each step in a tree, at the token where the step ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from factory.types import Aspect, Node, NodeState, Outcome, Verdict
from pipelines.rewards.train import NOWHERE, Reader, ends, values
from tests.rig import problem
from tests.unit.run_folders import DETOURED, RIGHT, WRONG, searched, step, tree, write_run
from tests.unit.run_folders import problem as countdown

SCRIPT = Path(__file__).parents[2] / "pipelines" / "rewards" / "train.py"
TEACHER = "pipelines/teachers/countdown"


def leaf(id: int, parent: int, text: str, outcome: Outcome) -> Node:
    verdict = Verdict("hand", "1", Aspect.ANSWER, outcome, None, "", 0.0)
    return step(id, parent, text, state=NodeState.FINISHED, verdicts=(verdict,))


BRANCHED = searched(
    problem(1),
    [
        step(1, 0, "a\n"),
        step(2, 1, "b\n"),
        leaf(3, 1, "c\nd", Outcome.PASS),
        leaf(4, 2, "e", Outcome.FAIL),
        leaf(5, 2, "f", Outcome.UNKNOWN),
        step(6, 2, "g\nh", state=NodeState.TRUNCATED),
        step(7, 1, "i\n"),
    ],
)


def test_a_step_is_worth_the_share_of_right_leaves_below_it() -> None:
    """What nobody could judge says nothing; what was cut is not right; a step without leaves has no worth."""
    assert values(BRANCHED) == {1: pytest.approx(1 / 3), 2: 0.0, 3: 1.0, 4: 0.0, 6: 0.0}


def test_worth_stands_where_steps_end_and_at_the_end() -> None:
    third = pytest.approx(1 / 3)
    assert list(ends(BRANCHED, "\n")) == [
        ("a\nc\nd", {2: third, 4: 1.0, 5: 1.0}),
        ("a\nb\ne", {2: third, 4: 0.0, 5: 0.0}),
        ("a\nb\nf", {2: third, 4: 0.0}),
        ("a\nb\ng\nh", {2: third, 4: 0.0, 6: 0.0, 7: 0.0}),
    ]


def test_labels_stand_at_the_tokens_that_end_a_step() -> None:
    asked = countdown("one")
    (row, other) = Reader(TEACHER, "\n", 512).rows([tree(asked, [RIGHT, WRONG])])
    assert row["input_ids"][: len(row["labels"])] == row["input_ids"]
    newlines = [place for place, id in enumerate(row["input_ids"]) if id == 7 and row["labels"][place] != NOWHERE]
    assert len(newlines) == RIGHT.count("\n")
    assert {label for label in row["labels"] if label != NOWHERE} == {1.0}
    assert row["labels"][-1] == 1.0
    assert {label for label in other["labels"] if label != NOWHERE} == {0.0}
    assert row["held_out"] == other["held_out"]


def test_what_does_not_fit_into_the_context_is_cut() -> None:
    (row,) = Reader(TEACHER, "\n", 20).rows([tree(countdown("one"), [RIGHT])])
    assert len(row["input_ids"]) == len(row["labels"]) == 20


def test_a_model_is_trained_and_written_with_its_figures(tmp_path: Path) -> None:
    trees = [tree(countdown(f"problem {number}"), [RIGHT, DETOURED, WRONG]) for number in range(24)]
    write_run(tmp_path / "run", [trees])
    command = [sys.executable, str(SCRIPT), str(tmp_path / "run"), "--model", TEACHER, "--out", str(tmp_path / "out")]
    more = ["--step", r"\n", "--rate", "3e-4", "--epochs", "6", "--batch", "8"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }
    told = json.loads((tmp_path / "out" / "reward.json").read_text())
    assert told["held_out"]["auroc"] > 0.6
    assert told["held_out"]["brier"] < told["held_out"]["brier_of_their_mean"]
