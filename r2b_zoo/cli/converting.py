"""``r2b export`` and ``r2b verify``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import click

from r2b_zoo.cli.answers import json_option, print_answer
from r2b_zoo.cli.arguments import check_output, existing, force_option, labels_of, max_pixels_option, reference_options
from r2b_zoo.cli.command import load_tensorflow, r2b
from r2b_zoo.identity import TFLITE_SUFFIX
from r2b_zoo.weights.named import NAMES_IN_WORDS

if TYPE_CHECKING:
    from r2b_zoo.evaluation import classifier


@r2b.command(
    short_help="Convert a network to a .tflite, or to a page for browsers.",
    help=f"""Convert MODEL ({NAMES_IN_WORDS}, a run folder or a weights file) to OUTPUT, a .tflite for Larq Compute
    Engine.

    Prints which layers became binary, int8 or float. Converting needs no ARM machine.

    With --int8, the first convolution, those of shortcuts and the classifier become int8, with scales that suit
    calibration images: a run's own training images, or those that --calibration names. With --uint8 too, the file takes
    a resized image in 0-255 and normalises it in its first convolution.

    With --web, OUTPUT may be left out; MODEL may then also be a .tflite.
    """,
    example="r2b export runs/demo digits.tflite\nr2b export cifar10 cifar10.tflite\n"
    "r2b export r2b_weights.h5 r2b.tflite\nr2b export digits.tflite --web digits.html\n"
    "r2b export runs/demo digits.tflite --int8 --uint8\n"
    "r2b export cifar10 cifar10.tflite --int8 --calibration photos/\n"
    "r2b export cifar10 cifar10.tflite --int8 --calibration cifar10 --data-dir TFDS",
    tensorflow=False,
)
@click.argument("model")
@click.argument("output", required=False, type=click.Path(path_type=Path))
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Text file with the name of a class per line.",
)
@click.option("--strict/--no-strict", default=True, show_default=True, help="Refuse quantised layers that stay float.")
@click.option("--int8", is_flag=True, help="Convert the convolutions that are not binary, and the classifier, to int8.")
@click.option("--uint8", is_flag=True, help="The file takes resized images in 0-255; needs --int8.")
@click.option(
    "--calibration",
    metavar="DIR|DATA",
    help="Folder of images, or data set by name, for --int8.  [default: the run's training images]",
)
@click.option("--data-dir", help="Folder of the data set that --calibration names.")
@click.option(
    "--web",
    type=click.Path(path_type=Path),
    metavar="PAGE.html",
    help="Write a page that runs the network in a browser, on drawings, pictures and the webcam, without a server.",
)
@force_option
@json_option
@reference_options
def export(
    model: str,
    output: Optional[Path],
    labels: Optional[Path],
    strict: bool,
    int8: bool,
    uint8: bool,
    calibration: Optional[str],
    data_dir: Optional[str],
    web: Optional[Path],
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    form = _Form(strict, int8, uint8, calibration, data_dir)
    form.check()
    if output is None and web is None:
        raise ValueError("Nothing to write: name a .tflite as OUTPUT, a page with --web PAGE.html, or both.")
    if output is not None:
        check_output(output, [TFLITE_SUFFIX], force, [model, labels])
    if web is not None:
        check_output(web, [".html"], force, [model, labels])
    if web is not None and output is None and Path(model).suffix.lower() == TFLITE_SUFFIX:
        if int8:
            raise ValueError(f"{model} is converted already; --int8 applies only where a network is converted.")
        for name, value in options.items():
            if value is not None:
                raise ValueError(f"{model} is converted already; leave --{name.replace('_', '-')} out.")
        _page_of_file(existing(Path(model)), web, labels, as_json)
    else:
        load_tensorflow(click.get_current_context())
        _convert(model, output, web, labels_of(labels) if labels else None, form, as_json, options)


@dataclass(frozen=True)
class _Form:
    """The options of ``export`` that say how the network is converted."""

    strict: bool
    int8: bool
    uint8: bool
    calibration: Optional[str]
    data_dir: Optional[str]

    def check(self) -> None:
        """Raises ValueError for options that do not go together."""
        for name, value in (
            ("--uint8", self.uint8),
            ("--calibration", self.calibration),
            ("--data-dir", self.data_dir),
        ):
            if value and not self.int8:
                raise ValueError(f"{name} needs --int8: add it, or leave {name} out.")

    def of_real_part(self, loaded: "classifier.Classifier") -> dict[str, Any]:
        """The arguments of ``convert`` for ``--int8`` and the options that need it; empty without ``--int8``."""
        from r2b_zoo.evaluation import classifier

        if not self.int8:
            return {}
        images = classifier.calibration_images(loaded, self.calibration, self.data_dir)
        return {
            "real_part": "int8",
            "calibration": images,
            "input": "uint8" if self.uint8 else "float32",
        }


def _page_of_file(model: Path, web: Path, labels: Optional[Path], as_json: bool) -> None:
    from r2b_zoo.conversion import web_page

    if labels is not None:
        raise ValueError(f"{model} is converted already; labels are added when a network is converted.")
    web_page.write(model, web, model.stem)
    if as_json:
        print_answer({"model": str(model), "web": str(web)})
    click.echo(f"Written to {web}", err=as_json)


def _convert(
    model: str,
    output: Optional[Path],
    web: Optional[Path],
    labels: Optional[list[str]],
    form: _Form,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    from r2b_zoo.conversion import web_page
    from r2b_zoo.conversion.converter import convert
    from r2b_zoo.evaluation import classifier
    from r2b_zoo.report.tables import console, layers_table

    loaded = classifier.load(model, **options)
    if loaded.model is None:
        raise ValueError(f"{model} is converted already; export takes weights by name, a run folder or a weights file.")
    names = loaded.labels if labels is None else labels
    if web is not None and not names:
        raise ValueError(f"A page for browsers shows names of classes, and {model} has none; give --labels FILE.")
    conversion = convert(
        loaded.model,
        labels=names,
        preprocessing=loaded.preprocessing,
        strict=form.strict,
        **form.of_real_part(loaded),
    )
    if web is not None:
        web_page.write(conversion.tflite, web, loaded.name)
    if output is not None:
        conversion.save(output)
    written = {"file": output, "web": web}
    out = console(stderr=as_json)
    if as_json:
        named = {key: str(path) for key, path in written.items() if path is not None}
        print_answer({"model": loaded.name, **named, **conversion.as_dict()})
    else:
        out.print(layers_table(conversion))
    for path in written.values():
        if path is not None:
            out.print(f"Written to {path}", soft_wrap=True)


@r2b.command(
    short_help="Compare a converted file with its Keras model.",
    example="r2b verify runs/demo\n"
    "r2b verify runs/demo runs/demo/model.tflite --number 100\n"
    "r2b verify cifar10 cifar10.tflite --images photos/ --json\n"
    "r2b verify cifar10 int8.tflite --data cifar10 --data-dir TFDS --max-loss 0.3",
)
@click.argument("model")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of images.  [default: the run's test images]",
)
@click.option("--data", help="Data set by name, or folder of photographs, for its test images with their classes.")
@click.option("--data-dir", help="Folder of the data set.")
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 100),
    help="Most points of top-1 that an int8 file may lose.  [default: 0.5]",
)
@click.option("--number", "-n", type=click.IntRange(1), help="How many images at most.  [default: all]")
@click.option(
    "--engine",
    type=click.Choice(["runtime", "lce"]),
    help="Engine for the file.  [default: r2b-runtime if it is installed, else Larq Compute Engine's interpreter]",
)
@max_pixels_option
@json_option
@reference_options
def verify(
    model: str,
    file: Optional[Path],
    images: Optional[Path],
    data: Optional[str],
    data_dir: Optional[str],
    max_loss: Optional[float],
    number: Optional[int],
    engine: Optional[str],
    max_pixels: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Run real images through MODEL in Keras and through the converted FILE, and compare.

    The class names and the preprocessing in FILE must also be those of MODEL. FILE is the run's own by default. The
    exit status is 1 if MODEL and FILE differ by more than rounding explains, or if rounding decides the answers for
    too many images.

    Rounding to int8 changes answers. So a file that was exported with --int8 is compared by its accuracy, on images
    whose classes are known: the run's test images, or those of --data. The exit status is 1 if the file loses more
    than --max-loss. With --images, whose classes are unknown, every image that moves to another class counts as lost.
    """
    from r2b_zoo.evaluation import classifier, verification

    loaded = classifier.load(model, **options)
    if loaded.model is None:
        raise ValueError(
            f"{model} is a converted file; give first the network to compare it with: a name, a run folder or a "
            "weights file."
        )
    path = existing(file) if file else classifier.converted_file(model)
    if images is not None and (data is not None or data_dir is not None):
        raise ValueError("--images and --data are two ways to name images: leave one of them out.")
    result = verification.verify(
        loaded.model,
        path.read_bytes(),
        classifier.images_for(loaded, images, number, max_pixels)
        if images is not None
        else classifier.labelled_images_for(loaded, data, data_dir, number),
        max_loss=verification.MAX_LOSS if max_loss is None else max_loss,
        engine=engine,
        labels=loaded.labels,
        preprocessing=loaded.preprocessing,
    )
    if as_json:
        print_answer({"model": loaded.name, "file": str(path), **result.as_dict()})
    else:
        click.echo(result.summary())
    if not result.passed:
        sys.exit(1)
