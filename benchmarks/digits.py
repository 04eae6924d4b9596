"""Accuracy of the digits recipe over several seeds.

\b
    python -m benchmarks.digits                                # three seeds
    python -m benchmarks.digits --seed 0 --seed 7 gate=false   # two seeds, with another value of a field

Trains the whole schedule for each seed into runs/digits[-FIELD-VALUE]-seed-N (a finished run is not trained again) and
prints a Markdown table: test top-1 of each stage and of the converted file, the share of equal predictions of both, and
the seconds of the run; with several seeds, mean and standard deviation.
"""

import statistics
from pathlib import Path

import click


@click.command(help=__doc__)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.argument("fields", nargs=-1)
def main(seeds: tuple[int, ...], output: Path, fields: tuple[str, ...]) -> None:
    from r2b_zoo import pipeline, recipes
    from r2b_zoo.recipes.overrides import parse
    from r2b_zoo.runs.folder import RunFolder

    overrides = parse(fields)
    name = "-".join(["digits", *(word.replace("=", "-") for word in fields)])
    results = []
    for seed in seeds:
        plan = recipes.plan("digits", seed=seed, **overrides)
        results.append(pipeline.run(plan, RunFolder(output / f"{name}-seed-{seed}"), log=click.echo))
    stages = [row["name"] for row in results[0]["stages"]]
    columns: dict[str, list[float]] = {name: [] for name in (*stages, "file", "agreement", "seconds")}
    for result in results:
        for row in result["stages"]:
            columns[row["name"]].append(100 * row["test_accuracy"])
        columns["file"].append(100 * result["tflite"]["accuracy"])
        columns["agreement"].append(100 * result["verification"]["agreement"])
        columns["seconds"].append(result["seconds"])
    click.echo(f"\n| seed | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for i, seed in enumerate(seeds):
        click.echo(f"| {seed} | " + " | ".join(f"{values[i]:.2f}" for values in columns.values()) + " |")
    if len(seeds) > 1:
        spread = (f"{statistics.mean(v):.2f} ± {statistics.stdev(v):.2f}" for v in columns.values())
        click.echo(f"| mean ± deviation | {' | '.join(spread)} |")
    images, machine = results[0]["dataset"]["test_images"], results[0]["machine"]
    click.echo(
        f"\nIn percent of {images} test images, except the seconds; {machine['processor']}, {machine['cores']} cores."
    )


if __name__ == "__main__":
    main()
