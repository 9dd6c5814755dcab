"""The verifier of the Game of 24: where it finds an expression, what it reads of it, and what real models wrote."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding
from factory.verifiers.game24 import Game24Verifier

DATA = Path(__file__).parents[3] / "shared" / "data"
RIGHT = "(6 - 4) * (5 + 7)"

real = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not beside this checkout")


def judged(text: str, **params: object) -> Finding:
    given = {"numbers": [4, 5, 6, 7], **params}
    problem = Problem("00", (), None, (), "test")
    (found,) = Game24Verifier().judge(problem, given, Attempt((Span(text, Origin.SAMPLED),)))
    assert found.aspect is Aspect.ANSWER
    assert "\n" not in found.evidence
    assert len(found.evidence) < 300
    return found


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (f"so \\boxed{{{RIGHT}}}.", "in \\boxed"),
        (f"Answer: 1 + 1\nso \\boxed{{{RIGHT} = 24}}", "in \\boxed"),
        ("$\\boxed{\\left(6-4\\right)\\times(5+7)}$", "in \\boxed"),
        (f"\\boxed{{12}}, or rather \\boxed{{{RIGHT}}}", "in \\boxed"),
        (f"answer: {RIGHT}", "after 'answer'"),
        (f"Answer: 4 + 5\nno.\nANSWER: {RIGHT} = 24.\nI hope this answer is helpful.", "after 'answer'"),
        (f"**Answer:** {RIGHT}", "after 'answer'"),
        (f"**Answer: {RIGHT} = 24**.", "after 'answer'"),
        (f"**Answer:**\n\n`{RIGHT}`", "after 'answer'"),
        (f"Answer:\n\\[\n{RIGHT}\n\\]", "after 'answer'"),
        (f"The answer is {RIGHT} = 24", "after 'answer'"),
        (f"First 6 - 4 = 2.\n{RIGHT} = 24 ✓\nThat is it.", "on the last line that is an expression"),
        (f"Let me see.\n<answer>{RIGHT}</answer>", "on the last line that is an expression"),
        (f"6 * 4 * 7 / 5\n*{RIGHT}*\n24\n", "on the last line that is an expression"),
        (f"<think>answer: 4 + 5</think>{RIGHT}", "on the last line that is an expression"),
    ],
)
def test_an_answer_is_found(text: str, rule: str) -> None:
    assert (judged(text).outcome, judged(text).evidence) == (Outcome.PASS, f"{rule}: equals 24")


@pytest.mark.parametrize(
    ("numbers", "written"),
    [
        ([4, 5, 6, 7], "(6 − 4) × (5 + 7)"),
        ([4, 5, 6, 7], "[6 - 4] \\cdot {(5 + 7)}"),
        ([1, 5, 5, 5], "5 \\times \\left( 5 - \\frac{1}{5} \\right)"),
        ([3, 3, 8, 8], "\\dfrac{8}{3 - \\frac{8}{3}}"),
        ([3, 3, 8, 8], "8 ÷ (3 \\, - 8 \\div 3)"),
        ([2, 12], "2·12"),
    ],
)
def test_other_ways_of_writing(numbers: list[int], written: str) -> None:
    assert judged(f"\\boxed{{{written}}}", numbers=numbers).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("", "no answer"),
        ("I give up.", "no answer"),
        ("It is 24.\n24", "no answer"),
        (f"<think>{RIGHT}", "no answer"),
        (f"\\boxed{{{RIGHT}", "the last \\boxed is not closed"),
        (f"Answer: {RIGHT}\n\\boxed{{24}}", "in \\boxed: uses 24 more often than it is given"),
        ("Answer: None", "after 'answer': unreadable expression: unexpected 'N'"),
        ("Answer:", "after 'answer': unreadable expression: it breaks off"),
        ("Answer: (6 - 4) * 5 + 7 +", "after 'answer': unreadable expression: it breaks off"),
        ("Answer: 6 ** 4", "after 'answer': unreadable expression: unexpected '*'"),
        ("Answer: -4 + 5", "after 'answer': unreadable expression: unexpected '-'"),
        ("Answer: 4! + 5", "after 'answer': unreadable expression: unexpected '!'"),
        ("Answer: 4 + .5", "after 'answer': unreadable expression: unexpected '.'"),
        ("Answer: \\frac{4}{5", "after 'answer': unreadable expression: it breaks off"),
        ("Answer: \\frac{4} + 5", "after 'answer': unreadable expression: unexpected '}'"),
        ("Answer: \\sqrt{4}", "after 'answer': unreadable expression: unexpected '\\\\'"),
        ("Answer: 4 / (5 - 5)", "after 'answer': division by zero"),
        ("Answer: 4 * 5 + 4", "after 'answer': uses 4 more often than it is given"),
        ("Answer: (7 - 4 + 5) * 3", "after 'answer': uses 3 more often than it is given"),
        ("Answer: 4 * 6", "after 'answer': does not use 5"),
        ("Answer: 4 * 5 * 6 * 7", "after 'answer': equals 840, not 24"),
        ("Answer: 4 + 5 + 6 / 7", "after 'answer': equals 69/7, not 24"),
        (f"Answer: {RIGHT} = 48", "after 'answer': says that it equals '48', not 24"),
        (f"Answer: {RIGHT} = 3 * 8 = 24", "after 'answer': says that it equals '3 * 8 = 24', not 24"),
    ],
)
def test_wrong_answers_fail_and_say_why(text: str, evidence: str) -> None:
    assert (judged(text).outcome, judged(text).evidence) == (Outcome.FAIL, evidence)


def test_numbers_count_as_often_as_they_are_given() -> None:
    assert judged("Answer: 4 * 4 + 8", numbers=[4, 4, 8]).outcome is Outcome.PASS
    assert judged("Answer: 4 * 8 - 8", numbers=[4, 8]).outcome is Outcome.FAIL
    assert judged("Answer: 3 * 8", numbers=[3, 8, 8]).outcome is Outcome.FAIL


def test_another_target() -> None:
    assert judged("Answer: 4 - 5 - 6 = -7", numbers=[4, 5, 6], target=-7).outcome is Outcome.PASS
    assert judged("Answer: 4 * 5 + 4 = 24", numbers=[4, 4, 5], target=25).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "game24: numbers: "),
        ({"numbers": []}, "game24: numbers: "),
        ({"numbers": "4 5"}, "game24: numbers: "),
        ({"numbers": [4, -5]}, "game24: numbers.1: "),
        ({"numbers": [4, True]}, "game24: numbers.1: "),
        ({"numbers": [4, 5.0]}, "game24: numbers.1: "),
        ({"numbers": [4], "target": "24"}, "game24: target: "),
        ({"numbers": [4], "targte": 24}, "game24: unknown parameter 'targte'; did you mean 'target'\\?"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Game24Verifier().validate(params)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "answer: " + "(" * 100_000,
        "answer: " * 12_500,
        "answer:\n" * 12_500,
        "answer is " * 10_000,
        "\\boxed{" * 14_000,
        "\\boxed{" + "\\frac{" * 16_000,
        "\\boxed{" + "9" * 100_000 + "}",
        ("1/7+" * 240 + "\n") * 100,
        ("999999999999999*" * 60 + "\n") * 100,
        "1+\n" * 33_000,
        "(" * 100_000 + ")" * 100_000,
        "} {" * 33_000,
        "*" * 100_000,
        "=" * 100_000,
    ],
    ids=range(14),
)
def test_hostile_text_is_decided(text: str) -> None:
    assert judged(text).outcome is Outcome.FAIL


@real
def test_all_recorded_solutions_pass() -> None:
    outcomes = Counter(
        judged(solution["text"], numbers=[int(n) for n in row["question"].split()]).outcome
        for row in rows("puzzles/game24_solutions_multi.jsonl")
        for solution in row["answer"]
    )
    assert set(outcomes) == {Outcome.PASS}


@real
def test_recorded_samples_agree_with_their_reward() -> None:
    """But for answers that state another value than the target: their expression is right, and what they say is not."""
    puzzles = {int(row["Rank"]): row["Puzzles"] for row in rows("puzzles/game24_1362_human_solve_rates.jsonl")}
    odd = []
    for row in rows("rollouts/tot_game24_gpt4_cot_100x100.jsonl"):
        numbers = [int(number) for number in puzzles[row["idx"] + 1].split()]
        for text, info in zip(row["ys"], row["infos"], strict=True):
            found = judged(text, numbers=numbers)
            if (found.outcome is Outcome.PASS) != (info["r"] == 1):
                odd.append(found)
    assert all(found.outcome is Outcome.FAIL and "says that it equals" in found.evidence for found in odd)
    assert len(odd) <= 1
