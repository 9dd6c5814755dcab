"""What the free-text rules do to long chains of real students: all Sky-T1 files, loops, savings, and cuts to be read.

    python -m tests.bench.long_chains --save
    python -m tests.bench.long_chains --read 50 --seed 1 > cuts.txt

A trace is called a looping one by the rules where they find a loop; and, without them, where zlib shrinks it
`COMPRESSED` times. Only right chains are pruned, so savings and what is kept are told of those. `--read` writes out
cuts of right chains with what stands around them, drawn at random and stratified by kind: a judge reads them, and the
judgements stand in `results/cuts_read.json`. Sizes are in characters, and in the pieces that GPT-2's tokenizer splits a
text into before it merges bytes, since no tokenizer of these models is at hand. The data lie in `../shared/data`.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from factory.prune.answers import said
from factory.prune.base import LOOP, Cut, merge
from factory.prune.freetext import FreeTextPruner, after_first_right, is_answer_only, question_of
from factory.prune.rests import withdraw
from factory.prune.transcripts import SPARED
from factory.stats import wilson
from factory.types import Outcome, Problem
from tests.bench._splices import DATA, math_problem, outcome, rows

RESULTS = Path(__file__).parent / "results" / "long_chains.json"
JUDGED = Path(__file__).parent / "results" / "cuts_read.json"
COMPRESSED = 10.0
"""Times that zlib shrinks a text from which on it is called a looping one."""
AROUND = 500
"""Characters of what stands before and behind a cut that a judge is shown."""
SHOWN = 2400
"""Characters of a cut that a judge is shown, half from its beginning and half from its end."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A recorded attempt."""

    file: str
    row: int
    """Place in its file, from 0."""
    problem: Problem
    text: str
    right: bool
    """As recorded."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules find in a chain: all cuts that any variant makes, before any is withdrawn."""

    chain: Chain
    cuts: list[Cut]

    def made(self, variant: str) -> tuple[list[Cut], list[Cut]]:
        """The cuts that a variant makes, and those that are withdrawn since a kept step rests on them."""
        cuts = merge(cut for cut in self.cuts if cut.reason not in SPARED[variant])
        back = {cut for cut, _ in withdraw(question_of(self.chain.problem), self.chain.text, cuts)}
        return [cut for cut in cuts if cut not in back], [cut for cut in cuts if cut in back]


def chains() -> Iterator[Chain]:
    for path in sorted((DATA / "rollouts").glob("skyt1_*")):
        for place, row in enumerate(rows(f"rollouts/{path.name}")):
            problem = math_problem(row["question"], row["gt"])
            yield Chain(path.name, place, problem, row["code"][0], bool(row["score"][0]))


def found(chain: Chain) -> Found:
    return Found(chain, FreeTextPruner().cuts(chain.problem, chain.text))


def without(text: str, cuts: Sequence[Cut]) -> str:
    """A text without cuts that are in order and disjoint."""
    for cut in reversed(cuts):
        text = text[: cut.start] + text[cut.end :]
    return text


# --- loops


def loop_figures(read: Sequence[Found]) -> dict[str, Any]:
    """How often the rules and the compression ratio agree about whole chains, and how much of a chain loops."""
    told: Counter[str] = Counter()
    size: dict[str, list[int]] = defaultdict(list)
    for one in read:
        data = one.chain.text.encode()
        looped = sum(cut.end - cut.start for cut in one.cuts if cut.reason == LOOP)
        shrinks = len(data) >= COMPRESSED * len(zlib.compress(data))
        key = f"{'loop' if looped else 'no loop'}, {'compresses' if shrinks else 'does not compress'}"
        told[key] += 1
        told[f"right: {key}"] += one.chain.right
        size[key].append(round(100 * looped / len(one.chain.text)))
    middle = {key: round(median(values)) for key, values in size.items() if key.startswith("loop")}
    return {"counts": dict(told), "median_percent_that_loops": middle}


# --- what each variant leaves


def savings(right: Sequence[Found]) -> dict[str, Any]:
    """Of right chains: sizes, what is withdrawn, and what is refused, by variant."""
    told = {variant: _saved((one, *one.made(variant)) for one in right) for variant in ("pruned", "concise")}
    return told | {"first_correct": _saved((one, *_first_correct(one)) for one in right)}


def _first_correct(one: Found) -> tuple[list[Cut], list[Cut]]:
    cut = after_first_right(one.chain.text, lambda prefix: outcome(one.chain.problem, prefix) is Outcome.PASS)
    back = withdraw(question_of(one.chain.problem), one.chain.text, [cut] if cut else [])
    return ([cut] if cut and not back else []), [gone for gone, _ in back]


