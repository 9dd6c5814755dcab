"""The contract of an engine: a request goes in, exactly one `Generation` or one error comes out.

What every engine promises, and `tests/contract/test_engines.py` attacks:

- `generate` may be awaited any number of times at once; answers come in any order, each to its own caller.
- A continuation is asked for by token ids: the prompt's ids and those of the nodes on the path. An engine that cannot
  take ids declares `token_prompts = False` and is given messages and the text so far.
- `weigh` asks about the next token instead of generating, `read` about tokens that stand in the prompt. Whatever an
  engine's sampling, they tell the model's own log-probabilities; what runs beside them is not changed. An engine that
  cannot do it declares `weighs = False`.
- A reward model is an engine that declares `rewards = True`: it reads a prompt to its end and says what it thinks of
  it, by `reward`, and neither generates nor weighs. All others raise `ConfigError` there.
- Cancelling an awaiting task aborts its request in the engine and frees its place there.
- A request that fails raises `EngineError`; an engine that will answer nothing any more raises `EngineDead`, for every
  request in flight and every later one.
- `close` ends every process and connection that the engine started; it may be called twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from factory.types import Generation, Message, Rewarded, Sampling, Weighed


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. A strategy that needs more is refused before anything starts."""

    token_prompts: bool
    """Takes prompts as token ids, and tells the ids it sampled."""
    logprobs: bool
    """Tells the log-probability of each sampled token."""
    weighs: bool
    """Tells how probable each of some named tokens is as the next one, and each token of a prompt in its place."""
    rewards: bool
    """Is a reward model."""
    prefix_caching: bool
    """Serves a shared prefix from memory, and tells how much of it."""
    max_running: int
    """Requests that run at the same time at most; more than that wait inside the engine."""
    max_context: int | None
    """Prompt and completion tokens together at most; None where the engine does not tell."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is to be continued, in the one form that the engine takes."""

    messages: tuple[Message, ...]
    token_ids: tuple[int, ...] | None = None
    """Ids of the rendered messages, followed by those of the path; None for an engine without token prompts."""
    prefix: str = ""
    """Text of the path, for an engine without token prompts."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A look at an engine's own counters; all but the first two only grow."""

    running: int = 0
    """Requests running now."""
    waiting: int = 0
    """Requests waiting inside the engine now."""
    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def known(self) -> int:
        """Requests that the engine has: those that were sent and did not arrive yet are not among them."""
        return self.running + self.waiting


@dataclass(frozen=True, slots=True)
class Request:
    """How one generation is to be made."""

    sampling: Sampling
    stop: tuple[str, ...] = ()
    """Texts that end the generation; the one that did is kept in the text."""
    seed: int | None = None
    """None by default: a random generator per request slows vLLM's sampler."""
    key: str = field(default="", compare=False)
    """Names the request in logs and to the scripted engine: problem id and node id."""


class Engine(Protocol):
    """Answers requests. Made and closed in the process that uses it."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def stats(self) -> EngineStats: ...

    async def start(self) -> None:
        """Load the model. Raises `ConfigError` for what the user can mend, else `EngineDead`."""
        ...

    async def generate(self, prompt: Prompt, request: Request) -> Generation:
        """Continue `prompt` once. Raises `EngineError` or `EngineDead`."""
        ...

    async def weigh(self, prompt: Prompt, choices: Sequence[int], key: str = "") -> Weighed:
        """How probable each of `choices`, one or more token ids, is behind `prompt`; `key` is a `Request`'s.

        Raises `EngineError`, `EngineDead`, or `ConfigError` where the engine cannot do it at all.
        """
        ...

    async def read(self, prompt: Prompt, places: Sequence[int], key: str = "") -> Weighed:
        """How probable the tokens at `places` of `prompt` are behind what stands before them, by one prefill.

        `places`: indices from 1 on, ascending, one or more. `key` is a `Request`'s. Raises as `weigh` does.
        """
        ...

    async def reward(self, prompt: Prompt, key: str = "") -> Rewarded:
        """What a reward model says of `prompt`; `key` is a `Request`'s. Raises as `weigh` does."""
        ...

    async def close(self) -> None: ...


def path_ids(prompt: Prompt, added: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """Ids of a prompt and of what a path adds; None as soon as one of them has no ids."""
    if prompt.token_ids is None or any(ids is None for ids in added):
        return None
    return prompt.token_ids + tuple(token for ids in added if ids is not None for token in ids)
