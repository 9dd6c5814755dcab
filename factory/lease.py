"""Who owns a run, and therefore which of its sidecars count.

A driver owns a run through `lease/<epoch>.json`, made by exclusive create, so that of several who try exactly one wins.
The newest epoch is the owner; it keeps its file's heartbeat fresh. A takeover makes the next epoch's file, which
records the sidecars of all older epochs that count, so whatever an older driver writes later is ignored by every
reader without anybody having to stop it:

    a sidecar counts if it is of the newest epoch, or is recorded in the newest lease.

An owner is dead when it released the run, when its heartbeat is older than the time to live, or at once when it ran on
this machine and its process is gone. Clocks of different machines only decide how soon a dead owner is replaced: a
live one that is taken over by mistake loses the run, not data. What a shard holds is no matter of this module.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path

from factory.errors import LeaseLost, RunOwned, StorageError
from factory.store import Store

TTL = 30.0
"""Seconds without a heartbeat after which an owner is dead."""
JOURNAL = "journal"
"""The one table whose committed shards are deleted again, once the trees in them are closed."""

_PART = re.compile(r"part-(\d+)-([A-Za-z0-9_-]+)-(\d+)")


def part_name(epoch: int, writer: str, sequence: int) -> str:
    """Name of a shard, without a suffix. Raises ValueError for a writer's name that is more than letters and digits."""
    name = f"part-{epoch:06d}-{writer}-{sequence:06d}"
    if _PART.fullmatch(name) is None:
        raise ValueError(f"a writer's name is made of letters, digits, _ and -, not {writer!r}")
    return name


def part_epoch(name: str) -> int | None:
    """Epoch of a shard's name, without a suffix; None for the name of anything else."""
    match = _PART.fullmatch(name)
    return int(match[1]) if match else None


def shard_names(store: Store, table: str) -> list[str]:
    """Names of a table's shards that have a sidecar, whether it counts or not."""
    stems = (name.removesuffix(".json") for name in store.names(table) if name.endswith(".json"))
    return [stem for stem in stems if part_epoch(stem) is not None]


