"""What a run may spend, and how its workers share what is left: pure, without a clock.

A cap is over the run's whole life; only wall time is of one invocation. Tokens are shared out before they are spent:
every worker begins requests only while its own tokens are below what it was granted, and all grants together never go
beyond the cap. So a run overruns it by what its workers have in flight as they reach their grants, and by no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SECONDS_PER_HOUR = 3600
TOKENS_PER_PRICE = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has cost, earlier invocations included but for `seconds`."""

    tokens: int = 0
    """Generated ones."""
    engine_seconds: float = 0.0
    """In which an engine had requests; all engines together."""
    seconds: float = 0.0
    """Of wall time."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Caps; None is none. Money is in whatever currency the prices are in."""

    tokens: int | None = None
    engine_seconds: float | None = None
    seconds: float | None = None
    money: float | None = None
    token_price: float = 0.0
    """Of a million generated tokens."""
    hour_price: float = 0.0
    """Of an hour in which one engine has requests."""

    def cost(self, spent: Spent) -> float:
        """In money."""
        return spent.tokens / TOKENS_PER_PRICE * self.token_price + (
            spent.engine_seconds / SECONDS_PER_HOUR * self.hour_price
        )

    def reached(self, spent: Spent) -> str | None:
        """Name of a cap that is reached; None while there is none."""
        pairs = {
            "tokens": (spent.tokens, self.tokens),
            "engine_seconds": (spent.engine_seconds, self.engine_seconds),
            "seconds": (spent.seconds, self.seconds),
        }
        reached = [name for name, (had, cap) in pairs.items() if cap is not None and had >= cap]
        if self._money_left(spent) == 0.0:
            reached.append("money")
        return reached[0] if reached else None

    def tokens_left(self, spent: Spent) -> int | None:
        """Tokens that may still be generated, by the caps on tokens and on money; None for any number."""
        left = [] if self.tokens is None else [self.tokens - spent.tokens]
        money = self._money_left(spent)
        if money is not None and self.token_price:
            left.append(max(1 if money else 0, math.ceil(round(money / self.token_price * TOKENS_PER_PRICE, 6))))
        return max(0, min(left)) if left else None

    def _money_left(self, spent: Spent) -> float | None:
        """None for any amount; what rounding leaves of the last token is nothing."""
        if self.money is None:
            return None
        left = self.money - self.cost(spent)
        return left if left > 1e-9 * self.money else 0.0


@dataclass(slots=True)
class _Share:
    """Of one worker. A grant is known to hold once the worker has answered the call that brought it."""

    spent: int = 0
    granted: int = 0
    told: int = 0
    """The latest grant; it may be lower than `granted`, and holds from the worker's next answer on."""


@dataclass(slots=True)
class Grants:
    """Tokens that workers may generate, each counted from its own start."""

    _shares: dict[str, _Share] = field(default_factory=dict)

    def grant(self, worker: str, left: int, active: bool) -> int:
        """Up to how many of its own tokens a worker may begin requests, from now on.

        `left`: tokens that the run may still generate by what was told so far. `active`: whether it has anything to
        spend them on. Workers share evenly what nobody else holds; one that lets time pass gives half of its part back.
        """
        share = self._shares.setdefault(worker, _Share())
        held = sum(max(0, one.granted - one.spent) for name, one in self._shares.items() if name != worker)
        free = max(0, left - held)
        share.told = share.spent + (math.ceil(free / len(self._shares)) if active else 0)
        share.granted = max(share.granted, share.told)
        return share.told

    def answered(self, worker: str, spent: int) -> None:
        """A worker told what it has generated so far, after it was given the latest grant."""
        share = self._shares.setdefault(worker, _Share())
        share.spent = spent
        share.granted = max(spent, share.told)

    def gone(self, worker: str) -> None:
        """It generates nothing more."""
        self._shares.pop(worker, None)
