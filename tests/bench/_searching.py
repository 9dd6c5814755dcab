"""Strategies on the bundled teacher: many searches of the same problems through one real engine.

    async with bench("tune", 100) as here:
        trees = await here.run(Trial("beam", lambda _: beam(...), lambda tools: LogprobScorer()))
    figures([spent(tree) for tree in trees])

Each problem goes through `factory.rollout.Rollout`, as in a run, but without Ray, shards or a driver. Problems are
started by the worker's rule (`factory.admission`).
Counts of tokens and of right answers mean what they mean in a run; seconds only where nothing else uses the machine.

A script that uses this needs `if __name__ == "__main__"`, since the engine's processes import it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.config import Recipe, load_recipe
from factory.rollout import Load, Rollout, Tools
from factory.scorers.base import Scorer
from factory.search.base import SearchFactory
from factory.search.growth import is_right
from factory.stats import Interval, bootstrap, paired_bootstrap, paired_ratio, pass_at_k
from factory.types import ROOT, Problem, Tree
from pipelines import build

FOLDER = Path(__file__).resolve().parents[2]
RECIPE = FOLDER / "pipelines" / "demo.toml"
RESULTS = Path(__file__).parent / "results"
BLOCK = 32
"""Tokens of a block of the prefix cache: the least that vLLM takes on CPUs, where its default of 128 is half an attempt
of this teacher."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way of spending tokens."""

    name: str
    search: SearchFactory
    scorer: Callable[[Tools], Scorer] | None = None
    """Made of the engine, the renderer and the policy that it may ask."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe's sampling, such as `{"max_tokens": 128}`."""


class Bench:
    """Problems, and an engine that is up."""

    def __init__(self, problems: Sequence[Problem], tools: Tools) -> None:
        self.problems = list(problems)
        self.tools = tools
        """What every trial shares; its search is a trial's own."""

    async def run(self, trial: Trial) -> list[Tree]:
        """One closed tree for each problem, in their order. Raises what a rollout raises."""
        policy = replace(self.tools.policy, sampling=replace(self.tools.policy.sampling, **trial.sampling))
        load = Load(lambda: self.tools.engine.capabilities.max_running)
        tools = replace(self.tools, search=trial.search, search_name=trial.name, policy=policy, load=load)
        if trial.scorer is not None:
            tools = replace(tools, scorer=trial.scorer(tools))
        async with asyncio.TaskGroup() as group:
            running: list[asyncio.Task[Tree]] = []
            for problem in self.problems:
                running.append(await _started(group, problem, tools, sum(not one.done() for one in running)))
        return [one.result() for one in running]


async def _started(group: asyncio.TaskGroup, problem: Problem, tools: Tools, open_trees: int) -> asyncio.Task[Tree]:
    """Start a problem once the engine has room for it."""
    while not tools.load.wants_problem(open_trees):
        tools.load.changed.clear()
        await tools.load.changed.wait()
    task = group.create_task(Rollout(problem, tools).run())
    await asyncio.sleep(0)  # lets it ask for its first generations, so that they count
    return task


@contextlib.asynccontextmanager
async def bench(split: str, count: int, overrides: Sequence[str] = ()) -> AsyncIterator[Bench]:
    """The first `count` problems of a frozen split, and the bundled teacher as the demo has it.

    `overrides`: of the demo's recipe, such as `sampling.logprobs=true`.
    """
    cache = f"engines.teacher.args.block_size={BLOCK}"
    table = load_recipe(RECIPE, [cache, *overrides]).model_dump()
    table["source"] = {"kind": "countdown", "split": split, "count": count}
    table["engines"]["teacher"]["model"] = str(FOLDER / table["engines"]["teacher"]["model"])
    recipe = Recipe.model_validate(table)
    engine, tools = build.worker_tools(build.absolute(recipe), build.policy(recipe, build.model_digest(recipe)))
    try:
        await engine.start()
        yield Bench([one for one in build.source(recipe) if isinstance(one, Problem)], tools)
    finally:
        await engine.close()


@dataclass(frozen=True, slots=True)
class Spent:
    """What one problem came to."""

    problem: str
    solved: bool
    """Whether any leaf is right, counted or not: it was paid for."""
    first: bool
    """Whether the first attempt was: the leaf that was asked for first."""
    leaves: tuple[tuple[int, bool], ...]
    """(tokens sampled from the root to it, whether it is right) of each leaf, in the order in which they were asked
    for."""
    generations: int
    generated_tokens: int
    sequential_tokens: int
    prompt_tokens: int
    cached_tokens: int
    sharable_tokens: int
    """Of the prompt tokens, those in whole blocks that an earlier request of the same tree had read or written: what a
    cache that forgets nothing would serve."""
    scoring_generated_tokens: int
    scoring_prompt_tokens: int
    engine_seconds: float

    @property
    def tokens(self) -> int:
        """All that were generated, for guesses too."""
        return self.generated_tokens + self.scoring_generated_tokens


def spent(tree: Tree) -> Spent:
    """The figures of a closed tree."""
    leaves = tuple(
        (sum(node.generated_tokens for node in tree.path(leaf.id)), is_right(leaf)) for leaf in tree.leaves()
    )
    return Spent(
        problem=tree.problem.id,
        solved=any(right for _, right in leaves),
        first=bool(leaves) and leaves[0][1],
        leaves=leaves,
        generations=tree.cost.generations,
        generated_tokens=tree.cost.generated_tokens,
        sequential_tokens=tree.cost.sequential_tokens,
        prompt_tokens=tree.cost.prompt_tokens,
        cached_tokens=tree.cost.cached_tokens or 0,
        sharable_tokens=_sharable(tree, BLOCK),
        scoring_generated_tokens=tree.cost.scoring_generated_tokens,
        scoring_prompt_tokens=tree.cost.scoring_prompt_tokens,
        engine_seconds=tree.cost.engine_seconds,
    )


