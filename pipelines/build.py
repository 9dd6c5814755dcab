"""From a recipe to the objects it names: the only place that knows concrete classes.

`worker_tools` runs in a worker's process and is sent there by name; nothing here imports an engine's library before the
engine starts.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.config import (
    CheckConfig,
    CountdownSource,
    DatasetSource,
    EngineConfig,
    FileSource,
    HumanConfig,
    OpenAIEngineConfig,
    PromptConfig,
    Recipe,
    SandboxConfig,
    ScriptedEngineConfig,
    VllmEngineConfig,
)
from factory.dispatch import BadItem
from factory.engines.base import Engine
from factory.engines.desk import Desk, Render, at
from factory.errors import ConfigError, classify
from factory.ids import digest, file_digest, folder_digest
from factory.judging import Judging
from factory.prune.attempts import attempts
from factory.prune.base import Pruner
from factory.prune.countdown import CountdownPruner
from factory.prune.freetext import FreeTextPruner, Outline
from factory.prune.outline import VERSION as OUTLINE_VERSION
from factory.prune.outline import ModelOutline
from factory.prune.seams import VERSION as SEAMS_VERSION
from factory.prune.transcripts import Draft, Judge
from factory.render import MessageRenderer, PlainRenderer, Renderer, TemplateRenderer
from factory.rollout import Load, Tools
from factory.scorers.base import Scorer
from factory.scorers.chain import ChainScorer, Flaw
from factory.scorers.logprob import LogprobScorer
from factory.search.allocate import Cost, by_yield
from factory.search.base import Search
from factory.search.caps import Caps, capped
from factory.search_config import ChainScorer as ChainConfig
from factory.search_config import JudgementScorer as JudgementConfig
from factory.search_config import LogprobScorer as LogprobConfig
from factory.search_config import RewardScorer as RewardConfig
from factory.search_config import engine_asked
from factory.sources.base import BadLine, RowError, Source
from factory.types import Check, Policy, Problem, Sampling
from factory.verifiers.base import Verifiers, flaw, validate_checks, verdicts, within
from factory.verifiers.human import HumanVerifier, Review, Reviews, parse
from factory.verifiers.jail import Jail
from factory.verifiers.judge import JudgeVerifier, Model
from factory.verifiers.math.jailed import JailedAlgebra
from factory.verifiers.table import builtin
from pipelines import fit
from pipelines.import_config import Import
from pipelines.scorers import Asked, scorer
from pipelines.seams import Seams, is_open
from pipelines.searches import maker
from sandboxes.base import Language
from sandboxes.pool import MODULES, Options

JUDGE_THREADS = 2 * (os.cpu_count() or 1)
"""Most of them wait for a sandbox."""
ASKING_THREADS = 256
"""More of them, in a worker whose verifiers ask a model: they wait for its replies, as many as it gives at once."""


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


def dispatchable(table: Verifiers, items: Iterable[Problem | BadLine]) -> Iterator[Problem | BadItem]:
    """What cannot be searched, as what dispatch reports: an id and a reason. Looks at every item's checks."""
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


def verifiers(
    sandbox: SandboxConfig, models: Mapping[str, Model] | None = None, reviews: Reviews | None = None
) -> Verifiers:
    """Every verifier by its name. Those of one sandbox share it, since it is costly to start."""
    return builtin(*_programs(sandbox.model_dump_json()), models, reviews)


def recipe_verifiers(recipe: Recipe | Import, digests: Mapping[str, str]) -> Verifiers:
    """Those of a recipe outside of its workers: an engine is started when a verifier asks it first, and reviews count.
    An import has no engines.

    `digests`: of the engines' models, as far as a verdict shall tell them. Raises UserError for reviews that cannot be
    read.
    """
    models = {} if isinstance(recipe, Import) else desks(recipe, digests)
    return verifiers(recipe.sandbox, models, reviews(recipe.human))


@functools.cache
def _programs(sandbox: str) -> tuple[Callable[[Language], Jail], JailedAlgebra]:
    """Where programs are run, and what reads answers there."""
    config = SandboxConfig.model_validate_json(sandbox)
    algebra = JailedAlgebra(functools.partial(_algebra_jail, config))
    return functools.cache(functools.partial(_jail, config)), algebra


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


_desks: dict[str, Desk] = {}
"""The same of engines that are asked outside of workers, by what they are made of: whoever asks one shares it."""


def close_jails() -> None:
    """End every sandbox, in order. A process that dies without this takes them along."""
    for jail in _jails:
        jail.close()


