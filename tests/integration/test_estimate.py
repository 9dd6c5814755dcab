"""A forecast through the real command line, and the run that goes on from its pilot."""

import json
import tempfile
from pathlib import Path

import pytest

from factory.runs import open_run
from tests.killing import closed, factory, given, holds, kept, owed, paid

pytestmark = pytest.mark.ray

RECIPE = """
[source]
kind = "countdown"
count = 120
seed = 7

[engines.teacher]
kind = "scripted"
args = { solve_rate = 0.3, record = false, max_running = 8 }

[search]
kind = "best_of_n"
n = 6
wave = 2
stop_at = 1

[budget]
token_price = 2.0

[run]
workers = 1
"""


def test_a_pilot_is_the_beginning_of_the_run_that_it_forecasts(tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE)
    arguments: list[str | Path] = ["-v", "estimate", recipe, "--out", out, "--pilot", "24", "--json"]
    pilot = factory(*arguments, log=tmp_path / "log")
    assert pilot.status == 0, pilot.stderr
    forecast = json.loads(pilot.stdout)
    assert (forecast["problems"], forecast["pilot"]) == (120, 24)
    assert len(closed(out)) == 24
    assert "is the beginning of the run" in " ".join(forecast["notes"])

    again = factory(*arguments, log=tmp_path / "log")
    assert again.status == 0, again.stderr
    assert given(again.stderr) == []
    assert json.loads(again.stdout)["tokens"] == forecast["tokens"]

    whole = factory("-v", "run", recipe, "--out", out, log=tmp_path / "log")
    assert whole.status == 0, whole.stderr
    assert closed(out) == owed(recipe)
    assert len(given(whole.stderr)) == 96
    assert paid(pilot.stderr) + paid(whole.stderr) >= kept(out)
    holds(out)

    trees = list(open_run(str(out)).rollouts())
    solved = sum(tree.stop == "solved" for tree in trees)
    # This script, seed and draw: nothing here is left to chance but seconds.
    assert forecast["tokens"]["low"] <= sum(tree.cost.generated_tokens for tree in trees) <= forecast["tokens"]["high"]
    assert forecast["solved"]["low"] <= solved <= forecast["solved"]["high"]
    assert forecast["money"]["value"] == pytest.approx(forecast["tokens"]["value"] * 2e-6, rel=0.01)
    assert forecast["seconds"]["value"] > 0


def test_a_pilot_without_a_folder_leaves_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    before = set(Path(tempfile.gettempdir()).glob("factory-pilot-*"))
    told = factory("estimate", recipe, "--pilot", "8", log=tmp_path / "log")
    assert told.status == 0, told.stderr
    assert "120 problems, from a pilot of 8; in brackets 80% intervals:" in told.stdout
    assert set(Path(tempfile.gettempdir()).glob("factory-pilot-*")) <= before


def test_a_cap_within_the_pilot_is_told(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    told = factory("estimate", recipe, "--pilot", "8", "--set", "budget.tokens=50", log=tmp_path / "log")
    assert told.status == 2, told.stderr
    assert "[budget] ends the run within the pilot" in told.stderr
