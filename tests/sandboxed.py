"""What tests of sandboxes share: who runs them, where namespaces are refused, and how a suite in a process is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandboxes.base import SandboxError
from sandboxes.pool import Options, Pool

ROOT = Path(__file__).resolve().parents[1]
PLAIN_USER = 12345
"""Nobody's number: root becomes it to see what a plain user can do."""

REFUSE = """
import os, struct, sys
sys.path.insert(0, sys.argv[1])
from sandboxes import linux
numbers = [int(number) for number in sys.argv[2].split(",")]
load, equal, masked, back = 0x20, 0x15, 0x45, 0x06
filter = [(load, 0, 0, 0)]
for number in numbers:
    filter += [(equal, 0, 1, number), (back, 0, 0, 0x00050001)]
filter += [(equal, 0, 3, 56), (load, 0, 0, 16), (masked, 0, 1, 0x7E020000), (back, 0, 0, 0x00050001)]
filter += [(back, 0, 0, 0x7FFF0000)]
linux.no_new_privileges()
linux.prepare_seccomp(b"".join(struct.pack("<HBBI", *one) for one in filter))()
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Executes a program that may make neither namespaces (`clone` with their flags, `unshare`, `setns`) nor mounts, as a
container runtime's default profile has it, nor any other of the calls that are named."""
NAMESPACES = (272, 308, 165, 155, 442)
"""unshare, setns, mount, pivot_root, mount_setattr."""
LANDLOCK = (444, 445, 446)


@dataclass(frozen=True)
class User:
    """Who runs a command, and with which Python."""

    name: str
    python: str
    before: tuple[str, ...] = ()
    """Goes before the command."""


def user(name: str) -> User:
    """`root`, `plain`, or skips with the reason why this machine cannot have it."""
    if (name == "root") == (os.geteuid() == 0):
        return User(name, sys.executable)
    if name == "root":
        pytest.skip("not run by root")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("no setpriv to become a plain user with")
    become = (setpriv, f"--reuid={PLAIN_USER}", f"--regid={PLAIN_USER}", "--clear-groups", "env", "HOME=/nowhere")
    for python in (sys.executable, "/usr/bin/python3"):
        asked = [
            *become,
            python,
            "-I",
            "-c",
            f"import sys; open({str(ROOT / 'README.md')!r}); sys.version_info >= (3, 11) or 1/0",
        ]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return User(name, python, become)
    pytest.skip("a plain user finds no Python of 3.11 or newer, or may not read this checkout")


async def started(backend: str, options: Options) -> Pool:
    """A sandbox that runs programs, or skips with the reason why this machine has none of the kind."""
    pool = Pool(backend, options)
    try:
        await pool.start()
    except SandboxError as error:
        pytest.skip(f"this machine has no {backend}: {error}")
    return pool


def confined(refused: Sequence[int], command: Sequence[str], python: str) -> list[str]:
    """A command where some system calls are refused."""
    return [python, "-c", REFUSE, str(ROOT), ",".join(map(str, refused)), *command]


def suite(backend: str, python: str) -> list[str]:
    """The command that attacks a backend with the standard library alone."""
    return [python, "-B", "-m", "sandboxes.conformance", "--backend", backend]


def run(command: Sequence[str], seconds: float = 240.0) -> tuple[int, list[dict[str, Any]], str]:
    """Exit status, JSON lines of standard output, and standard error of a suite."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr
