"""`factory sandbox check`: attacks the sandboxes of this machine, and tells which of them hold.

Every backend is tried with everything that it promises (`sandboxes/README.md`), one slot each. Exit status: 0 if what
was asked for is there and holds, 1 if anything got out, 2 if it is not to be had.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console
from rich.text import Text

from factory.errors import UserError
from pipelines.report import console, one_line, print_json
from sandboxes.base import Isolation, SandboxError
from sandboxes.choose import BACKENDS, choose
from sandboxes.conformance.host import Host, planted
from sandboxes.conformance.suite import Finding, check
from sandboxes.pool import Options

LOCAL = ("zygote", "landlock", "bubblewrap")
"""What `all` stands for: every backend of this machine that isolates."""


@dataclass(slots=True)
class Report:
    """What became of one backend."""

    backend: str
    isolation: Isolation | None = None
    refused: str | None = None
    """Why this machine cannot have it."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[Finding]:
        return [one for one in self.findings if one.wrong is not None]


def check_sandboxes(backend: str, *, url: str, token_variable: str | None, as_json: bool) -> int:
    """Check one backend, the one that `auto` takes, or `all`."""
    if backend not in {"all", "auto", *BACKENDS}:
        raise UserError(f"there is no backend {backend!r}: use all, auto, {', '.join(BACKENDS)}")
    names = LOCAL if backend == "all" else (backend,)
    reports = asyncio.run(_check(names, url, token_variable, None if as_json else console()))
    if as_json:
        print_json([_told(one) for one in reports])
    if any(one.wrong for one in reports):
        return 1
    if all(one.refused for one in reports):
        raise UserError("no sandbox: " + "; ".join(f"{one.backend}: {one.refused}" for one in reports))
    return 0


async def _check(names: Sequence[str], url: str, token_variable: str | None, out: Console | None) -> list[Report]:
    reports = []
    with planted() as host:
        for name in names:
            report = await _check_one(name, host, url, token_variable)
            reports.append(report)
            if out is not None:
                _print(out, report)
    return reports


async def _check_one(name: str, host: Host, url: str, token_variable: str | None) -> Report:
    report = Report(name)
    try:
        chosen = await choose(
            name, options=Options(slots=1), unsafe=name == "none", url=url, token_variable=token_variable
        )
    except SandboxError as error:
        report.refused = str(error)
        return report
    report.isolation = chosen.sandbox.isolation
    try:
        async for finding in check(chosen.sandbox, host):
            report.findings.append(finding)
    finally:
        await chosen.sandbox.close()
    return report


def _print(out: Console, report: Report) -> None:
    if report.isolation is None:
        text = Text.assemble((report.backend, "bold"), ("  not here: ", "yellow"), report.refused or "")
        out.print(text, soft_wrap=True)
        return
    out.print(Text(str(report.isolation), style="bold"))
    held = Counter(one.claim for one in report.findings if one.wrong is None)
    tried = Counter(one.claim for one in report.findings)
    for claim in tried:
        style = "green" if held[claim] == tried[claim] else "bold red"
        out.print(Text.assemble(f"  {claim:13} ", (f"{held[claim]} of {tried[claim]}", style)))
    for one in report.wrong:
        said = one_line(f"{one.claim}, {one.name}: must be: {one.must}; was: {one.wrong}", 500)
        out.print(Text(f"  {said}", style="bold red"), soft_wrap=True)


def _told(report: Report) -> dict[str, object]:
    return {
        "backend": report.backend,
        "isolation": asdict(report.isolation) if report.isolation is not None else None,
        "refused": report.refused,
        "findings": [asdict(one) for one in report.findings],
    }
