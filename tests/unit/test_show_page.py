"""The page of `factory show --html`, and `show`, `left` and `review` on imported runs."""

import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError, SourceError, StorageError, UserError
from factory.runs import open_run
from factory.sources.files import JsonlSource
from factory.types import NodeState, Origin, Problem
from pipelines.imports import import_rollouts
from pipelines.left import left
from pipelines.refine import refine_again
from pipelines.report import is_hidden
from pipelines.review import review_run
from pipelines.show import show
from pipelines.show_terminal import EDGE
from tests.pages import Page
from tests.unit import run_folders as make

ROLLOUTS = Path(__file__).parents[3] / "shared" / "data" / "rollouts"
EVERY = 'prune.variants=["full","first_correct","pruned","concise","reflective"]'
A = "aa11111111111111111a"
B = "bb22222222222222222b"

DEAD_END = "Let me try adding 5 and 6 first. So 5 + 6 = 11. That doesn't work.\n\n"
WAY = "Let me try another approach. Double the 2, which gives 2 * 2 = 4.\n\n"
ATTACK = "</del><script>alert(1)</script>\x1b[2J\u202e\x00 "
CHAIN = f"<think>\nWe have to find 2 + 2.\n\n{DEAD_END}{ATTACK}{WAY}So the answer is 4.\n</think>\n\n4"


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def imported(folder: Path, kind: str, rows: Sequence[dict[str, Any]], *spec: str, bad: bool = False) -> str:
    """A run of these rows, which stand in a compressed file; with a broken line behind them."""
    file, out = folder / "rows.jsonl.gz", str(folder / "run")
    file.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + b"{" * bad))
    assert import_rollouts(kind, [str(file)], out, None, spec, as_json=True) == int(bad)
    return out


def exact(question: str, *samples: str) -> dict[str, Any]:
    return {"q": question, "gt": "4", "out": list(samples), "score": [True] * len(samples), "model": "some model"}


SAMPLES = (
    'fields={prompt="q", reference="gt", samples="out", claims=["score"], model="model"}',
    'checks=[{verifier="exact", params={extract="last_line"}}]',
)


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = [exact("2 + 2?", CHAIN, "5"), exact("1 + 1?", "2"), exact("0 + 4?", "x" * 30_000 + "\n4")]
    run = imported(tmp_path_factory.mktemp("chains"), "samples", rows, *SAMPLES, bad=True)
    refine_again(run, [EVERY])
    return run


def problem_of(run: str, question: str) -> str:
    return next(one.problem.id for one in open_run(run).rollouts() if question in str(one.problem.messages))


def written(run: str, file: Path, what: str | None = None) -> Page:
    show(run, what, html=str(file))
    return Page(file.read_text("utf-8"))


def shown(capsys: pytest.CaptureFixture[str], run: str, what: str | None, *, whole: bool = False) -> str:
    capsys.readouterr()
    show(run, what, whole=whole)
    return capsys.readouterr().out


# --- pages


