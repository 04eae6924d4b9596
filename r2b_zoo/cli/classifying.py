"""``r2b predict`` and ``r2b evaluate``."""

from pathlib import Path
from typing import Any, Optional

import click

from r2b_zoo.cli.answers import json_option, print_answer
from r2b_zoo.cli.arguments import (
    ANY_MODEL,
    check_output,
    force_option,
    max_pixels_option,
    reference_options,
    refuse_options,
)
from r2b_zoo.cli.command import r2b
from r2b_zoo.system.terminal import printable
from r2b_zoo.weights.named import IMAGENET


@r2b.command(
    short_help="Print the most probable classes of an image.",
    example="r2b predict photo.jpg\n"
    "r2b predict photo.jpg --model cifar10\n"
    "r2b predict photo.jpg --model r2b_weights.h5\n"
    "r2b predict digit.png --model runs/demo/model.tflite --top 3 --json",
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--model",
    "--weights",
    "model",
    default=IMAGENET,
    show_default=True,
    help=f"{ANY_MODEL}.",
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to print.")
@max_pixels_option
@json_option
@reference_options
def predict(image: Path, model: str, top: int, max_pixels: int, as_json: bool, **options: Any) -> None:
    """Print the most probable classes of IMAGE."""
    from r2b_zoo.data.images import read_image
    from r2b_zoo.evaluation import classifier

    pixels = read_image(image, max_pixels)  # before the network, so that a bad image is reported at once
    loaded = classifier.load(model, **options)
    classes = loaded.predict(pixels, top)
    if as_json:
        rows = [{"label": label, "probability": probability} for label, probability in classes]
        print_answer({"model": loaded.name, "image": str(image), "classes": rows})
        return
    for label, probability in classes:
        click.echo(f"{100 * probability:6.2f} %  {printable(label)}")


@r2b.command(
    short_help="Accuracy: overall, per class, and confusions.",
    help=f"""Accuracy of MODEL, {ANY_MODEL}: overall, per class, and confusions.

    \b
    Fields, all optional for a run:
      data=      a data set by name, or a folder of photographs, one folder per class
      data_dir=  folder of the data set, as for `r2b train`
      split=     test (default); all uses every photograph of a folder, not only those held out from training
    """,
    example="r2b evaluate runs/demo\n"
    "r2b evaluate cifar10 data=cifar10 data_dir=TFDS\n"
    "r2b evaluate runs/demo/model.tflite data=digits\n"
    "r2b evaluate r2b_weights.h5 data=imagenet data_dir=TFDS\n"
    "r2b evaluate runs/finetune/model.tflite data=PHOTOS split=all --plot confusion.png",
)
@click.argument("model")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--data", help="The same as the field data.")
@click.option("--data-dir", help="The same as the field data_dir.")
@click.option("--split", help="The same as the field split.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the confusion matrix into a .png, .svg or .pdf.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write classes and confusion matrix as a table.")
@json_option
@force_option
@reference_options
def evaluate(
    model: str,
    fields: tuple[str, ...],
    plot: Optional[Path],
    table: Optional[Path],
    as_json: bool,
    force: bool,
    data: Optional[str],
    data_dir: Optional[str],
    split: Optional[str],
    **options: Any,
) -> None:
    from r2b_zoo.data.dataset import left_out
    from r2b_zoo.evaluation import accuracy, classifier
    from r2b_zoo.report.confusion_plot import FORMATS, check_format, write_confusion_plot
    from r2b_zoo.report.progress import image_progress
    from r2b_zoo.report.tables import console, evaluation_tables

    refuse_options(fields, but=("data", "data-dir", "split"))
    chosen = _evaluation_fields(fields, {"data": data, "data_dir": data_dir, "split": split})
    if plot is not None:
        check_format(plot)
    for path, suffixes in ((plot, FORMATS), (table, (".csv",))):
        if path is not None:
            check_output(path, suffixes, force, [model])
    loaded = classifier.load(model, **options)
    dataset = classifier.dataset_for(
        loaded, chosen.get("data"), chosen.get("data_dir"), chosen.get("split") == _ALL_PHOTOGRAPHS
    )
    batches = dataset.test_batches(accuracy.prediction_batch(dataset.input_shape))
    with image_progress("Evaluating", dataset.test_size) as advance:
        result = accuracy.evaluate_batches(loaded.probabilities, batches, advance, dataset.num_classes)
    if plot is not None:
        write_confusion_plot(plot, result, dataset.class_names, loaded.name)
    if table is not None:
        result.write_csv(table, dataset.class_names)
    out = console(stderr=as_json)
    if as_json:
        print_answer({"model": loaded.name, **accuracy.as_dict(result, dataset)})
    else:
        split_note = f"{dataset.test_split}; split=all takes them all." if dataset.test_split else ""
        for line in (left_out(dataset, "--json"), split_note):
            if line:
                out.print(line, soft_wrap=not out.is_terminal)
        for part in evaluation_tables(loaded.name, dataset, result, out.width):
            out.print()
            out.print(part)
    for path in (plot, table):
        if path is not None:
            out.print(f"Written to {path}", soft_wrap=True)


_TEST_SPLIT, _ALL_PHOTOGRAPHS = "test", "all"


def _evaluation_fields(words: tuple[str, ...], options: dict[str, Optional[str]]) -> dict[str, str]:
    """The fields of ``evaluate`` from its arguments, and from the options of the same names."""
    from r2b_zoo.recipes.overrides import ALIASES, texts
    from r2b_zoo.system.suggestions import did_you_mean

    as_words = [f"{key}={value}" for key, value in options.items() if value is not None]
    chosen = texts((*words, *as_words), "data=digits", {**ALIASES, "dataset": "data"})
    for key in chosen:
        if key not in options:
            hint = did_you_mean(key, options)
            raise ValueError(f"evaluate has no field {key!r}; its fields are {', '.join(options)}.{hint}")
    if chosen.get("split", _TEST_SPLIT) not in (_TEST_SPLIT, _ALL_PHOTOGRAPHS):
        raise ValueError(f"split must be {_TEST_SPLIT!r} or {_ALL_PHOTOGRAPHS!r}; received {chosen['split']!r}.")
    return chosen
