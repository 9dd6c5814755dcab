"""The commit protocol: nothing counts before its sidecar, everything counts after it, whoever dies in between."""

import errno
import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from threading import Event, Thread
from typing import IO
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory import shards
from factory.errors import CorruptShard, LeaseLost, StorageError
from factory.lease import Lease, acquire
from factory.rows import ROLLOUTS, SCHEMA_VERSION, TRANSCRIPTS, describe, row_tree, transcript_row
from factory.shards import (
    Entry,
    ShardWriter,
    Sidecar,
    State,
    Status,
    Written,
    commit,
    current_rows,
    drop_journal,
    iter_rows,
    iter_sidecars,
    parse_sidecar,
    problem_states,
    read,
    read_rows,
    sidecars,
    sweep,
)
from factory.store import Store
from factory.types import Outcome, Tree
from tests.unit.test_lease import Clock
from tests.unit.test_rows import make_row, make_transcript, make_tree

ROOT = Path(__file__).parents[2]

# A driver that does what its standard input says, one word a line, and tells what came of it.
DRIVER = """
import os, stat, sys
from factory.errors import LeaseLost
from factory.lease import acquire
from factory.rows import ROLLOUTS
from factory.shards import Entry, ShardWriter, commit
from factory.store import Store
from tests.unit.test_rows import make_row, make_tree

def say(text):
    print(text, flush=True)

def hang():
    say("hanging")
    sys.stdin.readline()

class Frozen(Store):
    "Stops between the lease's check and the sidecar, until a line comes."
    def put(self, path, data):
        hang()
        super().put(path, data)

store = Store(sys.argv[1])
lease = acquire(store)
writer = ShardWriter(store, "rollouts", ROLLOUTS, lease.epoch, "w0")
say("owned")
for line in sys.stdin:
    if line == "hang\\n":
        sync = os.fsync
        os.fsync = lambda file: hang() if stat.S_ISREG(os.fstat(file).st_mode) else sync(file)
    elif line == "write\\n":
        writer.add(make_row(make_tree("p")), Entry("p", "unsolved"))
        written = writer.flush()
        say("written")
    else:
        try:
            commit(Frozen(store.url) if line == "freeze\\n" else store, lease, written, config_digest="c")
            say("committed")
        except LeaseLost:
            say("lost")
"""


