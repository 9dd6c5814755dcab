"""Which system calls a program may make: what is not in this list does not exist for it (ENOSYS).

The list is of what ordinary computation, files, processes, threads and pipes need. Left out on purpose: everything that
makes sockets other than pairs, namespaces, mounts, tracing and reading other processes, io_uring, bpf, perf, keyrings,
userfaultfd, memory files, System V and POSIX queues and shared memory, clocks, modules, priorities of others. ENOSYS
and not EPERM for those, because libraries fall back to older calls where they are told that a newer one does not exist.

x86_64 only; numbers are of the kernel's table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_ALLOWED = """
0 read 1 write 2 open 3 close 4 stat 5 fstat 6 lstat 7 poll 8 lseek 9 mmap 10 mprotect 11 munmap 12 brk 13
rt_sigaction 14 rt_sigprocmask 15 rt_sigreturn 17 pread64 18 pwrite64 19 readv 20 writev 21 access 22 pipe 23 select
24 sched_yield 25 mremap 26 msync 27 mincore 28 madvise 32 dup 33 dup2 34 pause 35 nanosleep 36 getitimer 37 alarm 38
setitimer 39 getpid 40 sendfile 44 sendto 45 recvfrom 46 sendmsg 47 recvmsg 48 shutdown 51 getsockname 52 getpeername
54 setsockopt 55 getsockopt 57 fork 58 vfork 59 execve 60 exit 61 wait4 63 uname 73 flock 74 fsync 75 fdatasync 77
ftruncate 78 getdents 79 getcwd 80 chdir 81 fchdir 82 rename 83 mkdir 84 rmdir 85 creat 86 link 87 unlink 88 symlink
89 readlink 91 fchmod 95 umask 96 gettimeofday 97 getrlimit 98 getrusage 99 sysinfo 100 times 102 getuid 104 getgid
107 geteuid 108 getegid 109 setpgid 110 getppid 111 getpgrp 112 setsid 115 getgroups 118 getresuid 120 getresgid 121
getpgid 124 getsid 125 capget 127 rt_sigpending 128 rt_sigtimedwait 130 rt_sigsuspend 131 sigaltstack 137 statfs 138
fstatfs 140 getpriority 143 sched_getparam 145 sched_getscheduler 146 sched_get_priority_max 147
sched_get_priority_min 148 sched_rr_get_interval 158 arch_prctl 162 sync 186 gettid 187 readahead 191 getxattr 192
lgetxattr 193 fgetxattr 194 listxattr 195 llistxattr 196 flistxattr 201 time 202 futex 204 sched_getaffinity 213
epoll_create 217 getdents64 218 set_tid_address 219 restart_syscall 221 fadvise64 222 timer_create 223 timer_settime
224 timer_gettime 225 timer_getoverrun 226 timer_delete 228 clock_gettime 229 clock_getres 230 clock_nanosleep 231
exit_group 232 epoll_wait 233 epoll_ctl 247 waitid 257 openat 258 mkdirat 262 newfstatat 263 unlinkat 264 renameat 265
linkat 266 symlinkat 267 readlinkat 269 faccessat 270 pselect6 271 ppoll 273 set_robust_list 274 get_robust_list 275
splice 276 tee 277 sync_file_range 281 epoll_pwait 283 timerfd_create 284 eventfd 285 fallocate 286 timerfd_settime
287 timerfd_gettime 290 eventfd2 291 epoll_create1 292 dup3 293 pipe2 295 preadv 296 pwritev 306 syncfs 309 getcpu 316
renameat2 318 getrandom 326 copy_file_range 327 preadv2 328 pwritev2 329 pkey_mprotect 330 pkey_alloc 331 pkey_free
332 statx 334 rseq 434 pidfd_open 436 close_range 437 openat2 439 faccessat2 441 epoll_pwait2 449 futex_waitv
"""
ALLOWED = frozenset(map(int, _ALLOWED.split()[::2]))

_BY_PATH = {
    76: "truncate",
    90: "chmod",
    268: "fchmodat",
    452: "fchmodat2",
    132: "utime",
    235: "utimes",
    261: "futimesat",
}
"""Changes to whatever file a path leads to. Harmless in a jail, which has no file of the host; Landlock does not
ask."""

_CLONE, _IOCTL, _FCNTL, _SOCKETPAIR, _SETAFFINITY, _UTIMENSAT = 56, 16, 72, 53, 203, 280
_PRCTL, _SETRLIMIT, _PRLIMIT = 157, 160, 302
_TIMERS = {222, 223, 224, 225, 226}
"""Of POSIX. They send any signal, SIGKILL too, and which one stands behind a pointer."""
_STRICT = 22
"""PR_SET_SECCOMP: its strict mode kills a process by SIGKILL, at the process's own wish."""
_EXIT_SIGNAL = 0xFF
"""The part of clone's flags that says which signal the child's end sends to its parent."""
_KILL, _TKILL, _TGKILL, _SIGQUEUE, _TGSIGQUEUE, _PIDFD_SIGNAL = 62, 200, 234, 129, 297, 424
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_FORBIDDEN_IOCTLS = (0x5412, 0x541C, 0x8901, 0x8902)
"""TIOCSTI and TIOCLINUX type into a terminal; FIOSETOWN and SIOCSPGRP have signals sent to others."""
_FORBIDDEN_FCNTLS = (8, 10, 15)
"""F_SETOWN, F_SETSIG, F_SETOWN_EX: the same."""
_RLIMIT_CPU = 0
_AF_UNIX, _SOCK_STREAM, _KINDS_OF_SOCKET = 1, 1, 0xF
_SIGKILL = 9
_EPERM, _ENOSYS = 1, 38

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_KILL_PROCESS = 0x80000000
_X86_64 = 0xC000003E
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

