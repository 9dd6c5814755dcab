"""`factory bench search`: what is read of trees, and what is said of the curves, in figures, table and chart."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from factory.curves import Point
from factory.selection import last_score, majority, mean_probability
from factory.types import NodeState, Outcome, Tree
from pipelines.bench import DRAWS, Selectors, _curves, _decided, figures, spent, spent_by, write
from pipelines.bench_config import Plan, load_bench
from pipelines.bench_figure import COLOURS, html, png, specification
from pipelines.bench_report import print_bench
from tests.unit import run_folders as make
from tests.unit.run_folders import CUT, DETOURED, RIGHT, TOKENS, WRONG
from tests.unit.test_bench_config import write as write_bench

WAYS: Selectors = {"majority": majority}


def tree(*texts: str, id: str = "0" * 20) -> Tree:
    return make.tree(make.problem(id), texts)


# --- one problem


def test_all_of_a_tree() -> None:
    found = spent(tree(WRONG, RIGHT, CUT), WAYS)
    assert (found.tokens, found.solved, found.undecided, found.seconds) == (3 * TOKENS, 1.0, False, 2.0)
    assert found.computed is None, "the engine told nothing of a cache"
    assert found.selected == {"majority": 0.0}, "of two answers the first"


def test_fewer_attempts_are_the_mean_of_every_choice() -> None:
    attempts = tree(WRONG, RIGHT, CUT, DETOURED, WRONG)
    costs = (3, 8, 20, 5, 4)
    nodes = [replace(node, generated_tokens=cost) for node, cost in zip(attempts.nodes, costs, strict=True)]
    attempts = replace(attempts, nodes=tuple(nodes))
    for first in (1, 2, 3, 4):
        found = spent_by(attempts, first, {})
        chosen = [[nodes[place] for place in places] for places in combinations(range(5), first)]
        assert found.tokens == pytest.approx(fmean(sum(one.generated_tokens for one in each) for each in chosen))
        assert found.sequential == pytest.approx(fmean(max(one.generated_tokens for one in each) for each in chosen))
        right = [any(one.outcome is Outcome.PASS for one in each) for each in chosen]
        assert found.solved == pytest.approx(fmean(right))
        assert found.seconds is None, "nobody knows what they would have taken"
    assert spent_by(attempts, 5, WAYS) == spent(attempts, WAYS)


def test_the_answer_of_fewer_attempts_is_drawn_and_repeats() -> None:
    attempts = tree(*[WRONG] * 2, *[RIGHT] * 6)
    found = spent_by(attempts, 1, WAYS).selected["majority"]
    assert found == spent_by(attempts, 1, WAYS).selected["majority"]
    assert 0.5 < found < 1.0
    assert found * DRAWS == round(found * DRAWS)


def test_what_a_cache_served_was_not_computed() -> None:
    attempts = make.tree(make.problem("0" * 20), [WRONG, RIGHT], cached=3)
    assert spent(attempts, {}).computed == 2 * (make.PROMPT_TOKENS - 3)
    assert spent_by(attempts, 1, {}).computed == make.PROMPT_TOKENS - 3


def test_trouble_is_neither_right_nor_decided() -> None:
    whole = tree(WRONG)
    verdicts = tuple(replace(one, outcome=Outcome.UNKNOWN) for one in whole.nodes[0].verdicts)
    found = spent(replace(whole, nodes=(replace(whole.nodes[0], verdicts=verdicts),)), {})
    assert (found.solved, found.undecided) == (0.0, True)
    assert _decided(replace(whole, nodes=(replace(whole.nodes[0], verdicts=verdicts),))) == []
    assert _decided(tree(WRONG, CUT, RIGHT)) == [False, False, True]


def test_a_leaf_is_worth_what_was_last_said_of_its_path() -> None:
    grown = make.searched(
        make.problem("0" * 20),
        [
            make.step(1, 0, score=0.9, logprobs=(-1.0,)),
            make.step(2, 1, score=0.2, logprobs=(-2.0,)),
            make.step(3, 2, WRONG, state=NodeState.FINISHED, logprobs=(-3.0, -2.0)),
            make.step(4, 0, WRONG, state=NodeState.FINISHED),
        ],
    )
    leaf, other = grown.nodes[2:]
    assert last_score(grown)(leaf) == 0.2
    assert last_score(grown)(other) is None
    assert mean_probability(grown)(leaf) == pytest.approx(2.718281828**-2)
    assert mean_probability(grown)(other) is None


# --- a bench of two strategies, from runs that are there


IDS = [f"{number:020d}" for number in range(12)]


def bench_plan(folder: Path) -> Plan:
    strategies = {
        "bon": {"search": {"kind": "best_of_n"}, "budgets": [{"n": n} for n in (1, 2, 4)]},
        "stopped": {"search": {"kind": "best_of_n", "wave": 1, "stop_at": 1}, "budgets": [{"n": 4}]},
        "agreed": {"search": {"kind": "consensus", "wave": 1}, "budgets": [{"n": 4}]},
    }
    return load_bench(write_bench(folder, strategies=strategies, difficulty={"attempts": 2, "edges": [0.5]}))


def write_runs(out: Path, failing: Sequence[str] = ()) -> None:
    """Half of the problems are solved by best of 4, the first quarter by the others as well."""

    def run(name: str, texts: Callable[[int], Sequence[str]]) -> None:
        trees = [tree(*texts(place), id=id) for place, id in enumerate(IDS)]
        trees = [make.failed(one.problem, "x") if one.problem.id in failing else one for one in trees]
        make.write_run(out / "runs" / name, [trees], refined=False)

    run("bon-n=4", lambda place: [RIGHT, WRONG, WRONG, WRONG] if place < 6 else [WRONG] * 4)
    run("stopped-n=4", lambda place: [RIGHT] if place < 3 else [WRONG] * 4)
    run("agreed-n=4", lambda place: [RIGHT, RIGHT] if place < 3 else [WRONG] * 2)
    run("difficulty", lambda place: [RIGHT, WRONG] if place < 6 else [WRONG] * 2)


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    write_runs(tmp_path)
    return figures(bench_plan(tmp_path), str(tmp_path), IDS)


def point(table: dict[str, Any], strategy: str, budget: str) -> dict[str, Any]:
    found = [one for one in table["points"] if (one["strategy"], one["budget"]) == (strategy, budget)]
    assert len(found) == 1
    return dict(found[0])


def test_the_figures_of_a_point(table: dict[str, Any]) -> None:
    found = point(table, "bon", "n=2")
    assert found["coverage"][0] == 0.25, "half of the attempts of half of the problems"
    assert found["coverage"][1] < 0.25 < found["coverage"][2]
    assert found["tokens_per_problem"][0] == 2 * TOKENS
    assert found["tokens_per_solved"][0] == 8 * TOKENS
    assert found["seconds"] is None
    assert point(table, "bon", "n=4")["seconds"] == {"p50": 2.0, "p95": 2.0}
    assert point(table, "stopped", "n=4")["accuracy"] == {}
    assert (table["problems"], table["left_out"]) == (12, 0)


def test_the_two_comparisons_are_of_different_strategies(table: dict[str, Any]) -> None:
    assert set(table["curves"]["coverage"]["strategies"]) == {"bon", "stopped"}
    assert set(table["curves"]["accuracy"]["strategies"]) == {"bon majority", "agreed majority"}
    assert set(table["not_compared"]["coverage"]) == {"agreed"}
    assert table["not_compared"]["accuracy"]["stopped"].startswith("stops at right answers")


def test_difficulty_is_of_the_separate_attempts(table: dict[str, Any]) -> None:
    assert table["difficulty"] == {"attempts": 2, "problems": {"0": 6, "(0, 0.5]": 6, "(0.5, 1]": 0}}
    found = point(table, "stopped", "n=4")["by_difficulty"]
    assert {name: one["coverage"][0] for name, one in found.items()} == {"0": 0.0, "(0, 0.5]": 0.5}
    assert found["0"]["tokens_per_solved"] is None


def test_a_problem_that_failed_in_one_run_is_left_out_of_all(tmp_path: Path) -> None:
    write_runs(tmp_path, failing=IDS[:2])
    found = figures(bench_plan(tmp_path), str(tmp_path), IDS)
    assert (found["problems"], found["left_out"]) == (10, 2)
    assert point(found, "bon", "n=4")["coverage"][0] == 0.4


def test_what_is_printed_keeps_the_two_apart(table: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_bench(table, ["x/bench.json"], as_json=False)
    said = capsys.readouterr().out
    coverage, accuracy = said.split("with a verifier:")[1].split("without a verifier:")
    assert "bon majority" not in coverage
    assert "not here: agreed" in coverage
    assert "not here: stopped, which stops at right answers" in accuracy
    assert "12 problems" in said
    print_bench(table, ["x/bench.json"], as_json=True)
    assert json.loads(capsys.readouterr().out)["problems"] == 12


# --- the chart


def many() -> dict[str, Any]:
    """Ten strategies with four budgets each, the last one beyond saturation; as a bench tells of them."""
    measured = {
        f"strategy_{place}": [
            Point(
                f"n={2**step}", [2.0 ** (6 + step + place / 3)] * 40, [float(number < solved) for number in range(40)]
            )
            for step, solved in enumerate((4 + place, 12 + place, 20 + place, 20 + place))
        ]
        for place in range(10)
    }
    none: dict[str, Any] = {"strategies": {}, "cheapest": []}
    return {"problems": 40, "curves": {"coverage": _curves(measured), "accuracy": none}}


def values(chart: Any) -> list[dict[str, Any]]:
    """Every row of data in a specification."""
    return [row for rows in chart["datasets"].values() for row in rows]


def test_every_point_and_every_mark_is_in_the_chart() -> None:
    table = many()
    rows = values(specification(table))
    curve = table["curves"]["coverage"]["strategies"]["strategy_3"]
    assert curve["saturates_at"] == "n=4"
    for one in curve["points"]:
        assert any(row.get("strategy") == "strategy_3" and row.get("tokens") == one["tokens"] for row in rows)
    assert any(row.get("saturates") for row in rows)
    assert any(row.get("stops paying") for row in rows)


def test_strategies_differ_by_colour_or_shape() -> None:
    text = json.dumps(specification(many()))
    colours = json.loads(re.findall(r'"range": (\["#[^]]*\])', text)[0])
    shapes = json.loads(re.findall(r'"range": (\["circle[^]]*\])', text)[0])
    assert len(colours) == 10 > len(COLOURS)
    assert len(set(zip(colours, shapes, strict=True))) == 10


def test_the_page_needs_no_network_and_the_picture_is_one(table: dict[str, Any], tmp_path: Path) -> None:
    files = list(write(str(tmp_path / "out"), table))
    assert [Path(one).name for one in files] == ["bench.json", "bench.html", "bench.png"]
    page = Path(files[1]).read_text()
    assert not re.search(r'<script[^>]*\ssrc=|<link\b|@import|<img[^>]*src="?https?:', page)
    assert "bon majority" in page
    assert Path(files[2]).read_bytes().startswith(b"\x89PNG")
    assert json.loads(Path(files[0]).read_text()) == table


def test_a_chart_of_ten_strategies_is_drawn() -> None:
    assert len(png(many())) > 50_000
    assert b"strategy_9" in html(many())
