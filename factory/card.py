"""The dataset card: `README.md` of a run folder, for people and for `datasets.load_dataset`.

Its front matter names the committed shards of one refinement, file by file, so `load_dataset(RUN)` gives exactly the
committed transcripts whatever else lies in the folder; `rejected` is a second config. Rewriting the card, in one atomic
write, is what makes a refinement the current one. With no transcripts at all `load_dataset` raises, since
Hugging Face datasets have no empty ones; the card then says so.

Settings are shown as the config gives them, of which only what decides about the data: no budgets, machines or
addresses. What a column means comes from `rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from factory.errors import StorageError
from factory.rows import REJECTED, ROLLOUTS, TRANSCRIPTS, describe
from factory.shards import Sidecar, sidecars
from factory.store import Store

CARD = "README.md"
"""Where Hugging Face looks for a dataset's card."""
_FENCE = "---\n"
_SHOWN = ("source", "prompt", "sampling", "search", "prune")
"""Sections of the recipe that decide what the data is."""

Summary = Mapping[str, "int | Mapping[str, int]"]
"""Lines of the funnel in order: a name with a number, or a name with the numbers it splits into."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a card's front matter says."""

    refinement: str
    """Digest that names the folders of the current refinement."""
    transcripts: tuple[str, ...]
    """Paths in the run folder of the files that `load_dataset` reads."""
    rejected: tuple[str, ...]
    """The same of the config `rejected`."""


def write_card(
    store: Store, *, refinement: str, config: Mapping[str, Any], summary: Summary, licence: str | None = None
) -> Card:
    """Make a refinement the current one. Only the owner of the run calls it, after its last commit.

    `config`: as `config.json` holds it; `summary`: the funnel; `licence`: of the data, as Hugging Face names it.
    """
    kept, refused = sidecars(store, f"transcripts/{refinement}"), sidecars(store, f"rejected/{refinement}")
    card = Card(refinement, _paths(kept), _paths(refused))
    some = any(sidecar.rows for sidecar in kept)
    parts = (_FENCE, _front_matter(card, licence), _FENCE, *_body(config, summary, some=some))
    store.put(CARD, "".join(parts).encode())
    return card


def read_card(store: Store) -> Card | None:
    """What the card says; None before the first refinement. Raises StorageError for a card that was broken by hand."""
    try:
        data = store.read(CARD)
    except FileNotFoundError:
        return None
    try:
        matter = yaml.load(data.decode().split(_FENCE, 2)[1], Loader=yaml.CSafeLoader)
        files = {one["config_name"]: tuple(one["data_files"][0]["path"]) for one in matter["configs"]}
        return Card(str(matter["refinement"]), files["default"], files["rejected"])
    except (yaml.YAMLError, ValueError, LookupError, TypeError) as error:
        raise StorageError(f"{store.uri(CARD)} is no card of a run: refine again to rewrite it") from error


def _paths(shards: Iterable[Sidecar]) -> tuple[str, ...]:
    return tuple(sidecar.path for sidecar in shards)


def _front_matter(card: Card, licence: str | None) -> str:
    configs = [_dataset("default", card.transcripts), _dataset("rejected", card.rejected)]
    matter = {
        **({} if licence is None else {"license": licence}),
        "refinement": card.refinement,
        "configs": configs,
    }
    return _yaml(matter)


def _yaml(value: Mapping[str, Any]) -> str:
    # libyaml's dumper: a card may name tens of thousands of files
    return str(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=10_000))


def _dataset(name: str, paths: Iterable[str]) -> dict[str, Any]:
    return {"config_name": name, "data_files": [{"split": "train", "path": list(paths)}]}


def _body(config: Mapping[str, Any], summary: Summary, *, some: bool) -> Iterator[str]:
    yield "\n# Transcripts of a search\n\n"
    yield from _introduction(config, some=some)
    yield "\n## Funnel\n\n"
    yield from _table(("stage", "count"), _funnel(summary))
    yield "\n## Settings\n\n```yaml\n"
    yield _settings(config)
    yield "```\n\n## Columns of `transcripts`\n\n"
    yield from _table(("column", "meaning"), _columns(describe(TRANSCRIPTS)))
    yield "\n`rejected` has the same columns and one more:\n\n"
    yield from _table(("column", "meaning"), _columns({"rejection": describe(REJECTED)["rejection"]}))
    yield "\n## Columns of `rollouts`\n\n"
    yield from _table(("column", "meaning"), _columns(describe(ROLLOUTS)))


def _introduction(config: Mapping[str, Any], *, some: bool) -> Iterator[str]:
    yield f"Worked solutions by `{_teacher(config)}`, found by search, pruned, and verified after pruning.\n\n"
    if some:
        yield (
            "`datasets.load_dataset(FOLDER)` gives the transcripts, which chat trainers take as they are; the column\n"
            "`split` tells `train` from `validation`. `load_dataset(FOLDER, 'rejected')` gives what was refused, with\n"
            "reasons. The search trees they were made from are in `rollouts/`.\n"
        )
    else:
        yield "**There are no transcripts yet**, so `datasets.load_dataset` has nothing to load here and raises.\n"


def _teacher(config: Mapping[str, Any]) -> str:
    return _models(config).get("teacher", "an unnamed model")


def _models(config: Mapping[str, Any]) -> dict[str, str]:
    """What each engine's model is called."""
    engines = _recipe(config).get("engines", {})
    return {name: str(one.get("model") or one.get("kind") or "an unnamed model") for name, one in engines.items()}


def _recipe(config: Mapping[str, Any]) -> Mapping[str, Any]:
    recipe: Mapping[str, Any] = config.get("recipe", config)
    return recipe


def _settings(config: Mapping[str, Any]) -> str:
    shown = {key: value for key, value in _recipe(config).items() if key in _SHOWN}
    digest = config.get("model_digests", {}).get("teacher")
    others = {name: model for name, model in _models(config).items() if name != "teacher"}
    judges = {"judges": others} if others else {}
    return _yaml({"teacher": _teacher(config), "model_digest": digest, **judges, **shown})


def _funnel(summary: Summary) -> Iterator[tuple[str, str]]:
    for name, count in summary.items():
        if isinstance(count, int):
            yield name, f"{count:,}"
        else:
            yield from ((f"{name}: {reason}", f"{number:,}") for reason, number in count.items())


def _columns(descriptions: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((f"`{name}`", description) for name, description in descriptions.items())


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for row in (head, ("---", "---"), *rows):
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
