"""`factory show`: the first problems of a run, or one problem or transcript, on a terminal, as JSON or as a page.

`show_lookup` finds the rows, `show_view` makes of them what there is to see, and `show_terminal` and `show_page` draw
that. JSON gives the rows themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path

from factory.errors import ConfigError, StorageError
from factory.runs import Run, open_run
from pipelines.report import console, print_json
from pipelines.show_lookup import find, first
from pipelines.show_terminal import print_first, print_shown
from pipelines.show_view import shown


def show(url: str, what: str | None, *, as_json: bool = False, whole: bool = False, html: str | None = None) -> int:
    """Print a run's first problems, or what `what` names; as a page into the file `html`, `-` for standard output.

    `whole`: long texts are not shortened. Raises UserError for a name of nothing or of several, and for options that
    would do nothing.
    """
    _refuse_idle(what, as_json=as_json, whole=whole, html=html)
    run = open_run(url)
    if html is not None:
        _write(html, _page(run, url, what))
    elif what is None:
        _list(run, url, as_json=as_json)
    elif as_json:
        print_json({"url": url} | find(run, url, what).plain())
    else:
        print_shown(console(), shown(find(run, url, what)), whole=whole)
    return 0


def _refuse_idle(what: str | None, *, as_json: bool, whole: bool, html: str | None) -> None:
    if as_json and html is not None:
        raise ConfigError("--json and --html: choose one of them")
    if whole and (as_json or html is not None):
        raise ConfigError("--whole does nothing with --json or --html, which shorten no text")
    if whole and what is None:
        raise ConfigError("--whole does nothing without an id")


def _list(run: Run, url: str, *, as_json: bool) -> None:
    problems = list(first(run.store))
    if as_json:
        print_json({"url": url, "problems": problems})
    else:
        print_first(console(), url, problems)


def _page(run: Run, url: str, what: str | None) -> str:
    from pipelines.show_page import page

    if what is not None:
        return page(url, run.refinement, [], [shown(find(run, url, what))])
    problems = list(first(run.store))
    return page(url, run.refinement, problems, (shown(find(run, url, one["problem_id"])) for one in problems))


def _write(path: str, text: str) -> None:
    """As UTF-8, whatever the locale says. Raises StorageError, in one line."""
    data = text.encode()
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
    print(f"written: {path}", file=sys.stderr)
