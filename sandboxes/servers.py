"""The broker's side of a fork server: start it, give it one run at a time, notice its death."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandboxes.base import SandboxError
from sandboxes.cgroups import Cgroup
from sandboxes.forkserver import Order

ROOT = str(Path(__file__).resolve().parents[1])
_START = (
    "import sys; sys.path.insert(0, sys.argv[2]); from sandboxes import hooks; hooks.hold(); "
    "from sandboxes.forkserver import main; main()"
)
START_SECONDS = 60.0
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    # Libraries that start threads when they are imported would keep the fork server from forking safely.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def remove(folder: str) -> None:
    """A folder with whatever a program has put there, however deep; nothing happens where it is gone already."""
    subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)


class ServerDied(Exception):
    """The fork server has ended, and the run with it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a fork server is started with; see `forkserver.main`."""

    backend: str
    folder: str
    """Its own, on the host; for walls without a file system of their own."""
    user: int | None
    """Whom its programs are to be, where this process may choose (root)."""
    python: str
    """The interpreter that is executed, without the environment that it may be part of."""
    readable: list[str]
    modules: list[str]
    paths: list[str] = field(default_factory=list)
    """Added to where programs import from; also in `readable`."""
    root: str = ROOT


class Server:
    """One fork server. One run at a time."""

    def __init__(self, spec: Spec, group: Cgroup | None) -> None:
        self.spec = spec
        self.group = group
        self.addresses = 0
        """Bytes of address space that each of its children starts with."""
        self.resting = 0
        """Bytes of memory that its group uses while nothing runs."""
        self.stopped = False
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None before it is started and once it is stopped."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None and self._line is not None

    async def start(self) -> None:
        """Raises SandboxError with its reason where it refuses."""
        if self.spec.folder:
            Path(self.spec.folder).mkdir(mode=0o711, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._line: socket.socket | None = ours
        with theirs:
            program = [self.spec.python, "-I", "-S", "-X", "utf8", "-c", _START]
            arguments = [json.dumps(asdict(self.spec)), ROOT]
            self._process = subprocess.Popen(
                [*program, *arguments], stdin=theirs.fileno(), env=ENVIRONMENT, close_fds=True
            )
        if self.group is not None:
            self.group.add(self._process.pid)
        asyncio.get_running_loop().add_reader(ours, self._read)
        try:
            hello = await asyncio.wait_for(self._next(), START_SECONDS)
        except (ServerDied, TimeoutError):
            await self.stop()
            raise SandboxError("its fork server ended before it was ready") from None
        if "refused" in hello:
            await self.stop()
            raise SandboxError(hello["refused"])
        self.addresses = hello["ready"]
        if self.group is not None:
            self.resting = self.group.usage()

    def _next(self) -> asyncio.Future[dict[str, Any]]:
        self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def _read(self) -> None:
        assert self._line is not None
        try:
            packet = self._line.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        if not packet:
            self._hang_up()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            if packet:
                answer.set_result(json.loads(packet))
            else:
                answer.set_exception(ServerDied())

    async def run(self, order: Order, descriptors: list[int]) -> dict[str, Any]:
        """The report. Raises ServerDied."""
        if self._line is None:
            raise ServerDied
        answer = self._next()
        try:
            socket.send_fds(self._line, [json.dumps(order._asdict()).encode()], descriptors)
        except OSError:
            self._hang_up()
            raise ServerDied from None
        return await answer

    def end_run(self, run: int, why: str) -> None:
        """Have a run killed, if it is still there."""
        if self._line is not None:
            try:
                self._line.send(json.dumps({"kill": run, "why": why}).encode())
            except OSError:
                pass  # it has died, which `run` hears of

    def _hang_up(self) -> None:
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line)
            self._line.close()
            self._line = None

    async def stop(self) -> None:
        """End it and everything that it started; take its folder and its group away."""
        self._hang_up()  # it ends by itself, after its run's processes
        if self._process is not None:
            try:
                await asyncio.to_thread(self._process.wait, 2.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
            self._process = None
        self.stopped = True
        if self.group is not None:
            await asyncio.to_thread(self.group.remove)
        if self.spec.folder:
            await asyncio.to_thread(remove, self.spec.folder)

    def kill(self) -> None:
        """At once. `run` and `stop` then find it dead."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, 9)
