"""vLLM in this process: the only file of the factory that imports vllm, and only once an engine starts.

The engine core runs in child processes of its own. They end with `close`, and they end by themselves within about a
second when this process dies in any way, SIGKILL included: each of them watches its parent (see `_Tether`). They are
spawned, so they import the main module again: a script that starts an engine needs `if __name__ == "__main__"`.

What a `Generation` from here means:

- `token_ids` are the sampled ids verbatim, without the token that ended the turn; `generated_tokens` counts that too.
- `text` is what those ids spell, special tokens left out. When a stop string ends inside a token, that token is kept
  whole in both, so the text may run on behind the stop string by the rest of it: ids and text never disagree, and a
  continuation by ids continues exactly this text.
- A token whose text holds a stop string ends the request in the engine's core. Stop strings proper are looked for in
  this process, and until the core learns of one it has generated a token or two more, for nobody.
- `finish` is STOP for a stop string only. A stop token given through `Sampling.extra` ends the turn, hence END.
- `logprobs` are those of the model before temperature and truncation, unless the engine argument `logprobs_mode` says
  otherwise. The same holds for what `weigh` and `read` tell, which generate one token to be told it. `read` computes
  the whole prompt, since vLLM takes none of it from its prefix cache then.

A model that is run by the pooling runner (`runner = "pooling"` among the arguments) is a reward model: one that
classifies a text, or each token of it, of which the last is looked at. vLLM reads classifiers of Transformers so.

A cancelled request is aborted. What it had generated until then stays in `stats.generated_tokens`.

The process's environment is changed when an engine starts: no usage reports, logs from WARNING on and to stderr.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import logging
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.engines.base import Capabilities, EngineStats, Prompt, Request
from factory.errors import ConfigError, EngineDead, EngineError
from factory.types import FinishReason, Generation, Rewarded, Weighed

log = logging.getLogger(__name__)

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; read only by the build without a GPU
}
"""Set where neither the recipe nor the process's own environment says otherwise."""

FIXED = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
"""Not to be changed: a forked child would not watch its parent."""

OWN_ARGS = frozenset({"model"})
"""Engine arguments that have a place of their own in a recipe."""

