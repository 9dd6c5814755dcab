"""Runs through the real command line on a real local Ray, with the scripted engine: begin, stop, go on, do nothing.

What a run pays is what its driver counted (the last `tokens` on stderr), what it keeps is what its sidecars say: where
every problem gets all its attempts, the two are equal, or a finished generation was paid twice or lost.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import duckdb
import pyarrow.parquet as pq
import pytest

from factory.card import read_card
from factory.lease import latest
from factory.runs import open_run
from factory.shards import problem_states, sidecars
from factory.store import Store
from tests.killing import (
    START_SECONDS,
    TAKES,
    Ended,
    Invocation,
    closed,
    factory,
    given,
    holds,
    kept,
    owed,
    paid,
    see_uncommitted,
    until,
)

pytestmark = pytest.mark.ray

RECIPE = """
[source]
kind = "countdown"
count = 24
seed = 7

[engines.teacher]
kind = "scripted"
args = { record = false }

[search]
kind = "best_of_n"
n = 6
wave = 2

[run]
workers = 1
"""
SLOW = "engines.teacher.args={ seconds_per_token = 0.006, max_running = 24, record = false }"
"""One or two seconds an attempt, twelve problems at once: there is time to stop it, and something to lose."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def arguments(recipe: Path, sets: Iterable[str], *options: str) -> list[str | Path]:
    words = [word for one in sets for word in ("--set", one)]
    return ["-v", "run", recipe, "--out", recipe.parent / "out", *words, *options]


def run(recipe: Path, *sets: str, options: Iterable[str] = ()) -> Ended:
    return factory(*arguments(recipe, sets, *options), log=recipe.parent / "log")


def out_of(recipe: Path) -> Path:
    return recipe.parent / "out"


def statuses(out: Path) -> Counter[str]:
    states = problem_states(sidecars(Store(str(out)), "rollouts"))
    return Counter(str(state.status) for state in states.values())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def loaded(out: Path, *config: str) -> list[dict[str, Any]]:
    """The rows that `datasets.load_dataset` gives a user."""
    found = datasets.load_dataset(str(out), *config, split="train", cache_dir=str(out.parent / "cache"))
    return sorted(found.to_list(), key=lambda row: str(row["id"]))


def committed_rows(out: Path, table: str) -> list[dict[str, Any]]:
    rows = [row for path in open_run(str(out)).paths(table) for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: str(row["id"]))


# --- from start to end


def test_a_run_and_what_can_be_done_with_it(recipe: Path) -> None:
    out = out_of(recipe)

    plan = run(recipe, options=["--dry-run"])
    assert plan.status == 0, plan.stderr
    assert json.loads(plan.stdout)["recipe"]["source"]["count"] == 24
    assert not out.exists()

    first = run(recipe, options=["--json"])
    assert first.status == 0, first.stderr
    summary = json.loads(first.stdout)
    assert (summary["ended"], summary["did_nothing"], summary["problems"]) == ("finished", False, 24)
    assert closed(out) == owed(recipe)
    assert sorted(given(first.stderr)) == sorted(closed(out))
    assert paid(first.stderr) == kept(out) == summary["tokens"]
    holds(out)

    found = factory("check", out, "--json", log=out.parent / "log")
    assert (found.status, json.loads(found.stdout)["ok"]) == (0, True)
    for command in ("stats", "show"):
        told = factory(command, out, "--json", log=out.parent / "log")
        assert told.status == 0, told.stderr
        assert isinstance(json.loads(told.stdout), dict)

    readers_agree(out, summary)

    before = files(out)
    again = run(recipe)
    assert again.status == 0, again.stderr
    assert "nothing was owed" in again.stdout
    assert given(again.stderr) == []
    assert files(out) == before
    assert again.seconds < first.seconds

    more = run(recipe, "source.count=36")
    assert more.status == 0, more.stderr
    assert "other settings than before" in more.stderr
    assert set(given(more.stderr)) == owed(recipe, "source.count=36") - owed(recipe)
    assert len(given(more.stderr)) == 12
    assert closed(out) == owed(recipe, "source.count=36")
    holds(out)

    refinements(recipe, out)


