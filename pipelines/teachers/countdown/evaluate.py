"""Measure a Countdown teacher with vLLM on the CPU and write the figures as JSON.

    python pipelines/teachers/countdown/evaluate.py --model DIR --out evaluation.json

Besides plain attempts it measures each skill that a search may rely on: resuming after `wait`, answering at a
cue, judging a state, revising. For those, the chains to cut come from the model's own attempts, and only chains
that follow the rules so far are cut. Every verdict is exact: replay and fractions, never the model's own word.
"""

import argparse
import hashlib
import json
import math
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from factory.sources.countdown import Instance, Split, State, can_reach, frozen, prompt_text
from factory.stats import auroc
from pipelines.teachers.countdown.language import (
    ANSWER,
    CONTEXT,
    END,
    END_THINK,
    JUDGE_CUE,
    REVISE_CUE,
    STOP_CUE,
    TOKEN_IDS,
    VOCABULARY,
    WAIT_CUE,
    answer_in,
    encode,
    is_right,
    prompt_ids,
    replay,
    value,
)

KS = (1, 4, 16, 64)
RESAMPLES = 2000
"""Bootstrap resamples, over problems."""
MAX_TOKENS = 256
"""Longest completion."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One completion of one problem."""

    problem: int
    """Index of the problem."""
    ids: tuple[int, ...]
    """Sampled tokens, the end of turn included if it was reached."""
    text: str
    """The tokens joined; the end of turn shows as </s>."""
    engine_text: str
    """What the engine decoded."""


class Engine:
    """Sampling from token ids."""

    def __init__(self, folder: Path, dtype: str, seed: int) -> None:
        from vllm import LLM

        self.llm = LLM(
            model=str(folder),
            dtype=dtype,
            max_model_len=CONTEXT,
            max_num_seqs=256,
            max_logprobs=len(VOCABULARY),
            enforce_eager=True,
            seed=seed,
        )

    def sample(self, prompts: list[list[int]], n: int = 1, temperature: float = 1.0) -> list[list[Attempt]]:
        """`n` completions of each prompt, within the context; the attempt's problem is the index of its prompt."""
        from vllm import SamplingParams

        plans = [
            SamplingParams(
                n=n,
                temperature=temperature,
                max_tokens=min(MAX_TOKENS, CONTEXT - len(ids)),
                skip_special_tokens=False,
            )
            for ids in prompts
        ]
        outputs = self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], plans)
        return [
            [
                Attempt(i, tuple(o.token_ids), "".join(VOCABULARY[t] for t in o.token_ids), o.text)
                for o in output.outputs
            ]
            for i, output in enumerate(outputs)
        ]

    def chance_of_yes(self, prompts: list[list[int]]) -> list[float]:
        """Probability of ` yes` against ` no` as the next token."""
        from vllm import SamplingParams

        yes, no = TOKEN_IDS[" yes"], TOKEN_IDS[" no"]
        plan = SamplingParams(temperature=0.0, max_tokens=1, logprobs=len(VOCABULARY))
        chances = []
        for output in self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], plan):
            logs = output.outputs[0].logprobs[0]
            chances.append(1.0 / (1.0 + math.exp(logs[no].logprob - logs[yes].logprob)))
        return chances


# --- figures


