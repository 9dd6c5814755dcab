"""A store shows whole files or none, whoever dies, and says in one line what to do about trouble."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import fsspec
import pytest

from factory.errors import StorageError
from factory.store import BATCH, WHOLE, Store

ROOT = Path(__file__).parents[2]

# Writes a file and stops before the disk is told to keep it, for as long as nobody kills it.
HANGING_WRITER = """
import os, sys
from factory.store import Store
def hang(descriptor):
    print("writing", flush=True)
    sys.stdin.read()
os.fsync = hang
Store(sys.argv[1]).put("folder/file", b"half" * 1000)
"""


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield Store(str(tmp_path / "run"))
        return
    url = f"memory://{uuid4().hex}"
    yield Store(url)
    fsspec.filesystem("memory").store.clear()


def refuse_sync(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let every write end as one on a disk that is full, read-only and so on."""

    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)


def test_what_is_put_is_read(store: Store) -> None:
    store.put("a/b/file", b"one")
    store.put("a/b/file", b"two")
    assert store.read("a/b/file") == b"two"
    assert store.size("a/b/file") == 3
    assert store.exists("a/b/file")
    with store.open("a/b/file") as file:
        file.seek(1)
        assert file.read() == b"wo"


def test_create_never_replaces(store: Store) -> None:
    assert store.create("a/file", b"first") is True
    assert store.create("a/file", b"second") is False
    assert store.read("a/file") == b"first"


def test_one_of_many_creates(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    start = Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return store.create("file", str(number).encode() * 10_000)

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(create, range(8)))
    assert won.count(True) == 1
    assert store.read("file") == str(won.index(True)).encode() * 10_000
    assert store.temporaries("") == []


def test_what_is_missing(store: Store) -> None:
    store.put("a/file", b"")
    for act in (store.read, store.size, store.open):
        with pytest.raises(FileNotFoundError):
            act("a/other")
    assert not store.exists("a/other")
    assert store.names("b") == store.folders("b") == store.temporaries("b") == []


def test_deleting_twice_is_as_good_as_once(store: Store) -> None:
    store.put("a/file", b"x")
    store.delete("a/file")
    store.delete("a/file")
    assert not store.exists("a/file")


def test_names_are_sorted_files_of_this_folder(store: Store) -> None:
    for path in ("t/b", "t/a", "t/c/d", "t/.b.123.tmp", "e"):
        store.put(path, b"x")
    assert store.names("t") == ["a", "b"]
    assert store.folders("t") == ["c"]
    assert store.temporaries("t") == [".b.123.tmp"]
    assert store.names("") == ["e"]
    assert store.folders("") == ["t"]


def test_many_files_come_in_order_with_none_for_the_missing(store: Store) -> None:
    paths = [f"t/{number}" for number in range(BATCH + 3)]
    for path in paths:
        store.put(path, path.encode())
    store.delete(paths[1])
    contents = [None if path == paths[1] else path.encode() for path in paths]
    assert list(store.read_many(paths)) == contents
    assert list(store.read_many([])) == []


def test_it_pickles_as_its_url(store: Store) -> None:
    store.put("file", b"x")
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301  # our own
    assert copy.url == store.url
    assert copy.read("file") == b"x"
    assert len(pickle.dumps(store)) < 300


def test_a_relative_folder_is_the_same_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("run")
    store.put("file", b"x")
    pickled = pickle.dumps(store)
    monkeypatch.chdir("/")
    assert store.read("file") == pickle.loads(pickled).read("file") == b"x"  # noqa: S301  # our own
    assert store.url == str(tmp_path / "run")


def test_where_things_are(tmp_path: Path) -> None:
    local, memory = Store(f"{tmp_path}/run/"), Store("memory://bucket/run/")
    assert local.local("a/b") == tmp_path / "run/a/b"
    assert local.uri("a/b") == f"{tmp_path}/run/a/b"
    assert memory.local("a/b") is None
    assert memory.url == memory.uri("").rstrip("/") == "memory:///bucket/run"
    assert memory.uri("a/b") == "memory:///bucket/run/a/b"
    assert repr(local) == f"Store('{tmp_path}/run')"


def test_a_folder_may_have_an_odd_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a b#[c]?*é"))
    store.put("file", b"x")
    assert store.names("") == ["file"]
    assert list(store.read_many(["file"])) == [b"x"]


def test_large_files_of_an_object_store_are_read_by_range(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"memory://{uuid4().hex}")
    store.put("file", bytes(WHOLE) + b"end")
    monkeypatch.setattr(Store, "read", None)
    with store.open("file") as file:
        file.seek(WHOLE)
        assert file.read() == b"end"


def test_a_killed_writer_leaves_the_old_content_and_no_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("folder/file", b"old")
    with subprocess.Popen(
        [sys.executable, "-c", HANGING_WRITER, store.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"writing\n"
        child.send_signal(signal.SIGKILL)
    assert store.read("folder/file") == b"old"
    assert store.names("folder") == ["file"]
    [left] = store.temporaries("folder")
    assert left.startswith(".file.")


def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    store.put("file", b"old")
    refuse_sync(monkeypatch, errno.ENOSPC)
    for act in (store.put, store.create):
        with pytest.raises(StorageError, match="disk is full"):
            act("file2" if act == store.create else "file", b"new")
    monkeypatch.undo()
    assert store.read("file") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_probe_leaves_nothing_behind(store: Store) -> None:
    store.probe()
    assert store.names("") == store.folders("") == store.temporaries("") == []
    if (root := store.local("")) is not None:
        assert not root.exists(), "the folder was not there before"


def test_a_probe_leaves_what_was_there(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "run"))
    store.put("config.json", b"{}")
    store.probe()
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "config.json"]


def test_a_probe_makes_the_parents_it_needs_and_takes_them_away(tmp_path: Path) -> None:
    Store(str(tmp_path / "a/b/c")).probe()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission"), (5, "OSError")],
)
def test_a_probe_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str) -> None:
    refuse_sync(monkeypatch, code)
    with pytest.raises(StorageError, match=advice) as caught:
        Store(str(tmp_path / "run")).probe()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_probe_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no")))
    with pytest.raises(StorageError, match="hard links"):
        Store(str(tmp_path / "run")).probe()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("not a folder")
    store = Store(str(tmp_path / "run"))
    for act in (store.probe, lambda: store.put("a", b""), lambda: store.read("a"), lambda: store.names("")):
        with pytest.raises(StorageError, match="a file stands where a folder must be"):
            act()
    assert (tmp_path / "run").read_text() == "not a folder"


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(StorageError, match="/proc/no-such-folder"):
        Store("/proc/no-such-folder").probe()


@pytest.mark.parametrize("url", ["nonsense://bucket/run", "hdfs2://x"])
def test_an_unknown_protocol_is_one_line(url: str) -> None:
    with pytest.raises(StorageError, match="cannot use") as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_trouble_of_an_object_store_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("memory://bucket")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials\nlong story")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refuse)
    with pytest.raises(StorageError, match=r"cannot write memory:///bucket/a: RuntimeError: no credentials$"):
        store.put("a", b"")


def test_a_bug_is_not_dressed_up_as_trouble(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Store(str(tmp_path)).put("a", "text")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
