"""Best of n: independent attempts in waves, until k of them are right.

Attempts count in the order of submission, up to the k-th right one. When the k right ones are known, attempts
submitted after the last of them are cancelled, and earlier ones always finish: whether an attempt counts does not
depend on how soon it ended, so short answers are not favoured and `(k - 1) / (n - 1)` estimates the pass rate without
bias (Haldane 1945, inverse binomial sampling).
"""

from __future__ import annotations

from factory.search.base import Ending, Expansion, Search, Wants
from factory.search.growth import is_right
from factory.types import ROOT, Node, StopReason


def best_of_n(n: int, wave: int | None = None, stop_at: int | None = None) -> Search:
    """Ask for at most `n` attempts, `wave` of them outstanding at the start and refilled as they come back.

    `wave`: how many attempts may be undecided at once; None means all `n`. `stop_at`: right leaves that end the
    search; None never stops early. Raises ValueError for values that cannot work.
    """
    if n < 1 or (wave is not None and wave < 1) or (stop_at is not None and stop_at < 1):
        raise ValueError("n, wave and stop_at must be at least 1")
    return _best_of_n(n, min(wave or n, n), stop_at)


def _best_of_n(n: int, wave: int, stop_at: int | None) -> Search:
    back: dict[int, Node | None] = {}
    submitted = 0
    cut: int | None = None
    while True:
        expand: tuple[Expansion, ...] = ()
        cancel: tuple[int, ...] = ()
        if cut is None:
            last = min(n, submitted + wave - (submitted - len(back)))
            expand = tuple(Expansion(id, ROOT) for id in range(submitted + 1, last + 1))
            submitted = last
        else:
            cancel = tuple(id for id in range(cut + 1, submitted + 1) if id not in back)
        if len(back) == submitted:
            break
        grown = yield Wants(expand, cancel)
        back.update({one.expansion.id: one.node for one in grown})
        cut = _cut(back, stop_at)
    return _ending(back, stop_at)


def _cut(back: dict[int, Node | None], stop_at: int | None) -> int | None:
    """The k-th right attempt in the order of submission among those that are back; None while there are fewer.

    An earlier attempt that is still outstanding can only move it forward, never back.
    """
    if stop_at is None:
        return None
    right = sorted(id for id, node in back.items() if is_right(node))
    return right[stop_at - 1] if len(right) >= stop_at else None


def _ending(back: dict[int, Node | None], stop_at: int | None) -> Ending:
    cut = _cut(back, stop_at)
    counted = frozenset(id for id, node in back.items() if node is not None and (cut is None or id <= cut))
    right = any(is_right(back[id]) for id in counted)
    solved = cut is not None or (stop_at is None and right)
    return Ending(StopReason.SOLVED if solved else StopReason.EXHAUSTED, counted)
