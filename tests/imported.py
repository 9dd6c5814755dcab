"""Every recorded file of the shared data as an import: which spec reads it, and what must add up when it is refined.

What the files hold is counted here by reading them as JSON, apart from the importer, so that a lost row or sample
shows. The specs are in `tests/imports`, the data in `../shared/data`, beside the project's root.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.check import check
from factory.ids import bytes_id
from factory.runs import Run, open_run
from factory.types import Node, NodeState, Outcome, Tree
from pipelines.imports import import_rollouts
from pipelines.refine import refine_again

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SPECS = ROOT / "tests" / "imports"
VARIANTS = ("full", "first_correct", "pruned", "concise", "reflective")
Row = dict[str, Any]


def _listed(column: str) -> Callable[[Row], int]:
    return lambda row: len(row[column])


def _one(row: Row) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class File:
    """A file, how it is imported, and how many attempts a row of it has."""

    path: str
    format: str
    spec: str
    attempts: Callable[[Row], int]
    join: str = ""
    """The file that is put beside it."""

    @property
    def name(self) -> str:
        return self.path.partition("/")[2].partition(".")[0]

    @property
    def overrides(self) -> list[str]:
        return [f"join.files={json.dumps([str(DATA / self.join)])}"] if self.join else []


_SKY = (
    "skyt1_14b_27b_wrong_vs_correct_aime24_amc23.jsonl.gz",
    "skyt1_27b_longcot_math500.jsonl.gz",
    "skyt1_32b_longcot_aime24_7ckpt.jsonl.gz",
    "skyt1_32b_reflection_corrupt_aime24_amc23.jsonl.gz",
    "skyt1_32b_short_aime24_6runs.jsonl.gz",
    "baseline_gemma27b_llama8b_aime_amc.jsonl",
    "baseline_shortcot_qwen14b_math500_aime_amc.jsonl",
    "qwen3b_base_vs_rl_math.jsonl.gz",
)
_GYM = (
    "rg_easy_claude_sonnet4_x3.jsonl.gz",
    "rg_easy_open_models_x3.jsonl.gz",
    "rg_easy_reasoning_models_final_only_x3.jsonl",
)
_LLAMA = ("llama3b_rl_aime2024_x50.jsonl.gz", "llama3b_rl_amc2023_x50.jsonl.gz")
_TREE = "rollouts/tot_game24_gpt4_bfs_tree.jsonl"
_MATH = "problems/math/math_test5000_mario_annotated.jsonl"


def _samples(name: str, spec: str, attempts: Callable[[Row], int]) -> File:
    return File(f"rollouts/{name}", "samples", spec, attempts)


FILES = (
    *(_samples(name, "skythought", _listed("code")) for name in _SKY),
    _samples("qwen25math_math100_x8_rm_scores.jsonl.gz", "qwen25math", _listed("code")),
    _samples("tora_gsm8k_tool_integrated.jsonl", "tora", _listed("code")),
    *(_samples(name, "llama3b", _listed("completions")) for name in _LLAMA),
    *(_samples(name, "reasoning_gym", _listed("completions")) for name in _GYM),
    _samples("gsm8k_gpt3_4models.jsonl", "gsm8k", lambda row: len(row) - 2),
    _samples("zeroeval_math_l5_11models.jsonl.gz", "zeroeval_math", _listed("output")),
    _samples("zeroeval_crux_7models.jsonl", "zeroeval_crux", _listed("output")),
    _samples("reflexion_code_gpt4.jsonl.gz", "reflexion", _one),
    _samples("livecodebench_o1preview_o1mini.jsonl.gz", "livecodebench", _listed("output_list")),
    _samples("deepseek_math_v2_proofs_human_rated.jsonl", "deepseek_proofs", _one),
    File(_TREE, "tree", "game24_tree", _listed("infos")),
    File("rollouts/tot_game24_gpt4_cot_100x100.jsonl", "samples", "game24_samples", _listed("infos"), _TREE),
    File("steps/prm800k_phase1_test.jsonl.gz", "samples", "prm800k", lambda row: int(row["is_solution"]), _MATH),
    File(
        "steps/prm800k_phase1_train_every18th_problem.jsonl.gz",
        "samples",
        "prm800k_train",
        lambda row: int(row["is_solution"]),
    ),
    File("steps/thought_anchors_r1distill_math.jsonl.gz", "samples", "thought_anchors", _one),
)

LEFT_OUT = {
    "rollouts/imo25_solve_verify_correct_logs.jsonl.gz": "a row is the log of an agent: problem, attempts and criticism"
    " stand in its printed text, none of them in a field",
    "rollouts/tot_crosswords_gpt4_dfs_noprune.jsonl": "no text of a model, only the actions that were read from it; and"
    " no problem, only an index of a file that is not here",
    "steps/prm800k_original_format_sample.jsonl": "the index of a step's chosen candidate stands in the row, and no"
    " path follows it; the same labels are in the flat files",
}
"""What is not imported, and why."""


@dataclass(slots=True)
class Figures:
    """What came of one file."""

    file: str
    format: str
    spec: str
    rows: int = 0
    in_file: int = 0
    """Attempts, as the file itself is counted."""
    refused: dict[str, int] = field(default_factory=dict)
    """Rows by reason."""
    problems: int = 0
    errors: int = 0
    """Problems that are committed as errors: refused rows of the same bytes are one."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Attempts: right, wrong, unknown, truncated."""
    claims: dict[str, int] = field(default_factory=dict)
    """Of what the file says is right or wrong: agree, and how the others disagree, `claimed, ours`."""
    kept: dict[str, int] = field(default_factory=dict)
    """By variant."""
    rejected: dict[str, int] = field(default_factory=dict)
    """By reason."""
    seconds: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What does not add up."""


def raw_rows(path: Path) -> Iterator[bytes]:
    """Lines that are not blank."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        yield from (line for line in lines if line.strip())


