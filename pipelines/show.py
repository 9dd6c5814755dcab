"""`factory show`: the first problems of a run, or one problem with its tree and its transcripts.

A problem or a transcript is named by the start of its id; problems are looked for first. A leaf's text is shown once,
as it was before pruning, with what was removed struck through (`[-so-]` where nothing can be struck through), and what
a rule injected or a tool said marked as well. Characters that a terminal obeys are shown as escapes.

Sidecars say which shards hold a problem; no others are read, except for a transcript's id, which no sidecar names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Branch

from factory.errors import UserError
from factory.rows import Row, row_transcript, row_tree
from factory.runs import Run, open_run
from factory.shards import Entry, Sidecar, iter_rows, iter_shard, iter_sidecars, problem_states
from factory.store import Store
from factory.types import (
    ROOT,
    Node,
    NodeState,
    Origin,
    Outcome,
    Problem,
    Removal,
    Span,
    Transcript,
    Tree,
    Verdict,
    spans_of,
)
from pipelines.report import console, one_line, print_json, visible

FIRST = 10
"""Problems in the table."""
LISTED = 20
"""Ids that are named where a prefix fits several."""
NESTED = 12
"""Levels of a tree that are indented; a deeper node only names its parent."""
LINE = 100
"""Characters of a node's text."""

_REMOVED = "removed"
_STYLES = {Origin.SAMPLED: "", Origin.INJECTED: "cyan", Origin.TOOL: "yellow", _REMOVED: "strike dim red"}
_MARKS = {
    Origin.SAMPLED: ("", ""),
    Origin.INJECTED: ("{injected: ", "}"),
    Origin.TOOL: ("{tool: ", "}"),
    _REMOVED: ("[-", "-]"),
}
_OUTCOMES = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.UNKNOWN: "yellow"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the current row of a problem is, and what the sidecar says of it."""

    sidecar: Sidecar
    entry: Entry


@dataclass(frozen=True, slots=True)
class Found:
    """What was asked for, as rows of the tables."""

    rollout: Row
    transcripts: list[Row]
    """Of the current refinement."""
    rejected: list[Row]
    whole: bool
    """Whether a problem was asked for, not one of its transcripts."""

    def plain(self) -> dict[str, Any]:
        return {"rollout": self.rollout, "transcripts": self.transcripts, "rejected": self.rejected}


def show(url: str, what: str | None, *, as_json: bool) -> int:
    """Print a run's first problems, or what `what` names. Raises UserError for a name of nothing or of several."""
    run = open_run(url)
    if what is None:
        _show_first(url, list(_first(run.store)), as_json=as_json)
        return 0
    found = _find_problem(run, what) or _find_transcript(run, what)
    if found is None:
        raise UserError(f"no problem or transcript of {url} begins with {_quoted(what)}: leave it out to see some ids")
    if as_json:
        print_json({"url": url} | found.plain())
    else:
        _show(console(), found)
    return 0


def _find_problem(run: Run, prefix: str) -> Found | None:
    places = _places(run.store, lambda id: id.startswith(prefix))
    if not places:
        return None
    id = _only(prefix, places)
    return Found(
        rollout=_row(run.store, places[id]),
        transcripts=_made_of(run, "transcripts", id),
        rejected=_made_of(run, "rejected", id),
        whole=True,
    )


def _find_transcript(run: Run, prefix: str) -> Found | None:
    problems = {row["id"]: row["problem_id"] for row in _all_ids(run) if row["id"].startswith(prefix)}
    if not problems:
        return None
    id = _only(prefix, problems)
    problem = problems[id]
    place = _places(run.store, lambda one: one == problem)[problem]
    kept, refused = (
        [row for row in _made_of(run, table, problem) if row["id"] == id] for table in ("transcripts", "rejected")
    )
    return Found(_row(run.store, place), kept, refused, whole=False)


def _only(prefix: str, matches: Iterable[str]) -> str:
    ids = sorted(matches)
    if len(ids) > 1:
        more = f" and {len(ids) - LISTED:,} more" if len(ids) > LISTED else ""
        raise UserError(f"{_quoted(prefix)} begins {len(ids):,} ids: {', '.join(ids[:LISTED])}{more}")
    return ids[0]


def _quoted(text: str) -> str:
    return f"'{one_line(text, LINE)}'"


def _places(store: Store, wanted: Callable[[str], bool]) -> dict[str, Place]:
    """Where the problems that are wanted are. Of the others nothing is kept in memory."""
    narrowed = (_narrowed(sidecar, wanted) for sidecar in iter_sidecars(store, "rollouts"))
    holding = {sidecar.name: sidecar for sidecar in narrowed if sidecar.entries}
    states = problem_states(holding.values())
    return {
        entry.problem_id: Place(sidecar, entry)
        for sidecar in holding.values()
        for entry in sidecar.entries
        if states[entry.problem_id].shard == sidecar.name
    }


