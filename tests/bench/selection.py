"""Answers chosen without a verifier, and attempts until they agree, on recorded answers of real models.

    python -m tests.bench.selection --save

The data are not part of the project: files in `../shared/data/rollouts`, beside its root. Both sides of a label come
from them: what was read as the answer (texts that differ are different answers), and whether that answer is right.

- `chosen`: 72 MATH problems, 8 attempts each of a Qwen2-Math model with a reward model's score, which a logistic
  function brings into [0, 1]. How often the chosen answer is right, against a single attempt, and against any of 8.
- `agreed`: the same 72 problems, and 54 of AMC 2023 and AIME 2024, which are too hard for the 3B model that answered
  each 50 times. The teacher here is a draw with replacement from what was recorded, so that its most probable answer is
  known. How often `consensus` stops, how often at another answer than that (its promise), at which cost, and how right
  it is, against as many attempts for every problem.
- `simulated`: the same promise on answer distributions that are made to be hard.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.search.consensus import Poll
from factory.selection import best, majority, weighted_majority
from factory.stats import bootstrap, paired_bootstrap, paired_ratio, wilson
from factory.types import (
    ROOT,
    Aspect,
    Cost,
    Node,
    NodeState,
    Origin,
    Outcome,
    Policy,
    Problem,
    Sampling,
    StopReason,
    Tree,
    Verdict,
)

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "rollouts"
RESULTS = Path(__file__).parent / "results" / "selection.json"
SCORED = "qwen25math_math100_x8_rm_scores.jsonl.gz"
MANY = ("llama3b_rl_amc2023_x50.jsonl.gz", "llama3b_rl_aime2024_x50.jsonl.gz")
MOST = 32
"""Attempts at most, where they do not agree before."""
ERRORS = (0.05, 0.2)
DRAWS = 50
"""Polls of each problem."""
HARD: Mapping[str, Sequence[float]] = {
    "0.51, 0.49": (0.51, 0.49),
    "0.34, 0.33, 0.33": (0.34, 0.33, 0.33),
    "0.05, and 40 of 0.024": (0.05, *[0.95 / 40] * 40),
    "0.2, and 8 of 0.1": (0.2, *[0.1] * 8),
}


@dataclass(frozen=True, slots=True)
class Said:
    """One recorded attempt."""

    answer: str
    right: bool
    score: float | None = None


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        sys.exit(f"{path} is not there: this benchmark reads data that are not part of the project")
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def scored() -> list[list[Said]]:
    return [
        [
            Said(answer, bool(right), 1 / (1 + math.exp(-score[0])))
            for answer, right, score in zip(row["pred"], row["score"], row["pred_score"], strict=True)
        ]
        for row in rows(SCORED)
    ]


def many() -> list[list[Said]]:
    found = [row["completions"] for name in MANY for row in rows(name)]
    return [[Said(str(one["model_answer"]).strip(), float(one["score"]) > 0) for one in each] for each in found]


def tree(attempts: Iterable[Said]) -> Tree:
    """As a search of these attempts would have left it."""
    problem = Problem("0" * 20, (), None, (), "recorded")
    nodes = tuple(_leaf(id, one) for id, one in enumerate(attempts, start=1))
    policy = Policy("recorded", "", Sampling())
    return Tree(problem, policy, "best_of_n", nodes, StopReason.EXHAUSTED, None, 1, Cost())


def _leaf(id: int, said: Said) -> Node:
    outcome = Outcome.PASS if said.right else Outcome.FAIL
    verdicts = (Verdict("recorded", "1", Aspect.ANSWER, outcome, said.answer or None, "", 0.0),)
    state = NodeState.FINISHED
    return Node(id, ROOT, "", None, None, Origin.SAMPLED, state, said.score, verdicts, True, 0, 0, None, 0.0)


def right(node: Node | None) -> float:
    return float(node is not None and node.outcome is Outcome.PASS)


def chosen(problems: Sequence[Sequence[Said]]) -> dict[str, Any]:
    """How often each way of choosing is right, with the difference to the majority."""
    trees = [tree(one) for one in problems]
    ways: Mapping[str, Callable[[Tree], Node | None]] = {
        "majority": majority,
        "weighted majority": weighted_majority,
        "best by score": best,
    }
    found = {name: [right(way(one)) for one in trees] for name, way in ways.items()}
    found["one attempt"] = [fmean(float(one.right) for one in each) for each in problems]
    found["any of 8"] = [float(any(one.right for one in each)) for each in problems]
    return {
        name: {
            "right": _interval(bootstrap(values)),
            "beyond majority": _interval(paired_bootstrap(values, found["majority"])),
        }
        for name, values in found.items()
    }


def agreed(problems: Sequence[Sequence[Said]], error: float) -> dict[str, Any]:
    """Polls of every problem, against a majority of `MOST` attempts of the same draws."""
    rng = random.Random(1)
    polls = [[_poll(one, error, rng) for _ in range(DRAWS)] for one in problems]
    flat = [one for each in polls for one in each]
    attempts = [fmean(one["attempts"] for one in each) for each in polls]
    ours, theirs = ([fmean(one[key] for one in each) for each in polls] for key in ("right", "right of all"))
    return {
        "stopped": round(fmean(one["stopped"] for one in flat), 4),
        "stopped at another answer than the most probable": round(fmean(one["wrong"] for one in flat), 5),
        "the same of the worst problem": max(fmean(one["wrong"] for one in each) for each in polls),
        "attempts": _interval(bootstrap(attempts)),
        f"attempts over {MOST}": _interval(paired_ratio(attempts, [float(MOST)] * len(attempts))),
        "right": _interval(bootstrap(ours)),
        f"right beyond a majority of {MOST}": _interval(paired_bootstrap(ours, theirs)),
    }


def _poll(attempts: Sequence[Said], error: float, rng: random.Random) -> dict[str, float]:
    drawn = rng.choices(attempts, k=MOST)
    poll, cut = Poll(error), MOST
    for number, one in enumerate(drawn, start=1):
        poll.add(one.answer or None)
        if poll.agreed:
            cut = number
            break
    ours, theirs = majority(tree(drawn[:cut])), majority(tree(drawn))
    probable = Counter(one.answer for one in attempts if one.answer)
    top = max(probable.values(), default=0)
    wrong = poll.agreed and ours is not None and probable[str(ours.answer)] < top
    return {
        "stopped": float(poll.agreed),
        "wrong": float(wrong),
        "attempts": float(cut),
        "right": right(ours),
        "right of all": right(theirs),
    }


def simulated(chances: Sequence[float], error: float, polls: int = 500, most: int = 300) -> dict[str, Any]:
    """Of polls that may last for long: the share that stops at another answer than the first, which is the mode."""
    rng = random.Random(2)
    wrong, stopped = 0, 0
    for _ in range(polls):
        poll, seen = Poll(error), Counter[int]()
        for answer in rng.choices(range(len(chances)), chances, k=most):
            seen[answer] += 1
            poll.add(str(answer))
            if poll.agreed:
                stopped += 1
                wrong += seen.most_common(1)[0][0] != 0
                break
    return {"stopped": stopped / polls, "wrong": _interval(wilson(wrong, polls))}


def _interval(interval: Any) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(interval).items() if key != "level"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write the results beside the others")
    arguments = parser.parse_args()
    sets = {"math": scored(), "amc and aime": many()}
    result = {
        "chosen": chosen(sets["math"]),
        "agreed": {name: {str(error): agreed(problems, error) for error in ERRORS} for name, problems in sets.items()},
        "simulated": {name: {str(error): simulated(one, error) for error in ERRORS} for name, one in HARD.items()},
    }
    print(json.dumps(result, indent=2))
    if arguments.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
