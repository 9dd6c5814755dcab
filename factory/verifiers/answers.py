"""Where an answer stands in a text: after the thinking, in a box, on the last line, in a tag.

Every reader takes time linear in the text, whatever is in it.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal

from factory.types import Attempt, Origin

OPEN, CLOSE = "<think>", "</think>"
BOX = re.compile(r"\\boxed\s*\{")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)

MAX_SHOWN = 1000
"""Characters of an answer that a verdict keeps."""
MAX_ANSWER = 100_000
"""Characters of an answer that are given to a problem's own checker, or to a model."""

Extract = Literal["whole", "boxed", "last_line", "answer_tag"]
"""What of a text is its answer: all that follows the thinking, or a part of that."""


@dataclass(frozen=True, slots=True)
class Box:
    r"""A `\boxed{...}`."""

    content: str | None
    """None where it is not closed."""
    start: int
    """Offset of its backslash."""
    end: int
    """Offset after its closing brace."""


def after_thinking(text: str) -> str:
    """What follows the last `</think>`: all of it where nothing was thought, nothing where thinking is left open."""
    after = text.rpartition(CLOSE)[2]
    return "" if OPEN in after else after


def is_reference(attempt: Attempt) -> bool:
    """Whether no model wrote any of it: the attempt is a reference on trial."""
    return bool(attempt.spans) and all(span.origin is Origin.INJECTED for span in attempt.spans)


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of all matches, found from the front as any other."""
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None


def last_box(text: str) -> Box | None:
    r"""The last `\boxed{`, up to the brace that closes it. `\{` and `\}` close nothing."""
    mark = last_match(BOX, text)
    if mark is None:
        return None
    depth = 1
    for brace in BRACE.finditer(text, mark.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return Box(text[mark.end() : brace.start()], mark.start(), brace.end())
    return Box(None, mark.start(), len(text))


def last_line(text: str) -> str:
    """The last line that is not blank; nothing where all are."""
    return text.rstrip().rpartition("\n")[2]


def last_tagged(text: str, tag: str) -> str | None:
    """What stands in the last `<tag>`; None where there is none, or it is not closed."""
    _, opened, after = text.rpartition(f"<{tag}>")
    inside, closed, _ = after.partition(f"</{tag}>")
    return inside if opened and closed else None


def answer_in(text: str, extract: Extract) -> str | None:
    """The answer without white space around it; None where there is none, or nothing but white space."""
    after = after_thinking(text)
    match extract:
        case "boxed":
            box = last_box(after)
            found = box.content if box is not None else None
        case "answer_tag":
            found = last_tagged(after, "answer")
        case "last_line":
            found = last_line(after)
        case _:
            found = after
    return found.strip() or None if found is not None else None


def shown(text: str) -> str:
    """The beginning of a text for the evidence: short, quoted and on one line."""
    quoted = repr(text[:80])
    return quoted if len(quoted) <= 100 else f"{quoted[:99]}…"
