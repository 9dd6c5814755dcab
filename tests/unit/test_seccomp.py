"""What filters say to every call: asked by an interpreter of the kernel's instructions, and by a real process."""

import errno
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes.seccomp import _ALLOWED, ALLOWED, SOME_PID, for_process, host_filter, jail_filter

ROOT = Path(__file__).resolve().parents[2]
X86_64, I386, AARCH64, X32 = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000000
ALLOW, ABSENT, REFUSED, KILL = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EPERM, 0x80000000
PID = 4321
FILTERS = {
    "jail": jail_filter(),
    "scoped": for_process(host_filter(scoped=True), PID),
    "unscoped": for_process(host_filter(scoped=False), PID),
}
NAMES = sorted(FILTERS)
HOST = {name: filter_ for name, filter_ in FILTERS.items() if name != "jail"}

NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
IOCTL, SOCKETPAIR, CLONE, KILL_CALL, FCNTL = 16, 53, 56, 62, 72
SETAFFINITY, TGKILL, UTIMENSAT, PRLIMIT, PRCTL, SETRLIMIT = 203, 234, 280, 302, 157, 160
TIMERS = {222, 223, 224, 225, 226}
ASKS = {IOCTL, SOCKETPAIR, CLONE, FCNTL, SETAFFINITY, PRLIMIT, PRCTL, SETRLIMIT}
"""Calls whose arguments every filter looks at."""
SIGNALS_AND_PATHS = {KILL_CALL, 200, TGKILL, 129, 297, 424, UTIMENSAT, 76, 90, 268, 452, 132, 235, 261}
"""kill, tkill, tgkill, queued signals; utimensat, truncate, chmod and such: free in a jail, which has no others."""
ARGUMENTS = st.lists(st.integers(0, 2**64 - 1), max_size=6)


def verdict(program: bytes, number: int, *arguments: int, architecture: int = X86_64) -> int:
    """What the kernel would be told: classic BPF over `struct seccomp_data`, with the instructions known here only."""
    words = [argument % 2**64 for argument in (*arguments, *[0] * 6)][:6]
    data = struct.pack("<IIQ6Q", number, architecture, 0x401000, *words)
    code = list(struct.iter_unpack("<HBBI", program))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, value = code[place]
        place += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                place += value
            case 0x15:
                place += if_true if accumulator == value else if_false
            case 0x35:
                place += if_true if accumulator >= value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"instruction {operation:#x} at {place - 1}")


def allows(program: bytes, number: int, *arguments: int) -> bool:
    said = verdict(program, number, *arguments)
    assert said in {ALLOW, REFUSED}, f"call {number} has no rule about its arguments: {said:#x}"
    return said == ALLOW


@pytest.mark.parametrize("name", NAMES)
@given(ARGUMENTS)
def test_numbers_outside_the_list_do_not_exist_and_those_in_it_are_free(name: str, arguments: list[int]) -> None:
    rules = ASKS if name == "jail" else ASKS | {KILL_CALL, TGKILL, UTIMENSAT}
    free = (ALLOWED | SIGNALS_AND_PATHS if name == "jail" else ALLOWED - TIMERS) - rules
    for number in {*range(601)} - rules:
        expected = ALLOW if number in free else ABSENT
        assert verdict(FILTERS[name], number, *arguments) == expected, number


@pytest.mark.parametrize("name", NAMES)
def test_x32_has_no_call_at_all(name: str) -> None:
    assert {verdict(FILTERS[name], X32 | number) for number in range(601)} == {ABSENT}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("architecture", [I386, AARCH64, 0, 0xFFFFFFFF])
def test_another_architecture_is_killed_whatever_it_calls(name: str, architecture: int) -> None:
    numbers = [*range(601), *(X32 | number for number in range(601))]
    assert {verdict(FILTERS[name], number, architecture=architecture) for number in numbers} == {KILL}


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 2**32 - 1) | st.integers(0, 600), ARGUMENTS, st.sampled_from([X86_64, I386]))
def test_every_path_returns_a_known_verdict(name: str, number: int, arguments: list[int], architecture: int) -> None:
    said = verdict(FILTERS[name], number, *arguments, architecture=architecture)
    assert said in {ALLOW, ABSENT, REFUSED, KILL}
    assert (said == KILL) == (architecture != X86_64)


@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_within_the_kernels_rules(name: str) -> None:
    """At most 4096 instructions, no jump past the end, a return as the last one: else the kernel takes none of it."""
    assert len(FILTERS[name]) % 8 == 0
    code = list(struct.iter_unpack("<HBBI", FILTERS[name]))
    assert len(code) < 4096
    assert code[-1][0] == 0x06
    for place, (operation, if_true, if_false, value) in enumerate(code):
        steps = [value] if operation == 0x05 else [if_true, if_false]
        assert place + 1 + max(steps) < len(code) or operation == 0x06, place


