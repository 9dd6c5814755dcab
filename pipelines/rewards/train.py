"""Train a process reward model on the step values of search trees, on CPUs or a GPU.

    factory run pipelines/rewards/countdown/trees.toml --out runs/trees
    python pipelines/rewards/train.py runs/trees --model pipelines/teachers/countdown --step '\\n' --out MODEL

Every step end on the way to a judged leaf is worth the share of right leaves below it: 0 or 1 within an attempt that
nothing branches from, and between them where a tree branches (Monte-Carlo values, as in Wang et al. 2024,
"Math-Shepherd", section 3.3). A search that spends where it hopes for something makes its shares lean upward: trees
without an early stop and without a scorer have those of the teacher itself.

The model is a classifier of Transformers with one class, which starts from the weights of `--model` and reads a problem
by the chat template of that model's tokenizer and the attempt behind it. What it says at a token is how likely it holds
the attempt to end right; the loss is the binary cross-entropy at the step ends. vLLM serves the folder with
`runner = "pooling"`, and `[scorer] kind = "reward"` asks it.

A tenth of the problems, chosen by their ids, is kept out of training; figures on them, the command and the runs are in
`reward.json` beside the weights. Killed, the same line goes on from the last checkpoint in OUT. `torchrun` in place of
`python` trains in several processes.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from factory.ids import digest
from factory.render import TemplateRenderer
from factory.runs import open_run
from factory.stats import auroc
from factory.types import NodeState, Outcome, Tree

NOWHERE = -1.0
"""Label of a token that is no step end."""
HELD_OUT = 10
"""One problem of so many is kept out of training."""


def values(tree: Tree) -> dict[int, float]:
    """Of each node, by its id: the share of right leaves among the judged ones below it, or its own verdict."""
    right: dict[int, list[bool]] = {}
    for leaf in tree.leaves():
        if leaf.outcome in (Outcome.PASS, Outcome.FAIL) or leaf.state is NodeState.TRUNCATED:
            for node in tree.path(leaf.id):
                right.setdefault(node.id, []).append(leaf.outcome is Outcome.PASS)
    return {id: sum(found) / len(found) for id, found in right.items()}


def ends(tree: Tree, step: str) -> Iterator[tuple[str, dict[int, float]]]:
    """The text of each judged attempt, and what it is worth up to some of its characters: where a step ends."""
    worth = values(tree)
    for leaf in tree.leaves():
        text = ""
        found: dict[int, float] = {}
        for node in tree.path(leaf.id):
            start, text = len(text), text + node.text
            if node.id in worth:
                found |= dict.fromkeys((*_ends_within(text, start, step), len(text)), worth[node.id])
        if found:
            yield text, found


def _ends_within(text: str, start: int, step: str) -> Iterator[int]:
    """Where a step ends in a text, from a place on."""
    place = text.find(step, start)
    while place >= 0:
        yield place + len(step)
        place = text.find(step, place + len(step))


class Reader:
    """Trees become rows: ids of a problem and an attempt at it, and a label for each of them."""

    def __init__(self, model: str, step: str, context: int) -> None:
        from transformers import AutoTokenizer

        self._renderer = TemplateRenderer(model)
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._step = step
        self._context = context

    def rows(self, trees: Iterable[Tree]) -> Iterator[dict[str, Any]]:
        for tree in trees:
            prompt = list(self._renderer.render(tree.problem.messages).token_ids or ())
            for text, worth in ends(tree, self._step):
                said = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
                labels = [worth.get(end, NOWHERE) for _, end in said["offset_mapping"]]
                yield {
                    "input_ids": (prompt + said["input_ids"])[: self._context],
                    "labels": ([NOWHERE] * len(prompt) + labels)[: self._context],
                    "held_out": int(digest(tree.problem.id), 16) % HELD_OUT == 0,
                }


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Right-padded ids, mask and labels."""
    width = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, filler: float) -> torch.Tensor:
        return torch.tensor([list(row[key]) + [filler] * (width - len(row[key])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": padded("input_ids", 0), "attention_mask": mask, "labels": padded("labels", NOWHERE)}


class StepEnds(torch.nn.Module):  # type: ignore[misc]  # torch is read as Any
    """A classifier that is read at every step end of a row at once, and not at the last token alone: which is the same
    for a causal model."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Labels and logits of all step ends, both of shape (ends,), and their loss."""
        body = self.classifier.base_model(input_ids=input_ids, attention_mask=attention_mask)
        at = labels != NOWHERE
        logits = self.classifier.score(body.last_hidden_state[at]).squeeze(-1).float()
        return {"loss": binary_cross_entropy_with_logits(logits, labels[at]), "logits": logits, "labels": labels[at]}


def figures(model: StepEnds, rows: Dataset, batch: int) -> dict[str, Any]:
    """How a model does on rows that it was not trained on."""
    told: list[float] = []
    worth: list[float] = []
    device = model.classifier.device
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            picked = collate(list(rows.select(range(start, min(start + batch, len(rows))))))
            found = model(**{name: one.to(device) for name, one in picked.items()})
            told += torch.sigmoid(found["logits"]).tolist()
            worth += found["labels"].tolist()
    sure = [(value, right > 0.5) for value, right in zip(told, worth, strict=True) if right in (0.0, 1.0)]
    return {
        "step_ends": len(told),
        "brier": float(np.mean((np.array(told) - np.array(worth)) ** 2)),
        "brier_of_their_mean": float(np.var(worth)),
        "auroc": auroc([value for value, _ in sure], [right for _, right in sure]),
    }


def train(arguments: argparse.Namespace) -> None:
    """Read the runs, train, and write the model with its figures."""
    disable_progress_bars()
    checkpoints = arguments.out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    classifier = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=1)
    classifier.config.problem_type = "multi_label_classification"  # what it says is a chance: behind a sigmoid
    reader = Reader(arguments.model, arguments.step, classifier.config.max_position_embeddings)
    trees = (tree for url in arguments.runs for tree in open_run(url).rollouts())
    rows = Dataset.from_list(list(reader.rows(trees)))
    print(f"{len(rows)} attempts, {sum(map(len, rows['input_ids']))} tokens", flush=True)
    held_out = rows.filter(lambda row: row["held_out"])
    options = TrainingArguments(
        str(checkpoints),
        num_train_epochs=arguments.epochs,
        learning_rate=arguments.rate,
        per_device_train_batch_size=arguments.batch,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        weight_decay=0.01,
        logging_steps=arguments.log_every,
        save_steps=arguments.save_every,
        save_total_limit=1,
        seed=arguments.seed,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    training = rows.filter(lambda row: not row["held_out"])
    model = StepEnds(classifier)
    trainer = Trainer(model, options, data_collator=collate, train_dataset=training)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(checkpoints)))
    if trainer.is_world_process_zero():
        write(arguments, classifier, figures(model, held_out, arguments.batch), len(training))


def write(arguments: argparse.Namespace, classifier: Any, found: dict[str, Any], attempts: int) -> None:
    """The model folder, and what is known of it."""
    from transformers import AutoTokenizer

    classifier.save_pretrained(str(arguments.out))
    AutoTokenizer.from_pretrained(arguments.model).save_pretrained(str(arguments.out))
    told = {name: getattr(arguments, name) for name in ("runs", "model", "step", "epochs", "rate", "batch", "seed")}
    table = {"command": told, "attempts": attempts, "held_out": found}
    (arguments.out / "reward.json").write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(found), flush=True)


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run folders or URLs whose trees are learned from")
    parser.add_argument("--model", required=True, help="model to begin with: a folder or a hub name")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument("--step", default="\n\n", help=r"text that ends a step; \n stands for a line's end")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=1e-5, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=32, help="attempts of a batch, in each process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100, help="steps between two lines of the log")
    parser.add_argument("--save-every", type=int, default=500, help="steps between two checkpoints")
    arguments = parser.parse_args()
    arguments.step = arguments.step.replace("\\n", "\n")
    return arguments


if __name__ == "__main__":
    train(parse())
