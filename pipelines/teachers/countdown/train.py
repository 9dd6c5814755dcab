"""Train the Countdown teacher from scratch: a small Llama over search traces, on the CPU.

    python pipelines/teachers/countdown/train.py --out DIR --size base --seed 0 --tokens 20000000 --threads 2

Examples are made on the fly by a second process, from the train split alone (asserted for each one). The folder
holds a complete model from the first checkpoint on, each written beside the old one and renamed into place. There
is no resume. See language.py for what the model reads and writes, and evaluate.py for its figures.
"""

import argparse
import itertools
import math
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from factory.sources.countdown import Instance, Split, frozen, frozen_keys, instances, prompt_text  # noqa: E402
from language import (  # noqa: E402
    CONTEXT,
    END,
    JUDGE_CUE,
    PAD,
    REVISE_CUE,
    START,
    STOP_CUE,
    VOCABULARY,
    WAIT_CUE,
    answer_in,
    build_tokenizer,
    is_right,
    prompt_ids,
    save_tokenizer,
)
from traces import Example, make_example  # noqa: E402

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

CUES = {"wait": WAIT_CUE, "stop": STOP_CUE, "judge": JUDGE_CUE, "revise": REVISE_CUE}
"""What a search may inject; masked from the loss wherever the model reads it."""
SIZES = {
    "small": {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 2},
    "base": {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4},
    "large": {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 8},
}
POOL = 1024
"""Examples sorted by length together, so that a batch holds little padding."""
BATCHES_AHEAD = 64
"""Batches that the maker of examples may be ahead by."""
WARMUP = 0.02
"""Share of the tokens over which the learning rate rises."""
DECAY = 0.3
"""Share of the tokens, at the end, over which the learning rate falls in a line to a twentieth."""

Batch = tuple["torch.Tensor", "torch.Tensor"]
Rows = list[tuple[list[int], list[float]]]


def examples(seed: int) -> Iterator[Example]:
    """Endless examples from the train split, each of an instance not seen before."""
    rng, forbidden = random.Random(seed), frozen_keys()
    for instance in instances(Split.TRAIN, sys.maxsize, seed):
        assert instance.key not in forbidden, f"frozen instance in training: {instance.key}"
        yield make_example(rng, instance)


def batches(seed: int, batch_tokens: int) -> Iterator[Rows]:
    """Rows of about equal length, at most `batch_tokens` with their padding, in random order within a pool."""
    rng, source = random.Random(seed), examples(seed)
    while True:
        pool = sorted(itertools.islice(source, POOL), key=lambda e: len(e.ids))
        cut: list[Rows] = [[]]
        for example in pool:
            if len(example.ids) * (len(cut[-1]) + 1) > batch_tokens:
                cut.append([])
            cut[-1].append((example.ids, example.weights))
        rng.shuffle(cut)
        yield from cut


def feed(queue: "Queue[Rows]", seed: int, batch_tokens: int) -> None:
    """Body of the process that makes the examples."""
    for rows in batches(seed, batch_tokens):
        queue.put(rows)


def collate(rows: Rows) -> Batch:
    """Right-padded ids and weights, in multiples of eight columns. Causal attention needs no mask for right padding."""
    import torch

    width = min(CONTEXT, math.ceil(max(len(ids) for ids, _ in rows) / 8) * 8)
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row, _ in rows])
    weights = torch.tensor([row + [0.0] * (width - len(row)) for _, row in rows])
    return ids, weights


