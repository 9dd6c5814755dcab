"""The ways in which the signs of an answer can be taken: commas between digits, numbers after a choice's letter."""

from __future__ import annotations

import re

from factory.verifiers.math.expression import OPENING
from factory.verifiers.math.tokens import Token

COMMA = Token("sign", "")
"""Ends a variant with a decimal comma."""


def variants(found: list[Token]) -> list[list[Token]]:
    """All of them, likeliest first."""
    plain = _split_fractions(found)
    merged = _thousands(plain)
    found_all = [merged] if merged == plain else [merged, plain]
    if merged == plain and (comma := _decimal_comma(plain)) is not None:
        found_all.append(comma)
    if (chosen := _after_choice(plain)) is not None:
        found_all.append(chosen)
    return found_all


def _split_fractions(found: list[Token]) -> list[Token]:
    """`\\frac12` is a half."""
    result: list[Token] = []
    for token in found:
        is_split = result and result[-1].text in {"\\frac", "\\binom"} and token.text.isdigit() and token.text[1:]
        pieces = (token.text[0], token.text[1], token.text[2:]) if is_split else (token.text,)
        result.extend(token._replace(text=piece) for piece in pieces if piece)
    return result


def _thousands(found: list[Token]) -> list[Token]:
    """Numbers grouped by plain commas joined, but for those inside of brackets, which are lists."""
    result: list[Token] = []
    depth = place = 0
    while place < len(found):
        token = found[place]
        depth += (token.text in OPENING) - (token.text in OPENING.values())
        end = _group_end(found, place) if depth == 0 else place
        if end > place:
            result.append(Token("number", "".join(t.text for t in found[place:end] if t.text != ","), token.gap))
            place = end
        else:
            result.append(token)
            place += 1
    return result


def _group_end(found: list[Token], place: int) -> int:
    """Where a number such as `1,234,567.89` that starts at `place` ends; `place` if there is none."""
    first = found[place]
    if first.kind != "number" or not re.fullmatch(r"[1-9][0-9]{0,2}", first.text):
        return place
    end = place + 1
    while end + 1 < len(found) and found[end].text == "," and not found[end].gap and not found[end + 1].gap:
        last = re.fullmatch(r"[0-9]{3}(\.[0-9]+)?", found[end + 1].text)
        if last is None:
            return place
        end += 2
        if last[1]:
            break
    return end if end > place + 1 else place


def _decimal_comma(found: list[Token]) -> list[Token] | None:
    places = [place for place, token in enumerate(found) if token.kind == "number"]
    if len(places) != 2 or places[1] != places[0] + 2 or found[places[0] + 1] != Token("sign", ","):
        return None
    left, right = found[places[0]], found[places[1]]
    others = (*found[: places[0]], *found[places[1] + 1 :])
    if right.gap or not (left.text + right.text).isdigit() or not all(_is_beside(token) for token in others):
        return None
    joined = Token("number", f"{left.text}.{right.text}", left.gap)
    return [*found[: places[0]], joined, *found[places[1] + 1 :], COMMA]


def _is_beside(token: Token) -> bool:
    return token.kind == "word" or token.text in {"-", "+", "%", "°"}


def after_approx(found: list[Token]) -> list[Token] | None:
    """What stands behind the last `\\approx`."""
    places = [place for place, token in enumerate(found) if token.text == "\\approx"]
    return found[places[-1] + 1 :] or None if places else None


def _after_choice(found: list[Token]) -> list[Token] | None:
    """What follows `(B)`."""
    texts = [token.text for token in found[:3]]
    if len(found) > 3 and texts[0] == "(" and texts[2] == ")" and len(texts[1]) == 1 and "A" <= texts[1] <= "J":
        return found[3:]
    return None
