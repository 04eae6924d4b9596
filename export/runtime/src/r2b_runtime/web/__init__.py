"""A page that runs a model in a browser, and the module and compiled engine that other pages can use.

The folder of this file has the npm layout of export/web: `index.js`, `index.d.ts`, `package.json` and `r2b.wasm`.
"""

import base64
import gzip
import html
import os
import pathlib
import re
from typing import Optional

from r2b_runtime import model_file
from r2b_runtime.model_file import ModelSource

FOLDER = pathlib.Path(__file__).resolve().parent
WASM = FOLDER / "r2b.wasm"


class Page(str):
    """The text of a page. A notebook shows the page itself."""

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self)}" title="r2b" allow="camera" '
            'style="width:100%;height:680px;border:0;border-radius:8px"></iframe>'
        )


def page(model: ModelSource, title: Optional[str] = None) -> Page:
    """A page that classifies drawings, pictures and webcam frames by a model, and needs no server and no connection.

    The page contains model, engine and script: about 190 kB, and four thirds of the model's size.

    Args:
        model: path of a `.tflite` file with labels and preprocessing, or its bytes.
        title: headline; default: the file's name.

    Returns:
        The text of an HTML file. As the last value of a notebook's cell it is shown as the page.

    Raises:
        ValueError: the file lacks labels or preprocessing, or is damaged.
        RuntimeError: this installation has no engine for browsers.
    """
    described = model_file.read(model)
    wanted = {"labels": described.labels(), "preprocessing": described.preprocessing()}
    missing = [name for name, value in wanted.items() if not value]
    if missing:
        raise ValueError(
            f"a page needs labels and preprocessing, but {described.name} carries no "
            f"{' and no '.join(missing)}: convert the model with r2b_zoo.convert(model, labels=..., preprocessing=...)"
        )
    if title is None:
        is_path = not isinstance(model, (bytes, bytearray, memoryview, model_file.ModelFile))
        title = pathlib.Path(os.fspath(model)).stem if is_path else "A 1-bit network"  # type: ignore[arg-type]
    compiled = wasm()  # first, because its error says what to do if the files for browsers are not installed
    # The page contains the module's text instead of importing it, and needs no exports.
    module = re.sub(r"^export ", "", _text("index.js"), flags=re.MULTILINE)
    fields = {
        "TITLE": html.escape(title),
        "MODULE": module,
        "SCRIPT": _text("page.js"),
        "WASM": base64.b64encode(gzip.compress(compiled, 9, mtime=0)).decode(),
        "MODEL": base64.b64encode(described.data).decode(),
    }
    return Page(re.sub(r"@([A-Z]+)@", lambda match: fields[match[1]], _text("page.html")))


def wasm() -> bytes:
    """The compiled engine. Raises `RuntimeError` where this installation has none."""
    try:
        return WASM.read_bytes()
    except FileNotFoundError:
        raise RuntimeError(
            "this installation of r2b-runtime has no engine for browsers, since it was compiled where ziglang was "
            "missing: install a wheel, or pip install ziglang setuptools wheel, then pip install "
            "--no-build-isolation --force-reinstall --no-deps export/runtime"
        ) from None


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
