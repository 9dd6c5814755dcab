"""The contract of a verifier: it decides about a finished attempt, and says UNKNOWN where it cannot.

A verifier is a pure function of problem, parameters and text. It may take milliseconds; what takes longer belongs
in a process of its own, behind the same contract. `verdicts` is the boundary: whatever a verifier raises becomes an
UNKNOWN verdict that names the trouble, never a FAIL; where something died, it is asked once more first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from factory.errors import ConfigError, VerifierError, classify
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


Verifiers = Mapping[str, Verifier]


def verdicts(verifiers: Verifiers, problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    """Every check of `problem` on `attempt`, in the order of the checks. Never raises for trouble in a verifier."""
    found: list[Verdict] = []
    for check in problem.checks:
        found.extend(_apply(verifiers, check, problem, attempt))
    return tuple(found)


def _apply(verifiers: Verifiers, check: Check, problem: Problem, attempt: Attempt) -> list[Verdict]:
    verifier = verifiers[check.verifier]
    start = time.perf_counter()
    try:
        findings = _judged(verifier, check, problem, attempt)
    except Exception as error:  # noqa: BLE001 - whatever a verifier raises is trouble, and trouble is UNKNOWN
        findings = [Finding(aspect, Outcome.UNKNOWN, None, classify(error)) for aspect in verifier.aspects]
    seconds = time.perf_counter() - start
    return [
        Verdict(verifier.name, verifier.version, f.aspect, f.outcome, f.extracted, f.evidence, seconds)
        for f in findings
    ]


def _judged(verifier: Verifier, check: Check, problem: Problem, attempt: Attempt) -> list[Finding]:
    """Asks once more where something died: a worker that is killed must not cost the attempt."""
    try:
        return verifier.judge(problem, check.params, attempt)
    except VerifierError as error:
        if not error.passing:
            raise
    return verifier.judge(problem, check.params, attempt)


def validate_problem(verifiers: Verifiers, problem: Problem) -> None:
    """Refuse a problem whose checks do not exist, cannot work, reject its own reference, or accept nothing at all.

    Raises ConfigError, in one line, that follows on from the name of the problem.
    """
    validate_checks(verifiers, problem)
    for check in problem.checks:
        _try_reference(verifiers[check.verifier], problem, check)
        _try_stub(verifiers[check.verifier], problem, check)


def validate_checks(verifiers: Verifiers, problem: Problem) -> None:
    """The cheap part: refuse a problem whose checks do not exist or cannot work. Raises ConfigError, in one line."""
    if not problem.checks:
        raise ConfigError("it has no checks: nothing could tell a right answer from a wrong one")
    for check in problem.checks:
        if check.verifier not in verifiers:
            raise ConfigError(f"no verifier is called {check.verifier!r}; there are: {', '.join(sorted(verifiers))}")
        verifiers[check.verifier].validate(check.params)


def _try_reference(verifier: Verifier, problem: Problem, check: Check) -> None:
    if problem.reference is None:
        return
    answer = _answers(verifier, problem, check, verifier.as_attempt(problem.reference))
    wrong = [verdict for verdict in answer if verdict.outcome is not Outcome.PASS]
    if wrong:
        raise ConfigError(
            f"its own reference {problem.reference!r} does not pass {check.verifier!r}: {wrong[0].evidence}"
        )


def _try_stub(verifier: Verifier, problem: Problem, check: Check) -> None:
    answer = _answers(verifier, problem, check, verifier.stub(check.params))
    if answer and all(verdict.outcome is Outcome.PASS for verdict in answer):
        raise ConfigError(f"{check.verifier!r} is vacuous: an attempt at nothing passes it: {answer[0].evidence}")


def _answers(verifier: Verifier, problem: Problem, check: Check, attempt: Attempt) -> list[Verdict]:
    """What one check says of an attempt's answer."""
    one_check = replace(problem, checks=(check,))
    found = verdicts({verifier.name: verifier}, one_check, attempt)
    return [verdict for verdict in found if verdict.aspect is Aspect.ANSWER]


def outcome_of(found: Sequence[Verdict], aspect: Aspect) -> Outcome | None:
    """FAIL before UNKNOWN before PASS of one aspect; None where nothing judged it."""
    return worst(verdict.outcome for verdict in found if verdict.aspect is aspect)
