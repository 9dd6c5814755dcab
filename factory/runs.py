"""Reading a run folder from Python: `open_run("runs/countdown")`.

    run = factory.open_run("s3://bucket/runs/countdown")
    for transcript in run.transcripts("pruned"): ...
    duckdb.sql(f"SELECT count(*) FROM read_parquet({run.paths('transcripts')})")

Everything is what is committed at the moment of the call; rows come one by one, so a run may be larger than memory. A
run may be read while it is written, from any machine that sees its folder. Nothing here writes.

Trees are the current ones: an error that a later row supersedes is left out. A file list cannot leave rows out: whoever
reads `paths("rollouts")` adds `WHERE stop <> 'error'`, or sees problems that failed first once for each failure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from factory.card import read_card
from factory.errors import StorageError
from factory.rows import row_transcript, row_tree
from factory.shards import State, current_rows, iter_rows, iter_sidecars, problem_states, read_rows
from factory.store import Store
from factory.types import Transcript, Tree


def open_run(url: str) -> Run:
    """The run in a folder: a path, or a URL such as `s3://bucket/runs/countdown`.

    Raises StorageError, in one line, for a folder that holds no run.
    """
    return Run(Store(url))


class Run:
    """One run, to be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.config = _config(store)
        """The resolved config, as `config.json` holds it."""

    def __repr__(self) -> str:
        return f"open_run({self.store.url!r})"

    @property
    def refinement(self) -> str | None:
        """Digest that names the current refinement; None before the first."""
        card = read_card(self.store)
        return None if card is None else card.refinement

    def problem_states(self) -> dict[str, State]:
        """How each problem stands, by its id, without reading a single tree."""
        return problem_states(iter_sidecars(self.store, "rollouts"))

    def rollouts(self) -> Iterator[Tree]:
        """The search tree of every problem that has one, failed ones included."""
        return (row_tree(row) for row in current_rows(self.store))

    def tree(self, problem_id: str) -> Tree:
        """One problem's search tree; KeyError if the run has none."""
        shard = self.problem_states()[problem_id].shard
        if shard is None:
            raise KeyError(problem_id)
        return next(
            row_tree(row) for row in read_rows(self.store, "rollouts", shard) if row["problem_id"] == problem_id
        )

    def transcripts(self, variant: str | None = None) -> Iterator[Transcript]:
        """Training examples of the current refinement, of all variants or of one; none before the first."""
        return self._refined("transcripts", variant)

    def rejected(self, variant: str | None = None) -> Iterator[Transcript]:
        """What the current refinement refused, each with its `rejection`."""
        return self._refined("rejected", variant)

    def paths(self, table: str) -> list[str]:
        """Parquet files of `rollouts`, `journal`, `transcripts` or `rejected`, as DuckDB, Polars and pyarrow take them.

        `transcripts` and `rejected` are those of the current refinement. Raises ValueError for another name.
        """
        folder = self._folder(table)
        return [] if folder is None else [self.store.uri(sidecar.path) for sidecar in iter_sidecars(self.store, folder)]

    def _folder(self, table: str) -> str | None:
        if table in {"rollouts", "journal"}:
            return table
        if table not in {"transcripts", "rejected"}:
            raise ValueError(f"there is no table {table!r}; there are: rollouts, journal, transcripts, rejected")
        refinement = self.refinement
        return None if refinement is None else f"{table}/{refinement}"

    def _refined(self, table: str, variant: str | None) -> Iterator[Transcript]:
        folder = self._folder(table)
        rows = iter(()) if folder is None else iter_rows(self.store, folder)
        return (row_transcript(row) for row in rows if variant is None or row["variant"] == variant)


def _config(store: Store) -> dict[str, Any]:
    try:
        config = json.loads(store.read("config.json"))
    except FileNotFoundError:
        raise StorageError(f"{store.url} is no run folder: it has no config.json") from None
    except ValueError as error:
        raise StorageError(f"{store.uri('config.json')} is no JSON: restore it") from error
    if not isinstance(config, dict):
        raise StorageError(f"{store.uri('config.json')} is no config of a run: restore it")
    return config
