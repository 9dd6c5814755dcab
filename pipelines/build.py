"""From a recipe to the objects it names: the only place that knows concrete classes.

`worker_tools` runs in a worker's process and is sent there by name; nothing here imports an engine's library before the
engine starts.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.config import (
    BestOfNConfig,
    BudgetForcingConfig,
    CheckConfig,
    ConsensusConfig,
    CountdownSource,
    DatasetSource,
    FileSource,
    LadderConfig,
    OneSearch,
    OpenAIEngineConfig,
    Recipe,
    ReviseConfig,
    SandboxConfig,
    ScriptedEngineConfig,
    VllmEngineConfig,
)
from factory.dispatch import BadItem
from factory.engines.base import Engine
from factory.errors import ConfigError, classify
from factory.ids import digest, file_digest, folder_digest
from factory.judging import Judging
from factory.prune.base import Pruner
from factory.prune.countdown import CountdownPruner
from factory.render import MessageRenderer, PlainRenderer, Renderer, TemplateRenderer
from factory.rollout import Load, Tools
from factory.search.base import Search
from factory.search.best_of_n import best_of_n
from factory.search.budget_forcing import Forcing, budget_forcing
from factory.search.caps import Caps, capped
from factory.search.consensus import consensus
from factory.search.ladder import ladder
from factory.search.revise import revise
from factory.sources.base import BadLine, Source
from factory.types import Attempt, Check, Policy, Problem, Sampling, Verdict
from factory.verifiers.base import Verifier, validate_checks, validate_problem, verdicts
from factory.verifiers.jail import Jail
from factory.verifiers.math.jailed import JailedAlgebra
from factory.verifiers.table import builtin
from pipelines import fit
from sandboxes.base import Language
from sandboxes.pool import MODULES, Options

JUDGE_THREADS = 2 * (os.cpu_count() or 1)
"""Most of them wait for a sandbox."""


def source(recipe: Recipe) -> Source:
    """Raises SourceError for files or datasets that are not there."""
    config = recipe.source
    match config:
        case CountdownSource():
            from factory.sources.games import CountdownSource as Countdown

            return Countdown(**config.model_dump(exclude={"kind"}))
        case FileSource(kind="jsonl"):
            from factory.sources.files import JsonlSource

            return JsonlSource(tuple(config.files), config.fields or None, _checks(config.checks))
        case FileSource():
            from factory.sources.files import ParquetSource

            return ParquetSource(tuple(config.files), config.fields or None, _checks(config.checks))
        case DatasetSource():
            from factory.sources.datasets import DatasetSource as HubDataset

            checks = _checks(config.checks)
            return HubDataset(config.name, config.split, config.subset, config.fields or None, checks)


def _checks(configs: Iterable[CheckConfig]) -> tuple[Check, ...]:
    return tuple(Check(config.verifier, config.params) for config in configs)


def validate(sandbox: SandboxConfig, problem: Problem) -> None:
    """Raise ConfigError for a problem whose checks do not work, reject its own reference or accept nothing at all."""
    validate_problem(verifiers(sandbox), problem)


def dispatchable(sandbox: SandboxConfig, items: Iterable[Problem | BadLine]) -> Iterator[Problem | BadItem]:
    """What cannot be searched, as what dispatch reports: an id and a reason. Looks at every item's checks."""
    table = verifiers(sandbox)
    for item in items:
        if isinstance(item, BadLine):
            yield BadItem(item.id, f"SourceError: {item.where}: line {item.line}: {item.reason}")
            continue
        try:
            validate_checks(table, item)
        except ConfigError as error:
            yield BadItem(item.id, classify(error))
        else:
            yield item


def judge(sandbox: SandboxConfig) -> Callable[[Problem, Attempt], tuple[Verdict, ...]]:
    """What puts every check of a problem to an attempt; the table is looked up here, not for each attempt."""
    return functools.partial(verdicts, verifiers(sandbox))


