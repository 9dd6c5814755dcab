"""What `factory show` looks up: the rows of a problem or a transcript that is named by the start of its id.

Problems are looked for first. Sidecars say which shards hold a problem; no others are read, except for a transcript's
id, which no sidecar names. Of what was not asked for nothing is kept in memory.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import eq
from typing import Any

from factory.errors import UserError
from factory.rows import Row
from factory.runs import Run
from factory.shards import Entry, Sidecar, iter_rows, iter_shard, iter_sidecars, problem_states
from factory.store import Store
from pipelines.report import one_line, visible

FIRST = 10
"""Problems that are listed where none is named."""
LISTED = 20
"""Ids that are named where a prefix fits several."""
NEAR = 0.7
"""How alike an id must be to one that is not there, to be named in its place."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the current row of a problem is, and what the sidecar says of it."""

    sidecar: Sidecar
    entry: Entry


@dataclass(frozen=True, slots=True)
class Found:
    """What was asked for, as rows of the tables."""

    rollout: Row
    transcripts: list[Row]
    """Of the current refinement."""
    rejected: list[Row]
    whole: bool
    """Whether a problem was asked for, not one of its transcripts."""

    def plain(self) -> dict[str, Any]:
        return {"rollout": self.rollout, "transcripts": self.transcripts, "rejected": self.rejected}


def find(run: Run, url: str, prefix: str) -> Found:
    """What a prefix names. Raises UserError for a name of nothing, with the nearest, or of several, with them."""
    found = _find_problem(run, prefix) or _find_transcript(run, prefix)
    if found is None:
        raise UserError(
            f"no problem or transcript of {visible(url)} begins with {_quoted(prefix)}{_instead(run, prefix)}"
        )
    return found


def first(store: Store) -> Iterator[dict[str, Any]]:
    """What there is to say in a line of each of the first problems."""
    entries = (entry.problem_id for sidecar in iter_sidecars(store, "rollouts") for entry in sidecar.entries)
    ids = set(islice(entries, FIRST))
    for id, place in sorted(_places(store, ids.__contains__).items()):
        counters = place.entry.counters
        messages = _row(store, place, ["problem_id", "messages"])["messages"]
        yield {
            "problem_id": id,
            "status": place.entry.status,
            "attempts": counters.get("attempts", 0),
            "right": counters.get("right", 0),
            "generated_tokens": counters.get("generated_tokens", 0),
            "error": place.entry.error,
            "prompt": messages[-1]["content"] if messages else "",
        }


def _find_problem(run: Run, prefix: str) -> Found | None:
    places = _places(run.store, lambda id: id.startswith(prefix))
    if not places:
        return None
    id = _only(prefix, places)
    return Found(
        rollout=_row(run.store, places[id]),
        transcripts=_made_of(run, "transcripts", id),
        rejected=_made_of(run, "rejected", id),
        whole=True,
    )


def _find_transcript(run: Run, prefix: str) -> Found | None:
    problems = {row["id"]: row["problem_id"] for row in _all_ids(run) if row["id"].startswith(prefix)}
    if not problems:
        return None
    id = _only(prefix, problems)
    problem = problems[id]
    place = _places(run.store, lambda one: one == problem)[problem]
    kept, refused = (
        [row for row in _made_of(run, table, problem) if row["id"] == id] for table in ("transcripts", "rejected")
    )
    return Found(_row(run.store, place), kept, refused, whole=False)


def _only(prefix: str, matches: Iterable[str]) -> str:
    ids = sorted(matches)
    if len(ids) > 1:
        more = f" and {len(ids) - LISTED:,} more" if len(ids) > LISTED else ""
        raise UserError(f"{_quoted(prefix)} begins {len(ids):,} ids: {', '.join(ids[:LISTED])}{more}")
    return ids[0]


def _instead(run: Run, prefix: str) -> str:
    """What to say after a name of nothing: the id that was meant, or how to see some."""
    problems = (entry.problem_id for sidecar in iter_sidecars(run.store, "rollouts") for entry in sidecar.entries)
    ids = chain(problems, (row["id"] for row in _all_ids(run)))
    # Comparing character by character is quick and narrows them down; difflib knows of those left out and put in.
    near = heapq.nlargest(50, ids, key=lambda id: sum(map(eq, prefix, id)))
    starts = {id[: len(prefix)]: id for id in near}
    best = difflib.get_close_matches(prefix, starts, n=1, cutoff=NEAR)
    return f"; did you mean {visible(starts[best[0]])}?" if best else ": leave it out to see some ids"


def _quoted(text: str) -> str:
    return f"'{one_line(text, 100)}'"


def _places(store: Store, wanted: Callable[[str], bool]) -> dict[str, Place]:
    """Where the problems that are wanted are."""
    narrowed = (_narrowed(sidecar, wanted) for sidecar in iter_sidecars(store, "rollouts"))
    holding = {sidecar.name: sidecar for sidecar in narrowed if sidecar.entries}
    states = problem_states(holding.values())
    return {
        entry.problem_id: Place(sidecar, entry)
        for sidecar in holding.values()
        for entry in sidecar.entries
        if states[entry.problem_id].shard == sidecar.name
    }


def _narrowed(sidecar: Sidecar, wanted: Callable[[str], bool]) -> Sidecar:
    return replace(sidecar, entries=tuple(entry for entry in sidecar.entries if wanted(entry.problem_id)), tries={})


def _row(store: Store, place: Place, columns: Sequence[str] | None = None) -> Row:
    id = place.entry.problem_id
    return next(row for row in iter_shard(store, place.sidecar, columns) if row["problem_id"] == id)


def _made_of(run: Run, table: str, problem_id: str) -> list[Row]:
    """What the current refinement made of a problem, in the order of its leaves."""
    refinement = run.refinement
    sidecars = () if refinement is None else iter_sidecars(run.store, f"{table}/{refinement}")
    holding = (one for one in sidecars if any(entry.problem_id == problem_id for entry in one.entries))
    rows = (row for one in holding for row in iter_shard(run.store, one) if row["problem_id"] == problem_id)
    return sorted(rows, key=lambda row: (row["leaf"], row["variant"]))


def _all_ids(run: Run) -> Iterator[Row]:
    if (refinement := run.refinement) is not None:
        for table in ("transcripts", "rejected"):
            yield from iter_rows(run.store, f"{table}/{refinement}", ["id", "problem_id"])
