"""The command line. Each command is a few lines here and a file of its own; nothing heavy is imported to show help.

Exit status: 0 finished, 2 the user's mistake, 3 owned by a live run elsewhere, 4 stopped at a cap, 130 interrupted, 1
anything else. Results go to stdout, progress and logs to stderr.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from factory.errors import ConfigError, FactoryError, UserError

app = typer.Typer(
    name="factory",
    help="Search for solutions with a teacher model, keep what verifiers accept, and write shards to train a student.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[Path, typer.Argument(help="A TOML recipe, such as pipelines/demo.toml.", metavar="RECIPE")]
RunFolder = Annotated[str, typer.Argument(help="A run's folder or URL.", metavar="RUN")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override a key, as a.b=value; repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


@app.callback()
def _common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what the library does.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


@app.command()
def run(
    recipe: RecipeFile,
    out: Annotated[str, typer.Option(help="Folder or URL of the run; the same line resumes it.")],
    overrides: Overrides = None,
    strict: Annotated[bool, typer.Option(help="Validate every problem first, not only the first 1,000.")] = False,
    retry_errors: Annotated[bool, typer.Option(help="Take problems again that ended as errors.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the resolved config and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe, or go on with it: search, verify, prune, write shards."""
    from factory.config import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        from pipelines.run import dry_run as describe

        print(describe(loaded))
        return
    from pipelines.progress import show
    from pipelines.report import print_summary
    from pipelines.run import Options
    from pipelines.run import run as run_recipe

    summary = run_recipe(loaded, Options(out, strict, retry_errors), show)
    print_summary(summary, as_json=as_json)
    raise typer.Exit(summary.exit_status)


