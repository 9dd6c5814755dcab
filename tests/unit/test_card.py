"""`load_dataset(RUN)` is exactly the committed transcripts, and the card says what they are."""

import os
from pathlib import Path

import pytest
import yaml

from factory.card import Card, read_card, write_card
from factory.lease import acquire
from factory.rows import REJECTED, ROLLOUTS, TRANSCRIPTS, describe
from factory.runs import open_run
from factory.shards import ShardWriter
from factory.store import Store
from tests.unit.test_rows import make_transcript
from tests.unit.test_runs import CONFIG, FIRST, SUMMARY, commit_transcripts, commit_trees, make_run

KEPT = ("p1-1-full", "p1-1-pruned", "p3-1-full", "p3-1-pruned")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` is offline and keeps nothing outside of the test."""
    import datasets

    assert os.environ["HF_HUB_OFFLINE"] == "1"
    cache = tmp_path / "cache"
    monkeypatch.setenv("HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)


def loaded(url: str, name: str | None = None) -> list[dict[str, object]]:
    import datasets

    found = datasets.load_dataset(url, name)
    assert list(found) == ["train"]
    rows: list[dict[str, object]] = found["train"].to_list()
    return rows


def ids(rows: list[dict[str, object]]) -> tuple[object, ...]:
    return tuple(row["id"] for row in rows)


def test_load_dataset_gives_the_committed_transcripts(tmp_path: Path) -> None:
    store, _ = make_run(str(tmp_path / "run"))
    rows = loaded(store.url)
    assert ids(rows) == KEPT
    assert rows[0]["prompt"] == [{"role": "user", "content": "what is p1?"}]
    assert rows[0]["completion"] == [{"role": "assistant", "content": "let me see, 1"}]
    assert ids(loaded(store.url, "rejected")) == ("p1-2-full", "p2-1-full")


def test_what_else_lies_in_the_folder_is_not_loaded(tmp_path: Path) -> None:
    store, lease = make_run(str(tmp_path / "run"))
    [uncommitted] = [ShardWriter(store, "transcripts/d1", TRANSCRIPTS, lease.epoch, "w7").flush(empty=True)]
    assert uncommitted is not None
    commit_transcripts(store, lease, "part-000001-w0-000001", [make_transcript("p1", 1)], digest="other")
    for path in ("data.parquet", "train.jsonl", "transcripts/d1/train-00000-of-00001.parquet"):
        store.put(path, b"junk")
    assert ids(loaded(store.url)) == KEPT


def test_a_run_that_went_on_is_loaded_anew_once_its_card_is_rewritten(tmp_path: Path) -> None:
    store, lease = make_run(str(tmp_path / "run"))
    assert ids(loaded(store.url)) == KEPT
    commit_transcripts(store, lease, "part-000001-w0-000002", [make_transcript("p9", 1)])
    assert ids(loaded(store.url)) == KEPT, "the card is the switch"
    write_card(store, refinement="d1", config=CONFIG, summary=SUMMARY)
    assert ids(loaded(store.url)) == (*KEPT, "p9-1-full")


def test_shards_without_rows_are_no_hindrance(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    lease = acquire(store)
    commit_transcripts(store, lease, "s1", [])
    commit_transcripts(store, lease, "s2", [make_transcript("p1", 1)])
    card = write_card(store, refinement="d1", config=CONFIG, summary=SUMMARY)
    assert len(card.transcripts) == 2
    assert ids(loaded(store.url)) == ("p1-1-full",)


@pytest.mark.parametrize("shards", [0, 1])
def test_a_run_without_transcripts_says_so_and_loads_nothing_else(tmp_path: Path, shards: int) -> None:
    store = Store(str(tmp_path / "run"))
    lease = acquire(store)
    commit_trees(store, lease, FIRST)
    for _ in range(shards):
        commit_transcripts(store, lease, "s1", [])
    write_card(store, refinement="d1", config=CONFIG, summary=SUMMARY)
    assert "**There are no transcripts yet**" in store.read("README.md").decode()
    with pytest.raises((ValueError, FileNotFoundError)):
        loaded(store.url)


def test_the_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    store, _ = make_run(str(tmp_path))
    card = read_card(store)
    assert card == Card(
        "d1",
        tuple(f"transcripts/d1/part-000001-w0-00000{number}.parquet" for number in (1, 2)),
        tuple(f"rejected/d1/part-000001-w0-00000{number}.parquet" for number in (1, 2)),
    )
    assert open_run(store.url).refinement == "d1"


def test_no_card_before_the_first_refinement(tmp_path: Path) -> None:
    assert read_card(Store(str(tmp_path))) is None


def test_a_digest_of_digits_stays_text(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for digest in ("0123", "1e5", "true", "null"):
        write_card(store, refinement=digest, config={}, summary={})
        card = read_card(store)
        assert card is not None
        assert card.refinement == digest


def test_a_card_says_what_it_is_of(tmp_path: Path) -> None:
    store, _ = make_run(str(tmp_path))
    write_card(store, refinement="d1", config=CONFIG, summary=SUMMARY, licence="apache-2.0")
    text = store.read("README.md").decode()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "apache-2.0"
    assert "`big|teacher`" in text
    assert "| problems | 4 |" in text
    assert "| rejected: wrong_answer | 2 |" in text
    for part in ("temperature: 0.7", "model_digest: served:big", "judge: strict", "kind: best_of_n"):
        assert part in text
    for schema in (TRANSCRIPTS, REJECTED, ROLLOUTS):
        for name, description in describe(schema).items():
            assert f"| `{name}` | {description} |" in text


def test_a_card_shows_no_address(tmp_path: Path) -> None:
    store, _ = make_run(str(tmp_path))
    text = store.read("README.md").decode()
    assert "secret.example" not in text
    assert "ray://" not in text


def test_text_cannot_break_a_table(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_card(store, refinement="d1", config={}, summary={"a|b\nc": 1234, "d": {"e|f": 2}})
    lines = store.read("README.md").decode().splitlines()
    assert "| a\\|b c | 1,234 |" in lines
    assert "| d: e\\|f | 2 |" in lines
