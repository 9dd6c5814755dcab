"""The contract of a source: an iterable of problems, and of lines that are none, in an order that never changes.

Owns the row format that files and datasets share, the merging of duplicates, and the look at the first problems that
a run takes before it spends anything. A row that cannot be a problem is a `BadLine`: data that is reported like any
other, under the id of its bytes. Only what makes the whole source unusable raises (`SourceError`).

A row: `prompt` (a string) or `messages` (a list of {role, content} that ends with the user's turn); `reference`
(string, number or null); `checks` (a list of {verifier, params}); `metadata` (an object). `checks`, `params` and
`metadata` may be written as JSON strings, since a Parquet column has one type for all its rows. A key that is none of
these is refused. With a `fields` mapping exactly the columns that it names are read, and no others: a column with
the worked solution must not slip into a problem.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from factory import ids
from factory.errors import ConfigError, SourceError
from factory.types import Check, Message, Problem

KEYS = ("prompt", "messages", "reference", "checks", "metadata")
"""Keys of a row."""

ROLES = ("system", "user", "assistant")

Row = Mapping[str, Any]
Fields = Mapping[str, str | Sequence[str]]
"""Key of a row -> the column that holds it. `metadata` may name several columns, which become its keys."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line or row that is no problem."""

    id: str
    """`ids.bytes_id` of its bytes without the line end; of its JSON where it was no line of a text file."""
    line: int
    """Line or row number in its file, from 1."""
    where: str
    """The file or dataset."""
    reason: str
    """What is wrong with it, in one line."""


class Source(Protocol):
    """Problems in a stable order; every iteration starts anew."""

    @property
    def name(self) -> str:
        """What a person would call it: paths, a dataset name, a generator with its seed."""
        ...

    def __iter__(self) -> Iterator[Problem | BadLine]: ...


class RowError(ValueError):
    """A row that is no problem; the message is the reason, in one line."""


# --- rows


def check_fields(fields: Fields | None) -> None:
    """Refuse a mapping that names no key of a row, or several columns for anything but metadata."""
    for key, column in (fields or {}).items():
        if key not in KEYS:
            raise ConfigError(f"fields: unknown key {key!r}; did you mean {nearest(key, KEYS)!r}?")
        if not isinstance(column, str) and key != "metadata":
            raise ConfigError(f"fields: {key!r} is read from one column, not from {column!r}")


def nearest(key: str, known: Sequence[str]) -> str:
    """The known key that a mistyped one resembles most."""
    return get_close_matches(key, known, n=1, cutoff=0.0)[0]


def columns(fields: Fields) -> list[str]:
    """Every column that a mapping reads."""
    return [name for column in fields.values() for name in ([column] if isinstance(column, str) else column)]


def to_problem(row: object, source: str, fields: Fields | None, checks: tuple[Check, ...]) -> Problem:
    """The problem that a row holds; `checks` are taken where it has none. Raises RowError."""
    if not isinstance(row, Mapping):
        raise RowError(f"not an object but {_shown(row)}")
    row = _mapped(row, fields) if fields else _canonical(row)
    messages = _messages(row)
    reference = _reference(row.get("reference"))
    metadata = _object(_given(row, "metadata", {}), "metadata")
    own_checks = _checks(_given(row, "checks", []))
    _refuse_unwritable([list(messages), reference, metadata, own_checks])
    return Problem(
        id=ids.problem_id(messages, reference),
        messages=tuple(Message(role, content) for role, content in messages),
        reference=reference,
        checks=tuple(Check(name, params) for name, params in own_checks) or checks,
        source=source,
        metadata=metadata,
    )


def _given(row: Row, key: str, default: object) -> object:
    """A value, or the default where it is missing or null: a Parquet row cannot leave a column out."""
    return default if row.get(key) is None else row[key]


def _canonical(row: Row) -> Row:
    for key in row:
        if key not in KEYS:
            raise RowError(f"unknown key {key!r}: did you mean {nearest(key, KEYS)!r}? free data goes under 'metadata'")
    return row


def _mapped(row: Row, fields: Fields) -> Row:
    for column in columns(fields):
        if column not in row:
            raise RowError(f"no column {column!r}; there are: {', '.join(map(str, row))}")
    return {
        key: row[column] if isinstance(column, str) else {name: row[name] for name in column}
        for key, column in fields.items()
    }


def _messages(row: Row) -> list[tuple[str, str]]:
    prompt, messages = row.get("prompt"), row.get("messages")
    if (prompt is None) == (messages is None):
        raise RowError("it needs either 'prompt' or 'messages'" + ("" if prompt is None else ", not both"))
    if prompt is not None:
        messages = [{"role": "user", "content": prompt}]
    if not isinstance(messages, list) or not messages:
        raise RowError(f"'messages' must be a list of {{role, content}}, not {_shown(messages)}")
    found = [_message(message) for message in messages]
    if found[-1][0] != "user":
        raise RowError(f"the last message must be the user's, not the {found[-1][0]}'s")
    return found


def _message(message: object) -> tuple[str, str]:
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        raise RowError(f"a message is {{role, content}}, not {_shown(message)}")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise RowError(f"a role is one of {', '.join(ROLES)}, not {_shown(role)}")
    if not isinstance(content, str) or not content.strip():
        raise RowError(f"a prompt is a text that is not blank, not {_shown(content)}")
    return role, content


