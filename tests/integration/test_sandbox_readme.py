"""What the sandboxes' README says is so: its promises, its count of cases, its example and what that prints."""

import asyncio
import re
import subprocess
import sys

import pytest

from sandboxes.base import SandboxError
from sandboxes.choose import choose
from sandboxes.conformance.claims import CLAIMS, Claim
from sandboxes.conformance.suite import cases_for
from sandboxes.pool import Options
from tests.sandboxed import ROOT

README = (ROOT / "sandboxes" / "README.md").read_text()


def test_its_promises_are_the_claims() -> None:
    backends = re.search(r"^\| promise \|(.*)\|$", README, re.MULTILINE)
    assert backends is not None
    names = [name.strip() for name in backends[1].split("|")]
    rows = re.findall(r"^\| `(\w+)`: [^|]*\|(.*)\|$", README, re.MULTILINE)
    told: dict[str, set[str]] = {name: set() for name in names}
    for claim, cells in rows:
        for name, cell in zip(names, cells.split("|"), strict=True):
            assert cell.strip() in {"yes", ""}
            if cell.strip():
                told[name].add(claim)
    assert {claim for claim, _ in rows} == set(Claim)
    assert told == {name: set(claims) for name, claims in CLAIMS.items()}


def test_its_count_is_right() -> None:
    assert f"{len(cases_for('zygote'))} cases on `zygote`" in README


async def test_its_example_prints_what_it_says() -> None:
    try:
        await (await choose("zygote", options=Options(slots=1))).sandbox.close()
    except SandboxError as error:
        pytest.skip(f"this machine has no zygote: {error}")
    found = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)
    assert found is not None
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", found[1]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # The first line says how this machine holds memory.
    assert done.stdout.splitlines()[1:] == found[2].splitlines()[1:]
