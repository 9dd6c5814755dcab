"""Lines of files that are read twice: in order once, and then each by its place, in any order.

Compressed files are unpacked into temporary files for the second reading, so that no line is held in memory. Only a
line feed ends a line. A file that cannot be read to its end gives what stands before, and then the trouble.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, cast

from factory.errors import SourceError, classify
from factory.sources.files import expand


@dataclass(frozen=True, slots=True)
class Place:
    """Where a line stands."""

    file: int
    number: int
    """From 1."""
    offset: int
    """In bytes of the unpacked file."""
    length: int


class Lines:
    """The lines of some files. May be asked from several threads once `scan` has ended."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Raises SourceError for files that are not there."""
        self.paths = expand(paths)
        self.digests: list[str] = []
        """SHA-256 of each file's unpacked bytes, as far as it was read; complete once `scan` has ended."""
        self._open: dict[int, IO[bytes]] = {}
        self._lock = threading.Lock()

    def scan(self) -> Iterator[tuple[Place, bytes | str]]:
        """Every line that is not blank with its bytes, or what keeps a file from being read further."""
        self.digests = []
        for file, path in enumerate(self.paths):
            yield from self._scan(file, path)

    def read(self, place: Place) -> bytes:
        """The bytes of a line that `scan` found."""
        with self._lock:
            file = self._open[place.file]
            file.seek(place.offset)
            return file.read(place.length)

    def name(self, place: Place) -> str:
        """Of a line, for people."""
        return f"{self.paths[place.file]}: line {place.number}"

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _scan(self, file: int, path: str) -> Iterator[tuple[Place, bytes | str]]:
        total, offset, number = hashlib.sha256(), 0, 0
        try:
            spool = self._opened(file, path)
            for number, line in enumerate(self._raw(file, path), start=1):
                total.update(line)
                if spool is not None:
                    spool.write(line)
                bare = line.removesuffix(b"\n").removesuffix(b"\r")
                if bare.strip():
                    yield Place(file, number, offset, len(bare)), bare
                offset += len(line)
        except (OSError, EOFError, ValueError) as error:
            if not number:
                raise SourceError(f"{path}: cannot be read: {classify(error)}") from None
            yield Place(file, number + 1, offset, 0), f"cannot be read further: {classify(error)}"
        self.digests.append(total.hexdigest())

    def _opened(self, file: int, path: str) -> IO[bytes] | None:
        """Opens what the second reading reads; returns it where the first has to fill it."""
        import fsspec

        packed = fsspec.utils.infer_compression(path) is not None
        self._open[file] = cast(IO[bytes], TemporaryFile() if packed else fsspec.open(path, "rb").open())  # noqa: SIM115 - `close` closes it
        return self._open[file] if packed else None

    def _raw(self, file: int, path: str) -> Iterator[bytes]:
        import fsspec

        if fsspec.utils.infer_compression(path) is None:
            yield from self._open[file]
            return
        with fsspec.open(path, "rb", compression="infer") as packed:
            yield from packed
