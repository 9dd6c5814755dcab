"""Budget forcing (s1, Muennighoff et al. 2025): every attempt thinks as long as it is told, and then answers.

Thinking is what stands before the answer in an attempt: all tokens up to and with the `end` that the model wrote, or
up to the cue that was put in its place; sampled ones and those of `wait` count alike, those of the cue do not. It never
has fewer than `min_thinking` tokens nor more than `max_thinking`.

- An end of thinking that comes too early is left out, `wait` is put in its place, and the model goes on. So is the end
  of the turn of a model that stops without having ended its thinking, or without having thought at all.
- At `max_thinking` the cue is put there, and the answer is sampled behind it. It is put there as well where the turn
  ends by itself after enough tokens, but without an end of thinking: every attempt comes to its answer.
- `min_thinking` and the tokens of `wait` together may not be more than `max_thinking` (less `slack`, see below): then
  `wait` always fits, and the model goes on behind it. Whoever makes the search sees to that, since only a tokenizer can
  tell; where it is not so, the thinking may pass the maximum by what `wait` has too many.
- The limit may cut the thinking anywhere. With a `boundary`, the first one within the last `slack` tokens ends the
  thinking, so that a cue begins where a line does; where there is none in all of them, the thinking is cut as it is.

What can still leave an attempt without an answer: the limit of the whole turn (`Sampling.max_tokens`), or the engine's
context, cuts it. It is TRUNCATED then.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

from factory.search.base import Expansion, Search
from factory.search.chains import Chain, Piece, chains
from factory.types import Node


@dataclass(frozen=True, slots=True)
class Forcing:
    """How long an attempt thinks, and what is said to it."""

    min_thinking: int
    """In tokens, as is all that is counted here."""
    max_thinking: int
    end: str
    """What ends the thinking; the model writes it."""
    wait: str
    """In place of an end that comes too early."""
    cue: str
    """In place of an end that does not come; it should hold one."""
    boundary: str | None = None
    """What a cue should come behind, such as a line's end; None for anywhere."""
    slack: int = 16
    """How many tokens before the maximum a boundary is looked for."""

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot work."""
        if not 0 <= self.min_thinking <= self.last:
            raise ValueError("min_thinking lies between 0 and max_thinking, less slack where there is a boundary")
        if self.last < 1 or self.slack < 1:
            raise ValueError("max_thinking, less slack where there is a boundary, and slack must be at least 1")
        if not self.end or self.end in self.wait:
            raise ValueError("end must be a text that does not stand in wait")

    @property
    def last(self) -> int:
        """Tokens after which nothing but a boundary is waited for."""
        return self.max_thinking - (self.slack if self.boundary else 0)


def budget_forcing(n: int, forcing: Forcing, *, wave: int | None = None, stop_at: int | None = None) -> Search:
    """`n` attempts, `wave` of them at once, until `stop_at` are right. Raises ValueError for values that cannot work.

    The search raises ValueError for an engine that tells no token ids.
    """
    return chains(n, partial(_attempt, forcing), wave, stop_at)


def _attempt(forcing: Forcing) -> Chain:
    thinking = yield from _think(forcing)
    if not thinking.is_ended:
        yield partial(Expansion, inject=forcing.cue)
    yield Expansion


class _Thinking:
    """Of one attempt, as far as it has come."""

    def __init__(self, end: str) -> None:
        self._end = end
        self.tokens = 0
        self.text = ""

    def add(self, node: Node) -> None:
        if node.token_ids is None:
            raise ValueError("budget forcing counts tokens, and the engine tells no token ids")
        self.tokens += len(node.token_ids)
        self.text += node.text

    @property
    def is_ended(self) -> bool:
        """Whether the model ended it. In all of its text: a limit may have cut the end itself in two."""
        return self._end in self.text


def _think(forcing: Forcing) -> Generator[Piece, Node, _Thinking]:
    thinking = _Thinking(forcing.end)
    while thinking.tokens < forcing.last:
        thinking.add((yield _more(forcing, thinking)))
        if thinking.is_ended or thinking.tokens >= forcing.min_thinking:
            break
        thinking.add((yield partial(Expansion, inject=forcing.wait)))
    if _lacks_boundary(forcing, thinking):
        thinking.add((yield _to_boundary(forcing, thinking)))
    return thinking


def _more(forcing: Forcing, thinking: _Thinking) -> Piece:
    return partial(
        Expansion,
        max_tokens=forcing.last - thinking.tokens,
        min_tokens=max(0, forcing.min_thinking - thinking.tokens),
        may_end=False,
        stop=(forcing.end,),
    )


def _lacks_boundary(forcing: Forcing, thinking: _Thinking) -> bool:
    if forcing.boundary is None or thinking.is_ended or thinking.text.endswith(forcing.boundary):
        return False
    return forcing.last <= thinking.tokens < forcing.max_thinking


def _to_boundary(forcing: Forcing, thinking: _Thinking) -> Piece:
    stop = (forcing.end, forcing.boundary or "")
    return partial(Expansion, max_tokens=forcing.max_thinking - thinking.tokens, may_end=False, stop=stop)
