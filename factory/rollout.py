"""A problem becomes a closed tree: the only loop where search, engine and verifiers meet.

`Rollout` drives one pure search. What the search wants goes to the engine at once; what comes back is judged beside the
event loop and handed to the search, in any order, as soon as it is there. Nothing that was paid for is lost:
`snapshot` gives the open tree at any moment, and a rollout that is given a snapshot replays it and asks the engine only
for what is missing.

It does not decide what to expand (the search does), nor what is right (the verifiers do), nor what becomes of errors
(the worker does).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace

from factory.admission import Admission, Ticket
from factory.engines.base import Engine, Prompt, Request, path_ids
from factory.errors import FactoryError
from factory.judging import Judging
from factory.render import Renderer
from factory.scorers.base import Scorer
from factory.search.base import Ending, Expansion, Grown, Search, SearchFactory, Wants
from factory.types import (
    ROOT,
    Cost,
    FinishReason,
    Generation,
    Message,
    Node,
    NodeState,
    Origin,
    Policy,
    Problem,
    Scoring,
    StopReason,
    Tree,
    attempt_of,
)


class SearchContractError(FactoryError):
    """A search that broke its contract: a bug in the strategy."""


LEAST_LOOKS = 64
"""Over which the requests on their way to and from an engine are averaged."""


class Load:
    """The requests of one worker's rollouts: lets them into the engine, and tells whoever begins problems of changes.

    `admission` has the rules. Belongs to one event loop.
    """

    def __init__(
        self, places: Callable[[], int], known: Callable[[], int], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`places`: how many requests the engine runs at once. `known`: how many it runs now or has in its queue."""
        self.changed = asyncio.Event()
        self.may_begin: Callable[[], bool] = lambda: True
        """Whether anything may go in; looked at whenever something would. See `reconsider`."""
        self._places = places
        self._known = known
        self._away = 0.0
        """Requests inside that the engine does not know of, as a running mean."""
        self._clock = clock
        self._admission = Admission()
        self._entering: dict[Ticket, asyncio.Future[None]] = {}
        self._trees = itertools.count(1)
        self._since = clock()
        self._shared = 0.0
        self._busy = 0.0

    @property
    def outstanding(self) -> int:
        """Requests that are inside the engine, or wait for it."""
        return self._admission.inside + self._admission.outside

    def number(self) -> int:
        """Of a tree that begins now."""
        return next(self._trees)

    def wants_problem(self, trees: int) -> bool:
        """Whether another problem shall be begun, beside so many open trees."""
        return self._admission.wants_problem(self._open_places(), trees, int(self._away))

    def reconsider(self) -> None:
        """What waits may go in now, where `may_begin` has changed its mind."""
        self._admit()

    def ask(self, ticket: Ticket) -> None:
        """Queue a request at once, so that it counts from now on."""
        self._admission.ask(ticket)
        self._entering[ticket] = asyncio.get_running_loop().create_future()
        self._admit()

    async def entered(self, ticket: Ticket) -> None:
        """Wait until it may go into the engine."""
        await self._entering[ticket]

    def leave(self, ticket: Ticket) -> None:
        """It is answered or given up; once more does nothing."""
        if self._entering.pop(ticket, None) is not None:
            self._advance()
            self._admission.leave(ticket)
            self._admit()

    def shared(self) -> float:
        """Seconds so far of what one of the requests inside had of the engine, all having equal parts of it.

        The difference between two readings is the share of a request that was inside between them; the shares of all
        requests add up to the time in which there were any.
        """
        self._advance()
        return self._shared

    def busy(self) -> float:
        """Seconds so far in which any request was inside."""
        self._advance()
        return self._busy

    def _open_places(self) -> int:
        return self._places() if self.may_begin() else 0

    def _admit(self) -> None:
        self._advance()
        self._look()
        for ticket in self._admission.admit(self._open_places(), int(self._away)):
            future = self._entering[ticket]
            if not future.done():  # a cancelled task has cancelled it, and leaves in a moment
                future.set_result(None)
        self.changed.set()

    def _look(self) -> None:
        """Every request makes about two looks: the mean goes over the last few turns of the engine's running set."""
        away = max(0, self._admission.inside - self._known())
        self._away += (away - self._away) / max(LEAST_LOOKS, 2 * self._places())

    def _advance(self) -> None:
        now = self._clock()
        if self._admission.inside:
            self._shared += (now - self._since) / self._admission.inside
            self._busy += now - self._since
        self._since = now


