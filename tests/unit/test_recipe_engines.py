"""Engines of a recipe: each is asked by somebody, each has a digest, and what they need is what a worker occupies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from factory.config import Recipe, differences, identity_digest, override, parse_recipe, resolved
from factory.errors import ConfigError
from pipelines import build
from pipelines.refine import refinement_digest
from pipelines.validate import validate

SCRIPTED = {"kind": "scripted"}
SERVED = {"kind": "openai", "model": "m", "base_url": "http://host/v1"}
FILES: dict[str, Any] = {"kind": "jsonl", "files": ["a.jsonl"]}
OWN_PROMPTS = FILES | {"fields": {"prompt": "q"}}
GAME = {"kind": "countdown", "count": 3, "seed": 1}
JUDGED = {"verifier": "judge", "params": {"rubric": "r"}}
CRITIC = {"verifier": "judge", "params": {"rubric": "r", "engine": "critic"}}
INSIDE = {"verifier": "any", "params": {"checks": [{"verifier": "all", "params": {"checks": [CRITIC]}}]}}
HUMAN = {"verifier": "human"}


def table(source: Mapping[str, Any], *engines: str, checks: Any = (), **sections: Any) -> dict[str, Any]:
    checked = {"checks": list(checks)} if checks else {}
    return {
        "source": {**source, **checked},
        "engines": {name: dict(SCRIPTED) for name in ("teacher", *engines)},
        "search": {"kind": "best_of_n"},
        **sections,
    }


def recipe(*args: Any, **more: Any) -> Recipe:
    return parse_recipe(table(*args, **more), "r.toml")


@pytest.mark.parametrize(
    "used",
    [
        recipe(GAME),
        recipe(FILES),
        recipe(FILES, "judge"),
        recipe(FILES, "judge", checks=[CRITIC | {"params": {"rubric": "r", "engine": "teacher"}}]),
        recipe(FILES, "judge", "critic", checks=[CRITIC]),
        recipe(FILES, "critic", checks=[INSIDE]),
        recipe(OWN_PROMPTS, "judge", checks=[JUDGED]),
        recipe(FILES | {"fields": {"prompt": "q", "checks": "c"}}, "judge"),
        recipe(FILES, human={"reviews": ["r.jsonl"]}),
        recipe(OWN_PROMPTS, checks=[HUMAN], human={"reviews": ["r.jsonl"]}),
    ],
)
def test_what_something_may_ask_is_fine(used: Recipe) -> None:
    build.refuse_idle(used)


@pytest.mark.parametrize(
    ("idle", "message"),
    [
        (
            recipe(GAME, "judge"),
            "engines.judge: no check, [scorer] or [prune] names it: leave it out, or add a check `judge`",
        ),
        (
            recipe(FILES, "jugde"),
            "engines.jugde: no check, [scorer] or [prune] names it: name it in source.checks, or call it",
        ),
        (recipe(FILES, "critic", checks=[JUDGED]), "engines.critic"),
        (recipe(OWN_PROMPTS, "judge", checks=[CRITIC]), "engines.judge"),
        (recipe(OWN_PROMPTS, "judge", checks=[HUMAN]), "engines.judge"),
        (recipe(GAME, human={"reviews": ["r.jsonl"]}), "human.reviews"),
        (recipe(OWN_PROMPTS, checks=[{"verifier": "exact"}], human={"reviews": ["r.jsonl"]}), "human.reviews"),
        (recipe(FILES, "judge", checks=[{"verifier": "judge"}]), "judge: rubric: Field required"),
    ],
)
def test_what_nothing_asks_is_refused_in_a_line(idle: Recipe, message: str) -> None:
    for look in (build.check_engines, validate):
        with pytest.raises(ConfigError) as refused:
            look(idle)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_check_names_an_engine_that_is_there(tmp_path: Path) -> None:
    problems = tmp_path / "p.jsonl"
    checks = [JUDGED, CRITIC, CRITIC | {"params": {"rubric": "r", "engine": "teacher"}}]
    rows = [{"prompt": f"q{number}", "checks": [check]} for number, check in enumerate(checks)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = validate(recipe(FILES | {"files": [str(problems)]}, "judge"))
    assert [why for _, why in report.refused] == ["judge: there is no [engines.critic]; there are: judge, teacher"]


def test_every_engine_has_a_digest_and_none_may_differ() -> None:
    old = table(FILES, "judge")
    new = override(old, ["engines.judge.args={seed = 1}"])
    before, after = (resolved(one, build.model_digests(one)) for one in (parse_recipe(old, "r"), new))
    assert set(before["model_digests"]) == {"teacher", "judge"}
    assert [line.partition(":")[0] for line in differences(before, after)] == [
        "engines.judge.args",
        "engines.judge.args.seed",
        "model_digests.judge",
    ]
    assert identity_digest(before) != identity_digest(after)
    without = parse_recipe(table(FILES), "r")
    lines = differences(before, resolved(without, build.model_digests(without)))
    assert any(line.startswith("model_digests.judge: stored") for line in lines)


def test_what_of_a_served_judge_may_differ() -> None:
    old = table(FILES) | {"engines": {"teacher": SCRIPTED, "judge": SERVED}}
    recipes = [override(old, [f"engines.judge.{one}"] if one else []) for one in ("", "timeout=9.0", "model=other")]
    first, free, other = (resolved(one, build.model_digests(one)) for one in recipes)
    assert differences(first, free) == []
    assert [line.partition(":")[0] for line in differences(first, other)] == [
        "engines.judge.model",
        "model_digests.judge",
    ]
    assert first["model_digests"]["judge"] == "served:m@http://host/v1"


def test_a_verdict_says_what_model_judged() -> None:
    used = parse_recipe(table(FILES) | {"engines": {"teacher": SCRIPTED, "judge": SERVED}}, "r")
    models = build.desks(used, build.model_digests(used))
    assert models["judge"].name == "served:m@http://host/v1"
    assert models["teacher"].name == f"scripted {build.model_digests(used)['teacher'][:12]}"
    assert build.desks(used, {})["judge"].name == "m"


def test_every_local_model_travels_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    used = parse_recipe(
        table(FILES) | {"engines": {"teacher": SCRIPTED, "judge": {"kind": "vllm", "model": "weights"}}}, ""
    )
    assert build.absolute(used)["engines"]["judge"]["model"] == str(tmp_path / "weights")


def test_reviews_make_another_refinement(tmp_path: Path) -> None:
    def name(lines: str) -> str:
        (tmp_path / "r.jsonl").write_text(lines)
        used = recipe(FILES, human={"reviews": [str(tmp_path / "r.jsonl")]})
        return refinement_digest(used.prune, build.recipe_verifiers(used, {}), {})

    plain = recipe(FILES)
    unreviewed = refinement_digest(plain.prune, build.recipe_verifiers(plain, {}), {})
    reviewed = '{"problem": "p", "attempt": "a", "outcome": "%s"}\n'
    assert name("") == name(reviewed.replace('"%s"', "null")) == unreviewed
    assert len({name(reviewed % "pass"), name(reviewed % "fail"), unreviewed}) == 3
