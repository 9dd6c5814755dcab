"""What fork servers are made of: interpreters, users, control groups, folders; and what killed brokers left of them."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sandboxes import cgroups
from sandboxes.base import Memory, SandboxError
from sandboxes.processes import children, descendants, kill_all
from sandboxes.servers import Server, Spec, remove

FIRST_USER = 1_600_000_000
"""Root gives each fork server's programs a user from here on, which no account has."""
USERS = 512
"""Fork servers of one broker, at most. With 22 bits of process numbers, this fits a user's 32."""
ROLES = ("program", "tests", "pytest")
"""What the fork servers of a slot are for; each is started when it is first asked for."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a broker is started with."""

    backend: str
    slots: int
    modules: list[str]
    paths: list[str]
    """Folders of packages that programs may import from, beside the standard library."""
    pytest: str
    """The folder that pytest is in; empty where there is none."""


@functools.cache
def find_python(*, for_others: bool) -> tuple[str, str]:
    """An interpreter, and its prefix: this one, or, where other users are to run it and may not, the system's.

    Raises SandboxError where there is none.
    """
    own = getattr(sys, "_base_executable", sys.executable)
    if not for_others or _open_to_all(Path(sys.base_prefix)):
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


def sweep_folders() -> None:
    """Remove what brokers that were killed have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{cgroups.PREFIX}-*"):
        try:
            mine = folder.lstat().st_uid == os.geteuid()
        except OSError:
            continue  # another broker was faster
        if mine and cgroups.is_abandoned(folder.name):
            remove(str(folder))


class Place:
    """What fork servers are made of: groups, folders, users."""

    def __init__(self) -> None:
        self.parents = cgroups.find_parents()
        if self.parents is not None:
            self.parents.sweep()
        self.name = cgroups.owner_name()
        sweep_folders()
        self._folder = ""
        self._made: list[Server] = []

    @property
    def memory(self) -> Memory:
        return Memory.CGROUP if self.parents is not None else Memory.WATCHED

    def server(self, settings: Settings, slot: int, role: str) -> Server:
        place = slot * len(ROLES) + ROLES.index(role)
        modules, paths = settings.modules, settings.paths
        if role == "pytest":
            modules, paths = [*modules, "pytest"], [*paths, settings.pytest]
        group = self.parents.make(f"{self.name}-{place}") if self.parents is not None else None
        user = FIRST_USER + os.getpid() * USERS + place if os.geteuid() == 0 and settings.backend != "none" else None
        python, base = find_python(for_others=user is not None and settings.backend == "landlock")
        readable = [base, *paths]
        folder = "" if settings.backend in {"zygote", "bubblewrap"} else f"{self._own_folder()}/{place}"
        spec = Spec(settings.backend, folder, user, python, readable, modules, paths)
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