def new_model(size: str) -> "LlamaForCausalLM":
    """A model with random weights (from torch's seed)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        num_hidden_layers=4,
        num_key_value_heads=SIZES[size]["num_attention_heads"],
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        initializer_range=0.02 if size == "large" else 0.04,
        **SIZES[size],
    )
    model = LlamaForCausalLM(config)
    model.generation_config.update(do_sample=True, temperature=1.0, pad_token_id=PAD)
    return model


def loss_of(model: "LlamaForCausalLM", batch: Batch) -> "torch.Tensor":
    """Mean loss over the tokens the model has to produce, weighted."""
    from torch.nn.functional import cross_entropy

    ids, weights = batch
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    wanted = weights[:, 1:].flatten()
    return (losses * wanted).sum() / wanted.sum().clamp(min=1.0)


def rate_at(done: float, peak: float) -> float:
    """Learning rate at a share of the tokens: a short rise, a plateau, a fall in a line."""
    return peak * min(done / WARMUP, 1.0, max((1.0 - done) / DECAY, 0.05))


def optimizer_for(model: "LlamaForCausalLM", peak: float) -> "torch.optim.AdamW":
    """AdamW, with weight decay on matrices alone."""
    import torch

    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))


def greedy_completions(model: "LlamaForCausalLM", problems: tuple[Instance, ...]) -> list[str]:
    """Greedy completions; prompts of four numbers are all of one length, so they need no padding."""
    import torch

    tokenizer = build_tokenizer()
    prompts = torch.tensor([prompt_ids(prompt_text(problem)) for problem in problems])
    model.eval()
    with torch.no_grad():
        out = model.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=256,
            do_sample=False,
            temperature=None,
        )
    model.train()
    return [tokenizer.decode(row).replace("<pad>", "") for row in out[:, prompts.shape[1] :]]


def greedy_accuracy(model: "LlamaForCausalLM") -> float:
    """Share of 100 tune problems answered right."""
    problems = frozen(Split.TUNE)[:100]
    answers = map(answer_in, greedy_completions(model, problems))
    return sum(is_right(p, a) for p, a in zip(problems, answers, strict=True) if a is not None) / len(problems)


def save(model: "LlamaForCausalLM", folder: Path) -> None:
    """Write the model file by file, each renamed into place, so that a reader never sees half of one."""
    fresh = folder / "checkpoint.tmp"
    model.save_pretrained(str(fresh))
    save_tokenizer(fresh)
    for file in sorted(fresh.iterdir()):
        file.replace(folder / file.name)
    fresh.rmdir()


def train(arguments: argparse.Namespace) -> None:
    """The loop: batches until the tokens are spent, with a log line, a checkpoint and a greedy score on the way."""
    import torch

    context = multiprocessing.get_context("spawn")
    queue: Queue[Rows] = context.Queue(BATCHES_AHEAD)  # type: ignore[assignment]
    maker = context.Process(target=feed, args=(queue, arguments.seed, arguments.batch_tokens), daemon=True)
    maker.start()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    model = new_model(arguments.size)
    optimizer = optimizer_for(model, arguments.rate)
    options = {name: option for name, option in vars(arguments).items() if name != "out"}
    print(f"{options} parameters={model.num_parameters()}", flush=True)
    began = saved = time.monotonic()
    seen, recent, logged = 0, 0.0, 0
    for step in itertools.count(1):
        ids, weights = collate(queue.get())
        rate = rate_at(seen / arguments.tokens, arguments.rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(model, (ids, weights))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += int((ids != PAD).sum())
        recent, logged = recent + loss.item(), logged + 1
        over = seen >= arguments.tokens
        if step % arguments.log_every == 0 or over:
            elapsed = time.monotonic() - began
            speed = f"seconds={elapsed:.0f} tokens/s={seen / elapsed:.0f}"
            print(f"{step=} tokens={seen} loss={recent / logged:.4f} {rate=:.2e} {speed}", flush=True)
            recent, logged = 0.0, 0
        if time.monotonic() - saved > arguments.save_seconds or over:
            save(model, arguments.out)
            print(f"{step=} saved, greedy accuracy on 100 tune problems {greedy_accuracy(model):.2f}", flush=True)
            saved = time.monotonic()
        if over:
            break
    maker.terminate()


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the examples")
    parser.add_argument("--tokens", type=int, required=True, help="tokens to train on, padding not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens in a batch, padding counted")
    parser.add_argument("--log-every", type=int, default=100, help="steps between two lines of the log")
    parser.add_argument("--save-seconds", type=float, default=180.0, help="seconds between two checkpoints")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(arguments)
