"""What scorers know of unfinished attempts: ranking, calibration and cost, on states whose worth can be computed.

    python -m tests.bench.scorers --split report --save

The states are line ends of the teacher's own attempts at which two or more numbers are left and nothing was called dead
yet. Of each, an exact solver knows whether the target is still within reach of them ("solvable"); and 16 continuations
of the teacher tell how often it gets there from here, stepping back included ("worth"). Each scorer is looked at by

- AUROC: how well it ranks solvable states above others, with a 95% bootstrap interval over problems; overall, and among
  the states with two and three numbers left;
- calibration: expected calibration error over ten bins of equal width, and the Brier score, against solvable and, for
  those that guess chances, against worth;
- cost: tokens generated and read (the cache's left out) for each guess.

`rollouts m` is the share of m continuations that are right; it is no guess about worth, being part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

from factory.config import SandboxConfig
from factory.engines.base import Request
from factory.rollout import extended
from factory.scorers.base import Score, Scorer
from factory.scorers.logprob import LogprobScorer
from factory.search.best_of_n import best_of_n
from factory.sources.countdown import Instance, can_reach
from factory.stats import auroc, bootstrap
from factory.types import Attempt, FinishReason, Node, NodeState, Origin, Outcome, Problem, Scoring, Span, Tree
from factory.verifiers.base import verdicts
from pipelines import build
from pipelines.teachers.countdown.language import replay
from tests.bench._searching import RESULTS, Bench, Trial, bench
from tests.bench.search_trees import judgement, reward

ATTEMPTS = 8
"""Of each problem, from which states are drawn."""
CONTINUATIONS = 16
BINS = 10

judge = partial(verdicts, build.verifiers(SandboxConfig()))


@dataclass(frozen=True, slots=True)
class State:
    """An unfinished attempt, line by line, and what is known of it."""

    problem: Problem
    path: tuple[Node, ...]
    left: int
    """Numbers left, two or more."""
    solvable: bool


def states_of(tree: Tree, newline: int) -> list[State]:
    """Every state of a problem's attempts that counts, once."""
    found: dict[str, State] = {}
    for leaf in tree.leaves():
        lines = lines_of(leaf, newline)
        for end in range(1, len(lines)):
            state = state_at(tree.problem, lines[:end])
            if state is not None:
                found.setdefault("".join(node.text for node in lines[:end]), state)
    return list(found.values())


def lines_of(leaf: Node, newline: int) -> tuple[Node, ...]:
    """An attempt as a path of one node a line."""
    ids, texts = leaf.token_ids or (), leaf.text.splitlines(keepends=True)
    ends = [place + 1 for place, id in enumerate(ids) if id == newline]
    cuts = list(zip([0, *ends], [*ends, len(ids)], strict=True))
    return tuple(
        replace(
            leaf,
            id=number,
            parent=number - 1,
            text=text,
            token_ids=ids[start:end],
            logprobs=(leaf.logprobs or ())[start:end],
            state=NodeState.OPEN,
            verdicts=(),
        )
        for number, (text, (start, end)) in enumerate(zip(texts, cuts, strict=False), start=1)
    )


def state_at(problem: Problem, path: tuple[Node, ...]) -> State | None:
    """None for a beginning that is at fault, is done with its state, or has one number left."""
    instance = instance_of(problem)
    found = replay(instance, "".join(node.text for node in path))
    if found.fault or found.closed or path[-1].text == "dead\n" or len(found.states[-1]) < 2:
        return None
    return State(problem, path, len(found.states[-1]), can_reach(found.states[-1], instance.target))


def instance_of(problem: Problem) -> Instance:
    return Instance(tuple(problem.metadata["numbers"]), problem.metadata["target"])


@dataclass(frozen=True, slots=True)
class Guess:
    """What a scorer said of a state."""

    value: float | None
    scoring: Scoring


async def guesses(states: Sequence[State], scorer: Scorer) -> list[Guess]:
    async def one(state: State) -> Guess:
        score: Score = await scorer.score(state.problem, state.path)
        return Guess(score.value, score.scoring or Scoring())

    return await asyncio.gather(*map(one, states))


async def continued(here: Bench, state: State, number: int) -> tuple[bool, Scoring]:
    """Whether one continuation to the end is right, and what it cost."""
    tools = here.tools
    prompt = extended(tools.renderer.render(state.problem.messages), state.path)
    sampling = replace(tools.policy.sampling, logprobs=False)
    made = await tools.engine.generate(prompt, Request(sampling, key=f"{state.problem.id}/{number}"))
    text = "".join(node.text for node in state.path) + made.text
    right = made.finish is FinishReason.END and all(
        verdict.outcome is Outcome.PASS
        for verdict in await asyncio.to_thread(judge, state.problem, Attempt((Span(text, Origin.SAMPLED),)))
    )
    return right, Scoring(made.generated_tokens, made.prompt_tokens, made.cached_tokens)


