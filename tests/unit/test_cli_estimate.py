"""`factory estimate`: what is drawn, what is read of a pilot, and what is said of the whole."""

import json
from dataclasses import replace
from typing import Any

import pytest

from factory.config import Recipe
from factory.errors import ConfigError
from factory.runs import open_run
from factory.types import StopReason, Tree
from pipelines.estimate import Pilot, _print, drawn, forecasted, observed
from tests.unit import run_folders as make
from tests.unit.run_folders import DETOURED, RIGHT, WRONG


def recipe(count: int = 500, **budget: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "source": {"kind": "countdown", "count": count, "seed": 1},
            "engines": {"teacher": {"kind": "scripted", "args": {"max_running": 64}}},
            "search": {"kind": "best_of_n", "n": 4},
            "budget": budget,
        }
    )


def pilot(**changes: Any) -> Pilot:
    tokens = [100.0 + number for number in range(20)]
    found = Pilot(
        tokens=tokens,
        prompt_tokens=[50.0] * 20,
        solved=[float(number % 2) for number in range(20)],
        kept={"full": [float(number % 3) for number in range(20)]},
        speeds=[(one, one / 1000) for one in tokens],
        most=60.0,
        engines=2,
    )
    return replace(found, **changes)


def test_a_draw_is_random_and_repeats() -> None:
    ids, total = drawn(recipe(), 32)
    assert (len(set(ids)), total) == (32, 500)
    assert drawn(recipe(), 32) == (ids, total)
    some, _ = drawn(recipe(), 16)
    assert set(some) < set(ids), "a larger pilot goes on from a smaller one"
    first, _ = drawn(recipe(100), 32)
    assert len(set(first) & set(ids)) < 20, "it is of the whole source, not of its beginning"


def test_more_problems_than_there_are_is_all_of_them() -> None:
    ids, total = drawn(recipe(10), 32)
    assert (len(ids), total) == (10, 10)
    with pytest.raises(ConfigError, match="a pilot of 5 problems tells nothing"):
        drawn(recipe(), 5)


def test_what_is_read_of_a_pilot(tmp_path_factory: pytest.TempPathFactory) -> None:
    def timed(tree: Tree) -> Tree:
        """The first attempt with 8 others, the later ones alone."""
        nodes = tuple(replace(node, engine_seconds=0.5 / 8 if node.id == 1 else 0.5) for node in tree.nodes)
        return replace(tree, nodes=nodes)

    ids = [f"{number:020x}" for number in range(3)]
    trees = [
        timed(make.tree(make.problem(ids[0]), [RIGHT, DETOURED], stop=StopReason.SOLVED)),
        timed(make.tree(make.problem(ids[1]), [WRONG] * 3)),
        timed(make.tree(make.problem(ids[2]), [WRONG])),
    ]
    run = open_run(make.write_run(tmp_path_factory.mktemp("run"), [trees]))
    found = observed(run, ids[:2])
    assert (found.tokens, found.prompt_tokens, found.solved) == ([20, 30], [10, 15], [1.0, 0.0])
    assert found.kept == {"full": [2, 0], "pruned": [1, 0]}
    assert found.speeds == [(10, 0.0625), (10, 0.0625)], "where the engine was fullest"
    assert (found.most, found.engines) == (8.0, 1)


def test_the_forecast() -> None:
    forecast = forecasted(recipe(), pilot(), 500, start=40.0)
    figures = forecast.figures
    assert figures["tokens"].value == pytest.approx(109.5 * 500)
    assert figures["prompt_tokens"].low == pytest.approx(50 * 500)
    assert figures["solved"].value == 250
    assert figures["solved"].low < 250 < figures["solved"].high
    assert figures["engine_seconds"].value == pytest.approx(109.5 * 500 / 1000)
    assert figures["seconds"].value == pytest.approx(40 + 109.5 * 500 / 1000 / 2)
    assert figures["kept_full"].value == pytest.approx(19 / 20 * 500)
    assert "money" not in figures
    assert forecast.notes == []


def test_money_and_caps() -> None:
    priced = recipe(tokens=50_000, token_price=2.0, hour_price=3.6)
    forecast = forecasted(priced, pilot(), 500, start=0.0)
    assert forecast.figures["money"].value == pytest.approx(54_750 * 2e-6 + 54.75 * 1e-3)
    assert forecast.notes == ["budget.tokens ends it before that"]
    near = forecasted(recipe(tokens=54_700), pilot(), 500, start=0.0)
    assert near.notes == ["budget.tokens probably ends it before that"]
    assert forecasted(recipe(tokens=99_999), pilot(), 500, start=0.0).notes == []


def test_an_engine_that_the_pilot_did_not_fill() -> None:
    (note,) = forecasted(recipe(), pilot(most=20.0), 500, start=0.0).notes
    assert "20 requests in an engine at most, which runs 64" in note


def test_an_engine_whose_time_is_not_known() -> None:
    figures = forecasted(recipe(), pilot(speeds=[(0.0, 0.0)] * 20), 500, start=0.0).figures
    assert "seconds" not in figures


def test_the_print(capsys: pytest.CaptureFixture[str]) -> None:
    forecast = forecasted(recipe(tokens=50_000, token_price=2.0), pilot(), 500, start=0.0)
    _print(forecast, as_json=False)
    text = capsys.readouterr().out
    assert "500 problems, from a pilot of 20; in brackets 80% intervals:" in text
    assert "tokens          54,750 (" in text
    assert "money           0.11 (0.11 to 0.11)" in text
    assert "budget.tokens ends it before that" in text
    _print(forecast, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["problems"], found["pilot"], found["tokens"]["value"]) == (500, 20, 54_750)