OWN_SAMPLING = frozenset(
    {
        "n",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "max_tokens",
        "logprobs",
        "flat_logprobs",
        "seed",
        "stop",
        "include_stop_str_in_output",
        "detokenize",
        "output_kind",
        "skip_clone",
    }
)
"""Sampling parameters that the engine sets itself."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tiktoken.model")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")

MAX_STOP_IDS = 1024
"""The core compares each sampled token with all of them, and they travel with each request."""

CLOSE_SECONDS = 10.0
"""How long children may take to end by themselves before they are killed."""


def check_model(model: str, tokenizer: str | None = None) -> None:
    """Raise `ConfigError` for a local folder that holds no model. A hub name passes; nothing heavy is imported.

    `tokenizer`: where the tokenizer is, if not in the model's folder.
    """
    folder = Path(model).expanduser()
    if not folder.exists():
        if HUB_NAME.fullmatch(model) and not model.startswith("."):
            return
        raise ConfigError(f"there is no model folder {model!r}")
    if folder.is_file():
        if folder.suffix != ".gguf":
            raise ConfigError(f"{model!r} is a file: name the folder that holds config.json and the weights")
        return
    names = [path.name for path in folder.iterdir()]
    missing = [
        what
        for what, found in (
            ("config.json", "config.json" in names),
            ("weights (*.safetensors)", any(name.endswith(WEIGHTS) for name in names)),
            ("a tokenizer (tokenizer.json)", tokenizer is not None or any(name in TOKENIZERS for name in names)),
        )
        if not found
    ]
    if missing:
        raise ConfigError(f"{model!r} is not a model folder: it lacks {' and '.join(missing)}")


class VllmEngine:
    """`vllm.v1.engine.async_llm.AsyncLLM` as an `Engine`."""

    def __init__(self, model: str, args: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """`args` are vLLM's engine arguments, all passed through. `environment` is set before vllm is imported.

        Raises `ConfigError` for a folder that is no model.
        """
        check_model(model, args.get("tokenizer"))
        for name in OWN_ARGS & args.keys():
            raise ConfigError(f"vllm engine: {name!r} does not belong into args, it has its own key")
        for name in FIXED.keys() & (environment or {}).keys():
            raise ConfigError(f"vllm engine: {name} cannot be set, it is always {FIXED[name]!r}")
        self._model = model
        self._args = dict(args)
        self._environment = dict(environment or {})
        self._capabilities = _declared(args)
        self._pooling: str | None = None
        self._counters = _Counters()
        self._in_flight = 0
        self._numbers = itertools.count(1)
        self._llm: Any = None
        self._vllm: Any = None
        self._end_texts: dict[tuple[int, bool], str] = {}
        self._vocabulary: tuple[str, ...] = ()
        """What each token spells on its own; nothing for a special one."""
        self._stop_ids: dict[str, tuple[int, ...]] = {}
        self._children: list[Any] = []
        self._closed = threading.Event()

    @property
    def capabilities(self) -> Capabilities:
        """What the arguments promise; from `start` on what the engine has."""
        return self._capabilities

    @property
    def stats(self) -> EngineStats:
        """vLLM's own counters. It tells them only while something runs, hence the bound by what is in flight."""
        running = min(self._counters.running, self._in_flight)
        return EngineStats(
            running=running,
            waiting=min(self._counters.waiting, self._in_flight - running),
            generated_tokens=self._counters.generated_tokens,
            prompt_tokens=self._counters.prompt_tokens,
            cached_tokens=self._counters.cached_tokens,
        )

    async def start(self) -> None:
        if self._llm is not None or self._closed.is_set():
            raise EngineDead("vllm engine: it can be started only once")
        self._set_environment()
        try:
            llm = await asyncio.to_thread(self._load)
        except asyncio.CancelledError:
            self._closed.set()  # the thread goes on, and ends what it has built
            raise
        if self._closed.is_set():
            await asyncio.to_thread(self._shut_down, llm)
            raise EngineDead("vllm engine: it was closed while it started")
        self._llm, self._vllm = llm, _Names()
        try:
            # Asked once and remembered by vLLM: asked later, a core that dies meanwhile would leave the caller waiting.
            tasks = await llm.get_supported_tasks()
        except self._vllm.EngineDeadError as error:
            raise EngineDead(f"vllm engine: the engine core of {self._model!r} died") from error
        self._capabilities = _actual(llm.vllm_config)
        if self._capabilities.rewards:
            self._pooling = llm.vllm_config.model_config.get_pooling_task(tasks)
            if self._pooling not in _REWARDS:
                raise ConfigError(f"vllm engine: {self._model!r} gives no rewards: it is a model for {self._pooling!r}")
        else:
            self._vocabulary = await asyncio.to_thread(_vocabulary, llm)

    def _set_environment(self) -> None:
        defaults = dict(ENVIRONMENT)
        if Path(self._model).expanduser().exists():
            defaults["HF_HUB_OFFLINE"] = "1"
        for name, value in defaults.items():
            os.environ.setdefault(name, value)
        os.environ.update(self._environment)
        os.environ.update(FIXED)

    def _load(self) -> Any:
        """Load the model; in a thread of its own, so that the event loop goes on."""
        llm = self._build()
        if self._closed.is_set():
            self._shut_down(llm)
        return llm

    def _build(self) -> Any:
        from vllm.v1.engine.async_llm import AsyncLLM

        config, quiet = self._configure()
        before = set(_descendants())
        try:
            llm = AsyncLLM.from_vllm_config(
                config, stat_loggers=[_stat_logger(self._counters)], disable_log_stats=quiet
            )
        except Exception as error:  # vllm tells its reasons in its log; nothing can be mended from here
            raise EngineDead(f"vllm engine: {self._model!r} did not start: {_one_line(error)}") from error
        self._children = [child for child in _descendants() if child not in before]
        return llm

    def _configure(self) -> tuple[Any, bool]:
        """vLLM's config from the arguments, and whether its own statistics are off."""
        import dataclasses

        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.usage.usage_lib import UsageContext

        _refuse_unknown(self._args, [field.name for field in dataclasses.fields(AsyncEngineArgs)], "engine argument")
        defaults = {"disable_log_stats": True} | (_WHOLE_PROMPTS if _is_on_cpus() else {})
        own = {"additional_config": {**self._args.get("additional_config", {}), "tether": _Tether()}}
        try:
            args = AsyncEngineArgs(model=self._model, **{**defaults, **self._args, **own})
            return args.create_engine_config(UsageContext.ENGINE_CONTEXT), args.disable_log_stats
        except (ValueError, TypeError, OSError, NotImplementedError) as error:
            raise ConfigError(f"vllm engine: {_one_line(error)}") from error

    async def generate(self, prompt: Prompt, request: Request) -> Generation:
        self._raise_unless_started()
        self._refuse_reward_model()
        params = self._params(request)
        output, seconds = await self._ask(prompt, params, request.key)
        if output.outputs[0].finish_reason not in _FINISH:
            raise EngineError(f"vllm engine: request {request.key!r} was given up")
        return self._generation(output, params, seconds)

    async def weigh(self, prompt: Prompt, choices: Sequence[int], key: str = "") -> Weighed:
        self._raise_unless_started()
        self._refuse_reward_model()
        params = self._one_token(logprob_token_ids=list(choices))
        output, seconds = await self._ask(prompt, params, key)
        completion = output.outputs[0]
        found = completion.logprobs[0]
        return Weighed(
            logprobs=tuple(found[choice].logprob for choice in choices),
            generated_tokens=len(completion.token_ids),
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens,
            seconds=seconds,
        )

    async def read(self, prompt: Prompt, places: Sequence[int], key: str = "") -> Weighed:
        self._raise_unless_started()
        self._refuse_reward_model()
        asked = (prompt.token_ids or ())[: places[-1] + 1]
        params = self._one_token(prompt_logprobs=0)  # 0: of the prompt's own tokens, and of no other
        output, seconds = await self._ask(replace(prompt, token_ids=asked or None), params, key)
        found = output.prompt_logprobs
        return Weighed(
            logprobs=tuple(found[place][asked[place]].logprob for place in places),
            generated_tokens=len(output.outputs[0].token_ids),
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens,
            seconds=seconds,
        )

    def _one_token(self, **more: Any) -> Any:
        """Sampling parameters of a request that generates no more than must be."""
        names = self._vllm
        return names.SamplingParams(
            temperature=0.0,
            max_tokens=1,
            detokenize=False,
            output_kind=names.FINAL_ONLY,
            skip_clone=True,  # made for this request alone
            **more,
        )

    async def reward(self, prompt: Prompt, key: str = "") -> Rewarded:
        self._raise_unless_started()
        if self._pooling is None:
            raise ConfigError(f"vllm engine: {self._model!r} is no reward model: that takes runner = 'pooling' in args")
        output, seconds = await self._ask(prompt, self._vllm.PoolingParams(task=self._pooling), key)
        told = output.outputs.data  # of the whole text, or a row for each token
        last = told if told.ndim == 1 else told[-1]
        return Rewarded(tuple(last.tolist()), len(output.prompt_token_ids), output.num_cached_tokens, seconds)

    def _refuse_reward_model(self) -> None:
        if self._pooling is not None:
            raise ConfigError(f"vllm engine: {self._model!r} is a reward model and generates nothing")

    def _raise_unless_started(self) -> None:
        if self._llm is None:
            raise EngineDead(
                "vllm engine: it is closed" if self._closed.is_set() else "vllm engine: it was not started"
            )

    async def _ask(self, prompt: Prompt, params: Any, key: str) -> tuple[Any, float]:
        """The finished request, and the seconds that it took."""
        if prompt.token_ids is None:
            raise EngineError("vllm engine: the prompt has no token ids")
        started = time.perf_counter()
        self._in_flight += 1
        try:
            output = await self._run(prompt.token_ids, params, f"{key}#{next(self._numbers)}")
        finally:
            self._in_flight -= 1
        return output, time.perf_counter() - started

    def _params(self, request: Request) -> Any:
        sampling = request.sampling
        names = self._vllm
        if sampling.extra:
            known = [name for name in names.sampling_fields if name not in OWN_SAMPLING]
            _refuse_unknown(sampling.extra, known, "sampling parameter")
        extra = {**sampling.extra, "stop_token_ids": self._ending(request)}
        try:
            return names.SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                max_tokens=sampling.max_tokens,
                logprobs=0 if sampling.logprobs else None,  # 0: the sampled token's, and no other's
                flat_logprobs=sampling.logprobs,
                seed=request.seed,
                stop=list(request.stop),
                include_stop_str_in_output=True,
                output_kind=names.FINAL_ONLY,
                skip_clone=True,  # made for this request alone
                **extra,
            )
        except (ValueError, TypeError, names.ClientError) as error:
            raise EngineError(f"vllm engine: {_one_line(error)}") from error

    def _ending(self, request: Request) -> list[int]:
        """Tokens that end the generation: those that the request names, and those that hold a stop string of its."""
        extra = request.sampling.extra
        named = list(extra.get("stop_token_ids") or ())
        if extra.get("min_tokens"):  # vLLM keeps such tokens from being sampled before, and stop strings it does not
            return named
        return [*named, *(token for stop in request.stop for token in self._holding(stop))]

    def _holding(self, stop: str) -> tuple[int, ...]:
        """Tokens whose text holds a stop string."""
        if stop not in self._stop_ids:
            found = tuple(token for token, text in enumerate(self._vocabulary) if stop in text)
            self._stop_ids[stop] = found if len(found) <= MAX_STOP_IDS else ()
        return self._stop_ids[stop]

    async def _run(self, token_ids: tuple[int, ...], params: Any, name: str) -> Any:
        """The finished request. A cancelled await aborts it: vLLM's own generators see to that."""
        llm, names = self._llm, self._vllm
        ask = llm.generate if self._pooling is None else llm.encode
        try:
            outputs = [output async for output in ask(names.tokens_input(list(token_ids)), params, name)]
        except names.EngineDeadError as error:
            raise EngineDead(f"vllm engine: the engine core of {self._model!r} died") from error
        except Exception as error:  # whatever a request brings up concerns that request, unless the core is gone
            if llm.errored:
                raise EngineDead(f"vllm engine: the engine core of {self._model!r} died") from error
            raise EngineError(f"vllm engine: {_one_line(error.__cause__ or error)}") from error
        if not outputs:
            raise EngineError(f"vllm engine: request {name} was given up")
        return outputs[-1]

    def _generation(self, output: Any, params: Any, seconds: float) -> Generation:
        completion = output.outputs[0]
        ids = tuple(completion.token_ids)
        generated = len(ids)
        finish, text = _FINISH[completion.finish_reason], completion.text
        if finish is FinishReason.END and isinstance(completion.stop_reason, str):
            finish, text = FinishReason.STOP, self._whole(text, ids, params.skip_special_tokens)
        elif finish is FinishReason.END and ids:
            text = text.removesuffix(self._end_text(ids[-1], params.skip_special_tokens))
            ids = ids[:-1]
        return Generation(
            text=text,
            token_ids=ids,
            logprobs=_sampled_logprobs(completion.logprobs, len(ids)) if params.logprobs is not None else None,
            finish=finish,
            generated_tokens=generated,
            prompt_tokens=len(output.prompt_token_ids),
            cached_tokens=output.num_cached_tokens,
            seconds=seconds,
        )

    def _whole(self, text: str, ids: tuple[int, ...], skip_special: bool) -> str:
        """The text of all ids, where vLLM has cut it at the end of a stop string."""
        spelled = self._llm.tokenizer.decode(list(ids), skip_special_tokens=skip_special)
        # The text of ids on their own may lack the space that they begin with behind a prompt.
        for begin in (text, text.lstrip(" ")):
            if spelled.startswith(begin):
                return text + str(spelled[len(begin) :])
        return text

    def _end_text(self, token: int, skip_special: bool) -> str:
        """What the end-of-turn token would leave in the text: nothing, unless it is an ordinary token."""
        key = (token, skip_special)
        if key not in self._end_texts:
            self._end_texts[key] = str(self._llm.tokenizer.decode([token], skip_special_tokens=skip_special))
        return self._end_texts[key]

    async def close(self) -> None:
        self._closed.set()
        llm, self._llm = self._llm, None
        if llm is None:
            return
        # vLLM's own shutdown leaves those who wait waiting, and logs the end of its output handler as a failure.
        llm.output_processor.propagate_error(self._vllm.EngineDeadError())
        if llm.output_handler is not None:
            llm.output_handler.cancel()
        await asyncio.to_thread(self._shut_down, llm)

    def _shut_down(self, llm: Any) -> None:
        llm.shutdown(timeout=CLOSE_SECONDS)
        llm.shutdown = _nothing  # its `__del__` would call it again, when the interpreter ends and vllm is half gone
        self._end_children()
        # vLLM closes its sockets from the event loop, and never the context with its threads that they belong to.
        term = threading.Thread(target=llm.engine_core.resources.ctx.term, name="zmq-term", daemon=True)
        term.start()
        term.join(CLOSE_SECONDS)

    def _end_children(self) -> None:
        """Make sure that every process which this engine started is gone."""
        import psutil

        _, alive = psutil.wait_procs(self._children, timeout=CLOSE_SECONDS)
        for process in alive:
            log.warning("killing engine process %s, which has not ended in %s s", process.pid, CLOSE_SECONDS)
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass  # it has ended just now
        psutil.wait_procs(alive, timeout=CLOSE_SECONDS)
        self._children = []


