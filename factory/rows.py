"""The tables' Arrow schemas, and the lossless way from a noun to a row and back.

A schema is explicit and versioned (`SCHEMA_VERSION`), says which columns may be null, types no column null, and carries
one sentence per column (`describe`), from which the dataset card is written. The first column is the key that a
shard is sorted by. `row_tree(tree_row(tree))` and `row_transcript(transcript_row(transcript))` give back what went in;
log-probabilities are kept in the single precision in which engines compute them. Free JSON stands in string columns,
so that no schema depends on a record.

Nothing here reads or writes files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from factory.ids import canonical_json
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
    Recorded,
    Removal,
    Sampling,
    Scoring,
    Seam,
    Span,
    StopReason,
    Transcript,
    Tree,
    Verdict,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA_VERSION = 4
"""Raised whenever a schema changes; the golden files in the tests hold the present one."""
VALIDATION_ONE_IN = 50
"""One problem in so many is in the validation split."""

Row = dict[str, Any]
"""One row as `pyarrow.Table.from_pylist` takes it and `to_pylist` gives it."""


def _column(name: str, kind: pa.DataType, description: str, *, null: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=null, metadata={"description": description})


def _schema(table: str, columns: Iterable[pa.Field]) -> pa.Schema:
    return pa.schema(columns, metadata={"table": table, "schema_version": str(SCHEMA_VERSION)})


_TEXT, _COUNT, _SMALL, _SECONDS, _BOOL = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()

_MESSAGE = pa.struct([("role", _TEXT), ("content", _TEXT)])
_SPAN = pa.struct([("text", _TEXT), ("origin", _TEXT), ("role", _TEXT)])
_SEAM = pa.struct(
    [
        ("untested", _TEXT),
        ("tokens", _SMALL),
        ("drop", pa.float64()),
        ("largest", pa.float64()),
        ("continuations", _SMALL),
        ("right_with", _SMALL),
        ("right_without", _SMALL),
        ("detectable", pa.float64()),
    ]
)
_REMOVAL = pa.struct(
    [
        ("start", _COUNT),
        ("end", _COUNT),
        ("reason", _TEXT),
        ("text", _TEXT),
        ("evidence", _TEXT),
        ("seam", _SEAM),
    ]
)
_VERDICT = pa.struct(
    [
        ("verifier", _TEXT),
        ("version", _TEXT),
        ("aspect", _TEXT),
        ("outcome", _TEXT),
        ("extracted", _TEXT),
        ("evidence", _TEXT),
        ("seconds", _SECONDS),
    ]
)
_SCORING = pa.struct([("generated_tokens", _SMALL), ("prompt_tokens", _SMALL), ("cached_tokens", _SMALL)])
_RECORDED = pa.struct([("model", _TEXT), ("where", _TEXT), ("claims", _TEXT)])
_NODE = pa.struct(
    [
        ("id", _SMALL),
        ("parent", _SMALL),
        ("text", _TEXT),
        ("token_ids", pa.list_(_SMALL)),
        ("logprobs", pa.list_(pa.float32())),
        ("origin", _TEXT),
        ("state", _TEXT),
        ("score", pa.float64()),
        ("verdicts", pa.list_(_VERDICT)),
        ("counted", _BOOL),
        ("generated_tokens", _SMALL),
        ("prompt_tokens", _SMALL),
        ("cached_tokens", _SMALL),
        ("seconds", _SECONDS),
        ("engine_seconds", _SECONDS),
        ("role", _TEXT),
        ("scoring", _SCORING),
        ("recorded", _RECORDED),
    ]
)
_COST = pa.struct(
    [
        ("generations", _COUNT),
        ("generated_tokens", _COUNT),
        ("sequential_tokens", _COUNT),
        ("prompt_tokens", _COUNT),
        ("cached_tokens", _COUNT),
        ("scoring_generated_tokens", _COUNT),
        ("scoring_prompt_tokens", _COUNT),
        ("engine_seconds", _SECONDS),
        ("wall_seconds", _SECONDS),
    ]
)

_PROBLEM_ID = _column("problem_id", _TEXT, "Hash of the prompt and the reference; the same in every table and run.")
_ABOUT_PROBLEM = (
    _column("reference", _TEXT, "A right answer in the format of the checks; null where they need none.", null=True),
    _column("checks", _TEXT, "JSON list of the verifiers that must agree, with their parameters."),
    _column("source", _TEXT, "Where the problem came from: a file, a dataset, a generator."),
    _column("metadata", _TEXT, "JSON object that came with the problem; kept, not interpreted."),
)
_ABOUT_POLICY = (
    _column("model", _TEXT, "The teacher that wrote the sampled text: name or path, as the recipe gives it."),
    _column(
        "model_digest",
        _TEXT,
        "SHA-256 of the teacher's files; `served:NAME@URL` or `recorded:NAME` where they cannot be seen.",
    ),
    _column("sampling", _TEXT, "JSON object of the sampling parameters."),
)

ROLLOUTS: pa.Schema = _schema(
    "rollouts",
    (
        _PROBLEM_ID,
        _column("messages", pa.list_(_MESSAGE), "The prompt; empty for a source line that could not be read."),
        *_ABOUT_PROBLEM,
        _column("search", _TEXT, "Name of the search strategy."),
        _column(
            "stop",
            _TEXT,
            "Why the tree was closed: `solved`, `exhausted`, `capped`, `agreed`, `given_up`, `error`; null while open.",
            null=True,
        ),
        _column("error", _TEXT, "What failed, in one line; null where nothing did.", null=True),
        _column("tries", _SMALL, "How many tries the problem took, this one included."),
        _column("solved", _BOOL, "Whether any counted leaf is right."),
        _column(
            "nodes", pa.list_(_NODE), "The search tree without its root: parents before children, verdicts on leaves."
        ),
        *_ABOUT_POLICY,
        _column("cost", _COST, "What the tree cost in generations, tokens and seconds."),
        _column("epoch", _SMALL, "Which owner of the run wrote the row; rises by one with each restart."),
        _column("writer", _TEXT, "Which writer of that epoch wrote the row."),
        _column("closed_at", pa.timestamp("us", tz="UTC"), "When the row was made: when the tree closed, in UTC."),
    ),
)
"""One problem's search tree per row. `rollouts/` holds closed ones, `journal/` open ones."""

