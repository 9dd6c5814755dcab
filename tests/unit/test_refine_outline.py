"""Refinements in which a model looks for dead ends: what it names is cut and told, and what cannot work is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.config import parse_recipe
from factory.errors import ConfigError
from factory.prune.answers import thinking
from factory.prune.outline import asked
from factory.prune.steps import steps_of
from factory.runs import open_run
from factory.types import Transcript
from pipelines import build
from pipelines.imports import import_rollouts
from pipelines.refine import refine_again
from tests.unit.test_outline import CHAIN

QUESTION = "Which two primes have the product 77?"
DEAD_END = "Take 3 for the first one.\nThen the other is 77/3.\nThat is no whole number.\n"
SPEC = """
[[checks]]
verifier = "exact"
params = { extract = "boxed" }
"""


@pytest.fixture(autouse=True)
def _desks() -> Iterator[None]:
    yield
    build.close_desks()


@pytest.fixture
def imported(tmp_path: Path) -> str:
    """A right chain, of which the rules say nothing."""
    rows, spec, out = tmp_path / "rows.jsonl", tmp_path / "spec.toml", str(tmp_path / "run")
    turns = [{"role": "user", "content": QUESTION}]
    rows.write_text(json.dumps({"prompt": turns, "completion": CHAIN, "answer": "7, 11"}))
    spec.write_text(SPEC)
    assert import_rollouts("verifiers", [str(rows)], out, spec, [], as_json=True) == 0
    return out


def reader(says: str) -> list[str]:
    """Overrides by which a model is asked that says this of the chain, and has no answer to anything else."""
    (question,) = asked(QUESTION, steps_of(CHAIN, *thinking(CHAIN)))
    script = f"{{{json.dumps(question.content)}={json.dumps(says)}}}"
    return [f"engines.judge={{kind='scripted', args={{script={script}}}}}", "prune.outline={}"]


def pruned(url: str) -> Transcript:
    (found,) = (one for one in open_run(url).transcripts() if one.variant == "pruned")
    return found


def test_what_a_model_names_is_cut_with_its_reason(imported: str) -> None:
    refine_again(imported, reader("abandoned: 3-5: 3 does not divide 77"))
    made = pruned(imported)
    assert made.text == CHAIN.replace(DEAD_END, "")
    (removal,) = made.removals
    assert (removal.text, removal.evidence) == (DEAD_END, "by judge: 3 does not divide 77")
    assert [one.outcome for one in made.verdicts] == ["pass"]


def test_a_cut_that_something_rests_on_is_withdrawn_whoever_named_it(imported: str) -> None:
    refine_again(imported, reader("abandoned: 7-7: not needed"))
    made = pruned(imported)
    assert (made.text, made.removals) == (CHAIN, ())
    assert [one.text for one in made.withdrawn] == ["Then 77/7 = 11.\n"]


def test_the_same_question_names_the_same_refinement_and_another_model_another(imported: str) -> None:
    def name(*overrides: str) -> str:
        refine_again(imported, overrides)
        return Path(open_run(imported).paths("transcripts")[0]).parent.name

    by_rules, by_model = name(), name(*reader("abandoned: none"))
    assert name() == by_model, "the settings are kept"
    assert name(*reader("abandoned: 3-5: so it is")) != by_model
    assert by_rules != by_model


def recipe(kind: str = "countdown", **prune: Any) -> dict[str, Any]:
    sources: dict[str, dict[str, Any]] = {
        "countdown": {"count": 1, "seed": 1},
        "jsonl": {"files": ["rows.jsonl"], "checks": [{"verifier": "math"}]},
    }
    return {
        "source": {"kind": kind, **sources[kind]},
        "engines": {"teacher": {"kind": "scripted"}, "judge": {"kind": "scripted"}},
        "search": {"kind": "best_of_n"},
        "prune": prune,
    }


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (recipe(outline={}), r"prune\.outline: chains of Countdown are replayed"),
        (recipe("jsonl", outline={"engine": "critic"}), r"prune\.outline\.engine: there is no \[engines\.critic\]"),
        (recipe("jsonl", outline={"max_tokens": 0}), r"prune\.outline\.max_tokens: "),
        (
            recipe("jsonl", outline={"max_token": 3}),
            r"unknown key prune\.outline\.max_token; did you mean max_tokens\?",
        ),
        (recipe("jsonl", outline={}, variants=["full"]), r"prune: outline: dead ends are removed in none of"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_recipe(table, "recipe")


def test_an_engine_that_reads_outlines_is_not_idle() -> None:
    fields = {"fields": {"prompt": "q", "reference": "a"}}
    table = recipe("jsonl", outline={})
    table["source"] |= fields
    build.refuse_idle(parse_recipe(table, "recipe"))
    with pytest.raises(ConfigError, match=r"engines\.judge"):
        build.refuse_idle(parse_recipe(table | {"prune": {}}, "recipe"))


def test_an_import_is_refused_an_engine_that_nothing_asks(imported: str) -> None:
    with pytest.raises(ConfigError, match=r"engines\.judge: nothing asks it"):
        refine_again(imported, reader("abandoned: none")[:1])


def test_a_run_from_before_a_key_was_added_is_refined_like_any_other(imported: str) -> None:
    stored = Path(imported) / "config.json"
    config = json.loads(stored.read_text())
    del config["recipe"]["source"]["join"], config["recipe"]["prune"]["outline"]
    stored.write_text(json.dumps(config))
    assert refine_again(imported, [])["kept"] == {"full": 1, "pruned": 1}
