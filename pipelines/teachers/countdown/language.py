"""The teacher's language: its cues, its vocabulary, its chat template, and an exact replay of what it writes.

A tokenizer that is lossless and concatenative is the invariant here: every token carries its own leading space,
so that decode(a) + decode(b) == decode(a + b) for any token ids, and a search may cut a transcript at any token.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from factory.sources.countdown import LIMIT, Instance, State, apply

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

THINK, END_THINK, END_TURN = "<think>\n", "</think>\n", "</s>"
ANSWER = "answer "
WAIT_CUE = "wait\n"
"""Stands after `dead` where the model could give up: it goes on with `back`."""
STOP_CUE = "stop\n</think>\nanswer"
"""Put at a line boundary of a chain: an expression must follow at once."""
JUDGE_CUE = "judge"
"""Put at a line boundary of a chain: ` yes` or ` no` follows, is the target within reach of the present state?"""
REVISE_CUE = "that is wrong try again"
"""The user's turn after a wrong answer."""

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>")
LINE_WORDS = ("try", "back", "dead", "done", "wait", "stop", "judge", "answer", "<think>", "</think>", "make", "that")
INNER_WORDS = ("left", "from", "yes", "no", "is", "wrong", "try", "again", "+", "-", "*", "/", "=", "(", ")")
VOCABULARY = (
    *SPECIAL,
    "\n",
    *LINE_WORDS,
    *(f" {word}" for word in INNER_WORDS),
    *(f" {number}" for number in range(LIMIT + 1)),
)
TOKEN_IDS = {token: index for index, token in enumerate(VOCABULARY)}
PAD, START, END, UNKNOWN = (TOKEN_IDS[token] for token in SPECIAL[:4])
CONTEXT = 512
"""Longest sequence, prompt included, in tokens."""

WORDS = r"\n| ?[^ \n]+"
TEMPLATE = (
    "<s>{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{% if message['content'] %}<|system|>{{ message['content'] }}</s>{% endif %}"
    "{% elif message['role'] == 'user' %}<|user|>{{ message['content'] }}</s>"
    "{% elif message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}</s>{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def encode(text: str) -> list[int]:
    """Token ids of a text without special tokens, as the saved tokenizer gives them (much faster for short texts)."""
    return [TOKEN_IDS.get(word, UNKNOWN) for word in re.findall(WORDS, text)]


def prompt_ids(prompt: str) -> list[int]:
    """A user's first turn and the opening of the assistant's, as the chat template renders them."""
    return [START, TOKEN_IDS["<|user|>"], *encode(prompt), END, TOKEN_IDS["<|assistant|>"]]


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """The word-level tokenizer with its chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(TOKEN_IDS, unk_token="<unk>"))  # noqa: S106 - a token of text
    core.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        additional_special_tokens=list(SPECIAL[4:]),
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="right",
        chat_template=TEMPLATE,
    )


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer files and the chat template."""
    build_tokenizer().save_pretrained(str(folder))


# --- expressions


def value(expression: str) -> Fraction | None:
    """Exact value of an expression, or None if it is not one (or divides by zero)."""
    words = expression.split()
    try:
        result, rest = _sum(words)
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return None if rest else result


def _sum(words: list[str]) -> tuple[Fraction, list[str]]:
    result, rest = _product(words)
    while rest and rest[0] in "+-":
        other, after = _product(rest[1:])
        result, rest = (result + other if rest[0] == "+" else result - other), after
    return result, rest


def _product(words: list[str]) -> tuple[Fraction, list[str]]:
    result, rest = _atom(words)
    while rest and rest[0] in "*/":
        other, after = _atom(rest[1:])
        result, rest = (result * other if rest[0] == "*" else result / other), after
    return result, rest


def _atom(words: list[str]) -> tuple[Fraction, list[str]]:
    if words[0] != "(":
        if not words[0].isdecimal():
            raise ValueError(words[0])
        return Fraction(int(words[0])), words[1:]
    result, rest = _sum(words[1:])
    if rest[0] != ")":
        raise ValueError(rest[0])
    return result, rest[1:]


def is_right(instance: Instance, expression: str | None) -> bool:
    """Whether an expression uses each given number exactly once and equals the target; None, no answer, does not."""
    if expression is None:
        return False
    used = tuple(sorted(int(word) for word in expression.split() if word.isdecimal()))
    return used == instance.numbers and value(expression) == instance.target


def answer_in(completion: str) -> str | None:
    """The expression given as an answer (None: the completion ends without one). The end of turn is not part of it."""
    _, found, answer = completion.rpartition(f"{END_THINK}{ANSWER}")
    return answer.removesuffix(END_TURN) if found else None


# --- replay


@dataclass(frozen=True, slots=True)
class Replay:
    """What the chain of a completion did, line by line."""

    fault: str | None
    """First line that breaks the rules, or None if the whole chain is legal."""
    states: tuple[State, ...]
    """State after each legal line; states[0] is after the line `<think>`."""
    closed: bool
    """Whether the chain reached `</think>`."""


TRY = re.compile(r"try (\d+) ([-+*/]) (\d+) = (\d+) left( \d+)+")


def replay(instance: Instance, completion: str) -> Replay:
    """Check every line of a chain against the rules of the language, up to `</think>` or the first fault."""
    lines = completion.split("\n")
    if lines[0] != "<think>":
        return Replay(lines[0], (), False)
    path, states, previous = [instance.numbers], [instance.numbers], "<think>"
    for line in lines[1:]:
        if line == "</think>":
            closing = previous in ("dead", "done") or previous == "stop"
            return Replay(None if closing else line, tuple(states), closing)
        if not _step(instance, path, previous, line):
            return Replay(line, tuple(states), False)
        states.append(path[-1])
        previous = line
    return Replay(lines[-1], tuple(states), False)


def _step(instance: Instance, path: list[State], previous: str, line: str) -> bool:
    """Follow one line by changing the path, or return False where the line is illegal."""
    if line == "stop":
        return True
    if line == "wait":
        return previous == "dead"
    if line.startswith("back "):
        return previous in ("dead", "wait") and _back(path, line)
    if previous in ("dead", "done", "wait", "stop"):
        return False
    if line == "dead":
        return path[-1] != (instance.target,)
    if line == "done":
        return path[-1] == (instance.target,)
    return _try(path, line)


def _back(path: list[State], line: str) -> bool:
    words = line.split(" ")[1:]
    wanted = tuple(int(word) for word in words if word.isdecimal())
    if " ".join(map(str, wanted)) != " ".join(words) or wanted not in path[:-1]:
        return False
    del path[path.index(wanted) + 1 :]
    return True


def _try(path: list[State], line: str) -> bool:
    if not TRY.fullmatch(line):
        return False
    words = line.split(" ")
    left, operator, right, result = int(words[1]), words[2], int(words[3]), int(words[5])
    rest = list(path[-1])
    for number in (left, right):
        if number not in rest:
            return False
        rest.remove(number)
    after = tuple(sorted([*rest, result]))
    if apply(left, operator, right) != result or " ".join(words[7:]) != " ".join(map(str, after)):
        return False
    path.append(after)
    return True
