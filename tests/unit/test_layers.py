"""Who may import whom, held by reading every file's imports: `sandboxes <- factory <- pipelines`, and a star inside.

All imports count, also those inside functions and those for type checkers only: what a module names, it knows.
"""

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("factory", "pipelines", "sandboxes")

BOTTOM = [
    "factory.types",
    "factory.errors",
    "factory.ids",
    "factory.config",
    "factory.search_config",
    "factory.section",
    "factory.stats",
]
NOUNS = ["factory.types", "factory.errors", "factory.ids"]
STAGES = [f"factory.{s}" for s in ("sources", "engines", "search", "scorers", "verifiers", "prune", "refine")]
STORAGE = [f"factory.{s}" for s in ("rows", "store", "lease", "shards", "runs", "check", "card")]


@dataclass(frozen=True)
class Rule:
    """One line of the architecture."""

    name: str
    who: Callable[[str], bool]
    """Whether the rule is about this module (dotted name)."""
    breaks: Callable[[str, str], bool]
    """Whether (module, what it imports) breaks the rule."""
    message: str
    """What is wrong, after "MODULE imports TARGET: "."""


def within(name: str, packages: Iterable[str]) -> bool:
    """Whether a module is one of these, or inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def local(name: str) -> bool:
    return within(name, PACKAGES)


def stage_of(name: str) -> str | None:
    return next((stage for stage in STAGES if within(name, [stage])), None)


def about(*packages: str) -> Callable[[str], bool]:
    return lambda module: within(module, packages)


def forbids(*packages: str) -> Callable[[str, str], bool]:
    return lambda _, target: within(target, packages)


def allows(*packages: str) -> Callable[[str, str], bool]:
    """Of this project, nothing but these may be imported."""
    return lambda _, target: local(target) and not within(target, packages)


def names_another_stage(module: str, target: str) -> bool:
    own = [stage] if (stage := stage_of(module)) else []
    sandboxes = ["sandboxes"] if own == ["factory.verifiers"] else []
    return local(target) and not within(target, NOUNS + own + sandboxes)


def names_a_concrete_class(module: str, target: str) -> bool:
    stage = stage_of(target)
    return stage is not None and stage != stage_of(module) and target != f"{stage}.base"


RULES = [
    Rule(
        "sandboxes stand alone",
        about("sandboxes"),
        forbids("factory", "pipelines"),
        "a sandbox knows nothing of models or of the factory; pass it plain values",
    ),
    Rule(
        "the factory is below the command line",
        about("factory"),
        forbids("pipelines"),
        "pipelines puts the factory together, not the other way round; take it as an argument",
    ),
    Rule(
        "only verifiers use sandboxes",
        lambda module: within(module, ["factory"]) and not within(module, ["factory.verifiers"]),
        forbids("sandboxes"),
        "programs are run to judge them, which is a verifier's work",
    ),
    Rule(
        "the bottom has nothing below it",
        lambda module: module in BOTTOM,
        allows(*BOTTOM),
        f"{', '.join(BOTTOM)} import nothing local above them",
    ),
    Rule(
        "stages form a star",
        lambda module: stage_of(module) is not None,
        names_another_stage,
        "a stage imports types, errors, ids and its own package, never a sibling; rollout or pipelines joins them",
    ),
    Rule(
        "storage knows no stage",
        about(*STORAGE),
        allows(*BOTTOM, *STORAGE),
        "records are read and written without the code that made them",
    ),
    Rule(
        "dispatch is pure",
        about("factory.dispatch"),
        allows(*BOTTOM),
        "which problem runs where is decided on ids and states alone",
    ),
    Rule(
        "concrete classes are named by pipelines",
        about("factory"),
        names_a_concrete_class,
        "outside its own package a stage is known by its base.py only; let pipelines choose and pass it in",
    ),
    Rule(
        "one file knows Ray",
        lambda module: within(module, ["factory", "sandboxes"]) and module != "factory.cluster",
        forbids("ray"),
        "only factory/cluster.py imports ray",
    ),
    Rule(
        "one file knows vLLM",
        lambda module: within(module, ["factory", "sandboxes"]) and module != "factory.engines.vllm",
        forbids("vllm"),
        "only factory/engines/vllm.py imports vllm",
    ),
]


def imports(module: str, is_package: bool, source: str, modules: Iterable[str]) -> set[str]:
    """Dotted names of the modules that a source imports; of `from a import b`, `a.b` where that is a module."""
    known = set(modules)
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            members = {f"{base}.{alias.name}" for alias in node.names}
            found |= members & known
            if not members <= known:
                found.add(base)
    return found - {module}


def read(root: Path) -> dict[str, set[str]]:
    """What each module of the project imports."""
    files: dict[str, tuple[bool, str]] = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            files[".".join(parts[:-1] if is_package else parts)] = (is_package, path.read_text("utf-8"))
    return {module: imports(module, is_package, source, files) for module, (is_package, source) in files.items()}


def violations(graph: Mapping[str, Iterable[str]], rule: Rule) -> list[str]:
    return [
        f"{module} imports {target}: {rule.message}"
        for module in sorted(graph)
        if rule.who(module)
        for target in sorted(graph[module])
        if rule.breaks(module, target)
    ]


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Some modules that import each other in a ring, or none.

    The root package is left out: its one name, `open_run`, is loaded when it is asked for.
    """
    inner = {module: {t for t in targets if t in graph and t != "factory"} for module, targets in graph.items()}
    inner.pop("factory", None)
    try:
        TopologicalSorter(inner).prepare()
    except CycleError as error:
        ring: list[str] = error.args[1]
        return ring
    return []


