"""Sources of problems: what a row may look like, what is refused and how, and what is read in which order."""

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from factory import ids
from factory.errors import ConfigError, SourceError
from factory.sources.base import BadLine, Fields, SeenIds, Source, unique, validate_first
from factory.sources.datasets import DatasetSource
from factory.sources.files import JsonlSource, ParquetSource
from factory.sources.games import CountdownSource
from factory.types import Check, Message, Problem
from factory.verifiers.base import validate_problem
from factory.verifiers.countdown import CountdownVerifier

VERIFIERS = {"countdown": CountdownVerifier()}

CHECK = Check("countdown", {"numbers": [3, 4], "target": 7})
CHECK_ROW = {"verifier": "countdown", "params": {"numbers": [3, 4], "target": 7}}


def write(path: Path, *rows: object) -> str:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


def read(path: str, fields: Fields | None = None, checks: tuple[Check, ...] = ()) -> list[Problem | BadLine]:
    return list(JsonlSource((path,), fields, checks))


def one(tmp_path: Path, row: object, fields: Fields | None = None, checks: tuple[Check, ...] = ()) -> Problem | BadLine:
    (item,) = read(write(tmp_path / "rows.jsonl", row), fields, checks)
    return item


def problem(tmp_path: Path, row: object, fields: Fields | None = None, checks: tuple[Check, ...] = ()) -> Problem:
    item = one(tmp_path, row, fields, checks)
    assert isinstance(item, Problem), item
    return item


def prompts(source: Source) -> list[str]:
    return [item.messages[-1].content if isinstance(item, Problem) else item.reason for item in source]


# --- rows


def test_a_row_becomes_a_problem(tmp_path: Path) -> None:
    row = {"prompt": "make 7 from 3 4", "reference": "3 + 4", "checks": [CHECK_ROW], "metadata": {"level": 1}}
    assert problem(tmp_path, row) == Problem(
        id=ids.problem_id([("user", "make 7 from 3 4")], "3 + 4"),
        messages=(Message("user", "make 7 from 3 4"),),
        reference="3 + 4",
        checks=(CHECK,),
        source=str(tmp_path / "rows.jsonl"),
        metadata={"level": 1},
    )


