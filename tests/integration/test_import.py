"""`factory import` as a person uses it: good and bad rows in, a run out that the other commands read."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from factory.check import check
from factory.errors import ConfigError, SourceError
from factory.runs import open_run
from pipelines.imports import import_rollouts
from pipelines.refine import refine_again

SPEC = """
[fields]
claims = ["reward"]
model = "model"
[[checks]]
verifier = "exact"
params = { extract = "last_line" }
"""


def row(answer: str, model: str) -> bytes:
    turns = [{"role": "user", "content": "2 + 2?"}]
    told = {"prompt": turns, "completion": answer, "answer": "4", "reward": 1.0, "model": model}
    return json.dumps(told).encode()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def test_an_import_is_a_run(tmp_path: Path, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other, out = tmp_path / "one.jsonl", tmp_path / "other.jsonl", str(tmp_path / "run")
    one.write_bytes(row("so\n4", "a") + b"\n\xff\n" + row("5", "a") + b'\n{"half": ')
    other.write_bytes(row("it is\n4", "b"))
    files = [str(one), str(other)]
    assert import_rollouts("verifiers", files, out, spec, [], as_json=True) == 1
    told = capsys.readouterr()
    figures = json.loads(told.out)
    assert (figures["rows"], figures["bad_rows"], figures["problems"], figures["errors"]) == (5, 2, 3, 2)
    assert (figures["attempts"], figures["right"]) == (3, 2)
    assert f"{one}: line 2: not UTF-8" in told.err
    assert f"{one}: line 4: not JSON" in told.err
    refine_again(out, ['prune.variants=["full"]'])
    assert {(kept.text, kept.policy.model) for kept in open_run(out).transcripts()} == {
        ("so\n4", "a"),
        ("it is\n4", "b"),
    }
    assert check(out).ok
    assert import_rollouts("verifiers", files, out, spec, [], as_json=False) == 1
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="another run"):
        import_rollouts("verifiers", files[:1], out, spec, [], as_json=True)


def test_mistakes_write_nothing(tmp_path: Path, spec: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "run"
    path.write_bytes(row("4", "a"))
    with pytest.raises(SourceError, match=r"rows\.jsonl: line 1: no field 'messages'"):
        import_rollouts("chat", [str(path)], str(out), None, ['checks=[{verifier="exact"}]'], as_json=True)
    with pytest.raises(ConfigError, match=r"fields\.claims\.rewrad"):
        import_rollouts("verifiers", [str(path)], str(out), spec, ['fields.claims=["rewrad"]'], as_json=True)
    path.write_bytes(b"")
    with pytest.raises(SourceError, match="no rows"):
        import_rollouts("verifiers", [str(path)], str(out), spec, [], as_json=True)
    assert not (out / "config.json").exists()


def rows_but_times(out: str) -> list[object]:
    """What was imported, without the seconds of verdicts, sorted by problem."""
    trees = sorted(open_run(out).rollouts(), key=lambda tree: tree.problem.id)
    return [
        replace(
            tree,
            nodes=tuple(
                replace(node, verdicts=tuple(replace(one, seconds=0.0) for one in node.verdicts)) for node in tree.nodes
            ),
        )
        for tree in trees
    ]


def test_killed_and_run_again_the_same_rows_come_out(tmp_path: Path, spec: Path) -> None:
    files = [tmp_path / name for name in ("one.jsonl", "other.jsonl")]
    for file in files:
        lines = (json.dumps(json.loads(row("4", file.stem)) | {"prompt": f"{n} + 0?"}) for n in range(3000))
        file.write_text("\n".join(lines))
    paths, killed, whole = [str(file) for file in files], tmp_path / "killed", str(tmp_path / "whole")
    command = [sys.executable, "-m", "pipelines.cli", "import", "verifiers", *paths, "--spec", str(spec)]
    with subprocess.Popen([*command, "--out", str(killed)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(killed.glob("rollouts/*.json")):
            os.sched_yield()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(list(open_run(str(killed)).rollouts())) < 3000
    subprocess.run([*command, "--out", str(killed)], check=True, stdout=subprocess.DEVNULL)
    import_rollouts("verifiers", paths, whole, spec, [], as_json=True)
    assert rows_but_times(str(killed)) == rows_but_times(whole)
    assert check(str(killed)).ok
