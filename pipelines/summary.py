"""The figures of a run, from its sidecars alone: nothing here reads a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from factory.shards import State, iter_sidecars, problem_states
from factory.store import Store
from factory.types import NOT_ASKED, Seam, Transcript

HARMLESS, FAILED, UNTESTED = CUTS = ("cut_harmless", "cut_withdrawn", "cut_untested")
"""Names under which a shard's entries count cuts that an engine was asked about: made, withdrawn, and made since the
engine was in trouble."""


def summarize(store: Store, refinement: str | None) -> dict[str, Any]:
    """Counts of the committed rollouts, and of one refinement of them.

    `tokens` are generated tokens of the current rows; `tokens_per_solved` is None while nothing is solved.
    """
    states = problem_states(iter_sidecars(store, "rollouts"))
    sums = _sums(store, states)
    by_status = Counter(state.status for state in states.values() if state.status is not None)
    solved, tokens = by_status["solved"], sums["generated_tokens"]
    return {
        "problems": by_status.total(),
        "solved": solved,
        "unsolved": by_status["unsolved"],
        "errors": by_status["error"],
        "attempts": sums["attempts"],
        "right": sums["right"],
        "tokens": tokens,
        "tokens_per_solved": round(tokens / solved) if solved else None,
        **made(store, refinement),
    }


def made(store: Store, refinement: str | None) -> dict[str, dict[str, int]]:
    """What one refinement made: transcripts `kept` by variant and `rejected` by reason, and `cuts` by what an engine
    said of them."""
    kept = _counters(store, f"transcripts/{refinement}") if refinement else Counter[str]()
    rejected = _counters(store, f"rejected/{refinement}") if refinement else Counter[str]()
    cuts = {name: kept[name] + rejected[name] for name in CUTS if kept[name] + rejected[name]}
    return {"kept": _but_cuts(kept), "rejected": _but_cuts(rejected), "cuts": cuts}


def cut_counts(transcript: Transcript) -> dict[str, int]:
    """What an engine said of a transcript's cuts, by name; empty where none was asked."""
    counts = Counter(_name(one.seam, made=True) for one in transcript.removals if one.seam != NOT_ASKED)
    counts.update(_name(one.seam, made=False) for one in transcript.withdrawn if one.seam != NOT_ASKED)
    return dict(counts)


def _name(seam: Seam, *, made: bool) -> str:
    return UNTESTED if seam.untested is not None else HARMLESS if made else FAILED


def _but_cuts(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in sorted(counts.items()) if name not in CUTS}


def _sums(store: Store, states: dict[str, State]) -> Counter[str]:
    """Counters of every problem's current row; a superseded error does not count twice."""
    sums: Counter[str] = Counter()
    for sidecar in iter_sidecars(store, "rollouts"):
        for entry in sidecar.entries:
            state = states.get(entry.problem_id)  # None for what was committed since the states were read
            if state is not None and state.shard == sidecar.name:
                sums.update(entry.counters)
    return sums


def _counters(store: Store, table: str) -> Counter[str]:
    """Rows by variant, or by reason; and cuts."""
    sums: Counter[str] = Counter()
    for sidecar in iter_sidecars(store, table):
        for entry in sidecar.entries:
            sums.update(entry.counters)
    return sums
