"""`factory show`: what is found by which name, what is printed of it, and that no model text drives a terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from factory.errors import StorageError, UserError
from factory.types import (
    NodeState,
    Origin,
    Policy,
    Problem,
    Removal,
    Sampling,
    Span,
    StopReason,
    Transcript,
)
from pipelines.report import visible
from pipelines.show import show
from pipelines.show_terminal import marked
from pipelines.show_view import Version, pieces
from tests.unit import run_folders as make

A, B = "aa11111111111111111a", "aa22222222222222222b"
C = "cc00000000000000000c"


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    solved = make.tree(
        make.problem(A),
        [make.WRONG, make.DETOURED, make.CUT, make.RIGHT, make.HOSTILE],
        stop=StopReason.SOLVED,
        counted=4,
    )
    trees = [[solved, make.tree(make.problem(B, "zwei\nZeilen [bold]x[/bold]"), [make.HOSTILE])]]
    trees.append([make.failed(make.problem(C), "EngineError: it \x1b[2J died", [make.RIGHT])])
    return make.write_run(tmp_path_factory.mktemp("run"), trees)


def shown(capsys: pytest.CaptureFixture[str], run: str, what: str | None = None) -> str:
    capsys.readouterr()
    assert show(run, what, as_json=False) == 0
    return capsys.readouterr().out


def test_the_first_problems(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, run)
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:5] == [A, "solved", "5", "2", "50"]
    assert lines[2][:2] == [B, "solved"]
    assert "zwei Zeilen [bold]x[/bold]" in out
    assert lines[3][:5] == [C, "error", "1", "1", "10"]
    assert f"factory show {run} ID" in out


def test_a_problem_with_its_tree_and_transcripts(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, run, A[:4])
    assert f"problem {A}" in out
    assert "user: make 42 from 3 7 12 25" in out
    costs = "5 generations, 50 tokens (10 in a row), 25 prompt tokens, 0.5 engine-seconds, 2.0 s"
    assert f"tree of best_of_n: solved, {costs}" in " ".join(out.split())
    assert "#1 finished, fail, 10 tokens, 0.50 s" in out
    assert "countdown answer fail: equals 47, not 42" in out
    assert "#3 truncated, 10 tokens" in out
    assert "#5 finished, pass, does not count" in out
    assert "rejected: wrong_answer" in out
    assert "rejected: truncated" in out
    assert "rejected: beyond_stop" in out
    assert "kept, 1 removed as abandoned_attempt" in out
    assert f"[-1: {make.DETOUR}-]{make.WAY}" in out
    assert out.index("leaf #2") < out.index("leaf #4") < out.index("leaf #1"), "leaves with a kept transcript first"


def test_a_text_is_shown_once_for_all_variants_that_have_it(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, run, A)
    detoured = out[out.index("leaf #2") : out.index("leaf #4")]
    assert detoured.count("</think>") == 2
    assert f"full: {len(make.DETOURED)} characters" in detoured
    assert f"pruned: {len(make.RIGHT)} of {len(make.DETOURED)} characters" in detoured
    assert f"cut 1: abandoned_attempt, 8 to 57, {len(make.DETOUR)} characters" in detoured
    straight = out[out.index("leaf #4") : out.index("leaf #1")]
    assert straight.count("</think>") == 1
    assert f"full, pruned: {len(make.RIGHT)} characters" in straight


def test_the_attempts_of_a_chain_are_a_tree(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, run, A)
    lines = [line.lstrip("│├└─ ") for line in out[out.index("leaf #2") : out.index("\nfull:")].splitlines()[2:]]
    assert out.count("4 attempts, 1 given up") == 2
    assert [line for line in lines if line] == [
        "1 at 8, 49 characters",
        "try 25 - 12 = 13 left 3 7 13 dead back 3 7 12 25",
        "given up: 'back 3 7 12 25' at 42",
        "2 at 57, 29 characters",
        "try 25 - 7 = 18 left 3 12 18",
        "3 after 2 at 86, 27 characters",
        "try 18 * 3 = 54 left 12 54",
        "4 after 3 at 113, 30 characters",
        "try 54 - 12 = 42 left 42 done",
    ]


@pytest.mark.parametrize("what", [None, A, B, C])
def test_no_text_drives_the_terminal(run: str, what: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, run, what)
    assert not set(out) & set(make.ESCAPES)
    if what == B:
        assert "\\x1b[31mred\\x1b]0;owned\\x07\\r\\x9b2J \\u202egnp.exe [bold]markup[/bold] 世界 🚀" in out


def test_an_error_without_transcripts_says_why(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, run, C)
    assert "EngineError: it \\x1b[2J died" in out
    assert "no transcripts: the tree failed" in out


def test_a_transcript_by_its_id(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(run, A, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    pruned = next(row for row in rows["transcripts"] if row["removed"])
    out = shown(capsys, run, pruned["id"][:12])
    assert pruned["id"] in out
    assert out.count("leaf #") == 1
    assert "#1 finished" not in out
    show(run, rows["rejected"][0]["id"], as_json=True)
    assert json.loads(capsys.readouterr().out)["rejected"] == rows["rejected"][:1]


def test_json_holds_every_row(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(run, A, as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    found = json.loads(out)
    assert found["rollout"]["problem_id"] == A
    assert [node["id"] for node in found["rollout"]["nodes"]] == [1, 2, 3, 4, 5]
    assert {row["variant"] for row in found["transcripts"]} == {"full", "pruned"}
    assert {row["rejection"] for row in found["rejected"]} == {
        "wrong_answer",
        "truncated",
        "beyond_stop",
        "duplicate_text",
    }
    show(run, None, as_json=True)
    assert [one["problem_id"] for one in json.loads(capsys.readouterr().out)["problems"]] == [A, B, C]


def test_an_ambiguous_name_lists_what_it_may_mean(run: str) -> None:
    with pytest.raises(UserError, match=f"'aa' begins 2 ids: {A}, {B}") as caught:
        show(run, "aa", as_json=False)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("what", ["ffffffffffffffffffff", "\x1b[2J", "['%"])
def test_an_unknown_name_is_the_users_mistake(run: str, what: str) -> None:
    with pytest.raises(UserError, match="no problem or transcript") as caught:
        show(run, what, as_json=False)
    assert "\x1b" not in str(caught.value)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        show(str(tmp_path), None, as_json=False)


def test_an_empty_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make.write_run(tmp_path / "run", [])
    assert shown(capsys, run) == "no problem is committed yet\n"
    with pytest.raises(UserError):
        show(run, "aa", as_json=False)


def test_a_run_that_was_not_refined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make.write_run(tmp_path / "run", [[make.tree(make.problem(A), [make.RIGHT])]], refined=False)
    out = shown(capsys, run, A)
    assert "no transcripts: it was not refined yet" in out
    assert f"text: {len(make.RIGHT)} characters\n{make.RIGHT}" in out
    with pytest.raises(UserError):
        show(run, "ffff", as_json=False)


def test_an_error_that_was_retried_is_shown_as_it_stands_now(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = [[make.failed(make.problem(A), "EngineError: died")], [make.tree(make.problem(A), [make.RIGHT])]]
    run = make.write_run(tmp_path / "run", shards)
    out = shown(capsys, run)
    assert out.count(A) == 1
    assert "solved" in out
    assert "EngineError" not in shown(capsys, run, A)


def test_only_ten_problems_stand_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees = [make.tree(make.problem(f"{number:020x}"), [make.WRONG]) for number in range(25)]
    run = make.write_run(tmp_path / "run", [trees[:7], trees[7:]])
    out = shown(capsys, run)
    assert out.count("unsolved") == 10
    with pytest.raises(UserError, match=r"begins 25 ids: .* and 5 more"):
        show(run, "0", as_json=False)


def test_a_prompt_that_could_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = Problem(A, messages=(), reference=None, checks=(), source="")
    run = make.write_run(tmp_path / "run", [[make.failed(nothing, "SourceError: line 3")]])
    assert "SourceError: line 3" in shown(capsys, run)
    assert f"problem {A}" in shown(capsys, run, A)


# --- trees


def test_a_deep_tree_stays_within_the_width(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [make.step(id, (id + 1) // 2 * 2 - 2 if id > 2 else 0, f"step {id}") for id in range(1, 401)]
    chain = [make.step(401 + n, 400 + n, "on") for n in range(2000)]
    end = make.step(2401, 2400, make.RIGHT, state=NodeState.FINISHED, score=0.25, origin=Origin.INJECTED)
    run = make.write_run(tmp_path / "run", [[make.searched(make.problem(A), [*nodes, *chain, end])]], refined=False)
    lines = shown(capsys, run, A).partition("leaf #")[0].splitlines()
    tree = [line for line in lines if "#" in line]
    assert len(tree) == 2401
    assert max(map(len, tree)) <= 100
    assert any("#2401 after #2400 finished" in line for line in tree)


def test_a_revised_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Judged for real: the criticised answer is a leaf of its own, the new one right in both variants."""
    judged = make.tree(make.problem(A), [make.WRONG, make.DETOURED])
    wrong, right = (node.verdicts for node in judged.nodes)
    criticism = make.step(2, 1, "that is \x1b[2J wrong", origin=Origin.INJECTED, role="user", generated_tokens=0)
    nodes = [
        make.step(1, 0, make.WRONG, state=NodeState.FINISHED, verdicts=wrong),
        criticism,
        make.step(3, 2, make.DETOURED, state=NodeState.FINISHED, verdicts=right),
    ]
    run = make.write_run(tmp_path / "run", [[make.searched(make.problem(A), nodes)]])
    out = shown(capsys, run, A)
    assert "#2 after #1 open, injected, user's turn, 0 tokens" in out
    part = out[out.index("leaf #3") : out.index("leaf #1")]
    assert "kept, 1 removed as earlier_turn, 1 removed as abandoned_attempt" in part
    assert (
        f"[-1: {make.WRONG}-]\n\nuser: [-1: that is \\x1b[2J wrong-]\n\nassistant: <think>\n[-2: {make.DETOUR}-]"
        in part
    )
    assert "rejected: wrong_answer" in out[out.index("leaf #1") :]


