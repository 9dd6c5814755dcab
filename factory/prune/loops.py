"""Where a chain goes round in a loop: the same steps over and over, word for word or nearly.

Two steps are alike if their numbers and signs are the same, in order, and nearly all of their words are; small words
that vary from round to round (`but`, `again`, `perhaps`) do not count. So a list that counts up is no loop, since its
numbers differ. The first round stays, and what follows it is a loop if it goes round three times in all, or twice where
a round is long.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.prune.steps import Step

MAX_PERIOD = 60
"""Steps of the longest round that is looked for whatever it holds; a longer one is, where half of it comes again."""
LONG = 240
"""Characters of a round from which on being said twice is enough."""
SHORT = 12
"""Characters of a round below which nothing is called a loop."""
ALIKE = 0.8
"""Share of the words of either step that both must have."""

_TOKEN = re.compile(r"[A-Za-z]+|\d+(?:\.\d+)?|[^\sA-Za-z\d.,;:!?'\"’()*]")
_SMALL = "but so and again perhaps maybe alternatively wait hmm then now still also actually this well okay"
_VARYING = frozenset(_SMALL.split())


@dataclass(frozen=True, slots=True)
class Loop:
    """Rounds after the first one."""

    first: int
    """Index of the first step that repeats."""
    end: int
    """Index behind the last one."""
    period: int
    """Steps in a round."""


@dataclass(frozen=True, slots=True)
class _Key:
    signs: tuple[str, ...]
    words: frozenset[str]


def loops(steps: Sequence[Step]) -> list[Loop]:
    """In order and disjoint; of a step that is in several, the shortest round has it."""
    keys = [_key(step.text) for step in steps]
    taken = [False] * len(steps)
    found: list[Loop] = []
    for period in [*range(1, min(MAX_PERIOD, len(steps) // 2) + 1), *_long_periods(keys)]:
        for loop in _of_period(steps, keys, period):
            if not any(taken[loop.first : loop.end]):
                found.append(loop)
                taken[loop.first : loop.end] = [True] * (loop.end - loop.first)
    return sorted(found, key=lambda loop: loop.first)


def _long_periods(keys: Sequence[_Key]) -> list[int]:
    """Distances above MAX_PERIOD at which as many steps as half a round come again word for word."""
    last: dict[_Key, int] = {}
    counts: Counter[int] = Counter()
    for at, key in enumerate(keys):
        if key in last:
            counts[at - last[key]] += 1
        last[key] = at
    return sorted(period for period, count in counts.items() if period > MAX_PERIOD and 2 * count >= period)


def _key(text: str) -> _Key:
    tokens = _TOKEN.findall(text)
    words = frozenset(token.lower() for token in tokens if token[0].isalpha())
    return _Key(tuple(token for token in tokens if not token[0].isalpha()), words - _VARYING)


def _of_period(steps: Sequence[Step], keys: Sequence[_Key], period: int) -> Iterator[Loop]:
    start = 0
    for at in range(len(keys) - period + 1):
        if at < len(keys) - period and _alike(keys[at], keys[at + period]):
            continue
        if at - start >= period and _is_loop(steps, start, at - start, period):
            yield Loop(start + period, at + period, period)
        start = at + 1


def _alike(one: _Key, other: _Key) -> bool:
    if one == other:
        return True
    if one.signs != other.signs:
        return False
    union = one.words | other.words
    return len(one.words & other.words) >= ALIKE * len(union)


def _is_loop(steps: Sequence[Step], start: int, repeated: int, period: int) -> bool:
    """`repeated`: how many steps are like those a period before them."""
    size = steps[start + period - 1].end - steps[start].start
    return size >= LONG or (size >= SHORT and repeated >= 2 * period)
