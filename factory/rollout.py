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
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace

from factory.engines.base import Engine, Prompt, Request, path_ids
from factory.errors import FactoryError
from factory.judging import Judging
from factory.search.base import Ending, Expansion, Grown, Search, SearchFactory, Wants
from factory.types import (
    ROOT,
    Attempt,
    Cost,
    FinishReason,
    Generation,
    Message,
    Node,
    NodeState,
    Origin,
    Policy,
    Problem,
    StopReason,
    Tree,
    spans_of,
)


class SearchContractError(FactoryError):
    """A search that broke its contract: a bug in the strategy."""


class Load:
    """Generations that rollouts wait for, and an event for whoever keeps the engine full."""

    def __init__(self) -> None:
        self.outstanding = 0
        self.changed = asyncio.Event()

    def add(self, change: int) -> None:
        self.outstanding += change
        self.changed.set()

    @contextlib.contextmanager
    def judging(self) -> Iterator[None]:
        """While it is open, one of them is back and waits for its verdicts: that is no load of the engine."""
        self.add(-1)
        try:
            yield
        finally:
            self.add(+1)


@dataclass(frozen=True, slots=True)
class Tools:
    """What rollouts of one worker share."""

    engine: Engine
    render: Callable[[tuple[Message, ...]], Prompt]
    search: SearchFactory
    search_name: str
    judging: Judging
    policy: Policy
    load: Load = field(default_factory=Load)


class Rollout:
    """One problem's search while it runs. `run` is awaited once; `snapshot` may be called at any time."""

    def __init__(self, problem: Problem, tools: Tools, recorded: Iterable[Node] = (), tries: int = 1) -> None:
        self._problem = problem
        self._tools = tools
        self._recorded = {node.id: node for node in recorded}
        self._tries = tries
        self._nodes: dict[int, Node] = {}
        self._unjudged: dict[int, Node] = {}
        self._tasks: dict[asyncio.Task[Node], Expansion] = {}
        self._ready: list[Grown] = []
        self._last_id = 0
        self._started = time.perf_counter()

    @property
    def problem(self) -> Problem:
        return self._problem

    async def run(self) -> Tree:
        """Drive the search to its end. Raises what the engine raises, after ending every other generation."""
        prompt = self._tools.render(self._problem.messages)
        search = self._tools.search(self._problem)
        try:
            ending = await self._drive(search, prompt)
        finally:
            search.close()
            await self._end_all()
        return self._closed(ending)

    def snapshot(self, error: str | None = None) -> Tree:
        """The tree as it is now: open, or, given an error, closed by it."""
        stop = StopReason.ERROR if error is not None else None
        return self._tree(stop, error, self._recorded | self._unjudged | self._nodes)

    async def _drive(self, search: Search, prompt: Prompt) -> Ending:
        ending: object = None
        try:
            wants = next(search)
            while True:
                self._obey(wants, prompt)
                wants = search.send(await self._next())
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
                self._begin(expansion, self._grow(expansion, prompt))
            elif recorded.state is NodeState.FINISHED and not recorded.verdicts:
                self._begin(expansion, self._judged(recorded))
            else:
                self._keep(recorded, expansion)

    def _begin(self, expansion: Expansion, work: Coroutine[None, None, Node]) -> None:
        self._tasks[asyncio.create_task(work)] = expansion
        self._tools.load.add(1)

    def _check(self, expansion: Expansion) -> None:
        if expansion.id != self._last_id + 1:
            raise SearchContractError(f"expansion {expansion.id} follows {self._last_id}")
        self._last_id = expansion.id
        parent = self._nodes.get(expansion.parent)
        if expansion.parent != ROOT and (parent is None or parent.state is not NodeState.OPEN):
            raise SearchContractError(f"expansion {expansion.id} extends {expansion.parent}, which is not an open node")

    async def _next(self) -> tuple[Grown, ...]:
        """All that has come back since; waits for the first."""
        if not self._ready:
            if not self._tasks:
                raise SearchContractError("the search waits, but nothing is outstanding")
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            # In the order of submission, so that one set of answers is one replay, whatever the event loop did.
            for task in sorted(done, key=lambda task: self._tasks[task].id):
                self._collect(task)
        ready, self._ready = tuple(self._ready), []
        return ready

    def _collect(self, task: asyncio.Task[Node]) -> None:
        expansion = self._tasks.pop(task)
        self._tools.load.add(-1)
        if task.cancelled():
            self._ready.append(Grown(expansion, None))
        else:
            self._keep(task.result(), expansion)

    def _keep(self, node: Node, expansion: Expansion) -> None:
        self._nodes[node.id] = node
        self._ready.append(Grown(expansion, node))

    async def _grow(self, expansion: Expansion, prompt: Prompt) -> Node:
        path = self._path(expansion.parent)
        policy = self._tools.policy.sampling
        limit = policy.max_tokens if expansion.max_tokens is None else expansion.max_tokens
        request = Request(
            sampling=replace(policy, max_tokens=limit),
            stop=expansion.stop,
            key=f"{self._problem.id}/{expansion.id}",
        )
        grown = await self._tools.engine.generate(extended(prompt, path), request)
        node = _node(expansion, grown)
        return await self._judged(node) if node.state is NodeState.FINISHED else node

    async def _judged(self, node: Node) -> Node:
        self._unjudged[node.id] = node  # it is paid for: a cancellation while it is judged must not lose it
        attempt = Attempt(spans_of([*self._path(node.parent), node]))
        with self._tools.load.judging():
            verdicts = await self._tools.judging.verdicts(self._problem, attempt)
        del self._unjudged[node.id]
        return replace(node, verdicts=verdicts)

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
            for task in self._tasks:
                if task.done() and not task.cancelled() and task.exception() is None:
                    self._nodes[task.result().id] = task.result()
            self._tools.load.add(-len(self._tasks))
            self._tasks.clear()

    def _closed(self, ending: Ending) -> Tree:
        nodes = {
            id: replace(node, counted=id in ending.counted or node.state is NodeState.OPEN)
            for id, node in self._nodes.items()
        }
        # Paid for, but not asked for by this replay or cancelled while they were judged: they stay, uncounted.
        for id, node in sorted((self._recorded | self._unjudged).items()):
            if id not in nodes and (node.parent == ROOT or node.parent in nodes):
                nodes[id] = replace(node, counted=False)
        return self._tree(ending.stop, None, nodes)

    def _tree(self, stop: StopReason | None, error: str | None, nodes: dict[int, Node]) -> Tree:
        ordered = tuple(nodes[id] for id in sorted(nodes))
        return Tree(
            problem=self._problem,
            policy=self._tools.policy,
            search=self._tools.search_name,
            nodes=ordered,
            stop=stop,
            error=error,
            tries=self._tries,
            cost=_cost(ordered, self._last_id, time.perf_counter() - self._started),
        )


