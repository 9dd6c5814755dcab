"""A deterministic engine without a model: a real `Engine` for tests, soaks and dry runs.

What it answers is a pure function of prompt, `Request.key` and seed, so a run repeats exactly whatever the order of
its requests; at temperature 0 the key does not take part either. Text and ids are the same thing: a token is one
character, its id the code point, the end-of-turn token counts as one more. Continuing by ids continues the text: the
part of the prompt behind the last `TURN` character is what the assistant has written so far, as
`factory.render.PlainRenderer` lays it out.

A script decides the answer: `countdown` plays the bundled teacher (right at a set rate, with dead ends), `words`
babbles, a mapping answers by the last user message, and a function does anything, failures included. A script returns
the *whole* turn after the prompt; cutting at stop strings and limits is the engine's part.

What a script would say next is what `weigh` and `read` find probable, unless the script tells the chances itself. With
`rewards` the engine plays a reward model, and the script's answer is the reward: `chances` draws one for each prompt.

It does not model time, memory or a prefix cache: an answer takes event-loop turns, or a set time per token. Of the
sampling parameters it reads `temperature` (only whether it is 0), `max_tokens` and `logprobs`, which it makes up.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import inspect
import math
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from factory.engines.base import Capabilities, EngineStats, Prompt, Request
from factory.errors import ConfigError, EngineDead, EngineError
from factory.types import FinishReason, Generation, Rewarded, Sampling, Weighed

TURN = "\x03"
"""Ends the name of a role in a rendered prompt; what follows the last one is the assistant's text so far."""

SURE = 0.9
"""How probable `weigh` finds the token that a script would go on with; all others together have the rest."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a script wants to be answered to one request."""

    text: str
    """The rest of the assistant's turn."""
    turns: int = 0
    """Event-loop turns that the answer takes, on top of the engine's own."""
    error: str | None = None
    """Fail the request with this message instead."""
    chances: Mapping[str, float] | None = None
    """Probability of each next character, for `weigh`; made of `text` by default."""


Script = Callable[[Prompt, Request], Reply]


