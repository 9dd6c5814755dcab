"""What an import is made by: a spec in TOML, closed like a recipe, and the resolved config that its run holds.

A spec says where rows have their parts (`[fields]`), which checks they get (`[[checks]]`), who wrote what the rows do
not name (`[policy]`), how the text of a prompt is framed (`template`), and which file is put beside them (`[join]`).
`[prune]`, `[sandbox]` and `[human]` are those of a recipe, and may differ later, as may `[engines.NAME]`, which
pruning asks. Format, files and their digests, fields, checks, policy, template and join make the import what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from factory.config import (
    EngineConfig,
    HumanConfig,
    OpenAIEngineConfig,
    OutlineConfig,
    PruneConfig,
    Recipe,
    SamplingConfig,
    SandboxConfig,
    ScriptedEngineConfig,
    SeamsConfig,
    VllmEngineConfig,
    nearest,
    overridden,
    parse_recipe,
    read_table,
    refuse_pruning,
    tags,
)
from factory.errors import ConfigError
from factory.section import Section
from factory.sources.recorded.base import Fields, NodeFields, RowCheck

Format = Literal["chat", "samples", "tree", "verifiers", "nemo"]
FORMATS: tuple[Format, ...] = ("chat", "samples", "tree", "verifiers", "nemo")


class PolicyConfig(Section):
    """Who wrote the samples."""

    model: str = "unknown"
    """Where the rows do not name it."""
    models: list[str] = Field(default=[])
    """Of several columns of samples, one each."""
    sampling: SamplingConfig | None = None
    """How they were sampled; None where nobody knows."""


class JoinConfig(Section):
    """Files whose rows are put beside those of the import, under `joined`."""

    files: list[str] = Field(min_length=1)
    key: str
    """The path of what a row names the other by."""
    theirs: str = ""
    """The path of the same in the other row; `key` where it is the same path."""


class ImportSource(Section):
    """What makes an import what it is."""

    kind: Literal["import"]
    format: Format
    files: list[str] = Field(min_length=1)
    """In the order in which they are read."""
    digests: list[str]
    """SHA-256 of what is in each."""
    template: str = ""
    fields: Fields = Fields()
    """As the spec has them."""
    checks: list[RowCheck] = Field(default=[])
    policy: PolicyConfig = PolicyConfig()
    join: JoinConfig | None = None
    join_digests: list[str] = Field(default=[])
    """SHA-256 of what is in each file of the join."""


class Import(Section):
    """All of an import."""

    source: ImportSource
    prune: PruneConfig = PruneConfig()
    sandbox: SandboxConfig = SandboxConfig()
    human: HumanConfig = HumanConfig()
    engines: dict[str, EngineConfig] = Field(default={})
    """What `prune.seams` and `prune.outline` ask; no part of what the import is."""

    @model_validator(mode="after")
    def _engines_are_asked(self) -> Self:
        refuse_pruning(self.prune, self.engines, self.source.policy.sampling)
        if idle := sorted(self.engines.keys() - self.prune.engines):
            raise ValueError(f"engines.{idle[0]}: nothing asks it: name it in prune.seams.engine, or leave it out")
        return self


class ImportSpec(Section):
    """The TOML file."""

    template: str = ""
    """A prompt with `{prompt}` where the row's text goes."""
    fields: Fields = Fields()
    checks: list[RowCheck] = Field(default=[])
    """For rows without checks."""
    policy: PolicyConfig = PolicyConfig()
    join: JoinConfig | None = None
    prune: PruneConfig = PruneConfig()
    sandbox: SandboxConfig = SandboxConfig()
    human: HumanConfig = HumanConfig()
    engines: dict[str, EngineConfig] = Field(default={})

    def resolved(
        self, kind: Format, files: Sequence[str], digests: Sequence[str], join_digests: Sequence[str]
    ) -> Import:
        """The import of these files."""
        source = ImportSource(
            kind="import",
            format=kind,
            files=list(files),
            digests=list(digests),
            template=self.template,
            fields=self.fields,
            checks=self.checks,
            policy=self.policy,
            join=self.join,
            join_digests=list(join_digests),
        )
        try:
            return Import(source=source, prune=self.prune, sandbox=self.sandbox, human=self.human, engines=self.engines)
        except ValidationError as error:
            raise ConfigError(_first_line(error)) from None


def load_spec(path: Path | None, overrides: Sequence[str]) -> ImportSpec:
    """A spec with `a.b=value` overrides; without a file, the overrides alone. Raises ConfigError, in one line."""
    table = overridden({} if path is None else read_table(path, "spec"), overrides)
    try:
        return ImportSpec.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{path or '--set'}: {_first_line(error)}") from None


_CLOSED: Mapping[str, type[Section] | type[Fields] | type[NodeFields] | type[RowCheck]] = {
    "": ImportSpec,
    "fields": Fields,
    "node": NodeFields,
    "checks": RowCheck,
    "policy": PolicyConfig,
    "join": JoinConfig,
    "prune": PruneConfig,
    "sandbox": SandboxConfig,
    "human": HumanConfig,
    "sampling": SamplingConfig,
    "seams": SeamsConfig,
    "outline": OutlineConfig,
    "vllm": VllmEngineConfig,
    "openai": OpenAIEngineConfig,
    "scripted": ScriptedEngineConfig,
}


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    hidden = tags(first["loc"])
    key = ".".join(str(part) for place, part in enumerate(first["loc"]) if place not in hidden)
    if first["type"] == "extra_forbidden":
        tables = [str(part) for part in first["loc"][:-1] if isinstance(part, str)]
        return f"unknown key {key}{nearest(str(first['loc'][-1]), _CLOSED[tables[-1] if tables else ''])}"
    message = first["msg"].removeprefix("Value error, ")
    return " ".join((f"{key}: {message}" if key else message).split())


def settings(table: Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe | Import:
    """What a run's config holds, with overrides: a recipe, or an import. Raises ConfigError, in one line."""
    changed = overridden(table, overrides)
    if changed["source"].get("kind") != "import":
        return parse_recipe(changed, "config.json")
    try:
        return Import.model_validate(changed)
    except ValidationError as error:
        raise ConfigError(f"config.json: {_first_line(error)}") from None
