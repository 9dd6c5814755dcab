"""The bundled teacher's tokenizer and template, its replay, and the examples it was trained on."""

import random
from pathlib import Path
from typing import Any

import pytest

from factory.sources.countdown import Instance, Split, can_reach, instances, prompt_text
from pipelines.teachers.countdown import language, traces

TEACHER = Path(__file__).resolve().parents[2] / "pipelines" / "teachers" / "countdown"

INSTANCE = Instance((3, 7, 12, 25), 46)
CHAIN = """<think>
try 12 + 25 = 37 left 3 7 37
try 37 - 7 = 30 left 3 30
dead
back 3 7 12 25
try 25 - 7 = 18 left 3 12 18
try 3 * 12 = 36 left 18 36
try 18 + 36 = 54 left 54
dead
wait
back 3 12 18
"""
ENDING = """try 18 - 3 = 15 left 12 15
dead
</think>
answer ( 3 * 12 ) + ( 25 - 7 )"""
CONVERSATION = [{"role": "user", "content": "make 46 from 3 7 12 25"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The tokenizer as it is saved beside the weights."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(TEACHER))


def ids_of(tokenizer: Any, messages: list[dict[str, str]], prompt: bool = False) -> list[int]:
    """Token ids of a rendered conversation."""
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, return_dict=True)
    ids: list[int] = rendered["input_ids"]
    return ids


# --- tokenizer and template


def test_the_saved_vocabulary_is_the_one_in_the_source(tokenizer: Any) -> None:
    assert tokenizer.get_vocab() == language.TOKEN_IDS
    assert tokenizer.chat_template == language.TEMPLATE
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == ("</s>", "<pad>", 512)


def test_text_comes_back_and_nothing_is_added(tokenizer: Any) -> None:
    text = CHAIN + ENDING
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert ids == tokenizer.encode(text) == language.encode(text)
    assert language.UNKNOWN not in ids
    assert tokenizer.decode(ids) == text


def test_decoding_is_concatenative_for_any_ids(tokenizer: Any) -> None:
    rng = random.Random(0)
    for _ in range(300):
        a, b = ([rng.randrange(len(tokenizer)) for _ in range(rng.randrange(1, 12))] for _ in range(2))
        for skip in (False, True):
            first, second, whole = (tokenizer.decode(ids, skip_special_tokens=skip) for ids in (a, b, a + b))
            assert whole == first + second
        assert tokenizer.decode(a) == "".join(language.VOCABULARY[i] for i in a)


def test_the_think_marks_stay_in_the_text(tokenizer: Any) -> None:
    ids = tokenizer.encode("<think>\ndone\n</think>\nanswer 7</s>")
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>\ndone\n</think>\nanswer 7"
    assert ids[-1] == tokenizer.eos_token_id


def test_the_prompt_is_rendered_once_and_plainly(tokenizer: Any) -> None:
    rendered = tokenizer.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=True)
    assert rendered == "<s><|user|>make 46 from 3 7 12 25</s><|assistant|>"
    ids = ids_of(tokenizer, CONVERSATION, prompt=True)
    assert ids == language.prompt_ids(prompt_text(INSTANCE))
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_conversation_starts_with_its_prompt(tokenizer: Any) -> None:
    answered = [*CONVERSATION, {"role": "assistant", "content": CHAIN + ENDING}]
    again = [*answered, {"role": "user", "content": language.REVISE_CUE}]
    prompt = ids_of(tokenizer, CONVERSATION, prompt=True)
    first = ids_of(tokenizer, answered)
    second = ids_of(tokenizer, again, prompt=True)
    assert first[: len(prompt)] == prompt
    assert first[len(prompt) :] == [*language.encode(CHAIN + ENDING), tokenizer.eos_token_id]
    assert second[: len(first)] == first


def test_an_empty_system_message_is_left_out(tokenizer: Any) -> None:
    plain = ids_of(tokenizer, CONVERSATION)
    assert ids_of(tokenizer, [{"role": "system", "content": ""}, *CONVERSATION]) == plain
    assert ids_of(tokenizer, [{"role": "system", "content": "try again"}, *CONVERSATION]) != plain


def test_the_assistant_mask_covers_the_turn_and_its_end(tokenizer: Any) -> None:
    answered = [*CONVERSATION, {"role": "assistant", "content": CHAIN + ENDING}]
    rendered = tokenizer.apply_chat_template(answered, return_dict=True, return_assistant_tokens_mask=True)
    prompt = len(ids_of(tokenizer, CONVERSATION, prompt=True))
    assert rendered["assistant_masks"] == [0] * prompt + [1] * (len(rendered["input_ids"]) - prompt)


# --- replay


def test_a_legal_chain_replays_to_its_states() -> None:
    result = language.replay(INSTANCE, CHAIN + ENDING)
    assert result.fault is None
    assert result.closed
    assert result.states[:3] == ((3, 7, 12, 25), (3, 7, 37), (3, 30))
    assert result.states[-1] == (12, 15)


