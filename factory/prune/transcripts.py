"""From a closed tree to transcripts, kept and rejected: every leaf that was paid for is accounted for.

A leaf that is not right, or does not count, gives one rejected transcript of its whole text (variant `full`). A right
leaf gives one transcript per variant, which are texts with more or less removed:

    full            nothing
    first_correct   what the thinking says behind the first answer that verifies
    pruned          given-up attempts, and loops
    concise         checks that repeat and hedging as well
    reflective      as `pruned`, but one given-up attempt, the shortest, stays with the turn away from it

Where nothing is removed all are kept, with the same text: a student trained on one of them wants every right leaf. A
cut that a pruner guessed is withdrawn where what stays seems to rest on it; the transcript names it. Where no reasoning
is left but the answer, the transcript is rejected as ANSWER_ONLY.

A transcript is a `Draft` until an engine was asked about its cuts, where one is: `without` makes it again, and verifies
it again, less the cuts that failed. Only then `distinct` tells which of a tree's texts are the same.

Of a revised answer `full` is the whole conversation, criticisms included, and every other variant the last attempt
alone, as if it had been the first: earlier turns are removed as EARLIER_TURN, and the pruners see what is left.
Verifiers see the last attempt of any.

The rule of what is right: the answer PASSes, and the chain PASSes or no verifier of the problem judges chains. An
UNKNOWN of either is neither right nor wrong and is never kept. Leaves are judged by the verdicts recorded in the tree;
a text that pruning changed is judged again, and those are the verdicts that its transcript carries. To refine with a
better verifier, or with reviews that have come in, `relabel` the tree first.

A transcript's text is verbatim what was in the tree, each span with its origin; with its removals put back at their
offsets it is the whole completion again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from factory import ids
from factory.errors import ConfigError
from factory.prune.base import ABANDONED, HEDGE, REPEATED_CHECK, Cut, Pruner, merge
from factory.prune.freetext import after_first_right, is_answer_only, question_of
from factory.prune.rests import withdraw
from factory.types import (
    Aspect,
    Attempt,
    Node,
    NodeState,
    Origin,
    Outcome,
    Problem,
    Removal,
    Seam,
    Span,
    Transcript,
    Tree,
    Verdict,
    attempt_of,
    last_turn,
    last_turn_of,
    spans_of,
    worst,
)

FULL, FIRST_CORRECT, REFLECTIVE = "full", "first_correct", "reflective"
SPARED = {
    "pruned": frozenset({REPEATED_CHECK, HEDGE}),
    "concise": frozenset[str](),
    REFLECTIVE: frozenset({REPEATED_CHECK, HEDGE}),
}
"""Which reasons of cuts each variant does not remove."""
VARIANTS = (FULL, FIRST_CORRECT, *SPARED)

EARLIER_TURN = "earlier_turn"
"""The reason for which all that stands before the last attempt is removed."""

Judge = Callable[[Problem, Attempt], tuple[Verdict, ...]]
"""Every check of a problem on an attempt; never raises for trouble in a verifier."""
Renew = Callable[[Problem, Attempt, Sequence[Verdict]], tuple[Verdict, ...]]
"""The same, where verdicts on this text are recorded: those of today's versions are kept."""


class Rejection(StrEnum):
    """Why a leaf, or one variant of it, is no training example."""

    TRUNCATED = "truncated"
    """The token limit cut it: it is no attempt."""
    WRONG_ANSWER = "wrong_answer"
    """A verifier found the answer wrong."""
    UNKNOWN_VERDICT = "unknown_verdict"
    """No verifier decided about the answer, or one that judges chains could not decide about the chain."""
    WRONG_CHAIN = "wrong_chain"
    """The answer is right, but the chain is wrong or does not support it."""
    BEYOND_STOP = "beyond_stop"
    """Right, but beyond the attempt at which the search stopped: to count it would favour short answers."""
    DUPLICATE_TEXT = "duplicate_text"
    """An earlier leaf of the tree gave the same text in this variant."""
    ANSWER_ONLY = "answer_only"
    """Pruning leaves nothing of the reasoning but its answer."""
    BROKEN_BY_PRUNING = "broken_by_pruning"
    """It was right before pruning, and is not known to be right after it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A transcript, and what it was made of."""

    made: Transcript
    full: Transcript
    """The same leaf with nothing removed."""
    turn: tuple[Node, ...]
    """The leaf's path from the last attempt on: `cuts` are places in its text."""
    cuts: tuple[Cut, ...] = ()
    """What was removed of that turn, in order and disjoint."""
    withdrawn: tuple[Cut, ...] = ()
    """What was found and stays."""