def verifiers(sandbox: SandboxConfig) -> Mapping[str, Verifier]:
    """Every verifier by its name; the same ones each time, since a sandbox that they share is costly to start."""
    return _verifiers(sandbox.model_dump_json())


@functools.cache
def _verifiers(sandbox: str) -> Mapping[str, Verifier]:
    config = SandboxConfig.model_validate_json(sandbox)
    algebra = JailedAlgebra(functools.partial(_algebra_jail, config))
    return builtin(functools.cache(functools.partial(_jail, config)), algebra)


def _jail(config: SandboxConfig, language: Language) -> Jail:
    """Not started before it is asked for."""
    # The backends that fork know Python only; what was asked for there says nothing of other languages.
    here = config.backend if language is Language.PYTHON or config.backend == "remote" else "auto"
    options = Options(config.slots, (*MODULES, *config.modules), tuple(config.paths))
    url, token = (config.url, config.token_env) if here == config.backend else ("", None)
    jail = Jail(backend=here, language=language, options=options, unsafe=config.unsafe, url=url, token_variable=token)
    _jails.append(jail)
    return jail


def _algebra_jail(config: SandboxConfig, options: Options) -> Jail:
    """For what reads answers, and never runs what a model wrote: on this machine, wherever programs are run."""
    here = config.backend if config.backend in {"zygote", "landlock", "none"} else "auto"
    jail = Jail(backend=here, options=replace(options, slots=config.slots), unsafe=config.unsafe)
    _jails.append(jail)
    return jail


_jails: list[Jail] = []
"""All that were made in this process."""


def close_jails() -> None:
    """End every sandbox, in order. A process that dies without this takes them along."""
    for jail in _jails:
        jail.close()


def verifier_versions() -> dict[str, str]:
    """By name."""
    return {name: verifier.version for name, verifier in verifiers(SandboxConfig()).items()}


def pruners() -> list[Pruner]:
    """All of them: each leaves alone what it does not understand."""
    return [CountdownPruner()]


def check_engine(recipe: Recipe) -> None:
    """Raise ConfigError for a model folder that is none, or a script that cannot be, without loading anything."""
    config = recipe.teacher
    if isinstance(config, VllmEngineConfig):
        from factory.engines.vllm import check_model

        check_model(config.model, config.args.get("tokenizer"))
    elif isinstance(config, ScriptedEngineConfig):
        engine(recipe)


def check_search(recipe: Recipe) -> None:
    """Raise ConfigError for a search that cannot work on the recipe's engine, before anything is written.

    The tokenizer of a local model is loaded if there are texts to spell. One with a hub name may not be within reach
    here: the workers look at it, before their engines start.
    """
    config = recipe.teacher
    fit.check_capabilities(recipe, engine(recipe).capabilities)
    local = isinstance(config, VllmEngineConfig) and Path(config.model).expanduser().exists()
    if local and any(fit.texts(recipe)):
        fit.check_texts(recipe, renderer(recipe))


def model_digest(recipe: Recipe) -> str:
    """What the teacher's weights are: a hash of a local folder, else the name under which others keep them."""
    engine = recipe.teacher
    match engine:
        case ScriptedEngineConfig():
            return digest(engine.args)
        case OpenAIEngineConfig():
            return f"served:{engine.model}@{engine.base_url}"
        case VllmEngineConfig():
            local = Path(engine.model).expanduser()
            if local.is_file():
                return file_digest(local)
            return folder_digest(local) if local.is_dir() else f"hub:{engine.model}@{engine.args.get('revision')}"


def engine(recipe: Recipe) -> Engine:
    """The teacher, not yet started."""
    config = recipe.teacher
    match config:
        case ScriptedEngineConfig():
            from factory.engines.scripted import from_args

            return from_args(config.args)
        case OpenAIEngineConfig():
            from factory.engines.openai import OpenAIEngine

            return OpenAIEngine(**config.model_dump(exclude={"kind", "tokenizer"}))
        case VllmEngineConfig():
            from factory.engines.vllm import VllmEngine

            return VllmEngine(config.model, config.args, config.environment)


