"""The recipe: typed, closed, and the same on every resume.

A recipe is TOML. Unknown keys are refused with the nearest known one, since an option that does nothing is an error.
What makes a run what it is (`identity`) is stored beside its output and may not differ on resume; budgets, engine
arguments, workers, pruning and a larger source may.
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from factory.errors import ConfigError
from factory.ids import canonical_json, digest
from factory.search_config import (
    ANSWER_TOKENS,
    BeamConfig,
    BestOfNConfig,
    BudgetForcingConfig,
    ChainScorer,
    ConsensusConfig,
    DvtsConfig,
    EarlyRejectionConfig,
    JudgementScorer,
    LadderConfig,
    LogprobScorer,
    MctsConfig,
    ReviseConfig,
    RewardScorer,
    Scorer,
    Search,
    asks_for_scores,
    engine_asked,
    rungs,
)
from factory.section import Section


class CheckConfig(Section):
    """A check for problems that bring none of their own."""

    verifier: str
    params: dict[str, Any] = Field(default={})


class CountdownSource(Section):
    """Generated Countdown problems."""

    kind: Literal["countdown"]
    count: int = Field(ge=1)
    seed: int | None = None
    """Needed for the split `train`; the frozen splits have seeds of their own."""
    split: Literal["train", "tune", "gate", "report"] = "train"
    numbers: int = Field(default=4, ge=2, le=6)
    low: int = Field(default=1, ge=1)
    high: int = Field(default=30, ge=1)
    target_low: int = Field(default=10, ge=1)
    target_high: int = Field(default=100, ge=1)
    chain: Literal["replay", "none"] = "replay"
    """`none` for models that do not think in the bundled teacher's lines: their chains are not judged."""


class FileSource(Section):
    """Problems in JSONL or Parquet files."""

    kind: Literal["jsonl", "parquet"]
    files: list[str] = Field(min_length=1)
    """Paths or globs; read in the order given, each glob sorted."""
    fields: dict[str, str | list[str]] = Field(default={})
    """Which column of the files holds which key of a problem, such as `{ prompt = "question" }`."""
    checks: list[CheckConfig] = Field(default=[])
    """For rows without checks."""


class DatasetSource(Section):
    """A Hugging Face dataset, by hub name or local path."""

    kind: Literal["dataset"]
    name: str
    split: str = "train"
    subset: str | None = None
    """The dataset's own configuration name; None where it has but one."""
    fields: dict[str, str | list[str]] = Field(default={})
    checks: list[CheckConfig] = Field(default=[])


Source = Annotated[CountdownSource | FileSource | DatasetSource, Field(discriminator="kind")]


class PromptConfig(Section):
    """How messages become a prompt."""

    system: str = ""
    template: dict[str, Any] = Field(default={})
    """Arguments of the chat template."""


class VllmEngineConfig(Section):
    """vLLM in the worker's process, on GPUs or CPUs."""

    kind: Literal["vllm"]
    model: str
    """A Hugging Face name or a local folder."""
    args: dict[str, Any] = Field(default={})
    """Engine arguments, passed through."""
    environment: dict[str, str] = Field(default={})
    """Environment variables of the engine, such as VLLM_CPU_KVCACHE_SPACE."""