def transcripts(
    tree: Tree, *, variants: Sequence[str], pruners: Sequence[Pruner], judge: Judge
) -> Iterator[Transcript]:
    """`drafts`, about whose cuts nobody is asked. Raises as that does."""
    return distinct(drafts(tree, variants=variants, pruners=pruners, judge=judge))


def drafts(tree: Tree, *, variants: Sequence[str], pruners: Sequence[Pruner], judge: Judge) -> Iterator[Draft]:
    """Every leaf of a closed tree in the order of their ids, kept or rejected; nothing of a tree that failed.

    Raises ConfigError for a variant that does not exist, and ValueError for a tree that is still open.
    """
    for variant in variants:
        if variant not in VARIANTS:
            raise ConfigError(f"variants: there is no {variant!r}; there are: {', '.join(VARIANTS)}")
    if tree.stop is None:
        raise ValueError(f"the tree of problem {tree.problem.id} is still open")
    return iter(()) if tree.error else _of_leaves(tree, variants, pruners, judge)


def relabel(tree: Tree, renew: Renew) -> Tree:
    """The same tree with the verdicts of today's versions on every finished leaf.

    A leaf that does not count and that nobody judged stays as it is: nothing hangs on it.
    """
    nodes = (_renewed(tree, node, renew) if _is_judged(node) else node for node in tree.nodes)
    return replace(tree, nodes=tuple(nodes))


def _is_judged(node: Node) -> bool:
    return node.state is NodeState.FINISHED and (node.counted or bool(node.verdicts))


def _renewed(tree: Tree, leaf: Node, renew: Renew) -> Node:
    return replace(leaf, verdicts=renew(tree.problem, attempt_of(tree.path(leaf.id)), leaf.verdicts))


def distinct(made: Iterable[Draft]) -> Iterator[Transcript]:
    """The transcripts of one tree; of those that are kept and have the same text in one variant only the first is."""
    kept: set[tuple[str, str]] = set()
    for one in (draft.made for draft in made):
        same = one.rejection is None and (one.variant, one.text) in kept
        if one.rejection is None:
            kept.add((one.variant, one.text))
        yield replace(one, rejection=Rejection.DUPLICATE_TEXT) if same else one


def without(draft: Draft, failed: Sequence[Cut], judge: Judge) -> Draft:
    """The transcript made again less the cuts at these places, and less what now seems to be rested on.

    `failed`: cuts of the draft with the evidence and the figures that they are withdrawn with.
    """
    places = {(cut.start, cut.end) for cut in failed}
    left = [cut for cut in draft.cuts if (cut.start, cut.end) not in places]
    cuts, withdrawn = _unrested(draft.full.problem, _attempt(draft.full).text, left)
    gone = (*draft.withdrawn, *failed, *withdrawn)
    return _made(draft, draft.made.variant, cuts, gone, judge)


def shown(draft: Draft, seams: Sequence[Seam]) -> Draft:
    """The same transcript with what was found of its cuts, one for each."""
    cuts = tuple(replace(cut, seam=seam) for cut, seam in zip(draft.cuts, seams, strict=True))
    made = replace(draft.made, removals=_removals(draft.full, _earlier(draft.full) + cuts))
    return replace(draft, cuts=cuts, made=made)


