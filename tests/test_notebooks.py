"""The notebooks: .py and .ipynb have the same cells, outputs are small and free of errors, and the code runs."""

import json
import re
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (nbconvert brings it)")

FOLDER = Path(__file__).parents[1] / "notebooks"
sys.path.insert(0, str(FOLDER))
import execute  # noqa: E402

MOST_BYTES = 200_000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# Code that runs after each notebook's last cell, and asserts what the notebook's text promises.
VALUES = {
    "1_a_tour": "assert right >= 12 and bits == 2304",
    "2_what_a_bit_does": "assert largest_difference == 0 and error_with < error_without and with_shortcut > 0.5",
    "3_four_stages": "assert ends['binary']['test_accuracy'] > 0.9 and reached['without', 'binary_activations'] > 0.8",
    "4_from_keras_to_a_board": "assert verification.passed and len(conversion.binary) == 16 and len(answers) == 3",
    "5_your_photographs": "assert result.top1 > 0.8 and verification.passed and agree == len(PLACES)",
}


def check_outputs(notebook):
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
    for output in shown:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert len(json.dumps(output)) <= MOST_BYTES
        text = output.get("text", "") + output.get("data", {}).get("text/html", "")
        assert not CONTROL.search(text), text


def test_every_notebook_is_checked():
    assert execute.names() == sorted(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_both_forms_have_the_same_cells(name):
    """If this fails, run `python notebooks/execute.py`, which writes the .ipynb and its outputs from the .py."""
    text, shown = jupytext.read(FOLDER / f"{name}.py"), nbformat.read(FOLDER / f"{name}.ipynb", 4)
    assert [(cell.cell_type, cell.source) for cell in text.cells] == [
        (cell.cell_type, cell.source) for cell in shown.cells
    ]
    check_outputs(shown)


@pytest.mark.parametrize("name", VALUES)
def test_links_lead_somewhere(name):
    text = (FOLDER / f"{name}.py").read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (FOLDER / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES)
def test_notebook_runs_and_keeps_its_promises(name, tmp_path, monkeypatch):
    read = jupytext.read

    def with_values(path):
        notebook = read(path)
        notebook.cells.append(nbformat.v4.new_code_cell(VALUES[name]))
        return notebook

    monkeypatch.setattr(jupytext, "read", with_values)
    check_outputs(execute.executed(name, tmp_path))