def extended(prompt: Prompt, path: list[Node]) -> Prompt:
    """The prompt followed by a path: by token ids where the engine made them, by text otherwise."""
    if not path:
        return prompt
    text = prompt.prefix + "".join(node.text for node in path)
    return replace(prompt, token_ids=path_ids(prompt, [node.token_ids for node in path]), prefix=text)


_STATES = {
    FinishReason.END: NodeState.FINISHED,
    FinishReason.STOP: NodeState.OPEN,
    FinishReason.LENGTH: NodeState.TRUNCATED,
}


def _node(expansion: Expansion, grown: Generation) -> Node:
    # A limit that the search itself set ends a step; only the policy's own limit truncates an attempt.
    step = grown.finish is FinishReason.LENGTH and expansion.max_tokens is not None
    return Node(
        id=expansion.id,
        parent=expansion.parent,
        text=grown.text.encode("utf-8", "replace").decode(),  # half a surrogate pair is no text, and no table holds it
        token_ids=grown.token_ids,
        logprobs=grown.logprobs,
        origin=Origin.SAMPLED,
        state=NodeState.OPEN if step else _STATES[grown.finish],
        score=None,
        verdicts=(),
        counted=True,
        generated_tokens=grown.generated_tokens,
        prompt_tokens=grown.prompt_tokens,
        cached_tokens=grown.cached_tokens,
        seconds=grown.seconds,
    )


def _cost(nodes: tuple[Node, ...], submitted: int, seconds: float) -> Cost:
    cached = [node.cached_tokens for node in nodes if node.cached_tokens is not None]
    return Cost(
        generations=submitted,
        generated_tokens=sum(node.generated_tokens for node in nodes),
        prompt_tokens=sum(node.prompt_tokens for node in nodes),
        cached_tokens=sum(cached) if cached else None,
        wall_seconds=seconds,
    )
