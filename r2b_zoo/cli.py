"""The ``r2b`` command.

Every command imports what it needs itself, so that ``r2b --help`` answers at once.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TextIO

import click

from r2b_zoo import __version__

if TYPE_CHECKING:
    from r2b_zoo.recipes import Plan

DEFAULT_RECIPE_WORD = "recipe"
DEMO_FOLDER = Path("runs/demo")


class _Command(click.Command):
    """A command whose help ends with an example, and that loads TensorFlow, if it needs it, without its noise."""

    def __init__(self, *args: Any, example: str, tensorflow: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.tensorflow = tensorflow

    def invoke(self, ctx: click.Context) -> Any:
        if self.tensorflow:
            _load_tensorflow(ctx)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def _load_tensorflow(ctx: click.Context) -> None:
    """Without its noise, unless it is asked for."""
    if not ctx.find_root().params["debug"]:
        from r2b_zoo.captured_output import captured_output

        # TF_CPP_MIN_LOG_LEVEL does not reach what is logged while the libraries load.
        with captured_output():
            import tensorflow
        # Its Python code logs by itself.
        tensorflow.get_logger().setLevel("ERROR")


class _Group(click.Group):
    command_class = _Command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="r2b")
@click.option("--debug", is_flag=True, help="Show tracebacks and TensorFlow's own messages.")
def r2b(debug: bool) -> None:
    """1-bit neural networks that people actually use: train, convert, verify, run.

    Start with `r2b demo`.
    """


def main() -> None:
    """Entry point: one sentence for an error, a traceback only with ``--debug``."""
    debug = "--debug" in sys.argv[1:]
    if not debug:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.showwarning = _show_warning
    # --debug may stand anywhere.
    arguments = ["--debug"] * debug + [word for word in sys.argv[1:] if word != "--debug"]
    try:
        status = r2b.main(arguments, prog_name="r2b", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped. Finished stages of a run are kept; the same command goes on from them.", err=True)
        status = 130
    except Exception as error:
        stopped_by = getattr(error, "signal_number", None)
        if debug and stopped_by is None:
            raise
        # As a shell reports a process that a signal ended.
        click.echo(f"Error: {_sentence(error)}" if stopped_by is None else str(error), err=True)
        status = 1 if stopped_by is None else 128 + stopped_by
    sys.exit(status if isinstance(status, int) else 0)


def _show_warning(
    message: "Warning | str",
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Optional[TextIO] = None,
    line: Optional[str] = None,
) -> None:
    """As a sentence, without the line of code; those that are for programmers do not come this far."""
    click.echo(f"Warning: {message}", err=True)


def _sentence(error: Exception) -> str:
    """The message of an error of ours; the type too where it is not, since its message may say little."""
    if isinstance(error, (ValueError, RuntimeError, OSError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (unexpected; --debug shows where)"


@r2b.command(tensorflow=False, example="r2b demo\nr2b demo --seed 1 --output runs/second")
@click.option("--output", type=click.Path(path_type=Path), default=DEMO_FOLDER, show_default=True, help="Run folder.")
@click.option("--seed", type=int, default=0, show_default=True)
def demo(output: Path, seed: int) -> None:
    """Train a binary network on handwritten digits through all four stages, convert, verify and time it.

    Takes a few minutes on a laptop and needs no network. Ends with a table and a report.
    """
    from r2b_zoo import recipes

    _run(recipes.plan(seed=seed), output)


@r2b.command(
    tensorflow=False,
    example="r2b train recipe=digits binary.epochs=3 --output runs/short\n"
    "r2b train recipe=digits gate=false              # the strong baseline's learned scale instead\n"
    "r2b train recipe=digits attention_matching=false\n"
    "r2b train recipe=digits output_matching=false\n"
    "r2b train recipe=digits progressive=false       # no stages between teacher and binary",
)
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--output", type=click.Path(path_type=Path), help="Run folder.  [default: runs/RECIPE]")
@click.option("--smoke", is_flag=True, help="Two steps per stage, to see that everything fits together.")
@click.option("--show", is_flag=True, help="Print the recipe's fields and train nothing.")
def train(fields: tuple[str, ...], output: Optional[Path], smoke: bool, show: bool) -> None:
    """Train a recipe through its stages, convert and verify the result.

    FIELD=VALUE overrides a field of the recipe; `r2b train --show` lists them. The same command in the same folder
    goes on after the last finished stage.
    """
    from r2b_zoo import recipes
    from r2b_zoo.recipes.overrides import parse

    overrides = parse(fields)
    name = overrides.pop(DEFAULT_RECIPE_WORD, recipes.DEFAULT_RECIPE)
    if smoke:
        overrides["smoke"] = True
    plan = recipes.plan(str(name), **overrides)
    if show:
        for key, value in plan.config.items():
            click.echo(f"{key}={value}")
        return
    _run(plan, output or Path("runs") / plan.recipe)


def _run(plan: "Plan", output: Path) -> None:
    from r2b_zoo.run_folder import RunFolder

    folder = RunFolder(output)
    folder.check(plan)  # before TensorFlow, which takes seconds to load
    _load_tensorflow(click.get_current_context())
    from r2b_zoo import pipeline
    from r2b_zoo.progress import StageProgress
    from r2b_zoo.report import write_report
    from r2b_zoo.tables import console, point, results_table

    out = console()
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
        results = pipeline.run(
            plan, folder, progress, lambda line: out.print(point(line), soft_wrap=not out.is_terminal)
        )
    finally:
        for bar in bars:
            bar.close()
    if not results:
        out.print("Trained; the chief converts, verifies and reports.")
        return
    with folder.writing():
        report = write_report(folder)
    out.print(results_table(results))
    out.print(f"File:   {folder.tflite_path}\nReport: {report}", soft_wrap=True)
    if not results["verification"]["passed"]:
        raise ValueError("The converted file is not shown to be equal to the Keras model, see above.")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return path


def _reference_options(command: Any) -> Any:
    """Options that say what a weights file is, for the commands that take any kind of model."""
    for option in (
        click.option("--stage", help="Which network of a run.  [default: the last]"),
        click.option(
            "--input-size", type=click.IntRange(1), help="Height and width for a weights file.  [default: 224]"
        ),
        click.option("--precision", help="Of a weights file that does not say.  [default: binary]"),
        click.option("--network", help="Of a weights file that does not say."),
    ):
        command = option(command)
    return command


@r2b.command(
    example="r2b predict photo.jpg\n"
    "r2b predict photo.jpg --model r2b_weights.h5\n"
    "r2b predict digit.png --model runs/demo/model.tflite --top 3"
)
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--model",
    "--weights",
    "model",
    default="imagenet",
    show_default=True,
    help="'imagenet' (published weights), a weights file, a run folder or a .tflite.",
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to print.")
@_reference_options
def predict(image: Path, model: str, top: int, **options: Any) -> None:
    """Print the most probable classes of IMAGE."""
    from r2b_zoo import classifier
    from r2b_zoo.data.images import read_image

    pixels = read_image(image)  # before the network, which takes longer to fail
    for label, probability in classifier.load(model, **options).predict(pixels, top):
        click.echo(f"{100 * probability:6.2f} %  {label}")


@r2b.command(
    example="r2b evaluate runs/demo\n"
    "r2b evaluate runs/demo/model.tflite data=digits\n"
    "r2b evaluate r2b_weights.h5 data=imagenet data_dir=TFDS\n"
    "r2b evaluate runs/finetune/model.tflite data=PHOTOS split=all --plot confusion.png"
)
@click.argument("model")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--data", help="As the field.")
@click.option("--data-dir", help="As the field.")
@click.option("--split", help="As the field.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the confusion matrix into a .png, .svg or .pdf.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write classes and confusion matrix as a table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_reference_options
def evaluate(
    model: str,
    fields: tuple[str, ...],
    plot: Optional[Path],
    table: Optional[Path],
    as_json: bool,
    data: Optional[str],
    data_dir: Optional[str],
    split: Optional[str],
    **options: Any,
) -> None:
    """Accuracy of MODEL ('imagenet', a run folder, a weights file or a .tflite): as a whole, per class, confusions.

    \b
    Fields, all optional for a run:
      data=      a data set by name, or a folder of photographs, one folder per class
      data_dir=  where the data set is, as `r2b train` takes it
      split=     test (default); all takes every photograph of a folder, not only those training leaves out
    """
    from r2b_zoo import classifier, evaluation
    from r2b_zoo.data.dataset import left_out
    from r2b_zoo.progress import image_progress
    from r2b_zoo.report.confusion_plot import check_format, write_confusion_plot
    from r2b_zoo.tables import console, evaluation_tables

    chosen = _evaluation_fields(fields, {"data": data, "data_dir": data_dir, "split": split})
    for path in (plot, table):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"There is no folder {str(path.parent)!r} to write {path.name} into.")
    if plot is not None:
        check_format(plot)
    loaded = classifier.load(model, **options)
    dataset = classifier.dataset_for(
        loaded, chosen.get("data"), chosen.get("data_dir"), chosen.get("split") == _ALL_PHOTOGRAPHS
    )
    batches = dataset.test_batches(evaluation.prediction_batch(dataset.input_shape))
    with image_progress("Evaluating", dataset.test_size) as advance:
        result = evaluation.evaluate_batches(loaded.probabilities, batches, advance, dataset.num_classes)
    if plot is not None:
        write_confusion_plot(plot, result, dataset.class_names, loaded.name)
    if table is not None:
        result.write_csv(table, dataset.class_names)
    if as_json:
        click.echo(json.dumps({"model": loaded.name, **evaluation.as_dict(result, dataset)}))
        return
    out = console()
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
    """The fields of ``evaluate`` from its words, and from the options that say the same."""
    from r2b_zoo.recipes.overrides import ALIASES, texts

    as_words = [f"{key}={value}" for key, value in options.items() if value is not None]
    chosen = texts((*words, *as_words), "data=digits", {**ALIASES, "dataset": "data"})
    for key in chosen:
        if key not in options:
            raise ValueError(f"evaluate has no field {key!r}; its fields are {', '.join(options)}.")
    if chosen.get("split", _TEST_SPLIT) not in (_TEST_SPLIT, _ALL_PHOTOGRAPHS):
        raise ValueError(f"split must be {_TEST_SPLIT!r} or {_ALL_PHOTOGRAPHS!r}; received {chosen['split']!r}.")
    return chosen


@r2b.command(
    example="r2b export runs/demo digits.tflite\nr2b export imagenet r2b.tflite\nr2b export r2b_weights.h5 r2b.tflite"
)
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Text file with the name of a class per line.",
)
@click.option("--strict/--no-strict", default=True, show_default=True, help="Refuse quantised layers that stay float.")
@_reference_options
def export(model: str, output: Path, labels: Optional[Path], strict: bool, **options: Any) -> None:
    """Convert MODEL ('imagenet', a run folder or a weights file) to OUTPUT, a .tflite for Larq Compute Engine.

    Prints what became of each layer. Converting needs no ARM machine.
    """
    from r2b_zoo import classifier
    from r2b_zoo.conversion import convert

    loaded = classifier.load(model, **options)
    if loaded.model is None:
        raise ValueError(f"{model} is converted already; export takes a run folder or a weights file.")
    names = _existing(labels).read_text(encoding="utf-8").splitlines() if labels else loaded.labels
    conversion = convert(loaded.model, labels=names, preprocessing=loaded.preprocessing, strict=strict)
    conversion.save(output)
    click.echo(conversion.summary())
    click.echo(f"Written to {output}")


@r2b.command(
    example="r2b verify runs/demo\n"
    "r2b verify runs/demo runs/demo/model.tflite --number 100\n"
    "r2b verify r2b_weights.h5 r2b.tflite --images photos/"
)
@click.argument("model")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of images.  [default: the run's test images]",
)
@click.option("--number", "-n", type=click.IntRange(1), help="How many images at most.  [default: all]")
@click.option(
    "--engine",
    type=click.Choice(["runtime", "lce"]),
    help="What runs the file.  [default: r2b-runtime where it is installed, else Larq Compute Engine's interpreter]",
)
@_reference_options
def verify(
    model: str,
    file: Optional[Path],
    images: Optional[Path],
    number: Optional[int],
    engine: Optional[str],
    **options: Any,
) -> None:
    """Run real images through MODEL in Keras and through the converted FILE, and compare.

    FILE is the run's own unless told. The exit status is 1 where they differ by more than the last bit of a float, or
    the last bit of their pixels decides about too many of the images.
    """
    from r2b_zoo import classifier, verification

    loaded = classifier.load(model, **options)
    if loaded.model is None:
        raise ValueError(f"{model} is a converted file; verify compares a run folder or a weights file with one.")
    path = _existing(file) if file else classifier.converted_file(model)
    pixels = classifier.images_for(loaded, images, number)
    result = verification.verify(loaded.model, path.read_bytes(), pixels, engine=engine)
    click.echo(result.summary())
    if not result.passed:
        sys.exit(1)


@r2b.command(
    example="r2b cost\nr2b cost RealToBinaryNet --downsample real --layers\n"
    "r2b cost --input-size 32 --stem cifar --num-classes 10"
)
@click.argument("networks", nargs=-1)
@click.option("--input-size", type=click.IntRange(1), default=224, show_default=True, help="Height and width.")
@click.option("--width", type=click.IntRange(1), default=64, show_default=True, help="Channels of the first stage.")
@click.option("--stem", default="imagenet", show_default=True, help="'imagenet' or 'cifar'.")
@click.option("--num-classes", type=click.IntRange(1), default=1000, show_default=True)
@click.option(
    "--downsample",
    type=click.Choice(("real", "binary", "both")),
    default="both",
    show_default=True,
    help="Kind of convolution in the shortcuts.",
)
@click.option("--layers", is_flag=True, help="A row per layer.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cost(
    networks: tuple[str, ...], input_size: int, downsample: str, layers: bool, as_json: bool, **arguments: Any
) -> None:
    """Parameters, bytes and operations of the networks (all six unless named), side by side."""
    from r2b_zoo import costs, models
    from r2b_zoo.tables import console, cost_tables

    arguments["input_shape"] = (input_size, input_size, 3)
    counted = [
        costs.cost(models.create(name, downsample=kind, **arguments))
        for name in networks or models.list_models()
        for kind in models.downsamples(name)
        if downsample in (kind, "both")
    ]
    if not counted:
        raise ValueError(
            f"{', '.join(networks)} has only real downsampling: pass --downsample real, or name a network with binary "
            "convolutions."
        )
    if as_json:
        click.echo(json.dumps([one.as_dict() for one in counted]))
        return
    for table in cost_tables(counted, layers):
        console().print(table, "")


@r2b.command("list", tensorflow=False, example="r2b list\nr2b list RealToBinaryNet")
@click.argument("network", required=False)
def list_(network: Optional[str]) -> None:
    """The networks of the zoo, the recipes and the data sets; the card of NETWORK where it is named."""
    from r2b_zoo import data, recipes
    from r2b_zoo.cards import CARDS
    from r2b_zoo.tables import card_table, console, network_table

    out = console()
    if network:
        if network not in CARDS:
            raise ValueError(f"There is no network {network!r}; the networks are {', '.join(CARDS)}.")
        out.print(card_table(CARDS[network]))
        return
    out.print(network_table(list(CARDS.values())), "")
    out.print(f"Recipes: {', '.join(recipes.list_recipes())}")
    out.print(f"Data sets: {', '.join(data.list_datasets())}")
