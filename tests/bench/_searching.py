"""Strategies on the bundled teacher: many searches of the same problems through one real engine.

    async with bench("tune", 100) as here:
        trees = await here.run(Trial("beam", lambda _: beam(...), lambda here: LogprobScorer()))
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
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.config import Recipe, load_recipe
from factory.engines.base import Engine
from factory.engines.vllm import VllmEngine
from factory.render import TemplateRenderer
from factory.rollout import Load, Rollout, Tools
from factory.scorers.base import Score, Scorer
from factory.search.base import SearchFactory
from factory.search.growth import is_right
from factory.sources.countdown import Instance, can_reach
from factory.stats import Interval, bootstrap, paired_bootstrap, paired_ratio, pass_at_k
from factory.types import ROOT, Node, Problem, Tree
from pipelines import build
from pipelines.scorers import Asked
from pipelines.teachers.countdown.language import replay

FOLDER = Path(__file__).resolve().parents[2]
RECIPE = FOLDER / "pipelines" / "demo.toml"
REWARD = FOLDER / "pipelines" / "rewards" / "countdown"
RESULTS = Path(__file__).parent / "results"
BLOCK = 32
"""Tokens of a block of the prefix cache: the least that vLLM takes on CPUs, where its default of 128 is half an attempt
of this teacher."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way of spending tokens."""

    name: str
    search: SearchFactory
    scorer: Callable[[Bench], Scorer] | None = None
    """Made of what it may ask."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the recipe's sampling, such as `{"max_tokens": 128}`."""


class Bench:
    """Problems, and an engine that is up."""

    def __init__(self, problems: Sequence[Problem], tools: Tools, reward: Asked | None = None) -> None:
        self.problems = list(problems)
        self.tools = tools
        """What every trial shares; its search is a trial's own."""
        self.reward = reward
        """The shipped reward model, where it was asked for."""
        self.begun = 0
        """Problems of the present trial that were begun."""
        self.open = 0
        """Of them, those whose trees are not closed."""

    async def run(self, trial: Trial) -> list[Tree]:
        """One closed tree for each problem, in their order. Raises what a rollout raises."""
        policy = replace(self.tools.policy, sampling=replace(self.tools.policy.sampling, **trial.sampling))
        engine = self.tools.engine
        load = Load(lambda: engine.capabilities.max_running, lambda: engine.stats.known)
        tools = replace(self.tools, search=trial.search, search_name=trial.name, policy=policy, load=load)
        if trial.scorer is not None:
            tools = replace(tools, scorer=trial.scorer(self))
        self.begun = 0
        async with asyncio.TaskGroup() as group:
            running = [await self._started(group, problem, tools) for problem in self.problems]
        return [one.result() for one in running]

    async def _started(self, group: asyncio.TaskGroup, problem: Problem, tools: Tools) -> asyncio.Task[Tree]:
        """Start a problem once the engine has room for it."""
        while not tools.load.wants_problem(self.open):
            tools.load.changed.clear()
            await tools.load.changed.wait()
        task = group.create_task(self._searched(problem, tools))
        self.begun += 1
        await asyncio.sleep(0)  # lets it ask for its first generations, so that they count
        return task

    async def _searched(self, problem: Problem, tools: Tools) -> Tree:
        self.open += 1
        try:
            return await Rollout(problem, tools).run()
        finally:
            self.open -= 1


def tools_of(recipe: Recipe) -> tuple[Engine, Tools]:
    """What a worker of this recipe would have, in this process; its engine is not started."""
    digests = build.model_digests(recipe)
    names = build.model_names(recipe, digests)
    return build.worker_tools(build.absolute(recipe), build.policy(recipe, digests["teacher"]), names)


@contextlib.asynccontextmanager
async def bench(split: str, count: int, overrides: Sequence[str] = (), *, reward: bool = False) -> AsyncIterator[Bench]:
    """The first `count` problems of a frozen split, and the bundled teacher as the demo has it.

    `overrides`: of the demo's recipe, such as `sampling.logprobs=true`. `reward`: whether the teacher's reward model
    is wanted too, in an engine of its own.
    """
    cache = f"engines.teacher.args.block_size={BLOCK}"
    table = load_recipe(RECIPE, [cache, *overrides]).model_dump()
    table["source"] = {"kind": "countdown", "split": split, "count": count}
    table["engines"]["teacher"]["model"] = str(FOLDER / table["engines"]["teacher"]["model"])
    recipe = Recipe.model_validate(table)
    engine, tools = tools_of(recipe)
    async with contextlib.AsyncExitStack() as engines:
        engines.push_async_callback(engine.close)
        await engine.start()
        asked = await _reward_model(engines) if reward else None
        yield Bench([one for one in build.source(recipe) if isinstance(one, Problem)], tools, asked)


