"""Program: the problem brings its own checker, which decides about the answer in a sandbox. For any puzzle that has
many right answers.

Parameters of a check: `checker` (Python that defines `check(answer, reference)`, both texts, the reference None where
there is none), `extract` (`whole`, the default: all that follows the thinking; `boxed`, `last_line` or `answer_tag`),
`seconds` of processor time (5) and `memory_mib` (512).

True is PASS and False is FAIL; a checker may also return (True or False, why). Anything else that comes of it, an
exception or a limit included, is the checker's trouble: UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, TypeAdapter

from factory.errors import VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import MAX_ANSWER, MAX_SHOWN, Extract, answer_in, is_reference
from factory.verifiers.base import Finding
from factory.verifiers.jail import Jail, decided
from factory.verifiers.params import Params
from sandboxes.base import MIB, Call, Language, Limits, Program


class Checker(Params):
    """The parameters of a check."""

    checker: str = Field(min_length=1)
    extract: Extract = "whole"
    seconds: float = Field(default=5.0, gt=0)
    memory_mib: int = Field(default=512, ge=64)


CHECKER = TypeAdapter(Checker)
KNOWN = sorted(Checker.model_fields)


class ProgramVerifier:
    """Asks the problem's own checker."""

    name = "program"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def __init__(self, jails: Callable[[Language], Jail]) -> None:
        self._jails = jails

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        parameters.read(self.name, CHECKER, params, KNOWN)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """What the checker says of the answer."""
        check = parameters.read(self.name, CHECKER, params, KNOWN)
        answer = attempt.text if is_reference(attempt) else answer_in(attempt.text, check.extract)
        if answer is None:
            return [Finding(Aspect.ANSWER, Outcome.FAIL, None, f"no answer ({check.extract})")]
        if len(answer) > MAX_ANSWER:
            return [Finding(Aspect.ANSWER, Outcome.FAIL, answer[:MAX_SHOWN], f"longer than {MAX_ANSWER} characters")]
        right, why = self._ask(check, answer, problem.reference)
        outcome = Outcome.PASS if right else Outcome.FAIL
        return [Finding(Aspect.ANSWER, outcome, answer[:MAX_SHOWN], " ".join(why.split())[:MAX_SHOWN])]

    def as_attempt(self, reference: str) -> Attempt:
        """The reference as it stands, which is its own answer whatever `extract` looks for."""
        return Attempt((Span(reference, Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())

    def _ask(self, check: Checker, answer: str, reference: str | None) -> tuple[bool, str]:
        limits = Limits(cpu_seconds=check.seconds, wall_seconds=3 * check.seconds, memory_bytes=check.memory_mib * MIB)
        program = Program(check.checker)
        called = self._jails(Language.PYTHON).call(program, "check", [Call((answer, reference))], limits)
        decided(called.run)
        (returned,) = called.returned
        match returned.value:
            case bool(right):
                return right, "the problem's checker"
            case (bool(right), str(why)):
                return right, f"the problem's checker: {why}"
        trouble = returned.error or f"{called.run.ending} {called.run.detail}".strip()
        raise VerifierError(f"the problem's checker did not decide: {trouble if returned.value is None else 'no bool'}")