class Driver:
    """Another process that drives the run."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.stdin: IO[str] = child.stdin
        self.stdout: IO[str] = child.stdout
        self.child = child

    def do(self, word: str, answer: str) -> None:
        self.stdin.write(f"{word}\n")
        self.stdin.flush()
        self.told(answer)

    def told(self, answer: str) -> None:
        assert self.stdout.readline() == f"{answer}\n"

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


@contextmanager
def driving(store: Store) -> Iterator[Driver]:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        driver = Driver(child)
        driver.told("owned")
        yield driver


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


@pytest.fixture
def lease(store: Store) -> Lease:
    return acquire(store)


def take_over(store: Store) -> Lease:
    """Own a run although its owner is alive, as if the owner had been silent for a minute."""
    later = Clock()
    later.time = 4e9
    return acquire(store, now=later)


def rollouts(store: Store, lease: Lease, name: str = "w0", table: str = "rollouts") -> ShardWriter:
    return ShardWriter(store, table, ROLLOUTS, lease.epoch, name)


def add(writer: ShardWriter, id: str, status: Status = "unsolved", **counters: int) -> None:
    error = "EngineError: gone" if status == "error" else None
    writer.add(make_row(make_tree(id, Outcome.PASS, error=error)), Entry(id, status, error, counters))


def write(writer: ShardWriter, *ids: str, status: Status = "unsolved") -> Written:
    for id in ids:
        add(writer, id, status)
    written = writer.flush()
    assert written is not None
    return written


def put(store: Store, lease: Lease, *ids: str, status: Status = "unsolved", name: str = "w0") -> Sidecar:
    """Write and commit a shard."""
    return commit(store, lease, write(rollouts(store, lease, name), *ids, status=status), config_digest="c")


def ids(store: Store, table: str = "rollouts") -> list[str]:
    return [row["problem_id"] for row in iter_rows(store, table, ["problem_id"])]


# Writing


def test_a_shard_is_sorted_parquet_with_all_that_a_sidecar_needs(store: Store, lease: Lease) -> None:
    writer = rollouts(store, lease)
    for id in ("c", "a", "b"):
        add(writer, id, "solved", generated_tokens=7)
    written = writer.flush()
    assert written is not None
    data = store.read("rollouts/part-000001-w0-000001.parquet")
    assert written == Written(
        table="rollouts",
        name="part-000001-w0-000001",
        rows=3,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        schema_version=SCHEMA_VERSION,
        entries=tuple(Entry(id, "solved", None, {"generated_tokens": 7}) for id in ("a", "b", "c")),
    )
    file = pq.ParquetFile(io.BytesIO(data))
    assert file.schema_arrow.equals(ROLLOUTS)
    assert file.schema_arrow.metadata == ROLLOUTS.metadata
    assert describe(file.schema_arrow) == describe(ROLLOUTS)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert [row_tree(row) for row in file.read().to_pylist()] == [make_tree(id, Outcome.PASS) for id in "abc"]


def test_written_and_entries_travel_between_processes(store: Store, lease: Lease) -> None:
    written = write(rollouts(store, lease), "a")
    assert pickle.loads(pickle.dumps(written)) == written  # noqa: S301  # our own


def test_a_flush_is_due_by_rows_bytes_or_seconds(store: Store) -> None:
    clock = Clock()

    def writer(**limits: float) -> ShardWriter:
        made = ShardWriter(store, "rollouts", ROLLOUTS, 1, "w", clock=clock, **limits)  # type: ignore[arg-type]
        assert not made.due()
        clock.time += 1e6
        assert not made.due(), "nothing is in it"
        add(made, "a")
        return made

    for limits in ({"max_rows": 2}, {"max_bytes": 800}):
        made = writer(**limits)
        assert not made.due()
        add(made, "b")
        assert made.due()
        made.flush()
        assert not made.due()
    by_seconds = writer(max_seconds=5)
    clock.time += 4.9
    add(by_seconds, "b")
    assert not by_seconds.due()
    clock.time += 0.1
    assert by_seconds.due(), "the oldest row counts"
    by_seconds.flush()
    assert not by_seconds.due()


def test_nothing_to_flush(store: Store, lease: Lease) -> None:
    assert rollouts(store, lease).flush() is None
    assert store.names("rollouts") == []


def test_a_shard_without_rows_is_written_on_request(store: Store, lease: Lease) -> None:
    written = rollouts(store, lease).flush(empty=True)
    assert written is not None
    sidecar = commit(store, lease, written, config_digest="c", source="part-000001-w1-000001")
    assert (sidecar.rows, sidecar.entries) == (0, ())
    table = read(store, sidecar, verify=True)
    assert (table.num_rows, table.schema.equals(ROLLOUTS)) == (0, True)
    assert ids(store) == []


def test_a_large_shard_has_several_row_groups(store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "GROUP_BYTES", 2000)
    sidecar = put(store, lease, *(f"{number:03d}" for number in range(40)))
    groups = pq.ParquetFile(io.BytesIO(store.read(sidecar.path))).metadata
    assert 10 < groups.num_row_groups <= 40
    assert ids(store) == [f"{number:03d}" for number in range(40)]


def test_an_error_in_the_buffer_gives_way_and_a_result_does_not(store: Store, lease: Lease) -> None:
    writer = rollouts(store, lease)
    add(writer, "a", "error")
    add(writer, "a", "solved")
    for status in ("solved", "error"):
        with pytest.raises(ValueError, match="row a is written twice"):
            add(writer, "a", status)
    written = writer.flush()
    assert written is not None
    assert [entry.status for entry in written.entries] == ["solved"]
    assert written.rows == 1


def test_a_row_that_does_not_fit_harms_no_other(store: Store, lease: Lease) -> None:
    writer = rollouts(store, lease)
    row = make_row(make_tree("bad"))
    bad_rows = [
        ({key: value for key, value in row.items() if key != "cost"}, r"\['cost'\]"),
        (row | {"surplus": 1}, r"\['surplus'\]"),
        (row | {"model": None}, "may not be null are: .'model'"),
        (row | {"tries": "three"}, "three"),
        (row | {"search": "lone \ud800 surrogate"}, "surrogates not allowed"),
    ]
    for bad, message in bad_rows:
        with pytest.raises((ValueError, pa.ArrowException), match=message):
            writer.add(bad, Entry("bad", "solved"))
    assert [entry.problem_id for entry in write(writer, "good").entries] == ["good"]


def test_several_rows_of_a_problem_make_one_entry(store: Store) -> None:
    writer = ShardWriter(store, "transcripts/d", TRANSCRIPTS, 1, "w0")
    for leaf in (2, 1):
        writer.add(
            transcript_row(make_transcript("p", leaf)), Entry("p", "solved", None, {"kept": 1, f"leaf{leaf}": 1})
        )
    written = writer.flush()
    assert written is not None
    assert written.entries == (Entry("p", "solved", None, {"kept": 2, "leaf1": 1, "leaf2": 1}),)
    assert written.rows == 2


def test_a_full_disk_loses_no_row(store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = rollouts(store, lease)
    add(writer, "a")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="full"):
        writer.flush()
    monkeypatch.undo()
    assert [entry.problem_id for entry in write(writer, "b").entries] == ["a", "b"]


def test_rows_may_come_while_a_flush_is_under_way(tmp_path: Path) -> None:
    started, go_on = Event(), Event()

    class Slow(Store):
        def create(self, path: str, data: bytes) -> bool:
            started.set()
            assert go_on.wait(60)
            return super().create(path, data)

    writer = ShardWriter(Slow(str(tmp_path)), "rollouts", ROLLOUTS, 1, "w0")
    add(writer, "a")
    found: list[Written | None] = []
    flush = Thread(target=lambda: found.append(writer.flush()))
    flush.start()
    assert started.wait(60)
    add(writer, "b")
    go_on.set()
    flush.join()
    found.append(writer.flush())
    assert [[entry.problem_id for entry in written.entries] for written in found if written] == [["a"], ["b"]]


def test_writers_that_share_a_name_share_no_file(store: Store, lease: Lease) -> None:
    one, other = write(rollouts(store, lease), "a"), write(rollouts(store, lease), "b")
    assert (one.name, other.name) == ("part-000001-w0-000001", "part-000001-w0-000002")
    for written in (one, other):
        commit(store, lease, written, config_digest="c")
    assert ids(store) == ["a", "b"]


def test_a_write_whose_answer_was_lost_is_recognised(tmp_path: Path) -> None:
    class Forgetful(Store):
        def create(self, path: str, data: bytes) -> bool:
            super().create(path, data)
            return super().create(path, data)

    writer = ShardWriter(Forgetful(str(tmp_path)), "rollouts", ROLLOUTS, 1, "w0")
    assert write(writer, "a").name == "part-000001-w0-000001"
    assert write(writer, "b").name == "part-000001-w0-000002"


def test_a_writer_needs_a_plain_name(store: Store) -> None:
    with pytest.raises(ValueError, match="letters"):
        ShardWriter(store, "rollouts", ROLLOUTS, 1, "../x")


# Committing


def test_nothing_counts_before_its_sidecar(store: Store, lease: Lease) -> None:
    written = write(rollouts(store, lease), "a")
    assert sidecars(store, "rollouts") == []
    assert ids(store) == []
    made = commit(store, lease, written, config_digest="c", tries={"z": 2}, source="s")
    assert made == Sidecar(
        table="rollouts",
        name=written.name,
        rows=1,
        bytes=written.bytes,
        sha256=written.sha256,
        schema_version=SCHEMA_VERSION,
        config_digest="c",
        epoch=1,
        commit=1,
        source="s",
        entries=written.entries,
        tries={"z": 2},
    )
    assert sidecars(store, "rollouts") == [made]
    assert ids(store) == ["a"]
    assert [row_tree(row) for row in read_rows(store, "rollouts", made.name)] == [make_tree("a", Outcome.PASS)]


def test_a_sidecar_is_json_that_people_read(store: Store, lease: Lease) -> None:
    made = put(store, lease, "é\u2028", "b", status="error")
    lines = store.read(f"rollouts/{made.name}.json").decode().split("\n")
    assert len(lines) == 5
    assert json.loads("".join(lines))["entries"][0] == {
        "problem_id": "b",
        "status": "error",
        "error": "EngineError: gone",
        "counters": {},
    }


def test_without_a_lease_nothing_counts(store: Store, lease: Lease) -> None:
    put(store, lease, "a")
    store.delete("lease/000001.json")
    assert sidecars(store, "rollouts") == []


def test_sidecars_come_in_the_order_of_commits(store: Store, lease: Lease) -> None:
    written = [write(rollouts(store, lease, name), name) for name in ("a", "b", "c")]
    for one in (written[1], written[2], written[0]):
        commit(store, lease, one, config_digest="c")
    lease.release()
    put(store, acquire(store), "d", name="0")
    assert [sidecar.entries[0].problem_id for sidecar in sidecars(store, "rollouts")] == ["b", "c", "a", "d"]


def test_a_former_owner_commits_nothing(store: Store, lease: Lease) -> None:
    written = write(rollouts(store, lease), "a")
    take_over(store)
    with pytest.raises(LeaseLost):
        commit(store, lease, written, config_digest="c")
    assert store.names("rollouts") == [f"{written.name}.parquet"]


def test_a_file_of_an_older_epoch_is_not_committed(store: Store, lease: Lease) -> None:
    written = write(rollouts(store, lease), "a")
    with pytest.raises(LeaseLost, match="another lease"):
        commit(store, take_over(store), written, config_digest="c")


def test_a_file_that_the_driver_does_not_see_is_not_committed(store: Store, lease: Lease, tmp_path: Path) -> None:
    written = write(rollouts(Store(str(tmp_path / "another disk")), lease), "a")
    with pytest.raises(CorruptShard, match="does every machine see this folder"):
        commit(store, lease, written, config_digest="c")
    store.put(written.path, b"x")
    with pytest.raises(CorruptShard, match=f"has 1 bytes, {written.bytes} were written"):
        commit(store, lease, written, config_digest="c")
    assert sidecars(store, "rollouts") == []


# Dying


def test_a_writer_killed_in_the_middle_of_a_shard_leaves_nothing_that_counts(store: Store) -> None:
    with driving(store) as driver:
        driver.do("hang\nwrite", "hanging")
        driver.kill()
    assert sidecars(store, "rollouts") == []
    assert ids(store) == store.names("rollouts") == []
    lease = acquire(store)
    [left] = store.temporaries("rollouts")
    assert left.startswith(".part-000001-w0-000001.parquet.")
    assert sweep(store, "rollouts", lease) == [left]
    assert store.temporaries("rollouts") == []


def test_a_driver_killed_before_the_sidecar_has_committed_nothing(store: Store) -> None:
    with driving(store) as driver:
        driver.do("write", "written")
        driver.kill()
    assert store.names("rollouts") == ["part-000001-w0-000001.parquet"]
    assert ids(store) == []
    lease = acquire(store)
    assert put(store, lease, "p").epoch == 2
    assert sweep(store, "rollouts", lease) == ["part-000001-w0-000001.parquet"]
    assert ids(store) == ["p"]


def test_a_driver_killed_after_the_sidecar_has_committed(store: Store) -> None:
    with driving(store) as driver:
        driver.do("write", "written")
        driver.do("commit", "committed")
        driver.kill()
    assert ids(store) == ["p"]
    lease = acquire(store)
    assert sweep(store, "rollouts", lease) == []
    assert ids(store) == ["p"]


@pytest.mark.parametrize("frozen_after_the_check", [False, True])
def test_a_frozen_driver_is_ignored_when_it_wakes(store: Store, *, frozen_after_the_check: bool) -> None:
    with driving(store) as driver:
        driver.do("write", "written")
        if frozen_after_the_check:
            driver.do("freeze", "hanging")
            lease = take_over(store)
            driver.do("wake", "lost")
            assert store.exists("rollouts/part-000001-w0-000001.json"), "its sidecar is there"
        else:
            os.kill(driver.child.pid, signal.SIGSTOP)
            lease = take_over(store)
            os.kill(driver.child.pid, signal.SIGCONT)
            driver.do("commit", "lost")
        assert ids(store) == []
        put(store, lease, "p")
        assert ids(store) == ["p"]
        assert problem_states(iter_sidecars(store, "rollouts"))["p"].shard == "part-000002-w0-000001"
        driver.kill()
    assert "part-000001-w0-000001.parquet" in sweep(store, "rollouts", lease)
    assert store.names("rollouts") == ["part-000002-w0-000001.json", "part-000002-w0-000001.parquet"]


def test_a_commit_that_is_overtaken_says_so(store: Store, lease: Lease) -> None:
    class Overtaken(Store):
        def put(self, path: str, data: bytes) -> None:
            super().put(path, data)
            take_over(Store(self.url))

    written = write(rollouts(store, lease), "a")
    with pytest.raises(LeaseLost):
        commit(Overtaken(store.url), lease, written, config_digest="c")
    assert ids(store) == ["a"], "it was committed before the takeover, which counts it"


# Reading


def test_columns_can_be_chosen(store: Store, lease: Lease) -> None:
    sidecar = put(store, lease, "a")
    assert list(iter_rows(store, "rollouts", ["problem_id", "tries"])) == [{"problem_id": "a", "tries": 1}]
    assert read(store, sidecar, ["solved"]).to_pylist() == [{"solved": True}]
    [row] = current_rows(store, ["solved"])
    assert row == {"problem_id": "a", "solved": True}


def test_rows_are_read_a_few_at_a_time(store: Store, lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "READ_ROWS", 2)
    put(store, lease, *"abcde")
    assert ids(store) == list("abcde")


@pytest.mark.parametrize("kind", ["lost", "short", "other bytes"])
def test_a_damaged_shard_is_not_read(store: Store, lease: Lease, kind: str) -> None:
    sidecar = put(store, lease, "a")
    good = store.read(sidecar.path)
    if kind == "lost":
        store.delete(sidecar.path)
    else:
        store.put(sidecar.path, good[:-1] if kind == "short" else bytes(len(good)))
    for act in (lambda: read(store, sidecar), lambda: ids(store), lambda: list(current_rows(store))):
        with pytest.raises(CorruptShard, match=sidecar.name):
            act()


def test_a_flipped_bit_is_found_on_request(store: Store, lease: Lease) -> None:
    sidecar = put(store, lease, "a")
    good = store.read(sidecar.path)
    assert read(store, sidecar, verify=True).num_rows == 1
    store.put(sidecar.path, good[:100] + bytes([good[100] ^ 1]) + good[101:])
    with pytest.raises(CorruptShard, match="has not the bytes that were committed"):
        read(store, sidecar, verify=True)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'"x"', b"\xff", b'{"entries": [{}]}', b'{"entries": [1]}', b'{"entries": {}}']
)
def test_an_unreadable_sidecar_stops_readers(store: Store, lease: Lease, content: bytes) -> None:
    sidecar = put(store, lease, "a")
    store.put(f"rollouts/{sidecar.name}.json", content)
    with pytest.raises(CorruptShard, match=rf"{sidecar.name}.json is no sidecar"):
        sidecars(store, "rollouts")


def test_a_sidecar_belongs_to_its_file(store: Store, lease: Lease) -> None:
    sidecar = put(store, lease, "a")
    data = store.read(f"rollouts/{sidecar.name}.json")
    assert parse_sidecar(data, "rollouts", sidecar.name) == sidecar
    with pytest.raises(CorruptShard, match="is the sidecar of rollouts/part-000001-w0-000001"):
        parse_sidecar(data, "rollouts", "part-000001-w0-000002")


def test_a_committed_sidecar_that_is_lost_stops_readers(store: Store, lease: Lease) -> None:
    sidecar = put(store, lease, "a")
    lease.release()
    acquire(store)
    store.delete(f"rollouts/{sidecar.name}.json")
    with pytest.raises(CorruptShard, match="is lost"):
        sidecars(store, "rollouts")


def test_another_schema_version_is_refused(store: Store, lease: Lease) -> None:
    sidecar = replace(put(store, lease, "a"), schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(StorageError, match=f"schema version {SCHEMA_VERSION + 1}"):
        read(store, sidecar)


# Superseding


def made_sidecar(
    name: str, commit: int, *entries: Entry, epoch: int = 1, tries: dict[str, int] | None = None
) -> Sidecar:
    return Sidecar("rollouts", name, len(entries), 1, "", 1, "c", epoch, commit, None, entries, tries or {})


def test_a_later_row_supersedes_an_error_in_whatever_order_they_are_read() -> None:
    shards = [
        made_sidecar("z", 1, Entry("p", "error", "one"), Entry("q", "error", "one")),
        made_sidecar("y", 2, Entry("p", "error", "two"), Entry("q", "error", "two")),
        made_sidecar("a", 1, Entry("p", "solved"), epoch=2),
    ]
    for order in permutations(shards):
        assert problem_states(order) == {
            "p": State("solved", None, 0, "a", (2, 1)),
            "q": State("error", "two", 0, "y", (1, 2)),
        }


def test_two_results_of_a_problem_are_corruption() -> None:
    with pytest.raises(CorruptShard, match="problem p is committed twice: in a and in b"):
        problem_states([made_sidecar("a", 1, Entry("p", "solved")), made_sidecar("b", 2, Entry("p", "unsolved"))])


def test_tries_add_up_over_the_life_of_the_run() -> None:
    states = problem_states(
        [
            made_sidecar("a", 1, Entry("p", "error", "x"), tries={"p": 2, "q": 1}),
            made_sidecar("b", 1, Entry("p", "solved"), epoch=2, tries={"p": 1}),
        ]
    )
    assert states == {"p": State("solved", None, 3, "b", (2, 1)), "q": State(None, None, 1, None, (0, 0))}


def test_states_are_small() -> None:
    entries = [Entry(f"{number:020d}", "solved", None, {"generated_tokens": number}) for number in range(256)]
    states = problem_states([made_sidecar("a", 1, *entries)])
    assert len({id(state) for state in states.values()}) == 1


def test_current_rows_leave_out_superseded_errors(store: Store, lease: Lease) -> None:
    put(store, lease, "p", "q", status="error")
    put(store, lease, "p", status="solved")
    put(store, lease, "q", status="error")
    put(store, lease, "r")
    assert sorted(ids(store)) == ["p", "p", "q", "q", "r"]
    found = {row["problem_id"]: row_tree(row) for row in current_rows(store)}
    assert found == {
        "p": make_tree("p", Outcome.PASS),
        "q": make_tree("q", Outcome.PASS, error="EngineError: gone"),
        "r": make_tree("r", Outcome.PASS),
    }
    assert len(list(current_rows(store))) == 3


# Tidying


def test_sweep_takes_what_does_not_count_and_nothing_else(store: Store, lease: Lease) -> None:
    kept = put(store, lease, "a")
    orphan = write(rollouts(store, lease, "w1"), "b")
    for path in ("rollouts/notes.txt", "rollouts/.gitignore", "rollouts/.part-000001-w2-000001.parquet.ab12.tmp"):
        store.put(path, b"x")
    second = take_over(store)
    fresh = write(rollouts(store, second), "c")
    assert sweep(store, "rollouts", second) == [".part-000001-w2-000001.parquet.ab12.tmp", f"{orphan.name}.parquet"]
    assert store.names("rollouts") == [
        "notes.txt",
        f"{kept.name}.json",
        f"{kept.name}.parquet",
        f"{fresh.name}.parquet",
    ]
    assert sweep(store, "rollouts", second) == []
    with pytest.raises(LeaseLost):
        sweep(store, "rollouts", lease)


def test_the_journal_forgets_what_is_dropped(store: Store, lease: Lease) -> None:
    names = [
        commit(store, lease, write(rollouts(store, lease, table="journal"), id, status="open"), config_digest="c").name
        for id in "ab"
    ]
    lease.release()
    second = acquire(store)
    drop_journal(store, second, names[:1])
    assert [sidecar.name for sidecar in sidecars(store, "journal")] == names[1:]
    assert store.names("journal") == [f"{names[1]}.json", f"{names[1]}.parquet"]
    assert ids(store, "journal") == ["b"]
    with pytest.raises(LeaseLost):
        drop_journal(store, lease, names)


def test_the_whole_protocol_on_an_object_store() -> None:
    store = Store(f"memory://{uuid4().hex}")
    lease = acquire(store)
    put(store, lease, "p", "q", status="error")
    late = write(rollouts(store, lease), "late")
    second = take_over(store)
    with pytest.raises(LeaseLost):
        commit(store, lease, late, config_digest="c")
    put(store, second, "p", status="solved")
    trees: list[Tree] = [row_tree(row) for row in current_rows(store)]
    assert sorted(tree.problem.id for tree in trees) == ["p", "q"]
    assert sweep(store, "rollouts", second) == [f"{late.name}.parquet"]