@dataclass(frozen=True, slots=True)
class Tools:
    """What rollouts of one worker share."""

    engine: Engine
    renderer: Renderer
    search: SearchFactory
    search_name: str
    judging: Judging
    policy: Policy
    load: Load
    scorer: Scorer | None = None
    """Needed by searches that ask for scores."""
    beside: tuple[Engine, ...] = ()
    """Engines that verifiers ask: they start after `engine`, and end before it."""


class Rollout:
    """One problem's search while it runs. `run` is awaited once; `snapshot` may be called at any time."""

    def __init__(self, problem: Problem, tools: Tools, recorded: Iterable[Node] = (), tries: int = 1) -> None:
        """`recorded`: nodes of an open tree, in the order of its snapshot."""
        self._problem = problem
        self._tools = tools
        self._recorded = {node.id: node for node in recorded}
        self._tries = tries
        self._number = tools.load.number()
        self._nodes: dict[int, Node] = {}  # in the order in which the search was sent them
        self._unsent: dict[int, Node] = {}  # paid for, and not yet judged or scored
        self._tasks: dict[asyncio.Task[Node], Expansion] = {}
        self._came = asyncio.Event()
        """Some of them are done. (`asyncio.wait` would go through all of them each time.)"""
        self._ready: deque[Grown] = deque()
        self._replayed: dict[int, Grown] = {}
        self._last_id = 0
        self._started = time.perf_counter()

    @property
    def problem(self) -> Problem:
        return self._problem

    async def run(self) -> Tree:
        """Drive the search to its end. Raises what the engine raises, after ending every other generation."""
        prompt = self._tools.renderer.render(self._problem.messages)
        search = self._tools.search(self._problem)
        try:
            ending = await self._drive(search, prompt)
        finally:
            search.close()
            await self._end_all()
        return self._closed(ending)

    def snapshot(self, error: str | None = None) -> Tree:
        """The tree as it is now: open, or, given an error, closed by it."""
        came = {one.node.id: one.node for one in self._ready if one.node is not None}
        nodes = self._nodes | came | self._unsent
        nodes |= {id: node for id, node in self._recorded.items() if id not in nodes}
        if error is None:
            return self._tree(None, None, nodes.values())
        return self._tree(StopReason.ERROR, error, _by_id(nodes.values()))

    async def _drive(self, search: Search, prompt: Prompt) -> Ending:
        ending: object = None
        try:
            wants = next(search)
            while True:
                self._obey(wants, prompt)
                wants = search.send((await self._next(),))
        except StopIteration as stop:
            ending = stop.value
        if not isinstance(ending, Ending):
            raise SearchContractError(f"{self._tools.search_name} returned {ending!r} instead of an Ending")
        return ending

    def _obey(self, wants: Wants, prompt: Prompt) -> None:
        unwanted = set(wants.cancel)
        for task, expansion in self._tasks.items():
            if expansion.id in unwanted and not task.cancelling():
                task.cancel()  # once: a second time would disturb the engine's own clean-up
        for expansion in wants.expand:
            self._check(expansion)
            recorded = self._recorded.get(expansion.id)
            if recorded is None or recorded.parent != expansion.parent:
                if expansion.inject is None:
                    self._tools.load.ask(self._ticket(expansion))
                self._begin(expansion, self._grow(expansion, prompt))
            elif _lacks_verdicts(recorded):
                self._begin(expansion, self._judged(recorded))
            elif _lacks_score(recorded, expansion):
                self._begin(expansion, self._scored(recorded))
            else:
                self._replayed[expansion.id] = Grown(expansion, recorded)

    def _begin(self, expansion: Expansion, work: Coroutine[None, None, Node]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._came.set())
        self._tasks[task] = expansion

    def _ticket(self, expansion: Expansion) -> Ticket:
        return Ticket(expansion.priority, self._number, expansion.id)

    def _check(self, expansion: Expansion) -> None:
        if expansion.id != self._last_id + 1:
            raise SearchContractError(f"expansion {expansion.id} follows {self._last_id}")
        self._last_id = expansion.id
        if expansion.parent == ROOT:
            return
        parent = self._nodes.get(expansion.parent)
        states = {NodeState.OPEN} if expansion.inject is None else {NodeState.OPEN, NodeState.FINISHED}
        if parent is None or parent.state not in states:
            raise SearchContractError(f"expansion {expansion.id} extends {expansion.parent}, which is not an open node")

    async def _next(self) -> Grown:
        """What comes back next, one at a time, so that the order of a tree's nodes is all that a replay needs."""
        grown = self._next_replayed() or await self._next_ready()
        if grown.node is not None:
            self._nodes[grown.node.id] = grown.node
        return grown

    def _next_replayed(self) -> Grown | None:
        """Of the recorded nodes that the search has asked for, the one that came back first."""
        if not self._replayed:
            return None
        return self._replayed.pop(next(id for id in self._recorded if id in self._replayed))

    async def _next_ready(self) -> Grown:
        while not self._ready:
            if not self._tasks:
                raise SearchContractError("the search waits, but nothing is outstanding")
            await self._came.wait()
            self._came.clear()
            # In the order of submission, so that one set of answers gives one tree, whatever the event loop did.
            for task in [task for task in self._tasks if task.done()]:
                self._collect(task)
        return self._ready.popleft()

    def _collect(self, task: asyncio.Task[Node]) -> None:
        expansion = self._tasks.pop(task)
        self._tools.load.leave(self._ticket(expansion))  # it may have been cancelled before it began
        self._ready.append(Grown(expansion, None if task.cancelled() else task.result()))

    async def _grow(self, expansion: Expansion, prompt: Prompt) -> Node:
        path = self._path(expansion.parent)
        if expansion.inject is not None:
            return _injected(expansion, expansion.inject, path, self._tools.renderer)
        ticket = self._ticket(expansion)
        await self._tools.load.entered(ticket)
        try:
            node = await self._generated(expansion, extended(prompt, path), path)
        finally:
            self._tools.load.leave(ticket)
        return await self._judged(node) if _lacks_verdicts(node) else node

    async def _generated(self, expansion: Expansion, before: Prompt, path: list[Node]) -> Node:
        """A node that the engine made, with its score where the search asked for one."""
        room = self._room(before, path)
        limit = room if expansion.max_tokens is None else min(room, expansion.max_tokens)
        if limit < 1:
            return _no_room(expansion)
        request = Request(
            sampling=replace(self._tools.policy.sampling, max_tokens=limit),
            stop=expansion.stop,
            key=f"{self._problem.id}/{expansion.id}",
        )
        since = self._tools.load.shared()
        grown = await self._tools.engine.generate(before, request)
        node = _node(expansion, grown, cut=limit == room, renderer=self._tools.renderer)
        if _lacks_score(node, expansion):
            node = await self._scored(node)
        return replace(node, engine_seconds=self._tools.load.shared() - since)

    def _room(self, prompt: Prompt, path: list[Node]) -> int:
        """Tokens that the assistant's turn may still have: those that the policy allows, and that the engine holds."""
        turn = [node for node in path[_turn_start(path) :] if node.origin is Origin.SAMPLED]
        room = self._tools.policy.sampling.max_tokens - sum(_length(node) for node in turn)
        context = self._tools.engine.capabilities.max_context
        if context is None or prompt.token_ids is None or not path:
            return room  # without a path, an engine's own error tells of a prompt that is too long
        return min(room, context - len(prompt.token_ids))

    async def _judged(self, node: Node) -> Node:
        self._unsent[node.id] = node  # it is paid for: a cancellation meanwhile must not lose it
        attempt = attempt_of([*self._path(node.parent), node])
        try:
            verdicts = await self._tools.judging.verdicts(self._problem, attempt)
        finally:
            self._tools.load.changed.set()  # where verdicts held up the next problem, it may begin
        del self._unsent[node.id]
        return replace(node, verdicts=verdicts)

    async def _scored(self, node: Node) -> Node:
        if self._tools.scorer is None:
            raise SearchContractError(f"{self._tools.search_name} asks for scores, and the run has no scorer")
        self._unsent[node.id] = node
        score = await self._tools.scorer.score(self._problem, [*self._path(node.parent), node])
        del self._unsent[node.id]
        # A guess that cost nothing, or came to nothing, was made all the same: a replay does not make it again.
        return replace(node, score=score.value, scoring=score.scoring or Scoring())

    def _path(self, leaf: int) -> list[Node]:
        path: list[Node] = []
        while leaf != ROOT:
            node = self._nodes[leaf]
            path.append(node)
            leaf = node.parent
        return path[::-1]

    async def _end_all(self) -> None:
        """Cancel what is outstanding; keep what finished in the same moment."""
        for task in self._tasks:
            if not task.cancelling():
                task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:  # also when this is cancelled in its turn
            for task, expansion in self._tasks.items():
                if task.done() and not task.cancelled() and task.exception() is None:
                    self._ready.append(Grown(expansion, task.result()))
                self._tools.load.leave(self._ticket(expansion))
            self._tasks.clear()

    def _closed(self, ending: Ending) -> Tree:
        nodes = {
            id: replace(node, counted=id in ending.counted or node.state is NodeState.OPEN)
            for id, node in self._nodes.items()
        }
        # Paid for, but not asked for by this replay, cancelled while they were judged, or too late: they stay.
        for node in _by_id(self.snapshot().nodes):
            if node.id not in nodes and (node.parent == ROOT or node.parent in nodes):
                nodes[node.id] = replace(node, counted=False)
        return self._tree(ending.stop, None, _by_id(nodes.values()))

    def _tree(self, stop: StopReason | None, error: str | None, nodes: Iterable[Node]) -> Tree:
        kept = tuple(nodes)
        return Tree(
            problem=self._problem,
            policy=self._tools.policy,
            search=self._tools.search_name,
            nodes=kept,
            stop=stop,
            error=error,
            tries=self._tries,
            cost=cost_of(kept, self._last_id, time.perf_counter() - self._started),
        )


