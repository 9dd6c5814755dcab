"""What every engine promises of a reward model, put to each of them: see `factory/engines/base.py`.

The models are classifiers with weights that are nobody's, made here; what an engine says of a text is compared with
what Transformers computes from the same weights. The vLLM ones are real: an engine in this process, and its server.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.engines.base import Engine, Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine
from factory.errors import ConfigError, EngineDead, EngineError
from factory.render import PlainRenderer, Renderer, TemplateRenderer
from factory.types import Message, Sampling
from tests.contract.engine_cases import CONTEXT, PLACES, TEACHER, Server, copy_teacher, openai_engine, vllm_engine

REAL = pytest.mark.vllm
QUESTION = (Message("user", "make 46 from 3 7 12 25"),)
CHAIN = "<think>\ntry 12 + 25 = 37 left 3 7 37\n"


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's body with a head of two classes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(3)
    folder = copy_teacher(tmp_path_factory.mktemp("classifier") / "model")
    model = AutoModelForSequenceClassification.from_pretrained(str(folder), num_labels=2)
    with torch.no_grad():
        model.score.weight.normal_(0.0, 0.3)  # so that classes differ from text to text
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def reward_server(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(classifier, tmp_path_factory.mktemp("reward-server") / "log", options=["--runner", "pooling"])
    yield server
    server.kill()


@pytest.fixture(
    scope="session", params=["scripted", pytest.param("vllm", marks=REAL), pytest.param("pooling", marks=REAL)]
)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """A reward model of each kind, started once and shared by the tests."""
    started: Engine
    if request.param == "scripted":
        started = ScriptedEngine(_says_its_length, rewards=True, max_running=PLACES, max_context=CONTEXT)
    elif request.param == "vllm":
        started = vllm_engine(request.getfixturevalue("classifier"), runner="pooling", block_size=32)
    else:
        served = request.getfixturevalue("reward_server")
        served.ensure()
        started = openai_engine(served, "pooling")
    await started.start()
    yield started
    await started.close()


def _says_its_length(prompt: Prompt, _: Request) -> Reply:
    return Reply(str(len(prompt.token_ids or ()) / 1000))


def reads(model: Engine) -> Renderer:
    return PlainRenderer() if isinstance(model, ScriptedEngine) else TemplateRenderer(str(TEACHER))


def prompt(model: Engine, text: str = CHAIN) -> Prompt:
    renderer = reads(model)
    asked = renderer.render(QUESTION)
    return Prompt(asked.messages, (asked.token_ids or ()) + (renderer.encode(text) or ()), text)


async def test_a_reward_model_says_that_it_is_one(model: Engine) -> None:
    told = model.capabilities
    assert told.rewards
    assert told.token_prompts
    assert not told.weighs
    assert told.max_running == PLACES
    assert told.max_context == CONTEXT


async def test_many_at_once_get_each_their_own_reward(model: Engine) -> None:
    texts = [CHAIN * (1 + number % 5) + f"try 3 * 7 = 21 left {number} 21 25\n" for number in range(1, 40)]
    alone = [await model.reward(prompt(model, text)) for text in texts]
    together = await asyncio.gather(*(model.reward(prompt(model, text)) for text in texts))
    assert len({one.rewards for one in alone}) > 3
    for one, other in zip(alone, together, strict=True):
        assert other.rewards == pytest.approx(one.rewards, abs=1e-4)


async def test_a_reward_tells_what_it_cost(model: Engine) -> None:
    before = model.stats
    asked = prompt(model)
    told = await model.reward(asked, "question")
    assert told.prompt_tokens == len(asked.token_ids or ())
    assert told.generated_tokens == 0
    assert told.seconds > 0.0
    assert model.stats.prompt_tokens - before.prompt_tokens == told.prompt_tokens
    assert (model.stats.running, model.stats.waiting) == (0, 0)


async def test_a_prompt_that_is_too_long_concerns_itself_alone(model: Engine) -> None:
    long = prompt(model, CHAIN * 60)
    assert len(long.token_ids or ()) > CONTEXT
    short, refused = await asyncio.gather(model.reward(prompt(model)), model.reward(long), return_exceptions=True)
    assert isinstance(refused, EngineError)
    assert not isinstance(refused, EngineDead)
    assert not isinstance(short, BaseException)


async def test_it_generates_nothing_and_weighs_nothing(model: Engine) -> None:
    with pytest.raises(ConfigError):
        await model.generate(prompt(model), Request(Sampling(max_tokens=1)))
    with pytest.raises(ConfigError):
        await model.weigh(prompt(model), (5,))


@pytest.mark.vllm
async def test_rewards_are_those_that_transformers_computes(model: Engine, classifier: Path) -> None:
    if isinstance(model, ScriptedEngine):
        pytest.skip("has no weights")
    import torch
    from transformers import AutoModelForSequenceClassification

    reference = AutoModelForSequenceClassification.from_pretrained(str(classifier))
    for text in ("", CHAIN, CHAIN + "dead\n", CHAIN * 5):
        asked = prompt(model, text)
        with torch.no_grad():
            wanted = reference(torch.tensor([asked.token_ids])).logits.softmax(-1)[0].tolist()
        assert (await model.reward(asked)).rewards == pytest.approx(wanted, abs=1e-3)


@pytest.mark.vllm
async def test_a_shared_prefix_is_served_from_the_cache(model: Engine) -> None:
    if not model.capabilities.prefix_caching:
        pytest.skip("tells nothing of its cache")
    await model.reward(prompt(model, CHAIN * 8))
    again = await model.reward(prompt(model, CHAIN * 9))
    assert again.cached_tokens is not None
    assert again.cached_tokens >= 64


async def test_a_model_that_generates_gives_no_rewards() -> None:
    engine = ScriptedEngine()
    await engine.start()
    with pytest.raises(ConfigError, match="no reward model"):
        await engine.reward(prompt(engine))


@pytest.mark.vllm
async def test_a_model_that_rewards_each_step_is_read_at_its_last_one(tmp_path: Path) -> None:
    """A process reward model as Qwen2.5-Math-PRM is one: two classes, told at each token that ends a step."""
    folder = _step_model(tmp_path / "model")
    engine = vllm_engine(folder, runner="pooling", pooler_config={"step_tag_id": 7})
    await engine.start()
    try:
        told = [(await engine.reward(prompt(engine, text))).rewards for text in (CHAIN, CHAIN * 3)]
    finally:
        await engine.close()
    wanted = [_step_reward(folder, prompt(engine, text)) for text in (CHAIN, CHAIN * 3)]
    assert told[0] == pytest.approx(wanted[0], abs=1e-3)
    assert told[1] == pytest.approx(wanted[1], abs=1e-3)
    assert told[0] != pytest.approx(told[1], abs=1e-3)


def _step_model(folder: Path) -> Path:
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(5)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=236, num_key_value_heads=2, max_position_embeddings=CONTEXT, **sizes)
    weights = {f"model.{name}": one for name, one in Qwen2Model(config).state_dict().items()}
    shapes = {"score.0.weight": (64, 64), "score.0.bias": (64,), "score.2.weight": (2, 64), "score.2.bias": (2,)}
    weights |= {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    folder.mkdir()
    for path in TEACHER.iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            shutil.copy(path, folder)
    save_file(weights, str(folder / "model.safetensors"))
    told = config.to_dict() | {"architectures": ["Qwen2ForProcessRewardModel"]}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def _step_reward(folder: Path, asked: Prompt) -> list[float]:
    """Of the last token, computed by Transformers and by hand."""
    import torch
    from safetensors.torch import load_file
    from transformers import Qwen2Config, Qwen2Model

    weights = load_file(str(folder / "model.safetensors"))
    body: Any = Qwen2Model(Qwen2Config.from_pretrained(str(folder)))
    body.load_state_dict({name.removeprefix("model."): one for name, one in weights.items() if "score" not in name})
    with torch.no_grad():
        hidden = body(torch.tensor([asked.token_ids])).last_hidden_state[0, -1]
        inner = torch.relu(hidden @ weights["score.0.weight"].T + weights["score.0.bias"])
        row = (inner @ weights["score.2.weight"].T + weights["score.2.bias"]).softmax(-1)
    return [float(value) for value in row]
