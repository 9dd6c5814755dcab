"""Frames from a stream. Apart from `frames`, so that fork servers, of which every child is a copy, stay without
asyncio."""

from __future__ import annotations

import asyncio

from sandboxes.frames import LENGTHS, Frame, split


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None where the other side has gone."""
    try:
        length, rest = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
        return split(await reader.readexactly(length), await reader.readexactly(rest))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