def close_desks() -> None:
    """End every engine that was asked; a thread that still waits for one is told so."""
    while _desks:
        _desks.popitem()[1].close()


def reviews(config: HumanConfig) -> Reviews:
    """What people said. Raises SourceError for a file that cannot be read, ConfigError for a line that is no review."""
    return Reviews(_reviews(config.reviews)) if config.reviews else Reviews()


def _reviews(paths: Sequence[str]) -> Iterator[Review]:
    from factory.sources.files import lines_of, parse_line

    for path, number, line in lines_of(paths):
        try:
            yield parse(parse_line(line))
        except (RowError, ConfigError) as error:
            raise ConfigError(f"{path}: line {number}: {error}") from None


def verifier_versions(table: Verifiers) -> dict[str, str]:
    """By name."""
    return {name: verifier.version for name, verifier in table.items()}


def pruners(outline: Outline = attempts) -> list[Pruner]:
    """All of them: each leaves alone what it does not understand.

    Free text is pruned whatever checks a problem has, but for Countdown, which is replayed: the rules read the turns of
    the prose, never split fenced code, leave an answer alone that is nothing but a program, and where an answer depends
    on more than what is left of its text (a grid), what is left is verified again and refused. Measured are mathematics
    and the game of 24 only.
    """
    return [CountdownPruner(), FreeTextPruner(outline)]


def check_engines(recipe: Recipe) -> None:
    """Raise ConfigError for an engine that nothing asks, a model folder that is none, or a script that cannot be.

    Loads nothing.
    """
    refuse_idle(recipe)
    for config in recipe.engines.values():
        if isinstance(config, VllmEngineConfig):
            from factory.engines.vllm import check_model

            check_model(config.model, config.args.get("tokenizer"))
        elif isinstance(config, ScriptedEngineConfig):
            engine(config)
    check_seams(recipe)


def check_search(recipe: Recipe) -> None:
    """Raise ConfigError for a search that cannot work on the recipe's engine, before anything is written.

    Where the search has texts of its own, the tokenizer of a local model is loaded and looks at them, and at the first
    problem. One with a hub name may not be within reach here: the workers look at it, before their engines start.
    """
    config = recipe.teacher
    capabilities = engine(config).capabilities
    fit.check_capabilities(recipe, capabilities)
    _check_scorer(recipe)
    if _is_local(config) and any(fit.texts(recipe)):
        prompts = renderer(config, recipe.prompt)
        fit.check_texts(recipe, prompts)
        first = next((item for item in source(recipe) if isinstance(item, Problem)), None)
        if first is not None:
            fit.check_prompt(recipe, capabilities, prompts.render(first.messages))


def _check_scorer(recipe: Recipe) -> None:
    name = engine_asked(recipe.scorer)
    if name is not None:
        fit.check_scorer(recipe, engine(recipe.engines[name]).capabilities)
        if _is_local(recipe.engines[name]):
            fit.check_scorer_texts(recipe, _scorer_renderer(recipe, name))


def _is_local(config: EngineConfig) -> bool:
    return isinstance(config, VllmEngineConfig) and Path(config.model).expanduser().exists()


def refuse_idle(recipe: Recipe) -> None:
    """Raise ConfigError for engines and reviews that do nothing.

    Where rows may bring checks of their own nobody can know before the last row what those name, so the default name
    `judge` is allowed there; any other engine must be named by a check of the recipe, or by its scorer.
    """
    own, checks = _rows_bring_checks(recipe), _recipe_checks(recipe)
    named = _engines_named(checks) | {"teacher", engine_asked(recipe.scorer)} | ({"judge"} if own else set())
    named |= recipe.prune.engines
    for name in sorted(recipe.engines.keys() - named):
        raise ConfigError(f"engines.{name}: no check, [scorer] or [prune] names it: {_IDLE[own]}")
    if recipe.human.reviews and not own and all(one.verifier != HumanVerifier.name for one in checks):
        raise ConfigError("human.reviews: no check of [source] is `human`, so reviews do nothing")


_IDLE = {
    True: "name it in source.checks, or call it `judge` if checks of rows ask it",
    False: "leave it out, or add a check `judge` that does",
}


def _rows_bring_checks(recipe: Recipe) -> bool:
    config = recipe.source
    return not isinstance(config, CountdownSource) and (not config.fields or "checks" in config.fields)


def _recipe_checks(recipe: Recipe) -> list[Check]:
    """Those that the recipe itself has, and those inside of them."""
    if isinstance(recipe.source, CountdownSource):
        return []
    table = verifiers(recipe.sandbox)
    return [one for check in _checks(recipe.source.checks) for one in within(table, check)]


