"""Ends what a driver leaves of the Ray that it started on its machine, above all when it is killed.

A process of its own, started by `factory.cluster` before that Ray. Its standard input is a pipe whose other end only
the driver holds: when that ends, the driver has left Ray or is dead, and what Ray still runs for it has `GRACE_SECONDS`
to end by itself before it is killed. Most of it ends at once; Ray's agents would try for a minute to report the death
to a server that died with the driver.

Ray's processes are known by their logs: each holds a file open in the folder of its session, whose name ends with the
driver's process id. (Their environment would not tell: they write their titles over it.)

It is started by its path, without site packages, and so knows the standard library only.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_SECONDS = 2.0
KILL_SECONDS = 15.0
"""How long it goes on to look for processes: one that was just starting may come to light late."""
LOOK_SECONDS = 0.25


def guard(driver: int) -> None:
    """Wait for the end of the driver, by its process id."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the driver, whose end is awaited here
    sys.stdin.read()
    start = time.monotonic()
    while (left := list(of_session(driver))) and (waited := time.monotonic() - start) < KILL_SECONDS:
        if waited > GRACE_SECONDS:
            for pid in left:
                _kill(pid)
        time.sleep(LOOK_SECONDS)


def of_session(driver: int) -> Iterator[int]:
    """Living processes of the Ray that a driver started, as far as this user may know; never the driver itself."""
    logs = re.compile(rf"/session_[-\w]+_{driver}/")
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == driver:
            continue
        if _is_rays(process) and any(map(logs.search, _open_files(process))):
            yield int(process.name)


def _is_rays(process: Path) -> bool:
    """Whether it runs Ray's binaries or this interpreter: somebody's `tail` of a log does not."""
    program = _target(process / "exe")
    return "/ray/core/" in program or program == _target(Path("/proc/self/exe"))


def _open_files(process: Path) -> list[str]:
    """Empty for a process that has ended, or is another user's."""
    try:
        return [_target(file) for file in (process / "fd").iterdir()]
    except OSError:
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended just now


if __name__ == "__main__":
    guard(int(sys.argv[1]))
