"""A check names whatever is not as it was committed, and finds nothing wrong with what is."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory.check import Report, check
from factory.errors import StorageError
from factory.lease import Lease, acquire
from factory.rows import REJECTED, ROLLOUTS, SCHEMA_VERSION, Row, transcript_row
from factory.shards import ShardWriter, Sidecar, commit, dump_sidecar, parse_sidecar, sidecar_path
from factory.store import Store
from factory.types import Outcome
from tests.unit.test_rows import make_row, make_transcript, make_tree
from tests.unit.test_runs import FIRST, SECOND, commit_transcripts, commit_trees, make_run, refined

ONE, TWO = "part-000001-w0-000001", "part-000001-w0-000002"
ROLLOUT = f"rollouts/{ONE}"
KEPT = f"transcripts/d1/{ONE}"
REFUSED = f"rejected/d1/{ONE}"


@pytest.fixture
def run(tmp_path: Path) -> tuple[Store, Lease]:
    return make_run(str(tmp_path / "run"))


@pytest.fixture
def store(run: tuple[Store, Lease]) -> Store:
    return run[0]


@pytest.fixture
def lease(run: tuple[Store, Lease]) -> Lease:
    return run[1]


def split(path: str) -> tuple[str, str]:
    table, _, name = path.rpartition("/")
    return table, name


def change_sidecar(store: Store, path: str, change: Callable[[Sidecar], Sidecar]) -> None:
    table, name = split(path)
    sidecar = parse_sidecar(store.read(sidecar_path(table, name)), table, name)
    store.put(sidecar_path(table, name), dump_sidecar(change(sidecar)))


def put_table(store: Store, path: str, table: pa.Table) -> None:
    """Replace a shard's rows by others, as if they had been committed."""
    file = io.BytesIO()
    pq.write_table(table, file)
    data = file.getvalue()
    store.put(f"{path}.parquet", data)
    digest = hashlib.sha256(data).hexdigest()
    change_sidecar(store, path, lambda old: replace(old, rows=table.num_rows, bytes=len(data), sha256=digest))


def change_rows(store: Store, path: str, change: Callable[[list[Row]], list[Row]]) -> None:
    table = pq.read_table(io.BytesIO(store.read(f"{path}.parquet")))
    put_table(store, path, pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema))


def change_first(**columns: object) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [rows[0] | columns, *rows[1:]]


def errors(store: Store, number: int = 1) -> str:
    """The errors of a check, that many of them, in lines."""
    found = check(store.url).errors
    assert len(found) == number, found
    assert not any("\n" in error for error in found)
    return "\n".join(found)


def test_nothing_is_wrong_with_a_good_run(store: Store) -> None:
    report = check(store.url)
    assert report.ok
    assert report == Report([], [], report.counts)
    assert {table: (count["shards"], count["rows"], count["orphans"]) for table, count in report.counts.items()} == {
        "rollouts": (2, 5, 0),
        "journal": (0, 0, 0),
        "transcripts/d1": (2, 4, 0),
        "rejected/d1": (2, 2, 0),
    }
    assert json.loads(json.dumps(asdict(report))) == asdict(report)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is no run folder"):
        check(str(tmp_path))