def _of_leaves(tree: Tree, variants: Sequence[str], pruners: Sequence[Pruner], judge: Judge) -> Iterator[Draft]:
    for leaf in tree.leaves():
        full = _full(tree, leaf)
        whole = Draft(full, full, last_turn_of(tree.path(leaf.id)))
        if full.rejection is not None:
            yield whole
            continue
        every = _every(full, pruners) if SPARED.keys() & set(variants) else []
        for variant in variants:
            yield whole if variant == FULL else _pruned(whole, variant, every, judge)


def _full(tree: Tree, leaf: Node) -> Transcript:
    path = tree.path(leaf.id)
    return Transcript(
        id=_transcript_id(tree.problem, leaf.id, FULL),
        problem=tree.problem,
        leaf=leaf.id,
        variant=FULL,
        spans=spans_of(path),
        removals=(),
        verdicts=leaf.verdicts,
        rejection=_rejection(leaf),
        policy=tree.policy_of(leaf.id),
        generated_tokens=sum(node.generated_tokens for node in path),
    )


def _rejection(leaf: Node) -> Rejection | None:
    if leaf.state is NodeState.TRUNCATED:
        return Rejection.TRUNCATED
    wrong = _doubt(leaf.verdicts)
    if wrong is None and not leaf.counted:
        return Rejection.BEYOND_STOP
    return wrong


def _doubt(verdicts: Sequence[Verdict]) -> Rejection | None:
    """Why verdicts do not make an attempt right; None if they do."""
    answer = _outcome(verdicts, Aspect.ANSWER)
    chain = _outcome(verdicts, Aspect.CHAIN)
    if answer is Outcome.FAIL:
        return Rejection.WRONG_ANSWER
    if answer is not Outcome.PASS or chain is Outcome.UNKNOWN:
        return Rejection.UNKNOWN_VERDICT
    return Rejection.WRONG_CHAIN if chain is Outcome.FAIL else None


def _outcome(verdicts: Sequence[Verdict], aspect: Aspect) -> Outcome | None:
    return worst(verdict.outcome for verdict in verdicts if verdict.aspect is aspect)


def _transcript_id(problem: Problem, leaf: int, variant: str) -> str:
    return ids.digest([problem.id, leaf, variant])[: ids.ID_LENGTH]


def _attempt(full: Transcript) -> Attempt:
    return Attempt(last_turn(full.spans))


def _every(full: Transcript, pruners: Sequence[Pruner]) -> list[Cut]:
    """What the pruners find in the last attempt, for all variants: each removes a part of it."""
    return [cut for pruner in pruners for cut in _checked(pruner, full.problem, _attempt(full).text)]


def _pruned(whole: Draft, variant: str, every: Sequence[Cut], judge: Judge) -> Draft:
    cuts, withdrawn = _cuts(whole.full.problem, _attempt(whole.full).text, variant, every, judge)
    return _made(whole, variant, cuts, withdrawn, judge)


def _made(draft: Draft, variant: str, cuts: Sequence[Cut], withdrawn: Sequence[Cut], judge: Judge) -> Draft:
    """The draft with these cuts instead of its own, verified."""
    full, earlier = draft.full, _earlier(draft.full)
    made = replace(full, id=_transcript_id(full.problem, full.leaf, variant), variant=variant)
    made = replace(made, withdrawn=_removals(full, withdrawn))
    if earlier or cuts:
        removals = _removals(full, (*earlier, *cuts))
        spans = _without(full.spans, removals)
        verdicts = judge(full.problem, Attempt(last_turn(spans)))
        rejection = None if _doubt(verdicts) is None else Rejection.BROKEN_BY_PRUNING
        if rejection is None and any(cut.guess for cut in cuts) and is_answer_only(_attempt(full).text, cuts):
            rejection = Rejection.ANSWER_ONLY
        made = replace(made, spans=spans, removals=removals, verdicts=verdicts, rejection=rejection)
    return Draft(made, full, draft.turn, tuple(cuts), tuple(withdrawn))


