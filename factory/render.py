"""Messages become what an engine reads: the only home of chat templates.

A `Renderer` turns the messages of a problem into a `Prompt`, once per problem: what a search adds later is appended as
token ids and never rendered again. Each renderer puts its system text first unless the messages bring their own.
`TemplateRenderer` is for engines that take token ids of a real model, `MessageRenderer` for engines that take nothing
but messages, `PlainRenderer` for the scripted engine. `split_reasoning` is the way back: it tells a model's reasoning
from its answer.

Rendering adds no special tokens of its own: what begins a text (such as BOS) is the template's business, and a second
BOS is never put before it. Stop strings belong to the search that asks for them and pass through here unread.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from factory.engines.base import Prompt
from factory.errors import ConfigError, SourceError
from factory.types import Message

TURN_START, TURN_NAMED = "\x02", "\x03"
"""Characters around the role of each turn of a plain prompt; no text that people write contains them."""


MARK = "\x04said\x04"
"""Stands for what the assistant said, where only what a template puts after it is wanted."""


class Renderer(Protocol):
    """Makes the prompt that a problem's tree starts from."""

    def render(self, messages: Sequence[Message]) -> Prompt: ...

    def encode(self, text: str) -> tuple[int, ...] | None:
        """Ids of a text that a rule puts into the assistant's turn; None where the engine takes text."""
        ...

    def turn(self, text: str) -> tuple[int, ...] | None:
        """Ids that end the assistant's turn, say `text` as the user, and begin the assistant's again.

        What was said before is not rendered again: a path keeps the ids that were sampled, reasoning included, even if
        the template leaves reasoning out of earlier turns.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """What sampled ids spell, as the engine does it."""
        ...


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """The messages, with a system text before them unless it is empty or they have one."""
    if not system or any(message.role == "system" for message in messages):
        return tuple(messages)
    return (Message("system", system), *messages)


class MessageRenderer:
    """Leaves the template to the engine's server."""

    def __init__(self, system: str = "") -> None:
        self._system = system

    def render(self, messages: Sequence[Message]) -> Prompt:
        return Prompt(with_system(messages, self._system))

    def encode(self, text: str) -> None:  # noqa: ARG002
        return None

    def turn(self, text: str) -> None:  # noqa: ARG002
        return None

    def decode(self, token_ids: Sequence[int]) -> str:  # noqa: ARG002
        raise ConfigError("the engine's server keeps its tokenizer to itself")


class PlainRenderer:
    """The scripted engine's layout: each character is a token, and its code point the token's id."""

    def __init__(self, system: str = "") -> None:
        self._system = system

    def render(self, messages: Sequence[Message]) -> Prompt:
        full = with_system(messages, self._system)
        turns = [_plain_turn(message.role, message.content) for message in full]
        return Prompt(full, self.encode("".join(turns) + _plain_turn("assistant", "")))

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def turn(self, text: str) -> tuple[int, ...]:
        return self.encode(_plain_turn("user", text) + _plain_turn("assistant", ""))

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))


def _plain_turn(role: str, content: str) -> str:
    return f"{TURN_START}{role}{TURN_NAMED}{content}"


class TemplateRenderer:
    """The chat template of a model's own tokenizer.

    The tokenizer is loaded by `load`, or else by the first `render`; both may be called from any thread. A renderer can
    be pickled at any time: the tokenizer does not travel.
    """

    def __init__(self, model: str, system: str = "", template_args: Mapping[str, Any] | None = None) -> None:
        """`model` is a folder or a hub name; `template_args` are variables that its template reads."""
        self._model = model
        self._system = system
        self._template_args = dict(template_args or {})
        self._lock = threading.Lock()
        self._tokenizer: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return TemplateRenderer, (self._model, self._system, self._template_args)

    def load(self) -> None:
        """Load the tokenizer. Raises `ConfigError` for one that has no chat template or reads no such variable."""
        with self._lock:
            if self._tokenizer is None:
                tokenizer = _load_tokenizer(self._model)
                _check_template(self._model, tokenizer, self._template_args)
                self._tokenizer = tokenizer

    def render(self, messages: Sequence[Message]) -> Prompt:
        self.load()
        full = with_system(messages, self._system)
        return Prompt(full, self.encode(self._text(full)))

    def encode(self, text: str) -> tuple[int, ...]:
        self.load()
        # One at a time: the tokenizer's Rust core may not be borrowed by two threads while its options are set.
        with self._lock:
            return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def turn(self, text: str) -> tuple[int, ...]:
        """Raises ConfigError for a template that does not keep an earlier turn of the assistant as it is."""
        self.load()
        asked, said = Message("user", "?"), Message("assistant", MARK)
        _, found, rest = self._text([asked, said, Message("user", text)]).rpartition(MARK)
        if not found:
            raise ConfigError(f"the chat template of {self._model!r} leaves out what the assistant said before")
        return self.encode(rest)

    def decode(self, token_ids: Sequence[int]) -> str:
        self.load()
        with self._lock:
            return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _text(self, messages: Sequence[Message]) -> str:
        from jinja2 import TemplateError

        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, **self._template_args
            )
        except TemplateError as error:
            raise SourceError(f"the chat template of {self._model!r} refuses a problem: {error}") from error
        return str(text)


def _load_tokenizer(model: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no tokenizer can be loaded from {model!r}: {_first_line(error)}") from error


def _check_template(model: str, tokenizer: Any, template_args: Mapping[str, Any]) -> None:
    from jinja2 import Environment, meta

    if not tokenizer.chat_template:
        raise ConfigError(f"the tokenizer of {model!r} has no chat template: use a chat model, or add a template to it")
    template = tokenizer.get_chat_template()
    known = _variables(template, Environment, meta)
    for name in template_args:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"the chat template of {model!r} reads no variable {name!r}{hint}")


def _variables(template: str, environment: Any, meta: Any) -> frozenset[str]:
    """Names that a template reads from outside. The generation tag is transformers' own and is no variable."""
    plain = environment(extensions=["jinja2.ext.loopcontrols"])
    for tag in ("{% generation %}", "{%- generation %}", "{%- generation -%}", "{% generation -%}"):
        template = template.replace(tag, "").replace(tag.replace("generation", "endgeneration"), "")
    return frozenset(meta.find_undeclared_variables(plain.parse(template)))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def split_reasoning(text: str, opening: str = "<think>", closing: str = "</think>") -> tuple[str | None, str]:
    """Reasoning and answer of a completion, verbatim and without the delimiters.

    The answer is what follows the last `closing`. The `opening` may be missing, since many templates put it into the
    prompt. A text that opens without closing is all reasoning and has an empty answer; a text with neither is all
    answer, and its reasoning is None.
    """
    head, closed, answer = text.rpartition(closing)
    if not closed:
        head, answer = text, ""
    opened = head.lstrip().startswith(opening)
    if not opened and not closed:
        return None, text
    return (head.lstrip()[len(opening) :] if opened else head), answer
