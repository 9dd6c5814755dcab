"""What is planted on the host for an attack to reach: files, sockets, a process, a variable. And whether it did."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Host:
    """Planted things, and what programs are told of them."""

    told: dict[str, Any] = field(default_factory=dict)
    """What a program gets as `HOST`."""
    secret: bytes = b""
    """What no output may contain."""
    folder: Path = Path()
    _listening: list[socket.socket] = field(default_factory=list)
    _victim: subprocess.Popen[bytes] | None = None

    def touched(self) -> str | None:
        """What an attack has done to the host, or None."""
        if self._victim is not None and self._victim.poll() is not None:
            return "a process of the host was killed"
        for one in self._listening:
            if _was_reached(one):
                return f"a socket of the host was reached: {one.getsockname()!r}"
        if sorted(path.name for path in self.folder.iterdir()) != ["datagrams", "secret"]:
            return "files of the host were made or removed"
        if (self.folder / "secret").read_bytes() != self.secret or (self.folder / "secret").stat().st_mode & 0o022:
            return "a file of the host was changed"
        return None


def _was_reached(listening: socket.socket) -> bool:
    reached = False
    while True:
        try:
            if listening.type == socket.SOCK_DGRAM:
                listening.recv(100)
            else:
                listening.accept()[0].close()
        except BlockingIOError:
            return reached
        reached = True


@contextmanager
def planted() -> Iterator[Host]:
    """A host with everything on it, for as long as the block lasts. The variable has to be there before a sandbox is
    started."""
    with ExitStack() as stack:
        host = Host(secret=secrets.token_hex(16).encode())
        host.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-check-")))
        host.folder.chmod(0o755)
        secret = host.folder / "secret"
        secret.write_bytes(host.secret)
        secret.chmod(0o644)  # anybody may read it: only walls keep a program from it
        os.environ["SANDBOX_CHECK"] = host.secret.decode()
        stack.callback(os.environ.pop, "SANDBOX_CHECK", None)
        host._victim = stack.enter_context(_sleeping())
        host._listening = [stack.enter_context(one) for one in _listen(host.folder)]
        stream, abstract, datagrams, named = host._listening
        host.told = {
            "secret": str(secret),
            "folder": str(host.folder),
            "victim": host._victim.pid,
            "runner": os.getpid(),
            "port": stream.getsockname()[1],
            "datagram_port": datagrams.getsockname()[1],
            "abstract": abstract.getsockname().decode(),
            "named": named.getsockname(),
        }
        yield host


def _listen(folder: Path) -> list[socket.socket]:
    stream = socket.socket()
    stream.bind(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("")  # the kernel chooses an abstract name
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    named.bind(str(folder / "datagrams"))
    (folder / "datagrams").chmod(0o777)  # anybody may write: only walls keep a program from it
    for one in (stream, abstract):
        one.listen()
    for one in (stream, abstract, datagrams, named):
        one.setblocking(False)
    return [stream, abstract, datagrams, named]


@contextmanager
def _sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same user, with its end tied to a pipe of this one."""
    wait = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
