"""`[search]` and `[scorer]` of a recipe: every strategy with its parameters, and what guides it.

A parameter that cannot work is refused here where numbers alone tell; what needs the engine or its tokenizer to tell is
refused by `pipelines.fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from factory.section import Section


class ChainsConfig(Section):
    """What searches of independent attempts share."""

    n: int = Field(default=1, ge=1)
    """Attempts at most."""
    wave: int | None = Field(default=None, ge=1)
    """Of them, going on at once; all `n` by default."""
    stop_at: int | None = Field(default=None, ge=1)
    """Right answers that end the search; never early by default."""

    @model_validator(mode="after")
    def _within_n(self) -> Self:
        for name in ("wave", "stop_at"):
            value = getattr(self, name)
            if value is not None and value > self.n:
                raise ValueError(f"{name} = {value} is more than n = {self.n}")
        return self


class BestOfNConfig(ChainsConfig):
    """Independent attempts, in waves, until enough of them are right."""

    kind: Literal["best_of_n"]
    n: int = Field(default=16, ge=1)


ROLLOUTS = 4
"""Continuations of a step where a recipe does not say how many."""


class StepConfig(Section):
    """What tree searches share: how far a step goes, and what guides them."""

    step_stop: list[str] = Field(default=["\n\n"])
    """Texts that end a step."""
    step_tokens: int | None = Field(default=None, ge=1)
    """Tokens that end a step; no limit by default."""
    max_steps: int = Field(default=64, ge=1)
    """Steps of one path; the last goes to the end of the turn."""
    value: Literal["score", "rollouts"] = "score"
    """What a step is worth: what [scorer] says, or the share of its continuations to the end that are right."""
    rollouts: int | None = Field(default=None, ge=1)
    """Continuations of a step, for `value = "rollouts"`; 4 by default. They are counted, and kept as leaves."""
    aggregate: Literal["last", "min", "product", "mean"] = "last"
    """How the values of a path's steps become one."""
    stop_at: int | None = Field(default=None, ge=1)
    """Right answers that end the search; never early by default."""

    @model_validator(mode="after")
    def _steps_end(self) -> Self:
        if not self.step_tokens and not any(self.step_stop):
            raise ValueError("step_stop: a step must end somewhere: give it a text, or step_tokens")
        if "" in self.step_stop:
            raise ValueError("step_stop: an empty text ends nothing")
        if self.value == "score" and self.rollouts is not None:
            raise ValueError("rollouts does nothing with value = 'score'")
        return self

    @property
    def continuations(self) -> int:
        """Of each step; 0 where a scorer says what it is worth."""
        return 0 if self.value == "score" else self.rollouts or ROLLOUTS


class BeamConfig(StepConfig):
    """The best prefixes are kept, step by step."""

    kind: Literal["beam"]
    width: int = Field(default=4, ge=1)
    """Prefixes that are kept at each step."""
    branch: int = Field(default=4, ge=1)
    """Continuations of each of them."""


class DvtsConfig(StepConfig):
    """Diverse subtrees: as many beams of one prefix, each by itself."""

    kind: Literal["dvts"]
    width: int = Field(default=4, ge=1)
    """Subtrees."""
    branch: int = Field(default=4, ge=1)
    """Continuations of the prefix that a subtree keeps."""


class MctsConfig(StepConfig):
    """Monte-Carlo tree search by PUCT, with progressive widening."""

    kind: Literal["mcts"]
    expansions: int = Field(default=256, ge=1)
    """Generations in all, those that value a step included."""
    parallel: int = Field(default=8, ge=1)
    """Steps outstanding at once."""
    exploration: float = Field(default=0.1, ge=0)
    """PUCT's constant: more of it spreads the search."""
    widening: float = Field(default=2.0, gt=0)
    """A step with N visits is continued at most `widening * N ** widening_power` times."""
    widening_power: float = Field(default=0.5, ge=0, le=1)
    prior: Literal["samples", "logprob"] = "samples"
    """What is expected of a step before it is looked at: how often it was sampled, or that and its probability."""

    @model_validator(mode="after")
    def _one_step_fits(self) -> Self:
        last = max(self.parallel, self.continuations)
        if self.expansions <= last:
            raise ValueError(
                f"expansions = {self.expansions}: the last {last} go to the end of the turn, so give it more"
            )
        return self


