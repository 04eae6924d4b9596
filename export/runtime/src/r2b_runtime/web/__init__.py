"""Makes a page that runs a model in a browser.

In an installation, this folder contains the templates `page.html` and `page.js`. It also contains the npm package of
export/web (`index.js`, `index.d.ts`, `package.json` and `r2b.wasm`), which other pages can use.
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
    """The HTML text of a page. A notebook shows the page instead of the text."""

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self)}" title="r2b" allow="camera" '
            'style="width:100%;height:680px;border:0;border-radius:8px"></iframe>'
        )


def page(model: ModelSource, title: Optional[str] = None) -> Page:
    """Makes a page that classifies drawings, pictures and webcam frames with a model, without a server or a connection.

    The page contains the model in base64, a third larger than the file, and about 180 kB of engine and scripts.

    Args:
        model: path of a `.tflite` file with labels and preprocessing, or its bytes.
        title: headline; default: the file's name.

    Returns:
        The text of an HTML file. If it is the last value of a notebook's cell, the notebook shows the page.

    Raises:
        FileNotFoundError: there is no such file.
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
    compiled = wasm()  # first, because its error says what to do if these files are missing
    # The page contains the module's text instead of importing it, so the keywords `export` are removed.
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
    """The compiled engine, WebAssembly. Raises `RuntimeError` if this installation has none."""
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