# --- removed spans


LETTERS = [
    Span("abc", Origin.SAMPLED),
    Span("de", Origin.INJECTED),
    Span("f", Origin.SAMPLED),
    Span("g", Origin.TOOL),
    Span("hi", Origin.SAMPLED),
]
REMOVED = [Removal(1, 2, "x", "b"), Removal(3, 4, "y", "d"), Removal(5, 6, "x", "f"), Removal(7, 9, "x", "hi")]


def version(spans: list[Span], removals: list[Removal], withdrawn: list[Removal] | None = None) -> Version:
    """Of one variant."""
    nothing = make.problem(A)
    one = Transcript(
        *("t", nothing, 1, "pruned", tuple(spans), tuple(removals), (), None),
        policy=Policy("m", "d", Sampling()),
        generated_tokens=1,
        withdrawn=tuple(withdrawn or ()),
    )
    return Version((one,), tuple(pieces(spans, one.removals, one.withdrawn)))


def plain(spans: list[Span], removals: list[Removal], withdrawn: list[Removal] | None = None) -> str:
    return marked(version(spans, removals, withdrawn), styled=False, whole=True).plain


def test_the_text_before_pruning_is_shown_whole() -> None:
    assert "".join(piece.text for piece in pieces(LETTERS, REMOVED, ())) == "abcdefghi"
    assert plain(LETTERS, REMOVED) == "a[-1: b-]c[-2: d-]{injected: e}[-3: f-]{tool: g}[-4: hi-]"


