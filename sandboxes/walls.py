"""What stands between a program and the machine. Used by `forkserver`, which forks one child a program.

`Walls.build` makes what all runs share, once, in the fork server. Before each run `open_box` makes its working folder;
the child `enter`s, after which it is a program's and can do nothing else; when all its processes are dead, which `end`
sees to, `close_box` takes the folder away.

- `Jail`: namespaces with a minimal read-only root; each run has a process namespace and a file system of its own.
- `Fence`: Landlock and seccomp around a process among the host's, where namespaces are refused.
- `Bubble`: bubblewrap's, for other languages.
- `Walls` itself: none. For programs that are trusted, and to measure what the others cost.

Each page of a fork server's memory costs every run that is forked from it, so it imports little: neither pathlib nor
subprocess nor dataclasses.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from sandboxes import linux, processes, seccomp

INSIDE = 1000
"""The user and group that a program has in a jail, whoever it is outside."""
BOX = "/box"
"""A program's working folder in a jail."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Programs and libraries of the host, which may be read."""
DEVICES = ("null", "zero", "full", "random", "urandom")


class Box(NamedTuple):
    """What a working folder may hold."""

    bytes: int
    files: int


class Walls:
    """No walls, and what all kinds share."""

    home: str
    """The working folder, as the program sees it."""

    def __init__(self, folder: str, user: int | None) -> None:
        """`folder` is the slot's own on the host; `user` is whom to become, where this process may (root)."""
        self.folder = folder
        self.user = user
        self.home = f"{folder}/box"

    def build(self) -> None:
        self.proc = linux.high(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))
        linux.adopt_orphans()

    def most_processes(self, wanted: int) -> int | None:
        """What the kernel is to be told so that a run has `wanted` processes; None for no limit."""
        return None

    def open_box(self, box: Box) -> None:
        os.mkdir(self.home, 0o700)
        if self.user is not None:
            os.chown(self.home, self.user, self.user)

    def fork(self) -> int:
        return os.fork()

    def enter(self) -> None:
        """In the child, last of all."""
        self._become()

    def _become(self) -> None:
        if self.user is not None:
            os.setgroups([])
            os.setresgid(self.user, self.user, self.user)
            os.setresuid(self.user, self.user, self.user)

    def end(self) -> float:
        """Kill and reap every process that a run has left, once its first one is reaped; the processor time that they
        had. Whoever loses a parent in the run becomes a child of the fork server."""
        seconds = 0.0
        try:
            while True:
                pid, _, usage = os.wait4(-1, os.WNOHANG)
                if pid:
                    seconds += usage.ru_utime + usage.ru_stime
                else:
                    self._kill_children()
        except ChildProcessError:
            return seconds

    def _kill_children(self) -> None:
        if self.user is not None:
            self._kill_by_user()
        else:
            processes.kill_all(lambda: processes.descendants([os.getpid()]))

    def _kill_by_user(self) -> None:
        """All at once: no process of a user can fork while a signal goes to all of them."""
        helper = os.fork()
        if helper == 0:
            try:
                self._become()
                os.kill(-1, signal.SIGKILL)  # spares itself
            finally:
                os._exit(0)
        os.waitpid(helper, 0)

    def close_box(self) -> None:
        for entry in os.scandir(self.folder):
            _remove(entry)


def _remove(entry: os.DirEntry[str]) -> None:
    try:
        if entry.is_dir(follow_symlinks=False):
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)
    except OSError:  # not empty: no depth is too much for `rm`
        remover = os.posix_spawnp("rm", ["rm", "-rf", "--", entry.path], {"PATH": "/usr/bin:/bin"})
        if os.waitpid(remover, 0)[1]:
            raise


def _threads_of(user: int) -> int:
    count = 0
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and entry.stat().st_uid == user:
                count += len(os.listdir(f"{entry.path}/task"))
        except OSError:
            pass  # it has ended
    return count


def _write(path: str, text: str = "") -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


