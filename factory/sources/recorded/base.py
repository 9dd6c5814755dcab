"""Recorded rollouts: what a row of an import is made into, and how a spec says where its parts stand.

A row becomes a `Record`: the problem it is about, under the same id as anywhere else, and the nodes of what was tried,
without token ids and without verdicts. What the row says of right and wrong stands in the nodes' `recorded.claims` and
decides nothing. Records of one problem are joined into one tree, whoever wrote them: each node tells its model.

A part of a row is named by a dotted path: `a.b` goes into objects, a number into a list (`steps.0.x`), and `*` through
all of a list (`completions.*.score`). A key that has dots in it is found by its whole name. Where a spec may want a
piece of what stands there, it gives path and pattern (`Picked`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from factory.sources.base import RowError
from factory.sources.recorded.columns import integers, needed
from factory.sources.recorded.parts import Closed, Part, Pattern, Picked, filled, part, path_of
from factory.types import ROOT, Check, Node, NodeState, Origin, Problem, Recorded

Path = str
Paths = str | list[str]
Scalar = str | int | bool


class NodeFields(Closed):
    """Where the parts of one node of a search tree stand, from the node on."""

    id: Path = "id"
    parent: Path = "parent"
    """Missing, or naming no node by null, for one that continues the prompt."""
    text: Path = "text"
    """What it adds to its parent."""
    score: Path | None = None
    """The guess that guided the search."""
    finished: Path | None = None
    """True on attempts. Without it every node that has no child is one."""
    claims: list[Path] = Field(default=[])
    model: Path | None = None
    tokens: Path | None = None


class Fields(Closed):
    """Which part of a row holds what. Where several values are dealt out to several samples, both are equally long."""

    messages: Path | None = None
    """A whole conversation: the last assistant's turns are the attempt, what stands before them the prompt."""
    prompt: Path | None = None
    """A text, or messages."""
    reference: Part | None = None
    checks: Path | None = None
    metadata: list[Path] = Field(default=[])
    """Become keys of the problem's metadata, by these names; of several rows of a problem the first row's count."""
    samples: Paths | None = None
    """Attempts: a text or messages for one, a list of such for many; or several columns with one each."""
    steps: Paths | None = None
    """One attempt in steps instead: texts, or lists of texts, one after the other."""
    separator: str = "\n"
    """Of steps: what stood between them."""
    tool: Pattern | None = None
    """Of samples that are texts: a regular expression for what tools wrote in them. It becomes TOOL output."""
    reasoning: Paths | None = None
    """What was thought before each sample, where it was recorded apart."""
    claims: dict[str, Paths] | list[Path] = Field(default={})
    """What was said of the samples. A list as long as the samples is dealt out, anything else is said of each."""
    model: Paths | None = None
    """Who wrote the samples."""
    tokens: Paths | None = None
    """Generated tokens of each sample."""
    finish: Paths | None = None
    """Why each sample ended; `length` makes it truncated, and not judged."""
    nodes: Path | None = None
    """The nodes of a tree: objects, or texts that each begin with their parent's."""
    node: NodeFields = NodeFields()
    scores: Path | None = None
    """Of nodes that are texts: the guesses about them, in their order."""
    finished: Path | None = None
    """Of nodes that are texts: those among them that are attempts, to which claims are dealt out. Without it every one
    that nothing continues is an attempt. Of steps: true where the last one ends the attempt; without it every one is
    ended."""

    def named(self) -> dict[str, list[Path]]:
        """Every path that is given, by the key that gives it, but those of `node`, which start at a node."""
        others = {"claims", "node", "separator", "tool"}
        given = {key: getattr(self, key) for key in type(self).model_fields if key not in others}
        found = {key: _listed(paths) for key, paths in given.items()}
        found |= {f"claims.{name}": _listed(paths) for name, paths in self.claim_paths().items()}
        return {key: paths for key, paths in found.items() if paths}

    def claim_paths(self) -> dict[str, Paths]:
        """Claims by name; those of a list are named by their paths."""
        return self.claims if isinstance(self.claims, dict) else {path: path for path in self.claims}