def test_messages_may_be_given_as_they_are(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert problem(tmp_path, {"messages": messages}).messages == (
        Message("system", "be brief"),
        Message("user", "hi"),
    )


@pytest.mark.parametrize(
    ("reference", "text"),
    [(None, None), ("18", "18"), (18, "18"), (-2, "-2"), (0, "0"), (0.5, "0.5"), (18.0, "18.0"), ("", "")],
)
def test_a_reference_is_kept_as_text(tmp_path: Path, reference: object, text: str | None) -> None:
    assert problem(tmp_path, {"prompt": "x", "reference": reference}).reference == text


def test_a_row_without_checks_has_the_recipes(tmp_path: Path) -> None:
    assert problem(tmp_path, {"prompt": "x"}, checks=(CHECK,)).checks == (CHECK,)
    assert problem(tmp_path, {"prompt": "x", "checks": None}, checks=(CHECK,)).checks == (CHECK,)
    own = {"prompt": "x", "checks": [{"verifier": "exact"}]}
    assert problem(tmp_path, own, checks=(CHECK,)).checks == (Check("exact", {}),)
    assert problem(tmp_path, {"prompt": "x"}).checks == ()


def test_nested_values_may_be_json_strings(tmp_path: Path) -> None:
    row = {
        "prompt": "x",
        "checks": [{"verifier": "countdown", "params": json.dumps(CHECK.params)}],
        "metadata": '{"level": 1}',
    }
    found = problem(tmp_path, row)
    assert (found.checks, found.metadata) == ((CHECK,), {"level": 1})
    assert problem(tmp_path, {"prompt": "x", "checks": json.dumps([CHECK_ROW])}).checks == (CHECK,)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "not an object but []"),
        (3, "not an object but 3"),
        ({}, "it needs either 'prompt' or 'messages'"),
        ({"prompt": None}, "it needs either 'prompt' or 'messages'"),
        ({"prompt": "x", "messages": []}, "it needs either 'prompt' or 'messages', not both"),
        (
            {"promt": "x"},
            "unknown key 'promt': did you mean 'prompt'? free data goes under 'metadata'",
        ),
        ({"prompt": "x", "meta": {}}, "unknown key 'meta': did you mean 'metadata'? free data goes under 'metadata'"),
        ({"prompt": 3}, "a prompt is a text that is not blank, not 3"),
        ({"prompt": " \n"}, "a prompt is a text that is not blank, not ' \\n'"),
        ({"messages": "hi"}, "'messages' must be a list of {role, content}, not 'hi'"),
        ({"messages": []}, "'messages' must be a list of {role, content}, not []"),
        ({"messages": ["hi"]}, "a message is {role, content}, not 'hi'"),
        ({"messages": [{"role": "user"}]}, "a message is {role, content}, not {'role': 'user'}"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "a role is one of system, user, assistant, not 'tool'",
        ),
        ({"messages": [{"role": [], "content": "x"}]}, "a role is one of system, user, assistant, not []"),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            "the last message must be the user's, not the assistant's",
        ),
        ({"prompt": "x", "reference": True}, "'reference' must be a string, a number or null, not True"),
        ({"prompt": "x", "reference": ["18"]}, "'reference' must be a string, a number or null, not ['18']"),
        ({"prompt": "x", "reference": float("nan")}, "not JSON: NaN"),
        ({"prompt": "x", "checks": {}}, "'checks' must be a list of {verifier, params}, not {}"),
        ({"prompt": "x", "checks": "countdown"}, "'checks': not JSON: Expecting value: line 1 column 1 (char 0)"),
        ({"prompt": "x", "checks": ["exact"]}, "a check is {verifier, params}, not 'exact'"),
        (
            {"prompt": "x", "checks": [{"verifier": "countdown", "target": 7}]},
            "unknown key 'target' of a check: parameters of a verifier go under 'params'",
        ),
        ({"prompt": "x", "checks": [{"verifier": "exact", "params": []}]}, "'params' must be an object, not []"),
        ({"prompt": "x", "metadata": [1]}, "'metadata' must be an object, not [1]"),
        ({"prompt": "x", "metadata": False}, "'metadata' must be an object, not False"),
        ({"prompt": "\ud800"}, "half of a surrogate pair: a text that is no Unicode"),
        ({"prompt": "x", "metadata": {"\udfff": 1}}, "half of a surrogate pair: a text that is no Unicode"),
    ],
)
def test_a_row_that_is_no_problem_says_why(tmp_path: Path, row: object, reason: str) -> None:
    item = one(tmp_path, row)
    assert item == BadLine(ids.bytes_id(json.dumps(row).encode()), 1, str(tmp_path / "rows.jsonl"), reason)


# --- fields


GSM = {"question": "How many?", "answer": 18, "solution": "secret", "level": 3, "topic": "ducks", "prompt": "no"}


def test_a_mapping_reads_the_columns_it_names_and_no_others(tmp_path: Path) -> None:
    found = problem(tmp_path, GSM, fields={"prompt": "question", "reference": "answer"})
    assert (found.messages[0].content, found.reference, found.metadata) == ("How many?", "18", {})
    found = problem(tmp_path, GSM, fields={"prompt": "question", "metadata": ["level", "topic"]})
    assert (found.reference, found.metadata) == (None, {"level": 3, "topic": "ducks"})


