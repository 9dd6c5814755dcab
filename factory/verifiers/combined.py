"""Checks of checks: `all`, `any` and `weighted`, each of other verifiers' answers.

Parameters: `checks`, a list of {verifier, params}; for `weighted` each has a `weight` as well, and `threshold` is the
share of all weights, 1 by default, that passing checks must have together. Combinations may hold combinations.

UNKNOWN is never guessed: `all` fails if any check fails, `any` passes if any passes, `weighted` decides once those that
are known decide whatever the others are; else the outcome is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field, TypeAdapter

from factory.errors import ConfigError
from factory.types import Aspect, Attempt, Check, Origin, Outcome, Problem, Span, Verdict, worst
from factory.verifiers import params as parameters
from factory.verifiers.base import Finding, Verifiers, verdicts
from factory.verifiers.params import Params

Combine = Callable[[Sequence[tuple[float, Outcome]], float], Outcome]
"""Of each check its weight and outcome, and the threshold: what they come to."""
MAX_DEPTH = 8
"""Of combinations in each other."""


class Part(Params):
    """One check of a combination."""

    verifier: str
    params: dict[str, Any] = Field(default={})
    weight: float = Field(default=1.0, gt=0)


class Combination(Params):
    """The parameters of a combination."""

    checks: list[Part] = Field(min_length=1)
    threshold: float = Field(default=1.0, gt=0, le=1)


COMBINATION = TypeAdapter(Combination)


def all_of(found: Sequence[tuple[float, Outcome]], _: float) -> Outcome:
    """FAIL before UNKNOWN before PASS."""
    return worst(outcome for _, outcome in found) or Outcome.UNKNOWN


def any_of(found: Sequence[tuple[float, Outcome]], _: float) -> Outcome:
    """PASS before UNKNOWN before FAIL."""
    outcomes = {outcome for _, outcome in found}
    return next((one for one in (Outcome.PASS, Outcome.UNKNOWN) if one in outcomes), Outcome.FAIL)


def weighted(found: Sequence[tuple[float, Outcome]], threshold: float) -> Outcome:
    """Whether what passes has the threshold's share, if the unknown can change nothing."""
    wanted = threshold * sum(weight for weight, _ in found) - 1e-9  # shares such as 0.3 are no binary fractions
    least = sum(weight for weight, outcome in found if outcome is Outcome.PASS)
    most = least + sum(weight for weight, outcome in found if outcome is Outcome.UNKNOWN)
    if least >= wanted:
        return Outcome.PASS
    return Outcome.FAIL if most < wanted else Outcome.UNKNOWN


class CombinedVerifier:
    """Judges by other verifiers of the same table."""

    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def __init__(self, name: str, combine: Combine, keys: Sequence[str], table: Callable[[], Verifiers]) -> None:
        """`keys`: the parameters that it has. `table`: all verifiers, this one included."""
        self.name = name
        self._combine = combine
        self._keys = list(keys)
        self._table = table

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that cannot work here or in any part."""
        self._validate(params, MAX_DEPTH)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """One finding, with what each part said of the answer."""
        combination = self._read(params)
        found = [self._part(one, problem, attempt) for one in combination.checks]
        weights = [one.weight for one in combination.checks]
        outcomes = [worst(one.outcome for one in part) or Outcome.UNKNOWN for part in found]
        outcome = self._combine(list(zip(weights, outcomes, strict=True)), combination.threshold)
        said = "; ".join(f"{one.verifier}: {one.outcome}: {one.evidence}" for part in found for one in part)
        return [Finding(Aspect.ANSWER, outcome, _extracted(found, outcome), said[:1000])]

    def parts(self, params: Mapping[str, Any]) -> list[Check]:
        """The checks that it puts, each once for every time that it stands there."""
        return [Check(one.verifier, one.params) for one in self._read(params).checks]

    def as_attempt(self, reference: str) -> Attempt:
        """The reference as it stands: each part has a form of its own, and is tried with that."""
        return Attempt((Span(reference, Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())

    def _validate(self, params: Mapping[str, Any], depth: int) -> None:
        if depth == 0:
            raise ConfigError(f"{self.name}: combinations are nested more than {MAX_DEPTH} deep")
        for part in self._read(params).checks:
            verifier = self._table().get(part.verifier)
            if verifier is None:
                known = ", ".join(sorted(self._table()))
                raise ConfigError(f"{self.name}: no verifier is called {part.verifier!r}; there are: {known}")
            if isinstance(verifier, CombinedVerifier):
                verifier._validate(part.params, depth - 1)
            else:
                verifier.validate(part.params)

    def _read(self, params: Mapping[str, Any]) -> Combination:
        if surplus := sorted(params.keys() - set(self._keys)):
            raise ConfigError(f"{self.name}: unknown parameter {surplus[0]!r}; there are: {', '.join(self._keys)}")
        return parameters.read(self.name, COMBINATION, params, self._keys)

    def _part(self, part: Part, problem: Problem, attempt: Attempt) -> list[Verdict]:
        """What one check says of the answer. A reference is tried in the part's own form of it."""
        if problem.reference is not None and attempt == self.as_attempt(problem.reference):
            attempt = self._table()[part.verifier].as_attempt(problem.reference)
        one_check = replace(problem, checks=(Check(part.verifier, part.params),))
        return [one for one in verdicts(self._table(), one_check, attempt) if one.aspect is Aspect.ANSWER]


def _extracted(found: Sequence[Sequence[Verdict]], outcome: Outcome) -> str | None:
    """As a part read it that agrees with the outcome, or else the first that read one."""
    read = [one for part in found for one in part if one.extracted is not None]
    agreeing = [one for one in read if one.outcome is outcome]
    return (agreeing or read)[0].extracted if read else None


def combinations(table: Callable[[], Verifiers]) -> tuple[CombinedVerifier, ...]:
    """One of each kind."""
    return (
        CombinedVerifier("all", all_of, ["checks"], table),
        CombinedVerifier("any", any_of, ["checks"], table),
        CombinedVerifier("weighted", weighted, ["checks", "threshold"], table),
    )
