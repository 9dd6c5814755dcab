"""What the free-text rules remove from chains of which people and models measured what each sentence is worth.

    python -m tests.bench.anchors --save

`thought_anchors`: 32 chains (8 problems, two models, a right and a wrong one of each), each sentence with what it
depends on (said by a model) and its importance (measured: how far the share of right ends moves when the sentence is
drawn again and comes out meaning otherwise). The rules are given a `Chain`, which has the question and the text and
nothing else; labels are read from the file after all cuts are made.

What is removed is compared with 1,000 random cuts of as many sentences each, that begin within `NEAR` of the chain's
length of where the rules' cuts begin, and with as many sentences cut from the end. Sentences are those of the thinking;
what a chain writes up behind it is never cut and not labelled. Intervals: bootstrap over chains, and over problems, of
which there are 8. The data lie in `../shared/data`, beside the project's root.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from factory.prune.answers import said
from factory.prune.base import Cut
from factory.prune.freetext import after_first_right
from factory.stats import bootstrap
from factory.types import Outcome
from tests.bench._splices import math_problem, outcome, rows
from tests.bench.long_chains import without
from tests.bench.pruning import SPARED, made_cuts

RESULTS = Path(__file__).parent / "results" / "anchors.json"
FILE = "steps/thought_anchors_r1distill_math.jsonl.gz"
DRAWS = 1000
NEAR = 0.15
"""Share of a chain's sentences that a random cut may begin before or behind the cut it stands for."""
VARIANTS = {"pruned": SPARED, "concise": frozenset[str]()}


@dataclass(frozen=True, slots=True)
class Chain:
    """All that the rules are given."""

    question: str
    text: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What was measured of one chain's sentences, and where they stand."""

    problem: str
    right: bool
    spans: list[tuple[int, int]]
    """Offsets of each sentence into the text."""
    depends: list[frozenset[int]]
    """Indices of the sentences that each depends on."""
    ground: frozenset[int]
    """Those on which the last one rests, through any number of others."""
    gain: list[float]
    """How much larger the share of right ends is with each sentence than with another in its place, in [-1, 1]."""
    settled: int
    """Index of the first sentence behind the first right answer; as many as there are where none is said."""


@dataclass(frozen=True, slots=True)
class Removed:
    """Sentences that one way of cutting removes from one chain."""

    labels: Labels
    gone: frozenset[int]


def chains() -> list[Chain]:
    return [Chain(row["problem"]["problem"], row["base_solution"]["solution"]) for row in rows(FILE)]


def labels() -> list[Labels]:
    return [_labels(row) for row in rows(FILE)]


def _labels(row: dict[str, Any]) -> Labels:
    text, chunks = row["base_solution"]["solution"], row["chunks"]
    spans = list(_located(text, [one["chunk"] for one in chunks]))
    right = after_first_right(text, lambda prefix: _is_right(row["problem"], prefix))
    settled = right.start if right else len(text)
    depends = [frozenset(map(int, one["depends_on"])) for one in chunks]
    return Labels(
        row["_problem_id"],
        row["base_solution"]["is_correct"],
        spans,
        depends,
        _ground(depends),
        [-one["counterfactual_importance_accuracy"] for one in chunks],  # there it is another's share less this one's
        sum(1 for start, _ in spans if start < settled),
    )


def _is_right(problem: dict[str, Any], prefix: str) -> bool:
    return outcome(math_problem(problem["problem"], problem["gt_answer"]), prefix) is Outcome.PASS


def _ground(depends: Sequence[frozenset[int]]) -> frozenset[int]:
    found, todo = set[int](), [len(depends) - 1]
    while todo:
        new = depends[todo.pop()] - found
        found |= new
        todo += new
    return frozenset(found)


