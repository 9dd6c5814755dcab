"""Free-text chains: their steps, the lines they give up, their loops, and what of all that may be cut."""

import pytest

from factory.prune.base import ABANDONED, HEDGE, LOOP, REPEATED_CHECK, Cut, merge
from factory.prune.freetext import FreeTextPruner, after_first_right, is_answer_only
from factory.prune.rests import withdraw
from factory.prune.steps import steps_of
from factory.prune.turns import turns_of
from factory.types import Check, Message, Problem
from tests.bench._turnings import HELD_OUT

PROBLEM = Problem("0", (Message("user", "Make 391 from 57, 90, 14, 56 and 26."),), None, (), "test")
START = "I combine the five numbers.\n\n"
DETOUR = "Let me try 57 * 7 = 399.\n\nThat is too big.\n\n"
WAY = "Let me try another approach: 56 / 14 = 4 and 90 * 4 = 360.\n\n57 + 360 = 417 and 417 - 26 = 391.\n\n"
END = "The answer is \\boxed{57 + 90 * 56 / 14 - 26}."


def cuts(text: str, reason: str, problem: Problem = PROBLEM) -> list[str]:
    found = merge(cut for cut in FreeTextPruner().cuts(problem, text) if cut.reason == reason)
    return [text[cut.start : cut.end] for cut in found]


def texts(text: str) -> list[str]:
    return [step.text for step in steps_of(text)]


@pytest.mark.parametrize(
    "whole",
    [
        "```python\na = 1\n\nb = 2\n```\n",
        "\\[\na = 1.\n\nB = 2\n\\]\n",
        "$$\nx\n\ny\n$$\n",
        "\\begin{align}\na\\\\\n\nb\\end{align}\n",
    ],
)
def test_an_atom_is_not_split(whole: str) -> None:
    assert texts(f"First.\n\n{whole}\nThen this. And that.") == ["First.\n\n", f"{whole}\n", "Then this. ", "And that."]


def test_sentences_lines_and_tags_are_steps() -> None:
    assert texts("<think>So 3.5 is it. Mr. X agrees.\n- a\n- b</think>") == [
        "<think>", "So 3.5 is it. ", "Mr. X agrees.\n", "- a\n", "- b", "</think>",
    ]  # fmt: skip


@pytest.mark.parametrize("phrase", HELD_OUT)
def test_no_rule_knows_a_held_out_phrase(phrase: str) -> None:
    assert turns_of(phrase) == {}


def test_a_rejected_attempt_is_cut_with_its_evidence() -> None:
    assert cuts(START + DETOUR + WAY + END, ABANDONED) == [DETOUR]
    (cut,) = FreeTextPruner().cuts(PROBLEM, START + DETOUR + WAY + END)
    assert "too big" in cut.evidence
    assert str(len(START + DETOUR)) in cut.evidence
    assert cut.guess


def test_a_named_return_closes_all_since_the_place() -> None:
    lines = "try 25 - 12 = 13 left 3 7 13\ntry 3 + 7 = 10 left 10 13\ndead\nback 3 7 13\n"
    text = f"{lines}try 3 * 7 = 21 left 13 21\nanswer 21"
    assert cuts(text, ABANDONED) == ["try 3 + 7 = 10 left 10 13\ndead\nback 3 7 13\n"]


def test_a_chain_of_countdown_is_left_to_its_own_pruner() -> None:
    problem = Problem("0", PROBLEM.messages, None, (Check("countdown"),), "test")
    assert FreeTextPruner().cuts(problem, START + DETOUR + WAY + END) == []


def test_an_answer_that_is_a_program_is_left_whole_and_the_words_before_a_program_are_not() -> None:
    program = "def f(a):\n    # Let me try another way.\n    return a + 1\n\n\n" * 6
    asks = Problem("0", PROBLEM.messages, None, (Check("code", {}),), "test")
    assert FreeTextPruner().cuts(asks, program) == []
    assert FreeTextPruner().cuts(PROBLEM, program) != []
    assert cuts(START + DETOUR + WAY + "```python\na = 1\n```\n", ABANDONED, asks) == [DETOUR]


def test_only_thinking_is_cut() -> None:
    text = f"<think>\n{START}{DETOUR}{WAY}</think>\n{DETOUR}{WAY}{END}"
    assert cuts(text, ABANDONED) == [DETOUR]


def test_a_loop_keeps_its_first_round_and_a_count_is_none() -> None:
    around = "But, this seems odd to me.\n\nPerhaps I can count the diagonals of the square.\n\n"
    assert cuts(START + around * 5 + WAY + END, LOOP) == [around * 4]
    count = "".join(f"For n = {n} the sum is {2 * n + 1}.\n" for n in range(9))
    assert cuts(START + count + END, LOOP) == []


