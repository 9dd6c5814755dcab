"""Runs pytest in the process of tests, and tells of each test what became of it.

No code of the program is here: what tests call stands for it. A test is about the program where it, a fixture that it
shares or the collection of tests has asked the program something. What goes wrong in any other test is the tests' own
doing, and says nothing of the program.

Imported by the fork server for such tests alone, and before its walls stand: this project cannot be read behind them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator
from typing import Any, Protocol

import pytest
from _pytest.config import default_plugins

_FILE = "test_program.py"
_LOST = "the program ended before it answered"
_LONGEST = 300
"""Characters of what is said of one test."""
_UNUSED = (
    *("cacheprovider", "doctest", "faulthandler", "junitxml", "pastebin", "setuponly", "setupplan"),
    *("stepwise", "terminal", "threadexception", "unraisableexception"),
)
"""Plugins that tests of a function have no use for."""
_ARGUMENTS = [
    *("-c", os.devnull, "--rootdir=.", "--confcutdir=.", "--noconftest", "--import-mode=importlib", "--basetemp=made"),
    *(part for name in _UNUSED for part in ("-p", f"no:{name}")),
]
_RANKS = ("passed", "xfailed", "skipped", "broken", "failed")
"""What a test can come to; of what its phases came to, the last one in this order counts."""

for _name in (*(f"_pytest.{name}" for name in default_plugins if name not in _UNUSED), "pdb"):
    importlib.import_module(_name)  # else each run would


class Line(Protocol):
    """What has been asked of the program."""

    asked: int
    """How often, answered or not."""
    lost: int
    """How often there was no answer, because the program had ended."""
    unjudged: str | None
    """Why something could not be asked at all."""


Verdict = tuple[bool, str, str | None, list[tuple[str, str, str]]]
"""Whether all tests pass; why not; why they say nothing of the program, or None; of each test, its name, what it came
to and why."""


def run(source: str, line: Line) -> Verdict:
    """Run tests, which stand in a module of their own, in the present folder."""
    with open(_FILE, "wb") as file:  # noqa: PTH123 - pathlib has no part in a program's process
        file.write(source.encode("utf-8", "surrogatepass"))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.dont_write_bytecode = True
    recorder = _Recorder(line)
    status = pytest.main([*_ARGUMENTS, _FILE], plugins=[recorder])
    tests = [(name, outcome, why) for name, (outcome, why, _) in recorder.found.items()]
    return (*recorder.verdict(status), tests)


class _Recorder:
    """A plugin that keeps what becomes of each test."""

    def __init__(self, line: Line) -> None:
        self.found: dict[str, tuple[str, str, bool]] = {}
        """By name: what a test came to, why, and whether it is about the program."""
        self._line = line
        self._trouble: str | None = None
        """Why there is nothing to run."""
        self._number = 0
        """Of tests."""
        self._collecting = 0
        """How often it was asked before the first test."""
        self._askers: set[str] = set()
        """Fixtures of more than one test that have asked."""
        self._asked = self._lost = 0
        """As of the beginning of a test."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and self._trouble is None:
            self._trouble = _last_line(report.longreprtext)

    def pytest_internalerror(self, excrepr: object) -> None:
        self._trouble = _last_line(str(excrepr))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._collecting, self._number = self._line.asked, len(session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        before = self._line.asked
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function" and self._line.asked > before:
                self._askers.add(fixturedef.argname)

    def pytest_runtest_logstart(self) -> None:
        self._asked, self._lost = self._line.asked, self._line.lost

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        told = self._told(report, call.excinfo, about=self._is_about_program(item, report))
        if told[0] != "passed" or report.when == "call":
            name = report.nodeid.partition("::")[2]
            self.found[name] = max(self.found.get(name, told), told, key=lambda one: _RANKS.index(one[0]))
        return report

    def _is_about_program(self, item: pytest.Item, report: pytest.TestReport) -> bool:
        own = bool(self._collecting) or self._line.asked > self._asked
        marked = any(item.get_closest_marker(name) for name in ("skip", "skipif"))
        if report.skipped and report.when == "setup" and marked:
            return own  # said by its author, before any fixture
        return own or not self._askers.isdisjoint(getattr(item, "fixturenames", ()))

    def _told(
        self, report: pytest.TestReport, error: pytest.ExceptionInfo[BaseException] | None, *, about: bool
    ) -> tuple[str, str, bool]:
        """Of one phase of a test."""
        why = " ".join((error.exconly(tryshort=True) if error else report.longreprtext).split())[:_LONGEST]
        unjudged, self._line.unjudged = self._line.unjudged, None
        if self._line.lost > self._lost:
            return "failed", _LOST, about
        if unjudged:
            return "broken", unjudged, about
        if hasattr(report, "wasxfail") and not (error and error.errisinstance(pytest.xfail.Exception)):
            return "xfailed", why, about
        if report.skipped:  # what gives up because of what the program answered does not say that it is right
            return "broken" if about else "skipped", why, about
        if report.failed:
            return "failed" if about and not (error and error.errisinstance(SystemExit)) else "broken", why, about
        return "passed", "", about

    def verdict(self, status: int | pytest.ExitCode) -> tuple[bool, str, str | None]:
        """What all tests together say, once pytest has ended with a status."""
        if status not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            said = status.name.lower().replace("_", " ") if isinstance(status, pytest.ExitCode) else f"status {status}"
            why = self._trouble or f"pytest says {said}"
            by_program = status == pytest.ExitCode.INTERRUPTED and self._trouble and self._line.asked
            return (False, why, None) if by_program else (False, "", f"the tests do not run: {why}")
        if len(self.found) < self._number:
            return False, "", "the tests end themselves"
        first = {outcome: f"{name}: {why}" for name, (outcome, why, _) in reversed(self.found.items())}
        if "failed" in first:
            return False, first["failed"], None
        if "broken" in first:
            return False, "", f"it breaks by itself: {first['broken']}"
        if self._line.lost:
            return False, _LOST, None
        if not any(about for outcome, _, about in self.found.values() if outcome == "passed"):
            return False, "", "no test passes with a call of the program"
        return True, "", self._line.unjudged


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].removeprefix("E").strip()[:_LONGEST]
