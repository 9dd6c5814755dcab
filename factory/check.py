"""`factory check`: reads every byte of a run and says what is not as it was committed.

It holds the promises of the other storage modules against the files: each committed shard has its sidecar's bytes,
digest, rows, schema and problems; no problem is committed twice; every right leaf that counts has become rows of each
refinement that read its shard; a kept transcript was found right after pruning; the card names exactly the shards that
were committed when it was written. What lies in the folder without counting is noted, not wrong: crashes leave such
files.

It changes nothing, needs no lease, and may run beside a driver (shards committed after it began are not looked at). It
holds one source shard and the shards made from it at a time, and some bytes for each problem.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from factory.card import CARD, read_card
from factory.errors import CorruptShard, StorageError, classify
from factory.lease import JOURNAL, LeaseRecord, latest, part_epoch, shard_names, tables
from factory.rows import SCHEMA_VERSION, Row, is_right, row_transcript, row_tree, schema_of, transcript_row
from factory.runs import open_run
from factory.shards import Sidecar, parse_sidecar, sidecar_path
from factory.store import Store
from factory.types import Aspect, Outcome, Tree, worst

NAMED = 5
"""How many orphans of a table a note names."""

_Leaf = tuple[str, int]
"""A problem's id and the id of a leaf of its tree."""


@dataclass(slots=True)
class Report:
    """What a check found; plain values, so that it can be printed as JSON."""

    errors: list[str] = field(default_factory=list)
    """What breaks a promise, one line each."""
    notes: list[str] = field(default_factory=list)
    """What is worth knowing and breaks none."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By table: committed shards, their rows and bytes, and files that do not count."""

    @property
    def ok(self) -> bool:
        return not self.errors


def check(url: str) -> Report:
    """Check a run folder. Raises StorageError for a folder that is no run, or whose newest lease is unreadable."""
    store = open_run(url).store
    report = Report()
    lease = latest(store)
    if lease is None:
        report.notes.append("nobody has owned this run yet: nothing is committed")
        return report
    committed = {table: _sidecars(store, table, lease, report) for table in tables(store)}
    for table, shards in committed.items():
        _count(store, table, shards, lease, report)
    _problems_once(committed["rollouts"], report)
    _contents(store, committed, report)
    _card(store, committed, report)
    return report


def _sidecars(store: Store, table: str, lease: LeaseRecord, report: Report) -> list[Sidecar]:
    """The sidecars that count and can be read, in the order of commits."""
    names = lease.counting(table, shard_names(store, table))
    contents = store.read_many([sidecar_path(table, name) for name in names])
    found = [_sidecar(table, name, data, report) for name, data in zip(names, contents, strict=True)]
    return sorted((sidecar for sidecar in found if sidecar is not None), key=lambda sidecar: sidecar.order)


def _sidecar(table: str, name: str, data: bytes | None, report: Report) -> Sidecar | None:
    if data is None:
        if table != JOURNAL:  # the driver deletes shards of the journal, perhaps since they were listed
            report.errors.append(f"{sidecar_path(table, name)} is lost: it was committed before")
        return None
    try:
        return parse_sidecar(data, table, name)
    except CorruptShard as error:
        report.errors.append(str(error))
        return None


def _count(store: Store, table: str, shards: Sequence[Sidecar], lease: LeaseRecord, report: Report) -> None:
    counting = set(lease.counting(table, shard_names(store, table)))
    files = [name for name in store.names(table) if part_epoch(name.partition(".")[0]) is not None]
    orphans = [name for name in files if name.partition(".")[0] not in counting] + store.temporaries(table)
    report.counts[table] = {
        "shards": len(shards),
        "rows": sum(sidecar.rows for sidecar in shards),
        "bytes": sum(sidecar.bytes for sidecar in shards),
        "orphans": len(orphans),
    }
    if orphans:
        more = "" if len(orphans) <= NAMED else f" and {len(orphans) - NAMED} more"
        report.notes.append(f"{table}: {len(orphans)} files do not count: {', '.join(orphans[:NAMED])}{more}")


def _problems_once(shards: Sequence[Sidecar], report: Report) -> None:
    """Of a problem's rows, in the order of commits, all but the last are errors."""
    last: dict[str, tuple[bool, str]] = {}
    for sidecar in shards:
        for entry in sidecar.entries:
            failed, before = last.get(entry.problem_id, (True, ""))
            if not failed:
                report.errors.append(f"problem {entry.problem_id} is committed twice: {before}, then {sidecar.path}")
            last[entry.problem_id] = entry.status == "error", sidecar.path


