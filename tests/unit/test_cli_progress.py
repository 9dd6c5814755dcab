"""The progress display: what it says of the counters, and that nothing about it can harm a run or a terminal."""

import io
import itertools
import logging
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from factory.driver import Progress
from factory.judging import JudgingStats
from pipelines.progress import Meter, Pace, duration, line, panel, show

FULL = Progress(
    total=300,
    closed_before=40,
    closed=100,
    solved=80,
    attempts=1532,
    right=410,
    committed=90,
    errors=2,
    trees=30,
    running=240,
    waiting=12,
    places=256,
    tokens_before=5000,
    tokens=312_000,
    workers=3,
    lost_workers=1,
    occupancy_seconds=91.0,
    engine_seconds=100.0,
    judging=JudgingStats(12, 4, 410, 821, 3, seconds=3.7, longest=0.8),
)
PACE = Pace(elapsed=201.4, recent=1234.4, mean=3120.0, left=160.0)


def drawn(progress: Progress, pace: Pace, width: int = 80) -> str:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    with out.capture() as captured:
        out.print(panel(progress, pace))
    return captured.get()


def clock(*times: float) -> Iterator[float]:
    return itertools.chain(times, itertools.repeat(times[-1]))


def metered(progress: Progress, *times: float) -> Meter:
    ticks = clock(*times)
    return Meter(progress, lambda: next(ticks))


# --- what is said


@pytest.mark.parametrize("width", [80, 100, 200, 40])
def test_the_panel(width: int) -> None:
    out = drawn(FULL, PACE, width)
    assert max(map(len, out.splitlines())) <= min(80, width)
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", out).split())
    assert len(out.splitlines()) == 9 or width == 40, "one line for each fact"
    for fact in (
        "searching",
        "140 of 300 closed (40 before)",
        "130 committed",
        "2 errors",
        "attempts 1,532",
        "410 right",
        "80 problems solved",
        "verdicts 1,234 judged · 3 unknown · 12 wait · 4 run · 3.0 ms mean",
        "tokens 312,000",
        "1,234/s now",
        "3,120/s mean",
        "3,900 per solved problem",
        "91% occupied",
        "240 of 256 places run",
        "12 wait",
        "workers 3 · 1 lost",
        "0:03:21 elapsed",
        "about 0:02:40 left",
    ):
        assert fact.split()[0] in said if width == 40 else fact in said


def test_it_is_as_high_at_the_largest_scale() -> None:
    big = 10**9
    large = Progress(
        10 * big,
        big,
        big,
        big,
        big,
        big,
        big,
        big,
        big,
        10**6,
        10**6,
        10**6,
        big,
        10**12,
        1.0,
        1.0,
        1000,
        9,
        1.0,
        2.0,
        JudgingStats(10**5, 10**4, big, big, 10**6, 9e6, 9e3),
    )
    assert max(map(len, drawn(large, Pace(9e6, 1e6, 1e6, 9e6)).splitlines())) <= 80
    assert "104 d" in line(large, Pace(9e6, 1e6, 1e6, 9e6))


def test_the_line_is_one_line() -> None:
    said = line(FULL, PACE)
    assert "\n" not in said
    assert said.startswith(
        "searching: problems 140 of 300 closed (40 before), 130 committed, 2 errors; attempts 1,532, "
    )
    assert said.endswith("; time 0:03:21 elapsed, about 0:02:40 left")


def test_before_an_engine_is_up() -> None:
    said = line(Progress(total=300), Pace(3.0, 0.0, None, None))
    assert said == "starting the engine ...: problems 0 of 300 closed, 0 committed; time 0:00:03 elapsed"


def test_between_two_workers() -> None:
    assert line(Progress(engine_seconds=5.0, lost_workers=1), PACE).startswith("waiting for a worker: ")


def test_a_source_that_does_not_tell_its_length() -> None:
    assert "7 closed, 0 committed" in line(Progress(closed=7), PACE)


# --- the pace


def test_rates() -> None:
    progress = Progress(total=100, closed_before=20)
    meter = metered(progress, 0, 0, 5, 10, 30)
    assert meter.read() == Pace(0, None, None, None)
    progress.tokens, progress.closed, progress.engine_seconds = 500, 10, 4.0
    assert meter.read() == Pace(5, 100.0, 125.0, 28.0)
    assert meter.read().recent == 50.0
    progress.tokens = 2500
    assert meter.read().recent == 100.0


def test_the_recent_rate_forgets_what_is_long_ago() -> None:
    progress = Progress()
    meter = metered(progress, 0, *range(100))
    paces = []
    for second in range(60):
        progress.tokens = 10_000 if second < 30 else 10_000 + 10 * (second - 30)
        paces.append(meter.read().recent)
    assert paces[1] == 0.0
    assert paces[-1] == 10.0


