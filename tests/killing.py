"""The command line as a tree of processes, and the means to kill any of them at a chosen moment and see what is left.

An `Invocation` leads a session of its own, so whatever it starts can be found, also what has lost its parents; nothing
else is ever signalled. `kill_and_resume` is the one code path of every kill test: it runs a command again and again
until it ends by itself, kills a victim at each turn, and holds the run's promises after each.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

import psutil

from factory.check import check
from factory.config import load_recipe
from factory.shards import iter_sidecars, problem_states
from factory.store import Store
from pipelines import build

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
FACTORY = str(Path(sys.executable).with_name("factory"))
"""The command as a user calls it."""

END_SECONDS = 30.0
"""How long processes of a killed run may take to be gone."""
START_SECONDS = 180.0
"""How long a worker may take to be there, on a machine that does other things too."""
RUN_SECONDS = 900.0
"""How long an invocation may take to its end."""

TAKES = re.compile(r"^INFO factory\.driver: (\w+) takes ([0-9a-f ]+)$", re.MULTILINE)
TOKENS = re.compile(r"; tokens ([\d,]+)")


def until(look: Callable[[], T | None], seconds: float, what: str, every: float = 0.05) -> T:
    """The first answer that is one. Raises AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(every)


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a zombie that waits for its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def title(process: psutil.Process) -> str:
    """Its command line, or the title that it gave itself."""
    try:
        return " ".join(process.cmdline()).strip() or process.name()
    except psutil.Error:
        return ""


def _heeds_interrupts() -> None:
    """Runs in the child: a shell that puts these tests in the background has had SIGINT ignored, which is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Invocation:
    """One call of the command line. As a context it leaves no process behind, whatever happened."""

    def __init__(
        self, arguments: Iterable[str | Path], log: Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
    ) -> None:
        """`log`: where stdout goes; stderr goes beside it."""
        self.log = log
        self.errors = log.with_suffix(".err")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out, self.errors.open("wb") as err:
            self._process = subprocess.Popen(
                [FACTORY, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=_heeds_interrupts,  # noqa: PLW1509 - it takes no lock that a thread could hold
            )
        self.pid = self._process.pid
        self.started = time.monotonic()
        self.leader = psutil.Process(self.pid)
        self._known: dict[psutil.Process, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.members():
            _kill(process)
        self._process.wait(END_SECONDS)
        for process in self.members():  # what was just being started
            _kill(process)

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    @property
    def stdout(self) -> str:
        return self.log.read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self.errors.read_text("utf-8", "replace")

    def wait(self, seconds: float = RUN_SECONDS) -> int:
        """Its exit status, once it has ended."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {seconds:g} s:\n{self.tail()}") from None

    def send(self, number: signal.Signals) -> None:
        """Signal the whole process group, as a terminal does."""
        os.killpg(self.pid, number)

    def tail(self) -> str:
        return "\n".join(self.stderr.splitlines()[-30:])

    def members(self) -> list[psutil.Process]:
        """Every living process of its session, and every one known to have descended from it."""
        for process in [*in_session(self.pid), *_descendants(self.leader)]:
            self._known[process] = None
        return [process for process in self._known if lives(process)]

    def find(self, name: str) -> psutil.Process | None:
        """A living process by a part of its title."""
        return next((process for process in self.members() if name in title(process)), None)

    def group(self, leader: int) -> list[psutil.Process]:
        """Its living processes of a process group: Ray makes one of each worker and of what that starts."""
        return [process for process in self.members() if _group_of(process) == leader]

    def gone(self, seconds: float = END_SECONDS) -> float:
        """Seconds until not a single process of it is left. Raises AssertionError, naming those that stay."""
        start = time.monotonic()
        deadline = start + seconds
        while left := self.members():
            names = ", ".join(f"{process.pid} {title(process)[:80]}" for process in left)
            assert time.monotonic() < deadline, f"alive {seconds:g} s after the driver: {names}"
            time.sleep(0.05)
        return time.monotonic() - start


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None


def in_session(leader: int) -> Iterator[psutil.Process]:
    """Every process of a session."""
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader:
                yield psutil.Process(pid)
        except (OSError, psutil.Error):
            continue  # it has ended since


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()  # psutil makes sure that the id is still this process's
    except psutil.NoSuchProcess:
        pass


