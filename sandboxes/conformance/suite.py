"""Tries every attack of the claims that a backend makes, one after the other, and looks at the host after each."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sandboxes.base import Program, Sandbox, SandboxError
from sandboxes.conformance.cases import QUICK, Case, told
from sandboxes.conformance.claims import CLAIMS, Claim
from sandboxes.conformance.host import Host
from sandboxes.conformance.programs import ATTACKS
from sandboxes.conformance.protocol import PROTOCOL
from sandboxes.processes import descendants

CASES: tuple[Case, ...] = (*PROTOCOL, *ATTACKS)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one attack."""

    claim: Claim
    name: str
    must: str
    """What had to happen."""
    wrong: str | None
    """What happened instead; None where it was held."""
    seconds: float


def cases_for(backend: str) -> list[Case]:
    """What a backend has to hold against."""
    return [case for case in CASES if case.claim in CLAIMS[backend]]


async def check(sandbox: Sandbox, host: Host) -> AsyncIterator[Finding]:
    """A finding for each case, as soon as it is there. The sandbox should have one slot: what an attack leaves is
    looked for in the run after it."""
    await _warm_up(sandbox)
    for case in cases_for(sandbox.isolation.backend):
        start = time.monotonic()
        wrong = await _try(case, sandbox, host)
        yield Finding(case.claim, case.name, case.must, wrong, time.monotonic() - start)


async def _try(case: Case, sandbox: Sandbox, host: Host) -> str | None:
    before = len(descendants([os.getpid()]))
    try:
        wrong = await case.ask(sandbox, host)
    except SandboxError as error:
        wrong = f"refused: {error}"
    left = len(descendants([os.getpid()])) - before
    if left > 0:
        wrong = wrong or f"{left} processes are left"
    return wrong or host.touched() or await _works_on(sandbox)


async def _warm_up(sandbox: Sandbox) -> None:
    """Start whatever a sandbox starts only when it is needed, so that it is not taken for something left."""
    if Claim.JUDGE in CLAIMS[sandbox.isolation.backend]:
        await sandbox.judge(Program("def f(): pass"), "f()", ["f"], QUICK)


async def _works_on(sandbox: Sandbox) -> str | None:
    result = await sandbox.run(Program("print('works')"), QUICK)
    return None if result.stdout == b"works\n" else f"the next run: {told(result)}"
