"""The answer of a finished tree without a verifier: who votes, ties, scores that are missing."""

from dataclasses import replace

import pytest

from factory.selection import best, majority, voters, weighted_majority
from factory.types import Aspect, Node, NodeState, Outcome, Tree, Verdict
from tests.unit import run_folders as make
from tests.unit.test_best_of_n import CUT, attempt
from tests.unit.test_consensus import says


def tree(*nodes: Node) -> Tree:
    return make.searched(make.problem("0" * 20), nodes)


def leaves(*answers: tuple[str | None, float | None]) -> Tree:
    """Finished leaves with what was read of them, and their scores."""
    return tree(*(replace(says(id, answer), score=score) for id, (answer, score) in enumerate(answers, start=1)))


def ids(*chosen: Node | None) -> list[int | None]:
    return [None if node is None else node.id for node in chosen]


def test_the_three_ways() -> None:
    found = leaves(("a", 0.9), ("b", 0.4), ("b", 0.3), ("c", 0.35), ("c", 0.4))
    assert ids(majority(found), weighted_majority(found), best(found)) == [2, 1, 1]
    found = leaves(("a", 0.5), ("b", 0.4), ("b", 0.3))
    assert ids(majority(found), weighted_majority(found), best(found)) == [2, 2, 1]


def test_between_equals_the_first_is_chosen() -> None:
    found = leaves(("a", 0.5), ("b", 0.5), ("b", 0.5), ("a", 0.5))
    assert ids(majority(found), weighted_majority(found), best(found)) == [1, 1, 1]


def test_who_votes() -> None:
    found = tree(
        attempt(1, CUT),
        says(2, None),
        says(3, " "),
        replace(says(4, "a"), counted=False),
        replace(says(5, "a"), state=NodeState.OPEN),
        says(6, "a", Outcome.FAIL),
        says(7, " b ", Outcome.PASS),
        says(8, "b", Outcome.UNKNOWN),
    )
    assert [node.id for node in voters(found)] == [6, 7, 8]
    assert ids(majority(found)) == [7]


def test_a_tree_without_a_vote_has_no_answer() -> None:
    assert ids(majority(leaves()), weighted_majority(leaves((None, 1.0))), best(tree(attempt(1, CUT)))) == [None] * 3


def test_a_leaf_without_a_score_has_no_say_and_without_any_the_majority_decides() -> None:
    found = leaves(("a", None), ("a", None), ("b", 0.1))
    assert ids(majority(found), weighted_majority(found), best(found)) == [1, 3, 3]
    found = leaves(("a", None), ("b", None), ("b", None))
    assert ids(weighted_majority(found), best(found)) == [2, 2]


def test_scores_may_come_from_elsewhere() -> None:
    found = leaves(("a", 0.9), ("b", 0.1))
    assert ids(best(found, lambda node: {1: -4.0, 2: 3.0}[node.id])) == [2]
    with pytest.raises(ValueError, match="no weight"):
        weighted_majority(found, lambda _: -1.0)


def test_the_first_verifier_that_reads_an_answer_names_it() -> None:
    verdicts = (
        Verdict("form", "1", Aspect.ANSWER, Outcome.PASS, None, "", 0.0),
        Verdict("chain", "1", Aspect.CHAIN, Outcome.PASS, "not this", "", 0.0),
        Verdict("math", "1", Aspect.ANSWER, Outcome.FAIL, "1/2", "", 0.0),
        Verdict("exact", "1", Aspect.ANSWER, Outcome.FAIL, "0.5", "", 0.0),
    )
    assert replace(says(1, "a"), verdicts=verdicts).answer == "1/2"
    assert replace(says(1, "a"), verdicts=verdicts[:2]).answer is None
