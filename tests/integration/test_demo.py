"""The demo's job on the bundled teacher, and everything that its users do with the result."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pytest

import factory as package
from factory.check import check
from factory.types import Transcript
from tests.killing import ROOT, Ended, factory

pytestmark = [pytest.mark.vllm, pytest.mark.ray]

PROBLEMS = 48
OPERATIONS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": Fraction.__add__,
    "-": Fraction.__sub__,
    "*": Fraction.__mul__,
    "/": Fraction.__truediv__,
}
TEACHER = ROOT / "pipelines" / "teachers" / "countdown"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("demo")
    ended = _demo(folder / "run", folder / "log")
    assert ended.status == 0, ended.stderr
    return ended


@pytest.fixture(scope="module")
def out(first: Ended) -> Path:
    match = re.search(r"Shards are in (\S+):", first.stdout)
    assert match, first.stdout
    return Path(match[1])


def _demo(out: Path, log: Path) -> Ended:
    return factory(
        "run", "pipelines/demo.toml", "--out", out, "--set", f"source.count={PROBLEMS}", log=log, seconds=280.0
    )


def test_the_summary_counts_every_problem(first: Ended) -> None:
    assert f"problems   {PROBLEMS}:" in first.stdout
    assert "tokens" in first.stdout
    assert "factory show" in first.stdout


def test_the_run_is_clean(out: Path) -> None:
    report = check(str(out))
    assert report.errors == []
    assert len(package.open_run(str(out)).problem_states()) == PROBLEMS


def test_run_again_there_is_nothing_to_do(out: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in out.rglob("*"))
    again = _demo(out, tmp_path / "log")
    assert again.status == 0, again.stderr
    assert "nothing was owed" in again.stdout
    assert sorted(path.name for path in out.rglob("*")) == before


def test_every_pruned_transcript_reaches_its_target(out: Path) -> None:
    pruned = list(package.open_run(str(out)).transcripts("pruned"))
    assert pruned, "the teacher solves none of the demo's problems"
    for transcript in pruned:
        assert _replayed(transcript) == transcript.problem.metadata["target"]


def test_a_pruned_transcript_has_no_dead_end(out: Path) -> None:
    run = package.open_run(str(out))
    assert all("dead\n" not in one.text and "back " not in one.text for one in run.transcripts("pruned"))
    assert any(one.removals for one in run.transcripts("pruned"))


def _replayed(transcript: Transcript) -> Fraction:
    """Walk a chain without detours and evaluate its answer: shares nothing with the pruner or the verifier."""
    thinking, answer = transcript.text.split("</think>\nanswer ")
    hand = [Fraction(number) for number in transcript.problem.metadata["numbers"]]
    for line in thinking.splitlines()[1:-1]:
        left, operator, right, result = re.fullmatch(r"try (\d+) (\S) (\d+) = (\d+) left [\d ]+", line).groups()  # type: ignore[union-attr]
        one, other = Fraction(left), Fraction(right)
        hand.remove(one)
        hand.remove(other)
        hand.append(OPERATIONS[operator](one, other))
        assert hand[-1] == int(result)
    assert thinking.splitlines()[-1] == "done"
    (last,) = hand
    assert sorted(map(int, re.findall(r"\d+", answer))) == sorted(transcript.problem.metadata["numbers"])
    assert re.fullmatch(r"[\d+*/() -]+", answer)
    in_fractions = re.sub(r"(\d+)", r"Fraction(\1)", answer)
    assert eval(in_fractions, {"Fraction": Fraction}) == last  # noqa: S307 - digits, operators and brackets only
    return last


@pytest.fixture
def dataset(out: Path, tmp_path: Path) -> Any:
    import datasets

    return datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]


def test_load_dataset_gives_the_committed_transcripts(dataset: Any, out: Path) -> None:
    run = package.open_run(str(out))
    assert sorted(dataset["id"]) == sorted(transcript.id for transcript in run.transcripts())


def test_duckdb_reads_the_shards(dataset: Any, out: Path) -> None:
    paths = package.open_run(str(out)).paths("transcripts")
    rows = duckdb.execute("SELECT variant, count(*) FROM read_parquet($paths) GROUP BY ALL", {"paths": paths})
    assert dict(rows.fetchall()) == {name: dataset["variant"].count(name) for name in set(dataset["variant"])}


def test_trl_trains_on_it_as_it_is(dataset: Any, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(tmp_path / "student"),
        max_steps=1,
        per_device_train_batch_size=4,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model=str(TEACHER), args=config, train_dataset=dataset)
    batch = next(iter(trainer.get_train_dataloader()))
    labels, ids = batch["labels"], batch["input_ids"]
    assert (labels != -100).any(dim=1).all(), "an example without a label"
    prompt = trainer.processing_class.convert_tokens_to_ids("make")
    assert (ids == prompt).any(dim=1).all()
    assert not (labels == prompt).any(), "a prompt token has a label"
    assert math.isfinite(trainer.train().training_loss)
