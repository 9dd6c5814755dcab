"""The Countdown verifier: what it accepts, and the forgeries that it must not."""

import time
from typing import Any

import pytest

from factory.errors import ConfigError
from factory.sources.games import CountdownSource
from factory.types import Aspect, Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import outcome_of, validate_problem, verdicts
from factory.verifiers.countdown import CountdownVerifier

VERIFIERS = {"countdown": CountdownVerifier()}

RIGHT = """try 25 - 12 = 13 left 3 7 13
dead
back 3 7 12 25
try 25 - 7 = 18 left 3 12 18
try 18 * 3 = 54 left 12 54
try 54 - 12 = 42 left 42
done
"""
ANSWER = "( ( 25 - 7 ) * 3 ) - 12"


def attempt(chain: str, answer: str) -> str:
    return f"<think>\n{chain}</think>\nanswer {answer}"


def judged(text: str, **params: object) -> tuple[Verdict, ...]:
    given = {"numbers": [3, 7, 12, 25], "target": 42, **params}
    problem = Problem("00", (), None, (Check("countdown", given),), "test")
    return verdicts(VERIFIERS, problem, Attempt((Span(text, Origin.SAMPLED),)))


def answer_of(text: str, **params: object) -> Verdict:
    return next(v for v in judged(text, **params) if v.aspect is Aspect.ANSWER)


def chain_of(text: str, **params: object) -> Verdict:
    return next(v for v in judged(text, **params) if v.aspect is Aspect.CHAIN)


def test_a_right_answer_with_its_chain_passes() -> None:
    found = judged(attempt(RIGHT, ANSWER))
    assert [(v.aspect, v.outcome) for v in found] == [
        (Aspect.ANSWER, Outcome.PASS),
        (Aspect.CHAIN, Outcome.PASS),
    ]
    assert found[0].extracted == ANSWER


# --- answers


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        "(25-7)*3-12",
        "3 × ( 25 − 7 ) − 12",
        "((25 - 7)) * 3 - (12)",
        f"{ANSWER}\r",
        f"{ANSWER}\nsome more text",
    ],
)
def test_right_answers(answer: str) -> None:
    assert answer_of(f"answer {answer}").outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("", "no answer"),
        ("the answer 42", "no answer"),
        (" answer 42", "no answer"),
        ("answer", "no answer"),
        ("answer ", "unreadable expression: it breaks off"),
        ("answer 3 +", "unreadable expression: it breaks off"),
        ("answer 3 + ", "unreadable expression: it breaks off"),
        ("answer ( 25 - 7", "unreadable expression: it breaks off"),
        ("answer ( 25 - 7 ]", "unreadable expression: unexpected ']'"),
        ("answer ( 25 - 7 12", "unreadable expression: a parenthesis is not closed"),
        ("answer 25 7", "unreadable expression: unexpected '7'"),
        ("answer -3 + 7", "unreadable expression: unexpected '-'"),
        ("answer three + 7", "unreadable expression: unexpected 't'"),
        ("answer ٣ + 7", "unreadable expression: unexpected '٣'"),
        ("answer 3 ** 7", "unreadable expression: unexpected '*'"),
        ("answer 3 // 7", "unreadable expression: unexpected '/'"),
        ("answer 03 + 7", "unreadable expression: unexpected '3'"),
        ("answer 3.0 + 7", "unreadable expression: unexpected '.'"),
        ("answer __import__('os')", "unreadable expression: unexpected '_'"),
        ("answer 25 / ( 7 - 7 )", "division by zero"),
        (f"answer {ANSWER} + 3 - 3", "uses 3 more often than it is given"),
        ("answer 42", "uses 42 more often than it is given"),
        ("answer 25 + 7 * 3", "does not use 12"),
        ("answer 25 + 7 + 3 + 12", "equals 47, not 42"),
        ("answer 25 + 7 + 3 / 12", "equals 129/4, not 42"),
    ],
)
def test_wrong_answers_fail_and_say_why(text: str, evidence: str) -> None:
    found = answer_of(text)
    assert (found.outcome, found.evidence) == (Outcome.FAIL, evidence)


def test_a_second_answer_fails_whichever_is_right() -> None:
    wrong = "25 + 7 + 3 + 12"
    for first, second in ((wrong, ANSWER), (ANSWER, wrong), (ANSWER, ANSWER)):
        found = answer_of(f"{attempt(RIGHT, first)}\nanswer {second}")
        assert (found.outcome, found.evidence) == (Outcome.FAIL, "2 answers where there must be one")


