"""Whatever happens to workers, in any order, every problem is closed once or given up once, and nobody else is."""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from factory.dispatch import BadItem, Dispatch
from factory.types import Problem
from tests.rig import problem

WORKERS = st.sampled_from(["a", "b", "c"])


class Run(RuleBasedStateMachine):
    """A run as dispatch sees it, with a plain model beside it."""

    @initialize(
        kinds=st.lists(st.sampled_from(["owed", "owed", "owed", "closed", "bad"]), max_size=8), n=st.integers(1, 3)
    )
    def start(self, kinds: list[str], n: int) -> None:
        every = [problem(number) for number in range(len(kinds))]
        items: list[Problem | BadItem] = [
            BadItem(one.id, "bad") if kind == "bad" else one for one, kind in zip(every, kinds, strict=True)
        ]
        before = [one.id for one, kind in zip(every, kinds, strict=True) if kind == "closed"]
        self.owed = {one.id for one, kind in zip(every, kinds, strict=True) if kind == "owed"}
        self.bad = {one.id for one, kind in zip(every, kinds, strict=True) if kind == "bad"}
        self.before = len(before)
        self.suspicion = n
        self.dispatch = Dispatch(items, before, n)
        self.held: dict[str, list[str]] = {}
        self.present: Counter[str] = Counter()
        self.reported: Counter[str] = Counter()

    @rule(worker=WORKERS, room=st.integers(0, 4))
    def take(self, worker: str, room: int) -> None:
        offered = self.dispatch.offers(worker)
        held = self.held.setdefault(worker, [])
        taken = [one.id for one in self.dispatch.take(worker, room)]
        assert offered or not taken
        assert len(taken) <= max(room, 1)
        suspects = [id for id in taken if self.present[id] >= self.suspicion]
        assert not suspects or (len(taken) == 1 and not held), "a suspect runs alone"
        held += taken

    @rule(worker=WORKERS, data=st.data())
    def close(self, worker: str, data: Any) -> None:
        held = self.held.get(worker, [])
        closed = data.draw(st.lists(st.sampled_from(held), unique=True) if held else st.just([]))
        self.dispatch.close(worker, closed)
        self.reported.update(closed)
        self.held[worker] = [id for id in held if id not in closed]

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        self.dispatch.release(worker)
        self.held.pop(worker, None)

    @rule(worker=WORKERS)
    def lose(self, worker: str) -> None:
        held = self.held.pop(worker, [])
        given_up = [one.id for one in self.dispatch.lost(worker)]
        if given_up:
            assert given_up == held, "only one that was alone can be to blame"
            assert len(held) == 1
            assert self.present[held[0]] >= self.suspicion
        self.present.update(held)
        self.reported.update(given_up)

    @rule()
    def tell_bad(self) -> None:
        self.reported.update(item.id for item in self.dispatch.bad_items())

    @rule()
    def prime(self) -> None:
        self.dispatch.prime()

    @invariant()
    def nothing_is_in_two_hands(self) -> None:
        in_hand = [id for held in self.held.values() for id in held]
        assert len(in_hand) == len(set(in_hand)) == self.dispatch.in_hand
        assert {worker: len(held) for worker, held in self.held.items()} == {
            worker: self.dispatch.holds(worker) for worker in self.held
        }
        assert not set(in_hand) & self.reported.keys()

    @invariant()
    def nothing_is_reported_twice(self) -> None:
        assert all(count == 1 for count in self.reported.values())
        assert self.reported.keys() <= self.owed | self.bad
        if self.dispatch.drained:
            assert self.reported.keys() == self.owed | self.bad

    def teardown(self) -> None:
        """From wherever it stands, healthy workers bring it to its end."""
        if not hasattr(self, "dispatch"):
            return
        for worker in list(self.held):
            self.close_all(worker)
        for _ in range(3 * len(self.owed | self.bad) + 3):
            self.take("z", 2)
            self.close_all("z")
            self.tell_bad()
        assert self.dispatch.drained
        assert not self.dispatch.prime()
        self.nothing_is_in_two_hands()
        self.nothing_is_reported_twice()
        assert self.dispatch.skipped == self.before

    def close_all(self, worker: str) -> None:
        closed = self.held.pop(worker, [])
        self.dispatch.close(worker, closed)
        self.reported.update(closed)


TestRun = Run.TestCase
TestRun.settings = settings(max_examples=100, stateful_step_count=30)
