"""Plain data that may cross a wall: type-tagged, bounded in size and depth, compared by exact type and value.

Nothing here can run code of whoever wrote the bytes: they are JSON, read into lists and strings, and only those become
values. What is no plain data is refused by `encode`, subclasses included, but for those of the standard library's
`collections`: an object that equals everything stays where it was made.

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
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 64
"""Of containers in each other."""

_INT, _FLOAT, _COMPLEX, _BYTES, _LIST, _TUPLE, _SET, _FROZENSET, _DICT = range(9)
_CONTAINERS: dict[type, int] = {
    list: _LIST,
    deque: _LIST,
    tuple: _TUPLE,
    set: _SET,
    frozenset: _FROZENSET,
    dict: _DICT,
    OrderedDict: _DICT,
    defaultdict: _DICT,
    Counter: _DICT,
}
"""The library's own kinds of dicts and lists cross as what they are kinds of."""
_UNORDERED = {_SET, _FROZENSET, _DICT}
_CONSTANTS = {None: "null", True: "true", False: "false"}
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
"""`json.loads` without what it does about encodings and white space: it runs in each child, where memory that is
touched for the first time is what takes the time."""
_quote = json.encoder.encode_basestring_ascii
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
    return _text(value, MAX_DEPTH, in_order=False).encode("ascii")


def _text(value: Any, depth: int, *, in_order: bool) -> str:
    """A value's encoding; `in_order` makes it the same for values that are `same`."""
    kind = type(value)
    if kind is str:
        return _quote(value)
    if kind is int:
        return f'[{_INT},"{value:x}"]'
    if value is None or kind is bool:
        return _CONSTANTS[value]
    if kind is float:
        return f'[{_FLOAT},"{_hex(value, in_order)}"]'
    if kind is complex:
        return f'[{_COMPLEX},"{_hex(value.real, in_order)}","{_hex(value.imag, in_order)}"]'
    if kind is bytes:
        return f'[{_BYTES},"{value.hex()}"]'
    if depth == 0:
        raise NotPlain(f"nested more than {MAX_DEPTH} deep")
    tag = _CONTAINERS.get(kind)
    if tag is None:
        raise NotPlain(f"{kind.__name__[:100]} is no plain data")
    return f"[{','.join([str(tag), *_parts(value, kind, depth - 1, in_order)])}]"


def _parts(value: Any, kind: type, depth: int, in_order: bool) -> list[str]:
    if _CONTAINERS[kind] == _DICT:
        pairs = [[_text(one, depth, in_order=in_order) for one in pair] for pair in value.items()]
        parts = [f"{key},{item}" for key, item in pairs]
    else:
        parts = [_text(part, depth, in_order=in_order) for part in value]
    if in_order and _CONTAINERS[kind] in _UNORDERED:
        parts.sort()
    return parts


def _hex(value: float, in_order: bool) -> str:
    return (value + 0.0 if in_order else value).hex()  # adding zero takes the sign from -0.0


def decode(data: bytes) -> Any:
    """The value that was encoded. The caller bounds the size of `data`. Raises NotPlain for anything else."""
    try:
        text = data.decode("ascii")
        tagged, end = _scan(text, 0)
        if end != len(text):
            raise NotPlain("no plain data: more than a value")
        return _untagged(tagged, MAX_DEPTH)
    except (StopIteration, ValueError, TypeError, LookupError, RecursionError, OverflowError, MemoryError) as error:
        raise NotPlain(f"no plain data: {type(error).__name__}") from None


def _untagged(tagged: Any, depth: int) -> Any:
    if tagged is None or tagged is True or tagged is False or type(tagged) is str:
        return tagged
    if type(tagged) is not list or type(tagged[0]) is not int:
        raise NotPlain("a value without a tag")
    tag, rest = tagged[0], tagged[1:]
    if 0 <= tag <= _BYTES:
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
    return _text(left, MAX_DEPTH, in_order=True) == _text(right, MAX_DEPTH, in_order=True)
