"""Small real run folders for the tests of commands: real trees, verdicts, shards, lease, refinement and card."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from factory.config import Recipe, SandboxConfig, identity_digest, resolved
from factory.rows import ROLLOUTS, tree_row
from factory.shards import ShardWriter, commit
from factory.store import Store
from factory.types import (
    Attempt,
    Check,
    Cost,
    Message,
    Node,
    NodeState,
    Origin,
    Policy,
    Problem,
    Sampling,
    Span,
    StopReason,
    Tree,
)
from factory.verifiers.base import verdicts
from factory.worker import entry_of
from pipelines import build
from pipelines.folder import owned, store_config
from pipelines.refine import refine

DETOUR = "try 25 - 12 = 13 left 3 7 13\ndead\nback 3 7 12 25\n"
WAY = "try 25 - 7 = 18 left 3 12 18\ntry 18 * 3 = 54 left 12 54\ntry 54 - 12 = 42 left 42\ndone\n"
END = "</think>\nanswer ( ( 25 - 7 ) * 3 ) - 12"

RIGHT = f"<think>\n{WAY}{END}"
DETOURED = f"<think>\n{DETOUR}{WAY}{END}"
"""Right, and longer by an abandoned attempt, which pruning removes."""
WRONG = f"<think>\n{WAY}</think>\nanswer 25 + 12 + 7 + 3"
CUT = "<think>\ntry 25 - 7 = 18 left"
"""Cut by the token limit."""
HOSTILE = f"{DETOURED}\n\x1b[31mred\x1b]0;owned\x07\r\x9b2J \u202egnp.exe [bold]markup[/bold] 世界 🚀"
"""Right, and full of what a terminal obeys."""
ESCAPES = "\x1b\x07\r\x9b\u202e"
"""What must never reach a terminal."""

TOKENS, PROMPT_TOKENS = 10, 5
"""Of every generation."""


def problem(id: str, prompt: str = "make 42 from 3 7 12 25") -> Problem:
    return Problem(
        id=id,
        messages=(Message("user", prompt),),
        reference="( ( 25 - 7 ) * 3 ) - 12",
        checks=(Check("countdown", {"numbers": [3, 7, 12, 25], "target": 42}),),
        source="test",
    )


def tree(
    asked: Problem,
    texts: Sequence[str],
    *,
    stop: StopReason = StopReason.EXHAUSTED,
    counted: int | None = None,
    cached: int | None = None,
) -> Tree:
    """Independent attempts, judged; those after the first `counted` do not count."""
    nodes = tuple(
        _attempt(asked, id, text, counted is None or id <= counted, cached) for id, text in enumerate(texts, start=1)
    )
    return _tree(asked, nodes, stop, None)


def failed(asked: Problem, error: str, texts: Sequence[str] = ()) -> Tree:
    nodes = tuple(_attempt(asked, id, text, True, None) for id, text in enumerate(texts, start=1))
    return _tree(asked, nodes, StopReason.ERROR, error)


def step(id: int, parent: int, text: str = "", **other: Any) -> Node:
    """A node of a tree search."""
    fields: dict[str, Any] = {
        "token_ids": None,
        "logprobs": None,
        "origin": Origin.SAMPLED,
        "state": NodeState.OPEN,
        "score": None,
        "verdicts": (),
        "counted": True,
        "generated_tokens": TOKENS,
        "prompt_tokens": PROMPT_TOKENS,
        "cached_tokens": None,
        "seconds": 0.5,
    }
    return Node(id=id, parent=parent, text=text, **(fields | other))


def searched(asked: Problem, nodes: Iterable[Node]) -> Tree:
    """A tree of these nodes."""
    return _tree(asked, tuple(nodes), StopReason.EXHAUSTED, None)


def _attempt(asked: Problem, id: int, text: str, counts: bool, cached: int | None) -> Node:
    finished = text != CUT
    attempt = Attempt((Span(text, Origin.SAMPLED),))
    found = verdicts(build.verifiers(SandboxConfig()), asked, attempt) if finished else ()
    state = NodeState.FINISHED if finished else NodeState.TRUNCATED
    return step(id, 0, text, state=state, verdicts=found, counted=counts, cached_tokens=cached)


def _tree(asked: Problem, nodes: tuple[Node, ...], stop: StopReason, error: str | None) -> Tree:
    told = [node.cached_tokens for node in nodes if node.cached_tokens is not None]
    cost = Cost(
        generations=len(nodes),
        generated_tokens=TOKENS * len(nodes),
        sequential_tokens=TOKENS * bool(nodes),
        prompt_tokens=PROMPT_TOKENS * len(nodes),
        cached_tokens=sum(told) if told else None,
        engine_seconds=0.5,
        wall_seconds=2.0,
    )
    policy = Policy("teacher", "0" * 64, Sampling())
    return Tree(asked, policy, "best_of_n", nodes, stop, error, 1, cost)


def write_run(
    folder: Path,
    shards: Iterable[Iterable[Tree]],
    *,
    stop_at: int | None = 2,
    refined: bool = True,
    search: dict[str, Any] | None = None,
    teacher: dict[str, Any] | None = None,
) -> str:
    """A run of these trees, a shard for each list of them; committed in order. By default they are best of 8.

    `teacher`: arguments of the scripted engine.
    """
    recipe = Recipe.model_validate(
        {
            "source": {"kind": "countdown", "count": 9, "seed": 1},
            "engines": {"teacher": {"kind": "scripted", "args": teacher or {}}},
            "search": search or {"kind": "best_of_n", "n": 8, "stop_at": stop_at},
        }
    )
    config = resolved(recipe, {"teacher": "0" * 64})
    store = Store(str(folder))
    with owned(store) as lease:
        store_config(store, config)
        writer = ShardWriter(store, "rollouts", ROLLOUTS, lease.epoch, "w0")
        for trees in shards:
            for one in trees:
                writer.add(tree_row(one, epoch=lease.epoch, writer="w0", closed_at=datetime.now(UTC)), entry_of(one))
            written = writer.flush()
            assert written is not None
            commit(store, lease, written, config_digest=identity_digest(config))
        if refined:
            refine(store, lease, recipe, config)
    return store.url
