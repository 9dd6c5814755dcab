"""`factory validate`: every problem of a recipe's source on its own reference and on an attempt at nothing, before a
run spends anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from factory.config import Recipe, load_recipe
from factory.errors import ConfigError
from factory.sources.base import BadLine
from factory.types import Problem
from factory.verifiers.base import validate_problem
from pipelines import build
from pipelines.report import console, one_line, print_json
from pipelines.verify import ordered


@dataclass(slots=True)
class Report:
    """What a source came to."""

    problems: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Where, and why."""


def validate(recipe: Recipe, *, judge: bool = False) -> Report:
    """Look at every problem. `judge`: whether models are asked about references, too."""
    report = Report()
    build.refuse_idle(recipe)
    table = build.recipe_verifiers(recipe, {})
    items: Iterator[Problem | BadLine] = iter(build.source(recipe))

    def look(item: Problem | BadLine) -> tuple[str, str] | None:
        if isinstance(item, BadLine):
            return f"{item.where}: line {item.line}", item.reason
        try:
            validate_problem(table, item, costly=judge)
        except ConfigError as error:
            return f"{item.source}: problem {item.id[:12]}", str(error)
        return None

    for found in ordered(look, items):
        report.problems += 1
        if found is not None:
            report.refused.append(found)
    return report


def validate_recipe(path: Path, overrides: Sequence[str], *, judge: bool, as_json: bool) -> int:
    """Print what was refused; 1 if anything was."""
    report = validate(load_recipe(path, overrides), judge=judge)
    if as_json:
        print_json(
            {"problems": report.problems, "refused": [{"where": one, "why": why} for one, why in report.refused]}
        )
    else:
        out = console()
        for where, why in report.refused:
            out.print(Text(one_line(f"{where}: {why}", 500), style="red"), soft_wrap=True)
        out.print(f"{report.problems:,} problems: {report.problems - len(report.refused):,} valid")
    return 1 if report.refused else 0
