"""One attack, and how it is tried: what a case asks of a sandbox, and what counts as held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from textwrap import dedent
from typing import Any

from sandboxes.base import MIB, Ending, Limits, Program, RunResult, Sandbox
from sandboxes.conformance.claims import Claim
from sandboxes.conformance.host import Host

QUICK = Limits(
    cpu_seconds=2.0,
    wall_seconds=20.0,
    memory_bytes=256 * MIB,
    processes=24,
    output_bytes=256 * 1024,
    file_bytes=16 * MIB,
    files=200,
)
"""What an attack may use: little, so that those which use it all are soon over. But for time, which is a net: on a busy
machine, what is to be ended by its processor time must have the time to use it."""

Ask = Callable[[Sandbox, Host], Awaitable[str | None]]
"""Tries one thing; None where it was held, else what went wrong."""


@dataclass(frozen=True, slots=True)
class Case:
    """One attack, or one thing that must work."""

    name: str
    claim: Claim
    must: str
    """What must happen, in one line."""
    ask: Ask


PRELUDE = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def escape(*words): print("ESCAPE", *words, flush=True)
def attempt(name, action):
    try: got = action()
    except (OSError, ValueError, RuntimeError, MemoryError): return
    escape(name, repr(got)[:100])
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return result, ctypes.get_errno()
"""
"""Before each attack: `attempt` says ESCAPE where something works that must not."""


def attack(
    name: str,
    claim: Claim,
    must: str,
    source: str,
    *endings: Ending,
    **limits: Any,
) -> Case:
    """A program that prints ESCAPE where it gets out, and `held` at its end. It may be ended in the ways of `endings`
    instead (and in no other, so that an attack which fails by a mistake of its own is seen); `limits` replace those of
    QUICK. The program knows what was planted as `HOST`, with `processes` and `most_mib`: three times its memory, since
    where memory is only looked at from time to time, a run may have more for a moment."""
    chosen = replace(QUICK, **limits)

    async def ask(sandbox: Sandbox, host: Host) -> str | None:
        told = host.told | {"most_mib": 3 * chosen.memory_bytes // MIB, "processes": chosen.processes + 2}
        program = Program(f"HOST = {told!r}\n{PRELUDE}{dedent(source)}")
        return verdict(await sandbox.run(program, chosen), host, endings)

    return Case(name, claim, must, ask)


def verdict(result: RunResult, host: Host, endings: tuple[Ending, ...]) -> str | None:
    """What went wrong in an attack, or None."""
    output = result.stdout + result.stderr
    if b"ESCAPE" in output:
        line = next(line for line in output.splitlines() if b"ESCAPE" in line)
        return line.decode(errors="replace")
    if host.secret in output:
        return "what was planted came out"
    if result.ending in endings:
        return None
    if result.ending is Ending.EXITED and b"held" in result.stdout:
        return None
    return f"ended by {told(result)}"


def told(result: RunResult) -> str:
    """How a run ended, with the last of what it said."""
    last = (result.stderr or result.stdout).decode(errors="replace").strip().rpartition("\n")[2]
    number = "" if result.exit_code is None else f" {result.exit_code}"
    return f"{result.ending}{number} {result.detail or last}".strip()
