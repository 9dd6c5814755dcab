"""Train the Countdown teacher from scratch: a small Llama over search traces, on the CPU.

    python pipelines/teachers/countdown/train.py --out DIR --size base --seed 0 --tokens 20000000 --threads 2

Each thread is a process of its own with a part of every batch, and gradients are averaged once a step: on a busy
machine that is several times faster than threads that wait for each other in every operation. Each makes its own
examples on the fly, from the train split alone (asserted for each one). The folder holds a complete model from the
first checkpoint on, each written beside the old one and renamed into place. There is no resume, but `--start` begins
with the weights of another run. See language.py for what the model reads and writes, and evaluate.py for its figures.
"""

import argparse
import itertools
import math
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from factory.sources.countdown import Instance, Split, frozen, frozen_keys, instances, prompt_text
from pipelines.teachers.countdown.language import (
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
from pipelines.teachers.countdown.traces import POLICIES, Example, Policy, make_example

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
WARMUP = 0.02
"""Share of the tokens over which the learning rate rises."""

Batch = tuple["torch.Tensor", "torch.Tensor"]
Rows = list[tuple[list[int], list[float]]]


def examples(seed: int, policy: Policy, rank: int, workers: int) -> Iterator[Example]:
    """A worker's endless share of the examples of a seed, each of an instance that no worker has seen before."""
    rng, forbidden = random.Random(f"{seed} {rank}"), frozen_keys()
    for instance in itertools.islice(instances(Split.TRAIN, sys.maxsize, seed), rank, None, workers):
        assert instance.key not in forbidden, f"frozen instance in training: {instance.key}"  # noqa: S101 - a promise
        yield make_example(rng, instance, policy)


def batches(source: Iterator[Example], rng: random.Random, batch_tokens: int) -> Iterator[Rows]:
    """Rows of about equal length, at most `batch_tokens` with their padding, in random order within a pool."""
    while True:
        pool = sorted(itertools.islice(source, POOL), key=lambda e: len(e.ids))
        cut: list[Rows] = [[]]
        for example in pool:
            if len(example.ids) * (len(cut[-1]) + 1) > batch_tokens:
                cut.append([])
            cut[-1].append((example.ids, example.weights))
        rng.shuffle(cut)
        yield from cut


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


def rate_at(done: float, peak: float, decay: float) -> float:
    """Learning rate at a share of the tokens: a short rise, a plateau, a fall in a line to a fiftieth."""
    return peak * min(done / WARMUP, 1.0, max((1.0 - done) / decay, 0.02))


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


def backward(model: "LlamaForCausalLM", batch: Batch, workers: int) -> "torch.Tensor":
    """Gradients averaged over the workers; gives the mean loss and the count of tokens read, summed over them."""
    import torch
    from torch.distributed import all_reduce

    loss = loss_of(model, batch)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    report = torch.tensor([loss.item(), float((batch[0] != PAD).sum()) * workers])
    flat = torch.cat([report, *(g.flatten() for g in gradients)])
    all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, flat[2:].split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return flat[:2]


def begin(arguments: argparse.Namespace, rank: int, meeting: str) -> "LlamaForCausalLM":
    """Join the other workers and make the model, the same in each."""
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=arguments.threads)
    torch.manual_seed(arguments.seed)
    model = new_model(arguments.size)
    if arguments.start is not None:
        model.load_state_dict(type(model).from_pretrained(str(arguments.start)).state_dict())
    if rank == 0:
        options = {name: option for name, option in vars(arguments).items() if name not in ("out", "start")}
        print(f"{options} parameters={model.num_parameters()}", flush=True)
    return model


def work(rank: int, arguments: argparse.Namespace, meeting: str) -> None:
    """A worker: batches until the tokens are spent; the first one logs, saves and scores on the way."""
    import torch

    model = begin(arguments, rank, meeting)
    optimizer = optimizer_for(model, arguments.rate)
    source = examples(arguments.seed, POLICIES[arguments.searches], rank, arguments.threads)
    share = arguments.batch_tokens // arguments.threads
    began = saved = time.monotonic()
    seen, losses = 0, []
    for step, rows in enumerate(batches(source, random.Random(rank), share), 1):
        rate = rate_at(seen / arguments.tokens, arguments.rate, arguments.decay)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, read = backward(model, collate(rows), arguments.threads).tolist()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen, over = seen + round(read), seen + round(read) >= arguments.tokens
        losses.append(loss)
        if rank == 0 and (over or step % arguments.log_every == 0):
            elapsed = time.monotonic() - began
            speed = f"seconds={elapsed:.0f} tokens/s={seen / elapsed:.0f}"
            print(f"{step=} tokens={seen} loss={fmean(losses):.4f} {rate=:.2e} {speed}", flush=True)
            losses.clear()
        if rank == 0 and (over or time.monotonic() - saved > arguments.save_seconds):
            save(model, arguments.out)
            print(f"{step=} saved, greedy accuracy on 100 tune problems {greedy_accuracy(model):.2f}", flush=True)
            saved = time.monotonic()
        if over:
            break
    torch.distributed.barrier()


def train(arguments: argparse.Namespace) -> None:
    """Run the workers to their end."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ranks = range(arguments.threads)
        workers = [context.Process(target=work, args=(rank, arguments, f"{folder}/meeting")) for rank in ranks]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed: see above")


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and of the examples")
    parser.add_argument(
        "--searches", choices=POLICIES, default="persistent", help="policy of the searches to learn from"
    )
    parser.add_argument("--tokens", type=int, required=True, help="tokens to train on, padding not counted")
    parser.add_argument("--start", type=Path, help="folder of a model to begin with, instead of random weights")
    parser.add_argument("--threads", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--decay", type=float, default=0.4, help="share of the tokens over which the rate falls")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="most tokens in a batch, padding counted")
    parser.add_argument("--log-every", type=int, default=100, help="steps between two lines of the log")
    parser.add_argument("--save-seconds", type=float, default=180.0, help="seconds between two checkpoints")
    return parser.parse_args()


if __name__ == "__main__":
    for name in ("HF_HUB_OFFLINE", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(arguments)
