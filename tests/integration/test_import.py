"""`factory import` as a person uses it: good and bad rows in, a run out that the other commands read."""

import gzip
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.capture import CaptureResult

from factory.check import check
from factory.errors import ConfigError, SourceError
from factory.runs import open_run
from pipelines.imports import import_rollouts
from pipelines.refine import refine_again
from tests.killing import Ended, factory

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


def imported(folder: Path, kind: str, *more: str | Path) -> Ended:
    """The command itself, with a run folder beside its input."""
    return factory("import", kind, *more, "--out", folder / "run", log=folder / "log")


def refused(ended: Ended, folder: Path, *parts: str) -> None:
    """One line on stderr, and nothing written."""
    assert ended.status == 2, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("factory: ")
    assert all(part in line for part in parts), line
    assert not (folder / "run").exists()


def packed(path: Path, content: bytes, cut: int = 0) -> Path:
    """Compressed where its name says so, without the last `cut` bytes."""
    whole = gzip.compress(content) if path.suffix == ".gz" else content
    path.write_bytes(whole[: len(whole) - cut])
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_a_file_in_another_format_than_named(tmp_path: Path, spec: Path, name: str) -> None:
    checks = ("--set", 'checks=[{verifier="exact"}]')
    path = packed(tmp_path / name, row("4", "a") + b"\n" + row("5", "a"))
    refused(imported(tmp_path, "chat", path, *checks), tmp_path, f"{name}: line 1", "no field 'messages'")
    refused(imported(tmp_path, "nemo", path, *checks), tmp_path, f"{name}: line 1", "no field 'problem'")
    packed(path, b"question,answer\n1,2\n")
    refused(imported(tmp_path, "verifiers", path, "--spec", spec), tmp_path, f"{name}: line 1", "not JSON")
    packed(path, b"PAR1\x15\x04\xff\n\x00PAR1")
    refused(imported(tmp_path, "verifiers", path, "--spec", spec), tmp_path, f"{name}: line 1", "not UTF-8")


def test_a_file_that_only_its_name_says_is_compressed(tmp_path: Path, spec: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(row("4", "a"))
    refused(imported(tmp_path, "verifiers", path, "--spec", spec), tmp_path, "rows.jsonl.gz", "cannot be read")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ('fields.model="modle"', ("fields.model", "'modle'", "no row has it")),
        ('fields.claims={right="rewrad"}', ("fields.claims.right", "'rewrad'", "no row has it")),
        ('fields.reference={path="anwser", pattern="."}', ("fields.reference", "'anwser'", "no row has it")),
        ('fields.prompt="promt"', ("fields.prompt", "'promt'", "no row has it")),
        ('fields.promt="prompt"', ("unknown key fields.promt", "did you mean prompt?")),
        ('checks=[{verifier="exact", wher={model="a"}}]', ("unknown key checks.0.wher", "did you mean where?")),
        ('checks=[{verifier="exact", where={modle="a"}}]', ("no field 'modle'",)),
        ('join={files=["none.jsonl"], key="model"}', ("no file", "none.jsonl")),
    ],
)
def test_a_mapping_that_names_no_such_field(tmp_path: Path, spec: Path, override: str, parts: tuple[str, ...]) -> None:
    path = packed(tmp_path / "rows.jsonl.gz", row("4", "a"))
    refused(imported(tmp_path, "verifiers", path, "--spec", spec, "--set", override), tmp_path, *parts)


GOOD = [row(answer, model) for answer, model in (("so\n4", "a"), ("5", "b"), ("it is\n4", "c"))]
BAD = [
    (GOOD[0][:40], "not JSON"),
    (b'{"messages": []}', "no field 'prompt'"),
    (b"[1, 2]", "not an object but list"),
    (b"\xff\xfe", "not UTF-8"),
]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_one_bad_line_among_good_ones(
    tmp_path: Path, spec: Path, capsys: pytest.CaptureFixture[str], name: str, bad: bytes, reason: str
) -> None:
    path, out = packed(tmp_path / name, b"\n".join([*GOOD[:2], bad, GOOD[2]])), str(tmp_path / "run")
    assert import_rollouts("verifiers", [str(path)], out, spec, [], as_json=True) == 1
    assert_good(out, capsys.readouterr(), f"{path}: line 3: {reason}")


def test_a_compressed_file_that_was_cut_short(tmp_path: Path, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = packed(tmp_path / "rows.jsonl.gz", b"\n".join([*GOOD, b""]), cut=6), str(tmp_path / "run")
    assert import_rollouts("verifiers", [str(path)], out, spec, [], as_json=True) == 1
    assert_good(out, capsys.readouterr(), f"{path}: line 4: cannot be read further")


def assert_good(out: str, told: CaptureResult[str], bad: str) -> None:
    """One line tells of the bad row. The three good ones are one tree, of which the two right ones are refined."""
    (line,) = told.err.splitlines()
    assert line.startswith(f"factory: {bad}")
    said = json.loads(told.out)
    assert (said["rows"], said["bad_rows"], said["errors"]) == (4, 1, 1)
    assert (said["problems"], said["attempts"], said["right"]) == (2, 3, 2)
    refine_again(out, ['prune.variants=["full"]'])
    assert {kept.policy.model for kept in open_run(out).transcripts()} == {"a", "c"}
    assert [one.rejection for one in open_run(out).rejected()] == ["wrong_answer"]
    assert check(out).ok


def test_another_file_to_join_with_is_another_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, other, out = tmp_path / "rows.jsonl", tmp_path / "problems.jsonl", str(tmp_path / "run")
    path.write_text('{"n": 1, "a": "4"}\n{"n": 2, "a": "4"}')
    other.write_text('{"n": 1, "q": "2 + 2?", "gold": "4"}')
    more = [
        f'join={{files=["{other}"], key="n"}}',
        'fields={prompt="joined.q", reference="joined.gold", samples="a"}',
        'checks=[{verifier="exact"}]',
    ]
    assert import_rollouts("samples", [str(path)], out, None, more, as_json=True) == 1
    told = capsys.readouterr()
    assert f"{path}: line 2: there is nothing to join with: no other row has 2" in told.err
    assert json.loads(told.out)["right"] == 1
    other.write_text('{"n": 1, "q": "2 + 2?", "gold": "5"}')
    with pytest.raises(ConfigError, match="another run"):
        import_rollouts("samples", [str(path)], out, None, more, as_json=True)


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
