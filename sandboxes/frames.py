"""How the sandbox's own processes speak to each other: a JSON header and blobs of bytes, with their lengths before
them.

Only trusted code writes headers; what a program wrote travels in blobs, which nobody here looks into.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Sequence
from typing import Any

Frame = tuple[dict[str, Any], list[bytes]]

_LENGTHS = struct.Struct("<II")


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    text = json.dumps(header | {"blobs": [len(blob) for blob in blobs]}).encode()
    return b"".join([_LENGTHS.pack(len(text), sum(map(len, blobs))), text, *blobs])


def unpack(data: bytes) -> Frame:
    """Of one whole frame."""
    length, _ = _LENGTHS.unpack_from(data)
    start = _LENGTHS.size + length
    return _split(data[_LENGTHS.size : start], data[start:])


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None where the other side has gone."""
    try:
        length, rest = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
        return _split(await reader.readexactly(length), await reader.readexactly(rest))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _split(text: bytes, data: bytes) -> Frame:
    header: dict[str, Any] = json.loads(text)
    blobs, start = [], 0
    for length in header.pop("blobs"):
        blobs.append(data[start : start + length])
        start += length
    return header, blobs
