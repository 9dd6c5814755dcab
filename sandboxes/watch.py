"""Looks at a run from time to time, and has it ended where it goes too far."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from sandboxes.base import Limits
from sandboxes.processes import descendants
from sandboxes.servers import Server

LOOK_SECONDS = 0.04
"""How often a run that lasts is looked at: its output, and its memory where no group limits it."""
GRACE_SECONDS = 2.0
"""What a fork server has for ending a run, once it is told to, before it is held for dead."""


class Watch:
    """Of one run: its output, memory, files and time. A run that ends soon is not looked at."""

    def __init__(self, server: Server, run: int, limits: Limits, outputs: Sequence[int]) -> None:
        self._server = server
        self._run = run
        self._limits = limits
        self._outputs = outputs
        self._start = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.starved = False

    def __enter__(self) -> None:
        self._start = time.monotonic()
        self._again()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self, why: str) -> None:
        self._server.end_run(self._run, why)

    def _again(self) -> None:
        left = self._start + self._limits.wall_seconds - time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, min(LOOK_SECONDS, left)), self._look)

    def _look(self) -> None:
        reason = self._reason()
        if reason is None:
            self._again()
            return
        self.stop(reason)
        self._timer = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._server.kill)

    def _reason(self) -> str | None:
        if any(os.fstat(one).st_size > self._limits.output_bytes for one in self._outputs):
            return "output"
        if self._server.group is None and self._memory() > self._limits.memory_bytes:
            return "memory"
        if self._server.spec.folder and self._too_much_in_files():
            return "files"
        if time.monotonic() - self._start >= self._limits.wall_seconds:
            self.starved = self._waited_for_processor()
            return "wall"
        return None

    def _pids(self) -> list[int]:
        return [self._server.pid] if self._server.pid is not None else []

    def _memory(self) -> int:
        """Bytes of all its processes beyond what each has from the fork server, and of its output."""
        page = os.sysconf("SC_PAGE_SIZE")
        total = sum(os.fstat(one).st_blocks * 512 for one in self._outputs)
        resting = sum(map(_resident, self._pids()))
        for pid in descendants(self._pids()):
            total += max(0, _resident(pid) - resting) * page
        return total

    def _too_much_in_files(self) -> bool:
        size = count = 0
        folders = [Path(self._server.spec.folder)]
        while folders:
            try:
                entries = list(os.scandir(folders.pop()))
            except OSError:
                continue  # removed meanwhile, or closed to us
            for entry in entries:
                try:
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                except OSError:
                    continue  # removed meanwhile
                count += 1
            if size > self._limits.file_bytes or count > self._limits.files + 1:
                return True
        return False

    def _waited_for_processor(self) -> bool:
        """Whether it lacked processor time rather than that it slept: it waited in the queue for a quarter of its
        time."""
        waited = sum(_queued(pid) for pid in descendants(self._pids()))
        return waited > self._limits.wall_seconds / 4


def _resident(pid: int) -> int:
    """Pages in memory; 0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0


def _queued(pid: int) -> float:
    """Seconds that a process was ready to run and did not."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
