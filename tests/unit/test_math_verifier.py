"""The math verifier behind its contract: parameters, outcomes, evidence. Algebra is a fake."""

from collections.abc import Mapping
from typing import Any

import pytest

from factory.errors import ConfigError, VerifierError
from factory.types import Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import validate_problem, verdicts
from factory.verifiers.math.options import Decision, Options
from factory.verifiers.math.verifier import MathVerifier


class Fake:
    """Algebra that answers, or fails, as it is told."""

    def __init__(self, answer: Decision | VerifierError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Options, float]] = []

    def __call__(self, gold: str, pred: str, options: Options, deadline: float) -> Decision:
        self.asked.append((gold, pred, options, deadline))
        if isinstance(self.answer, VerifierError):
            raise self.answer
        return self.answer


NOT_ASKED = Fake(VerifierError("it was asked"))


def problem(reference: str | None, params: Mapping[str, Any] | None = None) -> Problem:
    return Problem("p", (), reference, (Check("math", params or {}),), "test")


def judged(reference: str | None, text: str, fake: Fake = NOT_ASKED, **params: Any) -> Verdict:
    attempt = Attempt((Span(text, Origin.SAMPLED),))
    return verdicts({"math": MathVerifier(fake)}, problem(reference, params), attempt)[0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tolerence": 0.1}, "math: unknown parameter 'tolerence'; did you mean 'tolerance'?"),
        ({"order": "none"}, "math: order: "),
        ({"extract": 1}, "math: extract: "),
        ({"tolerance": "0.1"}, "math: tolerance"),
        ({"tolerance": 1.5}, "math: tolerance"),
        ({"tolerance": float("nan")}, "math: tolerance"),
        ({"rounding": 2.5}, "math: rounding"),
        ({"rounding": -1}, "math: rounding"),
        ({"deadline": 0}, "math: deadline"),
        ({"deadline": float("inf")}, "math: deadline"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        MathVerifier(NOT_ASKED).validate(params)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_parameters_that_work() -> None:
    MathVerifier(NOT_ASKED).validate({})
    full = {"extract": "final", "order": "any", "units": "require", "percent": "sign", "tolerance": 0.01}
    MathVerifier(NOT_ASKED).validate({**full, "rounding": 3, "deadline": 10})
    MathVerifier(NOT_ASKED).validate({"tolerance": None, "rounding": None})


def test_what_was_extracted_and_which_rule_decided_are_said() -> None:
    verdict = judged("1/2", "So it is $\\boxed{0.5}$.")
    assert (verdict.outcome, verdict.extracted) == (Outcome.PASS, "0.5")
    assert verdict.evidence == "exact number; found by: boxed"
    verdict = judged("1/2", "The answer is 0.4.")
    assert (verdict.outcome, verdict.extracted) == (Outcome.FAIL, "0.4")
    assert verdict.evidence == "exact number; found by: answer line"


def test_no_answer_is_a_failure_and_an_unreadable_one_is_not() -> None:
    assert judged("5", "I do not know what this could possibly be").outcome is Outcome.FAIL
    assert judged("5", "").evidence == "no answer"
    assert judged("5", "It is 5", extract="boxed").outcome is Outcome.FAIL
    assert judged("5", "\\boxed{5^{}").outcome is Outcome.UNKNOWN
    assert judged("5", "\\boxed{\\text{even}}").outcome is Outcome.FAIL
    assert judged("5", "\\boxed{3 hours 24 minutes}").outcome is Outcome.UNKNOWN


def test_algebra_is_asked_only_where_rules_do_not_decide() -> None:
    fake = Fake(Decision(True, "simplified"))
    verdict = judged("\\tan^2 y + 1", "\\boxed{\\sec^2 y}", fake, deadline=2, tolerance=0.1)
    assert (verdict.outcome, verdict.evidence) == (Outcome.PASS, "simplified; found by: boxed")
    assert fake.asked == [("\\tan^2 y + 1", "\\sec^2 y", Options(tolerance=0.1), 2.0)]
    assert judged("5", "\\boxed{5}").outcome is Outcome.PASS


def test_trouble_in_algebra_is_unknown() -> None:
    fake = Fake(VerifierError("algebra: it takes too long"))
    verdict = judged("\\tan^2 y + 1", "\\boxed{\\sec^2 y}", fake)
    assert (verdict.outcome, verdict.extracted) == (Outcome.UNKNOWN, "\\sec^2 y")
    assert verdict.evidence == "algebra: it takes too long; found by: boxed"
    assert len(fake.asked) == 1


def test_where_something_died_the_verifier_may_be_asked_again() -> None:
    fake = Fake(VerifierError("the broker died", passing=True))
    assert judged("\\tan^2 y + 1", "\\boxed{\\sec^2 y}", fake).outcome is Outcome.UNKNOWN
    assert len(fake.asked) == 2


def test_without_a_reference_nothing_is_judged() -> None:
    assert judged(None, "\\boxed{5}").outcome is Outcome.UNKNOWN
    assert judged(" ", "\\boxed{5}").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "reference", ["5", "\\frac{1}{2}", "(1, 2]", "x=3", "\\text{(B)}", "odd $n$", "2^{10^{10}}", "\\boxed{7}", "1/2x"]
)
def test_a_reference_passes_its_own_check(reference: str) -> None:
    validate_problem({"math": MathVerifier(NOT_ASKED)}, problem(reference))


def test_a_long_condition_may_be_the_whole_last_line() -> None:
    line = "$g(x)=\\frac{1}{3}((2x)^a+(2x)^{-a})$ for some $a>0$"
    assert judged(line, f"Let us see.\n\n{line}").evidence.startswith("same text as the last line")


def test_thinking_has_no_answer() -> None:
    assert judged("5", "<think>\\boxed{5}</think>\\boxed{6}").outcome is Outcome.FAIL
    assert judged("5", "<think>\\boxed{5}").outcome is Outcome.FAIL
