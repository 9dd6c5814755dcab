"""Where the answer stands in an attempt. The first rule that finds something decides:

    boxed           the last \\boxed{...} or \\fbox{...}; several in one go, joined by commas, "and" or "or", are a list
    answer tag      the last <answer>...</answer>
    #### line       `#### 5` as the last line
    answer line     what follows the last "answer is", "answer:", "option is", ...
    last line       the last line, where it is an answer and no sentence
    bold            the last **...** of the last line
    last formula    the last $...$, \\(...\\), \\[...\\] of the last line, or the block that ends with it
    last number     the last number of the last line

Only what follows the last `</think>` counts. Thinking that never ends has no answer. Time is linear in the length of
the text, whatever stands in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from factory.verifiers.answers import after_thinking, last_tagged

MODES = ("any", "boxed", "final")
"""All rules; the first alone; all but the first."""
MAX_BOXES = 32
"""Boxes from the end of the text that are looked at."""
MAX_ANSWER = 20_000
"""Characters of an answer."""
MAX_LINE = 4_000
"""Characters at the end of the last line that are looked at."""

_BOX = re.compile(r"\\(?:begin)?f?box(?:ed)?\s{0,3}\{|\\boxed\s(?=[0-9A-Za-z])|\\begin\{boxed\}")
_BRACE = re.compile(r"\\[\s\S]|[{}]")
_END = re.compile(r"\\end\{boxed\}|\n|\$|\\\]|\\\)")
_GLUE = re.compile(
    r"\\(?:text(?:bf|rm|it|normal)?|mbox|mathrm|quad|qquad|[,;:! ()\[\]])|&nbsp;|[{}$~*]|\\\\", re.IGNORECASE
)
_SENTENCE = re.compile(r"[.!?](?:\s|$)|\n\s*\n|\\implies|\\Rightarrow|\\approx|→")
_JOINS = re.compile(r"[\s,;]*|(?:.*[\s,;])?(?:and|or|und|oder)(?:[\s,;].*)?", re.IGNORECASE | re.DOTALL)
_CONCLUDES = re.compile(r"\b(?:so|thus|then|hence|therefore|but|not|gives|because|since|is|check)\b", re.IGNORECASE)
_PERCENT = re.compile(r"[$\s*\\)]{0,4}(?:\\?%|percent\b|pct\b)")
_MARKER = re.compile(
    r"\b(?:answer|answers|option|choice|result)\*{0,2}\s{0,3}(?:\*{0,2}\s{0,3}(?:is|are|:|=)|(?=\$|\\\(|\\\[))"
    r"(?:\s{0,3}[:*]){0,4}",
    re.IGNORECASE,
)
_MATH_MARK = re.compile(r"\\\\|\\\$|\$\$|\$|\\\[|\\\]|\\\(|\\\)")
_CLOSES = {"$": "$", "$$": "$$", "\\[": "\\]", "\\(": "\\)"}
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_TEXT_GROUP = re.compile(r"\\(?:text|mbox|mathrm|operatorname|begin|end)[a-z]*\{[^{}]{0,200}\}")
_VERB = re.compile(
    r"(?<![\\A-Za-z{])(?:is|are|was|were|has|have|had|so|it|we|thus|hence|get|gets|equals)\b", re.IGNORECASE
)
_LIGHT = frozenset(
    ["and", "or", "sqrt", "pi", "sin", "cos", "tan", "log", "ln", "cm", "mm", "km", "mph", "percent", "pct"]
)
_NUMBER = re.compile(
    r"(?<![0-9A-Za-z_^.,])[-−+]?[$€£]?(?:[0-9]{1,3}(?:[,\s][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:[.,][0-9]+)?|\.[0-9]+)"
    r"(?:/[0-9]+)?(?![0-9])(?:\s?\\?%)?"
)


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer, and where it was found."""

    answer: str
    rule: str
    line: str
    """The last line as a whole, which may be the answer with all its conditions."""


def extract(text: str, mode: str = "any") -> Extracted | None:
    """The answer of an attempt; None if there is none."""
    body = after_thinking(text)
    line = _last_line(body)
    if mode != "final" and (boxed := _boxed(body)):
        return Extracted(boxed[:MAX_ANSWER], "boxed", line)
    if mode == "boxed" or not line:
        return None
    for rule, found in _final(body, line):
        answer = found.strip()
        if answer:
            return Extracted(answer[:MAX_ANSWER], rule, line)
    return None


def reference(text: str) -> str:
    """What a reference says: its boxes where it has any, else all of it."""
    return _boxed(text) or text.strip()


# --- boxes


def _boxed(text: str) -> str:
    """The contents of the last box, or of the last ones where they belong together; empty if there is none."""
    boxes = _boxes(text)
    if not boxes:
        return ""
    chosen = [boxes[-1]]
    for box in boxes[-2::-1]:
        if not _is_joined(text[box[1] : chosen[0][0]]):
            break
        chosen.insert(0, box)
    contents = list(dict.fromkeys(content for _, _, content in chosen))
    percent = len(contents) == 1 and _PERCENT.match(text, chosen[-1][1]) is not None
    return ", ".join(contents) + ("\\%" if percent and "%" not in contents[0] else "")


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and contents of the last boxes; one within another is not counted."""
    found: list[tuple[int, int, str]] = []
    for start in _last(_BOX, text):
        if found and start.start() < found[-1][1]:
            continue
        begin, end, after = _contents(text, start)
        content = text[begin:end].strip()
        if content:
            found.append((start.start(), after, content))
    return found


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    found = list(pattern.finditer(text))
    return found[-MAX_BOXES:]


def _contents(text: str, start: re.Match[str]) -> tuple[int, int, int]:
    """Where a box's contents begin and end, and what follows it begins. An open box ends with its formula."""
    begin = start.end()
    if not start[0].endswith("{"):
        end = _END.search(text, begin, begin + MAX_ANSWER)
        if start[0].startswith("\\begin{"):
            return (begin, end.start(), end.end()) if end else (begin, len(text), len(text))
        return begin, begin + 1, begin + 1
    depth = 1
    for brace in _BRACE.finditer(text, begin, begin + MAX_ANSWER):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return begin, brace.start(), brace.end()
    end = _END.search(text, begin, begin + MAX_ANSWER)
    last = end.start() if end else min(len(text), begin + MAX_ANSWER)
    return begin, last, last


