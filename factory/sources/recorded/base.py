"""Recorded rollouts: what a row of an import is made into, and how a spec says where its parts stand.

A row becomes a `Record`: the problem it is about, under the same id as anywhere else, and the nodes of what was tried,
without token ids and without verdicts. What the row says of right and wrong stands in the nodes' `recorded.claims` and
decides nothing. Records of one problem are joined into one tree, whoever wrote them: each node tells its model.

A part of a row is named by a dotted path: `a.b` goes into objects, a number into a list (`steps.0.x`), and `*` through
all of a list (`completions.*.score`). A key that has dots in it is found by its whole name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from factory.sources.recorded.columns import integers, needed
from factory.types import ROOT, Check, Node, NodeState, Origin, Problem, Recorded

Path = str
Paths = str | list[str]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class NodeFields(_Closed):
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


class Fields(_Closed):
    """Which part of a row holds what. Where several values are dealt out to several samples, both are equally long."""

    messages: Path | None = None
    """A whole conversation: the last assistant's turns are the attempt, what stands before them the prompt."""
    prompt: Path | None = None
    """A text, or messages."""
    reference: Path | None = None
    checks: Path | None = None
    metadata: list[Path] = Field(default=[])
    """Become keys of the problem's metadata, by these names; of several rows of a problem the first row's count."""
    samples: Paths | None = None
    """Attempts: a text or messages for one, a list of such for many; or several columns with one each."""
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
    """Of nodes that are texts: those among them that are attempts. Without it every one that nothing continues is."""

    def named(self) -> dict[str, list[Path]]:
        """Every path that is given, by the key that gives it, but those of `node`, which start at a node."""
        given = {key: getattr(self, key) for key in type(self).model_fields if key not in {"claims", "node"}}
        found = {key: _listed(paths) for key, paths in given.items()}
        found |= {f"claims.{name}": _listed(paths) for name, paths in self.claim_paths().items()}
        return {key: paths for key, paths in found.items() if paths}

    def claim_paths(self) -> dict[str, Paths]:
        """Claims by name; those of a list are named by their paths."""
        return self.claims if isinstance(self.claims, dict) else {path: path for path in self.claims}


def _listed(paths: Paths | None) -> list[Path]:
    if paths is None:
        return []
    return [paths] if isinstance(paths, str) else paths


class RowCheck(_Closed):
    """A check for rows that bring none."""

    verifier: str
    params: dict[str, Any] = Field(default={})
    columns: dict[str, Path] = Field(default={})
    """Parameters that stand in the row, as they are."""
    integers: dict[str, Path] = Field(default={})
    """Parameters that are lists of the whole numbers in a text of the row."""


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
    """The spec's checks with the parameters that stand in a row. Raises RowError."""
    return tuple(
        Check(
            one.verifier,
            one.params
            | {name: needed(row, path) for name, path in one.columns.items()}
            | {name: integers(needed(row, path), path) for name, path in one.integers.items()},
        )
        for one in checks
    )
