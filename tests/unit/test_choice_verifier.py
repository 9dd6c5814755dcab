"""The verifier of multiple choice: which letters it takes for a claim, and which words it does not."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError, VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding
from factory.verifiers.choice import ChoiceVerifier

DATA = Path(__file__).parents[3] / "shared" / "data"
CITIES = ["Paris", "London", "Rome", "New York"]


def judged(text: str, reference: str | None = "B", **params: object) -> Finding:
    problem = Problem("00", (), reference, (), "test")
    (found,) = ChoiceVerifier().judge(problem, params, Attempt((Span(text, Origin.SAMPLED),)))
    assert found.aspect is Aspect.ANSWER
    assert "\n" not in found.evidence
    assert len(found.evidence) < 300
    return found


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{B}",
        "$\\boxed{\\text{B}}$",
        "\\boxed{\\textbf{(B)}\\ 5}",
        "\\boxed{Option B}",
        "\\boxed{b}",
        "The answer is \\boxed{B}.",
        "The answer is A.\nNo: \\boxed{B}",
        "That makes \\boxed{12}.\nThe answer is B.",
        "That makes \\boxed{12}.\nB",
        "It must be (B).",
        "(A) is wrong, so (B).",
        "Answer: B",
        "answer: b",
        "Answer:B",
        "**Answer:** B",
        "**Answer: B**",
        "Answer： （B）",
        "Final answer:\n\n**B**",
        "The answer is B.",
        "The answer is (B) because (A) is too small.",
        "The answer is B, as A is too small.",
        "The answer is **B) five**",
        'The answer is "B".',
        "The correct answer is: (B).",
        "The correct option is B: five.",
        "The correct answer choice is B: five",
        "The answer to this question is B because five is odd.",
        "The answer should be option B",
        "The answer is therefore B – five",
        "Solution: Choice_B",
        "Solution: Choice\\_B",
        "So **B**",
        "Therefore, option B.",
        "Option B is correct, option C is not correct.",
        "Therefore, B is the correct answer.",
        "I think about it.\nB",
        "I think about it.\nB.\n",
        "I think about it.\n(b)",
        "<answer>B</answer>",
        "B) five",
        "I think about it.\n\nB. five",
        "<think>The answer is A.</think>B",
        "<think>The answer is A.</think>The answer is B.",
        "The answer is A.\nSorry, the answer is B.",
    ],
)
def test_the_letter_is_found(text: str) -> None:
    found = judged(text)
    assert (found.outcome, found.extracted) == (Outcome.PASS, "B"), found.evidence
    assert judged(text, "C").outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am a man. A man I am.",
        "The answer is a dog.",
        "The answer is A dog",
        "Answer: A dog",
        "Answer: I think so",
        "The answer is I'd say so",
        "The answer is A's",
        "The best answer I have",
        "Vitamin C is the best option.",
        "The answer is C++",
        "The answer is E coli",
        "The answer is not B.",
        "The answer isn't B",
        "Option C is incorrect.",
        "None of the options (B) or (C) fits.",
        "The answer is B.\nNo, the answer is none of them.",
        "(A) three\n(B) five\n(C) six",
        "A. three\nB. five",
        "Option A: three\nOption B: five",
        "<think>The answer is B.",
        "Then B follows\nand so on",
    ],
)
def test_prose_and_lists_claim_nothing(text: str) -> None:
    for choices in (5, 9):
        found = judged(text, choices=choices)
        assert (found.outcome, found.extracted) == (Outcome.FAIL, None), found.evidence


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("The answer is A or B.", "claims A and B after 'answer', where B is right"),
        ("Answer: (A), (B) and (D)", "claims A, B and D after 'answer', where B is right"),
        ("Solution: Choice_A/B", "claims A and B after 'answer', where B is right"),
        ("\\boxed{A} or \\boxed{B}", "claims A and B in \\boxed, where B is right"),
        ("\\boxed{A, B}", "claims A and B in \\boxed, where B is right"),
        ("The answer is A, that is \\boxed{B}", "claims A and B in \\boxed, where B is right"),
        ("It is (A) or (B)", "claims A and B in its last line, where B is right"),
        ("Answer: C", "claims C after 'answer', where B is right"),
        ("\\boxed{F}", "unreadable answer in \\boxed: 'F'"),
        ("\\boxed{B", "the last \\boxed is not closed"),
        ("No idea", "no answer"),
        ("The answer is none of them", "no answer: it says that nothing is right"),
    ],
)
def test_wrong_answers_fail_and_say_why(text: str, evidence: str) -> None:
    assert (judged(text).outcome, judged(text).evidence) == (Outcome.FAIL, evidence)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is London.",
        "The answer is **London**",
        "\\boxed{London}",
        "\\boxed{\\text{ london }}",
        "I think about it.\nLondon.",
        "Answer: B) London",
        "Answer: (B) London",
        "B. London",
    ],
)
def test_the_text_of_an_option_stands_for_its_letter(text: str) -> None:
    assert judged(text, options=CITIES).outcome is Outcome.PASS
    assert judged(text, "1", options=CITIES).outcome is Outcome.PASS
    assert judged(text, "C", options=CITIES).outcome is Outcome.FAIL


def test_a_letter_and_the_text_of_another_option_are_two_claims() -> None:
    found = judged("Answer: B) Paris", options=CITIES)
    assert (found.outcome, found.extracted) == (Outcome.FAIL, "A, B")
    assert judged("Answer: B) a city", options=CITIES).outcome is Outcome.PASS


def test_options_that_look_like_letters_or_share_a_text() -> None:
    assert judged("Answer: A", "A", options=["B", "A"]).outcome is Outcome.PASS
    assert judged("Answer: five", "A", options=["Five", "five"]).extracted == "A, B"
    assert judged("Answer: A and B", "C", options=["x", "y", "A and B"]).outcome is Outcome.PASS
    assert judged("()", "A", options=["?", "!"]).outcome is Outcome.FAIL


def test_choices() -> None:
    assert judged("Answer: I", "I", choices=10).outcome is Outcome.PASS
    assert judged("Answer: F", "F", choices=10).outcome is Outcome.PASS
    assert judged("Answer: F", "A").outcome is Outcome.FAIL
    assert judged("Answer: Y", "Y", choices=["X", "Y"]).outcome is Outcome.PASS
    assert judged("Answer: B", "b").outcome is Outcome.PASS
    assert judged("Answer: B", " 1 ").outcome is Outcome.PASS


@pytest.mark.parametrize("reference", [None, "", "F", "5", "26", "BB", "B)"])
def test_a_reference_that_is_no_choice_is_trouble(reference: str | None) -> None:
    with pytest.raises(VerifierError, match="is none of A, B, C, D and E"):
        judged("Answer: B", reference)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"choices": 1}, "choice: choices: "),
        ({"choices": 27}, "choice: choices: "),
        ({"choices": True}, "choice: choices: "),
        ({"choices": "ABC"}, "choice: choices: "),
        ({"choices": ["A", "b"]}, "choice: choices: "),
        ({"choices": ["A", "A"]}, "choice: choices: "),
        ({"choices": ["A", ["B"]]}, "choice: choices: "),
        ({"choices": ["A"]}, "choice: choices: "),
        ({"options": ["x"]}, "choice: options: "),
        ({"options": ["x", 3]}, "choice: options.1: "),
        ({"options": ["x", "y"], "choices": 3}, "choice: options: 2 texts for 3 choices"),
        ({"choics": 3}, "choice: unknown parameter 'choics'; did you mean 'choices'\\?"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        ChoiceVerifier().validate(params)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "answer: " * 12_500,
        "answer to " * 10_000,
        "answer:" + " " * 100_000,
        "answer: A" + ", A" * 33_000 + ", C",
        "\\boxed{" * 14_000,
        "\\boxed{" + "\\text{" * 16_000,
        "\\boxed{" + "{" * 100_000,
        "**A." * 25_000,
        "(A) " * 25_000 + "(C)",
        "option A is wrong " * 5_500,
        "A\n" * 50_000,
        "(" * 100_000,
        "*" * 100_000,
        "A. " * 33_000,
    ],
    ids=range(14),
)
def test_hostile_text_is_decided(text: str) -> None:
    assert judged(text, options=CITIES).outcome is Outcome.FAIL


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not beside this checkout")
def test_what_real_solutions_claim() -> None:
    """They end with a line such as `Solution: Choice_B`; some say that nothing is right, or name several."""
    seen: Counter[str] = Counter()
    with gzip.open(DATA / "steps/mrben_math.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            steps = row["Model_Solution_Steps"]
            named = set(re.findall(r"^Solution: Choice[_ ]([A-D])\.?$", steps[-1]))
            claimed = judged("\n".join(steps), "A", choices=4).extracted
            if named:
                seen["right" if {claimed} == named else "wrong"] += 1
    assert seen["wrong"] == 0
    assert seen["right"] > 400