def _narrowed(sidecar: Sidecar, wanted: Callable[[str], bool]) -> Sidecar:
    return replace(sidecar, entries=tuple(entry for entry in sidecar.entries if wanted(entry.problem_id)), tries={})


def _row(store: Store, place: Place, columns: Sequence[str] | None = None) -> Row:
    id = place.entry.problem_id
    return next(row for row in iter_shard(store, place.sidecar, columns) if row["problem_id"] == id)


def _made_of(run: Run, table: str, problem_id: str) -> list[Row]:
    """What the current refinement made of a problem, in the order of its leaves."""
    refinement = run.refinement
    sidecars = () if refinement is None else iter_sidecars(run.store, f"{table}/{refinement}")
    holding = (one for one in sidecars if any(entry.problem_id == problem_id for entry in one.entries))
    rows = (row for one in holding for row in iter_shard(run.store, one) if row["problem_id"] == problem_id)
    return sorted(rows, key=lambda row: (row["leaf"], row["variant"]))


def _all_ids(run: Run) -> Iterator[Row]:
    if (refinement := run.refinement) is not None:
        for table in ("transcripts", "rejected"):
            yield from iter_rows(run.store, f"{table}/{refinement}", ["id", "problem_id"])


def _first(store: Store) -> Iterator[dict[str, Any]]:
    """What there is to say in a line of each of the first problems."""
    entries = (entry.problem_id for sidecar in iter_sidecars(store, "rollouts") for entry in sidecar.entries)
    ids = set(islice(entries, FIRST))
    for id, place in sorted(_places(store, ids.__contains__).items()):
        counters = place.entry.counters
        messages = _row(store, place, ["problem_id", "messages"])["messages"]
        yield {
            "problem_id": id,
            "status": place.entry.status,
            "attempts": counters.get("attempts", 0),
            "right": counters.get("right", 0),
            "generated_tokens": counters.get("generated_tokens", 0),
            "error": place.entry.error,
            "prompt": messages[-1]["content"] if messages else "",
        }


def _show_first(url: str, problems: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"url": url, "problems": problems})
        return
    out = console()
    if not problems:
        out.print("no problem is committed yet")
        return
    out.print(_table(problems))
    out.print(f"\nfactory show {visible(url)} ID shows one of them; the start of its id is enough", soft_wrap=True)


