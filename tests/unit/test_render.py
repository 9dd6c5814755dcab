"""Messages to prompts and back: each renderer's layout, what is refused, and the split of reasoning and answer."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.engines.scripted import TURN
from factory.errors import ConfigError, SourceError
from factory.render import (
    TURN_NAMED,
    MessageRenderer,
    PlainRenderer,
    TemplateRenderer,
    split_reasoning,
    with_system,
)
from factory.types import Message

QUESTION = (Message("user", "make 46 from 3 7 12 25"),)
SYSTEM = Message("system", "be brief")

TEMPLATE = (
    "<s>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if thinking is defined and not thinking %}</think>{% endif %}"
    "{% endif %}"
)
WORDS = ("<s>", "</s>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "</think>", "make", "46", "be", "brief")


def write_tokenizer(folder: Path, template: str | None) -> str:
    """A tokenizer of words that puts a BOS before every text it is given, unless told not to."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(WORDS[3:7]),
        chat_template=template,
    )
    fast.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), TEMPLATE)


def words(ids: tuple[int, ...] | None) -> list[str]:
    return [WORDS[index] for index in ids or ()]


def test_a_system_text_comes_first_unless_there_is_one() -> None:
    assert with_system(QUESTION, "be brief") == (SYSTEM, *QUESTION)
    assert with_system((Message("system", "own"), *QUESTION), "be brief")[0].content == "own"
    assert with_system(QUESTION, "") == QUESTION


def test_the_template_decides_every_token(model: str) -> None:
    prompt = TemplateRenderer(model).render((Message("user", "make 46"),))
    assert words(prompt.token_ids) == ["<s>", "<|user|>", "make", "46", "</s>", "<|assistant|>"]
    assert prompt.messages == (Message("user", "make 46"),)
    assert prompt.prefix == ""


def test_the_system_text_is_rendered_and_told(model: str) -> None:
    prompt = TemplateRenderer(model, system="be brief").render((Message("user", "make 46"),))
    assert words(prompt.token_ids)[:5] == ["<s>", "<|system|>", "be", "brief", "</s>"]
    assert prompt.messages[0] == SYSTEM


def test_template_arguments_reach_the_template(model: str) -> None:
    prompt = TemplateRenderer(model, template_args={"thinking": False}).render(QUESTION)
    assert words(prompt.token_ids)[-1] == "</think>"


def test_a_template_argument_that_nothing_reads_is_refused(model: str) -> None:
    with pytest.raises(ConfigError, match="no variable 'thinkin', did you mean 'thinking'"):
        TemplateRenderer(model, template_args={"thinkin": False}).load()


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no chat template"):
        TemplateRenderer(write_tokenizer(tmp_path, None)).load()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer can be loaded"):
        TemplateRenderer(str(tmp_path)).load()