def test_little_is_remembered() -> None:
    ticks = (n / 100 for n in itertools.count())
    meter = Meter(Progress(), lambda: next(ticks))
    for _ in range(10_000):
        meter.read()
    assert len(meter._samples) < 40


def test_nothing_is_left_when_more_is_closed_than_the_source_said() -> None:
    progress = Progress(total=5, closed=9, engine_seconds=1.0)
    assert metered(progress, 0).read().left == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (249.4, "0:04:09"), (86399.6, "1 d 00:00:00"), (266400, "3 d 02:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- without a terminal


def test_lines_while_it_goes_on_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(total=2)
    with show(progress, every=0.02):
        time.sleep(0.2)
        progress.closed = 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert lines[0].startswith("starting the engine ...: problems 0 of 2 closed")
    assert "2 of 2 closed" in lines[-1]
    assert not any("\x1b" in line for line in lines)


def test_a_short_run_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with show(Progress(), every=60):
        pass
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_no_thread_stays(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with show(Progress(), terminal=terminal, every=0.01):
        assert set(threading.enumerate()) > before
    time.sleep(0.05)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_of_the_run_passes_through(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError, match="mine"), show(Progress(), terminal=terminal):
        raise KeyError("mine")


class Broken(io.StringIO):
    """A stderr whose reader has gone away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "gone")


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stderr_that_is_gone_does_not_end_the_run(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Broken())
    reached = False
    with show(Progress(), terminal=terminal, every=0.01):
        time.sleep(0.6 if terminal else 0.05)
        reached = True
    assert reached


class Blocked(io.StringIO):
    """A stderr that nobody reads, behind a full pipe."""

    def __init__(self) -> None:
        super().__init__()
        self.freed = threading.Event()

    def write(self, text: str) -> int:
        self.freed.wait(20)
        return len(text)


def test_a_stderr_that_blocks_delays_the_end_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = Blocked()
    monkeypatch.setattr(sys, "stderr", blocked)
    monkeypatch.setattr("pipelines.progress.JOIN_SECONDS", 0.2)
    start = time.monotonic()
    with show(Progress(), every=0.01):
        time.sleep(0.05)
    assert time.monotonic() - start < 5
    blocked.freed.set()


class Poisoned(Progress):
    """Counters that cannot be read."""

    @property
    def occupancy(self) -> float | None:
        raise RuntimeError("poison")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_mistake_in_the_display_is_no_mistake_of_the_run(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with show(Poisoned(places=1, engine_seconds=1.0), terminal=terminal, every=0.01):
        time.sleep(0.3)
    err = capsys.readouterr().err
    assert ("no progress can be shown" in err) == terminal
    assert "Traceback" not in err


# --- on a terminal


class Terminal:
    """A pseudo-terminal in place of stderr; `text` is what it was sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ours, theirs = pty.openpty()
        self._sent = b""
        self._file = os.fdopen(theirs, "w", encoding="utf-8", buffering=1)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "24")
        monkeypatch.setattr(sys, "stderr", self._file)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the other end was closed
                return
            self._sent += data

    def close(self) -> str:
        self._file.close()
        self._reader.join(5)
        os.close(self._ours)
        return self._sent.decode()


def test_a_panel_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    stderr = sys.stderr
    progress = Progress(total=2)
    with show(progress):
        time.sleep(0.6)
        progress.closed, progress.places, progress.engine_seconds = 2, 4, 1.0
    assert sys.stderr is stderr
    text = terminal.close()
    assert "starting the engine ..." in text
    assert "2 of 2 closed" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is visible at the end"
    assert "\x1b[?1049h" not in text, "what was on the screen stays there"
    assert text.endswith("\n\x1b[?25h")


def test_the_cursor_is_visible_even_when_the_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    with show(Progress()):
        time.sleep(0.4)
        sent = terminal._sent.decode()
    terminal.close()
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")


def test_log_lines_go_above_the_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    before = handler.stream
    with show(Progress(total=1)):
        assert handler.stream is not before
        logging.getLogger("test").warning("worker is lost")
    assert handler.stream is before
    text = terminal.close()
    at = text.index("worker is lost")
    assert re.search(r"\x1b\[1A|\x1b\[2K", text[:at]), "the panel was erased first"
    assert "╭" in text[at:], "and drawn again below"


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with show(Progress(), every=60):
        pass
    assert terminal.close() == "starting the engine ...: problems 0 closed, 0 committed; time 0:00:00 elapsed\r\n"
