"""Rows of another file that are put beside the rows of an import: logs often name their problems by an index only.

The file is held in memory. Of rows with the same key the first counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import SourceError
from factory.ids import canonical_json
from factory.sources.base import RowError
from factory.sources.files import parse_line
from factory.sources.recorded.columns import needed
from factory.sources.recorded.lines import Lines

NAME = "joined"
"""The field of a row under which the other row stands."""


@dataclass(frozen=True, slots=True)
class Join:
    """Finds the other row of each."""

    key: str
    """Where a row names the other."""
    rows: Mapping[str, Mapping[str, Any]]
    """By their keys, as JSON."""
    digests: Sequence[str]
    """SHA-256 of each file that they came from."""

    def __call__(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row with the other one in it. Raises RowError where there is none."""
        key = canonical_json(needed(row, self.key))
        other = self.rows.get(key)
        if other is None:
            raise RowError(f"there is nothing to join with: no other row has {key[:80]}")
        return {**row, NAME: other}


def read_join(files: Sequence[str], key: str, theirs: str) -> Join:
    """The rows of some files by what stands at `theirs`. Raises SourceError for a line that is no row with that."""
    lines = Lines(files)
    rows: dict[str, Mapping[str, Any]] = {}
    try:
        for place, line in lines.scan():
            try:
                row = _row(line)
                rows.setdefault(canonical_json(needed(row, theirs)), row)
            except RowError as error:
                raise SourceError(f"{lines.name(place)}: cannot be joined: {error}") from None
    finally:
        lines.close()
    return Join(key, rows, lines.digests)


def _row(line: bytes | str) -> Mapping[str, Any]:
    if isinstance(line, str):
        raise RowError(line)
    row = parse_line(line)
    if not isinstance(row, Mapping):
        raise RowError(f"not an object but {type(row).__name__}")
    return row
