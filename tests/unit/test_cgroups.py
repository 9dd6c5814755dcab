"""Groups on imitated hierarchies of both versions, whose folders behave as the kernel's, and once on the real one."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxes.cgroups import Cgroup, Parents, find_parents, is_abandoned, owner_name

FILES = {
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.oom_control", "pids.max"),
    "cgroup2": ("memory.max", "memory.current", "memory.events", "pids.max"),
}
UNWRITABLE = "/proc/version"
"""Can be read; whoever writes it is refused, root too. Stands behind links."""


class Kernel:
    """Hierarchies of plain files: what is made in them has the files that the kernel puts there, and cannot be removed
    while a process in it is alive."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.points: dict[Path, tuple[str, set[str]]] = {}
        self.unwritable: set[str] = set()
        self.absent: set[str] = set()

    def mount(self, name: str, kind: str, *options: str) -> Path:
        point = self.root / name
        point.mkdir(parents=True)
        self.points[point] = kind, set(options)
        return point

    def find(self, *own: str) -> Parents | None:
        lines = [f"{kind} {point} {kind} {','.join(['rw', *has])} 0 0" for point, (kind, has) in self.points.items()]
        (self.root / "mounts").write_text("\n".join(["proc /proc proc rw 0 0", *lines, ""]))
        (self.root / "groups").write_text("\n".join([*(own or ("0::/",)), ""]))
        return find_parents(self.root / "mounts", self.root / "groups")

    def fill(self, folder: Path) -> None:
        """A group that was made."""
        point = next((point for point in self.points if point in folder.parents), None)
        if point is None:
            return
        kind, has = self.points[point]
        (folder / "cgroup.procs").touch()
        if kind == "cgroup2":
            (folder / "cgroup.subtree_control").touch()
            has = set((folder.parent / "cgroup.subtree_control").read_text().replace("+", "").split())
        for name in FILES[kind]:
            if name in self.unwritable:
                (folder / name).symlink_to(UNWRITABLE)
            elif name.partition(".")[0] in has and name not in self.absent:
                (folder / name).touch()