def test_nothing_removed_and_everything_removed() -> None:
    spans = [Span("ab", Origin.SAMPLED), Span("c", Origin.SAMPLED)]
    assert plain(spans, []) == "abc"
    assert plain(spans, [Removal(0, 3, "x", "abc")]) == "[-1: abc-]"
    assert plain(spans, [Removal(0, 1, "x", "a"), Removal(1, 3, "y", "bc")]) == "[-1: a-][-2: bc-]"


def test_what_was_withdrawn_stays_and_is_marked() -> None:
    withdrawn = [Removal(0, 1, "loop", "a", "rests"), Removal(3, 5, "hedge", "de", "rests")]
    expected = "{withdrawn 1: loop: a}[-1: b-]c{withdrawn 2: hedge, injected: de}f{tool: g}hi"
    assert plain(LETTERS, [Removal(1, 2, "x", "b")], withdrawn) == expected


TURNS = [
    Span("first", Origin.SAMPLED),
    Span("wrong", Origin.INJECTED, "user"),
    Span("wait", Origin.INJECTED),
    Span("second", Origin.SAMPLED),
]


def test_turns_are_told_apart() -> None:
    whole = "first\n\nuser: {injected: wrong}\n\nassistant: {injected: wait}second"
    assert plain(TURNS, []) == whole
    earlier = Removal(0, 10, "earlier_turn", "firstwrong")
    cut = "[-1: first-]\n\nuser: [-1: wrong-]\n\nassistant: {injected: wait}second"
    assert plain(TURNS, [earlier]) == cut


def test_on_a_terminal_it_is_struck_through() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=100, markup=False)
    with out.capture() as captured:
        out.print(marked(version(LETTERS, REMOVED), styled=True, whole=True))
    assert "\x1b[1m[1]\x1b[0m\x1b[2;9;31mb\x1b[0m" in captured.get()
    assert "[-" not in captured.get()


def test_a_terminal_gets_styles_and_no_escape_of_the_model(
    run: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = shown(capsys, run, B)
    assert "\x1b[2;9;31m" in out
    assert "owned" in out
    assert "\x1b]" not in out
    assert "\x1b[31mred" not in out
    assert not set(Text.from_ansi(out).plain) & set(make.ESCAPES)


def test_what_is_visible_stays_as_it_is() -> None:
    kept = "äöü 世界\u3000\u00a0🚀👩\u200d💻 עברית\n\ttab"
    assert visible(kept) == kept
    assert (
        visible("\ud83d\x00\x7f\x85\u2028\u2066\ufeff\uffff\U000e0041")
        == "\\ud83d\\x00\\x7f\\x85\\u2028\\u2066\\ufeff\\uffff\\U000e0041"
    )