def test_a_page_loads_nothing_and_runs_nothing(chains: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    page = written(chains, file)
    source = file.read_text("utf-8")
    assert source.startswith("<!DOCTYPE html>")
    assert "<script" not in source
    assert not [char for char in source if is_hidden(char)]
    assert {name for _, name, _ in page.attributes}.isdisjoint({"src", "style", "onclick", "srcset"})
    links = {value for _, name, value in page.attributes if name == "href"}
    assert links
    assert links <= {f"#{id}" for id in page.ids()}
    assert "url(" not in page.style
    assert "@import" not in page.style
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert ("meta", "content", policy) in page.attributes
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_a_page_of_a_problem_has_every_transcript_verbatim(chains: str, tmp_path: Path) -> None:
    id = problem_of(chains, "2 + 2?")
    page = written(chains, tmp_path / "page.html", id)
    run = open_run(chains)
    made = [one for one in (*run.transcripts(), *run.rejected()) if one.problem.id == id]
    assert len(made) == 6
    assert any(one.removals for one in made)
    for one in made:
        blocks = [block for block in page.blocks if block.kept == one.text]
        assert any(block.cut == [removal.text for removal in one.removals] for block in blocks)
        assert one.id in page.words
    cut = next(block for block in page.blocks if block.cut)
    assert cut.whole == CHAIN
    assert cut.labels == ["cut 1: abandoned_attempt"]


def test_the_page_and_the_terminal_say_the_same(
    chains: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id = problem_of(chains, "2 + 2?")
    said = " ".join(shown(capsys, chains, id, whole=True).split())
    page = " ".join(written(chains, tmp_path / "page.html", id).words.split())
    for words in (
        "recorded by some model in",
        'rows.jsonl.gz: line 1; claimed: {"score":true}',
        "exact answer pass: ",
        "attempts, 1 given up",
        "That doesn't work",
        "cut 1: abandoned_attempt",
        "rejected: wrong_answer",
        "tree of recorded: ",
        "reference 4",
        f"of {len(CHAIN)} characters",
    ):
        assert words in said, words
        assert words.replace("reference 4", "reference4") in page, words


def test_a_page_of_a_run_is_an_index_with_its_problems(chains: str, tmp_path: Path) -> None:
    page = written(chains, tmp_path / "page.html")
    ids = [one.problem.id for one in open_run(chains).rollouts()]
    assert len(ids) == 4
    assert all(page.words.count(id) == 2 for id in ids), "in the index, and where it is shown"
    assert "SourceError" in page.words
    assert {f"problem{number}" for number in range(1, 5)} <= page.ids()


def test_a_page_of_our_own_run_marks_who_wrote_what(tmp_path: Path) -> None:
    judged = make.tree(make.problem(A), [make.WRONG, make.DETOURED])
    wrong, right = (node.verdicts for node in judged.nodes)
    nodes = [
        make.step(1, 0, make.WRONG, state=NodeState.FINISHED, verdicts=wrong, score=0.25),
        make.step(2, 1, "look <again>", origin=Origin.INJECTED, role="user", generated_tokens=0),
        make.step(3, 2, make.DETOURED[:20], origin=Origin.TOOL),
        make.step(4, 3, make.DETOURED[20:], state=NodeState.FINISHED, verdicts=right),
    ]
    run = make.write_run(tmp_path / "run", [[make.searched(make.problem(A), nodes)]])
    page = written(run, tmp_path / "page.html", A)
    assert "4 generations, 40 tokens (10 in a row)" in page.words
    assert "score 0.25" in page.words
    texts = [(block.whole, block.labels) for block in page.blocks]
    assert ("look <again>", ["injected"]) in texts
    assert (make.DETOURED, ["tool"]) in texts
    cut = [block for block in page.blocks if block.whole == make.DETOURED and len(block.cut) > 1]
    assert "".join(cut[0].cut) == make.DETOUR
    assert cut[0].labels == ["tool", "cut 2: abandoned_attempt", "tool", "cut 2: abandoned_attempt"]


def test_a_page_of_an_imported_tree_has_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        {"id": "a", "text": "2 + 2\n", "v": 0.5},
        {"id": "b", "parent": "a", "text": "= 4\n4", "v": 1},
        {"id": "c", "parent": "a", "text": "= 5\n5", "v": 0.125},
    ]
    fields = 'fields={reference="gt", node={score="v"}}'
    run = imported(tmp_path, "tree", [{"prompt": "2 + 2?", "gt": "4", "nodes": nodes}], fields, SAMPLES[1])
    before = shown(capsys, run, problem_of(run, "2 + 2?"))
    assert "no transcripts: it was not refined yet" in before
    refine_again(run, [EVERY])
    out = shown(capsys, run, problem_of(run, "2 + 2?"))
    assert "#2 after #1 finished, pass, score 1" in out
    assert "#3 after #1 finished, fail, score 0.125" in out
    page = written(run, tmp_path / "page.html")
    assert "score 0.125" in page.words
    assert "2 + 2\n= 4\n4" in [block.whole for block in page.blocks]


def test_a_page_goes_to_standard_output_in_utf8(chains: str) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "show", chains, problem_of(chains, "2 + 2?"), "--html", "-"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert CHAIN in [block.whole for block in Page(done.stdout.decode()).blocks]


def test_options_that_would_do_nothing_are_refused(chains: str, tmp_path: Path) -> None:
    for options in ({"as_json": True, "html": "-"}, {"as_json": True, "whole": True}, {"whole": True}):
        with pytest.raises(ConfigError, match="--"):
            show(chains, None, **options)
    with pytest.raises(StorageError, match="No such file"):
        show(chains, None, html=str(tmp_path / "no" / "page.html"))


def test_an_empty_run_is_a_page_too(tmp_path: Path) -> None:
    run = make.write_run(tmp_path / "run", [])
    assert "no problem is committed yet" in written(run, tmp_path / "page.html").words


# --- terminals


def test_a_long_text_is_an_excerpt_unless_it_is_asked_for(chains: str, capsys: pytest.CaptureFixture[str]) -> None:
    id = problem_of(chains, "0 + 4?")
    out = shown(capsys, chains, id)
    assert f"[…{30_002 - 2 * EDGE:,} characters…]" in out
    assert len(out) < 4_000
    assert "x" * 30_000 in shown(capsys, chains, id, whole=True)


def test_the_table_has_room_for_every_column(chains: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(chains)
    lines = shown(capsys, chains, None).splitlines()
    assert lines[0].split() == ["id", "status", "attempts", "right", "tokens", "prompt"]
    assert {line.split()[0] for line in lines[1:5]} == {one.problem.id for one in run.rollouts()}
    assert max(map(len, lines[:5])) <= 100


@pytest.mark.parametrize("mistake", ["changed", "left out", "put in", "too long"])
def test_a_mistyped_id_names_the_nearest(chains: str, mistake: str) -> None:
    id = problem_of(chains, "2 + 2?")
    typed = {
        "changed": id[:5] + "z" + id[6:],
        "left out": id[:9] + id[10:],
        "put in": id[:12] + "z" + id[12:],
        "too long": id + "0",
    }[mistake]
    with pytest.raises(UserError, match=f"begins with '{typed}'; did you mean {id}\\?"):
        show(chains, typed)


def test_real_long_chains_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ROLLOUTS / "skyt1_27b_longcot_math500.jsonl.gz"
    if not file.exists():
        pytest.skip("the shared data are not beside the checkout")
    with gzip.open(file, "rt") as lines:
        rows = sorted(map(json.loads, lines), key=lambda row: -len(row["code"][0]))
    chosen = [*rows[:2], *[row for row in rows if row["score"][0]][:3]]
    fields = 'fields={prompt="question", reference="gt", samples="code", claims=["pred", "score"], model="_model"}'
    run = imported(tmp_path, "samples", chosen, fields, 'checks=[{verifier="math"}]')
    refine_again(run, [EVERY])
    texts = {"".join(node.text for node in tree.nodes) for tree in open_run(run).rollouts()}
    for tree in open_run(run).rollouts():
        out = shown(capsys, run, tree.problem.id)
        assert "given up" in out
        assert len(out) < 40_000
    page = written(run, tmp_path / "page.html")
    assert texts <= {block.whole for block in page.blocks}
    for one in open_run(run).transcripts():
        assert any((block.kept, len(block.cut)) == (one.text, len(one.removals)) for block in page.blocks)


# --- what other commands say of imported runs


def test_what_an_import_leaves_over_is_a_source(chains: str, tmp_path: Path) -> None:
    bad = next(tree.problem.id for tree in open_run(chains).rollouts() if tree.error)
    unsolved = problem_of(chains, "1 + 1?")
    assert set(left(chains, [], names=True)) == {f"{unsolved} exhausted", f"{bad} error"}
    assert list(left(chains, ["owed"], names=True)) == []
    lines = list(left(chains, [], names=False))
    file = tmp_path / "next.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines))
    assert [one.id for one in JsonlSource((str(file),)) if isinstance(one, Problem)] == [unsolved]


def test_what_an_import_still_owes_needs_its_files(tmp_path: Path) -> None:
    run = imported(tmp_path, "samples", [exact("2 + 2?", "4")], *SAMPLES)
    (tmp_path / "rows.jsonl.gz").unlink()
    with pytest.raises(SourceError, match=r"rows\.jsonl\.gz"):
        list(left(run, ["owed"], names=True))
    assert list(left(run, ["exhausted"], names=True)) == []


def test_people_review_an_import(tmp_path: Path) -> None:
    checks = 'checks=[{verifier="human"}]'
    run = imported(tmp_path, "samples", [exact("2 + 2?", "four", "vier"), exact("1 + 1?", "")], SAMPLES[0], checks)
    with pytest.raises(StorageError, match="no transcripts yet"):
        review_run(run, "-")
    refine_again(run, ['prune.variants=["full"]'])
    todo = tmp_path / "todo.jsonl"
    review_run(run, str(todo))
    lines = [json.loads(line) for line in todo.read_text().splitlines()]
    assert {line["text"] for line in lines} == {"four", "vier"}
    filled = [line | {"outcome": "pass" if line["text"] == "four" else "fail"} for line in lines]
    todo.write_text("".join(json.dumps(line) + "\n" for line in filled))
    refine_again(run, ['prune.variants=["full"]', f'human.reviews=["{todo}"]'])
    assert [one.text for one in open_run(run).transcripts()] == ["four"]
    review_run(run, str(todo))
    assert todo.read_text() == ""
