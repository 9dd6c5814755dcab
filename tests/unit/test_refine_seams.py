"""Refinements whose cuts an engine is asked about: what is withdrawn, with which figures, and what is refused.

The scripted engine finds probable what its script would say next. It says a turn by heart: one that it knows with the
detour makes all behind a cut of it unlikely, one that it knows without makes nothing unlikely.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.card import read_card
from factory.config import SandboxConfig, SeamsConfig, parse_recipe
from factory.engines.base import Prompt, Request
from factory.engines.scripted import Reply, ScriptedEngine, written
from factory.errors import ConfigError, EngineDead
from factory.prune.countdown import CountdownPruner
from factory.prune.transcripts import Draft, drafts
from factory.render import PlainRenderer
from factory.runs import open_run
from factory.store import Store
from factory.types import Sampling, Seam, Transcript
from factory.verifiers.base import verdicts
from pipelines import build
from pipelines.imports import import_rollouts
from pipelines.refine import refine_again
from pipelines.seams import Seams
from tests.unit.run_folders import DETOUR, DETOURED, END, RIGHT, WAY, WRONG, problem, tree, write_run

QUESTION = "make 42 from 3 7 12 25"
SEAMS = ["prune.seams={engine='teacher'}"]


@pytest.fixture(autouse=True)
def _desks() -> Iterator[None]:
    yield
    build.close_desks()


def asked(folder: Path, knows: str, *overrides: str, **teacher: Any) -> str:
    """A run of one problem, refined with its cuts tested by an engine that knows one turn by heart."""
    args = {"script": {QUESTION: knows}, **teacher}
    url = write_run(folder, [[tree(problem("p" * 16), [WRONG, DETOURED])]], refined=False, teacher=args)
    refine_again(url, [*SEAMS, *overrides])
    return url


def pruned(url: str) -> Transcript:
    (found,) = (one for one in open_run(url).transcripts() if one.variant == "pruned")
    return found


def test_a_cut_is_kept_behind_which_the_text_is_as_likely(tmp_path: Path) -> None:
    url = asked(tmp_path, RIGHT)
    made = pruned(url)
    assert made.text == RIGHT
    (removal,) = made.removals
    assert (removal.text, removal.reason, removal.seam.untested) == (DETOUR, "abandoned_attempt", None)
    assert removal.seam.tokens == 32
    assert removal.seam.largest is not None
    assert removal.seam.largest < 0  # the engine knows the shorter text only
    assert made.withdrawn == ()


def test_a_cut_is_withdrawn_behind_which_the_text_is_unlikely(tmp_path: Path) -> None:
    url = asked(tmp_path, DETOURED)
    made = pruned(url)
    assert (made.text, made.removals) == (DETOURED, ())
    (removal,) = made.withdrawn
    assert (removal.text, removal.seam.untested, removal.seam.tokens) == (DETOUR, None, 32)
    assert (removal.seam.largest or 0) > 10
    assert removal.evidence == "without it '7' behind it is 16.1 nats less likely, 11.59 a token over 32"
    assert [one.outcome for one in made.verdicts] == ["pass", "pass"]


def test_the_limit_is_the_recipes(tmp_path: Path) -> None:
    assert pruned(asked(tmp_path, DETOURED, "prune.seams.most_drop=100.0")).text == RIGHT


def test_what_became_of_cuts_is_counted(tmp_path: Path) -> None:
    kept, withdrawn = asked(tmp_path / "kept", RIGHT), asked(tmp_path / "withdrawn", DETOURED)
    assert refine_again(kept, SEAMS)["cuts"] == {"cut_harmless": 1}
    figures = refine_again(withdrawn, SEAMS)
    assert (figures["cuts"], figures["kept"]) == ({"cut_withdrawn": 1}, {"full": 1, "pruned": 1})
    card = Store(withdrawn).read("README.md").decode()
    assert "| cuts: cut_withdrawn | 1 |" in card
    assert (
        "| cuts: cut_"
        not in Store(write_run(tmp_path / "un", [[tree(problem("p"), [DETOURED])]])).read("README.md").decode()
    )


def test_without_an_engine_transcripts_say_that_nothing_was_tested(tmp_path: Path) -> None:
    (removal,) = pruned(write_run(tmp_path, [[tree(problem("p" * 16), [DETOURED])]])).removals
    assert removal.seam == Seam("no engine was asked")


def test_an_engine_in_trouble_fails_no_cut(tmp_path: Path) -> None:
    url = asked(tmp_path, DETOURED, fail_every=1)
    made = pruned(url)
    assert made.text == RIGHT
    (removal,) = made.removals
    assert removal.seam == Seam("EngineError: scripted engine: request 1 fails, as told by fail_every=1")
    assert refine_again(url, SEAMS)["cuts"] == {"cut_untested": 1}


def test_a_dead_engine_ends_the_refinement_and_what_is_not_written_is_owed(tmp_path: Path) -> None:
    with pytest.raises(EngineDead):
        asked(tmp_path, DETOURED, die_after=0)
    assert list(Store(str(tmp_path)).folders("transcripts")) == [] or not list(open_run(str(tmp_path)).transcripts())


def test_texts_are_compared_after_cuts_are_withdrawn(tmp_path: Path) -> None:
    """Two leaves have one text while both are cut; the one whose cut fails is another text, and both are kept."""
    args = {"script": {QUESTION: DETOURED}}
    other = f"<think>\n{DETOUR.replace('25 - 12 = 13 left 3 7 13', '12 + 25 = 37 left 3 7 37')}{WAY}{END}"
    one = tree(problem("p" * 16), [DETOURED, RIGHT, other])
    url = write_run(tmp_path, [[one]], refined=False, teacher=args)
    assert refine_again(url, [])["rejected"] == {"duplicate_text": 2}
    assert refine_again(url, SEAMS)["rejected"] == {"duplicate_text": 1}  # the other's cut: unlikely as it is
    texts = {one.text for one in open_run(url).transcripts() if one.variant == "pruned"}
    assert texts == {DETOURED, RIGHT}


# --- what is asked


def draft_of(*texts: str) -> list[Draft]:
    judge = _judge
    made = tree(problem("p" * 16), texts)
    return list(drafts(made, variants=["pruned"], pruners=[CountdownPruner()], judge=judge))


def _judge(*args: Any) -> Any:
    return verdicts(build.verifiers(SandboxConfig()), *args)


class Counting(ScriptedEngine):
    """Tells how many requests were in it at once."""

    most = 0

    async def _answer(self, prompt: Prompt, request: Request, number: int) -> Any:
        self.most = max(self.most, self.stats.running)
        return await super()._answer(prompt, request, number)


async def test_the_engine_gets_all_at_once() -> None:
    many = [one for number in range(20) for one in draft_of(DETOURED)]
    engine = Counting({QUESTION: RIGHT}, delay_turns=5)
    await engine.start()
    found = await Seams(SeamsConfig(), PlainRenderer(), Sampling(), _judge, own=True).tested(engine, many)
    assert engine.most > 20
    assert len(engine.requests) == 40  # one prefill of each text
    assert all(draft.cuts[0].seam.untested is None for draft in found)


def says(reply: Callable[[str], str]) -> ScriptedEngine:
    """Finds every token as likely as any, and goes on from a text as `reply` says."""
    return ScriptedEngine(lambda prompt, _: Reply(reply(written(prompt)), chances=_Even()))


class _Even(dict[str, float]):
    def get(self, key: str, default: Any = None) -> Any:
        return 0.5


async def continued(engine: ScriptedEngine, count: int) -> Draft:
    await engine.start()
    seams = Seams(SeamsConfig(continuations=count), PlainRenderer(), Sampling(), _judge, own=True)
    (found,) = await seams.tested(engine, draft_of(DETOURED))
    return found


async def test_fewer_right_continuations_withdraw_a_cut() -> None:
    found = await continued(says(lambda text: WAY + END if DETOUR in text else WAY + "</think>\nanswer 3"), 5)
    assert found.made.text == DETOURED
    (cut,) = found.withdrawn
    assert cut.evidence == "0 of 5 continuations verify without it, 5 with it"
    seam = cut.seam
    assert (seam.continuations, seam.right_with, seam.right_without, seam.detectable) == (5, 5, 0, 0.832)
    assert seam.largest == 0.0


async def test_as_many_right_continuations_keep_it_and_are_told() -> None:
    engine = says(lambda _: WAY + END)
    found = await continued(engine, 3)
    seam = found.cuts[0].seam
    assert (found.made.text, seam.right_with, seam.right_without) == (RIGHT, 3, 3)
    asked = [request for _, request in engine.requests if request.seed is not None]
    assert len({one.seed for one in asked}) == len({one.key for one in asked}) == 6


async def test_a_continuation_without_an_end_does_not_verify() -> None:
    found = await continued(says(lambda _: "wait\n" * 200), 3)
    seam = found.cuts[0].seam
    assert (seam.right_with, seam.right_without, seam.detectable) == (0, 0, None)


async def test_no_room_for_continuations_is_no_failed_cut() -> None:
    engine = ScriptedEngine({QUESTION: RIGHT}, max_context=len(QUESTION) + len(DETOURED) + 30)
    await engine.start()
    seams = Seams(SeamsConfig(continuations=3), PlainRenderer(), Sampling(max_tokens=5), _judge, own=True)
    (found,) = await seams.tested(engine, draft_of(DETOURED))
    assert found.cuts[0].seam.continuations == 3
    tight = ScriptedEngine({QUESTION: RIGHT}, max_context=len(QUESTION) + 40)
    await tight.start()
    (found,) = await seams.tested(tight, draft_of(DETOURED))
    assert str(found.cuts[0].seam.untested).startswith("EngineError: ")


async def test_ids_that_do_not_spell_are_no_failed_cut() -> None:
    (draft,) = draft_of(DETOURED)
    draft = replace(draft, turn=(replace(draft.turn[0], token_ids=(65, 66)),))
    engine = ScriptedEngine({QUESTION: DETOURED})
    await engine.start()
    (found,) = await Seams(SeamsConfig(), PlainRenderer(), Sampling(), _judge, own=True).tested(engine, [draft])
    assert "token ids spell 'AB'" in str(found.cuts[0].seam.untested)
    (other,) = await Seams(SeamsConfig(), PlainRenderer(), Sampling(), _judge, own=False).tested(engine, [draft])
    assert other.made.text == DETOURED  # another model reads the text, and so the cut fails


# --- what is refused


def recipe(**prune: Any) -> dict[str, Any]:
    return {
        "source": {"kind": "countdown", "count": 1, "seed": 1},
        "engines": {"teacher": {"kind": "scripted"}},
        "search": {"kind": "best_of_n"},
        "prune": prune,
    }


@pytest.mark.parametrize(
    ("prune", "told"),
    [
        ({"seams": {"engine": "critic"}}, r"prune\.seams\.engine: there is no \[engines\.critic\]"),
        ({"seams": {"most_drop": 0.0}}, r"prune\.seams\.most_drop: "),
        ({"seams": {"window": 0}}, r"prune\.seams\.window: "),
        ({"seams": {"continuations": 2}}, r"prune\.seams: continuations = 2 can show nothing"),
        ({"seams": {"widow": 3}}, r"unknown key prune\.seams\.widow; did you mean window\?"),
        ({"seams": {}, "variants": ["full"]}, r"prune: seams: of variants = \['full'\] nothing is removed"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(prune: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_recipe(recipe(**prune), "recipe")


def test_continuations_of_a_greedy_teacher_are_refused() -> None:
    table = recipe(seams={"continuations": 8}) | {"sampling": {"temperature": 0.0}}
    with pytest.raises(ConfigError, match=r"prune\.seams\.continuations: with sampling\.temperature = 0"):
        parse_recipe(table, "recipe")


@pytest.mark.parametrize("critic", [{"token_prompts": False}, {"rewards": True}])
def test_an_engine_that_does_not_weigh_is_refused_at_start(critic: dict[str, Any]) -> None:
    table = recipe(seams={"engine": "critic"})
    table["engines"]["critic"] = {"kind": "scripted", "args": critic}
    with pytest.raises(ConfigError, match=r"prune\.seams\.engine: 'critic' does not tell how probable a text is"):
        build.check_engines(parse_recipe(table, "recipe"))


def test_an_engine_that_tests_seams_is_not_idle() -> None:
    table = recipe(seams={"engine": "critic"})
    table["engines"]["critic"] = {"kind": "scripted"}
    build.check_engines(parse_recipe(table, "recipe"))
    with pytest.raises(ConfigError, match=r"engines\.critic: no check, \[scorer\] or \[prune"):
        build.check_engines(parse_recipe(table | {"prune": {}}, "recipe"))


def test_a_refused_refinement_writes_nothing(tmp_path: Path) -> None:
    url = write_run(tmp_path, [[tree(problem("p" * 16), [DETOURED])]], teacher={"token_prompts": False})
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(ConfigError, match=r"prune\.seams\.engine"):
        refine_again(url, SEAMS)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


# --- imports

START = "I combine the five numbers.\n\n"
LEFT = "Let me try 57 * 7 = 399.\n\nThat is too big.\n\n"
GOES_ON = "Let me try another approach: 57 + 360 = 417 and 417 - 26 = 391.\n\nThe answer is:\n391"


@pytest.fixture
def imported(tmp_path: Path) -> str:
    """A right chain of somebody else's, with a given-up attempt."""
    file, out = tmp_path / "rows.jsonl", str(tmp_path / "run")
    turns = [{"role": "user", "content": "Make 391."}]
    file.write_text(json.dumps({"prompt": turns, "completion": START + LEFT + GOES_ON, "answer": "391"}))
    checks = 'checks=[{verifier="exact", params={extract="last_line"}}]'
    assert import_rollouts("verifiers", [str(file)], out, None, [checks], as_json=True) == 0
    return out


