"""Processes below another, and how to end them all where no namespace or user of their own marks them.

Imported by fork servers: see `walls` for why it imports so little.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable


def children(pid: int) -> list[int]:
    """Of any of its threads; dead ones too until their parent asks for them. None where it has ended itself."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended meanwhile
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
    still counts against the limit on how many there may be."""
    stopped: set[int] = set()
    while new := set(find()) - stopped:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended
