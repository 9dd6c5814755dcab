"""The Countdown verifier on generated chains, on chains with one number changed, and on anything at all."""

import re
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from factory.sources.countdown import Instance, Move, Position, moves, start
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.countdown import CountdownVerifier


@dataclass(frozen=True)
class Game:
    """A problem and a right attempt at it."""

    numbers: tuple[int, ...]
    target: int
    text: str
    answer: str


def outcomes(numbers: tuple[int, ...], target: int, text: str) -> list[Outcome]:
    """Of answer and chain, without the boundary that would hide an exception."""
    params = {"numbers": list(numbers), "target": target}
    problem = Problem("00", (), None, (), "test")
    verifier = CountdownVerifier()
    found = verifier.judge(problem, params, Attempt((Span(text, Origin.SAMPLED),)))
    assert [finding.aspect for finding in found] == [Aspect.ANSWER, Aspect.CHAIN]
    assert all("\n" not in finding.evidence and len(finding.evidence) < 300 for finding in found)
    return [finding.outcome for finding in found]


def try_line(move: Move) -> str:
    return f"try {move.left} {move.operator} {move.right} = {move.result} left {' '.join(map(str, move.state))}"


@st.composite
def games(draw: st.DrawFn) -> Game:
    """A walk through the game with returns to earlier states; the target is wherever it ends."""
    numbers = tuple(sorted(draw(st.lists(st.integers(1, 30), min_size=2, max_size=5))))
    path = [start(Instance(numbers, 0))]
    lines: list[tuple[str, Position]] = []
    detours = draw(st.integers(0, 5))
    while detours or len(path[-1].state) > 1:
        if len(path) > 1 and detours and (len(path[-1].state) == 1 or draw(st.booleans())):
            lines.append(("dead", path[-1]))
            lines += [("wait", path[-1])] * draw(st.integers(0, 1))
            del path[draw(st.integers(1, len(path) - 1)) :]
            lines.append((f"back {' '.join(map(str, path[-1].state))}", path[-1]))
            detours -= 1
        else:
            move = draw(st.sampled_from(moves(path[-1].state)))
            path.append(path[-1].after(move))
            lines.append((try_line(move), path[-1]))
    ((target, answer),) = path[-1].terms
    # A walk that passed the target before it stayed there did not call it dead.
    chain = [line for line, position in lines if (line, position.state) != ("dead", (target,))]
    text = "\n".join(["<think>", *chain, "done", "</think>", f"answer {answer}"])
    return Game(numbers, target, text, answer)


@given(games())
def test_generated_chains_pass(game: Game) -> None:
    assert outcomes(game.numbers, game.target, game.text) == [Outcome.PASS, Outcome.PASS]


@given(games(), st.data())
def test_one_changed_number_is_a_fail(game: Game, data: st.DataObject) -> None:
    """No changed number is replay-equivalent.

    All numbers are positive, so each number of A op B = C follows from the other two; S follows from them; the states
    on a path have different lengths, so one number turns none into another; the numbers used in an answer are given.
    """
    found = data.draw(st.sampled_from(list(re.finditer("[0-9]+", game.text))))
    other = data.draw(st.integers(0, 250).filter(lambda number: number != int(found[0])))
    text = f"{game.text[: found.start()]}{other}{game.text[found.end() :]}"
    assert Outcome.FAIL in outcomes(game.numbers, game.target, text)


@given(games(), st.integers(-300, 300))
def test_another_target_is_a_fail(game: Game, other: int) -> None:
    if other != game.target:
        assert outcomes(game.numbers, other, game.text) == [Outcome.FAIL, Outcome.FAIL]


@given(games(), st.data())
def test_what_passes_after_any_rearrangement_is_right_by_plain_arithmetic(game: Game, data: st.DataObject) -> None:
    lines = game.text.split("\n")
    kept = data.draw(st.lists(st.sampled_from(lines), min_size=1, max_size=len(lines) + 3))
    text = "\n".join(["<think>", *kept, "</think>", f"answer {game.answer}"])
    answer, chain = outcomes(game.numbers, game.target, text)
    if answer is Outcome.PASS:
        assert eval(game.answer, {"__builtins__": {}}) == game.target  # noqa: S307 - digits, operators, parentheses
        assert sorted(map(int, re.findall("[0-9]+", game.answer))) == list(game.numbers)
    if chain is Outcome.PASS:
        assert kept[-1] in ("done", "wait")
        assert all(line in lines for line in kept)


WORDS = st.sampled_from(
    ["<think>", "</think>", "answer", "try", "back", "left", "dead", "done", "wait", "stop", "=", "(", ")", "+", "/"]
)
NEARLY = st.lists(st.one_of(WORDS, st.integers(0, 30).map(str), st.sampled_from(["\n", " "]))).map(" ".join)


@given(st.one_of(st.text(), NEARLY, NEARLY.map(lambda text: text.replace(" \n ", "\n"))))
def test_no_text_raises_or_passes_by_accident(text: str) -> None:
    assert Outcome.PASS not in outcomes((3, 7), 10_007, text)
