"""Tree searches hold their contract whatever comes back, in whatever order and grouping."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.search.beam import beam
from factory.search.dvts import dvts
from factory.search.growth import Step, is_right
from factory.search.mcts import Puct, mcts
from factory.search.value import Aggregate, Valuation
from factory.types import ROOT, Node, NodeState, StopReason
from tests.handmade import CUT, GONE, RIGHT, UNKNOWN, WRONG, leaf, step

AGGREGATES: list[Aggregate] = ["last", "min", "product", "mean"]


@dataclass(frozen=True)
class Case:
    """A strategy with its parameters, and the most generations that it may ask for."""

    make: Callable[[], Search]
    most: int
    stop_at: int | None
    scores: bool
    told: str = field(compare=False)

    def __repr__(self) -> str:
        return self.told


valuations = st.builds(Valuation, st.sampled_from(AGGREGATES), st.sampled_from([0, 0, 1, 3]))
steps = st.builds(Step, st.just(("\n",)), st.none() | st.just(7))
stops = st.none() | st.integers(1, 3)


@st.composite
def beams(draw: st.DrawFn) -> Case:
    which = draw(st.sampled_from([beam, dvts]))
    walk, how, stop_at = draw(steps), draw(valuations), draw(stops)
    width, branch, most_steps = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    inner = width * branch * (most_steps - 1) * (1 + how.rollouts)
    return Case(
        lambda: which(walk, how, width, branch, most_steps, stop_at),
        inner + width * branch,
        stop_at,
        not how.rollouts,
        f"{which.__name__}({walk}, {how}, {width}, {branch}, {most_steps}, {stop_at})",
    )


@st.composite
def trees(draw: st.DrawFn) -> Case:
    walk, how, stop_at = draw(steps), draw(valuations), draw(stops)
    puct = draw(
        st.builds(
            Puct,
            st.sampled_from([0.0, 1.0, 10.0]),
            st.sampled_from([0.5, 1.0, 3.0]),
            st.sampled_from([0.0, 0.5, 1.0]),
            st.sampled_from(["samples", "logprob"]),
        )
    )
    most, parallel, most_steps = draw(st.integers(9, 40)), draw(st.integers(1, 8)), draw(st.integers(1, 5))
    return Case(
        lambda: mcts(walk, how, puct, most, parallel, most_steps, stop_at),
        most,
        stop_at,
        not how.rollouts,
        f"mcts({walk}, {how}, {puct}, {most}, {parallel}, {most_steps}, {stop_at})",
    )


cases = st.one_of(beams(), trees())


@dataclass
class Played:
    """A search that was played to its end."""

    ending: Ending
    wants: list[Wants]
    sent: list[tuple[Grown, ...]]
    nodes: dict[int, Node]
    """In the order in which they came back."""


def play(case: Case, chance: random.Random, heeds: float) -> Played:
    """`heeds`: the chance that a cancelled expansion comes back without a node; it may just have ended."""
    outstanding: dict[int, Expansion] = {}
    cancelled: set[int] = set()
    search = case.make()
    wants = next(search)
    played = Played(Ending(StopReason.ERROR, frozenset()), [wants], [], {})
    asked = 0
    while True:
        for one in wants.expand:
            asked += 1
            assert one.id == asked
            assert one.parent == ROOT or played.nodes[one.parent].state is NodeState.OPEN
            assert not cancelled, "nothing is asked for after the end"
            outstanding[one.id] = one
        assert set(wants.cancel) <= outstanding.keys()
        assert not set(wants.cancel) & cancelled, "once is enough"
        cancelled |= set(wants.cancel)
        assert outstanding, "it waits for something"
        together = chance.sample(sorted(outstanding), chance.randint(1, len(outstanding)))
        back = tuple(came(outstanding.pop(id), chance, id in cancelled and chance.random() < heeds) for id in together)
        played.sent.append(back)
        played.nodes |= {one.node.id: one.node for one in back if one.node is not None}
        try:
            wants = search.send(back)
        except StopIteration as stop:
            played.ending = stop.value
            assert not outstanding
            return played
        played.wants.append(wants)


def came(one: Expansion, chance: random.Random, is_cancelled: bool) -> Grown:
    """Few texts, so that there are twins; scores may be missing; whole turns end, steps mostly do not."""
    if is_cancelled or chance.random() < 0.02:
        return Grown(one, None)
    is_step = bool(one.stop) or one.max_tokens is not None
    if is_step and chance.random() < 0.7:
        score = chance.choice([None, 0.0, 0.3, 0.9, 1.0]) if one.score else None
        logprob = chance.choice([None, -0.1, -900.0])
        return Grown(one, step(one, chance.choice("abcde"), score, logprob))
    return Grown(one, leaf(one, chance.choice([RIGHT, WRONG, WRONG, UNKNOWN, CUT, GONE])))


chances = st.randoms(use_true_random=False)


@given(cases, chances, st.sampled_from([0.0, 0.5, 1.0]))
def test_the_contract_holds_whatever_comes_back(case: Case, chance: random.Random, heeds: float) -> None:
    played = play(case, chance, heeds)
    asked = [one for wants in played.wants for one in wants.expand]
    assert len(asked) <= case.most
    if case.told.startswith("mcts") and not any(wants.cancel for wants in played.wants):
        stopped = case.stop_at is not None and played.ending.stop is StopReason.SOLVED
        assert stopped or len(asked) == case.most, "to the last generation"
    assert any(one.score for one in asked) <= case.scores
    leaves = [id for id, node in played.nodes.items() if node.state is not NodeState.OPEN]
    right = [id for id in leaves if is_right(played.nodes[id])]
    if case.stop_at is not None and len(right) >= case.stop_at:
        last = right[case.stop_at - 1]  # in the order in which they came
        assert played.ending == Ending(StopReason.SOLVED, frozenset(leaves[: leaves.index(last) + 1]))
    else:
        solved = bool(right) and case.stop_at is None
        assert played.ending == Ending(StopReason.SOLVED if solved else StopReason.EXHAUSTED, frozenset(leaves))


@given(cases, chances)
def test_the_same_nodes_in_the_same_order_give_the_same_wants(case: Case, chance: random.Random) -> None:
    played = play(case, chance, 0.5)
    again = case.make()
    assert next(again) == played.wants[0]
    for sent, wants in zip(played.sent, played.wants[1:], strict=False):
        assert again.send(sent) == wants
    with pytest.raises(StopIteration) as stop:
        again.send(played.sent[-1])
    assert stop.value.value == played.ending


@given(cases, chances)
def test_what_comes_together_is_as_if_it_came_one_by_one(case: Case, chance: random.Random) -> None:
    """Up to the stop: what a group would still ask for before its last right leaf is never asked for."""
    played = play(case, chance, 0.5)
    singly = case.make()
    asked = list(next(singly).expand)
    ending: Ending | None = None
    for one in (one for sent in played.sent for one in sent):
        try:
            wants = singly.send((one,))
        except StopIteration as stop:
            ending = stop.value
            break
        if wants.cancel:
            return
        asked += wants.expand
    assert ending == played.ending
    assert asked == [one for wants in played.wants for one in wants.expand]


@given(width=st.integers(1, 4), branch=st.integers(1, 3), most_steps=st.integers(1, 5), tokens=steps, chance=chances)
def test_every_step_of_a_beam_is_as_wide_and_holds_no_text_twice(
    width: int, branch: int, most_steps: int, tokens: Step, chance: random.Random
) -> None:
    most = width * branch * most_steps
    case = Case(lambda: beam(tokens, Valuation(), width, branch, most_steps), most, None, scores=True, told="beam")
    played = play(case, chance, 0.0)
    text = {ROOT: ""}
    for id, node in sorted(played.nodes.items()):
        text[id] = text[node.parent] + node.text
    widths = [len(wants.expand) for wants in played.wants if wants.expand]
    assert widths == [width * branch] * len(widths)
    kept = [{one.parent for one in wants.expand} for wants in played.wants]
    assert all(len(parents) <= width for parents in kept)
    continued = [text[id] for parents in kept for id in parents]
    assert len(set(continued)) == len(continued), "no text is continued twice"