def _earlier(full: Transcript) -> tuple[Cut, ...]:
    """All that stands before the last turn, as a cut of it; nothing where nothing does."""
    start = _start(full)
    return (Cut(-start, 0, EARLIER_TURN),) if start else ()


def _start(full: Transcript) -> int:
    """Where the last turn begins."""
    return len(full.text) - len(_attempt(full).text)


def _removals(full: Transcript, cuts: Sequence[Cut]) -> tuple[Removal, ...]:
    """Cuts of the last turn as spans of the whole text."""
    text, start = full.text, _start(full)
    places = ((start + cut.start, start + cut.end, cut) for cut in cuts)
    return tuple(Removal(first, end, cut.reason, text[first:end], cut.evidence, cut.seam) for first, end, cut in places)


def _cuts(problem: Problem, text: str, variant: str, every: Sequence[Cut], judge: Judge) -> tuple[list[Cut], list[Cut]]:
    """What a variant removes, in order and disjoint, and what of it is withdrawn."""
    if variant == FIRST_CORRECT:
        cut = after_first_right(text, lambda prefix: _is_right(problem, prefix, judge))
        found = [] if cut is None else [cut]
    else:
        found = merge(cut for cut in every if cut.reason not in SPARED[variant])
    if variant == REFLECTIVE:
        found = _but_one(found)
    return _unrested(problem, text, found)


def _unrested(problem: Problem, text: str, found: Sequence[Cut]) -> tuple[list[Cut], list[Cut]]:
    """Which of some cuts can be made, and which not, since what stays seems to rest on them."""
    guesses = withdraw(question_of(problem), text, found)
    withdrawn = [replace(cut, evidence=evidence) for cut, evidence in guesses]
    gone = {cut for cut, _ in guesses}
    return [cut for cut in found if cut not in gone], withdrawn


def _but_one(cuts: list[Cut]) -> list[Cut]:
    """Without the shortest given-up attempt, the first of several."""
    attempts = [cut for cut in cuts if cut.reason == ABANDONED]
    kept = min(attempts, key=lambda cut: cut.end - cut.start, default=None)
    return [cut for cut in cuts if cut is not kept]


def is_right(verdicts: Sequence[Verdict]) -> bool:
    """Whether verdicts make an attempt right: the rule that decides what is kept."""
    return _doubt(verdicts) is None


def _is_right(problem: Problem, prefix: str, judge: Judge) -> bool:
    """Whether the answer of a prefix passes; its chain is not finished, so nothing is said of that."""
    verdicts = judge(problem, Attempt((Span(prefix, Origin.SAMPLED),)))
    return _outcome(verdicts, Aspect.ANSWER) is Outcome.PASS


def _checked(pruner: Pruner, problem: Problem, text: str) -> list[Cut]:
    cuts = pruner.cuts(problem, text)
    for cut in cuts:
        if not 0 <= cut.start < cut.end <= len(text):
            raise ValueError(f"pruner {pruner.name!r} cuts outside of the text: {cut}")
    return cuts


def _without(spans: Sequence[Span], cuts: Sequence[Removal]) -> tuple[Span, ...]:
    """What is left of spans after cuts that are in order and disjoint; a span of which nothing is left is gone."""
    kept: list[Span] = []
    offset = 0
    for span in spans:
        text = "".join(span.text[start - offset : end - offset] for start, end in _gaps(cuts, offset, len(span.text)))
        if text:
            kept.append(replace(span, text=text))
        offset += len(span.text)
    return tuple(kept)


def _gaps(cuts: Sequence[Removal], start: int, length: int) -> Iterator[tuple[int, int]]:
    """The stretches from `start` on, for `length` characters, that no cut covers."""
    end = start + length
    for cut in cuts:
        if start < cut.end and cut.start < end:
            yield start, max(start, cut.start)
            start = cut.end
    yield start, max(start, end)
