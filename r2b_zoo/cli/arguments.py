"""Arguments of several commands, which are checked before anything is computed."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

import click

from r2b_zoo.weights.named import NAMES_IN_WORDS

ANY_MODEL = f"{NAMES_IN_WORDS} (see r2b list), a weights file, a run folder or a .tflite"
"""The kinds of models that commands accept, for their help."""


def existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return path


def check_output(path: Path, suffixes: Sequence[str], force: bool, inputs: Iterable[Any] = ()) -> None:
    """Raises, before anything is computed, if a result cannot be written to this path or would overwrite a file.

    Args:
        path: path of the result.
        suffixes: allowed suffixes, so that a result does not overwrite weights or photographs by mistake.
        force: whether an existing file may be overwritten.
        inputs: paths that are read, which must not be overwritten even with ``force``; other words are ignored.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"The file to write must end in {' or '.join(suffixes)}; received {str(path)!r}.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file in it.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name} into.")
    if not path.exists():
        return
    for source in inputs:
        if source is not None and os.path.exists(source) and os.path.samefile(source, path):
            raise ValueError(f"{str(path)!r} is what is read, and would be overwritten: name another file to write.")
    if not force:
        raise FileExistsError(f"{str(path)!r} exists already: name another file, or overwrite it with --force.")


force_option = click.option("--force", is_flag=True, help="Overwrite existing files.")


def _most_pixels(ctx: click.Context, parameter: click.Parameter, value: Optional[int]) -> int:
    from r2b_zoo.data.pixels import MAX_PIXELS  # imports NumPy, for which --help should not wait

    return MAX_PIXELS if value is None else value


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    callback=_most_pixels,
    show_default="Pillow's own limit",
    help="Refuse an image file with more pixels; even a small file could exhaust memory.",
)


def refuse_options(words: Sequence[str], but: Sequence[str] = ()) -> None:
    """Raises ValueError for arguments such as ``output=DIR``, if the running command has an option of that name."""
    options = click.get_current_context().command.params
    names = {name for option in options for name in option.opts if name.startswith("--")}
    for word in words:
        key, _, value = word.partition("=")
        option = f"--{key.lower().replace('_', '-')}"
        if option in names and option[2:] not in but:
            flag = value.lower() in ("", "true", "1", "yes")
            raise ValueError(
                f"{key} is an option and no field: write {option}{'' if flag else f' {value}'} instead of {word!r}."
            )


def reference_options(command: Any) -> Any:
    """Options that describe a weights file, for the commands that take any kind of model."""
    for option in (
        click.option("--stage", help="Stage of a run whose network to use.  [default: the last]"),
        click.option(
            "--input-size", type=click.IntRange(1), help="Height and width for a weights file.  [default: 224]"
        ),
        click.option("--precision", help="Precision of a weights file that does not record it.  [default: binary]"),
        click.option("--network", help="Network of a weights file that does not record it."),
    ):
        command = option(command)
    return command


def labels_of(path: Path) -> list[str]:
    try:
        return existing(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not UTF-8 text; --labels takes a text file with the name of a class per line."
        ) from None