def critic(knows: str) -> list[str]:
    engine = f"engines.critic={{kind='scripted', args={{script={{'Make 391.'={json.dumps(knows)}}}}}}}"
    return [engine, "prune.seams={engine='critic'}"]


def test_cuts_of_an_import_are_tested_by_an_engine_of_its_own(imported: str) -> None:
    refine_again(imported, critic(START + GOES_ON))
    assert pruned(imported).text == START + GOES_ON
    assert pruned(imported).removals[0].seam.untested is None
    refine_again(imported, critic(START + LEFT + GOES_ON))
    assert pruned(imported).text == START + LEFT + GOES_ON
    assert pruned(imported).withdrawn[0].seam.untested is None


def test_an_import_goes_on_whatever_engine_tested_it(imported: str, tmp_path: Path) -> None:
    refine_again(imported, critic(START))
    checks = 'checks=[{verifier="exact", params={extract="last_line"}}]'
    assert import_rollouts("verifiers", [str(tmp_path / "rows.jsonl")], imported, None, [checks], as_json=True) == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["prune.seams={}"], r"prune\.seams\.engine: there is no \[engines\.teacher\]"),
        (critic("x")[:1], r"engines\.critic: nothing asks it"),
        ([*critic("x"), "prune.seams.continuations=8"], r"prune\.seams\.continuations: .* set policy\.sampling"),
        ([*critic("x"), "engines.critic.modell=1"], r"unknown key engines\.critic\.modell"),
        ([*critic("x"), "prune.seams.widow=1"], r"unknown key prune\.seams\.widow; did you mean window\?"),
    ],
)
def test_an_import_is_refused_what_cannot_work(imported: str, options: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        refine_again(imported, options)


# --- killed and made again


KILLED = """
import os, signal, sys
from pipelines import refine
real, left = refine.commit, [int(sys.argv[2])]
def commit(*args, **more):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **more)
refine.commit = commit
refine.refine_again(sys.argv[1], [sys.argv[3]])
"""


def rows(url: str) -> list[Transcript]:
    run = open_run(url)
    found: Iterable[Transcript] = (*run.transcripts(), *run.rejected())
    timeless = [replace(one, verdicts=tuple(replace(v, seconds=0.0) for v in one.verdicts)) for one in found]
    return sorted(timeless, key=lambda one: (one.problem.id, one.leaf, one.variant))


def shards() -> Sequence[Sequence[Any]]:
    return [[tree(problem(f"{number:016}"), [DETOURED, RIGHT, WRONG])] for number in range(3)]


@pytest.mark.parametrize("commits", [0, 1, 3, 5])
def test_killed_and_made_again_the_same_rows_come_out(tmp_path: Path, commits: int) -> None:
    option = "prune.seams={engine='teacher', continuations=3, most_drop=30.0}"
    teacher = {"script": "countdown", "solve_rate": 0.7}
    whole = write_run(tmp_path / "whole", shards(), refined=False, teacher=teacher)
    refine_again(whole, [option])
    url = write_run(tmp_path / "killed", shards(), refined=False, teacher=teacher)
    ended = subprocess.run([sys.executable, "-c", KILLED, url, str(commits), option], check=False)
    assert ended.returncode == -signal.SIGKILL
    refine_again(url, [option])
    assert rows(url) == rows(whole)
    assert read_card(Store(url)) is not None
    assert any(one.seam.continuations == 3 for kept in rows(url) for one in (*kept.removals, *kept.withdrawn))