class OpenAIEngineConfig(Section):
    """A server that speaks OpenAI's HTTP protocol."""

    kind: Literal["openai"]
    model: str
    """The name it is served under."""
    base_url: str
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; the key itself stands in no recipe."""
    protocol: Literal["completions", "chat"] = "chat"
    tokenizer: str | None = None
    """Folder or name whose chat template renders prompts; needed for `completions`."""
    max_running: int = Field(default=64, ge=1)
    timeout: float = Field(default=600.0, gt=0)
    """Seconds for one request."""
    retries: int = Field(default=4, ge=0)

    @model_validator(mode="after")
    def _tokenizer_for_completions(self) -> Self:
        if self.protocol == "completions" and self.tokenizer is None:
            raise ValueError("protocol 'completions' needs `tokenizer`, whose chat template renders the prompts")
        if self.protocol == "chat" and self.tokenizer is not None:
            raise ValueError("`tokenizer` does nothing with protocol 'chat': the server renders the prompts")
        return self


class ScriptedEngineConfig(Section):
    """A deterministic engine without a model: for tests, dry runs of a pipeline, and load tests."""

    kind: Literal["scripted"]
    args: dict[str, Any] = Field(default={})

    @property
    def model(self) -> str:
        return "scripted"


EngineConfig = Annotated[VllmEngineConfig | OpenAIEngineConfig | ScriptedEngineConfig, Field(discriminator="kind")]


class SamplingConfig(Section):
    """Sampling of the teacher."""

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int = Field(default=256, ge=1)
    logprobs: bool = False
    extra: dict[str, Any] = Field(default={})
    """Other parameters of the engine, passed through."""


class SeamsConfig(Section):
    """An engine is asked whether cuts are harmless; those that are not are withdrawn."""

    engine: str = "teacher"
    """Which of the recipe's engines."""
    most_drop: float = Field(default=2.0, gt=0)
    """How much less likely one token behind a cut may be without what was removed, in nats."""
    window: int = Field(default=32, ge=1)
    """Tokens behind a cut that are compared."""
    continuations: int = Field(default=0, ge=0)
    """Fresh ones from behind a cut, with what was removed and without; none by default. A cut is withdrawn where
    significantly fewer of those without are right."""

    @model_validator(mode="after")
    def _something_can_show(self) -> Self:
        if 0 < self.continuations < 3:
            raise ValueError(f"continuations = {self.continuations} can show nothing: 0 for none, or 3 and more")
        return self


class OutlineConfig(Section):
    """A model reads chains of free text for dead ends, beside the rules."""

    engine: str = "judge"
    """Which of the recipe's engines."""
    max_tokens: int = Field(default=2048, ge=1)
    """Of a reply, thinking included."""


class PruneConfig(Section):
    """What becomes of right leaves."""

    variants: list[Literal["full", "first_correct", "pruned", "concise", "reflective"]] = Field(
        default=["full", "pruned"], min_length=1
    )
    """What is made of each right leaf; `prune.transcripts` says what is removed in which."""
    seams: SeamsConfig | None = None
    """Whether cuts are tested; without it transcripts say that they were not."""
    outline: OutlineConfig | None = None
    """Whether a model looks for dead ends, too."""

    @model_validator(mode="after")
    def _there_are_cuts(self) -> Self:
        if self.seams is not None and set(self.variants) == {"full"}:
            raise ValueError("seams: of variants = ['full'] nothing is removed, so there is nothing to test")
        if self.outline is not None and set(self.variants) <= {"full", "first_correct"}:
            raise ValueError(f"outline: dead ends are removed in none of variants = {self.variants}")
        return self

    @property
    def engines(self) -> set[str]:
        """Names of those that it asks."""
        return {one.engine for one in (self.seams, self.outline) if one is not None}


class ProblemBudgetConfig(Section):
    """Caps of one problem. At one of them what is in flight finishes, and the problem is closed as it is then.

    A higher cap does not open it again: `factory left RUN --why capped` carries it to another run.
    """

    tokens: int | None = Field(default=None, ge=1)
    """Generated tokens, those of guesses included."""
    engine_seconds: float | None = Field(default=None, gt=0)
    """Its share of the engine's time."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall time; a problem that was stopped and goes on has all of it again."""


class BudgetConfig(Section):
    """Caps over the run's whole life. At a cap the run ends in order; a higher one resumes it."""

    tokens: int | None = Field(default=None, ge=1)
    """Generated tokens."""
    engine_seconds: float | None = Field(default=None, gt=0)
    """In which an engine has requests, all engines together."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall time of one invocation."""
    money: float | None = Field(default=None, gt=0)
    """In the currency of the prices."""
    token_price: float = Field(default=0.0, ge=0)
    """Of a million generated tokens."""
    hour_price: float = Field(default=0.0, ge=0)
    """Of an hour in which one engine has requests."""
    order: Literal["age", "yield"] = "age"
    """Which open problem goes on first where the engine cannot serve all: the oldest, or the one of which the most
    right answers are expected for a token. The second is for runs that end at a cap, and needs a search with waves."""
    problem: ProblemBudgetConfig = ProblemBudgetConfig()

    @model_validator(mode="after")
    def _money_is_spent(self) -> Self:
        if self.money is not None and not (self.token_price or self.hour_price):
            raise ValueError("money needs a token_price or an hour_price")
        return self