def _located(text: str, sentences: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where sentences that were taken from a text, without some of its blanks, stand in it."""
    solid = [at for at, letter in enumerate(text) if not letter.isspace()]
    bare, at = "".join(text[place] for place in solid), 0
    for sentence in sentences:
        wanted = "".join(sentence.split())
        at = bare.index(wanted, at)
        yield solid[at], solid[at + len(wanted) - 1] + 1
        at += len(wanted)


# --- ways of cutting


def removed(spans: Sequence[tuple[int, int]], cuts: Sequence[Cut]) -> frozenset[int]:
    """Sentences of which more than half is cut."""
    return frozenset(
        at for at, (start, end) in enumerate(spans) if 2 * sum(_common(start, end, cut) for cut in cuts) > end - start
    )


def _common(start: int, end: int, cut: Cut) -> int:
    return max(0, min(end, cut.end) - max(start, cut.start))


def runs(gone: frozenset[int]) -> list[tuple[int, int]]:
    """Stretches of sentences: (first, how many)."""
    firsts = [at for at in sorted(gone) if at - 1 not in gone]
    return [(at, next(n for n in range(1, len(gone) + 1) if at + n not in gone)) for at in firsts]


def random_cut(draw: random.Random, stretches: Sequence[tuple[int, int]], end: int, near: int) -> frozenset[int]:
    """As many stretches of the same lengths, apart and near to where these are."""
    while True:
        taken: set[int] = set()
        for first, count in stretches:
            low, high = max(0, first - near), min(end - count, first + near)
            place = draw.randint(min(low, high), high)
            taken |= set(range(place, place + count))
        if len(taken) == sum(count for _, count in stretches):
            return frozenset(taken)


def tail(count: int, end: int) -> frozenset[int]:
    """The last sentences."""
    return frozenset(range(end - count, end))


# --- figures of what was cut: a sum and a count for each chain, which are added up over chains

Share = tuple[float, float]


def resting(one: Removed) -> Share:
    """Kept sentences behind the first cut that depend on a removed one, of all that are kept behind it."""
    kept = [at for at in range(min(one.gone), len(one.labels.spans)) if at not in one.gone]
    return sum(not one.gone.isdisjoint(one.labels.depends[at]) for at in kept), len(kept)


def needed(one: Removed) -> Share:
    """Removed sentences on which the last sentence rests, through any number of others, of all removed."""
    return len(one.gone & one.labels.ground), len(one.gone)


def importance(one: Removed) -> Share:
    """How far the removed sentences move the share of right ends, in either direction."""
    return sum(abs(one.labels.gain[at]) for at in one.gone), len(one.gone)


def gain(one: Removed) -> Share:
    """How much they raise it."""
    return sum(one.labels.gain[at] for at in one.gone), len(one.gone)


def importance_of_kept(one: Removed) -> Share:
    """The importance of the sentences that stay."""
    kept = [abs(one.labels.gain[at]) for at in range(len(one.labels.spans)) if at not in one.gone]
    return sum(kept), len(kept)


FIGURES: dict[str, Callable[[Removed], Share]] = {
    "kept_resting_on_removed": resting,
    "removed_that_the_end_rests_on": needed,
    "importance_of_removed": importance,
    "gain_of_removed": gain,
}


def compared(cut: Sequence[Removed], ends: Callable[[Labels], int], *, blind: bool = True) -> dict[str, Any]:
    """Every figure of the rules' cuts, of random ones and of the tail; smaller is better in all.

    `ends`: behind which sentence of a chain nothing is cut. `blind`: whether to compare with the tail.
    """
    ours = [one for one in cut if one.gone]
    told: dict[str, Any] = {"chains": len(ours), "sentences": sum(len(one.gone) for one in ours)}
    if not ours:
        return told
    draw = random.Random(3)
    where = [(one.labels, runs(one.gone), ends(one.labels)) for one in ours]
    drawn = [[_drawn(draw, *place) for place in where] for _ in range(DRAWS)]
    tails = [Removed(one.labels, tail(len(one.gone), ends(one.labels))) for one in ours]
    for name, figure in FIGURES.items():
        told[name] = _figure(figure, ours, drawn, tails if blind else None)
    kept = _compared(ours, list(map(importance, ours)), list(map(importance_of_kept, ours)), "kept")
    return told | {"importance_against_kept": kept}


def _drawn(draw: random.Random, labels: Labels, stretches: Sequence[tuple[int, int]], end: int) -> Removed:
    return Removed(labels, random_cut(draw, stretches, end, max(3, round(NEAR * end))))


def _figure(
    figure: Callable[[Removed], Share],
    ours: Sequence[Removed],
    drawn: Sequence[Sequence[Removed]],
    tails: Sequence[Removed] | None,
) -> dict[str, Any]:
    own, others = list(map(figure, ours)), [list(map(figure, one)) for one in drawn]
    told = _compared(ours, own, [_mean(shares) for shares in zip(*others, strict=True)], "random")
    told["random_at_most_rules"] = fmean(_pooled(one) <= _pooled(own) for one in others)
    return told if tails is None else told | _compared(ours, own, list(map(figure, tails)), "tail")


def _mean(shares: Sequence[Share]) -> Share:
    return fmean(share[0] for share in shares), fmean(share[1] for share in shares)


def _pooled(shares: Sequence[Share]) -> float:
    return sum(share[0] for share in shares) / (sum(share[1] for share in shares) or 1)


def _compared(ours: Sequence[Removed], own: Sequence[Share], other: Sequence[Share], name: str) -> dict[str, Any]:
    """Both figures, and 95% of the difference between them, over chains and over problems."""
    problems = sorted({one.labels.problem for one in ours})
    by_problem = [[at for at, one in enumerate(ours) if one.labels.problem == problem] for problem in problems]
    return {
        "rules": round(_pooled(own), 4),
        name: round(_pooled(other), 4),
        f"less_{name}_by_chain": _interval(own, other, [[at] for at in range(len(ours))]),
        f"less_{name}_by_problem": _interval(own, other, by_problem),
    }


def _interval(own: Sequence[Share], other: Sequence[Share], groups: Sequence[Sequence[int]]) -> list[float]:
    def difference(chosen: Sequence[float]) -> float:
        places = [at for group in chosen for at in groups[int(group)]]
        return _pooled([own[at] for at in places]) - _pooled([other[at] for at in places])

    found = bootstrap(list(range(len(groups))), difference)
    return [round(end, 4) for end in (found.value, found.low, found.high)]


# --- the whole of it


def measured() -> dict[str, Any]:
    """Cuts first, of chains alone; then the labels."""
    read = chains()
    cuts = {name: [_cuts(chain, spared) for chain in read] for name, spared in VARIANTS.items()}
    known = labels()
    told = {name: _of_variant(known, cuts[name]) for name in VARIANTS}
    return {name: told[name] | _answers(read, known, cuts[name]) for name in VARIANTS}


def _cuts(chain: Chain, spared: frozenset[str]) -> list[Cut]:
    return made_cuts(math_problem(chain.question, ""), chain.text, spared)[0]


def _of_variant(known: Sequence[Labels], cuts: Sequence[list[Cut]]) -> dict[str, Any]:
    ours = [Removed(one, removed(one.spans, made)) for one, made in zip(known, cuts, strict=True)]
    right = [one for one in ours if one.labels.right]
    early = [Removed(one.labels, frozenset(at for at in one.gone if at < one.labels.settled)) for one in right]
    told = {"all": compared(ours, _whole), "right chains": compared(right, _whole)}
    told["right chains, before the first right answer"] = compared(early, lambda one: one.settled, blind=False)
    for kind in sorted({cut.reason for made in cuts for cut in made}):
        only = [[cut for cut in made if cut.reason == kind] for made in cuts]
        told[kind] = compared(
            [Removed(one, removed(one.spans, made)) for one, made in zip(known, only, strict=True)], _whole
        )
    return told


def _whole(one: Labels) -> int:
    return len(one.spans)


def _answers(read: Sequence[Chain], known: Sequence[Labels], cuts: Sequence[list[Cut]]) -> dict[str, int]:
    left = [without(chain.text, made) for chain, made in zip(read, cuts, strict=True)]
    lost = sum(said(short) != said(chain.text) for short, chain in zip(left, read, strict=True))
    whole = sum(len(chain.text) for chain in read)
    return {
        "chains": len(read),
        "right": sum(one.right for one in known),
        "final_answers_lost": lost,
        "characters": whole,
        "characters_removed": whole - sum(map(len, left)),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    figures = measured()
    print(json.dumps(figures, indent=1))
    if options.save:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
