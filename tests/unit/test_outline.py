"""A model's outline of a chain: what it is asked, what of its reply counts, and what becomes of it in a pruner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.errors import EngineDead, EngineError
from factory.prune.base import ABANDONED
from factory.prune.freetext import FreeTextPruner
from factory.prune.outline import SHOWN, ModelOutline, abandoned, asked
from factory.prune.steps import steps_of
from factory.types import FinishReason, Generation, Message, Problem, Sampling

CHAIN = (
    "<think>\n"
    "We need two numbers with product 77.\n"
    "Take 3 for the first one.\n"
    "Then the other is 77/3.\n"
    "That is no whole number.\n"
    "So take 7 for the first one.\n"
    "Then 77/7 = 11.\n"
    "</think>\n"
    "The numbers are \\boxed{7, 11}."
)
"""The rules find nothing in it: no phrase says that it turns."""
PROBLEM = Problem(
    "p", messages=(Message("user", "Which two primes have the product 77?"),), reference="7, 11", checks=(), source=""
)


def reply(text: str, finish: FinishReason = FinishReason.END) -> Generation:
    return Generation(text, None, None, finish, generated_tokens=9, prompt_tokens=9, cached_tokens=None, seconds=0.0)


class Reader:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self, says: Generation | Exception) -> None:
        self.says = says
        self.asked: list[str] = []

    def __call__(self, messages: tuple[Message, ...], sampling: Sampling, key: str) -> Generation:
        assert (sampling.temperature, sampling.max_tokens) == (0.0, 512)
        assert key.startswith("outline/")
        self.asked.append(messages[0].content)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def removed(says: Generation | Exception, text: str = CHAIN) -> list[tuple[str, str, str]]:
    """Text, reason and evidence of what a pruner with such a reader would remove."""
    pruner = FreeTextPruner(ModelOutline("reader", Reader(says), 512))
    return [(text[cut.start : cut.end], cut.reason, cut.evidence) for cut in pruner.cuts(PROBLEM, text)]


def test_what_the_model_calls_abandoned_is_a_guess_with_its_reason() -> None:
    assert removed(reply("abandoned: none")) == []
    (found,) = removed(reply("I see.\n**abandoned: 3-5: 3 does not divide 77**"))
    text, reason, evidence = found
    assert text == "Take 3 for the first one.\nThen the other is 77/3.\nThat is no whole number.\n"
    assert (reason, evidence) == (ABANDONED, "by reader: 3 does not divide 77")


def test_it_is_shown_the_task_and_every_step_by_its_number() -> None:
    reader = Reader(reply("abandoned: none"))
    FreeTextPruner(ModelOutline("reader", reader, 512)).cuts(PROBLEM, CHAIN)
    (text,) = reader.asked
    assert "Which two primes have the product 77?" in text
    assert "\n3. Take 3 for the first one.\n4. Then the other is 77/3.\n" in text


def test_a_long_step_is_shown_by_its_ends() -> None:
    long = "begin " + "x" * 5000 + " end."
    (message,) = asked("q", steps_of(f"One.\n{long}\nTwo.\n"))
    assert "2. begin xxx" in message.content
    assert "xxx end.\n3. Two." in message.content
    assert len(message.content) < len(asked("q", [])[0].content) + SHOWN + 60


@pytest.mark.parametrize(
    "says",
    [
        reply("abandoned: 3-5: cut", FinishReason.LENGTH),
        reply("<think>abandoned: 3-5</think>\nabandoned: none"),
        reply("Steps 3 to 5 are abandoned."),
        reply("abandoned: 5-3: backwards"),
        reply("abandoned: 0-2: outside"),
        reply("abandoned: 7-99: outside"),
        reply("abandoned: 1-8: all of it"),
        EngineError("longer than the context"),
    ],
)
def test_what_cannot_be_used_adds_nothing(says: Generation | Exception) -> None:
    assert removed(says) == []


def test_a_dead_engine_is_told() -> None:
    with pytest.raises(EngineDead):
        removed(EngineDead("gone"))


def test_nobody_is_asked_about_a_chain_of_a_few_steps() -> None:
    assert removed(EngineDead("nobody shall ask"), "It is 7 and 11.\n\\boxed{7, 11}") == []


def test_tags_and_the_final_answer_stay_whatever_the_model_says() -> None:
    for first, last in ((1, 4), (2, 8), (6, 8)):
        for text, _, _ in removed(reply(f"abandoned: {first}-{last}")):
            assert "think>" not in text
            assert "boxed" not in text


@given(st.text(), st.integers(1, 40))
def test_any_reply_gives_stretches_of_the_chain(text: str, steps: int) -> None:
    for first, end, reason in abandoned(reply(text), steps):
        assert 0 <= first < end <= steps
        assert "\n" not in reason


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_stretches_are_read_in_order(stretches: list[tuple[int, int]]) -> None:
    said = "\n".join(f"abandoned: {first}-{last}: why" for first, last in stretches)
    wanted = [(first - 1, last, "why") for first, last in stretches if first <= last and last - first < 39]
    assert abandoned(reply(said), 40) == wanted
