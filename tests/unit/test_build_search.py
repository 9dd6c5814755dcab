"""Every key of a tree search in a recipe reaches the strategy: both are played with the same answers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from factory.config import parse_recipe
from factory.search.base import Ending, Expansion, Grown, Search
from factory.search.beam import beam
from factory.search.dvts import dvts
from factory.search.growth import Step
from factory.search.mcts import Puct, mcts
from factory.search.value import Valuation
from pipelines import build
from tests.handmade import RIGHT, WRONG, Table, leaf, step
from tests.rig import problem

SCORED: dict[str, Any] = {"step_stop": ["\n", "."], "step_tokens": 9, "aggregate": "mean", "max_steps": 4, "stop_at": 3}
ROLLED: dict[str, Any] = {"value": "rollouts", "rollouts": 2, "max_steps": 5}
LINE = Step(("\n", "."), 9)
BLANK = Step(("\n\n",))
PUCT = Puct(0.3, 1.5, 0.7, "logprob")


def made(**search: Any) -> Search:
    """As a recipe makes it."""
    scorer = {} if search.get("value") == "rollouts" else {"scorer": {"kind": "logprob"}}
    table = {
        "source": {"kind": "countdown", "count": 1, "seed": 1},
        "engines": {"teacher": {"kind": "scripted"}},
        "sampling": {"logprobs": True},
        "search": search,
    }
    return build.search(parse_recipe(table | scorer, "recipe"))(problem(1))


def played(search: Search) -> tuple[list[Expansion], Ending | None]:
    """All that it asked for, and how it ended, with answers drawn from one seed."""
    table, chance = Table(search), random.Random(5)
    while table.ending is None:
        one = table.outstanding[chance.choice(sorted(table.outstanding))]
        is_open = bool(one.stop) and chance.random() < 0.8
        opened = step(one, chance.choice("abcdef"), chance.random(), -chance.random())
        table.send(Grown(one, opened if is_open else leaf(one, chance.choice([RIGHT, WRONG, WRONG]))))
    return table.asked, table.ending


@pytest.mark.parametrize(
    ("recipe", "search"),
    [
        ({"kind": "beam", "width": 3, "branch": 2, **SCORED}, beam(LINE, Valuation("mean"), 3, 2, 4, 3)),
        ({"kind": "beam", "width": 1, **ROLLED}, beam(BLANK, Valuation(rollouts=2), 1, 4, 5)),
        ({"kind": "dvts", "width": 3, "branch": 2, **SCORED}, dvts(LINE, Valuation("mean"), 3, 2, 4, 3)),
        ({"kind": "dvts", "branch": 1, **ROLLED}, dvts(BLANK, Valuation(rollouts=2), 4, 1, 5)),
        (
            {
                "kind": "mcts",
                "expansions": 90,
                "parallel": 3,
                "exploration": 0.3,
                "widening": 1.5,
                "widening_power": 0.7,
                "prior": "logprob",
                **SCORED,
            },
            mcts(LINE, Valuation("mean"), PUCT, 90, 3, 4, 3),
        ),
        ({"kind": "mcts", **ROLLED}, mcts(BLANK, Valuation(rollouts=2), Puct(), 256, 8, 5)),
    ],
)
def test_a_recipe_makes_the_search_that_it_says(recipe: dict[str, Any], search: Search) -> None:
    assert played(made(**recipe)) == played(search)