def pass_at(k: int, n: int, right: int) -> float:
    """Unbiased chance that at least one of k attempts is right, from n attempts of which some were."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def with_interval(values: list[float]) -> dict[str, float]:
    """Mean over problems with a 95% bootstrap interval."""
    rng = random.Random(0)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]
    return {"mean": round(fmean(values), 4), "low": round(low, 4), "high": round(high, 4)}


def share(flags: list[bool]) -> float | None:
    """Share that is true; None of nothing."""
    return round(fmean(flags), 4) if flags else None


def ending(instance: Instance, attempt: Attempt) -> str:
    """How an attempt ended, in one of a few names."""
    answer = answer_in(attempt.text)
    if answer is None:
        return "no answer"
    if attempt.ids[-1] != END:
        return "answer cut off"
    if is_right(instance, answer):
        return "right"
    result = value(answer)
    if result is None:
        return "malformed answer"
    return "wrong value" if result != instance.target else "wrong numbers"


def right(instance: Instance, attempt: Attempt) -> bool:
    """Whether an attempt ended with a right answer."""
    return ending(instance, attempt) == "right"


def plain_figures(problems: list[Instance], attempts: list[list[Attempt]]) -> dict[str, object]:
    """Figures of unassisted attempts."""
    n = len(attempts[0])
    counts = [sum(right(p, a) for a in row) for p, row in zip(problems, attempts, strict=True)]
    flat = [(problems[a.problem], a) for row in attempts for a in row]
    endings = Counter(ending(p, a) for p, a in flat)
    replays = [replay(p, a.text) for p, a in flat]
    legal = [r.closed for r in replays]
    sound = [r.closed and ("\ndone\n" in a.text) == right(p, a) for r, (p, a) in zip(replays, flat, strict=True)]
    return {
        **{f"pass@{k}": with_interval([pass_at(k, n, c) for c in counts]) for k in KS if k <= n},
        "tokens_mean": round(fmean(len(a.ids) for _, a in flat), 1),
        "endings": {name: round(count / len(flat), 4) for name, count in endings.most_common()},
        "wrong_answers_among_attempts": share(
            [ending(p, a) in ("wrong value", "wrong numbers", "malformed answer") for p, a in flat]
        ),
        "gave_up_without_done": share(
            [a.text.count("\ndone\n") == 0 and answer_in(a.text) is not None for _, a in flat]
        ),
        "chains_fully_legal": share(legal),
        "chains_fully_legal_and_answer_agrees_with_done": share(sound),
        "done_among_legal": share(["\ndone\n" in a.text for ok, (_, a) in zip(legal, flat, strict=True) if ok]),
        "encode_gives_back_the_sampled_ids": share(
            [encode(a.text.removesuffix("</s>")) == [i for i in a.ids if i != END] for _, a in flat]
        ),
        "engine_text_equals_joined_tokens": share(
            [a.text.removesuffix("</s>") == a.engine_text.removesuffix("</s>") for _, a in flat]
        ),
    }


# --- skills


@dataclass(frozen=True, slots=True)
class Cut:
    """A legal prefix of an attempt that ends at a line boundary."""

    problem: int
    text: str
    """From `<think>` on."""
    state: State
    """Where it stands."""
    last: str
    """Its last line."""

    def then(self, instance: Instance, cue: str) -> list[int]:
        """Token ids of the prompt, the prefix and a cue."""
        return [*prompt_ids(prompt_text(instance)), *encode(self.text + cue)]


def cuts_of(problems: list[Instance], attempt: Attempt) -> list[Cut]:
    """Every cut of an attempt before `done` or its first fault."""
    states = replay(problems[attempt.problem], attempt.text).states
    lines = attempt.text.split("\n")
    made = [Cut(attempt.problem, "\n".join(lines[: i + 1]) + "\n", state, lines[i]) for i, state in enumerate(states)]
    return [cut for cut in made if cut.last != "done"]


def one_cut_each(problems: list[Instance], rows: list[list[Attempt]], rng: random.Random, each: int) -> list[Cut]:
    """A random cut of each of the first `each` attempts of every problem."""
    pools = [cuts_of(problems, attempt) for row in rows for attempt in row[:each]]
    return [rng.choice(pool) for pool in pools if pool]


def judge_figures(engine: Engine, problems: list[Instance], rows: list[list[Attempt]], count: int) -> dict[str, object]:
    """Judgements of undecided states: two or more numbers left and not yet called dead, half of them hopeless."""
    rng = random.Random(2)
    pool = [c for row in rows for a in row[:16] for c in cuts_of(problems, a) if len(c.state) > 1 and c.last != "dead"]
    rng.shuffle(pool)
    unique = list({(c.problem, c.text): c for c in pool}.values())
    labelled = [(c, can_reach(c.state, problems[c.problem].target)) for c in unique]
    chosen = [x for x in labelled if x[1]][: count // 2] + [x for x in labelled if not x[1]][: count // 2]
    chances = engine.chance_of_yes([c.then(problems[c.problem], JUDGE_CUE) for c, _ in chosen])
    labels = [label for _, label in chosen]
    by_size = {
        f"auroc_{size}_left": round(
            auroc(
                [p for p, (c, _) in zip(chances, chosen, strict=True) if len(c.state) == size],
                [label for c, label in chosen if len(c.state) == size],
            ),
            4,
        )
        for size in (2, 3)
    }
    hits = [(p > 0.5) == label for p, label in zip(chances, labels, strict=True)]
    return {"states": len(chosen), "accuracy": share(hits), "auroc": round(auroc(chances, labels), 4), **by_size}


def stop_figures(engine: Engine, problems: list[Instance], rows: list[list[Attempt]]) -> dict[str, object]:
    """Forced answers, greedy, by whether the present path still leads to the target."""
    cuts = one_cut_each(problems, rows, random.Random(3), 2)
    out = engine.sample([c.then(problems[c.problem], STOP_CUE) for c in cuts], temperature=0.0)
    hits = [
        is_right(problems[c.problem], row[0].text.removesuffix("</s>").strip())
        for c, row in zip(cuts, out, strict=True)
    ]
    open_ = [can_reach(c.state, problems[c.problem].target) for c in cuts]
    return {
        "cuts": len(cuts),
        "accuracy": share(hits),
        "accuracy_where_the_path_still_leads_there": share([h for h, o in zip(hits, open_, strict=True) if o]),
        "accuracy_where_it_does_not": share([h for h, o in zip(hits, open_, strict=True) if not o]),
        "accuracy_with_two_left_and_within_reach": share(
            [h for h, o, c in zip(hits, open_, cuts, strict=True) if o and len(c.state) == 2]
        ),
    }


def again_figures(
    engine: Engine,
    problems: list[Instance],
    rows: list[list[Attempt]],
    starts: list[tuple[int, list[int]]],
) -> dict[str, object]:
    """Share of continuations that end right, beside that of fresh attempts at the very same problems."""
    out = engine.sample([ids for _, ids in starts], n=4)
    hits = [right(problems[i], a) for (i, _), row in zip(starts, out, strict=True) for a in row]
    fresh = [fmean(right(problems[i], a) for a in rows[i]) for i, _ in starts]
    return {
        "problems": len(starts),
        "success": share(hits),
        "fresh_attempts_at_the_same_problems": round(fmean(fresh), 4),
    }


def first_of_each(rows: list[list[Attempt]], wanted: "list[list[bool]]") -> list[Attempt]:
    """The first attempt of each problem that is wanted."""
    pairs = (zip(row, flags, strict=True) for row, flags in zip(rows, wanted, strict=True))
    found = (next((a for a, flag in pair if flag), None) for pair in pairs)
    return [attempt for attempt in found if attempt is not None]


def wait_figures(engine: Engine, problems: list[Instance], rows: list[list[Attempt]]) -> dict[str, object]:
    """Continuations after `wait` stands where an attempt gave up."""
    gave_up = "dead\n" + END_THINK + ANSWER
    flags = [
        [gave_up in a.text and replay(p, a.text).closed for a in row] for p, row in zip(problems, rows, strict=True)
    ]
    starts = []
    for attempt in first_of_each(rows, flags):
        chain = attempt.text.partition(END_THINK)[0]
        starts.append(
            (attempt.problem, [*prompt_ids(prompt_text(problems[attempt.problem])), *encode(chain + WAIT_CUE)])
        )
    return again_figures(engine, problems, rows, starts)


def revise_figures(engine: Engine, problems: list[Instance], rows: list[list[Attempt]]) -> dict[str, object]:
    """Second turns after a wrong answer."""
    wrong = ("wrong value", "wrong numbers", "malformed answer")
    flags = [[ending(p, a) in wrong for a in row] for p, row in zip(problems, rows, strict=True)]
    turn = [TOKEN_IDS["<|user|>"], *encode(REVISE_CUE), END, TOKEN_IDS["<|assistant|>"]]
    starts = [
        (a.problem, [*prompt_ids(prompt_text(problems[a.problem])), *a.ids, *turn]) for a in first_of_each(rows, flags)
    ]
    return again_figures(engine, problems, rows, starts)


# --- the whole


def evaluate(arguments: argparse.Namespace) -> dict[str, object]:
    """Every figure of a model."""
    problems = list(frozen(Split(arguments.split))[: arguments.problems])
    prompts = [prompt_ids(prompt_text(problem)) for problem in problems]
    engine = Engine(arguments.model, arguments.dtype, arguments.seed)
    began = time.monotonic()
    rows = engine.sample(prompts, n=arguments.attempts)
    seconds = time.monotonic() - began
    tokens = sum(len(a.ids) for row in rows for a in row)
    greedy = engine.sample(prompts, temperature=0.0)
    for attempt in rows[0][:3]:
        print(f"{prompt_text(problems[0])}\n{attempt.text}\n")
    return {
        "model_sha256": hashlib.sha256((arguments.model / "model.safetensors").read_bytes()).hexdigest(),
        "split": arguments.split,
        "problems": len(problems),
        "attempts": arguments.attempts,
        "temperature": 1.0,
        "max_tokens": MAX_TOKENS,
        "dtype": arguments.dtype,
        "tokens_per_second": round(tokens / seconds),
        **plain_figures(problems, rows),
        "greedy_accuracy": with_interval([float(right(p, row[0])) for p, row in zip(problems, greedy, strict=True)]),
        "greedy_tokens_mean": round(fmean(len(row[0].ids) for row in greedy), 1),
        "judge": judge_figures(engine, problems, rows, arguments.judgements),
        "stop": stop_figures(engine, problems, rows),
        "wait": wait_figures(engine, problems, rows),
        "revise": revise_figures(engine, problems, rows),
    }


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--out", type=Path, help="file for the figures; printed in any case")
    parser.add_argument("--split", choices=("tune", "gate", "report"), default="tune")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--attempts", type=int, default=64)
    parser.add_argument("--judgements", type=int, default=1000)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "1")
    arguments = parse()
    figures = json.dumps(evaluate(arguments), indent=2) + "\n"
    print(figures)
    if arguments.out:
        arguments.out.write_text(figures, encoding="utf-8")