def test_an_answer_inside_the_thinking_is_none() -> None:
    found = judged(f"<think>\n{RIGHT}answer {ANSWER}\n</think>\n")
    assert [v.evidence for v in found] == ["no answer", f"line 8: cannot be read: 'answer {ANSWER}'"]


def test_only_the_last_thinking_and_its_answer_count() -> None:
    wrong = attempt("try 25 + 7 = 32 left 3 12 32\ndead\n", "25 + 7 + 3 + 12")
    again = "</s><|user|>that is wrong try again</s><|assistant|>"
    found = judged(f"{wrong}{again}{attempt(RIGHT, ANSWER)}")
    assert [v.outcome for v in found] == [Outcome.PASS, Outcome.PASS]
    found = judged(f"{attempt(RIGHT, ANSWER)}{again}{wrong}")
    assert [v.outcome for v in found] == [Outcome.FAIL, Outcome.FAIL]
    found = judged(f"{attempt(RIGHT, ANSWER)}{again}<think>\n{RIGHT}")
    assert [v.evidence for v in found] == ["no answer", "line 8: no </think> on a line of its own"]


def test_any_lets_numbers_lie_idle() -> None:
    assert answer_of("answer 25 + 7", target=32).evidence == "does not use 3"
    assert answer_of("answer 25 + 7", target=32, use="any").outcome is Outcome.PASS
    assert answer_of("answer 25 + 7 + 7", target=39, use="any").outcome is Outcome.FAIL
    chain = "try 3 + 12 = 15 left 7 15 25\ntry 7 + 25 = 32 left 15 32\ndone\n"
    assert chain_of(attempt(chain, "25 + 7"), target=32, use="any").outcome is Outcome.PASS
    assert chain_of(attempt(chain, "12 + 3 + 25 - 7"), target=32, use="any").outcome is Outcome.FAIL


def test_a_target_below_zero_can_be_met() -> None:
    assert answer_of("answer 3 - 7 - 12 - 25", target=-41).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "text",
    [
        "answer " + "(" * 10_000 + "3" + ")" * 10_000,
        "answer " + "(" * 400 + "3" + ")" * 400,
        "answer " + "9" * 900,
        "answer " + "9" * 100_000,
        "answer " + "1/3+" * 240 + "1",
        "answer " + "999999999999999*" * 60 + "1",
        "answer 3\n" * 10_000,
        "<think>\n" * 12_000,
        "</think>\n" * 12_000,
        "<think>\n" + "dead\nwait\n" * 10_000 + "</think>\nanswer 3",
        "<think>\n" + "back 3 7 12 25\n" * 7_000 + "</think>\nanswer 3",
        "<think>\ntry " + "1 " * 50_000 + "\n</think>\nanswer 3",
        "<think>\ntry 3 + 7 = 10 left " + "10 " * 33_000 + "\n</think>\nanswer 3",
        "<think>\ntry 3 + 7 = " + "1" * 100_000 + " left 3\n</think>\nanswer 3",
    ],
    ids=range(14),
)
def test_hostile_text_is_decided_quickly(text: str) -> None:
    start = time.perf_counter()
    found = judged(text)
    assert time.perf_counter() - start < 2.0
    assert found[0].outcome is Outcome.FAIL
    assert all(v.outcome is not Outcome.PASS for v in found)
    assert all(len(v.evidence) < 300 and "\n" not in v.evidence for v in found)


# --- chains


@pytest.mark.parametrize(
    "chain",
    [
        RIGHT,
        RIGHT.replace("dead\nback", "dead\nwait\nback"),
        RIGHT.replace("dead\nback", "back"),
        RIGHT.replace("done\n", "done\nwait\n"),
        RIGHT.replace("done\n", "done\nstop\n"),
        RIGHT.replace("18 * 3", "3 * 18"),
        RIGHT.replace("done\n", "done\nwait\nback 12 54\ntry 12 + 54 = 66 left 66\ndead\nback 12 54\n")
        + "try 54 - 12 = 42 left 42\ndone\n",
    ],
    ids=["as it is", "wait", "back at once", "wait at the end", "stop at the end", "operands swapped", "on after done"],
)
def test_right_chains(chain: str) -> None:
    found = chain_of(attempt(chain, ANSWER))
    assert (found.outcome, found.evidence) == (Outcome.PASS, "supports the answer")


def test_a_chain_whose_thinking_was_opened_by_the_prompt_passes() -> None:
    assert chain_of(f"{RIGHT}</think>\nanswer {ANSWER}").outcome is Outcome.PASS


