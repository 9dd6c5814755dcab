"""Identifiers made from content, so that the same thing has the same name on every machine and after every crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ID_LENGTH = 20
"""Hexadecimal digits of an id: 80 bits, so ten million ids collide with a chance of about 4e-11."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no escapes of plain Unicode; raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def bytes_id(data: bytes) -> str:
    """Id of raw bytes: the name of a line that could not be read as a problem."""
    return hashlib.sha256(data).hexdigest()[:ID_LENGTH]


def problem_id(messages: Sequence[tuple[str, str]], reference: str | None) -> str:
    """Id of a problem: the hash of its (role, content) messages and its reference, nothing else.

    Checks, source and metadata do not take part: the same question read from two files is one problem.
    """
    return digest({"messages": [list(message) for message in messages], "reference": reference})[:ID_LENGTH]


_MODEL_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".gguf", ".jinja", ".model"})
_MODEL_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "added_tokens.json",
        "chat_template.json",
        "merges.txt",
        "special_tokens_map.json",
        "tekken.json",
        "vocab.json",
        "vocab.txt",
    }
)
_OF_TRAINING = ("optimizer", "scheduler", "training_args")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over the files that decide what a model folder says: weights, config, tokenizer and template.

    Each file counts by its name and its content; notes, logs and optimizer states do not count.
    Raises FileNotFoundError when the folder holds none of them.
    """
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_file()
        and (path.suffix in _MODEL_SUFFIXES or path.name in _MODEL_FILES)
        and not path.name.startswith(_OF_TRAINING)
    )
    if not names:
        raise FileNotFoundError(f"no model files in {folder}")
    total = hashlib.sha256()
    for name in names:
        total.update(name.encode() + b"\0")
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
