"""The figures of a run, from its sidecars alone: nothing here reads a row."""

from __future__ import annotations

from collections import Counter
from typing import Any

from factory.shards import State, iter_sidecars, problem_states
from factory.store import Store


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
        "kept": _counters(store, f"transcripts/{refinement}") if refinement else {},
        "rejected": _counters(store, f"rejected/{refinement}") if refinement else {},
    }


def _sums(store: Store, states: dict[str, State]) -> Counter[str]:
    """Counters of every problem's current row; a superseded error does not count twice."""
    sums: Counter[str] = Counter()
    for sidecar in iter_sidecars(store, "rollouts"):
        for entry in sidecar.entries:
            state = states.get(entry.problem_id)  # None for what was committed since the states were read
            if state is not None and state.shard == sidecar.name:
                sums.update(entry.counters)
    return sums


def _counters(store: Store, table: str) -> dict[str, int]:
    """Rows by variant, or by reason."""
    sums: Counter[str] = Counter()
    for sidecar in iter_sidecars(store, table):
        for entry in sidecar.entries:
            sums.update(entry.counters)
    return dict(sorted(sums.items()))
