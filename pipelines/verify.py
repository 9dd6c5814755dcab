"""`factory verify`: a verdict for each line of a JSONL file, in the order of the lines.

A line has `pred` (the attempt's text), `gold` (the reference, or null), and `checks` (a list of {verifier, params}, or
else the one that the command names); `problem` (its statement) may be there. A verdict has `outcome` (pass, fail or
unknown: the worst of the checks), `extracted`, `rule`, `seconds`, and `verdicts` with each check's own. A line that
cannot be read gets one too: unknown, with the reason as its rule.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from pydantic import ValidationError

from factory.config import SandboxConfig, load_recipe
from factory.errors import ConfigError, SourceError, classify
from factory.sources.base import RowError, to_problem
from factory.types import Aspect, Attempt, Check, Origin, Outcome, Problem, Span, Verdict, worst
from factory.verifiers.base import Verifiers, validate_checks, verdicts
from pipelines import build
from sandboxes.choose import BACKENDS

KEYS = ("problem", "gold", "pred", "checks")
THREADS = 4 * (os.cpu_count() or 1)
"""Most of them wait for a sandbox, or for an answer that hangs."""
AHEAD = 64
"""Lines read ahead of the one that is written next, for each thread: an answer that hangs holds up no other."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Counts:
    """What a file came to."""

    lines: int = 0
    unreadable: int = 0
    passed: int = 0
    failed: int = 0
    unknown: int = 0


def verify(lines: Iterable[str], out: TextIO, checks: tuple[Check, ...], table: Verifiers) -> Counts:
    """Write a verdict for each line."""
    counts = Counts()

    def judge(line: str) -> dict[str, Any]:
        start = time.perf_counter()
        return _verdict(line, checks, table) | {"seconds": round(time.perf_counter() - start, 6)}

    for verdict in ordered(judge, (line for line in lines if line.strip())):
        out.write(json.dumps(verdict) + "\n")
        counts.lines += 1
        counts.unreadable += "unreadable" in verdict
        counts.passed += verdict["outcome"] == Outcome.PASS
        counts.failed += verdict["outcome"] == Outcome.FAIL
        counts.unknown += verdict["outcome"] == Outcome.UNKNOWN
    out.flush()
    return counts


def ordered(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each item by many threads, in the items' order."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as threads:
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                while waiting and (waiting[0].done() or len(waiting) >= AHEAD * THREADS):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            build.close_desks()  # else the threads would wait for replies that nobody wants any more
            raise
        finally:
            for one in waiting:
                one.cancel()


def _verdict(line: str, checks: tuple[Check, ...], table: Verifiers) -> dict[str, Any]:
    try:
        problem, attempt = _read(line, checks)
        validate_checks(table, problem)
    except (RowError, ConfigError, ValueError) as error:
        return {"outcome": Outcome.UNKNOWN, "extracted": None, "rule": classify(error), "unreadable": True}
    return _told(verdicts(table, problem, attempt))


def _read(line: str, checks: tuple[Check, ...]) -> tuple[Problem, Attempt]:
    row = json.loads(line)
    if not isinstance(row, dict) or not isinstance(row.get("pred"), str):
        raise RowError("not an object with a text `pred`")
    if unknown := sorted(row.keys() - set(KEYS)):
        raise RowError(f"unknown key {unknown[0]!r}: there are {', '.join(KEYS)}")
    asked = {"prompt": row.get("problem") or "-", "reference": row.get("gold"), "checks": row.get("checks")}
    return to_problem(asked, "verify", None, checks), Attempt((Span(row["pred"], Origin.SAMPLED),))


def _told(found: tuple[Verdict, ...]) -> dict[str, Any]:
    answers = [one for one in found if one.aspect is Aspect.ANSWER]
    outcome = worst(one.outcome for one in answers)
    deciding = next(one for one in answers if one.outcome is outcome)
    return {
        "outcome": outcome,
        "extracted": deciding.extracted,
        "rule": deciding.evidence,
        "verdicts": [
            {"verifier": f"{one.verifier} {one.version}", "aspect": one.aspect, "outcome": one.outcome,
             "extracted": one.extracted, "rule": one.evidence, "seconds": round(one.seconds, 6)}
            for one in found
        ],
    }  # fmt: skip


def verify_file(file: str, out: str, check: str, table: Verifiers) -> int:
    """Read a file (`-`: standard input), write another; 1 if a line could not be read."""
    checks = (_check(check),)
    validate_checks(table, Problem("", (), None, checks, ""))  # else no line without checks could be read
    with contextlib.ExitStack() as stack:
        lines = sys.stdin if file == "-" else stack.enter_context(open_file(file, "r"))
        written = sys.stdout if out == "-" else stack.enter_context(open_file(out, "w"))
        counts = verify(lines, written, checks, table)
    told = f"{counts.lines:,} lines: {counts.passed:,} pass, {counts.failed:,} fail, {counts.unknown:,} unknown"
    print(f"{told} ({counts.unreadable:,} unreadable)" if counts.unreadable else told, file=sys.stderr)
    return 1 if counts.unreadable else 0


def plain_table(backend: str, *, unsafe: bool) -> Verifiers:
    """Every verifier, without a recipe: no models, no reviews. Raises ConfigError for a backend that is none."""
    try:
        sandbox = SandboxConfig.model_validate({"backend": backend, "unsafe": unsafe})
    except ValidationError:
        raise ConfigError(f"--backend {backend!r}: there are {', '.join(('auto', *BACKENDS))}") from None
    return build.verifiers(sandbox)


def recipe_table(path: Path, overrides: Sequence[str]) -> Verifiers:
    """Every verifier, with the engines, reviews and sandbox of a recipe."""
    recipe = load_recipe(path, overrides)
    return build.recipe_verifiers(recipe, build.model_digests(recipe))


def _check(text: str) -> Check:
    name, colon, params = text.partition(":")
    try:
        read = json.loads(params) if colon else {}
    except ValueError as error:
        raise ConfigError(f"--check {text!r}: parameters are no JSON: {error}") from None
    if not isinstance(read, dict):
        raise ConfigError(f"--check {text!r}: parameters must be a JSON object")
    return Check(name, read)


def open_file(path: str, mode: str) -> TextIO:
    """A text file. Raises SourceError, in one line."""
    try:
        return cast(TextIO, Path(path).open(mode, encoding="utf-8", newline="\n"))
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