def extended(prompt: Prompt, path: Sequence[Node]) -> Prompt:
    """The prompt followed by a path: by token ids where the engine made them, by messages and text otherwise."""
    if not path:
        return prompt
    start = _turn_start(path)
    turns = [
        Message(role, "".join(node.text for node in nodes)) for role, nodes in itertools.groupby(path[:start], _role)
    ]
    return replace(
        prompt,
        messages=(*prompt.messages, *turns),
        token_ids=path_ids(prompt, [node.token_ids for node in path]),
        prefix="".join(node.text for node in path[start:]),
    )


def _role(node: Node) -> str:
    return node.role


def _turn_start(path: Sequence[Node]) -> int:
    """Where the assistant's present turn begins in a path."""
    others = [place for place, node in enumerate(path) if node.role != "assistant"]
    return others[-1] + 1 if others else 0


def _by_id(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.id)


def _length(node: Node) -> int:
    return node.generated_tokens if node.token_ids is None else len(node.token_ids)


def _lacks_verdicts(node: Node) -> bool:
    return node.state is NodeState.FINISHED and not node.verdicts


def _lacks_score(node: Node, expansion: Expansion) -> bool:
    """Whether the search asked for a score that nobody has guessed."""
    return node.state is NodeState.OPEN and expansion.score and node.scoring is None


