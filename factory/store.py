"""All input and output of a run folder: whole files, written atomically, read by name.

A `Store` is one folder, local or in an object store that fsspec speaks (`s3://`, `gs://`); every path given to it is
relative to that folder. It promises:

- `put` and `create` show a reader the whole content or nothing, and what they wrote survives a crash of the machine
  once they return;
- `create` succeeds for exactly one of several who try (hard links locally, conditional writes on object stores; a
  store that has neither cannot hold a run that two drivers may reach);
- trouble is a `StorageError` of one line; only a file that is not there is a FileNotFoundError.

It knows nothing of shards, leases or Parquet, caches no listing, and pickles as its URL. Credentials and endpoints
come from the environment variables that fsspec reads, never from here.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol, cast

import fsspec

from factory.errors import StorageError, classify

BATCH = 256
"""How many small files are asked of an object store at once."""
WHOLE = 8 * 1024 * 1024
"""Files up to this many bytes are fetched from an object store in one request, larger ones by range."""

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the disk is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a folder that this user may use",
    errno.EPERM: "not permitted; choose a folder that this user may use",
    errno.EEXIST: "a file stands where a folder must be; choose another folder",
    errno.ENOTDIR: "a file stands where a folder must be; choose another folder",
    errno.ENOTSUP: "this disk has no hard links, which owning a run needs; choose another folder",
}


class Store:
    """One run folder."""

    def __init__(self, url: str) -> None:
        """Any path or fsspec URL. Nothing is touched; raises StorageError for a protocol that is not installed."""
        try:
            files, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StorageError(f"cannot use {url}: {classify(error)}") from error
        local = "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)
        self._backend: _Backend = _Local(Path(base).absolute()) if local else _Remote(files, base)
        self.url = self._backend.uri("")
        """Absolute path of a local folder, URL of any other; the same on every machine that sees the folder."""

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.url,)

    def put(self, path: str, data: bytes) -> None:
        """Write `path`, replacing what is there."""
        with self._trouble("write", path):
            self._backend.put(path, data)

    def create(self, path: str, data: bytes) -> bool:
        """Write `path` unless it exists; False if it does. Of several at once exactly one gets True."""
        with self._trouble("create", path):
            return self._backend.create(path, data)

    def read(self, path: str) -> bytes:
        """Content of `path`; FileNotFoundError if there is none."""
        with self._trouble("read", path, missing=True):
            return self._backend.read(path)

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """Contents of many small files in the order given; None for one that is not there."""
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            with self._trouble("read", batch[0]):
                contents = self._backend.read_batch(batch)
            yield from contents

    def open(self, path: str) -> IO[bytes]:
        """`path` as a file to read from, with seeking; FileNotFoundError if there is none."""
        with self._trouble("read", path, missing=True):
            return self._backend.open(path)

    def size(self, path: str) -> int:
        """Bytes of `path`; FileNotFoundError if there is none."""
        with self._trouble("read", path, missing=True):
            return self._backend.size(path)

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder at `path`."""
        with self._trouble("read", path):
            return self._backend.exists(path)

    def names(self, folder: str) -> list[str]:
        """Names of the files in `folder`, sorted; empty if there is no such folder. Temporary files are left out."""
        return sorted(name for name in self._list(folder, folders=False) if not name.startswith("."))

    def temporaries(self, folder: str) -> list[str]:
        """Names of the unfinished files in `folder` that writers have there now, or left when they were killed."""
        return sorted(name for name in self._list(folder, folders=False) if name.startswith("."))

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in `folder`, sorted; empty if there is no such folder."""
        return sorted(name for name in self._list(folder, folders=True) if not name.startswith("."))

    def delete(self, path: str) -> None:
        """Delete the file `path`; nothing happens if there is none."""
        with self._trouble("delete", path):
            self._backend.delete(path)

    def local(self, path: str) -> Path | None:
        """`path` on this machine's disks; None where the store is elsewhere."""
        return self._backend.local(path)

    def uri(self, path: str) -> str:
        """`path` as other tools take it: an absolute path or a URL."""
        return self._backend.uri(path)

    def probe(self) -> None:
        """Prove that files can be made here, made exclusively, read back and deleted; leaves nothing behind.

        Raises StorageError, one line that says what to do.
        """
        folder = f"probe-{secrets.token_hex(8)}"
        with self._trouble("use", ""):
            undo = self._backend.make(folder)
        try:
            self._exercise(f"{folder}/probe")
        finally:
            undo()

    def _exercise(self, path: str) -> None:
        nonce = secrets.token_bytes(16)
        try:
            first, second = self.create(path, nonce), self.create(path, b"second")
            self.put(f"{path}-put", nonce)
            if not first or second or self.read(path) != nonce or self.read(f"{path}-put") != nonce:
                raise StorageError(f"cannot use {self.url}: it does not keep what is written; choose another folder")
        finally:
            self.delete(path)
            self.delete(f"{path}-put")

    def _list(self, folder: str, *, folders: bool) -> list[str]:
        with self._trouble("list", folder):
            return self._backend.entries(folder, folders=folders)

    @contextmanager
    def _trouble(self, verb: str, path: str, *, missing: bool = False) -> Iterator[None]:
        """Turn what a disk or an object store raises into a StorageError of one line.

        `missing`: let FileNotFoundError through.
        """
        try:
            yield
        except Exception as error:  # every object store's client has error classes of its own
            if isinstance(error, StorageError) or (missing and isinstance(error, FileNotFoundError)):
                raise
            if not isinstance(error, OSError) and self.local("") is not None:
                raise  # a bug, not trouble: a local disk raises nothing but OSError
            raise StorageError(f"cannot {verb} {self.uri(path)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    advice = _ADVICE.get(error.errno or 0) if isinstance(error, OSError) else None
    return advice or classify(error)


class _Backend(Protocol):
    """What differs between a disk and an object store. Errors are raised as they come."""

    def put(self, path: str, data: bytes) -> None: ...
    def create(self, path: str, data: bytes) -> bool: ...
    def read(self, path: str) -> bytes: ...
    def read_batch(self, paths: Sequence[str]) -> list[bytes | None]: ...
    def open(self, path: str) -> IO[bytes]: ...
    def size(self, path: str) -> int: ...
    def exists(self, path: str) -> bool: ...
    def entries(self, folder: str, *, folders: bool) -> list[str]: ...
    def delete(self, path: str) -> None: ...
    def local(self, path: str) -> Path | None: ...
    def uri(self, path: str) -> str: ...
    def make(self, folder: str) -> Callable[[], None]:
        """Make a folder; what is returned removes again whatever was made for it."""
        ...


class _Local:
    """A folder on a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, path: str, data: bytes) -> None:
        with self._temporary(path, data) as temporary:
            temporary.replace(self.root / path)
        _sync(temporary.parent)

    def create(self, path: str, data: bytes) -> bool:
        final = self.root / path
        if final.exists():
            return False
        with self._temporary(path, data) as temporary:
            created = _link(temporary, final)
        _sync(final.parent)
        return created

    @contextmanager
    def _temporary(self, path: str, data: bytes) -> Iterator[Path]:
        """A file beside `path` that holds `data`, flushed to the disk; gone afterwards, unless it was renamed."""
        final = self.root / path
        _make(final.parent)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def read_batch(self, paths: Sequence[str]) -> list[bytes | None]:
        return [self._read_or_none(path) for path in paths]

    def _read_or_none(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def open(self, path: str) -> IO[bytes]:
        return (self.root / path).open("rb")

    def size(self, path: str) -> int:
        return (self.root / path).stat().st_size

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def entries(self, folder: str, *, folders: bool) -> list[str]:
        try:
            with os.scandir(self.root / folder) as found:
                return [entry.name for entry in found if entry.is_dir() == folders]
        except FileNotFoundError:
            return []

    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def local(self, path: str) -> Path | None:
        return self.root / path

    def uri(self, path: str) -> str:
        return str(self.root / path)

    def make(self, folder: str) -> Callable[[], None]:
        made = _make(self.root / folder)

        def undo() -> None:
            for path in reversed(made):
                try:
                    path.rmdir()
                except OSError:
                    return  # another process has put something there since: it stays

        return undo


def _make(folder: Path) -> list[Path]:
    """Make a folder and its parents; returns those that were made, outermost first."""
    if folder.is_dir():
        return []
    made = _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)
    return [*made, folder]


def _link(temporary: Path, final: Path) -> bool:
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except PermissionError as error:
        raise OSError(errno.ENOTSUP, "no hard links") from error  # what such file systems answer
    return True


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a crash of the machine, as fsync of a file does for its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Remote:
    """A prefix of an object store, through fsspec. Writes are atomic because the stores themselves are."""

    def __init__(self, files: fsspec.AbstractFileSystem, base: str) -> None:
        self.files = files
        self.base = base.rstrip("/")

    def put(self, path: str, data: bytes) -> None:
        self.files.pipe_file(self._full(path), data)

    def create(self, path: str, data: bytes) -> bool:
        try:
            self.files.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, path: str) -> bytes:
        return cast(bytes, self.files.cat_file(self._full(path)))

    def read_batch(self, paths: Sequence[str]) -> list[bytes | None]:
        full = [self._full(path) for path in paths]
        found: dict[str, bytes | Exception] = self.files.cat(full, on_error="return")
        return [_content(found[path]) for path in full]

    def open(self, path: str) -> IO[bytes]:
        if self.size(path) <= WHOLE:
            return io.BytesIO(self.read(path))
        return cast(IO[bytes], self.files.open(self._full(path), "rb"))

    def size(self, path: str) -> int:
        return int(self.files.info(self._full(path))["size"])

    def exists(self, path: str) -> bool:
        return bool(self.files.exists(self._full(path)))

    def entries(self, folder: str, *, folders: bool) -> list[str]:
        wanted = "directory" if folders else "file"
        try:
            found = self.files.ls(self._full(folder), detail=True)
        except FileNotFoundError:
            return []
        names = (entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in found if entry["type"] == wanted)
        return [name for name in names if name]

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.files.rm_file(self._full(path))

    def local(self, path: str) -> Path | None:  # noqa: ARG002  # no path of an object store is local
        return None

    def uri(self, path: str) -> str:
        return cast(str, self.files.unstrip_protocol(self._full(path)))

    def make(self, folder: str) -> Callable[[], None]:  # noqa: ARG002  # object stores have no folders
        return lambda: None

    def _full(self, path: str) -> str:
        return f"{self.base}/{path}" if path else self.base


def _content(found: bytes | Exception) -> bytes | None:
    if isinstance(found, FileNotFoundError):
        return None
    if isinstance(found, Exception):
        raise found
    return found
