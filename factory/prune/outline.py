"""A model reads a chain as well: which of its steps it calls abandoned is added to what the rules find.

It is shown the task and the numbered steps of the thinking, long ones shortened, and replies with one line for each
stretch that was abandoned. Only what it says by numbers is used, so nothing of its text can get into a transcript, and
what it finds are guesses like those of the rules: the final answer stays, a cut that something rests on is withdrawn,
and what is left is verified again. A chain may talk to the model; the worst that comes of it is a bad guess.

A reply that was cut or says nothing that can be read adds nothing, and neither does a request that fails, such as one
that is longer than the model's context.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence

from factory.errors import EngineDead, EngineError
from factory.ids import digest
from factory.prune.answers import Stated
from factory.prune.attempts import GivenUp, Line, attempts
from factory.prune.steps import Step
from factory.types import FinishReason, Generation, Message, Sampling

log = logging.getLogger(__name__)

Ask = Callable[[tuple[Message, ...], Sampling, str], Generation]
"""Puts messages to a model and waits for its reply; the text names the request. Called from any thread. Raises
EngineError, or EngineDead where it will answer nothing more."""

VERSION = "1"
"""Raised whenever a model may be asked otherwise than before, or its reply read otherwise."""

SHOWN = 240
"""Characters of a step that are shown, half of them from its end."""
LEAST_STEPS = 4
"""A chain of fewer is not worth a question."""
REASON = 100
"""Characters of what the model says of a stretch that are kept as evidence."""

_ASKED = """\
Below are a task and the numbered steps of somebody's thinking about it. Find the dead ends: stretches of steps that \
follow an approach, a case or a guess which the thinking later gives up, so that nothing on the way to the final \
answer uses them. A check that confirms a result is no dead end. Do not solve the task.

Reply with one line for each dead end, its first and last step and a few words why it was given up:

abandoned: 12-17: the sum is odd, so this case is impossible

or, if there is none, with the line

abandoned: none

TASK
{question}

STEPS
{steps}"""

_SAID = re.compile(
    r"[\s*_`>#-]*abandoned[\s*_`]*:[\s*_`]*(\d{1,6})(?:\s*(?:-|–|to)\s*(\d{1,6}))?[\s*_`:,.]*(.*)", re.IGNORECASE
)


class ModelOutline:
    """The rules' outline, and what a model adds to it."""

    def __init__(self, name: str, ask: Ask, max_tokens: int) -> None:
        """`name`: of the model, for the evidence. `max_tokens`: of a reply, thinking included."""
        self._name = name
        self._ask = ask
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens)

    def __call__(
        self, question: str, steps: Sequence[Step], answers: Sequence[Stated]
    ) -> tuple[list[Line], list[GivenUp]]:
        """As `attempts`, whose lines stay. Raises EngineDead."""
        lines, given_up = attempts(question, steps, answers)
        return lines, given_up + (self._told(question, steps) if len(steps) >= LEAST_STEPS else [])

    def _told(self, question: str, steps: Sequence[Step]) -> list[GivenUp]:
        messages = asked(question, steps)
        try:
            reply = self._ask(messages, self._sampling, f"outline/{digest(messages[0].content)[:12]}")
        except EngineDead:
            raise
        except EngineError as error:
            log.warning("no outline by %s of a chain of %d steps: %s", self._name, len(steps), error)
            return []
        said = abandoned(reply, len(steps))
        return [GivenUp(first, end, f"by {self._name}: {reason or 'abandoned'}") for first, end, reason in said]


def asked(question: str, steps: Sequence[Step]) -> tuple[Message, ...]:
    """One message: the task, and a line for each step."""
    shown = "\n".join(f"{number}. {_shortened(step.text)}" for number, step in enumerate(steps, 1))
    return (Message("user", _ASKED.format(question=question, steps=shown)),)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN // 2]} ... {line[-SHOWN // 2 :]}"


def abandoned(reply: Generation, steps: int) -> list[tuple[int, int, str]]:
    """The stretches that a reply names: first step, the step behind the last, why. Steps count from 0 here.

    Stretches that lie outside of the chain, or take all of it, are left out.
    """
    if reply.finish is not FinishReason.END:
        return []
    return [one for one in _stretches(reply.text.rpartition("</think>")[2]) if _is_part(one, steps)]


def _stretches(text: str) -> Iterator[tuple[int, int, str]]:
    for line in text.splitlines():
        if said := _SAID.fullmatch(line):
            first = int(said[1])
            yield first - 1, int(said[2] or first), " ".join(said[3].split()).rstrip("*_` ")[:REASON]


def _is_part(stretch: tuple[int, int, str], steps: int) -> bool:
    first, end, _ = stretch
    return 0 <= first < end <= steps and end - first < steps