class Fence(Walls):
    """Landlock and seccomp. The program is the host's process, but may only touch its box and read the system."""

    MINIMUM = 3
    """Landlock's ABI of Linux 6.2, the first that watches over truncation."""
    _FILES: ClassVar = {3: (1 << 15) - 1, 5: (1 << 16) - 1}
    """What an ABI can forbid to do with files: everything that it knows is forbidden."""
    _CONNECT = 0b11
    _SCOPE = 0b11
    _SCOPED = 6
    """Landlock's ABI of Linux 6.12, the first that keeps signals within."""
    _EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
    _MAKE_CHARACTER, _MAKE_BLOCK, _CONTROL_DEVICE = 1 << 6, 1 << 11, 1 << 15

    def __init__(self, folder: str, user: int | None, readable: Sequence[str]) -> None:
        super().__init__(folder, user)
        self.readable = readable

    def build(self) -> None:
        abi = linux.landlock_abi()
        if abi < self.MINIMUM:
            raise OSError(f"Landlock's ABI is {abi}: {self.MINIMUM} is needed (Linux 6.2 with Landlock switched on)")
        super().build()
        self._ruleset = linux.high(self._make_ruleset(abi))
        self._filter = seccomp.host_filter(scoped=abi >= self._SCOPED)

    def _make_ruleset(self, abi: int) -> int:
        files = self._FILES[max(known for known in self._FILES if known <= abi)]
        size = 8 if abi < 4 else 16 if abi < 6 else 24
        ruleset = linux.landlock_create(files, self._CONNECT, self._SCOPE, size=size)
        for path in {*SYSTEM, *self.readable}:
            if os.path.isdir(path):
                linux.landlock_allow(ruleset, path, self._EXECUTE | self._READ | self._LIST)
        for path in ("/etc/ld.so.cache", "/etc/localtime"):
            if os.path.isfile(path):
                linux.landlock_allow(ruleset, path, self._READ)
        for name in DEVICES:
            linux.landlock_allow(ruleset, f"/dev/{name}", self._READ | self._WRITE)
        never = self._EXECUTE | self._MAKE_CHARACTER | self._MAKE_BLOCK | self._CONTROL_DEVICE
        linux.landlock_allow(ruleset, self.folder, files & ~never)
        return ruleset

    def most_processes(self, wanted: int) -> int:
        """The kernel counts all of a user's."""
        return wanted if self.user is not None else wanted + _threads_of(os.getuid())

    def enter(self) -> None:
        self._become()
        linux.drop_capabilities()
        linux.no_new_privileges()
        linux.landlock_enforce(self._ruleset)
        linux.prepare_seccomp(seccomp.for_process(self._filter, os.getpid()))()


class Bubble(Walls):
    """None here: what the child executes makes its own."""

    def __init__(self, user: int | None) -> None:
        super().__init__("", user)
        self.home = "/"

    def most_processes(self, wanted: int) -> int:
        """Two beside the program's own are bubblewrap's, one the shell's; without a user of its own, the kernel counts
        all of the user's."""
        return wanted + 3 + (0 if self.user is not None else _threads_of(os.getuid()))

    def open_box(self, box: Box) -> None:
        pass

    def close_box(self) -> None:
        pass