Instruction = tuple[int, int, int, int]


def jail_filter() -> bytes:
    """For a program in namespaces of its own: it sees only its own processes and files."""
    free = {_KILL, _TKILL, _TGKILL, _SIGQUEUE, _TGSIGQUEUE, _PIDFD_SIGNAL, _UTIMENSAT, *_BY_PATH}
    return _assemble(ALLOWED | free, _conditions())


SOME_PID = 0x7EADBEEF
"""Stands in a host filter for the process that is not known yet."""


def host_filter(*, scoped: bool) -> bytes:
    """For a program among the host's processes and files: files are changed by descriptor only, which Landlock watches.

    It is for a run whose first process is still to come: put it in with `for_process`. Nobody may kill that one with
    SIGKILL, which is how the sandbox itself ends a run. Where Landlock keeps signals within the run (`scoped`), its
    processes may otherwise signal each other; where it does not, each signal goes to the first process.
    """
    conditions = _conditions() | {
        _KILL: _kills_within() if scoped else _kills_only(signal_at=1),
        _TGKILL: _unless(2, (_SIGKILL,)) if scoped else _kills_only(signal_at=2),
        # By descriptor only: no path, which is a pointer, and a program chooses where it lies.
        _UTIMENSAT: [_load(1), (_EQUAL, 0, 3, 0), _load_upper(1), (_EQUAL, 0, 1, 0), _ALWAYS, _NEVER],
    }
    return _assemble(ALLOWED - _TIMERS, conditions)


def for_process(host: bytes, pid: int) -> bytes:
    """A host filter for a run whose first process is `pid`."""
    return host.replace(SOME_PID.to_bytes(4, "little"), pid.to_bytes(4, "little"))


def _kills_only(*, signal_at: int) -> list[Instruction]:
    return [
        _load(0),
        (_EQUAL, 0, 3, SOME_PID),
        _load(signal_at),
        (_EQUAL, 1, 0, _SIGKILL),
        _ALWAYS,
        _NEVER,
    ]


def _kills_within() -> list[Instruction]:
    """SIGKILL goes to one other process only: not to the first, and to no group (zero or below)."""
    return [
        _load(1),
        (_EQUAL, 0, 4, _SIGKILL),
        _load(0),
        (_AT_LEAST, 3, 0, 1 << 31),
        (_EQUAL, 2, 0, SOME_PID),
        (_EQUAL, 1, 0, 0),
        _ALWAYS,
        _NEVER,
    ]


