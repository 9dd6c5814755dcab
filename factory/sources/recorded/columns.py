"""Parts of a row by dotted paths, and how a value is dealt out to the samples of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from factory.sources.base import RowError


class Missing(Exception):
    """There is nothing at a path."""


def find(value: Any, path: str) -> Any:
    """What stands at a path. Raises Missing.

    Through `*` it is a flat list, with None for elements that have nothing there; Missing where none has.
    """
    if isinstance(value, Mapping) and path in value:
        return value[path]
    head, _, rest = path.partition(".")
    if head == "*":
        return _through(value, rest)
    inner = _step(value, head)
    return find(inner, rest) if rest else inner


def _step(value: Any, key: str) -> Any:
    if isinstance(value, Mapping) and key in value:
        return value[key]
    if isinstance(value, list) and re.fullmatch(r"-?\d{1,9}", key) and -len(value) <= int(key) < len(value):
        return value[int(key)]
    raise Missing


def _through(value: Any, rest: str) -> list[Any]:
    if not isinstance(value, list):
        raise Missing
    if not rest:
        return value
    found: list[Any] = []
    missing = 0
    for element in value:
        try:
            one = find(element, rest)
        except Missing:
            one, missing = None, missing + 1
        found += one if "*" in rest.split(".") and isinstance(one, list) else [one]
    if value and missing == len(value):
        raise Missing
    return found


def get(row: Mapping[str, Any], path: str | None) -> Any:
    """The same; None where there is nothing, or no path."""
    try:
        return None if path is None else find(row, path)
    except Missing:
        return None


def needed(row: Mapping[str, Any], path: str) -> Any:
    """The same. Raises RowError where there is nothing."""
    try:
        return find(row, path)
    except Missing:
        raise RowError(f"no field {path!r}; there are: {', '.join(map(str, row))}") from None


def integers(value: Any, path: str) -> list[int]:
    """The whole numbers in a text, or a list that is one already. Raises RowError."""
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise RowError(f"{path!r} must be a text with whole numbers")
    return [int(digits) for digits in re.findall(r"\d{1,15}", value)]


def dealt(row: Mapping[str, Any], paths: str | list[str] | None, count: int) -> list[Any]:
    """A value for each of `count` samples; None for each where there is nothing. Raises RowError.

    Several paths, and paths through `*`, must give as many values as there are samples.
    """
    if isinstance(paths, list):
        return _as_many([get(row, path) for path in paths], count, ", ".join(paths))
    value = get(row, paths)
    if paths is not None and "*" in paths.split(".") and value is not None:
        return _as_many(value, count, paths)
    return value if isinstance(value, list) and len(value) == count else [value] * count


def _as_many(values: list[Any], count: int, paths: str) -> list[Any]:
    if len(values) != count:
        raise RowError(f"{paths!r} has {len(values)} values for {count} samples")
    return values
