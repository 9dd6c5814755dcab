"""Errors, named after the boundary that was crossed.

A bad rollout is data, not a crash: an error is classified once, where it crosses into the factory, and is
recorded once. `UserError` is the one kind that a person can mend by changing a recipe, a file or an address; the
command line prints its single line and exits with its `exit_status`. Everything else prints a traceback.
"""

from __future__ import annotations


class FactoryError(Exception):
    """Anything the factory raises on purpose."""


class UserError(FactoryError):
    """A mistake that the user can mend; the message is one line that says what to do."""

    exit_status = 2


class ConfigError(UserError):
    """A recipe that cannot work: an unknown key, a value out of range, a model that is none."""


class SourceError(UserError):
    """Problems that cannot be read: a missing file, a malformed line, a reference its own checks reject."""


class StorageError(UserError):
    """A run folder that cannot be used: read-only, full, or holding another run's config."""


class RunOwned(UserError):
    """The run folder is owned by a driver that is alive."""

    exit_status = 3


class LeaseLost(FactoryError):
    """A newer driver has taken the run over; nothing that this one does counts any more."""

    exit_status = 3


class EngineError(FactoryError):
    """A request that the engine did not answer; the engine itself may go on."""


class EngineDead(EngineError):
    """The engine will not answer any request again."""


class EngineRefused(EngineDead, UserError):
    """An engine that was started where it was first asked, and that cannot work as the recipe has it."""


class VerifierError(FactoryError):
    """A verifier that could not decide; becomes an UNKNOWN verdict, never a FAIL."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        """Whether it may do better if it is asked again: something died, rather than that it took too long."""


class CorruptShard(FactoryError):
    """A committed shard whose bytes are not what its sidecar says."""


def classify(error: BaseException) -> str:
    """One line for a table: the boundary's name and the first line of the message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:500]}" if lines else type(error).__name__
