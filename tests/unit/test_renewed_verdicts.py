"""Recorded verdicts are kept while their verifiers' versions are today's, and only the others are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory.types import Aspect, Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import Finding, Verifier, renewed, verdicts, version_of
from factory.verifiers.combined import combinations

ATTEMPT = Attempt((Span("text", Origin.SAMPLED),))


class Counting:
    """Passes everything, and counts; its evidence says which question it was."""

    costly = False

    def __init__(self, name: str, version: str = "1", aspects: tuple[Aspect, ...] = (Aspect.ANSWER,)) -> None:
        self.name = name
        self.version = version
        self.aspects = aspects
        self.asked = 0

    def validate(self, params: Mapping[str, Any]) -> None:
        """Anything goes."""

    def judge(self, problem: Problem, params: Mapping[str, Any], attempt: Attempt) -> list[Finding]:
        self.asked += 1
        return [Finding(one, Outcome.PASS, None, f"{params} {self.asked}") for one in self.aspects]

    def as_attempt(self, reference: str) -> Attempt:
        raise NotImplementedError

    def stub(self, params: Mapping[str, Any]) -> Attempt:
        raise NotImplementedError


def table(*verifiers: Verifier) -> dict[str, Verifier]:
    found = {one.name: one for one in verifiers}
    found |= {one.name: one for one in combinations(lambda: found)}
    return found


def problem(*checks: Check) -> Problem:
    return Problem("id", (), None, checks, "test")


def test_what_is_recorded_is_kept_and_nothing_is_asked() -> None:
    both = Counting("both", aspects=(Aspect.ANSWER, Aspect.CHAIN))
    one = Counting("one")
    verifiers = table(both, one)
    asked = problem(Check("one", {"a": 1}), Check("both"), Check("one", {"a": 2}))
    recorded = verdicts(verifiers, asked, ATTEMPT)
    assert len(recorded) == 4
    assert renewed(verifiers, asked, ATTEMPT, recorded) == recorded
    assert (both.asked, one.asked) == (1, 2)


def test_only_another_version_is_asked_and_each_verdict_stays_in_its_place() -> None:
    old, kept = Counting("new"), Counting("kept")
    asked = problem(Check("kept", {"a": 1}), Check("new"), Check("kept", {"a": 2}))
    recorded = verdicts(table(old, kept), asked, ATTEMPT)
    new = Counting("new", "2")
    found = renewed(table(new, kept), asked, ATTEMPT, recorded)
    assert [one.version for one in found] == ["1", "2", "1"]
    assert (found[0], found[2]) == (recorded[0], recorded[2])
    assert (new.asked, kept.asked) == (1, 2)


def test_what_is_missing_is_asked_for_whole() -> None:
    both = Counting("both", aspects=(Aspect.ANSWER, Aspect.CHAIN))
    verifiers = table(both)
    asked = problem(Check("both"))
    (answer, chain) = verdicts(verifiers, asked, ATTEMPT)
    for half in ((answer,), (chain,), ()):
        found = renewed(verifiers, asked, ATTEMPT, half)
        assert [one.aspect for one in found] == [Aspect.ANSWER, Aspect.CHAIN]
        assert answer not in found
        assert chain not in found
    stranger = replace(answer, verifier="gone")
    assert renewed(verifiers, asked, ATTEMPT, (stranger, answer, chain)) == (answer, chain)


def test_a_combination_is_as_new_as_what_is_in_it() -> None:
    inner = {"verifier": "any", "params": {"checks": [{"verifier": "a"}, {"verifier": "b"}]}}
    check = Check("all", {"checks": [inner, {"verifier": "a"}]})
    asked = problem(check, Check("all", {"checks": [{"verifier": "a"}]}))
    recorded = verdicts(table(Counting("a"), Counting("b")), asked, ATTEMPT)
    assert [one.version for one in recorded] == ["1 (a 1, any 1, b 1)", "1 (a 1)"]
    a, b = Counting("a"), Counting("b", "2")
    found = renewed(table(a, b), asked, ATTEMPT, recorded)
    assert [one.version for one in found] == ["1 (a 1, any 1, b 2)", "1 (a 1)"]
    assert found[1] == recorded[1]
    assert (a.asked, b.asked) == (2, 1)


def test_a_combination_that_cannot_be_read_is_unknown_and_says_why() -> None:
    verifiers = table(Counting("a"))
    for params in ({}, {"checks": [{"verifier": "nobody"}]}, {"checks": 3}):
        check = Check("all", params)
        assert version_of(verifiers, check) == "1"
        found: tuple[Verdict, ...] = verdicts(verifiers, problem(check), ATTEMPT)
        assert [one.outcome for one in found] == [Outcome.UNKNOWN]
        assert found[0].evidence
