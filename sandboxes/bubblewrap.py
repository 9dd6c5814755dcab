"""Programs in other languages: the command line that has `bwrap` run one, in namespaces of its own.

Slower than a fork server (tens of milliseconds a run), for whatever has an interpreter or a compiler under /usr. A fork
server starts it, as another user where it may, in a control group where there is one, with limits set. What it needs
comes in descriptors: nothing of a run is ever a file of the host.

Its traps, and what is done about them: `--die-with-parent`, or what it started outlives it; no `--dev`, which is a
writable file system without a limit; no `--proc`, where its own environment could be read; started as another user than
root, since root's keeps capabilities and is not held to a number of processes. A file system in memory has no limit on
the number of files here: they count as memory only.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandboxes.base import Language, Limits, SandboxError
from sandboxes.seccomp import jail_filter
from sandboxes.walls import BOX, DEVICES, INSIDE, SYSTEM

FIRST = 10
"""The descriptor of the program's text; the filter's is the next, then come its files."""
MARK = 4
"""The descriptor that is written to where a program does not compile."""
MOST_FILES = 200
"""As many descriptors as there are."""
_PATH = "/usr/local/bin:/usr/bin:/bin"
_NAMES = {Language.PYTHON: "main.py", Language.CPP: "main.cpp", Language.JAVASCRIPT: "main.js"}
_TOOLS = {Language.PYTHON: "python3", Language.CPP: "g++", Language.JAVASCRIPT: "node"}
_CLOSED = f"{MARK}>&-"
_COMMANDS = {
    Language.PYTHON: f"exec @TOOL@ -I main.py {_CLOSED}",
    Language.CPP: f"@TOOL@ -std=c++20 -O2 -o main main.cpp {_CLOSED} || {{ echo >&{MARK}; exit 1; }}; "
    f"exec ./main {_CLOSED}",
    Language.JAVASCRIPT: f"exec @TOOL@ main.js {_CLOSED}",
}
"""For a shell. The program itself never has the mark's descriptor."""
_ENVIRONMENT = {"PATH": _PATH, "HOME": BOX, "TMPDIR": BOX, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}


def find() -> str:
    """Where `bwrap` is. Raises SandboxError where it is not."""
    found = shutil.which("bwrap", path=_PATH)
    if found is None:
        raise SandboxError("bubblewrap is not installed (Debian and Ubuntu: apt install bubblewrap)")
    return found


def tools() -> dict[Language, str]:
    """What runs each language here, where that is where programs can see it."""
    found = {language: shutil.which(name, path=_PATH) for language, name in _TOOLS.items()}
    return {language: path for language, path in found.items() if path is not None}


def handed_over(
    work: dict[str, Any], texts: list[bytes], limits: Limits, paths: Sequence[str]
) -> tuple[dict[str, Any], list[bytes]]:
    """What a fork server's child needs to execute bubblewrap, and what it hands it in descriptors."""
    source, *files = texts
    line = arguments(Language(work["language"]), work["files"], limits, paths)
    return {"files": [], "first": FIRST, "program": find(), "arguments": line}, [source, _filter(), *files]


@functools.cache
def _filter() -> bytes:
    return jail_filter()


def arguments(language: Language, files: Sequence[str], limits: Limits, paths: Sequence[str]) -> list[str]:
    """The command line for one program. `paths` are folders of the host that it may read, beside the system's."""
    command = ["bwrap", *_walls(), *_system(paths), *_devices()]
    command += ["--size", str(limits.file_bytes), "--tmpfs", BOX, "--symlink", BOX, "/tmp"]  # noqa: S108 - inside
    places = {_NAMES[language]: FIRST} | {name: FIRST + 2 + place for place, name in enumerate(files)}
    for name, descriptor in places.items():
        command += ["--perms", "0644", "--file", str(descriptor), f"{BOX}/{name}"]
    command += ["--remount-ro", "/", "--chdir", BOX, "--seccomp", str(FIRST + 1), "--json-status-fd", "3"]
    return [*command, "/bin/sh", "-c", _COMMANDS[language].replace("@TOOL@", tools()[language])]


def _walls() -> list[str]:
    return [
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--hostname", "sandbox"),
        *("--uid", str(INSIDE), "--gid", str(INSIDE), "--cap-drop", "ALL", "--clearenv"),
        *[part for pair in _ENVIRONMENT.items() for part in ("--setenv", *pair)],
    ]


def _system(paths: Sequence[str]) -> list[str]:
    command = []
    for path in SYSTEM:
        if Path(path).is_symlink():
            command += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).is_dir():
            command += ["--ro-bind", path, path]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", *paths):
        command += ["--ro-bind-try", path, path]
    return command


def _devices() -> list[str]:
    shown = [part for name in DEVICES for part in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
    return [*shown, "--symlink", BOX, "/dev/shm"]  # noqa: S108 - inside
