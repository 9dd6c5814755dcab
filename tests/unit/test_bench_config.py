"""BENCH.toml: which runs it takes, and what is refused before any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError
from factory.ids import canonical_json
from pipelines.bench_config import DifficultyConfig, Plan, load_bench

ROOT = Path(__file__).parents[2]
RECIPE = """
[source]
kind = "countdown"
count = 9
seed = 7

[engines.teacher]
kind = "scripted"
args = { seed = 5 }

[sampling]
max_tokens = 99

[search]
kind = "beam"

[scorer]
kind = "chain"
"""
BEST_OF_N = {"search": {"kind": "best_of_n"}, "budgets": [{"n": 2}, {"n": 8}, {"n": 4}]}


def toml(value: Any) -> str:
    """JSON of these plain values, as TOML writes it inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else canonical_json(value)


def write(folder: Path, **keys: Any) -> Path:
    (folder / "recipe.toml").write_text(RECIPE)
    path = folder / "bench.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in ({"recipe": "recipe.toml"} | keys).items()))
    return path


def plan(folder: Path, *sets: str, **keys: Any) -> Plan:
    return load_bench(write(folder, **keys), sets)


def test_fewer_independent_attempts_are_part_of_the_run_with_the_most(tmp_path: Path) -> None:
    found = plan(tmp_path, strategies={"bon": BEST_OF_N})
    assert list(found.runs()) == ["bon-n=8"]
    assert [(one.label, one.run, one.first) for one in found.points] == [
        ("n=2", "bon-n=8", 2),
        ("n=8", "bon-n=8", 8),
        ("n=4", "bon-n=8", 4),
    ]


@pytest.mark.parametrize(
    ("strategy", "overrides"),
    [
        ({"search": {"kind": "best_of_n", "stop_at": 1}}, {}),
        ({"search": {"kind": "consensus", "wave": 1}}, {}),
        ({}, {"budget": {"problem": {"tokens": 100}}}),
    ],
)
def test_a_search_that_may_end_early_has_a_run_for_each_budget(
    tmp_path: Path, strategy: dict[str, Any], overrides: dict[str, Any]
) -> None:
    found = plan(tmp_path, strategies={"one": BEST_OF_N | strategy}, overrides=overrides)
    assert list(found.runs()) == ["one-n=2", "one-n=8", "one-n=4"]
    assert all(one.first is None for one in found.points)


def test_a_bench_takes_the_recipe_but_for_its_search_and_scorer(tmp_path: Path) -> None:
    strategy = BEST_OF_N | {"sampling": {"temperature": 0.5}}
    overrides = {"source": {"kind": "countdown", "split": "tune", "count": 3}, "run": {"workers": 1}}
    found = plan(tmp_path, strategies={"bon": strategy}, overrides=overrides, difficulty={"attempts": 4})
    recipe = found.runs()["bon-n=8"]
    assert recipe.scorer is None
    assert recipe.source.model_dump()["seed"] is None, "a table with its kind replaces the recipe's"
    assert (recipe.sampling.temperature, recipe.sampling.max_tokens, recipe.run.workers) == (0.5, 99, 1)


def test_difficulty_is_measured_on_other_attempts(tmp_path: Path) -> None:
    found = plan(tmp_path, strategies={"bon": BEST_OF_N}, difficulty={"attempts": 4}).runs()
    separate, compared = found["difficulty"], found["bon-n=8"]
    assert separate.search.model_dump()["n"] == 4
    assert separate.teacher.model_dump()["args"] == {"seed": 6}
    assert compared.teacher.model_dump()["args"] == {"seed": 5}


def test_bins_hold_their_upper_end_and_nothing_right_stands_alone() -> None:
    difficulty = DifficultyConfig(edges=[0.1, 0.5])
    assert difficulty.bins() == ["0", "(0, 0.1]", "(0.1, 0.5]", "(0.5, 1]"]
    found = [difficulty.bin_of(rate) for rate in (0, 0.01, 0.1, 0.11, 0.5, 0.51, 1)]
    assert found == ["0", "(0, 0.1]", "(0, 0.1]", "(0.1, 0.5]", "(0.1, 0.5]", "(0.5, 1]", "(0.5, 1]"]


