"""100,000 runs in a row, a hostile program in every tenth: nothing leaks, nothing grows, and every attack is held.

What is seen goes to `tests/bench/results/sandbox_soak.json`. The short form is part of every test run.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from sandboxes.base import Call, JudgedOutcome, Limits, Program, Sandbox
from sandboxes.cgroups import PREFIX, find_parents
from sandboxes.conformance.cases import Case
from sandboxes.conformance.host import Host, planted
from sandboxes.conformance.programs import ATTACKS
from sandboxes.plain import same
from sandboxes.pool import Options, Pool
from sandboxes.processes import children, descendants
from tests.sandboxed import ROOT, started

RESULTS = ROOT / "tests" / "bench" / "results" / "sandbox_soak.json"
TASKS = 4
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class State:
    """What could leak, at one moment between runs."""

    runs: int
    processes: int
    files: int
    """Descriptors of this process, the broker and the fork servers."""
    mounts: int
    """Of this process and of the fork servers."""
    groups: int
    temporary: int
    """Files and folders in the temporary folder."""
    resident_mib: dict[str, float]
    """By kind of process."""

    @property
    def counts(self) -> tuple[int, ...]:
        return self.processes, self.files, self.mounts, self.groups, self.temporary


@dataclass
class Figures:
    """What a soak came to."""

    backend: str = ""
    seconds: float = 0.0
    runs: dict[str, int] = field(default_factory=dict)
    attacks: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)


def look(runs: int, others: set[int]) -> State:
    """`others`: processes below this one that were there before the sandbox."""
    me = os.getpid()
    (broker,) = [pid for pid in set(children(me)) - others if b"sandboxes.broker" in _command(pid)]
    servers = descendants([broker])
    return State(
        runs=runs,
        processes=1 + len(servers),
        files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in [broker, *servers]),
        mounts=sum(len(Path(f"/proc/{pid}/mounts").read_bytes().splitlines()) for pid in [me, *servers]),
        groups=_groups(),
        temporary=len(list(Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"))),
        resident_mib={
            "asking": _mib(me),
            "broker": _mib(broker),
            "fork server, the largest": max(map(_mib, servers)),
        },
    )


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def below() -> set[int]:
    """Processes below this one."""
    return set(descendants([os.getpid()]))


def _groups() -> int:
    parents = find_parents()
    return 0 if parents is None else sum(len(list(folder.glob(f"{PREFIX}-*"))) for folder in parents._folders)


def _mib(pid: int) -> float:
    return round(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20, 1)


async def honest(sandbox: Sandbox, number: int) -> str | None:
    """One run of each way to ask, in turn; what went wrong."""
    match number % 3:
        case 0:
            result = await sandbox.run(Program(f"print({number} * 2)"), Limits())
            return None if result.stdout == b"%d\n" % (number * 2) else f"run: {result}"
        case 1:
            found = await sandbox.call(Program("def f(n): return [n, str(n)]"), "f", [Call((number,))])
            value = found.returned[0].value
            return None if same(value, [number, str(number)]) else f"call: {found}"
        case _:
            judged = await sandbox.judge(
                Program("def f(n): return n + 1"), f"assert f({number}) == {number + 1}", ["f"]
            )
            return None if judged.outcome is JudgedOutcome.PASSED else f"judge: {judged}"


def add(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


async def soak(
    pool: Pool,
    host: Host,
    runs: int,
    attacks: list[Case],
    figures: Figures,
    look_at: Callable[[int], State],
    every: int,
) -> None:
    """So many runs by several tasks, with a look between parts of `every`."""
    numbers = count()

    async def task(mine: Iterator[int]) -> None:
        for number in mine:
            if number % 10:
                wrong, kind = await honest(pool, number), ("run", "call", "judge")[number % 3]
            else:
                case = attacks[number // 10 % len(attacks)]
                wrong, kind = await case.ask(pool, host), "attack"
                add(figures.attacks, f"{case.claim}: {case.name}")
            add(figures.runs, kind)
            if wrong is not None:
                figures.wrong.append(f"{number}: {wrong[:300]}")

    for done in range(every, runs + 1, every):
        part = islice(numbers, every)
        await asyncio.gather(*(task(part) for _ in range(TASKS)))
        figures.states.append(look_at(done))


async def endure(backend: str, runs: int, attacks: list[Case], every: int) -> Figures:
    figures = Figures(backend)
    start = time.monotonic()
    before = below()
    with planted() as host:
        others = below()
        pool = await started(backend, Options())
        await asyncio.gather(*(honest(pool, number) for number in range(12)))  # starts the fork servers for tests
        figures.states.append(look(0, others))
        await soak(pool, host, runs, attacks, figures, lambda done: look(done, others), every)
        await pool.close()
        touched = host.touched()
    figures.seconds = round(time.monotonic() - start, 1)
    assert touched is None, touched
    assert not below() - before, "processes are left"
    return figures


def whole(figures: Figures) -> None:
    """Nothing went wrong, leaked or grew."""
    assert figures.wrong == []
    first, last = figures.states[0], figures.states[-1]
    assert last.counts == first.counts, (first, last)
    # Allocators settle within the first part; from then on memory may not grow.
    settled = figures.states[1]
    for kind, mib in last.resident_mib.items():
        assert mib <= settled.resident_mib[kind] + 8, (kind, figures.states)


QUICK = [
    case for case in ATTACKS if case.name in {"zombies", "daemon", "big files", "sockets", "crash", "raised limits"}
]


@pytest.mark.parametrize("backend", ["zygote", "landlock"])
async def test_a_thousand_runs_leave_nothing(backend: str) -> None:
    figures = await endure(backend, 1000, QUICK, every=250)
    json.dumps(_told(figures))
    whole(figures)


@pytest.mark.soak
async def test_a_hundred_thousand_runs_leave_nothing() -> None:
    figures = await endure("zygote", 100_000, ATTACKS, every=5000)
    RESULTS.write_text(json.dumps(_told(figures), indent=2) + "\n")
    whole(figures)


def _told(figures: Figures) -> dict[str, Any]:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    return {"machine": machine, "python": platform.python_version(), **asdict(figures)}
