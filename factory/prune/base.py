"""The contract of a pruner: it says which pieces of a completion did not matter, and why.

A pruner never rewrites. It names cuts, and what remains is verbatim what was in the rollout. It may be wrong: what is
left is verified again, and a transcript that no longer holds is rejected. What a pruner does not understand it leaves
alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from factory.types import NOT_ASKED, Problem, Seam

ABANDONED = "abandoned_attempt"
"""A line that the chain gave up."""
LOOP = "loop"
"""Rounds of a loop after the first."""
REPEATED_CHECK = "repeated_check"
"""A check of what was checked before."""
AFTER_FIRST_RIGHT = "after_first_right"
"""What follows the first answer that verifies."""
HEDGE = "hedge"
"""Doubt that leads nowhere."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece of a completion that is to go."""

    start: int
    """Offset in characters into the completion."""
    end: int
    """Offset of the first character that stays."""
    reason: str
    """Name of the rule, such as `abandoned_attempt`."""
    evidence: str = ""
    """What in the text says so, in a line; empty where the rule says all."""
    guess: bool = False
    """Whether it was found by the text's form and not by replay: then it is withdrawn where what stays rests on it."""
    seam: Seam = NOT_ASKED
    """What an engine says of it, once it was asked."""


class Pruner(Protocol):
    """Finds what to remove from a completion whose answer was right."""

    name: str
    version: str
    """Raised whenever it may cut otherwise than before."""

    def cuts(self, problem: Problem, text: str) -> list[Cut]:
        """Pieces of `text` to remove, in any order; empty where there is nothing to remove or nothing understood.

        All that can go, whatever variant is made: the reason decides which of them has it removed.
        """
        ...


def merge(cuts: Iterable[Cut]) -> list[Cut]:
    """The same cuts in order and disjoint; what two of them claim belongs to the one that starts first.

    Of those that start together the longest has it. Neighbours that touch become one if they have the same reason.
    """
    merged: list[Cut] = []
    for cut in sorted(cuts, key=lambda cut: (cut.start, -cut.end)):
        last = merged[-1] if merged else Cut(0, 0, "")
        start = max(cut.start, last.end)
        if start >= cut.end:
            continue
        if merged and start == last.end and (cut.reason, cut.guess) == (last.reason, last.guess):
            merged[-1] = replace(last, end=cut.end)
        else:
            merged.append(replace(cut, start=start))
    return merged
