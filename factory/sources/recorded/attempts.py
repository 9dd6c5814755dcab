"""Samples of a row become chains of nodes, from the prompt to a finished leaf.

A sample is a text, or the messages of a conversation: the assistant's are SAMPLED, a tool's TOOL, a user's between them
INJECTED and a turn of their own, as in a revised answer. Only the last node is an attempt. Reasoning that was recorded
apart is put back before the answer between `<think>` and `</think>`, as the engines of this factory do it. An attempt
that was recorded in steps becomes a node a step; one that is not ended yet stays open, and is no attempt. A sample that
is null was not recorded: a truncated leaf without text, which nobody judges.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory.sources.base import RowError
from factory.sources.recorded.base import Author, Fields, joined, node
from factory.sources.recorded.columns import dealt, get, needed
from factory.types import Node, NodeState, Origin, Recorded

REASONING = ("<think>\n", "\n</think>\n\n")
CUT = frozenset({"length", "max_tokens", "max_length"})
"""Reasons to end that are the token limit, in lower case."""
APART = ("reasoning", "reasoning_content")
"""Keys of a message that hold its reasoning."""
_TURNS = {
    "assistant": (Origin.SAMPLED, "assistant"),
    "tool": (Origin.TOOL, "assistant"),
    "user": (Origin.INJECTED, "user"),
}

Turn = tuple[str, str]
"""A role and a text."""


def conversation(row: Mapping[str, Any], path: str) -> tuple[list[dict[str, str]], list[Turn]]:
    """Prompt and attempt of a whole conversation: what follows the last user's turn is the attempt. Raises RowError."""
    turns = _turns(needed(row, path))
    asked = max((place for place, (role, _) in enumerate(turns) if role == "user"), default=None)
    if asked is None:
        raise RowError(f"{path!r} has no user's turn")
    if asked + 1 == len(turns):
        raise RowError(f"{path!r} ends with the user's turn: there is no attempt")
    return [{"role": role, "content": text} for role, text in turns[: asked + 1]], turns[asked + 1 :]


def prompt(value: Any) -> list[dict[str, str]]:
    """Messages of a prompt that is a text or messages. Raises RowError."""
    turns = [("user", value)] if isinstance(value, str) else _turns(value)
    return [{"role": role, "content": text} for role, text in turns]


def samples(row: Mapping[str, Any], fields: Fields) -> list[Any]:
    """The attempts of a row, each a text, messages or None. Raises RowError."""
    if isinstance(fields.samples, list):
        return [needed(row, path) for path in fields.samples]
    value = needed(row, str(fields.samples))
    return value if isinstance(value, list) and not _is_conversation(value) else [value]


def _is_conversation(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(one, Mapping) and "role" in one for one in value)


def chains(row: Mapping[str, Any], fields: Fields, found: list[Any], author: Author, where: str) -> tuple[Node, ...]:
    """A chain for each sample, with what the row says of it. Raises RowError."""
    count = len(found)
    reasoning, finish = dealt(row, fields.reasoning, count), dealt(row, fields.finish, count)
    tokens, models = dealt(row, fields.tokens, count), _models(row, fields, author, count)
    claims = {name: dealt(row, paths, count) for name, paths in fields.claim_paths().items()}
    return joined(
        _chain(
            _sampled(found[place], reasoning[place], fields.tool),
            Recorded(models[place], where, {name: values[place] for name, values in claims.items()}),
            is_cut=found[place] is None or str(finish[place]).lower() in CUT,
            tokens=_tokens(tokens[place]),
        )
        for place in range(count)
    )


def _models(row: Mapping[str, Any], fields: Fields, author: Author, count: int) -> list[str]:
    if author.models:
        if len(author.models) != count:
            raise RowError(f"{count} samples, and {len(author.models)} names in policy.models")
        return list(author.models)
    return [str(name or author.model) for name in dealt(row, fields.model, count)]


def _sampled(sample: Any, reasoning: Any, tool: str | None) -> list[Turn]:
    turns = _spoken(sample or "", tool) if sample is None or isinstance(sample, str) else _attempt(sample)
    if reasoning is None or reasoning == "":
        return turns
    return [("assistant", _thought(reasoning, turns[0][1])), *turns[1:]]


