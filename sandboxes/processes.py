"""Processes below another, and how to end them all where no namespace or user of their own marks them.

Imported by fork servers: see `walls` for why it imports so little.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

STOP_SECONDS = 0.2
"""How long to wait for processes to stop. One may never (it waits in the kernel for a child that is stopped): callers
look again once all that were found are dead."""
_STILL = {b"T", b"t", b"Z", b"X"}


def children(pid: int) -> list[int]:
    """Of any of its threads; dead ones too until their parent asks for them. None where it has ended itself."""
    return [int(child) for text in _of_threads(pid, "children") for child in text.split()]


def _of_threads(pid: int, name: str) -> list[bytes]:
    """A file of each of its threads; without those that have ended meanwhile."""
    found: list[bytes] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/{name}", "rb") as file:
                found.append(file.read())
        except OSError:
            pass
    return found


def descendants(pids: Iterable[int]) -> list[int]:
    """Processes below some, those themselves left out."""
    found: list[int] = []
    todo = list(pids)
    while todo:
        below = children(todo.pop())
        found += below
        todo += below
    return found


def kill_all(find: Callable[[], Iterable[int]]) -> None:
    """Kill what `find` finds, whatever it forks meanwhile: all are stopped first, and what is stopped cannot fork but
    still counts against the limit on how many there may be. A fork that is under way ends first, so a look counts only
    once all that were found before have come to a stop."""
    stopped: set[int] = set()
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        still = all(map(_is_still, stopped)) or time.monotonic() > deadline
        new = set(find()) - stopped
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
        if still and not new:
            break
        time.sleep(0 if new else 0.001)
    for pid in stopped:
        _send(pid, signal.SIGKILL)


def _is_still(pid: int) -> bool:
    """Whether no thread of it runs: stopped, dead, or gone."""
    return all(text.rpartition(b")")[2].split()[0] in _STILL for text in _of_threads(pid, "stat"))


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended
