"""`factory left`: the problems that a run leaves over, by name or as lines that a `jsonl` source reads.

A problem is left that has no right answer: `owed`, since the run was stopped before it was closed, or closed for the
reason that its tree tells (`exhausted`, `capped`, `given_up`, `error`). As lines of a source they are the next round's
problems, under the same ids. A line of a source that is no problem (an error without a prompt) can only be named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from factory.errors import ConfigError
from factory.runs import Run, open_run
from factory.shards import current_rows
from factory.sources.base import unique
from factory.types import Problem, StopReason
from pipelines import build
from pipelines.import_config import Import, settings
from pipelines.imports import problems

OWED = "owed"
REASONS = (OWED, StopReason.EXHAUSTED, StopReason.CAPPED, StopReason.GIVEN_UP, StopReason.ERROR)

_COLUMNS = ["problem_id", "messages", "reference", "checks", "metadata", "stop", "solved"]


def left(url: str, why: Iterable[str], *, names: bool) -> Iterator[str]:
    """A line for each problem that is left for one of these reasons; for none given, for any.

    `names`: ids with the reason, else the problems themselves. Raises ConfigError for a reason that is none.
    """
    wanted = frozenset(why) or frozenset(REASONS)
    if unknown := wanted - set(REASONS):
        raise ConfigError(f"--why {min(unknown)}: there are: {', '.join(REASONS)}")
    run = open_run(url)
    return _names(run, wanted) if names else _lines(run, wanted)


def _names(run: Run, wanted: frozenset[str]) -> Iterator[str]:
    closed = (f"{row['problem_id']} {row['stop']}" for row in _closed(run, wanted, ["problem_id", "stop", "solved"]))
    yield from closed
    yield from (f"{problem.id} {OWED}" for problem in _owed(run, wanted))


def _lines(run: Run, wanted: frozenset[str]) -> Iterator[str]:
    yield from (json.dumps(_row_line(row)) for row in _closed(run, wanted, _COLUMNS) if row["messages"])
    yield from (json.dumps(_problem_line(problem)) for problem in _owed(run, wanted))


def _closed(run: Run, wanted: frozenset[str], columns: list[str]) -> Iterator[dict[str, Any]]:
    rows = current_rows(run.store, columns) if wanted - {OWED} else iter(())
    return (row for row in rows if row["stop"] in wanted and not row["solved"])


def _owed(run: Run, wanted: frozenset[str]) -> Iterator[Problem]:
    """Problems of the run's source that are not closed; what cannot be read there is an error, once it is closed."""
    if OWED not in wanted:
        return
    closed = {id for id, state in run.problem_states().items() if state.status is not None}
    recipe = settings(run.config["recipe"])
    source = problems(recipe) if isinstance(recipe, Import) else build.source(recipe)
    yield from (item for item in unique(source) if isinstance(item, Problem) and item.id not in closed)


def _row_line(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": row["messages"],
        "reference": row["reference"],
        "checks": json.loads(row["checks"]),
        "metadata": json.loads(row["metadata"]),
    }


def _problem_line(problem: Problem) -> dict[str, Any]:
    return {
        "messages": [{"role": one.role, "content": one.content} for one in problem.messages],
        "reference": problem.reference,
        "checks": [{"verifier": one.verifier, "params": dict(one.params)} for one in problem.checks],
        "metadata": dict(problem.metadata),
    }
