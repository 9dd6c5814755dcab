"""Asks an engine about the cuts of drafts, of a whole shard at once, and withdraws those that fail.

A draft is made again less the cuts that failed, verified again, and asked about again, until what is removed of it has
passed: so the figures of a transcript are of the text that it has. An engine in trouble fails no cut: the transcript
says what was the matter. An engine that is dead ends the refinement; what is not written yet is owed.

Continuations are drawn only where what stands behind a cut has passed. Each has a seed of its own, so that they are the
same whenever the refinement is made again, as far as the engine's arithmetic is. One that cannot be judged does not
verify, with what was removed as without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from factory.config import SeamsConfig
from factory.engines.base import Engine, Prompt, Request
from factory.errors import EngineDead, EngineError, SourceError, classify
from factory.ids import digest
from factory.prune.base import Cut
from factory.prune.seams import Reading, Window, evidence_of, reading_of, seams_of, units_of
from factory.prune.transcripts import Draft, Judge, is_right, shown, without
from factory.render import Renderer
from factory.stats import detectable_loss, fisher
from factory.types import Attempt, FinishReason, Origin, Sampling, Seam, Span
from pipelines import fit

LEVEL = 0.05
"""Of the test that fewer continuations verify: how often it calls a harmless cut a bad one at most."""


class Seams:
    """Tests the cuts of one refinement."""

    def __init__(self, config: SeamsConfig, renderer: Renderer, sampling: Sampling, judge: Judge, *, own: bool) -> None:
        """`sampling`: of continuations. `own`: whether the engine is the one that wrote the text, and reads it by the
        ids that it sampled."""
        self._config = config
        self._renderer = renderer
        self._sampling = sampling
        self._judge = judge
        self._own = own

    async def tested(self, engine: Engine, drafts: Sequence[Draft]) -> list[Draft]:
        """The same drafts in their order, with what was found; those that are rejected are not asked about.

        `engine` is up. Raises EngineDead, and ConfigError for an engine that turned out to tell nothing.
        """
        fit.check_seams(self._config.engine, engine.capabilities)
        tasks = [asyncio.ensure_future(self._one(engine, draft)) for draft in drafts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _one(self, engine: Engine, draft: Draft) -> Draft:
        while is_open(draft):
            try:
                seams, failed = await self._asked(engine, draft)
            except EngineDead:
                raise
            except (EngineError, SourceError, ValueError) as error:  # of a request, a template, ids that do not spell
                return shown(draft, [Seam(classify(error))] * len(draft.cuts))
            if not failed:
                return shown(draft, seams)
            draft = await asyncio.to_thread(without, draft, failed, self._judge)
        return draft

    async def _asked(self, engine: Engine, draft: Draft) -> tuple[list[Seam], list[Cut]]:
        """What is found of each cut, and those that fail, with the evidence."""
        prompt, reading = await asyncio.to_thread(self._reading, draft)
        whole, left = await asyncio.gather(
            _read(engine, prompt, reading.whole, reading.whole_places, f"{_key(draft)}/whole"),
            _read(engine, prompt, reading.left, reading.left_places, f"{_key(draft)}/left"),
        )
        seams = seams_of(reading, whole, left)
        failed = [
            replace(cut, seam=seam, evidence=evidence_of(window, whole, left))
            for cut, window, seam in zip(draft.cuts, reading.windows, seams, strict=True)
            if seam.largest is not None and seam.largest > self._config.most_drop
        ]
        if failed or not self._config.continuations:
            return seams, failed
        return await self._continued(engine, draft, prompt, reading, seams)

    def _reading(self, draft: Draft) -> tuple[Prompt, Reading]:
        prompt = self._renderer.render(draft.full.problem.messages)
        units = units_of(draft.turn, self._renderer.decode, self._renderer.encode, sampled=self._own)
        return prompt, reading_of(_text(draft), units, draft.cuts, self._config.window, self._renderer.encode)

    async def _continued(
        self, engine: Engine, draft: Draft, prompt: Prompt, reading: Reading, seams: Sequence[Seam]
    ) -> tuple[list[Seam], list[Cut]]:
        """The same by fresh continuations from behind each cut; cuts that share a window share them."""
        windows = list(dict.fromkeys(one for one in reading.windows if one.texts))
        counts = await asyncio.gather(*(self._counts(engine, draft, prompt, reading, window) for window in windows))
        found = dict(zip(windows, counts, strict=True))
        told = [_told(seam, found.get(one), self._n) for seam, one in zip(seams, reading.windows, strict=True)]
        failed = [
            replace(cut, seam=seam, evidence=_fewer(seam))
            for cut, seam in zip(draft.cuts, told, strict=True)
            if seam.right_with is not None
            and seam.right_without is not None
            and fisher(seam.right_with, seam.right_without, self._n) <= LEVEL
        ]
        return told, failed

    @property
    def _n(self) -> int:
        return self._config.continuations

    async def _counts(
        self, engine: Engine, draft: Draft, prompt: Prompt, reading: Reading, window: Window
    ) -> tuple[int, int]:
        """How many continuations are right, with what was removed and without."""
        text = _text(draft)
        whole = (text[: window.start], reading.whole[: window.whole])
        left = (_left(text[: window.start], draft.cuts), reading.left[: window.left])
        # As much room for the one as for the other, or the longer prefix would be cut more often.
        room = self._room(engine, len(prompt.token_ids or ()) + max(window.whole, window.left))
        right = await asyncio.gather(
            *(
                self._is_right(engine, draft, prompt, prefix, room, f"{_key(draft)}/{window.start}/{side}/{number}")
                for side, prefix in (("with", whole), ("without", left))
                for number in range(self._n)
            )
        )
        return sum(right[: self._n]), sum(right[self._n :])

    def _room(self, engine: Engine, before: int) -> int:
        """Tokens of a continuation at most."""
        context = engine.capabilities.max_context
        most = self._sampling.max_tokens if context is None else min(self._sampling.max_tokens, context - before)
        if most < 1:
            raise EngineError(f"no room for a continuation behind {before} tokens: the context is {context}")
        return most

    async def _is_right(
        self, engine: Engine, draft: Draft, prompt: Prompt, prefix: tuple[str, tuple[int, ...]], room: int, key: str
    ) -> bool:
        text, ids = prefix
        seed = int(digest(key)[:8], 16) >> 1  # engines take 31 bits
        request = Request(replace(self._sampling, max_tokens=room, logprobs=False), seed=seed, key=key)
        made = await engine.generate(_behind(prompt, ids), request)
        if made.finish is FinishReason.LENGTH:
            return False
        attempt = Attempt((Span(text + made.text, Origin.SAMPLED),))
        return is_right(await asyncio.to_thread(self._judge, draft.full.problem, attempt))


def is_open(draft: Draft) -> bool:
    """Whether there is anything to ask about."""
    return bool(draft.cuts) and draft.made.rejection is None


def _key(draft: Draft) -> str:
    return f"{draft.full.problem.id}/{draft.full.leaf}/{draft.made.variant}"


def _text(draft: Draft) -> str:
    return "".join(node.text for node in draft.turn)


def _left(text: str, cuts: Sequence[Cut]) -> str:
    """What cuts leave of a text, or of its begin."""
    for cut in reversed(cuts):
        text = text[: cut.start] + text[cut.end :]
    return text


def _behind(prompt: Prompt, ids: Sequence[int]) -> Prompt:
    return replace(prompt, token_ids=(*(prompt.token_ids or ()), *ids))


async def _read(
    engine: Engine, prompt: Prompt, ids: Sequence[int], places: Sequence[int], key: str
) -> Mapping[int, float]:
    """Log-probabilities of the ids behind the prompt at these places."""
    if not places:
        return {}
    before = len(prompt.token_ids or ())
    read = await engine.read(_behind(prompt, ids), [before + place for place in places], key)
    return dict(zip(places, read.logprobs, strict=True))


def _told(seam: Seam, counts: tuple[int, int] | None, n: int) -> Seam:
    if counts is None:
        return seam
    right, fewer = counts
    least = detectable_loss(right / n, n)
    return replace(seam, continuations=n, right_with=right, right_without=fewer, detectable=least)


def _fewer(seam: Seam) -> str:
    return f"{seam.right_without} of {seam.continuations} continuations verify without it, {seam.right_with} with it"
