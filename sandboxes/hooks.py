"""Functions that libraries want called when a process forks, held back from the fork server's own forks.

Running them costs a quarter of a fork, most of it in memory that would otherwise stay shared, and they mend nothing
there: the fork server has one thread, and a program gets fresh random numbers another way. A program's own forks run
them. Imported and told to `hold` before any module that registers some.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_register: Callable[..., None] = os.register_at_fork
_held: list[dict[str, Any]] = []


def hold() -> None:
    def keep(**functions: Any) -> None:
        _held.append(functions)

    os.register_at_fork = keep


def release() -> None:
    """In the child: register what was held back."""
    os.register_at_fork = _register
    for functions in _held:
        _register(**functions)
