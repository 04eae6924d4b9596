"""``r2b export`` and ``r2b verify``."""

import sys
from pathlib import Path
from typing import Any, Optional

import click

from r2b_zoo.cli.answers import json_option, print_answer
from r2b_zoo.cli.arguments import check_output, existing, force_option, labels_of, max_pixels_option, reference_options
from r2b_zoo.cli.command import load_tensorflow, r2b
from r2b_zoo.identity import TFLITE_SUFFIX
from r2b_zoo.weights.named import NAMES_IN_WORDS


@r2b.command(
    short_help="Convert a network to a .tflite, or to a page for browsers.",
    help=f"""Convert MODEL ({NAMES_IN_WORDS}, a run folder or a weights file) to OUTPUT, a .tflite for Larq Compute
    Engine.

    Prints which layers became binary, int8 or float. Converting needs no ARM machine.

    With --web, MODEL may also be a .tflite, and OUTPUT may be left out.
    """,
    example="r2b export runs/demo digits.tflite\nr2b export cifar10 cifar10.tflite\n"
    "r2b export r2b_weights.h5 r2b.tflite\nr2b export digits.tflite --web digits.html",
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
    web: Optional[Path],
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    if output is None and web is None:
        raise ValueError("Nothing to write: name a .tflite as OUTPUT, a page with --web PAGE.html, or both.")
    if output is not None:
        check_output(output, [TFLITE_SUFFIX], force, [model, labels])
    if web is not None:
        check_output(web, [".html"], force, [model, labels])
    if web is not None and output is None and Path(model).suffix.lower() == TFLITE_SUFFIX:
        _page_of_file(existing(Path(model)), web, labels, as_json)
    else:
        load_tensorflow(click.get_current_context())
        _convert(model, output, web, labels_of(labels) if labels else None, strict, as_json, options)


def _page_of_file(model: Path, web: Path, labels: Optional[Path], as_json: bool) -> None:
    from r2b_zoo.conversion import web_page

    if labels is not None:
        raise ValueError(f"{model} is converted already, with its labels; give --labels when it is converted.")
    web_page.write(model, web, model.stem)
    if as_json:
        print_answer({"model": str(model), "web": str(web)})
    click.echo(f"Written to {web}", err=as_json)


def _convert(
    model: str,
    output: Optional[Path],
    web: Optional[Path],
    labels: Optional[list[str]],
    strict: bool,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    from r2b_zoo.conversion import web_page
    from r2b_zoo.conversion.converter import convert
    from r2b_zoo.evaluation import classifier
    from r2b_zoo.report.tables import console, layers_table

    loaded = classifier.load(model, **options)
    if loaded.model is None:
        raise ValueError(f"{model} is converted already; export takes a run folder or a weights file.")
    names = loaded.labels if labels is None else labels
    if web is not None and not names:
        raise ValueError(f"A page for browsers shows names of classes, and {model} has none; give --labels FILE.")
    conversion = convert(
        loaded.model,
        labels=names,
        preprocessing=loaded.preprocessing,
        strict=strict,
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
    "r2b verify cifar10 cifar10.tflite --images photos/ --json",
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
    help="Engine for the file.  [default: r2b-runtime if it is installed, else Larq Compute Engine's interpreter]",
)
@max_pixels_option
@json_option
@reference_options
def verify(
    model: str,
    file: Optional[Path],
    images: Optional[Path],
    number: Optional[int],
    engine: Optional[str],
    max_pixels: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Run real images through MODEL in Keras and through the converted FILE, and compare.

    The class names and the preprocessing in FILE must be those of MODEL too. FILE is the run's own by default. The exit
    status is 1 if they differ by more than the last bit of a float explains, or if the last bits of the pixels decide
    the answers for too many images.
    """
    from r2b_zoo.evaluation import classifier, verification

    loaded = classifier.load(model, **options)
    if loaded.model is None:
        raise ValueError(f"{model} is a converted file; verify compares a run folder or a weights file with one.")
    path = existing(file) if file else classifier.converted_file(model)
    pixels = classifier.images_for(loaded, images, number, max_pixels)
    result = verification.verify(
        loaded.model,
        path.read_bytes(),
        pixels,
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