def test_a_mapping_to_a_missing_column_makes_a_bad_line(tmp_path: Path) -> None:
    item = one(tmp_path, {"question": "x"}, fields={"prompt": "question", "reference": "answer"})
    assert isinstance(item, BadLine)
    assert item.reason == "no column 'answer'; there are: question"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"promt": "question"}, "did you mean 'prompt'"),
        ({"prompt": ["a", "b"]}, "'prompt' is read from one column"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(fields: dict[str, Any], words: str) -> None:
    for make in (lambda: JsonlSource(("x",), fields=fields), lambda: DatasetSource("x", fields=fields)):
        with pytest.raises(ConfigError, match=words):
            make()


# --- JSON lines


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = ["one\u2028two", "three\x85four", "five\x0bsix\x1cseven"]
    lines = [json.dumps({"prompt": text}, ensure_ascii=False) for text in texts]
    path.write_bytes("\r\n".join(lines).encode())
    assert prompts(JsonlSource((str(path),))) == texts


def test_blank_lines_are_skipped_and_counted_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\n\n \r\n{"prompt": "b"}\r\n{"prompt"\r\n\xff\n')
    *good, broken, no_text = read(str(path))
    assert [item.messages[0].content for item in good if isinstance(item, Problem)] == ["a", "b"]
    assert isinstance(broken, BadLine)
    assert isinstance(no_text, BadLine)
    assert (broken.line, broken.id, broken.where) == (5, ids.bytes_id(b'{"prompt"'), str(path))
    assert broken.reason.startswith("not JSON: ")
    assert (no_text.line, no_text.reason) == (6, "not UTF-8: invalid start byte at byte 0")


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b'{"prompt": "x", "reference": ' + b"9" * 5000 + b"}", b'{"prompt": "x", "reference": 1e999}'],
)
def test_hostile_lines_are_bad_lines(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b'\n{"prompt": "good"}\n')
    bad, good = read(str(path))
    assert isinstance(bad, BadLine)
    assert isinstance(good, Problem)


def test_files_are_read_in_order_and_once(tmp_path: Path) -> None:
    for name in "cab":
        write(tmp_path / f"{name}.jsonl", {"prompt": name})
    (tmp_path / "z.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "z"}\n'))
    every, last = str(tmp_path / "*.jsonl"), str(tmp_path / "c.jsonl")
    source = JsonlSource((str(tmp_path / "z.jsonl.gz"), last, every))
    assert prompts(source) == ["z", "c", "a", "b"]
    assert prompts(source) == ["z", "c", "a", "b"]
    assert prompts(JsonlSource((f"file://{every}",))) == ["a", "b", "c"]


def test_a_name_that_looks_like_a_glob_is_a_name_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a[1].jsonl", {"prompt": "x"})
    assert prompts(JsonlSource((path,))) == ["x"]


def test_missing_files_are_named_before_the_first_is_read(tmp_path: Path) -> None:
    there = write(tmp_path / "there.jsonl", {"prompt": "x"})
    for missing in (str(tmp_path / "missing.jsonl"), str(tmp_path / "*.json"), "nosuch://x/y.jsonl"):
        with pytest.raises(SourceError, match=r"missing\.jsonl|\*\.json|nosuch"):
            next(iter(JsonlSource((there, missing))))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n"])
def test_files_without_problems_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"no problems in .*empty\.jsonl"):
        read(str(path))
    assert prompts(JsonlSource((str(path), write(tmp_path / "full.jsonl", {"prompt": "x"})))) == ["x"]


def test_a_file_that_is_cut_short_is_an_error_and_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "a"}\n' * 10_000)[:-20])
    with pytest.raises(SourceError, match=r"rows\.jsonl\.gz: cannot be read after line"):
        read(str(path))
    path.write_bytes(b"no gzip")
    with pytest.raises(SourceError, match="cannot be read after line 0"):
        read(str(path))


def test_paths_are_a_list() -> None:
    for paths in ((), "x.jsonl"):
        with pytest.raises(ConfigError, match="paths must be a list"):
            JsonlSource(paths)  # type: ignore[arg-type]


# --- Parquet


def parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> str:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return str(path)


def test_parquet_rows_with_structs_or_json_strings(tmp_path: Path) -> None:
    structs = parquet(
        tmp_path / "a.parquet",
        [{"prompt": "x", "messages": None, "reference": "3 + 4", "checks": [CHECK_ROW], "metadata": {"level": 1}}],
    )
    strings = parquet(
        tmp_path / "b.parquet",
        [{"messages": [{"role": "user", "content": "x"}], "reference": "3 + 4", "checks": json.dumps([CHECK_ROW])}],
    )
    first, second = ParquetSource((structs, strings))
    assert isinstance(first, Problem)
    assert isinstance(second, Problem)
    assert (first.checks, first.metadata) == ((CHECK,), {"level": 1})
    assert (second.checks, second.metadata) == ((CHECK,), {})
    assert first.id == second.id
    assert first.source == structs


