"""Committed rollouts become transcripts: each shard of rollouts gives one shard of kept and one of rejected ones.

Needs no search; an engine is started where a check asks it about a text that it has not judged yet, and where
`[prune.seams]` has it asked about cuts, or `[prune.outline]` about dead ends. A refinement is named by the digest of
its settings and of the verifiers' versions, reviews included; shards it has made already are not made again, so it is
resumable by shard, and another refinement of the same rollouts stands beside it. Rewriting the dataset card is the
switch from one to the other.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from factory.card import read_card, write_card
from factory.config import PruneConfig, Recipe, identity_digest
from factory.errors import ConfigError
from factory.ids import digest
from factory.lease import Lease
from factory.prune.base import Pruner
from factory.prune.transcripts import Draft, distinct, drafts, relabel
from factory.rows import SCHEMA_VERSION, row_tree, schema_of, transcript_row
from factory.shards import Entry, ShardWriter, Sidecar, commit, iter_shard, iter_sidecars
from factory.store import Store
from factory.types import Transcript, Tree
from factory.verifiers.base import Verifiers, renewed, verdicts
from pipelines import build
from pipelines.folder import owned, store_config, stored_config
from pipelines.import_config import Import, settings
from pipelines.summary import cut_counts, summarize
from pipelines.verify import ordered

TABLES = ("rejected", "transcripts")
WRITER = "refine"
FREE = ("prune", "sandbox", "human")
"""What a refinement may have its own of; where programs are run decides nothing. That of an import has engines, too."""


def refinement_digest(prune: PruneConfig, table: Verifiers, asked: Mapping[str, str]) -> str:
    """Names a refinement: 12 hexadecimal digits of its settings, and the versions of verifiers, pruners and schema.

    `asked`: what it asks engines, as `build.asked_versions` tells.
    """
    settings = {
        "prune": prune.model_dump(mode="json"),
        "verifiers": build.verifier_versions(table),
        "pruners": {pruner.name: pruner.version for pruner in build.pruners()},
        "schema": SCHEMA_VERSION,
        "asked": asked,
    }
    return digest(settings)[:12]


def is_refined(store: Store, recipe: Recipe | Import, config: dict[str, Any]) -> bool:
    """Whether every committed rollout is in this refinement, and the card names it."""
    table = build.recipe_verifiers(recipe, config["model_digests"])
    name = refinement_digest(recipe.prune, table, build.asked_versions(recipe))
    card = read_card(store)
    return not _missing(store, name) and card is not None and card.refinement == name


def refine(store: Store, lease: Lease, recipe: Recipe | Import, config: dict[str, Any]) -> str:
    """Bring the refinement up to the committed rollouts, and switch the card to it. Returns its digest."""
    verifiers = build.recipe_verifiers(recipe, config["model_digests"])
    seams = build.seams(recipe, functools.partial(verdicts, verifiers))
    name = refinement_digest(recipe.prune, verifiers, build.asked_versions(recipe))
    tables = {table: _Table(store, lease, f"{table}/{name}", identity_digest(config)) for table in TABLES}
    pruners = build.pruners(build.outline(recipe))
    work = functools.partial(_drafts, prune=recipe.prune, verifiers=verifiers, pruners=pruners)
    for sidecar in _missing(store, name):
        made = list(_transcripts(list(ordered(work, _trees(store, sidecar))), seams))
        # Transcripts last: a shard is done when they are there.
        tables["rejected"].write([one for one in made if one.rejection is not None], sidecar.name)
        tables["transcripts"].write([one for one in made if one.rejection is None], sidecar.name)
    figures = summarize(store, name)
    write_card(store, refinement=name, config=config, summary={key: figures[key] for key in figures if figures[key]})
    return name


def refine_again(url: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Refine a run anew with its stored recipe, of which `FREE` may be overridden; returns the figures.

    Raises ConfigError for an override of anything else: only a new search could follow it.
    """
    store = Store(url)
    config = stored_config(store)
    recipe = settings(config["recipe"], overrides)
    new = {**config, "recipe": recipe.model_dump(mode="json")}
    # Read like the new one: a key that was added since the run was made has its default in both.
    before = settings(config["recipe"]).model_dump(mode="json")
    changed = sorted(key for key in before if before[key] != new["recipe"][key])
    free = (*FREE, "engines") if isinstance(recipe, Import) else FREE
    if fixed := [key for key in changed if key not in free]:
        raise ConfigError(
            f"--set of {fixed[0]}: refine reads rollouts as they are, only [prune] may differ, [human] and [sandbox]"
        )
    if isinstance(recipe, Recipe):
        build.refuse_idle(recipe)
    build.check_seams(recipe)
    build.reviews(recipe.human)  # before anything is written
    with owned(store) as lease:
        store_config(store, new)
        name = refine(store, lease, recipe, new)
    return summarize(store, name)


class _Table:
    """One output of a refinement: a shard for each shard of rollouts, empty where nothing came of it."""

    def __init__(self, store: Store, lease: Lease, table: str, config_digest: str) -> None:
        self._store = store
        self._lease = lease
        self._config_digest = config_digest
        self._shard = ShardWriter(store, table, schema_of(table), lease.epoch, WRITER)
        self._done = {sidecar.source for sidecar in iter_sidecars(store, table)}

    def write(self, made: Iterable[Transcript], source: str) -> None:
        if source in self._done:
            return
        for transcript in made:
            self._shard.add(transcript_row(transcript), _entry(transcript))
        written = self._shard.flush(empty=True)
        if written is not None:
            commit(self._store, self._lease, written, config_digest=self._config_digest, source=source)


def _entry(transcript: Transcript) -> Entry:
    """Counts by reason for a rejected transcript, by variant for a kept one; of both, what became of tested cuts."""
    counters = {transcript.rejection or transcript.variant: 1, **cut_counts(transcript)}
    return Entry(transcript.problem.id, "solved", None, counters)


def _missing(store: Store, name: str) -> list[Sidecar]:
    done = {sidecar.source for sidecar in iter_sidecars(store, f"transcripts/{name}")}
    return [sidecar for sidecar in iter_sidecars(store, "rollouts") if sidecar.name not in done]


def _trees(store: Store, sidecar: Sidecar) -> Iterator[Tree]:
    return (row_tree(row) for row in iter_shard(store, sidecar))


def _drafts(tree: Tree, prune: PruneConfig, verifiers: Verifiers, pruners: Sequence[Pruner]) -> list[Draft]:
    if tree.error is not None:  # nothing is made of it, so nobody is asked about it
        return []
    current = relabel(tree, functools.partial(renewed, verifiers))
    judge = functools.partial(verdicts, verifiers)
    return list(drafts(current, variants=prune.variants, pruners=pruners, judge=judge))


def _transcripts(
    trees: Sequence[Sequence[Draft]], seams: Callable[[Sequence[Draft]], list[Draft]] | None
) -> Iterator[Transcript]:
    """Of the drafts of each tree, once the cuts of all of them were tested."""
    every = [draft for made in trees for draft in made]
    tested = iter(every if seams is None else seams(every))
    for made in trees:
        yield from distinct(itertools.islice(tested, len(made)))
