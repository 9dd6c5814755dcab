"""Training examples: randomised searches with dead ends, and the later turns that a search may want to force.

Each example is a list of token ids with one loss weight per token, zero on everything the model does not have to
produce itself: prompts, cues, injected lines, a first attempt that is to be revised. The exact solver steers a
search but is never quoted, so what the model learns is a noisy searcher that also gives up and answers wrongly.
"""

import random
from dataclasses import dataclass, field

from factory.sources.countdown import (
    Instance,
    Move,
    Position,
    State,
    can_reach,
    complete,
    moves,
    prompt_text,
    start,
)
from pipelines.teachers.countdown.language import (
    ANSWER,
    CONTEXT,
    END,
    END_THINK,
    JUDGE_CUE,
    REVISE_CUE,
    STOP_CUE,
    THINK,
    TOKEN_IDS,
    WAIT_CUE,
    encode,
    prompt_ids,
)

KINDS = {"main": 0.60, "stop": 0.14, "judge": 0.16, "revise": 0.10}
"""Share of each kind of example."""
ABANDON = {3: 0.5, 2: 0.6}
"""Chance that a hopeless state is called dead before another try, by the count of numbers left."""
BACK_TO_HOPE, BACK_TO_PARENT = 0.65, 0.25
"""Chances of going back to the deepest state that still reaches the target, and to the parent; else any ancestor."""
WAIT_CHANCE = 0.35
"""Chance that a search which could give up waits instead, once, and goes on with a new budget."""
JUDGE_WEIGHT = 5.0
"""Loss weight of the one token of a judgement, or it would drown among the chains."""

UNDECIDED_WEIGHT = 4.0
"""How much likelier a cut for a judgement is where the verdict is not yet told by the line before it."""

Tried = dict[State, set[tuple[int, str, int]]]


@dataclass(frozen=True, slots=True)
class Policy:
    """How well searches go, and how long they last."""

    good_move: dict[int, float]
    """Chance that a move keeps the target within reach, by the count of numbers left (larger counts: as for 4)."""
    dead_ends: tuple[int, ...]
    """A search gives up at one of these counts of dead ends, drawn evenly."""


POLICIES = {
    "wandering": Policy({4: 0.50, 3: 0.60, 2: 0.93}, (1, 2, 3, 4, 5, 6, 7)),
    "guided": Policy({4: 0.65, 3: 0.75, 2: 0.95}, (1, 1, 1, 1, 1, 2, 3, 4, 6)),
    "persistent": Policy({4: 0.60, 3: 0.70, 2: 0.95}, (1, 2, 3, 4, 5, 6, 7)),
}
"""Wandering searches teach the moves of the game, guided ones which of them to take, persistent ones not to give up."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chain."""

    text: str
    """The line with its line end."""
    position: Position
    """Where the search stands after it."""


@dataclass(slots=True)
class Search:
    """A search in progress, then its trace."""

    rng: random.Random
    instance: Instance
    policy: Policy
    tried: Tried = field(default_factory=dict)
    """Moves already taken from each state, so that they are not repeated."""
    lines: list[Line] = field(default_factory=list)
    path: list[Position] = field(default_factory=list)
    finished: list[tuple[int, str]] = field(default_factory=list)
    """Distance from the target and expression of each single number reached."""

    @property
    def solved(self) -> bool:
        """Whether the search ended at the target."""
        return self.lines[-1].text == "done\n"

    @property
    def answer(self) -> str:
        """The expression given at the end: the closest finished value, which is the target if it was reached."""
        return min(self.finished, key=lambda value: value[0])[1]

    def run(self) -> "Search":
        """Search until the target is reached or the budget of dead ends is spent."""
        self.path = [start(self.instance)]
        budget, may_wait = self.rng.choice(self.policy.dead_ends), self.rng.random() < WAIT_CHANCE
        while not self.solved_here():
            if not self.is_dead():
                self.step()
                continue
            self.say("dead\n")
            budget -= 1
            if budget <= 0 and self.finished:
                if not may_wait:
                    return self
                self.say(WAIT_CUE)
                budget, may_wait = self.rng.choice(self.policy.dead_ends), False
            self.back()
        self.say("done\n")
        return self

    def say(self, text: str) -> None:
        """Write a line about the present position."""
        self.lines.append(Line(text, self.path[-1]))

    def solved_here(self) -> bool:
        """Record a finished value, and say whether it is the target."""
        terms = self.path[-1].terms
        if len(terms) > 1:
            return False
        self.finished.append((abs(terms[0][0] - self.instance.target), terms[0][1]))
        return terms[0][0] == self.instance.target

    def is_dead(self) -> bool:
        """Whether to leave the present state: finished at another value, or hopeless and abandoned."""
        state = self.path[-1].state
        if len(state) == 1:
            return True
        if len(self.path) == 1 or can_reach(state, self.instance.target):
            return False
        exhausted = all((m.left, m.operator, m.right) in self.tried.get(state, ()) for m in moves(state))
        return exhausted or self.rng.random() < ABANDON.get(len(state), 0.0)

    def step(self) -> None:
        """Take a move that was not taken before; now and then one that loses the target."""
        here = self.path[-1]
        tried = self.tried.setdefault(here.state, set())
        options = [m for m in moves(here.state) if (m.left, m.operator, m.right) not in tried]
        good = [m for m in options or moves(here.state) if can_reach(m.state, self.instance.target)]
        bad = [m for m in options or moves(here.state) if m not in good]
        chance = self.policy.good_move.get(len(here.state), self.policy.good_move[4])
        move = self.rng.choice(good if good and (not bad or self.rng.random() < chance) else bad)
        tried.add((move.left, move.operator, move.right))
        self.path.append(here.after(move))
        self.say(try_line(move))

    def back(self) -> None:
        """Return to an ancestor."""
        hopeful = [i for i, p in enumerate(self.path[:-1]) if can_reach(p.state, self.instance.target)]
        roll = self.rng.random()
        if roll < BACK_TO_HOPE:
            depth = hopeful[-1]
        elif roll < BACK_TO_HOPE + BACK_TO_PARENT:
            depth = len(self.path) - 2
        else:
            depth = self.rng.randrange(len(self.path) - 1)
        del self.path[depth + 1 :]
        self.say(f"back {' '.join(map(str, self.path[-1].state))}\n")


