"""What is made of what a run left: its ending, the answers of its calls, the verdict of its tests, its place."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxes import frames, plain
from sandboxes.base import (
    Ending,
    Isolation,
    JudgedOutcome,
    JudgedTest,
    JudgedTestOutcome,
    Level,
    Limits,
    Memory,
    Returned,
    RunResult,
)
from sandboxes.child import LENGTH
from sandboxes.endings import Run, bubblewrap_result, ending_of, tell_inner_status
from sandboxes.pool import _Places, read_judged, read_returned

LIMITS = Limits(cpu_seconds=2.0, output_bytes=1000)
KILLED, CPU_KILL = int(signal.SIGKILL), int(signal.SIGXCPU)
CPU = (Ending.CPU_LIMIT, "processor time used up")
OUTPUT = (Ending.OUTPUT_LIMIT, "more output than allowed")
MEMORY = (Ending.MEMORY_LIMIT, "memory used up")
OUTSIDE = (Ending.TROUBLE, "it was killed from outside")


def report(status: int = 0, stopped: str | None = None, cpu: float = 0.0, trouble: str | None = None) -> dict[str, Any]:
    return {"run": 1, "status": status, "stopped": stopped, "cpu": cpu, "wall": 0.1, "trouble": trouble}


def exited(code: int) -> int:
    return code << 8


@pytest.mark.parametrize(
    ("told", "also", "ending"),
    [
        (report(), {}, (Ending.EXITED, "")),
        (report(exited(3)), {}, (Ending.EXITED, "")),
        (report(exited(137)), {}, (Ending.EXITED, "")),
        (report(exited(1), trouble="no box"), {}, (Ending.TROUBLE, "no box")),
        (report(KILLED, "wall", 2.0, trouble="no box"), {"kills": 1, "written": 1001}, (Ending.TROUBLE, "no box")),
        (report(KILLED, "cpu"), {}, CPU),
        (report(KILLED, "wall"), {}, (Ending.WALL_LIMIT, "time over")),
        (report(KILLED, "memory"), {}, MEMORY),
        (report(KILLED, "output"), {}, OUTPUT),
        (report(KILLED, "files"), {}, (Ending.OUTPUT_LIMIT, "more in files than allowed")),
        (report(KILLED, "dismissed"), {}, (Ending.EXITED, "ended when the tests had")),
        (report(KILLED, "wall", 9.0), {"kills": 1, "written": 1001}, (Ending.WALL_LIMIT, "time over")),
        (report(), {"written": 1000}, (Ending.EXITED, "")),
        (report(), {"written": 1001}, OUTPUT),
        (report(signal.SIGXFSZ), {"written": 1001}, OUTPUT),
        (report(KILLED, cpu=2.0), {"kills": 1, "written": 1001}, OUTPUT),
        (report(KILLED), {"kills": 1}, MEMORY),
        (report(KILLED, cpu=9.0), {"kills": 1}, MEMORY),
        (report(), {"kills": 1}, (Ending.EXITED, "")),  # the process that it had for that was killed, not itself
        (report(signal.SIGSEGV), {"kills": 1}, (Ending.SIGNALED, "SIGSEGV")),
        (report(KILLED, cpu=2.0), {}, CPU),
        (report(CPU_KILL, cpu=2.0), {}, CPU),
        (report(CPU_KILL, cpu=1.9), {}, (Ending.SIGNALED, "SIGXCPU")),
        (report(exited(0), cpu=9.0), {}, (Ending.EXITED, "")),
        (report(signal.SIGSEGV, cpu=9.0), {}, (Ending.SIGNALED, "SIGSEGV")),
        (report(KILLED, cpu=1.9), {}, OUTSIDE),
        (report(KILLED, cpu=1.9), {"kills_itself": True}, (Ending.SIGNALED, "SIGKILL")),
        (report(KILLED, cpu=2.0), {"kills_itself": True}, CPU),
        (report(KILLED), {"kills": 1, "kills_itself": True}, MEMORY),
        (report(signal.SIGABRT | 0x80), {}, (Ending.SIGNALED, "SIGABRT")),  # with a core
        (report(32), {}, (Ending.SIGNALED, "signal 32")),  # the C library's own
    ],
)
def test_each_ending_has_its_signs(told: dict[str, Any], also: dict[str, Any], ending: tuple[Ending, str]) -> None:
    assert ending_of(told, LIMITS, **({"kills": 0, "written": 0} | also)) == ending


@pytest.mark.parametrize("number", sorted(set(range(1, 32)) - {KILLED}))
def test_a_signal_has_its_name(number: int) -> None:
    named = (Ending.SIGNALED, signal.Signals(number).name)
    assert ending_of(report(number), LIMITS, kills=0, written=0) == named


@pytest.mark.parametrize("number", [35, 40, 63])
def test_a_real_time_signal_ends_a_run_as_well(number: int) -> None:
    """And has a name only where it is the first or the last of them."""
    assert ending_of(report(number), LIMITS, kills=0, written=0) == (Ending.SIGNALED, f"signal {number}")


@pytest.mark.parametrize(
    ("status", "told", "then"),
    [
        (exited(137), True, KILLED),
        (exited(139), True, int(signal.SIGSEGV)),
        (exited(129), True, 1),
        *[(exited(code), False, exited(code)) for code in (0, 1, 127, 128, 255)],
        (KILLED, False, KILLED),
        (int(signal.SIGSEGV) | 0x80, False, int(signal.SIGSEGV) | 0x80),
    ],
)
def test_bubblewraps_status_tells_of_a_signal_inside(status: int, told: bool, then: int) -> None:
    given = report(status)
    assert tell_inner_status(given) is told
    assert given == report(then)


STARTED = b'{\n    "child-pid": 5\n}\n'


@pytest.mark.parametrize("run", [Run(Ending.EXITED, code=1), Run(Ending.SIGNALED, signal=11)])
def test_what_bubblewrap_started_is_a_build_until_that_is_over(run: Run) -> None:
    run.results = STARTED
    assert bubblewrap_result(run, compiled=True) is run
    built = bubblewrap_result(run, compiled=False)
    assert (built.ending, built.code, built.results) == (Ending.BUILD_FAILED, None, STARTED)


def test_a_compiler_that_crashes_is_a_failed_build_without_a_signal() -> None:
    assert bubblewrap_result(Run(Ending.SIGNALED, signal=11, results=STARTED), compiled=False).signal is None


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (b"warning\nbwrap: No permissions\n", "bubblewrap could not start it: bwrap: No permissions"),
        (b"", "bubblewrap could not start it: "),
        (b"\xff\n", "bubblewrap could not start it: \ufffd"),
        (b"a" * 1000, "bubblewrap could not start it: " + "a" * 269),
    ],
)
@pytest.mark.parametrize("compiled", [True, False])
def test_what_bubblewrap_did_not_start_is_trouble(stderr: bytes, said: str, compiled: bool) -> None:
    result = bubblewrap_result(Run(Ending.EXITED, code=1, stderr=stderr), compiled=compiled)
    assert (result.ending, result.detail) == (Ending.TROUBLE, said)


@pytest.mark.parametrize("ending", sorted(set(Ending) - {Ending.EXITED, Ending.SIGNALED}))
@pytest.mark.parametrize("results", [b"", STARTED])
def test_a_limit_is_a_limit_whatever_bubblewrap_said(ending: Ending, results: bytes) -> None:
    run = Run(ending, results=results)
    assert bubblewrap_result(run, compiled=False) is run


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)
ANSWERS = st.lists(
    st.builds(Returned, VALUES)
    | st.builds(
        lambda kind, message: Returned(error=f"{kind}: {message}"), st.sampled_from(["E"]), st.text(max_size=5)
    ),
    max_size=6,
)


def framed(record: bytes) -> bytes:
    return LENGTH.pack(len(record)) + record


def record_of(answer: Returned) -> bytes:
    said = (0, answer.value) if answer.error is None else (1, *answer.error.split(": ", 1))
    return framed(plain.encode(said))


@given(
    st.binary(max_size=200)
    | st.lists(st.binary(max_size=9).map(framed) | VALUES.map(plain.encode).map(framed) | st.binary(max_size=5)).map(
        b"".join
    ),
    st.integers(0, 10),
)
def test_whatever_a_program_writes_there_are_as_many_answers_as_calls(records: bytes, number: int) -> None:
    answers = read_returned(records, number)
    assert len(answers) == number
    present = [not answer.missing for answer in answers]
    assert present == sorted(present, reverse=True)
    assert all(answer.value is None or answer.error is None for answer in answers)


@given(ANSWERS, st.integers(0, 3), st.integers(0, 3))
def test_answers_come_back_in_order_and_what_is_too_much_is_left(
    answers: list[Returned], fewer: int, more: int
) -> None:
    records = b"".join(map(record_of, answers))
    asked = max(0, len(answers) - fewer)
    assert read_returned(records, asked) == tuple(answers[:asked])
    assert read_returned(records, len(answers) + more) == (*answers, *[Returned(missing=True)] * more)


@given(ANSWERS.filter(bool), st.data())
def test_what_was_cut_off_is_missing(answers: list[Returned], data: st.DataObject) -> None:
    parts = list(map(record_of, answers))
    whole = data.draw(st.integers(0, len(parts) - 1))
    cut = data.draw(st.integers(0, len(parts[whole]) - 1))
    records = b"".join(parts[:whole]) + parts[whole][:cut]
    missing = (Returned(missing=True),) * (len(parts) - whole)
    assert read_returned(records, len(parts)) == (*answers[:whole], *missing)


@pytest.mark.parametrize("said", [0, (), (0,), (0, 1, 2), (1,), (1, "E"), (1, 2, "text"), (2, 1), "no", {0: 1}, None])
def test_plain_data_of_another_shape_is_no_result(said: Any) -> None:
    (answer,) = read_returned(framed(plain.encode(said)), 1)
    assert answer == Returned(error="the program wrote no result")


def result(ending: Ending = Ending.EXITED, code: int | None = 0, detail: str = "") -> RunResult:
    return RunResult(ending, Isolation("zygote", Level.JAIL, Memory.CGROUP), exit_code=code, detail=detail)


@pytest.mark.parametrize(
    ("verdict", "outcome", "detail", "calls"),
    [
        ((True, "", 3, None, []), JudgedOutcome.PASSED, "", 3),
        ((True, "", 0, None, []), JudgedOutcome.PASSED, "", 0),
        ((False, "line 1: AssertionError", 2, None, []), JudgedOutcome.FAILED, "line 1: AssertionError", 2),
        ((True, "", 4, "an argument cannot be passed", []), JudgedOutcome.UNJUDGED, "an argument cannot be passed", 4),
        ((False, "line 1", 4, "the tests end themselves", []), JudgedOutcome.UNJUDGED, "the tests end themselves", 4),
    ],
)
@pytest.mark.parametrize("candidate", [result(), result(code=1), result(Ending.CPU_LIMIT, None)])
def test_only_the_tests_word_counts(
    candidate: RunResult, verdict: Any, outcome: JudgedOutcome, detail: str, calls: int
) -> None:
    judged = read_judged(candidate, result(), plain.encode(verdict))
    assert (judged.outcome, judged.detail, judged.calls) == (outcome, detail, calls)
    assert judged.candidate is candidate


PASSED = plain.encode((True, "", 3, None, [("test_a", "passed", "")]))


@pytest.mark.parametrize("tests", [result(code=1), *[result(one, None) for one in Ending if one is not Ending.EXITED]])
@pytest.mark.parametrize("verdict", [PASSED, b"", b"\0junk"])
def test_tests_that_did_not_end_as_they_should_judge_nothing(tests: RunResult, verdict: bytes) -> None:
    judged = read_judged(result(), tests, verdict)
    assert (judged.outcome, judged.calls, judged.tests) == (JudgedOutcome.UNJUDGED, 0, tests)
    assert str(tests.ending) in judged.detail or tests.ending is Ending.TROUBLE


def test_trouble_of_either_side_is_no_verdict() -> None:
    trouble, other = result(Ending.TROUBLE, None, "a box is gone"), result(Ending.TROUBLE, None, "so is this")
    for pair, detail in (((trouble, result()), "a box is gone"), ((result(), other), "so is this")):
        judged = read_judged(*pair, PASSED)
        assert (judged.outcome, judged.detail, judged.calls) == (JudgedOutcome.UNJUDGED, detail, 0)


def test_each_test_of_pytest_is_told() -> None:
    (one,) = read_judged(result(), result(), PASSED).each
    assert one == JudgedTest("test_a", JudgedTestOutcome.PASSED, "")


NO_TESTS = [[7], [("test_a", "passed")], [("test_a", "best", "")], [(1, "passed", "")]]


@pytest.mark.parametrize(
    "verdict",
    [
        *(b"", PASSED * 2, b"x" + PASSED, plain.encode(7), plain.encode((True, "")), plain.encode((True, "", 3, None))),
        *(plain.encode((True, "", 3, None, each)) for each in (None, *NO_TESTS)),
    ],
)
def test_a_verdict_that_is_none_judges_nothing(verdict: bytes) -> None:
    assert read_judged(result(), result(), verdict).outcome is JudgedOutcome.UNJUDGED


HEADERS = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name != "blobs"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5
    ),
    max_size=4,
)


@given(HEADERS, st.lists(st.binary(max_size=50), max_size=5))
def test_a_frame_comes_back(header: dict[str, Any], blobs: list[bytes]) -> None:
    packed = frames.pack(header, blobs)
    text, rest = frames.LENGTHS.unpack_from(packed)
    assert len(packed) == frames.LENGTHS.size + text + rest
    assert frames.unpack(packed) == (header, blobs)


class Room:
    """Places with a watch on who is inside."""

    def __init__(self, number: int) -> None:
        self.places = _Places(number)
        self.number = number
        self.inside: list[str] = []
        self.most = 0

    @asynccontextmanager
    async def enter(self, kind: str) -> AsyncIterator[None]:
        place: AbstractAsyncContextManager[None] = self.places.all() if kind == "all" else self.places.one()
        async with place:
            self.inside.append(kind)
            assert self.inside in (["all"], ["one"] * len(self.inside))
            self.most = max(self.most, len(self.inside))
            try:
                yield
            finally:
                self.inside.remove(kind)

    async def stay(self, kind: str, until: asyncio.Event) -> None:
        async with self.enter(kind):
            await until.wait()


async def settle() -> None:
    """Until no task can go on without somebody's doing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_who_wants_all_waits_for_those_inside_and_keeps_others_out() -> None:
    room, first, last = Room(2), asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(room.stay("one", first))
        await settle()
        tasks.create_task(room.stay("all", last))
        await settle()
        late = tasks.create_task(room.stay("one", first))
        await settle()
        assert room.inside == ["one"]
        first.set()
        await settle()
        assert room.inside == ["all"]
        assert not late.done()
        last.set()
    assert (room.inside, room.most) == ([], 1)


