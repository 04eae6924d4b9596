"""``--json``: what a command answers, as one JSON document that a program reads.

Every command prints the same envelope, on one line of standard output and nothing else there:

    {"r2b": 1, "command": "cost", "result": …}

``r2b`` is the version of the format (``FORMAT``), ``command`` the name of the command, and ``result`` what its tables
show, unrounded, with names as they are. Notes and progress go to standard error. An error stays what it is without
``--json``: a sentence on standard error, the exit status, and no document; ``verify`` and ``train`` print the document
and end with status 1 where the converted file is not shown to be equal.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import click

FORMAT = 1
"""Goes up where a key goes or changes its meaning; keys may be added without."""

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help=f'Print one line of JSON instead: {{"r2b": {FORMAT}, "command": ..., "result": ...}}.',
)


def print_answer(result: Any) -> None:
    """Prints the result of the command that runs, as plain data, in the envelope."""
    click.echo(document(str(click.get_current_context().command.name), result))


def document(command: str, result: Any) -> str:
    """The envelope as text, in ASCII, so that no name in it can drive a terminal and any encoding holds it.

    Numbers that are NaN or infinite, which JSON does not have, are null. Bytes of file names that are no UTF-8 stand as
    ``\\udcff``, for JSON's strings cannot hold them.

    Raises:
        TypeError: the result is not plain data.
    """
    text = json.dumps({"r2b": FORMAT, "command": command, "result": _plain(result)}, allow_nan=False)
    # DEL is the one control character that JSON lets stand.
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
