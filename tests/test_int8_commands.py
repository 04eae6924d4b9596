"""Tests ``r2b export --int8``, and the commands that verify, evaluate and use the file that it writes."""

import json
from dataclasses import replace

import numpy as np
import pytest

import r2b_zoo
from r2b_zoo.conversion import calibration, metadata
from r2b_zoo.evaluation import classifier
from tests.photo_folder import write_photographs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("int8")


@pytest.fixture
def exported(r2b, smoke_run, folder):
    """The path of an int8 file with uint8 input, and the result that its export printed; shared by all tests."""
    file, printed = folder / "digits.tflite", folder / "export.json"
    if not file.exists():
        ended = r2b("export", smoke_run.path, file, "--int8", "--uint8", "--json")
        assert ended.status == 0, ended.err
        printed.write_text(ended.out)
    return file, json.loads(printed.read_text())["result"]


def test_export_verify_and_predict(r2b, smoke_run, exported, photograph):
    file, result = exported
    kinds = [row["kind"] for row in result["layers"]]
    assert kinds.count("int8") == 5
    own = r2b_zoo.load(smoke_run.path).preprocessing
    assert own is not None
    assert metadata.read(file.read_bytes()).preprocessing == replace(own, mean=(78,), std=(1,))

    verified = r2b("verify", smoke_run.path, file, "--max-loss", "100", "--json")
    assert verified.status == 0, verified.out
    result = json.loads(verified.out)["result"]
    assert (result["images"], result["max_loss"], result["told_otherwise"]) == (355, 100, [])
    assert result["loss"] == pytest.approx(100 * (result["lost"] - result["gained"]) / 355)
    assert 0 < result["mean_difference"] < 0.1
    # After only two training steps, classes have nearly equal probabilities, so int8 may change some predictions.
    # These photographs have no true classes, so each changed prediction counts as lost.
    unlabelled = r2b("verify", smoke_run.path, file, "--images", photograph.parent, "--max-loss", "0", "--json")
    result = json.loads(unlabelled.out)["result"]
    assert result["correct"] is None
    assert unlabelled.status == (1 if result["disagreements"] else 0)

    accuracy = json.loads(r2b("evaluate", file, "data=digits", "--json").out)["result"]["top1"]
    result = json.loads(verified.out)["result"]
    assert accuracy == pytest.approx((result["correct"] - result["lost"] + result["gained"]) / 355)
    predicted = json.loads(r2b("predict", photograph, "--model", file, "--top", 10, "--json").out)["result"]["classes"]
    assert sum(row["probability"] for row in predicted) == pytest.approx(1, abs=1e-3)


def test_exit_status_is_1_if_more_is_lost_than_allowed(r2b, smoke_run, exported):
    ended = r2b("verify", smoke_run.path, exported[0], "--data", "digits", "--max-loss", "0", "-n", "100")
    lost = float(ended.words.split(" points lost")[0].split("; ")[-1])
    assert ended.status == (1 if lost > 0 else 0)
    assert "(at most 0 allowed)" in ended.words


def test_calibration_images_come_from_a_run_a_data_set_or_a_folder(smoke_run, tmp_path):
    run = r2b_zoo.load(smoke_run.path)
    own = np.concatenate(classifier.calibration_images(run))
    assert own.shape[1:] == (8, 8, 1)
    assert len(own) >= calibration.MOST_IMAGES
    np.testing.assert_array_equal(own, np.concatenate(classifier.calibration_images(run, "digits")))
    write_photographs(tmp_path / "photos", number=10)
    assert len(calibration.checked(classifier.calibration_images(run, str(tmp_path / "photos")), (8, 8, 1))) == 1


OPTIONS = [
    (["--uint8"], r"--uint8 needs --int8: add it, or leave --uint8 out"),
    (["--calibration", "photos"], r"--calibration needs --int8: add it, or leave"),
    (["--int8", "--calibration", "digitz"], r"There is no folder 'digitz' to calibrate with, and no data set of that"),
    (["--int8", "--calibration", "{empty}"], r"There are no images in"),
]


@pytest.mark.parametrize(("words", "message"), OPTIONS, ids=lambda value: str(value)[:30])
def test_wrong_options_of_export_are_refused(r2b, smoke_run, tmp_path, words, message):
    (tmp_path / "empty").mkdir()
    words = [word.replace("{empty}", str(tmp_path / "empty")) for word in words]
    ended = r2b("export", smoke_run.path, tmp_path / "x.tflite", *words)
    assert ended.status != 0
    assert message in " ".join(ended.err.split())
    assert not (tmp_path / "x.tflite").exists()


def test_weights_alone_do_not_say_what_to_calibrate_with(r2b, tmp_path):
    ended = r2b("export", "cifar10", tmp_path / "x.tflite", "--int8")
    assert ended.status == 1
    assert "cifar10 does not record what it was trained on: name a folder of images, or a data set" in ended.err


def test_data_and_images_together_are_refused(r2b, smoke_run, tmp_path):
    ended = r2b("verify", smoke_run.path, smoke_run.tflite_path, "--data", "digits", "--images", tmp_path)
    assert ended.status == 1
    assert "--images and --data are two ways to name images" in ended.err
