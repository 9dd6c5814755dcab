"""What there is to see of a problem, made once for all who draw it: `show_terminal` and `show_page`.

A leaf's text is cut into pieces that know what became of them; variants that lack the same are one version. Texts of
the tree are verbatim here, for the renderers to write harmlessly; all other texts come from `show_lines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Generic, TypeVar

from factory.prune.branches import Branch, branches
from factory.prune.transcripts import VARIANTS
from factory.rows import row_transcript, row_tree
from factory.types import ROOT, Attempt, Node, Origin, Removal, Span, Transcript, Tree, last_turn, spans_of
from pipelines.show_lookup import Found

NESTED = 12
"""Levels of a tree that are indented; a deeper item only names its parent."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limb(Generic[T]):
    """An item of a tree, and what stands indented below it."""

    item: T
    below: list[Limb[T]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a leaf's text of which all became the same."""

    text: str
    origin: Origin
    role: str
    """Who speaks."""
    cut: int | None
    """Number of the removal that took it, from 1; None where it stays."""
    withdrawn: int | None
    """Number of the withdrawn removal that would have taken it, from 1."""


@dataclass(frozen=True, slots=True)
class Version:
    """The text of a leaf without what some of its variants lack."""

    transcripts: tuple[Transcript, ...]
    """One a variant; all have the same removals, and withdrew the same. None where the leaf was not refined."""
    pieces: tuple[Piece, ...]
    """The text before pruning, in order."""

    @property
    def removals(self) -> tuple[Removal, ...]:
        return self.transcripts[0].removals if self.transcripts else ()

    @property
    def withdrawn(self) -> tuple[Removal, ...]:
        return self.transcripts[0].withdrawn if self.transcripts else ()


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt within a chain."""

    number: int
    """From 1, in the order of the text."""
    branch: Branch
    """Offsets into the leaf's text."""
    text: str
    given_up_with: int | None
    """Number of the first attempt that was given up for the same evidence; None where there is none before it."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a path, and what was made of it."""

    id: int
    model: str
    """Who wrote it."""
    characters: int
    """Of its text before pruning."""
    attempts: tuple[Tried, ...]
    """Of its last turn, parents first."""
    versions: tuple[Version, ...]
    """The one with the most cuts last."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A problem, or one transcript of it."""

    tree: Tree
    nodes: list[Limb[Node]] | None
    """None where one transcript was asked for."""
    leaves: tuple[Leaf, ...]
    """Those of which something is kept come first."""
    missing: str | None
    """Why there is no transcript at all; None where there is one."""


def shown(found: Found) -> Shown:
    """All of what was found, ready to be drawn."""
    tree = row_tree(found.rollout)
    made: dict[int, list[Transcript]] = {}
    for row in (*found.transcripts, *found.rejected):
        made.setdefault(row["leaf"], []).append(row_transcript(row))
    others = (leaf.id for leaf in tree.leaves() if leaf.id not in made) if found.whole else ()
    return Shown(
        tree=tree,
        nodes=limbs([(node.id, node.parent, node) for node in tree.nodes]) if found.whole else None,
        leaves=tuple(_leaf(tree, id, made.get(id, [])) for id in (*made, *others)),
        missing=None if made else "the tree failed" if tree.error else "it was not refined yet",
    )


def limbs(items: Iterable[tuple[int, int, T]]) -> list[Limb[T]]:
    """Items with their ids and their parents' as a tree; the parent of the topmost is ROOT.

    One that is its parent's only child stands below it without a deeper indent.
    """
    children: dict[int, list[tuple[int, T]]] = {}
    for id, parent, item in items:
        children.setdefault(parent, []).append((id, item))
    top: list[Limb[T]] = []
    waiting = [(one, top, 0) for one in reversed(children.get(ROOT, []))]
    while waiting:  # no recursion: a sequential search is as deep as it is long
        (id, item), above, depth = waiting.pop()
        above.append(Limb(item))
        below = children.get(id, [])
        place = (above[-1].below, depth + 1) if len(below) > 1 and depth < NESTED else (above, depth)
        waiting += [(child, *place) for child in reversed(below)]
    return top


def attempt_tree(attempts: Iterable[Tried]) -> list[Limb[Tried]]:
    """Attempts, of which any first ones are a tree as well, as that tree."""
    parents = ((one, ROOT if one.branch.parent is None else one.branch.parent + 1) for one in attempts)
    return limbs([(one.number, parent, one) for one, parent in parents])


def _leaf(tree: Tree, id: int, transcripts: Sequence[Transcript]) -> Leaf:
    spans = spans_of(tree.path(id))
    return Leaf(
        id=id,
        model=tree.policy_of(id).model,
        characters=sum(len(span.text) for span in spans),
        attempts=tuple(_attempts(tree, spans)),
        versions=tuple(_versions(spans, transcripts)),
    )


def _attempts(tree: Tree, spans: Sequence[Span]) -> Iterator[Tried]:
    whole, attempt = Attempt(tuple(spans)).text, Attempt(last_turn(spans)).text
    start = len(whole) - len(attempt)
    known: dict[str | None, int] = {None: 0}
    for number, one in enumerate(branches(tree.problem, attempt), start=1):
        moved = Branch(start + one.start, start + one.end, one.parent, one.phrase, one.given_up)
        earlier = known.setdefault(one.given_up, number)
        yield Tried(number, moved, whole[moved.start : moved.end], earlier if 0 < earlier < number else None)


def _versions(spans: Sequence[Span], transcripts: Sequence[Transcript]) -> list[Version]:
    groups: dict[tuple[tuple[Removal, ...], tuple[Removal, ...]], list[Transcript]] = {}
    for one in sorted(transcripts, key=lambda one: _rank(one.variant)):
        groups.setdefault((one.removals, one.withdrawn), []).append(one)
    ordered = sorted(groups.items(), key=lambda group: (len(group[0][0]), len(group[0][1])))
    made = [Version(tuple(group), tuple(pieces(spans, *marks))) for marks, group in ordered]
    return made or [Version((), tuple(pieces(spans, (), ())))]


def _rank(variant: str) -> int:
    return VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)


def pieces(spans: Sequence[Span], removals: Sequence[Removal], withdrawn: Sequence[Removal]) -> Iterator[Piece]:
    """The text before pruning in order; neighbours differ in something."""
    found = _split(spans, removals, withdrawn)
    for (origin, role, *marks), parts in groupby(found, lambda one: (one.origin, one.role, one.cut, one.withdrawn)):
        yield Piece("".join(one.text for one in parts), origin, role, *marks)


def _split(spans: Sequence[Span], removals: Sequence[Removal], withdrawn: Sequence[Removal]) -> Iterator[Piece]:
    edges = {edge for one in (*removals, *withdrawn) for edge in (one.start, one.end)}
    start = 0
    for span in spans:
        end = start + len(span.text)
        places = sorted({start, end} | {edge for edge in edges if start < edge < end})
        for first, last in pairwise(places):
            text = span.text[first - start : last - start]
            yield Piece(text, span.origin, span.role, _number(first, removals), _number(first, withdrawn))
        start = end


def _number(place: int, removals: Sequence[Removal]) -> int | None:
    return next((number for number, one in enumerate(removals, start=1) if one.start <= place < one.end), None)
