"""An engine behind an HTTP address that speaks OpenAI's protocol: vLLM's own server, or a hosted model.

With `protocol="completions"` prompts travel as token ids, and the server must tell the ids that it sampled, as vLLM's
does: such an engine can do what the one in process can. With `protocol="chat"` messages travel and no ids come back; a
text is continued only on vLLM's server. With `protocol="pooling"` it is a reward model on vLLM's server, which is
asked at `/pooling`, beside `/v1`, and by token ids as well. `start` finds out what the server is and refuses what
cannot work.

- What is said in `factory.engines.vllm` of `token_ids`, `text` and `finish` holds here too: the server cuts a text at
  the stop string, so where one ends inside a token the server is asked to spell the ids in full.
- Every sampling parameter is sent, so that no default of the server's takes part; servers other than vLLM's are sent
  only what OpenAI's protocol has, and what else differs from its default is an error.
- Tokens are weighed by vLLM's server only, if it is recent enough to be asked about tokens by their ids.
- Stop strings need vLLM's server: others do not tell which string ended a text, or leave it out.
- A model that sends its reasoning apart gets it back in front of the text, between the `reasoning` delimiters.
- 429, 5xx and failed connections are tried again with backoff, or after the time that the server names (openai's
  client does that); other 4xx and what still fails then is an `EngineError`. A server may come back, so nothing is
  `EngineDead` but what `close` has ended.
- Cancelling closes the connection, which makes vLLM's server abort the request.

The key comes from the environment variable that is named and from nowhere else, and stands in no message.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

from factory.engines.base import Capabilities, EngineStats, Prompt, Request
from factory.errors import ConfigError, EngineDead, EngineError
from factory.types import FinishReason, Generation, Rewarded, Sampling, Weighed

Protocol = Literal["completions", "chat", "pooling"]
T = TypeVar("T", Generation, Weighed, Rewarded)

OWN_FIELDS = frozenset(
    {
        "model",
        "prompt",
        "messages",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "max_tokens",
        "n",
        "stream",
        "stop",
        "seed",
        "logprobs",
        "include_stop_str_in_output",
        "return_token_ids",
        "logprob_token_ids",
        "return_tokens_as_token_ids",
        "prompt_logprobs",
    }
)
"""Fields of a request that the engine sets itself."""


ONE_TOKEN = Request(Sampling(temperature=0.0, max_tokens=1, logprobs=True))
"""For requests of which only the log-probabilities are of use."""

MOST_CONNECTIONS = 1000
"""What openai's client opens at most; more requests would wait inside it, unseen, while their timeouts run."""


