"""Where the answer is found, by which rule, and that hostile text takes no time."""

import time

import pytest

from factory.verifiers.math.extract import extract, reference

FOUND = [
    ("So it is \\boxed{42}.", "boxed", "42"),
    ("So it is \\fbox{42}.", "boxed", "42"),
    ("\\boxed{\\frac{1}{\\sqrt{2}}}", "boxed", "\\frac{1}{\\sqrt{2}}"),
    ("\\boxed{\\{1,2\\}}", "boxed", "\\{1,2\\}"),
    ("\\boxed {7}", "boxed", "7"),
    ("\\boxed 7", "boxed", "7"),
    ("\\begin{boxed}7\\end{boxed}", "boxed", "7"),
    ("\\beginboxed{8\\sqrt{6}}", "boxed", "8\\sqrt{6}"),
    ("\\boxed{\\boxed{5}}", "boxed", "\\boxed{5}"),
    ("First \\boxed{1}. Then the sum is 7, so \\boxed{8}", "boxed", "8"),
    ("We get \\boxed{1} no no no no no \\boxed{2}", "boxed", "2"),
    ("x = \\boxed{2} or x = \\boxed{3}", "boxed", "2, 3"),
    ("$\\boxed{2}$, $\\boxed{3}$ and $\\boxed{5}$", "boxed", "2, 3, 5"),
    ("\\[ \\boxed{(2, 2)} \\quad \\text{and} \\quad \\boxed{(6, 2)} \\]", "boxed", "(2, 2), (6, 2)"),
    ("\\boxed{1} papers and \\boxed{2} bins", "boxed", "1, 2"),
    ("therefore\\boxed{840}.,but let me say more.\n\n**Final Answer**\n\\boxed{840}", "boxed", "840"),  # 44
    ("the answer should be \\boxed{004}.\n\nCheck: 004.\n\n**Final Answer**\n\\boxed{004}", "boxed", "004"),  # 44
    ("a loss of $\\boxed{28}$ percent", "boxed", "28\\%"),
    ("Put it in \\boxed{}. The answer is 5", "answer line", "5"),
    ("\\boxed{12^{\n", "boxed", "12^{"),
    ("... so it is 5\n#### 5", "#### line", "5"),
    ("<answer>73</answer>", "answer tag", "73"),
    ("The answer is 42", "answer line", "42"),
    ("The answer is: $\\frac12$.", "answer line", "\\frac12"),
    ("Answer: 42", "answer line", "42"),
    ("**Answer:** 42", "answer line", "42"),
    ("**Answer**: 42\n\nI hope that helps.", "answer line", "42"),
    ("Final answer: 1,234", "answer line", "1,234"),
    ("Final Answer: The largest $n$ is 34.", "answer line", "34"),
    ("Final Answer: The final answer is $[0,1)$. I hope it is correct.", "answer line", "[0,1)"),
    ("The correct option is (C).", "answer line", "(C)"),
    ("Answer \\[ \n 9 \n \\]", "answer line", "9"),
    ("Answer \\( \n 9 \n \\)", "answer line", "9"),
    ("Answer $ \n 9 \n $", "answer line", "9"),
    ("✅ Final Answer: **73**", "answer line", "73"),  # 76
    ("Thus, the number who own all four is **73**.", "bold", "73"),  # 76
    ("Thus the number of those is $x = 5$ in all", "last formula", "x = 5"),
    ("Therefore $x \\geq 5$ is the solution.", "last formula", "x \\geq 5"),
    ("Therefore\n$$\nx = 5\n$$", "last formula", "x = 5"),
    ("Here it was $10 and then $7, which makes 17 dollars in total", "last number", "17"),
    ("it's not 10, it's really about 1,000.99m²", "last number", "1,000.99"),
    ("First compute 6*7.\n42", "last line", "42"),
    ("x=2", "last line", "x=2"),
    ("odd $n$", "last line", "odd $n$"),
    ("$1$ and $2$ and $3$", "last line", "$1$ and $2$ and $3$"),
    ("The pictures all show the same thing, which is nothing", None, None),
    ("", None, None),
    ("   \n\n ", None, None),
    ("<think>it is \\boxed{5}", None, None),
    ("<think>it is \\boxed{5}</think>\n", None, None),
    ("<think>it is \\boxed{5}</think>It is \\boxed{6}", "boxed", "6"),
    ("so \\boxed{5}</think>It is 6", "last number", "6"),
]


@pytest.mark.parametrize(("text", "rule", "answer"), FOUND)
def test_where_answers_stand(text: str, rule: str | None, answer: str | None) -> None:
    found = extract(text)
    assert (found and found.rule, found and found.answer) == (rule, answer)


def test_the_modes() -> None:
    text = "\\boxed{1}\nThe answer is 2"
    answers = [found.answer if (found := extract(text, mode)) else None for mode in ("any", "boxed", "final")]
    assert answers == ["1", "1", "2"]
    assert extract("The answer is 2", "boxed") is None


def test_a_reference_is_all_of_its_text_but_for_boxes() -> None:
    assert reference("odd $n$ ") == "odd $n$"
    assert reference("so it is \\boxed{2} or \\boxed{3}") == "2, 3"


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "\\boxed{1} and ",
        "\\boxed{{}",
        "{",
        "$",
        "$$",
        "\\[",
        "**",
        "**a",
        "answer is ",
        "answer: $",
        "####\n",
        "<answer>",
        "</answer>",
        "1,",
        "1 ",
        "-",
        "a" * 50 + " ",
        "\n",
        "\\text{",
        "\\",
        "</think>",
        "<think>",
        "é",
        "9",
        "0.",
        "1/",
    ],
)
def test_a_hundred_thousand_hostile_characters_are_read_quickly(piece: str) -> None:
    text = (piece * (100_000 // len(piece) + 1))[:100_000]
    start = time.process_time()
    for whole in (text, f"{text}\n5", f"\\boxed{{5}}{text}", text.replace("\n", " ") + "\\boxed{5"):
        extract(whole)
    assert time.process_time() - start < 2.0