def _spoken(text: str, tool: str | None) -> list[Turn]:
    """A text in turns of the assistant and of a tool, which join to it."""
    turns: list[Turn] = []
    start = 0
    for found in () if tool is None else re.finditer(tool, text):
        turns += [("assistant", text[start : found.start()]), ("tool", found[0])]
        start = found.end()
    turns.append(("assistant", text[start:]))
    return [turn for turn in turns if turn[1]] or [("assistant", "")]


def _attempt(sample: Any) -> list[Turn]:
    turns = _turns(sample if isinstance(sample, list) else [sample])
    if not turns or turns[-1][0] not in ("assistant", "tool"):
        raise RowError("a sample must end with the assistant's turn")
    return turns


def _thought(reasoning: Any, text: str) -> str:
    if not isinstance(reasoning, str):
        raise RowError(f"reasoning must be a text, not {type(reasoning).__name__}")
    return f"{REASONING[0]}{reasoning}{REASONING[1]}{text}"


def _turns(value: Any) -> list[Turn]:
    if not isinstance(value, list):
        raise RowError(f"expected a text or messages, not {type(value).__name__}")
    return [_turn(message) for message in value]


def _turn(message: Any) -> Turn:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RowError("a message is an object with `role` and `content`")
    if message.get("tool_calls") or message.get("function_call"):
        raise RowError("a message calls tools by structure, which is no text of the model")
    text = _content(message.get("content"))
    reasoning = next((message[key] for key in APART if message.get(key)), None)
    return message["role"], text if reasoning is None else _thought(reasoning, text)


def _content(value: Any) -> str:
    """A text, or the texts of OpenAI's list of parts."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in value):
        return "".join(str(part.get("text", "")) for part in value)
    raise RowError("a message's content must be a text")


def _tokens(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _chain(turns: list[Turn], recorded: Recorded, *, is_cut: bool, tokens: int) -> list[Node]:
    """What the row says of the sample stands on its last node; the others say who wrote them."""
    nodes: list[Node] = []
    for place, (role, text) in enumerate(turns, start=1):
        if role not in _TURNS:
            raise RowError(f"an attempt has turns of the assistant, a tool and a user, not of {role!r}")
        origin, speaker = _TURNS[role]
        plain = Recorded(recorded.model, recorded.where, {})
        nodes.append(node(place, place - 1, text, plain, origin=origin, role=speaker))
    last = nodes.pop()
    state = NodeState.TRUNCATED if is_cut else NodeState.FINISHED
    more = {"origin": last.origin, "role": last.role, "state": state, "generated_tokens": tokens}
    return [*nodes, node(last.id, last.parent, last.text, recorded, **more)]


def conversation_chain(
    row: Mapping[str, Any], fields: Fields, turns: list[Turn], author: Author, where: str
) -> tuple[Node, ...]:
    """The chain of a conversation's attempt. Raises RowError."""
    return chains(row, fields, [[{"role": role, "content": text} for role, text in turns]], author, where)


def stepwise(row: Mapping[str, Any], fields: Fields, author: Author, where: str) -> tuple[Node, ...]:
    """The chain of an attempt in steps. Raises RowError."""
    paths = fields.steps if isinstance(fields.steps, list) else [str(fields.steps)]
    texts = [text for path in paths for text in _texts(needed(row, path), path)]
    if not texts:
        raise RowError(f"{fields.steps!r} has no steps")
    written = [text + fields.separator for text in texts[:-1]] + texts[-1:]
    nodes = conversation_chain(row, fields, [("assistant", text) for text in written], author, where)
    if fields.finished is None or get(row, fields.finished) is True:
        return nodes
    return (*nodes[:-1], replace(nodes[-1], state=NodeState.OPEN))


def _texts(value: Any, path: str) -> list[str]:
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in found):
        raise RowError(f"{path!r} must be a text, or a list of texts")
    return found


def model_of(row: Mapping[str, Any], path: str | list[str] | None, author: Author) -> str:
    """Who wrote a row of which one model is the author."""
    return str(get(row, path if isinstance(path, str) else None) or author.model)