async def _reward_model(engines: contextlib.AsyncExitStack) -> Asked:
    args = {"runner": "pooling", "max_model_len": 512, "max_num_seqs": 256, "enforce_eager": True, "dtype": "float32"}
    engine = VllmEngine(str(REWARD), {**args, "block_size": BLOCK})
    engines.push_async_callback(engine.close)
    await engine.start()
    return Asked(engine, TemplateRenderer(str(REWARD)), is_teacher=False)


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
        sharable_tokens=sharable(tree, BLOCK),
        scoring_generated_tokens=tree.cost.scoring_generated_tokens,
        scoring_prompt_tokens=tree.cost.scoring_prompt_tokens,
        engine_seconds=tree.cost.engine_seconds,
    )


def sharable(tree: Tree, block: int) -> int:
    """Prompt tokens in whole blocks that an earlier request of a tree had read or written.

    An engine computes at least the last token of a prompt, so blocks up to the token before it can be shared.
    """
    written: dict[int, tuple[int, ...]] = {ROOT: ()}
    seen: set[tuple[int, ...]] = set()
    found = 0
    for node in tree.nodes:
        if node.token_ids is None:
            return 0
        before = written[node.parent]
        written[node.id] = before + node.token_ids
        if node.prompt_tokens:
            # What the problem's prompt says is the same in all of a tree; its length decides where blocks end.
            prompt = (-1,) * (node.prompt_tokens - len(before))
            found += block * len(_blocks((prompt + before)[:-1], block) & seen)
            seen |= _blocks(prompt + written[node.id], block)
    return found


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


def at_equal_tokens(a: Sequence[Spent], independent: Sequence[Spent], *, stopping: bool) -> dict[str, Any]:
    """Paired: coverage of `a` minus that of independent attempts that cost the same, over all problems together.

    `independent`: best of n without a stop. `stopping`: the attempts are made one by one, up to the first right one,
    as a search with `stop_at = 1` may; else all of them are. How many attempts, at most, is one number for all
    problems; between two whole ones every problem gets the upper with the chance that the fraction says. Raises
    ValueError where `a` cost more than all of them.
    """
    _same_problems(a, independent)
    budget = fmean(one.tokens for one in a)
    most = min(len(one.leaves) for one in independent)
    costs = [fmean(cost_of(one, n, stopping) for one in independent) for n in range(most + 1)]
    if budget > costs[-1]:
        raise ValueError(f"{budget:,.0f} tokens a problem, and {most} attempts cost {costs[-1]:,.0f}")
    n = max(n for n in range(most) if costs[n] <= budget)
    upper = (budget - costs[n]) / (costs[n + 1] - costs[n])
    theirs = [(1 - upper) * chance_in(one, n) + upper * chance_in(one, n + 1) for one in independent]
    difference = paired_bootstrap([float(one.solved) for one in a], theirs)
    return {"attempts": round(n + upper, 2), "independent": round(fmean(theirs), 4), "coverage": _shown(difference)}


def chance_in(one: Spent, n: int) -> float:
    """That `n` of a problem's attempts hold a right one."""
    return pass_at_k(len(one.leaves), sum(right for _, right in one.leaves), n) if n else 0.0


def cost_of(one: Spent, n: int, stopping: bool) -> float:
    """What `n` of a problem's attempts cost on average, over every order in which they might have come."""
    if not stopping:
        return n * fmean(tokens for tokens, _ in one.leaves)
    right = [tokens for tokens, is_right in one.leaves if is_right]
    wrong = [tokens for tokens, is_right in one.leaves if not is_right]
    made = sum(1 - chance_in(one, before) for before in range(n))
    found = chance_in(one, n)
    return found * (fmean(right) if right else 0.0) + (made - found) * (fmean(wrong) if wrong else 0.0)


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


# --- scorers that say how much a strategy owes to its scorer


class Shuffled:
    """The ablated twin of a scorer: its scores and its cost, at the wrong nodes.

    Each score is drawn, by a seeded generator, from those that the scorer gave so far at the same depth, over all
    problems: the distribution stays, what is said of a node goes.
    """

    def __init__(self, inner: Scorer, seed: int = 0) -> None:
        self.name = f"shuffled {inner.name}"
        self._inner = inner
        self._random = random.Random(seed)
        self._seen: defaultdict[int, list[float | None]] = defaultdict(list)

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        score = await self._inner.score(problem, path)
        seen = self._seen[len(path)]
        seen.append(score.value)
        return replace(score, value=self._random.choice(seen))


class Solver:
    """The ceiling of all scorers of Countdown: whether the target is within reach of the state that a path leads to.

    0 where it is not, where the chain has a fault, and where it has given up; else the more the fewer numbers are left.
    """

    name = "solver"

    async def score(self, problem: Problem, path: Sequence[Node]) -> Score:
        instance = Instance(tuple(problem.metadata["numbers"]), problem.metadata["target"])
        found = replay(instance, "".join(node.text for node in path))
        if found.fault or not can_reach(found.states[-1], instance.target):
            return Score(0.0)
        left = len(found.states[-1])
        return Score(0.0 if found.closed and left > 1 else 1.0 / left)
