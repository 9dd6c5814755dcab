"""The broker: a process of its own beside each worker, which runs what the worker asks for and answers with what was.

Executed, not forked: workers have threads. It speaks `frames` on standard input and output; when its input ends, or it
does, so do its fork servers, and with them every program. What programs write goes into memory files that it reads once
all processes of a run are dead.

A slot is what one run occupies: a fork server for programs, and one for tests and one for pytest's once they are asked
for. In no process that runs a program's code is there ever a test or an expected answer.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from sandboxes import bubblewrap, frames, linux, streams
from sandboxes.base import Ending, Language, Limits, Memory, SandboxError
from sandboxes.endings import Run, bubblewrap_result, ending_of, tell_inner_status
from sandboxes.forkserver import Order
from sandboxes.places import Place, Settings
from sandboxes.servers import Server, ServerDied
from sandboxes.watch import GRACE_SECONDS, Watch

_OWN_PROCESSES = 8
"""What a control group has room for beside a program's processes: the fork server's, and what ends a run."""
_BOUNDED = {"zygote", "landlock"}
"""Backends whose processes have a limit on addresses; JavaScript's engines reserve far more than they use."""


class Slot:
    """Where one run happens."""

    def __init__(self, settings: Settings, number: int, place: Place) -> None:
        self._settings = settings
        self._number = number
        self._place = place
        self._servers: dict[str, Server] = {}
        self._runs = itertools.count()

    async def server(self, role: str) -> Server:
        """The living fork server of one of the `ROLES`."""
        server = self._servers.get(role)
        if server is not None and server.alive:
            return server
        if server is not None:
            await server.stop()
            self._place.kill_orphans()
        server = self._servers[role] = self._place.server(self._settings, self._number, role)
        await server.start()
        return server

    async def stop(self) -> None:
        for server in self._servers.values():
            await server.stop()

    async def run(
        self,
        mode: str,
        work: bytes,
        limits: Limits,
        *,
        role: str = "program",
        stdin: bytes = b"",
        lines: Sequence[int] = (),
        keep: Callable[[Callable[[str], None]], None] | None = None,
    ) -> Run:
        """One process, from its start to its end. `lines` are descriptors for it alone; `keep` is given a way to end
        it."""
        try:
            server = await self.server(role)
        except (SandboxError, OSError) as error:  # whoever asked must be answered
            return Run(Ending.TROUBLE, detail=f"no fork server: {error}")
        files = [_memory_file(one) for one in (work, stdin, b"", b"", b"")]
        for output in files[2:4]:
            fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)  # else two processes may write to the same place
        takes_results = mode not in {"run", "serve"}
        watched = files[2:] if takes_results else files[2:4]
        number = next(self._runs)
        watch = Watch(server, number, limits, watched)
        if keep is not None:
            keep(watch.stop)
        try:
            kills_before = self._limit(server, limits)
            private = [*([files[4]] if takes_results else []), *lines]
            order = self._order(server, number, mode, len(work), len(private), limits)
            with watch:
                report = await server.run(order, [*private, *files[:4]])
            kills = server.group.kills() - kills_before if server.group is not None else 0
            inside = mode == "execute" and tell_inner_status(report)
            told = ending_of(report, limits, kills=kills, written=_longest(files), kills_itself=inside)
            return _run_of(report, told, limits, files, watch, takes_results=takes_results)
        except (ServerDied, OSError) as error:
            server.kill()
            why = "died" if isinstance(error, ServerDied) else f"does not work: {type(error).__name__} {error}".strip()
            return Run(Ending.TROUBLE, detail=f"its fork server {why}")
        finally:
            for descriptor in files:
                os.close(descriptor)

    @staticmethod
    def _limit(server: Server, limits: Limits) -> int:
        """Set what the group may use; how often memory has run out in it so far."""
        if server.group is None:
            return 0
        server.group.limit(server.resting + limits.memory_bytes, limits.processes + _OWN_PROCESSES)
        return server.group.kills()

    def _order(self, server: Server, number: int, mode: str, length: int, private: int, limits: Limits) -> Order:
        return Order(
            run=number,
            mode=mode,
            length=length,
            private=private,
            cpu=limits.cpu_seconds,
            address=server.addresses + limits.memory_bytes if self._settings.backend in _BOUNDED else None,
            wall=limits.wall_seconds + 1.0,
            processes=limits.processes,
            file=max(limits.file_bytes, limits.output_bytes + 1),
            box=[limits.file_bytes, limits.files],
        )


def _longest(files: list[int]) -> int:
    return max(os.fstat(one).st_size for one in files[2:])