@pytest.mark.parametrize(
    "line",
    [
        "try 3 + 7 = 11 left 11 12 25",
        "try 3 + 8 = 11 left 11 12 25",
        "try 3 + 7 = 10 left 12 10 25",
        "try 3 - 7 = 4 left 4 12 25",
        "try 3 + 7 = 10 left 10 12",
        "try  3 + 7 = 10 left 10 12 25",
        "try 3 + 7",
        "back 3 7 12 25",
        "done",
        "wait",
        "</think>",
        "nonsense",
        "",
    ],
)
def test_an_illegal_line_is_the_fault(line: str) -> None:
    result = language.replay(INSTANCE, f"<think>\n{line}\n")
    assert result.fault == line
    assert result.states == ((3, 7, 12, 25),)
    assert not result.closed


def test_going_back_reaches_only_the_present_path() -> None:
    cut = "<think>\ntry 12 + 25 = 37 left 3 7 37\ndead\nback 3 7 12 25\ntry 3 + 7 = 10 left 10 12 25\ndead\n"
    assert language.replay(INSTANCE, cut + "back 3 7 12 25\n").fault == ""
    assert language.replay(INSTANCE, cut + "back 3 7 37\n").fault == "back 3 7 37"
    assert language.replay(INSTANCE, cut + "back 10 12 25\n").fault == "back 10 12 25"
    assert language.replay(INSTANCE, cut + "done\n").fault == "done"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("( 3 * 12 ) + ( 25 - 7 )", 54),
        ("7 - 3 - 2", 2),
        ("( 1 / 3 ) * 6", 2),
        ("7 / ( 3 - 3 )", None),
        ("( 7", None),
        ("7 )", None),
        ("7 7", None),
        ("7 + -", None),
        ("", None),
        ("x + 1", None),
        ("7 ** 2", None),
    ],
)
def test_expressions_have_exact_values(expression: str, expected: int | None) -> None:
    assert language.value(expression) == expected


def test_an_answer_is_right_only_with_each_number_once() -> None:
    small = Instance((2, 3, 4), 14)
    assert language.is_right(small, "2 + ( 3 * 4 )")
    assert not language.is_right(small, "( 3 * 4 ) + 1 + 1")
    assert not language.is_right(small, "( 4 * 4 ) - 2")
    assert language.answer_in("<think>\n</think>\nanswer 2 + ( 3 * 4 )</s>") == "2 + ( 3 * 4 )"
    assert language.answer_in("<think>\ndead\n") is None


# --- examples


def some(kind: str, count: int, policy: str = "persistent") -> list[tuple[Instance, Any]]:
    """Examples of one kind."""
    rng = random.Random(5)
    made = [(i, traces.MAKERS[kind](rng, i, traces.POLICIES[policy])) for i in instances(Split.TRAIN, count, seed=11)]
    return [(instance, example) for instance, example in made if example is not None]


def text_of(ids: list[int]) -> str:
    """Tokens joined."""
    return "".join(language.VOCABULARY[i] for i in ids)


def learned(example: Any) -> str:
    """The text that an example is trained to produce."""
    return text_of([i for i, w in zip(example.ids, example.weights, strict=True) if w])


@pytest.mark.parametrize("policy", ["wandering", "persistent"])
def test_searches_are_legal_end_as_they_should_and_often_fail(policy: str) -> None:
    solved = []
    for instance, example in some("main", 300, policy):
        completion = text_of(example.ids).partition("<|assistant|>")[2]
        answer = language.answer_in(completion)
        result = language.replay(instance, completion)
        assert result.fault is None
        assert result.closed
        assert ("\ndone\n" in completion) == language.is_right(instance, answer)
        assert learned(example) == completion.replace("\nwait\n", "\n")
        solved.append(language.is_right(instance, answer))
    assert 0.8 < sum(solved) / len(solved) < 0.95


def test_a_cue_asks_for_an_answer_that_is_right() -> None:
    for instance, example in some("stop", 100):
        before, _, answer = text_of(example.ids).rpartition(language.STOP_CUE)
        assert language.is_right(instance, answer.removesuffix("</s>").strip())
        assert language.STOP_CUE not in learned(example)
        assert before.endswith("\n")


def test_judgements_are_true_of_both_kinds_and_the_only_thing_learned() -> None:
    examples = some("judge", 400)
    for instance, example in examples:
        chain = text_of(example.ids).partition("<|assistant|>")[2].rpartition(language.JUDGE_CUE)[0]
        state = language.replay(instance, chain).states[-1]
        assert learned(example) == (" yes" if can_reach(state, instance.target) else " no")
    assert 0.5 < sum(learned(example) == " yes" for _, example in examples) / len(examples) < 0.7


def test_revisions_start_from_a_wrong_answer_and_end_right() -> None:
    examples = some("revise", 300)
    assert examples
    for instance, example in examples:
        first, _, second = text_of(example.ids).partition(f"</s><|user|>{language.REVISE_CUE}</s><|assistant|>")
        assert not language.is_right(instance, language.answer_in(first))
        assert language.is_right(instance, language.answer_in(second))
        assert learned(example) == second.replace("\nwait\n", "\n")


def test_examples_fit_the_context() -> None:
    rng = random.Random(1)
    policy = traces.POLICIES["wandering"]
    made = [traces.make_example(rng, i, policy) for i in instances(Split.TRAIN, 500, seed=2)]
    assert max(len(example.ids) for example in made) <= language.CONTEXT
    assert all(language.UNKNOWN not in example.ids for example in made)
