"""The contract of a search: a pure generator that asks for expansions and is sent what came back.

A search holds no engine, clock or I/O. It yields a `Wants` (new expansions, and ids of outstanding ones that it no
longer needs) and is sent a non-empty tuple of `Grown`, in any order and grouping, so that no barrier idles the engine.
It returns an `Ending`. Replaying a search means sending it recorded nodes in the order in which they came back before:
the same nodes give the same wants.

Rules that `rollout` relies on and checks: expansion ids are consecutive integers from 1, in the order of submission; an
expansion's parent is the root or a node that has come back OPEN; an injection's may also have come back FINISHED, and
opens a new turn there; when a search yields no new expansions, some are outstanding. A search must not depend on when
a cancelled expansion comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from factory.types import Node, Problem, StopReason


@dataclass(frozen=True, slots=True)
class Expansion:
    """One piece that a search wants: a generation, or a text that it puts there itself. Its id becomes the node's."""

    id: int
    parent: int
    max_tokens: int | None = None
    """Ends a step, which leaves the node OPEN; None for no limit but the policy's own, which counts all of a turn and
    truncates it."""
    min_tokens: int = 0
    """A turn that ends, or a stop string that comes, after fewer tokens leaves the node OPEN, without what ended it:
    the search goes on from there."""
    may_end: bool = True
    """Whether the turn may end here. Where it may not, a turn that does leaves the node OPEN, however long it is."""
    stop: tuple[str, ...] = ()
    """Texts that end a step; a node that ends with one is OPEN."""
    score: bool = False
    """Whether the run's scorer is asked about the node, if it comes back OPEN."""
    priority: int = 0
    """What can wait has a higher number: where the engine is full, it goes after all that is lower."""
    inject: str | None = None
    """This text, instead of a generation: its node is INJECTED, costs nothing and comes back OPEN. Behind an open node
    it continues the assistant's turn; behind a finished one it is a user's turn, after which the assistant's begins."""


@dataclass(frozen=True, slots=True)
class Grown:
    """What came of one expansion."""

    expansion: Expansion
    node: Node | None
    """None if the expansion was cancelled."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a search asks for at one moment."""

    expand: tuple[Expansion, ...] = ()
    cancel: tuple[int, ...] = ()
    """Outstanding expansions that are no longer needed; each still comes back as `Grown`, with or without a node."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a search ended."""

    stop: StopReason
    counted: frozenset[int]
    """Ids of the leaves that count; see `Node.counted`."""


Search = Generator[Wants, tuple[Grown, ...], Ending]

SearchFactory = Callable[[Problem], Search]
"""Makes a fresh search for a problem; replay makes another with the same arguments."""
