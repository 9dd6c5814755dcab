"""The program in an attempt: a fenced block after the thinking, or else everything after it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sandboxes.base import Language

CLOSE = "</think>"
FENCE = "```"
NAMES = {
    Language.PYTHON: {"python", "py", "python3"},
    Language.CPP: {"cpp", "c++", "cc", "cxx"},
    Language.JAVASCRIPT: {"javascript", "js", "node"},
}
LONGEST = 200_000
"""Characters of a program; a longer one is none."""


def program(text: str, language: Language, names: list[str]) -> str | None:
    """The last block of the language (or of none) that defines all `names`, else the last block at all; without any
    block, the whole text. None where there is nothing, or far too much."""
    after = text.rpartition(CLOSE)[2]
    blocks = [body for tag, body in fenced(after) if _is(tag, language)]
    defining = [body for body in blocks if all(defines(body, name) for name in names)]
    found = (defining or blocks or [after])[-1].strip("\n")
    return found if found.strip() and len(found) <= LONGEST else None


def fenced(text: str) -> Iterator[tuple[str, str]]:
    """What stands after each opening fence, and the lines of its block; the last one need not be closed."""
    tag: str | None = None
    body: list[str] = []
    for line in text.split("\n"):
        mark = line.strip()
        if tag is None:
            if mark.startswith(FENCE) and "`" not in mark[3:]:
                tag, body = mark[3:], []
        elif mark == FENCE:
            yield tag, "\n".join(body)
            tag = None
        else:
            body.append(line)
    if tag is not None:
        yield tag, "\n".join(body)


def _is(tag: str, language: Language) -> bool:
    word = tag.strip().partition(" ")[0].lower()
    return not word or word in NAMES[language]


def defines(source: str, name: str) -> bool:
    """Whether a name seems to be defined at the top of a Python program."""
    return (
        re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", source, re.MULTILINE)
        is not None
    )


def joined(prefix: str, source: str, names: list[str]) -> str:
    """The program after what it continues, unless it begins anew."""
    if not prefix or (names and all(defines(source, name) for name in names)) or source.startswith(prefix.strip()):
        return source
    return prefix + source