_FINISH = {
    "stop": FinishReason.END,
    "length": FinishReason.LENGTH,
    "repetition": FinishReason.LENGTH,  # cut by the engine, when asked to through `Sampling.extra`
}

_REWARDS = ("classify", "token_classify")
"""What a model must be for, among vLLM's pooling tasks."""


class _Names:
    """What is used of vllm, imported once it is loaded."""

    def __init__(self) -> None:
        from vllm import PoolingParams, SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        self.SamplingParams: Any = SamplingParams
        self.PoolingParams: Any = PoolingParams
        self.FINAL_ONLY: Any = RequestOutputKind.FINAL_ONLY
        self.tokens_input: Any = tokens_input
        self.EngineDeadError: Any = EngineDeadError
        self.ClientError: Any = VLLMClientError
        self.sampling_fields = tuple(name for name in SamplingParams.__struct_fields__ if not name.startswith("_"))


def _declared(args: Mapping[str, Any]) -> Capabilities:
    """What can be said before vllm is loaded; its own defaults where the arguments are silent."""
    rewards = args.get("runner") == "pooling"
    return Capabilities(
        token_prompts=True,
        logprobs=not rewards,
        weighs=not rewards,
        rewards=rewards,
        prefix_caching=bool(args.get("enable_prefix_caching", True)),
        max_running=int(args.get("max_num_seqs", 256)),
        max_context=args.get("max_model_len"),
    )


