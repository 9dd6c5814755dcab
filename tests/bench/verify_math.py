"""The math verifier against math-verify: whose verdicts are right, and how many pairs per second a core decides.

    python -m tests.bench.verify_math --rounds 3

The data are not part of the project: two files in `../shared/data/equivalence`, beside its root. The pairs of
`library_test_pairs.jsonl` are assertions from the tests of eight libraries; those with a flag, which depend on a
convention, are left out. Those of `model_pred_vs_gold_silver.jsonl` are answers of models whose text is not that of the
reference, with an automatic grader's label, which is wrong at times. Both sides are given the same texts: of the first
file as they are, of the second in a box. math-verify is asked as its documentation has it,
`verify(parse(gold), parse(pred))`, with dollars around what has no mark of a formula.

Speed is measured on the second file, one pair after the other in one thread, so that at most one core works at a time
(the verifier's algebra runs in another process, and is waited for). Both sides take turns, a hundred pairs each, and
start warm: the grammar is built, the sandbox is up.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from factory.stats import median_interval
from factory.types import Attempt, Check, Origin, Outcome, Problem, Span, Verdict
from factory.verifiers.base import Verifier, verdicts
from factory.verifiers.math.jailed import JailedAlgebra
from factory.verifiers.math.verifier import MathVerifier

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "equivalence"
RESULTS = Path(__file__).parent / "results" / "verify_math.json"
CHUNK = 100


@dataclass(frozen=True, slots=True)
class Pair:
    """One row."""

    gold: str
    pred: str
    label: bool


Side = Callable[[Pair], bool | None]
"""Says whether the answer is accepted; None: it cannot say."""


def pairs_of(name: str, *, boxed: bool) -> list[Pair]:
    """The rows of a file without those that are flagged (in the first file), as texts of attempts."""
    path = DATA / name
    if not path.is_file():
        sys.exit(f"{path} is not there: this benchmark reads data that are not part of the project")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    box = "\\boxed{{{}}}" if boxed else "{}"
    return [
        Pair(box.format(row["gold"]), box.format(row["pred"]), row["verdict"])
        for row in rows
        if boxed or not row["flag"]
    ]


class Ours:
    """The verifier behind its boundary, as the factory asks it."""

    def __init__(self) -> None:
        self._algebra = JailedAlgebra()
        self._verifiers: dict[str, Verifier] = {"math": MathVerifier(self._algebra)}

    def __call__(self, pair: Pair) -> bool | None:
        outcome = self.verdict(pair).outcome
        return None if outcome is Outcome.UNKNOWN else outcome is Outcome.PASS

    def verdict(self, pair: Pair) -> Verdict:
        problem = Problem("bench", (), pair.gold, (Check("math"),), "bench")
        return verdicts(self._verifiers, problem, Attempt((Span(pair.pred, Origin.SAMPLED),)))[0]

    def close(self) -> None:
        self._algebra.close()


def math_verify() -> Side:
    logging.disable(logging.WARNING)
    library = import_module("math_verify")

    def accepts(pair: Pair) -> bool | None:
        return bool(library.verify(library.parse(_marked(pair.gold)), library.parse(_marked(pair.pred))))

    return accepts


def _marked(text: str) -> str:
    """math-verify takes bare text for no formula, as its documentation says."""
    return text if re.search(r"\$|\\boxed|\\\(|\\\[", text) else f"${text}$"


def agreement(side: Side, pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often a side and the labels agree: an answer that nobody can judge is one that is not accepted."""
    found = [(side(pair), pair.label) for pair in pairs]
    return {
        "pairs": len(pairs),
        "agreed": sum((said is True) == label for said, label in found),
        "agreed_where_unknown_never_agrees": sum(said is label for said, label in found),
        "accepted_against_the_label": sum(said is True and not label for said, label in found),
        "not_accepted_against_the_label": sum(said is not True and label for said, label in found),
        "unknown": sum(said is None for said, _ in found),
    }


def disagreements(ours: Ours, pairs: Sequence[Pair]) -> Iterator[str]:
    for pair in pairs:
        verdict = ours.verdict(pair)
        if (verdict.outcome is Outcome.PASS) != pair.label or verdict.outcome is Outcome.UNKNOWN:
            label = "equal" if pair.label else "different"
            cells = (f"`{_short(pair.gold)}`", f"`{_short(pair.pred)}`", label, verdict.outcome, verdict.evidence)
            yield f"| {' | '.join(cells)} |"


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= 90 else f"{line[:40]} ... {line[-45:]}"


def timed(sides: Mapping[str, Side], pairs: Sequence[Pair]) -> dict[str, float]:
    """Pairs per second of each side, which take turns."""
    seconds = dict.fromkeys(sides, 0.0)
    for number, start in enumerate(range(0, len(pairs), CHUNK)):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            began = time.perf_counter()
            for pair in pairs[start : start + CHUNK]:
                sides[name](pair)
            seconds[name] += time.perf_counter() - began
    return {name: len(pairs) / spent for name, spent in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=0, help="of the second file, evenly spread; 0 for all")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    arguments = parser.parse_args()
    library = pairs_of("library_test_pairs.jsonl", boxed=False)
    silver = pairs_of("model_pred_vs_gold_silver.jsonl", boxed=True)
    if arguments.pairs:
        silver = silver[:: max(1, len(silver) // arguments.pairs)]
    ours = Ours()
    sides: dict[str, Side] = {"ours": ours, "math-verify": math_verify()}
    warm = Pair("\\boxed{\\sin^2 x + \\cos^2 x}", "\\boxed{1}", True)
    assert all(side(warm) for side in sides.values())
    print("| reference | answer | label | ours | rules |\n| --- | --- | --- | --- | --- |")
    print(*disagreements(ours, library), sep="\n")
    result = _result(sides, library, silver, arguments.rounds)
    ours.close()
    print(json.dumps(result, indent=2))
    if arguments.save:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def _result(sides: Mapping[str, Side], library: list[Pair], silver: list[Pair], rounds: int) -> dict[str, Any]:
    rates = []
    for number in range(rounds):
        rates.append(timed(sides, silver))
        shown = ", ".join(f"{name} {rate:,.0f} pairs/s" for name, rate in rates[-1].items())
        print(f"round {number}: {shown}", flush=True)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "library_pairs": {name: agreement(side, library) for name, side in sides.items()},
        "silver_pairs": {name: agreement(side, silver) for name, side in sides.items()},
        "pairs_per_second": {name: sorted(round(rate[name], 1) for rate in rates) for name in sides},
        "ratio": asdict(median_interval([rate["ours"] / rate["math-verify"] for rate in rates])),
    }


if __name__ == "__main__":
    main()
