"""Kill and resume: whatever dies at whatever moment, no problem is lost, none is there twice, and nothing stays behind.

The short form is part of every test run: the scripted engine, a few kills. The long form (`make soak`) kills twenty
times with the scripted engine and twenty times with the bundled teacher on vLLM, and writes what it saw to
`tests/bench/results/kill_resume.json`.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest

from tests.killing import ROOT, Figures, Victim, closed, kill_and_resume, owed

RESULTS = ROOT / "tests" / "bench" / "results" / "kill_resume.json"
KILLS = 20

SCRIPTED = """
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
"""A run of about fifteen seconds, with a shard several times a second."""


def endure(
    recipe: Path,
    folder: Path,
    victims: Iterable[Victim],
    latest: Mapping[Victim, float],
    sets: Iterable[str] = (),
) -> list[Figures]:
    """Run a recipe, and another one when it is done, until every victim was killed; each run is whole in the end."""
    queue, rng = deque(victims), random.Random(7)
    runs: list[Figures] = []
    options = [word for one in sets for word in ("--set", one)]
    while queue:
        out = folder / f"run{len(runs)}"
        command = ["run", str(recipe), "--out", str(out), *options]
        runs.append(kill_and_resume(command, out, queue, latest, rng, folder / f"logs{len(runs)}"))
        assert closed(out) == owed(recipe)
    return runs


def taking_turns(victims: Iterable[Victim], kills: int) -> list[Victim]:
    return list(itertools.islice(itertools.cycle(victims), kills))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(SCRIPTED)
    return path


@pytest.mark.ray
def test_a_run_survives_kills(recipe: Path, tmp_path: Path) -> None:
    victims = [Victim.DRIVER, Victim.WORKER, Victim.DRIVER_MID_SHARD, Victim.WORKER_MID_SHARD]
    runs = endure(recipe, tmp_path, victims, {Victim.DRIVER: 6.0, Victim.WORKER: 2.0})
    assert sum(run.kills.total() for run in runs) == len(victims)


# --- the long form


@pytest.mark.soak
@pytest.mark.ray
@pytest.mark.timeout(3600)
def test_a_run_survives_twenty_kills(recipe: Path, tmp_path: Path) -> None:
    victims = [
        Victim.DRIVER,
        Victim.WORKER,
        Victim.DRIVER_MID_SHARD,
        Victim.WORKER_MID_SHARD,
        Victim.DRIVER_MID_REFINE,
    ]
    runs = endure(recipe, tmp_path, taking_turns(victims, KILLS), {Victim.DRIVER: 12.0, Victim.WORKER: 6.0})
    save("scripted", runs)


@pytest.mark.soak
@pytest.mark.vllm
@pytest.mark.ray
@pytest.mark.timeout(7200)
def test_the_teacher_survives_twenty_kills(tmp_path: Path) -> None:
    victims = [
        Victim.DRIVER,
        Victim.WORKER,
        Victim.ENGINE,
        Victim.DRIVER_MID_SHARD,
        Victim.WORKER_MID_SHARD,
        Victim.DRIVER_MID_REFINE,
    ]
    latest = {Victim.DRIVER: 60.0, Victim.WORKER: 50.0, Victim.ENGINE: 30.0}
    demo = ROOT / "pipelines" / "demo.toml"
    runs = endure(demo, tmp_path, taking_turns(victims, KILLS), latest, ["run.flush_rows=16", "run.flush_seconds=2.0"])
    save("vllm", runs)


def save(engine: str, runs: list[Figures]) -> None:
    """Put the figures of one engine beside those of the other."""
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    result[engine] = figures(runs)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def figures(runs: list[Figures]) -> dict[str, Any]:
    gone = [seconds for run in runs for seconds in run.gone_seconds]
    replaced = [seconds for run in runs for seconds in run.replaced_seconds]
    return {
        "machine": machine(),
        "runs": len(runs),
        "invocations": sum(run.invocations for run in runs),
        "seconds": round(sum(run.seconds for run in runs)),
        "kills": dict(sum((run.kills for run in runs), Counter())),
        "driver_kills_with_an_uncommitted_file": sum(run.uncommitted for run in runs),
        "seconds_until_every_process_was_gone": spread(gone),
        "seconds_until_a_worker_was_replaced": spread(replaced),
        "problems": sum(run.problems for run in runs),
        "problems_lost": 0,  # or the test had failed
        "problems_twice": 0,
        "problems_given_more_than_once": sum(run.given_again for run in runs),
        "times_given": sum(run.given for run in runs),
        "tokens_committed": sum(run.tokens_committed for run in runs),
        "tokens_generated_at_least": sum(run.tokens_generated for run in runs),
    }


def spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(median(seconds), 2), "most": round(max(seconds), 2)} if seconds else {}


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Linux {platform.release()}, no GPU"
