"""BENCH.toml: strategies by budgets on one set of problems, and the runs that they take.

    recipe = "demo.toml"                       # beside this file; engine, problems, checks and sampling are its

    [overrides]                                # keys of the recipe that differ here
    source = { kind = "countdown", split = "tune", count = 100 }

    [difficulty]
    attempts = 16                              # on a run of their own

    [strategies.best_of_n]
    search = { kind = "best_of_n" }
    budgets = [{ n = 4 }, { n = 16 }]          # what differs in [search]

A table of `overrides` is merged into the recipe's, unless it names its `kind`: then it replaces that. Each strategy has
the search and the scorer that it names itself, never the recipe's. Everything is checked before anything starts.

A strategy at a budget is an ordinary run. Independent attempts are the exception: of `best_of_n` that never stops early
only the largest `n` is run, since its attempts tell what fewer would have come to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from factory.config import (
    OpenAIEngineConfig,
    ProblemBudgetConfig,
    Recipe,
    nearest,
    overridden,
    parse_recipe,
    read_table,
)
from factory.errors import ConfigError
from factory.ids import canonical_json, digest
from factory.search_config import BestOfNConfig, ConsensusConfig, verified_by
from factory.section import Section

DIFFICULTY = "difficulty"
"""Name of the run of separate attempts."""

Way = Literal["majority", "weighted", "best"]
"""How an answer is selected (see `factory.selection`)."""


class StrategyConfig(Section):
    """One way to spend tokens, at several budgets."""

    search: dict[str, Any]
    """[search] of a recipe, without what the budgets say."""
    budgets: list[dict[str, Any]] = Field(min_length=1)
    """Keys of [search] at each budget."""
    scorer: dict[str, Any] | None = None
    """[scorer] of a recipe."""
    sampling: dict[str, Any] = Field(default={})
    """What differs from the recipe's [sampling]."""
    select: list[Way] | None = Field(default=None, min_length=1)
    """How its one answer is selected; by default by majority, where no verifier takes part in the search."""


class DifficultyConfig(Section):
    """The teacher's pass rate on each problem, on attempts of its own."""

    attempts: int = Field(default=16, ge=2)
    edges: list[float] = Field(default=[0.1, 0.3])
    """Pass rates between 0 and 1 at which one bin ends and the next begins; the upper end belongs to a bin."""

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: list[float]) -> list[float]:
        if edges != sorted(set(edges)) or any(not 0 < edge < 1 for edge in edges):
            raise ValueError("pass rates between 0 and 1, ascending")
        return edges

    def bins(self) -> list[str]:
        """Names of the bins, the hardest first; problems without a right attempt stand alone."""
        ends = [0, *self.edges, 1]
        return ["0", *(f"({low:g}, {high:g}]" for low, high in pairwise(ends))]

    def bin_of(self, rate: float) -> str:
        """The bin of a pass rate in [0, 1]."""
        return self.bins()[0 if rate == 0 else 1 + sum(rate > edge for edge in self.edges)]


class BenchConfig(Section):
    """All of a BENCH.toml."""

    recipe: str
    """Path of the recipe, from the folder of this file."""
    overrides: dict[str, Any] = Field(default={})
    """Tables and keys of the recipe that differ."""
    difficulty: DifficultyConfig | None = None
    strategies: dict[str, StrategyConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.strategies:
            if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name, re.ASCII):
                raise ValueError(f"strategies.{name}: a name of letters, digits and _ . + - names its folder")
            if name == DIFFICULTY:
                raise ValueError(f"strategies.{name}: the run of separate attempts has this name")
        return self


@dataclass(frozen=True, slots=True)
class Planned:
    """A strategy at a budget."""

    strategy: str
    label: str
    """The budget, as `n=4`."""
    recipe: Recipe
    run: str
    """Name of the folder of the run that tells of it."""
    first: int | None
    """Of that run's attempts so many; None for all of its trees."""
    select: tuple[Way, ...]

    @property
    def name(self) -> str:
        return _name(self.strategy, self.label)

    @property
    def verified(self) -> str | None:
        """How verifiers guide it: such a search has no answer to select without them."""
        return verified_by(self.recipe.search, self.recipe.scorer)

    @property
    def not_covering(self) -> str | None:
        """Why it has no place among those that a verifier decides about."""
        agreed = "stops where answers agree, so what a verifier would find in its tree is by the way"
        return agreed if isinstance(self.recipe.search, ConsensusConfig) else None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a bench compares."""

    recipe: Recipe
    """As it is for all."""
    points: Sequence[Planned]
    difficulty: DifficultyConfig | None

    def runs(self) -> dict[str, Recipe]:
        """By name of its folder, the recipe of each run; the difficulty's first."""
        found = {DIFFICULTY: _separate(self.recipe, self.difficulty)} if self.difficulty else {}
        return found | {one.run: one.recipe for one in self.points if one.run == one.name}