def _alive(pid: str) -> bool:
    try:
        return pid == "0" or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "cgroup")
    mkdir = Path.mkdir

    def make(folder: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        mkdir(folder, mode, parents, exist_ok)
        kernel.fill(folder)

    def remove(folder: Path) -> None:
        if any(map(_alive, (folder / "cgroup.procs").read_text().split())) or list(folder.glob("*/cgroup.procs")):
            raise OSError(errno.EBUSY, "in use")
        shutil.rmtree(folder)

    monkeypatch.setattr(Path, "mkdir", make)
    monkeypatch.setattr(Path, "rmdir", remove)
    return kernel


@pytest.fixture
def points_2(kernel: Kernel) -> list[Path]:
    point = kernel.mount("unified", "cgroup2", "nsdelegate")
    (point / "cgroup.subtree_control").write_text("cpu memory pids")
    return [point]


@pytest.fixture
def points_1(kernel: Kernel) -> list[Path]:
    kernel.mount("cpu", "cgroup", "cpu", "cpuacct")
    return [kernel.mount("memory", "cgroup", "memory"), kernel.mount("pids", "cgroup", "pids")]


@pytest.fixture(params=["points_1", "points_2"])
def points(request: pytest.FixtureRequest) -> list[Path]:
    """Where groups are made, memory first, in either version."""
    found: list[Path] = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def group(kernel: Kernel, points: list[Path]) -> Cgroup:
    return made(kernel.find())


def files_of(points: list[Path]) -> tuple[Path, Path, Path, Path]:
    """The group's: limit, usage and kills of memory, limit of processes."""
    memory, usage, kills, pids = FILES["cgroup" if len(points) == 2 else "cgroup2"]
    first, last = points[0] / "sandbox-1", points[-1] / "sandbox-1"
    return first / memory, first / usage, first / kills, last / pids


def made(parents: Parents | None, name: str = "sandbox-1") -> Cgroup:
    assert parents is not None
    return parents.make(name)


def groups_in(*points: Path) -> list[list[str]]:
    return [sorted(one.name for one in point.glob("sandbox*")) for point in points]


@contextmanager
def process(code: str = "input()") -> Iterator[subprocess.Popen[bytes]]:
    """One that ends when it is killed."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as started:
        try:
            yield started
        finally:
            started.kill()


def tell(started: subprocess.Popen[bytes]) -> None:
    assert started.stdin is not None
    started.stdin.write(b"\n")


def line_of(started: subprocess.Popen[bytes]) -> bytes:
    assert started.stdout is not None
    return started.stdout.readline()


@pytest.mark.parametrize(
    ("own", "place"), [("/", "."), ("/user", "user"), ("/docker/of-the-host", "."), ("/user/gone", ".")]
)
def test_version_2_groups_are_made_in_the_own_group_or_the_visible_root(
    kernel: Kernel, points_2: list[Path], own: str, place: str
) -> None:
    (points_2[0] / "user").mkdir()
    made(kernel.find(f"0::{own}"))
    assert (points_2[0] / place / "sandbox-1/memory.max").exists()
    assert groups_in(points_2[0] / place) == [["sandbox-1"]]  # and nothing is left of the attempt
    if own == "/user":
        assert (points_2[0] / "user/cgroup.subtree_control").read_text() == "+memory +pids"


def test_where_the_own_group_may_not_share_out_its_parent_does(kernel: Kernel, points_2: list[Path]) -> None:
    (points_2[0] / "app").mkdir()
    control = points_2[0] / "app/cgroup.subtree_control"
    control.unlink()
    control.symlink_to(UNWRITABLE)
    made(kernel.find("0::/app"))
    assert groups_in(points_2[0], points_2[0] / "app") == [["sandbox-1"], []]


@pytest.mark.parametrize(
    ("memory", "pids", "places"), [("/", "/", ("", "")), ("/a", "/", ("a", "")), ("/of/the/host", "/a", ("", "a"))]
)
def test_version_1_groups_are_made_in_each_controllers_own_group(
    kernel: Kernel, points_1: list[Path], memory: str, pids: str, places: tuple[str, str]
) -> None:
    for point in points_1:
        (point / "a").mkdir()
    made(kernel.find("7:cpu,cpuacct:/x", f"4:memory:{memory}", f"8:pids:{pids}", "0::/"))
    for point, place, name in zip(points_1, places, ("memory.limit_in_bytes", "pids.max"), strict=True):
        assert groups_in(point / place) == [["sandbox-1"]]
        assert (point / place / "sandbox-1" / name).exists()


@pytest.mark.parametrize("names", [{"memory.max", "memory.limit_in_bytes"}, {"pids.max"}])
def test_where_a_limit_cannot_be_written_there_are_no_groups(
    kernel: Kernel, points: list[Path], names: set[str]
) -> None:
    kernel.unwritable |= names
    assert kernel.find() is None
    assert not any(groups_in(*points))


def test_version_2_without_controllers_gives_way_to_version_1(kernel: Kernel, points_1: list[Path]) -> None:
    unified = kernel.mount("unified", "cgroup2")
    (unified / "cgroup.subtree_control").symlink_to(UNWRITABLE)
    made(kernel.find("4:memory:/", "8:pids:/", "0::/"))
    assert groups_in(*points_1, unified) == [["sandbox-1"], ["sandbox-1"], []]


@pytest.mark.parametrize("only", ["memory", "pids", "cpu"])
def test_one_controller_is_not_enough(kernel: Kernel, only: str) -> None:
    kernel.mount("one", "cgroup", only)
    assert kernel.find(f"1:{only}:/") is None


def test_controllers_that_share_a_hierarchy_are_one(kernel: Kernel) -> None:
    point = kernel.mount("both", "cgroup", "memory", "pids")
    made(kernel.find("1:memory,pids:/"))
    assert groups_in(point) == [["sandbox-1"]]


def test_a_group_that_only_half_can_be_made_leaves_nothing(kernel: Kernel, points_1: list[Path]) -> None:
    parents = kernel.find()
    shutil.rmtree(points_1[1])
    with pytest.raises(FileNotFoundError):
        made(parents)
    assert groups_in(points_1[0]) == [[]]


def test_a_hierarchy_whose_groups_lack_a_file_is_refused(kernel: Kernel, points_2: list[Path]) -> None:
    kernel.absent.add("pids.max")
    assert kernel.find() is None


def test_limits_are_written_where_they_differ(group: Cgroup, points: list[Path]) -> None:
    memory, _, _, pids = files_of(points)
    group.limit(1000, 10)
    assert (memory.read_text(), pids.read_text()) == ("1000", "10")
    memory.write_text("untouched")
    group.limit(1000, 11)
    assert (memory.read_text(), pids.read_text()) == ("untouched", "11")
    pids.write_text("untouched")
    group.limit(2000, 11)
    assert (memory.read_text(), pids.read_text()) == ("2000", "untouched")


def test_a_limit_that_was_refused_is_tried_again(group: Cgroup, points: list[Path]) -> None:
    memory, *_ = files_of(points)
    memory.unlink()
    memory.symlink_to(UNWRITABLE)
    with pytest.raises(OSError):
        group.limit(1000, 10)
    memory.unlink()
    memory.touch()
    group.limit(1000, 10)
    assert memory.read_text() == "1000"


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),  # version 1
        ("low 0\nhigh 7\nmax 44\noom 5\noom_kill 12\noom_group_kill 9\n", 12),  # version 2
        ("oom_kill_disable 1\nunder_oom 1\n", 0),  # before Linux 4.13
        ("", 0),
    ],
)
def test_kills_are_counted_anew_each_time(group: Cgroup, points: list[Path], text: str, kills: int) -> None:
    files_of(points)[2].write_text("oom_kill 1\n")
    assert group.kills() == 1
    files_of(points)[2].write_text(text)
    assert group.kills() == kills


def test_a_removed_group_leaves_no_process_folder_or_descriptor(group: Cgroup, points: list[Path]) -> None:
    files_of(points)[1].write_text("73728\n")
    assert (group.usage(), group.kills()) == (73728, 0)
    with process() as inside:
        group.add(inside.pid)
        assert {(point / "sandbox-1/cgroup.procs").read_text() for point in points} == {str(inside.pid)}
        group.remove()
        assert inside.wait() == -signal.SIGKILL
    assert not any(groups_in(*points))
    still_open = [os.path.realpath(one.path) for one in os.scandir("/proc/self/fd")]
    assert not [one for one in still_open if one.startswith(str(points[0]))]


def test_a_group_that_cannot_be_emptied_is_an_error(group: Cgroup, points: list[Path]) -> None:
    (points[0] / "sandbox-1/inner").mkdir()
    with pytest.raises(OSError, match="in use"):
        group.remove(seconds=0.0)


def test_a_process_that_cannot_be_seen_is_not_killed_as_0(
    group: Cgroup, points: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In version 2, 0 stands for each process of a group that is in no namespace of the reader's."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    monkeypatch.setattr(
        "time.sleep", lambda seconds: [(one / "sandbox-1/cgroup.procs").write_text("") for one in points]
    )
    for point in points:
        (point / "sandbox-1/cgroup.procs").write_text("0\n")
    group.remove()
    assert 0 not in killed


def test_a_name_is_abandoned_once_its_process_is_dead() -> None:
    own = owner_name()
    with process() as child:
        other = owner_name(child.pid)
        names = [own, f"{own}-3", f"{own}-probe", other, f"{other}-0"]
        assert [is_abandoned(name) for name in names] == [False] * 5
    assert [is_abandoned(name) for name in names] == [False] * 3 + [True] * 2
    assert is_abandoned(f"{own}0-3")  # this process's number, given out again


@pytest.mark.parametrize(
    "name", ["sandbox", "sandbox-1", "sandbox-a-1", "sandbox-1-1x", "a-sandbox-1-1", "sandbox--1-1"]
)
def test_a_name_of_something_else_is_never_abandoned(name: str) -> None:
    assert not is_abandoned(name)


def test_a_process_may_be_called_what_it_likes() -> None:
    with process("input(); open('/proc/self/comm', 'w').write(') S 1 2 (x'); print(7, flush=True); input()") as other:
        before = owner_name(other.pid)
        tell(other)
        assert line_of(other) == b"7\n"
        assert owner_name(other.pid) == before


def test_a_sweep_takes_what_the_dead_left_and_nothing_else(kernel: Kernel, points: list[Path]) -> None:
    parents = kernel.find()
    with process() as dead:
        abandoned = f"{owner_name(dead.pid)}-3"
    with process() as orphan, process() as living:
        kept = sorted([f"{owner_name()}-3", f"{owner_name(living.pid)}-0", "sandbox-of-somebody", "sandbox-1"])
        for name in kept:
            made(parents, name).add(living.pid)
        made(parents, abandoned).add(orphan.pid)
        assert parents is not None
        parents.sweep()
        assert orphan.wait() == -signal.SIGKILL
        assert living.poll() is None
    assert groups_in(*points) == [kept] * len(points)


def test_the_kernels_own_group_holds_a_process_until_it_is_removed() -> None:
    parents = find_parents()
    if parents is None:
        pytest.skip("no control group may be made here: it takes root, or a group that was delegated")
    group = parents.make(f"{owner_name()}-test")
    try:
        with process("input(); kept = b'1' * (32 << 20); print('grown', flush=True); input()") as inside:
            group.limit(1 << 30, 10)
            group.add(inside.pid)
            tell(inside)
            assert line_of(inside) == b"grown\n"
            assert 32 << 20 <= group.usage() < 1 << 30
            assert (group.kills(), inside.poll()) == (0, None)
            group.remove()
            assert inside.wait() == -signal.SIGKILL
    finally:
        group.remove()
    with pytest.raises(FileNotFoundError):
        group.add(os.getpid())
