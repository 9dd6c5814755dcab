"""Votes and reviews: what is missing never turns a decided outcome around, and the order of reviews says nothing."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from factory.types import Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.human import HumanVerifier, Review, Reviews, agreed, key
from factory.verifiers.judge import Rubric, decide, question

VOTES = st.integers(1, 9).flatmap(
    lambda votes: st.tuples(st.lists(st.booleans(), min_size=votes, max_size=votes), st.integers(1, votes))
)


@given(VOTES)
def test_votes_that_are_missing_never_turn_an_outcome_around(case: tuple[list[bool], int]) -> None:
    votes, needed = case
    whole = decide(sum(votes), len(votes) - sum(votes), len(votes), needed)
    assert whole is (Outcome.PASS if sum(votes) >= needed else Outcome.FAIL)
    for known in range(len(votes)):
        yes = sum(votes[:known])
        assert decide(yes, known - yes, len(votes), needed) in {Outcome.UNKNOWN, whole}


@given(VOTES)
def test_an_outcome_stays_open_only_while_both_are_possible(case: tuple[list[bool], int]) -> None:
    votes, needed = case
    yes, no = sum(votes[::2]), len(votes[::2]) - sum(votes[::2])
    left = len(votes) - yes - no
    possible = {decide(yes + more, no + left - more, len(votes), needed) for more in range(left + 1)}
    assert (decide(yes, no, len(votes), needed) is Outcome.UNKNOWN) == (len(possible) == 2)


@given(st.integers(1, 200), st.integers(1, 1000))
def test_a_threshold_is_the_least_number_of_votes_with_that_share(votes: int, thousandths: int) -> None:
    needed = Rubric(rubric="r", votes=votes, threshold=thousandths / 1000).needed
    assert 1 <= needed <= votes
    assert needed * 1000 >= thousandths * votes
    assert needed == 1 or (needed - 1) * 1000 < thousandths * votes
    assert 2 * Rubric(rubric="r", votes=votes).needed > votes >= 2 * (Rubric(rubric="r", votes=votes).needed - 1)


TEXT = st.text(st.sampled_from("aB0 \nENDBEGINANSWER:"), max_size=80)


@given(TEXT, TEXT, TEXT)
def test_a_part_of_a_question_ends_where_it_ends(answer: str, reference: str, rubric: str) -> None:
    (message,) = question(Problem("id", (), reference, (), "test"), rubric, answer)
    mark = message.content.partition("carry the mark ")[2][:16]
    for name, text in (("ANSWER", answer), ("REFERENCE", reference), ("RUBRIC", rubric)):
        _, begun, after = message.content.partition(f"BEGIN {name} {mark}\n")
        inside, ended, after = after.partition(f"\nEND {name} {mark}\n")
        assert begun
        assert ended
        assert inside == text
        assert f"END {name} {mark}" not in after


PROBLEM = Problem("id", (), None, (), "test")
ATTEMPTS = [Attempt((Span(text, Origin.SAMPLED),)) for text in ("one", "two")]
REVIEWS = st.lists(
    st.builds(
        Review,
        problem=st.just("id"),
        attempt=st.sampled_from([key(PROBLEM, attempt) for attempt in ATTEMPTS]),
        outcome=st.sampled_from(["pass", "fail", None]),
        reviewer=st.sampled_from(["", "anna", "ben", "cem"]),
        note=st.sampled_from(["", "hm"]),
    ),
    max_size=12,
)


@given(REVIEWS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_the_order_of_reviews_and_their_repetition_say_nothing(
    reviews: list[Review], agree: int, rng: random.Random
) -> None:
    mixed = [*reviews, *rng.sample(reviews, rng.randint(0, len(reviews)))]
    rng.shuffle(mixed)
    first, second = HumanVerifier(Reviews(reviews)), HumanVerifier(Reviews(mixed))
    assert first.version == second.version
    for attempt in ATTEMPTS:
        assert first.judge(PROBLEM, {"agree": agree}, attempt) == second.judge(PROBLEM, {"agree": agree}, attempt)


@given(REVIEWS, st.integers(1, 3))
def test_an_outcome_has_enough_voices_and_the_opposite_has_not(reviews: list[Review], agree: int) -> None:
    voices: Counter[str] = Counter(
        outcome for _, outcome in {(one.reviewer, one.outcome) for one in reviews} if outcome
    )
    outcome = agreed(reviews, agree)
    if outcome is Outcome.UNKNOWN:
        assert (voices["pass"] >= agree) == (voices["fail"] >= agree)
    else:
        other = {"pass": "fail", "fail": "pass"}[outcome]
        assert voices[outcome] >= agree > voices[other]


@given(REVIEWS)
def test_what_was_said_makes_the_version(reviews: list[Review]) -> None:
    said = [one for one in reviews if one.outcome]
    assert HumanVerifier(Reviews(said)).version == HumanVerifier(Reviews(reviews)).version
    more = Review(problem="id", attempt="another", outcome="pass")
    assert HumanVerifier(Reviews([*reviews, more])).version != HumanVerifier(Reviews(reviews)).version
