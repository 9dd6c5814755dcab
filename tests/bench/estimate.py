"""How often the intervals of `factory estimate` hold what came of the whole.

    python -m tests.bench.estimate --save                       # the scripted engine: many recipes, many pilots
    python -m tests.bench.estimate --teacher 200 --save         # the bundled teacher: five recipes, a pilot each

With the scripted engine every recipe is run once over all of its problems; then pilots are drawn from it at random,
many times. With the teacher it is the command itself: `factory estimate`, then a `factory run` of its own over
everything, and what that came to. Seconds hang on what else the machine does, and are reported apart.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.config import Recipe, load_recipe
from factory.rollout import Rollout
from factory.rows import is_right
from factory.runs import open_run
from factory.types import Problem, Tree
from pipelines import build
from pipelines.estimate import Pilot, forecasted
from pipelines.summary import summarize

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "estimate.json"
WHOLE, PILOT, PILOTS = 300, 32, 100

SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "best of 1": {"kind": "best_of_n", "n": 1},
    "best of 8": {"kind": "best_of_n", "n": 8},
    "best of 16 to the first": {"kind": "best_of_n", "n": 16, "wave": 1, "stop_at": 1},
    "best of 16 to the second": {"kind": "best_of_n", "n": 16, "wave": 4, "stop_at": 2},
    "ladder": {
        "kind": "ladder",
        "rungs": [{"kind": "best_of_n", "n": 2}, {"kind": "best_of_n", "n": 14, "wave": 2}],
        "stop_at": 1,
        "hopeless_after": 900,
    },
}
RATES = (0.02, 0.13, 0.5, 0.95)
"""Of the scripted engine's right answers."""


def scripted(search: Mapping[str, Any], rate: float) -> Recipe:
    table = {
        "source": {"kind": "countdown", "count": WHOLE, "seed": 5},
        "engines": {"teacher": {"kind": "scripted", "args": {"solve_rate": rate, "record": False}}},
        "search": dict(search),
    }
    return Recipe.model_validate(table)


async def trees(recipe: Recipe) -> list[Tree]:
    """Of every problem, as a worker would make them."""
    engine, tools = build.worker_tools(build.absolute(recipe), build.policy(recipe, ""), {})
    await engine.start()
    problems = [one for one in build.source(recipe) if isinstance(one, Problem)]
    try:
        return list(await asyncio.gather(*(Rollout(one, tools).run() for one in problems)))
    finally:
        await engine.close()


def pilot_of(trees: list[Tree]) -> Pilot:
    """As if a run of these problems had been read; right leaves stand for transcripts."""
    right = [float(sum(map(is_right, tree.nodes))) for tree in trees]
    return Pilot(
        tokens=[tree.cost.generated_tokens for tree in trees],
        prompt_tokens=[tree.cost.prompt_tokens for tree in trees],
        solved=[float(bool(one)) for one in right],
        kept={"full": right},
        speeds=[(0.0, 0.0) for _ in trees],
        most=0.0,
        engines=1,
    )


def held(recipe: Recipe, whole: list[Tree], rng: random.Random) -> Iterator[dict[str, bool]]:
    """For each pilot and figure, whether its interval holds the sum over the whole."""
    everything = forecasted(recipe, pilot_of(whole), len(whole), 0.0).figures
    for _ in range(PILOTS):
        found = forecasted(recipe, pilot_of(rng.sample(whole, PILOT)), len(whole), 0.0).figures
        yield {name: one.low <= everything[name].value <= one.high for name, one in found.items()}


def by_script() -> dict[str, Any]:
    rng = random.Random(3)
    shares: dict[str, dict[str, float]] = {}
    for (name, search), rate in itertools.product(SEARCHES.items(), RATES):
        recipe = scripted(search, rate)
        found = list(held(recipe, asyncio.run(trees(recipe)), rng))
        shares[f"{name}, rate {rate}"] = {key: round(fmean(one[key] for one in found), 3) for key in found[0]}
        print(f"{name}, rate {rate}: {shares[f'{name}, rate {rate}']}", flush=True)
    keys = next(iter(shares.values()))
    return {
        "problems": WHOLE,
        "pilot": PILOT,
        "pilots of each recipe": PILOTS,
        "held by recipe": shares,
        "held": {key: round(fmean(one[key] for one in shares.values()), 3) for key in keys},
    }


def by_teacher(count: int) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, search) in enumerate(SEARCHES.items()):
            found[name] = _forecast_and_run(search, count, Path(folder) / str(number))
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    inside = [one["inside"] for each in found.values() for key, one in each.items() if key != "seconds"]
    timed = [each["seconds"]["inside"] for each in found.values()]
    return {
        "problems": count,
        "pilot": PILOT,
        "recipes": found,
        "inside, of all figures but seconds": [sum(inside), len(inside)],
        "inside, of seconds": [sum(timed), len(timed)],
    }


def _forecast_and_run(search: Mapping[str, Any], count: int, out: Path) -> dict[str, Any]:
    """Each figure: forecast, ends, what came, and whether it fell inside."""
    recipe = out.with_suffix(".toml")
    recipe.write_text(_recipe(search, count))
    forecast = json.loads(_command("estimate", recipe, "--json", "--pilot", PILOT))
    began = time.monotonic()
    _command("run", recipe, "--out", out)
    actual = _actual(out) | {"seconds": time.monotonic() - began}
    return {
        key: {
            **{end: round(forecast[key][end], 1) for end in ("value", "low", "high")},
            "actual": round(value, 1),
            "inside": forecast[key]["low"] <= value <= forecast[key]["high"],
        }
        for key, value in actual.items()
    }


def _recipe(search: Mapping[str, Any], count: int) -> str:
    """The demo's, on problems of its own."""
    demo = load_recipe(ROOT / "pipelines" / "demo.toml").model_dump(mode="json", exclude_defaults=True)
    source = {"kind": "countdown", "count": count, "seed": 4711}
    engine = demo["engines"]["teacher"] | {"model": str(ROOT / "pipelines" / "teachers" / "countdown")}
    tables = {"source": source, "engines": {"teacher": engine}, "search": dict(search)}
    return "".join(f"{key} = {_inline(table)}\n" for key, table in tables.items())


def _inline(value: Any) -> str:
    """In TOML, in one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


def _command(*words: object) -> str:
    program = [sys.executable, "-m", "pipelines.cli", *map(str, words)]
    return subprocess.run(program, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _actual(out: Path) -> dict[str, float]:
    run = open_run(str(out))
    figures = summarize(run.store, run.refinement)
    prompts = sum(tree.cost.prompt_tokens for tree in run.rollouts())
    kept = {f"kept_{variant}": float(number) for variant, number in figures["kept"].items()}
    return {"tokens": figures["tokens"], "prompt_tokens": prompts, "solved": figures["solved"], **kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=int, default=0, help="problems of a run of the bundled teacher; 0 for none")
    parser.add_argument("--save", action="store_true", help="write the results beside the others")
    arguments = parser.parse_args()
    key, result = ("teacher", by_teacher(arguments.teacher)) if arguments.teacher else ("scripted", by_script())
    print(json.dumps(result, indent=2))
    if arguments.save:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(before | {key: result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
