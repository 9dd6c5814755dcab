"""Algebra in a real sandbox: what sympy decides, and inputs that hang or grow, which are ended in time."""

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factory.errors import VerifierError
from factory.types import Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import verdicts
from factory.verifiers.math.jailed import JailedAlgebra
from factory.verifiers.math.options import Options
from factory.verifiers.math.verifier import MathVerifier

DEADLINE = 1.0
SUM = "\\begin{pmatrix}1&2\\end{pmatrix}+\\begin{pmatrix}5&6\\end{pmatrix}"
HANGING = [
    "9^{9^{9^{9}}}",
    "(10^{10})!",
    "\\dfrac{5^{\\left(5^{\\left(5^{\\left(5^5\\right)}\\right)} - 4\\right)} - 5}{16}",  # huggingface/Math-Verify 65
    "\\sum_{k=1}^{10^{12}} \\sin(k)",
]


@pytest.fixture(scope="module")
def algebra() -> Iterator[JailedAlgebra]:
    algebra = JailedAlgebra()
    try:
        algebra("x", "x", Options(), 5.0)
    except VerifierError as error:
        pytest.skip(f"no sandbox: {error}")
    yield algebra
    algebra.close()


def judged(algebra: JailedAlgebra, gold: str, pred: str, **params: object) -> Verdict:
    problem = Problem("p", (), gold, (Check("math", params),), "test")
    attempt = Attempt((Span(f"\\boxed{{{pred}}}", Origin.SAMPLED),))
    return verdicts({"math": MathVerifier(algebra)}, problem, attempt)[0]


@pytest.mark.parametrize(
    ("gold", "pred", "outcome"),
    [
        ("\\tan^2(y)+1", "\\sec^2(y)", Outcome.PASS),
        ("96-10\\sqrt{21}", "\\frac{6\\sqrt{1789-240\\sqrt{21}}+8\\sqrt{1236-240\\sqrt{21}}}{5}", Outcome.PASS),
        ("F_n = \\sum_{k=0}^{n-1} F_k F_{n-k-1}", "F_n = \\sum_{k=0}^{n-1} F_{n-k-1} F_k", Outcome.PASS),
        ("F_n = \\sum_{k=0}^{n-1} F_k F_{n-k-1}", "F_n = \\sum_{k=0}^{n-2} F_k F_{n-k-2}", Outcome.FAIL),
        (
            "\\begin{pmatrix}6&8\\end{pmatrix}",
            "\\begin{pmatrix}1&2\\end{pmatrix}+\\begin{pmatrix}5&6\\end{pmatrix}",
            Outcome.PASS,
        ),
        (
            "\\begin{pmatrix}6&9\\end{pmatrix}",
            "\\begin{pmatrix}1&2\\end{pmatrix}+\\begin{pmatrix}5&6\\end{pmatrix}",
            Outcome.FAIL,
        ),
        ("x^2+y^2=1", "(x+y)^2-2xy=1", Outcome.PASS),
        ("x^2+y^2=1", "x^2+y^2=2", Outcome.FAIL),
        ("\\sum_{k=1}^{n} k", "\\frac{n(n+1)}{2}", Outcome.PASS),
        ("\\int_0^1 x^2 dx", "1/3", Outcome.PASS),
        ("3", "\\log_2 8", Outcome.PASS),
        ("3", "\\frac{\\log 8}{\\log 2}", Outcome.PASS),
        ("\\log 2", "\\ln 2", Outcome.UNKNOWN),
        ("\\log 2", "0.301029995663981", Outcome.UNKNOWN),
        ("\\log 2", "0.5", Outcome.FAIL),
        ("\\sin(1)^{10^6}", "\\sin(1)^{10^6+1}", Outcome.FAIL),
        ("2^{10^5}", "2^{10^5+1}", Outcome.FAIL),
        ("1/2x", "x/2", None),
        ("(0,9)\\cup(9,36)", "(-9,0)\\cup(9,36)", Outcome.FAIL),
        ("\\sqrt{1/n}", "\\frac{1}{\\sqrt{n}}", None),  # 64: true of what n stands for there, but not of every n
    ],
)
def test_what_takes_algebra(algebra: JailedAlgebra, gold: str, pred: str, outcome: Outcome | None) -> None:
    verdict = judged(algebra, gold, pred)
    assert verdict.outcome is outcome or (outcome is None and verdict.outcome is not Outcome.FAIL), verdict
    assert "Error" not in verdict.evidence


