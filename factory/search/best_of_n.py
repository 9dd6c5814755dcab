"""Best of n: independent attempts in waves, until k of them are right.

Attempts count in the order of submission, up to the k-th right one (see `chains`), so `(k - 1) / (n - 1)` estimates the
pass rate without bias (Haldane 1945, inverse binomial sampling).
"""

from __future__ import annotations

from factory.search.base import Expansion, Search
from factory.search.chains import Chain, chains


def best_of_n(n: int, wave: int | None = None, stop_at: int | None = None) -> Search:
    """Ask for at most `n` attempts, `wave` of them outstanding at the start and refilled as they come back.

    `wave`: how many attempts may be undecided at once; None means all `n`. `stop_at`: right leaves that end the
    search; None never stops early. Raises ValueError for values that cannot work.
    """
    return chains(n, _attempt, wave, stop_at)


def _attempt() -> Chain:
    yield Expansion
