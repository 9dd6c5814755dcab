"""Reading a run gives what is committed, as nouns. Also home of the small finished run that the tests of checks and
cards start from."""

import json
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

import duckdb
import pytest

import factory
from factory.card import Summary, write_card
from factory.errors import StorageError
from factory.lease import Lease, acquire
from factory.rows import REJECTED, ROLLOUTS, TRANSCRIPTS, transcript_row
from factory.runs import Run, open_run
from factory.shards import Entry, ShardWriter, Sidecar, Status, commit
from factory.store import Store
from factory.types import Outcome, Transcript, Tree
from tests.unit.test_rows import make_row, make_transcript, make_tree

CONFIG = {
    "recipe": {
        "source": {"kind": "made", "count": 3},
        "engines": {
            "teacher": {"kind": "openai", "model": "big|teacher", "base_url": "http://secret.example"},
            "judge": {"kind": "openai", "model": "strict", "base_url": "http://secret.example"},
        },
        "sampling": {"temperature": 0.7},
        "search": {"kind": "best_of_n", "n": 2},
        "run": {"address": "ray://head"},
    },
    "model_digests": {"teacher": "served:big"},
}
FIRST = [make_tree("p1", Outcome.PASS, Outcome.FAIL), make_tree("p2", Outcome.FAIL), make_tree("p3", error="E: gone")]
SECOND = [make_tree("p3", Outcome.PASS), make_tree("p4", error="E: again")]
SUMMARY: Summary = {"problems": 4, "solved": 2, "rejected": {"wrong_answer": 2}}


def commit_trees(store: Store, lease: Lease, trees: Iterable[Tree], table: str = "rollouts") -> Sidecar:
    writer = ShardWriter(store, table, ROLLOUTS, lease.epoch, "w0")
    for tree in trees:
        status: Status = "error" if tree.error else "solved" if make_row(tree)["solved"] else "unsolved"
        writer.add(make_row(tree), Entry(tree.problem.id, status, tree.error))
    written = writer.flush()
    assert written is not None
    return commit(store, lease, written, config_digest="c")


def refined(trees: Iterable[Tree]) -> list[Transcript]:
    """Every leaf as a transcript, right ones kept in two variants."""
    made: list[Transcript] = []
    for tree in trees:
        for leaf in () if tree.error else tree.leaves():
            if leaf.outcome is Outcome.PASS:
                made += [make_transcript(tree.problem.id, leaf.id, variant) for variant in ("full", "pruned")]
            else:
                made.append(make_transcript(tree.problem.id, leaf.id, rejection="wrong_answer"))
    return made


def commit_transcripts(
    store: Store, lease: Lease, source: str, transcripts: Iterable[Transcript], digest: str = "d1"
) -> list[Sidecar]:
    """The two shards that refining one shard makes."""
    kept = ShardWriter(store, f"transcripts/{digest}", TRANSCRIPTS, lease.epoch, "w0")
    refused = ShardWriter(store, f"rejected/{digest}", REJECTED, lease.epoch, "w0")
    for one in transcripts:
        writer = kept if one.rejection is None else refused
        writer.add(transcript_row(one), Entry(one.problem.id, "solved"))
    written = [writer.flush(empty=True) for writer in (kept, refused)]
    return [commit(store, lease, one, config_digest=digest, source=source) for one in written if one]


def make_run(url: str) -> tuple[Store, Lease]:
    """A run of two shards and one refinement; p3 failed first, p4 failed for good. Its lease is held."""
    store = Store(url)
    lease = acquire(store)
    store.put("config.json", json.dumps(CONFIG).encode())
    for trees in (FIRST, SECOND):
        commit_transcripts(store, lease, commit_trees(store, lease, trees).name, refined(trees))
    write_card(store, refinement="d1", config=CONFIG, summary=SUMMARY)
    return store, lease


