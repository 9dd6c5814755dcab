"""Workers on Ray: the only file that imports Ray's core.

A worker is one async actor with its engine inside. Ray does not restart it (`max_restarts=0`): the driver replaces it,
so that what it held is given back first. An actor dies with the driver's job, and an engine's processes with the actor.
Ray's own usage reports are off. A Ray that is started here ends with the driver, also when that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

# Read by Ray when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray nices its workers, but here they hold the engines: nothing on the machine matters more.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from factory import guard
from factory.driver import Handle, WorkerLost
from factory.engines.base import Engine
from factory.errors import ConfigError, EngineDead, StorageError
from factory.rollout import Tools
from factory.store import Store
from factory.worker import Assignment, Hello, Identity, Limits, Report, Worker

T = TypeVar("T")

log = logging.getLogger(__name__)

BuildTools = Callable[[], tuple[Engine, Tools]]
"""Makes an engine, not yet started, and what rollouts need; runs in the worker's process."""

PROBE_SECONDS = 5.0
"""How long an address may take to accept a connection."""
CLOSE_SECONDS = 20.0
"""How long an engine may take to close before its actor is killed."""
OBJECT_STORE_BYTES = 160 * 1024 * 1024
"""Of a local Ray: problems and reports are small, and shards never pass through it."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one worker occupies on a node."""

    cpus: float
    gpus: float


def connect(address: str | None) -> None:
    """Start Ray on this machine, or join the cluster at `address`, else at RAY_ADDRESS as in a Ray job.

    Raises ConfigError where none answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    logging.getLogger("ray").setLevel(logging.ERROR)  # it warns that its token authentication is on
    # Ray prints what its daemons report, such as the end of a worker, to stdout, where results belong.
    ray._private.worker.print_to_stdstream = _log_report
    if address is None:
        _guard.start()
        # Without this word Ray would join a cluster that it finds on this machine.
        _init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        return
    _probe(address)
    try:
        _init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"no Ray cluster answers at {address}: {first}") from None


def _init(**arguments: Any) -> None:
    """Start or join Ray, and keep SIGTERM what it was: Ray's own handler would exit with status 15."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**arguments)
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)


def _log_report(data: Mapping[str, Any], *_: object, **__: object) -> None:
    log.info("Ray reports: %s", " ".join(" ".join(data["lines"]).split()))


def is_connected() -> bool:
    """Whether this process is on a cluster."""
    return bool(ray.is_initialized())


def disconnect() -> None:
    """Leave the cluster; a Ray that `connect` started ends with all of its processes."""
    ray.shutdown()
    _guard.dismiss()


class _Guard:
    """The process that ends what is left of a Ray that this process started."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def dismiss(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()


_guard = _Guard()


def _probe(address: str) -> None:
    """Ray waits for minutes for an address where nothing listens; a person shall not."""
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(f"run.address = {address!r}: write it as HOST:PORT, or 'auto' for this machine's")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_SECONDS) as connection:
            speaks = _speaks_grpc(connection)
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address}: {error}; start one or correct run.address") from None
    if not speaks:
        raise ConfigError(f"no Ray cluster answers at {address}: another program does; correct run.address")


def _speaks_grpc(connection: socket.socket) -> bool:
    """Whether a server greets as those of HTTP/2 do: with settings, as soon as it has read ours, which are empty."""
    if os.environ.get("RAY_USE_TLS") == "1":
        return True  # it expects another greeting, and Ray's own error says what is wrong with it
    empty_settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
    return connection.recv(9, socket.MSG_WAITALL)[3:4] == b"\x04"


def has_gpus() -> bool:
    return any(node.get("GPU", 0) >= 1 for node in _nodes())


def node_cpus() -> float:
    """CPUs of the smallest node that has any: what one worker can have everywhere."""
    return min((node["CPU"] for node in _nodes() if node.get("CPU", 0) >= 1), default=1.0)


def room(needs: Needs) -> int:
    """How many workers fit, all nodes together. Raises ConfigError if none does, with what there is."""
    fits = sum(_fits(node, needs) for node in _nodes())
    if not fits:
        there = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in _nodes())
        raise ConfigError(f"a worker needs {needs.cpus:g} CPUs and {needs.gpus:g} GPUs of one node; there are {there}")
    return fits


def _fits(node: Mapping[str, float], needs: Needs) -> int:
    pairs = [(node.get("CPU", 0.0), needs.cpus), (node.get("GPU", 0.0), needs.gpus)]
    return min(math.floor(there / needed) for there, needed in pairs if needed)


def _nodes() -> list[Mapping[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


class WorkerActor:
    """A `Worker` and its engines, in a Ray actor's event loop."""

    def __init__(self, identity: Identity, limits: Limits, build: BuildTools, nonce: str) -> None:
        self._identity = identity
        self._limits = limits
        self._build = build
        self._nonce = nonce
        self._engines = contextlib.AsyncExitStack()
        self._worker: Worker | None = None

    async def ping(self) -> None:
        """The actor is placed, and its node sees the run folder: it reads what the driver wrote there."""
        path = f"lease/{self._identity.epoch:06d}.json"
        try:
            seen = Store(self._identity.run_url).read(path)
        except OSError as error:
            seen = str(error).encode()
        if self._nonce.encode() not in seen:
            raise StorageError(
                f"node {socket.gethostname()} does not see the run folder {self._identity.run_url}: "
                "put it where every node sees it, such as a shared file system or an object store"
            )

    async def start(self) -> Hello:
        engine, tools = self._build()
        for one in (engine, *tools.beside):
            self._engines.push_async_callback(one.close)
            await one.start()
        self._worker = Worker(self._identity, self._limits, tools)
        return Hello(engine.capabilities, tools.policy)

    async def submit(self, assignments: Sequence[Assignment]) -> None:
        self._running.submit(assignments)

    async def poll(self, seconds: float, hungry: bool, tokens: int | None) -> Report:
        return await self._running.poll(seconds, hungry, tokens)

    async def stop(self) -> Report:
        return await self._running.stop()

    async def close(self) -> None:
        await self._engines.aclose()

    @property
    def _running(self) -> Worker:
        if self._worker is None:
            raise EngineDead("the worker was not started")
        return self._worker


