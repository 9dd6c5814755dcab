"""Picks a backend: the one that is named, or the strongest that this machine can do.

What a machine can do is found out by doing it: a backend counts once a program has run in each of its slots. Nothing
weaker than what was named is ever taken in its place, and what `auto` did not take is said, with the reason. No
isolation at all is had only by whoever says `unsafe`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sandboxes.base import Language, Sandbox, SandboxError
from sandboxes.pool import Options, Pool

AUTO = {
    Language.PYTHON: ("zygote", "landlock"),
    Language.CPP: ("bubblewrap",),
    Language.JAVASCRIPT: ("bubblewrap",),
}
"""What `auto` tries for programs in a language, strongest first."""
BACKENDS = ("zygote", "landlock", "bubblewrap", "remote", "none")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sandbox that has run its first programs, and why no stronger one was taken."""

    sandbox: Sandbox
    refused: Mapping[str, str]
    """Stronger backends that this machine cannot do, with the reason of each."""


async def choose(
    backend: str = "auto",
    language: Language = Language.PYTHON,
    *,
    options: Options | None = None,
    unsafe: bool = False,
    url: str = "",
    token_variable: str | None = None,
) -> Chosen:
    """Start a sandbox for programs in a language. Raises SandboxError where there is none, with every reason.

    `backend`: `auto`, or one of `BACKENDS`. `unsafe`: accept none at all (backend `none`; after all others, in `auto`).
    `url` and `token_variable` are for `remote`: see `Remote`.
    """
    options = options or Options()
    if backend == "remote":
        return Chosen(await _remote(url, options, token_variable), {})
    if url or token_variable:
        raise SandboxError(f"url: only backend remote has one, not {backend}")
    if backend == "none" and not unsafe:
        raise SandboxError("backend none runs programs with all that this user may do: say `unsafe = true` to have it")
    if backend not in ("auto", *BACKENDS):
        raise SandboxError(f"there is no backend {backend!r}: use auto, {', '.join(BACKENDS)}")
    names = AUTO[language] if backend == "auto" else (backend,)
    if backend == "auto" and unsafe and language is Language.PYTHON:
        names += ("none",)
    return await _first(names, language, options)


async def _remote(url: str, options: Options, token_variable: str | None) -> Sandbox:
    from sandboxes.remote import Remote  # brings httpx and pydantic: the rest needs the standard library only

    if not url:
        raise SandboxError("url: backend remote needs the address of its service")
    remote = Remote(url, slots=options.slots or 8, token_variable=token_variable)
    try:
        await remote.start()
    except SandboxError:
        await remote.close()
        raise
    return remote


async def _first(names: tuple[str, ...], language: Language, options: Options) -> Chosen:
    refused: dict[str, str] = {}
    for name in names:
        try:
            pool = await _started(Pool(name, options), language)
        except SandboxError as error:
            refused[name] = str(error)
            continue
        if refused:
            _log.warning("sandbox %s, because this machine cannot do better: %s", pool.isolation, _reasons(refused))
        return Chosen(pool, refused)
    raise SandboxError(f"no sandbox: {_reasons(refused)}")


async def _started(pool: Pool, language: Language) -> Pool:
    if language not in pool.languages:
        raise SandboxError(f"it runs {', '.join(sorted(pool.languages))} here, not {language}")
    try:
        await pool.start()
    except SandboxError:
        await pool.close()
        raise
    return pool


def _reasons(refused: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in refused.items())
