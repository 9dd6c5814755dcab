"""What `factory show` says in words of nodes, verdicts, cuts and costs, the same on a terminal and on a page.

Whatever of it comes from models, sources or errors went through `one_line`: it is short, and harmless to a terminal. A
page escapes it as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from factory.ids import canonical_json
from factory.types import ROOT, Cost, Node, NodeState, Origin, Outcome, Problem, Removal, Transcript, Tree, Verdict
from pipelines.report import one_line
from pipelines.show_view import Leaf, Piece, Tried, Version

EVIDENCE = 400
"""Characters of evidence."""
TEXT = 100
"""Characters of a text that stands for a longer one."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A few words."""

    text: str
    outcome: Outcome | None = None
    """What they say of an attempt; None where they say nothing."""


Line = tuple[Fact, ...]
"""Facts that read as one."""


def plain(line: Line) -> str:
    """A line without its outcomes."""
    return "".join(fact.text for fact in line)


def about_problem(problem: Problem) -> Iterator[tuple[str, str]]:
    """Names, and what there is to say."""
    yield "source", one_line(problem.source)
    yield "checks", one_line(", ".join(check.verifier for check in problem.checks))
    yield "reference", "none" if problem.reference is None else one_line(problem.reference)


def about_tree(tree: Tree) -> str:
    """How it was closed, and what it cost."""
    stop = "open" if tree.stop is None else tree.stop.value
    tries = [f"{tree.tries} tries"] if tree.tries > 1 else []
    search = one_line(tree.search) or "no search"
    return f"tree of {search}: {', '.join([stop, *_costs(tree.cost), *tries])}"


def _costs(cost: Cost) -> Iterator[str]:
    """What is nothing is left out: nobody knows what an import cost."""
    if cost.generated_tokens or cost.wall_seconds:
        yield _number(cost.generations, "generation")
    if cost.generated_tokens:
        yield f"{_number(cost.generated_tokens, 'token')} ({cost.sequential_tokens:,} in a row)"
    if cost.prompt_tokens:
        cached = "" if cost.cached_tokens is None else f" ({cost.cached_tokens:,} cached)"
        yield f"{_number(cost.prompt_tokens, 'prompt token')}{cached}"
    if guesses := cost.scoring_generated_tokens + cost.scoring_prompt_tokens:
        yield f"{_number(guesses, 'token')} for guesses"
    if cost.engine_seconds:
        yield f"{cost.engine_seconds:.1f} engine-seconds"
    if cost.wall_seconds:
        yield f"{cost.wall_seconds:.1f} s"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def about_node(node: Node) -> Line:
    """How it stands, what was found, and what it cost."""
    state = "" if node.parent == ROOT else f"after #{node.parent} "
    facts = [Fact(f"{state}{node.state}"), *_judgement(node), *map(Fact, _remarks(node))]
    return tuple(part for fact in facts for part in (Fact(", "), fact))[1:]


def _judgement(node: Node) -> Iterator[Fact]:
    if node.state is NodeState.FINISHED:
        yield Fact("unjudged") if node.outcome is None else Fact(node.outcome.value, node.outcome)


def _remarks(node: Node) -> Iterator[str]:
    if not node.counted:
        yield "does not count"
    if node.origin is not Origin.SAMPLED:
        yield node.origin.value
    if node.role != "assistant":
        yield f"{one_line(node.role)}'s turn"
    if node.score is not None:
        yield f"score {node.score:.3g}"
    if node.generated_tokens or node.recorded is None:
        yield _number(node.generated_tokens, "token")
    if node.seconds or node.recorded is None:
        yield f"{node.seconds:.2f} s"


def about_record(node: Node) -> str | None:
    """Of an import: who wrote it, where it stood, and what was claimed of it; None for anything else."""
    if node.recorded is None:
        return None
    claims = node.recorded.claims
    told = one_line(canonical_json(dict(claims)), EVIDENCE) if claims else "nothing"
    return f"recorded by {one_line(node.recorded.model)} in {one_line(node.recorded.where)}; claimed: {told}"