class RayHandle(Handle):
    """A worker on Ray."""

    def __init__(self, name: str, actor: Any, needs: Needs, placement_seconds: float) -> None:
        self.name = name
        self._actor = actor
        self._needs = needs
        self._placement_seconds = placement_seconds

    async def start(self) -> Hello:
        try:
            await asyncio.wait_for(_reply(self._actor.ping.remote()), self._placement_seconds)
        except TimeoutError:
            there = {key: value for key, value in ray.available_resources().items() if key in {"CPU", "GPU"}}
            raise ConfigError(
                f"no node gave a worker {self._needs.cpus:g} CPUs and {self._needs.gpus:g} GPUs within "
                f"{self._placement_seconds:g} s; free now: {there}"
            ) from None
        try:
            return await _reply(self._actor.start.remote())
        except EngineDead as error:
            raise WorkerLost(f"its engine did not start: {error}") from None

    async def submit(self, assignments: Sequence[Assignment]) -> None:
        await _reply(self._actor.submit.remote(assignments))

    async def poll(self, seconds: float, hungry: bool, tokens: int | None) -> Report:
        return await _reply(self._actor.poll.remote(seconds, hungry, tokens))

    async def stop(self) -> Report:
        return await _reply(self._actor.stop.remote())

    async def close(self) -> None:
        try:
            await asyncio.wait_for(_reply(self._actor.close.remote()), CLOSE_SECONDS)
        except (WorkerLost, TimeoutError):
            pass  # a dead or hanging worker: killing it ends its engine's processes as well
        except Exception:
            log.exception("worker %s did not close its engine", self.name)
        ray.kill(self._actor)


async def _reply(ref: Awaitable[T]) -> T:
    """What an actor answers; its own exceptions as they were raised there."""
    try:
        return await ref
    except RayTaskError as error:
        cause = error.cause
        raise (cause if isinstance(cause, Exception) else error) from None
    except RayActorError as error:
        raise WorkerLost(str(error).strip().splitlines()[0]) from None


class RayPool:
    """Makes workers on the cluster that `connect` joined."""

    def __init__(
        self,
        needs: Needs,
        build: BuildTools,
        limits: Limits,
        *,
        run_url: str,
        epoch: int,
        nonce: str,
        placement_seconds: float,
    ) -> None:
        """`nonce`: what every worker must find in the lease's file."""
        self._needs = needs
        self._build = build
        self._limits = limits
        self._run_url = run_url
        self._epoch = epoch
        self._nonce = nonce
        self._placement_seconds = placement_seconds

    def spawn(self, name: str) -> Handle:
        identity = Identity(self._run_url, self._epoch, name)
        actor = (
            ray.remote(WorkerActor)
            .options(num_cpus=self._needs.cpus, num_gpus=self._needs.gpus, max_restarts=0, max_task_retries=0)
            .remote(identity, self._limits, self._build, self._nonce)
        )
        return RayHandle(name, actor, self._needs, self._placement_seconds)
