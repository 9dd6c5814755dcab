"""The progress of a run on stderr, read from the driver's counters by a thread of its own.

On a terminal a panel is redrawn in place, four times a second; elsewhere there is a plain line every few seconds and a
last one at the end. Nothing here may harm the run: what fails to be shown is not shown, a stderr that blocks delays the
end by `JOIN_SECONDS` at most, and the cursor is never hidden, so that even a killed run leaves the terminal as it was.

Rates and means are of this invocation. `Meter` alone knows a clock; everything else is a function of what it says.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from factory.driver import Progress
from factory.judging import JudgingStats

log = logging.getLogger(__name__)

WINDOW_SECONDS = 15.0
"""What `now` means in tokens per second."""
SAMPLE_SECONDS = 0.5
"""The least time between two samples."""
JOIN_SECONDS = 2.0
"""How long the end waits for the last line to be written."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What the counters do not say: how fast they move."""

    elapsed: float
    """Seconds since the meter was made."""
    recent: float | None
    """Generated tokens per second of the last seconds; None before there are two samples."""
    mean: float | None
    """The same over all the time in which an engine was up; None before."""
    left: float | None
    """Seconds until every problem is closed at the mean pace so far; None where that cannot be told."""


class Meter:
    """Remembers the last seconds of a run. Used by one thread."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._start = clock()
        self._samples: deque[tuple[float, int]] = deque()

    def read(self) -> Pace:
        now = self._clock()
        return Pace(now - self._start, self._recent(now), self._mean(), _left(self._progress))

    def _recent(self, now: float) -> float | None:
        samples = self._samples
        if not samples or now - samples[-1][0] >= SAMPLE_SECONDS:
            samples.append((now, self._progress.tokens))
        while len(samples) > 2 and now - samples[1][0] >= WINDOW_SECONDS:
            samples.popleft()
        (since, before), (until, tokens) = samples[0], samples[-1]
        return max(0.0, (tokens - before) / (until - since)) if until > since else None

    def _mean(self) -> float | None:
        progress = self._progress
        return progress.tokens / progress.engine_seconds if progress.engine_seconds else None


def _left(progress: Progress) -> float | None:
    if progress.total is None or not progress.closed or not progress.engine_seconds:
        return None
    owed = max(0, progress.total - progress.closed_before - progress.closed)
    return owed * progress.engine_seconds / progress.closed


def show(progress: Progress, *, terminal: bool | None = None, every: float = 5.0) -> AbstractContextManager[None]:
    """Shows a run while the context is open.

    `terminal`: whether stderr is one; None to look. `every`: seconds between two plain lines.
    """
    if terminal is None:
        terminal = sys.stderr.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
    return _panel(progress) if terminal else _lines(progress, every)


@contextlib.contextmanager
def _panel(progress: Progress) -> Iterator[None]:
    meter = Meter(progress)
    started = _started(lambda: _safely(lambda: panel(progress, meter.read())))
    try:
        yield
    finally:
        if started is not None:
            live, undo = started
            undo()
            _end(live)


class _Stderr(Console):
    """A terminal that may go away: Rich would end the process for that, and point stdout at nothing."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def _started(draw: Callable[[], RenderableType]) -> tuple[Live, Callable[[], None]] | None:
    """None where the terminal does not take a panel: the run goes on without."""
    logs_to = sys.stderr
    terminal = _Stderr(stderr=True, force_terminal=True)
    live = Live(get_renderable=draw, console=terminal, refresh_per_second=4, redirect_stdout=False)
    try:
        live.start(refresh=True)
        # Rich hides the cursor, and nothing would show it again after a second Ctrl-C or a SIGKILL.
        terminal.show_cursor(True)
    except Exception:  # whatever is wrong with the terminal, the run is more important
        log.debug("no panel can be shown", exc_info=True)
        _end(live)
        return None
    # Log lines go above the panel; the handlers hold the stderr from before.
    return live, _redirect_logs(logs_to, sys.stderr)


def _redirect_logs(old: TextIO, new: TextIO) -> Callable[[], None]:
    moved = [one for one in logging.root.handlers if isinstance(one, logging.StreamHandler) and one.stream is old]
    for handler in moved:
        handler.setStream(new)

    def undo() -> None:
        for handler in moved:
            handler.setStream(old)

    return undo