class SandboxConfig(Section):
    """Where programs are run: those that a model wrote, and what reads answers that may hang it."""

    backend: Literal["auto", "zygote", "landlock", "bubblewrap", "remote", "none"] = "auto"
    """`auto` takes the strongest that the machine can do, for each language, and never none at all."""
    unsafe: bool = False
    """Whether to accept no isolation."""
    slots: int = Field(default=0, ge=0)
    """Programs that run at once beside each worker; 0 for as many as there are cores."""
    url: str = ""
    """Of a service, for `remote`."""
    token_env: str | None = None
    """Environment variable that holds that service's bearer token."""
    modules: list[str] = Field(default=[])
    """Loaded before any program comes, such as numpy, beside those that programs use most."""
    paths: list[str] = Field(default=[])
    """Folders of packages that programs may import from, such as an environment's `site-packages`."""


class HumanConfig(Section):
    """What people said of attempts."""

    reviews: list[str] = Field(default=[])
    """Files of reviews: paths or globs. They come later than the attempts, and are read when transcripts are made."""


class RunConfig(Section):
    """Where and how the run works; nothing here changes what it makes."""

    address: str | None = None
    """A Ray cluster; None starts Ray on this machine."""
    workers: int | None = Field(default=None, ge=1)
    """Workers; None means as many as there is room for."""
    cpus_per_worker: float | None = Field(default=None, gt=0)
    """None means all of a node for vLLM on CPUs, one otherwise."""
    tries: int = Field(default=3, ge=1)
    """Failed tries after which a problem is closed as an error; also deaths of workers at which it may be present."""
    placement_seconds: float = Field(default=300.0, gt=0)
    """How long to wait for a worker to be placed."""
    flush_rows: int = Field(default=256, ge=1)
    flush_seconds: float = Field(default=10.0, gt=0)


class Recipe(Section):
    """All of a recipe."""

    source: Source
    prompt: PromptConfig = PromptConfig()
    engines: dict[str, EngineConfig]
    sampling: SamplingConfig = SamplingConfig()
    search: Search
    scorer: Scorer | None = None
    prune: PruneConfig = PruneConfig()
    budget: BudgetConfig = BudgetConfig()
    sandbox: SandboxConfig = SandboxConfig()
    human: HumanConfig = HumanConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _a_teacher(self) -> Self:
        if "teacher" not in self.engines:
            raise ValueError("[engines.teacher] is needed")
        return self

    @model_validator(mode="after")
    def _scores_are_used(self) -> Self:
        asked = [one.kind for one in rungs(self.search) if asks_for_scores(one)]
        if asked and self.scorer is None:
            why = {"early_rejection": "keep needs a [scorer]"}
            tree = "value = 'score' needs a [scorer], or value = 'rollouts'"
            raise ValueError(f"search: {asked[0]} with {why.get(asked[0], tree)}")
        if self.scorer is not None and not asked:
            raise ValueError(f"scorer: search {self.search.kind!r} asks for no scores")
        if isinstance(self.scorer, LogprobScorer) and not self.sampling.logprobs:
            raise ValueError("scorer: kind 'logprob' needs sampling.logprobs = true")
        name = engine_asked(self.scorer)
        if name is not None and name not in self.engines:
            raise ValueError(f"scorer.engine: there is no [engines.{name}]")
        return self

    @model_validator(mode="after")
    def _engines_for_pruning(self) -> Self:
        refuse_pruning(self.prune, self.engines, self.sampling)
        if self.prune.outline is not None and self.source.kind == "countdown":
            raise ValueError("prune.outline: chains of Countdown are replayed, so no model is asked about them")
        return self

    @model_validator(mode="after")
    def _thinking_fits(self) -> Self:
        for one in rungs(self.search):
            if isinstance(one, BudgetForcingConfig):
                self._refuse_thinking(one)
        return self

    def _refuse_thinking(self, forcing: BudgetForcingConfig) -> None:
        teacher = self.teacher
        context = teacher.args.get("max_model_len") if isinstance(teacher, VllmEngineConfig) else None
        for name, room in (("sampling.max_tokens", self.sampling.max_tokens), ("max_model_len", context)):
            if isinstance(room, int) and forcing.max_thinking + ANSWER_TOKENS > room:
                raise ValueError(
                    f"search: max_thinking = {forcing.max_thinking} and {ANSWER_TOKENS} tokens for an answer"
                    f" are more than {name} = {room}"
                )

    @model_validator(mode="after")
    def _priors_are_told(self) -> Self:
        asked = any(isinstance(one, MctsConfig) and one.prior == "logprob" for one in rungs(self.search))
        if asked and not self.sampling.logprobs:
            raise ValueError("search.prior: 'logprob' needs sampling.logprobs = true")
        return self

    @property
    def teacher(self) -> EngineConfig:
        return self.engines["teacher"]


