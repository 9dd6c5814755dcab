"""How much of the engine's own speed is left when the whole factory runs around it.

    python -m tests.bench.engine --rounds 6

The same requests (prompts of the demo's problems, n attempts each) go through `vllm.LLM.generate` in a process of its
own and through the whole factory (Ray, search, verification, shards), with identical engine and sampling arguments, in
turns. Start-up is excluded on both sides: the factory's clock runs from the moment its engine is up until the last
shard is committed, and, in a second figure, until the transcripts are written too. While one side runs, the other's
engine does not exist, so the two never share the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from factory.config import Recipe, load_recipe
from factory.driver import Progress
from factory.engines.vllm import ENVIRONMENT, FIXED
from factory.stats import median_interval

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "pipelines" / "demo.toml"
RESULTS = Path(__file__).parent / "results" / "engine.json"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One side of one round."""

    tokens: int
    seconds: float
    """From the engine being up to the last answer, or the last committed shard."""
    seconds_refined: float
    """The same until transcripts are written; equal to `seconds` for the engine alone."""
    cpu_seconds: dict[str, float]
    """By kind of process, start-up included."""

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def recipe_of(problems: int, attempts: int) -> Recipe:
    """The demo's recipe with every attempt made: no early stop, so that both sides answer the same requests."""
    keep = [f"source.count={problems}", f"search.n={attempts}", f"search.wave={attempts}"]
    table = load_recipe(RECIPE, keep).model_dump()
    table["search"]["stop_at"] = None
    return Recipe.model_validate(table)


def engine_alone(recipe: Recipe) -> Measurement:
    """The requests through `LLM.generate`, in a process of its own that is gone afterwards."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_generate, args=(recipe, theirs))
    process.start()
    result: Measurement = ours.recv()
    process.join()
    return result


def _generate(recipe: Recipe, answer: Connection) -> None:
    from factory.config import VllmEngineConfig
    from pipelines import build

    teacher = recipe.teacher
    assert isinstance(teacher, VllmEngineConfig)
    os.environ.update({**ENVIRONMENT, **FIXED, "HF_HUB_OFFLINE": "1"})
    from vllm import LLM, SamplingParams, TokensPrompt

    prompts = _prompts(recipe, build)
    llm = LLM(model=teacher.model, **teacher.args)
    sampling = SamplingParams(temperature=recipe.sampling.temperature, max_tokens=recipe.sampling.max_tokens)
    start = time.perf_counter()
    outputs = llm.generate([TokensPrompt(prompt_token_ids=ids) for ids in prompts], sampling, use_tqdm=False)
    seconds = time.perf_counter() - start
    tokens = sum(len(completion.token_ids) for output in outputs for completion in output.outputs)
    answer.send(Measurement(tokens, seconds, seconds, _cpu_by_kind(psutil.Process())))
    llm.llm_engine.engine_core.shutdown()  # else this process waits for its engine's for ever


def _prompts(recipe: Recipe, build: Any) -> list[list[int]]:
    renderer = build.renderer(recipe.teacher, recipe.prompt)
    rendered = [renderer.render(problem.messages).token_ids for problem in build.source(recipe)]
    return [list(ids) for ids in rendered for _ in range(attempts(recipe))]


def attempts(recipe: Recipe) -> int:
    """Per problem, every time."""
    from factory.search_config import BestOfNConfig

    if not isinstance(recipe.search, BestOfNConfig):
        raise TypeError(recipe.search.kind)
    return recipe.search.n


def whole_factory(recipe: Recipe) -> Measurement:
    """The requests through the main job, in a folder that is deleted afterwards."""
    from pipelines.run import Options, run

    with tempfile.TemporaryDirectory() as folder:
        watch = _Watch()
        run(recipe, Options(f"{folder}/run"), watch.reporter)
        refined = time.perf_counter() - watch.ended
    return Measurement(
        tokens=watch.progress.tokens,
        seconds=watch.progress.engine_seconds,
        seconds_refined=watch.progress.engine_seconds + refined,
        cpu_seconds=watch.cpu,
    )


class _Watch:
    """Takes the place of the progress display: keeps the figures, and the processes' CPU time at the end."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.cpu: dict[str, float] = {}
        self.ended = 0.0

    @contextlib.contextmanager
    def reporter(self, progress: Progress) -> Iterator[None]:
        self.progress = progress
        with _sampled() as cpu:
            yield
        self.cpu = cpu
        self.ended = time.perf_counter()