_TRANSCRIPT_COLUMNS = (
    _column("id", _TEXT, "Hash that names this transcript; the same whenever the same refinement is repeated."),
    _PROBLEM_ID,
    _column("leaf", _SMALL, "Id of the tree's node that the transcript ends with."),
    _column("variant", _TEXT, "`full`: as it was sampled; any other: without the spans listed in `removed`."),
    _column(
        "split", _TEXT, f"`train` or `validation` (one problem in {VALIDATION_ONE_IN}), by a hash of `problem_id`."
    ),
    _column("prompt", pa.list_(_MESSAGE), "The messages before the answer, as chat trainers take them."),
    _column(
        "completion",
        pa.list_(_MESSAGE),
        "The text to train on: one assistant message, or turns about a revised answer.",
    ),
    _column(
        "spans", pa.list_(_SPAN), "The completion in pieces, each `sampled`, `injected` or `tool`; train on sampled."
    ),
    _column(
        "removed",
        pa.list_(_REMOVAL),
        "What pruning cut: character offsets into the full text, rule, text, what in the text says so, and how much"
        " less likely an engine finds what follows (or why it was not tested).",
    ),
    _column("withdrawn", pa.list_(_REMOVAL), "The same of what was found and not cut, with what seems to rest on it."),
    _column("verdicts", pa.list_(_VERDICT), "What the verifiers say of this very text, after pruning."),
    *_ABOUT_PROBLEM,
    *_ABOUT_POLICY,
    _column("generated_tokens", _COUNT, "Tokens the teacher spent on the path, before pruning."),
    _column("characters_full", _COUNT, "Characters of the completion before pruning."),
    _column("characters_kept", _COUNT, "Characters of the completion as it stands here."),
)