def test_messages_that_the_template_refuses_are_the_sources_fault(tmp_path: Path) -> None:
    picky = write_tokenizer(tmp_path, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(SourceError, match="roles must alternate"):
        TemplateRenderer(picky).render(QUESTION)


def test_threads_may_share_a_renderer_and_pickles_carry_no_tokenizer(model: str) -> None:
    renderer = TemplateRenderer(model, system="be brief")
    with ThreadPoolExecutor(8) as pool:
        prompts = set(pool.map(lambda _: renderer.render(QUESTION), range(200)))
    assert len(prompts) == 1
    assert len(pickle.dumps(renderer)) < 1000
    again: Any = pickle.loads(pickle.dumps(renderer))  # noqa: S301 - made one line above
    assert again.render(QUESTION) in prompts


def test_the_bundled_teachers_template_is_the_one_it_was_trained_with() -> None:
    folder = Path(__file__).parents[2] / "pipelines" / "teachers" / "countdown"
    ids = TemplateRenderer(str(folder)).render(QUESTION).token_ids
    assert ids is not None
    assert (ids.count(1), ids[0], ids[-2:]) == (1, 1, (2, 6))


# --- a further turn

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{% if (loop.index0 % 2 == 0) != (m['role'] == 'user') %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "[INST] {{ m['content'] }} [/INST]{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)
OPENS_THINKING = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
LEAVES_THINKING_OUT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAST_ONLY = "<|im_start|>user\n{{ messages[-1]['content'] }}<|im_end|>\n<|im_start|>assistant\n"
CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def write_byte_tokenizer(folder: Path, template: str) -> str:
    """A tokenizer of bytes, which spells anything, and of control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({byte: index for index, byte in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(CONTROL[2:]),
        chat_template=template,
    )
    fast.save_pretrained(str(folder))
    return str(folder)


SHAPES = {
    "chatml": (CHATML, "<|im_end|>\n<|im_start|>user\nis it?<|im_end|>\n<|im_start|>assistant\n"),
    "llama": (
        LLAMA,
        (
            "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nis it?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
    ),
    "mistral": (MISTRAL, "</s>[INST] is it? [/INST]"),
    "opens thinking": (
        OPENS_THINKING,
        "<|im_end|>\n<|im_start|>user\nis it?<|im_end|>\n<|im_start|>assistant\n<think>\n",
    ),
    "leaves thinking out": (
        LEAVES_THINKING_OUT,
        "<|im_end|>\n<|im_start|>user\nis it?<|im_end|>\n<|im_start|>assistant\n",
    ),
}


def spelled(renderer: TemplateRenderer, ids: tuple[int, ...] | None) -> str:
    """Control tokens too."""
    return str(renderer._tokenizer.decode(list(ids or ())))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_turn_is_what_the_template_puts_between_two_answers(shape: str, tmp_path: Path) -> None:
    template, between = SHAPES[shape]
    renderer = TemplateRenderer(write_byte_tokenizer(tmp_path, template))
    assert spelled(renderer, renderer.turn("is it?")) == between
    asked, said, again = Message("user", "why?"), Message("assistant", "so"), Message("user", "is it?")
    path = (*(renderer.render([asked]).token_ids or ()), *renderer.encode("so"), *renderer.turn("is it?"))
    whole = renderer.render([asked, said, again]).token_ids
    opened = renderer.encode("<think>\n") if shape == "opens thinking" else ()
    if opened:  # such a template leaves out of earlier turns what it wrote into the prompt: a path keeps it
        assert spelled(renderer, path).replace("<think>\n", "", 1) == spelled(renderer, whole)
    else:
        assert path == whole


def test_a_path_keeps_the_thinking_that_a_template_would_leave_out(tmp_path: Path) -> None:
    renderer = TemplateRenderer(write_byte_tokenizer(tmp_path, LEAVES_THINKING_OUT))
    asked, again = Message("user", "why?"), Message("user", "is it?")
    said = "<think>\nhm\n</think>\n\nso"
    path = (*(renderer.render([asked]).token_ids or ()), *renderer.encode(said), *renderer.turn("is it?"))
    rendered = spelled(renderer, renderer.render([asked, Message("assistant", said), again]).token_ids)
    assert "hm" not in rendered
    assert spelled(renderer, path) == rendered.replace("assistant\nso", f"assistant\n{said}")


def test_the_bundled_teachers_turn_is_the_one_it_was_trained_with() -> None:
    folder = Path(__file__).parents[2] / "pipelines" / "teachers" / "countdown"
    renderer = TemplateRenderer(str(folder))
    assert (
        spelled(renderer, renderer.turn("that is wrong try again"))
        == "</s><|user|>that is wrong try again</s><|assistant|>"
    )


def test_a_template_without_earlier_turns_has_no_further_one(tmp_path: Path) -> None:
    renderer = TemplateRenderer(write_byte_tokenizer(tmp_path, LAST_ONLY))
    with pytest.raises(ConfigError, match="leaves out what the assistant said before"):
        renderer.turn("is it?")


def test_a_plain_prompt_opens_the_turn_that_the_scripted_engine_looks_for() -> None:
    prompt = PlainRenderer("be brief").render(QUESTION)
    text = "".join(map(chr, prompt.token_ids or ()))
    assert text == "\x02system\x03be brief\x02user\x03make 46 from 3 7 12 25\x02assistant\x03"
    assert TURN == TURN_NAMED


def test_messages_go_to_a_chat_server_as_they_are() -> None:
    prompt = MessageRenderer("be brief").render(QUESTION)
    assert prompt.messages == (SYSTEM, *QUESTION)
    assert prompt.token_ids is None


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nso\n</think>\n4", "\nso\n", "\n4"),
        ("so</think>4", "so", "4"),
        ("<think>so", "so", ""),
        ("4", None, "4"),
        ("", None, ""),
        ("<think>a</think>b</think>c", "a</think>b", "c"),
        ("\n<think>a</think>b", "a", "b"),
        ("</think>4", "", "4"),
    ],
)
def test_reasoning_and_answer_are_told_apart(text: str, reasoning: str | None, answer: str) -> None:
    assert split_reasoning(text) == (reasoning, answer)


@given(
    st.text(st.characters(exclude_characters="<>/"), max_size=20),
    st.text(st.characters(exclude_characters="<>/"), max_size=20),
)
def test_what_stands_between_the_delimiters_comes_back_verbatim(reasoning: str, answer: str) -> None:
    assert split_reasoning(f"<a>{reasoning}</a>{answer}", "<a>", "</a>") == (reasoning, answer)
