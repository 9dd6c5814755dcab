"""The contract of a verifier: it decides about a finished attempt, and says UNKNOWN where it cannot.

A verifier is a pure function of problem, parameters and text, as far as a sandbox or a model that it asks is one. It is
called from threads and may wait. `verdicts` is the boundary: whatever a verifier raises becomes an UNKNOWN verdict that
names the trouble, never a FAIL; where something died, it is asked once more first. Only the death of an engine goes
through: it is no attempt's trouble, and what could not be judged is owed again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from factory.errors import ConfigError, EngineDead, VerifierError, classify
from factory.types import Aspect, Attempt, Check, Outcome, Problem, Verdict, worst


@dataclass(frozen=True, slots=True)
class Finding:
    """What a verifier says of one aspect; the boundary adds name, version and time."""

    aspect: Aspect
    outcome: Outcome
    extracted: str | None
    evidence: str


class Verifier(Protocol):
    """Decides about finished attempts."""

    name: str
    version: str
    aspects: tuple[Aspect, ...]
    """Which aspects `judge` always returns, answer first."""
    costly: bool
    """Whether to ask it costs a model's tokens: then a reference is tried only where that was asked for."""

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise `ConfigError`, in one line, for parameters that cannot work."""
        ...

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """One finding per aspect."""
        ...

    def as_attempt(self, reference: str) -> Attempt:
        """The reference written as an attempt, so that a verifier can be tried on the gold answer."""
        ...

    def stub(self, params: Mapping[str, Any]) -> Attempt:
        """An attempt at nothing, which no check may accept."""
        ...


@runtime_checkable
class Composite(Verifier, Protocol):
    """A verifier that judges by other checks."""

    def parts(self, params: Mapping[str, Any]) -> Sequence[Check]:
        """The checks that it puts. Raises `ConfigError` for parameters that cannot work."""
        ...


@runtime_checkable
class ReadsAlong(Verifier, Protocol):
    """A verifier that can tell of an unfinished attempt that it goes wrong. For search only: it decides nothing."""

    def flaw(self, params: Mapping[str, Any], attempt: Attempt) -> str | None:
        """What is wrong with what is there, whatever may follow; None for nothing."""
        ...


Verifiers = Mapping[str, Verifier]


def flaw(verifiers: Verifiers, problem: Problem, attempt: Attempt) -> str | None:
    """The first flaw that a problem's checks find in an unfinished attempt. LookupError where none reads along."""
    reading = [(one, check) for check in problem.checks if isinstance(one := verifiers[check.verifier], ReadsAlong)]
    if not reading:
        raise LookupError(f"no check of problem {problem.id} reads unfinished attempts")
    return next((found for one, check in reading if (found := one.flaw(check.params, attempt))), None)


def within(verifiers: Verifiers, check: Check) -> Iterator[Check]:
    """A check, and every check inside it. Raises ConfigError for parameters that cannot work."""
    yield check
    verifier = verifiers.get(check.verifier)
    if isinstance(verifier, Composite):
        for part in verifier.parts(check.params):
            yield from within(verifiers, part)


def version_of(verifiers: Verifiers, check: Check) -> str:
    """What decides: the verifier's version, and of a combination the versions of all verifiers inside it as well."""
    own = verifiers[check.verifier].version
    try:
        names = {part.verifier for part in within(verifiers, check)} - {check.verifier}
        inside = [f"{name} {verifiers[name].version}" for name in sorted(names)]
    except (ConfigError, KeyError):  # it will be UNKNOWN, and say why
        return own
    return f"{own} ({', '.join(inside)})" if inside else own


