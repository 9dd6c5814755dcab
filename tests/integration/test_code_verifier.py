"""Programs judged in real sandboxes: every way to check them, what is the program's fault, and what is not."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError
from factory.types import Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import validate_problem, verdicts
from factory.verifiers.code.verifier import CodeVerifier
from factory.verifiers.jail import Jail
from sandboxes.base import Language, Limits, Program, RunResult
from tests.sandboxed import ROOT

DATA = ROOT.parent / "shared" / "data"
PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
THREADS = 4
DOUBLE = {
    "kind": "calls",
    "function": "f",
    "cases": [{"args": [21], "expected": 42}, {"args": ["a"], "expected": "aa"}],
}
SUM = {"kind": "stdio", "cases": [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 6\n", "stdout": "11"}]}
TESTS = {"kind": "tests", "entry_points": ["f"]}
PYTEST = {"kind": "pytest", "entry_points": ["f"]}
DOUBLED = """
import pytest
from solution import f

@pytest.mark.parametrize(("n", "double"), [(1, 2), (21, 42), ("a", "aa")])
def test_double(n, double):
    assert f(n) == double

@pytest.mark.skip(reason="not today")
def test_skipped(): pass

@pytest.mark.xfail(reason="some day")
def test_sets(): assert f({1}) == {1}
"""
SORTED = "a = [2, 1]\nf(a)\nassert a == [1, 2]"
READ = "a, b = map(int, input().split())\n"


@pytest.fixture(scope="module")
def verifier() -> Iterator[CodeVerifier]:
    jails: dict[Language, Jail] = {}
    yield CodeVerifier(lambda language: jails.setdefault(language, Jail(language=language)))
    for jail in jails.values():
        jail.close()


def judged(verifier: CodeVerifier, params: Mapping[str, Any], source: str) -> Verdict:
    verifier.validate(params)
    problem = Problem("id", (), None, (Check("code", params),), "test")
    (verdict,) = verdicts({"code": verifier}, problem, Attempt((Span(source, Origin.SAMPLED),)))
    return verdict


@pytest.mark.parametrize(
    ("params", "source", "outcome", "evidence"),
    [
        (DOUBLE, "def f(n): return n * 2", PASS, "2 of 2 tests pass (11)"),
        (DOUBLE, "def f(n): return n + 21", FAIL, "1 of 2 tests pass (10); test 2: TypeError"),
        (DOUBLE, "def f(n): return n + 20", FAIL, "test 1: returned 41 and not 42"),
        (DOUBLE, "def g(n): return n * 2", FAIL, "NameError: name 'f' is not defined"),
        (DOUBLE, "def f(n:", FAIL, "SyntaxError"),
        (DOUBLE, "raise SystemExit(0)", FAIL, "no value: exit status 0"),
        (DOUBLE | {"seconds": 0.3}, "def f(n):\n    while True: pass", FAIL, "no value: cpu_limit"),
        (DOUBLE | {"memory_mib": 128}, "def f(n): return 'x' * 10**9", FAIL, "MemoryError"),
        (SUM, READ + "print(a + b)", PASS, "2 of 2"),
        (SUM, READ + "print(a * b)", FAIL, "test 1: wrote 2 and not 3"),
        (SUM, READ + "print(a + b)\nraise SystemExit(1)", FAIL, "exit status 1"),
        (SUM, READ + "print(a + b, '\\n\\n')", PASS, "2 of 2"),
        (SUM | {"compare": "exact"}, READ + "print(a + b)", FAIL, "1 of 2"),
        (SUM | {"compare": "tokens", "tolerance": 1e-6}, READ + "print(a + b + 1e-9)", PASS, "2 of 2"),
        (SUM | {"compare": "tokens"}, READ + "print(a + b + 1e-9)", FAIL, "test 1"),
        (SUM | {"seconds": 0.3}, "while True: pass", FAIL, "0 of 2 tests pass (0-); test 1: cpu_limit"),
        (TESTS | {"tests": ["assert f(1) == 2"]}, "def f(n): return n * 2", PASS, "1 of 1"),
        (TESTS | {"tests": ["assert f(1) == 2"]}, "def f(n): return n", FAIL, "AssertionError"),
        (TESTS | {"tests": ["pass"]}, "def f(n): return n", UNKNOWN, "without a call"),
        (TESTS | {"tests": ["1 / 0"]}, "def f(n): return n", UNKNOWN, "ZeroDivisionError"),
        (TESTS | {"tests": [SORTED], "in_place": True}, "def f(a): a.sort()", PASS, "1 of 1"),
        (TESTS | {"tests": [SORTED]}, "def f(a): a.sort()", FAIL, "AssertionError"),
        (PYTEST | {"tests": DOUBLED}, "def f(n): return n * 2", PASS, "3 of 3 tests pass (111sx); by pytest"),
        (PYTEST | {"tests": DOUBLED}, "def f(n): return n + 21", FAIL, "test 1: test_double[1-2]: assert 22 == 2"),
        (PYTEST | {"tests": DOUBLED}, "def g(n): return n * 2", FAIL, "NameError: name 'f' is not defined"),
        (PYTEST | {"tests": DOUBLED, "seconds": 1.0}, "def f(n):\n    while True: pass", FAIL, "(cpu_limit"),
        (
            PYTEST | {"tests": "import solution\nX = solution.f(1)[0]\ndef test_x(): pass"},
            "def f(n): pass",
            FAIL,
            "Type",
        ),
        (PYTEST | {"tests": "from solution import g\ndef test_g(): g()"}, "def g(): pass", UNKNOWN, "ImportError"),
        (PYTEST | {"tests": DOUBLED + "def test_own(): 1 / 0"}, "def f(n): return n * 2", UNKNOWN, "ZeroDivision"),
        (PYTEST | {"tests": DOUBLED + "def test_own(): 1 / 0"}, "def f(n): return n", FAIL, "(000sx?)"),
        (PYTEST | {"tests": "def test_it(): pass"}, "def f(n): return n", UNKNOWN, "passes with a call"),
        (PYTEST | {"tests": "x = 1"}, "def f(n): return n", UNKNOWN, "no tests collected"),
        (PYTEST | {"tests": "def test_it(:"}, "def f(n): return n", UNKNOWN, "SyntaxError"),
    ],
)
def test_a_program_gets_the_verdict_it_deserves(
    verifier: CodeVerifier, params: dict[str, Any], source: str, outcome: Outcome, evidence: str
) -> None:
    verdict = judged(verifier, params, source)
    assert verdict.outcome is outcome, verdict
    assert evidence in verdict.evidence


@pytest.mark.parametrize(
    ("value", "expected", "more", "outcome"),
    [
        ("(1, 2)", [1, 2], {}, PASS),
        ("(1, 2)", [1, 2], {"types": "exact"}, FAIL),
        ("True", 1, {}, FAIL),
        ("1.0", 1, {}, FAIL),
        ("{1: 'a'}", {"1": "a"}, {}, PASS),
        ("0.1 + 0.2", 0.3, {}, FAIL),
        ("0.1 + 0.2", 0.3, {"tolerance": 1e-9}, PASS),
        ("[1, (0.1 + 0.2, 'x')]", [1, [0.3, "x"]], {"tolerance": 1e-9}, PASS),
        ("[1, (0.1 + 0.2, 'y')]", [1, [0.3, "x"]], {"tolerance": 1e-9}, FAIL),
        ("float('nan')", 0.3, {"tolerance": 1e-9}, FAIL),
        ("{'a': 1.0}", {"b": 1.0}, {"tolerance": 1e-9}, FAIL),
        ("10 ** 5000", 1, {}, FAIL),
    ],
)
def test_values_are_compared_as_the_check_says(
    verifier: CodeVerifier, value: str, expected: Any, more: dict[str, Any], outcome: Outcome
) -> None:
    params = {"kind": "calls", "function": "f", "cases": [{"expected": expected}], **more}
    assert judged(verifier, params, f"def f(): return {value}").outcome is outcome


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "kind"),
        ({"kind": "calls", "function": "f", "cases": []}, "cases"),
        ({"kind": "calls", "function": "f", "cases": [{"expected": 1}], "tollerance": 1.0}, "did you mean 'tolerance'"),
        ({"kind": "calls", "function": "f", "cases": [{"args": [object()], "expected": 1}]}, "no plain data"),
        ({"kind": "stdio", "cases": [{"stdin": "", "stdout": ""}], "language": "cobol"}, "language"),
        ({"kind": "appended", "tests": "", "language": "cpp"}, "weak"),
        (PYTEST | {"tests": ""}, "tests"),
        (PYTEST | {"tests": DOUBLED, "module": "a.b"}, "module"),
        (PYTEST | {"tests": DOUBLED, "module": "json"}, "json is a module that tests need"),
    ],
)
def test_a_check_that_cannot_work_is_refused_in_a_line(
    verifier: CodeVerifier, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        verifier.validate(params)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("tests", "refused"),
    [
        (DOUBLED, None),
        ("from solution import f\ndef test_f(): assert not f(0)", "vacuous"),
        ("from solution import f\ndef test_f(): assert f(0) == 1", "does not pass"),
    ],
)
def test_a_check_by_pytest_is_tried_on_its_reference_and_on_a_stub(
    verifier: CodeVerifier, tests: str, refused: str | None
) -> None:
    check = Check("code", PYTEST | {"tests": tests})
    problem = Problem("id", (), "def f(n): return n * 2", (check,), "test")
    if refused is None:
        validate_problem({"code": verifier}, problem)
    else:
        with pytest.raises(ConfigError, match=refused):
            validate_problem({"code": verifier}, problem)


def test_trouble_of_the_sandbox_is_unknown() -> None:
    nowhere = CodeVerifier(lambda _: Jail(backend="remote", url="http://127.0.0.1:9"))
    verdict = judged(nowhere, DOUBLE, "def f(n): return n * 2")
    assert verdict.outcome is UNKNOWN
    assert "out of reach" in verdict.evidence


class Starved(Jail):
    """A machine so busy that even the second try, alone, was over its time."""

    def run(self, program: Program, limits: Limits) -> RunResult:
        from sandboxes.base import Ending, Isolation, Level, Memory

        return RunResult(Ending.WALL_LIMIT, Isolation("zygote", Level.JAIL, Memory.CGROUP), attempts=2)


def test_a_busy_machine_is_unknown() -> None:
    verdict = judged(CodeVerifier(lambda _: Starved()), SUM, "print(3)")
    assert verdict.outcome is UNKNOWN
    assert "too busy" in verdict.evidence


@pytest.mark.parametrize(
    ("language", "right", "wrong", "broken"),
    [
        ("cpp", "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }", "a * b", "x"),
        (
            "javascript",
            "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number); console.log(a + b)",
            "a * b",
            "x.y",
        ),
    ],
)
def test_other_languages_run_in_bubblewrap(
    verifier: CodeVerifier, language: str, right: str, wrong: str, broken: str
) -> None:
    params = SUM | {"language": language}
    first = judged(verifier, params, right)
    if first.outcome is UNKNOWN and "no sandbox" in first.evidence:
        pytest.skip(first.evidence)
    assert first.outcome is PASS, first
    assert judged(verifier, params, right.replace("a + b", wrong)).outcome is FAIL
    assert judged(verifier, params, right.replace("a + b", broken)).outcome is FAIL


def test_appended_tests_decide_where_that_was_accepted(verifier: CodeVerifier) -> None:
    params = {"kind": "appended", "language": "cpp", "weak": True, "prefix": "#include <cassert>\nlong f(long n) {\n"}
    params |= {"tests": "}\nint main() { assert(f(2) == 4); }"}
    first = judged(verifier, params, "  return 2 * n;\n")
    if first.outcome is UNKNOWN and "no sandbox" in first.evidence:
        pytest.skip(first.evidence)
    assert first.outcome is PASS, first
    assert "weak" in first.evidence
    assert judged(verifier, params, "  return 3 * n;\n").outcome is FAIL


# --- real problems and attempts

HUMANEVAL = DATA / "problems" / "code" / "humaneval.jsonl"
MBPP = DATA / "problems" / "code" / "mbpp.jsonl"
REFLEXION = DATA / "rollouts" / "reflexion_code_gpt4.jsonl.gz"
present = pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not beside this checkout")

CANNOT_CROSS = {367, 533, 601, 927}
"""MBPP's tests that pass or get objects of the program's classes (367, 601, 927), or types (533): no plain data."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    yield from (json.loads(line) for line in text.split("\n") if line)


