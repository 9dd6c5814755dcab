"""Whatever a tree or a transcript holds, Parquet gives back exactly that."""

import io
import itertools
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from factory.rows import REJECTED, ROLLOUTS, TRANSCRIPTS, Row, row_transcript, row_tree, transcript_row, tree_row
from factory.types import (
    Aspect,
    Check,
    Cost,
    Message,
    Node,
    NodeState,
    Origin,
    Outcome,
    Policy,
    Problem,
    Removal,
    Sampling,
    Span,
    StopReason,
    Transcript,
    Tree,
    Verdict,
)

T = TypeVar("T")
SHORT = 4
"""Longest list: what can go wrong does so in short ones."""

text = st.one_of(
    st.sampled_from(["", "\u2028\u2029", "\x00", "\r\n", '"\\', "e\u0301", "\U0001f600", "None", "null"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
small = st.integers(0, 2**31 - 1)
large = st.integers(0, 2**63 - 1)
seconds = st.floats(0, 1e9)
json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), text),
    lambda inner: st.one_of(st.lists(inner, max_size=SHORT), st.dictionaries(text, inner, max_size=SHORT)),
    max_leaves=6,
)
objects = st.dictionaries(text, json, max_size=SHORT)


def several(one: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(one, max_size=SHORT).map(tuple)


problems = st.builds(
    Problem,
    id=text,
    messages=several(st.builds(Message, text, text)),
    reference=st.none() | text,
    checks=several(st.builds(Check, text, objects)),
    source=text,
    metadata=objects,
)
policies = st.builds(
    Policy,
    text,
    text,
    st.builds(
        Sampling,
        temperature=st.floats(0, 2),
        top_p=st.floats(0, 1),
        top_k=small,
        min_p=st.floats(0, 1),
        max_tokens=small,
        logprobs=st.booleans(),
        extra=objects,
    ),
)
verdicts = several(
    st.builds(
        Verdict,
        verifier=text,
        version=text,
        aspect=st.sampled_from(Aspect),
        outcome=st.sampled_from(Outcome),
        extracted=st.none() | text,
        evidence=text,
        seconds=seconds,
    )
)
origins = st.sampled_from(Origin)
roles = st.sampled_from(["assistant", "user", "tool"])
nodes = st.builds(
    Node,
    id=small,
    parent=small,
    text=text,
    token_ids=st.none() | several(small),
    logprobs=st.none() | several(st.floats(max_value=0, allow_nan=False, width=32)),
    origin=origins,
    state=st.sampled_from(NodeState),
    score=st.none() | st.floats(allow_nan=False),
    verdicts=verdicts,
    counted=st.booleans(),
    generated_tokens=small,
    prompt_tokens=small,
    cached_tokens=st.none() | small,
    seconds=seconds,
    role=roles,
)
trees = st.builds(
    Tree,
    problem=problems,
    policy=policies,
    search=text,
    nodes=several(nodes),
    stop=st.none() | st.sampled_from(StopReason),
    error=st.none() | text,
    tries=small,
    cost=st.builds(
        Cost,
        generations=large,
        generated_tokens=large,
        prompt_tokens=large,
        cached_tokens=st.none() | large,
        wall_seconds=seconds,
    ),
)
transcripts = st.builds(
    Transcript,
    id=text,
    problem=problems,
    leaf=small,
    variant=text,
    spans=several(st.builds(Span, text, origins, roles)),
    removals=several(st.builds(Removal, large, large, text, text)),
    verdicts=verdicts,
    rejection=st.none() | text,
    policy=policies,
    generated_tokens=large,
)


def through_parquet(rows: list[Row], schema: pa.Schema) -> list[Row]:
    table = pa.Table.from_pylist(rows, schema=schema)
    table.validate(full=True)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    read = pq.read_table(io.BytesIO(file.getvalue()))
    assert read.schema.equals(schema)
    back: list[Row] = read.to_pylist()
    return back


@given(st.lists(trees, min_size=1, max_size=3), st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)))  # noqa: DTZ001
def test_trees(made: list[Tree], closed_at: datetime) -> None:
    rows = [tree_row(tree, epoch=3, writer="w0", closed_at=closed_at) for tree in made]
    back = through_parquet(rows, ROLLOUTS)
    assert [row_tree(row) for row in back] == made
    assert {(row["epoch"], row["writer"], row["closed_at"]) for row in back} == {(3, "w0", closed_at)}


@given(transcripts)
def test_transcripts(made: Transcript) -> None:
    row = transcript_row(made)
    [back] = through_parquet([row], TRANSCRIPTS if made.rejection is None else REJECTED)
    assert row_transcript(back) == made
    assert "".join(turn["content"] for turn in row["completion"]) == made.text
    assert all(one["role"] != after["role"] for one, after in itertools.pairwise(row["completion"]))
    assert transcript_row(row_transcript(back)) == row == back