def _actual(config: Any) -> Capabilities:
    rewards = config.model_config.runner_type == "pooling"
    return Capabilities(
        token_prompts=True,
        logprobs=not rewards,
        weighs=not rewards,
        rewards=rewards,
        prefix_caching=bool(config.cache_config.enable_prefix_caching),
        max_running=int(config.scheduler_config.max_num_seqs),
        max_context=int(config.model_config.max_model_len),
    )


def _vocabulary(llm: Any) -> tuple[str, ...]:
    """The text of each token that the model can sample."""
    tokenizer = llm.tokenizer
    if tokenizer is None:  # a recipe may leave it out, and then has no stop strings
        return ()
    count = min(len(tokenizer), llm.vllm_config.model_config.get_vocab_size())
    return tuple(tokenizer.batch_decode([[token] for token in range(count)], skip_special_tokens=True))


_WHOLE_PROMPTS = {"enable_chunked_prefill": False}
"""On CPUs vLLM's core dies of a seeded request whose prompt it computes in parts (seen in 0.24.0, "CPU Generator does
not use offset"), so there it computes prompts whole, unless the arguments say otherwise."""


def _is_on_cpus() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def _sampled_logprobs(flat: Any, count: int) -> tuple[float, ...]:
    """Of the sampled tokens: the first of each position."""
    return tuple(flat.logprobs[start] for start in flat.start_indices[:count])


