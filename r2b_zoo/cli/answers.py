"""``--json`` prints a command's result as one JSON document, for programs to read.

Every command prints the same envelope, on one line of standard output, and nothing else there:

    {"r2b": 1, "command": "cost", "result": …}

``r2b`` is the version of the format (``FORMAT``), and ``command`` is the name of the command. ``result`` has what the
command's tables show, but its numbers are not rounded, and its names lack the tables' escapes for control characters.
Notes and progress go to standard error. Errors are the same as without ``--json``: a sentence on standard error, an
exit status, and no document. There is one exception: if the converted file does not pass verification, ``verify``,
``train`` and ``demo`` print the document and end with status 1.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import click

FORMAT = 1
"""Increases when a key is removed or changes its meaning; keys may be added without an increase."""

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help=f'Print one line of JSON instead: {{"r2b": {FORMAT}, "command": ..., "result": ...}}.',
)


def print_answer(result: Any) -> None:
    """Prints the running command's result, which must be plain data, in the envelope."""
    click.echo(document(str(click.get_current_context().command.name), result))


def document(command: str, result: Any) -> str:
    """The envelope as ASCII text, so that names in it cannot control a terminal and every encoding can hold it.

    NaN and infinite numbers, which JSON does not have, become null. Bytes of file names that are not UTF-8 are written
    as escapes, for example FF as ``\\udcff``, because JSON's strings cannot hold them.

    Raises:
        TypeError: the result is not plain data.
    """
    text = json.dumps({"r2b": FORMAT, "command": command, "result": _plain(result)}, allow_nan=False)
    # json.dumps escapes all control characters except DEL.
    return text.replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