class ScriptedEngine:
    """Answers from a script. Every argument is plain data but a script that is a function."""

    def __init__(
        self,
        script: str | Mapping[str, str] | Script = "countdown",
        *,
        seed: int = 0,
        solve_rate: float = 0.5,
        slip_rate: float = 0.0,
        max_running: int = 256,
        max_context: int | None = None,
        token_prompts: bool = True,
        rewards: bool = False,
        delay_turns: int = 0,
        seconds_per_token: float = 0.0,
        fail_every: int = 0,
        die_after: int | None = None,
        record: bool = True,
    ) -> None:
        """`solve_rate` and `slip_rate` are `countdown`'s: the chance of a right answer, and of a false line in the
        chain of a right one. Every `fail_every`-th request fails (0: none); the engine dies at the request after the
        first `die_after`. `record` keeps all requests in `requests`: switch it off for long runs.
        """
        for name, rate in (("solve_rate", solve_rate), ("slip_rate", slip_rate)):
            if not 0.0 <= rate <= 1.0:
                raise ConfigError(f"scripted engine: {name} is {rate}, but a rate lies between 0 and 1")
        if max_running < 1:
            raise ConfigError(f"scripted engine: max_running is {max_running}, but must be at least 1")
        self._script = _script(script, seed, solve_rate, slip_rate)
        self._capabilities = Capabilities(
            token_prompts=token_prompts,
            logprobs=token_prompts,
            weighs=token_prompts and not rewards,
            rewards=rewards,
            prefix_caching=False,
            max_running=max_running,
            max_context=max_context,
        )
        self._delay_turns = delay_turns
        self._seconds_per_token = seconds_per_token
        self._fail_every = fail_every
        self._die_after = die_after
        self._record = record
        self._places = asyncio.Semaphore(max_running)
        self._sleeping: set[asyncio.Future[None]] = set()
        self._dead: str | None = "not started"
        self._submitted = 0
        self._stats = EngineStats()
        self.requests: list[tuple[Prompt, Request]] = []
        """Every request seen, in the order of arrival."""

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def stats(self) -> EngineStats:
        return self._stats

    async def start(self) -> None:
        self._dead = None

    async def close(self) -> None:
        self.kill("closed")

    def kill(self, reason: str = "killed") -> None:
        """Die as a crashed engine does: everything in flight and everything later raises `EngineDead`."""
        self._dead = self._dead or reason
        for future in self._sleeping:
            if not future.done():
                future.set_result(None)

    async def generate(self, prompt: Prompt, request: Request) -> Generation:
        if self._capabilities.rewards:
            raise ConfigError("scripted engine: it plays a reward model, which generates nothing")
        generation, _ = await self._ask(prompt, request)
        return generation

    async def weigh(self, prompt: Prompt, choices: Sequence[int], key: str = "") -> Weighed:
        if not self._capabilities.weighs:
            raise ConfigError("scripted engine: tokens can be weighed with token_prompts only")
        said, reply = await self._ask(prompt, Request(Sampling(max_tokens=1), key=key))
        chances = [_chance(reply, chr(choice)) for choice in choices]
        return Weighed(_logs(chances), said.generated_tokens, said.prompt_tokens, said.cached_tokens, said.seconds)

    async def read(self, prompt: Prompt, places: Sequence[int], key: str = "") -> Weighed:
        """The script is asked at each place what it would say there."""
        if not self._capabilities.weighs:
            raise ConfigError("scripted engine: tokens can be weighed with token_prompts only")
        ids, request = prompt.token_ids or (), Request(Sampling(max_tokens=1), key=key)
        said, _ = await self._ask(replace(prompt, token_ids=ids[: places[-1] + 1]), request)
        replies = [(self._script(replace(prompt, token_ids=ids[:place]), request), ids[place]) for place in places]
        chances = [_chance(reply, chr(token)) for reply, token in replies]
        return Weighed(_logs(chances), said.generated_tokens, said.prompt_tokens, said.cached_tokens, said.seconds)

    async def reward(self, prompt: Prompt, key: str = "") -> Rewarded:
        """The script's reply to the prompt, read as a number."""
        if not self._capabilities.rewards:
            raise ConfigError("scripted engine: it plays no reward model")
        said, reply = await self._ask(prompt, Request(Sampling(max_tokens=1), key=key))
        try:
            value = float(reply.text)
        except ValueError:
            raise EngineError(f"scripted engine: the script gives no reward but {reply.text[:80]!r}") from None
        return Rewarded((value,), said.prompt_tokens, said.cached_tokens, said.seconds)

    async def _ask(self, prompt: Prompt, request: Request) -> tuple[Generation, Reply]:
        """What the engine makes of the script's answer, and that answer."""
        self._admit(prompt, request)
        number = self._submitted
        started = time.perf_counter()
        self._count(waiting=1)
        try:
            await self._places.acquire()
        finally:
            self._count(waiting=-1)
        self._count(running=1)
        try:
            generation, reply = await self._answer(prompt, request, number)
        finally:
            self._count(running=-1)
            self._places.release()
        self._count(generated_tokens=generation.generated_tokens, prompt_tokens=generation.prompt_tokens)
        return replace(generation, seconds=time.perf_counter() - started), reply

    def _admit(self, prompt: Prompt, request: Request) -> None:
        if self._record:
            self.requests.append((prompt, request))
        if self._die_after is not None and self._submitted >= self._die_after:
            self.kill(f"it was told to die after {self._die_after} requests")
        self._raise_if_dead()
        self._submitted += 1

    def _raise_if_dead(self) -> None:
        if self._dead is not None:
            raise EngineDead(f"scripted engine: {self._dead}")

    def _count(self, **changes: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + by for name, by in changes.items()})

    async def _answer(self, prompt: Prompt, request: Request, number: int) -> tuple[Generation, Reply]:
        self._raise_if_dead()
        prompt_tokens = _prompt_tokens(prompt, self._capabilities.token_prompts)
        room = self._room(prompt_tokens, request.sampling.max_tokens)
        reply = self._script(prompt, request)
        text, finish = cut(reply.text, request.stop, room)
        await self._delay(self._delay_turns + reply.turns, len(text) * self._seconds_per_token)
        if reply.error is not None:
            raise EngineError(f"scripted engine: {reply.error}")
        if self._fail_every and number % self._fail_every == 0:
            raise EngineError(f"scripted engine: request {number} fails, as told by fail_every={self._fail_every}")
        return self._generation(text, finish, prompt_tokens, request.sampling.logprobs), reply

    def _room(self, prompt_tokens: int, max_tokens: int) -> int:
        """How many tokens may be generated."""
        limit = self._capabilities.max_context
        if limit is None:
            return max_tokens
        if prompt_tokens >= limit:
            raise EngineError(f"scripted engine: the prompt has {prompt_tokens} tokens, the context is {limit}")
        return min(max_tokens, limit - prompt_tokens)

    def _generation(self, text: str, finish: FinishReason, prompt_tokens: int, logprobs: bool) -> Generation:
        ids = tuple(map(ord, text)) if self._capabilities.token_prompts else None
        return Generation(
            text=text,
            token_ids=ids,
            logprobs=tuple(-((token % 7) + 1) / 16 for token in ids) if ids is not None and logprobs else None,
            finish=finish,
            generated_tokens=len(text) + (finish is FinishReason.END),
            prompt_tokens=prompt_tokens,
            cached_tokens=None,
            seconds=0.0,
        )

    async def _delay(self, turns: int, seconds: float) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
            self._raise_if_dead()
        if seconds > 0.0:
            await self._sleep(seconds)
            self._raise_if_dead()

    async def _sleep(self, seconds: float) -> None:
        """Sleep that ends early when the engine dies."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        self._sleeping.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._sleeping.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _prompt_tokens(prompt: Prompt, by_ids: bool) -> int:
    if by_ids and prompt.token_ids is None:
        raise EngineError("scripted engine: the prompt has no token ids")
    if prompt.token_ids is not None:
        return len(prompt.token_ids)
    return sum(len(message.content) for message in prompt.messages) + len(prompt.prefix)


def cut(text: str, stop: tuple[str, ...], room: int) -> tuple[str, FinishReason]:
    """Where generating `text` token by token ends: at the first stop string to complete, the limit, or its end."""
    ends = [text.find(each) + len(each) for each in stop if each and each in text]
    end = min(ends, default=None)
    if end is not None and end <= room:
        return text[:end], FinishReason.STOP
    if len(text) >= room:
        return text[:room], FinishReason.LENGTH
    return text, FinishReason.END


def _chance(reply: Reply, token: str) -> float:
    """How probable a token is as the next one."""
    if reply.chances is not None:
        return reply.chances.get(token, 0.0)
    return SURE if reply.text.startswith(token) else (1.0 - SURE) / sys.maxunicode


def _logs(chances: Sequence[float]) -> tuple[float, ...]:
    return tuple(math.log(chance) if chance > 0.0 else -math.inf for chance in chances)


def written(prompt: Prompt) -> str:
    """The assistant's text so far."""
    if prompt.token_ids is None:
        return prompt.prefix
    _, found, text = "".join(map(chr, prompt.token_ids)).rpartition(TURN)
    return text if found else ""