def _reference(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RowError(f"'reference' must be a string, a number or null, not {_shown(value)}")
    return repr(value)


def _checks(value: object) -> list[tuple[str, Mapping[str, Any]]]:
    found = _decoded(value, "checks")
    if not isinstance(found, list):
        raise RowError(f"'checks' must be a list of {{verifier, params}}, not {_shown(found)}")
    return [_check(check) for check in found]


def _check(check: object) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(check, Mapping) or not isinstance(check.get("verifier"), str):
        raise RowError(f"a check is {{verifier, params}}, not {_shown(check)}")
    for key in check:
        if key not in ("verifier", "params"):
            raise RowError(f"unknown key {key!r} of a check: parameters of a verifier go under 'params'")
    return check["verifier"], _object(_given(check, "params", {}), "params")


def _object(value: object, key: str) -> Mapping[str, Any]:
    found = _decoded(value, key)
    if not isinstance(found, Mapping):
        raise RowError(f"{key!r} must be an object, not {_shown(found)}")
    return found


def _decoded(value: object, key: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except RowError as error:
        raise RowError(f"{key!r}: {error}") from error


def parse_json(text: str) -> object:
    """A JSON value. Raises RowError, also for NaN, infinities, and nesting that Python cannot hold."""
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise RowError("nested too deeply") from error
    except ValueError as error:
        raise RowError(f"not JSON: {error}") from error
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _refuse_unwritable(value: object) -> None:
    """What a shard could not hold is refused here, where the line is known, and not a day later."""
    try:
        ids.canonical_json(value).encode()
    except UnicodeEncodeError as error:
        raise RowError("half of a surrogate pair: a text that is no Unicode") from error
    except (TypeError, ValueError) as error:
        raise RowError(f"not JSON: {error}") from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def row_item(
    row: dict[str, Any], number: int, source: str, fields: Fields | None, checks: tuple[Check, ...]
) -> Problem | BadLine:
    """The problem in a row of a table, or a bad line that is named by the row's content."""
    try:
        return to_problem(row, source, fields, checks)
    except RowError as error:
        return BadLine(ids.bytes_id(repr(row).encode("utf-8", "replace")), number, source, str(error))


def check_columns(found: Sequence[str], fields: Fields | None, where: str) -> None:
    """Refuse a table that has not the columns to read, or has one that means nothing."""
    if fields is None:
        for column in found:
            if column not in KEYS:
                raise SourceError(
                    f"{where}: unknown column {column!r}: did you mean {nearest(column, KEYS)!r}? "
                    "name the columns to read in `fields`"
                )
        return
    for column in columns(fields):
        if column not in found:
            raise SourceError(f"{where}: no column {column!r}; there are: {', '.join(found)}")


def refuse_empty(items: Iterator[Problem | BadLine], name: str) -> Iterator[Problem | BadLine]:
    """The same items. Raises SourceError where there are none: a run without problems is a mistake in its recipe."""
    first = next(items, None)
    if first is None:
        raise SourceError(f"no problems in {name}")
    yield first
    yield from items


# --- duplicates


class SeenIds:
    """A set of ids in about ten bytes each, where a Python set takes over a hundred.

    The first two bytes of an id choose one of 65,536 strings, which hold the other eight bytes back to back. Ids are
    hashes, so the strings stay equally long: 1.2 kB each, a microsecond to search, at ten million ids.
    """

    def __init__(self) -> None:
        self._rests: dict[bytes, bytearray] = {}

    def add(self, id: str) -> bool:
        """Whether the id is new; it no longer is after this."""
        key = bytes.fromhex(id)
        rests, rest = self._rests.setdefault(key[:2], bytearray()), key[2:]
        found = rests.find(rest)
        while found > 0 and found % len(rest):  # across the border of two neighbours
            found = rests.find(rest, found + 1)
        if found < 0:
            rests += rest
        return found < 0


class Unique(Iterator[Problem | BadLine]):
    """What a source holds, once each."""

    def __init__(self, items: Iterable[Problem | BadLine]) -> None:
        self._items = iter(items)
        self._seen = SeenIds()
        self.duplicates = 0
        """How many items were left out so far because their id had been seen."""

    def __next__(self) -> Problem | BadLine:
        for item in self._items:
            if self._seen.add(item.id):
                return item
            self.duplicates += 1
        raise StopIteration


def unique(items: Iterable[Problem | BadLine]) -> Unique:
    """The first item of every id; the others are counted."""
    return Unique(items)


# --- the look before the run


def validate_first(
    items: Iterable[Problem | BadLine],
    validate: Callable[[Problem], None],
    limit: int = 1000,
    strict: bool = False,
) -> Iterator[Problem | BadLine]:
    """Everything that `items` holds, after a look at the first `limit`; the source is read once.

    Raises SourceError for a bad line and for a problem that `validate` refuses with a ConfigError. `strict` looks at
    all of them first, and so holds all of them in memory. What comes after the look is not validated here: a bad line
    there is an error of one row, not of the run.
    """
    rest = iter(items)
    first = list(rest if strict else itertools.islice(rest, limit))
    for number, item in enumerate(first, start=1):
        _look(item, number, validate)
    return itertools.chain(first, rest)


def _look(item: Problem | BadLine, number: int, validate: Callable[[Problem], None]) -> None:
    if isinstance(item, BadLine):
        raise SourceError(f"{item.where}: line {item.line}: {item.reason}")
    try:
        validate(item)
    except ConfigError as error:
        raise SourceError(f"{item.source}: problem {number} ({_shown(item.messages[-1].content)}): {error}") from error
