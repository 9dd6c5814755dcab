"""Pruning takes out and never rewrites: what was removed can be put back, and what is left still leads to the target.

The replayer below shares nothing with the pruner, the verifier or the generator of problems.
"""

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from factory.prune.base import Cut, merge
from factory.prune.countdown import CountdownPruner
from factory.prune.transcripts import transcripts
from factory.types import (
    Aspect,
    Attempt,
    Check,
    Cost,
    Node,
    NodeState,
    Origin,
    Outcome,
    Policy,
    Problem,
    Removal,
    Sampling,
    Span,
    StopReason,
    Transcript,
    Tree,
    Verdict,
)
from factory.verifiers.base import verdicts
from factory.verifiers.countdown import CountdownVerifier

VERIFIERS = {"countdown": CountdownVerifier()}

RIGHT = (Verdict("fake", "1", Aspect.ANSWER, Outcome.PASS, None, "", 0.0),)


def accept(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    return RIGHT


def judge(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    return verdicts(VERIFIERS, problem, attempt)


class Fixed:
    """A pruner that was told what to cut."""

    name = "fixed"
    version = "1"

    def __init__(self, cuts: list[Cut]) -> None:
        self._cuts = cuts

    def cuts(self, problem: Problem, text: str) -> list[Cut]:
        return self._cuts


def tree_of(problem: Problem, spans: Sequence[Span], found: tuple[Verdict, ...]) -> Tree:
    """One path with one node a span."""
    nodes = tuple(
        Node(
            id=place,
            parent=place - 1,
            text=span.text,
            token_ids=None,
            logprobs=None,
            origin=span.origin,
            state=NodeState.FINISHED if place == len(spans) else NodeState.OPEN,
            role=span.role,
            score=None,
            verdicts=found if place == len(spans) else (),
            counted=True,
            generated_tokens=1,
            prompt_tokens=0,
            cached_tokens=None,
            seconds=0.0,
        )
        for place, span in enumerate(spans, start=1)
    )
    return Tree(problem, Policy("m", "d", Sampling()), "s", nodes, StopReason.EXHAUSTED, None, 1, Cost())


def put_back(text: str, removals: Sequence[Removal]) -> str:
    """Removals are in order, so whatever stands before one is already whole."""
    for removal in removals:
        assert removal.end - removal.start == len(removal.text)
        text = text[: removal.start] + removal.text + text[removal.start :]
    return text


def origins(spans: Sequence[Span]) -> list[Origin]:
    return [span.origin for span in spans for _ in span.text]


ASSISTANTS = st.builds(Span, st.text(max_size=12), st.sampled_from(Origin))
TURNS = st.builds(Span, st.text(max_size=12), st.just(Origin.INJECTED), st.just("user"))
SPANS = st.lists(ASSISTANTS, min_size=1, max_size=6)


@st.composite
def spans_and_cuts(draw: st.DrawFn) -> tuple[list[Span], list[Cut]]:
    spans = draw(SPANS)
    length = sum(len(span.text) for span in spans)
    ends = st.tuples(st.integers(0, length), st.integers(0, length)).filter(lambda pair: pair[0] < pair[1])
    pairs = draw(st.lists(ends, max_size=5)) if length else []
    return spans, [Cut(start, end, draw(st.sampled_from("ab"))) for start, end in pairs]


@given(spans_and_cuts())
def test_any_cuts_of_any_text_can_be_put_back(given_spans: tuple[list[Span], list[Cut]]) -> None:
    spans, cuts = given_spans
    problem = Problem("00", (), None, (), "test")
    text = "".join(span.text for span in spans)
    found = transcripts(tree_of(problem, spans, RIGHT), variants=["pruned"], pruners=[Fixed(cuts)], judge=accept)
    (short,) = found
    assert put_back(short.text, short.removals) == text
    gone = {place for cut in cuts for place in range(cut.start, cut.end)}
    assert short.text == "".join(char for place, char in enumerate(text) if place not in gone)
    assert origins(short.spans) == [origin for place, origin in enumerate(origins(spans)) if place not in gone]


@given(st.lists(ASSISTANTS | TURNS, max_size=6), spans_and_cuts())
def test_of_several_turns_any_cuts_of_the_last_can_be_put_back(
    before: list[Span], given_spans: tuple[list[Span], list[Cut]]
) -> None:
    last, cuts = given_spans
    spans = [*before, Span("again", Origin.INJECTED, "user"), *last]
    problem = Problem("00", (), None, (), "test")
    whole = tree_of(problem, spans, RIGHT)
    full, short = transcripts(whole, variants=["full", "pruned"], pruners=[Fixed(cuts)], judge=accept)
    assert full.spans == tuple(spans)
    assert put_back(short.text, short.removals) == full.text
    assert all(span.role == "assistant" for span in short.spans)
    assert short.removals[0].reason == "earlier_turn"
    assert short.removals[0].text == "".join(span.text for span in spans[: len(before) + 1])
    gone = {place for cut in cuts for place in range(cut.start, cut.end)}
    assert origins(short.spans) == [origin for place, origin in enumerate(origins(last)) if place not in gone]


@given(spans_and_cuts())
def test_merged_cuts_cover_the_same_and_are_disjoint(given_spans: tuple[list[Span], list[Cut]]) -> None:
    cuts = given_spans[1]
    merged = merge(cuts)
    covered = [place for cut in merged for place in range(cut.start, cut.end)]
    assert covered == sorted({place for cut in cuts for place in range(cut.start, cut.end)})
    assert all(a.end < b.start or a.reason != b.reason for a, b in itertools.pairwise(merged))
    assert merge(merged) == merged


# --- chains


def chain(rng: random.Random) -> tuple[list[int], int, str]:
    """Numbers, a target, and a completion that reaches it after wrong turns."""
    numbers = sorted(rng.randint(1, 20) for _ in range(rng.randint(2, 5)))
    path = [[(number, str(number)) for number in numbers]]
    lines: list[tuple[str, int | None]] = []
    turns = rng.randint(0, 6)
    while turns or len(path[-1]) > 1:
        alone = path[-1][0][0] if len(path[-1]) == 1 else None
        if len(path) > 1 and turns and (alone is not None or rng.random() < 0.4):
            lines += [("dead", alone)] + [("wait", None)] * rng.randint(0, 1)
            path = path[: rng.randint(1, len(path) - 1)]
            lines.append(("back " + written(path[-1]), None))
            turns -= 1
        else:
            line, after = step(rng, path[-1])
            path.append(after)
            lines.append((line, None))
    target, answer = path[-1][0]
    body = "".join(f"{line}\n" for line, alone in lines if alone != target)
    return numbers, target, f"<think>\n{body}done\n</think>\nanswer {answer}"


def written(terms: Sequence[tuple[int, str]]) -> str:
    return " ".join(str(value) for value, _ in terms)


def step(rng: random.Random, terms: list[tuple[int, str]]) -> tuple[str, list[tuple[int, str]]]:
    (a, left), (b, right) = rng.sample(terms, 2)
    rest = list(terms)
    rest.remove((a, left))
    rest.remove((b, right))
    sign, value = rng.choice([("+", a + b), ("*", a * b)] + ([("-", a - b)] if a >= b else []))
    after = sorted([*rest, (value, f"( {left} {sign} {right} )")])
    return f"try {a} {sign} {b} = {value} left {written(after)}", after


def replayed(numbers: list[int], text: str) -> int:
    """The number a chain without returns ends with; asserts every step of it."""
    state = list(numbers)
    lines = text.partition("</think>")[0].splitlines()
    for line in lines[1:-1]:
        word, a, sign, b, equals, c, left, *after = line.split(" ")
        assert (word, equals, left) == ("try", "=", "left")
        state.remove(int(a))
        state.remove(int(b))
        state.append({"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign])
        assert state[-1] == int(c)
        assert sorted(state) == [int(number) for number in after]
    assert (lines[0], lines[-1]) == ("<think>", "done")
    (last,) = state
    return last


def made(seed: int, pieces: int) -> tuple[list[int], int, str, list[Transcript]]:
    rng = random.Random(seed)
    numbers, target, text = chain(rng)
    problem = Problem("00", (), None, (Check("countdown", {"numbers": numbers, "target": target}),), "test")
    places = sorted(rng.randint(0, len(text)) for _ in range(pieces))
    spans = [
        Span(text[start:end], rng.choice(list(Origin)))
        for start, end in zip([0, *places], [*places, len(text)], strict=True)
    ]
    whole = tree_of(problem, spans, judge(problem, Attempt(tuple(spans))))
    pruners = [CountdownPruner()]
    return numbers, target, text, list(transcripts(whole, variants=["full", "pruned"], pruners=pruners, judge=judge))


@given(st.integers(0, 10**9), st.integers(0, 6))
def test_pruned_chains_still_lead_to_the_target(seed: int, pieces: int) -> None:
    numbers, target, text, (full, short) = made(seed, pieces)
    assert (full.rejection, full.text) == (None, text)
    assert short.rejection is None
    assert "back" not in short.text
    assert "dead" not in short.text
    assert replayed(numbers, short.text) == target
    assert put_back(short.text, short.removals) == text
    assert all(verdict.outcome is Outcome.PASS for verdict in short.verdicts)


WORDS = st.sampled_from(
    ["<think>\n", "</think>", "try 3 + 4 = 7 left 7\n", "back 3 4\n", "back 7\n", "dead\n", "done\n", "wait\n", "\n"]
)


@given(st.one_of(st.text(), st.lists(WORDS).map("".join)))
def test_no_text_makes_the_pruner_fail_or_cut_beyond_the_thinking(text: str) -> None:
    problem = Problem("00", (), None, (Check("countdown", {"numbers": [3, 4], "target": 7}),), "test")
    cuts = CountdownPruner().cuts(problem, text)
    assert merge(cuts) == cuts
    assert all(text[: cut.end].endswith("\n") and cut.end <= text.rfind("</think>") for cut in cuts)
