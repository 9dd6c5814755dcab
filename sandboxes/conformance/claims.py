"""What backends promise. An attack belongs to one claim, and is tried on the backends that make it."""

from __future__ import annotations

from enum import StrEnum


class Claim(StrEnum):
    """A property of a sandbox."""

    WORKS = "works"
    """Ordinary programs run as they would by themselves, and endings are named rightly."""
    BYTES = "bytes"
    """Output need not be text, and none of it is lost."""
    FRESH = "fresh"
    """Nothing of one run is found by the next."""
    TIME = "time"
    """Runs end: processor time and time are limited, whatever signals are caught."""
    MEMORY = "memory"
    """The memory of all processes of a run together is limited."""
    PROCESSES = "processes"
    """Processes and threads are limited."""
    OUTPUT = "output"
    """Output is limited."""
    DISK = "disk"
    """The size of what it writes to files is limited."""
    FILES = "files"
    """The number of files is limited."""
    READING = "reading"
    """No file, environment or descriptor of the host can be read."""
    NAMES = "names"
    """Not even whether a file of the host exists can be learned."""
    WRITING = "writing"
    """Nothing of the host can be changed."""
    PROCESS_WALL = "process_wall"
    """No process outside can be signalled, traced or changed."""
    NETWORK = "network"
    """Nothing can be reached, by any kind of socket."""
    PRIVILEGES = "privileges"
    """No privilege can be had."""
    KERNEL = "kernel"
    """Rare system calls do not reach the kernel."""
    LEFTOVERS = "leftovers"
    """When a result is there, every process of its run is dead."""
    VALUES = "values"
    """Values mode: a program can lie about its own values only."""
    JUDGE = "judge"
    """Judge mode: tests decide, and a program can neither see nor touch them."""


CLAIMS: dict[str, frozenset[Claim]] = {
    "zygote": frozenset(Claim),
    "landlock": frozenset(Claim) - {Claim.NAMES},
    "bubblewrap": frozenset(Claim) - {Claim.FILES, Claim.VALUES, Claim.JUDGE},
    "remote": frozenset({Claim.WORKS}),
    "none": frozenset({Claim.WORKS, Claim.BYTES}),
}
"""By backend."""