def readers_agree(out: Path, summary: dict[str, Any]) -> None:
    """What `load_dataset` and DuckDB see is what is committed."""
    for table, config in (("transcripts", ()), ("rejected", ("rejected",))):
        rows = committed_rows(out, table)
        assert rows
        assert loaded(out, *config) == rows
    opened = open_run(str(out))
    rollouts = duckdb.read_parquet(opened.paths("rollouts"))
    figures = rollouts.aggregate("count(*), count(*) FILTER (solved), sum(cost.generated_tokens)").fetchall()
    assert figures == [(summary["problems"], summary["solved"], summary["tokens"])]
    for table, column, counts in (("transcripts", "variant", "kept"), ("rejected", "rejection", "rejected")):
        grouped = duckdb.read_parquet(opened.paths(table)).aggregate(f"{column}, count(*)").fetchall()
        assert dict(grouped) == summary[counts]


def refinements(recipe: Path, out: Path) -> None:
    """Another refinement stands beside the first one, and the card switches; the same run switches it back."""
    store = Store(str(out))
    old = read_card(store)
    assert old is not None
    before = {path: data for path, data in files(out).items() if path.startswith(("rollouts/", "transcripts/"))}

    only = factory("refine", out, "--set", 'prune.variants=["full"]', "--json", log=out.parent / "log")
    assert only.status == 0, only.stderr
    assert set(json.loads(only.stdout)["kept"]) == {"full"}
    new = read_card(store)
    assert new is not None
    assert new.refinement != old.refinement
    assert before.items() <= files(out).items()
    assert sum(pq.read_table(out / path).num_rows for path in old.transcripts) > 0
    assert {row["variant"] for row in loaded(out)} == {"full"}
    assert loaded(out) == committed_rows(out, "transcripts")
    holds(out)

    back = run(recipe, "source.count=36")
    assert back.status == 0, back.stderr
    assert given(back.stderr) == []
    assert read_card(store) == old
    holds(out)


def test_two_workers_share_a_run(recipe: Path) -> None:
    ended = run(recipe, "run.workers=2", SLOW.replace("0.006", "0.002"))
    assert ended.status == 0, ended.stderr
    takers = {name for name, _ in TAKES.findall(ended.stderr)}
    assert takers == {"w000r000", "w001r000"}
    assert sorted(given(ended.stderr)) == sorted(owed(recipe))
    assert paid(ended.stderr) == kept(out_of(recipe))
    holds(out_of(recipe))


def test_a_worker_whose_engine_dies_is_replaced_and_nothing_is_paid_twice(recipe: Path) -> None:
    ended = run(recipe, "engines.teacher.args={ die_after = 60, max_running = 8, record = false }")
    assert ended.status == 0, ended.stderr
    takers = {name for name, _ in TAKES.findall(ended.stderr)}
    assert len(takers) == 3  # 144 attempts
    assert closed(out_of(recipe)) == owed(recipe)
    assert paid(ended.stderr) == kept(out_of(recipe))
    assert ended.stdout.startswith("finished")
    holds(out_of(recipe))


def test_errors_are_closed_until_they_are_retried(recipe: Path) -> None:
    out = out_of(recipe)
    sets = ("engines.teacher.args={ fail_every = 13, record = false }", "run.tries=1")
    first = run(recipe, *sets)
    assert first.status == 0, first.stderr
    errors = statuses(out)["error"]
    assert 0 < errors < 24
    failed = {id for id, state in open_run(str(out)).problem_states().items() if state.status == "error"}

    again = run(recipe, *sets)
    assert (again.status, given(again.stderr)) == (0, [])

    retried = run(recipe, *sets, options=["--retry-errors"])
    assert retried.status == 0, retried.stderr
    assert set(given(retried.stderr)) == failed
    assert statuses(out)["error"] < errors
    assert closed(out) == owed(recipe)
    states = open_run(str(out)).problem_states()
    assert any(states[id].status != "error" for id in failed)
    assert len(list(open_run(str(out)).rollouts())) == 24
    holds(out)


# --- stopping


