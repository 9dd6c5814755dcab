"""What `factory bench search` prints: both comparisons as tables, never mixed, and what was not compared, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.report import console, one_line, print_json

HEADINGS = {
    "coverage": "with a verifier: coverage, the share of problems with a right leaf",
    "accuracy": "without a verifier: accuracy of the one answer that is selected",
}
NONE = "-"


def print_bench(table: Mapping[str, Any], files: Sequence[str], *, as_json: bool) -> None:
    """`table`: as `pipelines.bench.figures` gives it; `files`: where the figures are."""
    if as_json:
        print_json({"files": list(files)} | dict(table))
        return
    out = console()
    out.print(f"{table['problems']:,} problems; in brackets 95% intervals over problems")
    if table["left_out"]:
        out.print(f"{table['left_out']:,} more ended as errors in some run, and are left out of all")
    _heading(out, "what was spent, and what it found; a problem, on average")
    out.print(_spent(table["points"]))
    for kind, heading in HEADINGS.items():
        _print_comparison(out, heading, table["curves"][kind], table["not_compared"][kind])
    if table["difficulty"]:
        _print_difficulty(out, table)
    out.print("")
    for name in ("saturates_at", "stops_paying_at"):
        out.print(f"{name.replace('_', ' ')}: {table['rules'][name]}", soft_wrap=True)
    out.print("")
    out.print(f"Figures are in {', '.join(files)}", soft_wrap=True)


def _heading(out: Console, text: str) -> None:
    out.print(f"\n{text}:", style="bold")


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _spent(points: Sequence[Mapping[str, Any]]) -> Table:
    names = ("right leaf", "tokens", "per solved", "in a row", "prompts computed", "p50 s", "p95 s")
    undecided = any(point["undecided"] for point in points)
    table = _table(("strategy", "budget"), (*names, *(["undecided"] if undecided else [])))
    for point in points:
        seconds, each = point["seconds"] or {"p50": None, "p95": None}, point["tokens_per_solved"]
        numbers = (
            point["tokens_per_problem"][0],
            each and each[0],
            point["sequential_tokens"],
            point["prompt_tokens_computed"],
        )
        times = (NONE if one is None else f"{one:,.1f}" for one in seconds.values())
        more = [f"{point['undecided']:,}"] if undecided else []
        table.add_row(
            point["strategy"], point["budget"], share(point["coverage"]), *map(_whole, numbers), *times, *more
        )
    return table


def _whole(number: float | None) -> str:
    return NONE if number is None else f"{number:,.0f}"


def share(interval: Sequence[float]) -> str:
    """A share with its interval, in per cent."""
    value, low, high = (100 * one for one in interval)
    return f"{value:.1f}% ({low:.0f} to {high:.0f})"


def _print_comparison(out: Console, heading: str, comparison: Mapping[str, Any], left_out: Mapping[str, str]) -> None:
    _heading(out, heading)
    if comparison["strategies"]:
        out.print(_curves(comparison["strategies"]))
    for strategy, why in left_out.items():
        out.print(f"not here: {strategy}, which {why}", soft_wrap=True)
    if comparison["cheapest"]:
        out.print("")
        out.print(_cheapest(comparison["cheapest"]))


def _curves(strategies: Mapping[str, Any]) -> Table:
    """The most that a strategy reaches, its fit with the largest residual, and where more tokens are of little use."""
    names = ("reached at most", "points a doubling", "R²", "residuals to")
    table = _table(("strategy",), (*names, "saturates at", "stops paying at"))
    for strategy, curve in strategies.items():
        most = max(curve["points"], key=lambda point: point["reached"][0])
        ends = (curve["saturates_at"], curve["stops_paying_at"])
        table.add_row(
            strategy, share(most["reached"]), *_fit(curve["fit"]), *(NONE if one is None else one for one in ends)
        )
    return table


def _fit(fit: Mapping[str, Any] | None) -> Iterator[str]:
    if fit is None:
        yield from (NONE, NONE, NONE)
        return
    value, low, high = (100 * one for one in fit["per_doubling"])
    yield f"{value:+.1f} ({low:.1f} to {high:.1f})"
    yield NONE if fit["r_squared"] is None else f"{fit['r_squared']:.3f}"
    yield f"{100 * max(fit['residuals'][: fit['points']], key=abs):+.1f}"


def _cheapest(levels: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(("to reach", "cheapest"), ("tokens a problem", "sure", "next", "tokens a problem"))
    for one in levels:
        (name, tokens), *others = one["tokens"].items()
        second = (others[0][0], _at_most(one, *others[0])) if others else (NONE, NONE)
        table.add_row(f"{one['level']:.0%}", name, _at_most(one, name, tokens), f"{one['sure']:.0%}", *second)
    return table


def _at_most(reach: Mapping[str, Any], name: str, tokens: float) -> str:
    return ("at most " if name in reach["at_most"] else "") + f"{tokens:,.0f}"


def _print_difficulty(out: Console, table: Mapping[str, Any]) -> None:
    numbers = {name: number for name, number in table["difficulty"]["problems"].items() if number}
    _heading(out, f"by the teacher's pass rate on {table['difficulty']['attempts']} other attempts: right leaf, tokens")
    found = _table(("strategy", "budget"), [f"{name}: {number:,}" for name, number in numbers.items()])
    for point in table["points"]:
        inside = (point["by_difficulty"][name] for name in numbers)
        cells = (f"{one['coverage'][0]:.0%}, {one['tokens_per_problem']:,.0f}" for one in inside)
        found.add_row(one_line(point["strategy"]), one_line(point["budget"]), *cells)
    out.print(found)
