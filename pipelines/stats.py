"""`factory stats`: the funnel of a run, what it cost, what verifiers decided, and what it yields by difficulty.

What sidecars tell is taken from them; outcomes and difficulty need rows, of which only a few columns are read. A run is
read shard by shard, each together with the transcripts made from it, so memory grows with the number of shards and of
failed problems, not with problems or texts. Everything is of current rows: an error that was retried since counts
nowhere but in `superseded_tokens`.

Difficulty is the teacher's pass rate on a problem, estimated without bias: where a search stopped at its k-th right
attempt, (k - 1) / (n - 1) of the n attempts that count; else the plain share. A search that stops at the first right
one tells nothing of this kind: such problems stand apart, and so do those in which nothing was decided. An attempt that
the token limit cut counts as not right; one that no verifier could decide does not count. Of a ladder, the attempts of
its first rung tell the rate: later ones are made only where those went wrong. A search that chooses what it goes on
with tells nothing of the teacher's own rate, so its problems stand apart as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from factory.rows import Row
from factory.runs import Run, open_run
from factory.shards import Entry, Sidecar, iter_shard, iter_sidecars
from factory.stats import pass_rate_stopped
from factory.store import Store
from factory.types import Aspect, NodeState, Outcome, worst
from pipelines.check_times import Checks, add_verdict
from pipelines.report import console, counted, one_line, print_json, print_pairs
from pipelines.summary import made as made_of

STOPPED_AT_ONE = "stopped at 1"
GUIDED = "guided"
UNDECIDED = "undecided"
BUCKETS = ("0", "0-0.25", "0.25-0.5", "0.5-0.75", "0.75-1", "1", STOPPED_AT_ONE, GUIDED, UNDECIDED)
"""Pass rates, the upper end included but for 1, which stands alone; then what cannot be estimated."""

NOTES = {
    STOPPED_AT_ONE: "the search ended at its first right answer, which says nothing about the rate",
    GUIDED: "the search chose what to go on with, so its attempts are not the teacher's own choice",
    UNDECIDED: "no verifier could decide about any attempt",
}

INDEPENDENT = frozenset({"best_of_n", "budget_forcing", "consensus"})
"""Strategies whose attempts are independent of each other."""

ERROR_KINDS = 1000
"""Different texts of errors that are told apart; later ones are counted together."""
SHOWN_ERRORS = 5

TOKENS = (
    "generated_tokens",
    "sequential_tokens",
    "prompt_tokens",
    "cached_tokens",
    "scoring_generated_tokens",
    "scoring_prompt_tokens",
)
"""What a tree's cost counts in tokens."""

_NODE = "nodes.list.element"
_COLUMNS = [
    "problem_id",
    "search",
    *(f"cost.{name}" for name in (*TOKENS, "engine_seconds", "wall_seconds")),
    f"{_NODE}.id",
    f"{_NODE}.state",
    f"{_NODE}.counted",
    *(f"{_NODE}.verdicts.list.element.{column}" for column in ("verifier", "aspect", "outcome", "evidence", "seconds")),
]


@dataclass(slots=True)
class Yield:
    """What the problems of one difficulty, or of one strategy, came to."""

    problems: int = 0
    solved: int = 0
    generated_tokens: int = 0
    sequential_tokens: int = 0
    """Of all its problems together; the longest path of each."""
    engine_seconds: float = 0.0
    kept: Counter[str] = field(default_factory=Counter)
    """Transcripts by variant."""
    characters: Counter[str] = field(default_factory=Counter)
    """Of the kept texts, by variant."""

    def add(self, cost: Mapping[str, Any], *, solved: bool) -> None:
        """Count one problem."""
        self.problems += 1
        self.solved += solved
        self.generated_tokens += cost["generated_tokens"]
        self.sequential_tokens += cost["sequential_tokens"]
        self.engine_seconds += cost["engine_seconds"]

    def plain(self) -> dict[str, Any]:
        means = {variant: round(self.characters[variant] / number, 1) for variant, number in self.kept.items()}
        return {
            "problems": self.problems,
            "solved": self.solved,
            "generated_tokens": self.generated_tokens,
            "tokens_per_solved": _per(self.generated_tokens, self.solved),
            "mean_sequential_tokens": _per(self.sequential_tokens, self.problems),
            "engine_seconds": round(self.engine_seconds, 3),
            "kept": dict(self.kept),
            "mean_characters": means,
        }


