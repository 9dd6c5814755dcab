"""What a run may spend, and how workers share it."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.budget import Budget, Grants, Spent

SPENT = Spent(tokens=2_000_000, engine_seconds=1800.0, seconds=60.0)


@pytest.mark.parametrize(
    ("budget", "name"),
    [
        (Budget(), None),
        (Budget(tokens=2_000_001), None),
        (Budget(tokens=2_000_000), "tokens"),
        (Budget(engine_seconds=1800.0), "engine_seconds"),
        (Budget(engine_seconds=1800.1), None),
        (Budget(seconds=60.0), "seconds"),
        (Budget(money=1.0, token_price=0.5), "money"),
        (Budget(money=1.0, token_price=0.4, hour_price=0.4), "money"),
        (Budget(money=1.0, hour_price=2.0), "money"),
        (Budget(money=1.01, hour_price=2.0), None),
        (Budget(token_price=9.0, hour_price=9.0), None),
    ],
)
def test_the_cap_that_is_reached(budget: Budget, name: str | None) -> None:
    assert budget.reached(SPENT) == name


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (Budget(), None),
        (Budget(money=9.0, hour_price=1.0), None),
        (Budget(tokens=2_000_007), 7),
        (Budget(tokens=7), 0),
        (Budget(money=2.0, token_price=0.5), 2_000_000),
        (Budget(money=2.0, token_price=0.5, hour_price=1.0), 1_000_000),
        (Budget(tokens=2_000_007, money=2.0, token_price=0.5), 7),
        (Budget(money=0.5, token_price=0.5), 0),
    ],
)
def test_tokens_that_are_left(budget: Budget, left: int | None) -> None:
    assert budget.tokens_left(SPENT) == left


def test_one_worker_has_all_that_is_left() -> None:
    grants = Grants()
    assert grants.grant("a", 100, active=True) == 100
    grants.answered("a", 60)
    assert grants.grant("a", 40, active=True) == 100


def test_who_has_nothing_to_do_holds_nothing_for_long() -> None:
    grants = Grants()
    grants.grant("a", 100, active=True)
    grants.answered("a", 0)
    assert grants.grant("b", 100, active=True) == 0, "the other holds all of it"
    assert grants.grant("a", 100, active=False) == 0
    assert grants.grant("b", 100, active=True) == 0, "until it has answered"
    grants.answered("a", 0)
    assert grants.grant("b", 100, active=True) == 50


def test_the_dead_hold_nothing() -> None:
    grants = Grants()
    grants.grant("a", 100, active=True)
    grants.gone("a")
    assert grants.grant("b", 100, active=True) == 100


@given(cap=st.integers(1, 5000), workers=st.integers(1, 5), most=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_each_worker_overruns_the_cap_by_one_request_in_flight_at_most(
    cap: int, workers: int, most: int, seed: int
) -> None:
    """Workers spend one request at a time, answer late, idle and die in any order."""
    rng = random.Random(seed)
    grants, told = Grants(), Spent()
    known, spent, heard = (dict.fromkeys(range(workers), 0) for _ in range(3))
    lost = 0
    for _ in range(300):
        name = rng.randrange(workers)
        what = rng.random()
        if what < 0.6 and spent[name] < known[name]:
            spent[name] += rng.randint(1, most)
        elif what < 0.95:
            told = Spent(sum(heard.values()) + lost)
            left = Budget(tokens=cap).tokens_left(told)
            assert left is not None
            granted = grants.grant(str(name), left, active=rng.random() < 0.8)
            if rng.random() < 0.8:  # the call arrives, and is answered
                known[name] = granted
                heard[name] = spent[name]
                grants.answered(str(name), spent[name])
        else:
            grants.gone(str(name))
            lost += spent[name]
            known[name] = spent[name] = heard[name] = 0
    assert sum(spent.values()) + lost < cap + workers * most


@given(cap=st.integers(1, 10**6), workers=st.integers(1, 6), seed=st.integers(0, 2**32))
def test_all_of_it_is_spent_before_long(cap: int, workers: int, seed: int) -> None:
    """Whoever is active gets on: rounds grow with the logarithm of the cap, not with the cap."""
    rng = random.Random(seed)
    grants = Grants()
    spent = [0] * workers
    active = [True, *(rng.random() < 0.5 for _ in range(workers - 1))]
    for _ in range(math.ceil(3 * workers * math.log2(cap + 1)) + 9):
        for name in range(workers):
            known = grants.grant(str(name), max(0, cap - sum(spent)), active=active[name])
            spent[name] = max(spent[name], known)
            grants.answered(str(name), spent[name])
        if sum(spent) >= cap:
            return
    raise AssertionError(spent)


@given(
    money=st.floats(1e-3, 1e9),
    token_price=st.floats(1e-3, 1e6),
    hour_price=st.just(0.0) | st.floats(1e-3, 1e3),
    engine_seconds=st.floats(0, 1e6),
    tokens=st.integers(0, 10**12),
)
def test_where_money_buys_no_token_its_cap_is_reached(
    money: float, token_price: float, hour_price: float, engine_seconds: float, tokens: int
) -> None:
    """Else a run would wait for ever: with nothing left to begin, and no reason to end."""
    budget = Budget(money=money, token_price=token_price, hour_price=hour_price)
    before = Spent(tokens, engine_seconds)
    left = budget.tokens_left(before)
    assert left is not None
    assert (left == 0) == (budget.reached(before) == "money")
    assert budget.reached(Spent(tokens + left + 1, engine_seconds)) == "money"
