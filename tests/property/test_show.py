"""Whatever a model wrote, a page has it verbatim and obeys none of it, and no character of it drives a terminal."""

import io
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from factory.prune.branches import branches
from factory.types import (
    Check,
    Cost,
    Message,
    Node,
    NodeState,
    Origin,
    Policy,
    Problem,
    Recorded,
    Removal,
    Sampling,
    Span,
    StopReason,
    Transcript,
    Tree,
    spans_of,
)
from pipelines.report import is_hidden
from pipelines.show_page import page
from pipelines.show_terminal import print_shown
from pipelines.show_view import Leaf, Shown, Version, limbs, pieces
from tests.pages import Page

HOSTILE = [
    *(
        "</del><script>alert(1)</script>",
        "</div></details>",
        "</style>",
        "</title>",
        "<!--",
        "-->",
        "]]>",
        "<?x",
        "&lt",
    ),
    *(
        "&#0;",
        "&amp;",
        "' onclick='x",
        '" style="x',
        "\x1b[2J",
        "\x1b]0;owned\x07",
        "\x9b2J",
        "\u202e",
        "\u2066",
        "\x00",
    ),
    *("\ud800", "\udfff", "\r\n", "\n", "\t", "\u2028", "\ufeff", "\uffff", "[-1: ", "-]", "{injected: ", "<think>"),
    *("</think>", "{{ 7 * 7 }}", "{% raw %}", "javascript:x", "https://example.org/x.js", "Wait, that's wrong. Try 2"),
]
TEXTS = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=()), max_size=8)), max_size=8
).map("".join)
WHERE = Problem("p", (Message("user", "?"),), None, (Check("countdown", {"numbers": [1, 2], "target": 3}),), "s")


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[list[Node], list[Removal], list[Removal]]:
    """A path of nodes, and disjoint stretches of its text that were removed, or withdrawn."""
    origins = st.sampled_from([(Origin.SAMPLED, "assistant"), (Origin.TOOL, "assistant"), (Origin.INJECTED, "user")])
    written = draw(st.lists(st.tuples(TEXTS, origins, TEXTS), min_size=1, max_size=4))
    nodes = [
        Node(
            *(id, id - 1, text, None, None, origin, NodeState.FINISHED if id == len(written) else NodeState.OPEN),
            *(0.5, (), True, 1, 1, None, 0.1),
            role=role,
            recorded=Recorded(about, about, {"claimed": about}) if about.isascii() else None,
        )
        for id, (text, (origin, role), about) in enumerate(written, start=1)
    ]
    text = "".join(node.text for node in nodes)
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    found = [Removal(first, end, draw(TEXTS), text[first:end], draw(TEXTS)) for first, end in pairwise(edges)]
    return nodes, found[0::3], found[1::3]


def drawn(nodes: list[Node], removed: list[Removal], withdrawn: list[Removal], other: str) -> Shown:
    """A problem of which every text is from outside."""
    problem = Problem(other, (Message("user", other),), other, WHERE.checks, other)
    policy = Policy(other, "d", Sampling())
    tree = Tree(problem, policy, other, tuple(nodes), StopReason.EXHAUSTED, other, 1, Cost())
    spans = spans_of(nodes)
    full = Transcript(other, problem, nodes[-1].id, "full", spans, (), (), other, policy, 1)
    cut = Transcript(
        *(other, problem, nodes[-1].id, other, spans, tuple(removed), (), None, policy, 1, tuple(withdrawn))
    )
    versions = tuple(Version((one,), tuple(pieces(spans, one.removals, one.withdrawn))) for one in (full, cut))
    leaf = Leaf(nodes[-1].id, other, len(full.text), (), versions)
    return Shown(tree, limbs([(node.id, node.parent, node) for node in nodes]), (leaf,), None)


@given(cut_texts(), TEXTS)
@settings(max_examples=150)
def test_a_page_has_every_character_and_obeys_none(
    made: tuple[list[Node], list[Removal], list[Removal]], other: str
) -> None:
    nodes, removed, withdrawn = made
    shown = drawn(nodes, removed, withdrawn, other)
    found = page(other, other, [], [shown]).encode().decode()  # no surrogate is left in it
    assert not [char for char in found if is_hidden(char)]
    read = Page(found)
    assert read.declarations == ["DOCTYPE html"]
    assert not [one for one in read.attributes if one[1].startswith("on") or one[1] in {"src", "style"}]
    assert all(value.startswith("#") for _, name, value in read.attributes if name == "href")
    assert read.blocks[0].whole == other
    text = "".join(node.text for node in nodes)
    versions = read.blocks[1:]
    half = len(versions) // 2
    assert ["".join(block.whole for block in part) for part in (versions[:half], versions[half:])] == [text, text]
    assert not any(block.cut for block in versions[:half])
    assert "".join(cut for block in versions for cut in block.cut) == "".join(one.text for one in removed)
    gone = {place for one in removed for place in range(one.start, one.end)}
    kept = "".join(char for place, char in enumerate(text) if place not in gone)
    assert "".join(block.kept for block in versions[half:]) == kept


@given(cut_texts(), TEXTS, st.booleans())
def test_no_character_drives_a_terminal(
    made: tuple[list[Node], list[Removal], list[Removal]], other: str, whole: bool
) -> None:
    file = io.StringIO()
    out = Console(file=file, width=100, markup=False, emoji=False, highlight=False)
    print_shown(out, drawn(*made, other), whole=whole)
    assert not [char for char in file.getvalue() if is_hidden(char)]


@given(TEXTS)
def test_attempts_lie_within_the_text_and_hang_on_earlier_ones(text: str) -> None:
    for at, one in enumerate(branches(WHERE, text)):
        assert 0 <= one.start < one.end <= len(text)
        assert one.parent is None or one.parent < at


@given(st.lists(st.tuples(TEXTS, st.sampled_from(Origin)), max_size=5), st.lists(st.integers(0, 40), max_size=6))
def test_pieces_are_the_text_in_order(written: list[tuple[str, Origin]], edges: list[int]) -> None:
    spans = [Span(text, origin) for text, origin in written]
    marks = [Removal(first, end, "x", "") for first, end in pairwise(sorted(set(edges)))]
    found = list(pieces(spans, marks[0::2], marks[1::2]))
    assert "".join(one.text for one in found) == "".join(span.text for span in spans)
    assert all(one.text for one in found)
    assert all(
        (a.origin, a.role, a.cut, a.withdrawn) != (b.origin, b.role, b.cut, b.withdrawn) for a, b in pairwise(found)
    )
