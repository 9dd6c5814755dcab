"""A run's folder as commands meet it: is it a run, whose config does it hold, who owns it."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

from factory.config import differences
from factory.errors import ConfigError, StorageError
from factory.lease import Lease, acquire
from factory.store import Store

log = logging.getLogger(__name__)

LEASE_SECONDS = 30.0
"""How long a driver may be silent before another may take its run over."""
CONFIG = "config.json"


def stored_config(store: Store) -> dict[str, Any]:
    """The resolved config of a run. Raises StorageError for a folder that holds none."""
    try:
        config: dict[str, Any] = json.loads(store.read(CONFIG))
    except FileNotFoundError:
        raise StorageError(f"{store.url} is no run: it has no {CONFIG}; give the --out of a `factory run`") from None
    except ValueError as error:
        raise StorageError(f"{store.uri(CONFIG)} is not readable JSON ({error}): restore it") from None
    return config


def refuse_other_run(store: Store, config: dict[str, Any]) -> None:
    """Raise ConfigError, naming the keys, for a folder whose config makes it another run."""
    if not store.exists(CONFIG):
        # A driver that was killed before it came to the config leaves its lease, or the probe of the disk.
        if store.names("") or any(name != "lease" and not name.startswith("probe-") for name in store.folders("")):
            raise StorageError(f"{store.url} is not empty and no run: choose another folder for --out")
        return
    stored = stored_config(store)
    if is_import(stored) != is_import(config):
        held = "an import, which no recipe resumes" if is_import(stored) else "a run of a recipe, and no import"
        raise ConfigError(f"{store.url} holds {held}: choose another --out")
    if lines := differences(stored, config):
        raise ConfigError(f"{store.url} holds another run: {'; '.join(lines)}: use the stored value, or another --out")


def is_import(config: dict[str, Any]) -> bool:
    """Whether a resolved config is that of `factory import`."""
    return bool(config["recipe"]["source"].get("kind") == "import")


def store_config(store: Store, config: dict[str, Any]) -> None:
    """Write the config beside the output; on resume, what may differ is updated, and said."""
    if store.exists(CONFIG) and stored_config(store) != config:
        log.warning("the run goes on with other settings than before: %s is updated", store.uri(CONFIG))
    store.put(CONFIG, json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")


@contextlib.contextmanager
def owned(store: Store) -> Iterator[Lease]:
    """Own the run while the context is open. Raises RunOwned."""
    lease = acquire(store, ttl=LEASE_SECONDS)
    try:
        yield lease
    finally:
        lease.release()
