"""Which answer of a finished tree to give where no verifier decides: properties of the tree, pure.

A leaf votes if it is finished, counts, and some verifier read an answer of it (`Node.answer`); whether that answer is
right takes no part, nor does trouble with deciding it. Answers are the same if their texts are. Truncated leaves,
leaves beyond the stop and those of which nothing was read do not vote; a tree without a vote has no answer.

Each function gives the leaf to take, the first with the chosen answer; between equals, the answer that came first is
chosen. A score is any number that is higher for better; a leaf without one has no say where scores decide, and where
no leaf has one, the majority decides.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

from factory.types import Node, NodeState, Tree

Score = Callable[[Node], float | None]
"""Of a finished leaf: what a reward model says of it, in [0, 1]; None for no score."""


def recorded(node: Node) -> float | None:
    """The score that the tree holds."""
    return node.score


def last_score(tree: Tree) -> Score:
    """Of the path to a leaf: the last score that any of its steps was given, since leaves have none of their own."""

    def score(leaf: Node) -> float | None:
        scores = (node.score for node in reversed(tree.path(leaf.id)))
        return next((score for score in scores if score is not None), None)

    return score


def mean_probability(tree: Tree) -> Score:
    """Of the path to a leaf: the geometric mean of its sampled tokens' probabilities, where the engine told them."""

    def score(leaf: Node) -> float | None:
        told = [logprob for node in tree.path(leaf.id) for logprob in node.logprobs or ()]
        return math.exp(fmean(told)) if told else None

    return score


def voters(tree: Tree) -> list[Node]:
    """The leaves that vote, in the order of their ids."""
    return [node for node in tree.leaves() if node.state is NodeState.FINISHED and node.counted and _answer(node)]


def majority(tree: Tree) -> Node | None:
    """The answer that most leaves give (Wang et al. 2022, self-consistency)."""
    return _heaviest(voters(tree), lambda _: 1.0)


def weighted_majority(tree: Tree, score: Score = recorded) -> Node | None:
    """The answer whose leaves have the largest sum of scores. Raises ValueError for a score below 0."""
    scored = [node for node in voters(tree) if score(node) is not None]
    return _heaviest(scored, lambda node: _weight(score(node))) if scored else majority(tree)


def best(tree: Tree, score: Score = recorded) -> Node | None:
    """The leaf with the highest score."""
    scored = [(value, -node.id, node) for node in voters(tree) if (value := score(node)) is not None]
    return max(scored, key=lambda one: one[:2])[2] if scored else majority(tree)


def _heaviest(nodes: Sequence[Node], weight: Callable[[Node], float]) -> Node | None:
    weights: defaultdict[str, list[float]] = defaultdict(list)
    for node in nodes:
        weights[_answer(node)].append(weight(node))
    # Exact sums: equal weights are equal whatever their order. The first of the equal ones is the earliest.
    chosen = max(weights, key=lambda answer: math.fsum(weights[answer]), default=None)
    return next((node for node in nodes if _answer(node) == chosen), None)


def _answer(node: Node) -> str:
    return (node.answer or "").strip()


def _weight(score: float | None) -> float:
    if score is None or score < 0:
        raise ValueError(f"a score of {score} is no weight: it must not be below 0")
    return score
