"""People as verifiers: their reviews decide, what nobody has reviewed is open, and a bad line is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factory.config import HumanConfig
from factory.errors import ConfigError, SourceError
from factory.types import Attempt, Check, Message, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import Verifiers, validate_problem, verdicts
from factory.verifiers.human import HumanVerifier, Reviews, key, parse
from factory.verifiers.jail import Jail
from factory.verifiers.table import builtin
from pipelines import build

PASS, FAIL, UNKNOWN = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN
PROBLEM = Problem("p1", (Message("user", "Write a haiku."),), None, (), "test")
HAIKU = "<think>five seven five</think>\nAn old silent pond."


def sampled(text: str) -> Attempt:
    return Attempt((Span(text, Origin.SAMPLED),))


def line(outcome: str | None, reviewer: str = "", text: str = HAIKU, **more: Any) -> dict[str, Any]:
    of = {"problem": PROBLEM.id, "attempt": key(PROBLEM, sampled(text))}
    return of | {"outcome": outcome, "reviewer": reviewer} | more


def judged(lines: list[dict[str, Any]], agree: int = 1, text: str = HAIKU) -> Verdict:
    problem = Problem(PROBLEM.id, PROBLEM.messages, None, (Check("human", {"agree": agree}),), "test")
    (verdict,) = verdicts(table(lines), problem, sampled(text))
    return verdict


def table(lines: list[dict[str, Any]]) -> Verifiers:
    return builtin(lambda language: Jail(language=language), reviews=Reviews(map(parse, lines)))


@pytest.mark.parametrize(
    ("said", "agree", "outcome"),
    [
        ([], 1, UNKNOWN),
        (["a:"], 1, UNKNOWN),
        (["a:pass"], 1, PASS),
        (["a:fail"], 1, FAIL),
        (["a:pass", "b:pass"], 1, PASS),
        (["a:pass", "b:fail"], 1, UNKNOWN),
        (["a:pass", "b:pass", "c:fail"], 1, UNKNOWN),
        (["a:pass", "a:fail"], 1, UNKNOWN),
        (["a:pass"], 2, UNKNOWN),
        (["a:pass", "a:pass"], 2, UNKNOWN),
        ([":pass", ":pass"], 2, UNKNOWN),
        (["a:pass", "b:pass"], 2, PASS),
        (["a:fail", "b:fail", "c:pass"], 2, FAIL),
        (["a:fail", "b:fail", "c:pass", "d:pass"], 2, UNKNOWN),
    ],
)
def test_reviewers_agree_or_it_stays_open(said: list[str], agree: int, outcome: Outcome) -> None:
    pairs = [one.split(":") for one in said]
    assert judged([line(outcome or None, who) for who, outcome in pairs], agree).outcome is outcome


def test_a_review_is_of_one_text_of_one_problem() -> None:
    assert judged([line("pass")], text=HAIKU + " ").outcome is UNKNOWN
    assert judged([line("pass") | {"problem": "p2"}]).outcome is UNKNOWN
    other = Problem("p2", PROBLEM.messages, None, (), "test")
    assert key(other, sampled(HAIKU)) != key(PROBLEM, sampled(HAIKU))
    halves = Attempt((Span(HAIKU[:9], Origin.SAMPLED), Span(HAIKU[9:], Origin.INJECTED)))
    assert key(PROBLEM, halves) == key(PROBLEM, sampled(HAIKU))


def test_evidence_says_who_said_what() -> None:
    found = judged([line("fail", "ben", note="no\nseason"), line("pass")])
    assert (found.outcome, found.evidence) == (UNKNOWN, "somebody: pass; ben: fail (no season)")
    assert judged([]).evidence == f"{key(PROBLEM, sampled(HAIKU))} waits for a review"


@pytest.mark.parametrize("text", ["", " \n", "<think>hm", "<think>hm</think>\n"])
def test_nobody_reviews_what_is_no_answer(text: str) -> None:
    assert judged([line("pass", text=text)], text=text).outcome is FAIL


def test_a_problem_is_valid_before_anybody_has_seen_it() -> None:
    checks = (Check("human"), Check("all", {"checks": [{"verifier": "human"}, {"verifier": "exact"}]}))
    validate_problem(table([]), Problem("p1", PROBLEM.messages, "a pond", checks, "test"))
    for params, message in (({"agree": 0}, "agree"), ({"agre": 1}, "did you mean 'agree'")):
        with pytest.raises(ConfigError, match=message):
            HumanVerifier(Reviews()).validate(params)


def test_the_version_is_what_was_said() -> None:
    def version(*lines: dict[str, Any]) -> str:
        return table(list(lines))["human"].version

    assert version() == version(line(None)) == "1"
    versions = [
        version(line("pass")),
        version(line("fail")),
        version(line("pass", "anna")),
        version(line("pass", note="x")),
    ]
    assert len({*versions, "1"}) == 5


# --- files


def test_files_are_read_by_path_and_glob_and_what_is_for_the_eye_is_not(tmp_path: Path) -> None:
    shown: dict[str, Any] = {"prompt": [], "reference": None, "text": HAIKU, "verdicts": []}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(line('pass', 'anna') | shown)}\n\n{json.dumps(line(None))}\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({key: line("pass")[key] for key in ("problem", "attempt", "outcome")}))
    both = build.reviews(HumanConfig(reviews=[f"{tmp_path}/*.jsonl"]))
    again = build.reviews(HumanConfig(reviews=[f"{tmp_path}/b.jsonl", f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]))
    assert both.digest == again.digest
    assert [one.reviewer for one in both.of(PROBLEM, sampled(HAIKU))] == ["", "anna"]
    assert build.reviews(HumanConfig()).digest == ""


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "not JSON"),
        ("[]", "a review is a JSON object"),
        ('{"problem": "p", "outcome": "pass"}', "attempt: Field required"),
        ('{"problem": "p", "attempt": "a"}', "outcome: Field required"),
        (json.dumps(line("maybe")), "outcome: Input should be 'pass' or 'fail'"),
        (json.dumps(line("pass", outcom="pass")), "unknown key 'outcom'; there are: problem, attempt, outcome"),
        (json.dumps(line("pass") | {"reviewer": 7}), "reviewer: "),
        ('{"problem": "\xff"}'.encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: str | bytes, why: str) -> None:
    file = tmp_path / "r.jsonl"
    file.write_bytes(json.dumps(line("pass")).encode() + b"\n" + (bad if isinstance(bad, bytes) else bad.encode()))
    with pytest.raises(ConfigError) as refused:
        build.reviews(HumanConfig(reviews=[str(file)]))
    assert str(refused.value).startswith(f"{file}: line 2: ")
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file"):
        build.reviews(HumanConfig(reviews=[str(tmp_path / "none.jsonl")]))
