"""`factory verify` and `factory validate`: every line gets its verdict, in order, whatever hangs, dies or cannot be
read."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from factory.config import SandboxConfig, load_recipe
from factory.errors import ConfigError, SourceError
from factory.types import Attempt, Check, Origin, Outcome, Problem, Span
from factory.verifiers.base import verdicts
from factory.verifiers.code.verifier import CodeVerifier
from factory.verifiers.jail import Jail
from pipelines import build
from pipelines.validate import validate
from pipelines.verify import plain_table, verify, verify_file
from sandboxes.base import Language
from sandboxes.processes import children
from tests.killing import FACTORY, until

TABLE = build.verifiers(SandboxConfig())
DOUBLES = {"kind": "calls", "function": "f", "seconds": 0.3, "cases": [{"args": [2], "expected": 4}]}
CODE = Check("code", DOUBLES)
HANGS = "def f(n):\n    while True: pass"


@pytest.fixture(autouse=True, scope="module")
def _jails() -> Iterator[None]:
    yield
    build.close_jails()


def told(lines: list[str], check: Check = CODE) -> list[dict[str, Any]]:
    out = io.StringIO()
    counts = verify(lines, out, (check,), TABLE)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert counts.lines == len(found)
    assert counts.passed + counts.failed + counts.unknown == len(found)
    return found


def line(source: str, **more: Any) -> str:
    return json.dumps({"pred": source, **more})


def test_every_line_has_its_verdict_in_order_though_every_tenth_hangs() -> None:
    lines = [line(HANGS if number % 10 == 3 else f"def f(n): return n + {number}") for number in range(60)]
    found = told(lines)
    assert [one["outcome"] for one in found] == ["pass" if number == 2 else "fail" for number in range(60)]
    assert all("cpu_limit" in one["rule"] for number, one in enumerate(found) if number % 10 == 3)
    assert all(one["verdicts"][0]["verifier"] == "code 1" and one["seconds"] > 0 for one in found)


def test_what_cannot_be_read_is_unknown_and_says_why() -> None:
    lines = [
        "{",
        "[]",
        '{"gold": "1"}',
        line("x", pref=1),
        line("x", checks=[{"verifier": "nobody"}]),
        line("x", checks=[{"verifier": "code", "params": {"kind": "sums"}}]),
        "\n",
        line("def f(n): return 2 * n"),
    ]
    found = told(lines)
    assert [one["outcome"] for one in found] == ["unknown"] * 6 + ["pass"]
    for one, why in zip(found, ("JSON", "pred", "pred", "pref", "nobody", "kind"), strict=False):
        assert one["unreadable"]
        assert why in one["rule"]


def test_the_problems_own_checker_decides() -> None:
    sorts = "def check(answer, reference):\n    return sorted(answer.split()) == sorted(reference.split()), 'sorted'"
    check = {"verifier": "program", "params": {"checker": sorts, "extract": "answer_tag"}}
    broken = {"verifier": "program", "params": {"checker": "def check(answer, reference): return answer"}}
    hanging = {"verifier": "program", "params": {"checker": f"{HANGS.replace('f(n)', 'check(a, b)')}", "seconds": 0.3}}
    lines = [
        line("so <answer>2 1</answer>", gold="1 2", checks=[check]),
        line("so <answer>2 2</answer>", gold="1 2", checks=[check]),
        line("so 2 1", gold="1 2", checks=[check]),
        line("x", gold="x", checks=[broken]),
        line("x", gold="x", checks=[hanging]),
        line("<answer>2 1</answer>", gold="1 2", checks=[check, broken]),
    ]
    found = told(lines)
    assert [one["outcome"] for one in found] == ["pass", "fail", "fail", "unknown", "unknown", "unknown"]
    assert (found[0]["extracted"], found[0]["rule"]) == ("2 1", "the problem's checker: sorted")


def test_a_file_is_read_and_written_and_the_exit_status_tells_of_bad_lines(tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text(f"{line('def f(n): return 2 * n')}\n")
    check = f"code:{json.dumps(DOUBLES)}"
    assert verify_file(str(file), str(out), check, TABLE) == 0
    assert json.loads(out.read_text())["outcome"] == "pass"
    file.write_text("{\n")
    assert verify_file(str(file), str(out), check, TABLE) == 1
    for wrong, why in (("code:{", "JSON"), ("code:[]", "object"), ("code", "kind"), ("nobody", "nobody")):
        with pytest.raises(ConfigError, match=why):
            verify_file(str(file), str(out), wrong, TABLE)
    with pytest.raises(ConfigError, match="there are auto, zygote"):
        plain_table("firejail", unsafe=False)
    with pytest.raises(SourceError, match="No such file"):
        verify_file(str(tmp_path / "none"), str(out), check, TABLE)


def test_the_command_reads_standard_input_and_leaves_nothing_behind() -> None:
    command = [FACTORY, "verify", "-", "--check", f"code:{json.dumps(DOUBLES)}"]
    given = f"{line('def f(n): return 2 * n')}\n" * 3
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [json.loads(one)["outcome"] for one in done.stdout.splitlines()] == ["pass"] * 3
    assert done.stderr == "3 lines: 3 pass, 0 fail, 0 unknown\n"


def test_a_recipe_is_validated_on_references_and_on_nothing_at_all(tmp_path: Path) -> None:
    right = {
        "prompt": "Double.",
        "reference": "def f(n): return 2 * n",
        "checks": [{"verifier": "code", "params": DOUBLES}],
    }
    wrong = right | {"prompt": "Double it.", "reference": "def f(n): return n"}
    nothing = {"kind": "stdio", "cases": [{"stdin": "", "stdout": ""}]}
    vacuous = {"prompt": "Be silent.", "reference": "pass", "checks": [{"verifier": "code", "params": nothing}]}
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in (right, wrong, vacuous)) + "{\n")
    recipe = tmp_path / "r.toml"
    source = f"[source]\nkind = 'jsonl'\nfiles = ['{problems}']\n"
    recipe.write_text(f"{source}[engines.teacher]\nkind = 'scripted'\n[search]\nkind = 'best_of_n'\n")
    report = validate(load_recipe(recipe))
    assert report.problems == 4
    assert [why for _, why in report.refused if "does not pass" in why]
    assert [why for _, why in report.refused if "vacuous" in why]
    assert len(report.refused) == 3


def test_a_verdict_whose_sandbox_is_killed_is_asked_for_again() -> None:
    jail = Jail(language=Language.PYTHON)
    verifier = CodeVerifier(lambda _: jail)
    problem = Problem("id", (), None, (Check("code", DOUBLES | {"seconds": 5.0}),), "test")

    def ask(source: str) -> Outcome:
        (verdict,) = verdicts({"code": verifier}, problem, Attempt((Span(source, Origin.SAMPLED),)))
        return verdict.outcome

    others = _brokers()
    assert ask("def f(n): return 2 * n") is Outcome.PASS
    (broker,) = _brokers() - others
    resting = len(_below(broker))
    with ThreadPoolExecutor(1) as threads:
        # Slow the first time, as the killed broker's program; whoever asks again gets the same program anew.
        verdict = threads.submit(ask, "import time\ndef f(n):\n    time.sleep(1.5)\n    return 2 * n")
        until(lambda: len(_below(broker)) > resting, 20, "the program is under way")
        os.kill(broker, signal.SIGKILL)
        assert verdict.result() is Outcome.PASS
    assert ask("def f(n): return 2 * n") is Outcome.PASS
    jail.close()


def _below(pid: int) -> list[int]:
    found = children(pid)
    return found + [one for child in found for one in _below(child)]


def _brokers() -> set[int]:
    found = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(os.getpid())}
    return {pid for pid, command in found.items() if b"sandboxes.broker" in command}
