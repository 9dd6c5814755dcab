"""The verifier of grids: in which forms it finds one, and what it says of one that is another."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from factory.errors import ConfigError, VerifierError
from factory.types import Aspect, Attempt, Origin, Outcome, Problem, Span
from factory.verifiers.base import Finding
from factory.verifiers.grid import GridVerifier

DATA = Path(__file__).parents[3] / "shared" / "data"
REFERENCE = "[[1, 2, 0], [3, 4, 10]]"
ROWS = "1 2 0\n3 4 10"

real = pytest.mark.skipif(not DATA.is_dir(), reason="the real data is not beside this checkout")


def judged(text: str, reference: str | None = REFERENCE, **params: object) -> Finding:
    problem = Problem("00", (), reference, (), "test")
    (found,) = GridVerifier().judge(problem, params, Attempt((Span(text, Origin.SAMPLED),)))
    assert found.aspect is Aspect.ANSWER
    assert "\n" not in found.evidence
    assert len(found.evidence) < 300
    return found


@pytest.mark.parametrize(
    "text",
    [
        REFERENCE,
        f"The grid is {REFERENCE}.",
        f"```python\ngrid = {REFERENCE}\n```\nThat is it.",
        json.dumps(json.loads(REFERENCE), indent=2),
        "[[1 2 0]\n [3 4 10]]",
        "[[1,2,0],[3,4,10],]",
        f"First [[1]], then {REFERENCE}",
        f"<think>[[1]]</think>{REFERENCE}",
        f"```\n{ROWS}\n```",
        f"```text\nThe grid:\n{ROWS}\n```",
        f"Output:\n{ROWS}",
        f"**Output:**\n\n{ROWS}\n\nThe rule was simple.",
        f"So the test output grid is:\n{ROWS}",
        f"Input:\n1 2\nOutput 1:\n{ROWS.replace(' ', ', ')}",
        f"Answer:\r\n{ROWS}\r\n".replace("0\n", "0\r\n"),
        f"I think\n<answer>{ROWS}</answer>",
        f"I think\n<answer>\n{ROWS}\n</answer>\n1 2 3",
        f"\n{ROWS}\n\nThe rule was simple.",
        f"Output:\n1 2\n```\n{ROWS}\n```",
        f"```\n1 2\n```\n{REFERENCE}",
    ],
    ids=range(20),
)
def test_the_grid_is_found(text: str) -> None:
    found = judged(text)
    assert (found.outcome, found.evidence) == (Outcome.PASS, "2x3, every cell as it should be")
    assert found.extracted == "[[1,2,0],[3,4,10]]"


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("", "no answer: there is no grid"),
        (f"<think>{REFERENCE}", "no answer: there is no grid"),
        ("[1, 2, 0]", "no answer: there is no grid"),
        ('[["1", "2"]]', "no answer: there is no grid"),
        (f"My numbers are\n{ROWS}", "no answer: there is no grid"),
        (f"{REFERENCE[:-1]}", "no answer: there is no grid"),
        ("[[1234567890]]", "no answer: there is no grid"),
        (f"{REFERENCE} from [[1, 2], [3, 4]]", "it is 2x2, not 2x3"),
        ("[[1, 2, 0], [3, 4]]", "its rows differ in length"),
        ("[[1, 2, 0], [3, 5, 9]]", "2 of 6 cells differ"),
        (f"Output:\n{ROWS}\n5 6 7", "it is 3x3, not 2x3"),
        (f"Output:\n{ROWS}\n5 6", "its rows differ in length"),
        ("Output: 1 2 0", "it is 1x3, not 2x3"),
        (json.dumps([[1] * 31] * 2), "it is larger than 30x30"),
        (json.dumps([[1]] * 31), "it is larger than 30x30"),
    ],
)
def test_wrong_answers_fail_and_say_why(text: str, evidence: str) -> None:
    assert (judged(text).outcome, judged(text).evidence) == (Outcome.FAIL, evidence)


def test_several_outputs_must_all_be_there_in_order() -> None:
    both = "[[[1, 2]], [[3], [4]]]"
    for text in (
        both,
        "[[1, 2]] and [[3], [4]]",
        "Output 1:\n1 2\nOutput 2:\n3\n4",
        "```\n1 2\n\n3\n4\n```",
        f"[[9]] {both}",
    ):
        found = judged(text, both, multiple=True)
        assert (found.outcome, found.extracted) == (Outcome.PASS, "[[[1,2]],[[3],[4]]]")
    assert judged("[[3], [4]] and [[1, 2]]", both, multiple=True).evidence == "grid 1: it is 2x1, not 1x2"
    assert judged("[[1, 2]] and [[3], [5]]", both, multiple=True).evidence == "grid 2: 1 of 2 cells differ"
    assert judged("[[3], [4]]", both, multiple=True).evidence == "too few grids: 1 of 2"


@pytest.mark.parametrize(
    ("reference", "multiple"),
    [
        (None, False),
        ("", False),
        ("1 2", False),
        ("[]", False),
        ("[[]]", False),
        ("[1, 2]", False),
        ("[[1], [2, 3]]", False),
        ("[[1.5]]", False),
        ("[[true]]", False),
        ("[[[1]]]", False),
        ("[" * 100_000, False),
        (json.dumps([[0] * 31]), False),
        ("[[1]]", True),
        ("[]", True),
        ("3", True),
        ("{}", True),
    ],
    ids=range(16),
)
def test_a_reference_that_is_no_grid_is_trouble(reference: str | None, multiple: bool) -> None:
    with pytest.raises(VerifierError, match="the reference is no"):
        judged("[[1]]", reference, multiple=multiple)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"multiple": 1}, "grid: multiple: "),
        ({"multiple": "yes"}, "grid: multiple: "),
        ({"several": True}, "grid: unknown parameter 'several'; did you mean 'multiple'\\?"),
    ],
)
def test_parameters_that_cannot_work_are_refused_by_name(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GridVerifier().validate(params)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[[" + "1 " * 50_000,
        "[[1]," * 20_000,
        "[[1]" + ",[1]" * 25_000,
        "[ " * 50_000,
        "[[" + " " * 100_000,
        "[[" + "9" * 100_000 + "]]",
        "[[1]]" * 20_000,
        "[[" + "1," * 50_000 + "1]]",
        "```\n" + "1\n" * 50_000,
        "output:\n" * 12_500,
        "output" * 16_000,
        "output:" + " " * 100_000 + "x",
        "output:\n" + "1 " * 50_000,
        "```\n" * 25_000,
        "<answer>" * 12_500,
        "-" * 100_000,
    ],
    ids=range(17),
)
def test_hostile_text_is_decided(text: str) -> None:
    assert judged(text).outcome is Outcome.FAIL


@real
@pytest.mark.parametrize("split", ["training", "evaluation"])
def test_outputs_of_arc_pass_in_every_form_and_fail_with_a_changed_cell(split: str) -> None:
    with (DATA / f"puzzles/arc_agi1_{split}.jsonl").open(encoding="utf-8") as lines:
        tasks = [[test["output"] for test in json.loads(line)["test"]] for line in lines]
    for outputs in tasks:
        everything = json.dumps(outputs)
        assert judged(everything, everything, multiple=True).outcome is Outcome.PASS
        for grid in outputs:
            reference = json.dumps(grid)
            rows = "\n".join(" ".join(map(str, row)) for row in grid)
            for text in (reference, f"so\n```\n{rows}\n```", f"Output:\n{rows}\n", f"so\n<answer>{rows}</answer>"):
                assert judged(text, reference).outcome is Outcome.PASS
            grid[-1][0] = (grid[-1][0] + 1) % 10
            assert judged(json.dumps(grid), reference).evidence.startswith("1 of ")


@real
def test_recorded_samples_agree_with_their_score() -> None:
    """But for one whose right grid was scored as wrong, since it stands in no `<answer>` tag."""
    odd: Counter[str] = Counter()
    for name in ("rg_easy_claude_sonnet4_x3", "rg_easy_open_models_x3"):
        with gzip.open(DATA / f"rollouts/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [row for row in map(json.loads, lines) if row["_task"] == "arc_1d"]
        for row in rows:
            reference = json.dumps([[int(cell) for cell in row["expected_answer"].split()]])
            for sample in row["completions"]:
                text = sample["full_model_response"] or ""
                passed = judged(text, reference).outcome is Outcome.PASS
                if passed != (sample["score"] == 1):
                    odd["untagged" if passed and "<answer>" not in text else "other"] += 1
    assert odd["other"] == 0
    assert odd["untagged"] <= 1
