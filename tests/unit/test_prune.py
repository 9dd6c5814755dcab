"""From trees to transcripts: what is cut, what is rejected and why, and what a transcript carries."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from factory.errors import ConfigError
from factory.ids import digest
from factory.prune.base import Cut, Pruner, merge
from factory.prune.countdown import CountdownPruner
from factory.prune.transcripts import Rejection, relabel, transcripts
from factory.types import (
    Aspect,
    Attempt,
    Check,
    Cost,
    Message,
    Node,
    NodeState,
    Origin,
    Outcome,
    Policy,
    Problem,
    Removal,
    Sampling,
    Span,
    StopReason,
    Transcript,
    Tree,
    Verdict,
)

PROBLEM = Problem(
    id="0123456789abcdef0123",
    messages=(Message("user", "make 42 from 3 7 12 25"),),
    reference=None,
    checks=(Check("countdown", {"numbers": [25, 12, 7, 3], "target": 42}),),
    source="test",
)
DETOUR = "try 25 - 12 = 13 left 3 7 13\ndead\nback 3 7 12 25\n"
WAY = "try 25 - 7 = 18 left 3 12 18\ntry 18 * 3 = 54 left 12 54\ntry 54 - 12 = 42 left 42\ndone\n"
END = "</think>\nanswer ( ( 25 - 7 ) * 3 ) - 12"


def verdict(outcome: Outcome, aspect: Aspect = Aspect.ANSWER) -> Verdict:
    return Verdict("countdown", "1", aspect, outcome, None, "", 0.0)


PASS = (verdict(Outcome.PASS), verdict(Outcome.PASS, Aspect.CHAIN))
AGAIN = (replace(PASS[0], evidence="judged again"), PASS[1])


def node(id: int, text: str, verdicts: tuple[Verdict, ...] = PASS, parent: int = 0, **other: object) -> Node:
    made = Node(
        id=id,
        parent=parent,
        text=text,
        token_ids=None,
        logprobs=None,
        origin=Origin.SAMPLED,
        state=NodeState.FINISHED,
        score=None,
        verdicts=verdicts,
        counted=True,
        generated_tokens=10,
        prompt_tokens=5,
        cached_tokens=None,
        seconds=0.1,
    )
    return replace(made, **other)  # type: ignore[arg-type]


def tree(*nodes: Node) -> Tree:
    policy = Policy("teacher", "0" * 64, Sampling())
    return Tree(PROBLEM, policy, "best_of_n", nodes, StopReason.EXHAUSTED, None, 1, Cost())


def accept(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
    return AGAIN


def made(given: Tree, variants: tuple[str, ...] = ("full", "pruned")) -> list[Transcript]:
    return list(transcripts(given, variants=variants, pruners=[CountdownPruner()], judge=accept))


def pruned(text: str, problem: Problem = PROBLEM) -> str:
    for cut in reversed(CountdownPruner().cuts(problem, text)):
        assert cut.reason == "abandoned_attempt"
        text = text[: cut.start] + text[cut.end :]
    return text


# --- the pruner


@pytest.mark.parametrize(
    "detours",
    [
        "",
        DETOUR,
        DETOUR * 3,
        DETOUR.replace("dead\n", "dead\nwait\n"),
        DETOUR.replace("dead\n", ""),
        DETOUR.replace("dead\n", "try 3 + 7 = 10 left 10 13\ndead\nback 3 7 13\ntry 3 * 7 = 21 left 13 21\ndead\n"),
        DETOUR.replace("dead\n", "try 3 + 7 = 10 left 10 13\ndead\n"),
    ],
    ids=["none", "one", "three", "with a wait", "without dead", "nested", "two levels at once"],
)
def test_only_the_way_to_the_target_is_left(detours: str) -> None:
    assert pruned(f"<think>\n{detours}{WAY}{END}") == f"<think>\n{WAY}{END}"


def test_detours_at_several_depths_are_cut_one_by_one() -> None:
    first, rest = WAY.split("\n", 1)
    text = f"<think>\n{DETOUR}{first}\ntry 3 + 12 = 15 left 15 18\ndead\nback 3 12 18\n{rest}{END}"
    cuts = CountdownPruner().cuts(PROBLEM, text)
    assert [text[cut.start : cut.end] for cut in cuts] == [
        DETOUR,
        "try 3 + 12 = 15 left 15 18\ndead\nback 3 12 18\n",
    ]
    assert pruned(text) == f"<think>\n{WAY}{END}"


def test_thinking_opened_by_the_prompt_is_pruned_too() -> None:
    assert pruned(f"{DETOUR}{WAY}{END}") == f"{WAY}{END}"


def test_a_wait_outside_of_a_detour_stays() -> None:
    text = f"<think>\n{WAY}wait\n{END}"
    assert pruned(text) == text


def test_only_the_last_thinking_is_pruned() -> None:
    first = f"<think>\n{DETOUR}</think>\nanswer 3</s><|user|>that is wrong try again</s><|assistant|>"
    assert pruned(f"{first}<think>\n{DETOUR}{WAY}{END}") == f"{first}<think>\n{WAY}{END}"


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{DETOUR}I wonder\n{WAY}{END}",
        f"<think>\n{DETOUR}\n{WAY}{END}",
        f"<think>\n{DETOUR}{WAY.replace('done', 'Done')}{END}",
        f"<think>\n{DETOUR.replace('25 - 12', '25 minus 12')}{WAY}{END}",
        f"<think>\n{DETOUR}back 9 9\n{WAY}{END}",
        f"<think>\n{DETOUR}back 3 7 13\n{WAY}{END}",
        f"<think>\n{DETOUR}back 3 7 12 25\n{WAY}{END}",
        f"<think>\n{DETOUR.replace('back 3 7 12 25', 'back 3 7 13')}{WAY}{END}",
        f"<think>\n{DETOUR}{WAY}",
        f"<think>\n{WAY}{END}<think>\n{DETOUR}",
        f"<think>{DETOUR}{WAY}{END}",
        "answer 3",
        "",
    ],
)
def test_what_it_does_not_understand_it_leaves_alone(text: str) -> None:
    assert CountdownPruner().cuts(PROBLEM, text) == []


@pytest.mark.parametrize("params", [None, {}, {"numbers": "3 7"}, {"numbers": ["3", "7"]}])
def test_a_problem_that_is_not_this_game_is_left_alone(params: dict[str, object] | None) -> None:
    other = replace(PROBLEM, checks=() if params is None else (Check("countdown", params),))
    assert CountdownPruner().cuts(other, f"<think>\n{DETOUR}{WAY}{END}") == []


def test_merged_cuts_are_in_order_and_disjoint() -> None:
    cuts = [Cut(5, 8, "b"), Cut(0, 2, "a"), Cut(2, 4, "a"), Cut(3, 6, "c"), Cut(7, 8, "a"), Cut(9, 10, "b")]
    assert merge(cuts) == [Cut(0, 4, "a"), Cut(4, 6, "c"), Cut(6, 8, "b"), Cut(9, 10, "b")]
    assert merge([]) == []


# --- transcripts


def test_a_right_leaf_gives_one_transcript_per_variant() -> None:
    full, short = made(tree(node(1, f"<think>\n{DETOUR}{WAY}{END}")))
    assert (full.variant, full.text, full.removals) == ("full", f"<think>\n{DETOUR}{WAY}{END}", ())
    assert (short.variant, short.text) == ("pruned", f"<think>\n{WAY}{END}")
    assert short.removals == (Removal(8, 8 + len(DETOUR), "abandoned_attempt", DETOUR),)
    assert full.verdicts == PASS
    assert short.verdicts == AGAIN
    assert full.rejection is None
    assert short.rejection is None
    assert full.generated_tokens == short.generated_tokens == 10
    assert [t.id for t in (full, short)] == [digest([PROBLEM.id, 1, v])[:20] for v in ("full", "pruned")]


def test_where_nothing_was_pruned_both_variants_are_kept() -> None:
    full, short = made(tree(node(1, f"<think>\n{WAY}{END}")))
    assert (full.rejection, short.rejection) == (None, None)
    assert short == replace(full, id=short.id, variant="pruned")


def test_only_the_variants_asked_for_are_made() -> None:
    right = tree(node(1, f"<think>\n{DETOUR}{WAY}{END}"))
    assert [t.variant for t in made(right, ("pruned",))] == ["pruned"]
    assert [t.variant for t in made(right, ("full",))] == ["full"]


UNKNOWN = Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (node(1, "x", state=NodeState.TRUNCATED, verdicts=()), Rejection.TRUNCATED),
        (node(1, "x", (verdict(Outcome.FAIL), verdict(Outcome.FAIL, Aspect.CHAIN))), Rejection.WRONG_ANSWER),
        (node(1, "x", (verdict(Outcome.FAIL), verdict(UNKNOWN, Aspect.CHAIN))), Rejection.WRONG_ANSWER),
        (node(1, "x", (verdict(Outcome.FAIL), verdict(Outcome.PASS))), Rejection.WRONG_ANSWER),
        (node(1, "x", (verdict(Outcome.FAIL),), counted=False), Rejection.WRONG_ANSWER),
        (node(1, "x", ()), Rejection.UNKNOWN_VERDICT),
        (node(1, "x", (verdict(UNKNOWN),)), Rejection.UNKNOWN_VERDICT),
        (node(1, "x", (verdict(UNKNOWN), verdict(Outcome.FAIL, Aspect.CHAIN))), Rejection.UNKNOWN_VERDICT),
        (node(1, "x", (verdict(Outcome.PASS), verdict(UNKNOWN, Aspect.CHAIN))), Rejection.UNKNOWN_VERDICT),
        (node(1, "x", (verdict(Outcome.PASS), verdict(Outcome.FAIL, Aspect.CHAIN))), Rejection.WRONG_CHAIN),
        (node(1, "x", PASS, counted=False), Rejection.BEYOND_STOP),
    ],
)
def test_a_leaf_that_is_no_example_gives_one_rejected_transcript(leaf: Node, reason: Rejection) -> None:
    (found,) = made(tree(leaf))
    assert (found.rejection, found.variant, found.text) == (reason, "full", "x")
    assert found.verdicts == leaf.verdicts


def test_an_answer_is_enough_where_no_verifier_judges_chains() -> None:
    full, short = made(tree(node(1, "x", (verdict(Outcome.PASS),))))
    assert (full.rejection, short.rejection) == (None, None)


def test_a_text_is_kept_once_per_tree_and_variant() -> None:
    found = made(
        tree(
            node(1, "wrong", (verdict(Outcome.FAIL),)),
            node(2, f"<think>\n{WAY}{END}"),
            node(3, f"<think>\n{DETOUR}{WAY}{END}"),
            node(4, f"<think>\n{WAY}{END}"),
            node(5, "wrong", (verdict(Outcome.FAIL),)),
        )
    )
    assert [(t.leaf, t.variant, t.rejection) for t in found] == [
        (1, "full", "wrong_answer"),
        (2, "full", None),
        (2, "pruned", None),
        (3, "full", None),
        (3, "pruned", "duplicate_text"),
        (4, "full", "duplicate_text"),
        (4, "pruned", "duplicate_text"),
        (5, "full", "wrong_answer"),
    ]
    assert len({t.id for t in found}) == len(found)


@pytest.mark.parametrize(
    "after",
    [
        (verdict(Outcome.FAIL), PASS[1]),
        (verdict(UNKNOWN), PASS[1]),
        (PASS[0], verdict(Outcome.FAIL, Aspect.CHAIN)),
        (PASS[0], verdict(UNKNOWN, Aspect.CHAIN)),
        (),
    ],
)
def test_what_pruning_broke_is_rejected_with_its_new_verdicts(after: tuple[Verdict, ...]) -> None:
    right = tree(node(1, f"<think>\n{DETOUR}{WAY}{END}"))
    full, short = transcripts(
        right, variants=["full", "pruned"], pruners=[CountdownPruner()], judge=lambda problem, attempt: after
    )
    assert full.rejection is None
    assert (short.rejection, short.verdicts) == (Rejection.BROKEN_BY_PRUNING, after)
    assert short.text == f"<think>\n{WAY}{END}"


def test_spans_keep_their_origins_across_cuts() -> None:
    start, middle, rest = f"<think>\n{DETOUR[:35]}", DETOUR[35:40], f"{DETOUR[40:]}{WAY}{END}"
    nodes = (
        node(1, start, (), state=NodeState.OPEN),
        node(2, middle, (), parent=1, state=NodeState.OPEN, origin=Origin.TOOL),
        node(3, rest[:-5], (), parent=2, state=NodeState.OPEN, origin=Origin.INJECTED),
        node(4, rest[-5:], parent=3),
    )
    full, short = made(tree(*nodes))
    assert full.spans == tuple(Span(n.text, n.origin) for n in nodes)
    assert full.generated_tokens == 40
    assert short.spans == (
        Span("<think>\n", Origin.SAMPLED),
        Span(f"{WAY}{END}"[:-5], Origin.INJECTED),
        Span(END[-5:], Origin.SAMPLED),
    )


CRITICISM = "that is wrong try again"


def conversation(*answers: str) -> Tree:
    """Answers with a criticism before each but the first; the last one is right, those before it are wrong."""
    nodes: list[Node] = []
    for place, answer in enumerate(answers):
        if place:
            turn = node(2 * place, CRITICISM, (), 2 * place - 1, state=NodeState.OPEN, origin=Origin.INJECTED)
            nodes.append(replace(turn, role="user", generated_tokens=0))
        found = PASS if place == len(answers) - 1 else (verdict(Outcome.FAIL),)
        nodes.append(node(2 * place + 1, answer, found, parent=2 * place))
    return tree(*nodes)


def test_of_a_revised_answer_full_is_the_conversation_and_pruned_its_last_attempt() -> None:
    first, last = f"<think>\n{DETOUR}{END}", f"<think>\n{DETOUR}{WAY}{END}"
    seen: list[Attempt] = []

    def listening(problem: Problem, attempt: Attempt) -> tuple[Verdict, ...]:
        seen.append(attempt)
        return AGAIN

    found = list(
        transcripts(
            conversation(first, last), variants=["full", "pruned"], pruners=[CountdownPruner()], judge=listening
        )
    )
    assert [(one.leaf, one.variant, one.rejection) for one in found] == [
        (1, "full", "wrong_answer"),
        (3, "full", None),
        (3, "pruned", None),
    ]
    _, full, short = found
    assert full.spans == (
        Span(first, Origin.SAMPLED),
        Span(CRITICISM, Origin.INJECTED, "user"),
        Span(last, Origin.SAMPLED),
    )
    assert short.spans == (Span(f"<think>\n{WAY}{END}", Origin.SAMPLED),)
    assert seen == [Attempt(short.spans)], "full is judged by the verdicts of the tree"
    start = len(first) + len(CRITICISM)
    assert short.removals == (
        Removal(0, start, "earlier_turn", first + CRITICISM),
        Removal(start + 8, start + 8 + len(DETOUR), "abandoned_attempt", DETOUR),
    )
    assert full.generated_tokens == short.generated_tokens == 20


def test_earlier_turns_go_even_where_the_pruners_find_nothing() -> None:
    last = f"<think>\n{WAY}{END}"
    *_, short = made(conversation("a", "b", last))
    assert (short.text, [one.reason for one in short.removals]) == (last, ["earlier_turn"])
    assert short.verdicts == AGAIN, "it was judged after pruning"


def test_an_attempt_that_the_earlier_turns_held_up_is_rejected() -> None:
    found = transcripts(conversation("a", "b"), variants=["pruned"], pruners=[], judge=lambda *_: ())
    assert [one.rejection for one in found] == ["wrong_answer", "broken_by_pruning"]


def test_a_pruner_sees_the_last_turn_only() -> None:
    right = conversation("0123456789", "abc")
    found = list(transcripts(right, variants=["pruned"], pruners=[CutsEverything(Cut(1, 2, "x"))], judge=accept))
    assert (found[-1].text, found[-1].removals[-1].text) == ("ac", "b")
    with pytest.raises(ValueError, match="outside"):
        list(transcripts(right, variants=["pruned"], pruners=[CutsEverything(Cut(1, 4, "x"))], judge=accept))


def test_relabelling_judges_the_last_turn() -> None:
    seen: list[str] = []

    def renew(problem: Problem, attempt: Attempt, recorded: Sequence[Verdict]) -> tuple[Verdict, ...]:
        seen.append(attempt.text)
        return AGAIN

    relabel(conversation("a", "b"), renew)
    assert seen == ["a", "b"]


class CutsEverything:
    """A pruner that goes too far."""

    name = "everything"
    version = "1"

    def __init__(self, cut: Cut) -> None:
        self.cut = cut

    def cuts(self, problem: Problem, text: str) -> list[Cut]:
        return [self.cut]


def test_several_pruners_look_at_the_same_text() -> None:
    right = tree(node(1, f"<think>\n{DETOUR}{WAY}{END}"))
    pruners: list[Pruner] = [CutsEverything(Cut(0, 12, "opening")), CountdownPruner()]
    (short,) = transcripts(right, variants=["pruned"], pruners=pruners, judge=accept)
    assert [(r.start, r.end, r.reason) for r in short.removals] == [
        (0, 12, "opening"),
        (12, 8 + len(DETOUR), "abandoned_attempt"),
    ]
    assert short.text == f"{WAY}{END}"


def test_a_text_that_is_cut_away_whole_is_left_to_the_judge() -> None:
    right = tree(node(1, "abc"))
    (short,) = transcripts(right, variants=["pruned"], pruners=[CutsEverything(Cut(0, 3, "all"))], judge=accept)
    assert (short.text, short.spans, short.removals[0].text) == ("", (), "abc")


@pytest.mark.parametrize("cut", [Cut(-1, 2, "x"), Cut(0, 4, "x"), Cut(2, 2, "x"), Cut(2, 1, "x")])
def test_a_cut_outside_of_the_text_is_a_bug(cut: Cut) -> None:
    found = transcripts(tree(node(1, "abc")), variants=["pruned"], pruners=[CutsEverything(cut)], judge=accept)
    with pytest.raises(ValueError, match="everything"):
        list(found)


def test_open_and_failed_trees() -> None:
    right = tree(node(1, "x"))
    assert made(replace(right, stop=StopReason.ERROR, error="EngineError: no answer")) == []
    with pytest.raises(ValueError, match="still open"):
        made(replace(right, stop=None))


def test_a_variant_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="'prunned'"):
        transcripts(tree(), variants=["full", "prunned"], pruners=[], judge=accept)


def test_relabelling_judges_finished_leaves_only() -> None:
    seen: list[str] = []

    def judge(problem: Problem, attempt: Attempt, recorded: Sequence[Verdict]) -> tuple[Verdict, ...]:
        seen.append(attempt.text)
        return AGAIN

    nodes = (
        node(1, "a", (), state=NodeState.OPEN),
        node(2, "b", (verdict(Outcome.FAIL),), parent=1),
        node(3, "c", (), parent=1, state=NodeState.TRUNCATED),
    )
    again = relabel(tree(*nodes), judge)
    assert seen == ["ab"]
    assert [n.verdicts for n in again.nodes] == [(), AGAIN, ()]
    assert replace(again, nodes=nodes) == tree(*nodes)
