"""The verifiers that come with the factory, by the name that a check gives."""

from __future__ import annotations

from factory.verifiers.base import Verifier
from factory.verifiers.countdown import CountdownVerifier


def builtin() -> dict[str, Verifier]:
    """A fresh table; a pipeline may add its own."""
    verifiers: tuple[Verifier, ...] = (CountdownVerifier(),)
    return {verifier.name: verifier for verifier in verifiers}
