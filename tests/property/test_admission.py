"""Whatever is asked, admitted and given up in whatever order, nothing is lost, doubled or kept waiting in vain."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from factory.admission import Admission, Ticket, enough

PLACES = 8


class Requests(RuleBasedStateMachine):
    """Trees that ask and leave, beside a plain model of who is where."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission()
        self.outside: set[Ticket] = set()
        self.inside: set[Ticket] = set()
        self.ids = 0

    @rule(tree=st.integers(1, 5), priority=st.integers(0, 2), count=st.integers(1, 12))
    def ask(self, tree: int, priority: int, count: int) -> None:
        for _ in range(count):
            self.ids += 1
            ticket = Ticket(priority, tree, self.ids)
            self.admission.ask(ticket)
            self.outside.add(ticket)

    @rule(away=st.integers(0, 3 * PLACES))
    def admit(self, away: int) -> None:
        waiting = sorted(self.outside)
        admitted = self.admission.admit(PLACES, away)
        assert admitted == waiting[: max(0, enough(PLACES, away) - len(self.inside))]
        assert len(self.inside) + len(admitted) <= 2 * PLACES + PLACES // 8
        self.outside -= set(admitted)
        self.inside |= set(admitted)

    @precondition(lambda self: self.inside | self.outside)
    @rule(data=st.data(), times=st.integers(1, 2))
    def leave(self, data: st.DataObject, times: int) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.inside | self.outside)))
        for _ in range(times):
            self.admission.leave(ticket)
        self.inside.discard(ticket)
        self.outside.discard(ticket)

    @invariant()
    def it_knows_who_is_where(self) -> None:
        assert (self.admission.inside, self.admission.outside) == (len(self.inside), len(self.outside))
        urgent = sum(ticket.priority == 0 for ticket in (*self.inside, *self.outside))
        assert self.admission.wants_problem(PLACES, 0) == (urgent < enough(PLACES))


TestRequests = Requests.TestCase
