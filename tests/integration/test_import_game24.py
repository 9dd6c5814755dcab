"""Search trees of the Game of 24: every kept path is played here, by code that shares nothing with what kept it."""

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from factory.runs import open_run
from pipelines import build
from tests.imported import DATA, FILES, VARIANTS, brought_in

TREE = next(file for file in FILES if file.spec == "game24_tree")
STEP = re.compile(r"([\d.]+) ([-+*/]) ([\d.]+) = ([\d.]+) \(left: ([\d. ]+)\)(?: \(repeated\))?")
SIGNS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
NODES = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@pytest.fixture(autouse=True, scope="module")
def _closed() -> Iterator[None]:
    """What is imported in this process leaves no sandbox behind in it."""
    yield
    build.close_jails()


def value(node: ast.expr) -> Fraction:
    """Of an expression of whole numbers and the four operations."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value)
    assert isinstance(node, ast.BinOp), ast.dump(node)
    return SIGNS[NODES[type(node.op)]](value(node.left), value(node.right))


def numbers(node: ast.expr) -> Counter[Fraction]:
    return Counter(value(one) for one in ast.walk(node) if isinstance(one, ast.Constant))


def played(given: Counter[Fraction], line: str) -> Counter[Fraction]:
    """The numbers after a step. Fails where it is no step from these numbers."""
    found = STEP.fullmatch(line)
    assert found is not None, line
    left, right, made = (Fraction(found[group]) for group in (1, 3, 4))
    assert Counter([left, right]) <= given, line
    assert SIGNS[found[2]](left, right) == made, line
    after = given - Counter([left, right]) + Counter([made])
    assert after == Counter(map(Fraction, found[5].split())), line
    return after


def assert_makes_24(given: Counter[Fraction], text: str) -> None:
    """Step by step, and by the answer."""
    *steps, answer = text.strip().split("\n")
    state = given
    for line in steps:
        state = played(state, line)
    assert state == Counter([Fraction(24)])
    expression = ast.parse(answer.removeprefix("Answer: ").removesuffix(" = 24"), mode="eval").body
    assert numbers(expression) == given
    assert value(expression) == 24


def test_the_player_sees_what_is_wrong() -> None:
    given = Counter(map(Fraction, (4, 5, 6, 10)))
    right = (
        "4 * 5 = 20 (left: 6 10 20)\n10 - 6 = 4 (left: 4 20)\n4 + 20 = 24 (left: 24)\nAnswer: (4 * 5) + (10 - 6) = 24\n"
    )
    assert_makes_24(given, right)
    for old, new in (
        ("= 4 (", "= 5 ("),
        ("left: 24", "left: 4 24"),
        ("(4 * 5)", "(4 * 5 * 1)"),
        ("10 - 6)", "6 - 10)"),
    ):
        with pytest.raises(AssertionError):
            assert_makes_24(given, right.replace(old, new))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared data are not at {DATA}")
def test_every_kept_path_uses_each_number_once_and_makes_24(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    figures = brought_in(TREE, DATA / TREE.path, out)
    assert figures.faults == []
    assert figures.claims == {"agree": figures.in_file}
    kept = list(open_run(out).transcripts())
    assert {one.variant for one in kept} == set(VARIANTS)
    for one in kept:
        given = re.search(r"numbers ([\d ]+) and", one.problem.messages[-1].content)
        assert given is not None
        assert_makes_24(Counter(map(Fraction, given[1].split())), one.text)
