"""Which program an attempt holds, and what it is put after."""

import pytest

from factory.verifiers.code.extract import LONGEST, joined, program
from sandboxes.base import Language

PYTHON, CPP = Language.PYTHON, Language.CPP


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("Here:\n\n```py\ndef f(): pass\n```\nIt is used so:\n```\nf()\n```", "def f(): pass"),
        ("```python\ndef f(): return 0\n```\nNo:\n```python\ndef f(): return 1\n```", "def f(): return 1"),
        ("<think>```python\ndef f(): wrong\n```</think>\n```python\ndef f(): right\n```", "def f(): right"),
        ("```cpp\nint f;\n```\n```python\ndef f(): pass\n```\n```bash\nls\n```", "def f(): pass"),
        ("def f(): pass", "def f(): pass"),
        ("  ```python\n  def f(): pass\n  ```", "  def f(): pass"),
        ("```python\nf = lambda: 0\n```\n```python\nprint(f())\n```", "f = lambda: 0"),
        ("```python\nprint(1)\n```\n```python\nprint(2)\n```", "print(2)"),
        ("```python\ndef f(): pass", "def f(): pass"),
        ("", None),
        ("   \n", None),
        ("<think>def f(): pass</think>", None),
        ("x" * (LONGEST + 1), None),
    ],
)
def test_the_last_block_that_defines_what_is_asked_for_is_the_program(text: str, found: str | None) -> None:
    assert program(text, PYTHON, ["f"]) == found


def test_a_block_of_another_language_is_not_taken() -> None:
    assert (
        program("```python\nprint()\n```\n```cpp\nint main() {}\n```\n```python\nprint()\n```", CPP, [])
        == "int main() {}"
    )


def test_fences_by_the_thousand_are_read_at_once() -> None:
    assert program("```\n" * 50_000, PYTHON, []) is None  # 25,000 empty blocks
    assert program("```python x\n" * 15_000, PYTHON, []) is not None
    assert program("```python " * 15_000, PYTHON, []) is not None


def test_a_program_that_begins_anew_is_not_put_after_the_prompt() -> None:
    prompt = 'def f(n):\n    """Doubles."""\n'
    assert joined(prompt, "    return 2 * n", ["f"]) == prompt + "    return 2 * n"
    assert joined(prompt, "def f(n): return 2 * n", ["f"]) == "def f(n): return 2 * n"
    assert joined(prompt, "def g(n): return n", ["f"]) == prompt + "def g(n): return n"
    assert joined("", "x", []) == "x"
