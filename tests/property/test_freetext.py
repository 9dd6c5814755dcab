"""Any text: its steps joined are the text, and cuts lie inside, apart, and never in the final answer."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from factory.prune.base import merge
from factory.prune.freetext import FreeTextPruner
from factory.prune.loops import loops
from factory.prune.rests import withdraw
from factory.prune.steps import steps_of
from factory.types import Message, Problem

PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "```\n", "\\[", "\\]", "$$", "\\begin{a}", "\\end{a}", "\n", "\n\n", " ", "Wait, "),
        *("12 = 7. ", "Let me try 3 + 4 = 7.\n", "That is wrong.\n\n", "Alternatively, x = 48.\n\n", "back 3 4\n"),
        *("So 48 + 1.\n", "Hmm.\n", "Let me check: 7 = 7 ✓.\n", "Let me start over.\n\n", "\\boxed{7}\n"),
        "The answer is 9.\n",
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=40).map("".join)
PROBLEM = Problem("0", (Message("user", "Make 7 from 3 4."),), None, (), "test")


@given(TEXTS)
def test_steps_joined_are_the_text(text: str) -> None:
    steps = steps_of(text)
    assert "".join(step.text for step in steps) == text
    assert all(step.text == text[step.start : step.end] for step in steps)


@given(TEXTS)
def test_cuts_are_apart_inside_and_spare_the_answer(text: str) -> None:
    cuts = merge(FreeTextPruner().cuts(PROBLEM, text))
    edges = [edge for cut in cuts for edge in (cut.start, cut.end)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(text) for edge in edges)
    kept = "".join(text[a:b] for a, b in zip([0, *edges[1::2]], [*edges[::2], len(text)], strict=True))
    assert len(kept) + sum(cut.end - cut.start for cut in cuts) == len(text)
    assert not text.strip() or kept.strip()


@given(TEXTS)
def test_what_is_withdrawn_is_of_the_cuts_and_the_rest_stands(text: str) -> None:
    cuts = merge(FreeTextPruner().cuts(PROBLEM, text))
    gone = {cut for cut, _ in withdraw(PROBLEM.messages[0].content, text, cuts)}
    left = [cut for cut in cuts if cut not in gone]
    assert gone <= set(cuts)
    assert withdraw(PROBLEM.messages[0].content, text, left) == []


@given(TEXTS)
def test_loops_are_apart(text: str) -> None:
    found = loops(steps_of(text))
    assert all(one.end <= other.first for one, other in pairwise(found))
