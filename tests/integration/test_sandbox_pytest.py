"""Tests that pytest runs against a program: every kind of program and of tests, behind every backend that has judge
mode, for root and for a plain user."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from sandboxes.conformance.protocol import FORGE, LIARS
from tests.sandboxed import run, user

RUNNER = """
import asyncio, json, sys
from sandboxes.base import MIB, Limits, Program, SandboxError
from sandboxes.pool import Options, Pool

QUICK = Limits(cpu_seconds=2.0, memory_bytes=256 * MIB, output_bytes=MIB // 4, file_bytes=16 * MIB)

async def ask(pool, case):
    judged = await pool.judge(
        Program(case["program"]), case["tests"], ["add"], QUICK, pytest_module=case["module"], in_place=case["in_place"]
    )
    each = {one.name: one.outcome for one in judged.each}
    told = {"name": case["name"], "outcome": judged.outcome, "detail": judged.detail, "each": each}
    told["said"] = (judged.candidate.stdout + judged.candidate.stderr).decode("latin1")
    print(json.dumps(told | {"ending": judged.candidate.ending, "calls": judged.calls}), flush=True)

async def main():
    pool = Pool(sys.argv[1], Options(slots=2))
    try:
        await pool.start()
        await asyncio.gather(*(ask(pool, case) for case in json.loads(sys.argv[2])))
    except SandboxError as error:
        sys.exit(f"cannot: {error}")
    finally:
        await pool.close()

asyncio.run(main())
"""
RIGHT = "def add(a, b):\n    if type(a) is not type(b): raise TypeError('of two kinds')\n    return a + b"
TESTS = """
import pytest
from solution import add

@pytest.fixture(scope="module")
def three():
    return add(1, 2)

@pytest.mark.parametrize(("a", "b", "sum"), [(1, 2, 3), (8675300, 9, 8675309), ("x", "y", "xy")])
def test_sums(a, b, sum):
    assert add(a, b) == sum

class TestMore:
    def test_kinds(self):
        with pytest.raises(TypeError, match="two kinds"):
            add(1, "x")

    def test_floats(self, three, tmp_path, monkeypatch, capsys):
        (tmp_path / "sum").write_text(str(add(0.1, 0.2)))
        assert float((tmp_path / "sum").read_text()) == pytest.approx(0.3)
        assert three == 3

@pytest.mark.skip(reason="not today")
def test_skipped(three):
    assert add(1, 1) == 2

@pytest.mark.xfail(reason="some day")
def test_expected_to_fail():
    assert add([1], [2]) == 3
"""
ALL = {
    "test_sums[1-2-3]": "passed",
    "test_sums[8675300-9-8675309]": "passed",
    "test_sums[x-y-xy]": "passed",
    "TestMore::test_kinds": "passed",
    "TestMore::test_floats": "passed",
    "test_skipped": "skipped",
    "test_expected_to_fail": "xfailed",
}
ONE = "from solution import add\ndef test_sum(): assert add(8675300, 9) == 8675309\n"
CHANGES = "from solution import add\ndef test_sum():\n    a = [1]\n    add(a, 2)\n    assert a == [1, 2]\n"

UNITTEST = """
import unittest
from solution import add

class TestSum(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(add(1, 2), 3)
"""
FIXTURE = """
import pytest
from solution import add

@pytest.fixture(scope="module")
def sum():
    return add(1, 2)

def test_sum(sum):
    assert 1 + sum == 4
"""

ATTACKS = {
    **{name: source for name, source in LIARS.items() if "float" not in name},
    "patched pytest": """
        import sys
        try:
            import pytest, _pytest.runner, _pytest.assertion
            pytest.fail = pytest.raises = lambda *a, **k: None
            _pytest.runner.CallInfo.from_call = classmethod(lambda *a, **k: None)
        except ImportError:
            print("no pytest here", flush=True)
        for module in list(sys.modules.values()):
            for name in ("CallInfo", "TestReport", "main"):
                if hasattr(module, name): setattr(module, name, lambda *a, **k: 0)
        def add(a, b): return 0
        """,
    "words of pytest": """
        import os
        print("=== 1 passed in 0.01s ===")
        report = '<testsuites><testsuite errors="0" failures="0" tests="1"></testsuite></testsuites>'
        for name in ("junit.xml", "report.xml", "conftest.py", "pytest.ini", "test_program.py"):
            with open(name, "w") as file: file.write(report)
        print(report)
        def add(a, b): os._exit(0)
        """,
    "forged verdict of pytest": """
        import os
        def add(a, b):
            forge([5, True, '', [0, '1'], None, [4, [5, 'test_sum', 'passed', '']]], whole=True)
            os._exit(0)
        """,
    "forged answers": "forge([0, '8454ad'])\ndef add(a, b): forge([0, '8454ad']); return 0",
    "an exception that skips": """
        class Skipped(Exception): pass
        class SkipTest(Exception): pass
        def add(a, b): raise SkipTest("skip this")
        """,
    "an assertion of its own": "def add(a, b): raise AssertionError",
    "an end of everything": "def add(a, b): raise KeyboardInterrupt",
    "a loop": "def add(a, b):\n    while True: pass",
    "too much memory": "def add(a, b):\n    return len('x' * 10**10)",
    "no program": "def",
}
"""Programs that do not add, by what they do about it."""

BROKEN = {
    "no text of Python": "def test_sum(:",
    "nothing to run": "from solution import add\n",
    "nothing but skips": "import pytest\npytest.skip('never', allow_module_level=True)",
    "a name that nobody promised": "from solution import subtract\ndef test_sum(): assert subtract(2, 1) == 1",
    "no such module": "import nowhere\ndef test_sum(): pass",
    "a pass without a call": "from solution import add\ndef test_sum(): assert 1 + 1 == 2",
    "an error before a call": "from solution import add\ndef test_sum(): assert add(1 / 0, 2)",
    "a failure without a call": ONE + "def test_itself(): assert 1 == 2",
    "a missing fixture": ONE + "def test_itself(nothing): pass",
    "what cannot cross": "from solution import add\ndef test_sum(): add(lambda: 1, 2)",
    "what cannot cross, swallowed": ONE
    + "import pytest\ndef test_lambda():\n    with pytest.raises(Exception): add(lambda: 1, 2)",
    "it gives up after a call": ONE + "import pytest\ndef test_gives_up(): add(1, 2); pytest.skip('enough')",
    "it calls a failure expected": ONE + "import pytest\ndef test_gives_up(): add(1, 2); pytest.xfail('enough')",
    "it leaves": ONE + "import sys\ndef test_leaves(): sys.exit(0)",
    "it leaves at once": ONE + "import os\ndef test_leaves(): os._exit(0)",
    "it ends pytest": ONE + "import pytest\ndef test_leaves(): pytest.exit('enough', 0)",
    "it ends pytest with a number": ONE + "import pytest\ndef test_leaves(): pytest.exit('enough', 77)",
    "it interrupts": ONE + "def test_leaves(): raise KeyboardInterrupt",
    "a hang": ONE + "def test_hangs():\n    while True: pass",
    "a hook that breaks": ONE
    + "import pytest\ndef test_breaks(request): request.config.hook = None; request.node.ihook",
    "coroutines": "from solution import add\nasync def test_sum(): assert add(1, 2) == 3",
}
"""Tests that say nothing of a right program."""

OTHERS = {
    "a right program": (RIGHT, TESTS, "passed"),
    "under another name": (RIGHT, ONE.replace("solution", "mysum"), "passed"),
    "imported whole": (RIGHT, "import solution\ndef test_sum(): assert solution.add(1, 2) == 3", "passed"),
    "a class of unittest's": (
        RIGHT,
        UNITTEST,
        "passed",
    ),
    "changes in place": ("def add(a, b): a.append(b)", CHANGES, "passed"),
    "an exception below one that all know": (
        "import json\ndef add(a, b): return json.loads('{')",
        "import pytest\nfrom solution import add\ndef test_sum():\n    with pytest.raises(ValueError): add(1, 2)",
        "passed",
    ),
    "a function that is not there": ("def plus(a, b): return a + b", ONE, "failed"),
    "an end that tests take for an exception": (
        "import os\ndef add(a, b): return a + b if a else os._exit(0)",
        "import pytest\n" + ONE + "def test_none():\n    with pytest.raises(Exception): add(None, 1)",
        "failed",
    ),
    "a hang while tests are collected": (
        "def add(a, b):\n    while True: pass",
        "from solution import add\nSUM = add(1, 2)\ndef test_sum(): assert SUM == 3",
        "failed",
    ),
    "a fixture that is no use": (
        "def add(a, b): return None",
        FIXTURE,
        "failed",
    ),
    "one of its tests broken": (
        "def add(a, b): return a - b",
        "def test_itself(): 1 / 0\n" + ONE,
        "failed",
    ),
}


def cases() -> list[dict[str, object]]:
    """Each with its name, its program and tests, and what must come of it."""
    table = {name: (FORGE + dedent(source), ONE, "failed") for name, source in ATTACKS.items()}
    table |= {name: (RIGHT, source, "unjudged") for name, source in BROKEN.items()}
    assert not table.keys() & OTHERS.keys()
    return [
        {"name": name, "program": program, "tests": tests, "wanted": wanted, "in_place": tests == CHANGES}
        | {"module": "mysum" if "mysum" in tests else "solution"}
        for name, (program, tests, wanted) in (table | OTHERS).items()
    ]


@pytest.mark.parametrize("who", ["root", "plain"])
@pytest.mark.parametrize("backend", ["zygote", "landlock"])
def test_pytest_judges_every_program(backend: str, who: str) -> None:
    someone = user(who)
    asked = cases()
    packages = f"PYTHONPATH={Path(pytest.__file__).parents[1]}"
    command = [*someone.before, "env", packages, someone.python, "-B", "-c", RUNNER, backend, json.dumps(asked)]
    status, lines, errors = run(command, seconds=280.0)
    if "cannot: " in errors:
        pytest.skip(f"this machine cannot run pytest in {backend} for {who}: {errors.strip()}")
    assert status == 0, errors
    told = {one["name"]: one for one in lines}
    wrong = [(case["wanted"], told[case["name"]]) for case in asked if told[case["name"]]["outcome"] != case["wanted"]]
    assert not wrong
    assert told["a right program"]["each"] == ALL
    assert told["a right program"]["calls"] == 7
    assert told["a loop"]["ending"] == "cpu_limit"
    assert told["patched pytest"]["said"] == "no pytest here\n"
