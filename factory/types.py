"""The nouns of the factory: plain, frozen values that travel between processes and are stored in shards.

Nothing here does I/O or knows an engine. A `Tree` is append-only: a node's parent always comes before it, node 0 is
the root (the rendered prompt, which adds no text), and a node's id is its place in the order in which the search asked
for it. Ids may have gaps, where an expansion was cancelled or failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ROOT = 0
"""Id of the root node of every tree."""


class Origin(StrEnum):
    """Who wrote a span. Training masks everything but SAMPLED."""

    SAMPLED = "sampled"
    """By the model."""
    INJECTED = "injected"
    """By a rule of the search: a cue, a criticism."""
    TOOL = "tool"
    """By a tool that the model called."""


class NodeState(StrEnum):
    """How a node stands."""

    OPEN = "open"
    """It can be continued: a step of a tree search, or the root."""
    FINISHED = "finished"
    """The model ended its turn: an attempt that verifiers judge."""
    TRUNCATED = "truncated"
    """The token limit cut it; it is not an attempt and is not judged."""


class Outcome(StrEnum):
    """What a verifier found. Trouble is UNKNOWN, never FAIL."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """The verifier could not decide (timeout, crash, unreadable); never training signal, in either direction."""


class Aspect(StrEnum):
    """What part of an attempt a verdict is about."""

    ANSWER = "answer"
    """The final answer, judged without the reasoning."""
    CHAIN = "chain"
    """The reasoning, judged on its own."""


class FinishReason(StrEnum):
    """Why an engine stopped generating."""

    END = "end"
    """The model's own end of turn."""
    STOP = "stop"
    """One of the stop strings that were asked for; the string itself is part of the text."""
    LENGTH = "length"
    """The token limit."""


class StopReason(StrEnum):
    """Why a tree was closed."""

    SOLVED = "solved"
    """It has as many right leaves as were asked for."""
    EXHAUSTED = "exhausted"
    """The search spent what it was given."""
    CAPPED = "capped"
    """It reached a cap of its own: tokens, engine-seconds or wall time of one problem."""
    AGREED = "agreed"
    """Without a verifier: the leading answer of its attempts is unlikely to change."""
    GIVEN_UP = "given_up"
    """The search's own rule called the problem hopeless; the next round may try it with other means."""
    ERROR = "error"
    """It failed; `Tree.error` says how."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True, slots=True)
class Check:
    """One verifier that must agree, with its parameters."""

    verifier: str
    """Name in the verifier table, such as `countdown`."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able parameters of that verifier."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What the teacher is asked. No solution travels in it but the reference that its checks need."""

    id: str
    """`ids.problem_id` of messages and reference."""
    messages: tuple[Message, ...]
    reference: str | None
    """A right answer in the format of the checks; None where the checks need none."""
    checks: tuple[Check, ...]
    source: str
    """Where it came from: a file name, a dataset name, a generator."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Free JSON; kept, never interpreted, except by plots and tables that name a key of it."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a policy. The names are vLLM's and OpenAI's."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means all tokens."""
    min_p: float = 0.0
    max_tokens: int = 256
    """Limit of one generation, in tokens."""
    logprobs: bool = False
    """Whether to record the log-probability of every sampled token."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other parameters, passed through to the engine unread."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which weights under which sampling wrote a span."""

    model: str
    """Name or path of the model as the recipe gives it."""
    digest: str
    """SHA-256 of the model folder, `served:NAME@BASE_URL` where the weights cannot be seen, or
    `recorded:NAME` where only a row tells of them."""
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine answered to one request."""

    text: str
    token_ids: tuple[int, ...] | None
    """Sampled ids without the end-of-turn token; None from an engine that tells none."""
    logprobs: tuple[float, ...] | None
    """Natural log-probabilities, aligned with `token_ids`; None where not asked for or not told."""
    finish: FinishReason
    generated_tokens: int
    """Tokens paid for, the end-of-turn token included."""
    prompt_tokens: int
    """Tokens of prompt and prefix."""
    cached_tokens: int | None
    """How many of `prompt_tokens` the engine's prefix cache served; None where the engine does not tell."""
    seconds: float
    """From submission to the last token."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """How probable an engine finds each of some tokens as the next one."""

    logprobs: tuple[float, ...]
    """Natural log-probabilities over the whole vocabulary, before temperature; aligned with the tokens asked about."""
    generated_tokens: int
    """Tokens paid for; none of them is kept."""
    prompt_tokens: int
    cached_tokens: int | None
    """How many of `prompt_tokens` the engine's prefix cache served; None where the engine does not tell."""
    seconds: float
    """From submission to the answer."""


