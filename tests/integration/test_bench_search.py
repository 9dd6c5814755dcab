"""A bench of strategies through the real command line: its runs, its files, and that nothing is paid for twice."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from factory.runs import open_run
from factory.types import Tree
from tests.killing import Ended, closed, factory, given, holds

pytestmark = pytest.mark.ray

RECIPE = """
[source]
kind = "countdown"
count = 30
seed = 7

[engines.teacher]
kind = "scripted"
args = { solve_rate = 0.3, record = false }

[search]
kind = "best_of_n"

[run]
workers = 1
"""
BENCH = """
recipe = "recipe.toml"

[difficulty]
attempts = 4

[strategies.best_of_n]
search = { kind = "best_of_n" }
budgets = [{ n = 1 }, { n = 2 }, { n = 4 }]

[strategies.one_by_one]
search = { kind = "best_of_n", wave = 1, stop_at = 1 }
budgets = [{ n = 8 }]
"""


def bench(folder: Path, *options: str) -> Ended:
    path, out = folder / "bench.toml", folder / "out"
    return factory("-v", "bench", "search", path, "--out", out, *options, log=folder / "log", seconds=600.0)


def texts(tree: Tree) -> list[str]:
    return sorted(node.text for node in tree.leaves())


def test_a_bench_is_run_once_and_told_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "bench.toml").write_text(BENCH)
    first = bench(tmp_path, "--json")
    assert first.status == 0, first.stderr
    runs = tmp_path / "out" / "runs"
    assert {path.name for path in runs.iterdir()} == {"difficulty", "best_of_n-n=4", "one_by_one-n=8"}
    assert len(given(first.stderr)) == 3 * 30
    for run in runs.iterdir():
        assert len(closed(run)) == 30
        holds(run)
        assert not (run / "transcripts").exists(), "a bench needs none"

    table = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert json.loads(first.stdout) == {"files": json.loads(first.stdout)["files"]} | table
    assert table["problems"] == 30
    whole = next(one for one in table["points"] if (one["strategy"], one["budget"]) == ("best_of_n", "n=4"))
    trees = {tree.problem.id: tree for tree in open_run(str(runs / "best_of_n-n=4")).rollouts()}
    solved = [any(node.outcome == "pass" for node in tree.nodes) for tree in trees.values()]
    assert whole["coverage"][0] == pytest.approx(sum(solved) / 30, abs=1e-4)
    tokens = sum(tree.cost.generated_tokens for tree in trees.values())
    assert whole["tokens_per_problem"][0] == pytest.approx(tokens / 30, abs=1e-4)
    assert set(table["curves"]["coverage"]["strategies"]) == {"best_of_n", "one_by_one"}
    assert set(table["curves"]["accuracy"]["strategies"]) == {"best_of_n majority"}
    assert sum(table["difficulty"]["problems"].values()) == 30

    other = {tree.problem.id: tree for tree in open_run(str(runs / "difficulty")).rollouts()}
    assert any(texts(other[id]) != texts(tree) for id, tree in trees.items()), "difficulty is of attempts of its own"

    page = (tmp_path / "out" / "bench.html").read_text()
    assert "one_by_one" in page
    assert not re.search(r"<script[^>]*\ssrc=|<link\b|@import", page)
    assert (tmp_path / "out" / "bench.png").stat().st_size > 20_000

    again = bench(tmp_path)
    assert again.status == 0, again.stderr
    assert given(again.stderr) == []
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == table
    assert "with a verifier: coverage" in again.stdout
    assert "not here: one_by_one, which stops at right answers" in again.stdout

    other_run = bench(tmp_path, "--set", "overrides.sampling.temperature=0.5")
    assert other_run.status == 2
    assert "sampling.temperature: stored 1.0, now 0.5" in other_run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("bench_toml", "said"),
    [
        (BENCH.replace("recipe.toml", "other.toml"), "no recipe at"),
        (BENCH.replace("{ n = 4 }", "{ width = 4 }"), "strategies.best_of_n: budgets.2: unknown key search.width"),
        (BENCH.replace("budgets = [{ n = 8 }]", "budgets = []"), "strategies.one_by_one.budgets: List should have"),
        (BENCH.replace("[strategies.one_by_one]", "[strategies.one_by_one]\nserach = 1"), "did you mean search?"),
    ],
)
def test_a_mistake_costs_one_line_and_starts_nothing(tmp_path: Path, bench_toml: str, said: str) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "bench.toml").write_text(bench_toml)
    found = bench(tmp_path)
    assert (found.status, found.stdout, len(found.stderr.splitlines())) == (2, "", 1)
    assert said in found.stderr
    assert not (tmp_path / "out").exists()