def _end(live: Live) -> None:
    try:
        live.stop()
    except Exception:  # the terminal is gone; that is no reason for a run to fail
        log.debug("the panel did not end", exc_info=True)


def _safely(draw: Callable[[], RenderableType]) -> RenderableType:
    try:
        return draw()
    except Exception as error:  # noqa: BLE001 - a mistake in a display must not end the thread that draws it
        return Text(f"no progress can be shown: {error!r}")


@contextlib.contextmanager
def _lines(progress: Progress, every: float) -> Iterator[None]:
    done = threading.Event()
    work = functools.partial(_write_lines, progress, sys.stderr, every, done)
    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(JOIN_SECONDS)


def _write_lines(progress: Progress, stderr: TextIO, every: float, done: threading.Event) -> None:
    meter = Meter(progress)
    try:
        meter.read()
        while not done.wait(every):
            print(line(progress, meter.read()), file=stderr, flush=True)
        print(line(progress, meter.read()), file=stderr, flush=True)
    except Exception:  # stderr is closed or full: nobody reads this, and the run is more important
        log.debug("no progress can be written", exc_info=True)


def panel(progress: Progress, pace: Pace) -> Panel:
    """The funnel for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, parts in _facts(progress, pace):
        table.add_row(name, Text(" · ").join(Text(part, no_wrap=True) for part in parts))
    return Panel(table, title=_title(progress), title_align="left", border_style="dim", width=80)


def line(progress: Progress, pace: Pace) -> str:
    """The funnel in one line, for a log."""
    facts = "; ".join(f"{name} {', '.join(parts)}" for name, parts in _facts(progress, pace))
    return f"{_title(progress)}: {facts}"


def _title(progress: Progress) -> str:
    if progress.places:
        return "searching"
    return "waiting for a worker" if progress.engine_seconds else "starting the engine ..."


def _facts(progress: Progress, pace: Pace) -> Iterator[tuple[str, list[str]]]:
    yield "problems", list(_problems(progress))
    if progress.engine_seconds:
        yield (
            "attempts",
            [f"{progress.attempts:,}", f"{progress.right:,} right", f"{progress.solved:,} problems solved"],
        )
        yield "verdicts", list(_verdicts(progress.judging))
        yield "tokens", list(_tokens(progress, pace))
        yield "engine", list(_engine(progress))
        yield "workers", [f"{progress.workers:,}", f"{progress.lost_workers:,} lost"]
    yield "time", list(_time(pace))


def _problems(progress: Progress) -> Iterator[str]:
    closed = progress.closed_before + progress.closed
    total = "" if progress.total is None else f" of {progress.total:,}"
    before = f" ({progress.closed_before:,} before)" if progress.closed_before else ""
    yield f"{closed:,}{total} closed{before}"
    yield f"{progress.closed_before + progress.committed:,} committed"
    if progress.errors:
        yield f"{progress.errors:,} errors"


def _verdicts(judging: JudgingStats) -> Iterator[str]:
    yield f"{judging.judged:,} judged"
    if judging.unknown:
        yield f"{judging.unknown:,} unknown"
    yield f"{judging.waiting:,} wait"
    yield f"{judging.running:,} run"
    if judging.mean is not None:
        yield f"{1000 * judging.mean:,.1f} ms mean"


def _tokens(progress: Progress, pace: Pace) -> Iterator[str]:
    yield f"{progress.tokens:,}"
    if pace.recent is not None:
        yield f"{pace.recent:,.0f}/s now"
    if pace.mean is not None:
        yield f"{pace.mean:,.0f}/s mean"
    if progress.solved:
        yield f"{progress.tokens / progress.solved:,.0f} per solved problem"


def _engine(progress: Progress) -> Iterator[str]:
    if progress.occupancy is not None:
        yield f"{progress.occupancy:.0%} occupied"
    yield f"{progress.running:,} of {progress.places:,} places run"
    yield f"{progress.waiting:,} wait"


def _time(pace: Pace) -> Iterator[str]:
    yield f"{duration(pace.elapsed)} elapsed"
    if pace.left is not None:
        yield f"about {duration(pace.left)} left"


def duration(seconds: float) -> str:
    """Such as `0:04:09` or `3 d 02:10:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02}:{minutes:02}:{rest:02}" if days else f"{hours}:{minutes:02}:{rest:02}"
