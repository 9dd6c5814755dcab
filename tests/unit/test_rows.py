"""The schemas are explicit, documented and locked; rows say what the nouns say. Also home of the made-up nouns that the
other tests of storage use."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from factory.rows import (
    REJECTED,
    ROLLOUTS,
    SCHEMA_VERSION,
    TRANSCRIPTS,
    Row,
    describe,
    row_transcript,
    row_tree,
    schema_of,
    split_of,
    transcript_row,
    tree_row,
)
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

GOLDEN = Path(__file__).parents[1] / "golden"
NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
POLICY = Policy("teacher", "0" * 64, Sampling(temperature=0.7, extra={"min_tokens": 3}))
SCHEMAS = {"rollouts": ROLLOUTS, "transcripts": TRANSCRIPTS, "rejected": REJECTED}


def make_problem(id: str) -> Problem:
    return Problem(
        id, (Message("user", f"what is {id}?"),), "42", (Check("exact", {"strict": True}),), "made", {"level": 3}
    )


def make_verdict(outcome: Outcome, aspect: Aspect = Aspect.ANSWER) -> Verdict:
    return Verdict("exact", "1", aspect, outcome, "42", "as the reference", 0.001)


def make_node(id: int, outcome: Outcome = Outcome.PASS, *, counted: bool = True) -> Node:
    return Node(
        id=id,
        parent=0,
        text=f"let me see, {id}",
        token_ids=(1, 2, id),
        logprobs=(-0.5, -1.25, 0.0),
        origin=Origin.SAMPLED,
        state=NodeState.FINISHED,
        score=None,
        verdicts=(make_verdict(outcome),),
        counted=counted,
        generated_tokens=3,
        prompt_tokens=9,
        cached_tokens=None,
        seconds=0.25,
    )


def make_tree(id: str, *outcomes: Outcome, error: str | None = None) -> Tree:
    nodes = tuple(make_node(number, outcome) for number, outcome in enumerate(outcomes, start=1))
    stop = StopReason.ERROR if error else StopReason.EXHAUSTED
    return Tree(make_problem(id), POLICY, "best_of_n", nodes, stop, error, 1, Cost(len(nodes), 3 * len(nodes)))


def make_transcript(id: str, leaf: int, variant: str = "full", rejection: str | None = None) -> Transcript:
    """Of the leaf that `make_node` makes."""
    return Transcript(
        id=f"{id}-{leaf}-{variant}",
        problem=make_problem(id),
        leaf=leaf,
        variant=variant,
        spans=(Span(f"let me see, {leaf}", Origin.SAMPLED),),
        removals=(),
        verdicts=(make_verdict(Outcome.FAIL if rejection else Outcome.PASS),),
        rejection=rejection,
        policy=POLICY,
        generated_tokens=3,
    )


def make_row(tree: Tree) -> Row:
    return tree_row(tree, epoch=1, writer="w0", closed_at=NOON)


def render(schema: pa.Schema) -> str:
    """A schema as people read it: one column a line, with its sentence."""
    lines = [f"schema version {schema.metadata[b'schema_version'].decode()}"]
    for field, description in zip(schema, describe(schema).values(), strict=True):
        lines.append(f"{field.name}: {field.type}{'' if field.nullable else ' not null'}\n    {description}")
    return "\n".join(lines) + "\n"


def types_within(kind: pa.DataType) -> Iterator[pa.DataType]:
    yield kind
    for index in range(kind.num_fields):
        yield from types_within(kind.field(index).type)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_changes_only_on_purpose(name: str) -> None:
    golden = GOLDEN / f"{name}.schema.txt"
    assert render(SCHEMAS[name]) == golden.read_text("utf-8"), f"raise SCHEMA_VERSION, then rewrite {golden}"


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_column_has_a_type_a_sentence_and_the_version(schema: pa.Schema) -> None:
    assert not any(pa.types.is_null(kind) for field in schema for kind in types_within(field.type))
    assert list(describe(schema)) == schema.names
    assert all(text.endswith(".") and len(text) > 20 for text in describe(schema).values())
    assert schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()


@pytest.mark.parametrize(
    ("noun", "kind"),
    [
        (Message, ROLLOUTS.field("messages").type.value_type),
        (Node, ROLLOUTS.field("nodes").type.value_type),
        (Verdict, ROLLOUTS.field("nodes").type.value_type.field("verdicts").type.value_type),
        (Cost, ROLLOUTS.field("cost").type),
        (Span, TRANSCRIPTS.field("spans").type.value_type),
        (Removal, TRANSCRIPTS.field("removed").type.value_type),
        (Verdict, TRANSCRIPTS.field("verdicts").type.value_type),
    ],
)
def test_the_columns_hold_all_that_the_nouns_hold(noun: type, kind: pa.StructType) -> None:
    names = [field.name for field in fields(noun)]
    assert [kind.field(index).name for index in range(kind.num_fields)] == names


def test_each_table_has_its_schema() -> None:
    assert schema_of("rollouts") is schema_of("journal") is ROLLOUTS
    assert schema_of("transcripts/0af") is TRANSCRIPTS
    assert schema_of("rejected/0af") is REJECTED
    with pytest.raises(KeyError):
        schema_of("exports")


def test_rejected_rows_have_a_reason_and_transcripts_have_no_such_column() -> None:
    kept = transcript_row(make_transcript("p", 1))
    refused = transcript_row(make_transcript("p", 1, rejection="wrong_answer"))
    assert list(kept.keys() ^ refused.keys()) == ["rejection"]
    assert kept.keys() == set(TRANSCRIPTS.names)
    assert refused.keys() == set(REJECTED.names)
    assert not REJECTED.field("rejection").nullable


def test_a_transcript_row_is_what_chat_trainers_read() -> None:
    made = make_transcript("p", 1)
    row = transcript_row(made)
    assert row["prompt"] == [{"role": "user", "content": "what is p?"}]
    assert row["completion"] == [{"role": "assistant", "content": made.text}]


def test_a_pruned_transcript_tells_how_long_it_was() -> None:
    made = make_transcript("p", 1, "pruned")
    cut = Transcript(
        **{field.name: getattr(made, field.name) for field in fields(made) if field.name != "removals"},
        removals=(Removal(0, 5, "abandoned_attempt", "12345"),),
    )
    row = transcript_row(cut)
    assert (row["characters_full"], row["characters_kept"]) == (len(made.text) + 5, len(made.text))


def test_only_right_leaves_that_count_solve_a_problem() -> None:
    wrong, unknown, right = make_tree("a", Outcome.FAIL), make_tree("b", Outcome.UNKNOWN), make_tree("c", Outcome.PASS)
    beyond = Tree(
        right.problem, POLICY, "best_of_n", (make_node(1, counted=False),), StopReason.EXHAUSTED, None, 1, Cost()
    )
    assert [make_row(tree)["solved"] for tree in (wrong, unknown, right, beyond)] == [False, False, True, False]


def test_a_line_that_is_no_problem_makes_a_row() -> None:
    problem = Problem("0a" * 10, (), None, (), "problems.jsonl:7")
    tree = Tree(problem, POLICY, "best_of_n", (), StopReason.ERROR, "SourceError: no JSON", 0, Cost())
    table = pa.Table.from_pylist([make_row(tree)], schema=ROLLOUTS)
    table.validate(full=True)
    [row] = table.to_pylist()
    assert (row["messages"], row["checks"], row["stop"]) == ([], "[]", "error")
    assert row_tree(row) == tree


def test_times_are_kept_to_the_microsecond_in_utc() -> None:
    [row] = pa.Table.from_pylist([make_row(make_tree("p"))], schema=ROLLOUTS).to_pylist()
    assert row["closed_at"] == NOON
    assert row["closed_at"].utcoffset().total_seconds() == 0


def test_an_open_tree_has_no_stop_reason() -> None:
    closed = make_tree("p", Outcome.PASS)
    tree = Tree(closed.problem, POLICY, "best_of_n", closed.nodes, None, None, 1, Cost())
    assert make_row(tree)["stop"] is None
    assert row_tree(make_row(tree)) == tree


def test_the_split_hangs_on_the_id_alone() -> None:
    ids = [f"problem-{number}" for number in range(10_000)]
    validation = [id for id in ids if split_of(id) == "validation"]
    assert 140 < len(validation) < 260
    assert validation[:3] == ["problem-1", "problem-20", "problem-61"]
    assert transcript_row(make_transcript("problem-20", 1))["split"] == "validation"


def test_free_json_needs_no_schema() -> None:
    row = transcript_row(make_transcript("p", 1))
    assert row["metadata"] == '{"level":3}'
    assert row["checks"] == '[{"params":{"strict":true},"verifier":"exact"}]'
    assert row_transcript(row).problem.metadata == {"level": 3}
