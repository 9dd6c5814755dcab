"""The suite against every backend of this machine, as root and as a plain user; and that it sees what gets out."""

import pytest

from sandboxes.base import Isolation, Level, Memory, SandboxError
from sandboxes.conformance import suite as module
from sandboxes.conformance.claims import CLAIMS, Claim
from sandboxes.conformance.host import planted
from sandboxes.conformance.suite import CASES, cases_for, check
from sandboxes.pool import Options, Pool
from tests.sandboxed import run, suite, user

SEEN = {
    (Claim.READING, "files of the host"),
    (Claim.READING, "by a link"),
    (Claim.READING, "existence"),
    (Claim.NETWORK, "sockets"),
    (Claim.NETWORK, "families"),
    (Claim.NETWORK, "pair"),
    (Claim.PROCESSES, "zombies"),
    (Claim.NAMES, "existence"),
}
"""Attacks that do no harm to a machine without walls."""


class Boasting(Pool):
    """No walls, and the claims of the strongest."""

    @property
    def isolation(self) -> Isolation:
        return Isolation("zygote", Level.JAIL, Memory.CGROUP)


@pytest.mark.parametrize("who", ["root", "plain"])
@pytest.mark.parametrize("backend", ["zygote", "landlock", "bubblewrap"])
def test_every_attack_is_held(backend: str, who: str) -> None:
    someone = user(who)
    status, lines, errors = run([*someone.before, *suite(backend, someone.python)])
    if status == 2:
        pytest.skip(f"this machine has no {backend} for {who}: {errors.strip()}")
    about, findings = lines[0], lines[1:]
    assert about["isolation"]["backend"] == backend
    assert [one for one in findings if one["wrong"] is not None] == []
    assert len(findings) == len(cases_for(backend)), errors


async def test_the_suite_sees_what_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [case for case in CASES if (case.claim, case.name) in SEEN]
    monkeypatch.setattr(module, "cases_for", lambda _: chosen)
    with planted() as host:
        pool = Boasting("none", Options(slots=1))
        await pool.start()
        findings = [finding async for finding in check(pool, host)]
        await pool.close()
    assert len(findings) > 5
    assert [one.name for one in findings if one.wrong is None] == []


async def test_a_sandbox_that_cannot_do_what_it_claims_is_seen() -> None:
    pool = Pool("zygote", Options(slots=1))
    await pool.close()
    with planted() as host, pytest.raises(SandboxError, match="closed"):
        _ = [finding async for finding in check(pool, host)]


def test_every_claim_has_an_attack_and_every_backend_claims_something() -> None:
    assert {case.claim for case in CASES} == set(Claim)
    assert all(CLAIMS.values())
    names = [(case.claim, case.name) for case in CASES]
    assert len(set(names)) == len(names)
