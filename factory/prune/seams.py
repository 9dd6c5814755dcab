"""Evidence that a cut is harmless: how much less likely the text behind it is without what was removed.

An engine reads the turn twice, once whole and once without the cuts: one prefill each, however many cuts there are.
Behind each cut the same tokens are compared, `window` of them or as many as stand before the next cut. Where a step was
needed, something behind it comes from nowhere, and that is one number or one name among many tokens that are as likely
as before. So a cut is judged by the token that loses most; the mean over all is told as well. Cuts with nothing between
them share what is behind the last of them.

Tokens are those that were sampled. Only where a cut goes through one its rest is spelled anew, and what is spelled anew
is not compared. Text without ids, which is an import's, or a turn that another model than its author reads, is
tokenised here, and then both texts are made of the same ids. Another turn before the last one is in neither text.

Nothing here asks an engine: `reading_of` says what to ask, `seams_of` what the answers mean.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from factory.prune.base import Cut
from factory.types import Node, Seam

VERSION = "1"
"""Raised whenever the same answers of an engine may mean something else than before."""

LEAST = -50.0
"""Log-probabilities below are taken for this, so that what is impossible in both texts is no loss."""

CONTEXT = 4
"""Tokens before a token that it is spelled behind: alone it may lack the space that it begins with."""

UNFINISHED = "\ufffd"
"""What the begin of a character is spelled as that goes on in the next token."""

Decode = Callable[[Sequence[int]], str]
Encode = Callable[[str], tuple[int, ...] | None]


@dataclass(frozen=True, slots=True)
class Unit:
    """Tokens that spell whole characters together: one, as a rule."""

    start: int
    """Offset in characters into the turn."""
    end: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The tokens behind a cut that are compared; they stand side by side in both texts."""

    start: int
    """Offset of the first of them in characters into the whole turn."""
    whole: int
    """Its index among the ids of the whole turn."""
    left: int
    """The same in what is left."""
    texts: tuple[str, ...]
    """What each of them spells; of several that spell a character together, each the character."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine is to read behind the prompt."""

    whole: tuple[int, ...]
    left: tuple[int, ...]
    windows: tuple[Window, ...]
    """One for each cut, without tokens where nothing stands behind it."""

    @property
    def whole_places(self) -> list[int]:
        """Which ids of the whole turn are compared, ascending."""
        return sorted({one.whole + i for one in self.windows for i in range(len(one.texts))})

    @property
    def left_places(self) -> list[int]:
        """The same of what is left."""
        return sorted({one.left + i for one in self.windows for i in range(len(one.texts))})


def units_of(nodes: Sequence[Node], decode: Decode, encode: Encode, *, sampled: bool = True) -> list[Unit]:
    """A turn in tokens, in order and touching; `sampled`: by the recorded ids, where there are any.

    Raises ValueError where ids do not spell the text that they stand beside.
    """
    units: list[Unit] = []
    start = 0
    for node in nodes:
        ids = node.token_ids if sampled and node.token_ids is not None else encode(node.text)
        units += _spelled(node.text, start, ids or (), decode)
        start += len(node.text)
    return units


def _spelled(text: str, start: int, ids: Sequence[int], decode: Decode) -> list[Unit]:
    groups = _groups(ids, decode)
    spelled = "".join(piece for _, piece in groups)
    blank = len(text) - len(spelled)
    # Of what begins a text, the blanks may be lacking.
    if not text.endswith(spelled) or text[:blank].strip() or (text and not groups):
        raise ValueError(f"token ids spell {spelled[:40]!r}, and not the text {text[:40]!r}")
    found, place = list[Unit](), 0
    for number, (group, piece) in enumerate(groups):
        end = place + len(piece) + (blank if number == 0 else 0)
        found.append(Unit(start + place, start + end, tuple(group)))
        place = end
    return found


