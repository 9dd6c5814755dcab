"""System calls that Python's standard library has no name for. Linux on x86_64 only.

Every function raises OSError as `os` would. Numbers are of the x86_64 table; constants of the kernel's headers.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

SYSCALLS = {
    "capset": 126,
    "landlock_add_rule": 445,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
    "mount": 165,
    "mount_setattr": 442,
    "pivot_root": 155,
    "prctl": 157,
    "seccomp": 317,
    "setns": 308,
    "umount2": 166,
    "unshare": 272,
}

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_M_ARENA_MAX = -8


def _call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    converted = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(_libc.syscall(ctypes.c_long(SYSCALLS[name]), *converted))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _call("unshare", flags)


def setns(descriptor: int, flags: int) -> None:
    _call("setns", descriptor, flags)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode() if kind else None, flags, options.encode())


def umount(target: str) -> None:
    """Take it out of sight at once; it goes when nobody uses it any more."""
    _call("umount2", target.encode(), MNT_DETACH)


def pivot_root(new: str, old: str) -> None:
    _call("pivot_root", new.encode(), old.encode())


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def restrict_mounts(target: str, flags: int, *, below: bool) -> None:
    """Add MS_RDONLY, MS_NOSUID and such to a mount, and perhaps to all below it (Linux 5.12)."""
    attributes = _MountAttr(attr_set=flags)  # the flags that are used here have the same bits in both interfaces
    reach = _AT_RECURSIVE if below else 0
    _call("mount_setattr", _AT_FDCWD, target.encode(), reach, bytes(attributes), ctypes.sizeof(attributes))


def die_with_parent(signal_number: int) -> None:
    """Be sent a signal when the thread that created this process ends. Cleared by a change of user or of namespaces."""
    _call("prctl", _PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def no_new_privileges() -> None:
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def drop_bounding_set() -> None:
    """Give up, for all descendants, every capability that executing a file could give."""
    for number in range(64):
        try:
            _call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        except OSError:
            return  # past the last one that this kernel has


def drop_capabilities() -> None:
    version_3 = (0x20080522).to_bytes(4, "little") + bytes(4)
    _call("capset", version_3, bytes(24))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def prepare_seccomp(instructions: bytes) -> Callable[[], None]:
    """What installs a filter, 8 bytes an instruction, for the process that calls it and its descendants. Made ready
    beforehand, because a child pays for every page that it touches."""
    program = _Filter(len(instructions) // 8, instructions)
    arguments = (ctypes.c_long(SYSCALLS["seccomp"]), ctypes.c_long(1), ctypes.c_long(0), ctypes.byref(program))

    def install() -> None:
        if _libc.syscall(*arguments):
            raise OSError(ctypes.get_errno(), "seccomp")

    return install


HIGH = 64
"""A fork server's own descriptors stay from here on, out of the way of those that its children are given."""


def high(descriptor: int) -> int:
    """Move a descriptor out of the way."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(descriptor)
    return moved


def landlock_abi() -> int:
    """0 where there is none."""
    try:
        return _call("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def landlock_create(handled_files: int, handled_network: int, scoped: int, *, size: int) -> int:
    """A ruleset's descriptor. `size` is that of the structure that the kernel's ABI knows: 8, 16 or 24 bytes."""
    fields = b"".join(one.to_bytes(8, "little") for one in (handled_files, handled_network, scoped))
    return _call("landlock_create_ruleset", fields[:size], size, 0)


def landlock_allow(ruleset: int, path: str, access: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        _call("landlock_add_rule", ruleset, 1, access.to_bytes(8, "little") + descriptor.to_bytes(4, "little"), 0)
    finally:
        os.close(descriptor)


def landlock_enforce(ruleset: int) -> None:
    _call("landlock_restrict_self", ruleset, 0)


def one_malloc_arena() -> None:
    """Keep threads from reserving 64 MiB of addresses each, which a limit on addresses would count as memory."""
    _libc.mallopt(_M_ARENA_MAX, 1)
