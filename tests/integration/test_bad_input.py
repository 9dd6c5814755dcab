"""A user's mistake costs one line that says what to do, and nothing else: no traceback, no file, no engine.

Every case goes through the real command line in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from factory.shards import iter_sidecars
from factory.store import Store
from tests.killing import START_SECONDS, Ended, Invocation, factory, holds, until

SCRIPTED = '[engines.teacher]\nkind = "scripted"\n[search]\nkind = "best_of_n"\nn = 2\n'
COUNTDOWN = '[source]\nkind = "countdown"\ncount = 3\nseed = 7\n'

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")


def write(folder: Path, recipe: str = COUNTDOWN + SCRIPTED) -> Path:
    path = folder / "recipe.toml"
    path.write_text(recipe)
    return path


def run(recipe: Path, out: Path | str, *options: str) -> Ended:
    return factory("run", recipe, "--out", out, *options, log=recipe.parent / "log")


def refused(ended: Ended, *parts: str, status: int = 2) -> None:
    """One line, with these parts; nothing on stdout."""
    assert ended.status == status, ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("factory: ")
    for part in parts:
        assert part in lines[0]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def line(number: int, **changes: Any) -> str:
    """A line of a file of problems: a Countdown problem that was made for its number."""
    one, two, three = 1 + number % 29, 2 + number // 29, 7
    row = {
        "prompt": f"make {one + two + three} from {one} {two} {three}",
        "reference": f"{one} + {two} + {three}",
        "checks": [{"verifier": "countdown", "params": {"numbers": [one, two, three], "target": one + two + three}}],
    }
    return json.dumps(row | changes)


def from_file(folder: Path, lines: Sequence[str]) -> Path:
    """A recipe that reads these lines."""
    (folder / "problems.jsonl").write_text("".join(f"{one}\n" for one in lines))
    source = f'[source]\nkind = "jsonl"\nfiles = ["{folder}/problems.jsonl"]\n'
    return write(folder, source + SCRIPTED)


# --- recipes


def test_a_missing_recipe(tmp_path: Path) -> None:
    refused(run(tmp_path / "none.toml", tmp_path / "out"), "no recipe at", "none.toml", "give the path")
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_is_no_toml(tmp_path: Path) -> None:
    refused(run(write(tmp_path, "[source\n"), tmp_path / "out"), "not a readable TOML recipe", "line 1")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("recipe", "options", "parts"),
    [
        (COUNTDOWN + SCRIPTED + "wafe = 4\n", (), ("unknown key search.wafe", "did you mean wave?")),
        ("sorce = 3\n" + COUNTDOWN + SCRIPTED, (), ("unknown key sorce", "did you mean source?")),
        (COUNTDOWN + SCRIPTED, ("--set", "run.wokers=2"), ("unknown key run.wokers", "did you mean workers?")),
        (COUNTDOWN + SCRIPTED, ("--set", "search.n"), ("--set 'search.n'", "write it as a.b=value")),
        (COUNTDOWN + SCRIPTED, ("--set", "search.n.x=1"), ("search.n.x", "not a table")),
        (COUNTDOWN + SCRIPTED, ("--set", "search.n=0"), ("search.n", "greater than or equal to 1")),
        (COUNTDOWN + SCRIPTED, ("--set", "search.n=many"), ("search.n", "integer")),
        (COUNTDOWN.replace("seed = 7", ""), (), ("engines", "required")),
        (COUNTDOWN + SCRIPTED, ("--set", "engines.teacher.args={solve_rat=1.0}"), ("solve_rat", "did you mean")),
    ],
    ids=["key", "section", "set key", "set form", "set path", "range", "type", "missing", "engine argument"],
)
def test_a_recipe_that_cannot_work(
    tmp_path: Path, recipe: str, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused(run(write(tmp_path, recipe), tmp_path / "out", *options), *parts)
    assert not (tmp_path / "out").exists()


# --- problems


def test_a_missing_problem_file(tmp_path: Path) -> None:
    recipe = from_file(tmp_path, [])
    (tmp_path / "problems.jsonl").unlink()
    refused(run(recipe, tmp_path / "out"), "no file", "problems.jsonl")
    assert not (tmp_path / "out").exists()


def test_an_empty_problem_file(tmp_path: Path) -> None:
    refused(run(from_file(tmp_path, []), tmp_path / "out"), "no problems in", "problems.jsonl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("bad", "parts"),
    [
        ('{"prompt": ', ("line 7", "not JSON")),
        ('{"promt": "x"}', ("line 7", "unknown key 'promt'", "'prompt'")),
        (line(6, reference="1 + 1"), ("problem 7", "its own reference '1 + 1' does not pass 'countdown'")),
        (line(6, checks=[{"verifier": "countdwn"}]), ("problem 7", "no verifier is called 'countdwn'", "countdown")),
        (line(6, checks=[]), ("problem 7", "no checks")),
        (
            line(6, checks=[{"verifier": "countdown", "params": {"numbers": [1, 2], "goal": 3}}]),
            ("problem 7", "unknown parameter 'goal'", "did you mean"),
        ),
        (
            line(6, checks=[{"verifier": "countdown", "params": {"numbers": "1 2", "target": 3}}]),
            ("problem 7", "'numbers' must be a list of whole numbers"),
        ),
    ],
    ids=["json", "key", "reference", "verifier", "no check", "parameter", "parameter's value"],
)
def test_a_bad_line_among_the_first_thousand(tmp_path: Path, bad: str, parts: tuple[str, ...]) -> None:
    lines = [bad if number == 6 else line(number) for number in range(20)]
    refused(run(from_file(tmp_path, lines), tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()


def late(folder: Path) -> Path:
    """1,100 lines, of which the 1,051st is broken and the 1,061st has a check that does not exist."""
    lines = [line(number) for number in range(1100)]
    lines[1050] = '{"prompt": '
    lines[1060] = line(1060, checks=[{"verifier": "countdwn"}])
    return from_file(folder, lines)


def test_strict_looks_at_every_line(tmp_path: Path) -> None:
    refused(run(late(tmp_path), tmp_path / "out", "--strict"), "line 1051", "not JSON")
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_bad_line_after_the_first_thousand_is_an_error_of_one_row(tmp_path: Path) -> None:
    ended = run(late(tmp_path), tmp_path / "out", "--json")
    assert ended.status == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["problems"], summary["errors"]) == (1100, 2)
    entries = [one for sidecar in iter_sidecars(Store(str(tmp_path / "out")), "rollouts") for one in sidecar.entries]
    assert len({one.problem_id for one in entries}) == len(entries) == 1100
    errors = sorted(str(one.error) for one in entries if one.status == "error")
    assert "no verifier is called 'countdwn'" in errors[0]
    assert "problems.jsonl: line 1051: not JSON" in errors[1]


# --- engines and machines


TREE = '[search]\nkind = "beam"\nvalue = "rollouts"\n'
VLLM = '[engines.teacher]\nkind = "vllm"\nmodel = "pipelines/teachers/countdown"\nargs = { max_model_len = 512 }\n'
CHAT = '[engines.teacher]\nkind = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:1/v1"\nprotocol = "chat"\n'


@pytest.mark.parametrize(
    ("recipe", "option", "parts"),
    [
        (VLLM, 'search.step_stop=["Step"]', ("search.step_stop", "cannot spell 'Step'")),
        (VLLM, "sampling.max_tokens=512", ("sampling.max_tokens", "512")),
        (CHAT, "search.width=2", ("search.kind", "'beam'", "the engine takes none")),
        (VLLM, "search.width=0", ("search.width",)),
    ],
)
def test_a_search_that_the_engine_cannot_do(tmp_path: Path, recipe: str, option: str, parts: tuple[str, ...]) -> None:
    written = write(tmp_path, COUNTDOWN + recipe + TREE)
    refused(run(written, tmp_path / "out", "--set", option), *parts)
    assert not (tmp_path / "out").exists()


def test_a_model_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    vllm = f'[engines.teacher]\nkind = "vllm"\nmodel = "{tmp_path}/model"\n[search]\nkind = "best_of_n"\n'
    recipe = write(tmp_path, COUNTDOWN + vllm)
    refused(run(recipe, tmp_path / "out"), "is not a model folder: it lacks weights", "tokenizer")
    refused(run(recipe, tmp_path / "out", "--set", "engines.teacher.model=./none"), "no model folder './none'")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A loopback port at which nothing listens, and nothing else will while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_an_address_without_a_cluster(tmp_path: Path, silent_port: int) -> None:
    address = f"127.0.0.1:{silent_port}"
    refused(run(write(tmp_path), tmp_path / "out", "--set", f"run.address={address}"), "no Ray cluster", address)
    refused(run(write(tmp_path), tmp_path / "out", "--set", "run.address=nowhere"), "write it as HOST:PORT")
    assert not (tmp_path / "out").exists()


def test_an_address_where_something_else_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        refused(run(write(tmp_path), tmp_path / "out", "--set", f"run.address={address}"), "no Ray cluster", address)
    assert not (tmp_path / "out").exists()


def test_a_server_that_does_not_answer(tmp_path: Path, silent_port: int) -> None:
    url = f"http://127.0.0.1:{silent_port}/v1"
    engine = f'[engines.teacher]\nkind = "openai"\nmodel = "m"\nbase_url = "{url}"\nretries = 0\n'
    recipe = write(tmp_path, COUNTDOWN + engine + '[search]\nkind = "best_of_n"\n')
    refused(run(recipe, tmp_path / "out"), "no models at", url)
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_more_than_the_machine_has(tmp_path: Path) -> None:
    ended = run(write(tmp_path), tmp_path / "out", "--set", "run.cpus_per_worker=4096")
    refused(ended, "a worker needs 4096 CPUs", "there are")
    assert not (tmp_path / "out").exists()


# --- folders


def test_a_folder_that_holds_other_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    before = contents(out)
    refused(run(write(tmp_path), out), "not empty and no run", "another folder")
    assert contents(out) == before


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    refused(run(write(tmp_path), out), "another folder")
    assert out.read_text() == "mine"


@pytest.mark.parametrize("command", ["check", "stats", "show", "refine"])
def test_a_folder_that_is_no_run(tmp_path: Path, command: str) -> None:
    refused(factory(command, tmp_path / "none", log=tmp_path / "log"), "no run", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A file system of its own at a new folder."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True, timeout=30)


@ROOT_ONLY
def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro,size=1m"):
        refused(run(write(tmp_path), tmp_path / "disk" / "out"), "the disk is read-only; choose a folder")
        assert not (tmp_path / "disk" / "out").exists()


def test_a_folder_that_nobody_can_write(tmp_path: Path) -> None:
    """Also for root, whom permissions do not hold back."""
    ended = run(write(tmp_path), "/proc/factory-run")
    refused(ended, "/proc/factory-run")


@ROOT_ONLY
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=64k"):
        (disk / "ballast").write_bytes(bytes(64 * 1024))
        refused(run(write(tmp_path), disk / "out"), "the disk is full; free some space or choose another folder")
        assert [path.name for path in disk.iterdir()] == ["ballast"]


@ROOT_ONLY
@pytest.mark.ray
def test_a_disk_that_fills_up_during_the_run(tmp_path: Path) -> None:
    """What is committed by then stays, and the same command goes on once there is space."""
    disk = tmp_path / "disk"
    recipe = write(tmp_path)
    more = ("--set", "source.count=200", "--set", "run.flush_rows=4")
    with mounted(disk, "size=160k"):
        ended = run(recipe, disk / "out", *more)
        assert ended.status == 2, ended.stderr
        assert "the disk is full" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
        holds(disk / "out")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True, timeout=30)
        again = run(recipe, disk / "out", *more, "--json")
        assert again.status == 0, again.stderr
        assert json.loads(again.stdout)["problems"] == 200
        holds(disk / "out")


# --- runs that exist


SLOW = "--set=engines.teacher.args={seconds_per_token = 1.0, record = false}"


@pytest.mark.ray
def test_a_run_that_somebody_else_drives(tmp_path: Path) -> None:
    recipe, out = write(tmp_path), tmp_path / "out"
    with Invocation(["run", recipe, "--out", out, SLOW, "--set", "source.count=100"], tmp_path / "live") as live:
        until(lambda: (out / "config.json").exists() or live.status is not None, START_SECONDS, "a run at work")
        before = {path: data for path, data in contents(out).items() if "lease" not in path}
        again = run(recipe, out, SLOW, "--set", "source.count=100")
        refused(again, f"owned by process {live.pid}", "wait for it, stop it, or choose another folder", status=3)
        refused(factory("refine", out, log=tmp_path / "log"), f"owned by process {live.pid}", status=3)
        after = {path: data for path, data in contents(out).items() if "lease" not in path}
        assert after == before
        assert len(list((out / "lease").glob("*.json"))) == 1
        assert live.status is None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A recipe and its run."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = write(folder)
    ended = run(recipe, folder / "out")
    assert ended.status == 0, ended.stderr
    return recipe, folder / "out"


@pytest.mark.ray
@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("sampling.temperature=0.7", "sampling.temperature: stored 1.0, now 0.7"),
        ("search.n=5", "search.n: stored 2, now 5"),
        ("source.seed=8", "source.seed: stored 7, now 8"),
        ("engines.teacher.args={solve_rate = 0.1}", "model_digests.teacher: stored"),
        ("prompt.system=Be brief.", "prompt.system: stored '', now 'Be brief.'"),
    ],
)
def test_a_run_with_another_config(finished: tuple[Path, Path], option: str, part: str) -> None:
    recipe, out = finished
    before = contents(out)
    refused(run(recipe, out, "--set", option), "holds another run", part, "use the stored value, or another --out")
    assert contents(out) == before


@pytest.mark.ray
def test_a_refinement_of_what_only_a_search_could_change(finished: tuple[Path, Path]) -> None:
    _, out = finished
    before = contents(out)
    log = out.parent / "log"
    refused(factory("refine", out, "--set", "search.n=5", log=log), "only [prune] may differ")
    refused(factory("refine", out, "--set", "prune.variant=full", log=log), "unknown key prune.variant", "variants")
    assert contents(out) == before