async def fills(room: Room) -> bool:
    """Whether there is room for exactly as many as there should be."""
    go = asyncio.Event()
    tasks = [asyncio.create_task(room.stay("one", go)) for _ in range(room.number + 1)]
    await settle()
    inside = len(room.inside)
    go.set()
    await asyncio.gather(*tasks)
    return inside == room.number


async def test_who_gives_up_waiting_for_all_gives_everything_back() -> None:
    room, go = Room(3), asyncio.Event()
    staying = asyncio.create_task(room.stay("one", go))
    await settle()
    waiting = [asyncio.create_task(room.stay("all", go)) for _ in range(2)]
    await settle()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert all(task.cancelled() for task in waiting)
    assert room.inside == ["one"]
    go.set()
    await staying
    assert await fills(room)


@given(st.integers(1, 3), st.lists(st.sampled_from(["one", "one", "all"]), max_size=8), st.integers())
async def test_all_is_alone_and_no_place_is_lost_whoever_is_cancelled(number: int, kinds: list[str], seed: int) -> None:
    room, chance = Room(number), random.Random(seed)
    events = [asyncio.Event() for _ in kinds]
    tasks = [asyncio.create_task(room.stay(kind, event)) for kind, event in zip(kinds, events, strict=True)]
    order = list(range(len(tasks)))
    chance.shuffle(order)
    for place in order:
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            tasks[place].cancel()
        events[place].set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in ended} <= {type(None), asyncio.CancelledError}
    assert room.inside == []
    assert room.most <= number
    assert await fills(room)
