"""A control group for each fork server: memory and processes of a run, counted together by the kernel.

Version 1 and version 2. Where groups cannot be made (no root, nothing delegated), there are none, and the result of
every run says so. Names tell which process made them, so that what a killed broker left can be swept.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "sandbox"
_MOUNTS = Path("/proc/self/mounts")
_GROUPS = Path("/proc/self/cgroup")


def owner_name(pid: int | None = None) -> str:
    """A name that only one process has had since the machine started."""
    pid = os.getpid() if pid is None else pid
    return f"{PREFIX}-{pid}-{_started(pid)}"


def is_abandoned(name: str) -> bool:
    """Whether a name was given by a process that is dead."""
    found = re.match(rf"{PREFIX}-(\d+)-(\d+)(-|$)", name)
    return found is not None and _started(int(found[1])) != int(found[2])


def _started(pid: int) -> int:
    """When a process started, in clock ticks since the machine did; 0 where it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


@dataclass(frozen=True, slots=True)
class _Files:
    """What a version calls things."""

    memory: str
    usage: str
    kills: str
    processes: str = "pids.max"


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control")
_VERSION_2 = _Files("memory.max", "memory.current", "memory.events")


class Parents:
    """The folders in which groups can be made: one in version 2, one of each controller in version 1."""

    def __init__(self, folders: tuple[Path, ...], files: _Files) -> None:
        self._folders = folders
        self._files = files

    def make(self, name: str) -> Cgroup:
        """Raises OSError where it cannot be made after all."""
        made: list[Path] = []
        for folder in self._folders:
            try:
                (folder / name).mkdir()
            except OSError:
                for one in made:
                    one.rmdir()
                raise
            made.append(folder / name)
        return Cgroup(tuple(made), self._files)

    def sweep(self) -> None:
        """Remove the groups of processes that are dead, and what is still in them."""
        for parent in self._folders:
            for folder in parent.glob(f"{PREFIX}-*"):
                if is_abandoned(folder.name):
                    Cgroup((folder,), self._files).remove()


def find_parents(mounts: Path = _MOUNTS, groups: Path = _GROUPS) -> Parents | None:
    """Where this process may make groups that limit memory and processes; None where it may not."""
    own = _own_groups(groups)
    places = [line.split()[1:4] for line in mounts.read_text().splitlines()]
    first: dict[str, Path] = {}
    for point, kind, options in places:
        if kind == "cgroup":
            for name in {"memory", "pids"} & set(options.split(",")):
                first[name] = _within(point, own.get(name, "/"))
    for point, kind, _ in places:
        if kind == "cgroup2":
            here = _within(point, own.get("", "/"))
            for folder in (here, here.parent):
                if _works((folder,), _VERSION_2):
                    return Parents((folder,), _VERSION_2)
    folders = tuple(dict.fromkeys(first.values()))  # both controllers may be of one hierarchy
    return Parents(folders, _VERSION_1) if len(first) == 2 and _works(folders, _VERSION_1) else None


def _own_groups(groups: Path) -> dict[str, str]:
    """This process's group by controller; by "" for version 2."""
    own: dict[str, str] = {}
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    return own


def _within(point: str, path: str) -> Path:
    """A group's folder; a container may see only a part of the tree, whose root is then its own."""
    folder = Path(point + path)
    return folder if folder.is_dir() else Path(point)


def _works(folders: tuple[Path, ...], files: _Files) -> bool:
    """Whether a group can be made and limited: tried, because no permission tells."""
    parents = Parents(folders, files)
    try:
        if files is _VERSION_2 and not _shares_out(folders[0]):
            return False
        group = parents.make(f"{owner_name()}-probe")
    except OSError:
        return False
    try:
        group.limit(1 << 30, 100)
        return True
    except OSError:
        return False
    finally:
        group.remove()


def _shares_out(folder: Path) -> bool:
    """Whether a version 2 group gives its controllers to groups within it, or lets itself be told to."""
    control = folder / "cgroup.subtree_control"
    if not {"memory", "pids"} <= set(control.read_text("ascii").split()):
        control.write_text("+memory +pids", "ascii")  # refused where it has processes itself
    return True


class Cgroup:
    """One group, of one fork server."""

    def __init__(self, folders: tuple[Path, ...], files: _Files) -> None:
        self._folders = folders
        self._files = files
        self._limits: dict[str, int] = {}
        self._kills = -1

    def add(self, pid: int) -> None:
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid), "ascii")

    def limit(self, memory: int, processes: int) -> None:
        """Bytes and number of processes; written only where they differ from what was set before."""
        for name, value in ((self._files.memory, memory), (self._files.processes, processes)):
            if self._limits.get(name) != value:
                self._file(name).write_text(str(value), "ascii")
                self._limits[name] = value

    def usage(self) -> int:
        """Bytes of memory."""
        return int(self._file(self._files.usage).read_text("ascii"))

    def kills(self) -> int:
        """How often the kernel has killed a process of the group because memory ran out."""
        if self._kills < 0:  # asked twice a run, so it stays open
            self._kills = os.open(self._file(self._files.kills), os.O_RDONLY | os.O_CLOEXEC)
        for line in os.pread(self._kills, 4096, 0).decode("ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def _file(self, name: str) -> Path:
        """Raises FileNotFoundError where no hierarchy has it."""
        found = [folder / name for folder in self._folders if (folder / name).exists()]
        if not found:
            raise FileNotFoundError(f"control groups have no {name}")
        return found[0]

    def remove(self, seconds: float = 5.0) -> None:
        """Kill what is in it, and take it away."""
        if self._kills >= 0:
            os.close(self._kills)
            self._kills = -1
        deadline = time.monotonic() + seconds
        for folder in self._folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    _kill_all(folder)
                    time.sleep(0.01)  # the kernel has no word for when a group has become empty


def _kill_all(folder: Path) -> None:
    for pid in map(int, (folder / "cgroup.procs").read_text("ascii").split()):
        if not pid:
            continue  # one that this process cannot see; to `kill`, 0 would be its own group
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended
