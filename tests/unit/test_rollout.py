"""A rollout on the scripted engine: what it asks for, what it keeps, and that nothing is left running."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.admission import Ticket
from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine, written
from factory.errors import EngineDead, EngineError
from factory.render import MessageRenderer, TemplateRenderer
from factory.rollout import Load, Rollout, SearchContractError, Tools
from factory.search.base import Ending, Expansion, Search, Wants
from factory.search.best_of_n import best_of_n
from factory.types import (
    ROOT,
    Attempt,
    FinishReason,
    Generation,
    Node,
    NodeState,
    Origin,
    Outcome,
    Problem,
    StopReason,
    Tree,
    Verdict,
)
from factory.verifiers.base import verdicts
from tests.rig import POLICY, Says, alone, judge, node_of, problem, started, tools

NEVER = 10**9
"""Event-loop turns: longer than any test."""

_alone = pytest.fixture(autouse=True)(alone)

Says_ = dict[int, str | Reply]


def saying(answers: Says_) -> Callable[[Prompt, Request], Reply]:
    """A script by node id."""

    def script(prompt: Prompt, request: Request) -> Reply:
        answer = answers[node_of(request)]
        return answer if isinstance(answer, Reply) else Reply(answer)

    return script


async def engine_saying(answers: Says_, **arguments: Any) -> ScriptedEngine:
    return await started(ScriptedEngine(saying(answers), **arguments))


def all_of(n: int, stop_at: int | None = None) -> Callable[[Problem], Search]:
    return lambda _: best_of_n(n, None, stop_at)


def ids(nodes: tuple[Node, ...]) -> list[int]:
    return [node.id for node in nodes]


def nothing_runs(shared: Tools, engine: ScriptedEngine) -> None:
    assert shared.load.outstanding == 0
    assert (engine.stats.running, engine.stats.waiting) == (0, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def turns(count: int) -> None:
    """Let the event loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_closed_tree() -> None:
    engine = await engine_saying({1: "so no", 2: "yes", 3: "then yes", 4: "x" * 99, 5: Reply("yes", turns=NEVER)})
    shared = tools(engine, all_of(5, stop_at=2))
    tree = await Rollout(problem(1), shared, tries=2).run()
    assert tree.problem == problem(1)
    assert (tree.policy, tree.search, tree.tries, tree.error) == (POLICY, "best_of_n", 2, None)
    assert tree.stop is StopReason.SOLVED
    assert {node.id: (node.text, node.outcome, node.counted) for node in tree.nodes if node.id <= 3} == {
        1: ("so no", Outcome.FAIL, True),
        2: ("yes", Outcome.PASS, True),
        3: ("then yes", Outcome.PASS, True),
    }
    assert all(node.parent == ROOT and node.origin is Origin.SAMPLED and node.score is None for node in tree.nodes)
    nothing_runs(shared, engine)


async def test_a_cut_attempt_is_kept_and_not_judged() -> None:
    engine = await engine_saying({1: "x" * 99, 2: "yes"})
    tree = await Rollout(problem(1), tools(engine, all_of(2))).run()
    cut, whole = tree.nodes
    assert (cut.state, cut.verdicts, cut.counted) == (NodeState.TRUNCATED, (), True)
    assert len(cut.text) == POLICY.sampling.max_tokens
    assert (whole.state, whole.outcome) == (NodeState.FINISHED, Outcome.PASS)


async def test_half_a_surrogate_pair_becomes_text() -> None:
    """Some servers send such, and no table holds it."""
    engine = await engine_saying({1: "\ud800 yes"})
    (node,) = (await Rollout(problem(1), tools(engine, all_of(1))).run()).nodes
    assert node.text == "? yes"
    assert node.outcome is Outcome.PASS


async def test_the_cost_is_the_sum_over_the_nodes() -> None:
    engine = await engine_saying({1: "no", 2: "so yes"})
    tree = await Rollout(problem(1), tools(engine, all_of(2))).run()
    assert tree.cost.generations == 2
    assert tree.cost.generated_tokens == len("no") + len("so yes") + 2 == engine.stats.generated_tokens
    assert tree.cost.prompt_tokens == engine.stats.prompt_tokens == 2 * tree.nodes[0].prompt_tokens
    assert tree.cost.cached_tokens is None
    assert tree.cost.wall_seconds > 0


async def test_a_request_says_what_it_is_for() -> None:
    engine = await engine_saying({1: "yes"})

    def search(_: Problem) -> Search:
        grown = yield Wants((Expansion(1, ROOT, max_tokens=7, stop=("\n", "##")),))
        return Ending(StopReason.EXHAUSTED, frozenset({grown[0].expansion.id}))

    policy = replace(POLICY, sampling=replace(POLICY.sampling, temperature=0.5, logprobs=True))
    tree = await Rollout(problem(1), tools(engine, search, policy=policy)).run()
    ((prompt, request),) = engine.requests
    assert request.sampling == replace(policy.sampling, max_tokens=7)
    assert request.stop == ("\n", "##")
    assert request.key == f"{problem(1).id}/1"
    assert prompt.messages == problem(1).messages
    assert tree.nodes[0].logprobs is not None
    assert len(tree.nodes[0].logprobs) == len(tree.nodes[0].token_ids or ()) == 3


# --- steps


def step_by_step(stop: str = "\n", most: int = 9) -> Callable[[Problem], Search]:
    """A chain of steps: expand the root up to a stop string, then extend the node that is open."""

    def search(_: Problem) -> Search:
        parent = ROOT
        for id in range(1, most + 1):
            ((grown),) = yield Wants((Expansion(id, parent, stop=(stop,)),))
            assert grown.node is not None
            if grown.node.state is not NodeState.OPEN:
                break
            parent = id
        return Ending(StopReason.EXHAUSTED, frozenset({id}))

    return search


STEPS = "first\nsecond\nand yes"


def reading_on(prompt: Prompt, _: Request) -> Reply:
    """A teacher that goes on with the same text from wherever it stands."""
    so_far = written(prompt)
    assert STEPS.startswith(so_far)
    return Reply(STEPS.removeprefix(so_far))


async def test_a_step_is_continued_by_token_ids() -> None:
    engine = await started(ScriptedEngine(reading_on))
    tree = await Rollout(problem(1), tools(engine, step_by_step())).run()
    assert [(node.parent, node.text, node.state) for node in tree.nodes] == [
        (0, "first\n", NodeState.OPEN),
        (1, "second\n", NodeState.OPEN),
        (2, "and yes", NodeState.FINISHED),
    ]
    start = engine.requests[0][0].token_ids
    assert start is not None
    for (prompt, _), path in zip(engine.requests, ([], tree.path(1), tree.path(2)), strict=True):
        added = tuple(token for node in path for token in node.token_ids or ())
        assert prompt.token_ids == start + added
    assert tree.nodes[-1].outcome is Outcome.PASS
    assert all(node.verdicts == () and node.counted for node in tree.nodes[:2])


async def test_an_engine_without_ids_is_given_the_text_so_far() -> None:
    engine = await started(ScriptedEngine(reading_on, token_prompts=False))
    shared = replace(tools(engine, step_by_step()), renderer=MessageRenderer())
    tree = await Rollout(problem(1), shared).run()
    assert [node.text for node in tree.nodes] == ["first\n", "second\n", "and yes"]
    assert [prompt.prefix for prompt, _ in engine.requests] == ["", "first\n", "first\nsecond\n"]
    assert all(prompt.token_ids is None for prompt, _ in engine.requests)


# --- turns that may not end yet


def one_step(**step: Any) -> Callable[[Problem], Search]:
    def search(_: Problem) -> Search:
        yield Wants((Expansion(1, ROOT, **step),))
        return Ending(StopReason.EXHAUSTED, frozenset({1}))

    return search


async def step_of(text: str, **step: Any) -> Node:
    engine = await started(ScriptedEngine(lambda *_: Reply(text)))
    return (await Rollout(problem(1), tools(engine, one_step(**step))).run()).nodes[0]


