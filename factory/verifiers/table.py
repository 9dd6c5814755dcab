"""The verifiers that come with the factory, by the name that a check gives."""

from __future__ import annotations

from collections.abc import Mapping

from factory.verifiers.base import Verifier
from factory.verifiers.choice import ChoiceVerifier
from factory.verifiers.code.verifier import CodeVerifier, Jails
from factory.verifiers.combined import combinations
from factory.verifiers.countdown import CountdownVerifier
from factory.verifiers.exact import ExactVerifier
from factory.verifiers.format import FormatVerifier
from factory.verifiers.game24 import Game24Verifier
from factory.verifiers.grid import GridVerifier
from factory.verifiers.human import HumanVerifier, Reviews
from factory.verifiers.judge import JudgeVerifier, Model
from factory.verifiers.math.jailed import Algebra
from factory.verifiers.math.verifier import MathVerifier
from factory.verifiers.program import ProgramVerifier


def builtin(
    jails: Jails,
    algebra: Algebra | None = None,
    models: Mapping[str, Model] | None = None,
    reviews: Reviews | None = None,
) -> dict[str, Verifier]:
    """A fresh table; a pipeline may add its own. `jails`: where programs of a language are run; `algebra`: who is asked
    what exact rules leave open, by default sympy in a sandbox of its own; `models`: who may judge, by the names of
    their engines; `reviews`: what people said."""
    verifiers: tuple[Verifier, ...] = (
        ChoiceVerifier(),
        CodeVerifier(jails),
        CountdownVerifier(),
        ExactVerifier(),
        FormatVerifier(),
        Game24Verifier(),
        GridVerifier(),
        HumanVerifier(reviews or Reviews()),
        JudgeVerifier(models or {}),
        MathVerifier(algebra),
        ProgramVerifier(jails),
    )
    table = {verifier.name: verifier for verifier in verifiers}
    table |= {verifier.name: verifier for verifier in combinations(lambda: table)}
    return table
