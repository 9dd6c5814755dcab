"""`factory check`: what `factory.check` found, printed; exit status 0 for a clean run, 1 for one with errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from factory.check import Report
from factory.check import check as examine
from pipelines.report import console, one_line, print_json


def check(url: str, *, as_json: bool) -> int:
    """Check a run and print the findings. Raises StorageError for a folder that is no run."""
    report = examine(url)
    if as_json:
        print_json({"url": url, "ok": report.ok} | asdict(report))
    else:
        _print(url, report)
    return 0 if report.ok else 1


def _print(url: str, report: Report) -> None:
    out = console()
    if report.counts:
        out.print(_counts(report))
    for line in _findings(report):
        out.print(line, soft_wrap=True)
    number = len(report.errors)
    found = "clean" if report.ok else f"{number:,} error{'' if number == 1 else 's'}"
    out.print(Text(f"{one_line(url)}: {found}", style="green" if report.ok else "bold red"), soft_wrap=True)


def _findings(report: Report) -> Iterator[Text]:
    for kind, style, lines in (("error", "bold red", report.errors), ("note", "yellow", report.notes)):
        for line in lines:
            yield Text.assemble((f"{kind}: ", style), one_line(line, 1000))


def _counts(report: Report) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("table", no_wrap=True)
    names = ("shards", "rows", "bytes", "orphans")
    for name in names:
        table.add_column(name, justify="right")
    for kind, counts in report.counts.items():
        table.add_row(kind, *(f"{counts[name]:,}" for name in names))
    return table
