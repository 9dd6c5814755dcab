"""Mathematical answers: does the attempt end with the reference, however it is written?

Parameters of a check: `extract` (`any`, the default; `boxed`; `final`: see `extract`), `order`, `units`, `percent`,
`tolerance`, `rounding` (see `options`), `deadline` (seconds of processor time that algebra may take, 5 by default).

ANSWER. Exact rules decide most answers; what they leave undecided is asked of algebra, in a process that is killed when
its time or memory is spent. No answer at all, and an answer that says something else: FAIL. An answer that is there
but that nothing reads or decides in time: UNKNOWN, and so is every trouble. The evidence names the rule that decided,
and the rule by which the answer was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from factory.errors import VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers import params as parameters
from factory.verifiers.answers import MAX_SHOWN
from factory.verifiers.base import Finding
from factory.verifiers.math.comparing import SAME_TEXT, compare
from factory.verifiers.math.extract import Extracted, extract, reference
from factory.verifiers.math.jailed import Algebra, JailedAlgebra
from factory.verifiers.math.options import Decision, Options
from factory.verifiers.params import Params


class MathParams(Params):
    """How an answer is found and compared."""

    extract: Literal["any", "boxed", "final"] = "any"
    order: Literal["as written", "keep", "any"] = "as written"
    units: Literal["strip", "require"] = "strip"
    percent: Literal["either", "value", "sign"] = "either"
    tolerance: Annotated[float, Field(ge=0, lt=1)] | None = None
    rounding: Annotated[int, Field(ge=0, le=30)] | None = None
    deadline: Annotated[float, Field(gt=0, le=600)] = 5.0

    @property
    def options(self) -> Options:
        return Options(self.order, self.units, self.percent, self.tolerance, self.rounding)


MATH = TypeAdapter(MathParams)
KNOWN = list(MathParams.model_fields)
_OUTCOMES = {True: Outcome.PASS, False: Outcome.FAIL, None: Outcome.UNKNOWN}


class MathVerifier:
    """Judges answers of mathematics."""

    name = "math"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def __init__(self, algebra: Algebra | None = None) -> None:
        """`algebra`: who decides what exact rules do not; by default sympy in a sandbox of this machine."""
        self._algebra: Algebra = algebra or JailedAlgebra()

    def validate(self, params: Mapping[str, Any]) -> None:
        """Raise ConfigError, naming the key, for parameters that are unknown or malformed."""
        parameters.read(self.name, MATH, params, KNOWN)

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        """Whether the answer is the problem's reference. Raises VerifierError where there is no reference."""
        check = parameters.read(self.name, MATH, params, KNOWN)
        gold = reference(problem.reference or "")
        if not gold:
            raise VerifierError("there is no reference to hold an answer against")
        found = extract(attempt.text, check.extract)
        if found is None:
            return [Finding(Aspect.ANSWER, Outcome.FAIL, None, "no answer")]
        decision = self._decide(gold, found, check)
        evidence = f"{decision.rule}; found by: {found.rule}"
        return [Finding(Aspect.ANSWER, _OUTCOMES[decision.equal], found.answer[:MAX_SHOWN], evidence)]

    def as_attempt(self, reference: str) -> Attempt:
        """The reference in a box. Its origin is INJECTED: no model sampled it, so it can never be trained on."""
        return Attempt((Span(f"\\boxed{{{reference}}}", Origin.INJECTED),))

    def stub(self, params: Mapping[str, Any]) -> Attempt:  # noqa: ARG002
        """No answer."""
        return Attempt(())

    def _decide(self, gold: str, found: Extracted, check: MathParams) -> Decision:
        decision = compare(gold, found.answer, check.options)
        if decision.equal:
            return decision
        if found.rule != "boxed" and compare(gold, found.line, check.options) == SAME_TEXT:
            return Decision(True, "same text as the last line")
        if not decision.ask:
            return decision
        try:
            return self._algebra(gold, found.answer, check.options, check.deadline)
        except VerifierError as error:
            if error.passing:
                raise  # whoever asked may ask again
            return Decision(None, str(error))