def some_of(file: File, folder: Path, rows: int, attempts: int) -> Path:
    """A file of some rows, taken evenly from all of it, with about so many attempts at most."""
    lines = list(raw_rows(DATA / file.path))
    count = max(1, min(rows, attempts // max(1, file.attempts(json.loads(lines[0])))))
    path = folder / f"{file.name}.jsonl"
    path.write_bytes(b"".join(lines[place * len(lines) // count] for place in range(count)))
    return path


def brought_in(file: File, path: Path, out: str, variants: Sequence[str] = VARIANTS) -> Figures:
    """Import, refine and check a file as a person would; what came of it, and what does not add up."""
    figures = Figures(file.path, file.format, file.spec)
    said = _timed(figures, "import", lambda: _imported(file, path, out))
    wanted = [f"prune.variants={json.dumps(list(variants))}"]
    _timed(figures, "refine", lambda: refine_again(out, wanted))
    report = _timed(figures, "check", lambda: check(out))
    figures.faults += report.errors
    run = open_run(out)
    trees = list(run.rollouts())
    _count_file(figures, file, path, trees)
    _count_trees(figures, trees)
    _count_transcripts(figures, run)
    _add_up(figures, said, variants)
    return figures


def _timed(figures: Figures, what: str, work: Callable[[], Any]) -> Any:
    start = time.monotonic()
    done = work()
    figures.seconds[what] = round(time.monotonic() - start, 1)
    return done


def _imported(file: File, path: Path, out: str) -> dict[str, Any]:
    """What the command prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        spec = SPECS / f"{file.spec}.toml"
        import_rollouts(file.format, [str(path)], out, spec, file.overrides, as_json=True)
    said: dict[str, Any] = json.loads(printed.getvalue())
    return said


def _count_file(figures: Figures, file: File, path: Path, trees: list[Tree]) -> None:
    """Rows and attempts by the file alone; the attempts of refused rows do not count."""
    reasons = {tree.problem.id: _reason(tree.error) for tree in trees if tree.error is not None}
    refused: Counter[str] = Counter()
    for line in raw_rows(path):
        figures.rows += 1
        reason = reasons.get(bytes_id(line.rstrip(b"\r\n")))
        if reason is None:
            figures.in_file += file.attempts(json.loads(line))
        else:
            refused[reason] += 1
    figures.refused = dict(refused)


def _reason(error: str) -> str:
    """What is wrong with a row, without which row it is."""
    return re.sub(r"^.*?: line \d+: ", "", error)[:100]


def _count_trees(figures: Figures, trees: list[Tree]) -> None:
    figures.problems = sum(tree.error is None for tree in trees)
    figures.errors = len(trees) - figures.problems
    outcomes, claims = Counter[str](), Counter[str]()
    for tree in trees:
        for leaf in tree.leaves():
            ours = outcome_of(leaf)
            outcomes[ours] += 1
            claimed = claim_of(leaf)
            if claimed is not None:
                claims["agree" if claimed == ours else f"{claimed}, {ours}"] += 1
    figures.outcomes, figures.claims = dict(outcomes), dict(claims)


def outcome_of(leaf: Node) -> str:
    """Right, wrong or unknown as this project judges it, or truncated."""
    if leaf.state is NodeState.TRUNCATED:
        return "truncated"
    return {Outcome.PASS: "right", Outcome.FAIL: "wrong"}.get(leaf.outcome or Outcome.UNKNOWN, "unknown")


def claim_of(leaf: Node) -> str | None:
    """Right or wrong as the file has it, None where it says nothing. Part of a score is wrong."""
    said = None if leaf.recorded is None else leaf.recorded.claims.get("right")
    if said is None:
        return None
    return "right" if said in (True, 1) else "wrong"


def _count_transcripts(figures: Figures, run: Run) -> None:
    figures.kept = dict(Counter(one.variant for one in run.transcripts()))
    figures.rejected = dict(Counter(str(one.rejection) for one in run.rejected()))


def _add_up(figures: Figures, said: dict[str, Any], variants: Sequence[str]) -> None:
    """Each attempt of the file is a leaf; each leaf that is not right one rejected transcript, and each right one a
    transcript a variant, kept or rejected."""
    outcomes = Counter(figures.outcomes)
    right, leaves = outcomes["right"], outcomes.total()
    made, refused = sum(figures.kept.values()) + sum(figures.rejected.values()), sum(figures.refused.values())
    for told, one, other in (
        ("rows: as printed, in the file", said["rows"], figures.rows),
        ("bad rows: as printed, by reason", said["bad_rows"], refused),
        ("problems: as printed, in the table", said["problems"], figures.problems + figures.errors),
        ("errors: as printed, in the table", said["errors"], figures.errors),
        ("attempts: in rows that are read, leaves", figures.in_file, leaves),
        ("attempts: as printed, leaves", said["attempts"], leaves),
        ("right: as printed, leaves", said["right"], right),
        ("transcripts: of leaves, kept and rejected", leaves - right + right * len(variants), made),
    ):
        if one != other:
            figures.faults.append(f"{told}: {one} and {other}")