def renderer(recipe: Recipe) -> Renderer:
    """Raises ConfigError, at the first use, for a tokenizer without a chat template."""
    config, prompt = recipe.teacher, recipe.prompt
    match config:
        case ScriptedEngineConfig():
            return PlainRenderer(prompt.system)
        case OpenAIEngineConfig(tokenizer=None):
            return MessageRenderer(prompt.system)
        case OpenAIEngineConfig(tokenizer=str(name)):
            return TemplateRenderer(name, prompt.system, prompt.template)
        case VllmEngineConfig():
            return TemplateRenderer(config.args.get("tokenizer", config.model), prompt.system, prompt.template)
    raise AssertionError(config)


def search(recipe: Recipe) -> Callable[[Problem], Search]:
    """A fresh search for each problem, within the caps of one problem."""
    make, caps = _maker(recipe.search), Caps(**recipe.budget.problem.model_dump())
    return lambda _: make() if caps == Caps() else capped(make(), caps, time.monotonic)


def _maker(config: OneSearch | LadderConfig | ConsensusConfig) -> Callable[[], Search]:
    match config:
        case BestOfNConfig():
            return functools.partial(best_of_n, config.n, config.wave, config.stop_at)
        case BudgetForcingConfig():
            forcing = functools.partial(budget_forcing, config.n, _forcing(config))
            return functools.partial(forcing, wave=config.wave, stop_at=config.stop_at)
        case ReviseConfig():
            revision = functools.partial(revise, config.n, config.turns, config.criticism)
            always = config.when == "always"
            return functools.partial(revision, always=always, wave=config.wave, stop_at=config.stop_at)
        case ConsensusConfig():
            return functools.partial(consensus, config.n, config.error, config.wave)
        case LadderConfig():
            rungs = tuple(functools.partial(_rung, rung) for rung in config.rungs)
            return functools.partial(ladder, rungs, config.stop_at, config.hopeless_after)
    raise ConfigError(f"search.kind: {config.kind!r} is not there yet")


def _rung(config: OneSearch, missing: int | None) -> Search:
    """A strategy that ends at so many right answers."""
    return _maker(config.model_copy(update={"stop_at": missing}))()


def _forcing(config: BudgetForcingConfig) -> Forcing:
    return Forcing(**config.model_dump(exclude={"kind", "n", "wave", "stop_at"}))


def policy(recipe: Recipe, weights: str) -> Policy:
    return Policy(recipe.teacher.model, weights, Sampling(**recipe.sampling.model_dump()))


def absolute(recipe: Recipe) -> dict[str, Any]:
    """The recipe with local models by their absolute paths: a worker's process has another working directory."""
    table = recipe.model_dump(mode="json")
    teacher = table["engines"]["teacher"]
    for holder, key in ((teacher, "model"), (teacher, "tokenizer"), (teacher.get("args", {}), "tokenizer")):
        if isinstance(holder.get(key), str) and Path(holder[key]).expanduser().exists():
            holder[key] = str(Path(holder[key]).expanduser().absolute())
    return table


def worker_tools(table: Mapping[str, Any], policy: Policy) -> tuple[Engine, Tools]:
    """An engine and what its rollouts need, from an `absolute` recipe. Runs in the worker's process."""
    recipe = Recipe.model_validate(table)
    teacher, prompts = engine(recipe), renderer(recipe)
    if isinstance(prompts, TemplateRenderer):
        prompts.load()  # now: the first problem does not wait for it, and a template that is none is told at once
    threads = ThreadPoolExecutor(JUDGE_THREADS, thread_name_prefix="judge")
    fit.check_texts(recipe, prompts)
    tools = Tools(
        engine=teacher,
        renderer=prompts,
        search=search(recipe),
        search_name=recipe.search.kind,
        judging=Judging(judge(recipe.sandbox), threads, JUDGE_THREADS),
        policy=policy,
        load=Load(lambda: teacher.capabilities.max_running),
    )
    return teacher, tools
