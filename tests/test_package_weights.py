"""Packages a short run with ``benchmarks.package_weights``, which makes the weights that come with the package."""

import json
import shutil

import numpy as np
import pytest

from benchmarks.package_weights import _command, package
from r2b_zoo import recipes
from r2b_zoo.evaluation import classifier
from r2b_zoo.runs.folder import RunFolderError
from r2b_zoo.weights import named
from r2b_zoo.weights.packed import PackedWeights


def test_a_run_becomes_a_file_with_its_card(smoke_run, tmp_path):
    path = package(smoke_run.path, "cifar10", commit="0" * 40, notes=("Digits.",), tolerance=10, folder=tmp_path)
    assert path == tmp_path / named.BUNDLED["cifar10"]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    card = PackedWeights(path).card
    run, packed = classifier.load(smoke_run.path), classifier.load(path)
    assert run.dataset is not None
    assert (packed.labels, packed.preprocessing) == (run.labels, run.preprocessing)
    _, images, labels = run.dataset.test_sample(355)
    before, after = run.probabilities(images), packed.probabilities(images)
    assert card["top1"] == pytest.approx(100 * (after.argmax(axis=1) == labels).mean())
    assert card["trained_top1"] == pytest.approx(100 * (before.argmax(axis=1) == labels).mean())
    assert card["changed_classes"] == np.sum(before.argmax(axis=1) != after.argmax(axis=1))
    assert card["largest_logit_difference"] > 0
    assert (card["test_images"], card["commit"], card["notes"]) == (355, "0" * 40, ["Digits."])
    assert card["recipe"] == "r2b train recipe=digits width=8 smoke=True"
    assert str(smoke_run.path) not in json.dumps(card)


def test_the_command_on_the_card_has_the_fields_of_stages_from_another_run(smoke_run, tmp_path):
    other = shutil.copytree(smoke_run.path, tmp_path / "other")
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"teacher.epochs": 25', '"teacher.epochs": 7'))
    fields = {"width": 8, "teacher.from_run": str(other), "binary.epochs": 3}
    command = _command(recipes.plan("digits", **fields))
    assert command == "r2b train recipe=digits width=8 teacher.epochs=7 binary.epochs=3"


def test_runs_that_are_not_packaged(smoke_run, tmp_path):
    with pytest.raises(ValueError, match=r"are called cifar10; received 'digits'\. Add a new name to BUNDLED in r2b_z"):
        package(smoke_run.path, "digits", folder=tmp_path)
    with pytest.raises(ValueError, match=r"--commit must be the 40 hexadecimal digits .*; received 'main'"):
        package(smoke_run.path, "cifar10", commit="main", folder=tmp_path)
    with pytest.raises(RunFolderError, match=r"holds no \(finished\) run"):
        package(tmp_path, "cifar10", folder=tmp_path)
    with pytest.raises(ValueError, match=r"^Packed, the network has a top-1 of .* may cost -100 points: train it for"):
        package(smoke_run.path, "cifar10", tolerance=-100, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_recorded_accuracy_is_wrong_is_refused(smoke_run, tmp_path):
    folder = shutil.copytree(smoke_run.path, tmp_path / "run")
    results = json.loads((folder / "results.json").read_text())
    results["stages"][-1]["test_accuracy"] = 0.999
    (folder / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"records a top-1 of 99\.90 %, and its network has .* on the 355 test images"):
        package(folder, "cifar10", folder=tmp_path / "data")
    assert not (tmp_path / "data").exists()
