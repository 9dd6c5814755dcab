"""Parameters of a check as a pydantic model: closed and strict, refused in one line that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from factory.errors import ConfigError

P = TypeVar("P")


class Params(BaseModel):
    """A closed, immutable table."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def read(verifier: str, model: TypeAdapter[P], params: Mapping[str, Any], known: list[str]) -> P:
    """Raises ConfigError. `known`: keys that there are, for whoever mistyped one."""
    try:
        return model.validate_python(dict(params))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{verifier}: unknown parameter {place!r}; did you mean {near!r}?")
    raise ConfigError(f"{verifier}: {place or 'parameters'}: {first['msg']}")
