"""What runs in the process of a program: the program itself, calls of its functions, tests of another's, or another
executable.

It begins where the walls already stand. Nothing that comes after a program's first line can be trusted, this module's
own functions included: what is written to the results is what the program chose to say, and whoever reads it must treat
it so. `tests` is the exception: no program's code ever runs in that process.

Results are records: four bytes of length, then `plain` data. A call's record is `(0, value)` or `(1, error)`. Between
tests and program go the same records: `(name, args, kwargs)` there, `(0, value)` or `(1, exception, message)` back. The
tests' verdict is no record but plain data as it is.
"""

from __future__ import annotations

import atexit
import builtins
import os
import random
import socket
import struct
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from sandboxes import frames, plain

RESULTS = 3
"""The descriptor that results go to, or the peer where there are none."""
PEER = 4
"""The descriptor that tests ask on."""
LENGTH = struct.Struct("<I")
_LONGEST_ERROR = 1000

_write, _exit = os.write, os._exit  # a program may replace them in `os`, and would only spoil its own results

Work = frames.Frame


def read_work(descriptor: int, length: int) -> Work:
    """What there is to do: trusted, and read whole before the program's first line."""
    data = os.pread(descriptor, length, 0)
    while len(data) < length:
        data += os.pread(descriptor, length - len(data), len(data))
    return frames.unpack(data)


def put_files(work: Work) -> None:
    """Write the program's files into the present folder."""
    header, blobs = work
    for name, content in zip(header["files"], blobs[1:], strict=False):
        with open(name, "wb") as file:
            file.write(content)


def begin(mode: str, work: Work) -> NoReturn:
    """Do the work in the present folder, then end this process, whatever happens."""
    header, blobs = work
    try:
        _be_fresh()
        source = blobs[0].decode("utf-8", "surrogatepass")
        MODES[mode](source, header, blobs[1 + len(header["files"]) :])
        _exit(0)
    finally:
        _exit(1)


def _be_fresh() -> None:
    """What an interpreter of its own would have."""
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def _run(source: str, header: dict[str, Any], blobs: list[bytes]) -> NoReturn:
    """As `python main.py` would, to the exit status."""
    main = _module("__main__", "main.py")
    try:
        exec(compile(source, "main.py", "exec", dont_inherit=True), main.__dict__)
        status = 0
    except SystemExit as error:
        status = _status_of(error)
    except BaseException as error:
        _print_traceback(error, source)
        status = 1
    _finish(status)


