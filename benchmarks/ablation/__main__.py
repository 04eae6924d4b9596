"""Measures what each of the paper's ideas contributes, in a time that a laptop can afford.

\b
    python -m benchmarks.ablation data_dir=TFDS --plan              # what would be trained, and for how long
    python -m benchmarks.ablation data_dir=TFDS                     # trains unfinished runs, with a process per core
    python -m benchmarks.ablation data_dir=TFDS --arm baseline --arm gate --seed 0
    python -m benchmarks.ablation data_dir=TFDS --arm bnn --try binary_activations.learning_rate=1e-3,3e-3,1e-2
    python -m benchmarks.ablation --summary                         # results/cifar10.md from the rows
    python -m benchmarks.ablation dataset=cifar100 data_dir=TFDS --rows results/cifar100

An arm is one of the compared configurations. FIELD=VALUE sets a field of recipe cifar10 for all of them, for example
the data set or a number of epochs. The same command resumes after an interruption. Each finished stage writes a row, a
JSON file in the folder of --rows; all rows of a folder belong to one protocol. --try trains one stage of an arm with
several values of a field, for the first seed, and writes the accuracies on the held-out validation images into tries/
beside the rows; the page that --summary writes shows them.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import click

from benchmarks.ablation.protocol import ARMS, COMMON, RECIPE, SHARED, STAGES, Protocol, Run, run_name
from benchmarks.ablation.rows import Rows, Try
from benchmarks.ablation.runs import Team, runs, train, tries


@click.command(help=__doc__)
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--plan", "show_plan", is_flag=True, help="Print the runs and train nothing.")
@click.option("--summary", is_flag=True, help="Write the page and its plots from the rows; train nothing.")
@click.option("--arm", "arms", multiple=True, type=click.Choice(list(ARMS)), help="Only these arms.  [default: all]")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2, 3), show_default=True)
@click.option("--try", "tried", metavar="FIELD=A,B,...", help="Compare values of a field of one stage.")
@click.option("--jobs", type=click.IntRange(1), help="Number of runs that train at a time.  [default: one per core]")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/ablation"), show_default=True)
@click.option(
    "--rows", "rows_path", type=click.Path(path_type=Path), default=Path("results/cifar10"), show_default=True
)
@click.option("--only", hidden=True, help="Train this run here, in this process.")
def main(
    fields: tuple[str, ...],
    show_plan: bool,
    summary: bool,
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    tried: Optional[str],
    jobs: Optional[int],
    output: Path,
    rows_path: Path,
    only: Optional[str],
) -> None:
    from r2b_zoo.recipes.overrides import parse

    rows = Rows(rows_path)
    if summary:
        _write_page(rows, output)
        return
    try:
        protocol = Protocol({**COMMON, **parse(fields)})
        waiting = runs(protocol, arms or tuple(ARMS), seeds, output)
        variants = _variants(protocol, arms, seeds, tried, output) if tried else {}
        waiting = _with_variants(waiting, variants)
        _check(waiting, rows, protocol)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if only is not None:
        (run,) = [run for run in waiting if run.name == only]
        train(protocol, run, output, None if run in variants.values() else rows, click.echo)
    elif show_plan:
        _show(protocol, waiting, rows)
    else:
        _train_all(waiting, output, jobs)
        if tried:
            _compare(protocol, variants, tried.partition("=")[0], output, rows)


def _write_page(rows: Rows, output: Path) -> None:
    from benchmarks.ablation import page

    try:
        for path in page.write(rows, output):
            click.echo(f"Written to {path}")
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def _train_all(waiting: Sequence[Run], output: Path, jobs: Optional[int]) -> None:
    command = [sys.executable, "-m", "benchmarks.ablation", *sys.argv[1:], "--only"]
    cores = sorted(os.sched_getaffinity(0))[: jobs or None]
    failed = Team(command, output / "logs", cores, click.echo).run(waiting)
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(waiting)} runs failed: {', '.join(failed)}")


def _variants(
    protocol: Protocol, arms: Sequence[str], seeds: Sequence[int], tried: str, output: Path
) -> dict[str, Run]:
    """Returns the runs of --try, by the text of the value that each tries.

    Raises ValueError if the arguments are invalid.
    """
    from r2b_zoo.recipes.overrides import parse

    field, _, texts = tried.partition("=")
    stage = field.partition(".")[0]
    if len(arms) != 1 or stage not in protocol.epochs(ARMS[arms[0]]) or not texts:
        raise ValueError(
            "--try needs exactly one --arm, and values of a field of a stage that this arm trains, for example --arm "
            f"bnn --try {STAGES[-1]}.learning_rate=1e-3,3e-3; received --try {tried!r}, and --arm {len(arms)} times."
        )
    values = {text: parse([f"{field}={text}"])[field] for text in texts.split(",")}
    return tries(protocol, ARMS[arms[0]], seeds[0], output, field, values)


def _with_variants(waiting: list[Run], variants: Mapping[str, Run]) -> list[Run]:
    """Returns the runs of --try, after the waiting runs that they need. Without --try, returns all waiting runs."""
    if not variants:
        return waiting
    needed = {need for run in variants.values() for need in run.needs}
    for run in reversed(waiting):
        if run.name in needed:
            needed |= {*run.needs}
    return [*(run for run in waiting if run.name in needed), *variants.values()]


def _compare(protocol: Protocol, variants: Mapping[str, Run], field: str, output: Path, rows: Rows) -> None:
    from r2b_zoo.runs.folder import RunFolder

    stage = field.partition(".")[0]
    found = {
        text: RunFolder(output / run.name).stage_result(stage)["validation_accuracy"] for text, run in variants.items()
    }
    for text, accuracy in found.items():
        click.echo(f"{text:>10}: top-1 {100 * accuracy:.2f} % on the validation images")
    run = next(iter(variants.values()))
    click.echo(f"Written to {rows.write_try(protocol, Try.of(protocol, run, field, found))}")


def _check(waiting: Sequence[Run], rows: Rows, protocol: Protocol) -> None:
    """Raises ValueError, before any training, if a run is invalid or the rows belong to another protocol."""
    from r2b_zoo import recipes

    for run in waiting:
        recipes.plan(RECIPE, **run.fields)
    rows.check(protocol)


def _show(protocol: Protocol, waiting: Sequence[Run], rows: Rows) -> None:
    known = rows.read()[0] if (rows.folder / "protocol.json").is_file() else []
    done = {(row.arm, row.seed, row.stage) for row in known}
    per_epoch = {(row.arm, row.stage): row.seconds / row.epochs for row in known}
    total = left = 0
    seconds = 0.0
    unknown = False
    for run in waiting:
        parts = []
        is_try = run.name != run_name(run.arm, run.seed)
        for stage, epochs in protocol.epochs(SHARED.get(run.arm) or ARMS[run.arm]).items():
            if run.fields.get(f"{stage}.skip") or run.fields.get(f"{stage}.from_run"):
                continue
            total += epochs
            finished = (run.arm, run.seed, stage) in done and not is_try
            parts.append(f"{stage} {epochs}{' ✓' if finished else ''}")
            if not finished:
                left += epochs
                unknown |= (run.arm, stage) not in per_epoch
                seconds += epochs * per_epoch.get((run.arm, stage), 0.0)
        click.echo(f"{run.name:24} {', '.join(parts)}")
    hours = f"{'at least ' if unknown else ''}{seconds / 3600:.1f} hours of one core, estimated from the finished rows"
    click.echo(f"{total} epochs, {left} of them still to train; {hours if known else 'time not measured yet'}.")


if __name__ == "__main__":
    main()
