"""What must work, and attacks on verdicts: programs that would be taken for right, or find out what is right."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from textwrap import dedent
from typing import Any

from sandboxes import plain
from sandboxes.base import (
    MIB,
    Call,
    CallsResult,
    Ending,
    JudgedOutcome,
    Limits,
    Program,
    RunResult,
    Sandbox,
    SandboxError,
)
from sandboxes.conformance.cases import QUICK, Ask, Case, told
from sandboxes.conformance.claims import Claim
from sandboxes.conformance.host import Host

FORGE = """
import json, os, struct
def forge(value, whole=False):
    data = json.dumps(value if whole else [5, [0, '0'], value]).encode()
    for descriptor in range(3, 10):
        try: os.write(descriptor, data if whole else struct.pack('<I', len(data)) + data)
        except OSError: pass
"""
"""Before each program here: `forge` writes what a result or a verdict would be to wherever one might be read."""


def _run(
    name: str,
    must: str,
    source: str,
    holds: Callable[[RunResult], bool],
    *,
    claim: Claim = Claim.WORKS,
    stdin: bytes = b"",
    **files: bytes,
) -> Case:
    async def ask(sandbox: Sandbox, host: Host) -> str | None:
        result = await sandbox.run(Program(dedent(source), stdin, files), QUICK)
        return None if holds(result) else f"ended by {told(result)}; stdout {result.stdout[:100]!r}"

    return Case(name, claim, must, ask)


def _prints(text: bytes) -> Callable[[RunResult], bool]:
    return lambda result: result.ok and result.stdout == text


WORKS = [
    _run("input and output", "both reach it", "print(input()[::-1])", _prints(b"cba\n"), stdin=b"abc\n"),
    _run("end of input", "it is seen", "import sys; print(len(sys.stdin.read()))", _prints(b"0\n")),
    _run("files", "it finds its own", "print(open('data').read())", _prints(b"text\n"), data=b"text"),
    _run("exit status", "it is told", "raise SystemExit(7)", lambda result: result.exit_code == 7),
    _run(
        "exception",
        "its traceback is told",
        """
        def f(): return 1 / 0
        f()
        """,
        lambda result: result.exit_code == 1 and b"ZeroDivisionError" in result.stderr and b"in f" in result.stderr,
    ),
    _run(
        "signal",
        "it is named",
        "import ctypes; ctypes.string_at(0)",
        lambda result: result.ending is Ending.SIGNALED and result.signal == signal.SIGSEGV,
    ),
    _run(
        "output of many processes",
        "none of it is lost",
        """
        import os
        for _ in range(4): os.fork()
        for _ in range(100): os.write(1, b'0123456789')
        try:
            while True: os.wait()
        except ChildProcessError: pass
        """,
        lambda result: result.ok and result.stdout == b"0123456789" * 1600,
        claim=Claim.BYTES,
    ),
    _run(
        "bytes",
        "output need not be text",
        """
        import os
        os.write(1, bytes(range(256)))
        """,
        lambda result: result.ok and result.stdout == bytes(range(256)),
        claim=Claim.BYTES,
    ),
    _run("broken program", "it fails as it would", "def", lambda result: result.exit_code == 1),
    _run(
        "libraries, processes and threads",
        "ordinary ones work",
        """
        import asyncio, concurrent.futures, subprocess, tempfile, threading
        async def one(): return 1
        numbers = [asyncio.run(one())]
        with concurrent.futures.ThreadPoolExecutor(2) as pool: numbers += pool.map(abs, [-2])
        numbers.append(int(subprocess.run(['/bin/echo', '3'], capture_output=True).stdout))
        with tempfile.TemporaryFile() as file: file.write(b'4'); file.seek(0); numbers.append(int(file.read()))
        print(numbers)
        """,
        _prints(b"[1, 2, 3, 4]\n"),
    ),
]


async def _two_runs(sandbox: Sandbox, first: str, second: str) -> tuple[bytes, bytes]:
    return (
        (await sandbox.run(Program(first), QUICK)).stdout,
        (await sandbox.run(Program(second), QUICK)).stdout,
    )


async def _leaves_nothing(sandbox: Sandbox, host: Host) -> str | None:
    first = "import builtins, os, sys\nbuiltins.max = None\nsys.modules['left'] = 1\nos.environ['LEFT'] = '1'\n"
    first += "os.makedirs('a/b'); open('a/b/left', 'w').write('left')\nprint('done')"
    second = "import os, sys\nprint(max(1, 0), 'left' in sys.modules, 'LEFT' in os.environ, os.listdir())"
    done, found = await _two_runs(sandbox, first, second)
    own = b"['main.py']" if b"main.py" in found else b"[]"  # where the program itself is a file
    return None if (done, found) == (b"done\n", b"1 False False " + own + b"\n") else f"{done!r}, then {found!r}"


async def _random_differs(sandbox: Sandbox, host: Host) -> str | None:
    source = "import random, os, uuid\nprint(random.random(), os.urandom(4), uuid.uuid4())"
    one, other = await _two_runs(sandbox, source, source)
    shared = set(one.split()) & set(other.split())
    return f"twice the same: {shared}" if shared or not one else None


FRESH = [
    Case("next run", Claim.FRESH, "it finds nothing of the last one", _leaves_nothing),
    Case("random numbers", Claim.FRESH, "they differ from run to run", _random_differs),
]


def _calls(name: str, must: str, source: str, calls: Sequence[Call], holds: Callable[[CallsResult], bool]) -> Case:
    async def ask(sandbox: Sandbox, host: Host) -> str | None:
        found = await sandbox.call(Program(FORGE + dedent(source)), "add", calls, QUICK)
        if found.run.ending is Ending.TROUBLE or len(found.returned) != len(calls):
            return f"{len(found.returned)} of {len(calls)} calls, {told(found.run)}"
        return None if holds(found) else f"returned {str(found.returned)[:200]}, {told(found.run)}"

    return Case(name, Claim.VALUES, must, ask)


_SECRET = 8_675_309
"""What `add` of the two arguments below is; no program that does not add is right."""
_ADD = [Call((8_675_300, 9))]


def _wrong(found: CallsResult) -> bool:
    """Whether a program that does not add is seen not to."""
    one = found.returned[0]
    return one.missing or one.error is not None or not plain.same(one.value, _SECRET)


def _lie(name: str, source: str) -> Case:
    return _calls(name, "it is not taken for right", source, _ADD, _wrong)


class _Plain:
    """Values of every kind that crosses, and their way there and back."""

    values: tuple[Any, ...] = (
        *(None, True, 0, -1, 1 << 200, 1.5, float("inf"), -0.0, 1 + 2j, "text \ud800 \N{SNOWMAN}", b"\xff"),
        *([1, [2]], (1, (2,)), {1, 2}, frozenset({3}), {"a": [1], (1, 2): {}}),
    )

    @classmethod
    def crossed(cls, found: CallsResult) -> bool:
        return all(plain.same(one.value, value) for one, value in zip(found.returned, cls.values, strict=True))


LIARS = {
    "equality that is always true": """
    class E:
        def __eq__(self, other): return True
        __hash__ = None
        def __bool__(self): return True
        def __len__(self): return 1
    def add(a, b): return E()
    """,
    "a number that equals all": """
    class I(int):
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        __hash__ = int.__hash__
    def add(a, b): return I(7)
    """,
    "a class that changes its name": """
    class int(int): pass
    int.__qualname__ = 'int'
    def add(a, b): return int(7)
    """,
    "a walk up the frames": """
    import sys
    def add(a, b):
        frame = sys._getframe()
        while frame:
            for value in list(frame.f_locals.values()):
                if isinstance(value, list): value.append((True, 8675309))
                if isinstance(value, dict): value.update(passed=True, expected=0, result=True)
            frame = frame.f_back
        return 0
    """,
    "exit before the call": "raise SystemExit(0)",
    "hard exit before the call": "import os; os._exit(0)",
    "exit in the call": """
    import os
    def add(a, b): os._exit(0)
    """,
    "words of success": """
    print("ALL TESTS PASSED"); print('{"passed": true, "outcome": "pass"}')
    print("OK")
    def add(a, b): return 0
    """,
    "forged result": """
    forge([0, '1']); forge(True)
    def add(a, b): return 0
    """,
    "forged result, then exit": """
    forge(True)
    import os; os._exit(0)
    """,
    "patched interpreter": """
    import builtins, json, os, sys
    json.dumps = lambda *a, **k: '[5, [0, "0"], true]'
    builtins.isinstance = lambda *a: True
    builtins.type = lambda *a: int
    builtins.all = builtins.any = lambda *a: True
    builtins.AssertionError = Exception
    exit = os._exit
    os._exit = lambda code: exit(0)
    sys.excepthook = lambda *a: exit(0)
    sys.settrace(lambda *a: None)
    def add(a, b): return 0
    """,
    "pickle bomb": """
    import os, pickle
    class X:
        def __reduce__(self): return (os.system, ('touch pwned',))
    for descriptor in range(3, 10):
        try: os.write(descriptor, pickle.dumps(X()))
        except OSError: pass
    def add(a, b): return 0
    """,
    "depth bomb": """
    import os, struct
    data = b'[4,' * 100000
    for descriptor in range(3, 10):
        try: os.write(descriptor, struct.pack('<I', len(data)) + data)
        except OSError: pass
    def add(a, b):
        value = []
        for _ in range(100000): value = [value]
        return value
    """,
    "long numbers": "def add(a, b): return 1 << 400000",
    "length bomb": """
    import os, struct
    for descriptor in range(3, 10):
        try: os.write(descriptor, struct.pack('<I', 0xFFFFFFFF))
        except OSError: pass
    def add(a, b): return 0
    """,
    "truth for a number": "def add(a, b): return True",
    "text for a number": "def add(a, b): return '8675309'",
    "float for a number": "def add(a, b): return 8675309.0",
    "no function": "pass",
}
"""Programs that do not add, and want to be taken for one that does."""

VALUES = [
    _calls("addition", "it is right", "def add(a, b): return a + b", _ADD, lambda found: not _wrong(found)),
    _calls(
        "plain values",
        "all kinds cross both ways",
        "def add(a): return a",
        [Call((value,)) for value in _Plain.values],
        _Plain.crossed,
    ),
    _calls(
        "an error in one call",
        "the others count",
        "def add(a): return 6 // a",
        [Call((0,)), Call((2,))],
        lambda found: found.returned[0].error is not None and found.returned[1].value == 3,
    ),
    _calls(
        "an end in one call",
        "those before it count, and it is seen",
        """
        import os
        def add(a): return a if a else os._exit(0)
        """,
        [Call((1,)), Call((0,)), Call((2,))],
        lambda found: found.returned[0].value == 1 and found.returned[1].missing and found.returned[2].missing,
    ),
    *[_lie(name, source) for name, source in LIARS.items()],
]


def _judged(
    name: str,
    must: str,
    source: str,
    outcome: JudgedOutcome,
    tests: str = "assert add(8675300, 9) == 8675309",
    limits: Limits = QUICK,
    *,
    in_place: bool = False,
) -> Case:
    async def ask(sandbox: Sandbox, host: Host) -> str | None:
        program = Program(FORGE + dedent(source))
        got = await sandbox.judge(program, dedent(tests), ["add"], limits, in_place=in_place)
        if Ending.TROUBLE in {got.candidate.ending, got.tests.ending}:
            return f"{got.candidate.detail} {got.tests.detail}".strip()
        return None if got.outcome is outcome else f"{got.outcome}: {got.detail}"

    return Case(name, Claim.JUDGE, must, ask)


_RIGHT = "def add(a, b): return a + b"
_FAILED, _PASSED, _UNJUDGED = JudgedOutcome.FAILED, JudgedOutcome.PASSED, JudgedOutcome.UNJUDGED
JUDGE = [
    _judged("addition", "it is right", _RIGHT, _PASSED),
    _judged(
        "exceptions",
        "they cross",
        "def add(a, b): raise ValueError('no')",
        _PASSED,
        """
        try: add(1, 2)
        except ValueError as error: assert str(error) == 'no'
        else: assert False
        """,
    ),
    _judged(
        "changes in place",
        "they are seen where that is asked for",
        """
        def add(numbers, *, seen):
            numbers.sort()
            seen.update(numbers)
            return numbers[0]
        """,
        _PASSED,
        "a, b = [3, 1], {9}\nassert add(a, seen=b) == 1 and a == [1, 3] and b == {1, 3, 9}",
        in_place=True,
    ),
    _judged(
        "what it is compared with, spoilt",
        "it has failed",
        """
        def add(numbers):
            numbers.clear()
            return 0
        """,
        _FAILED,
        "numbers = [1, 2]\nassert add(numbers) == sum(numbers)",
    ),
    _judged(
        "changes that cannot be",
        "it has failed",
        "def add(numbers):\n    forge([5, [0, '1'], [8, [0, '0'], [6]]])",
        _FAILED,
        "assert add([1]) == 1",
        in_place=True,
    ),
    _judged("tests that are none", "nothing is said of the program", _RIGHT, _UNJUDGED, "assert add(1, 2) =="),
    _judged("tests that break", "nothing is said of the program", _RIGHT, _UNJUDGED, "1 / 0"),
    _judged("tests that leave", "nothing is said of the program", _RIGHT, _UNJUDGED, "raise SystemExit(0)"),
    _judged(
        "tests that hang",
        "nothing is said of the program",
        _RIGHT,
        _UNJUDGED,
        "while True: pass",
        replace(QUICK, cpu_seconds=0.3),
    ),
    _judged("what cannot cross", "nothing is said of the program", _RIGHT, _UNJUDGED, "add(lambda: 1, 2)"),
    _judged(
        "a program that hangs",
        "it has failed",
        """
        def add(a, b):
            while True: pass
        """,
        _FAILED,
        limits=replace(QUICK, cpu_seconds=0.3),
    ),
    _judged(
        "an end that tests swallow",
        "it has failed",
        """
        import os
        def add(a, b): return a + b if a else os._exit(0)
        """,
        _FAILED,
        """
        assert add(1, 2) == 3
        try: add(0, 0)
        except Exception: pass
        """,
    ),
    _judged(
        "a line that is cut",
        "it has failed",
        """
        import os
        def add(a, b):
            os.closerange(3, 10)
            return a + b
        """,
        _FAILED,
    ),
    _judged(
        "a forged verdict",
        "it has failed",
        """
        def add(a, b):
            forge([5, True, '', [0, '1'], None, [4]], whole=True)
            os._exit(0)
        """,
        _FAILED,
    ),
    _judged(
        "an answer that ends the tests",
        "it has failed",
        "def add(a, b): raise SystemExit(0)",
        _FAILED,
    ),
    _judged(
        "an answer too many",
        "it has failed",
        """
        forge([0, '%x' % 1])
        def add(a, b): forge([0, '1']); return 0
        """,
        _FAILED,
    ),
    # Tests decide by `==`, to which 1.0 is 1.
    *[_judged(name, "it has failed", source, _FAILED) for name, source in LIARS.items() if "float" not in name],
]

_SEARCH = """
import gc, os, sys
def add(a, b):
    found = []
    def look(one):
        if isinstance(one, bytes): one = one.decode('latin1')
        if isinstance(one, str) and len(one) < 100000: found.append(one)
    for one in gc.get_objects():
        for part in gc.get_referents(one): look(part)
        if hasattr(one, 'co_consts'): [look(part) for part in one.co_consts]
    frame = sys._getframe()
    while frame:
        [look(part) for part in frame.f_locals.values()]
        frame = frame.f_back
    for descriptor in range(64):
        for read in (os.pread, lambda *_: os.read(descriptor, 1 << 16) if descriptor == 0 else b''):
            try: look(read(descriptor, 1 << 16, 0))
            except OSError: pass
    for text in found: print(text)
    return 0