def _is_joined(between: str) -> bool:
    """Whether the text between two boxes makes a list of them."""
    if len(between) > 80 or _SENTENCE.search(between):
        return False
    plain = _GLUE.sub(" ", between)
    return _JOINS.fullmatch(plain) is not None and not _CONCLUDES.search(plain)


# --- the last line


def _last_line(body: str) -> str:
    stripped = body.rstrip()
    return stripped[stripped.rfind("\n") + 1 :].strip()[-MAX_LINE:]


def _final(body: str, line: str) -> Iterator[tuple[str, str]]:
    yield "answer tag", last_tagged(body, "answer") or ""
    if line.startswith("####"):
        yield "#### line", line.lstrip("# ")
    yield "answer line", _after_marker(body)
    block = _block(body, line)
    if block:
        yield "last formula", block
    bare = line.strip("*_# ").strip()
    if _is_bare(bare):
        yield "last line", bare
    yield "bold", _bold(line)
    yield _last_part(line)


def _after_marker(body: str) -> str:
    found = _last(_MARKER, body)
    if not found:
        return ""
    rest = body[found[-1].end() :][: 2 * MAX_LINE].strip(" \t*_:")
    rest = rest.strip()
    line = rest.partition("\n")[0].strip()
    if line.startswith(("$", "\\[", "\\(")) and not _last_formula(line, first=True):
        return _last_formula(rest, first=True)  # it is on lines of its own
    return _stated(line) if line else ""


def _stated(line: str) -> str:
    """What a line says that begins behind "answer is"."""
    if line.startswith(("$", "\\(", "\\[")) and (formula := _last_formula(line, first=True)):
        after = line.split(formula, 1)[1]
        return formula + ("\\%" if _PERCENT.match(after) else "")
    line = re.split(r"\.\s", line, maxsplit=1)[0].strip(" .*_")
    return line if _is_bare(line) else _last_part(line)[1] or line


def _block(body: str, line: str) -> str:
    """A formula on lines of its own that ends the text."""
    for opening, closing in (("\\[", "\\]"), ("$$", "$$"), ("\\(", "\\)"), ("$", "$")):
        bare = line.rstrip(" .,")
        if bare.endswith(closing) and opening not in bare[: -len(closing)]:
            text = body.rstrip()[-MAX_LINE:].rstrip(" .,").removesuffix(closing)
            _, mark, content = text.rpartition(opening)
            return content if mark else ""
    return ""


def _bold(line: str) -> str:
    parts = line.split("**")
    # Odd places are inside of the marks; a heading such as **Answer:** is none.
    inside = [part.strip() for part in parts[1 : len(parts) - 1 : 2]]
    found = [part for part in inside if part and not part.endswith(":")]
    if not found:
        return ""
    return found[-1] if _is_bare(found[-1]) else _last_part(found[-1])[1]


def _is_bare(line: str) -> bool:
    """Whether a line is an answer and no sentence: hardly any words outside of formulas, and no verb among them."""
    if not line or len(line) > 400 or line.endswith(":") or _VERB.search(line):
        return False
    words = [word for word in _WORD.findall(_TEXT_GROUP.sub(" ", line)) if word.lower() not in _LIGHT]
    return sum(len(word) > 2 for word in words) <= 1 and len(words) <= 3 and not re.search(r"[.!?:]\s", line)


def _last_part(line: str) -> tuple[str, str]:
    """The last formula or the last number, whichever stands further back."""
    formula = _last_formula(line)
    numbers = _last(_NUMBER, line)
    if formula and (not numbers or numbers[-1].end() <= line.rfind(formula) + len(formula)):
        after = line[line.rfind(formula) + len(formula) :]
        return "last formula", formula + ("\\%" if _PERCENT.match(after) and "%" not in formula else "")
    return "last number", numbers[-1][0] if numbers else ""


def _last_formula(line: str, *, first: bool = False) -> str:
    """Contents of the last (or first) formula; dollars around prose are money."""
    found, opening, begin = "", "", 0
    for mark in _MATH_MARK.finditer(line):
        if opening and mark[0] == _CLOSES[opening]:
            content = line[begin : mark.start()].strip()
            if content and not _is_prose(content):
                found = content
                if first:
                    return found
                opening = ""
            else:
                opening, begin = mark[0] if mark[0] in _CLOSES else "", mark.end()
        elif not opening and mark[0] in _CLOSES:
            opening, begin = mark[0], mark.end()
    return found


def _is_prose(content: str) -> bool:
    words = _WORD.findall(_TEXT_GROUP.sub(" ", content))
    return sum(len(word) > 3 for word in words) > 2
