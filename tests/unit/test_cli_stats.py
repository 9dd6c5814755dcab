"""`factory stats`, and the summary at the end of a run: every figure against a run whose figures are known."""

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from factory.driver import Ended
from factory.errors import StorageError
from factory.rows import ROLLOUTS, tree_row
from factory.runs import open_run
from factory.shards import ShardWriter, commit
from factory.stats import pass_rate_stopped
from factory.store import Store
from factory.types import Outcome, StopReason
from factory.worker import entry_of
from pipelines.folder import owned
from pipelines.report import print_figures, print_summary
from pipelines.run import Summary
from pipelines.stats import BUCKETS, ERROR_KINDS, bucket_of, stats
from pipelines.summary import summarize
from tests.unit import run_folders as make
from tests.unit.run_folders import CUT, DETOURED, RIGHT, WRONG

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def id(number: int) -> str:
    return f"{number:020x}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Stops at the second right answer; problem 6 failed first, and was solved when it was retried."""
    solved = StopReason.SOLVED
    first = [
        make.tree(make.problem(id(1)), [RIGHT, DETOURED], stop=solved),  # 1 / 1
        make.tree(make.problem(id(2)), [WRONG, CUT, RIGHT, DETOURED, DETOURED], stop=solved, counted=4),  # 1 / 3
        make.tree(make.problem(id(3)), [WRONG] * 8),  # 0 / 8
        make.failed(make.problem(id(5)), "EngineError: [b]no\x1b[2J answer", [WRONG]),
        make.failed(make.problem(id(6)), "VerifierError: down", [WRONG, WRONG]),
    ]
    second = [
        make.tree(make.problem(id(4)), [*[WRONG] * 7, DETOURED], cached=3),  # 1 / 8, not stopped
        make.tree(make.problem(id(6)), [CUT, DETOURED, WRONG, WRONG, RIGHT], stop=solved),  # 1 / 4
    ]
    return make.write_run(tmp_path_factory.mktemp("run"), [first, second])


