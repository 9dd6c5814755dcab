"""How the sandbox's own processes speak to each other: a JSON header and blobs of bytes, with their lengths before
them.

Only trusted code writes headers; what a program wrote travels in blobs, which nobody here looks into.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

Frame = tuple[dict[str, Any], list[bytes]]

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # see `plain`
LENGTHS = struct.Struct("<II")


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    text = json.dumps(header | {"blobs": [len(blob) for blob in blobs]}).encode()
    return b"".join([LENGTHS.pack(len(text), sum(map(len, blobs))), text, *blobs])


def unpack(data: bytes) -> Frame:
    """Of one whole frame."""
    length, _ = LENGTHS.unpack_from(data)
    start = LENGTHS.size + length
    return split(data[LENGTHS.size : start], data[start:])


def split(text: bytes, data: bytes) -> Frame:
    """A header's text, and the blobs one after the other."""
    header: dict[str, Any] = _scan(text.decode("ascii"), 0)[0]
    blobs, start = [], 0
    for length in header.pop("blobs"):
        blobs.append(data[start : start + length])
        start += length
    return header, blobs
