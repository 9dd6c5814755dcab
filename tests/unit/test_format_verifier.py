"""The verifier of form: each rule, and a pattern that would never end."""

from typing import Any

import pytest

from factory.errors import ConfigError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding
from factory.verifiers.format import FormatVerifier


def judged(text: str, **params: object) -> Finding:
    problem = Problem("00", (), None, (), "test")
    (found,) = FormatVerifier().judge(problem, params, Attempt((Span(text, Origin.SAMPLED),)))
    assert found.aspect is Aspect.ANSWER
    assert "\n" not in found.evidence
    assert len(found.evidence) < 300
    return found


@pytest.mark.parametrize(
    ("params", "right", "wrong", "evidence"),
    [
        ({"regex": r"\d+"}, "<think>x</think>\n42\n", "42!", "regex: '\\\\d+' is not the whole answer"),
        ({"regex": r"\d+", "match": "search"}, "it is 42", "it is it", "regex: '\\\\d+' is not in the answer"),
        ({"max_characters": 3}, " abc ", "abcd", "max_characters: 4, where there may be 3"),
        ({"min_characters": 3}, "abc", "ab ", "min_characters: 2, where there must be 3"),
        ({"must_contain": ["a", "b"]}, "ab", "ac", "must_contain: 'b' is not there"),
        ({"must_not_contain": ["a", "b"]}, "<think>a</think>c", "cb", "must_not_contain: 'b' is there"),
        ({"json": True}, ' {"a": [1, -2.5e3, "x", null]}\n', "{'a': 1}", None),
        ({"json": True}, "9" * 5000, "9 9", None),
        ({"json": True}, '"[[[["', "NaN", "json: no JSON value: NaN is none"),
        ({"json": True}, "[" * 100 + "]" * 100, "[" * 101 + "]" * 101, "json: more than 100 deep"),
        ({"json": True}, "3", "```json\n3\n```", None),
        ({"think": "required"}, "<think>a</think>b", "b", "think: 0 <think> and 0 </think>, where"),
        ({"think": "required"}, "a</think>b", "<think>a", "think: 1 <think> and 0 </think>, where"),
        (
            {"think": "required"},
            "\n<think>\n</think>b",
            "a<think></think>b",
            "think: the text does not begin with <think>",
        ),
        ({"think": "required"}, "<think></think>b", "<think></think> ", "no answer"),
        (
            {"think": "required"},
            "</think>b",
            "<think></think><think></think>b",
            "think: 2 <think> and 2 </think>, where",
        ),
        ({"think": "required"}, "</think>b", "</think>b<think>", "think: the text does not begin with <think>"),
        ({"think": "forbidden"}, "b", "</think>b", "think: there is thinking where none may be"),
        ({"think": "forbidden"}, "b", "<think>a</think>b", "think: there is thinking where none may be"),
        ({"max_characters": 3}, "a", "", "no answer"),
    ],
    ids=range(20),
)
def test_each_rule(params: dict[str, Any], right: str, wrong: str, evidence: str | None) -> None:
    assert judged(right, **params).outcome is Outcome.PASS
    assert judged(right, **params).evidence == f"holds: {', '.join(sorted(params, key='json regex match'.find))}"
    found = judged(wrong, **params)
    assert found.outcome is Outcome.FAIL
    assert found.evidence.startswith(evidence or "json: no JSON value: ")


def test_all_rules_must_hold_and_the_first_that_is_broken_is_named() -> None:
    params = {"think": "required", "max_characters": 9, "must_contain": ["x"], "json": True, "regex": r".*1.*"}
    assert judged('<think>a</think>{"x": 1}', **params).outcome is Outcome.PASS
    assert judged('{"x": 1}', **params).evidence.startswith("think: ")
    assert judged('<think>a</think>{"y":   2', **params).evidence.startswith("must_contain: ")
    assert judged('<think>a</think>{"x": 1', **params).evidence.startswith("json: ")
    assert judged('<think>a</think>{"x": 2}', **params).evidence.startswith("regex: ")


def test_a_pattern_that_takes_too_long_is_unknown() -> None:
    found = judged("a" * 60 + "b", regex="(a|aa)+")
    assert (found.outcome, found.evidence) == (Outcome.UNKNOWN, "regex: '(a|aa)+' took more than 1 s")


def test_an_answer_too_long_to_try_a_pattern_on_is_unknown() -> None:
    found = judged("a" * 1_000_001, regex="b")
    assert found.outcome is Outcome.UNKNOWN
    assert found.evidence == "regex: the answer has 1000001 characters, and none of more than 1000000 is tried"
    assert judged("a" * 1_000_001, regex="b", max_characters=9).outcome is Outcome.FAIL


def test_the_form_of_a_reference_is_not_judged() -> None:
    verifier = FormatVerifier()
    problem = Problem("00", (), "42", (), "test")
    (found,) = verifier.judge(problem, {"think": "required"}, verifier.as_attempt("42"))
    assert (found.outcome, found.evidence) == (Outcome.PASS, "a reference, whose form is not judged")
    (found,) = verifier.judge(problem, {"think": "forbidden"}, verifier.stub({}))
    assert found.outcome is Outcome.FAIL


def test_a_cue_before_what_the_model_wrote_does_not_make_it_a_reference() -> None:
    attempt = Attempt((Span("Answer: ", Origin.INJECTED), Span("42", Origin.SAMPLED)))
    (found,) = FormatVerifier().judge(Problem("00", (), None, (), "test"), {"regex": "[0-9]+"}, attempt)
    assert found.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "format: no rule is given; there are: think, "),
        ({"json": False}, "format: no rule is given"),
        ({"must_contain": []}, "format: no rule is given"),
        ({"match": "full", "json": True}, "format: match: has no effect without 'regex'"),
        ({"regex": "("}, "format: regex: '\\(' is no pattern: "),
        ({"regex": ""}, "format: regex: "),
        ({"regex": "(" * 5000 + ")" * 5000}, "format: regex: "),
        ({"regex": "a", "match": "partly"}, "format: match: "),
        ({"max_characters": -1}, "format: max_characters: "),
        ({"max_characters": True}, "format: max_characters: "),
        ({"min_characters": 3, "max_characters": 2}, "format: min_characters: is above 'max_characters'"),
        ({"must_contain": "x"}, "format: must_contain: "),
        ({"must_not_contain": [""]}, "format: must_not_contain.0: "),
        ({"json": 1}, "format: json: "),
        ({"think": "maybe"}, "format: think: "),
        ({"jsn": True}, "format: unknown parameter 'jsn'; did you mean 'json'\\?"),
        ({"json_": True}, "format: unknown parameter 'json_'; did you mean 'json'\\?"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        FormatVerifier().validate(params)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("params", [{"json": True}, {"think": "required"}, {"regex": "(x|[^y])*y"}], ids=str)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 20_000,
        '"' * 100_000,
        '"\\' * 50_000,
        "9" * 100_000 + "x",
        "<think>" * 14_000,
        "</think>" * 12_500,
        "\ud800" * 100_000,
    ],
    ids=range(8),
)
def test_hostile_text_is_decided(text: str, params: dict[str, Any]) -> None:
    assert judged(text, **params).outcome is not Outcome.PASS