_STATES = {
    FinishReason.END: NodeState.FINISHED,
    FinishReason.STOP: NodeState.OPEN,
    FinishReason.LENGTH: NodeState.TRUNCATED,
}


def _node(expansion: Expansion, grown: Generation, *, cut: bool, renderer: Renderer) -> Node:
    """`cut`: the limit was that of the whole turn, which truncates it; any other only ends a step."""
    state = _STATES[grown.finish]
    if grown.finish is FinishReason.LENGTH and not cut:
        state = NodeState.OPEN
    if grown.finish is FinishReason.END and not expansion.may_end:
        state = NodeState.OPEN
    text, ids = grown.text, grown.token_ids
    if grown.finish is not FinishReason.LENGTH and _size(grown) < expansion.min_tokens:
        state = NodeState.OPEN
        text, ids = _without_end(text, ids, expansion.stop, renderer)
    return Node(
        id=expansion.id,
        parent=expansion.parent,
        text=text.encode("utf-8", "replace").decode(),  # half a surrogate pair is no text, and no table holds it
        token_ids=ids,
        logprobs=None if grown.logprobs is None or ids is None else grown.logprobs[: len(ids)],
        origin=Origin.SAMPLED,
        state=state,
        score=None,
        verdicts=(),
        counted=True,
        generated_tokens=grown.generated_tokens,
        prompt_tokens=grown.prompt_tokens,
        cached_tokens=grown.cached_tokens,
        seconds=grown.seconds,
    )