ANSWER_TOKENS = 16
"""Least room that budget forcing leaves for an answer."""


class BudgetForcingConfig(ChainsConfig):
    """Attempts that think no less and no more than they are told, and always answer."""

    kind: Literal["budget_forcing"]
    min_thinking: int = Field(default=0, ge=0)
    """Tokens below which the end of thinking is left out, and `wait` put in its place."""
    max_thinking: int = Field(ge=1)
    """Tokens at which thinking is ended by `cue`."""
    end: str = Field(default="</think>", min_length=1)
    """What ends the thinking."""
    wait: str = Field(default="Wait", min_length=1)
    cue: str = Field(default="\n</think>\n\nFinal answer:", min_length=1)
    boundary: str | None = Field(default=None, min_length=1)
    """What a cue should come behind, such as a line's end; by default it comes wherever the limit is."""
    slack: int = Field(default=16, ge=1)
    """Tokens before `max_thinking` from which on the first boundary ends the thinking."""

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.min_thinking > self.last:
            less = f", less slack = {self.slack}" if self.boundary else ""
            raise ValueError(
                f"min_thinking = {self.min_thinking} is more than max_thinking = {self.max_thinking}{less}"
            )
        if self.last < 1:
            raise ValueError(f"slack = {self.slack} leaves nothing of max_thinking = {self.max_thinking}")
        if self.end in self.wait:
            raise ValueError(f"wait: it ends the thinking, since {self.end!r} stands in it")
        for name, other in (("wait", "min_thinking"), ("slack", "boundary")):
            # A stored recipe gives every key, so a key that has its default says nothing.
            if getattr(self, name) != BudgetForcingConfig.model_fields[name].default and not getattr(self, other):
                raise ValueError(f"{name} does nothing without {other}")
        return self

    @property
    def last(self) -> int:
        """Tokens after which nothing but a boundary is waited for."""
        return self.max_thinking - (self.slack if self.boundary else 0)


class EarlyRejectionConfig(ChainsConfig):
    """Attempts that are left as soon as they promise too little, and fresh ones in their place."""

    kind: Literal["early_rejection"]
    step_stop: list[str] = Field(default=["\n"])
    """Texts that end a step."""
    step_tokens: int | None = Field(default=None, ge=1)
    """Tokens that end a step; no limit by default."""
    keep: float | None = Field(default=None, gt=0, le=1)
    """An attempt is left at a step that [scorer] gives less than this; by default no scores are asked for."""
    backtrack: str | None = Field(default=None, min_length=1)
    """What an attempt says when it turns back, such as `Wait`."""
    max_backtracks: int = Field(default=3, ge=1)
    """An attempt that has said it so often is left."""

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.keep is None and self.backtrack is None:
            raise ValueError("nothing would be left early: it needs keep and a [scorer], or backtrack")
        if not self.step_tokens and not any(self.step_stop):
            raise ValueError("step_stop: a step must end somewhere: give it a text, or step_tokens")
        if "" in self.step_stop:
            raise ValueError("step_stop: an empty text ends nothing")
        return self


class ReviseConfig(ChainsConfig):
    """An answer, a criticism, another answer; `n` first ones, each revised by itself."""

    kind: Literal["revise"]
    turns: int = Field(default=1, ge=1)
    """Criticisms of each at most."""
    criticism: str = Field(default="That is wrong. Try again.", min_length=1)
    """The user's turn after an answer."""
    when: Literal["wrong", "always"] = "wrong"
    """Which answers are criticised: those that a verifier found wrong, or all."""


class ConsensusConfig(Section):
    """Attempts until their answers agree, for problems that no verifier decides."""

    kind: Literal["consensus"]
    n: int = Field(default=32, ge=1)
    error: float = Field(default=0.05, gt=0, lt=1)
    """Chance at most that the answer which it stops at is not the teacher's most probable one."""
    wave: int = Field(default=4, ge=1)
    """Attempts that may be undecided at once."""

    @model_validator(mode="after")
    def _within_n(self) -> Self:
        if self.wave > self.n:
            raise ValueError(f"wave = {self.wave} is more than n = {self.n}")
        return self


OneSearch = Annotated[
    BestOfNConfig | EarlyRejectionConfig | BeamConfig | DvtsConfig | MctsConfig | BudgetForcingConfig | ReviseConfig,
    Field(discriminator="kind"),
]


