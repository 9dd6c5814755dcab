"""The Countdown problems: solvable, distinct, frozen, and the splits disjoint."""

import itertools
import random

import pytest

from factory.sources.countdown import (
    FROZEN_SEEDS,
    FROZEN_SIZE,
    LIMIT,
    Instance,
    Move,
    Position,
    Split,
    apply,
    can_reach,
    complete,
    draw,
    frozen,
    frozen_keys,
    instances,
    moves,
    prompt_text,
    reachable,
    solve,
    start,
)

FROZEN = (Split.TUNE, Split.GATE, Split.REPORT)
FIRST_KEYS = ["2 25 26 30 -> 31", "14 17 20 29 -> 40", "8 12 16 18 -> 88"]
LAST_KEYS = ["8 13 16 30 -> 73", "3 5 7 21 -> 64", "1 15 16 23 -> 53"]


def brute_force(numbers: tuple[int, ...]) -> set[int]:
    """Reachable values without memory or ordering, as a second opinion."""
    if len(numbers) == 1:
        return {numbers[0]}
    found: set[int] = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        rest = tuple(n for k, n in enumerate(numbers) if k not in (i, j))
        results = (apply(numbers[i], operator, numbers[j]) for operator in "+-*/")
        for result in {r for r in results if r is not None}:
            found |= brute_force((*rest, result))
    return found


def evaluated(expression: str) -> float:
    """Value of an expression of this module."""
    result: float = eval(expression, {"__builtins__": {}})  # noqa: S307 - digits, operators and parentheses
    return result


def test_the_solver_agrees_with_brute_force() -> None:
    rng = random.Random(0)
    for count in (1, 2, 3, 3, 4):
        numbers = tuple(rng.randint(1, 30) for _ in range(count))
        assert reachable(numbers) == brute_force(numbers)


@pytest.mark.parametrize(
    ("left", "operator", "right", "result"),
    [
        (3, "+", 4, 7),
        (4, "-", 4, None),
        (3, "-", 4, None),
        (8, "/", 4, 2),
        (8, "/", 3, None),
        (8, "/", 0, None),
        (20, "*", 10, LIMIT),
        (67, "*", 3, None),
        (2, "^", 3, None),
    ],
)
def test_operations_stay_within_the_rules(left: int, operator: str, right: int, result: int | None) -> None:
    assert apply(left, operator, right) == result


def test_moves_are_distinct_and_keep_the_multiset() -> None:
    found = moves((3, 3, 6))
    assert len({(m.left, m.operator, m.right) for m in found}) == len(found)
    assert Move(3, "*", 6, 18, (3, 18)) in found
    assert Move(3, "/", 3, 1, (1, 6)) in found
    assert all(m.state == tuple(sorted(m.state)) for m in found)


def test_every_frozen_instance_is_solved_by_its_reference() -> None:
    for split in FROZEN:
        for instance in frozen(split)[:100]:
            answer = solve(instance)
            assert answer is not None
            assert evaluated(answer) == instance.target
            assert tuple(sorted(int(w) for w in answer.split() if w.isdecimal())) == instance.numbers
            assert not (answer.startswith("( ") and answer.endswith(" )") and answer.count("(") == 1)


def test_an_unsolvable_problem_has_no_solution() -> None:
    assert solve(Instance((1, 1), 50)) is None
    assert not can_reach((1, 1), 50)


def test_completing_a_position_builds_on_its_path() -> None:
    here = start(Instance((3, 7, 12, 25), 46)).after(Move(12, "+", 25, 37, (3, 7, 37)))
    answer = complete(here, 33)
    assert answer is not None
    assert "12 + 25" in answer
    assert evaluated(answer) == 33
    assert complete(Position(((5, "5"),)), 6) is None


def test_frozen_splits_are_disjoint_and_full() -> None:
    assert [split.value for split in FROZEN] == list(FROZEN_SEEDS)
    assert all(len(frozen(split)) == FROZEN_SIZE for split in FROZEN)
    assert len(frozen_keys()) == FROZEN_SIZE * len(FROZEN)


def test_frozen_splits_do_not_change() -> None:
    """The published figures are about exactly these problems."""
    first = [frozen(split)[0].key for split in FROZEN]
    last = [frozen(split)[-1].key for split in FROZEN]
    assert first == FIRST_KEYS
    assert last == LAST_KEYS


def test_frozen_instances_have_the_shape() -> None:
    for split in FROZEN:
        for instance in frozen(split):
            assert len(instance.numbers) == 4
            assert instance.numbers == tuple(sorted(instance.numbers))
            assert all(1 <= number <= 30 for number in instance.numbers)
            assert 10 <= instance.target <= 100


def test_training_instances_are_distinct_repeatable_and_never_frozen() -> None:
    drawn = list(instances(Split.TRAIN, 3000, seed=7))
    assert drawn[:50] == list(instances(Split.TRAIN, 50, seed=7))
    assert len({instance.key for instance in drawn}) == 3000
    assert not frozen_keys() & {instance.key for instance in drawn}


def test_training_from_a_frozen_seed_skips_the_frozen_instances() -> None:
    drawn = {i.key for i in instances(Split.TRAIN, 600, seed=FROZEN_SEEDS["tune"])}
    assert not drawn & frozen_keys()


def test_other_shapes_can_be_drawn() -> None:
    for instance in instances(Split.TRAIN, 20, 3, numbers=3, low=1, high=10, target_low=10, target_high=50):
        assert len(instance.numbers) == 3
        assert max(instance.numbers) <= 10
        assert 10 <= instance.target <= 50


def test_an_exhausted_shape_says_so() -> None:
    with pytest.raises(ValueError, match="exhausted"):
        list(instances(Split.TRAIN, 10_000, 3, numbers=2, low=1, high=3, target_low=1, target_high=9))


def test_a_shape_without_solutions_says_so() -> None:
    with pytest.raises(ValueError, match="no solvable instance"):
        draw(random.Random(0), numbers=2, low=1, high=2, target_low=100, target_high=100)
    with pytest.raises(ValueError, match="no such Countdown shape"):
        draw(random.Random(0), low=5, high=4)


def test_a_frozen_split_refuses_what_it_cannot_give() -> None:
    assert list(instances(Split.TUNE, 3)) == list(frozen(Split.TUNE)[:3])
    with pytest.raises(ValueError, match="holds 500"):
        instances(Split.TUNE, FROZEN_SIZE + 1)
    with pytest.raises(ValueError, match="no seed"):
        instances(Split.GATE, 3, seed=1)
    with pytest.raises(ValueError, match="no other shape"):
        instances(Split.GATE, 3, numbers=5)
    with pytest.raises(ValueError, match="needs a seed"):
        instances(Split.TRAIN, 3)
    with pytest.raises(ValueError, match="not frozen"):
        frozen(Split.TRAIN)


def test_the_prompt() -> None:
    assert prompt_text(Instance((3, 7, 12, 25), 46)) == "make 46 from 3 7 12 25"
    assert Instance((3, 7, 12, 25), 46).key == "3 7 12 25 -> 46"