def test_a_cap_stops_in_order_and_a_higher_one_goes_on(recipe: Path) -> None:
    out = out_of(recipe)
    capped = run(recipe, SLOW, "budget.tokens=6000", options=["--json"])
    assert capped.status == 4, capped.stderr
    assert json.loads(capped.stdout)["ended"] == "capped"
    holds(out)
    assert sidecars(Store(str(out)), "journal")

    before = files(out)
    same = run(recipe, SLOW, "budget.tokens=6000")
    assert (same.status, given(same.stderr)) == (4, [])
    assert {path for path in before if path.startswith("rollouts/")} == {
        path for path in files(out) if path.startswith("rollouts/")
    }

    done = closed(out)
    higher = run(recipe, SLOW, "budget.tokens=1000000")
    assert higher.status == 0, higher.stderr
    assert set(given(higher.stderr)) == owed(recipe) - done
    assert closed(out) == owed(recipe)
    assert paid(capped.stderr) + paid(higher.stderr) == kept(out)
    assert not sidecars(Store(str(out)), "journal")
    holds(out)


def at_work(call: Invocation, out: Path) -> None:
    """Wait until something is committed and more is in flight."""
    until(
        lambda: call.status is not None or list(out.glob("rollouts/*.json")), START_SECONDS, f"a shard: {call.tail()}"
    )
    assert call.status is None, call.tail()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_in_order(recipe: Path, number: signal.Signals) -> None:
    out, sets = out_of(recipe), (SLOW, "run.flush_seconds=0.5")
    with Invocation(arguments(recipe, sets), out.parent / "first") as call:
        at_work(call, out)
        if number is signal.SIGINT:
            call.send(number)  # as a terminal does: to the whole group
        else:
            os.kill(call.pid, number)
        assert call.wait(60) == 130, call.tail()
        call.gone()
    assert "interrupted" in call.stdout
    assert "Traceback" not in call.stderr
    lease = latest(Store(str(out)))
    assert lease is not None
    assert lease.released
    assert sidecars(Store(str(out)), "journal")
    holds(out)

    done = closed(out)
    assert 0 < len(done) < 24
    resumed = run(recipe, *sets)
    assert resumed.status == 0, resumed.stderr
    assert sorted(given(resumed.stderr)) == sorted(owed(recipe) - done)
    assert closed(out) == owed(recipe)
    assert paid(call.stderr) + paid(resumed.stderr) == kept(out)
    holds(out)


def test_a_second_signal_stops_at_once(recipe: Path) -> None:
    """Also when a worker answers no more, and an end in order would wait for it for minutes."""
    out = out_of(recipe)
    with Invocation(arguments(recipe, [SLOW, "run.flush_seconds=0.5"]), out.parent / "log") as call:
        at_work(call, out)
        worker = call.find("ray::WorkerActor")
        assert worker is not None
        worker.suspend()
        call.send(signal.SIGINT)
        until(lambda: "once more stops at once" in call.stderr, 30, f"an answer to the first: {call.tail()}")
        assert call.status is None
        call.send(signal.SIGINT)
        assert call.wait(5) == 130
        call.gone()
    assert "stopped at once" in call.stderr
    holds(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_ray_starts(recipe: Path, number: signal.Signals) -> None:
    with Invocation(arguments(recipe, []), recipe.parent / "log") as call:
        until(lambda: call.find("gcs_server"), START_SECONDS, f"Ray: {call.tail()}")
        os.kill(call.pid, number)
        assert call.wait(30) == 130, call.tail()
        call.gone()
    assert "Traceback" not in call.stderr, call.tail()
    assert not out_of(recipe).exists()


def test_a_signal_while_it_refines(recipe: Path) -> None:
    """The search is over and nothing of it is lost; the transcripts are made when it goes on."""
    out, sets = out_of(recipe), ("source.count=150", "run.flush_rows=8")
    with Invocation(arguments(recipe, sets), recipe.parent / "first") as call:
        assert see_uncommitted(call, out, "transcripts/*"), call.tail()
        os.kill(call.pid, signal.SIGTERM)
        assert call.wait(30) == 130, call.tail()
        call.gone()
    assert "Traceback" not in call.stderr, call.tail()
    lease = latest(Store(str(out)))
    assert lease is not None
    assert lease.released
    assert closed(out) == owed(recipe, "source.count=150")
    holds(out)

    resumed = run(recipe, *sets)
    assert (resumed.status, given(resumed.stderr)) == (0, []), resumed.stderr
    assert "are not in the current refinement" not in factory("check", out, log=out.parent / "log").stdout
    holds(out)