def draw(seed: int, prompt: Prompt, request: Request) -> random.Random:
    """The generator of one turn: the same for every part of the turn, whatever has been written of it so far."""
    key = request.key if request.sampling.temperature > 0.0 else ""
    turns = [(message.role, message.content) for message in prompt.messages]
    material = repr((seed, key, request.seed, turns)).encode("utf-8", "surrogatepass")
    return random.Random(hashlib.sha256(material).digest())


# --- scripts


def _script(script: str | Mapping[str, str] | Script, seed: int, solve_rate: float, slip_rate: float) -> Script:
    if isinstance(script, Mapping):
        return _mapping_script(script)
    if callable(script):
        return script
    if script == "words":
        return lambda prompt, request: Reply(_rest(prompt, _words(draw(seed, prompt, request))))
    if script == "countdown":
        return _countdown_script(seed, solve_rate, slip_rate)
    if script == "chances":
        return lambda prompt, request: Reply(str(draw(seed, prompt, replace(request, key=written(prompt))).random()))
    raise ConfigError(f"scripted engine: no script {script!r}: use 'countdown', 'words' or 'chances'")


def _last_user_text(prompt: Prompt) -> str:
    return next((message.content for message in reversed(prompt.messages) if message.role == "user"), "")


def _rest(prompt: Prompt, whole: str) -> str:
    """What is left of a turn; a turn that went another way is ended at once."""
    so_far = written(prompt)
    return whole[len(so_far) :] if whole.startswith(so_far) else ""