def _refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(f"vllm engine: no {what} {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))


def _nothing(timeout: float | None = None) -> None:
    """Stands in for the shutdown of an engine that is shut down."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _descendants() -> list[Any]:
    """Living descendants of this process, but for multiprocessing's own helper, which serves all and stays."""
    import psutil

    return [child for child in psutil.Process().children(recursive=True) if not _is_helper(child)]


def _is_helper(process: Any) -> bool:
    import psutil

    try:
        return "multiprocessing.resource_tracker" in " ".join(process.cmdline())
    except psutil.Error:
        return True  # it has ended


class _Counters:
    """Running sums of what vLLM reports after each step."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting = 0
        self.generated_tokens = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0

    def record(self, scheduler: Any, iteration: Any) -> None:
        if scheduler is not None:
            self.running = scheduler.num_running_reqs  # those that this step has ended are not among them
            self.waiting = scheduler.num_waiting_reqs
        if iteration is not None:
            self.running = max(self.running, iteration.num_generation_tokens)
            self.generated_tokens += iteration.num_generation_tokens
            self.prompt_tokens += iteration.prompt_token_stats.total
            self.cached_tokens += iteration.prompt_token_stats.cached_tokens


def _stat_logger(counters: _Counters) -> type:
    """A stat logger class for vLLM that feeds the counters.

    It derives from the Prometheus logger because vLLM adds that one wherever none of its kind is given, and its
    histograms, which nobody reads here, cost a call per token.
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class Logger(PrometheusStatLogger):  # type: ignore[misc]  # vllm is read as Any
        def __init__(self, vllm_config: Any, engine_indexes: Any = None) -> None:
            pass

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            counters.record(scheduler_stats, iteration_stats)

        def log_engine_initialized(self) -> None:
            pass

        def record_sleep_state(self, *_: Any, **__: Any) -> None:
            pass

        def record_admission_rejection(self, reason: str) -> None:
            pass

    return Logger


class _Tether(str):
    """Travels to the engine's processes inside their config, and there makes them end with their parent.

    vLLM's engine core notices nothing when the process that started it is killed, and would hold its memory for ever.
    Unpickling this string in a child starts a thread that looks, twice a second, whether the parent is still there.
    (`PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the child ends.) It is a string, and
    always the same, because vLLM makes its compile cache's key from the config's JSON.
    """

    __slots__ = ()

    def __new__(cls) -> _Tether:
        return super().__new__(cls, "ends with its parent")

    def __reduce__(self) -> tuple[Any, ...]:
        return _tethered, (os.getpid(),)


def _tethered(parent: int) -> _Tether:
    """Runs where the config is unpickled; `parent` is where it was pickled.

    Copies within one process change nothing, and neither do processes that multiprocessing has not started: an
    executor such as Ray's looks after those.
    """
    if os.getpid() != parent and multiprocessing.current_process().name != "MainProcess":
        threading.Thread(target=_end_with, args=(parent,), name="tether", daemon=True).start()
    return _Tether()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
