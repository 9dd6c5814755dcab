"""A distillation factory: search with a large model, keep what verifiers accept, fine-tune a smaller one on it.

`open_run` is the one name to start from in Python; everything else is imported from its own module. Importing this
package loads nothing but the standard library: what is heavy is loaded by what needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.runs import open_run

__all__ = ["__version__", "open_run"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "open_run":
        from factory.runs import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
