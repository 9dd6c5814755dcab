"""The formats of an import: where each has its parts, and how a row of it becomes a `Record`.

| format | a row is |
| --- | --- |
| `chat` | OpenAI's messages, which end with the attempt |
| `samples` | a problem and its attempts, wherever the spec says |
| `tree` | a problem and the nodes of a search |
| `verifiers` | prime-intellect verifiers: `prompt`, `completion`, `answer`, `reward` |
| `nemo` | NeMo-Skills: `problem`, `generation`, `expected_answer` |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from factory.errors import ConfigError
from factory.ids import canonical_json
from factory.sources.base import RowError, to_problem
from factory.sources.recorded.attempts import chains, conversation, conversation_chain, prompt, samples, stepwise
from factory.sources.recorded.base import Author, Fields, Record, RowCheck, given_checks
from factory.sources.recorded.columns import Missing, find, get, needed
from factory.sources.recorded.joins import Join
from factory.sources.recorded.nodes import tree
from factory.sources.recorded.parts import Part, part
from factory.types import Node

FORMATS: Mapping[str, Fields] = {
    "chat": Fields(messages="messages", reference="reference", checks="checks", model="model"),
    "samples": Fields(checks="checks"),
    "tree": Fields(prompt="prompt", reference="reference", checks="checks", nodes="nodes", model="model"),
    "verifiers": Fields(
        prompt="prompt",
        samples="completion",
        reference="answer",
        metadata=["task", "info"],
        claims=["reward", "metrics"],
        finish="stop_condition",
    ),
    "nemo": Fields(
        prompt="problem",
        samples="generation",
        reference="expected_answer",
        claims=["predicted_answer", "is_correct", "symbolic_correct", "judgement"],
        tokens="num_generated_tokens",
        finish="finish_reason",
    ),
}
"""Where each format has its parts, if the spec says nothing else; rows may lack all but prompt and attempt."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Makes records of the rows of one format."""

    fields: Fields
    checks: tuple[RowCheck, ...]
    """For rows that have none."""
    author: Author
    template: str
    """A prompt with `{prompt}` where the row's text goes; empty for that text alone."""
    join: Join | None = None

    def __call__(self, row: object, where: str, source: str) -> Record:
        """Raises RowError. `source`: the file."""
        row = self._whole(row)
        messages, nodes = self._parts(row, where)
        _refuse_unwritable(nodes)
        asked = {
            "messages": self._asked(messages),
            "reference": _reference(row, self.fields.reference),
            "checks": get(row, self.fields.checks),
            "metadata": {path: value for path in self.fields.metadata if (value := get(row, path)) is not None},
        }
        checks = () if asked["checks"] else given_checks(self.checks, row)
        return Record(to_problem(asked, source, None, checks), nodes)

    def _whole(self, row: object) -> Mapping[str, Any]:
        if not isinstance(row, Mapping):
            raise RowError(f"not an object but {type(row).__name__}")
        return row if self.join is None else self.join(row)

    def _parts(self, row: Mapping[str, Any], where: str) -> tuple[list[dict[str, str]], tuple[Node, ...]]:
        fields = self.fields
        if fields.messages is not None:
            messages, turns = conversation(row, fields.messages)
            return messages, conversation_chain(row, fields, turns, self.author, where)
        asked = prompt(needed(row, str(fields.prompt)))
        if fields.nodes is not None:
            return asked, tree(row, fields, self.author, where)
        if fields.steps is not None:
            return asked, stepwise(row, fields, self.author, where)
        found = samples(row, fields)
        if not found:
            raise RowError(f"{fields.samples!r} has no samples")
        return asked, chains(row, fields, found, self.author, where)

    def _asked(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        if not self.template or not messages:
            return messages
        last = messages[-1]
        return [*messages[:-1], {**last, "content": self.template.replace("{prompt}", last["content"])}]

    def found(self, row: object) -> set[str]:
        """Which of the paths of its fields a row has. Raises RowError for what is no row at all."""
        row = self._whole(row)
        return {path for paths in self.fields.named().values() for path in paths if _has(row, path)}


def _reference(row: Mapping[str, Any], which: Part | None) -> Any:
    """None where there is nothing at a path, but a pattern that finds nothing is trouble. Raises RowError."""
    return get(row, which) if which is None or isinstance(which, str) else part(row, which)


def _has(row: object, path: str) -> bool:
    try:
        find(row, path)
    except Missing:
        return False
    return True


def fields_of(kind: str, own: Fields) -> Fields:
    """The fields of a format, with what a spec says instead. Raises ConfigError where prompt or attempt is missing."""
    given = {key: value for key, value in own if value != Fields.model_fields[key].default}
    if kind == "chat" and (idle := given.keys() & {"prompt", "samples", "steps", "nodes"}):
        raise ConfigError(f"fields.{min(idle)}: a `chat` row has both in its `messages`; take the format `samples`")
    _refuse_idle(own, given.keys())
    fields = FORMATS[kind].model_copy(update=given)
    if fields.messages is None and fields.prompt is None:
        raise ConfigError("fields.prompt: say which field holds the prompt")
    if fields.messages is fields.samples is fields.steps is fields.nodes is None:
        raise ConfigError("fields.samples: say which field holds the attempts")
    return fields


def _refuse_idle(own: Fields, given: Set[str]) -> None:
    if len(ways := sorted(given & {"samples", "steps", "nodes"})) > 1:
        raise ConfigError(f"fields.{ways[0]}: there is fields.{ways[1]} as well; say one place of the attempts")
    if "separator" in given and own.steps is None:
        raise ConfigError("fields.separator: there are no fields.steps")
    if "tool" in given and (own.steps or own.nodes or own.messages):
        raise ConfigError("fields.tool: it is for samples that are texts")


def missing(own: Fields, seen: set[str]) -> Sequence[str]:
    """Paths that a spec names and no row has, as `fields.claims.score = 'scroe'`."""
    given = own.named()
    return [f"fields.{key} = {path!r}" for key, paths in given.items() for path in paths if path not in seen]


def _refuse_unwritable(nodes: Sequence[Node]) -> None:
    """What a shard could not hold is refused where the line is known."""
    try:
        for one in nodes:
            recorded = one.recorded
            one.text.encode()
            canonical_json([] if recorded is None else [recorded.model, dict(recorded.claims)]).encode()
    except UnicodeEncodeError as error:
        raise RowError("half of a surrogate pair: a text that is no Unicode") from error