def _conditions() -> dict[int, list[Instruction]]:
    """What follows the number of a call that is allowed with some arguments only."""
    return {
        _CLONE: [
            _load(0),
            (_AND, 0, 0, _NEW_NAMESPACES),
            (_EQUAL, 0, 4, 0),
            _load(0),
            (_AND, 0, 0, _EXIT_SIGNAL),
            (_EQUAL, 1, 0, _SIGKILL),
            _ALWAYS,
            _NEVER,
        ],
        _IOCTL: _unless(1, _FORBIDDEN_IOCTLS),
        _FCNTL: _unless(1, _FORBIDDEN_FCNTLS),
        # Half of a pair of datagram sockets can send to any socket that has a name.
        _SOCKETPAIR: [
            _load(0),
            (_EQUAL, 0, 4, _AF_UNIX),
            _load(1),
            (_AND, 0, 0, _KINDS_OF_SOCKET),
            (_EQUAL, 0, 1, _SOCK_STREAM),
            _ALWAYS,
            _NEVER,
        ],
        _PRCTL: _unless(0, (_STRICT,)),
        # Its own limits only; and not that on processor time, at whose hard end SIGKILL comes.
        _SETRLIMIT: _unless(0, (_RLIMIT_CPU,)),
        _PRLIMIT: [
            _load(0),
            (_EQUAL, 0, 7, 0),
            _load(1),
            (_EQUAL, 0, 4, _RLIMIT_CPU),
            _load(2),
            (_EQUAL, 0, 3, 0),
            _load_upper(2),
            (_EQUAL, 0, 1, 0),
            _ALWAYS,
            _NEVER,
        ],
        _SETAFFINITY: _if_equal(0, 0),
    }


def _load(argument: int) -> Instruction:
    """The lower half of an argument. The kernel itself reads no more of those that are no pointers."""
    return _LOAD, 0, 0, _ARGUMENTS + 8 * argument


def _load_upper(argument: int) -> Instruction:
    return _LOAD, 0, 0, _ARGUMENTS + 8 * argument + 4


_ALWAYS: Instruction = (_RETURN, 0, 0, _ALLOW)
_NEVER: Instruction = (_RETURN, 0, 0, _ERRNO | _EPERM)


def _if_equal(argument: int, value: int) -> list[Instruction]:
    """Allowed if an argument has a value."""
    return [_load(argument), (_EQUAL, 0, 1, value), _ALWAYS, _NEVER]


def _unless(argument: int, values: tuple[int, ...]) -> list[Instruction]:
    """Allowed unless an argument has one of some values."""
    tests = [(_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [_load(argument), *tests, _ALWAYS, _NEVER]


def _assemble(allowed: Iterable[int], conditions: dict[int, list[Instruction]]) -> bytes:
    """A filter whose decision takes few steps: numbers are found by halving, since the kernel walks through the filter
    for every number there is when it is installed, which is done for each run."""
    head: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    verdicts = {number: [_ALWAYS] for number in allowed} | conditions
    tree = _search(_intervals(verdicts))
    return b"".join(struct.pack("<HBBI", *one) for one in head + tree)


_ABSENT: list[Instruction] = [(_RETURN, 0, 0, _ERRNO | _ENOSYS)]


def _intervals(verdicts: dict[int, list[Instruction]]) -> list[tuple[int, list[Instruction]]]:
    """Where a new verdict begins, and which; from 0 to the end of numbers."""
    starts: list[tuple[int, list[Instruction]]] = []
    for number in range(max(verdicts) + 2):
        verdict = verdicts.get(number, _ABSENT)
        if not starts or starts[-1][1] != verdict:
            starts.append((number, verdict))
    return starts


def _search(intervals: list[tuple[int, list[Instruction]]]) -> list[Instruction]:
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    low, high = _search(intervals[:middle]), _search(intervals[middle:])
    start = intervals[middle][0]
    if len(low) < 256:
        return [(_AT_LEAST, len(low), 0, start), *low, *high]
    # A conditional jump reaches 255 instructions; an unconditional one (BPF_JA) any number.
    return [(_AT_LEAST, 0, 1, start), (0x05, 0, 0, len(low)), *low, *high]