def tables(store: Store) -> list[str]:
    """The tables that a run folder has or may have."""
    derived = [f"{kind}/{digest}" for kind in ("transcripts", "rejected") for digest in store.folders(kind)]
    return ["rollouts", JOURNAL, *derived]


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a lease's file says."""

    epoch: int
    """1 for the first owner of the run; each takeover adds one."""
    host: str
    """Name of the owner's machine, for people."""
    machine: str
    """Tells whether a process id means the same here as there: boot and process namespace."""
    pid: int
    started: str
    """Start time of the process, in the system's own unit: a process id alone may be another's by now."""
    token: str
    """Random; no two leases share it."""
    created: float
    """Unix time."""
    heartbeat: float
    """Unix time of the last sign of life."""
    released: bool
    """Whether the owner gave the run back."""
    counts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By table: the shards of all older epochs that count."""

    def counting(self, table: str, present: Iterable[str]) -> list[str]:
        """The shards of a table that count, given those that have a sidecar.

        A recorded shard that has lost its sidecar is among them, since that is a loss; not so in the journal.
        """
        present = set(present)
        recorded = set(self.counts.get(table, ()))
        own = {name for name in present if part_epoch(name) == self.epoch}
        return sorted(own | (recorded & present if table == JOURNAL else recorded))


def latest(store: Store) -> LeaseRecord | None:
    """The newest lease, live or dead; None where nobody has owned the run yet, so that nothing in it counts."""
    epochs = [int(name.removesuffix(".json")) for name in store.names("lease") if re.fullmatch(r"\d+\.json", name)]
    return _load(store, max(epochs)) if epochs else None


def refuse_if_owned(store: Store, *, ttl: float = TTL, now: Callable[[], float] = time.time) -> None:
    """Raise RunOwned if a live driver owns the run; a look that takes nothing."""
    _dead(store, ttl, now())


def acquire(store: Store, *, ttl: float = TTL, now: Callable[[], float] = time.time) -> Lease:
    """Own the run, or raise RunOwned. `ttl`: age in seconds of a heartbeat that is too old; `now`: unix time."""
    previous = _dead(store, ttl, now())
    epoch = 1 if previous is None else previous.epoch + 1
    record = _record(epoch, _counts(store, previous), now())
    if not store.create(_path(epoch), _dump(record)):
        raise _owned(store, _load(store, epoch), ttl, now())
    # What the former owner committed between the count above and the new file was a true commit: it counts as well.
    counts = _counts(store, previous)
    if counts != record.counts:
        record = replace(record, counts=counts)
        store.put(_path(epoch), _dump(record))
    return Lease(store, record, ttl, now)


class Lease:
    """The ownership of a run by this process. Safe to use from several threads."""

    def __init__(self, store: Store, record: LeaseRecord, ttl: float, now: Callable[[], float]) -> None:
        self.store = store
        self.record = record
        self.ttl = ttl
        self._now = now
        self._lock = threading.Lock()
        self._commits = count(1)

    @property
    def epoch(self) -> int:
        return self.record.epoch

    def commit_number(self) -> int:
        """A number above all that this lease gave before: the order of commits within the epoch."""
        return next(self._commits)

    def heartbeat(self) -> None:
        """Tell that the owner lives; due several times within `ttl`. Raises LeaseLost."""
        with self._lock:
            self.verify()
            self._write(replace(self.record, heartbeat=self._now()))

    def verify(self) -> None:
        """Raise LeaseLost if the run is no longer ours."""
        if self.record.released:
            raise LeaseLost(f"the lease of {self.store.url} (epoch {self.epoch}) was given back")
        if self.store.exists(_path(self.epoch + 1)):
            raise LeaseLost(f"another driver has taken over {self.store.url}: this one was epoch {self.epoch}")

    def release(self) -> None:
        """Give the run back, so that the next driver need not wait. Nothing happens if it is lost already."""
        with self._lock:
            if not self.record.released:
                self._write(replace(self.record, heartbeat=self._now(), released=True))

    def _write(self, record: LeaseRecord) -> None:
        self.store.put(_path(self.epoch), _dump(record))
        self.record = record


def _path(epoch: int) -> str:
    return f"lease/{epoch:06d}.json"


def _dump(record: LeaseRecord) -> bytes:
    return json.dumps(asdict(record), indent=1).encode()


def _load(store: Store, epoch: int) -> LeaseRecord:
    data = store.read(_path(epoch))
    try:
        fields = json.loads(data)
        fields["counts"] = {table: tuple(names) for table, names in fields["counts"].items()}
        return LeaseRecord(**fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageError(f"{store.uri(_path(epoch))} is no lease: restore it, or choose another folder") from error


def _record(epoch: int, counts: Mapping[str, tuple[str, ...]], now: float) -> LeaseRecord:
    pid = os.getpid()
    return LeaseRecord(
        epoch=epoch,
        host=socket.gethostname(),
        machine=_machine(),
        pid=pid,
        started=_process_start(pid) or "",
        token=secrets.token_hex(16),
        created=now,
        heartbeat=now,
        released=False,
        counts=counts,
    )


def _counts(store: Store, previous: LeaseRecord | None) -> dict[str, tuple[str, ...]]:
    """What counts under the lease before the new one."""
    if previous is None:
        return {}
    known = dict.fromkeys([*tables(store), *previous.counts])
    counts = {table: tuple(previous.counting(table, shard_names(store, table))) for table in known}
    return {table: names for table, names in counts.items() if names}


def _dead(store: Store, ttl: float, now: float) -> LeaseRecord | None:
    """The newest lease if its owner is dead, None if there is no lease; raises RunOwned if its owner lives.

    It is read once: what is judged dead is what the next epoch follows, so a driver that came meanwhile is not passed.
    """
    newest = latest(store)
    if newest is not None and _alive(newest, ttl, now):
        raise _owned(store, newest, ttl, now)
    return newest


def _alive(record: LeaseRecord, ttl: float, now: float) -> bool:
    if record.released:
        return False
    if record.machine == _machine() and _process_start(record.pid) != record.started:
        return False
    return now - record.heartbeat < ttl


def _owned(store: Store, record: LeaseRecord, ttl: float, now: float) -> RunOwned:
    return RunOwned(
        f"{store.url} is owned by process {record.pid} on {record.host}, alive {max(0.0, now - record.heartbeat):.0f} s"
        f" ago: wait for it, stop it, or choose another folder (a dead owner is replaced after {ttl:.0f} s)"
    )


def _machine() -> str:
    """Names the space of process ids this process lives in; unlike any other where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return secrets.token_hex(16)


def _process_start(pid: int) -> str | None:
    """When a process of this machine started, in ticks since boot; None if it is gone or only waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in {"Z", "X"} else fields[19]
