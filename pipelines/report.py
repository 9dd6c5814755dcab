"""What commands print, and the summary at the end of a run.

Results go to stdout: plain, copyable text without a terminal, one JSON object with `--json`. Texts of models, sources
and errors are not trusted: whatever of them is shown goes through `visible` first, so that no escape sequence, no
hidden character and no markup of theirs reaches a terminal. JSON is ASCII, which keeps the same promise.

Nothing heavy is imported before there is something to summarize: `factory doctor` prints through here as well.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from pipelines.run import Summary

PLAIN_WIDTH = 120
"""Columns where there is no terminal that has a width, and no COLUMNS that gives one."""

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that a terminal obeys or that nobody sees: controls, formats, surrogates, separators."""
_HARMLESS = {"\n", "\t", "\u200c", "\u200d"}
"""The last two join letters in some scripts and in emoji."""

_ENDINGS = {
    "finished": "finished: every problem of the source is closed",
    "capped": "stopped at a cap of the budget: the same command with a higher one goes on from here",
    "interrupted": "interrupted, in order: the same command goes on from here",
}


def visible(text: str) -> str:
    """The text with characters that a terminal obeys, or that nobody sees, written as escapes such as `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(escaped(char) if is_hidden(char) else char for char in text)


def is_hidden(char: str) -> bool:
    """Whether it is a character that a terminal obeys, or that nobody sees."""
    return (char not in _HARMLESS and unicodedata.category(char) in _HIDDEN) or ord(char) & 0xFFFE == 0xFFFE


def escaped(char: str) -> str:
    """The escape of one character."""
    return char.encode("unicode_escape").decode("ascii")


def one_line(text: str, limit: int = 200) -> str:
    """The same in one line of at most `limit` characters; runs of white space become one space."""
    line = visible(" ".join(text[: 20 * limit].split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def console() -> Console:
    """Where results go. Nothing printed there is read as markup, and what cannot be encoded is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    fixed = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if fixed else PLAIN_WIDTH, markup=False, emoji=False, highlight=False)


def print_json(value: Any) -> None:
    """One object in one line."""
    print(json.dumps(value, default=str))


def print_pairs(out: Console, pairs: Iterable[tuple[str, str]]) -> None:
    """Names and what there is to say of them, a line each, never broken: such lines are copied."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        out.print(Text.assemble((f"{name:{width}}  ", "bold"), text), soft_wrap=True)


def counted(counts: Mapping[str, int]) -> str:
    """Counts by name, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{one_line(name)} {number:,}" for name, number in ordered) or "none"


def print_summary(summary: Summary, *, as_json: bool) -> None:
    """How an invocation of `factory run` ended, and what the run holds now."""
    from factory.runs import open_run
    from pipelines.summary import summarize

    run = open_run(summary.url)
    refinement = run.refinement
    figures = summarize(run.store, refinement)
    if as_json:
        about = {"url": summary.url, "ended": summary.ended, "did_nothing": summary.did_nothing}
        print_json(about | {"duplicates": summary.duplicates} | figures)
        return
    _print_lines(_ending(summary))
    _print_lines(summary_lines(figures, url=short(summary.url), refinement=refinement))


def print_figures(url: str, figures: Mapping[str, Any], *, as_json: bool) -> None:
    """What a run holds after it was refined; `figures` as `pipelines.summary` makes them."""
    from factory.runs import open_run

    if as_json:
        print_json({"url": url} | dict(figures))
    else:
        _print_lines(summary_lines(figures, url=url, refinement=open_run(url).refinement))


def _print_lines(lines: Iterator[str]) -> None:
    """Without a width: what is printed here is copied, so no line may be broken."""
    out = console()
    for line in lines:
        out.print(visible(line), soft_wrap=True)


def _ending(summary: Summary) -> Iterator[str]:
    nothing = summary.did_nothing and not summary.owed
    yield "nothing was owed: every problem of the source is closed" if nothing else _ENDINGS[summary.ended]
    if summary.owed:
        yield f"{summary.owed:,} problems are owed; {summary.journaled:,} of them have finished attempts in the journal"
        yield f"  factory left {shlex.quote(short(summary.url))} --why owed --names"
    if summary.duplicates:
        yield f"{summary.duplicates:,} problems of the source are repetitions of earlier ones and were left out"
    yield ""


def summary_lines(figures: Mapping[str, Any], *, url: str, refinement: str | None) -> Iterator[str]:
    """The figures of a run, where its shards are, and how to look at them. `url` is shown as it is given."""
    yield from _figure_lines(figures)
    yield ""
    yield f"Shards are in {url}: {', '.join(_folders(refinement))}"
    yield "Look at them:"
    yield from (f"  {command}" for command in _commands(figures, url))


def _figure_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    ends = ", ".join(f"{figures[key]:,} {key}" for key in ("solved", "unsolved", "errors"))
    yield f"problems   {figures['problems']:,}: {ends}"
    yield f"attempts   {figures['attempts']:,}: {figures['right']:,} right"
    each = figures["tokens_per_solved"]
    yield f"tokens     {figures['tokens']:,} generated" + (f": {each:,.0f} per solved problem" if each else "")
    yield f"kept       {counted(figures['kept'])}"
    yield f"rejected   {counted(figures['rejected'])}"
    if figures["cuts"]:
        yield f"cuts       {counted(figures['cuts'])}"


def _folders(refinement: str | None) -> list[str]:
    made = [] if refinement is None else [f"transcripts/{refinement}/", f"rejected/{refinement}/"]
    return ["rollouts/", *made]


def _commands(figures: Mapping[str, Any], url: str) -> Iterator[str]:
    run = shlex.quote(url)
    yield from (f"factory {command} {run}" for command in ("stats", "show", "check"))
    if figures["kept"]:  # `load_dataset` raises for an empty dataset
        literal = json.dumps(url, ensure_ascii=False)
        if "://" not in url:
            yield _python(f"import datasets; print(datasets.load_dataset({literal}))")
        yield _python(
            f'import duckdb, factory; paths = factory.open_run({literal}).paths("transcripts"); '
            'duckdb.read_parquet(paths).aggregate("variant, count(*), avg(characters_kept)").show()'
        )


def _python(program: str) -> str:
    return f"python -c {shlex.quote(program)}"


def short(url: str) -> str:
    """A folder below the working directory by its relative path; anything else as it is."""
    here = Path.cwd()
    path = Path(url)
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) and path != here else url
