"""`factory import`: recorded rollouts become the `rollouts/` table of a run: no engine is needed to refine them.

The files are read twice. The first reading looks at every row, names those that are bad, and keeps for each problem
where its rows stand: some hundred bytes a problem and 32 a row, no texts. Nothing is written before it has ended, so a
spec that names a field which no row has, or files of another format, cost nothing. The second reads the rows of one
problem after the other, in the order of their first rows, joins them into one tree, whoever wrote them, judges every
attempt by the problem's checks, and commits shards as a run does. What was recorded of right and wrong decides nothing.

A row that cannot be read is committed as an error under the id of its bytes. An import that was killed goes on with the
problems that are not committed.
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.config import identity_digest
from factory.dispatch import BadItem
from factory.driver import bad_tree, error_tree
from factory.errors import ConfigError, SourceError, classify
from factory.ids import bytes_id
from factory.lease import Lease, refuse_if_owned, tables
from factory.rollout import cost_of
from factory.rows import ROLLOUTS, tree_row
from factory.shards import ShardWriter, commit, iter_sidecars, problem_states, sweep
from factory.sources.base import RowError
from factory.sources.files import parse_line
from factory.sources.recorded.base import Author, Record, joined
from factory.sources.recorded.formats import Reader, fields_of, missing
from factory.sources.recorded.joins import read_join
from factory.sources.recorded.lines import Lines, Place
from factory.store import Store
from factory.types import (
    Check,
    Node,
    NodeState,
    Origin,
    Policy,
    Problem,
    Sampling,
    StopReason,
    Tree,
    attempt_of,
    recorded_policy,
)
from factory.verifiers.base import Verifiers, validate_checks, verdicts
from factory.worker import entry_of
from pipelines import build
from pipelines.folder import owned, refuse_other_run, store_config
from pipelines.import_config import FORMATS, Format, Import, ImportSource, ImportSpec, load_spec
from pipelines.report import short
from pipelines.summary import summarize
from pipelines.verify import ordered

SEARCH = "recorded"
WRITER = "import"
SEVERAL = "several models"
"""What a tree's policy is called where its nodes have several authors."""
UNKNOWN_SAMPLING = Sampling(extra={"recorded": "unknown"})
NAMED = 10
"""How many bad rows are named one by one."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no record."""

    id: str
    where: str
    """File and line."""
    reason: str


@dataclass(slots=True)
class Index:
    """What the first reading found."""

    places: dict[str, array[int]] = field(default_factory=dict)
    """By problem, in the order of first rows: file, line, offset and length of each of its rows, in a row."""
    bad: list[BadRow] = field(default_factory=list)
    rows: int = 0
    """Lines that are not blank."""
    seen: set[str] = field(default_factory=set)
    """Paths of fields that some row has."""

    def add(self, id: str, place: Place) -> None:
        numbers = (place.file, place.number, place.offset, place.length)
        self.places.setdefault(id, array("q")).extend(numbers)


def rows_of(numbers: array[int]) -> Iterator[Place]:
    """The places that an index holds of one problem."""
    return (Place(*numbers[start : start + 4]) for start in range(0, len(numbers), 4))


def import_rollouts(
    kind: str, files: Sequence[str], out: str, spec: Path | None, overrides: Sequence[str], *, as_json: bool
) -> int:
    """Import, or go on with it; prints what came of it. 1 if a row could not be read, else 0.

    Raises ConfigError and SourceError for what the user can mend, before anything is written.
    """
    known = next((one for one in FORMATS if one == kind), None)
    if known is None:
        raise ConfigError(f"no format is called {kind!r}; there are: {', '.join(FORMATS)}")
    loaded = load_spec(spec, overrides)
    reader = _reader(known, loaded)
    store, lines = Store(out), Lines(files)
    try:
        index = _indexed(lines, reader, loaded)
        made = loaded.resolved(known, lines.paths, lines.digests, reader.join.digests if reader.join else [])
        did_nothing = not _brought_up(store, made, reader, lines, index)
    finally:
        lines.close()
    _print(store, index, did_nothing=did_nothing, as_json=as_json)
    return 1 if index.bad else 0


def problems(made: Import) -> Iterator[Problem]:
    """The problems of an import's files, one for each row that can be read. Raises SourceError for lost files."""
    source = made.source
    reader = _reader(source.format, source)
    lines = Lines(source.files)
    try:
        for place, line in lines.scan():
            item = _record(reader, lines, place, line)
            if isinstance(item, Record):
                yield item.problem
    finally:
        lines.close()


