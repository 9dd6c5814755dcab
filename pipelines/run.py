"""The main job: problems in, searched, verified, committed, pruned, and written as shards.

Everything that can be wrong is looked at before anything is written or started: the recipe, the model, the first
problems, the folder, the stored config, the address. Then the run takes the lease, works, and ends in order. The same
command resumes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.budget import Budget, Spent
from factory.config import CountdownSource, OpenAIEngineConfig, Recipe, VllmEngineConfig, identity_digest, resolved
from factory.dispatch import Dispatch
from factory.driver import Driver, Ended, Pool, Progress, Settings
from factory.lease import Lease, refuse_if_owned, tables
from factory.shards import drop_journal, iter_sidecars, problem_states, sidecars, sweep
from factory.sources.base import Unique, unique, validate_first
from factory.store import Store
from factory.verifiers.base import validate_problem
from factory.worker import Limits
from pipelines import build
from pipelines.folder import owned, refuse_other_run, store_config
from pipelines.refine import is_refined, refine

if TYPE_CHECKING:
    from factory.cluster import Needs

log = logging.getLogger(__name__)

Reporter = Callable[[Progress], contextlib.AbstractContextManager[None]]
"""Shows the progress of a run while its context is open."""

EXIT_STATUS = {Ended.FINISHED: 0, Ended.CAPPED: 4, Ended.INTERRUPTED: 130}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a recipe."""

    out: str
    strict: bool = False
    """Validate every problem before an engine starts, not the first thousand."""
    retry_errors: bool = False
    """Take problems that were given up again."""
    only: frozenset[str] | None = None
    """Ids of the problems that this invocation takes; None for all of the source."""
    refine: bool = True
    """Make transcripts of what was found; else `factory refine` may, later."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How an invocation ended, for the command line."""

    url: str
    ended: Ended
    did_nothing: bool
    """Nothing was owed."""
    duplicates: int = 0
    """Problems of the source that were merged with an earlier one."""
    owed: int | None = None
    """Problems still to be closed; None where the source does not tell how many it has."""
    journaled: int = 0
    """How many of those have finished generations in the journal."""

    @property
    def exit_status(self) -> int:
        return EXIT_STATUS[self.ended]


def run(recipe: Recipe, options: Options, report: Reporter) -> Summary:
    """Run a recipe to its end, or on from where it was. Raises UserError for what the user can mend."""
    config = _resolved(recipe)
    store = Store(options.out)
    refuse_other_run(store, config)
    refuse_if_owned(store)
    dispatch, _ = _owed(store, recipe, config, options)
    if not dispatch.prime():
        return _finish(store, recipe, config, options, Ended.FINISHED)
    if _is_spent(store, recipe):
        return _finish(store, recipe, config, options, Ended.CAPPED)
    build.check_search(recipe)
    _check_servers(recipe)
    store.probe()
    with on_cluster(recipe):
        settings = _settings(recipe, config)
        with owned(store) as lease:
            store_config(store, config)
            for table in tables(store):
                sweep(store, table, lease)
            # Again, now that nobody else can commit; the first look was to start nothing in vain.
            dispatch, items = _owed(store, recipe, config, options)
            ended = _search(store, lease, recipe, config, settings, dispatch, report)
            # Who stops a run waits for nothing that can be done later.
            if options.refine and ended is not Ended.INTERRUPTED:
                refine(store, lease, recipe, config)
    return _summary(store, recipe, ended, did_nothing=False, duplicates=items.duplicates)


def refuse(recipe: Recipe, out: str) -> None:
    """Raise what `run` would of a recipe and a folder, without a look at the problems; nothing is started or written.

    For who has several runs to make, and wants to know before the first.
    """
    store = Store(out)
    refuse_other_run(store, _resolved(recipe))
    refuse_if_owned(store)
    build.check_search(recipe)


def dry_run(recipe: Recipe) -> str:
    """The resolved config as JSON; nothing is started or written."""
    config = _resolved(recipe)
    build.check_search(recipe)
    return json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)


def _resolved(recipe: Recipe) -> dict[str, Any]:
    build.check_engines(recipe)
    return resolved(recipe, build.model_digests(recipe))


def _owed(store: Store, recipe: Recipe, config: dict[str, Any], options: Options) -> tuple[Dispatch, Unique]:
    """What is owed: the source, once each, its first problems validated, without what is committed."""
    table = build.recipe_verifiers(recipe, config["model_digests"])
    validate = functools.partial(validate_problem, table)
    items = unique(validate_first(build.source(recipe), validate, strict=options.strict))
    states = problem_states(iter_sidecars(store, "rollouts"))
    closed = [id for id, state in states.items() if not (options.retry_errors and state.status == "error")]
    wanted = (item for item in items if options.only is None or item.id in options.only)
    return Dispatch(build.dispatchable(table, wanted), closed, recipe.run.tries), items


def _is_spent(store: Store, recipe: Recipe) -> bool:
    """Whether a cap was reached before this invocation."""
    before = progress_before(store, recipe)
    return _budget(recipe).reached(Spent(before.tokens_before, before.busy_before)) is not None


def _budget(recipe: Recipe) -> Budget:
    return Budget(**recipe.budget.model_dump(exclude={"problem", "order"}))


def _finish(store: Store, recipe: Recipe, config: dict[str, Any], options: Options, ended: Ended) -> Summary:
    """Nothing is to be searched: at most the refinement differs from what is there, or was not finished."""
    if options.refine and not is_refined(store, recipe, config):
        with owned(store) as lease:
            store_config(store, config)
            refine(store, lease, recipe, config)
    return _summary(store, recipe, ended, did_nothing=True)