def test_a_second_check_repeats_and_doubt_alone_is_hedging() -> None:
    check = "Let me verify: 57 + 360 = 417, which is correct.\n\n"
    text = f"{START}{WAY}{check}Hmm.\n\nLet me double-check: 417 - 26 = 391, which matches.\n\n{END}"
    assert cuts(text, REPEATED_CHECK) == ["Let me double-check: 417 - 26 = 391, which matches.\n\n"]
    assert cuts(text, HEDGE) == ["Hmm.\n\n"]


def guess(text: str, piece: str) -> Cut:
    start = text.index(piece)
    return Cut(start, start + len(piece), ABANDONED, guess=True)


@pytest.mark.parametrize(
    ("piece", "use"),
    [
        ("The sum is 48.\n", "Half of 48 remains.\n"),
        ("Let r be the radius.\n", "The area uses r and no more.\n"),
        ("Equation 2: it is even.\n", "By equation 2 it is even.\n"),
        ("It is even.\n", "Therefore it is not odd.\n"),
    ],
)
def test_a_cut_on_which_something_rests_is_withdrawn(piece: str, use: str) -> None:
    text = f"Begin.\n{piece}{use}"
    ((cut, evidence),) = withdraw("Find it.", text, [guess(text, piece)])
    assert cut == guess(text, piece)
    assert evidence


def test_what_is_introduced_again_or_given_does_not_rest_on_the_cut() -> None:
    text = "Begin.\nThe sum is 48.\nHere 50 - 2 = 48.\nHalf of 48 remains.\n"
    assert withdraw("Start at 50.", text, [guess(text, "The sum is 48.\n")]) == []


def test_a_replayed_cut_is_never_withdrawn() -> None:
    text = "The sum is 48.\nHalf of 48 remains.\n"
    assert withdraw("", text, [Cut(0, 15, ABANDONED)]) == []


def test_withdrawing_one_cut_can_withdraw_another() -> None:
    text = "Begin.\nThe sum is 48.\nok\nHalf of 48 gives 24.5 in all.\nok\nDouble 24.5 again.\n"
    given = [guess(text, "The sum is 48.\n"), guess(text, "Half of 48 gives 24.5 in all.\n")]
    assert len(withdraw("", text, given)) == 2


def test_all_behind_the_first_right_answer_can_go() -> None:
    text = "<think>The answer is 5.\nThe answer is 7.\nLet me look again.\n</think>The answer is 7."
    cut = after_first_right(text, lambda prefix: prefix.endswith("7.\n"))
    assert cut is not None
    assert text[cut.start : cut.end] == "Let me look again.\n"
    assert after_first_right(text, lambda prefix: False) is None


def test_a_chain_of_which_only_the_answer_is_left() -> None:
    text = "Let me try 3 * 5 = 15.\nThe answer is 15."
    assert is_answer_only(text, [Cut(0, 23, ABANDONED)])
    assert not is_answer_only(text, [])


def test_a_chain_that_says_its_turns_does_not_begin_over_silently() -> None:
    first = "To make 391, we combine the numbers.\n\n57 + 90 = 147 and more.\n\nI have lost the thread.\n\n"
    again = "To make 391, we combine the numbers 57, 90 and 14.\n\n90 * 4 = 360.\n\n"
    assert cuts(first + again + END, ABANDONED) == [first]
    assert cuts(first + "Wait, 5 is odd.\n\n" + again + END, ABANDONED) == []


def test_a_check_that_comes_to_doubt_or_is_of_another_case_stays() -> None:
    check = "Let me verify: 57 + 360 = 417, which is correct.\n\n"
    for second in (
        "Let me check 417 - 26 = 391, which matches.\n\nBut that is impossible.\n\n",
        "Let me check 4 = 4, also works.\n\n",
    ):
        assert cuts(START + WAY + check + second + END, REPEATED_CHECK) == []


@pytest.mark.parametrize("text", ["So,\n\n", "------\n", "This seems messy, but maybe I can expand.\n\n"])
def test_what_doubts_nothing_is_no_hedge(text: str) -> None:
    assert cuts(START + text + WAY + END, HEDGE) == []


def test_an_answer_in_tags_is_one_and_is_cut_whole_or_not_at_all() -> None:
    wrong = "To make 391, we add 57 + 90 = 147.\n\nAs found.\n\n<answer>147</answer>\n\nI have lost the thread.\n\n"
    text = wrong + "To make 391, we take the numbers 57, 90 and 14.\n\n90 * 4 = 360.\n\n<answer>391</answer>"
    assert cuts(text, ABANDONED) == [wrong]


def test_a_long_round_is_a_loop_and_one_that_lasts_to_the_end_is_cut_up_to_its_last_step() -> None:
    words = "abcdefghij"
    around = "".join(f"Now the {a}{b} side is {a * 3}{b * 3} again.\n" for a in words for b in words[:7])
    assert cuts(START + around * 3 + WAY + END, LOOP) == [around * 2]
    assert cuts(START + around * 3, LOOP) == [(around * 2).removesuffix(around.splitlines(keepends=True)[-1])]