"""


async def _answer_is_nowhere(sandbox: Sandbox, host: Host) -> str | None:
    wide = replace(QUICK, output_bytes=16 * MIB)
    tests = f"secret = {host.secret.decode()!r}\nassert add(1, 2) == secret"
    got = await sandbox.judge(Program(_SEARCH), tests, ["add"], wide)
    if got.outcome is not JudgedOutcome.FAILED or got.calls != 1:
        return f"{got.outcome} {got.detail} {told(got.candidate)}"
    return "what tests expect was found by the program" if host.secret in got.candidate.stdout else None


JUDGE.append(Case("a search for the answer", Claim.JUDGE, "no expected value is anywhere near", _answer_is_nowhere))


async def _arguments_are_bounded(sandbox: Sandbox, host: Host) -> str | None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    for argument in (deep, object(), lambda: 1):
        try:
            await sandbox.call(Program(_RIGHT), "add", [Call((argument, 1))], QUICK)
        except SandboxError:
            continue
        return f"{type(argument).__name__} was passed"
    return None


ARGUMENTS: Ask = _arguments_are_bounded
PROTOCOL: list[Case] = [
    *WORKS,
    *FRESH,
    *VALUES,
    Case("arguments that are no data", Claim.VALUES, "they are refused before anything runs", ARGUMENTS),
    *JUDGE,
]