def _reader(kind: Format, spec: ImportSpec | ImportSource) -> Reader:
    fields = fields_of(kind, spec.fields)
    if not spec.checks and fields.checks is None:
        raise ConfigError("[[checks]]: there are none, and no fields.checks: nothing could tell right from wrong")
    author = Author(spec.policy.model, tuple(spec.policy.models))
    join = None if spec.join is None else read_join(spec.join.files, spec.join.key, spec.join.theirs or spec.join.key)
    return Reader(fields, tuple(spec.checks), author, spec.template, join)


# --- the first reading


def _indexed(lines: Lines, reader: Reader, spec: ImportSpec) -> Index:
    """Raises SourceError where no row can be read, ConfigError for fields that no row has."""
    index = Index()
    for place, line in lines.scan():
        index.rows += 1
        item = _record(reader, lines, place, line, index.seen)
        if isinstance(item, Record):
            index.add(item.problem.id, place)
        else:
            index.bad.append(item)
    _refuse_empty(lines, index)
    if index.seen and (lost := missing(spec.fields, index.seen)):  # else the rows are no such rows at all
        raise ConfigError(f"{lost[0]}: no row has it")
    if not index.places:
        first = index.bad[0]
        raise SourceError(f"no row can be read: {first.where}: {first.reason}")
    return index


def _refuse_empty(lines: Lines, index: Index) -> None:
    if not index.rows:
        raise SourceError(f"no rows in {' '.join(lines.paths)}")


def _record(
    reader: Reader, lines: Lines, place: Place, line: bytes | str, seen: set[str] | None = None
) -> Record | BadRow:
    where = lines.name(place)
    if isinstance(line, str):
        return BadRow(bytes_id(f"{where}: {line}".encode("utf-8", "replace")), where, line)
    try:
        row = parse_line(line)
        if seen is not None:
            seen |= reader.found(row)
        return reader(row, where, lines.paths[place.file])
    except RowError as error:
        return BadRow(bytes_id(line), where, str(error))


# --- the second reading


def _brought_up(store: Store, made: Import, reader: Reader, lines: Lines, index: Index) -> bool:
    """Commit what is not committed; whether there was anything."""
    config = {"recipe": made.model_dump(mode="json"), "model_digests": {}}
    refuse_other_run(store, config)
    refuse_if_owned(store)
    if not _owed(store, index):
        return False
    table = build.recipe_verifiers(made, {})
    _refuse_checks(table, made)
    store.probe()
    with owned(store) as lease:
        store_config(store, config)
        for name in tables(store):
            sweep(store, name, lease)
        owed = _owed(store, index)  # again, now that nobody else can commit
        work = functools.partial(_tree, reader=reader, lines=lines, policy=_policy(made), index=index, table=table)
        bad = (bad_tree(BadItem(one.id, _told(one)), None) for one in index.bad if one.id in owed)
        _commit(store, lease, _once(bad), identity_digest(config))
        wanted = (id for id in index.places if id in owed)
        _commit(store, lease, ordered(work, wanted), identity_digest(config))
    return True


def _owed(store: Store, index: Index) -> set[str]:
    closed = problem_states(iter_sidecars(store, "rollouts"))
    return {id for id in (*index.places, *(one.id for one in index.bad)) if id not in closed}


def _refuse_checks(table: Verifiers, made: Import) -> None:
    """Raise ConfigError for checks of the spec that no row can make whole; others are looked at by row."""
    for one in made.source.checks:
        if one.verifier not in table or one.is_whole:
            validate_checks(table, Problem("", (), None, (Check(one.verifier, one.params),), ""))


def _told(bad: BadRow) -> str:
    return f"SourceError: {bad.where}: {bad.reason}"


def _once(trees: Iterable[Tree]) -> Iterator[Tree]:
    """Two lines of the same bytes are one error."""
    seen: set[str] = set()
    for tree in trees:
        if tree.problem.id not in seen:
            seen.add(tree.problem.id)
            yield tree


def _policy(made: Import) -> Policy:
    config = made.source.policy
    sampling = UNKNOWN_SAMPLING if config.sampling is None else Sampling(**config.sampling.model_dump())
    return recorded_policy(config.model, sampling)