def _pairs(table: str) -> list[tuple[str, str]]:
    words = table.split()
    return list(zip(words[::2], words[1::2], strict=True))


_REACHING_OUT = """
41 socket 42 connect 43 accept 49 bind 50 listen 288 accept4 101 ptrace 310 process_vm_readv 311 process_vm_writev
312 kcmp 438 pidfd_getfd 440 process_madvise 155 pivot_root 161 chroot 165 mount 166 umount2 428 open_tree
429 move_mount 430 fsopen 432 fsmount 442 mount_setattr 272 unshare 308 setns 435 clone3 425 io_uring_setup
426 io_uring_enter 427 io_uring_register 321 bpf 298 perf_event_open 248 add_key 249 request_key 250 keyctl
323 userfaultfd 319 memfd_create 447 memfd_secret 303 name_to_handle_at 304 open_by_handle_at 322 execveat 29 shmget
30 shmat 31 shmctl 64 semget 65 semop 68 msgget 69 msgsnd 240 mq_open 241 mq_unlink 164 settimeofday 227 clock_settime
305 clock_adjtime 159 adjtimex 175 init_module 313 finit_module 246 kexec_load 320 kexec_file_load 169 reboot
105 setuid 106 setgid 117 setresuid 119 setresgid 126 capset 317 seccomp 133 mknod 259 mknodat 92 chown 93 fchown
94 lchown 260 fchownat 141 setpriority 142 sched_setparam 144 sched_setscheduler 314 sched_setattr
"""


@pytest.mark.parametrize("name", NAMES)
def test_what_reaches_out_does_not_exist(name: str) -> None:
    said = {called: verdict(FILTERS[name], int(number)) for number, called in _pairs(_REACHING_OUT)}
    assert [called for called, one in said.items() if one != ABSENT] == []


def test_numbers_have_the_names_that_the_kernel_gives_them() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip(f"no kernel headers here: {header}")
    known = {found[2]: found[1] for found in re.finditer(r"__NR_(\w+) (\d+)", header.read_text())}
    newest = max(map(int, known))
    for number, called in _pairs(_ALLOWED + _REACHING_OUT):
        assert known.get(number) == called or int(number) > newest, number


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("number", "arguments", "allowed"),
    [
        *[(CLONE, [flags], True) for flags in (17, 0x3D0F00)],  # what fork and pthread_create ask for
        *[(CLONE, [17 | space], False) for space in NAMESPACES],
        (CLONE, [0x3D0F00 | 0x10000000], False),
        *[(IOCTL, [0, kind], True) for kind in (0x5401, 0x541B)],  # TCGETS, FIONREAD
        *[(IOCTL, [0, kind], False) for kind in (0x5412, 0x541C, 0x8901, 0x8902)],
        (IOCTL, [0, 0x5412 | 1 << 32], False),  # the kernel reads half of it
        (IOCTL, [0x5412, 0x5401], True),
        *[(FCNTL, [0, command], True) for command in (0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 16, 1030, 1031)],
        *[(FCNTL, [0, command], False) for command in (8, 10, 15)],
        *[(SOCKETPAIR, [1, 1 | flags], True) for flags in (0, 0o2000000, 0o4000, 0o2004000)],  # CLOEXEC, NONBLOCK
        *[(SOCKETPAIR, [1, kind | 0o2000000], False) for kind in (0, 2, 3, 4, 5, 6, 10)],
        *[(SOCKETPAIR, [family, 1], False) for family in (0, 2, 10, 16, 17, 30, 38, 40)],
        (PRLIMIT, [0], True),
        *[(call, [pid], False) for call in (PRLIMIT, SETAFFINITY) for pid in (1, PID, SOME_PID, -1)],
        (SETAFFINITY, [0], True),
    ],
)
def test_arguments_decide(name: str, number: int, arguments: list[int], allowed: bool) -> None:
    assert allows(FILTERS[name], number, *arguments) == allowed


@pytest.mark.parametrize(
    ("pid", "number", "scoped", "unscoped"),
    [
        (PID, 9, False, False),
        (PID, 9 | 1 << 32, False, False),
        (PID | 1 << 32, 9, False, False),
        (PID, 15, True, True),
        (PID, 0, True, True),
        (PID, 64, True, True),
        (0, 9, False, False),
        (0, 15, True, False),
        (-1, 9, False, False),
        (-1 & 0xFFFFFFFF, 9, False, False),
        (-PID, 9, False, False),
        (-PID & 0xFFFFFFFF, 9, False, False),
        (-(2**31), 9, False, False),
        (-PID & 0xFFFFFFFF, 15, True, False),
        (PID + 1, 9, True, False),
        (PID + 1, 15, True, False),
        (SOME_PID, 9, True, False),
        (1, 0, True, False),
    ],
)
def test_no_signal_kills_the_first_process_or_a_group(pid: int, number: int, scoped: bool, unscoped: bool) -> None:
    """Where Landlock does not keep signals within the run, the first process is the only one that gets any."""
    assert allows(FILTERS["scoped"], KILL_CALL, pid, number) == scoped
    assert allows(FILTERS["unscoped"], KILL_CALL, pid, number) == unscoped


