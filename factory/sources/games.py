"""Problems from the generators that come with the factory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from factory import ids
from factory.errors import ConfigError
from factory.sources import countdown
from factory.types import Check, Message, Problem


@dataclass(frozen=True, slots=True)
class CountdownSource:
    """Instances of the Countdown game, each with its solver's answer as the reference."""

    count: int
    """How many problems."""
    seed: int | None = None
    """Of the train split; the frozen splits take none."""
    split: str = "train"
    """`train`, `tune`, `gate` or `report`."""
    numbers: int = 4
    """How many numbers a problem gives."""
    low: int = 1
    high: int = 30
    """Largest number given."""
    target_low: int = 10
    target_high: int = 100
    chain: str = "replay"
    """`none` for models that do not think in the bundled teacher's lines: their chains are not judged."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, not {self.count}")
        if self.split not in list(countdown.Split):
            raise ConfigError(f"split must be one of {', '.join(countdown.Split)}, not {self.split!r}")

    @property
    def name(self) -> str:
        """The split, with the seed that it was drawn from."""
        return f"countdown:{self.split}" + ("" if self.seed is None else f":seed={self.seed}")

    def __iter__(self) -> Iterator[Problem]:
        try:
            for instance in self._instances():
                yield self._problem(instance)
        except ValueError as error:  # the generator's word for a shape or a seed that cannot work
            raise ConfigError(f"source countdown: {error}") from error

    def _instances(self) -> Iterator[countdown.Instance]:
        return countdown.instances(
            countdown.Split(self.split),
            self.count,
            self.seed,
            self.numbers,
            self.low,
            self.high,
            self.target_low,
            self.target_high,
        )

    def _problem(self, instance: countdown.Instance) -> Problem:
        prompt = countdown.prompt_text(instance)
        reference = countdown.solve(instance)
        given = {"numbers": list(instance.numbers), "target": instance.target}
        return Problem(
            id=ids.problem_id([("user", prompt)], reference),
            messages=(Message("user", prompt),),
            reference=reference,
            checks=(Check("countdown", {**given, "use": "all", "chain": self.chain}),),
            source=self.name,
            metadata=given,
        )
