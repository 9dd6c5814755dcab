"""The broker: a process of its own beside each worker, which runs what the worker asks for and answers with what was.

Executed, not forked: workers have threads. It speaks `frames` on standard input and output; when its input ends, or it
does, so do its fork servers, and with them every program. What programs write goes into memory files that it reads once
all processes of a run are dead.

A slot is what one run occupies: a fork server for programs, and one for tests once they are asked for. In no process
that runs a program's code is there ever a test or an expected answer.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sandboxes import bubblewrap, cgroups, frames, linux, streams
from sandboxes.base import Ending, Language, Limits, Memory, SandboxError
from sandboxes.forkserver import Order
from sandboxes.processes import children, descendants, kill_all
from sandboxes.servers import Server, ServerDied, Spec, remove

FIRST_USER = 1_600_000_000
"""Root gives each fork server's programs a user from here on, which no account has."""
USERS = 64
"""Fork servers of one broker, at most."""
LOOK_SECONDS = 0.04
"""How often a run that lasts is looked at: its output, and its memory where no group limits it."""
GRACE_SECONDS = 2.0
"""What a fork server has for ending a run, once it is told to, before it is held for dead."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a broker is started with."""

    backend: str
    slots: int
    modules: list[str]
    paths: list[str]
    """Folders of packages that programs may import from, beside the standard library."""


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


_OWN_PROCESSES = 8
"""What a control group has room for beside a program's processes: the fork server's, and what ends a run."""
_LAST_SIGNAL = 31
"""Above it are real-time signals, which end fewer programs than there are exit statuses of their own up there."""
_BOUNDED = {"zygote", "landlock"}
"""Backends whose processes have a limit on addresses; JavaScript's engines reserve far more than they use."""


class Slot:
    """Where one run happens."""

    def __init__(self, settings: Settings, number: int, place: _Place) -> None:
        self._settings = settings
        self._number = number
        self._place = place
        self._servers: dict[str, Server] = {}
        self._runs = itertools.count()

    async def server(self, role: str) -> Server:
        """The living fork server of a role: `program` or `tests`."""
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
        watch = _Watch(server, number, limits, watched)
        if keep is not None:
            keep(watch.stop)
        try:
            kills_before = self._limit(server, limits)
            private = [*([files[4]] if takes_results else []), *lines]
            order = self._order(server, number, mode, len(work), len(private), limits)
            with watch:
                report = await server.run(order, [*private, *files[:4]])
            kills = server.group.kills() - kills_before if server.group is not None else 0
            inside = mode == "execute" and _tell_inner_status(report)
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


def _tell_inner_status(report: dict[str, Any]) -> bool:
    """Bubblewrap exits, as a shell does, with 128 and the number of the signal that ended what it ran: whether it did.
    The report then has that signal."""
    code = os.WEXITSTATUS(report["status"]) if os.WIFEXITED(report["status"]) else 0
    if not 1 <= code - 128 <= _LAST_SIGNAL:
        return False
    report["status"] = code - 128
    return True


def _longest(files: list[int]) -> int:
    return max(os.fstat(one).st_size for one in files[2:])


def _run_of(
    report: dict[str, Any],
    told: tuple[Ending, str],
    limits: Limits,
    files: list[int],
    watch: _Watch,
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


class _Watch:
    """Looks at a run from time to time, and has it ended where it goes too far. A run that ends soon is not looked
    at."""

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


@functools.cache
def find_python(user: int | None) -> tuple[str, str]:
    """An interpreter whose library a user may read, and its prefix: this one, or else the system's.

    None stands for whoever runs this. Raises SandboxError where there is none.
    """
    own = getattr(sys, "_base_executable", sys.executable)
    if user is None or _open_to_all(Path(sys.base_prefix)):
        return own, str(Path(sys.base_prefix).resolve())
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3"):
        ask = "import sys; print(sys.base_prefix if sys.version_info >= (3, 11) else '')"
        try:
            prefix = subprocess.run([candidate, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue  # there is none, or it does not run
        if prefix.strip() and _open_to_all(Path(prefix.strip())):
            return candidate, str(Path(prefix.strip()).resolve())
    raise SandboxError(
        f"other users may not read the Python at {sys.base_prefix}, and there is no other of 3.11 or newer: "
        "install the system's python3, or do not run as root"
    )


def _open_to_all(folder: Path) -> bool:
    """Whether any user may go there."""
    resolved = folder.resolve()
    return all(one.stat().st_mode & 0o005 == 0o005 for one in (resolved, *resolved.parents))


def _sweep_folders() -> None:
    """Remove what brokers that were killed have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{cgroups.PREFIX}-*"):
        try:
            mine = folder.lstat().st_uid == os.geteuid()
        except OSError:
            continue  # another broker was faster
        if mine and cgroups.is_abandoned(folder.name):
            remove(str(folder))


class _Place:
    """What fork servers are made of: groups, folders, users."""

    def __init__(self) -> None:
        self.parents = cgroups.find_parents()
        if self.parents is not None:
            self.parents.sweep()
        self.name = cgroups.owner_name()
        _sweep_folders()
        self._folder = ""
        self._made: list[Server] = []

    @property
    def memory(self) -> Memory:
        return Memory.CGROUP if self.parents is not None else Memory.WATCHED

    def server(self, settings: Settings, slot: int, role: str) -> Server:
        place = slot * 2 + (role == "tests")
        group = self.parents.make(f"{self.name}-{place}") if self.parents is not None else None
        user = FIRST_USER + os.getpid() * USERS + place if os.geteuid() == 0 and settings.backend != "none" else None
        python, base = find_python(user if settings.backend == "landlock" else None)
        readable = [base, *settings.paths]
        folder = "" if settings.backend in {"zygote", "bubblewrap"} else f"{self._own_folder()}/{place}"
        spec = Spec(settings.backend, folder, user, python, readable, settings.modules, settings.paths)
        server = Server(spec, group)
        self._made.append(server)
        return server

    def kill_orphans(self) -> None:
        """End what a fork server that was killed has left: this process has become its parent."""
        self._made = [server for server in self._made if not server.stopped]
        own = {server.pid for server in self._made}

        def orphans() -> list[int]:
            return [pid for pid in children(os.getpid()) if pid not in own]

        while orphans():
            kill_all(lambda: orphans() + descendants(orphans()))
            for pid in orphans():
                os.waitpid(pid, 0)

    def _own_folder(self) -> str:
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix=f"{self.name}-")
            Path(self._folder).chmod(0o711)
        return self._folder

    def clear(self) -> None:
        if self._folder:
            remove(self._folder)


def bubblewrap_result(run: Run, *, compiled: bool) -> Run:
    """What bubblewrap's own words make of a run: it says whether a program was started at all."""
    if run.ending not in {Ending.EXITED, Ending.SIGNALED}:
        return run
    if b'"child-pid"' not in run.results:
        said = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return replace(run, ending=Ending.TROUBLE, detail=f"bubblewrap could not start it: {said}"[:300])
    return run if compiled else replace(run, ending=Ending.BUILD_FAILED, code=None, signal=None)


class Broker:
    """Takes requests, runs each in a free slot, answers."""

    def __init__(self, settings: Settings, answer: Callable[[bytes], None]) -> None:
        self._place = _Place()
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
        judged = asyncio.create_task(
            slot.run("judge", frames.pack(header["tests"], [tests]), longer, role="tests", lines=[theirs.fileno()])
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
