"""Answers of any shape: nothing crashes or hangs, an answer equals itself in other dress, sides can change places.

Algebra is a fake that never decides, so that what is tried here are the exact rules alone.
"""

import time
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from factory.types import Attempt, Check, Origin, Outcome, Problem, Span
from factory.verifiers.math.comparing import compare
from factory.verifiers.math.extract import extract
from factory.verifiers.math.options import Decision, Options
from factory.verifiers.math.verifier import MathVerifier

WORDS = (
    r"\frac \sqrt \boxed \text \left \right \begin{pmatrix} \end{pmatrix} \\ & \pm \cup \in \leq \approx \infty \pi "
    r"\sin \log \binom \lfloor \rfloor \circ \quad \, { } ( ) [ ] \{ \} | $ $$ , ; : = < ^ _ ! + - * / % \% ** ... "
    r"0 1 7 12 1000 0.5 1e9 x y e i f A AB and or cm the is ^{9^{9^{9}}} !!! ½ ² ∞ √ − </think>"
)
PIECES = st.sampled_from([*WORDS.split(), " ", "\n"])
SOUP = st.one_of(
    st.lists(PIECES, max_size=40).map("".join),
    st.text(max_size=200),
    st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=40).map("".join),
)
NUMBERS = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000)
OPTIONS = st.builds(
    Options,
    order=st.sampled_from(["as written", "keep", "any"]),
    units=st.sampled_from(["strip", "require"]),
    percent=st.sampled_from(["either", "value", "sign"]),
    tolerance=st.sampled_from([None, 0.01]),
    rounding=st.sampled_from([None, 0, 3]),
)


def undecided(gold: str, pred: str, options: Options, deadline: float) -> Decision:
    return Decision(None, "algebra was asked")


VERIFIER = MathVerifier(undecided)


def judged(gold: str, text: str) -> Outcome:
    problem = Problem("p", (), gold, (Check("math"),), "test")
    (finding,) = VERIFIER.judge(problem, {}, Attempt((Span(text, Origin.SAMPLED),)))
    return finding.outcome


def latex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    if value.denominator == 1:
        return f"{sign}{abs(value.numerator)}"
    return f"{sign}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def mixed(value: Fraction) -> str:
    whole, part = divmod(abs(value), 1)
    sign = "-" if value < 0 else ""
    if not part:
        return f"{sign}{whole:,}"
    fraction = f"\\frac{{{part.numerator}}}{{{part.denominator}}}"
    return f"{sign}{whole or ''}{fraction}"


@given(SOUP, SOUP, OPTIONS)
@settings(max_examples=400, deadline=None)
def test_anything_is_decided_quickly_and_without_a_crash(gold: str, pred: str, options: Options) -> None:
    start = time.process_time()
    decision = compare(gold, pred, options)
    assert time.process_time() - start < 0.5
    assert decision.rule
    assert not (decision.ask and decision.equal is not None)


@given(SOUP)
@settings(max_examples=300, deadline=None)
def test_anything_is_judged(text: str) -> None:
    assert judged("5", text) in set(Outcome)
    found = extract(text)
    assert found is None or found.answer


@given(SOUP)
@settings(max_examples=300, deadline=None)
def test_an_answer_is_not_different_from_itself(text: str) -> None:
    assert compare(text, text).equal is not False or not text.strip(" $")


@given(SOUP, SOUP)
@settings(max_examples=300, deadline=None)
def test_sides_can_change_places(one: str, other: str) -> None:
    """Never the one way equal and the other way different; choices alone are not symmetric, since a reference that is
    a letter asks for a letter."""
    there, back = compare(one, other), compare(other, one)
    if "choice" not in {there.rule, back.rule} and "empty" not in {there.rule, back.rule}:
        assert {there.equal, back.equal} != {True, False}, (there, back)


@given(NUMBERS)
def test_a_number_equals_itself_in_other_dress(value: Fraction) -> None:
    plain = f"{value.numerator}/{value.denominator}"
    for dressed in (
        latex(value),
        mixed(value),
        f"${latex(value)}$",
        f"x = {latex(value)}",
        f"\\left({latex(value)}\\right)",
    ):
        assert compare(plain, dressed).equal is True, dressed
    assert judged(plain, f"Some thoughts, 17 of them.\n\nSo it is $\\boxed{{{latex(value)}}}$.") is Outcome.PASS
    assert judged(plain, f"Some thoughts, 17 of them.\n\nThe answer is ${latex(value)}$.") is Outcome.PASS


@given(NUMBERS, NUMBERS)
def test_other_numbers_are_different(one: Fraction, other: Fraction) -> None:
    assert compare(latex(one), mixed(other)).equal is (one == other)
    # An answer without its percent sign is forgiven, and 50% is 0.5; nothing else is.
    percent = compare(f"{latex(one)}\\%", latex(other)).equal
    assert percent is (other in {one, one / 100})


@given(st.lists(NUMBERS, min_size=2, max_size=6, unique=True))
def test_lists_have_no_order_and_tuples_have_one(values: list[Fraction]) -> None:
    written = [latex(value) for value in values]
    shuffled = written[::-1]
    assert compare(", ".join(written), ", ".join(shuffled)).equal is True
    assert compare(f"\\{{{', '.join(written)}\\}}", " \\text{ and } ".join(shuffled)).equal is True
    assert compare(f"({', '.join(written)})", f"({', '.join(written)})").equal is True
    assert compare(f"({', '.join(written)})", f"({', '.join(shuffled)})").equal is False
    assert compare(", ".join(written), ", ".join(written[1:])).equal is False


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(-9, 9))
def test_polynomials_are_compared_as_functions(roots: list[int], extra: int) -> None:
    factored = "".join(f"(x-{root})" if root >= 0 else f"(x+{-root})" for root in roots)
    coefficients = [1]
    for root in roots:
        shifted = [*coefficients, 0]
        coefficients = [a - root * b for a, b in zip(shifted, [0, *coefficients], strict=True)]
    degree = len(roots)
    expanded = "+".join(f"({c})x^{{{degree - place}}}" for place, c in enumerate(coefficients))
    assert compare(factored, expanded).equal is True
    assert compare(factored, f"{expanded}+({extra})").equal is (extra == 0)