@contextlib.contextmanager
def _sampled() -> Iterator[dict[str, float]]:
    """CPU seconds by kind of process, looked at twice a second, since processes are gone at the end."""
    seen: dict[int, tuple[str, float]] = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.5):
            seen.update(_cpu_by_pid(psutil.Process()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    total: dict[str, float] = {}
    try:
        yield total
    finally:
        stop.set()
        thread.join()
        total.update(_summed(seen))


def _cpu_by_kind(parent: psutil.Process) -> dict[str, float]:
    return _summed(_cpu_by_pid(parent))


def _summed(seen: dict[int, tuple[str, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for kind, seconds in seen.values():
        sums[kind] = round(sums.get(kind, 0.0) + seconds, 2)
    return sums


def _cpu_by_pid(parent: psutil.Process) -> dict[int, tuple[str, float]]:
    seen: dict[int, tuple[str, float]] = {}
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seen[process.pid] = _kind(process, parent), times.user + times.system
    return seen


def _kind(process: psutil.Process, parent: psutil.Process) -> str:
    if process.pid == parent.pid:
        return "driver"
    title = " ".join(process.cmdline()) or process.name()
    names = {"VLLM": "engine", "WorkerActor": "worker", "raylet": "raylet", "gcs_server": "gcs"}
    return next((kind for mark, kind in names.items() if mark in title), "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--problems", type=int, default=192)
    parser.add_argument("--attempts", type=int, default=16)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    recipe = recipe_of(arguments.problems, arguments.attempts)
    rounds = []
    for number in range(arguments.rounds):
        # The order alternates, so that a drift of the machine's speed favours neither side.
        order = [engine_alone, whole_factory] if number % 2 == 0 else [whole_factory, engine_alone]
        pair = {side.__name__: side(recipe) for side in order}
        rounds.append(pair)
        print(_line(number, pair), flush=True)
    result = _result(rounds, recipe)
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}, indent=2))
    if arguments.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def _line(number: int, pair: dict[str, Measurement]) -> str:
    alone, whole = pair["engine_alone"], pair["whole_factory"]
    ratio = whole.rate / alone.rate
    return f"round {number}: engine {alone.rate:,.0f} tokens/s, factory {whole.rate:,.0f} tokens/s, ratio {ratio:.3f}"


def _result(rounds: list[dict[str, Measurement]], recipe: Recipe) -> dict[str, Any]:
    ratios = [pair["whole_factory"].rate / pair["engine_alone"].rate for pair in rounds]
    refined = [
        pair["whole_factory"].tokens / pair["whole_factory"].seconds_refined / pair["engine_alone"].rate
        for pair in rounds
    ]
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "requests": {"source": recipe.source.model_dump(), "attempts": attempts(recipe)},
        "engine_tokens_per_second": sorted(round(pair["engine_alone"].rate) for pair in rounds),
        "factory_tokens_per_second": sorted(round(pair["whole_factory"].rate) for pair in rounds),
        "ratio": asdict(median_interval(ratios)),
        "ratio_with_transcripts": asdict(median_interval(refined)),
        "cpu_seconds": {side: rounds[-1][side].cpu_seconds for side in rounds[-1]},
        "rounds": [{side: asdict(one) for side, one in pair.items()} for pair in rounds],
    }


if __name__ == "__main__":
    main()
