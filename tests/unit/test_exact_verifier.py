"""The verifier of equal texts: what it compares, and which differences its normalisation takes away."""

from typing import Any

import pytest

from factory.errors import ConfigError, VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding
from factory.verifiers.exact import ExactVerifier

DECOMPOSED, COMPOSED = "Cafe\u0301", "Caf\u00e9"


def judged(text: str, reference: str | None = "New York", **params: object) -> Finding:
    return of(Attempt((Span(text, Origin.SAMPLED),)), reference, **params)


def of(attempt: Attempt, reference: str | None, **params: object) -> Finding:
    problem = Problem("00", (), reference, (), "test")
    (found,) = ExactVerifier().judge(problem, params, attempt)
    assert found.aspect is Aspect.ANSWER
    assert "\n" not in found.evidence
    assert len(found.evidence) < 300
    return found


def passes(text: str, reference: str = "New York", **params: object) -> bool:
    return judged(text, reference, **params).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("extract", "text"),
    [
        ("whole", "New York"),
        ("whole", "<think>Albany?</think>\nNew York\n"),
        ("boxed", "It is $\\boxed{New York}$, not Albany."),
        ("boxed", "\\boxed{Albany} or \\boxed {New York}"),
        ("boxed", "<think>\\boxed{Albany}</think>\\boxed{New York}"),
        ("last_line", "I thought about it.\n  New York \n\n"),
        ("answer_tag", "So <answer>Albany</answer>, no: <answer>\nNew York\n</answer>."),
    ],
)
def test_what_is_compared(extract: str, text: str) -> None:
    assert passes(text, extract=extract)


@pytest.mark.parametrize(
    ("extract", "text", "evidence"),
    [
        ("whole", "", "no answer: nothing is left after normalisation"),
        ("whole", "<think>New York", "no answer: nothing is left after normalisation"),
        ("whole", "It is New York", "'It is New York' is not 'New York'"),
        ("boxed", "New York", "no answer: nothing to extract as boxed"),
        ("boxed", "\\boxed{New York", "no answer: nothing to extract as boxed"),
        ("boxed", "<think>\\boxed{New York}</think>", "no answer: nothing to extract as boxed"),
        ("boxed", "\\boxed{New York} \\boxed{}", "no answer: nothing is left after normalisation"),
        ("last_line", "\n\n", "no answer: nothing to extract as last_line"),
        ("last_line", "New York\nAlbany", "'Albany' is not 'New York'"),
        ("answer_tag", "New York", "no answer: nothing to extract as answer_tag"),
        ("answer_tag", "<answer>New York", "no answer: nothing to extract as answer_tag"),
        ("answer_tag", "<answer>New York</answer><answer>", "no answer: nothing to extract as answer_tag"),
        ("answer_tag", "<answer>New York</answer><answer>x</answer>", "'x' is not 'New York'"),
    ],
)
def test_wrong_answers_fail_and_say_why(extract: str, text: str, evidence: str) -> None:
    found = judged(text, extract=extract)
    assert (found.outcome, found.evidence) == (Outcome.FAIL, evidence)


def test_white_space() -> None:
    assert passes("\tNew \n York ")
    assert not passes("NewYork")
    assert passes("New York", space="keep")
    assert not passes("New  York", space="keep")
    assert not passes("New York\n", space="keep")
    assert passes("<think></think>\n\nNew York", space="keep")


def test_case() -> None:
    assert not passes("new york")
    assert passes("new york", case="fold")
    assert passes("STRASSE", "Straße", case="fold")


def test_punctuation() -> None:
    for text in ("New York.", '"New York"', "**New York**.", "“New York!”", "`New York`"):
        assert not passes(text)
        assert passes(text, punctuation="strip")
    assert passes("5", "5.", punctuation="strip")
    for text in (".5", "-5", "5-", "5%", "(5)", "5/"):
        assert not passes(text, "5", punctuation="strip")
    assert not passes("3.5", "35", punctuation="strip")
    assert not passes("x ", "x", punctuation="strip", space="keep")


def test_unicode() -> None:
    assert passes(DECOMPOSED, COMPOSED)
    assert passes(COMPOSED, DECOMPOSED)
    assert not passes("ﬁve", "five")
    assert passes("ﬁve", "five", unicode="NFKC")
    assert passes("x²", "x2", unicode="NFKC")


def test_further_right_answers() -> None:
    assert judged("NYC", any_of=["NYC", "Big Apple"]).evidence == "equals 'NYC'"
    assert passes("New York", any_of=["NYC"])
    assert judged("LA", any_of=["NYC", "Big Apple"]).evidence == "'LA' is not 'New York' nor any of 2 others"
    assert judged("NYC", None, any_of=["NYC"]).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("reference", "params"),
    [
        (None, {}),
        ("", {}),
        (" \n", {}),
        ("...", {"punctuation": "strip"}),
        ("x", {"any_of": [" "]}),
        ("e" + "\u0301" * 31, {}),
    ],
)
def test_a_reference_of_which_nothing_is_left_is_trouble(reference: str | None, params: dict[str, Any]) -> None:
    with pytest.raises(VerifierError, match="the reference is missing"):
        judged("x", reference, **params)


@pytest.mark.parametrize("extract", ["whole", "boxed", "last_line", "answer_tag"])
def test_a_reference_is_tried_where_extract_looks_for_it(extract: str) -> None:
    verifier = ExactVerifier()
    assert of(verifier.as_attempt("New York"), "New York", extract=extract).outcome is Outcome.PASS
    assert of(verifier.as_attempt("New York"), "Albany", extract=extract).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("extract", "reference"),
    [("last_line", "two\nlines"), ("boxed", "{"), ("answer_tag", "</answer>"), ("whole", "</think>x")],
)
def test_a_reference_that_extract_cannot_find_is_refused(extract: str, reference: str) -> None:
    assert of(ExactVerifier().as_attempt(reference), reference, extract=extract).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"case": "lower"}, "exact: case: Input should be 'keep' or 'fold'"),
        ({"space": None}, "exact: space: "),
        ({"unicode": "NFD"}, "exact: unicode: "),
        ({"extract": "first"}, "exact: extract: "),
        ({"punctuation": True}, "exact: punctuation: "),
        ({"any_of": "NYC"}, "exact: any_of: "),
        ({"any_of": [1]}, "exact: any_of.0: "),
        ({"any_of": [""]}, "exact: any_of.0: "),
        ({"cases": "fold"}, "exact: unknown parameter 'cases'; did you mean 'case'\\?"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        ExactVerifier().validate(params)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("extract", ["whole", "boxed", "last_line", "answer_tag"])
@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "a" + "\u0301\u0323" * 50_000,
        "\ufdfa" * 100_000,
        "\\boxed{" * 14_000,
        "\\boxed{" + "{" * 100_000,
        "<answer>" * 12_500,
        "\n" * 100_000,
        ". " * 50_000,
        "\ud800" * 100_000,
    ],
    ids=range(9),
)
def test_hostile_text_is_decided(text: str, extract: str) -> None:
    found = judged(text, extract=extract, unicode="NFKC", case="fold", punctuation="strip")
    assert found.outcome is Outcome.FAIL
