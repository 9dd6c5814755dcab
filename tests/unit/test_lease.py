"""One driver owns a run, a dead one is replaced, and what a former one commits later does not count."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import pytest

from factory.errors import LeaseLost, RunOwned, StorageError
from factory.lease import JOURNAL, TTL, LeaseRecord, acquire, latest, part_epoch, part_name, refuse_if_owned, tables
from factory.store import Store

ROOT = Path(__file__).parents[2]
RACES, RACERS = 10, 4

# Owns the run in the folder until it is killed.
OWNER = """
import sys
from factory.lease import acquire
from factory.store import Store
acquire(Store(sys.argv[1]))
print("owned", flush=True)
sys.stdin.read()
"""


class Clock:
    """Unix time that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sidecar(store: Store, table: str, epoch: int, sequence: int = 1) -> str:
    """Put something that by its name is a sidecar."""
    name = part_name(epoch, "w0", sequence)
    store.put(f"{table}/{name}.json", b"{}")
    return name


def newest(store: Store) -> LeaseRecord:
    record = latest(store)
    assert record is not None
    return record


def rewrite(store: Store, record: LeaseRecord) -> None:
    store.put(f"lease/{record.epoch:06d}.json", json.dumps(asdict(record)).encode())


def test_nobody_owns_a_new_run(store: Store) -> None:
    assert latest(store) is None


def test_the_first_owner_is_epoch_one(store: Store, clock: Clock) -> None:
    lease = acquire(store, now=clock)
    record = newest(store)
    assert record == lease.record
    assert (record.epoch, record.pid, record.released, record.counts) == (1, os.getpid(), False, {})
    assert record.created == record.heartbeat == clock.time
    assert store.names("lease") == ["000001.json"]
    lease.verify()


def test_a_live_owner_is_not_replaced(store: Store, clock: Clock) -> None:
    acquire(store, now=clock)
    clock.time += TTL - 1
    with pytest.raises(RunOwned, match=rf"process {os.getpid()} on \S+, alive 29 s ago") as caught:
        acquire(store, now=clock)
    assert "\n" not in str(caught.value)
    assert store.url in str(caught.value)
    assert store.names("lease") == ["000001.json"]


def test_a_heartbeat_keeps_the_run(store: Store, clock: Clock) -> None:
    lease = acquire(store, now=clock)
    for _ in range(3):
        clock.time += TTL - 1
        lease.heartbeat()
        with pytest.raises(RunOwned):
            acquire(store, now=clock)
    assert newest(store).heartbeat == clock.time


def test_a_silent_owner_is_replaced_and_learns_of_it(store: Store, clock: Clock) -> None:
    old = acquire(store, now=clock)
    clock.time += TTL
    new = acquire(store, now=clock)
    assert new.epoch == 2
    new.verify()
    for act in (old.verify, old.heartbeat):
        with pytest.raises(LeaseLost, match="epoch 1"):
            act()
    assert newest(store).epoch == 2


def test_a_released_run_is_free_at_once(store: Store, clock: Clock) -> None:
    lease = acquire(store, now=clock)
    lease.release()
    lease.release()
    for act in (lease.verify, lease.heartbeat):
        with pytest.raises(LeaseLost, match="given back"):
            act()
    assert acquire(store, now=clock).epoch == 2


def test_a_late_release_does_no_harm(store: Store, clock: Clock) -> None:
    old = acquire(store, now=clock)
    clock.time += TTL
    new = acquire(store, now=clock)
    old.release()
    new.verify()
    assert newest(store) == new.record


