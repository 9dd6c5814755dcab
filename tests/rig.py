"""What tests of the core share: problems, scripts, a verifier, and hand-made tools around a real scripted engine.

A problem's text says how it shall go: its message is `q<number>`, and a script decides by that and by `Request.key`,
which is `<problem id>/<node id>`. An attempt that ends with `yes` is right, with `no` wrong, with `huh` undecidable;
`boom` makes the verifier crash.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.ids import problem_id
from factory.judging import Judging
from factory.render import PlainRenderer
from factory.rollout import Load, Tools
from factory.search.base import Search
from factory.search.best_of_n import best_of_n
from factory.types import Aspect, Attempt, Check, Message, Outcome, Policy, Problem, Sampling, Verdict
from factory.verifiers.base import Finding, verdicts

POLICY = Policy("scripted", "digest", Sampling(max_tokens=64))

THREADS = ThreadPoolExecutor(1, thread_name_prefix="judge")
"""One for all tests: a thread costs nothing while it waits."""


def problem(number: int) -> Problem:
    """The problem `q<number>`."""
    text = f"q{number}"
    return Problem(
        id=problem_id([("user", text)], None),
        messages=(Message("user", text),),
        reference=None,
        checks=(Check("says", {}),),
        source="rig",
    )


def problems(count: int, start: int = 0) -> list[Problem]:
    return [problem(number) for number in range(start, start + count)]


class Says:
    """A verifier that reads the last word."""

    name = "says"
    version = "1"
    aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)
    costly = False

    def validate(self, params: Mapping[str, Any]) -> None:
        """Anything goes."""

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        word = attempt.text.rpartition(" ")[2]
        if word == "boom":
            raise RuntimeError("the verifier crashed\non two lines")
        outcome = {"yes": Outcome.PASS, "no": Outcome.FAIL}.get(word, Outcome.UNKNOWN)
        return [Finding(Aspect.ANSWER, outcome, word, "last word")]

    def as_attempt(self, reference: str) -> Attempt:
        raise NotImplementedError

    def stub(self, params: Mapping[str, Any]) -> Attempt:
        raise NotImplementedError


def judge(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    """The boundary that a pipeline puts around its verifiers."""
    return verdicts({"says": Says()}, problem, attempt)


Search_ = Callable[[Problem], Search]


def tools(
    engine: ScriptedEngine,
    search: Search_ | None = None,
    *,
    judge: Callable[[Problem, Attempt], tuple[Verdict, ...]] = judge,
    policy: Policy = POLICY,
    pool: Executor = THREADS,
    threads: int = 1,
) -> Tools:
    """Tools of one worker; best of 4 until 2 are right, unless another search is given.

    `pool`: where verifiers run, on so many `threads`.
    """
    return Tools(
        engine=engine,
        renderer=PlainRenderer(),
        search=search or (lambda _: best_of_n(4, None, 2)),
        search_name="best_of_n",
        judging=Judging(judge, pool, threads),
        policy=policy,
        load=Load(lambda: engine.capabilities.max_running, lambda: engine.stats.known),
    )


def number_of(prompt: Prompt) -> int:
    """Which problem a request is about."""
    return int(prompt.messages[-1].content.removeprefix("q"))


def node_of(request: Request) -> int:
    """Which node a request shall become."""
    return int(request.key.rpartition("/")[2])


def dice(*parts: object) -> int:
    """A number that looks random and hangs on nothing but the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def answers(number: int, node: int) -> str:
    """What the teacher says: right in four of ten, wrong in four, else undecidable or too long for the limit."""
    throw = dice("answer", number, node) % 10
    filler = "hm " * (dice("length", number, node) % 7)
    if throw == 9:
        return filler + "x" * POLICY.sampling.max_tokens
    return filler + ("yes" if throw < 4 else "no" if throw < 8 else "huh")


def script(turns: Callable[[int, int], int] = lambda _, __: 0) -> Callable[[Prompt, Request], Reply]:
    """A teacher that gives `answers`; `turns` says how many event-loop turns each takes."""

    def reply(prompt: Prompt, request: Request) -> Reply:
        number, node = number_of(prompt), node_of(request)
        return Reply(answers(number, node), turns=turns(number, node))

    return reply


async def alone() -> AsyncIterator[None]:
    """As a fixture: what a failed test leaves running ends with it, and does not fail the next."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def started(engine: ScriptedEngine) -> ScriptedEngine:
    await engine.start()
    return engine