@dataclass(slots=True)
class Figures:
    """Sums over a run."""

    statuses: Counter[str] = field(default_factory=Counter)
    """Problems by status."""
    errors: Counter[str] = field(default_factory=Counter)
    """Problems by the text of their error."""
    open_trees: int = 0
    """Problems with generations in the journal and no row."""
    attempts: int = 0
    """Leaves, cut and uncounted ones included."""
    right: int = 0
    leaves: Counter[str] = field(default_factory=Counter)
    """`truncated`, `beyond_stop`, and finished leaves by what was found of their answers."""
    chains: Counter[str] = field(default_factory=Counter)
    """Finished leaves by what was found of their reasoning, where a verifier judges it."""
    checks: dict[str, Checks] = field(default_factory=dict)
    """By verifier, of all finished leaves, uncounted ones included: their verdicts were paid for, too."""
    cost: Counter[str] = field(default_factory=Counter)
    engine_seconds: float = 0.0
    """In which any engine had a request; each moment counts once, whatever ran beside each other."""
    wall_seconds: float = 0.0
    """Of all trees; they run side by side, so it is far more than the run took."""
    cached_told: bool = False
    """Whether any engine told how many tokens its cache served."""
    superseded_tokens: int = 0
    """Generated for errors that were retried since."""
    kept: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    cuts: dict[str, int] = field(default_factory=dict)
    """What an engine said of cuts, where one was asked."""
    by_difficulty: dict[str, Yield] = field(default_factory=lambda: {bucket: Yield() for bucket in BUCKETS})
    by_strategy: dict[str, Yield] = field(default_factory=dict)

    @property
    def problems(self) -> int:
        return self.statuses.total()


def stats(url: str, *, as_json: bool) -> int:
    """Print the figures of a run. Raises StorageError for a folder that is no run."""
    figures = read(open_run(url))
    if as_json:
        print_json({"url": url} | plain(figures))
    else:
        _print(url, figures)
    return 0


def read(run: Run) -> Figures:
    """Every figure, in one pass over the committed shards and one over their sidecars."""
    store, figures = run.store, Figures()
    search = _search(run.config.get("recipe", {}))
    failed = _failed(store)
    made = _made(store, run.refinement)
    unclosed = {entry.problem_id for sidecar in iter_sidecars(store, "journal") for entry in sidecar.entries}
    for sidecar in iter_sidecars(store, "rollouts"):
        current = {entry.problem_id: entry for entry in sidecar.entries if _is_current(entry, sidecar, failed)}
        unclosed -= current.keys()
        _add_entries(figures, sidecar, current)
        buckets = _add_rows(figures, iter_shard(store, sidecar, _COLUMNS), current, search)
        for transcripts in made.get(sidecar.name, ()):
            _add_transcripts(figures, iter_shard(store, transcripts, _TRANSCRIPT_COLUMNS), buckets)
    figures.open_trees = len(unclosed)
    refined = made_of(store, run.refinement)
    figures.rejected, figures.cuts = Counter(refined["rejected"]), refined["cuts"]
    return figures


def _failed(store: Store) -> dict[str, tuple[int, int] | None]:
    """Problems with an error: when the one that counts was committed; None where a better row supersedes it."""
    failed: dict[str, tuple[int, int] | None] = {}
    for sidecar in iter_sidecars(store, "rollouts"):
        for entry in sidecar.entries:
            if entry.status == "error":
                failed[entry.problem_id] = max(failed.get(entry.problem_id) or (0, 0), sidecar.order)
    for sidecar in iter_sidecars(store, "rollouts"):
        better = (entry.problem_id for entry in sidecar.entries if entry.status != "error")
        failed.update((id, None) for id in better if id in failed)
    return failed


def _is_current(entry: Entry, sidecar: Sidecar, failed: Mapping[str, tuple[int, int] | None]) -> bool:
    return entry.status != "error" or failed.get(entry.problem_id) == sidecar.order