GRAPH = read(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_imports_show_the_architecture(rule: Rule) -> None:
    found = violations(GRAPH, rule)
    assert not found, "\n".join(found)


def test_no_modules_import_each_other_in_a_ring() -> None:
    ring = cycle(GRAPH)
    assert not ring, " <- ".join(ring) + ": split what both need into a module below them"


def test_there_is_no_utils() -> None:
    found = [module for module in GRAPH if module.rpartition(".")[2] in {"util", "utils", "helpers"}]
    assert not found, f"{found}: name a module after what it holds"


def test_the_project_was_found() -> None:
    assert {"factory.types", "factory.rollout", "pipelines", "sandboxes"} <= GRAPH.keys()
    assert "factory.types" in GRAPH["factory.rollout"]


BREACHES = [
    ("sandboxes stand alone", "sandboxes.local", "import factory.types"),
    ("the factory is below the command line", "factory.driver", "from pipelines.build import tools"),
    ("the factory is below the command line", "factory", "def f():\n    import pipelines"),
    ("only verifiers use sandboxes", "factory.search.beam", "from sandboxes.local import run"),
    ("the bottom has nothing below it", "factory.types", "from factory.rows import Row"),
    ("the bottom has nothing below it", "factory.ids", "from . import store"),
    ("stages form a star", "factory.prune.base", "from factory.verifiers.base import Verifier"),
    ("stages form a star", "factory.engines.base", "from factory import store"),
    ("stages form a star", "factory.search", "from ..engines.base import Engine"),
    ("storage knows no stage", "factory.shards", "from factory.search.base import Search"),
    ("dispatch is pure", "factory.dispatch", "from factory.store import Store"),
    ("concrete classes are named by pipelines", "factory.rollout", "from factory.search.best_of_n import best_of_n"),
    ("concrete classes are named by pipelines", "factory.rollout", "from factory.engines import scripted"),
    ("concrete classes are named by pipelines", "factory.worker", "from factory.verifiers import table"),
    ("one file knows Ray", "factory.worker", "if TYPE_CHECKING:\n    import ray.data"),
    ("one file knows vLLM", "factory.engines.openai", "def f():\n    from vllm import LLM"),
]


@pytest.mark.parametrize(("name", "module", "source"), BREACHES)
def test_a_breach_is_caught(name: str, module: str, source: str) -> None:
    modules = [
        *GRAPH,
        "factory.store",
        "factory.search.best_of_n",
        "factory.engines.scripted",
        "factory.verifiers.table",
    ]
    is_package = module in {"factory", *STAGES}
    found = imports(module, is_package, source, modules)
    broken = [rule.name for rule in RULES if violations({module: found}, rule)]
    assert name in broken, f"{module} may import {found}"


def test_each_rule_is_tried() -> None:
    assert {name for name, _, _ in BREACHES} == {rule.name for rule in RULES}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("factory.rollout", "from factory.search.base import Search\nfrom factory.types import Tree"),
        ("factory.verifiers.code", "from sandboxes.local import run\nfrom .base import Finding"),
        ("factory.engines.vllm", "import vllm"),
        ("factory.cluster", "import ray\nfrom factory.worker import Worker"),
        ("factory.prune.countdown", "from factory import ids\nfrom factory.prune import base"),
        ("pipelines.build", "from factory.search.best_of_n import best_of_n\nimport ray"),
    ],
)
def test_what_is_meant_to_be_allowed_is(module: str, source: str) -> None:
    found = imports(module, False, source, [*GRAPH, "factory.ids", "factory.prune.base"])
    assert found
    assert [line for rule in RULES for line in violations({module: found}, rule)] == []


def test_a_ring_is_caught() -> None:
    ring = cycle({"factory.a": ["factory.b"], "factory.b": ["factory.c", "json"], "factory.c": ["factory.a"]})
    assert {"factory.a", "factory.b", "factory.c"} == set(ring)
    assert cycle({"factory": ["factory.a"], "factory.a": ["factory"], "factory.b": ["factory.a"]}) == []
