"""The commit protocol: how rows become a shard, and which shards there are.

A table is a folder of Parquet files `part-<epoch>-<writer>-<sequence>.parquet`, each with a `.json` sidecar. Writers
write Parquet and never sidecars; the driver, which holds the lease, writes sidecars. The sidecar is the commit: a
Parquet file without one, or with one that the newest lease does not count, does not exist for any reader.

A problem may stand in several committed shards of `rollouts` only if all its rows but one are errors. That row is its
current one; of several errors it is the one committed last. `problem_states` tells from sidecars alone how every
problem stands.

A writer never overwrites a file: names are taken by exclusive create, so two writers that share a name by mistake
share no file. What is read here is checked for its size; `factory.check` reads every byte.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from factory.errors import CorruptShard, LeaseLost, StorageError, classify
from factory.lease import JOURNAL, Lease, latest, part_epoch, part_name, shard_names
from factory.rows import SCHEMA_VERSION, Row
from factory.store import Store

MAX_ROWS = 256
MAX_BYTES = 32 * 1024 * 1024
"""Bytes of a writer's buffer, as Arrow counts them before compression."""
MAX_SECONDS = 10.0
GROUP_BYTES = 32 * 1024 * 1024
"""About how much of a shard goes into one row group, as Arrow counts it before compression."""
READ_ROWS = 64
"""Rows that a reader holds at a time."""

Status = Literal["solved", "unsolved", "error", "open"]
"""How a problem ended; `open` stands in the journal only."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a sidecar says of one problem."""

    problem_id: str
    status: Status
    error: str | None = None
    """One line; only with the status `error`."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Small sums, such as `generated_tokens`, so that a report need not read Parquet."""


@dataclass(frozen=True, slots=True)
class Written:
    """A Parquet file that is written and not committed: what a writer tells the driver."""

    table: str
    name: str
    """Without a suffix."""
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    entries: tuple[Entry, ...]
    """One a problem, sorted by its id."""

    @property
    def path(self) -> str:
        return parquet_path(self.table, self.name)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A committed shard."""

    table: str
    name: str
    """Without a suffix."""
    rows: int
    bytes: int
    sha256: str
    schema_version: int
    config_digest: str
    """Of the config under which the rows were made."""
    epoch: int
    commit: int
    """Place in the order of the epoch's commits."""
    source: str | None
    """Name of the rollouts shard that a shard of transcripts or rejected was made from; None in other tables."""
    entries: tuple[Entry, ...]
    """One a problem, sorted by its id."""
    tries: Mapping[str, int]
    """By problem id: failed tries since the commit before. Not only of problems in this shard."""

    @property
    def path(self) -> str:
        return parquet_path(self.table, self.name)

    @property
    def order(self) -> tuple[int, int]:
        """Sorts shards by when they were committed."""
        return self.epoch, self.commit


@dataclass(frozen=True, slots=True)
class State:
    """How a problem stands in the committed rollouts. Problems that stand alike share one object."""

    status: Status | None
    """None for a problem that has failed tries but no row."""
    error: str | None
    tries: int
    """Failed tries over the run's life."""
    shard: str | None
    """Name of the shard that holds the current row; None where there is none."""
    order: tuple[int, int]
    """When that row was committed."""


def parquet_path(table: str, name: str) -> str:
    """Where a shard's rows are."""
    return f"{table}/{name}.parquet"


def sidecar_path(table: str, name: str) -> str:
    """Where a shard's sidecar is."""
    return f"{table}/{name}.json"