@pytest.fixture(params=["local", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    url = str(tmp_path / "run") if request.param == "local" else f"memory://{uuid4().hex}"
    make_run(url)
    return open_run(url)


def test_it_is_the_one_name_of_the_package() -> None:
    assert factory.open_run is open_run


def test_the_current_trees(run: Run) -> None:
    assert list(run.rollouts()) == [FIRST[0], FIRST[1], SECOND[0], SECOND[1]]


def test_one_tree(run: Run) -> None:
    assert run.tree("p1") == FIRST[0]
    assert run.tree("p3") == SECOND[0]
    with pytest.raises(KeyError, match="p5"):
        run.tree("p5")


def test_a_problem_with_tries_and_no_row_has_no_tree(tmp_path: Path) -> None:
    store, lease = make_run(str(tmp_path))
    written = ShardWriter(store, "rollouts", ROLLOUTS, 1, "w1").flush(empty=True)
    assert written is not None
    commit(store, lease, written, config_digest="c", tries={"p9": 1})
    with pytest.raises(KeyError, match="p9"):
        open_run(store.url).tree("p9")


def test_transcripts_by_variant(run: Run) -> None:
    both = [one for one in refined([*FIRST, *SECOND]) if one.rejection is None]
    assert list(run.transcripts()) == both
    assert list(run.transcripts("pruned")) == [one for one in both if one.variant == "pruned"]
    assert list(run.transcripts("other")) == []


def test_rejected(run: Run) -> None:
    assert [(one.id, one.rejection) for one in run.rejected()] == [
        ("p1-2-full", "wrong_answer"),
        ("p2-1-full", "wrong_answer"),
    ]
    assert list(run.rejected("pruned")) == []


def test_how_problems_stand(run: Run) -> None:
    states = run.problem_states()
    assert {id: state.status for id, state in states.items()} == {
        "p1": "solved",
        "p2": "unsolved",
        "p3": "solved",
        "p4": "error",
    }
    assert states["p4"].error == "E: again"


def test_config_and_refinement(run: Run) -> None:
    assert run.config == CONFIG
    assert run.refinement == "d1"
    assert repr(run) == f"open_run({run.store.url!r})"


def test_rewriting_the_card_is_the_switch(tmp_path: Path) -> None:
    store, lease = make_run(str(tmp_path))
    run = open_run(store.url)
    commit_transcripts(store, lease, "part-000001-w0-000001", [make_transcript("p1", 1)], digest="d2")
    assert len(list(run.transcripts())) == 4
    write_card(store, refinement="d2", config=CONFIG, summary=SUMMARY)
    assert run.refinement == "d2"
    assert [one.id for one in run.transcripts()] == ["p1-1-full"]
    assert run.paths("transcripts") == [f"{store.url}/transcripts/d2/part-000001-w0-000001.parquet"]


def query(sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as database:
        rows: list[tuple[object, ...]] = database.execute(sql).fetchall()
    return rows


def test_files_for_other_tools(tmp_path: Path) -> None:
    store, _ = make_run(str(tmp_path / "run"))
    store.put("rollouts/part-000001-w9-000001.parquet", b"not committed")
    run = open_run(store.url)
    assert run.paths("journal") == []
    rows = query(
        f"SELECT problem_id, len(nodes) FROM read_parquet({run.paths('rollouts')}) WHERE stop <> 'error' ORDER BY 1"  # noqa: S608
    )
    assert rows == [("p1", 2), ("p2", 1), ("p3", 1)]
    kept = query(f"SELECT completion[1].content FROM read_parquet({run.paths('transcripts')})")  # noqa: S608
    assert len(kept) == 4
    with pytest.raises(ValueError, match="there is no table 'exports'; there are: rollouts, journal"):
        run.paths("exports")


def test_before_the_first_refinement_there_is_nothing_refined(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("config.json", b"{}")
    run = open_run(store.url)
    assert run.refinement is None
    assert [*run.transcripts(), *run.rejected(), *run.rollouts()] == []
    assert run.paths("transcripts") == run.paths("rollouts") == []
    assert run.problem_states() == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is no run folder"), (b"{", "is no JSON"), (b"\xff", "is no JSON"), (b"[]", "is no config")],
)
def test_a_folder_that_is_no_run(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(StorageError, match=message) as caught:
        open_run(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is no run folder"):
        open_run(str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "card", [b"", b"# a readme", b"---\n---\n", b"---\n{\n---\n", b"---\nconfigs: []\n---\n", b"\xff"]
)
def test_a_card_that_is_broken_by_hand(tmp_path: Path, card: bytes) -> None:
    store, _ = make_run(str(tmp_path))
    store.put("README.md", card)
    with pytest.raises(StorageError, match="refine again"):
        _ = open_run(store.url).refinement
