"""What a check of a program asks for.

- `calls`: a function is called with arguments and its values are compared here (*values mode*).
- `stdio`: the program is given standard input and its output is compared here.
- `tests`: Python's assert-style tests call the program in its jail from theirs (*judge mode*).
- `pytest`: a module of tests is run by pytest in a jail of its own, where the functions of the program that it imports
  call the program in its jail. What a test prints or patches does not reach the program, nor its output the tests; an
  exception reaches them as the nearest class that Python has built in.
- `appended`: tests are put after the program and run with it in one process, which ends with status 0 where they pass.
  For languages that have no judge mode. Weak: a program can end the process itself, and what is expected is in its
  reach, so a check must say that it accepts that.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator

from factory.verifiers.params import Params
from sandboxes.base import MIB, Language, Limits


class _Check(Params):
    """What all kinds share."""

    prefix: str = ""
    """Put before the program: the prompt that it continues. Left out where the answer defines what it begins."""
    seconds: float = Field(default=10.0, gt=0)
    """Processor time of a run."""
    memory_mib: int = Field(default=512, ge=64)

    @property
    def limits(self) -> Limits:
        return Limits(cpu_seconds=self.seconds, wall_seconds=3 * self.seconds, memory_bytes=self.memory_mib * MIB)


class CallCase(Params):
    """One call."""

    args: list[Any] = Field(default=[])
    kwargs: dict[str, Any] = Field(default={})
    expected: Any


class Calls(_Check):
    """A function and calls of it."""

    kind: Literal["calls"]
    function: str
    cases: list[CallCase] = Field(min_length=1)
    types: Literal["json", "exact"] = "json"
    """`json`: what JSON does not tell apart is the same, so a tuple may stand for a list. `exact`: it may not."""
    tolerance: float | None = Field(default=None, gt=0)
    """How far a float may be from what is expected, relative to it or absolutely; None for not at all."""


class StdioCase(Params):
    """One run."""

    stdin: str
    stdout: str


class Stdio(_Check):
    """Standard input and what must be written."""

    kind: Literal["stdio"]
    cases: list[StdioCase] = Field(min_length=1)
    language: Literal["python", "cpp", "javascript"] = "python"
    compare: Literal["lines", "tokens", "exact"] = "lines"
    """`lines`: white space at the end of lines and of the whole does not count. `tokens`: no white space does."""
    tolerance: float | None = Field(default=None, gt=0)
    """For numbers, with `tokens`: as with calls."""


class Tests(_Check):
    """Assert-style tests of Python."""

    kind: Literal["tests"]
    tests: list[str] = Field(min_length=1)
    """Each is run by itself, with the functions of `entry_points` in it."""
    entry_points: list[str] = Field(min_length=1)
    in_place: bool = False
    """Whether the tests look at lists, dicts and sets that the program changes."""


class Pytest(_Check):
    """A module of pytest's tests."""

    kind: Literal["pytest"]
    tests: str = Field(min_length=1)
    """The module's text. No plugin is loaded but pytest's own, and no other file is there."""
    entry_points: list[str] = Field(min_length=1)
    """The functions that it imports."""
    module: str = Field(default="solution", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """What it imports them from."""
    in_place: bool = False
    """As with tests."""

    @field_validator("module")
    @classmethod
    def _stands_for_no_other(cls, name: str) -> str:
        if name in sys.stdlib_module_names or name == "pytest":
            raise ValueError(f"{name} is a module that tests need as it is")
        return name


class Appended(_Check):
    """Tests in the program's own process."""

    kind: Literal["appended"]
    tests: str
    language: Literal["python", "cpp", "javascript"]
    weak: Literal[True]
    """Said by whoever accepts that."""


Check = Calls | Stdio | Tests | Pytest | Appended
CHECK: TypeAdapter[Check] = TypeAdapter(Annotated[Check, Field(discriminator="kind")])
KNOWN = sorted({key for kind in (Calls, Stdio, Tests, Pytest, Appended) for key in kind.model_fields})


def language_of(check: Check) -> Language:
    return Language(check.language) if isinstance(check, Stdio | Appended) else Language.PYTHON
