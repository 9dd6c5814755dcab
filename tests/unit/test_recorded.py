"""Rows of each import format, good and bad, become records."""

import json
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError
from factory.sources.base import RowError
from factory.sources.recorded.base import Author, Fields, Record, RowCheck
from factory.sources.recorded.formats import Reader, fields_of
from factory.sources.recorded.lines import Lines
from factory.types import NodeState, Origin


def read(kind: str, row: object, fields: dict[str, Any] | None = None, author: Author | None = None) -> Record:
    own = Fields.model_validate(fields or {})
    reader = Reader(fields_of(kind, own), (RowCheck(verifier="math"),), author or Author(), "")
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
