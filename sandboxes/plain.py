"""Plain data that may cross a wall: type-tagged, bounded in size and depth, compared by exact type and value.

Nothing here can run code of whoever wrote the bytes: they are JSON, read into lists and strings, and only those become
values. What is no plain data is refused by `encode`, subclasses included: an object that equals everything stays where
it was made.

    None true false "text"     themselves
    [0, "-1f"]                 int, in hexadecimal: of any size, in linear time
    [1, "0x1.8p+1"]            float, exactly; also "nan", "inf", "-inf"
    [2, "..", ".."]            complex
    [3, "00ff"]                bytes
    [4, ...] [5, ...]          list, tuple
    [6, ...] [7, ...]          set, frozenset (in any order)
    [8, key, value, ...]       dict, in its order
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 64
"""Of containers in each other."""

_INT, _FLOAT, _COMPLEX, _BYTES, _LIST, _TUPLE, _SET, _FROZENSET, _DICT = range(9)
_CONTAINERS: dict[type, int] = {list: _LIST, tuple: _TUPLE, set: _SET, frozenset: _FROZENSET}
_BUILDERS: dict[int, Callable[[Iterator[Any]], Any]] = {
    _LIST: list,
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
}


class NotPlain(Exception):
    """A value that is no plain data, or bytes that are none."""


def encode(value: Any) -> bytes:
    """Raises NotPlain for what is no plain data, or is nested too deeply (which includes what contains itself)."""
    try:
        return json.dumps(_tagged(value, MAX_DEPTH), ensure_ascii=True, separators=(",", ":")).encode("ascii")
    except UnicodeEncodeError as error:
        raise NotPlain(f"text that cannot be written: {error.reason}") from None


def _tagged(value: Any, depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return [_INT, f"{value:x}"]
    if kind is float:
        return [_FLOAT, value.hex()]
    if kind is complex:
        return [_COMPLEX, value.real.hex(), value.imag.hex()]
    if kind is bytes:
        return [_BYTES, value.hex()]
    if depth == 0:
        raise NotPlain(f"nested more than {MAX_DEPTH} deep")
    if kind is dict:
        items = [_tagged(part, depth - 1) for pair in value.items() for part in pair]
        return [_DICT, *items]
    tag = _CONTAINERS.get(kind)
    if tag is None:
        raise NotPlain(f"{kind.__name__[:100]} is no plain data")
    return [tag, *[_tagged(part, depth - 1) for part in value]]


def decode(data: bytes) -> Any:
    """The value that was encoded. The caller bounds the size of `data`. Raises NotPlain for anything else."""
    try:
        return _untagged(json.loads(data), MAX_DEPTH)
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError, MemoryError) as error:
        raise NotPlain(f"no plain data: {type(error).__name__}") from None


def _untagged(tagged: Any, depth: int) -> Any:
    if tagged is None or tagged is True or tagged is False or type(tagged) is str:
        return tagged
    if type(tagged) is not list or type(tagged[0]) is not int:
        raise NotPlain("a value without a tag")
    tag, rest = tagged[0], tagged[1:]
    if tag in {_INT, _FLOAT, _COMPLEX, _BYTES}:
        return _scalar(tag, rest)
    if depth == 0:
        raise NotPlain(f"nested more than {MAX_DEPTH} deep")
    parts = (_untagged(part, depth - 1) for part in rest)
    if tag == _DICT:
        if len(rest) % 2:
            raise NotPlain("a key without a value")
        return dict(zip(parts, parts, strict=True))
    build = _BUILDERS.get(tag)
    if build is None:
        raise NotPlain("an unknown tag")
    return build(parts)


def _scalar(tag: int, rest: list[Any]) -> Any:
    if len(rest) != (2 if tag == _COMPLEX else 1) or not all(type(part) is str for part in rest):
        raise NotPlain("a number or bytes written wrongly")
    if tag == _INT:
        return int(rest[0], 16)
    if tag == _FLOAT:
        return float.fromhex(rest[0])
    if tag == _COMPLEX:
        return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
    return bytes.fromhex(rest[0])


def same(left: Any, right: Any) -> bool:
    """Whether two decoded values are of the same types throughout and equal; nan is nan, -0.0 is 0.0, the order
    of a dict does not matter.

    Values are compared by their canonical encoding, so that no `==` of anybody's runs.
    """
    return _canonical(left) == _canonical(right)


def _canonical(value: Any) -> str:
    kind = type(value)
    if kind in {set, frozenset}:
        return f"[{_CONTAINERS[kind]},{','.join(sorted(map(_canonical, value)))}]"
    if kind is dict:
        pairs = sorted(f"{_canonical(key)}:{_canonical(item)}" for key, item in value.items())
        return f"{{{','.join(pairs)}}}"
    if kind in {list, tuple}:
        return f"[{_CONTAINERS[kind]},{','.join(map(_canonical, value))}]"
    if kind is float:
        return f"[{_FLOAT},{(value + 0.0).hex()}]"  # adding zero takes the sign from -0.0
    if kind is complex:
        return f"[{_COMPLEX},{_canonical(value.real)},{_canonical(value.imag)}]"
    return json.dumps(_tagged(value, 0))
