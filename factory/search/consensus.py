"""Attempts until they agree: for problems that no verifier decides.

Attempts vote with the answer that was read of them, in the order of submission; one of which nothing was read has no
vote. The search stops when the leading answer is ahead of the next one by more than chance explains. What counts are
the attempts up to there, and later ones are cancelled: the votes are the same however soon each attempt ends.

The rule: of the leader's votes after its first, let there be `a`, and at most `b` of any one other answer since then.
Were the other answer at least as probable, a vote for either would go to the leader with chance 1/2 at most; so

    E = integral from 1/2 to 1 of 2 q^a (1 - q)^b dq  /  (1/2)^(a + b)

is a likelihood ratio that such votes raise to 1/x, ever, with chance x at most (Ville 1939). It stops at E >= 1/x with
x = error / (j (j + 1)) for the answer that came up as the j-th different one; these x add up to `error` at most. So
**with chance 1 - `error` or more, an answer that it stops at is the most probable answer of the teacher** on this
problem, however many answers there are and however often one looks; ties are no error. After n attempts without
agreement nothing is promised, and the majority is what there is (`factory.selection`).

This is the one-versus-one rule of Jain et al. 2022, "PAC mode estimation using PPR martingale confidence sequences",
for answers that are not known beforehand. Adaptive consistency (Aggarwal et al. 2023) stops earlier, at a posterior
probability, and promises nothing.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass, field

from factory.search.base import Ending, Expansion, Search, Wants
from factory.types import ROOT, Node, NodeState, StopReason


def consensus(n: int, error: float, wave: int) -> Search:
    """At most `n` attempts, `wave` of them undecided at once, until the leading answer is the most probable one but
    for a chance of `error`. Raises ValueError for values that cannot work.
    """
    if n < 1 or wave < 1 or not 0 < error < 1:
        raise ValueError("n and wave must be at least 1, error between 0 and 1")
    return _consensus(n, error, min(wave, n))


def _consensus(n: int, error: float, wave: int) -> Search:
    back: dict[int, Node | None] = {}
    poll = Poll(error)
    submitted = read = 0
    while True:
        while not poll.agreed and read + 1 in back:
            read += 1
            poll.add(_vote(back[read]))
        expand: tuple[Expansion, ...] = ()
        cancel: tuple[int, ...] = ()
        if poll.agreed:
            cancel = tuple(id for id in range(read + 1, submitted + 1) if id not in back)
        else:
            last = min(n, read + wave)
            expand = tuple(Expansion(id, ROOT) for id in range(submitted + 1, last + 1))
            submitted = max(submitted, last)
        if len(back) == submitted:
            break
        grown = yield Wants(expand, cancel)
        back.update({one.expansion.id: one.node for one in grown})
    counted = frozenset(id for id, node in back.items() if node is not None and id <= read)
    return Ending(StopReason.AGREED if poll.agreed else StopReason.EXHAUSTED, counted)


def _vote(node: Node | None) -> str | None:
    if node is None or node.state is not NodeState.FINISHED or node.answer is None:
        return None
    return node.answer.strip() or None


@dataclass(slots=True)
class Poll:
    """Votes, one after the other."""

    error: float
    agreed: bool = False
    _since: dict[str, Counter[str]] = field(default_factory=dict)
    """By answer, in the order in which they came up: the votes since its first."""

    def add(self, answer: str | None) -> None:
        """Count a vote, if it is one."""
        if answer is None:
            return
        for votes in self._since.values():
            votes[answer] += 1
        self._since.setdefault(answer, Counter())
        self.agreed = self.agreed or self._is_ahead(answer)  # a vote for one answer helps no other

    def _is_ahead(self, answer: str) -> bool:
        place, votes = list(self._since).index(answer) + 1, self._since[answer]
        others = max((number for other, number in votes.items() if other != answer), default=0)
        return votes[answer] > others and evidence(votes[answer], others) * self.error >= place * (place + 1)


@functools.lru_cache(maxsize=4096)
def evidence(a: int, b: int) -> float:
    """E of `a` votes for one answer against `b` for another.

    As a sum: C(n + 1, k) over k from 0 to a, by (n + 1) C(n, a), where n = a + b.
    """
    n = a + b
    return sum(math.comb(n + 1, k) for k in range(a + 1)) / ((n + 1) * math.comb(n, a))
