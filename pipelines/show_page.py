"""Draws what `factory show` shows as one HTML page, which opens without a network.

Texts of models and sources are not trusted: the template escapes all that it is given, a policy in the page's head
allows no script and no style but its own, and nothing is loaded from anywhere. What a terminal would obey or nobody
would see (controls, marks of direction, surrogates) stands as its escape in a `span` whose `data-code` has its code
point, so that every text can be read back from the page verbatim.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipelines import show_lines
from pipelines.report import escaped, is_hidden, one_line
from pipelines.show_view import Piece, Shown, attempt_tree

HERE = Path(__file__).parent


def page(url: str, refinement: str | None, problems: Sequence[Mapping[str, Any]], found: Iterable[Shown]) -> str:
    """The page of what was found. `problems`: an index, as `show_lookup.first` gives it; empty for none."""
    style = (HERE / "show_page.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("show_page.jinja")
        .render(
            url=url,
            refinement=refinement,
            problems=problems,
            found=found,
            style=Markup(style),  # noqa: S704 (a file of this package)
            style_hash=f"sha256-{digest}",
            say=show_lines,
            tree_of=attempt_tree,
        )
    )


@functools.cache
def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    made.filters |= {"text": written, "short": one_line, "by_role": _by_role}
    return made


def written(text: str) -> Markup:
    """A text as HTML, with an escape for each character that is hidden."""
    return Markup("").join(
        Markup("").join(map(_escape, chars)) if hidden else escape("".join(chars))
        for hidden, chars in groupby(text, is_hidden)
    )


def _escape(char: str) -> Markup:
    return Markup('<span class="escape" data-code="{:x}">{}</span>').format(ord(char), escaped(char))


def _by_role(pieces: Iterable[Piece]) -> Iterator[tuple[str, list[Piece]]]:
    """Who speaks, and what."""
    return ((role, list(said)) for role, said in groupby(pieces, lambda piece: piece.role))
