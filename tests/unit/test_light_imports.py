"""Heavy libraries stay behind the entry points that need them, so that `factory --help` answers at once.

A benchmark holds the time; this holds its cause, which is the same on a busy machine.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    *("torch", "vllm", "ray", "datasets", "transformers", "pyarrow", "numpy", "pandas", "sympy", "duckdb", "openai"),
    *("altair", "vl_convert"),
)

PROBE = """
import sys
import {module}
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def loaded_by(module: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after importing one."""
    program = [sys.executable, "-c", PROBE.format(module=module)]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize("module", ["factory", "pipelines", "pipelines.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    found = loaded_by(module) & set(HEAVY)
    assert not found, f"`import {module}` loads {sorted(found)}: import them inside the functions that need them"


def test_only_the_module_that_draws_loads_what_it_draws_with() -> None:
    drawing = {"altair", "vl_convert"}
    assert not loaded_by("pipelines.bench") & drawing
    assert drawing <= loaded_by("pipelines.bench_figure")


def test_the_package_itself_loads_the_standard_library_only() -> None:
    extra = loaded_by("factory") - loaded_by("json") - sys.stdlib_module_names
    assert extra == {"factory"}


def test_the_probe_sees_what_is_loaded() -> None:
    assert "psutil" in loaded_by("psutil")
