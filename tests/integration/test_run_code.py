"""The main job on problems whose answers are programs: workers verify them in sandboxes of their own and leave none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory.runs import open_run
from factory.types import Outcome
from tests.killing import factory, holds

pytestmark = pytest.mark.ray

RIGHT = "```python\ndef double(n):\n    return 2 * n\n```"
SCRIPTS = {
    "Double a number.": RIGHT,
    "Double it, please.": RIGHT.replace("2 * n", "n + 2"),
    "Double it for ever.": RIGHT.replace("return 2 * n", "while True: pass"),
    "Say nothing.": "I would rather not.",
}
CALLS = {
    "kind": "calls",
    "function": "double",
    "seconds": 0.5,
    "cases": [{"args": [2], "expected": 4}, {"args": [3], "expected": 6}],
}
CHECKS = [{"verifier": "all", "params": {"checks": [{"verifier": "code", "params": CALLS}]}}]


def toml(value: Any) -> str:
    return json.dumps(value)


def recipe(folder: Path) -> Path:
    problems = folder / "problems.jsonl"
    rows = [{"prompt": prompt, "reference": "def double(n): return n * 2", "checks": CHECKS} for prompt in SCRIPTS]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = ", ".join(f"{toml(prompt)} = {toml(reply)}" for prompt, reply in SCRIPTS.items())
    path = folder / "recipe.toml"
    path.write_text(f"""
[source]
kind = "jsonl"
files = [{toml(str(problems))}]
[engines.teacher]
kind = "scripted"
args = {{ record = false, script = {{ {script} }} }}
[search]
kind = "best_of_n"
n = 2
[run]
workers = 1
""")
    return path


def test_programs_are_searched_verified_and_kept(tmp_path: Path) -> None:
    path, out = recipe(tmp_path), tmp_path / "out"
    assert factory("validate", path, log=tmp_path / "validate").status == 0
    ended = factory("run", path, "--out", out, log=tmp_path / "log")
    assert ended.status == 0, ended.stderr
    assert "4: 1 solved, 3 unsolved, 0 errors" in ended.stdout
    holds(out)
    run = open_run(str(out))
    found = {tree.problem.messages[-1].content: [leaf.outcome for leaf in tree.leaves()] for tree in run.rollouts()}
    assert found == {
        "Double a number.": [Outcome.PASS] * 2,
        "Double it, please.": [Outcome.FAIL] * 2,
        "Double it for ever.": [Outcome.FAIL] * 2,
        "Say nothing.": [Outcome.FAIL] * 2,
    }
    (evidence,) = {
        leaf.verdicts[0].evidence
        for tree in run.rollouts()
        if "for ever" in tree.problem.messages[-1].content
        for leaf in tree.leaves()
    }
    assert "cpu_limit" in evidence
    kept = list(run.transcripts())
    assert kept
    assert {one.problem.messages[-1].content for one in kept} == {"Double a number."}


def test_without_a_sandbox_nothing_is_decided_and_nothing_is_lost(tmp_path: Path) -> None:
    path, out = recipe(tmp_path), tmp_path / "out"
    nowhere = ["--set", "sandbox.backend=remote", "--set", "sandbox.url=http://127.0.0.1:9"]
    refused = factory("run", path, "--out", out, *nowhere, log=tmp_path / "log")
    assert refused.status == 2
    assert "out of reach" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert factory("run", path, "--out", out, log=tmp_path / "log").status == 0
    holds(out)