def _engines_named(checks: Iterable[Check]) -> set[str]:
    return {JudgeVerifier({}).read(one.params).engine for one in checks if one.verifier == JudgeVerifier.name}


def model_digests(recipe: Recipe) -> dict[str, str]:
    """Of each engine's model, by the engine's name."""
    return {name: model_digest(config) for name, config in recipe.engines.items()}


def model_digest(config: EngineConfig) -> str:
    """What an engine's weights are: a hash of a local folder, else the name under which others keep them."""
    match config:
        case ScriptedEngineConfig():
            return digest(config.args)
        case OpenAIEngineConfig():
            return f"served:{config.model}@{config.base_url}"
        case VllmEngineConfig():
            local = Path(config.model).expanduser()
            if local.is_file():
                return file_digest(local)
            return folder_digest(local) if local.is_dir() else f"hub:{config.model}@{config.args.get('revision')}"


def engine(config: EngineConfig) -> Engine:
    """Not yet started."""
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


def renderer(config: EngineConfig, prompt: PromptConfig) -> Renderer:
    """Raises ConfigError, at the first use, for a tokenizer without a chat template."""
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


def desks(recipe: Recipe, digests: Mapping[str, str]) -> dict[str, Model]:
    """Every engine of a recipe as verifiers ask it; none is started before that."""
    return {
        name: Model(told, _desk(name, recipe.engines[name], recipe.prompt).ask)
        for name, told in model_names(recipe, digests).items()
    }


def _desk(name: str, config: EngineConfig, prompt: PromptConfig) -> Desk:
    key = digest([name, config.model_dump(mode="json"), prompt.model_dump(mode="json")])
    if key not in _desks:
        _desks[key] = Desk(name, lambda: (engine(config), _render_question(name, config, prompt)))
    return _desks[key]


def _render_question(name: str, config: EngineConfig, prompt: PromptConfig) -> Render:
    """As a judge is asked: never with the teacher's system text, and with its template's arguments only if it is it."""
    template = prompt.template if name == "teacher" else {}
    return renderer(config, PromptConfig(template=template)).render


def seams(recipe: Recipe | Import, judge: Judge) -> Callable[[Sequence[Draft]], list[Draft]] | None:
    """What tests the cuts of drafts; its engine is started when there is the first cut. None where nothing shall.

    Raises ConfigError for an engine that cannot.
    """
    config = recipe.prune.seams
    if config is None:
        return None
    check_seams(recipe)
    own = config.engine == "teacher" and isinstance(recipe, Recipe)
    prompt = recipe.prompt if isinstance(recipe, Recipe) else PromptConfig()
    asked = recipe.engines[config.engine]
    reads = renderer(asked, prompt if own else PromptConfig())
    made = Seams(config, reads, _sampling(recipe), judge, own=own)
    desk = _desk(config.engine, asked, prompt)

    def tested(drafts: Sequence[Draft]) -> list[Draft]:
        if not any(map(is_open, drafts)):
            return list(drafts)
        return desk.run(lambda engine: made.tested(engine, drafts))

    return tested


def check_seams(recipe: Recipe | Import) -> None:
    """Raise ConfigError where [prune.seams] names an engine that cannot do it, as far as it is known unstarted."""
    config = recipe.prune.seams
    if config is not None:
        fit.check_seams(config.engine, engine(recipe.engines[config.engine]).capabilities)


def outline(recipe: Recipe | Import) -> Outline:
    """What reads chains of free text; a model for it is started when there is the first of them."""
    config = recipe.prune.outline
    if config is None:
        return attempts
    prompt = recipe.prompt if isinstance(recipe, Recipe) else PromptConfig()
    desk = _desk(config.engine, recipe.engines[config.engine], prompt)
    return ModelOutline(config.engine, desk.ask, config.max_tokens)


def asked_versions(recipe: Recipe | Import) -> dict[str, str]:
    """What pruning asks: the rule's version and, in an import, the model, which is no part of what an import is."""
    asked = {"seams": (SEAMS_VERSION, recipe.prune.seams), "outline": (OUTLINE_VERSION, recipe.prune.outline)}
    imported = isinstance(recipe, Import)
    return {
        name: f"{version} {model_digest(recipe.engines[one.engine])}" if imported else version
        for name, (version, one) in asked.items()
        if one is not None
    }


def _sampling(recipe: Recipe | Import) -> Sampling:
    """How continuations are drawn: as the attempts were."""
    config = recipe.sampling if isinstance(recipe, Recipe) else recipe.source.policy.sampling
    return Sampling(**config.model_dump()) if config is not None else Sampling()


