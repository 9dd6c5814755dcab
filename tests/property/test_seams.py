"""What an engine reads for cuts is the text that was there and the text that is left, token by token the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from factory.prune.base import Cut
from factory.prune.seams import reading_of, units_of
from factory.prune.transcripts import drafts, without
from factory.types import Attempt, Origin, Problem, Span, Verdict
from tests.property.test_prune import RIGHT, Fixed, accept, tree_of
from tests.unit.run_folders import step

Texts = st.text(alphabet="ab 1\né世😀", min_size=1, max_size=40)


class Pieces:
    """A tokenizer whose tokens are any pieces of bytes, as those of byte pairs are."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def add(self, piece: bytes) -> int:
        self.pieces.append(piece)
        return len(self.pieces) - 1

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.add(letter.encode()) for letter in text)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.pieces[one] for one in ids).decode("utf-8", "replace")

    def split(self, text: str, draw: st.DrawFn) -> tuple[int, ...]:
        raw, ids = text.encode(), list[int]()
        while raw:
            size = draw(st.integers(1, 5))
            ids.append(self.add(raw[:size]))
            raw = raw[size:]
        return tuple(ids)


@st.composite
def cuts_in(draw: st.DrawFn, length: int) -> list[Cut]:
    """In order and disjoint; some of them touch."""
    places = sorted(draw(st.sets(st.integers(0, length), max_size=8)))
    cuts = [Cut(start, end, f"cut {start}") for start, end in pairwise(places)]
    return [cut for cut in cuts if draw(st.booleans())]


@given(st.data())
def test_readings_spell_the_texts_and_windows_the_same_tokens(data: st.DataObject) -> None:
    tokenizer, texts = Pieces(), data.draw(st.lists(Texts, min_size=1, max_size=3))
    text = "".join(texts)
    nodes = [
        step(
            place, place - 1, one, token_ids=data.draw(st.composite(lambda draw, one=one: tokenizer.split(one, draw))())
        )
        for place, one in enumerate(texts, start=1)
    ]
    cuts, window = data.draw(cuts_in(len(text))), data.draw(st.integers(1, 12))
    units = units_of(nodes, tokenizer.decode, tokenizer.encode)
    assert "".join(text[unit.start : unit.end] for unit in units) == text
    reading = reading_of(text, units, cuts, window, tokenizer.encode)
    left = text
    for cut in reversed(cuts):
        left = left[: cut.start] + left[cut.end :]
    assert tokenizer.decode(reading.whole) == text
    assert tokenizer.decode(reading.left) == left
    assert reading.whole == tuple(token for node in nodes for token in node.token_ids or ())
    for cut, one in zip(cuts, reading.windows, strict=True):
        size = len(one.texts)
        assert size <= window
        assert reading.whole[one.whole : one.whole + size] == reading.left[one.left : one.left + size]
        if size:
            assert one.start >= cut.end
            assert tokenizer.decode(reading.whole[: one.whole]) == text[: one.start]
            end = one.start + len(tokenizer.decode(reading.whole[one.whole : one.whole + size]))
            assert not any(other.start < end - 1 and one.start < other.end for other in cuts)


@given(st.data())
def test_what_is_withdrawn_is_there_again_verbatim(data: st.DataObject) -> None:
    texts = data.draw(st.lists(Texts, min_size=1, max_size=3))
    text = "".join(texts)
    cuts = data.draw(cuts_in(len(text)))
    problem = Problem("0", (), None, (), "test")
    spans = [Span(one, Origin.SAMPLED if place % 2 else Origin.INJECTED) for place, one in enumerate(texts)]
    tree = tree_of(problem, spans, RIGHT)
    (draft,) = drafts(tree, variants=["pruned"], pruners=[Fixed(cuts)], judge=accept)
    failed = [cut for cut in draft.cuts if data.draw(st.booleans())]
    again = without(draft, failed, accept)
    assert [cut for cut in draft.cuts if cut not in failed] == list(again.cuts)
    assert [(one.start, one.end, one.text) for one in again.made.withdrawn] == [
        (cut.start, cut.end, text[cut.start : cut.end]) for cut in failed
    ]
    whole, place = "", 0
    for one in again.made.removals:
        size = one.start - len(whole)
        whole += again.made.text[place : place + size] + one.text
        place += size
    assert whole + again.made.text[place:] == text
    nothing = without(again, again.cuts, accept)
    assert nothing.made.text == text
    assert nothing.made.spans == tuple(spans)
    assert nothing.made.removals == ()


def test_the_text_that_is_made_again_is_judged_again() -> None:
    problem, seen = Problem("0", (), None, (), "test"), list[str]()

    def judge(_: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        seen.append(attempt.text)
        return RIGHT

    tree = tree_of(problem, [Span("abcd", Origin.SAMPLED)], RIGHT)
    cuts = [Cut(1, 2, "x"), Cut(3, 4, "y")]
    (draft,) = drafts(tree, variants=["pruned"], pruners=[Fixed(cuts)], judge=judge)
    assert seen == ["ac"]
    assert without(draft, [draft.cuts[0]], judge).made.text == "abc"
    assert seen == ["ac", "abc"]