def test_a_parquet_row_that_is_no_problem_is_named_by_its_number(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"prompt": "x"}, {"prompt": None}, {"prompt": "y"}])
    _, bad, _ = ParquetSource((path,))
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.where, bad.reason) == (2, path, "it needs either 'prompt' or 'messages'")


def test_what_json_cannot_hold_is_refused_in_parquet_metadata(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "metadata": {"value": value}} for value in (1.5, float("nan"))]
    good, bad = ParquetSource((parquet(tmp_path / "a.parquet", rows),))
    assert isinstance(good, Problem)
    assert isinstance(bad, BadLine)
    assert bad.reason.startswith("not JSON: ")


def test_parquet_columns_are_checked_before_the_first_row(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"prompt": "x", "answer": 3}])
    with pytest.raises(SourceError, match="unknown column 'answer'"):
        list(ParquetSource((path,)))
    assert prompts(ParquetSource((path,), fields={"prompt": "prompt", "reference": "answer"})) == ["x"]
    with pytest.raises(SourceError, match="no column 'question'; there are: prompt, answer"):
        list(ParquetSource((path,), fields={"prompt": "question"}))


def test_parquet_trouble_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read as Parquet"):
        list(ParquetSource((str(path),)))
    with pytest.raises(SourceError, match="no problems in"):
        list(ParquetSource((parquet(tmp_path / "b.parquet", [], pa.schema({"prompt": pa.string()})),)))
    with pytest.raises(SourceError, match=r"no file .*c\.parquet"):
        list(ParquetSource((str(tmp_path / "c.parquet"),)))


# --- Hugging Face datasets


FIELDS = {"prompt": "question", "reference": "answer"}


def test_a_dataset_file_or_folder_is_streamed(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": i, "solution": "secret"} for i in range(3)]
    path = write(tmp_path / "train.jsonl", *rows)
    parquet(tmp_path / "test.parquet", rows[:1])
    source = DatasetSource(path, fields=FIELDS, checks=(CHECK,))
    first, *_ = items = list(source)
    assert isinstance(first, Problem)
    assert (first.reference, first.checks, first.source, first.metadata) == ("0", (CHECK,), f"{path}:train", {})
    assert len(items) == 3
    assert prompts(DatasetSource(str(tmp_path / "test.parquet"), fields=FIELDS)) == ["q0"]
    (tmp_path / "c.csv").write_text("question,answer\nq,1\n")
    assert prompts(DatasetSource(str(tmp_path / "c.csv"), fields=FIELDS)) == ["q"]
    only = tmp_path / "only"
    only.mkdir()
    write(only / "test.jsonl", *rows)
    assert prompts(DatasetSource(str(only), split="test", fields=FIELDS)) == ["q0", "q1", "q2"]


def test_a_dataset_saved_to_disk_is_read(tmp_path: Path) -> None:
    import datasets

    table = datasets.Dataset.from_list([{"question": "q", "answer": "a"}])
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "two")
    assert prompts(DatasetSource(str(tmp_path / "one"), fields=FIELDS)) == ["q"]
    assert prompts(DatasetSource(str(tmp_path / "two"), split="test", fields=FIELDS)) == ["q"]
    with pytest.raises(SourceError, match="the splits test"):
        list(DatasetSource(str(tmp_path / "two"), fields=FIELDS))


def test_dataset_trouble_is_one_line(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"question": "q"}])
    with pytest.raises(SourceError, match="no column 'answer'; there are: question"):
        list(DatasetSource(path, fields=FIELDS))
    with pytest.raises(SourceError, match="unknown column 'question'"):
        list(DatasetSource(path))
    with pytest.raises(SourceError, match=r"dataset .*:nosuch"):
        list(DatasetSource(path, split="nosuch", fields={"prompt": "question"}))
    with pytest.raises(SourceError, match="a dataset file ends in"):
        list(DatasetSource(write(tmp_path / "a.txt", 1)))
    with pytest.raises(ConfigError, match="subset"):
        DatasetSource(path, subset="main")


# --- games