def model_names(recipe: Recipe, digests: Mapping[str, str]) -> dict[str, str]:
    """What verdicts say of the model that gave them, by its engine's name: its digest, shortened where it is a hash."""
    return {name: _model_name(config, digests.get(name, "")) for name, config in recipe.engines.items()}


def _model_name(config: EngineConfig, weights: str) -> str:
    return weights if ":" in weights else f"{config.model} {weights[:12]}".strip()


def search(recipe: Recipe) -> Callable[[Problem], Search]:
    """A fresh search for each problem, within the caps of one problem, and in the order that the budget gives."""
    make, caps, typical = maker(recipe.search), Caps(**recipe.budget.problem.model_dump()), Cost()

    def search(_: Problem) -> Search:
        made = make() if caps == Caps() else capped(make(), caps, time.monotonic)
        return by_yield(made, typical) if recipe.budget.order == "yield" else made

    return search


def policy(recipe: Recipe, weights: str) -> Policy:
    return Policy(recipe.teacher.model, weights, Sampling(**recipe.sampling.model_dump()))


def absolute(recipe: Recipe) -> dict[str, Any]:
    """The recipe with local models by their absolute paths: a worker's process has another working directory."""
    table = recipe.model_dump(mode="json")
    for one in table["engines"].values():
        for holder, key in ((one, "model"), (one, "tokenizer"), (one.get("args", {}), "tokenizer")):
            if isinstance(holder.get(key), str) and Path(holder[key]).expanduser().exists():
                holder[key] = str(Path(holder[key]).expanduser().absolute())
    return table


def worker_tools(table: Mapping[str, Any], policy: Policy, names: Mapping[str, str]) -> tuple[Engine, Tools]:
    """An engine and what its rollouts need, from an `absolute` recipe. Runs in the worker's process, on its loop.

    `names`: `model_names` of the recipe as the user wrote it. Reviews take no part there: they are of attempts that are
    in the tables already.
    """
    recipe = Recipe.model_validate(table)
    engines = {name: engine(config) for name, config in recipe.engines.items()}
    teacher, prompts = engines["teacher"], renderer(recipe.teacher, recipe.prompt)
    if isinstance(prompts, TemplateRenderer):
        prompts.load()  # now: the first problem does not wait for it, and a template that is none is told at once
    fit.check_texts(recipe, prompts)
    loop = asyncio.get_running_loop()
    models = {
        name: Model(names[name], at(loop, engines[name], _render_question(name, config, recipe.prompt)))
        for name, config in recipe.engines.items()
    }
    judge = functools.partial(verdicts, verifiers(recipe.sandbox, models))
    threads = _judge_threads(recipe)
    tools = Tools(
        engine=teacher,
        renderer=prompts,
        search=search(recipe),
        search_name=recipe.search.kind,
        judging=Judging(judge, ThreadPoolExecutor(threads, thread_name_prefix="judge"), threads),
        policy=policy,
        load=Load(lambda: teacher.capabilities.max_running, lambda: teacher.stats.known),
        scorer=_scorer(recipe, engines, prompts, functools.partial(flaw, verifiers(recipe.sandbox, models))),
        beside=tuple(one for name, one in engines.items() if name != "teacher"),
    )
    return teacher, tools


def _scorer(recipe: Recipe, engines: Mapping[str, Engine], prompts: Renderer, flaw: Flaw) -> Scorer | None:
    """`prompts`: the teacher's. `flaw`: what the run's verifiers find wrong with an unfinished attempt."""
    match recipe.scorer:
        case None:
            return None
        case LogprobConfig():
            return LogprobScorer()
        case ChainConfig():
            return ChainScorer(flaw)
        case JudgementConfig() | RewardConfig() as config:
            own = config.engine == "teacher"
            reads = prompts if own else _scorer_renderer(recipe, config.engine)
            if isinstance(reads, TemplateRenderer):
                reads.load()
            fit.check_scorer_texts(recipe, reads)
            return scorer(config, Asked(engines[config.engine], reads, is_teacher=own))


def _scorer_renderer(recipe: Recipe, name: str) -> Renderer:
    """Problems as a scorer's model reads them; another model than the teacher by its own template and system text."""
    return renderer(recipe.engines[name], recipe.prompt if name == "teacher" else PromptConfig())


def _judge_threads(recipe: Recipe) -> int:
    asks = len(recipe.engines) > 1 or _engines_named(_recipe_checks(recipe))
    return JUDGE_THREADS + (ASKING_THREADS if asks else 0)
