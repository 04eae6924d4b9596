"""Executes the notebooks and writes them with their outputs.

    python notebooks/execute.py                       # all of them
    python notebooks/execute.py 2_what_a_bit_does     # this one

Each notebook is a pair: the ``.py`` is what one edits, with cells as comments (jupytext's percent
format), and the ``.ipynb`` is what one opens and reads. This writes the second from the first.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent
LONGEST_CELL = 600
"""Seconds, for machines with much else to do."""


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("[0-9]_*.py"))


def executed(name: str, folder: Path) -> nbformat.NotebookNode:
    """The notebook of that name with what its cells show.

    Args:
        name: of the pair, without a suffix.
        folder: where its cells run, and write.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(FOLDER / f"{name}.py")
    # The client keeps when each cell ran, which would differ every time.
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
        notebook = executed(name, FOLDER)
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"Written to {FOLDER / name}.ipynb")


if __name__ == "__main__":
    main()
