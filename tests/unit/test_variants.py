"""The variants that are cut from a right leaf of free text: what each removes, keeps and refuses."""

from dataclasses import replace

from factory.prune.freetext import FreeTextPruner
from factory.prune.transcripts import VARIANTS, transcripts
from factory.types import (
    Aspect,
    Attempt,
    Cost,
    Message,
    Node,
    NodeState,
    Origin,
    Outcome,
    Policy,
    Problem,
    Sampling,
    StopReason,
    Transcript,
    Tree,
    Verdict,
)

PROBLEM = Problem("0", (Message("user", "Make 391 from 57, 90, 14, 56 and 26."),), None, (), "test")
START = "I combine the five numbers.\n\n"
ONE = "Let me try 57 * 7 = 399.\n\nThat is too big.\n\n"
TWO = "Let me try 90 + 14 + 56 = 160.\n\nThat is too small, by far.\n\n"
WAY = "Let me try another approach: 57 + 360 = 417 and 417 - 26 = 391.\n\n"
SAID = "The answer is \\boxed{391}.\n\n"
CHECK = "Let me check: 417 - 26 = 391, which matches.\n\n"
CHAIN = START + ONE + TWO + WAY + SAID + CHECK + "Hmm.\n\n" + CHECK.replace("check", "verify")


def judge(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    outcome = Outcome.PASS if "391}" in attempt.text else Outcome.FAIL
    return (Verdict("fake", "1", Aspect.ANSWER, outcome, None, "", 0.0),)


def made(chain: str, tail: str = "The answer is \\boxed{391}.") -> dict[str, Transcript]:
    text = f"<think>\n{chain}</think>\n{tail}"
    verdicts = judge(PROBLEM, Attempt(()))
    right = tuple(replace(one, outcome=Outcome.PASS) for one in verdicts)
    node = Node(
        1, 0, text, None, None, Origin.SAMPLED, NodeState.FINISHED, None, right, True, 10, 5, None, 0.1
    )  # fmt: skip
    policy = Policy("teacher", "0" * 64, Sampling())
    tree = Tree(PROBLEM, policy, "best_of_n", (node,), StopReason.EXHAUSTED, None, 1, Cost())
    found = transcripts(tree, variants=VARIANTS, pruners=[FreeTextPruner()], judge=judge)
    return {one.variant: one for one in found}


def thought(transcript: Transcript) -> str:
    return transcript.text.partition("<think>\n")[2].partition("</think>")[0]


def test_each_variant_removes_what_it_says() -> None:
    found = made(CHAIN)
    assert all(one.rejection is None for one in found.values())
    assert thought(found["full"]) == CHAIN
    assert thought(found["first_correct"]) == START + ONE + TWO + WAY + SAID
    rest = WAY + SAID + CHECK + "Hmm.\n\n" + CHECK.replace("check", "verify")
    assert thought(found["pruned"]) == START + rest
    assert thought(found["concise"]) == START + WAY + SAID + CHECK


def test_what_is_removed_has_its_kind_and_evidence() -> None:
    removals = made(CHAIN)["pruned"].removals
    assert {one.reason for one in removals} == {"abandoned_attempt"}
    assert all(one.evidence for one in removals)


def test_a_chain_of_which_nothing_is_left_is_answer_only() -> None:
    found = made(ONE + "Let me try another way. So the answer is \\boxed{391}.\n\n")
    assert found["full"].rejection is None
    assert found["pruned"].rejection == "answer_only"


def test_a_withdrawn_cut_is_told() -> None:
    chain = START + "Let me try 57 + 300 = 357.\n\nThat is too small.\n\nLet me try adding 34 to 357.\n\n"
    pruned = made(chain)["pruned"]
    assert thought(pruned) == chain
    assert ["357" in one.evidence for one in pruned.withdrawn] == [True]


def test_reflective_keeps_the_shortest_attempt_with_the_turn_away_from_it() -> None:
    between = "Let me try 90 * 4 = 360, which works.\n\n"
    found = made(START + TWO + between + ONE + WAY + SAID)
    assert thought(found["pruned"]) == START + between + WAY + SAID
    assert len(ONE) < len(TWO)
    assert thought(found["reflective"]) == START + between + ONE + WAY + SAID


def test_attempts_that_touch_are_one_to_reflective() -> None:
    assert thought(made(START + ONE + TWO + WAY + SAID)["reflective"]) == START + ONE + TWO + WAY + SAID