@app.command()
def estimate(
    recipe: RecipeFile,
    overrides: Overrides = None,
    pilot: Annotated[int, typer.Option(help="Problems to run, drawn at random from the source.")] = 32,
    out: Annotated[
        str | None, typer.Option(help="Run folder that keeps the pilot: a run goes on from it. Else it is forgotten.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast tokens, time, money and yield of a recipe from a pilot, with 80% intervals."""
    from factory.config import load_recipe
    from pipelines.estimate import estimate as forecast
    from pipelines.progress import show

    forecast(load_recipe(recipe, overrides or []), pilot, out, show, as_json=as_json)


@app.command("import")
def import_(
    kind: Annotated[str, typer.Argument(help="chat, samples, tree, verifiers or nemo.", metavar="FORMAT")],
    files: Annotated[list[str], typer.Argument(help="JSONL files or globs, .gz as well.", metavar="FILES...")],
    out: Annotated[str, typer.Option(help="Folder or URL of the run; the same line goes on where it was stopped.")],
    spec: Annotated[Path | None, typer.Option(help="TOML: fields, checks, policy, join.", metavar="SPEC")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Import recorded rollouts into a run, and verify them again; claims of right and wrong are kept beside."""
    from pipelines.imports import import_rollouts

    raise typer.Exit(import_rollouts(kind, files, out, spec, overrides or [], as_json=as_json))


@app.command()
def refine(run: RunFolder, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Make the transcripts of a run again from its rollouts, without a search."""
    from pipelines.refine import refine_again
    from pipelines.report import print_figures

    print_figures(run, refine_again(run, overrides or []), as_json=as_json)


@app.command()
def check(run: RunFolder, as_json: AsJson = False) -> None:
    """Check every sidecar, checksum, schema, id and count of a run."""
    from pipelines.check import check as check_run

    raise typer.Exit(check_run(run, as_json=as_json))


@app.command()
def verify(
    file: Annotated[str, typer.Argument(help="JSONL: pred, gold, checks; `-` for standard input.", metavar="FILE")],
    out: Annotated[str, typer.Option(help="Where verdicts go; `-` for standard output.")] = "-",
    check: Annotated[
        str, typer.Option(help="Verifier for lines without checks, with parameters as JSON: math or math:{...}.")
    ] = "math",
    backend: Annotated[str, typer.Option(help="Sandbox for what runs programs.")] = "auto",
    unsafe: Annotated[bool, typer.Option(help="Accept no isolation at all.")] = False,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Recipe whose engines may judge, with its reviews and its sandbox.", metavar="RECIPE"),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Write a verdict for each line of a file of answers, in order."""
    from pipelines.verify import plain_table, recipe_table, verify_file

    if recipe is not None and (unsafe or backend != "auto"):
        raise ConfigError("--backend and --unsafe do nothing with --recipe, whose [sandbox] decides")
    if recipe is None and overrides:
        raise ConfigError("--set does nothing without --recipe")
    table = recipe_table(recipe, overrides or []) if recipe else plain_table(backend, unsafe=unsafe)
    raise typer.Exit(verify_file(file, out, check, table))


@app.command()
def validate(
    recipe: RecipeFile,
    overrides: Overrides = None,
    judge: Annotated[
        bool, typer.Option(help="Ask models about references, too: each costs their tokens. A run never does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try every problem's checks on its own reference, and on an attempt at nothing."""
    from pipelines.validate import validate_recipe

    raise typer.Exit(validate_recipe(recipe, overrides or [], judge=judge, as_json=as_json))


@app.command()
def review(
    run: RunFolder,
    out: Annotated[str, typer.Option(help="Where the lines go; `-` for standard output.")] = "-",
) -> None:
    """Write a line for each attempt that waits for a person; filled in, they are the reviews of [human]."""
    from pipelines.review import review_run

    review_run(run, out)


@app.command()
def stats(run: RunFolder, as_json: AsJson = False) -> None:
    """Show the funnel of a run, its cost, and its yield by difficulty."""
    from pipelines.stats import stats as show_stats

    raise typer.Exit(show_stats(run, as_json=as_json))


@app.command()
def show(
    run: RunFolder,
    id: Annotated[
        str | None, typer.Argument(help="A problem or transcript, by the start of its id; else the first ten problems.")
    ] = None,
    html: Annotated[
        str | None, typer.Option(help="Write a page that opens offline; `-` for standard output.", metavar="FILE")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Print long texts whole, and every attempt of a chain.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a problem: its tree, the attempts within each chain, and each variant with its cuts struck through."""
    from pipelines.show import show as show_problem

    raise typer.Exit(show_problem(run, id, as_json=as_json, whole=whole, html=html))


@app.command()
def left(
    run: RunFolder,
    why: Annotated[
        list[str] | None, typer.Option(help="owed, exhausted, capped, given_up or error; repeatable, all by default.")
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="Print ids and reasons, not the problems.")] = False,
) -> None:
    """Print the problems without a right answer, as lines that the source of a next run reads."""
    from pipelines.left import left as lines

    for line in lines(run, why or [], names=names):
        print(line)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what this machine can do."""
    from pipelines.doctor import doctor as examine

    raise typer.Exit(examine(as_json=as_json))


bench_app = typer.Typer(
    help="Benchmarks: what searches reach for what they spend.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(bench_app, name="bench")


@bench_app.callback()
def _bench() -> None:
    pass


@bench_app.command("search")
def bench_search(
    bench: Annotated[Path, typer.Argument(help="A TOML file, such as pipelines/bench.toml.", metavar="BENCH")],
    out: Annotated[str, typer.Option(help="Folder of the runs, the figures and the chart; the same line resumes it.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare strategies by budgets: coverage with a verifier, accuracy of the selected answer without one."""
    from pipelines.bench import bench as measure
    from pipelines.bench import write
    from pipelines.bench_report import print_bench
    from pipelines.progress import show

    table = measure(bench, overrides or [], out, show)
    print_bench(table, list(write(out, table)), as_json=as_json)


sandbox_app = typer.Typer(
    help="Sandboxes: where programs that a model wrote are run.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(sandbox_app, name="sandbox")


@sandbox_app.callback()
def _sandbox() -> None:
    pass


@sandbox_app.command("check")
def sandbox_check(
    backend: Annotated[str, typer.Option(help="all, auto, zygote, landlock, bubblewrap, remote or none.")] = "all",
    url: Annotated[str, typer.Option(help="Address of the service, for the backend remote.")] = "",
    token_variable: Annotated[
        str | None, typer.Option(help="Environment variable that holds the service's bearer token.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack the sandboxes of this machine, and tell which of them hold."""
    from pipelines.sandbox import check_sandboxes

    raise typer.Exit(check_sandboxes(backend, url=url, token_variable=token_variable, as_json=as_json))


def main() -> None:
    """Run the command line and turn errors into one line and an exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # outside of a search it is a Ctrl-C as well
    try:
        app()
    except UserError as error:
        _fail(error, error.exit_status)
    except FactoryError as error:
        _fail(error, getattr(error, "exit_status", 1))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    finally:
        if "pipelines.build" in sys.modules:
            from pipelines.build import close_desks, close_jails

            close_desks()
            close_jails()


def _fail(error: FactoryError, status: int) -> None:
    print(f"factory: {error}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
