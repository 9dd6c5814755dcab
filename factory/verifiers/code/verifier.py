"""Code: runs what a model wrote in a sandbox, and compares outside of it.

FAIL is the program's: a wrong value, an exception, a limit that it ran into by itself, no program at all. UNKNOWN is
ours: trouble of the sandbox, a run that was over its time because the machine was busy, tests that could not be put to
the program. Evidence has one character a test: `1` passed, `0` failed, `-` not run; of pytest's also those that count
neither way: `s` skipped, `x` expected to fail, `?` broken by itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from factory.errors import ConfigError, VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.base import Finding
from factory.verifiers.code.extract import joined, program
from factory.verifiers.code.params import CHECK, KNOWN, Appended, Calls, Check, Pytest, Stdio, Tests, language_of
from factory.verifiers.jail import Jail, decided
from sandboxes import plain
from sandboxes.base import (
    Call,
    Ending,
    JudgedOutcome,
    JudgedResult,
    JudgedTestOutcome,
    Language,
    Program,
    Returned,
    RunResult,
)

Jails = Callable[[Language], Jail]
"""Where programs of a language are run."""
_NOTHING = {Language.PYTHON: "pass", Language.CPP: "int main() {}", Language.JAVASCRIPT: ";"}
_SHOWN = 200
_UNCOUNTED = {JudgedTestOutcome.SKIPPED: "s", JudgedTestOutcome.XFAILED: "x", JudgedTestOutcome.BROKEN: "?"}
_NODE_ERROR = re.compile(r"^\w*Error\b.*", re.MULTILINE)
_LIMITS = {Ending.CPU_LIMIT, Ending.WALL_LIMIT, Ending.MEMORY_LIMIT, Ending.OUTPUT_LIMIT}


@dataclass(frozen=True, slots=True)
class Result:
    """What one test came to."""

    passed: bool
    why: str = ""
    """In one line, where it did not pass."""
    last: bool = False
    """Whether to leave the tests after it: each would only cost the same time."""
    uncounted: str = ""
    """The mark of a test that is neither a pass nor a failure."""

    @property
    def mark(self) -> str:
        return self.uncounted or ("1" if self.passed else "0")


class CodeVerifier:
    """Judges programs by what they do."""

    name = "code"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def __init__(self, jails: Jails) -> None:
        self._jails = jails

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        check = parameters.read(self.name, CHECK, params, KNOWN)
        if isinstance(check, Calls):
            _calls(check)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:  # noqa: ARG002
        """One finding: of the program in the attempt."""
        check = parameters.read(self.name, CHECK, params, KNOWN)
        names = names_of(check)
        source = program(attempt.text, language_of(check), names)
        if source is None:
            return [Finding(Aspect.ANSWER, Outcome.FAIL, None, "no program")]
        return [self._judged(check, joined(check.prefix, source, names), source)]

    def as_attempt(self, reference: str) -> Attempt:
        """The program in a fenced block; no model sampled it."""
        return Attempt((Span(f"```\n{reference}\n```", Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:
        """A program that does nothing."""
        check = parameters.read(self.name, CHECK, params, KNOWN)
        functions = [f"def {name}(*args, **kwargs):\n    return None\n" for name in names_of(check)]
        return self.as_attempt("\n".join(functions) or _NOTHING[language_of(check)])

    def _judged(self, check: Check, source: str, shown: str) -> Finding:
        results, number, note = self._results(check, source)
        marks = "".join(one.mark for one in results).ljust(number, "-")
        passed = marks.count("1") == number and "0" not in marks
        failed = next((f"test {place + 1}: {one.why}" for place, one in enumerate(results) if one.mark == "0"), note)
        evidence = f"{marks.count('1')} of {number} tests pass ({marks[:100]}); {failed}"
        outcome = Outcome.PASS if passed else Outcome.FAIL
        return Finding(Aspect.ANSWER, outcome, shown, _line(evidence))

    def _results(self, check: Check, source: str) -> tuple[list[Result], int, str]:
        """Of each test that was run; how many there are; what to note where all pass."""
        jail = self._jails(language_of(check))
        match check:
            case Calls():
                return _by_calls(jail, check, source), len(check.cases), check.function
            case Stdio():
                return _until_last(_by_stdio(jail, check, source)), len(check.cases), check.compare
            case Tests():
                return _until_last(_by_tests(jail, check, source)), len(check.tests), "by tests in a jail of their own"
            case Pytest():
                results = _by_pytest(jail, check, source)
                return results, sum(not one.uncounted for one in results), "by pytest in a jail of its own"
            case Appended():
                return [_by_appended(jail, check, source)], 1, "weak: tests in the program's own process"


def names_of(check: Check) -> list[str]:
    """What a program must define."""
    match check:
        case Calls():
            return [check.function.partition(".")[0]]
        case Tests() | Pytest():
            return list(check.entry_points)
    return []


def _until_last(results: Iterator[Result]) -> list[Result]:
    found = []
    for result in results:
        found.append(result)
        if result.last:
            break
    return found


# --- calls


def _calls(check: Calls) -> list[Call]:
    calls = [Call(tuple(case.args), case.kwargs) for case in check.cases]
    try:
        plain.encode([(call.args, dict(call.kwargs)) for call in calls])
        plain.encode([case.expected for case in check.cases])
    except plain.NotPlain as error:
        raise ConfigError(f"code: cases: {error}") from None
    return calls


def _by_calls(jail: Jail, check: Calls, source: str) -> list[Result]:
    called = jail.call(Program(source), check.function, _calls(check), check.limits)
    _not_starved(decided(called.run))
    ended = _ended(called.run)
    return [_compared(check, case.expected, one, ended) for case, one in zip(check.cases, called.returned, strict=True)]


def _compared(check: Calls, expected: Any, returned: Returned, ended: str) -> Result:
    if returned.missing:
        return Result(False, f"no value: {ended}")
    if returned.error is not None:
        return Result(False, returned.error)
    if same(returned.value, expected, check.types, check.tolerance):
        return Result(True)
    return Result(False, f"returned {_brief(returned.value)} and not {_brief(expected)}")


def same(value: Any, expected: Any, types: str, tolerance: float | None) -> bool:
    """Whether a value is what is expected. Both are plain data: no `==` of a program's runs."""
    if types == "json":
        value, expected = as_json(value), as_json(expected)
    return plain.same(value, expected) if tolerance is None else _close(value, expected, tolerance)