TRANSCRIPTS: pa.Schema = _schema("transcripts", _TRANSCRIPT_COLUMNS)
"""One training example per row."""

REJECTED: pa.Schema = _schema(
    "rejected", (*_TRANSCRIPT_COLUMNS, _column("rejection", _TEXT, "Name of the reason why it is no training example."))
)
"""The same of what refinement refused, with the reason."""


def schema_of(table: str) -> pa.Schema:
    """Schema of `rollouts`, `journal`, `transcripts/<digest>` or `rejected/<digest>`; KeyError for anything else."""
    kind = table.partition("/")[0]
    return {"rollouts": ROLLOUTS, "journal": ROLLOUTS, "transcripts": TRANSCRIPTS, "rejected": REJECTED}[kind]


def describe(schema: pa.Schema) -> dict[str, str]:
    """What each column means, in the order of the columns."""
    return {field.name: field.metadata[b"description"].decode() for field in schema}


def split_of(problem_id: str) -> Literal["train", "validation"]:
    """The split of everything that belongs to a problem: it hangs on the id alone, so it never changes."""
    number = int.from_bytes(hashlib.sha256(f"split:{problem_id}".encode()).digest()[:8], "big")
    return "validation" if number % VALIDATION_ONE_IN == 0 else "train"


def is_right(node: Node) -> bool:
    """Whether a node is a right leaf that counts: finished, judged, its answer passed."""
    return node.counted and node.state is NodeState.FINISHED and node.outcome is Outcome.PASS


def tree_row(tree: Tree, *, epoch: int, writer: str, closed_at: datetime) -> Row:
    """A row of ROLLOUTS. `closed_at` has a time zone; for a row of the journal it is the time of journaling."""
    return {
        **_problem_columns(tree.problem),
        "messages": [_flat(message) for message in tree.problem.messages],
        **_policy_columns(tree.policy),
        "search": tree.search,
        "stop": tree.stop,
        "error": tree.error,
        "tries": tree.tries,
        "solved": any(is_right(node) for node in tree.nodes),
        "nodes": [_node_row(node) for node in tree.nodes],
        "cost": _flat(tree.cost),
        "epoch": epoch,
        "writer": writer,
        "closed_at": closed_at,
    }


def row_tree(row: Mapping[str, Any]) -> Tree:
    """The tree that `tree_row` was given."""
    return Tree(
        problem=_problem(row, row["messages"]),
        policy=_policy(row),
        search=row["search"],
        nodes=tuple(_node(node) for node in row["nodes"]),
        stop=None if row["stop"] is None else StopReason(row["stop"]),
        error=row["error"],
        tries=row["tries"],
        cost=Cost(**row["cost"]),
    )


def transcript_row(transcript: Transcript) -> Row:
    """A row of TRANSCRIPTS, or of REJECTED where the transcript has a rejection."""
    text = transcript.text
    row = {
        **_problem_columns(transcript.problem),
        "id": transcript.id,
        "leaf": transcript.leaf,
        "variant": transcript.variant,
        "split": split_of(transcript.problem.id),
        "prompt": [_flat(message) for message in transcript.problem.messages],
        "completion": _turns(transcript.spans),
        "spans": [_flat(span) for span in transcript.spans],
        "removed": [_removal_row(removal) for removal in transcript.removals],
        "withdrawn": [_removal_row(removal) for removal in transcript.withdrawn],
        "verdicts": [_flat(verdict) for verdict in transcript.verdicts],
        **_policy_columns(transcript.policy),
        "generated_tokens": transcript.generated_tokens,
        "characters_full": len(text) + sum(len(removal.text) for removal in transcript.removals),
        "characters_kept": len(text),
    }
    return row if transcript.rejection is None else {**row, "rejection": transcript.rejection}


