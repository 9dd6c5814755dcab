"""How a run ended: from what a fork server reports, to what the sandbox says of it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from typing import Any

from sandboxes.base import Ending, Limits

_LAST_SIGNAL = 31
"""Above it are real-time signals, which end fewer programs than there are exit statuses of their own up there."""


@dataclass(slots=True)
class Run:
    """What one process of a program came to."""

    ending: Ending
    code: int | None = None
    signal: int | None = None
    detail: str = ""
    cpu: float = 0.0
    wall: float = 0.0
    starved: bool = False
    """It was over its time while it waited for a processor, so another try may end otherwise."""
    stdout: bytes = b""
    stderr: bytes = b""
    results: bytes = b""

    def header(self) -> dict[str, Any]:
        texts = ("stdout", "stderr", "results")
        return {name: getattr(self, name) for name in self.__slots__ if name not in texts}


def ending_of(
    report: dict[str, Any], limits: Limits, *, kills: int, written: int, kills_itself: bool = False
) -> tuple[Ending, str]:
    """How a run ended, and in a line why. `kills`: how often memory ran out; `written`: bytes of its longest output;
    `kills_itself`: whether the program can send itself SIGKILL, which it cannot behind a fork server's own walls."""
    if report["trouble"] is not None:
        return Ending.TROUBLE, report["trouble"]
    by = _BY_REASON.get(report["stopped"])
    if by is not None:
        return by
    status = report["status"]
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if written > limits.output_bytes:
        return _BY_REASON["output"]
    if not number:
        return Ending.EXITED, ""
    if number == signal.SIGKILL and kills:
        return _BY_REASON["memory"]
    if number in {signal.SIGKILL, signal.SIGXCPU} and report["cpu"] >= limits.cpu_seconds:
        return _BY_REASON["cpu"]
    if number == signal.SIGKILL and not kills_itself:
        return Ending.TROUBLE, "it was killed from outside"
    return Ending.SIGNALED, _signal_name(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"


_BY_REASON: dict[str | None, tuple[Ending, str]] = {
    "cpu": (Ending.CPU_LIMIT, "processor time used up"),
    "wall": (Ending.WALL_LIMIT, "time over"),
    "memory": (Ending.MEMORY_LIMIT, "memory used up"),
    "output": (Ending.OUTPUT_LIMIT, "more output than allowed"),
    "files": (Ending.OUTPUT_LIMIT, "more in files than allowed"),
    "dismissed": (Ending.EXITED, "ended when the tests had"),
}


def tell_inner_status(report: dict[str, Any]) -> bool:
    """Bubblewrap exits, as a shell does, with 128 and the number of the signal that ended what it ran: whether it did.
    The report then has that signal."""
    code = os.WEXITSTATUS(report["status"]) if os.WIFEXITED(report["status"]) else 0
    if not 1 <= code - 128 <= _LAST_SIGNAL:
        return False
    report["status"] = code - 128
    return True


def bubblewrap_result(run: Run, *, compiled: bool) -> Run:
    """What bubblewrap's own words make of a run: it says whether a program was started at all."""
    if run.ending not in {Ending.EXITED, Ending.SIGNALED}:
        return run
    if b'"child-pid"' not in run.results:
        said = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return replace(run, ending=Ending.TROUBLE, detail=f"bubblewrap could not start it: {said}"[:300])
    return run if compiled else replace(run, ending=Ending.BUILD_FAILED, code=None, signal=None)