@dataclass(frozen=True, slots=True)
class Ended:
    """An invocation that ended by itself."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def factory(
    *arguments: str | Path, log: Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None, seconds: float = 240.0
) -> Ended:
    """Call the command line, and see that nothing of it stays behind."""
    with Invocation(arguments, log, cwd, env) as call:
        status = call.wait(seconds)
        took = time.monotonic() - call.started
        call.gone()
        return Ended(status, call.stdout, call.stderr, took)


def closed(out: Path) -> set[str]:
    """Ids of the problems that are committed."""
    return set(problem_states(iter_sidecars(Store(str(out)), "rollouts")))


def owed(recipe: Path, *sets: str) -> set[str]:
    """Ids of the problems that a recipe asks for."""
    return {item.id for item in build.source(load_recipe(recipe, sets))}


def given(stderr: str) -> list[str]:
    """Ids of the problems that were given to a worker, as often as they were; needs `-v`."""
    return [id for _, ids in TAKES.findall(stderr) for id in ids.split()]


def paid(stderr: str) -> int:
    """Tokens that an invocation's engines generated, as far as it told."""
    return max((int(number.replace(",", "")) for number in TOKENS.findall(stderr)), default=0)


def kept(out: Path) -> int:
    """Tokens of all committed trees."""
    shards = iter_sidecars(Store(str(out)), "rollouts")
    return sum(entry.counters["generated_tokens"] for sidecar in shards for entry in sidecar.entries)


# --- killing


class Victim(StrEnum):
    """What is killed, and when."""

    DRIVER = "driver"
    """At any moment, also while it starts."""
    WORKER = "worker"
    """The actor's process, at any moment from its start."""
    ENGINE = "engine"
    """vLLM's engine core, at any moment from its start."""
    DRIVER_MID_SHARD = "driver mid-shard"
    """The moment a file of rollouts is there that is not committed."""
    WORKER_MID_SHARD = "worker mid-shard"
    DRIVER_MID_REFINE = "driver mid-refine"
    """The moment a file that refining makes is there that is not committed."""

    @property
    def ends_the_run(self) -> bool:
        return self in {Victim.DRIVER, Victim.DRIVER_MID_SHARD, Victim.DRIVER_MID_REFINE}


TITLES = {
    Victim.WORKER: "ray::WorkerActor",
    Victim.WORKER_MID_SHARD: "ray::WorkerActor",
    Victim.ENGINE: "EngineCore",
}
"""By victim other than a driver: a part of its process's title."""


@dataclass(slots=True)
class Figures:
    """What a run went through."""

    kills: Counter[str] = field(default_factory=Counter)
    invocations: int = 0
    seconds: float = 0.0
    gone_seconds: list[float] = field(default_factory=list)
    """After each kill of a driver: until its last process had ended."""
    replaced_seconds: list[float] = field(default_factory=list)
    """After each kill of a worker or its engine: until another worker was given problems."""
    uncommitted: int = 0
    """Kills of a driver that left a shard, or a part of one, that was not committed."""
    problems: int = 0
    given_again: int = 0
    """Problems that were given to a worker more than once."""
    given: int = 0
    """How often problems were given to a worker, all together."""
    tokens_committed: int = 0
    tokens_generated: int = 0
    """As far as the driver told: what a killed one had not told yet is missing."""


def kill_and_resume(
    arguments: Sequence[str | Path],
    out: Path,
    victims: deque[Victim],
    latest: Mapping[Victim, float],
    rng: random.Random,
    logs: Path,
) -> Figures:
    """Call `factory -v ARGUMENTS` until it ends with 0, killing the victims in turn; those it killed leave the queue.

    `latest`: by victim, seconds after which it is killed at the latest; the moment is drawn evenly. After every kill
    the run is checked, and after that of a driver not one of its processes may be left.
    """
    figures = Figures()
    start = time.monotonic()
    times: Counter[str] = Counter()
    killed = True
    while killed:
        figures.invocations += 1
        with Invocation(["-v", *arguments], logs / f"{figures.invocations:03d}.log") as run:
            killed = _haunt(run, out, victims, latest, rng, figures)
            if not killed:
                status = run.wait()
                assert status == 0, f"status {status}:\n{run.tail()}"
            figures.gone_seconds.append(run.gone()) if killed else run.gone()
        holds(out)
        times.update(given(run.stderr))
        figures.tokens_generated += paid(run.stderr)
    figures.seconds = time.monotonic() - start
    figures.given = times.total()
    figures.given_again = sum(number > 1 for number in times.values())
    figures.problems = len(closed(out))
    figures.tokens_committed = kept(out)
    return figures


