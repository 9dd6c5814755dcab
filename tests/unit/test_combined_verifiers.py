"""Checks of checks: what they come to, and that the unknown is never guessed."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import ConfigError
from factory.types import Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import validate_problem, verdicts
from factory.verifiers.combined import all_of, any_of, weighted
from factory.verifiers.jail import Jail
from factory.verifiers.table import builtin

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
TABLE = builtin(lambda language: Jail(language=language))
EXACT = {"verifier": "exact"}
SHORT = {"verifier": "format", "params": {"max_characters": 5}}
CHOICE = {"verifier": "choice", "params": {"choices": 2}}
"""UNKNOWN of a reference that is no choice."""
FOUND = st.lists(st.tuples(st.floats(0.1, 10), st.sampled_from(Outcome)), min_size=1, max_size=6)


def judged(name: str, params: Mapping[str, Any], text: str, reference: str = "42") -> Verdict:
    TABLE[name].validate(params)
    problem = Problem("id", (), reference, (Check(name, params),), "test")
    (verdict,) = verdicts(TABLE, problem, Attempt((Span(text, Origin.SAMPLED),)))
    return verdict


@pytest.mark.parametrize(
    ("name", "checks", "text", "outcome"),
    [
        ("all", [EXACT, SHORT], "42", PASS),
        ("all", [EXACT, SHORT], "41", FAIL),
        ("all", [EXACT, CHOICE], "42", UNKNOWN),
        ("all", [EXACT, CHOICE], "41", FAIL),
        ("any", [EXACT, SHORT], "41", PASS),
        ("any", [EXACT, SHORT], "forty-one", FAIL),
        ("any", [EXACT, CHOICE], "42", PASS),
        ("any", [EXACT, CHOICE], "41", UNKNOWN),
        ("any", [{"verifier": "all", "params": {"checks": [EXACT, SHORT]}}, CHOICE], "42", PASS),
    ],
)
def test_parts_come_to_one_outcome(name: str, checks: list[Any], text: str, outcome: Outcome) -> None:
    verdict = judged(name, {"checks": checks}, text)
    assert verdict.outcome is outcome, verdict
    assert all(f"{check['verifier']}: " in verdict.evidence for check in checks)


@pytest.mark.parametrize(("threshold", "text", "outcome"), [(0.7, "42", PASS), (0.8, "42", UNKNOWN), (0.7, "41", FAIL)])
def test_weights_decide_where_the_unknown_cannot(threshold: float, text: str, outcome: Outcome) -> None:
    parts = [EXACT | {"weight": 7.0}, CHOICE | {"weight": 3.0}]
    assert judged("weighted", {"checks": parts, "threshold": threshold}, text).outcome is outcome


@given(FOUND, st.floats(0.01, 1.0))
def test_deciding_the_unknown_never_turns_an_outcome_around(
    found: list[tuple[float, Outcome]], threshold: float
) -> None:
    for combine in (all_of, any_of, weighted):
        before = combine(found, threshold)
        for decided in (PASS, FAIL):
            known = [(weight, decided if outcome is UNKNOWN else outcome) for weight, outcome in found]
            after = combine(known, threshold)
            assert after is not UNKNOWN
            assert before in {UNKNOWN, after}


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("all", {}, "checks"),
        ("all", {"checks": []}, "checks"),
        ("all", {"checks": [EXACT], "threshold": 0.5}, "threshold"),
        ("any", {"checks": [{"verifier": "nobody"}]}, "nobody"),
        ("any", {"checks": [{"verifier": "choice", "params": {"choises": 3}}]}, "choises"),
        ("weighted", {"checks": [EXACT], "threshold": 1.5}, "threshold"),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(name: str, params: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        TABLE[name].validate(params)
    assert "\n" not in str(refused.value)


def test_combinations_do_not_nest_for_ever() -> None:
    params: dict[str, Any] = {"checks": [EXACT]}
    for _ in range(20):
        params = {"checks": [{"verifier": "all", "params": params}]}
    with pytest.raises(ConfigError, match="nested"):
        TABLE["all"].validate(params)


def test_a_problem_is_tried_with_each_parts_own_form_of_the_reference() -> None:
    boxed = {"verifier": "exact", "params": {"extract": "boxed"}}
    validate_problem(TABLE, Problem("id", (), "42", (Check("all", {"checks": [EXACT, boxed]}),), "test"))
    checks = (Check("all", {"checks": [EXACT, {"verifier": "game24", "params": {"numbers": [1, 2, 3, 4]}}]}),)
    with pytest.raises(ConfigError, match="does not pass"):
        validate_problem(TABLE, Problem("id", (), "42", checks, "test"))
