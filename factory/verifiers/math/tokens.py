"""An answer as tokens: LaTeX, plain text and Unicode are brought to one spelling; layout is dropped.

Linear in the length of the text. Nothing is decided here but spelling: `\\dfrac`, `\\tfrac` are `\\frac`; `\\cdot`, `×`
and `*` are `*`; digits grouped by `{,}`, `,\\!`, `\\,` or a space are one number (a plain comma is not decided here,
since it may separate two numbers). Words inside `\\text{...}` and its relatives are words; letters elsewhere are names
unless they spell a function, a unit, or a word of four letters or more.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

MAX_LENGTH = 4000
"""Characters of an answer that are read; a longer one is compared as text only."""
MAX_DEPTH = 20
"""`\\text` inside of `\\text`."""


class Token(NamedTuple):
    """One sign of an answer."""

    kind: str
    """`number`, `name` (one letter), `word`, `command` (with its backslash) or `sign`."""
    text: str
    gap: bool = False
    """Whether white space stood before it."""


class Unreadable(Exception):
    """An answer that this reader does not understand; says nothing about it."""


class Broken(Unreadable):
    """An answer with which algebra will not help: it is cut off, words stand in it, or people read it in two ways."""


SPELLING = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "sfrac"), "\\frac"),
    **dict.fromkeys(("le", "leqslant", "leqq"), "\\leq"),
    **dict.fromkeys(("ge", "geqslant", "geqq"), "\\geq"),
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("vert", "lvert", "rvert", "mid"), "|"),
    **dict.fromkeys(("simeq", "sim", "thickapprox"), "\\approx"),
    **dict.fromkeys(("to", "Rightarrow", "implies", "Longrightarrow", "longrightarrow"), "\\rightarrow"),
    **dict.fromkeys(("varnothing",), "\\emptyset"),
    **dict.fromkeys(("land", "wedge"), "and"),
    **dict.fromkeys(("lor", "vee"), "or"),
    "ne": "\\neq",
    "div": "/",
    "lt": "<",
    "gt": ">",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]",
    "degree": "°",
    "percent": "%",
    "colon": ":",
    "infin": "\\infty",
    "tbinom": "\\binom",
    "dbinom": "\\binom",
    "lparen": "(",
    "rparen": ")",
    "dots": "\\ldots",
    "cdots": "\\ldots",
    "isin": "\\in",
}
"""Commands with more than one spelling."""
_LAYOUT = (
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr displaystyle textstyle limits quad qquad thinspace "
    "medspace thickspace enspace hfill rm bf it mathstrut phantom nonumber notag hspace vspace boxed fbox space"
)
LAYOUT = frozenset(_LAYOUT.split())
"""Commands that change how an answer looks and not what it says."""
_TEXT = (
    "text textbf textit textrm textnormal textsf texttt mbox hbox mathrm mathbf mathit mathsf operatorname bold "
    "boldsymbol emph underline"
)
TEXT = frozenset(_TEXT.split())
"""Commands whose group is read as words."""
_FUNCTIONS = "sqrt sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp lim max min gcd lcm det"
FUNCTIONS = frozenset(_FUNCTIONS.split())
_UNITS = (
    "cm mm km m ft in inch inches foot feet mile miles yard yards meter meters metre metres centimeter centimeters "
    "kilometer kilometers g kg mg gram grams kilogram kilograms pound pounds lb lbs ounce ounces oz ton tons s sec "
    "second seconds min minute minutes h hr hrs hour hours day days week weeks month months year years degree degrees "
    "deg rad radian radians dollar dollars cent cents usd euro euros unit units square cubic mph kmh liter liters "
    "litre litres ml people students ways points"
)
UNITS = frozenset(_UNITS.split())
"""Words of fewer than four letters are words only if they are one of these; other letters are factors."""
GREEK = {
    "π": "\\pi",
    "∞": "\\infty",
    "≤": "\\leq",
    "≥": "\\geq",
    "≠": "\\neq",
    "≈": "\\approx",
    "∪": "\\cup",
    "∩": "\\cap",
    "∈": "\\in",
    "±": "\\pm",
    "∅": "\\emptyset",
    "→": "\\rightarrow",
    "⇒": "\\rightarrow",
    "√": "\\sqrt",
    "α": "\\alpha",
    "β": "\\beta",
    "γ": "\\gamma",
    "θ": "\\theta",
    "λ": "\\lambda",
    "φ": "\\varphi",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∙": "*",
    "÷": "/",
    "−": "-",
    "–": "-",
    "—": "-",
    "∕": "/",
    "⁄": "/",
    "∶": ":",
    "（": "(",
    "）": ")",
    "，": ",",
    "；": ";",
    "：": ":",
    "＝": "=",
    "％": "%",
    "º": "°",
    "˚": "°",
    "½": "\\frac{1}{2}",
    "¼": "\\frac{1}{4}",
    "¾": "\\frac{3}{4}",
    "⅓": "\\frac{1}{3}",
    "⅔": "\\frac{2}{3}",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
    "\u200b": "",
    "\u2061": "",
    "\ufeff": "",
}
_UNICODE = str.maketrans({key: f" {text} " if text.startswith("\\") else text for key, text in GREEK.items()})
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_FULL_DIGITS = str.maketrans("０１２３４５６７８９", "0123456789")

_SPACES = r"(?:\{,\}|,\\!\s?|\\[,;: ]\s?|[ ~])"
_GROUPED = re.compile(rf"(?<![0-9.,])[0-9]{{1,3}}(?:{_SPACES}[0-9]{{3}}(?![0-9]))+")
_SPACE = re.compile(_SPACES)
_DEGREE = re.compile(r"\^\s?(?:\{\s?\\circ\s?\}|\\circ(?![A-Za-z]))")
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z{])")
_TOKEN = re.compile(
    r"(?P<space>\s+|~|\\[,;:! >]|&nbsp;)"
    r"|(?P<command>\\[A-Za-z]+)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
    r"|(?P<run>[A-Za-z]+)"
    r"|(?P<sign>\\[{}|%$#&_]|\\\\|<=|>=|!=|==|\*\*|[^\s])",
    re.DOTALL,
)
_SIGNS = {"\\%": "%", "\\|": "|", "\\&": "&", "<=": "\\leq", ">=": "\\geq", "!=": "\\neq", "==": "=", "**": "^"}
_DROPPED = frozenset(("$", "\\$", "€", "£", "¥", "\\#", "\\", "\\_", "`", "\u200e"))
_JOINED = re.compile(r"(?:and|or)(?=[A-Z])")
_PREFIX_WORDS = "quad qquad cdot times pi cos sin tan cot ln log sqrt angle in mid cup cap infty leq geq"
_PREFIXES = frozenset(_PREFIX_WORDS.split())
_KNOWN = frozenset((*SPELLING, *LAYOUT, *TEXT, *FUNCTIONS, *_PREFIXES, "infty", "int", "inf", "intercal", "inom"))
_SHORT_WORDS = frozenset(("and", "or", "one", "two", "six", "ten", "yes", "no", "odd", "all", "for", "the", "not"))
_PERCENT = frozenset(("percent", "pct", "percentage", "percents"))


def spelled(text: str) -> str:
    """The text with Unicode signs as LaTeX, and with grouped digits joined."""
    if not text.isascii():
        text = text.translate(_FULL_DIGITS)
        text = _RAISED_RUN.sub(lambda run: f"^{{{run[0].translate(_RAISED)}}}", text).translate(_UNICODE)
    if "\\begin" not in text:
        text = _DOUBLED.sub(r"\\", text)  # JSON escaped twice; in a matrix it ends a row
    if "\\circ" in text:
        text = _DEGREE.sub("°", text)
    return _GROUPED.sub(lambda digits: _SPACE.sub("", digits[0]), text)


@lru_cache(maxsize=512)  # a reference is held against many answers, and each is asked for twice
def tokens(text: str) -> tuple[Token, ...]:
    """The tokens of an answer, without its last full stop. Raises Unreadable for one that is too long."""
    if len(text) > MAX_LENGTH:
        raise Unreadable("too long")
    return tuple(_trimmed(_tokens(spelled(text), 0)))


def _trimmed(found: list[Token]) -> list[Token]:
    while found and found[-1].text in {".", ",", ";", ":", "\\\\", "\\rightarrow"}:
        found.pop()
    while found and found[0].text in {",", ";", ":", "\\\\", "\\rightarrow"}:
        found.pop(0)
    return found


def _tokens(text: str, depth: int) -> list[Token]:
    """`depth` counts `\\text` around; inside of any, letters that stand together are words."""
    if depth > MAX_DEPTH:
        raise Unreadable("too deep")
    found: list[Token] = []
    gap, place = depth > 0, 0
    while (match := _TOKEN.match(text, place)) is not None:
        place, kind, piece = match.end(), match.lastgroup, match[0]
        if kind == "space":
            gap = True
            continue
        if kind == "command":
            name = _split_name(piece[1:])
            place -= len(piece) - 1 - len(name)
            new, place = _command(name, text, place, depth)
        else:
            new = _run(piece, words=depth > 0) if kind == "run" else _sign(kind, piece)
        if new:
            found.append(new[0]._replace(gap=gap))
            found.extend(new[1:])
            gap = False
        elif kind != "sign":
            gap = True
    return found


def _split_name(name: str) -> str:
    """`\\quadx` is a space and x, `\\pik` is pi and k: what was a command before its space was lost."""
    if name in _KNOWN or len(name) < 3:
        return name
    return next((name[:end] for end in range(len(name) - 1, 1, -1) if name[:end] in _PREFIXES), name)


def _command(name: str, text: str, place: int, depth: int) -> tuple[list[Token], int]:
    if name in TEXT:
        inner, place = _group(text, place)
        return _tokens(inner, depth + 1), place
    if name in LAYOUT:
        # `\right.` closes nothing that can be seen.
        return [], place + (name in {"left", "right"} and text[place : place + 1] == ".")
    if name in {"begin", "end"}:
        inner, place = _group(text, place)
        return [Token("command", f"\\{name}{{{inner.strip('*')}}}")], place
    shown = SPELLING.get(name, f"\\{name}")
    if shown in {"and", "or"}:
        return [Token("word", shown)], place
    return [Token("command" if shown.startswith("\\") and len(shown) > 2 else "sign", shown)], place


def _group(text: str, place: int) -> tuple[str, int]:
    """What stands in the braces at `place`, or the next letter, and where it ends."""
    while text[place : place + 1] == " ":
        place += 1
    if text[place : place + 1] != "{":
        return text[place : place + 1], place + 1
    end, depth = place, 0
    for end in range(place, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[place + 1 : end], end + 1
    return text[place + 1 :], end + 1


def _sign(kind: str | None, piece: str) -> list[Token]:
    if kind == "number":
        return [Token("number", piece)]
    piece = _SIGNS.get(piece, piece)
    if piece in _DROPPED:
        return []
    return [Token("command" if len(piece) > 2 else "sign", piece)]


def _run(piece: str, *, words: bool) -> list[Token]:
    """Letters that stand together: a function, a word, or names."""
    lower = piece.lower()
    if joined := _JOINED.match(piece):
        return [Token("word", joined[0]), *_run(piece[joined.end() :], words=words)]
    if lower in _PERCENT:
        return [Token("sign", "%")]
    if len(piece) == 1:
        return [Token("name", piece)]
    if piece in FUNCTIONS or piece in {"pi", "infty"}:
        return [Token("command", f"\\{piece}")]
    if lower in {"inf", "infinity"}:
        return [Token("command", "\\infty")]
    if words or len(piece) > 3 or lower in UNITS or lower in _SHORT_WORDS:
        return [Token("word", piece)]
    return [Token("name", letter) for letter in piece]


def text_key(found: tuple[Token, ...]) -> str:
    """The same for answers that are written alike, whatever their layout."""
    parts = []
    for before, token in zip((Token("", ""), *found), found, strict=False):
        parts.append(" " if before.kind == token.kind == "number" else "")
        parts.append(token.text)
    return "".join(parts)
