"""Countdown: combine every given number, once each, with + - * / so that the result is the target.

Owns the rules of the game, an exact solver, the problem generator and the frozen splits. Every instance made
here is solvable by construction, and no training instance shares its key with a frozen one. Standard library
only, and deterministic: the same seed gives the same instances on any machine.

Not here: prompts with roles, the scoring of answers, and the project's own problem type.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

LIMIT = 200
"""Largest value, given or intermediate. Smaller than any tree needs, and it keeps a vocabulary of numbers small."""

FROZEN_SIZE = 500
"""Instances in each frozen split."""

FROZEN_SEEDS = {"tune": 1001, "gate": 1002, "report": 1003}
"""Seed of each frozen split, in the order in which the splits are drawn. Changing one changes every result."""

REPEATS_ALLOWED = 10_000
"""Draws in a row that may give nothing new before a shape counts as exhausted."""

State = tuple[int, ...]
"""Numbers still to be combined, ascending."""


class Split(StrEnum):
    """What an instance may be used for."""

    TRAIN = "train"
    """Unlimited, from any seed; never holds a frozen instance."""
    TUNE = "tune"
    """For choices made while developing."""
    GATE = "gate"
    """For deciding whether a model is promoted."""
    REPORT = "report"
    """For the figures that are published, and nothing else."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One problem."""

    numbers: State
    """Given numbers, ascending; all of them must be used."""
    target: int
    """Value to reach."""

    @property
    def key(self) -> str:
        """Identity of the problem: its sorted numbers and its target."""
        return f"{' '.join(map(str, self.numbers))} -> {self.target}"


@dataclass(frozen=True, slots=True)
class Move:
    """One legal combination of two numbers of a state."""

    left: int
    """First operand."""
    operator: str
    """One of + - * /."""
    right: int
    """Second operand."""
    result: int
    """Exact value, from 1 to LIMIT."""
    state: State
    """Numbers that are left after it."""


def apply(left: int, operator: str, right: int) -> int | None:
    """The exact result of an operation, or None where the game forbids it."""
    if operator == "+":
        result = left + right
    elif operator == "-":
        result = left - right
    elif operator == "*":
        result = left * right
    elif operator == "/" and right and left % right == 0:
        result = left // right
    else:
        return None
    return result if 0 < result <= LIMIT else None


@lru_cache(maxsize=1 << 16)
def moves(state: State) -> tuple[Move, ...]:
    """Every legal move from a state, once each; a sum or a product has its smaller operand first."""
    found: dict[tuple[int, str, int], Move] = {}
    for i, low in enumerate(state):
        for j in range(i + 1, len(state)):
            high = state[j]
            rest = state[:i] + state[i + 1 : j] + state[j + 1 :]
            for left, operator, right in ((low, "+", high), (high, "-", low), (low, "*", high), (high, "/", low)):
                result = apply(left, operator, right)
                if result is not None:
                    after = tuple(sorted((*rest, result)))
                    found[left, operator, right] = Move(left, operator, right, result, after)
    return tuple(found.values())


@lru_cache(maxsize=1 << 17)
def _reachable_bits(state: State) -> int:
    """Reachable final values as a bit set: small enough to remember for very many states."""
    if len(state) == 1:
        return 1 << state[0]
    bits = 0
    for move in moves(state):
        bits |= _reachable_bits(move.state)
    return bits


def can_reach(state: State, target: int) -> bool:
    """Whether the target can be made from a state with every number used."""
    return bool(_reachable_bits(state) >> target & 1)


def reachable(numbers: tuple[int, ...]) -> frozenset[int]:
    """Every value that can be made from the numbers with each used exactly once."""
    bits = _reachable_bits(tuple(sorted(numbers)))
    return frozenset(value for value in range(1, LIMIT + 1) if bits >> value & 1)


@dataclass(frozen=True, slots=True)
class Position:
    """A state that remembers how each of its numbers was made."""

    terms: tuple[tuple[int, str], ...]
    """Value and expression of each number, ascending by value."""

    @property
    def state(self) -> State:
        """The numbers alone."""
        return tuple(value for value, _ in self.terms)

    def after(self, move: Move) -> "Position":
        """The position that a legal move leads to."""
        terms = list(self.terms)
        left = terms.pop(next(i for i, term in enumerate(terms) if term[0] == move.left))
        right = terms.pop(next(i for i, term in enumerate(terms) if term[0] == move.right))
        made = f"{_operand(left[1])} {move.operator} {_operand(right[1])}"
        return Position(tuple(sorted([*terms, (move.result, made)])))