def test_no_thinking_is_no_chain() -> None:
    found = judged(f"answer {ANSWER}")
    assert [(v.outcome, v.evidence) for v in found] == [
        (Outcome.PASS, "equals the target"),
        (Outcome.UNKNOWN, "no chain"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "evidence"),
    [
        ("back 3 7 12 25", "back 3 7 12 26", "line 3: back to 3 7 12 26, which is not on the current path"),
        ("back 3 7 12 25", "back 3 7 13", "line 3: back to 3 7 13, which is not on the current path"),
        ("back 3 7 12 25", "back 25 12 7 3", "line 3: back to 25 12 7 3, which is not on the current path"),
        ("back 3 7 12 25", "back  3 7 12 25", "line 3: cannot be read: 'back  3 7 12 25'"),
        ("done\n", "done\nback 3 7 13\n", "line 8: back to 3 7 13, which is not on the current path"),
        ("left 12 54", "left 12 55", "line 5: what is left is 12 54, not 12 55"),
        ("left 12 54", "left 54 12", "line 5: what is left is 12 54, not 54 12"),
        ("left 12 54", "left 54", "line 5: what is left is 12 54, not 54"),
        ("18 * 3 = 54", "18 * 3 = 55", "line 5: 18 * 3 is not 55"),
        ("18 * 3 = 54", "18 / 0 = 54", "line 5: 18 and 0 are not both in 3 12 18"),
        ("18 * 3 = 54", "18 / 12 = 1", "line 5: 18 / 12 is not 1"),
        ("18 * 3 = 54", "18 * 18 = 324", "line 5: 18 and 18 are not both in 3 12 18"),
        ("18 * 3 = 54", "3 * 3 = 9", "line 5: 3 and 3 are not both in 3 12 18"),
        ("18 * 3 = 54", "7 * 3 = 21", "line 5: 7 and 3 are not both in 3 12 18"),
        ("18 * 3", "18 × 3", "line 5: cannot be read: 'try 18 × 3 = 54 left 12 54'"),
        ("18 * 3", "18 * three", "line 5: cannot be read: 'try 18 * three = 54 left 12 54'"),
        ("18 * 3", "18 * 03", "line 5: cannot be read: 'try 18 * 03 = 54 left 12 54'"),
        ("try 54 - 12 = 42 left 42\n", "", "line 6: done at 12 54, which is not the target"),
        ("try 54 - 12 = 42", "try 12 - 54 = 42", "line 6: 12 - 54 is not 42"),
        ("54 - 12 = 42 left 42", "54 + 12 = 66 left 66", "line 7: done at 66, which is not the target"),
        ("done\n", "", "the chain ends without done"),
        ("done\n", "dead\n", "line 7: dead at the target"),
        ("done\n", "stop\n", "the chain ends without done"),
        ("done\n", "done\nback 12 54\n", "the chain ends without done"),
        ("done\n", "stop\ndone\n", "line 8: goes on after stop"),
        ("done\n", "done\n\n", "line 8: cannot be read: ''"),
        ("done\n", "done \n", "line 7: cannot be read: 'done '"),
        ("done\n", "so it is done\n", "line 7: cannot be read: 'so it is done'"),
        ("done\n", "done", "line 7: no </think> on a line of its own"),
        ("try 25 - 12", "wait\ntry 25 - 12 ", "line 2: cannot be read: 'try 25 - 12  = 13 left 3 7 13'"),
        ("back 3 7 12 25", "wait", "line 4: goes on from a state that it called dead"),
    ],
)
def test_forged_chains_fail_at_the_first_wrong_line(old: str, new: str, evidence: str) -> None:
    assert RIGHT.count(old) == 1
    found = judged(attempt(RIGHT.replace(old, new), ANSWER))
    assert found[0].outcome is Outcome.PASS
    assert (found[1].outcome, found[1].evidence) == (Outcome.FAIL, evidence)


def test_back_to_a_state_that_was_left_fails() -> None:
    left = RIGHT.replace("try 54 - 12", "back 3 7 13\ntry 54 - 12")
    assert chain_of(attempt(left, ANSWER)).evidence == "line 6: back to 3 7 13, which is not on the current path"


def test_back_to_the_present_state_fails() -> None:
    here = RIGHT.replace("try 54 - 12", "back 12 54\ntry 54 - 12")
    assert chain_of(attempt(here, ANSWER)).evidence == "line 6: back to 12 54, which is not on the current path"