@pytest.mark.parametrize("group", [PID, PID + 1, 0, -1])
@pytest.mark.parametrize("thread", [PID, PID + 1])
def test_a_thread_is_signalled_but_not_killed(group: int, thread: int) -> None:
    assert allows(FILTERS["scoped"], TGKILL, group, thread, 15)
    assert allows(FILTERS["unscoped"], TGKILL, group, thread, 15) == (group == PID)
    assert not any(allows(filter_, TGKILL, group, thread, 9) for filter_ in HOST.values())


@pytest.mark.parametrize("scoped", [True, False])
@given(st.integers(1, 2**22), st.integers(1, 2**22), st.integers(0, 64))
def test_a_filter_is_made_for_one_process(scoped: bool, pid: int, other: int, number: int) -> None:
    template = host_filter(scoped=scoped)
    assert not allows(template, KILL_CALL, SOME_PID, 9)
    assert allows(template, KILL_CALL, pid, 9) == scoped
    made = for_process(template, pid)
    assert len(made) == len(template)
    assert not allows(made, KILL_CALL, pid, 9)
    assert allows(made, KILL_CALL, pid, number) == (number != 9)
    assert allows(made, KILL_CALL, other, number) == (number != 9 if other == pid else scoped)


def test_a_jail_signals_whom_it_likes() -> None:
    calls = [(KILL_CALL, PID, 9), (KILL_CALL, -1, 9), (TGKILL, PID, PID, 9), (200, PID, 9), (424, 3, 9)]
    assert {verdict(FILTERS["jail"], *call) for call in calls} == {ALLOW}


@pytest.mark.parametrize("name", sorted(HOST))
@pytest.mark.parametrize("path", [0x7FFF_1234_5678, 0x1234_5678, 1 << 32, 1 << 63])
def test_times_are_set_by_descriptor_only(name: str, path: int) -> None:
    """Wherever the program puts its path: half of an address may be zero."""
    assert allows(HOST[name], UTIMENSAT, 3, 0)
    assert not allows(HOST[name], UTIMENSAT, -100, path)
    assert verdict(FILTERS["jail"], UTIMENSAT, -100, path) == ALLOW


_BEHIND = """
import errno, os, signal, socket, sys
from sandboxes import linux, seccomp
made = {"jail": seccomp.jail_filter, "host": lambda: seccomp.host_filter(scoped=True)}[sys.argv[1]]()
linux.no_new_privileges()
linux.prepare_seccomp(seccomp.for_process(made, os.getpid()))()
said = [os.getpid() == int(os.readlink("/proc/self"))]
for attempt in (socket.socket, lambda: os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == "host" else None):
    try:
        attempt()
        said.append("done")
    except OSError as error:
        said.append(errno.errorcode[error.errno])
print(said)
"""


@pytest.mark.parametrize(("kind", "killing"), [("jail", "done"), ("host", "EPERM")])
def test_the_kernel_takes_a_filter_and_keeps_to_it(kind: str, killing: str) -> None:
    ended = subprocess.run([sys.executable, "-c", _BEHIND, kind], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{[True, 'ENOSYS', killing]}\n", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_program_cannot_have_itself_killed_by_a_limit_a_child_or_strict_mode(name: str) -> None:
    """A run that was killed must never be its program's doing: that would be taken for trouble."""
    cpu, memory, pointer, high = 0, 9, 0x7FFF_1234_5678, 1 << 32
    assert allows(FILTERS[name], SETRLIMIT, memory)
    assert not allows(FILTERS[name], SETRLIMIT, cpu)
    assert allows(FILTERS[name], PRLIMIT, 0, memory, pointer)
    assert allows(FILTERS[name], PRLIMIT, 0, cpu, 0, pointer)
    assert not allows(FILTERS[name], PRLIMIT, 0, cpu, pointer)
    assert not allows(FILTERS[name], PRLIMIT, 0, cpu, high)
    assert not allows(FILTERS[name], PRLIMIT, 1, memory, pointer)
    assert allows(FILTERS[name], CLONE, signal.SIGCHLD)
    assert not allows(FILTERS[name], CLONE, signal.SIGKILL)
    assert allows(FILTERS[name], PRCTL, 15)
    assert not allows(FILTERS[name], PRCTL, 22)
