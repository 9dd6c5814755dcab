"""Problems from files: JSON lines and Parquet, local or at any address that fsspec opens.

Paths may be globs. Files are read in the order given, the matches of a glob sorted, and each file once. What a row
looks like is said in `factory.sources.base`. Trouble with a file (missing, cut short, not readable) is a SourceError;
trouble with one line is a `BadLine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, cast

from factory import ids
from factory.errors import ConfigError, SourceError, classify
from factory.sources.base import (
    BadLine,
    Fields,
    RowError,
    check_columns,
    check_fields,
    columns,
    parse_json,
    refuse_empty,
    row_item,
    to_problem,
)
from factory.types import Check, Problem

BATCH_ROWS = 1000
"""Rows of a Parquet file that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class JsonlSource:
    """One JSON object a line; `.gz` and other suffixes that fsspec knows are decompressed."""

    paths: tuple[str, ...]
    """Paths, addresses or globs."""
    fields: Fields | None = None
    """Which columns to read; None reads the keys of a row by their own names."""
    checks: tuple[Check, ...] = ()
    """For rows that have none."""

    def __post_init__(self) -> None:
        _check_arguments(self.paths, self.fields)

    @property
    def name(self) -> str:
        """The paths as given."""
        return " ".join(self.paths)

    def __iter__(self) -> Iterator[Problem | BadLine]:
        return refuse_empty(self._items(), self.name)

    def _items(self) -> Iterator[Problem | BadLine]:
        for path, number, line in lines_of(self.paths):
            yield self._item(line, number, path)

    def _item(self, line: bytes, number: int, path: str) -> Problem | BadLine:
        try:
            return to_problem(parse_line(line), path, self.fields, self.checks)
        except RowError as error:
            return BadLine(ids.bytes_id(line), number, path, str(error))


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """One row a problem; null stands for a key that is missing."""

    paths: tuple[str, ...]
    """Paths, addresses or globs."""
    fields: Fields | None = None
    """Which columns to read; None reads the keys of a row by their own names."""
    checks: tuple[Check, ...] = ()
    """For rows that have none."""

    def __post_init__(self) -> None:
        _check_arguments(self.paths, self.fields)

    @property
    def name(self) -> str:
        """The paths as given."""
        return " ".join(self.paths)

    def __iter__(self) -> Iterator[Problem | BadLine]:
        return refuse_empty(self._items(), self.name)

    def _items(self) -> Iterator[Problem | BadLine]:
        for path in expand(self.paths):
            for number, row in enumerate(_rows(path, self.fields), start=1):
                yield row_item(row, number, path, self.fields, self.checks)


def _check_arguments(paths: Sequence[str], fields: Fields | None) -> None:
    if isinstance(paths, str) or not paths:
        raise ConfigError("paths must be a list of at least one path")
    check_fields(fields)


def lines_of(paths: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    """Lines that are not blank, of files or globs: the file, the number, the line. Raises SourceError."""
    for path in expand(paths):
        for number, line in _lines(path):
            yield path, number, line


def parse_line(line: bytes) -> object:
    """The JSON value of a line. Raises RowError."""
    return parse_json(_text(line))


def expand(paths: Sequence[str]) -> list[str]:
    """Files in order, each once, globs resolved. Raises SourceError for one that is not there, before any is read."""
    return list(dict.fromkeys(path for pattern in paths for path in _matches(pattern)))


def _matches(pattern: str) -> list[str]:
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(pattern)
        if files.isfile(path):  # also a name that only looks like a glob
            return [pattern]
        found = sorted(files.glob(path)) if any(sign in path for sign in "*?[") else []
        found = [str(files.unstrip_protocol(match)) if "://" in pattern else str(match) for match in found]
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"cannot look for {pattern}: {classify(error)}") from error
    if not found:
        raise SourceError(f"no file {pattern}")
    return found


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, without their ends, and their numbers.

    Only a line feed ends a line: JSON strings may hold any other character that Python calls a line end.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.removesuffix(b"\n").removesuffix(b"\r")
    except (OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read after line {number}: {classify(error)}") from error


def _opened(path: str) -> IO[bytes]:
    import fsspec

    return cast(IO[bytes], fsspec.open(path, "rb", compression="infer"))


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8: {error.reason} at byte {error.start}") from error


def _rows(path: str, fields: Fields | None) -> Iterator[dict[str, Any]]:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(path, "rb") as file:
            table = pq.ParquetFile(file)
            check_columns(table.schema_arrow.names, fields, path)
            wanted = sorted(set(columns(fields))) if fields else None
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read as Parquet: {classify(error)}") from error