def verdicts(verifiers: Verifiers, problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    """Every check of `problem` on `attempt`, in the order of the checks. Never raises for trouble in a verifier."""
    return renewed(verifiers, problem, attempt, ())


def renewed(
    verifiers: Verifiers, problem: Problem, attempt: Attempt, recorded: Sequence[Verdict]
) -> tuple[Verdict, ...]:
    """The same, where earlier verdicts on this very text are known: those of today's versions are kept, and only the
    other checks are put."""
    left, found = list(recorded), list[Verdict]()
    for check in problem.checks:
        found.extend(_recorded(verifiers, check, left) or _apply(verifiers, check, problem, attempt))
    return tuple(found)


def _recorded(verifiers: Verifiers, check: Check, left: list[Verdict]) -> list[Verdict]:
    """The first verdicts of a check's verifier and version, taken from what is left; empty if an aspect is missing."""
    if not left:
        return []
    version = version_of(verifiers, check)
    of_check = [one for one in left if (one.verifier, one.version) == (check.verifier, version)]
    aspects = verifiers[check.verifier].aspects
    found = of_check[: len(aspects)]
    if tuple(one.aspect for one in found) != aspects:
        return []
    for one in found:
        left.remove(one)
    return found


def _apply(verifiers: Verifiers, check: Check, problem: Problem, attempt: Attempt) -> list[Verdict]:
    verifier = verifiers[check.verifier]
    version = version_of(verifiers, check)
    start = time.perf_counter()
    try:
        findings = _judged(verifier, check, problem, attempt)
    except EngineDead:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a verifier raises is trouble, and trouble is UNKNOWN
        findings = [Finding(aspect, Outcome.UNKNOWN, None, classify(error)) for aspect in verifier.aspects]
    seconds = time.perf_counter() - start
    return [Verdict(verifier.name, version, f.aspect, f.outcome, f.extracted, f.evidence, seconds) for f in findings]


def _judged(verifier: Verifier, check: Check, problem: Problem, attempt: Attempt) -> list[Finding]:
    """Asks once more where something died: a worker that is killed must not cost the attempt."""
    try:
        return verifier.judge(problem, check.params, attempt)
    except VerifierError as error:
        if not error.passing:
            raise
    return verifier.judge(problem, check.params, attempt)


def validate_problem(verifiers: Verifiers, problem: Problem, *, costly: bool = False) -> None:
    """Refuse a problem whose checks do not exist, cannot work, reject its own reference, or accept nothing at all.

    `costly`: whether checks that cost something are tried on the reference, too. Nothing at all costs nothing to judge.
    Raises ConfigError, in one line, that follows on from the name of the problem.
    """
    validate_checks(verifiers, problem)
    for check in problem.checks:
        if costly or not is_costly(verifiers, check):
            _try_reference(verifiers, problem, check)
        _try_stub(verifiers, problem, check)


def is_costly(verifiers: Verifiers, check: Check) -> bool:
    """Whether a check, or one inside it, costs something."""
    return any(verifiers[one.verifier].costly for one in within(verifiers, check))


def validate_checks(verifiers: Verifiers, problem: Problem) -> None:
    """The cheap part: refuse a problem whose checks do not exist or cannot work. Raises ConfigError, in one line."""
    if not problem.checks:
        raise ConfigError("it has no checks: nothing could tell a right answer from a wrong one")
    for check in problem.checks:
        if check.verifier not in verifiers:
            raise ConfigError(f"no verifier is called {check.verifier!r}; there are: {', '.join(sorted(verifiers))}")
        verifiers[check.verifier].validate(check.params)


def _try_reference(verifiers: Verifiers, problem: Problem, check: Check) -> None:
    if problem.reference is None:
        return
    attempt = verifiers[check.verifier].as_attempt(problem.reference)
    answer = _answers(verifiers, problem, check, attempt)
    wrong = [verdict for verdict in answer if verdict.outcome is not Outcome.PASS]
    if wrong:
        raise ConfigError(
            f"its own reference {problem.reference!r} does not pass {check.verifier!r}: {wrong[0].evidence}"
        )


def _try_stub(verifiers: Verifiers, problem: Problem, check: Check) -> None:
    answer = _answers(verifiers, problem, check, verifiers[check.verifier].stub(check.params))
    if answer and all(verdict.outcome is Outcome.PASS for verdict in answer):
        raise ConfigError(f"{check.verifier!r} is vacuous: an attempt at nothing passes it: {answer[0].evidence}")


def _answers(verifiers: Verifiers, problem: Problem, check: Check, attempt: Attempt) -> list[Verdict]:
    """What one check says of an attempt's answer."""
    found = verdicts(verifiers, replace(problem, checks=(check,)), attempt)
    return [verdict for verdict in found if verdict.aspect is Aspect.ANSWER]


def outcome_of(found: Sequence[Verdict], aspect: Aspect) -> Outcome | None:
    """FAIL before UNKNOWN before PASS of one aspect; None where nothing judged it."""
    return worst(verdict.outcome for verdict in found if verdict.aspect is aspect)