class Jail(Walls):
    """Namespaces of their own: users, mounts, processes, network, IPC, host name, cgroups."""

    _SPACES = (
        linux.CLONE_NEWUSER
        | linux.CLONE_NEWNS
        | linux.CLONE_NEWPID
        | linux.CLONE_NEWNET
        | linux.CLONE_NEWIPC
        | linux.CLONE_NEWUTS
        | linux.CLONE_NEWCGROUP
    )
    _OLD = "/old"

    def __init__(self, folder: str, user: int | None, readable: Sequence[str]) -> None:
        super().__init__(folder, user)
        self.readable = readable
        self.home = BOX

    def build(self) -> None:
        """The caller's process stays outside and waits; what returns is its child, the first process of the jail."""
        self._enter_namespaces()
        super().build()  # takes hold of the host's /proc: there is none in the jail
        self._own_processes = linux.high(os.open("self/ns/pid", os.O_RDONLY, dir_fd=self.proc))
        if self.user is not None:
            os.setgroups([])
        self._build_root()
        socket.sethostname("sandbox")
        linux.drop_bounding_set()
        linux.no_new_privileges()
        self._set_filter = linux.prepare_seccomp(seccomp.jail_filter())

    def _enter_namespaces(self) -> None:
        outside = (os.geteuid(), os.getegid())
        if self.user is None:
            linux.unshare(self._SPACES)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{INSIDE} {outside[0]} 1")
            _write("/proc/self/gid_map", f"{INSIDE} {outside[1]} 1")
        else:
            self._unshare_as_root(self.user)
        linux.die_with_parent(signal.SIGKILL)
        first = os.fork()
        if first:
            status = os.waitpid(first, 0)[1]
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
        linux.die_with_parent(signal.SIGKILL)

    def _unshare_as_root(self, user: int) -> None:
        """Root maps itself, to read what root may, and a user that is nobody else's, for the program. Only a process
        that stayed outside may write that."""
        me = os.getpid()
        ready, go = os.pipe()
        writer = os.fork()
        if writer == 0:
            try:
                os.close(go)
                os.read(ready, 1)
                for name in ("uid_map", "gid_map"):
                    _write(f"/proc/{me}/{name}", f"0 0 1\n{INSIDE} {user} 1\n")
                os._exit(0)
            except OSError:
                os._exit(1)
        linux.unshare(self._SPACES)
        os.write(go, b"1")
        os.close(ready)
        os.close(go)
        if os.waitpid(writer, 0)[1]:
            raise OSError("root of a container that may not map users")

    def _build_root(self) -> None:
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
        stage = "/tmp"  # noqa: S108 - any folder that exists; the new root covers it for a moment
        linux.mount("sandbox", stage, "tmpfs", linux.MS_NOSUID, "mode=755,size=1m")
        os.mkdir(f"{stage}{self._OLD}")
        linux.pivot_root(stage, f"{stage}{self._OLD}")
        os.chdir("/")
        for path in SYSTEM:
            self._show_system(path)
        for path in sorted(self.readable, key=len):  # what is within a folder that is shown needs nothing more
            if not f"{os.path.realpath(path)}/".startswith("/usr/"):
                self._show(path)
        self._make_devices()
        self._make_etc()
        os.mkdir(BOX)
        if not os.path.exists("/tmp"):  # noqa: S108 - in the jail; it is there if a folder within it is shown
            os.symlink(BOX, "/tmp")  # noqa: S108 - the same
        linux.umount(self._OLD)
        os.rmdir(self._OLD)
        linux.restrict_mounts("/", linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, below=False)

    def _show_system(self, path: str) -> None:
        there = f"{self._OLD}{path}"
        if os.path.islink(there):
            os.symlink(os.readlink(there), path)
        elif os.path.isdir(there):
            self._show(path)

    def _show(self, path: str) -> None:
        """Make a folder or file of the host readable at the same place."""
        there = f"{self._OLD}{path}"
        if os.path.exists(path):
            return  # within one that is shown already
        if os.path.isdir(there):
            os.makedirs(path)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _write(path)
        linux.mount(there, path, None, linux.MS_BIND | linux.MS_REC)
        linux.restrict_mounts(path, linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV, below=True)

    def _make_devices(self) -> None:
        os.mkdir("/dev")
        for name in DEVICES:
            _write(f"/dev/{name}")
            linux.mount(f"{self._OLD}/dev/{name}", f"/dev/{name}", None, linux.MS_BIND)
            linux.restrict_mounts(f"/dev/{name}", linux.MS_NOSUID | linux.MS_NOEXEC, below=False)
        os.symlink(BOX, "/dev/shm")  # noqa: S108 - in the jail

    def _make_etc(self) -> None:
        os.mkdir("/etc")
        _write("/etc/passwd", f"sandbox:x:{INSIDE}:{INSIDE}::{BOX}:/bin/false\n")
        _write("/etc/group", f"sandbox:x:{INSIDE}:\n")
        if os.path.isfile(f"{self._OLD}/etc/ld.so.cache"):
            self._show("/etc/ld.so.cache")

    def most_processes(self, wanted: int) -> int:
        """Users are counted by namespace; without a user of its own, the fork server and its parent count too."""
        return wanted if self.user is not None else wanted + 2

    def open_box(self, box: Box) -> None:
        options = f"mode=700,uid={INSIDE},gid={INSIDE},size={box.bytes},nr_inodes={box.files + 1}"
        linux.mount("box", BOX, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, options)

    def fork(self) -> int:
        """The child is the first process of a namespace: with it, all others of its run die."""
        linux.unshare(linux.CLONE_NEWPID)
        return os.fork()

    def enter(self) -> None:
        if self.user is not None:
            os.setresgid(INSIDE, INSIDE, INSIDE)
            os.setresuid(INSIDE, INSIDE, INSIDE)  # which leaves no capability: none of its users is root any more
        else:
            linux.drop_capabilities()
        self._set_filter()

    def end(self) -> float:
        """Nothing is left: the first process of a namespace is not gone before all others are."""
        linux.setns(self._own_processes, linux.CLONE_NEWPID)  # else no further namespace can be made
        return 0.0

    def close_box(self) -> None:
        linux.umount(BOX)
