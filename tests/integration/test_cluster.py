"""A run on a Ray cluster that is not its own: two nodes, each a tree of real daemons on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.killing import (
    END_SECONDS,
    RUN_SECONDS,
    START_SECONDS,
    TAKES,
    Invocation,
    closed,
    holds,
    in_session,
    lives,
    owed,
    title,
    until,
)

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

RECIPE = """
[source]
kind = "countdown"
count = 120
seed = 7

[engines.teacher]
kind = "scripted"
args = { seconds_per_token = 0.005, max_running = 16, record = false }

[search]
kind = "best_of_n"
n = 4

[run]
workers = 2
flush_seconds = 0.5
"""

CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

small = {"object_store_memory": 80 * 1024 * 1024}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
sys.stdin.read()
cluster.shutdown()
"""
"""A head without CPUs and two nodes with one each, until its standard input ends."""


@dataclass(frozen=True)
class Cluster:
    session: int
    address: str
    raylets: list[int]

    def workers(self) -> list[psutil.Process]:
        return [one for one in in_session(self.session) if "ray::WorkerActor" in title(one) and lives(one)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (tmp_path_factory.mktemp("cluster") / "err").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        yield Cluster(process.pid, told["address"], told["raylets"])
    finally:
        process.communicate(timeout=END_SECONDS)
        for one in in_session(process.pid):
            one.kill()


def test_a_run_of_its_own_beside_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """A cluster on the same machine is not joined unless the recipe says so."""
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE)
    command = ["-v", "run", str(recipe), "--out", str(out), "--set", "source.count=8"]
    with Invocation(command, tmp_path / "log") as run:
        own = until(lambda: run.status is not None or run.find("ray::WorkerActor"), START_SECONDS, "a worker")
        assert isinstance(own, psutil.Process), run.tail()
        assert run.wait() == 0, run.tail()
        run.gone()
    assert closed(out) == owed(recipe, "source.count=8")


def test_a_cluster_outlives_its_drivers_and_a_run_its_nodes(cluster: Cluster, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE)
    command = ["-v", "run", str(recipe), "--out", str(out)]
    address = ["--set", f"run.address={cluster.address}"]

    with Invocation([*command, *address], tmp_path / "first") as run:
        until(lambda: list(out.glob("rollouts/*.json")) or run.status is not None, START_SECONDS, "a shard")
        workers = cluster.workers()
        assert workers
        run.leader.kill()
        run.gone()
        until(lambda: not any(map(lives, workers)), END_SECONDS, "the end of the workers of a dead driver")
    assert psutil.pid_exists(cluster.raylets[0])
    assert psutil.pid_exists(cluster.raylets[1])
    holds(out)

    # As a Ray job is told where it runs.
    with Invocation(command, tmp_path / "second", env={"RAY_ADDRESS": cluster.address}) as run:
        until(
            lambda: run.status is not None or len({name for name, _ in TAKES.findall(run.stderr)}) == 2,
            START_SECONDS,
            f"two workers at work: {run.tail()}",
        )
        assert run.status is None, run.tail()
        psutil.Process(cluster.raylets[0]).kill()
        assert run.wait(RUN_SECONDS) == 0, run.tail()
        run.gone()
    assert run.stdout.startswith("finished")
    assert closed(out) == owed(recipe)
    holds(out)