def as_json(value: Any) -> Any:
    """The value with what JSON does not tell apart made the same: tuples are lists, keys of dicts are texts."""
    if type(value) in {list, tuple}:
        return [as_json(part) for part in value]
    if type(value) is dict:
        return {_key(key): as_json(part) for key, part in value.items()}
    return value


def _key(key: Any) -> Any:
    return str(key) if type(key) in {int, float} else key


def _close(value: Any, expected: Any, tolerance: float) -> bool:
    if type(value) is float or type(expected) is float:
        numbers = {type(value), type(expected)} <= {int, float}
        return numbers and math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
    if type(value) is not type(expected):
        return False
    if type(value) in {list, tuple}:
        return len(value) == len(expected) and all(
            _close(one, other, tolerance) for one, other in zip(value, expected, strict=True)
        )
    if type(value) is dict:
        return value.keys() == expected.keys() and all(_close(value[key], expected[key], tolerance) for key in value)
    return plain.same(value, expected)


# --- standard input and output


def _by_stdio(jail: Jail, check: Stdio, source: str) -> Iterator[Result]:
    for case in check.cases:
        run = _not_starved(
            decided(jail.run(Program(source, case.stdin.encode(), language=language_of(check)), check.limits))
        )
        if not run.ok:
            yield Result(False, _ended(run), last=run.ending in _LIMITS or run.ending is Ending.BUILD_FAILED)
        elif _same_text(run.stdout.decode(errors="replace"), case.stdout, check):
            yield Result(True)
        else:
            yield Result(False, f"wrote {_brief(run.stdout.decode(errors='replace'))} and not {_brief(case.stdout)}")


def _same_text(written: str, expected: str, check: Stdio) -> bool:
    match check.compare:
        case "exact":
            return written == expected
        case "lines":
            return _lines(written) == _lines(expected)
    one, other = written.split(), expected.split()
    return len(one) == len(other) and all(
        _same_token(left, right, check.tolerance) for left, right in zip(one, other, strict=True)
    )


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_token(left: str, right: str, tolerance: float | None) -> bool:
    if left == right or tolerance is None:
        return left == right
    try:
        return math.isclose(float(left), float(right), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False


# --- tests


def _by_tests(jail: Jail, check: Tests, source: str) -> Iterator[Result]:
    for tests in check.tests:
        judged = _said(jail.judge(Program(source), tests, check.entry_points, check.limits, in_place=check.in_place))
        limit = judged.candidate.ending in _LIMITS
        if judged.outcome is JudgedOutcome.PASSED:
            yield Result(True)
        else:
            yield Result(False, _ended(judged.candidate) if limit else judged.detail, last=limit)


def _said(judged: JudgedResult) -> JudgedResult:
    """What tests said, if they said anything about the program. Raises VerifierError."""
    _not_starved(decided(judged.candidate))
    _not_starved(decided(judged.tests))
    if judged.outcome is JudgedOutcome.UNJUDGED:
        raise VerifierError(judged.detail)
    if judged.outcome is JudgedOutcome.PASSED and judged.calls == 0:
        raise VerifierError("the tests pass without a call of the program")
    return judged


def _by_pytest(jail: Jail, check: Pytest, source: str) -> list[Result]:
    judged = _said(
        jail.judge(
            Program(source),
            check.tests,
            check.entry_points,
            check.limits,
            in_place=check.in_place,
            pytest_module=check.module,
        )
    )
    limit = f" ({_ended(judged.candidate)})" if judged.candidate.ending in _LIMITS else ""
    results = [
        Result(
            one.outcome is JudgedTestOutcome.PASSED,
            f"{one.name}: {one.detail}{limit}",
            uncounted=_UNCOUNTED.get(one.outcome, ""),
        )
        for one in judged.each
    ]
    failed = judged.outcome is JudgedOutcome.FAILED and all(one.mark != "0" for one in results)
    # It failed before or between the tests.
    return [*results, Result(False, judged.detail + limit)] if failed else results


def _by_appended(jail: Jail, check: Appended, source: str) -> Result:
    whole = Program(f"{source}\n{check.tests}", language=language_of(check))
    run = _not_starved(decided(jail.run(whole, check.limits)))
    return Result(run.ok, "" if run.ok else _ended(run))


# --- how it ended


def _not_starved(run: RunResult) -> RunResult:
    """Raises VerifierError for a run that was twice over its time while it waited for a processor."""
    if run.ending is Ending.WALL_LIMIT and run.attempts > 1:
        raise VerifierError("the machine is too busy: it was over its time twice, waiting for a processor")
    return run


def _ended(run: RunResult) -> str:
    text = run.stderr.decode(errors="replace").strip()
    last = text.rpartition("\n")[2]
    if last.startswith("Node.js v"):  # the error stands further up
        last = next(iter(_NODE_ERROR.findall(text)), last)
    if run.ending is Ending.EXITED:
        return last or f"exit status {run.exit_code}"
    return f"{run.ending} {last or run.detail}".strip()


def _brief(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _line(text: str) -> str:
    return " ".join(text.split())[:1000]
