"""Draws what `factory show` shows on a terminal, or as plain text where there is none.

What was removed is struck through, and stands between `[-1: ` and `-]` where nothing can be struck through; the number
is that of the removal in the list above the text. What a rule injected, a tool said, or a cut would have taken that was
withdrawn stands between braces that say so. Long texts are excerpts unless all is asked for. Characters that a terminal
obeys are shown as escapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Branches

from factory.types import Node, Origin, Outcome, Problem
from pipelines.report import one_line, visible
from pipelines.show_lines import (
    Line,
    about_attempt,
    about_attempts,
    about_end,
    about_leaf,
    about_node,
    about_problem,
    about_record,
    about_removal,
    about_transcript,
    about_tree,
    about_verdict,
    about_version,
    excerpt,
    labels,
    verdict_lines,
)
from pipelines.show_view import Leaf, Limb, Piece, Shown, Tried, Version, attempt_tree

EDGE = 300
"""Characters at either end of a piece that an excerpt shows."""
PROMPT_EDGE = 1_000
"""The same of a message of the prompt."""
ATTEMPTS = 30
"""Attempts of a chain that an excerpt lists."""

_OUTCOMES = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.UNKNOWN: "yellow"}
_ORIGINS = {Origin.SAMPLED: "", Origin.INJECTED: "cyan", Origin.TOOL: "yellow"}
_CUT = "strike dim red"

T = TypeVar("T")


def print_first(out: Console, url: str, problems: list[dict[str, Any]]) -> None:
    """A table of problems, as `show_lookup.first` gives them."""
    if not problems:
        out.print("no problem is committed yet")
        return
    out.print(_table(problems))
    out.print(f"\nfactory show {visible(url)} ID shows one of them; the start of its id is enough", soft_wrap=True)


def _table(problems: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("id", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("attempts", "right", "tokens"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in problems:
        numbers = (f"{one[key]:,}" for key in ("attempts", "right", "generated_tokens"))
        table.add_row(one["problem_id"], one["status"], *numbers, one_line(one["error"] or one["prompt"]))
    return table


def print_shown(out: Console, shown: Shown, *, whole: bool) -> None:
    """A problem or one transcript of it. `whole`: no text is shortened."""
    _print_problem(out, shown.tree.problem, whole=whole)
    if shown.nodes is not None:
        out.print(_grown(_head(shown), shown.nodes, _node))
    for leaf in shown.leaves:
        _print_leaf(out, leaf, whole=whole)
    if shown.missing is not None:
        out.print(f"\nno transcripts: {shown.missing}")


def _print_problem(out: Console, problem: Problem, *, whole: bool) -> None:
    out.print(Text(f"problem {one_line(problem.id)}", style="bold"))
    out.print("; ".join(f"{name} {text}" for name, text in about_problem(problem)), soft_wrap=True)
    for message in problem.messages:
        text = visible(message.content if whole else shortened(message.content, PROMPT_EDGE))
        out.print(Text.assemble("\n", (f"{one_line(message.role)}: ", "bold"), text), soft_wrap=True)
    out.print()


def _head(shown: Shown) -> Text:
    head = Text(about_tree(shown.tree), style="bold")
    error = shown.tree.error
    return head if error is None else Text("\n").join([head, Text(one_line(error), style="red")])


def _grown(head: Text, limbs: Iterable[Limb[T]], label: Callable[[T], Text]) -> Branches:
    top = Branches(head, guide_style="dim")
    waiting = [(top, limb) for limb in reversed(list(limbs))]
    while waiting:
        above, limb = waiting.pop()
        branch = above.add(label(limb.item))
        waiting += [(branch, one) for one in reversed(limb.below)]
    return top


def _node(node: Node) -> Text:
    lines = [Text.assemble((f"#{node.id}", "bold"), " ", _coloured(about_node(node)))]
    lines.append(Text(excerpt(node.text), style="dim"))
    lines += map(_coloured, map(about_verdict, node.verdicts))
    recorded = about_record(node)
    return Text("\n").join(lines if recorded is None else [*lines, Text(recorded)])


def _attempt(one: Tried) -> Text:
    left = about_end(one)
    lines = [
        Text.assemble((f"{one.number}", "bold"), " ", about_attempt(one)),
        Text(excerpt(one.text), style="dim" if left is None else _CUT),
    ]
    return Text("\n").join(lines if left is None else [*lines, Text(left)])


def _coloured(line: Line) -> Text:
    return Text.assemble(
        *((fact.text, "" if fact.outcome is None else _OUTCOMES[fact.outcome]) for fact in line),
    )


def _print_leaf(out: Console, leaf: Leaf, *, whole: bool) -> None:
    """Its attempts, then its versions."""
    out.print(Text.assemble("\n", (f"leaf #{leaf.id}", "bold"), f", {about_leaf(leaf)}"), soft_wrap=True)
    if len(leaf.attempts) > 1:
        listed = leaf.attempts if whole else leaf.attempts[:ATTEMPTS]
        out.print(_grown(Text(about_attempts(leaf)), attempt_tree(listed), _attempt))
        if len(listed) < len(leaf.attempts):
            out.print(f"and {len(leaf.attempts) - len(listed):,} more attempts: --whole lists them")
    for version in leaf.versions:
        _print_version(out, version, whole=whole)


def _print_version(out: Console, version: Version, *, whole: bool) -> None:
    out.print(Text(f"\n{about_version(version)}", style="bold"), soft_wrap=True)
    for line in (*map(about_transcript, version.transcripts), *verdict_lines(version)):
        out.print(Text.assemble("  ", _coloured(line)), soft_wrap=True)
    for number, one in enumerate(version.removals, start=1):
        out.print(f"  cut {number}: {about_removal(one)}", soft_wrap=True)
    for number, one in enumerate(version.withdrawn, start=1):
        out.print(f"  withdrawn {number}: {about_removal(one)}", soft_wrap=True)
    out.print(marked(version, styled=out.color_system is not None, whole=whole), soft_wrap=True)


def marked(version: Version, *, styled: bool, whole: bool) -> Text:
    """The text before pruning, with what became of each piece told by style and by signs.

    Where somebody else begins to speak, a line says who.
    """
    shown, speaker = Text(), "assistant"
    for role, said in groupby(version.pieces, lambda piece: piece.role):
        if role != speaker:
            shown.append(f"\n\n{one_line(role)}: ", style="bold")
            speaker = role
        for piece in said:
            shown.append_text(_marked(version, piece, styled=styled, whole=whole))
    return shown


def _marked(version: Version, piece: Piece, *, styled: bool, whole: bool) -> Text:
    before, after = _signs(version, piece, styled=styled)
    text = visible(piece.text if whole else shortened(piece.text, EDGE))
    style = _ORIGINS[piece.origin] if piece.cut is None else _CUT
    return Text.assemble((before, "bold"), (text, style if styled else ""), (after, "bold"))


def _signs(version: Version, piece: Piece, *, styled: bool) -> tuple[str, str]:
    if piece.cut is not None:
        return (f"[{piece.cut}]", "") if styled else (f"[-{piece.cut}: ", "-]")
    found = labels(version, piece)
    return (f"{{{', '.join(found)}: ", "}") if found else ("", "")


def shortened(text: str, edge: int) -> str:
    """A text without its middle, where that is long, and how much was left out."""
    left_out = len(text) - 2 * edge
    return text if left_out < edge else f"{text[:edge]} […{left_out:,} characters…] {text[-edge:]}"
