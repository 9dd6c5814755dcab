"""A run whose beam search a reward model guides, through the command line and a real Ray, on scripted engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory.runs import open_run
from factory.types import NodeState
from tests.killing import Ended, factory, holds

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TEACHER = 'kind = "scripted"\nargs = { record = false, slip_rate = 0.4 }\n'
REWARD = 'kind = "scripted"\nargs = { record = false, script = "chances", rewards = true }\n'
BEAM = 'kind = "beam"\nwidth = 2\nbranch = 2\nstep_stop = ["\\n"]\n'


def run(folder: Path, reward: str = REWARD, out: str = "out", more: str = "") -> Ended:
    path = folder / "recipe.toml"
    path.write_text(
        f'[source]\nkind = "countdown"\ncount = 6\nseed = 3\n[engines.teacher]\n{TEACHER}[engines.reward]\n{reward}'
        f'[search]\n{BEAM}[scorer]\nkind = "reward"\n{more}[run]\nworkers = 1\n'
    )
    return factory("run", path, "--out", folder / out, log=folder / "log")


def stats(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(factory("stats", folder / "out", "--json", log=folder / "log").stdout)
    return found


def test_a_reward_model_scores_every_step_and_what_it_reads_is_counted(tmp_path: Path) -> None:
    ended = run(tmp_path)
    assert ended.status == 0, ended.stderr
    holds(tmp_path / "out")
    trees = list(open_run(str(tmp_path / "out")).rollouts())
    assert len(trees) == 6
    steps = [node for tree in trees for node in tree.nodes if node.state is NodeState.OPEN]
    assert len({node.score for node in steps}) > len(steps) / 2
    assert all(node.score is not None and 0.0 <= node.score <= 1.0 for node in steps)
    read = sum(node.scoring.prompt_tokens for node in steps if node.scoring is not None)
    assert (
        read
        == sum(tree.cost.scoring_prompt_tokens for tree in trees)
        == stats(tmp_path)["cost"]["scoring_prompt_tokens"]
    )
    assert read > 0
    assert run(tmp_path, out="again").status == 0
    again = {tree.problem.id: tree for tree in open_run(str(tmp_path / "again")).rollouts()}
    assert [[node.score for node in again[tree.problem.id].nodes] for tree in trees] == [
        [node.score for node in tree.nodes] for tree in trees
    ]


def test_a_reward_model_in_trouble_gives_no_guess_and_the_run_goes_on(tmp_path: Path) -> None:
    ended = run(tmp_path, REWARD.replace("true }", "true, fail_every = 1 }"))
    assert ended.status == 0, ended.stderr
    holds(tmp_path / "out")
    trees = list(open_run(str(tmp_path / "out")).rollouts())
    assert {node.score for tree in trees for node in tree.nodes} == {None}
    assert sum(len(list(tree.leaves())) for tree in trees) > 0


@pytest.mark.parametrize(
    ("reward", "more", "said"),
    [
        (REWARD.replace("rewards = true", "rewards = false"), "", "'reward' is no reward model"),
        (REWARD, 'engine = "prm"\n', "there is no [engines.prm]"),
        (REWARD, "labels = 1\n", "did you mean label?"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(tmp_path: Path, reward: str, more: str, said: str) -> None:
    ended = run(tmp_path, reward, more=more)
    assert ended.status == 2
    assert said in ended.stderr
    assert not (tmp_path / "out").exists()
