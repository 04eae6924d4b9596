"""``r2b demo`` and ``r2b train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from r2b_zoo.cli.answers import json_option, print_answer
from r2b_zoo.cli.arguments import refuse_options
from r2b_zoo.cli.command import load_tensorflow, r2b

if TYPE_CHECKING:
    from r2b_zoo.runs.plans import Plan

DEFAULT_RECIPE_WORD = "recipe"
DEMO_FOLDER = Path("runs/demo")


@r2b.command(
    tensorflow=False,
    short_help="Train on handwritten digits, convert, verify and time it.",
    example="r2b demo\nr2b demo --seed 1 --output runs/second",
)
@click.option("--output", type=click.Path(path_type=Path), default=DEMO_FOLDER, show_default=True, help="Run folder.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def demo(output: Path, seed: int, as_json: bool) -> None:
    """Train a binary network on handwritten digits through all four stages, convert, verify and time it.

    Takes a few minutes on a laptop and needs no internet connection. Ends with a table and a report.
    """
    from r2b_zoo import recipes

    _run(recipes.plan(seed=seed), output, as_json)


@r2b.command(
    tensorflow=False,
    short_help="Train a recipe, convert and verify the result.",
    example="r2b train recipe=digits binary.epochs=3 --output runs/short\n"
    "r2b train recipe=digits gate=false              # the strong baseline's learned scale instead\n"
    "r2b train recipe=digits attention_matching=false\n"
    "r2b train recipe=digits output_matching=false\n"
    "r2b train recipe=digits progressive=false       # the real teacher teaches every student",
)
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/RECIPE]")
@click.option("--smoke", is_flag=True, help="Two steps per stage, to check that everything works.")
@click.option("--show", is_flag=True, help="Print the recipe's fields and train nothing.")
@json_option
def train(fields: tuple[str, ...], output: Optional[Path], smoke: bool, show: bool, as_json: bool) -> None:
    """Train a recipe through its stages, convert and verify the result.

    FIELD=VALUE overrides a field of the recipe; `r2b train --show` lists them. The same command in the same folder
    resumes from the last checkpoint.
    """
    from r2b_zoo import recipes
    from r2b_zoo.recipes.overrides import parse

    refuse_options(fields, but=("smoke",))
    overrides = parse(fields)
    name = overrides.pop(DEFAULT_RECIPE_WORD, recipes.DEFAULT_RECIPE)
    if smoke:
        overrides["smoke"] = True
    plan = recipes.plan(str(name), **overrides)
    if show and as_json:
        print_answer({"recipe": plan.recipe, "fields": plan.config})
        return
    if show:
        for key, value in plan.config.items():
            click.echo(f"{key}={value}")
        return
    _run(plan, output or Path("runs") / plan.recipe, as_json)


def _run(plan: "Plan", output: Path, as_json: bool) -> None:
    from r2b_zoo.runs.folder import RunFolder

    folder = RunFolder(output)
    folder.check(plan)  # before loading TensorFlow, which takes seconds
    load_tensorflow(click.get_current_context())
    from r2b_zoo import run
    from r2b_zoo.report.progress import StageProgress
    from r2b_zoo.report.tables import console, point, results_table

    out = console(stderr=as_json)
    out.print(f"Recipe {plan.recipe} in {output}: {', '.join(stage.name for stage in plan.stages)}")
    for words in plan.switched_off:
        out.print(f"Off: {words}")
    for note in plan.notes:
        out.print(f"Note: {note}", soft_wrap=not out.is_terminal)
    bars: list[StageProgress] = []

    def progress(stage: Any) -> list[Any]:
        bars.append(StageProgress(stage, out))
        return [bars[-1]]

    try:
        results = run.execute(
            plan, folder, progress, lambda line: out.print(point(line), soft_wrap=not out.is_terminal)
        )
    finally:
        for bar in bars:
            bar.close()
    if as_json:
        print_answer({"folder": str(folder.path), "results": results or None})
    if not results:
        out.print("This worker has finished; the chief converts, verifies and reports.")
        return
    if not as_json:
        out.print(results_table(results))
    out.print(f"File:   {folder.tflite_path}\nReport: {folder.report_path}", soft_wrap=True)
    if not results["verification"]["passed"]:
        raise ValueError("The converted file could not be shown to be equal to the Keras model; see above.")