def load_bench(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a bench and apply `a.b=value` overrides of its keys. Raises ConfigError, in one line."""
    config = _parsed(overridden(read_table(path, "bench"), overrides), path)
    base = read_table(path.parent / config.recipe)
    merged = _merged(base, config.overrides)
    common = {key: value for key, value in merged.items() if key not in {"search", "scorer"}}
    plain = parse_recipe({**common, "search": {"kind": "best_of_n"}}, f"{path}: overrides")
    points = [one for name, strategy in config.strategies.items() for one in _points(path, name, strategy, common)]
    return Plan(plain, points, config.difficulty)


def _parsed(table: Mapping[str, Any], path: Path) -> BenchConfig:
    try:
        return BenchConfig.model_validate(table)
    except ValidationError as error:
        raise ConfigError(" ".join(f"{path}: {_first_line(error)}".splitlines())) from None


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    loc = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        models: dict[int, type[Section]] = {1: BenchConfig, 2: DifficultyConfig, 3: StrategyConfig}
        return f"unknown key {'.'.join(loc)}{nearest(loc[-1], models[len(loc)])}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(loc)}: {message}" if loc else message


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with changes; tables in it are merged, too, but for one that names its `kind`."""
    found = dict(table)
    for key, value in changes.items():
        old = found.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping) and "kind" not in value
        found[key] = _merged(old, value) if both and isinstance(old, Mapping) else value
    return found


def _points(path: Path, name: str, strategy: StrategyConfig, common: Mapping[str, Any]) -> Iterator[Planned]:
    where = f"{path}: strategies.{name}"
    labels = [_label(budget) for budget in strategy.budgets]
    recipes = []
    for place, budget in enumerate(strategy.budgets):
        if labels.index(labels[place]) != place:
            raise ConfigError(f"{where}: budgets.{place}: the same as budgets.{labels.index(labels[place])}")
        if "kind" in budget:
            raise ConfigError(f"{where}: budgets.{place}.kind: another search is another strategy")
        recipes.append(_recipe(strategy, budget, common, f"{where}: budgets.{place}"))
    select = _ways(recipes, strategy, where)
    for place, recipe in enumerate(recipes):
        telling = [other for other, one in enumerate(recipes) if _is_within(recipe, one)]
        run = max(telling, key=lambda other: _attempts(recipes[other]), default=place)
        yield Planned(name, labels[place], recipe, _name(name, labels[run]), _attempts(recipe) or None, select)


def _name(strategy: str, label: str) -> str:
    return f"{strategy}-{label}" if label else strategy


def _recipe(strategy: StrategyConfig, budget: Mapping[str, Any], common: Mapping[str, Any], where: str) -> Recipe:
    table = {**common, "search": {**strategy.search, **budget}}
    if strategy.sampling:
        table["sampling"] = _merged(common.get("sampling", {}), strategy.sampling)
    if strategy.scorer is not None:
        table["scorer"] = strategy.scorer
    return parse_recipe(table, where)


def _label(budget: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={_short(value)}" for key, value in budget.items())


def _short(value: Any) -> str:
    """Short, and fit for a folder's name; the same value is the same text."""
    plain = str(value) if isinstance(value, (int, float)) else canonical_json(value)
    return plain if re.fullmatch(r"[\w.+-]{1,24}", plain, re.ASCII) else digest(value)[:8]


def _ways(recipes: Sequence[Recipe], strategy: StrategyConfig, where: str) -> tuple[Way, ...]:
    verified = next((why for one in recipes if (why := verified_by(one.search, one.scorer))), None)
    if strategy.select is None:
        return () if verified else ("majority",)
    if verified:
        raise ConfigError(f"{where}: select does nothing: the search {verified}, so no answer of it is honestly chosen")
    guessed = [one for one in strategy.select if one != "majority"]
    if guessed and strategy.scorer is None and not recipes[0].sampling.logprobs:
        raise ConfigError(f"{where}: select: {guessed[0]!r} needs a scorer, or sampling.logprobs = true")
    return tuple(dict.fromkeys(strategy.select))


def _attempts(recipe: Recipe) -> int:
    """Independent attempts, where all of them are made; 0 for any other search."""
    search, capped = recipe.search, recipe.budget.problem != ProblemBudgetConfig()
    return search.n if isinstance(search, BestOfNConfig) and search.stop_at is None and not capped else 0


def _is_within(recipe: Recipe, other: Recipe) -> bool:
    """Whether the attempts of the other recipe tell what this one's would."""
    more = _attempts(other)
    return bool(_attempts(recipe) and more) and recipe.search.model_copy(update={"n": more}) == other.search


def _separate(recipe: Recipe, difficulty: DifficultyConfig) -> Recipe:
    """Independent attempts, by other random numbers than the compared ones have; a server draws its own."""
    table = recipe.model_dump()
    table["search"] = {"kind": "best_of_n", "n": difficulty.attempts}
    if not isinstance(recipe.teacher, OpenAIEngineConfig):
        args = table["engines"]["teacher"]["args"]
        args["seed"] = args.get("seed", 0) + 1
    return Recipe.model_validate(table)
