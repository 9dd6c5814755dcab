"""The hostile programs that lie beside this project, where they do: contained by every backend, for every user."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxes.places import find_python
from tests.sandboxed import ROOT, run, user

HOSTILE = ROOT.parent / "shared" / "hostile"
RUNNER = """
import asyncio, json, sys
from pathlib import Path
from sandboxes.base import MIB, Call, Limits, Program, SandboxError
from sandboxes.pool import Options, Pool

QUICK = Limits(cpu_seconds=1.0, wall_seconds=2.0, memory_bytes=256 * MIB, output_bytes=MIB // 4, file_bytes=16 * MIB)

async def ask(pool, path):
    program = Program(path.read_text())
    result = await pool.run(program, QUICK)
    told = {"name": path.name, "ending": result.ending, "detail": result.detail}
    told["said"] = (result.stdout + result.stderr).decode("latin1")[:50000]
    if pool.backend != "bubblewrap" and 19 <= int(path.name[:2]) <= 24:  # these define `add`, without adding
        called = await pool.call(program, "add", [Call((2, 3))], QUICK)
        judged = await pool.judge(program, "assert add(2, 3) == 5", ["add"], QUICK)
        told |= {"value": repr(called.returned[0].value), "judged": judged.outcome, "why": judged.detail}
    print(json.dumps(told), flush=True)

async def main():
    pool = Pool(sys.argv[1], Options(slots=2))
    try:
        await pool.start()
    except SandboxError as error:
        sys.exit(f"cannot: {error}")
    await asyncio.gather(*(ask(pool, Path(name)) for name in sys.argv[2:]))
    print(json.dumps({"works": (await pool.run(Program("print(1)"))).ok}))
    await pool.close()

asyncio.run(main())
"""


def escapes(said: str) -> list[str]:
    """Lines that say so; but the interpreter that runs a program may be read by it, wherever it is."""
    base = Path(find_python(for_others=False)[1])
    own = [str(one) for one in (base, *base.parents)]
    lines = [line for line in said.splitlines() if line.startswith(("ESCAPE", "REACHED-KERNEL"))]
    return [line for line in lines if not (line.startswith("ESCAPE read ") and line.split()[2] in own)]


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the hostile programs are not beside this checkout")
@pytest.mark.parametrize("who", ["root", "plain"])
@pytest.mark.parametrize("backend", ["zygote", "landlock", "bubblewrap"])
def test_every_hostile_program_is_contained(backend: str, who: str) -> None:
    someone = user(who)
    files = sorted(map(str, HOSTILE.glob("*.py")))
    assert len(files) > 20
    status, lines, errors = run([*someone.before, someone.python, "-B", "-c", RUNNER, backend, *files])
    if "cannot: " in errors:
        pytest.skip(f"this machine has no {backend} for {who}: {errors.strip()}")
    assert status == 0, errors
    *told, last = lines
    assert len(told) == len(files)
    assert last == {"works": True}
    assert backend == "bubblewrap" or sum("judged" in one for one in told) > 3
    for one in told:
        assert one["ending"] != "trouble", one
        assert escapes(one["said"]) == [], one["name"]
        if "judged" in one:
            assert one["value"] != "5", one["name"]
            assert one["judged"] == "failed", one
    assert not Path("/tmp/SBX_PWNED_BY_PICKLE").exists()  # noqa: S108 - where the pickle bomb would write
