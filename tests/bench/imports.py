"""Every recorded file of the shared data, imported, verified again, refined and checked, unattended.

    python -m tests.bench.imports --save
    python -m tests.bench.imports --only rg_easy --show 10      # attempts whose claim our verdict denies

A file that breaks anything is named with its traceback, and the others go on. Exit status 1 if one did, or if a count
does not add up: what `tests.imported` holds against each other. `--show` prints texts of the data; nothing of them is
saved.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from factory.runs import open_run
from pipelines import build
from tests.imported import DATA, FILES, LEFT_OUT, VARIANTS, Figures, File, brought_in, claim_of, outcome_of

RESULTS = Path(__file__).parent / "results" / "imports.json"


def measured(file: File, show: int) -> Figures:
    """One file in a fresh run folder."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = brought_in(file, DATA / file.path, f"{folder}/run")
        except Exception:  # noqa: BLE001 - whatever a file breaks is what this looks for
            traceback.print_exc()
            return Figures(file.path, file.format, file.spec, faults=[traceback.format_exc().splitlines()[-1]])
        if show:
            _show(f"{folder}/run", show)
        return figures


def _show(run: str, count: int) -> None:
    """Some attempts of which the file says the opposite of our verifiers."""
    denied = [
        (tree, leaf)
        for tree in open_run(run).rollouts()
        for leaf in tree.leaves()
        if {claim_of(leaf), outcome_of(leaf)} == {"right", "wrong"}
    ]
    for tree, leaf in random.Random(3).sample(denied, min(count, len(denied))):
        said = {} if leaf.recorded is None else leaf.recorded.claims
        print(f"--- {tree.problem.id}, {leaf.id}: claimed {said}, reference {tree.problem.reference!r}")
        for one in leaf.verdicts:
            print(f"    {one.verifier}: {one.outcome} {one.extracted!r}: {one.evidence}")
        print("    " + repr(tree.path(leaf.id)[-1].text[-300:]))


def table(all_figures: Iterable[Figures]) -> str:
    """In Markdown, as RESULTS has it."""
    head = (
        *("file", "rows", "refused", "problems", "attempts", "right", "wrong", "unknown", "claims: agree, deny"),
        *(f"kept: {', '.join(VARIANTS)}", "rejected", "s"),
    )
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *map(_line, all_figures)])


def _line(one: Figures) -> str:
    out, agree = one.outcomes, one.claims.get("agree", 0)
    denied = sum(count for pair, count in one.claims.items() if set(pair.split(", ")) == {"right", "wrong"})
    cells = (
        Path(one.file).name.partition(".")[0],
        f"{one.rows:,}",
        f"{sum(one.refused.values()):,}",
        f"{one.problems:,}",
        f"{sum(out.values()):,}",
        *(f"{out.get(outcome, 0):,}" for outcome in ("right", "wrong", "unknown")),
        f"{agree:,}, {denied:,}" if one.claims else "-",
        ", ".join(f"{one.kept.get(variant, 0):,}" for variant in VARIANTS),
        ", ".join(f"{reason} {count:,}" for reason, count in sorted(one.rejected.items(), key=lambda pair: -pair[1])),
        f"{sum(one.seconds.values()):.0f}",
    )
    return "| " + " | ".join(cells) + " |"


def _save(found: Iterable[Figures]) -> None:
    """Into the results; those of files that were not looked at stay."""
    before = json.loads(RESULTS.read_text())["files"] if RESULTS.exists() else []
    known = {one["file"]: one for one in before} | {one.file: asdict(one) for one in found}
    files = [known[file.path] for file in FILES if file.path in known]
    RESULTS.write_text(json.dumps({"files": files, "left_out": LEFT_OUT}, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--only", default="", help="files that have this in their names")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N disagreements of each file")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"there is no {DATA}")
    found = []
    for file in (one for one in FILES if options.only in one.name):
        found.append(measured(file, options.show))
        print(json.dumps(asdict(found[-1])), flush=True)
    build.close_jails()
    print(table(found))
    if options.save:
        _save(found)
    return 1 if any(one.faults for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