def _module(name: str, file: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    return module


def _status_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _print_traceback(error: BaseException, source: str) -> None:
    import linecache

    linecache.cache["main.py"] = (len(source), None, source.splitlines(keepends=True), "main.py")
    own = error.__traceback__.tb_next if error.__traceback__ else None  # without this module's frame
    sys.excepthook(type(error), error.with_traceback(own), own)


def _finish(status: int) -> NoReturn:
    """Wait for threads, run what was registered, flush: as at the end of an interpreter, without taking it apart."""
    try:
        threading = sys.modules.get("threading")
        if threading is not None and threading.active_count() > 1:
            threading._shutdown()
        if atexit._ncallbacks():
            atexit._run_exitfuncs()
    except BaseException:
        status = 1
        sys.excepthook(*sys.exc_info())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            status = status or 120  # what the interpreter itself says to that
    _exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # noqa: S110 - closed or replaced by the program
            pass


def _calls(source: str, header: dict[str, Any], blobs: list[bytes]) -> None:
    """A program's function, call by call. What it returned stands in the results before the next call begins."""
    namespace = _load(source)
    function = namespace.get(header["function"], _Missing(header["function"]))
    for args, kwargs in plain.decode(blobs[0]):
        _write_all(RESULTS, _answer(function, args, kwargs, header["longest"]))
    _flush()


def _load(source: str) -> dict[str, Any]:
    """The program's names. One that cannot be loaded ends here, as it would by itself."""
    module = _module("solution", "main.py")
    try:
        exec(compile(source, "main.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        _flush()
        _exit(_status_of(error))
    except BaseException as error:
        _print_traceback(error, source)
        _flush()
        _exit(1)
    return module.__dict__


def _answer(function: Any, args: Sequence[Any], kwargs: dict[str, Any], longest: int) -> bytes:
    """A record of what a call came to."""
    try:
        record = plain.encode((0, function(*args, **kwargs)))
        if len(record) > longest:
            record = plain.encode((1, "ValueError", f"a value of more than {longest} bytes"))
    except BaseException as error:
        record = plain.encode((1, _kind(error), _message(error)))
    return LENGTH.pack(len(record)) + record


def _kind(error: BaseException) -> str:
    """The name of its class, or of the one above it that tests know too: a JSONDecodeError is a ValueError."""
    kinds = type(error).__mro__
    known = (kind for kind in kinds if getattr(builtins, kind.__name__, None) is kind)
    above = next((kind.__name__ for kind in known if kind not in {Exception, BaseException, object}), "")
    return above or kinds[0].__name__


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_LONGEST_ERROR]
    except BaseException:
        return ""


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[_write(descriptor, data) :]


def _serve(source: str, header: dict[str, Any], blobs: list[bytes]) -> None:
    """A program whose functions somebody else's tests call."""
    namespace = _load(source)
    line = socket.socket(fileno=RESULTS)
    while (request := _receive(line, header["longest"])) is not None:
        name, args, kwargs = plain.decode(request)
        function = namespace.get(name, _Missing(name))
        if header["in_place"]:
            function = _telling_changes(function)
        _write_all(RESULTS, _answer(function, args, kwargs, header["longest"]))
    _flush()


def _telling_changes(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, returning with its value the arguments that it changed in place, by position or name."""

    def call(*args: Any, **kwargs: Any) -> tuple[Any, dict[int | str, Any]]:
        named = {name: value for name, value in _named(args, kwargs).items() if type(value) in _CHANGEABLE}
        before = {name: plain.encode(value) for name, value in named.items()}
        value = function(*args, **kwargs)
        return value, {name: one for name, one in named.items() if plain.encode(one) != before[name]}

    return call


_CHANGEABLE = {list, dict, set}


def _named(args: Sequence[Any], kwargs: Mapping[Any, Any]) -> dict[int | str, Any]:
    return {**dict(enumerate(args)), **kwargs}


class _Missing:
    """Stands for a function that the program does not have."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NameError(f"name '{self._name}' is not defined")


def _receive(line: socket.socket, longest: int) -> bytes | None:
    """A record; None where the other side has gone, or sends what is none."""
    head = _receive_exactly(line, LENGTH.size)
    if head is None or (length := LENGTH.unpack(head)[0]) > longest + 100:
        return None
    return _receive_exactly(line, length)


def _receive_exactly(line: socket.socket, length: int) -> bytes | None:
    data = b""
    while len(data) < length:
        try:
            part = line.recv(length - len(data))
        except OSError:
            return None
        if not part:
            return None
        data += part
    return data


class CandidateError(Exception):
    """The program did not answer, or raised an exception that Python does not have built in."""


class _Tests:
    """The functions that tests call, and what came of it."""

    def __init__(self, longest: int, *, in_place: bool) -> None:
        self._line = socket.socket(fileno=PEER)
        self._longest = longest
        self._in_place = in_place
        self.asked = 0
        """How often the program was called."""
        self.calls = 0
        """How often it answered."""
        self.lost = 0
        """How often it did not, because it had ended."""
        self.unjudged: str | None = None
        """Why a test could not be put to the program."""

    def stub(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            return self._ask(name, args, kwargs)

        ask.__name__ = ask.__qualname__ = name
        return ask

    def _ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.asked += 1
        try:
            request = plain.encode((name, args, kwargs))
        except plain.NotPlain as error:
            self.unjudged = f"an argument of {name} cannot be passed: {error}"
            raise
        record = self._answer_to(request)
        if record is None:
            self.lost += 1
            raise CandidateError("the program ended before it answered")
        self.calls += 1
        value = self._read(record)
        return self._apply_changes(value, _named(args, kwargs)) if self._in_place else value

    def _answer_to(self, request: bytes) -> bytes | None:
        try:
            self._line.sendall(LENGTH.pack(len(request)) + request)
        except OSError:
            return None
        return _receive(self._line, self._longest)

    @staticmethod
    def _apply_changes(answer: Any, arguments: dict[int | str, Any]) -> Any:
        match answer:
            case (value, dict(changes)) if all(_may_become(arguments.get(name), one) for name, one in changes.items()):
                for name, changed in changes.items():
                    _become(arguments[name], changed)
                return value
        raise CandidateError("the program answered with no answer")

    def _read(self, record: bytes) -> Any:
        try:
            answer = plain.decode(record)
        except plain.NotPlain as error:
            raise CandidateError(f"the program answered with {error}") from None
        match answer:
            case (0, value):
                return value
            case (1, str(kind), str(message)):
                known = getattr(builtins, kind, None)
                if isinstance(known, type) and issubclass(known, Exception):
                    raise _raised(known, message)
                raise CandidateError(f"{kind}: {message}")
        raise CandidateError("the program answered with no answer")


def _may_become(argument: Any, changed: Any) -> bool:
    return type(argument) in _CHANGEABLE and type(argument) is type(changed)


def _become(argument: Any, changed: Any) -> None:
    """Make a list, dict or set equal to another."""
    argument.clear()
    if isinstance(argument, list):
        argument.extend(changed)
    else:
        argument.update(changed)


def _raised(kind: type[Exception], message: str) -> Exception:
    try:
        return kind(message)
    except TypeError:  # those of Unicode want more than a message
        return CandidateError(f"{kind.__name__}: {message}")


def _judge(source: str, header: dict[str, Any], blobs: list[bytes]) -> None:
    """Tests, with functions in them that ask the program in its own jail. No code of the program is here."""
    tests, stubs = _tests(header, "solution")
    module = _module("__main__", "tests.py")
    module.__dict__.update(stubs)
    passed, detail = False, ""
    try:
        code = compile(source, "tests.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        _tell(False, "", tests, f"the tests are no program: {_message(error)}")
        return
    try:
        exec(code, module.__dict__)
        passed = not tests.lost  # whatever the tests made of it
        detail = "" if passed else "the program ended before it answered"
    except SystemExit:
        tests.unjudged = tests.unjudged or "the tests end themselves"
    except BaseException as error:
        detail = _describe(error)
        if not tests.calls and not isinstance(error, CandidateError | AssertionError):
            tests.unjudged = tests.unjudged or f"the tests fail by themselves: {detail}"
    _tell(passed, detail, tests, tests.unjudged)


def _pytest(source: str, header: dict[str, Any], blobs: list[bytes]) -> None:
    """As `_judge`, for a module of tests that pytest runs."""
    from sandboxes import pytests  # the fork server has imported it, with all of pytest

    tests, _ = _tests(header, header["module"])
    passed, detail, unjudged, each = pytests.run(source, tests)
    _tell(passed, detail, tests, unjudged, each)


def _tests(header: dict[str, Any], module: str) -> tuple[_Tests, dict[str, Callable[..., Any]]]:
    """A line to the program, and the functions that use it, which can be imported from a module."""
    tests = _Tests(header["longest"], in_place=header["in_place"])
    stubs = {name: tests.stub(name) for name in header["entry_points"]}
    _module(module, f"{module}.py").__dict__.update(stubs)
    return tests, stubs


def _tell(
    passed: bool, detail: str, tests: _Tests, unjudged: str | None, each: Sequence[tuple[str, str, str]] = ()
) -> None:
    """The verdict: see `pool.read_judged`."""
    _write_all(RESULTS, plain.encode((passed, detail, tests.calls, unjudged, list(each))))
    _flush()


def _describe(error: BaseException) -> str:
    """In one line: the test's line, and the error."""
    import traceback

    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "tests.py"]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {_message(error)}".replace("\n", " ").rstrip(": ")[:_LONGEST_ERROR]


def _execute(source: str, header: dict[str, Any], blobs: list[bytes]) -> NoReturn:
    """Become another program, which is handed the source and everything else in descriptors."""
    for place, content in enumerate([source.encode("utf-8", "surrogatepass"), *blobs], start=header["first"]):
        descriptor = os.memfd_create("sandbox")
        _write_all(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.execve(header["program"], header["arguments"], {})


MODES: dict[str, Callable[[str, dict[str, Any], list[bytes]], None]] = {
    "execute": _execute,
    "run": _run,
    "calls": _calls,
    "serve": _serve,
    "judge": _judge,
    "pytest": _pytest,
}