def _made(store: Store, refinement: str | None) -> dict[str, list[Sidecar]]:
    """Shards of transcripts by the shard they were made from, without their entries, which would fill memory."""
    made: dict[str, list[Sidecar]] = {}
    if refinement is not None:
        for sidecar in iter_sidecars(store, f"transcripts/{refinement}"):
            made.setdefault(str(sidecar.source), []).append(replace(sidecar, entries=()))
    return made


def _add_entries(figures: Figures, sidecar: Sidecar, current: Mapping[str, Entry]) -> None:
    for entry in sidecar.entries:
        if entry.problem_id not in current:
            figures.superseded_tokens += entry.counters.get("generated_tokens", 0)
            continue
        figures.statuses[entry.status] += 1
        figures.attempts += entry.counters.get("attempts", 0)
        figures.right += entry.counters.get("right", 0)
        if entry.error is not None:
            known = entry.error in figures.errors or len(figures.errors) < ERROR_KINDS
            figures.errors[entry.error if known else "other"] += 1


def _add_rows(
    figures: Figures, rows: Iterator[Row], current: Mapping[str, Entry], search: Mapping[str, Any]
) -> dict[str, tuple[Yield, Yield]]:
    """What only rows tell; returns where the transcripts of each problem belong."""
    buckets: dict[str, tuple[Yield, Yield]] = {}
    for row in rows:
        entry = current.get(row["problem_id"])
        if entry is None:
            continue
        _add_cost(figures, row["cost"])
        leaves = [node for node in row["nodes"] if node["state"] != NodeState.OPEN]
        _add_leaves(figures, leaves)
        if entry.status != "error":
            place = figures.by_difficulty[_bucket(leaves, search)]
            strategy = figures.by_strategy.setdefault(row["search"], Yield())
            for one in (place, strategy):
                one.add(row["cost"], solved=entry.status == "solved")
            buckets[entry.problem_id] = place, strategy
    return buckets


def _add_cost(figures: Figures, cost: Mapping[str, Any]) -> None:
    for name in TOKENS:
        figures.cost[name] += cost[name] or 0
    figures.cached_told |= cost["cached_tokens"] is not None
    figures.engine_seconds += cost["engine_seconds"]
    figures.wall_seconds += cost["wall_seconds"]


def _add_leaves(figures: Figures, leaves: list[Row]) -> None:
    for leaf in leaves:
        for verdict in leaf["verdicts"]:
            if verdict["aspect"] == Aspect.ANSWER:
                add_verdict(figures.checks, verdict)
        if not leaf["counted"]:
            figures.leaves["beyond_stop"] += 1
        elif leaf["state"] == NodeState.TRUNCATED:
            figures.leaves["truncated"] += 1
        else:
            figures.leaves[_outcome(leaf, Aspect.ANSWER) or "unjudged"] += 1
            if chain := _outcome(leaf, Aspect.CHAIN):
                figures.chains[chain] += 1


def _outcome(leaf: Row, aspect: Aspect) -> Outcome | None:
    return worst(Outcome(one["outcome"]) for one in leaf["verdicts"] if one["aspect"] == aspect)


_TRANSCRIPT_COLUMNS = ["problem_id", "variant", "characters_kept"]


def _add_transcripts(figures: Figures, rows: Iterator[Row], buckets: Mapping[str, tuple[Yield, Yield]]) -> None:
    for row in rows:
        variant = row["variant"]
        figures.kept[variant] += 1
        for place in buckets.get(row["problem_id"], ()):
            place.kept[variant] += 1
            place.characters[variant] += row["characters_kept"]