def humaneval(row: dict[str, Any]) -> dict[str, Any]:
    """The check of a row of HumanEval's form. Its tests use helpers of the prompt, too."""
    helpers = [name for name in re.findall(r"^def (\w+)", row["prompt"], re.MULTILINE) if name in row["test"]]
    names = sorted({row["entry_point"], *helpers})
    tests = [f"{row['test']}\ncheck({row['entry_point']})\n"]
    return {"kind": "tests", "entry_points": names, "tests": tests, "prefix": row["prompt"], "seconds": 5.0}


def mbpp(row: dict[str, Any]) -> dict[str, Any]:
    defined = re.findall(r"^\s*(?:def|class)\s+(\w+)", row["code"], re.MULTILINE)
    names = sorted({name for name in defined if any(re.search(rf"\b{name}\(", test) for test in row["test_list"])})
    tests = [f"{row['test_setup_code']}\n{test}" for test in row["test_list"]]
    return {"kind": "tests", "entry_points": names, "tests": tests}


def references(verifier: CodeVerifier, jobs: list[tuple[dict[str, Any], str]]) -> list[tuple[Outcome, Outcome]]:
    """Of each check, the outcome of its reference and of a stub."""

    def both(job: tuple[dict[str, Any], str]) -> tuple[Outcome, Outcome]:
        params, source = job
        return judged(verifier, params, source).outcome, judged(verifier, params, verifier.stub(params).text).outcome

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(both, jobs))