def _operand(expression: str) -> str:
    return f"( {expression} )" if " " in expression else expression


def start(instance: Instance) -> Position:
    """The position before any move."""
    return Position(tuple((number, str(number)) for number in instance.numbers))


def complete(position: Position, target: int) -> str | None:
    """An expression for the target that builds on a position, or None if there is none."""
    if not can_reach(position.state, target):
        return None
    while len(position.terms) > 1:
        position = position.after(next(m for m in moves(position.state) if can_reach(m.state, target)))
    return position.terms[0][1]


def solve(instance: Instance) -> str | None:
    """A right answer, for example ``( ( 25 - 10 ) * 3 ) + 1``, or None if the problem has none."""
    return complete(start(instance), instance.target)


def prompt_text(instance: Instance) -> str:
    """The question as the teacher reads it."""
    return f"make {instance.target} from {' '.join(map(str, instance.numbers))}"


def draw(
    rng: random.Random,
    numbers: int = 4,
    low: int = 1,
    high: int = 30,
    target_low: int = 10,
    target_high: int = 100,
) -> Instance:
    """One solvable instance: draw the numbers, then a target among those that they reach."""
    if not (numbers >= 2 and 1 <= low <= high <= LIMIT and 1 <= target_low <= target_high <= LIMIT):
        raise ValueError(f"no such Countdown shape: {numbers=} {low=} {high=} {target_low=} {target_high=}")
    for _ in range(REPEATS_ALLOWED):
        given = tuple(sorted(rng.randint(low, high) for _ in range(numbers)))
        targets = [value for value in range(target_low, target_high + 1) if can_reach(given, value)]
        if targets:
            return Instance(given, rng.choice(targets))
    raise ValueError(f"no solvable instance found: {numbers=} {low=} {high=} {target_low=} {target_high=}")


@lru_cache(maxsize=1)
def _all_frozen() -> dict[str, tuple[Instance, ...]]:
    """Every frozen split. They are drawn together, because each skips what the ones before it took."""
    taken: set[str] = set()
    splits: dict[str, tuple[Instance, ...]] = {}
    for name, seed in FROZEN_SEEDS.items():
        rng = random.Random(seed)
        chosen: list[Instance] = []
        while len(chosen) < FROZEN_SIZE:
            instance = draw(rng)
            if instance.key not in taken:
                taken.add(instance.key)
                chosen.append(instance)
        splits[name] = tuple(chosen)
    return splits


def frozen(split: Split) -> tuple[Instance, ...]:
    """The instances of a frozen split, always the same and in the same order."""
    if split is Split.TRAIN:
        raise ValueError("the train split is drawn from a seed, not frozen")
    return _all_frozen()[split.value]


@lru_cache(maxsize=1)
def frozen_keys() -> frozenset[str]:
    """Keys that no training instance may have."""
    return frozenset(instance.key for split in _all_frozen().values() for instance in split)


def instances(
    split: Split,
    count: int,
    seed: int | None = None,
    numbers: int = 4,
    low: int = 1,
    high: int = 30,
    target_low: int = 10,
    target_high: int = 100,
) -> Iterator[Instance]:
    """The first `count` instances of a split, distinct; train needs a seed, a frozen split takes none."""
    shape = (numbers, low, high, target_low, target_high)
    if split is Split.TRAIN:
        if seed is None:
            raise ValueError("the train split needs a seed")
        return _drawn(count, random.Random(seed), shape)
    if seed is not None or shape != (4, 1, 30, 10, 100):
        raise ValueError(f"the {split.value} split is frozen: it takes no seed and no other shape")
    if not 0 <= count <= FROZEN_SIZE:
        raise ValueError(f"the {split.value} split holds {FROZEN_SIZE} instances, not {count}")
    return iter(frozen(split)[:count])


def _drawn(count: int, rng: random.Random, shape: tuple[int, int, int, int, int]) -> Iterator[Instance]:
    """Distinct instances of a shape, none of them frozen."""
    seen = set(frozen_keys())
    for _ in range(count):
        for _ in range(REPEATS_ALLOWED):
            instance = draw(rng, *shape)
            if instance.key not in seen:
                break
        else:
            raise ValueError(f"no new instance in {REPEATS_ALLOWED} draws: this shape is exhausted")
        seen.add(instance.key)
        yield instance