def _run_of(
    report: dict[str, Any],
    told: tuple[Ending, str],
    limits: Limits,
    files: list[int],
    watch: Watch,
    *,
    takes_results: bool,
) -> Run:
    ending, detail = told
    status = report["status"]
    return Run(
        ending,
        code=os.WEXITSTATUS(status) if ending is Ending.EXITED and os.WIFEXITED(status) else None,
        signal=os.WTERMSIG(status) if ending is Ending.SIGNALED else None,
        detail=detail,
        cpu=report["cpu"],
        wall=report["wall"],
        starved=watch.starved,
        stdout=os.pread(files[2], limits.output_bytes, 0),
        stderr=os.pread(files[3], limits.output_bytes, 0),
        results=os.pread(files[4], limits.output_bytes, 0) if takes_results else b"",
    )


def _memory_file(content: bytes) -> int:
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC)
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)
    return descriptor


class Broker:
    """Takes requests, runs each in a free slot, answers."""

    def __init__(self, settings: Settings, answer: Callable[[bytes], None]) -> None:
        self._place = Place()
        self._answer = answer
        self._settings = settings
        self._slots = [Slot(settings, number, self._place) for number in range(settings.slots)]
        self._free: asyncio.Queue[Slot] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start every slot and try each; raises SandboxError, with the reason, where one cannot run a program."""
        try:
            await asyncio.gather(*(self._try(slot) for slot in self._slots))
        except SandboxError:
            await self.stop()
            raise
        for slot in self._slots:
            self._free.put_nowait(slot)

    async def _try(self, slot: Slot) -> None:
        await slot.server("program")
        source = b"import colorsys; print('ready')"  # a module that is not loaded yet: the library must be readable
        run = await self._run(slot, "run", {"files": [], "language": Language.PYTHON}, [b"", source], Limits())
        if run.stdout != b"ready\n":
            raise SandboxError(f"a first program did not run: {run.detail or run.stderr.decode(errors='replace')}")

    @property
    def memory(self) -> Memory:
        return self._place.memory

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(slot.stop() for slot in self._slots))
        self._place.kill_orphans()
        self._place.clear()

    def take(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        task = asyncio.create_task(self._do(header, blobs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, header: dict[str, Any], blobs: list[bytes]) -> None:
        limits = Limits(**header["limits"])
        async with self._slot() as slot:
            if header["do"] == "judge":
                runs = await self._judge(slot, header, blobs, limits)
            else:
                runs = [await self._run(slot, header["do"], header["work"], blobs, limits)]
        texts = [text for run in runs for text in (run.stdout, run.stderr, run.results)]
        self._answer(frames.pack({"id": header["id"], "runs": [run.header() for run in runs]}, texts))

    async def _run(self, slot: Slot, mode: str, work: dict[str, Any], blobs: list[bytes], limits: Limits) -> Run:
        stdin, *texts = blobs
        if self._settings.backend != "bubblewrap":
            return await slot.run(mode, frames.pack(work, texts), limits, stdin=stdin)
        work, texts = bubblewrap.handed_over(work, texts, limits, self._settings.paths)
        mark = _memory_file(b"")
        try:
            run = await slot.run("execute", frames.pack(work, texts), limits, stdin=stdin, lines=[mark])
            return bubblewrap_result(run, compiled=not os.fstat(mark).st_size)
        finally:
            os.close(mark)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[Slot]:
        slot = await self._free.get()
        try:
            yield slot
        finally:
            self._free.put_nowait(slot)

    async def _judge(self, slot: Slot, header: dict[str, Any], blobs: list[bytes], limits: Limits) -> list[Run]:
        """The program and its tests, each in its own jail, with a line between them."""
        tests, *program = blobs
        ours, theirs = socket.socketpair()
        stop: list[Callable[[str], None]] = []
        served = asyncio.create_task(
            slot.run("serve", frames.pack(header["work"], program), limits, lines=[ours.fileno()], keep=stop.append)
        )
        # The tests outlast the program: they are there to hear that it has ended.
        longer = Limits(**(asdict(limits) | {"wall_seconds": limits.wall_seconds + GRACE_SECONDS}))
        mode, role = ("pytest", "pytest") if "module" in header["tests"] else ("judge", "tests")
        judged = asyncio.create_task(
            slot.run(mode, frames.pack(header["tests"], [tests]), longer, role=role, lines=[theirs.fileno()])
        )
        with ours, theirs:
            await asyncio.wait([served, judged], return_when=asyncio.FIRST_COMPLETED)
            ours.shutdown(socket.SHUT_RDWR)  # whoever is left hears that the other has gone
            verdict = await judged
            for end in stop:
                end("dismissed")
            return [await served, verdict]


async def serve(settings: Settings) -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    line = socket.socket(fileno=os.dup(0))
    reader, writer = await asyncio.open_connection(sock=line)
    broker = Broker(settings, writer.write)
    try:
        await broker.start()
    except SandboxError as error:
        writer.write(frames.pack({"refused": str(error)}))
        await writer.drain()
        return
    writer.write(frames.pack({"memory": broker.memory}))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reader.feed_eof)
    while (frame := await streams.read(reader)) is not None:
        broker.take(*frame)
    await broker.stop()


def main() -> None:
    """`argv`: the settings as JSON."""
    linux.adopt_orphans()
    asyncio.run(serve(Settings(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
