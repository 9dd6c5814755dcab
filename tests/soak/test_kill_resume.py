"""Kill and resume: whatever dies at whatever moment, no problem is lost, none is there twice, and nothing stays behind.

The short form is part of every test run: the scripted engine, a few kills. The long form (`make soak`) kills twenty
times with the scripted engine and twenty times with the bundled teacher on vLLM, and writes what it saw to
`tests/bench/results/kill_resume.json`.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import pytest

from factory.config import load_recipe
from factory.shards import iter_sidecars
from factory.store import Store
from pipelines import build
from tests.killing import Figures, Victim, kill_and_resume

SLOW = """
[source]
kind = "countdown"
count = 300
seed = 7

[engines.teacher]
kind = "scripted"
args = { seconds_per_token = 0.004, max_running = 64, record = false }

[search]
kind = "best_of_n"
n = 8
wave = 4
stop_at = 2

[run]
workers = 1
flush_rows = 8
flush_seconds = 0.5
"""


def torture(
    recipe: Path, folder: Path, victims: list[Victim], latest: dict[Victim, float], *overrides: str
) -> list[Figures]:
    """Runs of a recipe until every victim was killed; each is whole in the end."""
    queue, rng, runs = deque(victims), random.Random(7), []
    while queue:
        out = folder / f"run{len(runs)}"
        command = ["run", recipe, "--out", out, *(word for one in overrides for word in ("--set", one))]
        runs.append(kill_and_resume(command, out, queue, latest, rng, folder / f"logs{len(runs)}"))
        assert committed(out) == expected(recipe, overrides)
    return runs


def committed(out: Path) -> list[str]:
    """Every committed problem, as often as it is committed."""
    return sorted(
        entry.problem_id for sidecar in iter_sidecars(Store(str(out)), "rollouts") for entry in sidecar.entries
    )


def expected(recipe: Path, overrides: tuple[str, ...]) -> list[str]:
    return sorted(item.id for item in build.source(load_recipe(recipe, overrides)))


@pytest.mark.ray
def test_a_run_survives_kills(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(SLOW)
    victims = [Victim.DRIVER, Victim.WORKER, Victim.DRIVER_MID_SHARD, Victim.WORKER_MID_SHARD]
    runs = torture(recipe, tmp_path, victims, {Victim.DRIVER: 6.0, Victim.WORKER: 2.0})
    print(runs)
    assert sum(run.kills.total() for run in runs) == len(victims)