@dataclass(frozen=True, slots=True)
class Rewarded:
    """What a reward model says of a text."""

    rewards: tuple[float, ...]
    """At the last token, one for each of the model's classes, behind its activation: shares, for a classifier."""
    prompt_tokens: int
    cached_tokens: int | None
    """How many of `prompt_tokens` the engine's prefix cache served; None where the engine does not tell."""
    seconds: float
    """From submission to the answer."""

    @property
    def generated_tokens(self) -> int:
        """None: a reward model only reads."""
        return 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one verifier says of one finished attempt."""

    verifier: str
    version: str
    aspect: Aspect
    outcome: Outcome
    extracted: str | None
    """The answer as the verifier read it; None where it found none."""
    evidence: str
    """Which rule decided, in one line."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the guess about one node cost, in tokens of whichever model made it."""

    generated_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    """How many of `prompt_tokens` a prefix cache served; None where the engine does not tell."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where a node of an import came from, and what was claimed of it there: evidence, never a verdict."""

    model: str
    """Who wrote it, as its row or the import's spec says."""
    where: str
    """File and line of the row."""
    claims: Mapping[str, Any]
    """Free JSON: rewards, labels, verdicts, answers that somebody read. Kept on the node that the row spoke of."""


@dataclass(frozen=True, slots=True)
class Node:
    """One piece of a tree: only what it adds to its parent."""

    id: int
    parent: int
    text: str
    token_ids: tuple[int, ...] | None
    """What the text adds to the prompt. Of a user's turn, with what the chat template puts around it."""
    logprobs: tuple[float, ...] | None
    origin: Origin
    state: NodeState
    score: float | None
    """A guess that guided the search; None where there was none, or the scorer was in trouble."""
    verdicts: tuple[Verdict, ...]
    """Only on finished nodes."""
    counted: bool
    """False for an attempt beyond the one at which the search stopped: paid for and kept, but counting it would
    favour short answers, so neither pass rates nor transcripts use it."""
    generated_tokens: int
    prompt_tokens: int
    cached_tokens: int | None
    seconds: float
    """From submission to the last token."""
    engine_seconds: float = 0.0
    """Its share of the engine's time: each moment is divided evenly among the requests in flight."""
    role: str = "assistant"
    """Who speaks: `assistant`, or `user` for a turn that a rule injected."""
    scoring: Scoring | None = None
    """What the guess `score` cost; None where nothing was asked."""
    recorded: Recorded | None = None
    """Of an import; None for what a search of this factory made."""

    @property
    def outcome(self) -> Outcome | None:
        """The answer's outcome: FAIL if any check fails, else UNKNOWN if any is unknown; None if unjudged."""
        return worst(verdict.outcome for verdict in self.verdicts if verdict.aspect is Aspect.ANSWER)

    @property
    def answer(self) -> str | None:
        """What was read as its answer, by the first verifier that read one; None where none did."""
        read = (one.extracted for one in self.verdicts if one.aspect is Aspect.ANSWER)
        return next((answer for answer in read if answer is not None), None)

    @property
    def chain_outcome(self) -> Outcome | None:
        """The same of the chain; None where no verifier judges chains."""
        return worst(verdict.outcome for verdict in self.verdicts if verdict.aspect is Aspect.CHAIN)