def test_countdown_problems_carry_what_their_check_needs() -> None:
    source = CountdownSource(count=5, seed=7)
    found = list(source)
    assert found == list(source)
    assert len({item.id for item in found}) == 5
    for item in found:
        validate_problem(VERIFIERS, item)
        numbers, target = item.metadata["numbers"], item.metadata["target"]
        assert item.messages == (Message("user", f"make {target} from {' '.join(map(str, numbers))}"),)
        assert item.checks == (
            Check("countdown", {"numbers": numbers, "target": target, "use": "all", "chain": "replay"}),
        )
        assert item.source == "countdown:train:seed=7"
        ids.canonical_json([item.checks[0].params, item.metadata])


def test_countdown_shapes_and_splits() -> None:
    (small,) = CountdownSource(count=1, seed=1, numbers=3, low=2, high=9, target_low=11, target_high=20)
    assert len(small.metadata["numbers"]) == 3
    assert 11 <= small.metadata["target"] <= 20
    (first,) = CountdownSource(count=1, split="report")
    assert first.source == "countdown:report"


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0, "seed": 1},
        {"count": 1},
        {"count": 1, "seed": 1, "split": "test"},
        {"count": 1, "seed": 1, "split": "gate"},
        {"count": 501, "split": "gate"},
        {"count": 1, "split": "gate", "numbers": 3},
        {"count": 1, "seed": 1, "low": 40},
        {"count": 50, "seed": 1, "numbers": 2, "low": 1, "high": 2, "target_low": 1, "target_high": 2},
    ],
)
def test_countdown_games_that_cannot_be_made_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        list(CountdownSource(**options))


# --- duplicates and the first look


def test_duplicates_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a", "metadata": {"again": True}}, {}, {}, {"prompt": "b"}]
    items = unique(JsonlSource((write(tmp_path / "rows.jsonl", *rows),)))
    found = list(items)
    assert [type(item) for item in found] == [Problem, Problem, BadLine]
    assert items.duplicates == 3
    assert next(items, None) is None


def test_seen_ids_are_exact_and_small() -> None:
    seen, known = SeenIds(), set()
    # A common prefix fills one string, and few different digits make false finds across the borders of its entries.
    for number in range(3000):
        id = f"0000{number:016b}"
        assert seen.add(id) is (id not in known)
        known.add(id)
        assert seen.add(id) is False
    for number in range(20_000):
        seen.add(ids.bytes_id(str(number).encode()))
    size = sum(sys.getsizeof(rests) for rests in seen._rests.values())
    assert size - 20_000 * sys.getsizeof(bytearray(8)) < 3000 * 12


class Counted:
    """Items, and how many of them were asked for."""

    def __init__(self, items: list[Problem | BadLine]) -> None:
        self.items, self.read = items, 0

    def __iter__(self) -> Iterator[Problem | BadLine]:
        for item in self.items:
            self.read += 1
            yield item


def valid(item: Problem) -> None:
    validate_problem(VERIFIERS, item)


def wrong(item: Problem) -> Problem:
    return Problem(item.id, item.messages, "1 + 1", item.checks, item.source, item.metadata)


BAD = BadLine("00", 17, "rows.jsonl", "not JSON")


def test_the_first_look_gives_back_everything_and_reads_once() -> None:
    items: list[Problem | BadLine] = [*CountdownSource(count=5, seed=7), BAD]
    counted = Counted(items)
    found = validate_first(counted, valid, limit=3)
    assert counted.read == 3
    assert list(found) == items
    assert counted.read == 6
    assert list(validate_first(items[:2], valid)) == items[:2]


def test_the_first_look_refuses_bad_lines_and_wrong_references() -> None:
    first, second, third = CountdownSource(count=3, seed=7)
    with pytest.raises(SourceError, match=r"^rows\.jsonl: line 17: not JSON$"):
        validate_first([first, BAD], valid)
    with pytest.raises(SourceError, match=r"^countdown:train:seed=7: problem 2 \('make .*its own reference '1 \+ 1'"):
        validate_first([first, wrong(second), third], valid)
    assert len(list(validate_first([first, wrong(second)], valid, limit=1))) == 2
    with pytest.raises(SourceError, match="problem 2"):
        validate_first([first, wrong(second)], valid, limit=1, strict=True)
    with pytest.raises(SourceError, match="it has no checks"):
        validate_first([Problem("00", first.messages, None, (), "x")], valid)