@pytest.mark.parametrize(
    ("text", "step", "state", "kept"),
    [
        ("so yes", {}, NodeState.FINISHED, "so yes"),
        ("so yes", {"may_end": False}, NodeState.OPEN, "so yes"),
        ("so yes", {"min_tokens": 6}, NodeState.FINISHED, "so yes"),
        ("so yes", {"min_tokens": 7}, NodeState.OPEN, "so yes"),
        ("so</t> yes", {"stop": ("</t>",)}, NodeState.OPEN, "so</t>"),
        ("so</t> yes", {"stop": ("</t>",), "min_tokens": 6}, NodeState.OPEN, "so</t>"),
        ("so</t> yes", {"stop": ("</t>",), "min_tokens": 7}, NodeState.OPEN, "so"),
        ("</t> yes", {"stop": ("</t>",), "min_tokens": 9}, NodeState.OPEN, ""),
        ("so </t", {"stop": ("</t>",), "min_tokens": 9}, NodeState.OPEN, "so </t"),
        ("so yes", {"max_tokens": 4, "min_tokens": 9, "may_end": False}, NodeState.OPEN, "so y"),
        ("x" * 99, {"may_end": False}, NodeState.TRUNCATED, "x" * 64),
    ],
)
async def test_what_comes_too_early_leaves_a_node_open(
    text: str, step: dict[str, Any], state: NodeState, kept: str
) -> None:
    node = await step_of(text, **step)
    assert (node.state, node.text) == (state, kept)
    assert node.token_ids == tuple(map(ord, kept))
    assert bool(node.verdicts) == (state is NodeState.FINISHED)


TEACHER = Path(__file__).parents[2] / "pipelines" / "teachers" / "countdown"


class Spelling(ScriptedEngine):
    """Gives ids of the bundled teacher's tokenizer."""

    def __init__(self, renderer: TemplateRenderer, text: str, begins_with_space: bool) -> None:
        super().__init__(lambda *_: Reply(text))
        self.ids = renderer.encode(text)
        self.space = " " * begins_with_space

    async def generate(self, prompt: Prompt, request: Request) -> Generation:
        made = await super().generate(prompt, request)
        return replace(made, text=self.space + made.text, token_ids=self.ids, finish=FinishReason.STOP)


@pytest.mark.parametrize(
    ("text", "stop", "kept"),
    [
        ("try 3 + 7 = 10 left 10 12\ndead\n</think>\n", "</think>\n", "try 3 + 7 = 10 left 10 12\ndead\n"),
        ("try 3 + 7 = 10 left 10 12\ndead\n</think>", "</think>", "try 3 + 7 = 10 left 10 12\ndead\n"),
        ("dead\n", "ead", ""),
        ("try 3 + 7 = 10\n", "10", "try 3 + 7 ="),
    ],
)
@pytest.mark.parametrize("space", [False, True])
async def test_an_end_is_left_out_in_whole_tokens(text: str, stop: str, kept: str, space: bool) -> None:
    """Also one of several tokens, and one inside of a token. The text may begin with a space that its ids lack."""
    renderer = TemplateRenderer(str(TEACHER))
    engine = await started(Spelling(renderer, text, space))
    shared = replace(tools(engine, one_step(stop=(stop,), min_tokens=99)), renderer=renderer)
    (node,) = (await Rollout(problem(1), shared).run()).nodes
    assert node.text == (" " + kept if space and kept else kept)
    assert node.token_ids == (renderer.encode(kept) if kept else ())