def worst(outcomes: Iterator[Outcome]) -> Outcome | None:
    """FAIL before UNKNOWN before PASS; None of nothing, so that nothing is never a pass."""
    seen = set(outcomes)
    return next((outcome for outcome in (Outcome.FAIL, Outcome.UNKNOWN, Outcome.PASS) if outcome in seen), None)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a tree cost. Tokens of cancelled requests stand in the engine's own counters only: no node has them."""

    generations: int = 0
    generated_tokens: int = 0
    sequential_tokens: int = 0
    """The most generated tokens on one path: what no parallelism can shorten."""
    prompt_tokens: int = 0
    """Of all requests; a prefix that is asked for again counts again."""
    cached_tokens: int | None = None
    """How many of those the engine's prefix cache served."""
    scoring_generated_tokens: int = 0
    """Of guesses about prefixes; not in the numbers above."""
    scoring_prompt_tokens: int = 0
    engine_seconds: float = 0.0
    wall_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Tree:
    """One problem's search tree."""

    problem: Problem
    policy: Policy
    """Of an import whose nodes have several authors, one that says so; `policy_of` tells them apart."""
    search: str
    """Name of the strategy; `recorded` for an import."""
    nodes: tuple[Node, ...]
    """Root excluded; parents come before children. By id in a closed tree; in an open one in the order in which
    they came back to the search, which is how a resume sends them again."""
    stop: StopReason | None
    """None while the tree is open, as it is in the journal."""
    error: str | None
    tries: int
    """How many tries this problem took, this one included."""
    cost: Cost

    def leaves(self) -> Iterator[Node]:
        """Finished and truncated nodes, in the order of their ids."""
        return (node for node in self.nodes if node.state is not NodeState.OPEN)

    def path(self, leaf: int) -> list[Node]:
        """Nodes from below the root to `leaf`. Raises KeyError for an id that is not in the tree."""
        by_id = {node.id: node for node in self.nodes}
        path: list[Node] = []
        while leaf != ROOT:
            node = by_id[leaf]
            path.append(node)
            leaf = node.parent
        return path[::-1]

    def policy_of(self, leaf: int) -> Policy:
        """Who wrote the path that ends with `leaf`: the tree's policy, but for an import by the leaf's own model."""
        recorded = next(node.recorded for node in self.nodes if node.id == leaf)
        return self.policy if recorded is None else recorded_policy(recorded.model, self.policy.sampling)


def recorded_policy(model: str, sampling: Sampling) -> Policy:
    """The policy of text whose author is known by name only."""
    return Policy(model, f"recorded:{model}", sampling)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text with its origin."""

    text: str
    origin: Origin
    role: str = "assistant"
    """`user` for a turn that a rule injected between two attempts."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A finished root-to-leaf path as verifiers see it: the assistant's last turn."""

    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True, slots=True)
class Seam:
    """What an engine says of the text behind a removal: how much less likely it is without what was removed."""

    untested: str | None = "no engine was asked"
    """Why nothing was tested, in one line; None where it was."""
    tokens: int = 0
    """Tokens behind the removal that were weighed."""
    drop: float | None = None
    """Mean over them of log p with what was removed less log p without, in nats."""
    largest: float | None = None
    """The same of the token that lost most: what a removal is judged by."""
    continuations: int = 0
    """Fresh ones, from each of both prefixes; 0 where none were asked for."""
    right_with: int | None = None
    """Of them, how many verify behind the prefix from which nothing was removed."""
    right_without: int | None = None
    """The same behind what is left."""
    detectable: float | None = None
    """The least loss of the share that verifies which so many would have shown, four times out of five; None where
    even a loss of all would not have been shown, or there were none."""


NOT_ASKED = Seam()


@dataclass(frozen=True, slots=True)
class Removal:
    """A span that pruning took out of a trajectory."""

    start: int
    """Offset in characters into the unpruned completion."""
    end: int
    reason: str
    """Name of the rule, such as `abandoned_attempt`."""
    text: str
    evidence: str = ""
    """What in the text says so, in a line; of a withdrawn one, what rests on it. Empty where the reason says all."""
    seam: Seam = NOT_ASKED
    """What an engine says of it."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One training example, kept or rejected."""

    id: str
    problem: Problem
    leaf: int
    """Id of the node it ends with."""
    variant: str
    """`full`, or what was removed to make it: see `prune.transcripts`."""
    spans: tuple[Span, ...]
    removals: tuple[Removal, ...]
    verdicts: tuple[Verdict, ...]
    """Of this text, after pruning."""
    rejection: str | None
    """Name of the reason; None for a kept transcript."""
    policy: Policy
    generated_tokens: int
    """Tokens of the unpruned path."""
    withdrawn: tuple[Removal, ...] = ()
    """Spans that were found and not removed, since what stays seems to rest on them, or an engine says so."""

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


def spans_of(path: Sequence[Node]) -> tuple[Span, ...]:
    """The texts of a path with their origins."""
    return tuple(Span(node.text, node.origin, node.role) for node in path)


def last_turn(spans: Sequence[Span]) -> tuple[Span, ...]:
    """What the assistant says after the last turn of anybody else: all of it where there is none."""
    others = [place for place, span in enumerate(spans) if span.role != "assistant"]
    return tuple(spans[others[-1] + 1 :] if others else spans)


def last_turn_of(path: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes of a path whose texts are its `last_turn`."""
    return tuple(path[len(path) - len(last_turn(spans_of(path))) :])


def attempt_of(path: Sequence[Node]) -> Attempt:
    """A finished path as verifiers see it."""
    return Attempt(last_turn(spans_of(path)))
