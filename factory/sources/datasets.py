"""Problems from a Hugging Face dataset: a name on the hub, or a local file or folder.

Rows are streamed, so a dataset that is larger than the disk works; only a folder made by `save_to_disk` is mapped
into memory. A hub dataset must be readable with the credentials that the environment already has. A local name wins
over one on the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from factory.errors import ConfigError, SourceError, classify
from factory.sources.base import BadLine, Fields, check_columns, check_fields, columns, refuse_empty, row_item
from factory.types import Check, Problem

BUILDERS: Mapping[str, str] = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
"""Suffix of a single file -> the library's reader."""


class Table(Protocol):
    """What is used of the library's datasets, streamed or not."""

    @property
    def column_names(self) -> list[str] | None:
        """None for a stream of JSON, which knows its columns only once it is read."""
        ...

    def select_columns(self, names: list[str]) -> Iterable[dict[str, Any]]: ...

    def __iter__(self) -> Iterator[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """The rows of one split."""

    dataset: str
    """Name on the hub, or a local path."""
    split: str = "train"
    """A single file, or a saved dataset without splits, is `train`."""
    subset: str | None = None
    """The library's configuration name; None where a dataset has but one."""
    fields: Fields | None = None
    """Which columns to read, such as {"prompt": "question", "reference": "answer"}; None reads a row's own keys."""
    checks: tuple[Check, ...] = ()
    """For rows that have none."""

    def __post_init__(self) -> None:
        check_fields(self.fields)
        if self.subset is not None and Path(self.dataset).is_file():
            raise ConfigError(f"subset: the file {self.dataset} has none")

    @property
    def name(self) -> str:
        """Dataset, subset and split."""
        return ":".join(part for part in (self.dataset, self.subset, self.split) if part is not None)

    def __iter__(self) -> Iterator[Problem | BadLine]:
        return refuse_empty(self._items(), self.name)

    def _items(self) -> Iterator[Problem | BadLine]:
        for number, row in enumerate(self._rows(), start=1):
            yield row_item(row, number, self.name, self.fields, self.checks)

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            rows = self._opened()
            if rows.column_names is not None:
                check_columns(rows.column_names, self.fields, self.name)
            yield from rows.select_columns(sorted(set(columns(self.fields)))) if self.fields else rows
        except SourceError:
            raise
        except Exception as error:  # the library raises whatever its readers, the network or the hub raised
            raise SourceError(f"dataset {self.name}: {classify(error)}") from error

    def _opened(self) -> Table:
        import datasets

        # Opening a dataset, even a local one, would otherwise report it to the library's download counter.
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
        path = Path(self.dataset)
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return self._saved(datasets.load_from_disk(self.dataset))
        if path.is_file():
            builder = BUILDERS.get(path.suffix)
            if builder is None:
                raise SourceError(f"{path}: a dataset file ends in {', '.join(BUILDERS)}")
            return cast(
                Table, datasets.load_dataset(builder, data_files=self.dataset, split=self.split, streaming=True)
            )
        return cast(Table, datasets.load_dataset(self.dataset, self.subset, split=self.split, streaming=True))

    def _saved(self, saved: Table | Mapping[str, Table]) -> Table:
        """The split of what `save_to_disk` wrote: a table, or a mapping of tables."""
        splits: Mapping[str, Table] = saved if isinstance(saved, Mapping) else {"train": saved}
        if self.subset is not None or self.split not in splits:
            raise SourceError(f"{self.dataset}: it has no subsets, and the splits {', '.join(splits)}")
        return splits[self.split]