def figures(run: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert stats(run, as_json=True) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


def text(run: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert stats(run, as_json=False) == 0
    return capsys.readouterr().out


def test_the_funnel(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    funnel = figures(run, capsys)["funnel"]
    assert (funnel["problems"], funnel["solved"], funnel["unsolved"], funnel["errors"]) == (6, 4, 1, 1)
    assert funnel["errors_by_text"] == {"EngineError: [b]no\x1b[2J answer": 1}
    assert funnel["attempts"] == 2 + 5 + 8 + 1 + 8 + 5
    assert funnel["right"] == 2 + 2 + 1 + 2
    assert funnel["leaves"] == {"pass": 7, "fail": 1 + 8 + 1 + 7 + 2, "truncated": 2, "beyond_stop": 1}
    assert funnel["chains"]["pass"] == 7
    assert funnel["open_trees"] == 0


def test_it_agrees_with_the_sidecars(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_run(run)
    summary = summarize(opened.store, opened.refinement)
    found = figures(run, capsys)
    funnel = found["funnel"]
    assert {key: funnel[key] for key in summary.keys() & funnel.keys()} == {
        key: summary[key] for key in summary.keys() & funnel.keys()
    }
    assert {"kept", "rejected", "attempts"} < summary.keys() & funnel.keys()
    assert found["cost"]["generated_tokens"] == summary["tokens"]


def test_the_cost(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    cost = figures(run, capsys)["cost"]
    assert cost["generated_tokens"] == 10 * 29
    assert cost["prompt_tokens"] == 5 * 29
    assert cost["cached_tokens"] == 3 * 8
    assert cost["superseded_tokens"] == 10 * 2
    assert cost["wall_seconds"] == 2.0 * 6
    assert cost["tokens_per_solved"] == 72.5
    assert cost["tokens_per_kept"] == {"full": round(290 / 7, 2), "pruned": round(290 / 4, 2)}
    assert cost["engine_seconds"] == 0.5 * 6
    assert cost["engine_seconds_per_solved"] == 0.5 * 6 / 4
    assert (cost["scoring_generated_tokens"], cost["scoring_prompt_tokens"]) == (0, 0)


def test_cost_by_strategy(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    by = figures(run, capsys)["by_strategy"]
    cost = figures(run, capsys)["cost"]
    assert sum(one["generated_tokens"] for one in by.values()) <= cost["generated_tokens"]
    assert (by["best_of_n"]["problems"], by["best_of_n"]["solved"]) == (5, 4)
    assert by["best_of_n"]["mean_sequential_tokens"] == 10.0
    assert by["best_of_n"]["kept"] == {"full": 7, "pruned": 4}


def test_checks_by_verifier(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every finished leaf, also beyond the stop; `countdown` has two verdicts on each, and is one check."""
    checks = figures(run, capsys)["checks"]
    assert list(checks) == ["countdown"]
    found = checks["countdown"]
    assert found["outcomes"] == {"pass": 8, "fail": 19, "unknown": 0}
    assert found["unknown_by_reason"] == {}
    assert 0 < found["mean_seconds"] <= found["longest_seconds"] <= found["seconds"] + 0.001
    row = next(line.split() for line in text(run, capsys).splitlines() if line.startswith("countdown"))
    assert row[:5] == ["countdown", "27", "8", "19", "0"]


def test_why_checks_decided_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judged = make.tree(make.problem(id(1)), [WRONG] * 3)
    evidence = [
        "VerifierError: the sandbox had trouble: run 1",
        "VerifierError: the sandbox had trouble: run 2",
        "\x1b[",
    ]
    nodes = [
        replace(node, verdicts=(replace(node.verdicts[0], outcome=Outcome.UNKNOWN, evidence=said, seconds=2.0),))
        for node, said in zip(judged.nodes, evidence, strict=True)
    ]
    run = make.write_run(tmp_path / "run", [[replace(judged, nodes=tuple(nodes))]])
    found = figures(run, capsys)["checks"]["countdown"]
    assert found["outcomes"] == {"pass": 0, "fail": 0, "unknown": 3}
    assert found["unknown_by_reason"] == {"VerifierError: the sandbox had trouble": 2, "\x1b[": 1}
    assert (found["seconds"], found["mean_seconds"], found["longest_seconds"]) == (6.0, 2.0, 2.0)
    assert found["p95_seconds"] == pytest.approx(2.0, rel=0.025)
    out = text(run, capsys)
    assert "countdown unknown: 2 × VerifierError: the sandbox had trouble\n" in out
    assert "countdown unknown: 1 × \\x1b[\n" in out


def test_yield_by_difficulty(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    by = figures(run, capsys)["by_difficulty"]
    assert tuple(by) == BUCKETS
    assert {bucket: one["problems"] for bucket, one in by.items() if one["problems"]} == {
        "0": 1,
        "0-0.25": 2,
        "0.25-0.5": 1,
        "1": 1,
    }
    assert by["0"] == {
        "problems": 1,
        "solved": 0,
        "generated_tokens": 80,
        "tokens_per_solved": None,
        "mean_sequential_tokens": 10.0,
        "engine_seconds": 0.5,
        "kept": {},
        "mean_characters": {},
    }
    easy = by["1"]
    assert (easy["solved"], easy["generated_tokens"], easy["kept"]) == (1, 20, {"full": 2, "pruned": 1})
    assert easy["mean_characters"] == {"full": (len(RIGHT) + len(DETOURED)) / 2, "pruned": len(RIGHT)}
    kept = sum(number for one in by.values() for number in one["kept"].values())
    assert kept == sum(figures(run, capsys)["funnel"]["kept"].values())


def test_the_text(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = text(run, capsys)
    assert "6: 4 solved, 1 unsolved, 1 errors" in out
    assert "1 × EngineError: [b]no\\x1b[2J answer" in out
    assert "290 generated; 145 of prompts, 24 of them cached" in out
    assert "20 more were generated for errors that were retried since" in out
    assert "\x1b" not in out
    row = next(line.split() for line in out.splitlines() if line.startswith("0-0.25"))
    assert row[:4] == ["0-0.25", "2", "2", "130"]
    assert "stopped at 1" not in out


def test_without_early_stopping_the_plain_share_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = make.tree(make.problem(id(1)), [RIGHT, WRONG, WRONG, RIGHT], stop=StopReason.SOLVED)
    fixed = figures(make.write_run(tmp_path / "fixed", [[tree]], stop_at=None), capsys)
    assert fixed["by_difficulty"]["0.25-0.5"]["problems"] == 1
    stopped = figures(make.write_run(tmp_path / "stopped", [[tree]], stop_at=2), capsys)
    assert stopped["by_difficulty"]["0.25-0.5"]["problems"] == 1
    assert pass_rate_stopped(4, 2) == pytest.approx(1 / 3)


def test_what_cannot_be_estimated_stands_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_one = make.tree(make.problem(id(1)), [WRONG, RIGHT], stop=StopReason.SOLVED)
    troubled = make.tree(make.problem(id(2)), [WRONG])
    unknown = [
        replace(
            node,
            verdicts=tuple(replace(verdict, outcome=Outcome.UNKNOWN) for verdict in node.verdicts),
        )
        for node in troubled.nodes
    ]
    unjudged = make.tree(replace(make.problem(id(3)), checks=()), [RIGHT])
    trees = [at_one, replace(troubled, nodes=tuple(unknown)), unjudged]
    run = make.write_run(tmp_path / "run", [trees], stop_at=1)
    by = figures(run, capsys)["by_difficulty"]
    assert {bucket: one["problems"] for bucket, one in by.items() if one["problems"]} == {
        "stopped at 1": 1,
        "undecided": 2,
    }
    assert figures(run, capsys)["funnel"]["leaves"] == {"fail": 1, "pass": 1, "unknown": 1, "unjudged": 1}
    assert "undecided: no verifier could decide" in text(run, capsys)


def test_the_first_rung_of_a_ladder_tells_the_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four attempts, and up to eight more where fewer than two of them are right."""
    rungs = [{"kind": "best_of_n", "n": 4}, {"kind": "best_of_n", "n": 8}]
    solved = StopReason.SOLVED
    trees = [
        make.tree(make.problem(id(1)), [WRONG, RIGHT, WRONG, DETOURED], stop=solved),  # 1 / 3
        make.tree(make.problem(id(2)), [WRONG, WRONG, RIGHT, CUT, RIGHT], stop=solved),  # 1 / 4
        make.tree(make.problem(id(3)), [*[WRONG] * 4, RIGHT, RIGHT], stop=solved),  # 0 / 4
        make.tree(make.problem(id(4)), [WRONG] * 4, stop=StopReason.GIVEN_UP),  # 0 / 4
    ]
    ladder = {"kind": "ladder", "rungs": rungs, "stop_at": 2, "hopeless_after": 100}
    found = figures(make.write_run(tmp_path / "run", [trees], search=ladder), capsys)["by_difficulty"]
    assert {bucket: one["problems"] for bucket, one in found.items() if one["problems"]} == {
        "0": 2,
        "0-0.25": 1,
        "0.25-0.5": 1,
    }


@pytest.mark.parametrize(
    "search",
    [
        {"kind": "beam", "value": "rollouts"},
        {"kind": "revise", "n": 4},
        {"kind": "early_rejection", "n": 4, "backtrack": "dead"},
        {"kind": "ladder", "rungs": [{"kind": "budget_forcing", "n": 2, "max_thinking": 99}, {"kind": "best_of_n"}]},
    ],
)
def test_a_search_that_chooses_tells_no_rate(
    search: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = [make.tree(make.problem(id(1)), [WRONG, RIGHT]), make.tree(make.problem(id(2)), [])]
    found = figures(make.write_run(tmp_path / "run", [trees], search=search), capsys)["by_difficulty"]
    assert {bucket: one["problems"] for bucket, one in found.items() if one["problems"]} == {
        "guided": 1,
        "undecided": 1,
    }


@pytest.mark.parametrize(
    ("rate", "bucket"),
    [
        (0.0, "0"),
        (1e-9, "0-0.25"),
        (0.25, "0-0.25"),
        (0.26, "0.25-0.5"),
        (0.5, "0.25-0.5"),
        (0.75, "0.5-0.75"),
        (0.999, "0.75-1"),
        (1.0, "1"),
    ],
)
def test_buckets(rate: float, bucket: str) -> None:
    assert bucket_of(rate) == bucket


def test_an_empty_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make.write_run(tmp_path / "run", [])
    assert figures(run, capsys)["cost"]["tokens_per_solved"] is None
    assert figures(run, capsys)["cost"]["cached_tokens"] is None
    assert "0: 0 solved, 0 unsolved, 0 errors" in text(run, capsys)


def test_a_run_of_errors_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees = [make.failed(make.problem(id(number)), f"EngineError: request {number}") for number in range(1, 1100)]
    run = make.write_run(tmp_path / "run", [trees])
    funnel = figures(run, capsys)["funnel"]
    assert (funnel["errors"], funnel["solved"], funnel["kept"]) == (1099, 0, {})
    assert len(funnel["errors_by_text"]) == ERROR_KINDS + 1
    assert funnel["errors_by_text"]["other"] == 1099 - ERROR_KINDS
    assert "and 996 other kinds" in text(run, capsys)


def test_the_later_of_two_errors_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors = [[make.failed(make.problem(id(1)), text, [WRONG])] for text in ("EngineError: 1", "EngineError: 2")]
    found = figures(make.write_run(tmp_path / "run", errors), capsys)
    assert found["funnel"]["errors_by_text"] == {"EngineError: 2": 1}
    assert (found["cost"]["generated_tokens"], found["cost"]["superseded_tokens"]) == (10, 10)


def test_a_run_that_was_not_refined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make.write_run(tmp_path / "run", [[make.tree(make.problem(id(1)), [RIGHT])]], refined=False)
    assert figures(run, capsys)["funnel"]["kept"] == {}
    assert "kept       none" in text(run, capsys)


def test_open_trees_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make.write_run(tmp_path / "run", [[make.tree(make.problem(id(1)), [RIGHT])]])
    store = Store(run)
    with owned(store) as lease:
        writer = ShardWriter(store, "journal", ROLLOUTS, lease.epoch, "w1")
        for number in (1, 2):
            tree = replace(make.tree(make.problem(id(number)), [WRONG]), stop=None)
            row = tree_row(tree, epoch=lease.epoch, writer="w1", closed_at=datetime.now(UTC))
            writer.add(row, entry_of(tree))
        written = writer.flush()
        assert written is not None
        commit(store, lease, written, config_digest="")
    assert figures(run, capsys)["funnel"]["open_trees"] == 1
    assert "1 more have finished generations in the journal" in text(run, capsys)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        stats(str(tmp_path), as_json=True)


# --- the end of a run


def test_the_summary_of_a_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Summary(run, Ended.CAPPED, did_nothing=False, duplicates=3), as_json=False)
    out = capsys.readouterr().out
    assert out.startswith("stopped at a cap of the budget")
    assert "3 problems of the source are repetitions" in out
    assert "6: 4 solved, 1 unsolved, 1 errors" in out
    assert "kept       full 7, pruned 4" in out
    assert "wrong_answer 18" in out
    assert f"factory stats {run}" in out


def test_its_json(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Summary(run, Ended.FINISHED, did_nothing=True), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["url"], found["ended"], found["did_nothing"], found["solved"]) == (run, "finished", True, 4)


def test_the_commands_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a folder whose name needs quoting; Python is asked in place of the shell, and duckdb really reads."""
    trees = [[make.tree(make.problem(id(1)), [RIGHT, DETOURED])]]
    run = make.write_run(tmp_path / 'it\'s a "run"', trees)
    print_figures(run, summarize(Store(run), open_run(run).refinement), as_json=False)
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert [shlex.split(line)[:3] for line in commands[:3]] == [
        ["factory", name, run] for name in ("stats", "show", "check")
    ]
    assert shlex.split(commands[3])[2] == f"import datasets; print(datasets.load_dataset({json.dumps(run)}))"
    program = [sys.executable, *shlex.split(commands[4])[1:]]
    answer = subprocess.run(program, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    assert "full" in answer.stdout
    assert "pruned" in answer.stdout


def test_with_nothing_kept_there_is_nothing_to_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make.write_run(tmp_path / "run", [[make.tree(make.problem(id(1)), [WRONG])]])
    print_summary(Summary(run, Ended.INTERRUPTED, did_nothing=False), as_json=False)
    out = capsys.readouterr().out
    assert "load_dataset" not in out
    assert "duckdb" not in out
    assert "kept       none" in out


def test_a_run_below_the_working_directory_has_a_short_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make.write_run(tmp_path / "runs" / "demo", [])
    monkeypatch.chdir(tmp_path)
    print_summary(Summary(run, Ended.FINISHED, did_nothing=False), as_json=False)
    assert "factory stats runs/demo\n" in capsys.readouterr().out
