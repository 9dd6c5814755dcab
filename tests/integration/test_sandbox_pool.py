"""Programs in real jails: the three ways to ask, limits, and verdicts that a program tries to forge."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxes.base import Call, Ending, JudgedOutcome, Limits, Program
from sandboxes.pool import Options, Pool
from tests.sandboxed import started

QUICK = Limits(cpu_seconds=1.0, wall_seconds=3.0)
LIAR = """
class Equal:
    def __eq__(self, other): return True
def add(a, b): return Equal()
"""


@contextmanager
def busy_processors() -> Iterator[None]:
    """Each in a session of its own, between which Linux shares processors out."""
    spin = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    others = [subprocess.Popen(spin, start_new_session=True) for _ in range(4 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.fixture(params=["zygote", "landlock"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    pool = await started(request.param, Options(slots=1))
    yield pool
    await pool.close()


async def test_a_program_reads_and_writes(pool: Pool) -> None:
    program = Program("print(input(), open('a').read())", stdin=b"in\n", files={"a": b"file"})
    result = await pool.run(program, QUICK)
    assert result.ok, result
    assert result.stdout == b"in file\n"


async def test_limits_end_what_goes_on(pool: Pool) -> None:
    assert (await pool.run(Program("while True: pass"), QUICK)).ending is Ending.CPU_LIMIT
    sleeper = await pool.run(Program("import time; time.sleep(60)"), replace(QUICK, wall_seconds=0.5))
    assert sleeper.ending is Ending.WALL_LIMIT
    flood = await pool.run(Program("import os\nwhile True: os.write(1, b'x' * 65536)"), QUICK)
    assert flood.ending is Ending.OUTPUT_LIMIT
    assert (await pool.run(Program("print('still here')"), QUICK)).ok


async def test_calls_return_plain_data(pool: Pool) -> None:
    found = await pool.call(Program("def add(a, b): return a + b"), "add", [Call((1, 2)), Call((1, "2"))], QUICK)
    assert found.returned[0].value == 3
    assert found.returned[1].error is not None


async def test_an_answer_that_equals_everything_does_not_cross(pool: Pool) -> None:
    found = await pool.call(Program(LIAR), "add", [Call((1, 2))], QUICK)
    assert found.returned[0].error is not None
    judged = await pool.judge(Program(LIAR), "assert add(1, 2) == 3", ["add"], QUICK)
    assert judged.outcome is JudgedOutcome.FAILED


@pytest.mark.parametrize("source", ["raise SystemExit(0)", "import os; os._exit(0)", "print('passed')"])
async def test_an_ending_is_no_verdict(pool: Pool, source: str) -> None:
    judged = await pool.judge(Program(source), "assert add(1, 2) == 3", ["add"], QUICK)
    assert judged.outcome is JudgedOutcome.FAILED
    found = await pool.call(Program(source), "add", [Call((1, 2))], QUICK)
    assert found.returned[0].missing or found.returned[0].error


async def test_a_right_program_passes_with_its_calls_counted(pool: Pool) -> None:
    judged = await pool.judge(Program("def add(a, b): return a + b"), "assert add(1, 2) == 3", ["add"], QUICK)
    assert judged.outcome is JudgedOutcome.PASSED, judged
    assert judged.calls == 1


async def test_sockets_and_files_of_the_host_are_out_of_reach(pool: Pool) -> None:
    source = "import socket\ntry: socket.socket()\nexcept OSError: print('no socket')\n"
    source += (
        "for path in ('/etc/shadow', '/proc/1/environ'):\n    try: open(path)\n    except OSError: print('no file')\n"
    )
    result = await pool.run(Program(source), QUICK)
    assert result.stdout == b"no socket\nno file\nno file\n", result


async def test_a_run_that_waited_for_a_processor_is_tried_again_alone_and_one_that_slept_is_not(pool: Pool) -> None:
    """A fixed time limit on a busy machine would take a right program for a slow one."""
    late = Limits(cpu_seconds=1.0, wall_seconds=1.0)
    slept = await pool.run(Program("import time; time.sleep(60)"), late)
    assert (slept.ending, slept.attempts) == (Ending.WALL_LIMIT, 1)
    with busy_processors():
        starved = await pool.run(Program("while True: pass"), late)
    assert (starved.ending, starved.attempts) == (Ending.WALL_LIMIT, 2), starved


@pytest.mark.parametrize("backend", ["zygote", "landlock"])
async def test_a_folder_is_shown_though_one_within_it_was_named_first(backend: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outer_module.py").write_text("value = 1")
    (inner / "inner_module.py").write_text("value = 2")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # root's programs are another user, who must be able to go there
    pool = await started(backend, Options(slots=1, paths=(str(inner), str(tmp_path))))
    found = await pool.run(Program("import inner_module, outer_module; print(inner_module.value, outer_module.value)"))
    await pool.close()
    assert found.stdout == b"2 1\n", found