def _turns(spans: Iterable[Span]) -> list[Row]:
    """Neighbouring spans of one speaker are one message."""
    turns: list[Row] = []
    for span in spans:
        if not turns or turns[-1]["role"] != span.role:
            turns.append({"role": span.role, "content": ""})
        turns[-1]["content"] += span.text
    return turns or [{"role": "assistant", "content": ""}]


def row_transcript(row: Mapping[str, Any]) -> Transcript:
    """The transcript that `transcript_row` was given, from a row of either table."""
    return Transcript(
        id=row["id"],
        problem=_problem(row, row["prompt"]),
        leaf=row["leaf"],
        variant=row["variant"],
        spans=tuple(Span(span["text"], Origin(span["origin"]), span["role"]) for span in row["spans"]),
        removals=tuple(_removal(removal) for removal in row["removed"]),
        verdicts=_verdicts(row["verdicts"]),
        rejection=row.get("rejection"),
        policy=_policy(row),
        generated_tokens=row["generated_tokens"],
        withdrawn=tuple(_removal(removal) for removal in row["withdrawn"]),
    )


def _flat(value: DataclassInstance) -> Row:
    """Fields of a dataclass, one level deep: `asdict` would copy every token id by itself."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _removal_row(removal: Removal) -> Row:
    return {**_flat(removal), "seam": _flat(removal.seam)}


def _removal(row: Mapping[str, Any]) -> Removal:
    return Removal(**{**row, "seam": Seam(**row["seam"])})


def _node_row(node: Node) -> Row:
    return {
        **_flat(node),
        "scoring": None if node.scoring is None else _flat(node.scoring),
        "recorded": None if node.recorded is None else _recorded_row(node.recorded),
        "verdicts": [_flat(verdict) for verdict in node.verdicts],
    }


def _recorded_row(recorded: Recorded) -> Row:
    return {**_flat(recorded), "claims": canonical_json(dict(recorded.claims))}


def _problem_columns(problem: Problem) -> Row:
    return {
        "problem_id": problem.id,
        "reference": problem.reference,
        "checks": canonical_json([{"verifier": one.verifier, "params": dict(one.params)} for one in problem.checks]),
        "source": problem.source,
        "metadata": canonical_json(dict(problem.metadata)),
    }


def _policy_columns(policy: Policy) -> Row:
    return {
        "model": policy.model,
        "model_digest": policy.digest,
        "sampling": canonical_json({**_flat(policy.sampling), "extra": dict(policy.sampling.extra)}),
    }


def _problem(row: Mapping[str, Any], messages: Iterable[Mapping[str, str]]) -> Problem:
    return Problem(
        id=row["problem_id"],
        messages=tuple(Message(**message) for message in messages),
        reference=row["reference"],
        checks=tuple(Check(**check) for check in json.loads(row["checks"])),
        source=row["source"],
        metadata=json.loads(row["metadata"]),
    )


def _policy(row: Mapping[str, Any]) -> Policy:
    return Policy(row["model"], row["model_digest"], Sampling(**json.loads(row["sampling"])))


def _node(node: Mapping[str, Any]) -> Node:
    return Node(
        **{
            **node,
            "token_ids": None if node["token_ids"] is None else tuple(node["token_ids"]),
            "logprobs": None if node["logprobs"] is None else tuple(node["logprobs"]),
            "origin": Origin(node["origin"]),
            "state": NodeState(node["state"]),
            "scoring": None if node["scoring"] is None else Scoring(**node["scoring"]),
            "recorded": None if node["recorded"] is None else _recorded(node["recorded"]),
            "verdicts": _verdicts(node["verdicts"]),
        }
    )


def _recorded(row: Mapping[str, Any]) -> Recorded:
    return Recorded(**{**row, "claims": json.loads(row["claims"])})


def _verdicts(verdicts: Iterable[Mapping[str, Any]]) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(**{**verdict, "aspect": Aspect(verdict["aspect"]), "outcome": Outcome(verdict["outcome"])})
        for verdict in verdicts
    )