def test_options_hold_in_algebra_too(algebra: JailedAlgebra) -> None:
    exact = "\\int_0^1 e^{x} dx"
    assert judged(algebra, exact, "1.7183").outcome is Outcome.FAIL
    assert judged(algebra, exact, "1.7183", tolerance=0.001).outcome is Outcome.PASS
    assert judged(algebra, exact, "1.7183", rounding=4).outcome is Outcome.PASS
    assert judged(algebra, exact, "1.718281828459045").outcome is Outcome.PASS


@pytest.mark.parametrize("hostile", HANGING)
def test_what_hangs_is_ended_and_unknown(algebra: JailedAlgebra, hostile: str) -> None:
    verdict = judged(algebra, "5", hostile, deadline=DEADLINE)
    assert verdict.outcome is not Outcome.PASS, verdict
    assert verdict.outcome is Outcome.UNKNOWN or "algebra" not in verdict.evidence, verdict


def test_the_deadline_is_kept_within_half_a_second(algebra: JailedAlgebra) -> None:
    """Of processor time, which is what the deadline is of; a busy machine may take longer by the clock."""
    start, before = time.perf_counter(), time.process_time()
    with pytest.raises(VerifierError, match="takes too long"):
        algebra("5", HANGING[0], Options(), DEADLINE)
    assert time.process_time() - before < 0.5
    assert time.perf_counter() - start < 3 * DEADLINE + 2.0


@pytest.mark.parametrize("piece", ["x+", "\\frac{1}{", "9", "2^", "\\sqrt{", "x!", "{", "\\left(", "1,"])
def test_a_hundred_thousand_characters_are_judged_at_once(algebra: JailedAlgebra, piece: str) -> None:
    text = (piece * 100_000)[:100_000]
    start = time.process_time()
    for gold, pred in (("5", text), (text, "5")):
        assert judged(algebra, gold, pred, deadline=DEADLINE).outcome is not Outcome.PASS
    assert time.process_time() - start < 2.0


def test_threads_and_tasks_ask_at_once(algebra: JailedAlgebra) -> None:
    def one(number: int) -> Outcome:
        assert threading.current_thread() is not threading.main_thread()
        return judged(algebra, "\\sin^2(x)+\\cos^2(x)", f"{number}/1").outcome

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [Outcome.FAIL, Outcome.PASS, Outcome.FAIL, Outcome.FAIL]

    async def several() -> list[Outcome]:
        return await asyncio.gather(*(asyncio.to_thread(one, number) for number in range(2)))

    assert asyncio.run(several()) == [Outcome.FAIL, Outcome.PASS]


def test_it_goes_to_other_processes_without_its_sandbox(algebra: JailedAlgebra) -> None:
    copied = pickle.loads(pickle.dumps(algebra))  # noqa: S301 - its own
    assert isinstance(copied, JailedAlgebra)
    copied.close()


FORMULA = st.recursive(
    st.sampled_from(["x", "y", "n", "2", "9", "10", "0.5", "\\pi", "e", "99999", "i", "\\infty"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: f"\\frac{{{two[0]}}}{{{two[1]}}}"),
        st.tuples(inner, inner).map(lambda two: f"({two[0]})^{{{two[1]}}}"),
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda three: f"({three[0]}{three[1]}{three[2]})"),
        inner.map(lambda one: f"\\sqrt{{{one}}}"),
        inner.map(lambda one: f"({one})!"),
        inner.map(lambda one: f"\\sin({one})"),
        inner.map(lambda one: f"\\log({one})"),
        inner.map(lambda one: f"\\int_0^1 {one} dx"),
        inner.map(lambda one: f"\\sum_{{k=1}}^{{10}} {one}"),
        inner.map(lambda one: f"\\begin{{pmatrix}}{one}&1\\end{{pmatrix}}"),
        inner.map(lambda one: f"x={one}"),
    ),
    max_leaves=6,
)


@given(gold=FORMULA, pred=FORMULA)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_formula_is_decided_or_is_trouble(algebra: JailedAlgebra, gold: str, pred: str) -> None:
    trouble = ""
    try:
        algebra(gold, pred, Options(), 0.5)
    except VerifierError as error:
        trouble = str(error)
    assert trouble in {"", "algebra: it takes too long", "algebra: it takes too much memory"}
