"""`factory sandbox check`: what it prints, and the exit status that a schedule goes by."""

import json

import pytest

from factory.errors import UserError
from pipelines.sandbox import check_sandboxes
from sandboxes.base import Sandbox
from sandboxes.conformance import suite
from sandboxes.conformance.cases import Case
from sandboxes.conformance.claims import Claim
from sandboxes.conformance.host import Host
from sandboxes.conformance.protocol import WORKS


async def out(sandbox: Sandbox, host: Host) -> str | None:
    return "ESCAPE \x1b[2J it was here"


OUT = Case("a door", Claim.NETWORK, "it is shut", out)


@pytest.fixture(autouse=True)
def _few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite itself has tests of its own."""
    monkeypatch.setattr(suite, "cases_for", lambda _: WORKS[:2])
    monkeypatch.setenv("COLUMNS", "100")


def check(backend: str, *, as_json: bool = False) -> int:
    return check_sandboxes(backend, url="", token_variable=None, as_json=as_json)


def test_what_holds_is_counted_by_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("none") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("none (none, memory ")
    assert "  works         2 of 2\n" in printed


def test_what_gets_out_is_told_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(suite, "cases_for", lambda _: [*WORKS[:1], OUT])
    assert check("none") == 1
    printed = capsys.readouterr().out
    assert "  network       0 of 1\n" in printed
    assert "network, a door: must be: it is shut; was: ESCAPE \\x1b[2J it was here" in printed


def test_json_has_every_finding(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(suite, "cases_for", lambda _: [*WORKS[:1], OUT])
    assert check("none", as_json=True) == 1
    (told,) = json.loads(capsys.readouterr().out)
    assert told["isolation"]["level"] == "none"
    assert [one["wrong"] for one in told["findings"]] == [None, "ESCAPE \x1b[2J it was here"]


def test_one_backend_that_is_not_here_is_no_failure_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.sandbox.LOCAL", ("none", "remote"))
    assert check("all") == 0
    assert "remote  not here: url: backend remote needs the address" in capsys.readouterr().out


def test_what_is_asked_for_and_not_here_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="remote: url"):
        check("remote")
    with pytest.raises(UserError, match="no backend 'firejail'"):
        check("firejail")
