"""Whatever of a sandbox is killed while it runs something: trouble and never a verdict, the next run works, and nothing
stays behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sandboxes.base import Call, Ending, JudgedOutcome, Limits, Program, RunResult, SandboxError
from sandboxes.pool import Options, Pool
from sandboxes.processes import children, descendants
from tests.sandboxed import started

LONG = Limits(cpu_seconds=60.0, wall_seconds=60.0)
SPIN = "import os\nfor _ in range(3):\n    if os.fork() == 0: break\nwhile True: pass"
END_SECONDS = 20.0


@pytest.fixture(params=["zygote", "landlock", "bubblewrap"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    pool = await started(request.param, Options(slots=1))
    yield pool
    await pool.close()
    assert await gone(os.getpid()), "processes are left"


async def until(look: Callable[[], object]) -> None:
    """Until something is true of the processes, which nothing tells."""
    async with asyncio.timeout(END_SECONDS):
        while not look():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def gone(pid: int) -> bool:
    try:
        await until(lambda: not [one for one in children(pid) if b"sandboxes" in command_of(one)])
    except TimeoutError:
        return False
    return True


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def broker() -> int:
    return next(pid for pid in children(os.getpid()) if b"sandboxes.broker" in command_of(pid))


def executed_server() -> int:
    return next(pid for pid in children(broker()) if b"sandboxes.forkserver" in command_of(pid))


def server(backend: str) -> int:
    """The fork server's own process: behind namespaces, the only child of the one that was executed."""
    executed = executed_server()
    return children(executed)[0] if backend == "zygote" else executed


VICTIMS: dict[str, Callable[[str], int]] = {
    "broker": lambda _: broker(),
    "fork server": server,
    "fork server's parent": lambda _: executed_server(),
    "run": lambda backend: children(server(backend))[0],
}


async def killed_midway(pool: Pool, victim: str, ask: Awaitable[RunResult]) -> RunResult:
    """Kill once the run has forked all that it forks, so that it is well under way."""
    resting = len(descendants([broker()]))
    task = asyncio.ensure_future(ask)
    await until(lambda: task.done() or len(descendants([broker()])) >= resting + 4)
    os.kill(VICTIMS[victim](pool.backend), signal.SIGKILL)
    return await asyncio.wait_for(task, END_SECONDS)


@pytest.mark.parametrize("victim", list(VICTIMS))
async def test_a_kill_is_trouble_and_the_next_run_works(pool: Pool, victim: str) -> None:
    before = mounts()
    result = await killed_midway(pool, victim, pool.run(Program(SPIN), LONG))
    assert result.ending is Ending.TROUBLE, result
    assert result.detail
    after = await pool.run(Program("print('works')"), LONG)
    assert after.stdout == b"works\n", after
    assert mounts() == before


@pytest.mark.parametrize("victim", list(VICTIMS))
@pytest.mark.parametrize("backend", ["zygote", "landlock"])
async def test_a_killed_call_is_missing_and_a_killed_judgement_is_none(backend: str, victim: str) -> None:
    pool = await started(backend, Options(slots=1))
    source = f"def f(n):\n    if n: return n\n    {SPIN.replace(chr(10), chr(10) + '    ')}"

    async def calls() -> RunResult:
        found = await pool.call(Program(source), "f", [Call((1,)), Call((0,))], LONG)
        assert found.returned[1].missing
        return found.run

    async def judgement() -> RunResult:
        judged = await pool.judge(Program(source), "assert f(1) == 1\nf(0)", ["f"], LONG)
        assert judged.outcome is JudgedOutcome.UNJUDGED, judged
        return judged.candidate

    for ask in (calls, judgement):
        result = await killed_midway(pool, victim, ask())
        assert result.ending is Ending.TROUBLE, result
        assert (await pool.run(Program("print('works')"), LONG)).ok
    await pool.close()
    assert await gone(os.getpid())


async def test_whoever_waits_when_the_pool_is_closed_is_answered(pool: Pool) -> None:
    tasks = [asyncio.create_task(pool.run(Program(SPIN), LONG)) for _ in range(4)]
    await until(lambda: len(descendants([broker()])) > 4)
    await pool.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        assert isinstance(result, SandboxError) or (
            isinstance(result, RunResult) and result.ending is Ending.TROUBLE
        ), result
