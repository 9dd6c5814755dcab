"""Ids are made from content: the same on every machine, different for anything that matters, blind to what does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from factory.ids import ID_LENGTH, bytes_id, canonical_json, digest, folder_digest, problem_id

MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "generation_config.json": b"{}",
    "chat_template.jinja": b"{{ x }}",
}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_ids_never_change() -> None:
    """A change of these would make every stored run another run."""
    assert problem_id([("user", "What is 1 + 1?")], "2") == "917a5b729a4b65b21da5"
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,2.5,null,true]}'


def test_an_id_is_hexadecimal_and_short() -> None:
    for id in (problem_id([("user", "x")], None), bytes_id(b"not JSON")):
        assert len(id) == ID_LENGTH
        bytes.fromhex(id)


def test_a_problem_is_its_messages_and_its_reference() -> None:
    base = problem_id([("user", "x")], None)
    assert base == problem_id((("user", "x"),), None)
    others = [
        problem_id([("system", "x")], None),
        problem_id([("user", "x "), ("user", "")], None),
        problem_id([("user", "x"), ("user", "x")], None),
        problem_id([("user", "x")], ""),
        problem_id([("user", "x")], "None"),
        problem_id([("user", "X")], None),
        problem_id([("u", "serx")], None),
        problem_id([], None),
    ]
    assert len({base, *others}) == len(others) + 1


def test_canonical_json_is_blind_to_the_order_of_keys_and_refuses_what_is_no_json() -> None:
    assert canonical_json({"a": {"c": 1, "b": 2}}) == canonical_json({"a": {"b": 2, "c": 1}})
    for wrong in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError):
            canonical_json({"x": [wrong]})
    with pytest.raises(TypeError):
        canonical_json({"x": object()})


def test_any_string_has_a_digest() -> None:
    for text in ("", "\x00", "\u2028", "\U0001f600", "\ud800", "e\u0301"):
        assert len(digest(text)) == 64
    assert digest("é") != digest("e\u0301"), "normal forms are different texts"


def test_the_same_in_another_process() -> None:
    """Nothing hangs on the hash seed of a process."""
    program = "from factory.ids import problem_id; print(problem_id([('user', 'x'), ('assistant', 'y')], 'z'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {problem_id([("user", "x"), ("assistant", "y")], "z")}


def test_every_file_that_decides_what_a_model_says_counts(tmp_path: Path) -> None:
    """Also the tokenizers that are no tokenizer.json: an engine takes them."""
    before = folder_digest(folder(tmp_path / "model", MODEL))
    seen = {before}
    for name in [*MODEL, "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "tekken.json", "model-2.bin"]:
        changed = folder_digest(folder(tmp_path / f"changed-{name}", MODEL | {name: b"something else"}))
        assert changed not in seen, name
        seen.add(changed)


def test_what_says_nothing_does_not_count(tmp_path: Path) -> None:
    before = folder_digest(folder(tmp_path / "model", MODEL))
    noise = dict.fromkeys(("README.md", "optimizer.pt", "optimizer.bin", "training_args.bin", "log.txt"), b"x")
    path = folder(tmp_path / "noisy", MODEL | noise | {"trainer_state.json": b"{}"})
    (path / "old.model").mkdir()
    assert folder_digest(path) == before


def test_a_folder_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    assert folder_digest(folder(tmp_path / "a", MODEL)) == folder_digest(folder(tmp_path / "b", MODEL))
    swapped = MODEL | {"config.json": MODEL["model.safetensors"], "model.safetensors": MODEL["config.json"]}
    assert folder_digest(folder(tmp_path / "c", swapped)) != folder_digest(tmp_path / "a")


def test_a_folder_without_a_model_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(FileNotFoundError, match="no model files"):
        folder_digest(tmp_path)


def test_digests_survive_json() -> None:
    """What is stored beside a run and read back has the digest that it had."""
    value = {"temperature": 1.0, "n": 16, "extra": {"a": [0.1, None, "é"]}}
    assert digest(json.loads(json.dumps(value))) == digest(value)
