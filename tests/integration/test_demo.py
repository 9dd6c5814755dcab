"""The demo with its real teacher, smaller: from the command line to a training step, and every answer replayed.

What is asked of the teacher is only that it solves something. The replay below shares no code with the verifier or
the pruner: it knows the rules of the game and the notation of the chain.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import operator
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.killing import ROOT, START_SECONDS, Ended, Invocation, factory, holds, until

pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.timeout(600)]

DEMO = "pipelines/demo.toml"
TEACHER = ROOT / "pipelines" / "teachers" / "countdown"
COUNT = 40


@dataclass(frozen=True)
class Demo:
    """A run of the demo."""

    out: Path
    ended: Ended
    transcripts: Any
    """What `load_dataset` gives."""


def call(out: Path) -> list[str | Path]:
    return ["run", DEMO, "--out", out, "--set", f"source.count={COUNT}", "--json"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    ended = factory(*call(folder / "out"), log=folder / "log", seconds=500)
    assert ended.status == 0, ended.stderr
    found = datasets.load_dataset(str(folder / "out"), split="train", cache_dir=str(folder / "cache"))
    return Demo(folder / "out", ended, found)


def test_the_run_is_whole(demo: Demo) -> None:
    summary = json.loads(demo.ended.stdout)
    assert (summary["ended"], summary["problems"], summary["errors"]) == ("finished", COUNT, 0)
    assert summary["solved"] > 0
    assert summary["kept"]["full"] >= summary["kept"]["pruned"] > 0
    assert Counter(demo.transcripts["variant"]) == summary["kept"]
    holds(demo.out)
    checked = factory("check", demo.out, log=demo.out.parent / "log")
    assert checked.status == 0, checked.stdout


def test_every_pruned_transcript_reaches_its_target(demo: Demo) -> None:
    pruned = [row for row in demo.transcripts.to_list() if row["variant"] == "pruned"]
    assert pruned
    for row in pruned:
        [question], [answer] = row["prompt"], row["completion"]
        replay(question["content"], answer["content"])


OPERATIONS: dict[str, Callable[[int, int], Fraction]] = {
    "+": lambda a, b: Fraction(a + b),
    "-": lambda a, b: Fraction(a - b),
    "*": lambda a, b: Fraction(a * b),
    "/": Fraction,
}


def replay(question: str, text: str) -> None:
    """Play a straight chain from the numbers given to the target, and work the answer out."""
    asked = re.fullmatch(r"make (\d+) from ((?:\d+ ?)+)", question)
    assert asked is not None, question
    target, numbers = int(asked[1]), [int(word) for word in asked[2].split()]
    *chain, answer = text.split("\n")
    assert chain[0] == "<think>", text
    assert chain[-2:] == ["done", "</think>"], text
    state = Counter(numbers)
    for line in chain[1:-2]:
        step = re.fullmatch(r"try (\d+) ([-+*/]) (\d+) = (\d+) left ((?:\d+ ?)+)", line)
        assert step is not None, f"{line!r} is no step of a straight chain:\n{text}"
        left, right, result = int(step[1]), int(step[3]), int(step[4])
        used = Counter([left, right])
        assert used <= state, line
        assert OPERATIONS[step[2]](left, right) == result, line
        state = state - used + Counter([result])
        assert state == Counter(map(int, step[5].split())), line
    assert state == Counter([target]), text
    expression = answer.removeprefix("answer ")
    value, leaves = worked_out(ast.parse(expression, mode="eval").body)
    assert value == target, text
    assert leaves == Counter(numbers), text


SIGNS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def worked_out(node: ast.expr) -> tuple[Fraction, Counter[int]]:
    """The value of an expression and the numbers in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value), Counter([node.value])
    assert isinstance(node, ast.BinOp), ast.dump(node)
    (left, some), (right, others) = worked_out(node.left), worked_out(node.right)
    return SIGNS[type(node.op)](left, right), some + others


def test_the_replay_refuses_what_is_wrong() -> None:
    right = "<think>\ntry 3 + 7 = 10 left 2 10\ntry 2 * 10 = 20 left 20\ndone\n</think>\nanswer 2 * ( 3 + 7 )"
    replay("make 20 from 2 3 7", right)
    for old, new in (
        ("= 10", "= 11"),
        ("left 20", "left 21"),
        ("done\n", "dead\n"),
        ("2 * ( 3", "3 * ( 3"),
        ("try 2 * 10", "back 2 3 7\ntry 2 * 10"),
    ):
        with pytest.raises(AssertionError):
            replay("make 20 from 2 3 7", right.replace(old, new))
    with pytest.raises(AssertionError):
        replay("make 21 from 2 3 7", right)


@pytest.mark.filterwarnings("default")  # of libraries that the factory itself does not use
def test_a_trainer_takes_the_dataset_as_it_is(demo: Demo, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=4,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model=str(TEACHER), args=config, train_dataset=demo.transcripts)

    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        trained = [label for label in labels if label != -100]
        assert trained, "every label is masked"
        assert [id for id, label in zip(ids, labels, strict=True) if label != -100] == trained
        prompt, answer = parts(trainer.processing_class, demo, ids)
        masked = list(itertools.takewhile(lambda label: label == -100, labels))
        assert ids[: len(masked)] == prompt
        assert trained[: len(answer)] == answer

    loss = trainer.train().training_loss
    assert math.isfinite(loss)
    assert loss > 0


def parts(tokenizer: Any, demo: Demo, ids: list[int]) -> tuple[list[int], list[int]]:
    """The rendered prompt and the answer of the transcript that a row of a batch was made from."""
    for row in demo.transcripts:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        answer = tokenizer(row["completion"][0]["content"], add_special_tokens=False)["input_ids"]
        if ids[: len(prompt) + len(answer)] == prompt + answer:
            return prompt, answer
    raise AssertionError("a row of the batch is no transcript")


def test_the_same_command_does_nothing_once_it_is_done(demo: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.out.rglob("*") if path.is_file()}
    again = factory(*call(demo.out), log=demo.out.parent / "again")
    assert again.status == 0, again.stderr
    assert json.loads(again.stdout)["did_nothing"] is True
    assert {path: path.stat().st_mtime_ns for path in demo.out.rglob("*") if path.is_file()} == before
    assert again.seconds < demo.ended.seconds / 2


def test_a_signal_while_the_engine_starts(tmp_path: Path) -> None:
    """Nobody waits for a model to load that nobody wants any more."""
    with Invocation(call(tmp_path / "out"), tmp_path / "log") as run:
        until(lambda: run.find("EngineCore") or run.status is not None, START_SECONDS, f"an engine: {run.tail()}")
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(60) == 130, run.tail()
        run.gone()
    assert "Traceback" not in run.stderr
    holds(tmp_path / "out")