def _table(problems: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("id", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("attempts", "right", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("prompt", no_wrap=True, overflow="ellipsis")
    for one in problems:
        numbers = (f"{one[key]:,}" for key in ("attempts", "right", "generated_tokens"))
        table.add_row(one["problem_id"], one["status"], *numbers, one_line(one["error"] or one["prompt"]))
    return table


def _show(out: Console, found: Found) -> None:
    tree = row_tree(found.rollout)
    _print_problem(out, tree.problem)
    if found.whole:
        out.print(_branches(tree))
    leaves: dict[int, list[Transcript]] = {}
    for row in (*found.transcripts, *found.rejected):
        leaves.setdefault(row["leaf"], []).append(row_transcript(row))
    for leaf, transcripts in leaves.items():  # those with a kept transcript first
        _print_leaf(out, spans_of(tree.path(leaf)), transcripts)
    if not leaves:
        out.print("\nno transcripts: " + ("the tree failed" if tree.error else "it was not refined yet"))


def _print_problem(out: Console, problem: Problem) -> None:
    out.print(Text(f"problem {problem.id}", style="bold"))
    checks = ", ".join(check.verifier for check in problem.checks)
    reference = "none" if problem.reference is None else one_line(problem.reference)
    out.print(f"source {one_line(problem.source)}; checks {one_line(checks)}; reference {reference}", soft_wrap=True)
    for message in problem.messages:
        out.print(
            Text.assemble("\n", (f"{one_line(message.role)}: ", "bold"), visible(message.content)), soft_wrap=True
        )
    out.print()


def _branches(tree: Tree) -> Branch:
    """The tree; a step that is its parent's only child stands below it without a deeper indent."""
    children: dict[int, list[Node]] = {}
    for node in tree.nodes:
        children.setdefault(node.parent, []).append(node)
    top = Branch(_head(tree), guide_style="dim")
    waiting = [(node, top, 0) for node in reversed(children.get(ROOT, []))]
    while waiting:  # no recursion: a sequential search is as deep as it is long
        node, above, depth = waiting.pop()
        branch = above.add(_label(node))
        below = children.get(node.id, [])
        place = (branch, depth + 1) if len(below) > 1 and depth < NESTED else (above, depth)
        waiting += [(child, *place) for child in reversed(below)]
    return top


def _head(tree: Tree) -> Text:
    cost = tree.cost
    head = Text.assemble(
        ("tree", "bold"),
        f" of {one_line(tree.search) or 'no search'}: {tree.stop}, {cost.generations:,} generations,"
        f" {cost.generated_tokens:,} tokens, {cost.wall_seconds:.1f} s",
        f", {tree.tries} tries" if tree.tries > 1 else "",
    )
    return head if tree.error is None else Text.assemble(head, (f"\n{one_line(tree.error)}", "red"))


def _label(node: Node) -> Text:
    label = Text.assemble(
        (f"#{node.id}", "bold"),
        "" if node.parent == ROOT else f" after #{node.parent}",
        f" {node.state}",
        *_judgement(node),
        "" if node.counted else ", does not count",
        "" if node.origin is Origin.SAMPLED else f", {node.origin}",
        "" if node.role == "assistant" else f", {one_line(node.role)}'s turn",
        "" if node.score is None else f", score {node.score:.3g}",
        f", {node.generated_tokens:,} tokens, {node.seconds:.2f} s",
        (f"\n{one_line(node.text, LINE)}", "dim"),
    )
    return Text("\n").join([label, *map(_verdict, node.verdicts)])


def _judgement(node: Node) -> Iterator[str | tuple[str, str]]:
    if node.state is NodeState.FINISHED:
        outcome = node.outcome
        yield ", "
        yield "unjudged" if outcome is None else (outcome.value, _OUTCOMES[outcome])


def _verdict(verdict: Verdict) -> Text:
    read = "" if verdict.extracted is None else f", read as {_quoted(verdict.extracted)}"
    return Text.assemble(
        f"{one_line(verdict.verifier)} {verdict.aspect} ",
        (verdict.outcome.value, _OUTCOMES[verdict.outcome]),
        f": {one_line(verdict.evidence)}{read}",
    )


def _print_leaf(out: Console, spans: Sequence[Span], transcripts: Sequence[Transcript]) -> None:
    """The variants of one leaf, and its text with what was removed for the one from which most was."""
    out.print(Text(f"\nleaf #{transcripts[0].leaf}", style="bold"))
    for transcript in transcripts:
        out.print(_variant(transcript), soft_wrap=True)
    removals = max((one.removals for one in transcripts), key=len)
    out.print(marked(spans, removals, styled=out.color_system is not None), soft_wrap=True)


def _variant(transcript: Transcript) -> Text:
    kept = transcript.rejection is None
    removed = Counter(one.reason for one in transcript.removals)
    lines = [
        Text.assemble(
            f"{transcript.variant} {transcript.id} ",
            ("kept", "green") if kept else (f"rejected: {one_line(str(transcript.rejection))}", "red"),
            "".join(f", {number} removed as {one_line(reason)}" for reason, number in removed.items()),
        )
    ]
    told = [_removal("removed", one) for one in transcript.removals if one.evidence]
    told += [_removal("withdrawn", one) for one in transcript.withdrawn]
    return Text("\n  ").join([*lines, *map(_verdict, transcript.verdicts), *told])


def _removal(what: str, removal: Removal) -> Text:
    place = f"{removal.start:,} to {removal.end:,}"
    return Text(f"{what} {one_line(removal.reason)} {place}: {one_line(removal.evidence, LINE)}", style="dim")


def marked(spans: Sequence[Span], removals: Sequence[Removal], *, styled: bool) -> Text:
    """The text before pruning, with what was removed and what the model did not write marked by style or by signs.

    Where somebody else begins to speak, a line says who.
    """
    shown, speaker = Text(), "assistant"
    for (kind, role), parts in groupby(pieces(spans, removals), lambda piece: piece[1:]):
        if role != speaker:
            shown.append(f"\n\n{one_line(role)}: ", style="bold")
            speaker = role
        before, after = ("", "") if styled else _MARKS[kind]
        text = visible("".join(text for text, *_ in parts))
        shown.append(f"{before}{text}{after}", style=_STYLES[kind] if styled else "")
    return shown


def pieces(spans: Sequence[Span], removals: Sequence[Removal]) -> Iterator[tuple[str, str, str]]:
    """The text before pruning in order: each piece with its origin, or with `removed`, and with who speaks."""
    gone = [range(removal.start, removal.end) for removal in removals]
    edges = {edge for one in gone for edge in (one.start, one.stop)}
    start = 0
    for span in spans:
        end = start + len(span.text)
        places = sorted({start, end} | {edge for edge in edges if start < edge < end})
        for first, last in pairwise(places):
            kind = _REMOVED if any(first in one for one in gone) else span.origin
            yield span.text[first - start : last - start], kind, span.role
        start = end