@present
def test_every_reference_of_humaneval_passes_and_every_stub_fails(verifier: CodeVerifier) -> None:
    jobs = [(humaneval(row), row["prompt"] + row["canonical_solution"]) for row in rows(HUMANEVAL)]
    assert len(jobs) > 100
    assert set(references(verifier, jobs)) == {(PASS, FAIL)}


@present
def test_every_reference_of_mbpp_passes_and_every_stub_fails_but_what_cannot_cross(verifier: CodeVerifier) -> None:
    found = list(rows(MBPP))
    outcomes = references(verifier, [(mbpp(row), row["code"].replace("\r", "")) for row in found])
    odd = {row["task_id"] for row, outcome in zip(found, outcomes, strict=True) if outcome != (PASS, FAIL)}
    assert odd == CANNOT_CROSS
    assert not any(outcome[1] is PASS for outcome in outcomes)


@present
def test_recorded_attempts_agree_with_their_labels(verifier: CodeVerifier) -> None:
    """Where they do not, the program does pass its tests, run plainly: the label is wrong."""
    attempts = [row for row in rows(REFLEXION) if row["test"]]
    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(lambda row: judged(verifier, humaneval(row), row["solution"]).outcome, attempts))
    other = [(row, one) for row, one in zip(attempts, found, strict=True) if (one is PASS) != row["is_solved"]]
    assert len(other) <= 0.015 * len(attempts)
    for row, one in other:
        assert one is PASS, row["entry_point"]
        tests = f"{row['test']}\ncheck({row['entry_point']})"
        plainly = {"kind": "appended", "language": "python", "weak": True, "tests": tests, "prefix": row["prompt"]}
        assert judged(verifier, plainly, row["solution"]).outcome is PASS, row["entry_point"]