def _search(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """How leaves came about; those of an import are independent samples, unless it is one of search trees."""
    imported = {"kind": "tree" if recipe.get("source", {}).get("format") == "tree" else "best_of_n"}
    found: Mapping[str, Any] = recipe.get("search", imported)
    return found


def _bucket(leaves: list[Row], search: Mapping[str, Any]) -> str:
    telling = _telling(leaves, search)
    if telling is None:
        return UNDECIDED if all(_is_right(leaf) is None for leaf in leaves) else GUIDED
    return _rate_bucket(telling, search.get("stop_at"))


def _telling(leaves: list[Row], search: Mapping[str, Any]) -> list[Row] | None:
    """Those that tell the teacher's rate; None where none does."""
    if search["kind"] != "ladder":
        return leaves if search["kind"] in INDEPENDENT else None
    first = search["rungs"][0]  # whose attempts have the first ids
    return [leaf for leaf in leaves if leaf["id"] <= first["n"]] if first["kind"] == "best_of_n" else None


def _rate_bucket(leaves: list[Row], stop_at: int | None) -> str:
    decided = [right for leaf in leaves if leaf["counted"] and (right := _is_right(leaf)) is not None]
    n, k = len(decided), sum(decided)
    if not n:
        return UNDECIDED
    if stop_at is None or k < stop_at:
        return bucket_of(k / n)
    return STOPPED_AT_ONE if k < 2 else bucket_of(pass_rate_stopped(n, k))


def _is_right(leaf: Row) -> bool | None:
    """None for a leaf that nobody could decide about."""
    if leaf["state"] == NodeState.TRUNCATED:
        return False
    outcome = _outcome(leaf, Aspect.ANSWER)
    return None if outcome in {None, Outcome.UNKNOWN} else outcome is Outcome.PASS


def bucket_of(rate: float) -> str:
    """The bucket of a pass rate in [0, 1]."""
    if rate in {0.0, 1.0}:
        return BUCKETS[int(rate) * 5]
    return next(name for name, top in zip(BUCKETS[1:5], (0.25, 0.5, 0.75, 1.0), strict=True) if rate <= top)


def plain(figures: Figures) -> dict[str, Any]:
    """All figures as JSON takes them."""
    return {
        "funnel": _funnel(figures),
        "cost": _cost(figures),
        "checks": {verifier: one.plain() for verifier, one in sorted(figures.checks.items())},
        "by_strategy": {strategy: one.plain() for strategy, one in figures.by_strategy.items()},
        "by_difficulty": {bucket: one.plain() for bucket, one in figures.by_difficulty.items()},
    }


def _funnel(figures: Figures) -> dict[str, Any]:
    return {
        "problems": figures.problems,
        "solved": figures.statuses["solved"],
        "unsolved": figures.statuses["unsolved"],
        "errors": figures.statuses["error"],
        "errors_by_text": dict(figures.errors.most_common()),
        "open_trees": figures.open_trees,
        "attempts": figures.attempts,
        "right": figures.right,
        "leaves": dict(figures.leaves),
        "chains": dict(figures.chains),
        "kept": dict(figures.kept),
        "rejected": dict(figures.rejected),
        "cuts": figures.cuts,
    }


def _cost(figures: Figures) -> dict[str, Any]:
    tokens = figures.cost["generated_tokens"]
    return {
        "generated_tokens": tokens,
        "prompt_tokens": figures.cost["prompt_tokens"],
        "cached_tokens": figures.cost["cached_tokens"] if figures.cached_told else None,
        "mean_sequential_tokens": _per(figures.cost["sequential_tokens"], figures.problems),
        "scoring_generated_tokens": figures.cost["scoring_generated_tokens"],
        "scoring_prompt_tokens": figures.cost["scoring_prompt_tokens"],
        "superseded_tokens": figures.superseded_tokens,
        "engine_seconds": round(figures.engine_seconds, 3),
        "engine_seconds_per_solved": _per(figures.engine_seconds, figures.statuses["solved"]),
        "wall_seconds": round(figures.wall_seconds, 3),
        "tokens_per_solved": _per(tokens, figures.statuses["solved"]),
        "tokens_per_kept": {variant: _per(tokens, number) for variant, number in figures.kept.items()},
    }


def _per(total: float, number: int) -> float | None:
    return round(total / number, 2) if number else None


def _print(url: str, figures: Figures) -> None:
    out = console()
    out.print(f"run {one_line(url)}", style="bold", soft_wrap=True)
    print_pairs(out, (*_funnel_rows(figures), *_cost_rows(figures)))
    _print_checks(out, figures.checks)
    out.print("\nby the teacher's pass rate on the problem; lengths are mean characters of what is kept:", style="bold")
    out.print(_difficulty(figures))
    for bucket, meaning in NOTES.items():
        if figures.by_difficulty[bucket].problems:
            out.print(f"{bucket}: {meaning}", soft_wrap=True)


def _funnel_rows(figures: Figures) -> Iterator[tuple[str, str]]:
    statuses = figures.statuses
    ends = f"{statuses['solved']:,} solved, {statuses['unsolved']:,} unsolved, {statuses['error']:,} errors"
    yield "problems", f"{figures.problems:,}: {ends}"
    if figures.open_trees:
        yield "open", f"{figures.open_trees:,} more have finished generations in the journal"
    for text, number in figures.errors.most_common(SHOWN_ERRORS):
        yield "error", f"{number:,} × {one_line(text)}"
    if (more := len(figures.errors) - SHOWN_ERRORS) > 0:
        yield "error", f"and {more:,} other kinds: --json has them"
    yield "attempts", f"{figures.attempts:,}: {figures.right:,} right"
    yield "leaves", counted(figures.leaves)
    if figures.chains:
        yield "reasoning", counted(figures.chains)
    yield "kept", counted(figures.kept)
    yield "rejected", counted(figures.rejected)
    if figures.cuts:
        yield "cuts", counted(figures.cuts)


def _cost_rows(figures: Figures) -> Iterator[tuple[str, str]]:
    cost = _cost(figures)
    cached = "" if cost["cached_tokens"] is None else f", {cost['cached_tokens']:,} of them cached"
    yield "tokens", f"{cost['generated_tokens']:,} generated; {cost['prompt_tokens']:,} of prompts{cached}"
    if scored := cost["scoring_generated_tokens"] + cost["scoring_prompt_tokens"]:
        yield "", f"{scored:,} more for guesses about prefixes, prompts included"
    if cost["mean_sequential_tokens"] is not None:
        yield "in a row", f"{cost['mean_sequential_tokens']:,.0f} tokens a problem that no parallelism can shorten"
    if figures.superseded_tokens:
        yield "", f"{figures.superseded_tokens:,} more were generated for errors that were retried since"
    per = [f"{cost['tokens_per_solved']:,.0f} a solved problem"] if cost["tokens_per_solved"] else []
    per += [f"{each:,.0f} a kept {variant} transcript" for variant, each in cost["tokens_per_kept"].items()]
    yield "each", ", ".join(per) or "nothing is solved yet"
    each_solved = cost["engine_seconds_per_solved"]
    solved = "" if each_solved is None else f", {each_solved:,.2f} a solved problem"
    yield "engine", f"{figures.engine_seconds:,.1f} s busy{solved}"
    yield "seconds", f"{figures.wall_seconds:,.1f} of search, all trees together (they run side by side)"


def _print_checks(out: Console, checks: Mapping[str, Checks]) -> None:
    if not checks:
        return
    out.print("\nchecks by verifier, and their wall times:", style="bold")
    out.print(_checks(checks))
    for verifier, one in sorted(checks.items()):
        for reason, number in one.reasons.most_common(SHOWN_ERRORS):
            out.print(f"{one_line(verifier)} unknown: {number:,} × {one_line(reason)}", soft_wrap=True)


def _checks(checks: Mapping[str, Checks]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("verifier", no_wrap=True)
    for name in ("checks", *Outcome, "total s", "mean ms", "p95 ms", "longest ms"):
        table.add_column(name, justify="right")
    for verifier, one in sorted(checks.items()):
        outcomes = [f"{one.outcomes[outcome]:,}" for outcome in Outcome]
        times = [f"{1000 * each:,.2f}" for each in (one.seconds / one.number, one.percentile(0.95), one.longest)]
        table.add_row(one_line(verifier), f"{one.number:,}", *outcomes, f"{one.seconds:,.1f}", *times)
    return table


def _difficulty(figures: Figures) -> Table:
    variants = sorted(figures.kept)
    table = Table(box=None, pad_edge=False)
    table.add_column("pass rate", no_wrap=True)
    for name in ("problems", "solved", "tokens", *(f"{one} {word}" for one in variants for word in ("kept", "length"))):
        table.add_column(name, justify="right")
    for bucket, one in figures.by_difficulty.items():
        means = one.plain()["mean_characters"]
        yields = [text for v in variants for text in (f"{one.kept[v]:,}", f"{means[v]:,.0f}" if v in means else "")]
        if one.problems or bucket in BUCKETS[:6]:
            table.add_row(bucket, f"{one.problems:,}", f"{one.solved:,}", f"{one.generated_tokens:,}", *yields)
    return table
