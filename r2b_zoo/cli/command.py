"""The ``r2b`` command itself: the common parts of its subcommands, and its handling of errors."""

import os
import sys
import warnings
from typing import Any, Optional, TextIO

import click

from r2b_zoo.identity import __version__
from r2b_zoo.system import quiet_start
from r2b_zoo.system.terminal import printable


class _Command(click.Command):
    """A subcommand whose help ends with an example, and which loads TensorFlow first unless ``tensorflow`` is false."""

    def __init__(self, *args: Any, example: str, tensorflow: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.tensorflow = tensorflow

    def invoke(self, ctx: click.Context) -> Any:
        if self.tensorflow:
            load_tensorflow(ctx)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def load_tensorflow(ctx: click.Context) -> None:
    """Loads TensorFlow without its messages; with ``--debug``, does nothing, so that a later import shows them."""
    if not ctx.find_root().params["debug"]:
        quiet_start.load_tensorflow()


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
    """The entry point; prints errors as one sentence, and tracebacks only with ``--debug``."""
    debug = "--debug" in sys.argv[1:]
    if not debug:
        os.environ.setdefault(quiet_start.LOG_LEVEL, quiet_start.NO_MESSAGES)
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        warnings.showwarning = _show_warning
    # --debug may be anywhere among the arguments.
    arguments = ["--debug"] * debug + [word for word in sys.argv[1:] if word != "--debug"]
    try:
        status = r2b.main(arguments, prog_name="r2b", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Stopped. Finished stages of a run are kept; the same command resumes from them.", err=True)
        status = 130
    except Exception as error:
        stopped_by = getattr(error, "signal_number", None)
        if debug and stopped_by is None:
            raise
        click.echo(_printable(f"Error: {_sentence(error)}" if stopped_by is None else str(error)), err=True)
        # If a signal stopped the training, the exit status is the one that a shell reports for such a process.
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
    """Shows a warning as a sentence, without the line of code.

    Warnings for programmers do not get here, because Python's default filters drop them.
    """
    click.echo(f"Warning: {_printable(str(message))}", err=True)


def _printable(text: str) -> str:
    """Makes each line of a message safe to print, because it may quote text from a file."""
    return "\n".join(map(printable, text.split("\n")))


def _sentence(error: Exception) -> str:
    """The message of an error; an unexpected error's type precedes it, because the message alone may say little."""
    if isinstance(error, (ValueError, RuntimeError, OSError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (unexpected; --debug shows where)"