class OpenAIEngine:
    """One model of one server."""

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key_env: str | None = None,
        protocol: Protocol = "completions",
        max_running: int = 256,
        timeout: float = 600.0,
        retries: int = 4,
        reasoning: tuple[str, str] = ("<think>\n", "\n</think>\n\n"),
    ) -> None:
        """`base_url` ends in `/v1` as a rule. `timeout`: seconds for one answer. `retries`: tries after the first."""
        if protocol not in get_args(Protocol):
            raise ConfigError(f"openai engine: no protocol {protocol!r}: use 'completions', 'chat' or 'pooling'")
        if not 1 <= max_running <= MOST_CONNECTIONS:
            raise ConfigError(f"openai engine: max_running is {max_running}, but 1 to {MOST_CONNECTIONS} is possible")
        if retries < 0 or timeout <= 0.0:
            raise ConfigError("openai engine: timeout must be above 0, and retries not below")
        if api_key_env is not None and not os.environ.get(api_key_env):
            raise ConfigError(f"openai engine: the environment variable {api_key_env} is not set")
        self._base_url = base_url.rstrip("/")
        self._model = model
        self._key = os.environ[api_key_env] if api_key_env is not None else None
        self._protocol = protocol
        self._timeout = timeout
        self._retries = retries
        self._reasoning = reasoning
        by_ids = protocol == "completions"
        self._capabilities = Capabilities(
            token_prompts=protocol != "chat",
            logprobs=by_ids,
            weighs=by_ids,
            rewards=protocol == "pooling",
            prefix_caching=False,
            max_running=max_running,
            max_context=None,
        )
        self._places = asyncio.Semaphore(max_running)
        self._stats = EngineStats()
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._client: Any = None
        self._is_vllm = False

    def __repr__(self) -> str:
        return f"OpenAIEngine({self._base_url!r}, {self._model!r}, protocol={self._protocol!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What the protocol promises; from `start` on what the server was found to do."""
        return self._capabilities

    @property
    def stats(self) -> EngineStats:
        """Counted on this side: others may use the server too. Tokens of cancelled requests are not known."""
        return self._stats

    async def start(self) -> None:
        self._client = self._connect()
        try:
            await self._find_model()
            if self._protocol == "completions":
                await self._probe()
            elif self._protocol == "pooling":
                await self._probe_rewards()
        except BaseException:  # whatever it was, the caller has nothing to close then
            await self.close()
            raise

    def _connect(self) -> Any:
        from openai import AsyncOpenAI, Omit

        # openai's client would fill what is None here from environment variables of its own.
        headers = {"OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
        return AsyncOpenAI(
            api_key=self._key or "none",  # the client insists on one
            base_url=self._base_url,
            timeout=self._timeout,
            max_retries=self._retries,
            default_headers=headers,
        )

    async def _find_model(self) -> None:
        try:
            served = {entry.id: entry async for entry in self._client.models.list()}
        except Exception as error:  # noqa: BLE001 - no list of models, for any reason: no engine is there
            raise ConfigError(f"openai engine: no models at {self._base_url}: {self._line(error)}") from None
        if self._model not in served:
            names = ", ".join(sorted(served)[:10]) or "no model"
            raise ConfigError(f"openai engine: {self._base_url} does not serve {self._model!r}, but {names}")
        entry = served[self._model]
        self._is_vllm = getattr(entry, "owned_by", None) == "vllm"
        self._capabilities = replace(self._capabilities, max_context=getattr(entry, "max_model_len", None))

    async def _probe(self) -> None:
        """One token, to see whether ids come back, whether they can be spelled or weighed, and what is told of the
        cache."""
        body = self._weigh_body((1,), (0, 1)) if self._is_vllm else self._completion_body((1,), ONE_TOKEN)
        try:
            answer = await self._client.completions.create(**body)
            ids = getattr(answer.choices[0], "token_ids", None)
            spelled = await self._spell(ids) if ids else None
        except Exception as error:  # noqa: BLE001 - any failure means that the server cannot be used in this way
            raise ConfigError(f"openai engine: {self._base_url} refused token ids: {self._line(error)}") from None
        if spelled is None:
            raise ConfigError(
                f"openai engine: {self._base_url} does not tell the token ids it samples: use protocol = 'chat'"
            )
        self._capabilities = replace(
            self._capabilities,
            logprobs=answer.choices[0].logprobs is not None,
            weighs=_weights(answer.choices[0]).keys() >= {0, 1},
            prefix_caching=_cached_tokens(answer.usage) is not None,
        )

    async def _probe_rewards(self) -> None:
        """One token, to see whether the server's model gives rewards."""
        try:
            await _rewarded(await self._post(self._client, self._reward_body((1,))))
        except Exception as error:  # noqa: BLE001 - any failure means that the server cannot be used in this way
            raise ConfigError(f"openai engine: {self._base_url} gives no rewards: {self._line(error)}") from None

    async def generate(self, prompt: Prompt, request: Request) -> Generation:
        self._raise_unless_started()
        if self._capabilities.rewards:
            raise ConfigError(f"openai engine: {self._model!r} is a reward model and generates nothing")
        return await self._ask(self._body(prompt, request), lambda answer: self._generation(answer, request))

    async def weigh(self, prompt: Prompt, choices: Sequence[int], key: str = "") -> Weighed:  # noqa: ARG002
        ids = self._weighable(prompt)
        return await self._ask(self._weigh_body(ids, choices), lambda answer: _weighed(answer, choices))

    async def read(self, prompt: Prompt, places: Sequence[int], key: str = "") -> Weighed:  # noqa: ARG002
        ids = self._weighable(prompt)[: places[-1] + 1]
        return await self._ask(self._read_body(ids), lambda answer: _read(answer, ids, places))

    def _weighable(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt that is to be weighed."""
        self._raise_unless_started()
        if not self._capabilities.weighs:
            raise ConfigError(
                f"openai engine: {self._base_url} cannot be asked how probable a token is: "
                "that takes vLLM's server, 0.32 or later, and protocol = 'completions'"
            )
        if prompt.token_ids is None:
            raise EngineError("openai engine: the prompt has no token ids")
        return prompt.token_ids

    async def reward(self, prompt: Prompt, key: str = "") -> Rewarded:  # noqa: ARG002
        self._raise_unless_started()
        if not self._capabilities.rewards:
            raise ConfigError(f"openai engine: {self._model!r} is no reward model: that takes protocol = 'pooling'")
        if prompt.token_ids is None:
            raise EngineError("openai engine: the prompt has no token ids")
        return await self._ask(self._reward_body(prompt.token_ids), _rewarded)

    def _raise_unless_started(self) -> None:
        if self._client is None:
            raise EngineDead("openai engine: it is closed, or was not started")

    async def _ask(self, body: dict[str, Any], read: Callable[[Any], Awaitable[T]]) -> T:
        """What `read` makes of the server's answer, once there is a place for the request."""
        started = time.perf_counter()
        self._count(waiting=1)
        try:
            await self._places.acquire()
        finally:
            self._count(waiting=-1)
        self._count(running=1)
        try:
            answer = await self._closable(self._answer(body, read))
        finally:
            self._count(running=-1)
            self._places.release()
        self._count(
            generated_tokens=answer.generated_tokens,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens or 0,
        )
        return replace(answer, seconds=time.perf_counter() - started)

    def _count(self, **changes: int) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + by for name, by in changes.items()})

    async def _closable(self, answer: Awaitable[T]) -> T:
        """The answer, unless the engine is closed while it is on its way."""
        task = asyncio.ensure_future(answer)
        self._in_flight.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            raise EngineDead("openai engine: it was closed") from None
        finally:
            self._in_flight.discard(task)

    async def _answer(self, body: dict[str, Any], read: Callable[[Any], Awaitable[T]]) -> T:
        client = self._client
        if client is None:
            raise EngineDead("openai engine: it was closed")
        try:
            return await read(await self._post(client, body))
        except EngineError:
            raise
        except Exception as error:  # noqa: BLE001 - refused, unreachable or no answer: it concerns this request
            raise EngineError(f"openai engine: {self._line(error)}") from None

    async def _post(self, client: Any, body: dict[str, Any]) -> Any:
        match self._protocol:
            case "completions":
                return await client.completions.create(**body)
            case "chat":
                return await client.chat.completions.create(**body)
            case "pooling":
                return await client.post(self._beside("pooling"), cast_to=object, body=body)

    def _beside(self, endpoint: str) -> str:
        """Address of an endpoint of vLLM's server that stands beside `/v1`."""
        return f"{self._base_url.removesuffix('/v1')}/{endpoint}"

    def _line(self, error: Exception) -> str:
        """One line of an error, with its cause where openai's client says no more than "Connection error", and
        without the key, which a server may repeat."""
        cause = f" ({error.__cause__})" if error.__cause__ is not None and str(error.__cause__) else ""
        text = " ".join(f"{str(error) or type(error).__name__}{cause}".split())
        return (text.replace(self._key, "***") if self._key else text)[:400]

    def _body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        if self._protocol == "chat":
            return self._chat_body(prompt, request)
        if prompt.token_ids is None:
            raise EngineError("openai engine: the prompt has no token ids")
        return self._completion_body(prompt.token_ids, request)

    def _completion_body(self, token_ids: tuple[int, ...], request: Request) -> dict[str, Any]:
        extra = {"return_token_ids": True, **self._vllm_fields(request.sampling, request.stop)}
        logprobs = {"logprobs": 0} if request.sampling.logprobs else {}  # 0: of the sampled token, and of no other
        return {"prompt": list(token_ids), "extra_body": extra, **logprobs, **self._common_body(request)}

    def _weigh_body(self, token_ids: tuple[int, ...], choices: Sequence[int]) -> dict[str, Any]:
        body = self._completion_body(token_ids, ONE_TOKEN)
        asked = {"logprob_token_ids": list(choices), "return_tokens_as_token_ids": True}
        return {**body, "extra_body": body["extra_body"] | asked}

    def _read_body(self, token_ids: tuple[int, ...]) -> dict[str, Any]:
        body = self._completion_body(token_ids, ONE_TOKEN)
        return {**body, "extra_body": body["extra_body"] | {"prompt_logprobs": 0}}

    def _reward_body(self, token_ids: tuple[int, ...]) -> dict[str, Any]:
        return {"model": self._model, "input": list(token_ids)}

    def _chat_body(self, prompt: Prompt, request: Request) -> dict[str, Any]:
        if request.sampling.logprobs:
            raise ConfigError("openai engine: log-probabilities need protocol = 'completions'")
        messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
        extra = self._vllm_fields(request.sampling, request.stop)
        if prompt.prefix:
            if not self._is_vllm:
                raise ConfigError(f"openai engine: {self._base_url} is not vLLM's server and cannot continue a text")
            messages.append({"role": "assistant", "content": prompt.prefix})
            extra |= {"continue_final_message": True, "add_generation_prompt": False}
        return {"messages": messages, "extra_body": extra, **self._common_body(request)}

    def _common_body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        return {
            "model": self._model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            **({"stop": list(request.stop)} if request.stop else {}),
            **({"seed": request.seed} if request.seed is not None else {}),
        }

    def _vllm_fields(self, sampling: Sampling, stop: tuple[str, ...]) -> dict[str, Any]:
        """What goes beyond OpenAI's protocol, and what the user adds."""
        for name in OWN_FIELDS & sampling.extra.keys():
            raise ConfigError(f"openai engine: sampling parameter {name!r} has its own key")
        own: dict[str, Any] = {"top_k": sampling.top_k, "min_p": sampling.min_p}
        if self._is_vllm:
            # Without the last one a model's generation_config.json would decide it.
            return {**own, "include_stop_str_in_output": True, "repetition_penalty": 1.0, **sampling.extra}
        if stop:
            raise ConfigError(f"openai engine: {self._base_url} is not vLLM's server: stop strings cannot be relied on")
        return {name: value for name, value in own.items() if value} | dict(sampling.extra)

    async def _generation(self, answer: Any, request: Request) -> Generation:
        choice = answer.choices[0]
        finish = _finish(choice)
        if self._protocol == "chat":
            return _counted(answer, self._chat_text(choice.message), None, None, finish)
        ids = tuple(choice.token_ids)
        text = choice.text
        if finish is FinishReason.STOP:
            text = await self._whole(text, ids)
        elif finish is FinishReason.END:
            ids = ids[:-1]
        logprobs = tuple(choice.logprobs.token_logprobs[: len(ids)]) if request.sampling.logprobs else None
        return _counted(answer, text, ids, logprobs, finish)

    def _chat_text(self, message: Any) -> str:
        content = message.content or ""
        reasoning = getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)
        if not reasoning:
            return str(content)
        opening, closing = self._reasoning
        return f"{opening}{reasoning}{closing}{content}"

    async def _whole(self, text: str, ids: tuple[int, ...]) -> str:
        """The text of all ids, where the server has cut it at the end of a stop string."""
        spelled = await self._spell(ids)
        # The text of ids on their own may lack the space that they begin with behind a prompt.
        for begin in (text, text.lstrip(" ")):
            if spelled.startswith(begin):
                return text + spelled[len(begin) :]
        return text

    async def _spell(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        body = {"model": self._model, "tokens": list(ids)}
        answer = await self._client.post(self._beside("detokenize"), cast_to=object, body=body)
        return str(answer["prompt"])

    async def close(self) -> None:
        client, self._client = self._client, None
        for task in self._in_flight:
            task.cancel()
        if client is not None:
            await client.close()


def _finish(choice: Any) -> FinishReason:
    if choice.finish_reason == "length":
        return FinishReason.LENGTH
    if choice.finish_reason != "stop":
        raise EngineError(f"openai engine: the answer ended with {choice.finish_reason!r}")
    return FinishReason.STOP if isinstance(getattr(choice, "stop_reason", None), str) else FinishReason.END


def _counted(
    answer: Any, text: str, ids: tuple[int, ...] | None, logprobs: tuple[float, ...] | None, finish: FinishReason
) -> Generation:
    return Generation(
        text=text,
        token_ids=ids,
        logprobs=logprobs,
        finish=finish,
        generated_tokens=answer.usage.completion_tokens,
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=_cached_tokens(answer.usage),
        seconds=0.0,
    )


async def _weighed(answer: Any, choices: Sequence[int]) -> Weighed:
    weights = _weights(answer.choices[0])
    return Weighed(
        logprobs=tuple(weights[choice] for choice in choices),
        generated_tokens=answer.usage.completion_tokens,
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=_cached_tokens(answer.usage),
        seconds=0.0,
    )


async def _read(answer: Any, ids: Sequence[int], places: Sequence[int]) -> Weighed:
    told = answer.choices[0].prompt_logprobs  # by place: None for the first, else the token's own by its id
    return Weighed(
        logprobs=tuple(told[place][str(ids[place])]["logprob"] for place in places),
        generated_tokens=answer.usage.completion_tokens,
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=_cached_tokens(answer.usage),
        seconds=0.0,
    )


async def _rewarded(answer: Any) -> Rewarded:
    told = answer["data"][0]["data"]  # of the whole text, or a row for each token
    last = told[-1] if isinstance(told[-1], list) else told
    return Rewarded(tuple(map(float, last)), answer["usage"]["prompt_tokens"], None, seconds=0.0)


def _weights(choice: Any) -> dict[int, float]:
    """Log-probabilities of the first token's alternatives by id, where the server tells any by their ids."""
    told = getattr(choice.logprobs, "top_logprobs", None) or [{}]
    by_id = [(name.removeprefix("token_id:"), name, weight) for name, weight in (told[0] or {}).items()]
    return {int(id): weight for id, name, weight in by_id if id != name}


def _cached_tokens(usage: Any) -> int | None:
    """None where the server does not tell."""
    details = getattr(usage, "prompt_tokens_details", None)
    return None if details is None else getattr(details, "cached_tokens", None)