def test_a_run_that_nobody_owned(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    report = check(str(tmp_path))
    assert report.ok
    assert report.notes == ["nobody has owned this run yet: nothing is committed"]


@pytest.mark.parametrize("path", [ROLLOUT, KEPT, REFUSED])
def test_a_lost_file(store: Store, path: str) -> None:
    store.delete(f"{path}.parquet")
    assert errors(store) == f"{path}.parquet: the file is lost"


@pytest.mark.parametrize("path", [ROLLOUT, KEPT, REFUSED])
def test_a_truncated_file(store: Store, path: str) -> None:
    data = store.read(f"{path}.parquet")
    store.put(f"{path}.parquet", data[:-7])
    assert errors(store) == f"{path}.parquet: {len(data) - 7} bytes, the sidecar says {len(data)}"


@pytest.mark.parametrize("path", [ROLLOUT, KEPT, REFUSED])
@pytest.mark.parametrize("place", [0, 200, -1])
def test_a_flipped_bit(store: Store, path: str, place: int) -> None:
    data = bytearray(store.read(f"{path}.parquet"))
    data[place] ^= 1
    store.put(f"{path}.parquet", bytes(data))
    assert errors(store) == f"{path}.parquet: its SHA-256 is not the sidecar's"


def test_a_file_that_never_was_parquet(store: Store) -> None:
    store.put(f"{KEPT}.parquet", b"junk")
    digest = hashlib.sha256(b"junk").hexdigest()
    change_sidecar(store, KEPT, lambda old: replace(old, bytes=4, sha256=digest))
    assert f"{KEPT}.parquet: is not readable as Parquet" in errors(store)


def test_an_unreadable_sidecar(store: Store) -> None:
    store.put(f"{KEPT}.json", b'{"table": ')
    assert f"{KEPT}.json is no sidecar" in errors(store, 2)
    assert f"README.md names {KEPT}.parquet, which is not committed" in errors(store, 2)


def test_a_sidecar_of_another_shard(store: Store) -> None:
    store.put(f"rejected/d1/{ONE}.json", store.read(f"rejected/d1/{TWO}.json"))
    assert f"rejected/d1/{ONE}.json is the sidecar of rejected/d1/{TWO}.parquet" in errors(store, 2)


def test_a_lost_sidecar(store: Store, lease: Lease) -> None:
    lease.release()
    acquire(store)
    store.delete(f"rejected/d1/{ONE}.json")
    assert f"rejected/d1/{ONE}.json is lost: it was committed before" in errors(store, 2)


def test_a_wrong_number_of_rows(store: Store) -> None:
    change_sidecar(store, ROLLOUT, lambda old: replace(old, rows=7))
    assert errors(store) == f"{ROLLOUT}.parquet: 3 rows, the sidecar says 7"


@pytest.mark.parametrize("place", ["file", "sidecar"])
def test_another_schema_version(store: Store, place: str) -> None:
    if place == "sidecar":
        change_sidecar(store, REFUSED, lambda old: replace(old, schema_version=99))
    else:
        table = pq.read_table(io.BytesIO(store.read(f"{REFUSED}.parquet")))
        put_table(store, REFUSED, table.replace_schema_metadata({"schema_version": "99"}))
    assert f"{REFUSED}.parquet: schema versions differ" in errors(store)
    assert f"99 in the {place}" in errors(store)
    assert f"{SCHEMA_VERSION} here" in errors(store)


def test_another_schema(store: Store) -> None:
    table = pq.read_table(io.BytesIO(store.read(f"{REFUSED}.parquet")))
    put_table(store, REFUSED, table.drop_columns(["leaf"]))
    assert errors(store) == f"{REFUSED}.parquet: its schema is not that of the table: leaf"
    put_table(store, REFUSED, table.set_column(2, "leaf", pa.array(["x"] * table.num_rows)))
    assert errors(store) == f"{REFUSED}.parquet: its schema is not that of the table: leaf"
    put_table(store, REFUSED, table.select(table.column_names[::-1]))
    assert errors(store) == f"{REFUSED}.parquet: its schema is not that of the table: the order of columns"


def test_rows_out_of_order(store: Store) -> None:
    change_rows(store, ROLLOUT, lambda rows: rows[::-1])
    assert errors(store) == f"{ROLLOUT}.parquet: rows are not sorted by problem_id, or one is there twice"


def test_a_row_that_is_there_twice(store: Store) -> None:
    change_rows(store, ROLLOUT, lambda rows: [rows[0], *rows])
    assert errors(store) == f"{ROLLOUT}.parquet: rows are not sorted by problem_id, or one is there twice"


def test_problems_that_are_not_those_of_the_sidecar(store: Store) -> None:
    change_sidecar(store, ROLLOUT, lambda old: replace(old, entries=old.entries[:2]))
    assert f"{ROLLOUT}.parquet: its problems are not those of the sidecar" in errors(store, 2)


def test_a_sidecar_that_hides_an_error(store: Store) -> None:
    change_sidecar(
        store,
        f"rollouts/{TWO}",
        lambda old: replace(old, entries=(old.entries[0], replace(old.entries[1], status="unsolved", error=None))),
    )
    assert errors(store) == f"rollouts/{TWO}.parquet: problem p4: row and sidecar disagree whether it failed"


def test_a_row_that_is_no_tree(store: Store) -> None:
    change_rows(store, f"rollouts/{TWO}", change_first(stop="bored"))
    assert f"rollouts/{TWO}.parquet: a row is no tree: ValueError: 'bored'" in errors(store)


def test_a_problem_that_is_committed_twice(store: Store, lease: Lease) -> None:
    commit_trees(store, lease, [make_tree("p2", Outcome.FAIL)])
    [error] = check(store.url).errors
    assert error == f"problem p2 is committed twice: {ROLLOUT}.parquet, then rollouts/part-000001-w0-000003.parquet"


def test_an_error_after_a_result(store: Store, lease: Lease) -> None:
    commit_trees(store, lease, [make_tree("p2", error="E: late")])
    assert "problem p2 is committed twice" in errors(store)


def test_an_error_after_an_error_is_right(store: Store, lease: Lease) -> None:
    commit_trees(store, lease, [make_tree("p4", error="E: third")])
    report = check(store.url)
    assert report.ok
    assert report.notes == ["1 shards of rollouts are not in the current refinement yet: refine again"]


def test_a_refined_shard_whose_source_is_not_committed(store: Store, lease: Lease) -> None:
    commit_transcripts(store, lease, "part-000001-w8-000001", [make_transcript("p1", 1)], digest="d2")
    assert "made from part-000001-w8-000001, which is no committed shard of rollouts" in errors(store)
    change_sidecar(store, f"transcripts/d2/{ONE}", lambda old: replace(old, source=None))
    assert f"transcripts/d2/{ONE}.parquet: made from None, which is no" in errors(store, 2)


def test_a_right_leaf_that_became_nothing(store: Store, lease: Lease) -> None:
    some = [one for one in refined(FIRST) if one.leaf != 1 or one.problem.id != "p1"]
    commit_transcripts(store, lease, ONE, some, digest="d2")
    assert errors(store) == f"refinement d2 of {ONE}: right leaf 1 of problem p1 has no row"


def test_a_right_leaf_may_be_rejected(store: Store, lease: Lease) -> None:
    commit_transcripts(store, lease, ONE, [make_transcript("p1", 1, rejection="duplicate")], digest="d2")
    assert check(store.url).ok


def test_a_refinement_that_was_killed_between_its_two_tables(store: Store, lease: Lease) -> None:
    written = ShardWriter(store, "rejected/d2", REJECTED, lease.epoch, "w0").flush(empty=True)
    assert written is not None
    commit(store, lease, written, config_digest="c", source=ONE)
    assert check(store.url).ok


def test_a_card_that_is_older_than_a_shard(store: Store, lease: Lease) -> None:
    commit_trees(store, lease, [make_tree("p9", Outcome.FAIL)])
    commit_transcripts(store, lease, "part-000001-w0-000003", [])
    report = check(store.url)
    assert report.ok
    assert any("README.md is older than" in note for note in report.notes)


def test_a_transcript_of_another_shards_problem(store: Store, lease: Lease) -> None:
    commit_transcripts(store, lease, TWO, refined([*SECOND, FIRST[0]]), digest="d2")
    assert "ends with leaf 1 of problem p1, which its source has not" in errors(store, 3)


def test_a_transcript_of_a_leaf_that_is_not_there(store: Store, lease: Lease) -> None:
    commit_transcripts(store, lease, TWO, [*refined(SECOND), make_transcript("p3", 9)], digest="d2")
    assert "transcript p3-9-full ends with leaf 9 of problem p3" in errors(store)


def test_a_transcript_that_is_there_twice(store: Store, lease: Lease) -> None:
    commit_transcripts(store, lease, TWO, refined(SECOND), digest="d2")
    commit_transcripts(store, lease, TWO, [make_transcript("p3", 1)], digest="d2")
    assert errors(store) == f"refinement d2 of {TWO}: transcript p3-1-full is there 2 times"


def test_a_transcript_that_is_not_right(store: Store) -> None:
    wrong = transcript_row(make_transcript("p1", 1, rejection="x"))["verdicts"]
    nothing: list[Row] = []
    for verdicts in (wrong, nothing):
        change_rows(store, KEPT, change_first(verdicts=verdicts))
        assert "transcript p1-1-full is kept, and its verdicts do not say that it is right" in errors(store)


@pytest.mark.parametrize(
    "columns", [{"completion": [{"role": "assistant", "content": "x"}]}, {"split": "other"}, {"characters_kept": 1}]
)
def test_a_transcript_that_contradicts_itself(store: Store, columns: dict[str, object]) -> None:
    change_rows(store, KEPT, change_first(**columns))
    assert "transcript p1-1-full contradicts itself" in errors(store)


def test_a_row_that_is_no_transcript(store: Store) -> None:
    change_rows(store, KEPT, change_first(checks="{"))
    assert "transcript p1-1-full is no transcript" in errors(store)


def test_a_card_that_names_other_files(store: Store) -> None:
    card = store.read("README.md").decode()
    store.put("README.md", card.replace(f"    - {KEPT}.parquet\n", "    - transcripts/d1/stray.parquet\n").encode())
    assert errors(store, 2).splitlines() == [
        "README.md names transcripts/d1/stray.parquet, which is not committed",
        f"README.md does not name {KEPT}.parquet, which is committed: refine again to rewrite it",
    ]


def test_a_broken_card(store: Store) -> None:
    store.put("README.md", b"# mine")
    assert "README.md is no card of a run" in errors(store)


def test_a_run_without_a_card(store: Store) -> None:
    store.delete("README.md")
    report = check(store.url)
    assert report.ok
    assert report.notes == ["there is no dataset card: this run was never refined"]


def test_orphans_are_notes(store: Store, lease: Lease) -> None:
    lease.release()
    acquire(store)
    for path in (f"rollouts/{ONE}.json", f"rollouts/{ONE}.parquet"):
        store.put(path.replace("w0", "w1"), store.read(path))
    store.put("rejected/d1/.part-000002-w0-000001.parquet.ab.tmp", b"x")
    store.put("rollouts/notes.txt", b"x")
    report = check(store.url)
    assert report.ok
    assert report.notes == [
        "rollouts: 2 files do not count: part-000001-w1-000001.json, part-000001-w1-000001.parquet",
        "rejected/d1: 1 files do not count: .part-000002-w0-000001.parquet.ab.tmp",
    ]
    assert report.counts["rollouts"]["orphans"] == 2


def test_many_orphans_are_one_note(store: Store) -> None:
    for number in range(9):
        store.put(f"rollouts/part-000001-w1-{number:06d}.parquet", b"x")
    [note] = check(store.url).notes
    assert note.startswith("rollouts: 9 files do not count: ")
    assert note.endswith(" and 4 more")


def test_the_journal_is_checked_too(store: Store, lease: Lease) -> None:
    sidecar = commit_trees(store, lease, [make_tree("p8", Outcome.FAIL)], table="journal")
    assert check(store.url).ok
    good = store.read(sidecar.path)
    store.put(sidecar.path, good[:-1])
    assert f"{sidecar.path}: {len(good) - 1} bytes" in errors(store)


def test_a_journal_that_is_tidied_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, lease = make_run(str(tmp_path))
    sidecar = commit_trees(store, lease, [make_tree("p8", Outcome.FAIL)], table="journal")
    read = Store.read

    def dropping(self: Store, path: str) -> bytes:
        if path == sidecar.path:
            self.delete(sidecar_path("journal", sidecar.name))
            self.delete(path)
        return read(self, path)

    monkeypatch.setattr(Store, "read", dropping)
    assert check(store.url).ok


def test_replacing_rows_by_the_same_is_no_damage(store: Store) -> None:
    put_table(store, ROLLOUT, pa.Table.from_pylist([make_row(tree) for tree in FIRST], schema=ROLLOUTS))
    assert check(store.url).ok
