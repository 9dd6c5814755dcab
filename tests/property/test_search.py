"""A search sees outcomes in any order and grouping, and what counts hangs on none of it."""

import heapq
import random
from dataclasses import dataclass
from statistics import fmean

from hypothesis import given
from hypothesis import strategies as st

from factory.search.base import Ending, Grown, Search
from factory.search.best_of_n import best_of_n
from factory.stats import pass_rate_stopped
from factory.types import ROOT, Aspect, Node, NodeState, Origin, Outcome, StopReason, Verdict

RIGHT, WRONG, UNKNOWN, CUT = "right", "wrong", "unknown", "cut"
OUTCOMES = {RIGHT: Outcome.PASS, WRONG: Outcome.FAIL, UNKNOWN: Outcome.UNKNOWN}


def attempt(id: int, what: str) -> Node:
    verdicts = (Verdict("hand", "1", Aspect.ANSWER, OUTCOMES[what], None, "", 0.0),) if what in OUTCOMES else ()
    state = NodeState.TRUNCATED if what == CUT else NodeState.FINISHED
    return Node(id, ROOT, what, None, None, Origin.SAMPLED, state, None, verdicts, True, 1, 1, None, 0.0)


@dataclass
class Played:
    """One search, played to its end."""

    ending: Ending
    asked: list[int]
    came: list[int]
    most_outstanding: int
    cancelled: set[int]


def play(search: Search, outcomes: list[str], order: random.Random, heeds: float) -> Played:
    """Play a search: attempts come back in a random order and grouping.

    `heeds`: the chance that a cancelled attempt comes back without a node; it may have finished in the same moment.
    """
    outstanding: dict[int, Grown] = {}
    cancelled: set[int] = set()
    played = Played(Ending(StopReason.ERROR, frozenset()), [], [], 0, cancelled)
    try:
        wants = next(search)
        while True:
            assert set(wants.cancel) <= outstanding.keys()
            assert all(expansion.parent == ROOT for expansion in wants.expand)
            cancelled |= set(wants.cancel)
            played.asked += [expansion.id for expansion in wants.expand]
            outstanding |= {one.id: Grown(one, attempt(one.id, outcomes[one.id - 1])) for one in wants.expand}
            played.most_outstanding = max(played.most_outstanding, len(outstanding))
            together = order.sample(sorted(outstanding), order.randint(1, len(outstanding)))
            played.came += together
            back = [outstanding.pop(id) for id in together]
            wants = search.send(
                tuple(
                    Grown(one.expansion, None) if one.expansion.id in cancelled and order.random() < heeds else one
                    for one in back
                )
            )
    except StopIteration as stop:
        played.ending = stop.value
        assert not outstanding
    return played


def expected(outcomes: list[str], stop_at: int | None) -> Ending:
    """What counts, from the outcomes alone: attempts in the order of submission, up to the k-th right one."""
    right = [id for id, what in enumerate(outcomes, start=1) if what == RIGHT]
    if stop_at is not None and len(right) >= stop_at:
        return Ending(StopReason.SOLVED, frozenset(range(1, right[stop_at - 1] + 1)))
    solved = stop_at is None and bool(right)
    return Ending(StopReason.SOLVED if solved else StopReason.EXHAUSTED, frozenset(range(1, len(outcomes) + 1)))


@given(
    outcomes=st.lists(st.sampled_from([RIGHT, WRONG, UNKNOWN, CUT]), min_size=1, max_size=12),
    wave=st.none() | st.integers(1, 12),
    stop_at=st.none() | st.integers(1, 4),
    seed=st.integers(0, 2**32),
    heeds=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_order_and_grouping_decide_nothing(
    outcomes: list[str], wave: int | None, stop_at: int | None, seed: int, heeds: float
) -> None:
    played = play(best_of_n(len(outcomes), wave, stop_at), outcomes, random.Random(seed), heeds)
    assert played.ending == expected(outcomes, stop_at)
    assert played.asked == list(range(1, len(played.asked) + 1))
    assert sorted(played.came) == played.asked, "all that was asked for came back once"
    assert played.most_outstanding <= min(wave or len(outcomes), len(outcomes))
    assert not played.cancelled & played.ending.counted
    assert len(played.asked) >= len(played.ending.counted)


def test_the_pass_rate_is_unbiased_where_right_answers_are_fast() -> None:
    """Right answers take a tenth of the time of wrong ones, so counting them as they come would favour them.

    2,000 searches at p = 0.3, k = 2, waves of 8 out of 200 (so that practically none is exhausted). The variance of
    (k - 1) / (n - 1) is about 0.05, so the mean's standard error is about 0.005 and 0.02 is four of them; the plain
    share k / n, which is biased, lies far outside, which shows that the test can tell.
    """
    rng = random.Random(20_240_501)
    p, k, searches = 0.3, 2, 2000
    lengths = [attempts_until(best_of_n(200, 8, k), p, rng) for _ in range(searches)]
    assert abs(fmean(pass_rate_stopped(n, k) for n in lengths) - p) < 0.02
    assert fmean(k / n for n in lengths) - p > 0.05


def attempts_until(search: Search, p: float, rng: random.Random) -> int:
    """How many attempts count in a search whose attempts are right with chance `p`, by the clock."""
    clock = 0.0
    running: list[tuple[float, int, Grown]] = []
    try:
        wants = next(search)
        while True:
            for one in wants.expand:
                right = rng.random() < p
                took = rng.expovariate(1.0) * (0.1 if right else 1.0)
                heapq.heappush(running, (clock + took, one.id, Grown(one, attempt(one.id, RIGHT if right else WRONG))))
            gone = [entry[2] for entry in running if entry[1] in wants.cancel]
            if gone:
                running = [entry for entry in running if entry[1] not in wants.cancel]
                heapq.heapify(running)
                wants = search.send(tuple(Grown(one.expansion, None) for one in gone))
            else:
                clock, _, first = heapq.heappop(running)
                wants = search.send((first,))
    except StopIteration as stop:
        ending: Ending = stop.value
        assert ending.stop is StopReason.SOLVED
        return len(ending.counted)
