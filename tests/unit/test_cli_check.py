"""`factory check` as a command: its exit status and what it prints of a clean run and of a spoiled one."""

import json
from pathlib import Path

import pytest

from factory.errors import StorageError
from factory.store import Store
from factory.types import StopReason
from pipelines.check import check
from tests.unit import run_folders as make

ID = "aa11111111111111111a"


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture
def run(tmp_path: Path) -> str:
    tree = make.tree(make.problem(ID), [make.RIGHT, make.HOSTILE, make.WRONG], stop=StopReason.EXHAUSTED)
    return make.write_run(tmp_path / "run", [[tree]])


def shard(run: str) -> Path:
    return next((Path(run) / "rollouts").glob("*.parquet"))


def test_a_clean_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(run, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["rollouts", "1", "1"]
    assert lines[-1] == f"{run}: clean"


def test_a_damaged_shard(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = shard(run)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert check(run, as_json=False) == 1
    out = capsys.readouterr().out
    errors = [line for line in out.splitlines() if line.startswith("error: ")]
    assert any(f"rollouts/{path.name}: its SHA-256 is not the sidecar's" in line for line in errors)
    assert out.splitlines()[-1] == f"{run}: {len(errors)} error{'s' if len(errors) > 1 else ''}"


def test_what_does_not_count_is_a_note(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    shard(run).with_name("part-000001-w9-000001.parquet").write_bytes(b"")
    assert check(run, as_json=False) == 0
    assert "note: rollouts: 1 files do not count: part-000001-w9-000001.parquet" in capsys.readouterr().out


def test_json(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(run, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["errors"], found["counts"]["rollouts"]["rows"]) == (True, [], 1)
    shard(run).unlink()
    assert check(run, as_json=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert found["errors"]


def test_an_empty_run_and_one_that_nobody_owned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(make.write_run(tmp_path / "empty", []), as_json=False) == 0
    Store(str(tmp_path / "new")).put("config.json", b"{}")
    assert check(str(tmp_path / "new"), as_json=False) == 0
    assert "note: nobody has owned this run yet" in capsys.readouterr().out


def test_no_file_drives_the_terminal(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    sidecar = shard(run).with_suffix(".json")
    sidecar.write_bytes(sidecar.read_bytes().replace(b'"table": "rollouts"', b'"\\u001b[2J": 1, "table": "rollouts"'))
    assert check(run, as_json=False) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "is no sidecar" in out


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        check(str(tmp_path), as_json=False)
