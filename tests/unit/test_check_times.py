"""What is counted of checks: reasons, their number, and percentiles without remembering every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.check_times import KINDS, Checks, reason_of


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ("VerifierError: the sandbox had trouble: run 17 was lost", "VerifierError: the sandbox had trouble"),
        ("RuntimeError: odd", "RuntimeError: odd"),
        ("KeyError", "KeyError"),
        ("unreadable: \\frac{", "unreadable"),
        ("not simplified", "not simplified"),
        ("", ""),
    ],
)
def test_reasons(evidence: str, reason: str) -> None:
    assert reason_of(evidence) == reason


def test_reasons_without_end_are_counted_together() -> None:
    checks = Checks()
    for number in range(KINDS + 50):
        checks.add("unknown", f"reason {number}", 0.0)
    checks.add("unknown", "reason 0", 0.0)
    assert len(checks.reasons) == KINDS + 1
    assert (checks.reasons["other"], checks.reasons["reason 0"]) == (50, 2)


@given(st.lists(st.floats(0, 1e5), min_size=1), st.floats(0.01, 1))
def test_percentiles(times: list[float], share: float) -> None:
    checks = Checks()
    for seconds in times:
        checks.add("pass", "", seconds)
    exact = next(one for place, one in enumerate(sorted(times), 1) if place >= share * len(times))
    assert checks.percentile(share) == pytest.approx(exact, rel=0.026, abs=2e-7)
    assert checks.percentile(share) <= checks.longest == max(times)


def test_of_nothing_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no checks"):
        Checks().percentile(0.95)