def refuse_pruning(prune: PruneConfig, engines: Mapping[str, EngineConfig], sampling: SamplingConfig | None) -> None:
    """Raise ValueError for pruning that asks an engine that is not there, or for continuations that cannot be.

    `sampling`: how they are drawn, as the attempts were; None where nobody knows.
    """
    seams, outline = prune.seams, prune.outline
    if outline is not None and outline.engine not in engines:
        raise ValueError(f"prune.outline.engine: there is no [engines.{outline.engine}]")
    if seams is None:
        return
    if seams.engine not in engines:
        raise ValueError(f"prune.seams.engine: there is no [engines.{seams.engine}]")
    if seams.continuations and sampling is None:
        raise ValueError("prune.seams.continuations: they are drawn as the samples were: set policy.sampling")
    if seams.continuations and sampling is not None and sampling.temperature == 0:
        raise ValueError("prune.seams.continuations: with sampling.temperature = 0 all are the same")


FREE_KEYS = ("source.count", "budget", "prune", "run", "sandbox", "human")
"""Parts of a recipe that may differ on resume."""
FREE_ENGINE_KEYS = ("args", "environment", "timeout", "retries", "max_running", "api_key_env")
"""Parts of an engine that may differ on resume; a scripted engine's arguments are its weights, and may not."""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `a.b=value` overrides. Raises ConfigError, in one line."""
    return override(read_table(path), overrides, str(path))


def read_table(path: Path, what: str = "recipe") -> dict[str, Any]:
    """A TOML file as it is. Raises ConfigError, in one line, which calls it `what`."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no {what} at {path}: give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not a readable TOML {what}: {error}") from None


def override(table: Mapping[str, Any], overrides: Sequence[str], where: str = "recipe") -> Recipe:
    """A recipe's table with `a.b=value` overrides applied. Raises ConfigError, in one line."""
    return parse_recipe(overridden(table, overrides), where)


def overridden(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a table with `a.b=value` overrides applied. Raises ConfigError for one that is not written so."""
    changed = copy.deepcopy(dict(table))
    for one in overrides:
        _override(changed, one)
    return changed


def parse_recipe(table: Mapping[str, Any], where: str) -> Recipe:
    """Check a recipe that has been read. Raises ConfigError, in one line that names the first wrong key."""
    for key, value in _flatten(table):
        if not _is_json(value):
            raise ConfigError(f"{where}: {key!r}: {value!r} cannot be stored: use text or a finite number")
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        raise ConfigError(" ".join(f"{where}: {_first_line(error)}".splitlines())) from None


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set {override!r}: write it as a.b=value")
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {name} is not a table")
    table[names[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string, so that a shell needs no nested quotes
    return table["value"] if len(table) == 1 else text


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for index, part in enumerate(first["loc"]) if index not in tags(first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}{_nearest(first['loc'])}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def tags(loc: tuple[int | str, ...]) -> list[int]:
    """Where pydantic names the branch of a tagged union in an error's place; the recipe has no such keys."""
    places = [{"source": 1, "engines": 2, "search": 1, "scorer": 1}.get(str(loc[0]))] if loc else []
    if "rungs" in loc:
        places.append(loc.index("rungs") + 2)
    return [place for place in places if place is not None and place < len(loc)]


def _nearest(loc: tuple[int | str, ...]) -> str:
    return nearest(str(loc[-1]), _model_at(loc[:-1]))


def nearest(key: str, model: type[BaseModel]) -> str:
    """What to say after an unknown key: the one that was meant, or all that there are."""
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(model.model_fields)}"


