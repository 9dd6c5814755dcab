"""Search trees of a row: nodes that name their parents, or whole texts of which each begins with its parent's.

A leaf is an attempt where the row says so, or, where nothing in the spec does, where nothing continues it. Other leaves
stay open: a branch that a search left is no wrong answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory.sources.base import RowError
from factory.sources.recorded.attempts import model_of
from factory.sources.recorded.base import Author, Fields, node
from factory.sources.recorded.columns import dealt, get, needed
from factory.types import ROOT, Node, NodeState, Recorded

Claims = dict[str, Any]


def tree(row: Mapping[str, Any], fields: Fields, author: Author, where: str) -> tuple[Node, ...]:
    """The nodes of a row's tree. Raises RowError."""
    found = needed(row, str(fields.nodes))
    if not isinstance(found, list) or not found:
        raise RowError(f"{fields.nodes!r} must be a list of nodes")
    model = model_of(row, fields.model, author)
    claims = {name: get(row, path) for name, path in fields.claim_paths().items() if isinstance(path, str)}
    if all(isinstance(one, str) for one in found):
        ends = None if fields.finished is None else _ends(row, fields, fields.finished, set(found))
        return _prefixes(row, fields, found, ends, Recorded(model, where, {} if ends is not None else claims))
    return _linked(fields, found, Recorded(model, where, claims))


def _prefixes(
    row: Mapping[str, Any], fields: Fields, texts: list[str], ends: Mapping[str, Claims] | None, recorded: Recorded
) -> tuple[Node, ...]:
    """By length, so that parents come first; of equal texts the first is the parent of what continues them, and the
    attempt, if that text is one."""
    scores = dealt(row, fields.scores, len(texts))
    order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))
    ids: dict[str, int] = {"": ROOT}
    parents: list[tuple[int, str]] = []
    for id, place in enumerate(order, start=1):
        before = _longest_prefix(texts[place], ids)
        parents.append((ids[before], before))
        ids.setdefault(texts[place], id)
    continued = {parent for parent, _ in parents}
    nodes: list[Node] = []
    for id, (place, (parent, before)) in enumerate(zip(order, parents, strict=True), start=1):
        said = None if ends is None or ids[texts[place]] != id else ends.get(texts[place])
        state = _state(said is not None if ends is not None else id not in continued)
        own = recorded if said is None else replace(recorded, claims=said)
        nodes.append(node(id, parent, texts[place][len(before) :], own, score=_number(scores[place]), state=state))
    return tuple(nodes)


def _longest_prefix(text: str, known: Mapping[str, int]) -> str:
    return next(text[:length] for length in range(len(text) - 1, -1, -1) if text[:length] in known) if text else ""


def _ends(row: Mapping[str, Any], fields: Fields, path: str, texts: set[str]) -> dict[str, Claims]:
    """The attempts among the nodes, and what was said of each. Raises RowError."""
    found = needed(row, path)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise RowError(f"{path!r} must be a list of the nodes' texts")
    if not set(found) <= texts:
        raise RowError(f"{path!r} has a text that is none of the nodes")
    said = {name: dealt(row, paths, len(found)) for name, paths in fields.claim_paths().items()}
    return {text: {name: values[place] for name, values in said.items()} for place, text in enumerate(found)}


def _linked(fields: Fields, found: list[Any], recorded: Recorded) -> tuple[Node, ...]:
    names = fields.node
    objects = [one for one in found if isinstance(one, Mapping)]
    if len(objects) != len(found):
        raise RowError(f"{fields.nodes!r} must hold objects only, or texts only")
    ids = [_key(needed(one, names.id)) for one in objects]
    parents = [_key(get(one, names.parent)) for one in objects]
    if len(set(ids)) != len(ids):
        raise RowError("two nodes have the same id")
    order = _in_order(ids, parents)
    numbers = {ids[place]: id for id, place in enumerate(order, start=1)}
    continued = set(parents)
    return tuple(
        _linked_node(objects[place], id, numbers.get(parents[place], ROOT), fields, recorded, ids[place] in continued)
        for id, place in enumerate(order, start=1)
    )


def _in_order(ids: list[str], parents: list[str]) -> list[int]:
    """Places of the nodes, parents before children, else as they come. Raises RowError for what is no tree."""
    known, placed, waiting = set(ids), set[str](), list(range(len(ids)))
    order: list[int] = []
    if lost := next((parent for parent in parents if parent != "" and parent not in known), None):
        raise RowError(f"a node names the parent {lost}, which is none of the nodes")
    while waiting:
        ready = [place for place in waiting if parents[place] == "" or parents[place] in placed]
        if not ready:
            raise RowError("nodes are each other's parents: that is no tree")
        order += ready
        placed |= {ids[place] for place in ready}
        waiting = [place for place in waiting if ids[place] not in placed]
    return order


def _key(value: Any) -> str:
    """An id as text; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError("ids of nodes must be texts or whole numbers")
    return str(value)


def _linked_node(
    one: Mapping[str, Any], id: int, parent: int, fields: Fields, row: Recorded, is_continued: bool
) -> Node:
    names = fields.node
    text = needed(one, names.text)
    if not isinstance(text, str):
        raise RowError(f"the text of a node must be a text, not {type(text).__name__}")
    finished = not is_continued if names.finished is None else get(one, names.finished) is True
    claims = dict(row.claims) | {path: get(one, path) for path in names.claims}
    tokens = get(one, names.tokens)
    return node(
        id,
        parent,
        text,
        Recorded(str(get(one, names.model) or row.model), row.where, claims),
        score=_number(get(one, names.score)),
        state=_state(finished),
        generated_tokens=tokens if isinstance(tokens, int) and tokens > 0 else 0,
    )


def _state(finished: bool) -> NodeState:
    return NodeState.FINISHED if finished else NodeState.OPEN


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