def _listed(paths: Paths | Picked | None) -> list[Path]:
    if paths is None:
        return []
    return paths if isinstance(paths, list) else [path_of(paths)]


class RowCheck(Closed):
    """A check for rows that bring none."""

    verifier: str
    where: dict[Path, Scalar | list[Scalar]] = Field(default={})
    """Which rows it is for: those that have this value, or one of several, at each path. For all if there is none."""
    params: dict[str, Any] = Field(default={})
    columns: dict[str, Part] = Field(default={})
    """Parameters that stand in the row, as they are."""
    integers: dict[str, Part] = Field(default={})
    """Parameters that are lists of the whole numbers in a text of the row."""
    integer: dict[str, Part] = Field(default={})
    """Parameters that are the one whole number in such a text."""
    texts: dict[str, str | list[str]] = Field(default={})
    """Parameters that are texts, or lists of texts, with the row's own for each `{path}` in them."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the same for every row."""
        return not (self.columns or self.integers or self.integer or self.texts)

    def is_for(self, row: Mapping[str, Any]) -> bool:
        """Raises RowError where there is nothing at one of the paths."""
        return all(needed(row, path) in _several(values) for path, values in self.where.items())

    def of(self, row: Mapping[str, Any]) -> Check:
        """With the parameters that stand in a row. Raises RowError."""
        own = {name: part(row, which) for name, which in self.columns.items()}
        own |= {name: integers(part(row, which), path_of(which)) for name, which in self.integers.items()}
        own |= {name: _one_integer(row, which) for name, which in self.integer.items()}
        own |= {name: _filled(row, text) for name, text in self.texts.items()}
        return Check(self.verifier, self.params | own)


def _several(values: Scalar | list[Scalar]) -> list[Scalar]:
    return values if isinstance(values, list) else [values]


def _one_integer(row: Mapping[str, Any], which: Part) -> int:
    found = integers(part(row, which), path_of(which))
    if len(found) != 1:
        raise RowError(f"{path_of(which)!r} has {len(found)} whole numbers, not one")
    return found[0]


def _filled(row: Mapping[str, Any], text: str | list[str]) -> str | list[str]:
    return filled(row, text) if isinstance(text, str) else [filled(row, one) for one in text]


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote what the rows do not name."""

    model: str = "unknown"
    models: tuple[str, ...] = ()
    """Of several columns of samples, one each."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one row says."""

    problem: Problem
    nodes: tuple[Node, ...]
    """Numbered from 1; parents come before children."""


def node(id: int, parent: int, text: str, recorded: Recorded, **other: Any) -> Node:
    """A node of which nothing but its text was recorded, unless `other` says more."""
    fields: dict[str, Any] = {
        "token_ids": None,
        "logprobs": None,
        "origin": Origin.SAMPLED,
        "state": NodeState.OPEN,
        "score": None,
        "verdicts": (),
        "counted": True,
        "generated_tokens": 0,
        "prompt_tokens": 0,
        "cached_tokens": None,
        "seconds": 0.0,
    }
    return Node(id=id, parent=parent, text=text, recorded=recorded, **(fields | other))


def joined(groups: Iterable[Iterable[Node]]) -> tuple[Node, ...]:
    """The nodes of several records or samples in one tree: numbered on, each group from the root."""
    nodes: list[Node] = []
    for group in groups:
        before = len(nodes)
        nodes += [
            replace(one, id=before + one.id, parent=one.parent if one.parent == ROOT else before + one.parent)
            for one in group
        ]
    return tuple(nodes)


def given_checks(checks: Iterable[RowCheck], row: Mapping[str, Any]) -> tuple[Check, ...]:
    """Those of the spec's checks that are for a row, with the parameters that stand in it. Raises RowError."""
    found = tuple(one.of(row) for one in checks if one.is_for(row))
    if not found:
        raise RowError("none of the [[checks]] is for it")
    return found