class LadderConfig(Section):
    """Strategies one after the other, each for the problems that those before it left unsolved."""

    kind: Literal["ladder"]
    rungs: list[OneSearch] = Field(min_length=1)
    """Without a `stop_at` of their own: each ends where the right answers that are still missing are there."""
    stop_at: int | None = Field(default=None, ge=1)
    """Right answers, of all rungs together, that end the search; by default any, once a rung is at its end."""
    hopeless_after: int | None = Field(default=None, ge=1)
    """Generated tokens after which a problem without a right answer climbs no further rung: it is given up."""

    @model_validator(mode="after")
    def _one_stop(self) -> Self:
        for place, rung in enumerate(self.rungs):
            if rung.stop_at is not None:
                raise ValueError(f"rungs.{place}.stop_at does nothing: the ladder's own stop_at holds for every rung")
        if self.hopeless_after is not None and len(self.rungs) == 1:
            raise ValueError("hopeless_after does nothing with one rung: there is none to climb to")
        return self


Search = Annotated[
    BestOfNConfig
    | EarlyRejectionConfig
    | BeamConfig
    | DvtsConfig
    | MctsConfig
    | BudgetForcingConfig
    | ReviseConfig
    | LadderConfig
    | ConsensusConfig,
    Field(discriminator="kind"),
]


class LogprobScorer(Section):
    """The mean log-probability of what was sampled; costs nothing."""

    kind: Literal["logprob"]


class JudgementScorer(Section):
    """A model's judgement: how probable it finds `yes` after a cue."""

    kind: Literal["judgement"]
    cue: str = Field(min_length=1)
    """Put after the prefix; never kept."""
    yes: str = Field(default=" yes", min_length=1)
    no: str = Field(default=" no", min_length=1)
    engine: str = Field(default="teacher", min_length=1)
    """Which of [engines] is asked: the teacher itself, or a model that was trained to judge."""
    separator: str = ""
    """Put between steps for another model than the teacher, such as the tag behind which it judges."""

    @model_validator(mode="after")
    def _teacher_reads_its_own(self) -> Self:
        if self.separator and self.engine == "teacher":
            raise ValueError("separator does nothing with engine = 'teacher', which goes on from its own tokens")
        return self


class RewardScorer(Section):
    """A process reward model: how likely it holds an attempt so far to be right."""

    kind: Literal["reward"]
    engine: str = Field(default="reward", min_length=1)
    """Which of [engines] is the reward model."""
    separator: str = ""
    """Put behind every step, such as the tag at which the model was trained to judge."""
    label: int = -1
    """The model's class that stands for right; the last by default."""


class ChainScorer(Section):
    """Whether a verifier that reads along finds a flaw in what is there; asks no model."""

    kind: Literal["chain"]


Scorer = Annotated[LogprobScorer | JudgementScorer | RewardScorer | ChainScorer, Field(discriminator="kind")]


def engine_asked(scorer: Scorer | None) -> str | None:
    """The name of the engine that a scorer asks; None for one that asks no model."""
    return scorer.engine if isinstance(scorer, JudgementScorer | RewardScorer) else None


def rungs(search: Search) -> Sequence[OneSearch | ConsensusConfig]:
    """The strategies of a ladder; any other stands alone."""
    return search.rungs if isinstance(search, LadderConfig) else [search]


def asks_for_scores(search: OneSearch | ConsensusConfig) -> bool:
    """Whether a strategy needs the run's scorer."""
    if isinstance(search, StepConfig):
        return search.value == "score"
    return isinstance(search, EarlyRejectionConfig) and search.keep is not None


def verified_by(search: Search, scorer: Scorer | None) -> str | None:
    """How what verifiers find guides a search, in a few words; None for one that makes the same tree without them."""
    if isinstance(search, LadderConfig):
        return "climbs on where no verifier found a right answer"
    if isinstance(scorer, ChainScorer):
        return "is guided by a verifier that reads along"
    if isinstance(search, ConsensusConfig):
        return None
    if search.stop_at is not None:
        return "stops at right answers"
    if isinstance(search, MctsConfig):
        return "goes on where verifiers found right answers"
    if isinstance(search, StepConfig) and search.value == "rollouts":
        return "values a step by how many of its continuations are right"
    if isinstance(search, ReviseConfig) and search.when == "wrong":
        return "revises answers that a verifier found wrong"
    return None