def test_a_sound_chain_that_gave_up_does_not_support_a_right_answer() -> None:
    gave_up = "try 25 - 12 = 13 left 3 7 13\ndead\n"
    found = judged(attempt(gave_up, ANSWER))
    assert [v.outcome for v in found] == [Outcome.PASS, Outcome.FAIL]


def test_a_chain_that_reaches_the_target_elsewhere_does_not_support_the_answer() -> None:
    given = {"numbers": [2, 3, 4, 6], "target": 24}
    chain = "try 6 / 2 = 3 left 3 3 4\ntry 3 + 3 = 6 left 4 6\ntry 4 * 6 = 24 left 24\ndone\n"
    same, other = "( 6 / 2 + 3 ) * 4", "6 * 4 * ( 3 - 2 )"
    assert [v.outcome for v in judged(attempt(chain, same), **given)] == [Outcome.PASS, Outcome.PASS]
    found = judged(attempt(chain, other), **given)
    assert [v.outcome for v in found] == [Outcome.PASS, Outcome.FAIL]
    assert found[1].evidence == "the chain reaches the target by other operations than the answer"


def test_a_chain_does_not_support_an_answer_that_stops_halfway() -> None:
    found = judged(attempt(RIGHT, "( 25 - 7 ) * 3"))
    assert [v.outcome for v in found] == [Outcome.FAIL, Outcome.FAIL]


def test_a_chain_with_an_unreadable_answer_supports_nothing() -> None:
    assert chain_of(attempt(RIGHT, "42 it is")).evidence == "there is no readable answer for the chain to support"


@pytest.mark.parametrize("opening", ["<think>", "<think> ", "<think>so\n", "<think>\r\n"])
def test_thinking_that_is_not_opened_on_a_line_of_its_own_fails(opening: str) -> None:
    found = chain_of(f"{opening}{RIGHT}</think>\nanswer {ANSWER}")
    assert (found.outcome, found.evidence) == (Outcome.FAIL, "line 0: <think> is not on a line of its own")


# --- parameters and references


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "'numbers'"),
        ({"numbers": [1, 2]}, "'target'"),
        ({"numbers": [], "target": 3}, "'numbers'"),
        ({"numbers": "1 2", "target": 3}, "'numbers'"),
        ({"numbers": [1, 2.0], "target": 3}, "'numbers'"),
        ({"numbers": [1, -2], "target": 3}, "'numbers'"),
        ({"numbers": [1, True], "target": 3}, "'numbers'"),
        ({"numbers": [1, 2], "target": "3"}, "'target'"),
        ({"numbers": [1, 2], "target": 3, "use": "some"}, "'use'"),
        ({"numbers": [1, 2], "target": 3, "numbrs": []}, "'numbrs'; did you mean 'numbers'"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        VERIFIERS["countdown"].validate(params)


def test_trouble_with_the_check_is_unknown_and_never_a_fail() -> None:
    found = judged(attempt(RIGHT, ANSWER), target=None)
    assert [v.outcome for v in found] == [Outcome.UNKNOWN, Outcome.UNKNOWN]


def test_every_generated_problem_accepts_its_own_reference() -> None:
    for problem in CountdownSource(count=20, seed=3):
        validate_problem(VERIFIERS, problem)
    attempted = VERIFIERS["countdown"].as_attempt(ANSWER)
    assert attempted == Attempt((Span(f"answer {ANSWER}", Origin.INJECTED),))


def test_the_worst_of_two_checks_counts() -> None:
    checks = tuple(Check("countdown", {"numbers": [3, 7, 12, 25], "target": target}) for target in (42, 41))
    problem = Problem("00", (), None, checks, "test")
    found = verdicts(VERIFIERS, problem, Attempt((Span(attempt(RIGHT, ANSWER), Origin.SAMPLED),)))
    assert outcome_of(found, Aspect.ANSWER) is Outcome.FAIL


def test_a_chain_that_is_not_judged_has_no_verdict() -> None:
    params = {"numbers": [3, 7], "target": 10, "chain": "none"}
    problem = Problem("00" * 10, (), None, (Check("countdown", params),), "test")
    attempt = Attempt((Span("Adding them gives ten.\nanswer 3 + 7", Origin.SAMPLED),))
    found = VERIFIERS["countdown"].judge(problem, params, attempt)
    assert [(one.aspect, one.outcome) for one in found] == [(Aspect.ANSWER, Outcome.PASS)]


def test_an_unknown_way_to_judge_a_chain_is_refused() -> None:
    with pytest.raises(ConfigError, match="'chain' must be"):
        VERIFIERS["countdown"].validate({"numbers": [3], "target": 3, "chain": "maybe"})
