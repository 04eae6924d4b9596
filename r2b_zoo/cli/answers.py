"""``--json`` prints a command's result as one JSON document, for programs to read.

Every command prints the same envelope, on one line of standard output, and nothing else there:

    {"r2b": 1, "command": "cost", "result": …}

``r2b`` is the version of the format (``envelope.FORMAT``), and ``command`` is the name of the command. ``result`` has
what the command's tables show, but its numbers are not rounded, and its names lack the tables' escapes for control
characters. Notes and progress go to standard error. Errors are the same as without ``--json``: a sentence on standard
error, an exit status, and no document. There is one exception: if the converted file does not pass verification,
``verify``, ``train`` and ``demo`` print the document and end with status 1.
"""

from typing import Any

import click

from r2b_zoo.system.envelope import FORM, document

json_option = click.option("--json", "as_json", is_flag=True, help=f"Print one line of JSON instead: {FORM}.")


def print_answer(result: Any) -> None:
    """Prints the running command's result, which must be plain data, in the envelope."""
    click.echo(document(str(click.get_current_context().command.name), result))
