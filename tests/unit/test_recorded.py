"""Rows of each import format, good and bad, become records."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from factory.errors import ConfigError, SourceError
from factory.sources.base import RowError
from factory.sources.recorded.base import Author, Fields, Record, RowCheck
from factory.sources.recorded.formats import Reader, fields_of
from factory.sources.recorded.joins import Join, read_join
from factory.sources.recorded.lines import Lines
from factory.types import Check, NodeState, Origin


def read(
    kind: str,
    row: object,
    fields: dict[str, Any] | None = None,
    author: Author | None = None,
    checks: tuple[dict[str, Any], ...] = ({"verifier": "math"},),
    join: Join | None = None,
) -> Record:
    own = Fields.model_validate(fields or {})
    made = tuple(RowCheck.model_validate(one) for one in checks)
    reader = Reader(fields_of(kind, own), made, author or Author(), "", join)
    return reader(row, "rows.jsonl: line 1", "rows.jsonl")


def test_chat_puts_reasoning_back_and_keeps_the_prompt() -> None:
    answer = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    record = read("chat", {"messages": [{"role": "user", "content": "2 + 2?"}, answer], "reference": "4"})
    assert [one.content for one in record.problem.messages] == ["2 + 2?"]
    assert [one.text for one in record.nodes] == ["<think>\n2 + 2\n</think>\n\n4"]
    assert record.nodes[0].state is NodeState.FINISHED


def test_samples_of_one_row_are_dealt_their_claims() -> None:
    row = {"q": "2 + 2?", "gt": 4, "out": ["4", "5", None], "score": [True, False, False], "m": "a"}
    fields = {"prompt": "q", "reference": "gt", "samples": "out", "claims": ["score"], "model": "m"}
    nodes = read("samples", row, fields).nodes
    assert [(one.id, one.parent, one.text) for one in nodes] == [(1, 0, "4"), (2, 0, "5"), (3, 0, "")]
    assert [one.recorded and one.recorded.claims for one in nodes] == [{"score": one} for one in (True, False, False)]
    assert nodes[2].state is NodeState.TRUNCATED
    assert all(not one.verdicts for one in nodes)


def test_columns_of_several_models() -> None:
    fields = {"prompt": "q", "samples": ["a.text", "b.text"]}
    nodes = read("samples", {"q": "?", "a": {"text": "x"}, "b": {"text": "y"}}, fields, Author(models=("A", "B"))).nodes
    assert [one.recorded and one.recorded.model for one in nodes] == ["A", "B"]


def test_a_tree_of_texts_finds_its_parents() -> None:
    row = {"prompt": "p", "nodes": ["a\n", "b\n", "a\nc\n"], "values": [1, 2.5, 0]}
    nodes = read("tree", row, {"scores": "values"}).nodes
    assert [(one.id, one.parent, one.text, one.score) for one in nodes] == [
        (1, 0, "a\n", 1.0),
        (2, 0, "b\n", 2.5),
        (3, 1, "c\n", 0.0),
    ]
    assert [one.state for one in nodes] == [NodeState.OPEN, NodeState.FINISHED, NodeState.FINISHED]


def test_claims_are_dealt_to_the_attempts_of_a_tree() -> None:
    row = {"prompt": "p", "nodes": ["a\n", "a\nb", "a\nb", "c"], "ends": ["c", "a\nb"], "r": [0, 1]}
    nodes = read("tree", row, {"finished": "ends", "claims": {"right": "r"}}).nodes
    said = {one.text: one.recorded and one.recorded.claims for one in nodes if one.state is NodeState.FINISHED}
    assert said == {"b": {"right": 1}, "c": {"right": 0}}
    assert [one.state for one in nodes].count(NodeState.FINISHED) == 2, "two nodes of one text are one attempt"
    assert all(one.recorded and not one.recorded.claims for one in nodes if one.state is NodeState.OPEN)


def test_steps_become_nodes_and_an_unfinished_attempt_stays_open() -> None:
    row = {"q": "?", "before": ["1 + 1", "is 2"], "next": "so 2", "done": True, "rating": 1}
    fields = {"prompt": "q", "steps": ["before", "next"], "finished": "done", "claims": ["rating"]}
    nodes = read("samples", row, fields).nodes
    assert [(one.parent, one.text) for one in nodes] == [(0, "1 + 1\n"), (1, "is 2\n"), (2, "so 2")]
    assert [one.state for one in nodes] == [NodeState.OPEN, NodeState.OPEN, NodeState.FINISHED]
    assert nodes[-1].recorded is not None
    assert nodes[-1].recorded.claims == {"rating": 1}
    assert {one.state for one in read("samples", row | {"done": False}, fields).nodes} == {NodeState.OPEN}
    assert read("samples", row | {"before": []}, fields | {"separator": " "}).nodes[0].text == "so 2"


def test_what_a_tool_wrote_in_a_text_is_told_apart() -> None:
    text = "call\n<out>3</out>\nit is 3<out>4</out>"
    nodes = read("samples", {"q": "?", "a": text}, {"prompt": "q", "samples": "a", "tool": "<out>.*?</out>"}).nodes
    assert "".join(one.text for one in nodes) == text
    assert [(one.origin, one.text) for one in nodes if one.origin is Origin.TOOL] == [
        (Origin.TOOL, "<out>3</out>"),
        (Origin.TOOL, "<out>4</out>"),
    ]
    assert [one.state for one in nodes] == [NodeState.OPEN] * 3 + [NodeState.FINISHED]
    empty = read("samples", {"q": "?", "a": ""}, {"prompt": "q", "samples": "a", "tool": "x"}).nodes
    assert [one.text for one in empty] == [""]


def test_a_reference_is_picked_out_of_a_text() -> None:
    fields = {"prompt": "q", "samples": "a", "reference": {"path": "gold", "pattern": r"#### (.*)$"}}
    assert read("samples", {"q": "?", "a": "4", "gold": "2 + 2\n#### 4"}, fields).problem.reference == "4"
    with pytest.raises(RowError, match="nothing in 'gold' matches"):
        read("samples", {"q": "?", "a": "4", "gold": "4"}, fields)
    with pytest.raises(RowError, match="nothing in 'gold' matches"):
        read("samples", {"q": "?", "a": "4", "gold": "b"}, fields | {"reference": {"path": "gold", "pattern": "(a)|b"}})
    with pytest.raises(RowError, match="must be a text, not int"):
        read("samples", {"q": "?", "a": "4", "gold": 4}, fields)
    with pytest.raises(ValidationError, match="no regular expression"):
        Fields.model_validate({"reference": {"path": "gold", "pattern": "("}})


def test_checks_are_for_some_rows_and_made_of_their_parts() -> None:
    game = {
        "verifier": "game24",
        "where": {"kind": ["countdown", "24"]},
        "integers": {"numbers": {"path": "q", "pattern": "from (.*)"}},
        "integer": {"target": {"path": "q", "pattern": r"make \d+"}},
    }
    code = {"verifier": "code", "where": {"kind": "code"}, "texts": {"tests": ["{t}\ncheck({f})"], "prefix": "# {f}"}}
    fields = {"prompt": "q", "samples": "a"}
    row = {"q": "make 30 from 1 2 30", "a": "30", "kind": "24", "t": "assert {}", "f": "g"}
    assert read("samples", row, fields, checks=(game, code)).problem.checks == (
        Check("game24", {"numbers": [1, 2, 30], "target": 30}),
    )
    made = read("samples", row | {"kind": "code"}, fields, checks=(game, code)).problem.checks
    assert made == (Check("code", {"tests": ["assert {}\ncheck(g)"], "prefix": "# g"}),)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"kind": "else"}, r"none of the \[\[checks\]\] is for it"),
        ({"q": "make from 1"}, "matches"),
        ({"kind": "code", "f": ["g"]}, "'f' must be a text or a number"),
    ]
    for odd, reason in wrong:
        with pytest.raises(RowError, match=reason):
            read("samples", row | odd, fields, checks=(game, code))
    with pytest.raises(RowError, match="no field 'kind'"):
        read("samples", {"q": "?", "a": ""}, fields, checks=(game,))
    two = game | {"integer": {"target": {"path": "q", "pattern": ".*"}}}
    with pytest.raises(RowError, match="has 4 whole numbers, not one"):
        read("samples", row, fields, checks=(two,))


def test_rows_of_another_file_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl.gz"
    others = [{"id": 1, "q": "one?"}, {"id": "1", "q": "text?"}, {"id": 1, "q": "again?"}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, others)).encode()))
    join = read_join([str(path)], "n", "id")
    fields = {"prompt": "joined.q", "samples": "a"}
    for key, asked in ((1, "one?"), ("1", "text?")):
        record = read("samples", {"n": key, "a": "x"}, fields, join=join)
        assert record.problem.messages[0].content == asked
    for row, reason in (({"n": 2, "a": "x"}, "nothing to join with: no other row has 2"), ({"a": "x"}, "no field 'n'")):
        with pytest.raises(RowError, match=reason):
            read("samples", row, fields, join=join)


@pytest.mark.parametrize(
    ("line", "reason"), [(b'{"id": ', "not JSON"), (b"[]", "not an object"), (b"{}", "no field 'id'")]
)
def test_a_bad_line_of_a_joined_file_is_named(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_bytes(b'{"id": 1}\n' + line)
    with pytest.raises(SourceError, match=rf"problems\.jsonl: line 2: cannot be joined: .*{reason}"):
        read_join([str(path)], "id", "id")


def test_a_tree_of_objects_in_any_order() -> None:
    nodes = [{"id": "y", "parent": "x", "text": "2"}, {"id": "x", "parent": None, "text": "1"}]
    assert [(one.id, one.parent, one.text) for one in read("tree", {"prompt": "p", "nodes": nodes}).nodes] == [
        (1, 0, "1"),
        (2, 1, "2"),
    ]


def test_verifiers_with_a_tool_and_a_user_between() -> None:
    completion = [
        {"role": "assistant", "content": "call"},
        {"role": "tool", "content": "out"},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "4"},
    ]
    row = {"prompt": [{"role": "user", "content": "?"}], "completion": completion, "answer": "4", "reward": 0.5}
    record = read("verifiers", row)
    assert [one.origin for one in record.nodes] == [Origin.SAMPLED, Origin.TOOL, Origin.INJECTED, Origin.SAMPLED]
    assert record.problem.reference == "4"
    last = record.nodes[-1].recorded
    assert last is not None
    assert last.claims["reward"] == 0.5


def test_nemo_tells_tokens_and_truncation() -> None:
    row = {"problem": "?", "generation": "4", "expected_answer": "4", "num_generated_tokens": 7}
    assert read("nemo", row).nodes[0].generated_tokens == 7
    assert read("nemo", row | {"finish_reason": "length"}).nodes[0].state is NodeState.TRUNCATED


BAD = [
    ("chat", {"prompt": "?"}, "no field 'messages'"),
    ("chat", {"messages": [{"role": "user", "content": "?"}]}, "there is no attempt"),
    ("nemo", ["no object"], "not an object but list"),
    ("nemo", {"problem": "?", "generation": []}, "no samples"),
    ("nemo", {"problem": "?", "generation": "\ud800"}, "surrogate"),
    ("tree", {"prompt": "p", "nodes": [{"id": 1, "parent": 2, "text": "a"}]}, "none of the nodes"),
    ("tree", {"prompt": "p", "nodes": [{"id": 1, "parent": 1, "text": "a"}]}, "no tree"),
]


@pytest.mark.parametrize(("kind", "row", "reason"), BAD)
def test_bad_rows_say_why(kind: str, row: object, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read(kind, row)


def test_an_attempt_that_is_none_of_the_nodes_is_not_lost_silently() -> None:
    with pytest.raises(RowError, match="'ends' has a text that is none of the nodes"):
        read("tree", {"prompt": "p", "nodes": ["a"], "ends": ["b"]}, {"finished": "ends"})


@pytest.mark.parametrize("steps", [[], 7, ["a", None]])
def test_steps_are_texts(steps: object) -> None:
    with pytest.raises(RowError, match="steps"):
        read("samples", {"q": "?", "steps": steps}, {"prompt": "q", "steps": "steps"})


@pytest.mark.parametrize(
    ("kind", "given", "key"),
    [
        ("samples", {"prompt": "q", "samples": "a", "steps": "b"}, "samples"),
        ("samples", {"prompt": "q", "samples": "a", "separator": " "}, "separator"),
        ("samples", {"prompt": "q", "steps": "a", "tool": "x"}, "tool"),
        ("chat", {"steps": "a"}, "steps"),
    ],
)
def test_a_key_that_would_do_nothing_is_refused(kind: str, given: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"fields\.{key}"):
        fields_of(kind, Fields.model_validate(given))


def test_samples_needs_a_mapping() -> None:
    with pytest.raises(ConfigError, match=r"fields\.prompt"):
        fields_of("samples", Fields())


def test_lines_are_read_again_by_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [json.dumps({"a": "x\u2028y"}, ensure_ascii=False).encode(), b"", b'{"half": ']
    path.write_bytes(b"\r\n".join(rows))
    lines = Lines([str(path)])
    found = list(lines.scan())
    assert [(place.number, line) for place, line in found] == [(1, rows[0]), (3, rows[2])]
    assert [lines.read(place) for place, _ in found] == [rows[0], rows[2]]
    lines.close()
