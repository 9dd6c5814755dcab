"""Some rows of each recorded file of the shared data: imported, verified, refined and checked, and nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import build
from tests.imported import DATA, FILES, LEFT_OUT, File, brought_in, some_of

ROWS = 20
"""Of each file."""
ATTEMPTS = 200
"""Of each file, about: a row has up to a hundred."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared data are not at {DATA}")


@pytest.fixture(autouse=True, scope="module")
def _closed() -> Iterator[None]:
    """What is imported in this process leaves no sandbox behind in it."""
    yield
    build.close_jails()


def test_no_file_is_forgotten() -> None:
    names = ("rollouts/*", "steps/prm800k_*", "steps/thought_anchors_*")
    there = {str(path.relative_to(DATA)) for name in names for path in DATA.glob(name)}
    assert {file.path for file in FILES} | LEFT_OUT.keys() == there


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_goes_in_is_kept_or_rejected_or_an_error(file: File, tmp_path: Path) -> None:
    path = some_of(file, tmp_path, ROWS, ATTEMPTS)
    figures = brought_in(file, path, str(tmp_path / "run"))
    assert figures.faults == []
    assert figures.rows > 0
    assert figures.problems > 0