def _size(grown: Generation) -> int:
    return grown.generated_tokens if grown.token_ids is None else len(grown.token_ids)


def _without_end(
    text: str, ids: tuple[int, ...] | None, stop: tuple[str, ...], renderer: Renderer
) -> tuple[str, tuple[int, ...] | None]:
    """What stands before the stop string that ended a generation, in whole tokens; all of it where none did."""
    places = [place for one in stop if (place := text.rfind(one)) >= 0]
    if not places:
        return text, ids
    before = text[: min(places)]
    if ids is None:
        return before, None
    for length in range(len(ids), 0, -1):
        spelled = renderer.decode(ids[:length])
        # The text of ids on their own may lack the space that they begin with behind a prompt.
        for kept in (spelled, f" {spelled}"):
            if before.startswith(kept):
                return kept, ids[:length]
    return "", ()


def _injected(expansion: Expansion, text: str, path: Sequence[Node], renderer: Renderer) -> Node:
    """A rule's text as a node that costs nothing."""
    is_turn = bool(path) and path[-1].state is NodeState.FINISHED
    return replace(
        _no_room(expansion),
        text=text,
        token_ids=renderer.turn(text) if is_turn else renderer.encode(text),
        origin=Origin.INJECTED,
        role="user" if is_turn else "assistant",
        state=NodeState.OPEN,
    )


def _no_room(expansion: Expansion) -> Node:
    """An attempt that was cut before its first token."""
    return Node(
        id=expansion.id,
        parent=expansion.parent,
        text="",
        token_ids=(),
        logprobs=None,
        origin=Origin.SAMPLED,
        state=NodeState.TRUNCATED,
        score=None,
        verdicts=(),
        counted=True,
        generated_tokens=0,
        prompt_tokens=0,
        cached_tokens=None,
        seconds=0.0,
    )


def cost_of(nodes: Sequence[Node], submitted: int, seconds: float) -> Cost:
    """What a tree cost that asked for so many generations; parents come before children."""
    cached = [node.cached_tokens for node in nodes if node.cached_tokens is not None]
    scoring = [node.scoring for node in nodes if node.scoring is not None]
    return Cost(
        generations=submitted,
        generated_tokens=sum(node.generated_tokens for node in nodes),
        sequential_tokens=_longest(nodes),
        prompt_tokens=sum(node.prompt_tokens for node in nodes),
        cached_tokens=sum(cached) if cached else None,
        scoring_generated_tokens=sum(one.generated_tokens for one in scoring),
        scoring_prompt_tokens=sum(one.prompt_tokens for one in scoring),
        engine_seconds=sum(node.engine_seconds for node in nodes),
        wall_seconds=seconds,
    )


def _longest(nodes: Sequence[Node]) -> int:
    """The most tokens, guesses included, that had to be generated one after the other."""
    reached = {ROOT: 0}
    for node in nodes:  # parents come before children
        guess = 0 if node.scoring is None else node.scoring.generated_tokens
        reached[node.id] = reached.get(node.parent, 0) + node.generated_tokens + guess
    return max(reached.values())