def _haunt(
    run: Invocation,
    out: Path,
    victims: deque[Victim],
    latest: Mapping[Victim, float],
    rng: random.Random,
    figures: Figures,
) -> bool:
    """Kill one victim after the other until the driver was one; False if the run ended before that."""
    while victims:
        victim = victims[0]
        process = _moment(run, out, victim, rng.uniform(0.0, latest.get(victim, 0.0)))
        if process is None:
            return False
        workers = _workers(run)
        _kill(process)
        victims.popleft()
        figures.kills[victim] += 1
        struck = time.monotonic()
        if victim.ends_the_run:
            run.wait(END_SECONDS)
            figures.uncommitted += bool(_uncommitted(out))
            return True
        _ended(run, process)
        if not _replaced(run, workers):
            return False
        figures.replaced_seconds.append(time.monotonic() - struck)
        holds(out)
    return False


def _moment(run: Invocation, out: Path, victim: Victim, delay: float) -> psutil.Process | None:
    """The process to kill, when its moment has come; None if the run ended before."""
    found = run.leader if victim.ends_the_run else _worker(run, victim)
    if found is None:
        return None
    tables = {"mid-shard": "rollouts", "mid-refine": "*/*"}.get(victim.partition(" ")[2])
    if tables is None:
        return _after(run, found, delay)
    return found if see_uncommitted(run, out, tables) and lives(found) else None


def _worker(run: Invocation, victim: Victim) -> psutil.Process | None:
    """The process of a worker or of its engine, once there is one; None if the run ended before."""
    name = TITLES[victim]
    found = until(lambda: run.find(name) or run.status is not None, START_SECONDS, f"{name}: {run.tail()}")
    return found if isinstance(found, psutil.Process) else None


def _after(run: Invocation, process: psutil.Process, delay: float) -> psutil.Process | None:
    """The process, once `delay` seconds have passed: the delay is what makes the moment random."""
    deadline = time.monotonic() + delay
    while (left := deadline - time.monotonic()) > 0 and run.status is None:
        time.sleep(min(left, 0.05))
    return process if run.status is None and lives(process) else None


def see_uncommitted(run: Invocation, out: Path, tables: str) -> bool:
    """Wait for a new file without a sidecar; False if the run ended before one was seen."""
    before = _uncommitted(out, tables)
    deadline = time.monotonic() + RUN_SECONDS
    while run.status is None:
        if _uncommitted(out, tables) - before:
            return True
        assert time.monotonic() < deadline, f"no new shard was seen in {tables}:\n{run.tail()}"
        time.sleep(0.0005)  # such a file is there for a few milliseconds
    return False


def _uncommitted(out: Path, tables: str = "rollouts") -> set[str]:
    """Temporary files, and Parquet files without a sidecar."""
    found: set[str] = set()
    for table in filter(Path.is_dir, out.glob(tables)):
        names = {entry.name for entry in os.scandir(table)}
        found |= {
            f"{table.name}/{name}"
            for name in names
            if name.endswith(".tmp")
            or (name.endswith(".parquet") and name.removesuffix(".parquet") + ".json" not in names)
        }
    return found


def _ended(run: Invocation, process: psutil.Process) -> None:
    """Wait until a process and what it started are gone."""
    until(lambda: not (lives(process) or run.group(process.pid)), END_SECONDS, f"the end of {process.pid} and its own")


def _replaced(run: Invocation, workers: set[str]) -> bool:
    """Wait until a worker that is none of these was given problems; False if the run ended before that."""
    until(
        lambda: run.status is not None or _workers(run) - workers,
        START_SECONDS,
        f"a worker beside {sorted(workers)}",
        every=0.2,
    )
    return run.status is None


def _workers(run: Invocation) -> set[str]:
    """Names of all workers that were given problems."""
    return {name for name, _ in TAKES.findall(run.stderr)}


def holds(out: Path) -> None:
    """What is promised of a run's folder at every moment: nothing in it is wrong, and no problem is there twice."""
    if not (out / "config.json").exists():
        assert not list(out.glob("*/part-*")), "shards in a folder that is no run yet"
        return
    report = check(str(out))
    assert report.ok, "\n".join(report.errors)
    ids = Counter(
        entry.problem_id
        for sidecar in iter_sidecars(Store(str(out)), "rollouts")
        for entry in sidecar.entries
        if entry.status != "error"
    )
    assert all(number == 1 for number in ids.values()), [id for id, number in ids.items() if number > 1]
