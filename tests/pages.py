"""Reads a page of `factory show` back with the standard library's parser: its texts verbatim, and what it may load."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta"}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "article", "section", "details"),
    *("summary", "h1", "h2", "h3", "h4", "p", "b", "bdi", "a", "dl", "dt", "dd", "ul", "li", "div", "span", "del"),
    *("mark", "table", "caption", "thead", "tbody", "tr", "th", "td"),
}


@dataclass
class Block:
    """A text of the run: a message of the prompt, or what one speaker says in a version of a leaf."""

    whole: str = ""
    kept: str = ""
    cut: list[str] = field(default_factory=list)
    """Stretches that are struck through."""
    labels: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """A parsed page. Raises AssertionError for tags that are not nested, or that the template does not have."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.words = ""
        """Everything that is read on the page, texts included; white space as it stands."""
        self.attributes: list[tuple[str, str, str]] = []
        """Tag, name, value."""
        self.style = ""
        self.declarations: list[str] = []
        self._open: list[tuple[str, str, str]] = []
        """Tag, class and code point."""
        self.feed(source)
        self.close()
        assert not self._open

    def ids(self) -> set[str]:
        return {value for _, name, value in self.attributes if name == "id"}

    def handle_decl(self, decl: str) -> None:
        self.declarations.append(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs)
        self.attributes += ((tag, *pair) for pair in given.items())
        if tag in VOID:
            return
        self._open.append((tag, given.get("class", ""), given.get("data-code", "")))
        if (tag, given.get("class")) == ("div", "text"):
            self.blocks.append(Block())
        elif tag == "del":
            self.blocks[-1].cut.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._within("style"):
            self.style += data
            return
        self.words += data
        if not any((tag, kind) == ("div", "text") for tag, kind, _ in self._open):
            return
        _, kind, code = self._open[-1]
        if kind == "label":
            self.blocks[-1].labels.append(data)
        elif kind != "ending":
            self._add(chr(int(code, 16)) if code else data)

    def _add(self, text: str) -> None:
        block = self.blocks[-1]
        block.whole += text
        if self._within("del"):
            block.cut[-1] += text
        else:
            block.kept += text

    def _within(self, tag: str) -> bool:
        return any(one[0] == tag for one in self._open)
