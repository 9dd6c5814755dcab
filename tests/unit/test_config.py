"""A recipe is closed, typed, told off in one line, and the same on every resume."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from factory.config import (
    Recipe,
    differences,
    identity,
    identity_digest,
    load_recipe,
    override,
    parse_recipe,
    resolved,
)
from factory.errors import ConfigError
from factory.search_config import BestOfNConfig

ROOT = Path(__file__).parents[2]

SEARCHES: list[dict[str, Any]] = [
    {"kind": "best_of_n", "n": 4},
    *({"kind": kind, "value": "rollouts"} for kind in ("beam", "dvts", "mcts")),
    *({"kind": kind, "value": "score"} for kind in ("beam", "dvts", "mcts")),
    {"kind": "budget_forcing", "max_thinking": 100},
    {"kind": "revise"},
    {"kind": "consensus"},
    {"kind": "ladder", "rungs": [{"kind": "best_of_n"}, {"kind": "dvts", "value": "rollouts", "rollouts": 2}]},
]
MINIMAL: dict[str, Any] = {
    "source": {"kind": "countdown", "count": 3},
    "engines": {"teacher": {"kind": "scripted"}},
    "search": {"kind": "best_of_n"},
}
VLLM = {"kind": "vllm", "model": "some/model"}
SERVER = {"kind": "openai", "model": "m", "base_url": "http://host/v1"}
FILES = {"kind": "jsonl", "files": ["a.jsonl"]}
DATASET = {"kind": "dataset", "name": "owner/data"}
FORCING = {"kind": "budget_forcing", "max_thinking": 100}


def table(**sections: Any) -> dict[str, Any]:
    return copy.deepcopy(MINIMAL) | copy.deepcopy(sections)


def tree(kind: str, **keys: Any) -> dict[str, Any]:
    return {"kind": kind, "value": "rollouts"} | keys


def teacher(engine: Mapping[str, Any]) -> dict[str, Any]:
    return {"teacher": dict(engine)}


def parsed(**sections: Any) -> Recipe:
    return parse_recipe(table(**sections), "r.toml")


def complaint(raw: Mapping[str, Any], overrides: Sequence[str] = ()) -> str:
    """What a person is told: always one line that names the recipe or the override."""
    with pytest.raises(ConfigError) as error:
        override(raw, overrides, "r.toml")
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(("r.toml: ", "--set "))
    assert "pydantic" not in message
    return message


# --- what is in a recipe


def test_every_default() -> None:
    assert parsed().model_dump(mode="json") == {
        "source": {
            "kind": "countdown",
            "count": 3,
            "seed": None,
            "split": "train",
            "numbers": 4,
            "low": 1,
            "high": 30,
            "target_low": 10,
            "target_high": 100,
            "chain": "replay",
        },
        "prompt": {"system": "", "template": {}},
        "engines": {"teacher": {"kind": "scripted", "args": {}}},
        "sampling": {
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "max_tokens": 256,
            "logprobs": False,
            "extra": {},
        },
        "search": {"kind": "best_of_n", "n": 16, "wave": None, "stop_at": None},
        "scorer": None,
        "prune": {"variants": ["full", "pruned"], "seams": None, "outline": None},
        "budget": {
            "tokens": None,
            "engine_seconds": None,
            "seconds": None,
            "money": None,
            "token_price": 0.0,
            "hour_price": 0.0,
            "order": "age",
            "problem": {"tokens": None, "engine_seconds": None, "seconds": None},
        },
        "sandbox": {
            "backend": "auto",
            "unsafe": False,
            "slots": 0,
            "url": "",
            "token_env": None,
            "modules": [],
            "paths": [],
        },
        "human": {"reviews": []},
        "run": {
            "address": None,
            "workers": None,
            "cpus_per_worker": None,
            "tries": 3,
            "placement_seconds": 300.0,
            "flush_rows": 256,
            "flush_seconds": 10.0,
        },
    }


@pytest.mark.parametrize(
    ("engine", "defaults"),
    [
        (VLLM, {"args": {}, "environment": {}}),
        (
            SERVER,
            {
                "api_key_env": None,
                "protocol": "chat",
                "tokenizer": None,
                "max_running": 64,
                "timeout": 600.0,
                "retries": 4,
            },
        ),
    ],
)
def test_defaults_of_engines(engine: dict[str, Any], defaults: dict[str, Any]) -> None:
    assert parsed(engines=teacher(engine)).teacher.model_dump(mode="json") == engine | defaults


@pytest.mark.parametrize("source", [FILES, {**FILES, "kind": "parquet"}, DATASET])
def test_sources_may_bring_checks(source: dict[str, Any]) -> None:
    checks = [{"verifier": "exact"}, {"verifier": "math", "params": {"tolerance": 0.1}}]
    found = parsed(source={**source, "checks": checks}).source
    assert found.model_dump(mode="json")["checks"] == [{"verifier": "exact", "params": {}}, checks[1]]
    assert parsed(source=source).source.model_dump(mode="json")["checks"] == []


@pytest.mark.parametrize("search", SEARCHES, ids=lambda one: str(one["kind"]))
def test_a_worker_reads_every_strategy_as_the_driver_wrote_it(search: dict[str, Any]) -> None:
    scorer = {"kind": "judgement", "cue": "?"} if search.get("value") == "score" else None
    recipe = parsed(search=search, scorer=scorer)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


RECIPES = sorted(set(ROOT.glob("pipelines/**/*.toml")) - {ROOT / "pipelines" / "bench.toml"})
"""All but the bench, which is none: its own test reads it."""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_that_ship_parse(path: Path) -> None:
    assert load_recipe(path).search.kind


def test_there_is_a_recipe_to_parse() -> None:
    assert (ROOT / "pipelines" / "demo.toml").is_file()


def test_what_is_resolved_parses_to_itself() -> None:
    """A worker is sent the resolved recipe, and a resume reads it from JSON."""
    for engine, source in ((VLLM, FILES), (SERVER, DATASET), (MINIMAL["engines"]["teacher"], MINIMAL["source"])):
        recipe = parsed(engines=teacher(engine), source=source, sampling={"temperature": 0, "extra": {"x": [1, None]}})
        stored = json.loads(json.dumps(resolved(recipe, {"teacher": "abc"})))
        again = Recipe.model_validate(stored["recipe"])
        assert again == recipe
        assert identity_digest(resolved(again, {"teacher": "abc"})) == identity_digest(stored)


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        parsed().sampling.max_tokens = 3


# --- what is refused


@pytest.mark.parametrize(
    ("raw", "key", "near"),
    [
        (table(serch={}), "serch", "search"),
        (table(source={**MINIMAL["source"], "sed": 3}), "source.sed", "seed"),
        (table(source={**FILES, "feilds": {}}), "source.feilds", "fields"),
        (table(source={**FILES, "kind": "parquet", "file": "x"}), "source.file", "files"),
        (table(source={**DATASET, "splt": "x"}), "source.splt", "split"),
        (table(source={**FILES, "checks": [{"verifier": "a"}, {"verifier": "a", "parms": {}}]}), "parms", "params"),
        (table(prompt={"sistem": "x"}), "prompt.sistem", "system"),
        (table(engines=teacher({**VLLM, "agrs": {}})), "engines.teacher.agrs", "args"),
        (table(engines=teacher({**SERVER, "time_out": 3})), "engines.teacher.time_out", "timeout"),
        (table(engines=teacher({"kind": "scripted", "arg": {}})), "engines.teacher.arg", "args"),
        (table(sampling={"temprature": 1}), "sampling.temprature", "temperature"),
        (table(search={"kind": "best_of_n", "stopat": 2}), "search.stopat", "stop_at"),
        (table(prune={"variant": ["full"]}), "prune.variant", "variants"),
        (table(budget={"token": 3}), "budget.token", "tokens"),
        (table(budget={"problem": {"token": 3}}), "budget.problem.token", "tokens"),
        (table(run={"worker": 3}), "run.worker", "workers"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(raw: dict[str, Any], key: str, near: str) -> None:
    message = complaint(raw)
    assert key in message
    assert f"did you mean {near}?" in message


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (table(dataset={"name": "x"}), "unknown key dataset;"),
        (table(source={**MINIMAL["source"], "jsonl": 1}), "unknown key source.jsonl;"),
        (table(search={"kind": "best_of_n", "vllm": 1}), "unknown key search.vllm;"),
        (table(engines={"vllm": {**VLLM, "foo": 1}}), "unknown key engines.vllm.foo;"),
        (table(engines={"openai": {"kind": "scripted", "foo": 1}}), "unknown key engines.openai.foo;"),
        (table(engines={"checks": {"kind": "scripted", "foo": 1}}), "unknown key engines.checks.foo; there are: kind,"),
    ],
)
def test_a_key_that_is_named_like_a_kind_is_called_by_its_own_name(raw: dict[str, Any], key: str) -> None:
    assert key in complaint(raw)


def test_an_unknown_key_without_a_near_one_is_told_what_there_is() -> None:
    assert "there are: tokens, engine_seconds, seconds" in complaint(table(budget={"xyzzy": 1}))


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (table(search={"kind": "best_of_n", "n": "many"}), "search.n"),
        (table(search={"kind": "best_of_n", "n": "7"}), "search.n"),
        (table(search={"kind": "best_of_n", "n": True}), "search.n"),
        (table(search={"kind": "best_of_n", "n": 1.5}), "search.n"),
        (table(search=[]), "search"),
        (table(source="countdown"), "source"),
        (table(source={"kind": "countdown", "count": None}), "source.count"),
        (table(source={"kind": "csv"}), "source"),
        (table(source={"count": 3}), "source"),
        (table(source={**FILES, "files": "a.jsonl"}), "source.files"),
        (table(source={**FILES, "files": []}), "source.files"),
        (table(source={**FILES, "checks": ["exact"]}), "source.checks.0"),
        (table(source={**FILES, "checks": [{"params": {}}]}), "source.checks.0.verifier"),
        (table(engines=[]), "engines"),
        (table(engines={}), "[engines.teacher]"),
        (table(engines={"techer": VLLM}), "[engines.teacher]"),
        (table(engines={"teacher": 3}), "engines.teacher"),
        (table(engines=teacher({"kind": "llama"})), "engines.teacher"),
        (table(engines=teacher({"model": "x"})), "engines.teacher"),
        (table(engines=teacher({"kind": "vllm"})), "engines.teacher.model"),
        (table(engines=teacher({"kind": "openai", "model": "m"})), "engines.teacher.base_url"),
        (table(engines=teacher({**SERVER, "protocol": "completions"})), "`tokenizer`"),
        (table(engines=teacher({**SERVER, "tokenizer": "x"})), "`tokenizer` does nothing"),
        (table(engines=teacher({**SERVER, "protocol": "carrier pigeon"})), "engines.teacher.protocol"),
        (table(engines=teacher({**SERVER, "timeout": 0})), "engines.teacher.timeout"),
        (table(engines=teacher({**VLLM, "environment": {"A": 1}})), "engines.teacher.environment.A"),
        (table(sampling={"temperature": -0.1}), "sampling.temperature"),
        (table(sampling={"temperature": True}), "sampling.temperature"),
        (table(sampling={"temperature": float("inf")}), "sampling.temperature"),
        (table(sampling={"temperature": float("nan")}), "sampling.temperature"),
        (table(sampling={"top_p": 0}), "sampling.top_p"),
        (table(sampling={"top_p": 1.1}), "sampling.top_p"),
        (table(sampling={"max_tokens": 0}), "sampling.max_tokens"),
        (table(sampling={"logprobs": 1}), "sampling.logprobs"),
        (table(sampling={"extra": {"bias": [float("nan")]}}), "sampling.extra.bias"),
        (table(search={"kind": "best_of_n", "n": 0}), "search.n"),
        (table(search={"kind": "best_of_n", "n": 4, "wave": 5}), "wave = 5 is more than n = 4"),
        (table(search={"kind": "best_of_n", "n": 4, "stop_at": 5}), "stop_at = 5 is more than n = 4"),
        (table(search={"kind": "nothing"}), "search: Input tag 'nothing'"),
        (table(search={"kind": "early_rejection"}), "search: nothing would be left early"),
        (table(search={"kind": "early_rejection", "keep": 0.5}), "early_rejection with keep needs a [scorer]"),
        (
            table(search={"kind": "early_rejection", "backtrack": "Wait", "step_stop": [""]}),
            "search: step_stop: a step must end somewhere",
        ),
        (
            table(search={"kind": "early_rejection", "backtrack": "Wait"}, scorer={"kind": "chain"}),
            "scorer: search 'early_rejection' asks for no scores",
        ),
        (table(search={"kind": "consensus", "error": 1.0}), "search.error"),
        (table(search={"kind": "consensus", "n": 2, "wave": 3}), "wave = 3 is more than n = 2"),
        (table(budget={"money": 3.0}), "budget: money needs a token_price or an hour_price"),
        (table(budget={"problem": {"seconds": 0.0}}), "budget.problem.seconds"),
        (table(search={"kind": "mcts"}), "mcts with value = 'score' needs a [scorer]"),
        (table(search={"kind": "beam", "value": "rollouts", "step_stop": []}), "search: step_stop: a step must end"),
        (table(search={"kind": "beam", "value": "rollouts", "widht": 1}), "search.widht; did you mean width?"),
        (table(search=tree("beam", width=0)), "search.width"),
        (table(search=tree("dvts", branch=0)), "search.branch"),
        (table(search=tree("beam", max_steps=0)), "search.max_steps"),
        (table(search=tree("dvts", stop_at=0)), "search.stop_at"),
        (table(search=tree("beam", step_stop=["\n", ""])), "step_stop: an empty text ends nothing"),
        (table(search=tree("beam", step_tokens=0)), "search.step_tokens"),
        (table(search=tree("dvts", rollouts=0)), "search.rollouts"),
        (table(search=tree("beam", value="score", rollouts=2)), "rollouts does nothing with value = 'score'"),
        (table(search=tree("beam", aggregate="sum")), "search.aggregate"),
        (table(search=tree("mcts", expansions=4)), "expansions = 4: the last 8 go to the end"),
        (table(search=tree("mcts", expansions=9, rollouts=9)), "expansions = 9: the last 9 go to the end"),
        (table(search=tree("mcts", parallel=0)), "search.parallel"),
        (table(search=tree("mcts", widening=0.0)), "search.widening"),
        (table(search=tree("mcts", widening_power=1.5)), "search.widening_power"),
        (table(search=tree("mcts", exploration=-1.0)), "search.exploration"),
        (table(search=tree("mcts", prior="logprob")), "search.prior: 'logprob' needs sampling.logprobs = true"),
        (table(search=tree("beam", value="rollouts"), scorer={"kind": "logprob"}), "'beam' asks for no scores"),
        (table(search={"kind": "ladder", "rungs": []}), "search.rungs"),
        (
            table(search={"kind": "ladder", "rungs": [{"kind": "best_of_n"}, {"kind": "best_of_n", "stop_at": 2}]}),
            "search: rungs.1.stop_at does nothing: the ladder's own",
        ),
        (
            table(search={"kind": "ladder", "rungs": [{"kind": "best_of_n"}], "hopeless_after": 9}),
            "search: hopeless_after does nothing with one rung",
        ),
        (
            table(search={"kind": "ladder", "rungs": [{"kind": "best_of_n", "wav": 4}]}),
            "unknown key search.rungs.0.wav; did you mean wave?",
        ),
        (
            table(search={"kind": "budget_forcing", "max_thinking": 2, "min_thinking": 3}),
            "min_thinking = 3 is more than max_thinking = 2",
        ),
        (
            table(search=FORCING | {"boundary": "\n", "min_thinking": 90}),
            "min_thinking = 90 is more than max_thinking = 100, less slack = 16",
        ),
        (table(search=FORCING | {"boundary": "\n", "slack": 100}), "slack = 100 leaves nothing of max_thinking"),
        (table(search=FORCING | {"boundary": ""}), "search.boundary"),
        (table(search=FORCING | {"slack": 3}), "slack does nothing without boundary"),
        (table(search=FORCING | {"wait": "go on"}), "wait does nothing without min_thinking"),
        (table(search=FORCING | {"min_thinking": 9, "wait": "</think>"}), "wait: it ends the thinking"),
        (table(search=FORCING | {"n": 2, "stop_at": 3}), "stop_at = 3 is more than n = 2"),
        (
            table(search=FORCING, sampling={"max_tokens": 115}),
            "max_thinking = 100 and 16 tokens for an answer are more than sampling.max_tokens = 115",
        ),
        (
            table(search=FORCING, engines=teacher({**VLLM, "args": {"max_model_len": 115}})),
            "max_thinking = 100 and 16 tokens for an answer are more than max_model_len = 115",
        ),
        (
            table(search={"kind": "ladder", "rungs": [{"kind": "best_of_n"}, FORCING | {"max_thinking": 250}]}),
            "are more than sampling.max_tokens = 256",
        ),
        (table(search={"kind": "revise", "n": 2, "wave": 3}), "wave = 3 is more than n = 2"),
        (table(search={"kind": "revise", "when": "never"}), "search.when"),
        (table(search={"kind": "revise", "turns": 0}), "search.turns"),
        (table(scorer={"kind": "logprob"}), "scorer: search 'best_of_n' asks for no scores"),
        (
            table(search={"kind": "beam"}, scorer={"kind": "logprob"}),
            "scorer: kind 'logprob' needs sampling.logprobs = true",
        ),
        (table(prune={"variants": []}), "prune.variants"),
        (table(prune={"variants": ["half"]}), "prune.variants.0"),
        (table(budget={"tokens": 0}), "budget.tokens"),
        (table(budget={"seconds": 0.0}), "budget.seconds"),
        (table(run={"tries": 0}), "run.tries"),
        (table(run={"workers": 0}), "run.workers"),
        (table(run={"flush_rows": 0}), "run.flush_rows"),
        ({}, "source"),
        (table(**{"two\nlines": 1}), "two lines"),
        (table(source={"kind": "two\nlines"}), "two lines"),
        (table(**{"two\nlines": float("nan")}), "nan"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(raw: dict[str, Any], key: str) -> None:
    assert key in complaint(raw)


@pytest.mark.parametrize("more", [{}, {"boundary": "\n"}, {"min_thinking": 9, "wait": "go on"}])
def test_a_stored_forcing_is_read_again(more: dict[str, Any]) -> None:
    """It gives every key, those that do nothing too."""
    recipe = parsed(search=FORCING | more)
    assert parse_recipe(recipe.model_dump(mode="json"), "stored") == recipe


def test_what_toml_can_write_and_json_cannot_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        '[source]\nkind = "jsonl"\nfiles = ["a"]\nchecks = [{ verifier = "x", params = { day = 2024-01-01 } }]\n'
        '[engines.teacher]\nkind = "scripted"\n[search]\nkind = "best_of_n"\n'
    )
    with pytest.raises(ConfigError, match=r"source\.checks") as error:
        load_recipe(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content", [b"[source\n", b"a = 1\na = 2\n", b"\xff\xfe", b"x", b"a = [1,\n\n", b"a.b = 1\na = 2"]
)
def test_what_is_no_toml_is_told_in_one_line_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_recipe(path)
    assert "broken.toml is not a readable TOML recipe" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe at .*none\.toml"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="not a readable TOML recipe"):
        load_recipe(tmp_path)


# --- overrides


@pytest.mark.parametrize(
    ("one", "key", "value"),
    [
        ("search.n=4", ("search", "n"), 4),
        (" search.n = 4 ", ("search", "n"), 4),
        ("sampling.temperature=0", ("sampling", "temperature"), 0.0),
        ("sampling.temperature=0.25", ("sampling", "temperature"), 0.25),
        ("sampling.logprobs=true", ("sampling", "logprobs"), True),
        ("prompt.system=be brief", ("prompt", "system"), "be brief"),
        ("prompt.system='be \"brief\"'", ("prompt", "system"), 'be "brief"'),
        ("prompt.system=a=b", ("prompt", "system"), "a=b"),
        ("prompt.system=", ("prompt", "system"), ""),
        ("prompt.system=one\nother = 2", ("prompt", "system"), "one\nother = 2"),
        ("prompt.system=1\nother = 2", ("prompt", "system"), "1\nother = 2"),
        ("budget.tokens=2_000_000", ("budget", "tokens"), 2_000_000),
        ('prune.variants=["full"]', ("prune", "variants"), ["full"]),
        ("engines.teacher.args={seed = 3}", ("engines", "teacher", "args"), {"seed": 3}),
        ("engines.teacher.args.seed=3", ("engines", "teacher", "args"), {"seed": 3}),
        ("sampling.extra.a.b=x", ("sampling", "extra"), {"a": {"b": "x"}}),
        ("run.address=ray://head:10001", ("run", "address"), "ray://head:10001"),
    ],
)
def test_an_override_has_the_type_that_toml_gives_it(one: str, key: tuple[str, ...], value: object) -> None:
    found: Any = override(MINIMAL, [one]).model_dump(mode="json")
    for name in key:
        found = found[name]
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins_and_a_table_may_be_replaced() -> None:
    assert override(MINIMAL, ["search.n=4", "search.n=5"]).search.model_dump()["n"] == 5
    replaced = override(MINIMAL, ["search.n=4", 'search={kind = "best_of_n", wave = 3}'])
    assert isinstance(replaced.search, BestOfNConfig)
    assert (replaced.search.n, replaced.search.wave) == (16, 3)


def test_overriding_leaves_the_table_alone() -> None:
    before = copy.deepcopy(MINIMAL)
    override(MINIMAL, ["search.n=4", "engines.teacher.args.seed=1", "sampling.top_k=3"])
    assert before == MINIMAL


@pytest.mark.parametrize("one", ["search.n", "=3", "search.=3", ".n=3", "search..n=3", "", "=", "a b"])
def test_bad_syntax_of_an_override(one: str) -> None:
    assert "write it as a.b=value" in complaint(MINIMAL, [one])


@pytest.mark.parametrize("one", ["source.kind.x=3", "source.count.a.b=3"])
def test_an_override_inside_what_is_no_table(one: str) -> None:
    assert "is not a table" in complaint(MINIMAL, [one])


@pytest.mark.parametrize(
    ("one", "part"),
    [
        ("search.m=3", "unknown key search.m"),
        ("serch.n=3", "did you mean search?"),
        ("search.n=true", "search.n"),
        ("search.n=x", "search.n"),
        ("sampling.top_p=nan", "sampling.top_p"),
        ("prompt.system=2024-01-01", "prompt.system"),
        ("sampling.extra.day=2024-01-01", "sampling.extra.day"),
        ("prompt.system=\udcff", "prompt.system"),
        ("prune.variants=full", "prune.variants"),
        ("engines.teacher=3", "engines.teacher"),
        ("human.review=r.jsonl", "did you mean reviews?"),
    ],
)
def test_an_override_is_checked_like_the_recipe(one: str, part: str) -> None:
    assert part in complaint(MINIMAL, [one])


def test_overrides_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[source]\nkind = "countdown"\ncount = 3\n[engines.teacher]\nkind = "scripted"\n')
    assert load_recipe(path, ["search.kind=best_of_n", "source.count=5"]).source.model_dump()["count"] == 5
    with pytest.raises(ConfigError, match=r"r\.toml: search: Field required"):
        load_recipe(path)


# --- what may differ on resume


def stored(*overrides: str, base: Mapping[str, Any] = MINIMAL, weights: str = "w") -> dict[str, Any]:
    return resolved(override(base, overrides), {"teacher": weights})


FREE = [
    "source.count=4",
    "budget.tokens=1",
    "budget.seconds=1.0",
    'prune.variants=["full"]',
    "run.address=auto",
    "run.workers=3",
    "run.cpus_per_worker=2.0",
    "run.tries=1",
    "run.placement_seconds=1.0",
    "run.flush_rows=1",
    "run.flush_seconds=1.0",
    'human.reviews=["r.jsonl"]',
]


@pytest.mark.parametrize("one", FREE)
def test_what_may_differ(one: str) -> None:
    assert stored(one) != stored()
    assert differences(stored(), stored(one)) == []
    assert identity_digest(stored()) == identity_digest(stored(one))


@pytest.mark.parametrize(
    ("engine", "one"),
    [
        (VLLM, "engines.teacher.args.max_num_seqs=4"),
        (VLLM, "engines.teacher.args={a = {b = 1}}"),
        (VLLM, "engines.teacher.environment.VLLM_CPU_KVCACHE_SPACE='4'"),
        (SERVER, "engines.teacher.timeout=1.0"),
        (SERVER, "engines.teacher.retries=1"),
        (SERVER, "engines.teacher.max_running=1"),
        (SERVER, "engines.teacher.api_key_env=KEY"),
    ],
)
def test_what_of_an_engine_may_differ(engine: dict[str, Any], one: str) -> None:
    base = table(engines=teacher(engine))
    assert stored(one, base=base) != stored(base=base)
    assert differences(stored(base=base), stored(one, base=base)) == []
    assert identity_digest(stored(base=base)) == identity_digest(stored(one, base=base))


@pytest.mark.parametrize(
    ("base", "one", "key"),
    [
        (MINIMAL, "source.seed=2", "source.seed"),
        (MINIMAL, "source.split=tune", "source.split"),
        (MINIMAL, "source.target_high=99", "source.target_high"),
        (table(source=FILES), 'source.files=["b.jsonl"]', "source.files"),
        (table(source=FILES), "source.fields.prompt=q", "source.fields.prompt"),
        (table(source=FILES), 'source.checks=[{verifier="exact"}]', "source.checks"),
        (table(source=DATASET), "source.name=other/data", "source.name"),
        (MINIMAL, "prompt.system=x", "prompt.system"),
        (MINIMAL, "prompt.template.enable_thinking=true", "prompt.template.enable_thinking"),
        (MINIMAL, "sampling.temperature=0.7", "sampling.temperature"),
        (MINIMAL, "sampling.max_tokens=7", "sampling.max_tokens"),
        (MINIMAL, "sampling.logprobs=true", "sampling.logprobs"),
        (MINIMAL, "sampling.extra.repetition_penalty=1.1", "sampling.extra.repetition_penalty"),
        (MINIMAL, "search.n=4", "search.n"),
        (MINIMAL, "search.wave=4", "search.wave"),
        (MINIMAL, "search.stop_at=4", "search.stop_at"),
        (MINIMAL, "engines.teacher.args.seed=1", "engines.teacher.args.seed"),
        (table(engines=teacher(VLLM)), "engines.teacher.model=other", "engines.teacher.model"),
        (table(engines=teacher(SERVER)), "engines.teacher.base_url=http://b", "engines.teacher.base_url"),
        (table(engines=teacher(SERVER)), "engines.teacher={kind='vllm', model='m'}", "engines.teacher.kind"),
    ],
)
def test_what_may_not_differ_is_named(base: dict[str, Any], one: str, key: str) -> None:
    old, new = stored(base=base), stored(one, base=base)
    lines = differences(old, new)
    assert key in [line.partition(":")[0] for line in lines]
    assert all(len(line.splitlines()) == 1 and ": stored " in line and ", now " in line for line in lines)
    assert identity_digest(old) != identity_digest(new)


def test_other_weights_are_another_run() -> None:
    assert differences(stored(weights="a"), stored(weights="b")) == ["model_digests.teacher: stored 'a', now 'b'"]


def test_a_difference_tells_both_values() -> None:
    assert differences(stored(), stored("sampling.temperature=0.7")) == ["sampling.temperature: stored 1.0, now 0.7"]


def test_no_part_of_a_recipe_is_left_out_of_the_identity_but_the_free_ones() -> None:
    """Every leaf of the resolved config is free by name or makes the run what it is."""
    sections = {key.split(".")[0] for key in identity(stored())}
    assert sections == {"source", "prompt", "engines", "sampling", "search", "scorer", "model_digests"}
    assert "source.count" not in identity(stored())
    assert identity(stored())["engines.teacher.args"] == {}
