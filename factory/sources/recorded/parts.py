"""Parts of a row that take more than a path to name: what a pattern finds at one, and texts that parts are put into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from factory.sources.base import RowError
from factory.sources.recorded.columns import needed

_HOLE = re.compile(r"\{([^{}\s]+)\}")


class Closed(BaseModel):
    """A table of a spec, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression of Python's."""


class Picked(Closed):
    """A piece of a text of the row."""

    path: str
    pattern: Pattern
    """Its first group is the piece, or all that it matches where it has none."""


Part = str | Picked
"""A path, or a piece of the text that stands there."""


def part(row: Mapping[str, Any], which: Part) -> Any:
    """What a part of a row is. Raises RowError where there is nothing."""
    if isinstance(which, str):
        return needed(row, which)
    text = needed(row, which.path)
    if not isinstance(text, str):
        raise RowError(f"{which.path!r} must be a text, not {type(text).__name__}")
    found = re.search(which.pattern, text)
    piece = None if found is None else found[1 if found.re.groups else 0]
    if piece is None:
        raise RowError(f"nothing in {which.path!r} matches {which.pattern!r}")
    return piece


def path_of(which: Part) -> str:
    return which if isinstance(which, str) else which.path


def filled(row: Mapping[str, Any], template: str) -> str:
    """A text with the row's parts for `{path}`. Raises RowError where one is missing, or is neither text nor number."""

    def there(hole: re.Match[str]) -> str:
        value = needed(row, hole[1])
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise RowError(f"{hole[1]!r} must be a text or a number, not {type(value).__name__}")
        return str(value)

    return _HOLE.sub(there, template)
