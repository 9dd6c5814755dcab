"""The controller that keeps an engine full: what goes in, in which order, and when another problem is wanted."""

from collections.abc import Iterable

from factory.admission import MAX_OPEN, Admission, Ticket, enough


def filled(tickets: Iterable[Ticket], places: int = 8) -> Admission:
    admission = Admission()
    for ticket in tickets:
        admission.ask(ticket)
    admission.admit(places)
    return admission


def of_tree(tree: int, count: int, priority: int = 0) -> list[Ticket]:
    return [Ticket(priority, tree, id) for id in range(1, count + 1)]


def test_the_engine_has_an_eighth_more_than_it_runs() -> None:
    assert filled(of_tree(1, 100), places=64).inside == 72
    assert filled(of_tree(1, 100), places=1).inside == 1


def test_who_leaves_makes_room_for_the_oldest_tree() -> None:
    admission = filled([*of_tree(1, 9), *of_tree(3, 4), *of_tree(2, 4)])
    for ticket in of_tree(1, 5):
        admission.leave(ticket)
    assert admission.admit(8) == [*of_tree(2, 4), Ticket(0, 3, 1)]


def test_what_can_wait_goes_in_last_however_old_its_tree() -> None:
    admission = Admission()
    late, soon = Ticket(1, 1, 1), Ticket(0, 9, 1)
    admission.ask(late)
    admission.ask(soon)
    assert admission.admit(8) == [soon, late]


def test_who_gives_up_while_it_waits_is_never_admitted() -> None:
    admission = filled(of_tree(1, 12))
    for ticket in of_tree(1, 11):
        admission.leave(ticket)
        admission.leave(ticket)
    assert admission.admit(8) == [Ticket(0, 1, 12)]
    assert (admission.inside, admission.outside) == (1, 0)


def test_a_problem_is_wanted_while_urgent_requests_do_not_fill_the_engine() -> None:
    assert filled(of_tree(1, 8)).wants_problem(8, trees=1)
    assert not filled(of_tree(1, 9)).wants_problem(8, trees=1)
    assert not filled(of_tree(1, 50)).wants_problem(8, trees=1)
    patient = filled(of_tree(1, 8))
    for ticket in of_tree(2, 99, priority=1):
        patient.ask(ticket)
    assert patient.wants_problem(8, trees=2), "they wait until no problem is left to begin"
    assert not patient.wants_problem(8, trees=MAX_OPEN * 8)


def test_requests_on_their_way_leave_their_places_to_others() -> None:
    admission = filled(of_tree(1, 100), places=64)
    assert len(admission.admit(64, away=10)) == 10
    assert admission.inside == 82
    assert admission.wants_problem(64, trees=1, away=40)
    assert not admission.wants_problem(64, trees=1, away=28)


def test_enough() -> None:
    assert [enough(places) for places in (1, 7, 8, 256)] == [1, 7, 9, 288]