async def test_the_whole_path_is_judged() -> None:
    seen: list[str] = []

    def listening(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        seen.append(attempt.text)
        return judge(problem, attempt)

    engine = await started(ScriptedEngine(reading_on))
    await Rollout(problem(1), tools(engine, step_by_step(), judge=listening)).run()
    assert seen == [STEPS]


@pytest.mark.parametrize(("limit", "state"), [(3, NodeState.OPEN), (None, NodeState.TRUNCATED)])
async def test_a_limit_of_the_search_ends_a_step_and_the_policys_an_attempt(
    limit: int | None, state: NodeState
) -> None:
    def search(_: Problem) -> Search:
        yield Wants((Expansion(1, ROOT, max_tokens=limit),))
        return Ending(StopReason.EXHAUSTED, frozenset())

    engine = await engine_saying({1: "x" * 99})
    tree = await Rollout(problem(1), tools(engine, search)).run()
    assert tree.nodes[0].state is state
    assert len(tree.nodes[0].text) == (limit or POLICY.sampling.max_tokens)


# --- order


@pytest.mark.parametrize("seed", range(3))
async def test_delays_change_nothing(seed: int) -> None:
    """The same problem, seed and search give the same tree, whatever the order of the answers."""
    trees = []
    for delay, places in ((0, 256), (seed + 1, 256), (0, 1), (3, 2)):
        engine = await started(ScriptedEngine("words", seed=seed, delay_turns=delay, max_running=places, record=False))
        tree = await Rollout(problem(seed), tools(engine, all_of(6))).run()
        trees.append([replace(node, seconds=0.0, engine_seconds=0.0, verdicts=()) for node in tree.nodes])
        assert len({node.text for node in tree.nodes}) > 1
    assert all(nodes == trees[0] for nodes in trees)


# --- trouble


async def test_a_verifier_that_crashes_says_unknown_and_the_tree_goes_on() -> None:
    engine = await engine_saying({1: "boom", 2: "yes", 3: "huh"})
    tree = await Rollout(problem(1), tools(engine, all_of(3))).run()
    assert [node.outcome for node in tree.nodes] == [Outcome.UNKNOWN, Outcome.PASS, Outcome.UNKNOWN]
    assert tree.nodes[0].verdicts[0].evidence == "RuntimeError: the verifier crashed"
    assert tree.stop is StopReason.SOLVED


async def test_an_engine_error_ends_the_others_first() -> None:
    slow = Reply("yes", turns=NEVER)
    engine = await engine_saying({1: slow, 2: Reply("", turns=1, error="no memory"), 3: slow, 4: slow}, max_running=3)
    shared = tools(engine, all_of(4))
    with pytest.raises(EngineError, match="no memory"):
        await Rollout(problem(1), shared).run()
    nothing_runs(shared, engine)


async def test_what_was_finished_before_an_error_is_kept() -> None:
    judged = threading.Event()

    def telling(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        found = judge(problem, attempt)
        judged.set()
        return found

    class Engine(ScriptedEngine):
        """Fails its second request once the first is judged."""

        async def generate(self, prompt: Prompt, request: Request) -> Generation:
            if node_of(request) == 2:
                await asyncio.to_thread(judged.wait)
            return await super().generate(prompt, request)

    engine = Engine(saying({1: "so yes", 2: Reply("", error="no memory"), 3: Reply("", turns=NEVER)}))
    await engine.start()
    rollout = Rollout(problem(1), tools(engine, all_of(3), judge=telling), tries=3)
    with pytest.raises(EngineError):
        await rollout.run()
    tree = rollout.snapshot(error="EngineError: no memory")
    assert [(node.id, node.text) for node in tree.nodes] == [(1, "so yes")]
    assert (tree.stop, tree.error, tree.tries) == (StopReason.ERROR, "EngineError: no memory", 3)
    assert tree.cost.generated_tokens == len("so yes") + 1
    assert rollout.snapshot().stop is None


async def test_answers_that_come_with_an_error_in_one_moment_are_kept() -> None:
    """All in one event-loop turn: the error must not sweep the others away."""
    long = "x" * 99
    engine = await engine_saying({1: Reply("", error="no memory"), 2: long, 3: long, 4: Reply("", error="again")})
    shared = tools(engine, all_of(4))
    rollout = Rollout(problem(1), shared)
    with pytest.raises(EngineError, match="no memory"):
        await rollout.run()
    assert ids(rollout.snapshot().nodes) == [2, 3]
    nothing_runs(shared, engine)


async def test_a_dead_engine_ends_the_rollout_as_dead() -> None:
    engine = await engine_saying(dict.fromkeys(range(1, 5), "yes"), die_after=2)
    shared = tools(engine, all_of(4))
    with pytest.raises(EngineDead):
        await Rollout(problem(1), shared).run()
    nothing_runs(shared, engine)


async def test_cancelling_leaves_nothing_behind() -> None:
    engine = await engine_saying(dict.fromkeys(range(1, 9), Reply("yes", turns=NEVER)), max_running=3)
    shared = tools(engine, all_of(8))
    run = asyncio.create_task(Rollout(problem(1), shared).run())
    await turns(5)
    assert shared.load.outstanding == 8
    assert engine.stats.running == 3
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    nothing_runs(shared, engine)


class Gate:
    """A verifier that waits to be let through, and tells when somebody waits."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()
        self.waiting = asyncio.Event()

    def judge(self, problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        self._loop.call_soon_threadsafe(self.waiting.set)
        assert self._open.wait(60)
        return judge(problem, attempt)

    def open(self) -> None:
        self._open.set()


async def test_an_answer_is_not_lost_while_it_is_judged() -> None:
    gate = Gate()
    engine = await engine_saying({1: "so yes"})
    shared = tools(engine, all_of(1), judge=gate.judge)
    rollout = Rollout(problem(1), shared)
    run = asyncio.create_task(rollout.run())
    await gate.waiting.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    gate.open()
    nothing_runs(shared, engine)
    (node,) = rollout.snapshot().nodes
    assert (node.text, node.state, node.verdicts) == ("so yes", NodeState.FINISHED, ())

    # And when it is replayed, it is judged, not generated again.
    engine = await engine_saying({})
    tree = await Rollout(problem(1), tools(engine, all_of(1)), rollout.snapshot().nodes).run()
    assert engine.requests == []
    assert [(one.text, one.outcome, one.counted) for one in tree.nodes] == [("so yes", Outcome.PASS, True)]


async def test_an_answer_that_is_cancelled_while_it_is_judged_stays_and_does_not_count() -> None:
    gate = Gate()

    def judge_slowly(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        return gate.judge(problem, attempt) if attempt.text == "late yes" else judge(problem, attempt)

    def search(_: Problem) -> Search:
        """Ends with what comes first, and leaves the other to itself."""
        (first,) = yield Wants((Expansion(1, ROOT), Expansion(2, ROOT)))
        return Ending(StopReason.SOLVED, frozenset({first.expansion.id}))

    engine = await engine_saying({1: Reply("soon yes", turns=3), 2: "late yes"})
    shared = tools(engine, search, judge=judge_slowly, pool=ThreadPoolExecutor(2), threads=2)
    tree = await Rollout(problem(1), shared).run()
    gate.open()
    assert [(node.id, node.text, node.counted, node.outcome) for node in tree.nodes] == [
        (1, "soon yes", True, Outcome.PASS),
        (2, "late yes", False, None),
    ]
    nothing_runs(shared, engine)


async def test_a_search_that_ends_early_leaves_nothing_running() -> None:
    def search(_: Problem) -> Search:
        yield Wants(tuple(Expansion(id, ROOT) for id in (1, 2, 3)))
        return Ending(StopReason.EXHAUSTED, frozenset({1}))

    engine = await engine_saying({1: "yes", 2: Reply("yes", turns=NEVER), 3: Reply("yes", turns=NEVER)})
    shared = tools(engine, search)
    tree = await Rollout(problem(1), shared).run()
    assert ids(tree.nodes) == [1]
    nothing_runs(shared, engine)


async def test_a_request_is_cancelled_once() -> None:
    """An engine's own clean-up after a cancellation is not disturbed by another one."""

    class Engine(ScriptedEngine):
        cleaned = 0

        async def generate(self, prompt: Prompt, request: Request) -> Generation:
            try:
                return await super().generate(prompt, request)
            except asyncio.CancelledError:
                await turns(20)
                self.cleaned += 1
                raise

    slow = Reply("yes", turns=NEVER)
    engine = Engine(saying({1: "yes", 2: slow, 3: Reply("no", turns=2), 4: slow}))
    await engine.start()

    def search(_: Problem) -> Search:
        back: set[int] = set()
        wants = Wants(tuple(Expansion(id, ROOT) for id in (1, 2, 3, 4)))
        while len(back) < 3:
            back |= {grown.expansion.id for grown in (yield wants)}
            wants = Wants(cancel=tuple({2} - back))
        return Ending(StopReason.SOLVED, frozenset({1}))

    shared = tools(engine, search)
    await Rollout(problem(1), shared).run()
    assert engine.cleaned == 2
    nothing_runs(shared, engine)


async def test_a_cancellation_while_an_error_is_cleaned_up_loses_no_answer() -> None:
    class Engine(ScriptedEngine):
        """Takes its time to abort a request, as a server does."""

        aborting = asyncio.Event()

        async def generate(self, prompt: Prompt, request: Request) -> Generation:
            try:
                return await super().generate(prompt, request)
            except asyncio.CancelledError:
                self.aborting.set()
                await turns(50)
                raise

    engine = Engine(saying({1: Reply("", error="no memory"), 2: "x" * 99, 3: Reply("yes", turns=NEVER)}))
    await engine.start()
    shared = tools(engine, all_of(3))
    rollout = Rollout(problem(1), shared)
    run = asyncio.create_task(rollout.run())
    await engine.aborting.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ids(rollout.snapshot().nodes) == [2]
    assert shared.load.outstanding == 0
    await turns(60)
    nothing_runs(shared, engine)


async def test_the_load_is_told_of_every_change() -> None:
    engine = await engine_saying({1: "yes", 2: "no"})
    shared = tools(engine, all_of(2))
    await Rollout(problem(1), shared).run()
    assert shared.load.changed.is_set()


# --- searches that break the contract


def yields(*wants: Wants) -> Callable[[Problem], Search]:
    def search(_: Problem) -> Search:
        for one in wants:  # noqa: UP028  # a tuple cannot be sent anything
            yield one
        return Ending(StopReason.EXHAUSTED, frozenset())

    return search


def returns(ending: object) -> Callable[[Problem], Search]:
    def search(_: Problem) -> Search:
        yield Wants((Expansion(1, ROOT),))
        return ending  # type: ignore[return-value]

    return search


@pytest.mark.parametrize(
    "search",
    [
        yields(Wants()),
        yields(Wants((Expansion(1, ROOT),)), Wants()),
        yields(Wants((Expansion(2, ROOT),))),
        yields(Wants((Expansion(0, ROOT),))),
        yields(Wants((Expansion(1, ROOT), Expansion(1, ROOT)))),
        yields(Wants((Expansion(1, ROOT), Expansion(3, ROOT)))),
        yields(Wants((Expansion(1, ROOT), Expansion(2, 1)))),
        yields(Wants((Expansion(1, ROOT),)), Wants((Expansion(2, 1),))),
        yields(Wants((Expansion(1, ROOT),)), Wants((Expansion(2, 7),))),
        yields(Wants((Expansion(1, 1),))),
        returns(None),
        returns(StopReason.SOLVED),
    ],
)
async def test_a_broken_search_is_told_so(search: Callable[[Problem], Search]) -> None:
    engine = await engine_saying(dict.fromkeys(range(4), "yes"))
    shared = tools(engine, search)
    with pytest.raises(SearchContractError):
        await Rollout(problem(1), shared).run()
    nothing_runs(shared, engine)


async def test_a_search_that_raises_leaves_nothing_running() -> None:
    def search(_: Problem) -> Search:
        yield Wants((Expansion(1, ROOT), Expansion(2, ROOT)))
        raise ZeroDivisionError

    engine = await engine_saying({1: "yes", 2: Reply("yes", turns=NEVER)})
    shared = tools(engine, search)
    with pytest.raises(ZeroDivisionError):
        await Rollout(problem(1), shared).run()
    nothing_runs(shared, engine)


async def test_a_search_is_closed_in_any_case() -> None:
    """Its `finally` runs, whatever becomes of the rollout."""
    closed: list[bool] = []

    def search(_: Problem) -> Search:
        try:
            yield Wants((Expansion(1, ROOT),))
        finally:
            closed.append(True)
        return Ending(StopReason.EXHAUSTED, frozenset())

    engine = await engine_saying({1: Reply("", error="x")})
    with pytest.raises(EngineError):
        await Rollout(problem(1), tools(engine, search)).run()
    assert closed == [True]


async def test_a_search_may_end_without_asking_for_anything() -> None:
    def search(_: Problem) -> Search:
        yield from ()
        return Ending(StopReason.EXHAUSTED, frozenset())

    engine = await engine_saying({})
    tree = await Rollout(problem(1), tools(engine, search)).run()
    assert (tree.nodes, tree.stop) == ((), StopReason.EXHAUSTED)


# --- replay


async def whole_tree(search: Callable[[Problem], Search], answers: Says_) -> Tree:
    return await Rollout(problem(1), tools(await engine_saying(answers), search)).run()


async def test_a_full_record_asks_the_engine_for_nothing() -> None:
    before = await whole_tree(all_of(3), {1: "yes", 2: "no", 3: "x" * 99})
    engine = await engine_saying({})
    after = await Rollout(problem(1), tools(engine, all_of(3)), before.nodes).run()
    assert engine.requests == []
    assert after.nodes == before.nodes
    assert after.cost.generated_tokens == before.cost.generated_tokens


async def test_what_is_missing_is_asked_for_under_its_own_id() -> None:
    answers: Says_ = {1: "so no", 2: "yes", 3: "no", 4: "well yes"}
    before = await whole_tree(all_of(4), answers)
    engine = await engine_saying(answers)
    kept = tuple(node for node in before.nodes if node.id in (2, 4))
    after = await Rollout(problem(1), tools(engine, all_of(4)), kept).run()
    assert [node_of(request) for _, request in engine.requests] == [1, 3]
    assert [timeless(node) for node in after.nodes] == [timeless(node) for node in before.nodes]


async def test_steps_are_replayed_and_continued() -> None:
    engine = await started(ScriptedEngine(reading_on))
    before = await Rollout(problem(1), tools(engine, step_by_step())).run()
    engine = await started(ScriptedEngine(reading_on))
    after = await Rollout(problem(1), tools(engine, step_by_step()), before.nodes[:1]).run()
    assert [node_of(request) for _, request in engine.requests] == [2, 3]
    assert [timeless(node) for node in after.nodes] == [timeless(node) for node in before.nodes]


async def test_what_was_paid_for_and_is_no_longer_wanted_stays_uncounted() -> None:
    """A whole branch too: here a record of three steps is replayed by a search that stops after the first."""
    engine = await started(ScriptedEngine(reading_on))
    before = await Rollout(problem(1), tools(engine, step_by_step())).run()
    engine = await engine_saying({})
    after = await Rollout(problem(1), tools(engine, step_by_step(most=1)), before.nodes).run()
    assert engine.requests == []
    assert [(node.id, node.parent, node.text, node.counted) for node in after.nodes] == [
        (1, 0, "first\n", True),
        (2, 1, "second\n", False),
        (3, 2, "and yes", False),
    ]


async def test_a_record_of_another_shape_is_not_taken() -> None:
    """A node of that id that hangs elsewhere is another node."""
    before = await whole_tree(all_of(2), {1: "no", 2: "no"})
    wrong = (replace(before.nodes[0], parent=2), before.nodes[1])
    engine = await engine_saying({1: "yes"})
    after = await Rollout(problem(1), tools(engine, all_of(2)), wrong).run()
    assert [(node.parent, node.text) for node in after.nodes] == [(0, "yes"), (0, "no")]


async def test_the_snapshot_of_a_replay_never_forgets_what_was_recorded() -> None:
    before = await whole_tree(all_of(3), {1: "yes", 2: "no", 3: "no"})
    engine = await engine_saying({})
    fresh = Rollout(problem(1), tools(engine, all_of(3)), before.nodes, tries=2)
    assert fresh.snapshot().nodes == before.nodes, "also before it has begun"
    assert (fresh.snapshot().stop, fresh.snapshot().tries) == (None, 2)


async def test_an_unknown_verifier_is_an_error_and_loses_nothing() -> None:
    engine = await engine_saying({1: "yes"})
    other = replace(problem(1), checks=(replace(problem(1).checks[0], verifier="nobody"),))
    shared = tools(engine, all_of(1), judge=lambda problem, attempt: verdicts({"says": Says()}, problem, attempt))
    rollout = Rollout(other, shared)
    with pytest.raises(KeyError):
        await rollout.run()
    assert ids(rollout.snapshot().nodes) == [1]
    nothing_runs(shared, engine)


def timeless(node: Node) -> Node:
    return replace(
        node,
        seconds=0.0,
        engine_seconds=0.0,
        verdicts=tuple(replace(verdict, seconds=0.0) for verdict in node.verdicts),
    )


async def inside_at_most(places: int, known: Callable[[int], int]) -> int:
    """How many of many requests are inside at most, none of which ends; `known` of those inside the engine knows of."""
    inside: set[int] = set()
    load = Load(lambda: places, lambda: known(len(inside)))

    async def request(id: int) -> None:
        await load.entered(Ticket(0, 1, id))
        inside.add(id)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for id in range(1, 40 * places):
            load.ask(Ticket(0, 1, id))
            tasks.append(group.create_task(request(id)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # it has entered by now, if it may
        for task in tasks:
            task.cancel()
    return len(inside)


async def test_an_engine_that_knows_of_all_its_requests_has_an_eighth_more_than_it_runs() -> None:
    assert await inside_at_most(64, lambda inside: inside) == 72


async def test_requests_on_their_way_are_made_up_for_up_to_twice_the_places() -> None:
    assert await inside_at_most(64, lambda inside: 0) == 136
    assert await inside_at_most(64, lambda inside: inside * 3 // 4) == pytest.approx(72 / 0.75, abs=1)
