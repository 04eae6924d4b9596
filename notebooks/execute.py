"""Executes the notebooks and writes them with their outputs.

    python notebooks/execute.py                       # all of them
    python notebooks/execute.py 2_what_a_bit_does     # this one

Each notebook is a pair. Edit the ``.py``, in which comments mark the cells (jupytext's percent
format); open and read the ``.ipynb``, which this script writes from it.
"""

import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
LONGEST_CELL = 600
"""The limit for one cell, in seconds; long enough for a busy machine."""


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("[0-9]_*.py"))


def executed(name: str, folder: Path) -> nbformat.NotebookNode:
    """Executes a notebook, and returns it with the outputs of its cells.

    Args:
        name: name of the notebook's two files, without the suffix.
        folder: where its cells run and write their files.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(FOLDER / f"{name}.py")
    # Do not record when each cell ran, which would differ every time.
    client = NotebookClient(
        notebook,
        timeout=LONGEST_CELL,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute()
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        return
    if unknown := sorted(set(sys.argv[1:]) - set(names())):
        sys.exit(f"There is no notebook {', '.join(unknown)}; there are {', '.join(names())}.")
    for name in sys.argv[1:] or names():
        # The folder is empty, so no earlier run is resumed, and all training is shown.
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(name, Path(folder))
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"Written to {FOLDER / name}.ipynb")


if __name__ == "__main__":
    main()
