"""Runs every recipe end to end with ``--smoke``: all its stages, the converted file and the report."""

import subprocess
import sys

import numpy as np
import pytest

from r2b_zoo import recipes
from r2b_zoo.conversion import metadata
from r2b_zoo.runs.folder import RunFolder
from tests.conftest import TEST_DATA, skip_without
from tests.photo_folder import write_photographs
from tests.prepared_data import write_cifar10, write_cifar100
from tests.test_recipes import TABLE_3, rows_of_table_3

pytestmark = pytest.mark.slow
SHARES_NOTHING = True


def imagenet(folder):
    """The folder of the ImageNet sample; skips the test if there is none."""
    skip_without("imagenet2012")
    return TEST_DATA


def written_by(write):
    def prepare(folder):
        write(folder)
        return folder

    return prepare


# For each data set, a function that takes an empty folder for the data, and returns data_dir, or None if the data set
# needs none. A recipe on another data set needs a line here.
DATA = {
    "digits": lambda folder: None,
    "cifar10": written_by(write_cifar10),
    "cifar100": written_by(write_cifar100),
    "imagenet": imagenet,
    "folder": lambda folder: write_photographs(folder / "photos"),
}


def smoke(recipe, data_dir, output, *words):
    """Runs ``r2b train --smoke`` in a separate process; returns the run's folder and the standard output."""
    command = [sys.executable, "-c", "from r2b_zoo.cli import main; main()", "train", f"recipe={recipe}", "--smoke"]
    command += ["--output", str(output), *words]
    if data_dir is not None:
        command.append(f"data_dir={data_dir}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return RunFolder(output), done.stdout


@pytest.mark.parametrize("recipe", recipes.list_recipes())
def test_a_smoke_run_goes_through_all_stages_and_converts(recipe, tmp_path):
    plan = recipes.plan(recipe)
    folder, printed = smoke(recipe, DATA[plan.dataset](tmp_path), tmp_path / "run")
    results = folder.results()
    assert [stage["name"] for stage in results["stages"]] == [stage.name for stage in plan.stages]
    for stage in plan.stages:
        log = np.genfromtxt(folder.stage(stage.name) / "log.csv", delimiter=",", names=True)
        assert np.isfinite(log["loss"])
        assert np.isfinite(log["val_loss"])
        assert f"✓ {stage.name} " in printed
    assert results["smoke"] is True
    assert results["verification"]["passed"] is True
    described = metadata.read(folder.tflite_path.read_bytes())
    assert described.labels == tuple(results["dataset"]["class_names"])
    assert results["dataset"]["description"] in described.description
    assert folder.report_path.is_file()
    if recipe == "imagenet":
        assert described.preprocessing is not None
        assert described.preprocessing.input_shape == (224, 224, 3)
        assert (plan.width, len(described.labels)) == (64, 1000)
        assert results["dataset"]["training_images"] == 160


@pytest.mark.parametrize(("row", "words"), [(row, words) for row, words in rows_of_table_3() if words])
def test_a_smoke_run_of_each_row_of_table_3(row, words, tmp_path):
    """Leaves out the row without arguments: it is the recipe itself, which the test above runs."""
    write_cifar100(tmp_path, train=64, test=20)
    folder, _ = smoke("cifar100", tmp_path, tmp_path / "run", "width=8", *words)
    results = folder.results()
    assert [stage["name"] for stage in results["stages"]][1 - (row in NO_TEACHER) :] == list(TABLE_3[row][1])
    assert results["verification"]["passed"] is True


NO_TEACHER = ("strong baseline (SB)", "SB + gate")


def test_a_smoke_run_takes_a_sample_smaller_than_its_batch(tmp_path):
    write_cifar100(tmp_path, train=5, test=3)
    folder, _ = smoke("cifar100", tmp_path, tmp_path / "run", "width=8", "progressive=false")
    assert folder.results()["dataset"]["training_images"] == 5
