"""Writes a web page, made by ``r2b_runtime.web``, that runs a converted file in a browser."""

from pathlib import Path
from typing import Union

from r2b_zoo.system import files, runtime


def is_available() -> bool:
    """Whether r2b-runtime is installed, with its engine for browsers."""
    if not runtime.is_installed():
        return False
    try:
        from r2b_runtime import web
    except ImportError:  # an older r2b-runtime
        return False
    return web.WASM.is_file()


def write(tflite: Union[bytes, Path], path: Path, title: str) -> None:
    """Writes a self-contained HTML file.

    Args:
        tflite: path or contents of a file with labels and preprocessing.
        path: path of the HTML file; an existing file is replaced.
        title: the page's headline.

    Raises:
        ImportError: r2b-runtime is not installed.
        RuntimeError: r2b-runtime was installed without its engine for browsers.
        ValueError: the file lacks labels or preprocessing, or is damaged.
    """
    try:
        from r2b_runtime import web
    except ImportError:
        raise ImportError(
            "A page for browsers needs r2b-runtime: pip install ./export/runtime (from the root of the repository)."
        ) from None
    files.write_text(path, web.page(tflite, title))
