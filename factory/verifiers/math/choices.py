"""Letters of multiple choice."""

from __future__ import annotations

from collections.abc import Sequence

from factory.verifiers.math.options import Decision
from factory.verifiers.math.tokens import Token

CHOICES = "ABCDEFGHIJ"


def same_choice(gold: Sequence[Token], pred: Sequence[Token]) -> Decision | None:
    """Letters of multiple choice: the reference is one; so is the answer, with or without the text of that choice."""
    letter = _letter(gold, alone=True)
    if letter is None or not letter.isupper():
        return None
    other = _letter(pred, alone=False)
    if other is None:
        return None
    return Decision(letter == other.upper(), "choice")


def _letter(found: Sequence[Token], *, alone: bool) -> str | None:
    texts = [token.text for token in found]
    if len(texts) >= 3 and texts[0] == "(" and texts[2] == ")":
        letter, rest = texts[1], texts[3:]
    else:
        letter, rest = texts[0], texts[1:]
        if rest and (alone or rest[0] not in {".", ":", ")"}):
            return None
    if alone and rest:
        return None
    return letter if len(letter) == 1 and letter.upper() in CHOICES else None
