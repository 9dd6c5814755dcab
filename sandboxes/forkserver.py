"""The process that forks one child a program, behind walls that stand before any program comes.

Executed, not forked, by the broker, with an empty environment: no memory of anybody else's is in it. It never reads
what a program is, says or leaves: only the child reads those descriptors, so that nothing of one run is left for the
next.

On its control socket (standard input) it gets orders with descriptors, one at a time, and answers each with a report
once every process of the run is dead. An order is JSON:

    run        its number
    mode       what the child does: a key of `child.MODES`
    length     bytes of its work
    private    how many of the descriptors are for the child alone
    cpu        seconds of processor time        address   bytes of address space, or null
    wall       seconds after which it is killed here, should the broker not have done so
    processes  threads included                 file      bytes of a file
    box        [bytes, files] of its folder

and `{"kill": run, "why": word}`, at any time, ends a run. A report: `run`, `status` (as of waitpid), `stopped` (why
it was killed, or null), `cpu`, `wall`, `trouble` (why the child could not start the program, or null).
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NamedTuple, NoReturn

from sandboxes import child, hooks, linux
from sandboxes.walls import Box, Bubble, Fence, Jail, Walls

DESCRIPTORS = 6
"""Of an order, at most: private ones (results, a line to a peer), then its work, standard input, output and error.
All of this process's own are out of the way, so the private ones arrive in their places, from `child.RESULTS` on."""
_NICE = 5
_BIG = 1 << 16


class Order(NamedTuple):
    """What the broker wants run."""

    run: int
    mode: str
    length: int
    private: int
    cpu: float
    address: int | None
    wall: float
    processes: int
    file: int
    box: list[int]


class Gone(Exception):
    """The broker is."""


def main() -> None:
    """`argv`: one JSON object: `backend`, `folder`, `user`, `readable`, `modules`, `paths`."""
    spec = json.loads(sys.argv[1])
    control = socket.socket(fileno=linux.high(os.dup(0)))
    _quiet_standard_streams()
    sys.path[:] = [path for path in sys.path if path != spec["root"]] + spec["paths"]
    walls = _walls(spec)
    try:
        if "pytest" in spec["modules"]:
            importlib.import_module("sandboxes.pytests")  # nothing of this project can be read once the walls stand
        walls.build()
        os.environ["HOME"] = os.environ["TMPDIR"] = walls.home
        _limit_all()
        _preload(spec["modules"])
    except (OSError, ImportError) as error:
        control.send(json.dumps({"refused": str(error)}).encode())
        return
    server = _Server(control, walls)
    control.send(json.dumps({"ready": server.addresses}).encode())
    try:
        server.serve()
    except Gone:
        pass


def _walls(spec: dict[str, Any]) -> Walls:
    backend, folder, user = spec["backend"], spec["folder"], spec["user"]
    if backend == "zygote":
        return Jail(folder, user, spec["readable"])
    if backend == "landlock":
        return Fence(folder, user, spec["readable"])
    if backend == "bubblewrap":
        return Bubble(user)
    return Walls(folder, user)


def _quiet_standard_streams() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _preload(modules: list[str]) -> None:
    """Import what programs import, once, with the environment that they will see."""
    linux.one_malloc_arena()
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what stays for ever is not looked through in each child
    sys.argv[:] = ["main.py"]
    os.chdir("/")  # where "" leads in this process
    sys.path.insert(0, "")


