"""A table at which a test plays the part of the rollout for one tree search, with nodes made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.types import Aspect, Node, NodeState, Origin, Outcome, StopReason, Verdict

RIGHT, WRONG, UNKNOWN, CUT, GONE = "right", "wrong", "unknown", "cut", "gone"
"""How an expansion ends, where it does not come back open: CUT by the token limit, GONE because it was cancelled."""

OUTCOMES = {RIGHT: Outcome.PASS, WRONG: Outcome.FAIL, UNKNOWN: Outcome.UNKNOWN}


def step(expansion: Expansion, text: str, score: float | None = None, logprob: float | None = None) -> Node:
    """An open node."""
    return node(expansion, text, NodeState.OPEN, score, logprob)


def leaf(expansion: Expansion, how: str) -> Node | None:
    """How one of the endings above comes back."""
    if how == GONE:
        return None
    return node(expansion, how, NodeState.TRUNCATED if how == CUT else NodeState.FINISHED)


def node(
    expansion: Expansion, text: str, state: NodeState, score: float | None = None, logprob: float | None = None
) -> Node:
    judged = state is NodeState.FINISHED
    verdicts = (Verdict("hand", "1", Aspect.ANSWER, OUTCOMES[text], None, "", 0.0),) if judged else ()
    return Node(
        id=expansion.id,
        parent=expansion.parent,
        text=text,
        token_ids=None,
        logprobs=None if logprob is None else (logprob,),
        origin=Origin.SAMPLED,
        state=state,
        score=score,
        verdicts=verdicts,
        counted=True,
        generated_tokens=1,
        prompt_tokens=1,
        cached_tokens=None,
        seconds=0.0,
    )


class Table:
    """One search, and what it has asked for. Holds it to the contract of `factory.search.base`."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._open = {0}
        self.asked: list[Expansion] = []
        self.new: list[Expansion] = []
        """What the last turn asked for."""
        self.outstanding: dict[int, Expansion] = {}
        self.cancelled: set[int] = set()
        self.ending: Ending | None = None
        self._take(next(search))

    def _take(self, wants: Wants) -> None:
        for one in wants.expand:
            assert one.id == len(self.asked) + 1
            assert one.parent in self._open
            self.asked.append(one)
        self.new = list(wants.expand)
        self.outstanding |= {one.id: one for one in wants.expand}
        assert set(wants.cancel) <= self.outstanding.keys(), "only what is outstanding can be cancelled"
        self.cancelled |= set(wants.cancel)
        assert self.outstanding, "a search that waits has something outstanding"

    def send(self, *grown: Grown) -> None:
        for one in grown:
            del self.outstanding[one.expansion.id]
            if one.node is not None and one.node.state is NodeState.OPEN:
                self._open.add(one.node.id)
        try:
            self._take(self._search.send(grown))
        except StopIteration as stop:
            self.ending, self.new = stop.value, []
            assert not self.outstanding, "it waits for all that it asked for"

    def steps(self, *steps: tuple[int, str, float | None]) -> None:
        """These come back open, together: id, text, score."""
        self.send(*(Grown(self.outstanding[id], step(self.outstanding[id], text, score)) for id, text, score in steps))

    def leaves(self, *leaves: tuple[int, str]) -> None:
        """These end, together."""
        self.send(*(Grown(self.outstanding[id], leaf(self.outstanding[id], how)) for id, how in leaves))

    def parents(self) -> list[int]:
        """Of what the last turn asked for."""
        return [one.parent for one in self.new]

    def ended(self, stop: StopReason, counted: Sequence[int]) -> None:
        assert self.ending == Ending(stop, frozenset(counted))
