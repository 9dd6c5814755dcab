"""What each verifier decided over a run, why it could not, and how long it took.

A check is one call of one verifier on one attempt, told by its verdict about the answer, which every verifier gives;
all verdicts of a check carry its time. Memory does not grow with checks: times are counted in steps of 5%, so the
percentile is exact to half of that, and reasons beyond `KINDS` are counted together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.types import Outcome

KINDS = 1000
"""Different reasons of one verifier that are told apart."""

_STEP = math.log(1.05)
_SHORTEST = 1e-7
"""Seconds; what is shorter counts as this long, so that zero has a place."""


@dataclass(slots=True)
class Checks:
    """The checks by one verifier."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    """Of UNKNOWN, by what its evidence begins with."""
    seconds: float = 0.0
    """Wall time, all checks together; they run side by side."""
    longest: float = 0.0
    _steps: Counter[int] = field(default_factory=Counter)

    def add(self, outcome: str, evidence: str, seconds: float) -> None:
        self.outcomes[outcome] += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)
        self._steps[round(math.log(max(seconds, _SHORTEST)) / _STEP)] += 1
        if outcome == Outcome.UNKNOWN:
            reason = reason_of(evidence)
            known = reason in self.reasons or len(self.reasons) < KINDS
            self.reasons[reason if known else "other"] += 1

    @property
    def number(self) -> int:
        return self.outcomes.total()

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the checks was done. Raises ValueError where there is none."""
        if not self.number:
            raise ValueError("no checks")
        below = 0
        for step in sorted(self._steps):
            below += self._steps[step]
            if below >= share * self.number:
                break
        return min(math.exp(step * _STEP), self.longest)

    def plain(self) -> dict[str, Any]:
        """As JSON takes it; times in seconds."""
        return {
            "outcomes": {outcome: self.outcomes[outcome] for outcome in Outcome},
            "unknown_by_reason": dict(self.reasons.most_common()),
            "seconds": round(self.seconds, 3),
            "mean_seconds": self.seconds / self.number,
            "p95_seconds": self.percentile(0.95),
            "longest_seconds": self.longest,
        }


def add_verdict(checks: dict[str, Checks], verdict: Mapping[str, Any]) -> None:
    """Count a verdict about an answer, as a row holds it, under the name of its verifier."""
    one = checks.setdefault(verdict["verifier"], Checks())
    one.add(verdict["outcome"], verdict["evidence"], verdict["seconds"])


def reason_of(evidence: str) -> str:
    """What kind of trouble it tells of: for an error its name and what it says first, else what comes before a colon.

    The rest names the one case: `VerifierError: the sandbox had trouble: ...`.
    """
    first, *rest = evidence.split(": ")
    return f"{first}: {rest[0]}" if rest and first.endswith("Error") else first