def excerpt(text: str) -> str:
    """A line that stands for a text."""
    return one_line(text, TEXT)


def about_verdict(verdict: Verdict) -> Line:
    """Who decided, what, and why."""
    read = "" if verdict.extracted is None else f", read as '{one_line(verdict.extracted)}'"
    return (
        Fact(f"{one_line(verdict.verifier)} {verdict.aspect} "),
        Fact(verdict.outcome.value, verdict.outcome),
        Fact(f": {one_line(verdict.evidence, EVIDENCE)}{read}"),
    )


def about_leaf(leaf: Leaf) -> str:
    """Its size, and who wrote it."""
    return f"{_number(leaf.characters, 'character')}, by {one_line(leaf.model)}"


def about_attempts(leaf: Leaf) -> str:
    """How many attempts are in a chain."""
    left = sum(one.branch.given_up is not None for one in leaf.attempts)
    return f"{_number(len(leaf.attempts), 'attempt')}, {left:,} given up"


def about_attempt(one: Tried) -> str:
    """Where it stands and how it begins; behind what, for any but the first."""
    branch = one.branch
    after = "" if branch.parent is None else f" after {branch.parent + 1}"
    phrase = f" ({excerpt(branch.phrase)})" if branch.phrase else ""
    return f"{after} at {branch.start:,}, {_number(branch.end - branch.start, 'character')}{phrase}".strip()


def about_end(one: Tried) -> str | None:
    """Why it was given up, said once of all that were given up together; None where it was not."""
    if one.branch.given_up is None:
        return None
    if one.given_up_with is not None:
        return f"given up with {one.given_up_with}"
    return f"given up: {one_line(one.branch.given_up, EVIDENCE)}"


def about_version(version: Version) -> str:
    """What the variants are called that have this text, and how much of the leaf's text it is."""
    kept = sum(len(piece.text) for piece in version.pieces if piece.cut is None)
    whole = sum(len(piece.text) for piece in version.pieces)
    names = ", ".join(one_line(one.variant) for one in version.transcripts)
    of = f"{kept:,} of " if kept < whole else ""
    return f"{names or 'text'}: {of}{_number(whole, 'character')}"


def about_transcript(transcript: Transcript) -> Line:
    """Whether it was kept, and what was removed from it, in numbers."""
    kept = transcript.rejection is None
    ending = "kept" if kept else f"rejected: {one_line(str(transcript.rejection))}"
    removed = Counter(one.reason for one in transcript.removals).items()
    parts = [f"{number} removed as {one_line(reason)}" for reason, number in removed]
    parts += [f"{len(transcript.withdrawn)} withdrawn"] if transcript.withdrawn else []
    return (
        Fact(f"{one_line(transcript.variant)} {one_line(transcript.id)} "),
        Fact(ending, Outcome.PASS if kept else Outcome.FAIL),
        Fact("".join(f", {part}" for part in parts)),
    )


def verdict_lines(version: Version) -> list[Line]:
    """What verifiers say of a version's text, each once."""
    return list(dict.fromkeys(about_verdict(one) for made in version.transcripts for one in made.verdicts))


def about_removal(removal: Removal) -> str:
    """The kind, the place and the evidence."""
    size = _number(removal.end - removal.start, "character")
    evidence = f": {one_line(removal.evidence, EVIDENCE)}" if removal.evidence else ""
    return f"{one_line(removal.reason)}, {removal.start:,} to {removal.end:,}, {size}{evidence}"


def labels(version: Version, piece: Piece) -> list[str]:
    """What became of a piece, and who wrote it; nothing for what the model wrote and nobody would cut."""
    found = [] if piece.cut is None else [f"cut {piece.cut}: {one_line(version.removals[piece.cut - 1].reason)}"]
    if piece.withdrawn is not None:
        found.append(f"withdrawn {piece.withdrawn}: {one_line(version.withdrawn[piece.withdrawn - 1].reason)}")
    return found if piece.origin is Origin.SAMPLED else [*found, piece.origin.value]