def _summary(store: Store, recipe: Recipe, ended: Ended, *, did_nothing: bool, duplicates: int = 0) -> Summary:
    before = progress_before(store, recipe)
    owed = None if before.total is None else before.total - before.closed_before
    return Summary(store.url, ended, did_nothing, duplicates, owed, len(open_trees(store)))


@contextlib.contextmanager
def on_cluster(recipe: Recipe) -> Iterator[None]:
    """Be on the recipe's cluster while the context is open. Inside of another such context that one's stays: who makes
    several runs joins once, or starts Ray once."""
    from factory import cluster

    if cluster.is_connected():
        yield
        return
    cluster.connect(recipe.run.address)
    try:
        yield
    finally:
        cluster.disconnect()


def _check_servers(recipe: Recipe) -> None:
    """Ask engines that are servers whether they are there, before anything is written."""
    for config in recipe.engines.values():
        if isinstance(config, OpenAIEngineConfig):
            asyncio.run(_start_and_close(config))


async def _start_and_close(config: OpenAIEngineConfig) -> None:
    engine = build.engine(config)
    try:
        await engine.start()
    finally:
        await engine.close()


def _search(
    store: Store,
    lease: Lease,
    recipe: Recipe,
    config: dict[str, Any],
    settings: Settings,
    dispatch: Dispatch,
    report: Reporter,
) -> Ended:
    """Drive the run to its end, and forget journaled trees that are closed now."""
    journal = open_trees(store)
    driver = Driver(store, lease, dispatch, _pool(store, lease, recipe, config), settings, journal)
    driver.progress = progress_before(store, recipe)
    try:
        return asyncio.run(_drive(driver, report))
    finally:
        _forget_closed(store, lease)


async def _drive(driver: Driver, report: Reporter) -> Ended:
    with _signals(functools.partial(_interrupted, driver)), report(driver.progress):
        return await driver.run()


@contextlib.contextmanager
def _signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` with how many there were, at each SIGINT and SIGTERM; afterwards they do what they did before."""
    loop, times = asyncio.get_running_loop(), itertools.count(1)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, lambda: handle(next(times)))
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _interrupted(driver: Driver, times: int) -> None:
    """The first signal ends the run in order, the second at once."""
    if times > 1:
        log.error("stopped at once: what was not committed is owed")
        os._exit(EXIT_STATUS[Ended.INTERRUPTED])
    log.warning("stopping: cancelling what is in flight and committing what is finished; once more stops at once")
    driver.stop(Ended.INTERRUPTED)


def _settings(recipe: Recipe, config: dict[str, Any]) -> Settings:
    """Raises ConfigError for a worker that fits nowhere."""
    return Settings(
        workers=recipe.run.workers or _room(recipe),
        config_digest=identity_digest(config),
        flush_rows=recipe.run.flush_rows,
        flush_seconds=recipe.run.flush_seconds,
        budget=_budget(recipe),
    )


def _pool(store: Store, lease: Lease, recipe: Recipe, config: dict[str, Any]) -> Pool:
    from factory.cluster import RayPool

    return RayPool(
        _needs(recipe),
        functools.partial(
            build.worker_tools,
            build.absolute(recipe),
            build.policy(recipe, config["model_digests"]["teacher"]),
            build.model_names(recipe, config["model_digests"]),
        ),
        Limits(recipe.run.tries, recipe.run.flush_rows, recipe.run.flush_seconds),
        run_url=store.url,
        epoch=lease.epoch,
        nonce=lease.record.token,
        placement_seconds=recipe.run.placement_seconds,
    )


def _room(recipe: Recipe) -> int:
    from factory import cluster

    return cluster.room(_needs(recipe))


def _needs(recipe: Recipe) -> Needs:
    """What one worker occupies: its engines' GPUs where there are any, else a node's CPUs for vLLM, else one CPU.

    Engines of one worker share its devices: it has as many as the largest needs.
    """
    from factory import cluster

    in_process = [one.args for one in recipe.engines.values() if isinstance(one, VllmEngineConfig)]
    sizes = [args.get("tensor_parallel_size", 1) * args.get("pipeline_parallel_size", 1) for args in in_process]
    gpus = max(sizes, default=0) if cluster.has_gpus() else 0
    cpus = recipe.run.cpus_per_worker or (cluster.node_cpus() if in_process and not gpus else 1.0)
    return cluster.Needs(cpus, float(gpus))


def open_trees(store: Store) -> dict[str, str]:
    """Problems with journaled generations that are not closed: id to the newest journal shard that has them."""
    closed = problem_states(iter_sidecars(store, "rollouts"))
    newest = {entry.problem_id: sidecar.name for sidecar in sidecars(store, "journal") for entry in sidecar.entries}
    return {id: name for id, name in newest.items() if id not in closed}


def _forget_closed(store: Store, lease: Lease) -> None:
    """Drop journal shards in which every tree is closed, or was journaled again."""
    needed = set(open_trees(store).values())
    drop_journal(store, lease, [one.name for one in sidecars(store, "journal") if one.name not in needed])


def progress_before(store: Store, recipe: Recipe) -> Progress:
    """What earlier invocations reached: committed problems, and tokens, those of journaled trees included."""
    rollouts = sidecars(store, "rollouts")
    journal = open_trees(store)
    paid = [entry for sidecar in rollouts for entry in sidecar.entries]
    paid += [
        entry
        for sidecar in sidecars(store, "journal")
        for entry in sidecar.entries
        if journal.get(entry.problem_id) == sidecar.name
    ]
    return Progress(
        total=recipe.source.count if isinstance(recipe.source, CountdownSource) else None,
        closed_before=len(problem_states(rollouts)),
        tokens_before=sum(entry.counters.get("generated_tokens", 0) for entry in paid),
        busy_before=sum(entry.counters.get("engine_milliseconds", 0) for entry in paid) / 1000,
    )