def try_line(move: Move) -> str:
    """The line that takes a move."""
    left = " ".join(map(str, move.state))
    return f"try {move.left} {move.operator} {move.right} = {move.result} left {left}\n"


@dataclass(slots=True)
class Example:
    """A sequence for training."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    """Loss weight of each token as a token to be predicted."""

    def add(self, ids: list[int], weight: float) -> None:
        """Append tokens that all have one weight."""
        self.ids += ids
        self.weights += [weight] * len(ids)


def opened(instance: Instance) -> Example:
    """The prompt."""
    example = Example()
    example.add(prompt_ids(prompt_text(instance)), 0.0)
    return example


def add_chain(example: Example, lines: list[Line], weight: float) -> None:
    """A chain of lines, from `<think>` on; the model is not taught to write `wait` by itself."""
    example.add(encode(THINK), weight)
    for line in lines:
        example.add(encode(line.text), 0.0 if line.text == WAIT_CUE else weight)


def add_attempt(example: Example, search: Search, weight: float) -> None:
    """A whole assistant's turn."""
    add_chain(example, search.lines, weight)
    example.add([*encode(END_THINK + ANSWER + search.answer), END], weight)


def main_example(rng: random.Random, instance: Instance, policy: Policy) -> Example:
    """A prompt and a search with its answer, right or wrong."""
    example = opened(instance)
    add_attempt(example, Search(rng, instance, policy).run(), 1.0)
    return example


def stop_example(rng: random.Random, instance: Instance, policy: Policy) -> Example:
    """A search cut at a line boundary, and the answer that it must give at once."""
    lines = Search(rng, instance, policy).run().lines
    kept = lines[: rng.randrange(len(lines))]
    example = opened(instance)
    add_chain(example, kept, 1.0)
    example.add(encode(STOP_CUE), 0.0)
    position = kept[-1].position if kept else start(instance)
    answer = complete(position, instance.target) or complete(start(instance), instance.target)
    example.add([*encode(f" {answer}"), END], 1.0)
    return example


def judge_example(rng: random.Random, instance: Instance, policy: Policy) -> Example | None:
    """A search cut at a line boundary, and the verdict on its state; None if this search has no such state.

    A search without dead ends has no hopeless state, so a few more verdicts are yes than no.
    """
    lines = Search(rng, instance, policy).run().lines
    wanted = rng.random() < 0.5
    cuts = [i for i in range(len(lines) + 1) if within_reach(instance, lines[:i]) == wanted]
    if not cuts:
        return None
    weights = [1.0 if i and decided(lines[i - 1]) else UNDECIDED_WEIGHT for i in cuts]
    example = opened(instance)
    add_chain(example, lines[: rng.choices(cuts, weights)[0]], 0.0)
    example.add(encode(JUDGE_CUE), 0.0)
    example.add(encode(" yes" if wanted else " no"), JUDGE_WEIGHT)
    return example


def decided(line: Line) -> bool:
    """Whether a line already tells the verdict: a single number is left, or the state was called dead."""
    return line.text == "dead\n" or len(line.position.terms) == 1


def within_reach(instance: Instance, lines: list[Line]) -> bool:
    """Whether the target can be made from the state that a chain stands at."""
    return can_reach(lines[-1].position.state if lines else instance.numbers, instance.target)


def revise_example(rng: random.Random, instance: Instance, policy: Policy) -> Example | None:
    """A wrong attempt, the user's objection, and a right attempt that tries other moves; None if the draw fails."""
    first = Search(rng, instance, policy).run()
    second = Search(rng, instance, policy, first.tried).run()
    if first.solved or not second.solved:
        return None
    example = opened(instance)
    add_attempt(example, first, 0.0)
    example.add([TOKEN_IDS["<|user|>"], *encode(REVISE_CUE), END, TOKEN_IDS["<|assistant|>"]], 0.0)
    add_attempt(example, second, 1.0)
    return example


MAKERS = {"main": main_example, "stop": stop_example, "judge": judge_example, "revise": revise_example}


def make_example(rng: random.Random, instance: Instance, policy: Policy) -> Example:
    """An example of a random kind for an instance, redrawn until it exists and fits."""
    maker = MAKERS[rng.choices(list(KINDS), list(KINDS.values()))[0]]
    while True:
        example = maker(rng, instance, policy)
        if example is not None and len(example.ids) <= CONTEXT:
            return example