def _sharable(tree: Tree, block: int) -> int:
    """An engine computes at least the last token of a prompt, so whole blocks up to the token before can be shared."""
    written: dict[int, tuple[int, ...]] = {ROOT: ()}
    seen: set[tuple[int, ...]] = set()
    sharable = 0
    for node in tree.nodes:
        if node.token_ids is None:
            return 0
        before = written[node.parent]
        written[node.id] = before + node.token_ids
        if node.prompt_tokens:
            # What the problem's prompt says is the same in all of a tree; its length decides where blocks end.
            prompt = (-1,) * (node.prompt_tokens - len(before))
            sharable += block * len(_blocks((prompt + before)[:-1], block) & seen)
            seen |= _blocks(prompt + written[node.id], block)
    return sharable


def _blocks(ids: tuple[int, ...], block: int) -> set[tuple[int, ...]]:
    """Each whole block, by all that stands before its end."""
    return {ids[:end] for end in range(block, len(ids) + 1, block)}


def figures(spends: Sequence[Spent]) -> dict[str, Any]:
    """A trial in one table; shares with 95% bootstrap intervals over problems."""
    solved = sum(one.solved for one in spends)
    total = _total(spends)
    return {
        "problems": len(spends),
        "coverage": _shown(bootstrap([float(one.solved) for one in spends])),
        "first_attempt": fmean(float(one.first) for one in spends),
        "solved_that_the_first_attempt_missed": sum(one.solved and not one.first for one in spends),
        "leaves_per_problem": fmean(len(one.leaves) for one in spends),
        "right_leaves": sum(right for one in spends for _, right in one.leaves),
        "tokens_per_problem": fmean(one.tokens for one in spends),
        "tokens_per_solved": sum(one.tokens for one in spends) / solved if solved else None,
        "sequential_tokens": fmean(one.sequential_tokens for one in spends),
        "cached_share": total["cached_tokens"] / total["prompt_tokens"],
        "cached_of_sharable": total["cached_tokens"] / total["sharable_tokens"] if total["sharable_tokens"] else None,
        **total,
    }


def _total(spends: Sequence[Spent]) -> dict[str, Any]:
    names = (
        "generations",
        "generated_tokens",
        "prompt_tokens",
        "cached_tokens",
        "sharable_tokens",
        "scoring_generated_tokens",
        "scoring_prompt_tokens",
        "engine_seconds",
    )
    return {name: sum(getattr(one, name) for one in spends) for name in names}


def against(a: Sequence[Spent], b: Sequence[Spent]) -> dict[str, Any]:
    """Paired over problems: coverage of `a` minus that of `b`, and the tokens of `a` over those of `b`."""
    _same_problems(a, b)
    return {
        "coverage": _shown(paired_bootstrap([float(one.solved) for one in a], [float(one.solved) for one in b])),
        "tokens": _shown(paired_ratio([one.tokens for one in a], [one.tokens for one in b])),
    }


def at_equal_tokens(a: Sequence[Spent], independent: Sequence[Spent]) -> dict[str, Any]:
    """Paired: coverage of `a` minus that of so many independent attempts as cost the same, over all problems.

    `independent`: best of n without a stop, with more tokens than `a`. The number of attempts is one for all problems,
    and between two whole numbers coverage is interpolated, as if each problem drew which of them it gets.
    """
    _same_problems(a, independent)
    each = sum(one.tokens for one in independent) / sum(len(one.leaves) for one in independent)
    attempts = sum(one.tokens for one in a) / len(a) / each
    theirs = [_coverage(one, attempts) for one in independent]
    difference = paired_bootstrap([float(one.solved) for one in a], theirs)
    return {"attempts": attempts, "independent": fmean(theirs), "coverage": _shown(difference)}


def _coverage(one: Spent, attempts: float) -> float:
    """The chance that so many of a problem's attempts, not always a whole number, hold a right one."""
    n, right = len(one.leaves), sum(right for _, right in one.leaves)
    whole = int(attempts)
    if attempts > n:
        raise ValueError(f"{attempts:.1f} attempts are asked for, {n} were made")
    low = pass_at_k(n, right, whole) if whole else 0.0
    high = pass_at_k(n, right, min(n, whole + 1))
    return low + (attempts - whole) * (high - low)


def _same_problems(a: Sequence[Spent], b: Sequence[Spent]) -> None:
    if [one.problem for one in a] != [one.problem for one in b]:
        raise ValueError("a pair needs the same problems in the same order")


def _shown(interval: Interval) -> list[float]:
    return [round(part, 4) for part in (interval.value, interval.low, interval.high)]


def save(path: Path, trials: Mapping[str, Sequence[Spent]], **about: Any) -> None:
    """All of it as JSON: what was asked, the figures of each trial, and every problem's own."""
    table = {
        **about,
        "figures": {name: figures(spends) for name, spends in trials.items()},
        "problems": {name: [asdict(one) for one in spends] for name, spends in trials.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table) + "\n")


def load(path: Path) -> dict[str, list[Spent]]:
    """The problems' own figures of each trial, as `save` wrote them."""
    stored = json.loads(path.read_text())["problems"]
    return {name: [_loaded(one) for one in spends] for name, spends in stored.items()}


def _loaded(one: dict[str, Any]) -> Spent:
    return Spent(**{**one, "leaves": tuple((tokens, right) for tokens, right in one["leaves"])})
