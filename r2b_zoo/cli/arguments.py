"""Arguments and options that several commands share, and checks of them before anything is computed."""

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
    """Checks, before anything is computed, that a result may be written to this path.

    Args:
        path: path of the result.
        suffixes: allowed suffixes, in lower case. They keep weights and photographs from being overwritten by mistake.
        force: whether an existing file may be overwritten.
        inputs: arguments that may be paths of input files. These files must not be overwritten even with ``force``.
            Arguments that are None or name no existing file are ignored.

    Raises:
        ValueError: the suffix is not allowed, or the path is one of ``inputs``.
        IsADirectoryError: the path is a folder.
        FileNotFoundError: the path's folder does not exist.
        FileExistsError: the file exists, and ``force`` is false.
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
            raise ValueError(f"{str(path)!r} is an input file and would be overwritten: name another output file.")
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
    """Raises ValueError for arguments such as ``output=DIR``, if the running command has an option of that name.

    Args:
        words: arguments of the form FIELD=VALUE.
        but: names of options, without the leading dashes, that may also be given in this form.
    """
    options = click.get_current_context().command.params
    names = {name for option in options for name in option.opts if name.startswith("--")}
    for word in words:
        key, _, value = word.partition("=")
        option = f"--{key.lower().replace('_', '-')}"
        if option in names and option[2:] not in but:
            flag = value.lower() in ("", "true", "1", "yes")
            raise ValueError(
                f"{key} is an option, not a field: write {option}{'' if flag else f' {value}'} instead of {word!r}."
            )


def reference_options(command: Any) -> Any:
    """Adds the options for a model that is a run (``--stage``) or a weights file (the others)."""
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