_BY_PLACE: Mapping[tuple[str, ...], type[Section]] = {
    (): Recipe,
    ("source", "countdown"): CountdownSource,
    ("source", "jsonl"): FileSource,
    ("source", "parquet"): FileSource,
    ("source", "dataset"): DatasetSource,
    ("engines", "vllm"): VllmEngineConfig,
    ("engines", "openai"): OpenAIEngineConfig,
    ("engines", "scripted"): ScriptedEngineConfig,
    ("prompt",): PromptConfig,
    ("sampling",): SamplingConfig,
    ("search", "best_of_n"): BestOfNConfig,
    ("search", "beam"): BeamConfig,
    ("search", "dvts"): DvtsConfig,
    ("search", "mcts"): MctsConfig,
    ("search", "budget_forcing"): BudgetForcingConfig,
    ("search", "revise"): ReviseConfig,
    ("search", "ladder"): LadderConfig,
    ("search", "early_rejection"): EarlyRejectionConfig,
    ("search", "consensus"): ConsensusConfig,
    ("scorer", "logprob"): LogprobScorer,
    ("scorer", "judgement"): JudgementScorer,
    ("scorer", "reward"): RewardScorer,
    ("scorer", "chain"): ChainScorer,
    ("prune",): PruneConfig,
    ("prune", "seams"): SeamsConfig,
    ("prune", "outline"): OutlineConfig,
    ("budget",): BudgetConfig,
    ("budget", "problem"): ProblemBudgetConfig,
    ("human",): HumanConfig,
    ("run",): RunConfig,
    ("sandbox",): SandboxConfig,
}


def _model_at(loc: tuple[int | str, ...]) -> type[Section]:
    if not loc:
        return Recipe
    if loc[0] == "source" and "checks" in loc[2:]:
        return CheckConfig
    found = tags(loc)
    return _BY_PLACE[(str(loc[0]), str(loc[found[-1]])) if found else tuple(map(str, loc))]


def resolved(recipe: Recipe, model_digests: Mapping[str, str]) -> dict[str, Any]:
    """The recipe with every default filled in, as it is stored beside the output, with the digest of each engine's
    model."""
    return {"recipe": recipe.model_dump(mode="json"), "model_digests": dict(model_digests)}


def identity(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The flat part of a resolved config that makes the run what it is: dotted keys to values."""
    free = set(FREE_KEYS)
    if stored["recipe"]["source"].get("kind") == "import":  # its engines made nothing that it holds
        free.add("engines")
    for name, engine in stored["recipe"].get("engines", {}).items():
        if engine["kind"] != "scripted":
            free |= {f"engines.{name}.{key}" for key in FREE_ENGINE_KEYS}
    flat = dict(_flatten(stored["recipe"]))
    kept = {key: value for key, value in flat.items() if not any(key == f or key.startswith(f + ".") for f in free)}
    return kept | {f"model_digests.{name}": digest for name, digest in stored["model_digests"].items()}


def identity_digest(stored: Mapping[str, Any]) -> str:
    """SHA-256 of what makes the run what it is."""
    return digest(identity(stored))


def differences(stored: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines such as `sampling.temperature: stored 1.0, now 0.7` for every part that may not differ."""
    old_flat, new_flat = identity(stored), identity(new)
    keys = sorted(key for key in old_flat.keys() | new_flat.keys() if old_flat.get(key) != new_flat.get(key))
    lines = (f"{key}: stored {old_flat.get(key)!r}, now {new_flat.get(key)!r}" for key in keys)
    return [" ".join(line.split()) for line in lines]  # a key may be any text, such as a question to a scripted engine


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _is_json(value: Any) -> bool:
    """Whether a run's folder can hold a value: TOML also has dates, infinities and NaN, a shell texts of bad bytes."""
    try:
        canonical_json(value).encode()
    except (TypeError, ValueError):
        return False
    return True