def test_a_killed_owner_is_replaced_at_once(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"owned\n"
        with pytest.raises(RunOwned, match=f"process {child.pid} "):
            acquire(store)
        child.send_signal(signal.SIGKILL)
        # Not waited for: `waitid` returns once it is dead and leaves it a zombie, as a parent that is busy would.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert acquire(store).epoch == 2
    assert newest(store).pid == os.getpid()


def test_a_process_id_that_is_anothers_by_now_is_no_sign_of_life(store: Store, clock: Clock) -> None:
    rewrite(store, replace(acquire(store, now=clock).record, started="1"))
    assert acquire(store, now=clock).epoch == 2


def test_a_process_id_of_another_machine_says_nothing(store: Store, clock: Clock) -> None:
    rewrite(store, replace(acquire(store, now=clock).record, machine="elsewhere", pid=2**22 + 1, started="1"))
    with pytest.raises(RunOwned):
        acquire(store, now=clock)
    clock.time += TTL
    assert acquire(store, now=clock).epoch == 2


def test_the_loser_of_a_race_is_told_who_won(tmp_path: Path, clock: Clock) -> None:
    class Slow(Store):
        """Another driver is faster, every time."""

        def create(self, path: str, data: bytes) -> bool:
            acquire(Store(self.url), now=clock)
            return super().create(path, data)

    with pytest.raises(RunOwned, match=f"process {os.getpid()} "):
        acquire(Slow(str(tmp_path)), now=clock)
    assert newest(Store(str(tmp_path))).epoch == 1


def test_a_driver_that_came_meanwhile_is_not_passed(tmp_path: Path, clock: Clock) -> None:
    class Late(Store):
        """Another driver comes right after the first look at the leases."""

        def names(self, folder: str) -> list[str]:
            found = super().names(folder)
            if not super().names(folder):
                acquire(Store(self.url), now=clock)
            return found

    with pytest.raises(RunOwned):
        acquire(Late(str(tmp_path)), now=clock)
    assert newest(Store(str(tmp_path))).epoch == 1


def test_a_look_takes_nothing(store: Store, clock: Clock) -> None:
    refuse_if_owned(store, now=clock)
    assert latest(store) is None
    acquire(store, now=clock)
    with pytest.raises(RunOwned):
        refuse_if_owned(store, now=clock)
    clock.time += TTL
    refuse_if_owned(store, now=clock)
    assert newest(store).epoch == 1


def race(urls: list[str], start: threading.Barrier) -> list[str]:
    """Try to own each of the runs at the same moment as others do."""
    return [attempt(Store(url), start) for url in urls]


def attempt(store: Store, start: threading.Barrier) -> str:
    start.wait()
    try:
        return f"epoch {acquire(store).epoch}"
    except RunOwned:
        return "owned"
    finally:
        start.wait()  # nobody dies, and so gives way, before all have tried


@pytest.mark.parametrize("takeover", [False, True], ids=["new", "takeover"])
def test_of_many_processes_one_wins(tmp_path: Path, *, takeover: bool) -> None:
    urls = [str(tmp_path / str(number)) for number in range(RACES)]
    if takeover:
        for url in urls:
            acquire(Store(url)).release()
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(RACERS) as pool:
        outcomes = pool.starmap(race, [(urls, manager.Barrier(RACERS))] * RACERS, chunksize=1)
    for tried in zip(*outcomes, strict=True):
        assert sorted(tried) == [f"epoch {1 + takeover}"] + ["owned"] * (RACERS - 1)


def test_what_was_committed_counts_for_good(store: Store, clock: Clock) -> None:
    acquire(store, now=clock)
    first, made = sidecar(store, "rollouts", 1), sidecar(store, "transcripts/d", 1)
    for epoch in (2, 3):
        clock.time += TTL
        acquire(store, now=clock)
        sidecar(store, "rollouts", epoch)
    record = newest(store)
    assert record.counts == {"rollouts": (first, part_name(2, "w0", 1)), "transcripts/d": (made,)}
    present = [part_name(epoch, "w0", 1) for epoch in (1, 2, 3)]
    assert record.counting("rollouts", present) == present


def test_what_a_former_owner_commits_later_never_counts(store: Store, clock: Clock) -> None:
    acquire(store, now=clock)
    clock.time += TTL
    acquire(store, now=clock)
    late = sidecar(store, "rollouts", 1)
    assert newest(store).counting("rollouts", [late]) == []
    clock.time += TTL
    acquire(store, now=clock)
    assert newest(store).counting("rollouts", [late]) == []
    assert newest(store).counts == {}


def test_a_commit_just_before_a_takeover_counts(tmp_path: Path, clock: Clock) -> None:
    class Late(Store):
        """The former owner commits after it was looked at, and before the new lease is there."""

        def create(self, path: str, data: bytes) -> bool:
            sidecar(Store(self.url), "rollouts", 1)
            return super().create(path, data)

    acquire(Store(str(tmp_path)), now=clock)
    clock.time += TTL
    lease = acquire(Late(str(tmp_path)), now=clock)
    assert newest(lease.store).counts == lease.record.counts == {"rollouts": (part_name(1, "w0", 1),)}


def test_a_lost_sidecar_is_remembered_except_in_the_journal(store: Store, clock: Clock) -> None:
    acquire(store, now=clock)
    lost = sidecar(store, "rollouts", 1)
    sidecar(store, JOURNAL, 1)
    for _ in range(2):
        clock.time += TTL
        acquire(store, now=clock)
        store.delete(f"rollouts/{lost}.json")
        store.delete(f"{JOURNAL}/{lost}.json")
    record = newest(store)
    assert record.counting("rollouts", []) == [lost]
    assert record.counting(JOURNAL, []) == []


def test_commit_numbers_rise(store: Store) -> None:
    lease = acquire(store)
    assert [lease.commit_number() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"counts": {}, "epoch": 1}', b'{"counts": 3}'])
def test_a_broken_lease_is_one_line(store: Store, content: bytes) -> None:
    store.put("lease/000001.json", content)
    for act in (latest, acquire):
        with pytest.raises(StorageError, match=r"lease/000001.json is no lease") as caught:
            act(store)
        assert "\n" not in str(caught.value)


def test_other_files_beside_the_leases_are_no_leases(store: Store) -> None:
    store.put("lease/notes.json", b"x")
    assert latest(store) is None
    assert acquire(store).epoch == 1


def test_an_object_store_works_alike(clock: Clock) -> None:
    store = Store(f"memory://{uuid4().hex}")
    old = acquire(store, now=clock)
    with pytest.raises(RunOwned):
        acquire(store, now=clock)
    clock.time += TTL
    assert acquire(store, now=clock).epoch == 2
    with pytest.raises(LeaseLost):
        old.verify()


def test_the_tables_of_a_run(store: Store) -> None:
    assert tables(store) == ["rollouts", "journal"]
    sidecar(store, "transcripts/b", 1)
    sidecar(store, "rejected/b", 1)
    assert tables(store) == ["rollouts", "journal", "transcripts/b", "rejected/b"]


def test_names_of_shards() -> None:
    assert part_name(3, "node-1_a", 12) == "part-000003-node-1_a-000012"
    assert part_epoch("part-000003-node-1_a-000012") == 3
    assert part_epoch("part-1000000-w-1000000") == 1_000_000
    for other in ("README", "part-x-w-1", "part-000001-w0-000001.parquet", ""):
        assert part_epoch(other) is None
    for writer in ("", "a b", "a/b", "a.b", "a*"):
        with pytest.raises(ValueError, match="letters"):
            part_name(1, writer, 1)
