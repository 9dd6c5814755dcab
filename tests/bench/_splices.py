"""Chains whose dead end is known: a wrong attempt at a real problem, a turning phrase, a right attempt at the same one.

The attempts are of models, from `../shared/data/rollouts`; what is right is decided by the `math` verifier, and those
of whose recorded labels it thinks otherwise are left out. A wrong attempt is cut at a random place in its second
half, so that some have said their answer and some have not.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.prune.steps import steps_of
from factory.types import Attempt, Check, Message, Origin, Outcome, Problem, Span
from factory.verifiers.base import verdicts
from factory.verifiers.math.options import Decision, Options
from factory.verifiers.math.verifier import MathVerifier

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PER_PROBLEM = 2
JOINTS = ("\n\n{}\n\n", " {}\n\n", "\n\n{} ")
"""How a turning phrase stands between the attempts: alone, behind the wrong one, before the right one."""
_THINK = re.compile(r"</?think>")
_JSON = re.compile(r"\{.*\}", re.DOTALL)
_COMPUTED = re.compile(r"<<[^<>]*>>")


def _undecided(gold: str, pred: str, options: Options, deadline: float) -> Decision:
    """In place of algebra, so that no sandbox is needed: what exact rules do not decide is UNKNOWN, and left out."""
    return Decision(None, "exact rules only")


_VERIFIERS = {"math": MathVerifier(_undecided)}


@dataclass(frozen=True, slots=True)
class Sample:
    """A model's attempt with its recorded label."""

    text: str
    label: bool | None
    """Whether it is right, as recorded; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Splice:
    """A chain, and where its dead end lies."""

    problem: Problem
    text: str
    end: int
    """Offset of the right attempt: all before it is the wrong one and the turning phrase."""
    turning: str


def is_tuned(problem: str) -> bool:
    """Whether a problem is of the half that rules were chosen on; the other half is reported."""
    return hashlib.sha256(problem.encode()).digest()[0] % 2 == 0


def rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a file of the shared data."""
    path = DATA / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield from map(json.loads, lines)


def math_problem(question: str, gold: str) -> Problem:
    """A problem that the `math` verifier checks."""
    name = hashlib.sha256(question.encode()).hexdigest()[:20]
    return Problem(name, (Message("user", question),), gold, (Check("math"),), "shared")


def outcome(problem: Problem, text: str) -> Outcome:
    """What the verifier says of a text; UNKNOWN where it says nothing."""
    found = verdicts(_VERIFIERS, problem, Attempt((Span(text, Origin.SAMPLED),)))
    return found[0].outcome if found else Outcome.UNKNOWN


def splices(turnings: Sequence[str], count: int, *, tuned: bool, seed: int = 7) -> list[Splice]:
    """Up to `count` chains of one half of the problems, the same for the same seed."""
    draw = random.Random(seed)
    found = [one for one in _groups() if is_tuned(one[0]) == tuned]
    made = [one for group in found for one in _of_problem(*group, turnings, draw)]
    draw.shuffle(made)
    return made[:count]


def _of_problem(
    question: str, gold: str, samples: Sequence[Sample], turnings: Sequence[str], draw: random.Random
) -> Iterator[Splice]:
    problem = math_problem(question, gold)
    right, wrong = _judged(problem, samples, draw, label=True), _judged(problem, samples, draw, label=False)
    for bad, good in zip(wrong, right, strict=False):
        steps = steps_of(bad)
        kept = steps[: max(2, round(len(steps) * draw.uniform(0.5, 1.0)))]
        turning = draw.choice(turnings)
        front = "".join(step.text for step in kept).rstrip() + draw.choice(JOINTS).format(turning)
        yield Splice(problem, front + good, len(front), turning)


def _judged(problem: Problem, samples: Sequence[Sample], draw: random.Random, *, label: bool) -> list[str]:
    """A few attempts of which the recorded label and the verifier say the same."""
    wanted = Outcome.PASS if label else Outcome.FAIL
    texts = sorted({one.text for one in samples if one.label in {label, None} and len(steps_of(one.text)) >= 3})
    draw.shuffle(texts)
    return [text for text in texts[: 6 * PER_PROBLEM] if outcome(problem, text) is wanted][:PER_PROBLEM]


def _groups() -> list[tuple[str, str, list[Sample]]]:
    """Problems with their attempts of all files: (question, reference, attempts)."""
    golds: dict[str, str] = {}
    found: dict[str, list[Sample]] = defaultdict(list)
    for question, gold, sample in _samples():
        golds.setdefault(question, gold)
        found[question].append(sample)
    mixed = (one for one in sorted(found) if {sample.label for sample in found[one]} not in ({True}, {False}))
    return [(question, golds[question], found[question]) for question in mixed]


def _samples() -> Iterator[tuple[str, str, Sample]]:
    for name in ("qwen25math_math100_x8_rm_scores.jsonl.gz", "qwen3b_base_vs_rl_math.jsonl.gz"):
        yield from _evaluated(name)
    for name in ("baseline_shortcot_qwen14b_math500_aime_amc.jsonl", "baseline_gemma27b_llama8b_aime_amc.jsonl"):
        yield from _evaluated(name)
    for name in ("llama3b_rl_aime2024_x50.jsonl.gz", "llama3b_rl_amc2023_x50.jsonl.gz"):
        for row in rows(f"rollouts/{name}"):
            for one in row["completions"]:
                sample = Sample(_plain(one["full_model_response"]), one["score"] == 1)
                yield row["question"].strip(), str(row["expected_answer"]), sample
    yield from _zeroeval()
    yield from _gsm8k()


def _evaluated(name: str) -> Iterator[tuple[str, str, Sample]]:
    for row in rows(f"rollouts/{name}"):
        for text, score in zip(row["code"], row["score"], strict=True):
            yield row["question"].strip(), str(row["gt"]), Sample(_plain(text), bool(score))


def _zeroeval() -> Iterator[tuple[str, str, Sample]]:
    """Without recorded labels."""
    for row in rows("rollouts/zeroeval_math_l5_11models.jsonl.gz"):
        fence = _JSON.search(row["output"][0])
        try:
            told = json.loads(fence[0], strict=False) if fence else {}
        except ValueError:
            continue  # many are malformed; they are left out
        if isinstance(told, dict) and isinstance(told.get("reasoning"), str):
            text = f"{told['reasoning']}\n\nThe answer is \\boxed{{{told.get('answer')}}}"
            yield row["problem"].strip(), str(row["answer"]), Sample(text, None)


def _gsm8k() -> Iterator[tuple[str, str, Sample]]:
    for row in rows("rollouts/gsm8k_gpt3_4models.jsonl"):
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        for told in (row[model] for model in row if isinstance(row[model], dict)):
            yield row["question"].strip(), gold, Sample(_readable(told["solution"]), told["is_correct"])


def _plain(text: str) -> str:
    return _THINK.sub("", text).strip()


def _readable(solution: str) -> str:
    """Without the calculator's marks, and with an answer that says that it is one."""
    return _COMPUTED.sub("", solution).replace("\nA: ", "\nThe answer is ")
