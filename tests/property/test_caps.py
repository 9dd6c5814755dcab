"""A capped problem, through real rollouts: what it may cost, and that a stop and a higher cap pay for nothing twice."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from factory.search.base import Search
from factory.search.best_of_n import best_of_n
from factory.search.caps import Caps, capped
from factory.types import Problem, StopReason
from tests.property.test_rollout_property import Setting, check_invariants, delays, journaled
from tests.rig import POLICY

PLACES = 4
MOST = POLICY.sampling.max_tokens + 1


def setting(number: int, wave: int, cap: int | None) -> Setting:
    def search(_: Problem) -> Search:
        return capped(best_of_n(12, wave), Caps(tokens=cap), lambda: 0.0)

    return Setting(number, search, PLACES)


@given(number=st.integers(0, 999), wave=st.integers(1, 8), cap=st.integers(1, 400), delay=delays)
def test_a_cap_is_overrun_by_what_is_in_flight_only(number: int, wave: int, cap: int, delay: int) -> None:
    tree, asked = asyncio.run(setting(number, wave, cap).run(delay))
    check_invariants(tree)
    assert tree.cost.generated_tokens < cap + wave * MOST
    assert all(node.counted for node in tree.nodes), "what was begun counts"
    if len(asked) < 12:
        assert tree.cost.generated_tokens >= cap
        assert tree.stop is StopReason.CAPPED or any(node.outcome == "pass" for node in tree.nodes)


@given(
    number=st.integers(0, 999),
    wave=st.integers(1, 8),
    cap=st.integers(1, 400),
    higher=st.none() | st.integers(1, 800),
    delay=delays,
    after=st.integers(0, 60),
)
def test_what_was_stopped_goes_on_under_a_higher_cap(
    number: int, wave: int, cap: int, higher: int | None, delay: int, after: int
) -> None:
    stopped = asyncio.run(setting(number, wave, cap).interrupted(delay, after))
    recorded = journaled(stopped).nodes
    tree, asked = asyncio.run(setting(number, wave, higher).run(delay + 1, recorded))
    check_invariants(tree)
    have = {node.id for node in recorded}
    assert not have & set(asked)
    assert have <= {node.id for node in tree.nodes}
    if higher is None:
        assert len(tree.nodes) == 12