def _groups(ids: Sequence[int], decode: Decode) -> list[tuple[list[int], str]]:
    """Ids in groups that spell something, each with what it spells behind those before it."""
    groups: list[tuple[list[int], str]] = []
    first = begun = 0
    while first < len(ids):
        begun = max(first, begun) + 1
        before = decode(ids[max(0, first - CONTEXT) : first])
        piece = decode(ids[max(0, first - CONTEXT) : begun])[len(before) :]
        if (piece and not piece.endswith(UNFINISHED)) or begun == len(ids):
            groups.append((list(ids[first:begun]), piece))
            first = begun
    return groups


def reading_of(text: str, units: Sequence[Unit], cuts: Sequence[Cut], window: int, encode: Encode) -> Reading:
    """What to read for the cuts of a turn, which are in order and disjoint; `units` spell the turn."""
    before, left, windows = _before(units), list[int](), list[Window]()
    starts, ends = [0, *(cut.end for cut in cuts)], [*(cut.start for cut in cuts), len(text)]
    for start, end in zip(starts, ends, strict=True):
        one = _stretch(text, units, start, end, encode)
        texts = [text[unit.start : unit.end] for unit in units[one.first : one.last] for _ in unit.ids][:window]
        place = units[one.first].start if one.first < len(units) else len(text)
        windows.append(Window(place, before[one.first], len(left) + one.lead, tuple(texts)))
        left += one.ids
    whole = tuple(token for unit in units for token in unit.ids)
    return Reading(whole, tuple(left), _shared(windows[1:]))  # nothing is cut before the first


def _before(units: Sequence[Unit]) -> list[int]:
    """How many ids stand before each unit, and before the end."""
    counts = [0]
    for unit in units:
        counts.append(counts[-1] + len(unit.ids))
    return counts


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Text that stays, in tokens."""

    ids: tuple[int, ...]
    lead: int
    """How many of them spell the rest of a token that the cut before goes through."""
    first: int
    """Index of the first unit that stays whole."""
    last: int
    """Index behind the last one."""


def _stretch(text: str, units: Sequence[Unit], start: int, end: int, encode: Encode) -> _Stretch:
    first = bisect_left(units, start, key=lambda unit: unit.start)
    last = max(first, bisect_right(units, end, key=lambda unit: unit.end))
    place = min(end, units[first].start) if first < len(units) else end
    lead = encode(text[start:place]) or () if start < place else ()
    close = units[last - 1].end if last > first else place
    tail = encode(text[close:end]) or () if close < end else ()
    return _Stretch((*lead, *(i for unit in units[first:last] for i in unit.ids), *tail), len(lead), first, last)


def _shared(windows: Sequence[Window]) -> tuple[Window, ...]:
    """A cut with nothing behind it before the next one has what is behind that."""
    shared = list(windows)
    for place in reversed(range(len(shared) - 1)):
        if not shared[place].texts:
            shared[place] = shared[place + 1]
    return tuple(shared)


def seams_of(reading: Reading, whole: Mapping[int, float], left: Mapping[int, float]) -> list[Seam]:
    """What the log-probabilities at the reading's places say of each cut."""
    return [_seam(window, whole, left) for window in reading.windows]


def _seam(window: Window, whole: Mapping[int, float], left: Mapping[int, float]) -> Seam:
    losses = _losses(window, whole, left)
    if not losses:
        return Seam("nothing stands behind it")
    return Seam(None, len(losses), fmean(losses), max(losses))


def _losses(window: Window, whole: Mapping[int, float], left: Mapping[int, float]) -> list[float]:
    """log p with what was removed less log p without, of each token, in nats."""
    pairs = ((whole[window.whole + i], left[window.left + i]) for i in range(len(window.texts)))
    return [max(LEAST, one) - max(LEAST, other) for one, other in pairs]


def evidence_of(window: Window, whole: Mapping[int, float], left: Mapping[int, float]) -> str:
    """The loss in a line, with the token that it is about."""
    losses = _losses(window, whole, left)
    worst = max(range(len(losses)), key=losses.__getitem__)
    mean = f"{fmean(losses):.2f} a token over {len(losses)}"
    return f"without it {window.texts[worst]!r} behind it is {losses[worst]:.1f} nats less likely, {mean}"