class ShardWriter:
    """Collects rows and writes them as Parquet files. `add` and `flush` may be called from different threads."""

    def __init__(
        self,
        store: Store,
        table: str,
        schema: pa.Schema,
        epoch: int,
        writer: str,
        *,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`epoch`: of the lease it writes under; `writer`: a name of its own in that epoch.

        A flush is due at `max_rows`, at `max_bytes` of Arrow memory, or when the oldest row is `max_seconds` old.
        """
        part_name(epoch, writer, 1)
        self._store, self._table, self._schema = store, table, schema
        self._epoch, self._writer = epoch, writer
        self._max_rows, self._max_bytes, self._max_seconds = max_rows, max_bytes, max_seconds
        self._clock = clock
        self._sequence = 1
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._buffer = _Buffer()

    def add(self, row: Row, entry: Entry) -> None:
        """Take a row, with what the sidecar shall say of its problem.

        An error or an open row in the buffer gives way to a later row of the same key. Raises ValueError for any other
        second row, and for a row that does not fit the schema: nothing else in the buffer suffers from it.
        """
        batch = _one_row(row, self._schema)
        key = row[self._schema.names[0]]
        with self._lock:
            self._buffer.add(key, batch, entry, self._clock())

    def due(self) -> bool:
        """Whether it is time to flush."""
        with self._lock:
            buffer = self._buffer
            full = len(buffer.rows) >= self._max_rows or buffer.bytes >= self._max_bytes
            return full or (bool(buffer.rows) and self._clock() - buffer.since >= self._max_seconds)

    def flush(self, *, empty: bool = False) -> Written | None:
        """Write what was added since the last time; None if that is nothing.

        `empty`: write a shard without rows rather than none, where its sidecar tells that a source was dealt with.
        If writing fails, the rows stay in the buffer.
        """
        with self._flushing:
            with self._lock:
                taken, self._buffer = self._buffer, _Buffer()
            if not taken.rows and not empty:
                return None
            try:
                return self._write(taken)
            except BaseException:
                with self._lock:
                    self._buffer = taken.before(self._buffer)
                raise

    def _write(self, buffer: _Buffer) -> Written:
        data = _parquet(buffer.table(self._schema))
        return Written(
            table=self._table,
            name=self._place(data),
            rows=len(buffer.rows),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            schema_version=SCHEMA_VERSION,
            entries=buffer.entries(),
        )

    def _place(self, data: bytes) -> str:
        """Write a file under the next free name. A name that holds these very bytes is ours from a lost answer."""
        while True:
            name = part_name(self._epoch, self._writer, self._sequence)
            path = parquet_path(self._table, name)
            mine = self._store.create(path, data) or self._store.read(path) == data
            self._sequence += 1
            if mine:
                return name


class _Buffer:
    """Rows by their key, as Arrow: compact, and known to fit the schema."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[pa.RecordBatch, Entry]] = {}
        self.bytes = 0
        self.since = 0.0
        """When the oldest row came, by the writer's clock."""

    def add(self, key: str, batch: pa.RecordBatch, entry: Entry, now: float) -> None:
        if key in self.rows:
            before, old = self.rows[key]
            if old.status not in {"error", "open"}:
                raise ValueError(f"row {key} is written twice")
            self.bytes -= before.nbytes
        if not self.rows:
            self.since = now
        self.rows[key] = batch, entry
        self.bytes += batch.nbytes

    def before(self, later: _Buffer) -> _Buffer:
        """This buffer with the rows that came after it."""
        self.rows.update(later.rows)
        self.bytes = sum(batch.nbytes for batch, _ in self.rows.values())
        return self

    def table(self, schema: pa.Schema) -> pa.Table:
        return pa.Table.from_batches([self.rows[key][0] for key in sorted(self.rows)], schema=schema)

    def entries(self) -> tuple[Entry, ...]:
        merged: dict[str, Entry] = {}
        for _, entry in self.rows.values():
            merged[entry.problem_id] = _merge(merged.get(entry.problem_id), entry)
        return tuple(merged[id] for id in sorted(merged))


def _merge(one: Entry | None, other: Entry) -> Entry:
    """One entry for several rows of a problem, as tables of transcripts have them."""
    if one is None:
        return other
    if (one.status, one.error) != (other.status, other.error):
        raise ValueError(f"problem {one.problem_id} is both {one.status} and {other.status}")
    counters = {
        key: one.counters.get(key, 0) + other.counters.get(key, 0) for key in {**one.counters, **other.counters}
    }
    return replace(one, counters=counters)


def _one_row(row: Row, schema: pa.Schema) -> pa.RecordBatch:
    """A row as Arrow. `from_pylist` alone would drop a key that is no column and fill in one that is missing."""
    if row.keys() != set(schema.names):
        raise ValueError(f"columns differ from the schema: {sorted(row.keys() ^ set(schema.names))}")
    batch = pa.RecordBatch.from_pylist([row], schema=schema)
    empty = [field.name for field in schema if not field.nullable and batch.column(field.name).null_count]
    if empty:
        raise ValueError(f"columns that may not be null are: {empty}")
    return batch


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        if table.num_rows:  # a row group without rows is more than `datasets` can read
            writer.write_table(table, row_group_size=max(1, table.num_rows * GROUP_BYTES // table.nbytes))
    return bytes(sink.getvalue())


def commit(
    store: Store,
    lease: Lease,
    written: Written,
    *,
    config_digest: str,
    tries: Mapping[str, int] | None = None,
    source: str | None = None,
) -> Sidecar:
    """Make a written file count. Only the owner of the run calls it.

    `tries`: failed tries by problem id since the last commit; `source`: name of the rollouts shard it was made from.
    Raises LeaseLost if the run was taken over, in which case the shard may or may not count for the new owner, and
    CorruptShard if the file is not where this process sees it.
    """
    lease.verify()
    if part_epoch(written.name) != lease.epoch:
        raise LeaseLost(f"{written.path} was written under another lease than epoch {lease.epoch}")
    _check_size(store, written)
    sidecar = Sidecar(
        table=written.table,
        name=written.name,
        rows=written.rows,
        bytes=written.bytes,
        sha256=written.sha256,
        schema_version=written.schema_version,
        config_digest=config_digest,
        epoch=lease.epoch,
        commit=lease.commit_number(),
        source=source,
        entries=written.entries,
        tries=dict(tries or {}),
    )
    store.put(sidecar_path(sidecar.table, sidecar.name), dump_sidecar(sidecar))
    lease.verify()
    return sidecar


def dump_sidecar(sidecar: Sidecar) -> bytes:
    """The file that commits a shard: JSON with one problem a line."""
    head = {key: value for key, value in asdict(sidecar).items() if key != "entries"}
    lines = ",\n".join(json.dumps(asdict(entry), ensure_ascii=False) for entry in sidecar.entries)
    return (json.dumps(head, ensure_ascii=False)[:-1] + f', "entries": [\n{lines}\n]}}\n').encode()


def parse_sidecar(data: bytes, table: str, name: str) -> Sidecar:
    """The reverse. Raises CorruptShard for what is no sidecar, or that of another shard."""
    try:
        fields = json.loads(data)
        entries = tuple(Entry(**entry) for entry in fields.pop("entries"))
        sidecar = Sidecar(**fields, entries=entries)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptShard(f"{sidecar_path(table, name)} is no sidecar: {classify(error)}") from error
    if (sidecar.table, sidecar.name) != (table, name):
        raise CorruptShard(f"{sidecar_path(table, name)} is the sidecar of {sidecar.path}")
    return sidecar


def iter_sidecars(store: Store, table: str) -> Iterator[Sidecar]:
    """The committed shards of a table, in the order of their names, holding few at a time.

    Raises CorruptShard for a sidecar that counts and is unreadable or lost.
    """
    # The listing comes first: a sidecar that a former owner writes after a takeover is then never seen without the
    # lease that rules it out.
    present = shard_names(store, table)
    lease = latest(store)
    names = [] if lease is None else lease.counting(table, present)
    contents = store.read_many([sidecar_path(table, name) for name in names])
    for name, data in zip(names, contents, strict=True):
        if data is not None:
            yield parse_sidecar(data, table, name)
        elif table != JOURNAL:
            raise CorruptShard(f"{sidecar_path(table, name)} is lost: it was committed before")


def sidecars(store: Store, table: str) -> list[Sidecar]:
    """The committed shards of a table, in the order in which they were committed."""
    return sorted(iter_sidecars(store, table), key=lambda sidecar: sidecar.order)


def problem_states(sidecars: Iterable[Sidecar]) -> dict[str, State]:
    """How each problem stands, from the sidecars of `rollouts` in any order.

    Raises CorruptShard for a problem with two rows that are no errors.
    """
    states: dict[str, State] = {}
    tries: Counter[str] = Counter()
    for sidecar in sidecars:
        made: dict[tuple[Status, str | None], State] = {}
        for entry in sidecar.entries:
            fresh = State(entry.status, entry.error, 0, sidecar.name, sidecar.order)
            state = made.setdefault((entry.status, entry.error), fresh)
            states[entry.problem_id] = _current(entry.problem_id, states.get(entry.problem_id), state)
        tries.update(sidecar.tries)
    untouched = State(None, None, 0, None, (0, 0))
    return states | {id: replace(states.get(id, untouched), tries=number) for id, number in tries.items()}


def _current(id: str, one: State | None, other: State) -> State:
    if one is None:
        return other
    if one.status != "error" and other.status != "error":
        raise CorruptShard(f"problem {id} is committed twice: in {one.shard} and in {other.shard}")
    return max(one, other, key=lambda state: (state.status != "error", state.order))


def read(store: Store, sidecar: Sidecar, columns: Sequence[str] | None = None, *, verify: bool = False) -> pa.Table:
    """The rows of a committed shard; `verify` compares the SHA-256 of its bytes. Raises CorruptShard."""
    with _opened(store, sidecar) as file:
        if verify and hashlib.file_digest(file, "sha256").hexdigest() != sidecar.sha256:
            raise CorruptShard(f"{sidecar.path} has not the bytes that were committed")
        return pq.ParquetFile(file).read(columns=columns)


def iter_shard(store: Store, sidecar: Sidecar, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a committed shard, holding few at a time. Raises CorruptShard."""
    with _opened(store, sidecar) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=READ_ROWS, columns=columns):
            yield from batch.to_pylist()


def iter_rows(store: Store, table: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The committed rows of a table, holding few at a time; in `rollouts`, superseded errors are among them."""
    for sidecar in iter_sidecars(store, table):
        yield from iter_shard(store, sidecar, columns)


def read_rows(store: Store, table: str, name: str) -> Iterator[Row]:
    """The rows of one shard by its name, which the caller knows to be committed."""
    sidecar = parse_sidecar(store.read(sidecar_path(table, name)), table, name)
    return iter_shard(store, sidecar)


def current_rows(store: Store, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Every problem's current row of `rollouts`. `problem_id` is always among the columns."""
    states = problem_states(iter_sidecars(store, "rollouts"))
    wanted = None if columns is None else list(dict.fromkeys(["problem_id", *columns]))
    for sidecar in iter_sidecars(store, "rollouts"):
        # Also leaves out what was committed since the states were read.
        current = {id for id in _ids(sidecar) if id in states and states[id].shard == sidecar.name}
        if current:
            yield from (row for row in iter_shard(store, sidecar, wanted) if row["problem_id"] in current)


def _ids(sidecar: Sidecar) -> Iterator[str]:
    return (entry.problem_id for entry in sidecar.entries)


@contextmanager
def _opened(store: Store, sidecar: Sidecar) -> Iterator[Any]:
    """A shard's file, of the right size; what Parquet makes of bad bytes becomes CorruptShard."""
    if sidecar.schema_version != SCHEMA_VERSION:
        raise StorageError(
            f"{store.uri(sidecar.path)} has schema version {sidecar.schema_version}, this factory reads"
            f" {SCHEMA_VERSION}: use the factory that wrote it"
        )
    _check_size(store, sidecar)
    try:
        with store.open(sidecar.path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise CorruptShard(f"{sidecar.path} cannot be read: {classify(error)}") from error


def _check_size(store: Store, shard: Written | Sidecar) -> None:
    try:
        size = store.size(shard.path)
    except FileNotFoundError:
        raise CorruptShard(f"{store.uri(shard.path)} is not there: does every machine see this folder?") from None
    if size != shard.bytes:
        raise CorruptShard(f"{store.uri(shard.path)} has {size} bytes, {shard.bytes} were written")


def sweep(store: Store, table: str, lease: Lease) -> list[str]:
    """Delete what former owners left and what does not count, unfinished files included; returns the names.

    Files of this epoch stay: a writer may be about to report them. Raises LeaseLost.
    """
    lease.verify()
    counting = set(lease.record.counting(table, shard_names(store, table)))
    names = [*store.temporaries(table), *store.names(table)]  # sidecars sort before their Parquet files
    orphans = [name for name in names if _is_orphan(name, counting, lease.epoch)]
    for name in orphans:
        store.delete(f"{table}/{name}")
    return orphans


def _is_orphan(name: str, counting: set[str], epoch: int) -> bool:
    shard = name.removeprefix(".").partition(".")[0]
    written = part_epoch(shard)
    return written is not None and written < epoch and (shard not in counting or name.startswith("."))


def drop_journal(store: Store, lease: Lease, names: Iterable[str]) -> None:
    """Delete shards of the journal, once every tree in them is closed or journaled again. Raises LeaseLost."""
    lease.verify()
    for name in names:
        store.delete(sidecar_path(JOURNAL, name))
        store.delete(parquet_path(JOURNAL, name))
