"""The free-text pruner on chains whose dead ends are known: what it removes, and whether rightly.

    python -m tests.bench.pruning --save

Replayable: traces in the bundled teacher's language, which the pruner reads without knowing it; the truth is what
`CountdownPruner` removes by replay. Game of 24: wrong samples of a model before a right one (`tot_game24_gpt4_cot`),
joined by held-out phrases. Spliced: see `_splices`. Rules were chosen on one half of the problems (by a hash); both
halves of `spliced` are told. The data lie in `../shared/data`, beside the project's root; without them only the first
part is run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from factory.prune.base import HEDGE, REPEATED_CHECK, Cut, merge
from factory.prune.countdown import CountdownPruner
from factory.prune.freetext import FreeTextPruner, question_of
from factory.prune.rests import withdraw
from factory.sources import countdown
from factory.stats import bootstrap
from factory.types import Check, Message, Problem
from pipelines.teachers.countdown import traces
from tests.bench._splices import DATA, rows, splices
from tests.bench._turnings import HELD_OUT

RESULTS = Path(__file__).parent / "results" / "pruning.json"
SPARED = frozenset({REPEATED_CHECK, HEDGE})


@dataclass(frozen=True, slots=True)
class Known:
    """A chain and which of its characters should go."""

    problem: Problem
    text: str
    gone: list[tuple[int, int]]


def made_cuts(problem: Problem, text: str, spared: frozenset[str] = SPARED) -> tuple[list[Cut], int]:
    """The cuts that are made, and how many are withdrawn."""
    cuts = merge(cut for cut in FreeTextPruner().cuts(problem, text) if cut.reason not in spared)
    back = {cut for cut, _ in withdraw(question_of(problem), text, cuts)}
    return [cut for cut in cuts if cut not in back], len(back)


def measured(chains: Iterable[Known]) -> dict[str, Any]:
    """Precision and recall in characters over all chains, each with 95% by a bootstrap over chains."""
    told = [_overlap(one) for one in chains]
    return {
        "chains": len(told),
        "precision": _share([(right, removed) for right, removed, _, _ in told]),
        "recall": _share([(right, wanted) for right, _, wanted, _ in told]),
        "withdrawn": sum(back for *_, back in told),
    }


def _overlap(one: Known) -> tuple[int, int, int, int]:
    """Characters rightly removed, removed, and to be removed; cuts withdrawn."""
    cuts, back = made_cuts(one.problem, one.text)
    right = sum(max(0, min(c.end, end) - max(c.start, start)) for c in cuts for start, end in one.gone)
    return right, sum(cut.end - cut.start for cut in cuts), sum(end - start for start, end in one.gone), back


def _share(pairs: Sequence[tuple[int, int]]) -> list[float]:
    """[of all chains, lower end, upper end]"""

    def share(places: Sequence[float]) -> float:
        chosen = [pairs[int(at)] for at in places]
        return sum(part for part, _ in chosen) / (sum(whole for _, whole in chosen) or 1)

    found = bootstrap(list(range(len(pairs))), share)
    return [round(end, 4) for end in (found.value, found.low, found.high)]


def controls(chains: Iterable[Known]) -> dict[str, Any]:
    """The right attempts alone, from which nothing should be removed."""
    cut = [made_cuts(one.problem, one.text[one.gone[0][1] :])[0] for one in chains]
    return {"chains": len(cut), "cut": sum(1 for cuts in cut if cuts)}


def teachers(count: int, seed: int = 11) -> Iterator[Known]:
    """Traces of the bundled teacher's training, with the truth by replay; the check is taken away from the pruner."""
    draw = random.Random(seed)
    for _ in range(count):
        instance = countdown.draw(draw)
        search = traces.Search(draw, instance, draw.choice(list(traces.POLICIES.values()))).run()
        if search.solved:
            lines = "".join(line.text for line in search.lines)
            yield _replayed(instance, f"<think>\n{lines}</think>\nanswer {search.answer}")


def _replayed(instance: countdown.Instance, text: str) -> Known:
    messages = (Message("user", countdown.prompt_text(instance)),)
    played = Problem("0", messages, None, (Check("countdown", {"numbers": list(instance.numbers)}),), "bench")
    truth = CountdownPruner().cuts(played, text)
    return Known(Problem("0", messages, None, (), "bench"), text, [(cut.start, cut.end) for cut in truth])


def game24(seed: int = 5) -> Iterator[Known]:
    """Each right sample behind one to three wrong ones."""
    draw = random.Random(seed)
    for row in rows("rollouts/tot_game24_gpt4_cot_100x100.jsonl"):
        right = [text for text, info in zip(row["ys"], row["infos"], strict=True) if info["r"] == 1]
        wrong = [text for text, info in zip(row["ys"], row["infos"], strict=True) if info["r"] == 0]
        if right and wrong:
            bad = draw.sample(wrong, min(len(wrong), draw.randint(1, 3)))
            front = "".join(f"{text.strip()}\n\n{draw.choice(HELD_OUT)}\n\n" for text in bad)
            problem = Problem(str(row["idx"]), (Message("user", _puzzle(row["idx"])),), None, (), "bench")
            yield Known(problem, front + draw.choice(right).strip(), [(0, len(front))])


def _puzzle(index: int) -> str:
    for row in rows("rollouts/tot_game24_gpt4_bfs_tree.jsonl"):
        if row["idx"] == index:
            return f"Use {row['steps'][0]['x']} to make 24."
    return "Make 24."


def spliced(*, tuned: bool) -> list[Known]:
    """One half of the spliced chains."""
    return [Known(one.problem, one.text, [(0, one.end)]) for one in splices(HELD_OUT, 1000, tuned=tuned)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {"teacher": measured(teachers(300))}
    print("teacher", figures["teacher"], flush=True)
    if not DATA.is_dir():
        print(f"the rest is skipped: there is no {DATA}", file=sys.stderr)
        return
    figures["game24"] = measured(game24())
    print("game24", figures["game24"], flush=True)
    for half in (True, False):
        chains = spliced(tuned=half)
        name = "tuned" if half else "reported"
        figures[f"spliced, {name}"] = measured(chains)
        figures[f"controls, {name}"] = controls(chains)
        print(name, figures[f"spliced, {name}"], figures[f"controls, {name}"], flush=True)
    if options.save:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