class _Server:
    def __init__(self, control: socket.socket, walls: Walls) -> None:
        self._control = control
        self._walls = walls
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)
        # A child says here that its program starts, or why it cannot.
        self._ready, self._mark = map(linux.high, os.pipe())
        os.set_blocking(self._ready, False)
        self._killed_first = linux.high(os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=walls.proc))
        self.addresses = _address_space(walls.proc)

    def serve(self) -> None:
        """Until the broker is gone, which raises Gone."""
        while True:
            message, descriptors = self._receive()
            if "kill" not in message:  # else it came too late
                report = self._run(Order(**message), descriptors)
                self._control.send(json.dumps(report).encode())

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, 1 << 16, DESCRIPTORS)
        except ConnectionError:
            raise Gone from None
        if not packet:
            raise Gone
        return json.loads(packet), descriptors

    def _run(self, order: Order, descriptors: list[int]) -> dict[str, Any]:
        self._walls.open_box(Box(*order.box))
        start = time.monotonic()
        os.pwrite(self._killed_first, b"1000", 0)  # inherited: where memory runs out, the program goes
        pid = self._walls.fork()
        if pid == 0:
            self._be_child(order, descriptors)
        os.pwrite(self._killed_first, b"0", 0)
        os.closerange(child.RESULTS, linux.HIGH)
        try:
            stopped = self._watch(pid, order, start)
        finally:
            _kill(pid)
            _, status, usage = os.wait4(pid, 0)
            cpu = usage.ru_utime + usage.ru_stime + self._walls.end()
            self._walls.close_box()
        wall = time.monotonic() - start
        marks = self._read_marks()
        # Tests may be over before the program that they would have called is even started.
        fine = marks == b"." or (stopped == "dismissed" and not marks)
        trouble = None if fine else marks.decode() or "its process ended before the program was started"
        return {
            "run": order.run, "status": status, "stopped": stopped, "cpu": cpu, "wall": wall, "trouble": trouble
        }  # fmt: skip

    def _watch(self, pid: int, order: Order, start: float) -> str | None:
        """Wait for the end of a run's first process; kill it where it is over its time or the broker says so. Why it
        was killed, or None."""
        process = os.pidfd_open(pid)
        self._poller.register(process, select.POLLIN)
        stopped = None
        try:
            while True:
                left = order.wall - (time.monotonic() - start)
                cpu_left = order.cpu - _cpu_seconds(pid)
                if stopped is None and min(left, cpu_left) <= 0:
                    stopped = "wall" if left <= 0 else "cpu"
                    _kill(pid)
                # With several threads, processor time passes faster than time: look again before it can be over.
                wait = None if stopped else min(left, max(cpu_left / _CORES, 0.01))
                for descriptor, _ in self._poller.poll(None if wait is None else wait * 1000 + 1):
                    if descriptor == process:
                        return stopped
                    message, _ = self._receive()
                    if message.get("kill") == order.run and stopped is None:
                        stopped = message["why"]
                        _kill(pid)
        finally:
            self._poller.unregister(process)
            os.close(process)

    def _read_marks(self) -> bytes:
        try:
            return os.read(self._ready, _BIG)
        except BlockingIOError:
            return b""

    def _be_child(self, order: Order, descriptors: list[int]) -> NoReturn:
        """In the child: become a program's process, then run it."""
        try:
            work = self._prepare(order, descriptors)
            self._walls.enter()
            child.put_files(work)
            os.write(self._mark, b".")
            os.closerange(child.RESULTS + order.private, _BIG)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the server must hear of it
            try:
                os.write(self._mark, f"{type(error).__name__}: {error}"[:1000].encode())
            finally:
                os._exit(1)
        hooks.release()
        child.begin(order.mode, work)

    def _prepare(self, order: Order, descriptors: list[int]) -> child.Work:
        """Everything but the walls: descriptors in their places, folder, session, limits."""
        private = descriptors[: order.private]
        if private != list(range(child.RESULTS, child.RESULTS + order.private)):
            raise OSError(f"private descriptors came as {private}")
        work, *standard = descriptors[order.private :]
        loaded = child.read_work(work, order.length)
        for place, descriptor in enumerate(standard):
            os.dup2(descriptor, place)
        os.setsid()
        os.chdir(self._walls.home)
        _set_limits(order, self._walls.most_processes(order.processes))
        return loaded


_CORES = os.cpu_count() or 1


def _cpu_seconds(pid: int) -> float:
    """Of a child that is not reaped yet."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock of a process, as clock_getcpuclockid makes it
    except OSError:
        return 0.0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended


def _address_space(proc: int) -> int:
    """Bytes that this process has mapped, which all its children start with."""
    descriptor = os.open("self/statm", os.O_RDONLY, dir_fd=proc)
    pages = int(os.read(descriptor, 100).split()[0])
    os.close(descriptor)
    return pages * resource.getpagesize()


def _set_limits(order: Order, processes: int | None) -> None:
    for kind, value in (
        (resource.RLIMIT_CPU, math.ceil(order.cpu) + 1),
        (resource.RLIMIT_FSIZE, order.file),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_AS, order.address),
    ):
        if value is not None:
            resource.setrlimit(kind, (value, value))


def _limit_all() -> None:
    """What is the same for every run, and may hold for the server too."""
    for kind, value in (
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    os.nice(_NICE)