def _tree(id: str, *, reader: Reader, lines: Lines, policy: Policy, index: Index, table: Verifiers) -> Tree:
    """All rows of one problem as a judged tree. Raises SourceError for a file that has changed since it was indexed."""
    records = [_again(reader, lines, place) for place in rows_of(index.places[id])]
    problem = records[0].problem
    if any(record.problem.id != id for record in records):
        raise SourceError(f"{' '.join(lines.paths)}: changed while they were read: import them again")
    nodes = joined(record.nodes for record in records)
    tree = _closed(problem, _by_author(policy, nodes), nodes)
    try:
        validate_checks(table, problem)
    except ConfigError as error:
        return error_tree(problem, tree.policy, classify(error))
    return replace(tree, nodes=tuple(_judged(tree, node, table) for node in nodes))


def _again(reader: Reader, lines: Lines, place: Place) -> Record:
    try:
        return reader(parse_line(lines.read(place)), lines.name(place), lines.paths[place.file])
    except RowError as error:
        raise SourceError(f"{lines.name(place)}: changed while it was read: {error}") from error


def _by_author(policy: Policy, nodes: Sequence[Node]) -> Policy:
    models = {node.recorded.model for node in nodes if node.recorded is not None}
    return recorded_policy(models.pop() if len(models) == 1 else SEVERAL, policy.sampling)


def _closed(problem: Problem, policy: Policy, nodes: tuple[Node, ...]) -> Tree:
    sampled = sum(node.origin is Origin.SAMPLED for node in nodes)
    return Tree(
        problem=problem,
        policy=policy,
        search=SEARCH,
        nodes=nodes,
        stop=StopReason.EXHAUSTED,
        error=None,
        tries=1,
        cost=cost_of(nodes, sampled, 0.0),
    )


def _judged(tree: Tree, node: Node, table: Verifiers) -> Node:
    if node.state is not NodeState.FINISHED:
        return node
    return replace(node, verdicts=verdicts(table, tree.problem, attempt_of(tree.path(node.id))))


def _commit(store: Store, lease: Lease, trees: Iterator[Tree], config_digest: str) -> None:
    """Shards as they are due, and what is left at the end."""
    shard = ShardWriter(store, "rollouts", ROLLOUTS, lease.epoch, WRITER)
    for tree in trees:
        _add(shard, tree, lease.epoch)
        if shard.due():
            _flush(store, lease, shard, config_digest)
    _flush(store, lease, shard, config_digest)


def _add(shard: ShardWriter, tree: Tree, epoch: int) -> None:
    try:
        shard.add(_row(tree, epoch), entry_of(tree))
    except ValueError as error:  # numbers that no table can hold: the tree is lost, its problem is not
        failed = error_tree(tree.problem, tree.policy, classify(error))
        shard.add(_row(failed, epoch), entry_of(failed))


def _row(tree: Tree, epoch: int) -> dict[str, Any]:
    return tree_row(tree, epoch=epoch, writer=WRITER, closed_at=datetime.now(UTC))


def _flush(store: Store, lease: Lease, shard: ShardWriter, config_digest: str) -> None:
    written = shard.flush()
    if written is not None:
        commit(store, lease, written, config_digest=config_digest)


# --- what is told


def _print(store: Store, index: Index, *, did_nothing: bool, as_json: bool) -> None:
    _print_bad(index.bad)
    figures = summarize(store, None)
    if as_json:
        keys = ("problems", "solved", "unsolved", "errors", "attempts", "right", "tokens")
        told = {key: figures[key] for key in keys}
        print(json.dumps({"run": store.url, "rows": index.rows, "bad_rows": len(index.bad), **told}))
        return
    print("nothing to do: every row is imported" if did_nothing else "imported: every row is committed")
    print()
    print(f"rows       {index.rows:,}: {index.rows - len(index.bad):,} read, {len(index.bad):,} bad")
    solved, unsolved, errors = figures["solved"], figures["unsolved"], figures["errors"]
    print(f"problems   {figures['problems']:,}: {solved:,} solved, {unsolved:,} unsolved, {errors:,} errors")
    print(f"attempts   {figures['attempts']:,}: {figures['right']:,} right")
    print()
    print(f"Make transcripts of them: factory refine {shlex.quote(short(store.url))}")


def _print_bad(bad: Sequence[BadRow]) -> None:
    for one in bad[:NAMED]:
        print(f"factory: {one.where}: {one.reason}", file=sys.stderr)
    if len(bad) > NAMED:
        print(f"factory: and {len(bad) - NAMED:,} more bad rows: their errors are in rollouts/", file=sys.stderr)