def by_rollouts(rows: Sequence[Sequence[tuple[bool, Scoring]]], m: int) -> list[Guess]:
    """The share of the first `m` continuations that are right."""
    return [
        Guess(
            fmean(right for right, _ in row[:m]),
            Scoring(
                sum(cost.generated_tokens for _, cost in row[:m]),
                sum(cost.prompt_tokens for _, cost in row[:m]),
                sum(cost.cached_tokens or 0 for _, cost in row[:m]),
            ),
        )
        for row in rows
    ]


def figures(states: Sequence[State], told: Sequence[Guess], worth: Sequence[float]) -> dict[str, Any]:
    """All that is told of one scorer."""
    values = [0.5 if one.value is None else one.value for one in told]
    solvable = [float(state.solvable) for state in states]
    return {
        "without_a_guess": sum(one.value is None for one in told),
        "auroc_solvable": _auroc(states, values, lambda _: True),
        "auroc_two_left": _auroc(states, values, lambda state: state.left == 2),
        "auroc_three_left": _auroc(states, values, lambda state: state.left == 3),
        "solvable": {"ece": _ece(values, solvable), "brier": _brier(values, solvable)},
        "worth": {"ece": _ece(values, worth), "brier": _brier(values, worth)},
        "generated_tokens": fmean(one.scoring.generated_tokens for one in told),
        "prompt_tokens_computed": fmean(one.scoring.prompt_tokens - (one.scoring.cached_tokens or 0) for one in told),
    }


def _auroc(states: Sequence[State], values: Sequence[float], chosen: Callable[[State], bool]) -> list[float]:
    """With its interval, over problems."""
    by_problem: dict[str, list[tuple[float, bool]]] = {}
    for state, value in zip(states, values, strict=True):
        if chosen(state):
            by_problem.setdefault(state.problem.id, []).append((value, state.solvable))

    groups = list(by_problem.values())

    def over(places: Sequence[float]) -> float:
        pairs = [pair for place in places for pair in groups[int(place)]]
        return auroc([value for value, _ in pairs], [label for _, label in pairs])

    found = bootstrap([float(place) for place in range(len(groups))], over, resamples=500)
    return [round(part, 4) for part in (found.value, found.low, found.high)]


def _brier(values: Sequence[float], truth: Sequence[float]) -> float:
    return round(fmean((value - true) ** 2 for value, true in zip(values, truth, strict=True)), 4)


def _ece(values: Sequence[float], truth: Sequence[float]) -> float:
    bins: dict[int, list[tuple[float, float]]] = {}
    for value, true in zip(values, truth, strict=True):
        bins.setdefault(min(int(value * BINS), BINS - 1), []).append((value, true))
    gaps = [abs(sum(value - true for value, true in one)) for one in bins.values()]
    return round(sum(gaps) / len(values), 4)


async def measured(split: str, problems: int, count: int) -> dict[str, Any]:
    async with bench(split, problems, ["sampling.logprobs=true"], reward=True) as here:
        (newline,) = here.tools.renderer.encode("\n") or ()
        trees = await here.run(Trial("attempts", lambda _: best_of_n(ATTEMPTS)))
        pool = [state for tree in trees for state in states_of(tree, newline)]
        states = random.Random(6).sample(pool, count)
        flat = await asyncio.gather(
            *(continued(here, state, number) for state in states for number in range(CONTINUATIONS))
        )
        rows = [flat[start : start + CONTINUATIONS] for start in range(0, len(flat), CONTINUATIONS)]
        worth = [fmean(right for right, _ in row) for row in rows]
        scorers = {"logprob": LogprobScorer(), "judgement": judgement(here), "reward": reward(here)}
        told = {name: await guesses(states, one) for name, one in scorers.items()}
    told |= {f"rollouts {m}": by_rollouts(rows, m) for m in (1, 4, 16)}
    return {
        "split": split,
        "problems": problems,
        "states": count,
        "of": len(pool),
        "solvable": fmean(state.solvable for state in states),
        "worth": fmean(worth),
        "auroc_of_worth": _auroc(states, worth, lambda _: True),
        **{name: figures(states, one, worth) for name, one in told.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("tune", "gate", "report"), default="tune")
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--states", type=int, default=2000)
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    found = asyncio.run(measured(arguments.split, arguments.problems, arguments.states))
    print(json.dumps(found, indent=1))
    if arguments.save:
        (RESULTS / f"scorers_{arguments.split}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
