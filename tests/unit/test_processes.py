"""Trees of real processes are found and ended, whatever they do meanwhile."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxes.processes import children, descendants, kill_all

END_SECONDS = 60.0
"""A busy machine's; none of it passes where all is well."""

_CHAIN = """
import os, signal
for _ in range(3):
    if os.fork():
        break
os.write(1, b"%d\\n" % os.getpid())
signal.pause()
"""
_SPREADING = """
import os, signal
left, tokens = os.pipe()
os.write(tokens, b"." * 30)
os.set_blocking(left, False)
while True:
    try:
        os.read(left, 1)
    except BlockingIOError:
        signal.pause()
    if os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
"""
_CHURNING = """
import os
for _ in range(2):
    if os.fork() == 0:
        break
os.write(1, b"%d\\n" % os.getpid())
while True:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""


class Tree:
    """Processes that all hold one pipe open, each of which says its number on it."""

    def __init__(self, root: subprocess.Popen[bytes]) -> None:
        assert root.stdout is not None
        self.root = root
        self._output = root.stdout
        self._poller = select.poll()
        self._poller.register(self._output, select.POLLIN)

    def pids(self, number: int) -> set[int]:
        """Of as many processes, once they have said so."""
        return {int(self.line()) for _ in range(number)}

    def all(self) -> list[int]:
        return [self.root.pid, *descendants([self.root.pid])]

    def line(self) -> bytes:
        """Empty where no process is left: the pipe ends with the last."""
        if not self._poller.poll(END_SECONDS * 1000):
            raise TimeoutError("processes are left that say nothing")
        return self._output.readline()


@contextmanager
def tree(code: str) -> Iterator[Tree]:
    """Whatever of it is left in the end is killed: it is a group of its own."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, bufsize=0) as root:
        try:
            yield Tree(root)
        finally:
            try:
                os.killpg(root.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # nothing is left, as it should be


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_descendants_are_all_below_and_children_the_next_ones() -> None:
    with tree(_CHAIN) as chain:
        said = chain.pids(4)
        line = [chain.root.pid]
        for _ in range(3):
            (below,) = children(line[-1])
            line.append(below)
        assert set(line) == said
        assert children(line[-1]) == []
        assert sorted(descendants([chain.root.pid])) == sorted(line[1:])
        assert descendants(line[2:3]) == line[3:]
        assert sorted(descendants([line[1], line[3]])) == sorted(line[2:])


def test_a_dead_child_counts_until_it_is_asked_for() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.pid in children(os.getpid())
        child.wait()
        assert child.pid not in children(os.getpid())
        assert children(child.pid) == []
        assert descendants([child.pid]) == []


def test_children_of_all_threads_are_found() -> None:
    started, done = threading.Event(), threading.Event()
    pids: list[int] = []

    def start() -> None:
        with sleeper() as process:
            pids.append(process.pid)
            started.set()
            done.wait(END_SECONDS)

    thread = threading.Thread(target=start)
    with sleeper() as other:
        thread.start()
        try:
            assert started.wait(END_SECONDS)
            of_thread = Path(f"/proc/self/task/{thread.native_id}/children").read_text()
            assert of_thread.split() == [str(pids[0])]
            assert {pids[0], other.pid} <= set(children(os.getpid()))
        finally:
            done.set()
            thread.join()


def test_a_thread_that_has_ended_hides_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    with sleeper() as process:
        assert process.pid in children(os.getpid())
        listdir = os.listdir
        monkeypatch.setattr(os, "listdir", lambda path: ["4194305", *listdir(path)])  # more than a number can be
        assert process.pid in children(os.getpid())


def test_a_whole_tree_is_killed() -> None:
    with tree(_CHAIN) as chain:
        chain.pids(4)
        kill_all(chain.all)
        assert chain.root.wait(END_SECONDS) == -signal.SIGKILL
        assert chain.line() == b""


@pytest.mark.parametrize(("code", "number"), [(_SPREADING, 1), (_CHURNING, 3)])
def test_what_is_forked_meanwhile_is_killed_as_well(code: str, number: int) -> None:
    for _ in range(10):  # a fork that is under way when its process is told to stop is there in one of five
        seen: set[int] = set()
        with tree(code) as forking:
            forking.pids(number)

            def look(forking: Tree = forking, seen: set[int] = seen) -> list[int]:
                """From the second on, one that takes as long as it does among many processes."""
                found, *_ = [forking.all() for _ in range(100 if seen else 1)]
                seen.update(found)
                return found

            kill_all(look)
            assert forking.root.wait(END_SECONDS) == -signal.SIGKILL
            while line := forking.line():
                assert int(line) in seen


def test_all_are_stopped_before_any_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one could be forked between the last look and the last kill."""
    sent: list[tuple[int, int]] = []
    looks = iter([[1001, 1002], [1001, 1002, 1003], [1003], []])
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    kill_all(lambda: next(looks))
    stops, kills = sent[:3], sent[3:]
    assert sorted(stops) == [(pid, signal.SIGSTOP) for pid in (1001, 1002, 1003)]
    assert stops[2][0] == 1003
    assert sorted(kills) == [(pid, signal.SIGKILL) for pid in (1001, 1002, 1003)]
    assert next(looks) == []  # a look that finds nothing new is the last


def test_what_has_ended_by_itself_is_no_trouble() -> None:
    with sleeper() as living, sleeper() as dead:
        dead.kill()
        dead.wait()
        kill_all(lambda: [dead.pid, living.pid])
        assert living.wait(END_SECONDS) == -signal.SIGKILL


def test_nothing_else_is_touched() -> None:
    with sleeper() as bystander, tree(_CHAIN) as chain:
        chain.pids(4)
        kill_all(lambda: descendants([chain.root.pid]))
        assert chain.root.poll() is None
        assert bystander.poll() is None
        assert Path(f"/proc/{chain.root.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"
        chain.root.kill()
        assert chain.line() == b""
