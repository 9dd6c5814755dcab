"""Forecasts of sums: what is known is certain, and intervals hold the whole as often as they say."""

import random
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest

from factory.forecast import LEAST, amount, count, rate
from factory.stats import Interval

Forecast = Callable[..., Interval]

WHOLE, PILOT, TRIALS = 400, 32, 100

DISTRIBUTIONS: dict[str, tuple[Forecast, Callable[[random.Random], float]]] = {
    "even tokens": (amount, lambda rng: rng.gauss(2000, 200)),
    "long tail": (amount, lambda rng: rng.lognormvariate(7, 0.8)),
    "all or little": (amount, lambda rng: rng.choice([100, 2000])),
    "solved in half": (count, lambda rng: float(rng.random() < 0.5)),
    "solved in few": (count, lambda rng: float(rng.random() < 0.06)),
    "solved in most": (count, lambda rng: float(rng.random() < 0.96)),
    "some of many": (count, lambda rng: float(rng.random() < 0.4) * rng.randint(1, 8)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_eight_of_ten_intervals_hold_the_whole(name: str) -> None:
    """100 pilots: the standard error is 0.04. A skewed distribution costs a pilot of 32 some coverage."""
    forecast, draw = DISTRIBUTIONS[name]
    rng = random.Random(11)
    held = []
    for seed in range(TRIALS):
        values = [draw(rng) for _ in range(WHOLE)]
        found = forecast(values[:PILOT], WHOLE, seed=seed)
        held.append(found.low <= sum(values) <= found.high)
    assert 0.8 - 0.13 <= fmean(held) <= 0.8 + 0.13


@pytest.mark.parametrize("forecast", [amount, count])
def test_a_pilot_of_everything_is_certain(forecast: Forecast) -> None:
    values = [float(number % 3) for number in range(20)]
    found = forecast(values, 20)
    assert (found.value, found.low, found.high) == pytest.approx((sum(values),) * 3)


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, 0.0, 40.0), (1.0, 80.0, 100.0)])
def test_a_pilot_without_exception_is_not_certain(value: float, low: float, high: float) -> None:
    found = count([value] * 10, 100)
    assert found.value == value * 100
    assert low <= found.low < found.high <= high
    assert found.high - found.low > 2


def test_time_is_work_over_speed() -> None:
    work = [100.0 + number for number in range(20)]
    speeds = [(one, one / 50.0) for one in work]
    found = rate(work, 2000, speeds)
    assert found.value == pytest.approx(fmean(work) * 2000 / 50.0)
    tokens = amount(work, 2000)
    assert found.low == pytest.approx(tokens.low / 50.0, rel=0.02)
    assert found.high == pytest.approx(tokens.high / 50.0, rel=0.02)


def test_a_speed_that_varies_widens_the_interval() -> None:
    work = [100.0] * 20
    speeds = [(100.0, 1.0 if number % 2 else 3.0) for number in range(20)]
    found = rate(work, 200, speeds)
    assert found.value == pytest.approx(200 * 2.0)
    assert found.high - found.low > 0.1 * found.value


@pytest.mark.parametrize("values", [[1.0] * (LEAST - 1), [1.0] * 11])
def test_what_tells_nothing_is_refused(values: Sequence[float]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        amount(values, 10)
