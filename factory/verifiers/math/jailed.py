"""Algebra behind a deadline: `algebra` in a sandbox, asked from any thread. No signals are used.

Each question is a process of its own, forked from one that has everything loaded; it is killed when it has used its
processor time or its memory. Whatever keeps it from an answer is a VerifierError.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from factory.errors import VerifierError
from factory.verifiers.jail import Jail, decided
from factory.verifiers.math.options import Decision, Options
from sandboxes.base import GIB, Call, Ending, Limits, Program
from sandboxes.pool import Options as PoolOptions

MEMORY = 1 * GIB
"""Beyond what the interpreter takes with everything loaded."""
WALL = 3.0
"""Times the deadline: a net for a busy machine, since the deadline is of processor time."""
MAX_LENGTH = 2_000
"""Characters of an answer that is worth asking about."""
_ENDINGS = {
    Ending.CPU_LIMIT: "it takes too long",
    Ending.WALL_LIMIT: "it takes too long",
    Ending.MEMORY_LIMIT: "it takes too much memory",
}
_starting = threading.Lock()


class Algebra(Protocol):
    """Decides what exact rules do not."""

    def __call__(self, gold: str, pred: str, options: Options, deadline: float) -> Decision:
        """Raises VerifierError for trouble: no time, no memory, no sandbox. `deadline` is in seconds."""
        ...


def _jail(options: PoolOptions) -> Jail:
    return Jail(options=options)


class JailedAlgebra:
    """The default: sympy in a sandbox of this machine, which starts with the first question."""

    def __init__(self, make: Callable[[PoolOptions], Jail] = _jail) -> None:
        """`make`: a sandbox that has what these options name loaded."""
        self._make = make
        self._jail: Jail | None = None

    def __call__(self, gold: str, pred: str, options: Options, deadline: float) -> Decision:
        if len(gold) > MAX_LENGTH or len(pred) > MAX_LENGTH:
            return Decision(None, "too long for algebra")
        limits = Limits(cpu_seconds=deadline, wall_seconds=WALL * deadline, memory_bytes=MEMORY)
        asked = [Call((gold, pred, asdict(options)))]
        found = self._started().call(Program(_source()), "equal", asked, limits)
        decided(found.run)
        (returned,) = found.returned
        if returned.missing or returned.error is not None:
            why = _ENDINGS.get(found.run.ending, returned.error or str(found.run.ending))
            raise VerifierError(f"algebra: {why}")
        equal, rule = returned.value
        return Decision(equal, rule)

    def close(self) -> None:
        """End its processes; they start anew where it is asked again."""
        with _starting:
            jail, self._jail = self._jail, None
        if jail is not None:
            jail.close()

    def __getstate__(self) -> dict[str, object]:
        return {"_make": self._make, "_jail": None}  # each process has a sandbox of its own

    def _started(self) -> Jail:
        with _starting:
            if self._jail is None:
                options = PoolOptions(modules=("factory.verifiers.math.warm",), paths=_paths())
                self._jail = self._make(options)
            return self._jail


@cache
def _source() -> str:
    return (Path(__file__).parent / "algebra.py").read_text("utf-8")


@cache
def _paths() -> tuple[str, ...]:
    """Where the modules that it loads lie: those of the environment, and this project."""
    project = str(Path(__file__).parents[3])
    spec = find_spec("math_verify")
    if spec is None or spec.origin is None:
        raise VerifierError("algebra: math-verify is not installed")
    return str(Path(spec.origin).parents[1]), project