def test_keys_of_a_bench_can_be_set(tmp_path: Path) -> None:
    found = plan(tmp_path, "overrides.source.count=4", "difficulty.attempts=2", strategies={"bon": BEST_OF_N})
    assert found.recipe.source.model_dump()["count"] == 4
    assert found.runs()["difficulty"].search.model_dump()["n"] == 2


def test_a_verifier_in_the_search_leaves_no_answer_to_select(tmp_path: Path) -> None:
    beam = {"search": {"kind": "beam", "value": "rollouts"}, "budgets": [{}]}
    found = plan(tmp_path, strategies={"beam": beam, "bon": BEST_OF_N})
    assert [(one.strategy, one.select) for one in found.points[:2]] == [("beam", ()), ("bon", ("majority",))]
    assert found.points[0].verified is not None


def test_a_budget_that_is_no_short_text_still_names_a_folder(tmp_path: Path) -> None:
    ladder = {
        "search": {"kind": "ladder"},
        "budgets": [{"rungs": [{"kind": "best_of_n", "n": n}]} for n in (1, 2)],
    }
    names = list(plan(tmp_path, strategies={"ladder": ladder}).runs())
    assert len(set(names)) == 2
    assert all(name.startswith("ladder-rungs=") and len(name) == 21 for name in names)


def strategies(**changes: Any) -> dict[str, Any]:
    return {"strategies": {"bon": BEST_OF_N | changes}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (strategies(serach={}), "unknown key strategies.bon.serach; did you mean search?"),
        ({"strategy": {}} | strategies(), "unknown key strategy; did you mean strategies?"),
        ({"difficulty": {"tries": 3}} | strategies(), "unknown key difficulty.tries; there are: attempts, edges"),
        (
            {"difficulty": {"edges": [0.5, 0.2]}} | strategies(),
            "difficulty.edges: pass rates between 0 and 1, ascending",
        ),
        (strategies(budgets=[]), "strategies.bon.budgets: List should have at least 1 item"),
        ({"strategies": {}}, "strategies: Dictionary should have at least 1 item"),
        (strategies(budgets=[{"n": 2}, {"width": 2}]), "strategies.bon: budgets.1: unknown key search.width"),
        (strategies(budgets=[{"n": 0}]), "budgets.0: search.n: Input should be greater than or equal to 1"),
        (strategies(budgets=[{"n": 2}, {"n": 2}]), "budgets.1: the same as budgets.0"),
        (strategies(budgets=[{"kind": "beam"}]), "budgets.0.kind: another search is another strategy"),
        (strategies(search={"kind": "best_of_m"}), "budgets.0: search"),
        (strategies(scorer={"kind": "chain"}), "scorer: search 'best_of_n' asks for no scores"),
        (strategies(sampling={"heat": 1}), "unknown key sampling.heat"),
        (strategies(select=["vote"]), "strategies.bon.select.0: Input should be 'majority', 'weighted' or 'best'"),
        (strategies(select=["best"]), "select: 'best' needs a scorer, or sampling.logprobs = true"),
        (
            strategies(select=["majority"], search={"kind": "best_of_n", "stop_at": 1}),
            "select does nothing: the search stops at right answers",
        ),
        ({"strategies": {"a/b": BEST_OF_N}}, "strategies.a/b: a name of letters"),
        ({"strategies": {"difficulty": BEST_OF_N}}, "strategies.difficulty: the run of separate attempts"),
        ({"overrides": {"sauce": {}}} | strategies(), "overrides: unknown key sauce; did you mean source?"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(tmp_path, **keys)
    assert said in str(error.value)
    assert "bench.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe at .*other\.toml"):
        plan(tmp_path, recipe="other.toml", strategies={"bon": BEST_OF_N})
    with pytest.raises(ConfigError, match=r"no bench at .*nothing\.toml"):
        load_bench(tmp_path / "nothing.toml")


def test_the_bench_that_ships_is_about_problems_for_choosing() -> None:
    found = load_bench(ROOT / "pipelines" / "bench.toml")
    assert found.recipe.source.model_dump()["split"] == "tune"
    kinds = {one.recipe.search.kind for one in found.points}
    assert kinds == {"best_of_n", "beam", "mcts", "early_rejection", "ladder", "consensus"}
