"""`factory review`: a line of JSON for each attempt of a run that waits for a person.

It reads the current refinement: what waits is a rejected transcript, of a whole text or of what pruning left of one,
whose answer nobody found wrong, and on which too few reviewers agree yet. A line has what a reviewer must see, and an
`outcome` that is null; with `pass` or `fail` in its place it is a review. See `factory.verifiers.human`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from factory.errors import StorageError
from factory.prune.transcripts import Rejection
from factory.runs import Run, open_run
from factory.types import Attempt, Outcome, Transcript, last_turn
from factory.verifiers.base import Verifiers, within
from factory.verifiers.human import HumanVerifier, key
from pipelines import build
from pipelines.import_config import settings
from pipelines.verify import open_file

WAITING = (Rejection.UNKNOWN_VERDICT, Rejection.BROKEN_BY_PRUNING)
"""Rejections behind which a review may be all that is missing."""


def review_run(url: str, out: str) -> None:
    """Write them, sorted, each attempt once. Raises StorageError for a run that was never refined."""
    run = open_run(url)
    if run.refinement is None:
        raise StorageError(f"{run.store.url} has no transcripts yet: `factory refine {run.store.url}` first")
    found = {(line["problem"], line["attempt"]): line for line in _lines(run)}
    with contextlib.ExitStack() as stack:
        file = sys.stdout if out == "-" else stack.enter_context(open_file(out, "w"))
        file.writelines(json.dumps(found[place]) + "\n" for place in sorted(found))
        file.flush()
    print(f"{len(found):,} attempts wait for a review", file=sys.stderr)


def _lines(run: Run) -> Iterator[dict[str, Any]]:
    recipe = settings(run.config["recipe"])
    table = build.recipe_verifiers(recipe, run.config["model_digests"])
    return (_line(one) for one in run.rejected() if one.rejection in WAITING and _waits(table, one))


def _waits(table: Verifiers, transcript: Transcript) -> bool:
    """Whether reviewers may still decide it."""
    if any(verdict.outcome is Outcome.FAIL for verdict in transcript.verdicts):
        return False
    problem, attempt = transcript.problem, _attempt(transcript)
    checks = (one for check in problem.checks for one in within(table, check) if one.verifier == HumanVerifier.name)
    found = [one for check in checks for one in table[check.verifier].judge(problem, check.params, attempt)]
    return any(one.outcome is Outcome.UNKNOWN for one in found)


def _line(transcript: Transcript) -> dict[str, Any]:
    verdicts = [
        {"verifier": one.verifier, "aspect": one.aspect, "outcome": one.outcome, "evidence": one.evidence}
        for one in transcript.verdicts
        if one.verifier != HumanVerifier.name
    ]
    attempt = _attempt(transcript)
    return {
        "problem": transcript.problem.id,
        "attempt": key(transcript.problem, attempt),
        "prompt": [{"role": one.role, "content": one.content} for one in transcript.problem.messages],
        "reference": transcript.problem.reference,
        "text": attempt.text,
        "verdicts": verdicts,
        "outcome": None,
        "reviewer": "",
        "note": "",
    }


def _attempt(transcript: Transcript) -> Attempt:
    """The text that verifiers saw."""
    return Attempt(last_turn(transcript.spans))