def _mapping_script(replies: Mapping[str, str]) -> Script:
    def script(prompt: Prompt, _: Request) -> Reply:
        question = _last_user_text(prompt)
        if question not in replies:
            return Reply("", error=f"the script has no answer to {question[:80]!r}")
        return Reply(_rest(prompt, replies[question]))

    return script


def _words(rng: random.Random) -> str:
    lines = [" ".join(rng.choices(_BABBLE, k=rng.randint(2, 8))) for _ in range(rng.randint(1, 6))]
    return "\n".join(lines)


_BABBLE = ("so", "then", "maybe", "seven", "is", "not", "the", "answer", "we", "try", "again", "and", "check")


# --- the countdown script: plays the bundled teacher
#
# Each line follows from the lines before it, however they came to be there, and from choices fixed for the whole turn.
# So a text may be cut anywhere, given a cue and continued, and it goes on in the same way.

_QUESTION = re.compile(r"make (\d+) from (\d+(?: \d+)+)")
_LIMIT = 200
"""Largest value that the game allows."""
_LONGEST = 60
"""Lines after which a chain is ended whatever it says; no chain of the script's own is as long."""

Terms = tuple[tuple[int, str], ...]
"""Value and expression of each number that is left, ascending."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One `try` line and where it leads."""

    line: str
    result: int
    after: Terms

    @property
    def move(self) -> str:
        """The line up to its result."""
        return self.line[: self.line.index("=") + 1]


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is fixed for a whole turn."""

    target: int
    start: Terms
    solve: bool
    """Ends with a right answer, where there is one."""
    slip: bool
    """Has a false result in its last step, if it solves."""
    detour: int
    """Steps that it loses itself in before its first `dead`; 0 goes straight."""
    salt: bytes

    def hopeful(self, terms: Terms) -> bool:
        return self.target in _reachable(tuple(value for value, _ in terms))

    def choose(self, terms: Terms, lines: list[str], good: bool) -> _Step:
        """A step that keeps the target in reach, or one that loses it, where there is one."""
        steps = _steps(terms)
        wanted = [step for step in steps if self.hopeful(step.after) is good] or list(steps)
        return wanted[_number(self.salt, "\n".join(lines)) % len(wanted)]


def _countdown_script(seed: int, solve_rate: float, slip_rate: float) -> Script:
    def script(prompt: Prompt, request: Request) -> Reply:
        rng = draw(seed, prompt, request)
        question = next(filter(None, map(_question, _user_texts(prompt))), None)
        if question is None:
            return Reply(_rest(prompt, _words(rng)))
        target, start = question
        solve, slip, detour = rng.random() < solve_rate, rng.random() < slip_rate, rng.choice((0, 0, 1, 2))
        return Reply(_go_on(written(prompt), _Turn(target, start, solve, slip, detour, rng.randbytes(8))))

    return script


def _user_texts(prompt: Prompt) -> Iterator[str]:
    return (message.content for message in reversed(prompt.messages) if message.role == "user")


def _question(text: str) -> tuple[int, Terms] | None:
    match = _QUESTION.search(text)
    if match is None:
        return None
    numbers = sorted(int(word) for word in match[2].split())
    return int(match[1]), tuple((number, str(number)) for number in numbers)


def _number(salt: bytes, text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest())


def _show(terms: Terms) -> str:
    return " ".join(str(value) for value, _ in terms)


@lru_cache(maxsize=1 << 14)
def _steps(terms: Terms) -> tuple[_Step, ...]:
    """Every legal combination of two numbers; sums and products have the smaller operand first."""
    found = []
    for i, low in enumerate(terms):
        for j in range(i + 1, len(terms)):
            rest = terms[:i] + terms[i + 1 : j] + terms[j + 1 :]
            found += [_step(left, sign, right, rest) for left, sign, right in _pairs(low, terms[j])]
    return tuple(step for step in found if step is not None)


def _pairs(low: tuple[int, str], high: tuple[int, str]) -> Iterator[tuple[tuple[int, str], str, tuple[int, str]]]:
    yield low, "+", high
    yield low, "*", high
    yield high, "-", low
    if high[0] % low[0] == 0:
        yield high, "/", low


def _step(left: tuple[int, str], sign: str, right: tuple[int, str], rest: Terms) -> _Step | None:
    a, b = left[0], right[0]
    result = {"+": a + b, "*": a * b, "-": a - b, "/": a // b}[sign]
    if not 0 < result <= _LIMIT:
        return None
    after = tuple(sorted((*rest, (result, f"{_operand(left[1])} {sign} {_operand(right[1])}"))))
    return _Step(f"try {a} {sign} {b} = {result} left {_show(after)}", result, after)


def _operand(expression: str) -> str:
    return f"( {expression} )" if " " in expression else expression


@lru_cache(maxsize=1 << 16)
def _reachable(values: tuple[int, ...]) -> frozenset[int]:
    if len(values) == 1:
        return frozenset(values)
    steps = _steps(tuple((value, "") for value in values))
    return frozenset().union(*(_reachable(tuple(value for value, _ in step.after)) for step in steps))


def _go_on(so_far: str, turn: _Turn) -> str:
    """The rest of a turn that begins with `so_far`."""
    *lines, begun = so_far.split("\n")
    path = [turn.start]
    for line in lines:
        _follow(path, line)
    added = ""
    while True:
        line = _next_line(path, lines, turn)
        if not line.startswith(begun):
            line = _finish_line(path, begun, turn)
        added += line[len(begun) :]
        if line.startswith("answer"):
            return added
        added, begun = added + "\n", ""
        _follow(path, line)
        lines.append(line)


def _follow(path: list[Terms], line: str) -> None:
    """Change the open path as a line says; a line that makes no sense changes nothing."""
    if line.startswith("try "):
        path += [step.after for step in _steps(path[-1]) if line.startswith(step.move)][:1]
    elif line.startswith("back "):
        index = next((i for i, terms in enumerate(path) if _show(terms) == line[5:]), len(path) - 1)
        del path[index + 1 :]


def _finish_line(path: list[Terms], begun: str, turn: _Turn) -> str:
    """A line that the script would not have begun in this way."""
    if begun == "judge":
        return "judge yes" if turn.hopeful(path[-1]) is turn.solve else "judge no"
    return next((step.line for step in _steps(path[-1]) if step.line.startswith(begun)), begun)


def _next_line(path: list[Terms], lines: list[str], turn: _Turn) -> str:
    here = path[-1]
    previous = next((line for line in reversed(lines) if not line.startswith("judge")), "")
    if not previous:
        return "<think>"
    if previous == "</think>":
        return f"answer {_answer(here, lines, turn)}"
    if previous in ("done", "stop") or len(lines) >= _LONGEST:
        return "</think>"
    if previous in ("dead", "wait"):
        back = _way_back(path, lines, turn)
        return "</think>" if back is None else f"back {_show(back)}"
    if len(here) == 1:
        return "done" if here[0][0] == turn.target else "dead"
    return _try_or_give_up(path, lines, turn)


def _try_or_give_up(path: list[Terms], lines: list[str], turn: _Turn) -> str:
    here = path[-1]
    hopeful = turn.hopeful(here)
    lost = turn.detour > 0 and "dead" not in lines
    if not hopeful and (turn.solve or lost) and sum(not turn.hopeful(terms) for terms in path) >= turn.detour:
        return "dead"
    step = turn.choose(here, lines, good=turn.solve and not lost)
    if turn.slip and turn.solve and len(here) == 2:
        return f"{step.move} {step.result % _LIMIT + 1} left {_show(step.after)}"
    return step.line


def _way_back(path: list[Terms], lines: list[str], turn: _Turn) -> Terms | None:
    """The state to go back to: the nearest with hope for a turn that solves, else the start, once or when told to."""
    if turn.solve:
        return next((terms for terms in reversed(path[:-1]) if turn.hopeful(terms)), None)
    again = lines[-1] == "wait" or (turn.detour > 0 and not any(line.startswith("back ") for line in lines))
    return path[0] if again and len(path) > 1 else None


def _answer(terms: Terms, lines: list[str], turn: _Turn) -> str:
    while len(terms) > 1:
        terms = turn.choose(terms, lines, turn.solve).after
    return terms[0][1]


def from_args(args: Mapping[str, Any]) -> ScriptedEngine:
    """The engine that a recipe's plain arguments describe. Raises `ConfigError` for an argument that it lacks."""
    known = list(inspect.signature(ScriptedEngine).parameters)
    for name in args:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"scripted engine: no argument {name!r}" + (f", did you mean {near[0]!r}?" if near else "")
            )
    return ScriptedEngine(**args)
