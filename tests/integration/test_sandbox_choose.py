"""What `auto` takes: the strongest that works, saying what it did not take; and nothing that was not agreed to."""

import logging

import pytest

from sandboxes.base import Language, Level, Limits, Program, SandboxError
from sandboxes.choose import choose
from sandboxes.conformance.suite import cases_for
from sandboxes.linux import landlock_abi
from sandboxes.pool import Options
from sandboxes.walls import Fence
from tests.sandboxed import LANDLOCK, NAMESPACES, confined, run, suite, user

ONE = Options(slots=1)


@pytest.mark.parametrize("who", ["root", "plain"])
def test_where_namespaces_are_refused_landlock_is_taken_and_holds(who: str) -> None:
    if landlock_abi() < Fence.MINIMUM:
        pytest.skip(f"this kernel's Landlock has ABI {landlock_abi()}; {Fence.MINIMUM} is needed")
    someone = user(who)
    command = confined(NAMESPACES, suite("auto", someone.python), someone.python)
    status, lines, errors = run([*someone.before, *command])
    assert lines, errors
    assert lines[0]["isolation"]["backend"] == "landlock"
    assert lines[0]["isolation"]["level"] == "filter"
    assert list(lines[0]["refused"]) == ["zygote"]
    assert "cannot do better: zygote: " in errors
    assert [one for one in lines[1:] if one["wrong"] is not None] == []
    assert len(lines[1:]) == len(cases_for("landlock"))
    assert status == 0


@pytest.mark.parametrize("who", ["root", "plain"])
def test_where_nothing_is_to_be_had_it_refuses_with_every_reason(who: str) -> None:
    someone = user(who)
    command = confined(NAMESPACES + LANDLOCK, suite("auto", someone.python), someone.python)
    status, lines, errors = run([*someone.before, *command])
    assert (status, lines) == (2, [])
    assert "zygote: " in errors
    assert "landlock: " in errors


async def test_none_is_had_by_whoever_says_unsafe_only() -> None:
    with pytest.raises(SandboxError, match="unsafe = true"):
        await choose("none")
    chosen = await choose("none", options=ONE, unsafe=True)
    try:
        result = await chosen.sandbox.run(Program("print(1)"), Limits())
    finally:
        await chosen.sandbox.close()
    assert result.ok
    assert result.isolation.level is Level.NONE


async def test_every_result_says_what_it_was_run_in(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        try:
            chosen = await choose(options=ONE)
        except SandboxError as error:
            pytest.skip(str(error))
    result = await chosen.sandbox.run(Program("print(1)"))
    await chosen.sandbox.close()
    assert result.isolation == chosen.sandbox.isolation
    assert bool(chosen.refused) == bool(caplog.records)


@pytest.mark.parametrize(
    ("backend", "language", "url", "why"),
    [
        ("nsjail", Language.PYTHON, "", "no backend 'nsjail'"),
        ("zygote", Language.CPP, "", "not cpp"),
        ("remote", Language.PYTHON, "", "needs the address"),
        ("zygote", Language.PYTHON, "http://127.0.0.1", "only backend remote"),
        ("remote", Language.PYTHON, "http://127.0.0.1:9", "out of reach"),
    ],
)
async def test_what_cannot_be_is_refused_in_a_line(backend: str, language: Language, url: str, why: str) -> None:
    with pytest.raises(SandboxError, match=why) as refused:
        await choose(backend, language, options=ONE, url=url)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("slots", [-1, 171])
def test_slots_have_bounds(slots: int) -> None:
    with pytest.raises(SandboxError, match="from 0 to 170"):
        Options(slots=slots)


async def test_an_interpreter_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxes.bubblewrap.tools", lambda: {Language.PYTHON: "/usr/bin/python3"})
    with pytest.raises(SandboxError, match="it runs python here, not javascript"):
        await choose("auto", Language.JAVASCRIPT, options=ONE)