def _contents(store: Store, committed: dict[str, list[Sidecar]], report: Report) -> None:
    """Every file of every table; what was made from a shard right after the shard itself."""
    made = _by_source(committed)
    for sidecar in committed["rollouts"]:
        trees = _trees(store, sidecar, report)
        for digest, shards in made.pop(sidecar.name, {}).items():
            _refined(store, digest, shards, trees, report)
    for sidecar in committed[JOURNAL]:
        _trees(store, sidecar, report)
    for source, refinements in made.items():
        for digest, shards in refinements.items():
            paths = ", ".join(sidecar.path for sidecar in shards)
            report.errors.append(f"{paths}: made from {source}, which is no committed shard of rollouts")
            _refined(store, digest, shards, None, report)


def _by_source(committed: dict[str, list[Sidecar]]) -> dict[str, dict[str, list[Sidecar]]]:
    """Shards of transcripts and rejected, by the shard they were made from and by the refinement's digest."""
    made: dict[str, dict[str, list[Sidecar]]] = {}
    for table, shards in committed.items():
        if "/" in table:
            for sidecar in shards:
                made.setdefault(str(sidecar.source), {}).setdefault(table.partition("/")[2], []).append(sidecar)
    return made


def _trees(store: Store, sidecar: Sidecar, report: Report) -> dict[str, Tree] | None:
    """The trees of a shard by their problems; None where it cannot be read."""
    rows = _rows(store, sidecar, report)
    if rows is None:
        return None
    try:
        trees = [row_tree(row) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        report.errors.append(f"{sidecar.path}: a row is no tree: {classify(error)}")
        return None
    failed = {entry.problem_id for entry in sidecar.entries if entry.status == "error"}
    for tree in trees:
        if (tree.error is not None) != (tree.problem.id in failed):
            report.errors.append(
                f"{sidecar.path}: problem {tree.problem.id}: row and sidecar disagree whether it failed"
            )
    return {tree.problem.id: tree for tree in trees}


def _refined(
    store: Store, digest: str, shards: Sequence[Sidecar], trees: dict[str, Tree] | None, report: Report
) -> None:
    """Shards of one refinement that were made from one shard, against its trees."""
    loaded = [(sidecar, _rows(store, sidecar, report)) for sidecar in shards]
    seen: Counter[str] = Counter()
    leaves: set[_Leaf] = set()
    for sidecar, rows in loaded:
        for row in rows or ():
            seen[row["id"]] += 1
            leaves.add((row["problem_id"], row["leaf"]))
            report.errors.extend(f"{sidecar.path}: transcript {row['id']} {fault}" for fault in _faults(row, trees))
    where = f"refinement {digest} of {shards[0].source}"
    report.errors.extend(
        f"{where}: transcript {id} is there {number} times" for id, number in seen.items() if number > 1
    )
    # Transcripts are committed last: without them a driver has not come further yet, or was killed on its way.
    whole = any(sidecar.table.startswith("transcripts/") for sidecar in shards)
    if whole and trees is not None and all(rows is not None for _, rows in loaded):
        missing = sorted(_right(trees.values()) - leaves)
        report.errors.extend(f"{where}: right leaf {leaf} of problem {id} has no row" for id, leaf in missing)


def _right(trees: Iterable[Tree]) -> set[_Leaf]:
    """The right leaves that count. A tree that failed is not refined."""
    return {(tree.problem.id, node.id) for tree in trees if tree.error is None for node in tree.nodes if is_right(node)}


def _faults(row: Row, trees: dict[str, Tree] | None) -> Iterator[str]:
    try:
        transcript = row_transcript(row)
        whole = transcript_row(transcript) == row
    except (ValueError, TypeError, KeyError) as error:
        yield f"is no transcript: {classify(error)}"
        return
    if not whole:
        yield "contradicts itself: its columns do not follow from its spans"
    answers = (verdict.outcome for verdict in transcript.verdicts if verdict.aspect is Aspect.ANSWER)
    if transcript.rejection is None and worst(answers) is not Outcome.PASS:
        yield "is kept, and its verdicts do not say that it is right"
    if trees is not None:
        tree = trees.get(transcript.problem.id)
        if tree is None or transcript.leaf not in {leaf.id for leaf in tree.leaves()}:
            yield f"ends with leaf {transcript.leaf} of problem {transcript.problem.id}, which its source has not"


def _rows(store: Store, sidecar: Sidecar, report: Report) -> list[Row] | None:
    """The rows of a shard, if its file is what the sidecar says; None and an error if not."""
    try:
        table = _table(_bytes(store, sidecar), sidecar)
    except CorruptShard as error:
        if sidecar.table != JOURNAL or store.exists(sidecar_path(sidecar.table, sidecar.name)):
            report.errors.append(f"{sidecar.path}: {error}")
        return None
    report.errors.extend(f"{sidecar.path}: {fault}" for fault in _row_faults(table, sidecar))
    rows: list[Row] = table.to_pylist()
    return rows


def _bytes(store: Store, sidecar: Sidecar) -> bytes:
    try:
        return store.read(sidecar.path)
    except FileNotFoundError:
        raise CorruptShard("the file is lost") from None


def _table(data: bytes, sidecar: Sidecar) -> pa.Table:
    if len(data) != sidecar.bytes:
        raise CorruptShard(f"{len(data)} bytes, the sidecar says {sidecar.bytes}")
    if hashlib.sha256(data).hexdigest() != sidecar.sha256:
        raise CorruptShard("its SHA-256 is not the sidecar's")
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise CorruptShard(f"is not readable as Parquet: {classify(error)}") from error
    _check_schema(table.schema, sidecar)
    return table


def _check_schema(schema: pa.Schema, sidecar: Sidecar) -> None:
    written = (schema.metadata or {}).get(b"schema_version", b"none").decode()
    if {written, str(sidecar.schema_version)} != {str(SCHEMA_VERSION)}:
        versions = f"{written} in the file, {sidecar.schema_version} in the sidecar, {SCHEMA_VERSION} here"
        raise CorruptShard(f"schema versions differ: {versions}")
    expected = schema_of(sidecar.table)
    if not schema.equals(expected):
        odd = {field.name for field in schema} ^ set(expected.names)
        odd |= {one.name for one in schema if one.name in expected.names and one != expected.field(one.name)}
        raise CorruptShard(f"its schema is not that of the table: {', '.join(sorted(odd)) or 'the order of columns'}")


def _row_faults(table: pa.Table, sidecar: Sidecar) -> Iterator[str]:
    if table.num_rows != sidecar.rows:
        yield f"{table.num_rows} rows, the sidecar says {sidecar.rows}"
    keys: list[Any] = table.column(0).to_pylist()
    if any(one >= other for one, other in pairwise(keys)):
        yield f"rows are not sorted by {table.schema.names[0]}, or one is there twice"
    ids = sorted(set(table.column("problem_id").to_pylist()))
    if ids != [entry.problem_id for entry in sidecar.entries]:
        yield "its problems are not those of the sidecar"


def _card(store: Store, committed: dict[str, list[Sidecar]], report: Report) -> None:
    try:
        card = read_card(store)
    except StorageError as error:
        report.errors.append(str(error))
        return
    if card is None:
        report.notes.append("there is no dataset card: this run was never refined")
        return
    for kind, named in (("transcripts", card.transcripts), ("rejected", card.rejected)):
        shards = committed.get(f"{kind}/{card.refinement}", [])
        _compare(named, [sidecar.path for sidecar in shards], report)
    sources = {sidecar.source for sidecar in committed.get(f"transcripts/{card.refinement}", [])}
    if behind := sum(sidecar.name not in sources for sidecar in committed["rollouts"]):
        report.notes.append(f"{behind} shards of rollouts are not in the current refinement yet: refine again")


def _compare(named: Sequence[str], committed: Sequence[str], report: Report) -> None:
    """What a card names, and what is committed, in that order: what came after the card is in none of its lists."""
    report.errors.extend(f"{CARD} names {path}, which is not committed" for path in sorted(set(named) - set(committed)))
    late = 1 + max((index for index, path in enumerate(committed) if path in set(named)), default=-1)
    report.errors.extend(
        f"{CARD} does not name {path}, which is committed: refine again to rewrite it"
        for path in sorted(set(committed[:late]) - set(named))
    )
    if committed[late:]:
        report.notes.append(f"{CARD} is older than {committed[late]}, and names no later one: refine again")