def _saved(right: Iterable[tuple[Found, list[Cut], list[Cut]]]) -> dict[str, Any]:
    told: Counter[str] = Counter()
    for one, cuts, back in right:
        left = without(one.chain.text, cuts)
        told["chains"] += 1
        told["cut"] += bool(cuts)
        told["characters"] += len(one.chain.text)
        told["characters_left"] += len(left)
        told["pieces"] += pieces(one.chain.text)
        told["pieces_left"] += pieces(left)
        told["final_answer_lost"] += said(left) != said(one.chain.text)
        told["answer_only"] += bool(cuts) and is_answer_only(one.chain.text, cuts)
        told["cuts_made"] += len(cuts)
        told["cuts_withdrawn"] += len(back)
        told["chains_with_a_withdrawn_cut"] += bool(back)
    share = wilson(told["cuts_withdrawn"], max(told["cuts_made"] + told["cuts_withdrawn"], 1))
    return {
        **told,
        "saved_characters": round(1 - told["characters_left"] / told["characters"], 4),
        "saved_pieces": round(1 - told["pieces_left"] / told["pieces"], 4),
        "withdrawn_share": [round(end, 3) for end in (share.value, share.low, share.high)],
    }


@cache
def _splitter() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False)


def pieces(text: str) -> int:
    """What GPT-2's tokenizer splits a text into before it merges bytes: words, numbers, signs, blanks."""
    return len(_splitter().pre_tokenize_str(text))


# --- cuts to be read


def drawn(right: Sequence[Found], count: int, seed: int) -> list[tuple[Found, Cut]]:
    """Cuts of `concise`, as many of each kind as there are, up to an equal share of `count`; at most two of a chain."""
    draw = random.Random(seed)
    by_kind: dict[str, list[tuple[Found, Cut]]] = defaultdict(list)
    for one in right:
        for cut in one.made("concise")[0]:
            by_kind[cut.reason].append((one, cut))
    for kind in sorted(by_kind):
        draw.shuffle(by_kind[kind])
    taken: list[tuple[Found, Cut]] = []
    of_chain: Counter[tuple[str, int]] = Counter()
    while len(taken) < count and any(by_kind.values()):
        for kind in sorted(by_kind):
            fresh = next((one for one in by_kind[kind] if of_chain[one[0].chain.file, one[0].chain.row] < 2), None)
            by_kind[kind] = by_kind[kind][by_kind[kind].index(fresh) + 1 :] if fresh else []
            if fresh and len(taken) < count:
                taken.append(fresh)
                of_chain[fresh[0].chain.file, fresh[0].chain.row] += 1
    return taken


def shown(number: int, one: Found, cut: Cut) -> str:
    """A cut as a judge reads it: where it is, why it was made, what stands around it, and the cut itself."""
    text, chain = one.chain.text, one.chain
    body = text[cut.start : cut.end]
    if len(body) > SHOWN:
        body = f"{body[: SHOWN // 2]}\n[... {len(body) - SHOWN} characters ...]\n{body[-SHOWN // 2 :]}"
    head = (
        f"##### {number}: {chain.file} row {chain.row} at {cut.start}, {cut.reason}, {cut.end - cut.start} characters"
    )
    return "\n".join(
        [
            head,
            f"evidence: {cut.evidence}",
            f"question: {question_of(chain.problem)}",
            f"--- before\n{text[max(0, cut.start - AROUND) : cut.start]}",
            f"--- CUT\n{body}",
            f"--- behind\n{text[cut.end : cut.end + AROUND]}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--read", type=int, help="write out so many cuts instead")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.read:
        before = _read_before(options.seed)
        fresh = [one for one in _right() if (one.chain.file, one.chain.row) not in before]
        for number, (one, cut) in enumerate(drawn(fresh, options.read, options.seed)):
            print(shown(number, one, cut))
        return
    read = [found(chain) for chain in chains()]
    figures = {"loops": loop_figures(read), "right": savings([one for one in read if one.chain.right])}
    print(json.dumps(figures, indent=1))
    if options.save:
        RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


def _right() -> list[Found]:
    return [found(chain) for chain in chains() if chain.right]


def _read_before(seed: int) -> set[tuple[str, int]]:
    """Chains of which cuts of an earlier seed were judged: the rules may have been changed for them."""
    judged = json.loads(JUDGED.read_text())["cuts"] if JUDGED.exists() else []
    return {(one["file"], one["row"]) for one in judged if one["seed"] < seed}


if __name__ == "__main__":
    main()
