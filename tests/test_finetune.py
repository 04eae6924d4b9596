"""Fine-tuning end to end: the commands turn a folder of photographs into a file that contains the class names."""

import json
import shutil
import sys

import numpy as np
import pytest
import r2b_runtime

import r2b_zoo
from r2b_zoo import cli, recipes, weights
from r2b_zoo.recipes.finetune import NOTHING_TO_START_FROM, PRETRAINED_STAGES
from r2b_zoo.runs import pretrained
from r2b_zoo.runs.folder import RunFolder
from tests.photo_folder import BAD_FILES, CLASSES, photograph, write_every_kind, write_photographs

SIZE = 32
FRESH = 20
"""Number of new photographs per class, on which no network was trained or tested."""


def r2b(capfd, *words):
    """Runs the command in this process, checks that it succeeded, and returns its output."""
    before, sys.argv = sys.argv, ["r2b", *map(str, words)]
    capfd.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        sys.argv = before
    out, err = capfd.readouterr()
    assert ended.value.code == 0, err
    assert "Traceback" not in err
    return out


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.h5"
    network = r2b_zoo.RealToBinaryNet(input_shape=(48, 48, 3), width=8, stem="cifar", num_classes=7)
    weights.save(network, path)
    return path


def test_the_plan_takes_width_stem_and_image_size_from_the_weights(weights_file):
    plan = recipes.plan("finetune", weights=str(weights_file))
    assert tuple(stage.name for stage in plan.stages) == PRETRAINED_STAGES
    assert (plan.width, plan.stem, plan.image_size) == (8, "cifar", 48)
    assert [stage.pretrained for stage in plan.stages] == [str(weights_file), None]
    assert [stage.trained for stage in plan.stages] == ["classifier", "all"]
    assert plan.notes == ()
    assert recipes.plan("finetune", weights=str(weights_file), image_size=64).image_size == 64


def test_weights_without_a_record_of_their_size(tmp_path, weights_file):
    import h5py

    path = shutil.copy(weights_file, tmp_path / "older.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["r2b_zoo_input_size"]
    assert pretrained.describe(str(path)).image_size == pretrained.SMALL_IMAGE_SIZE


def test_the_plan_has_the_width_and_stem_of_the_published_weights():
    plan = recipes.plan("finetune", weights="imagenet")
    assert (plan.width, plan.stem, plan.image_size) == (64, "imagenet", None)
    assert plan.stages[0].pretrained == "imagenet"


def test_without_weights_the_plan_has_four_stages_and_a_note():
    plan = recipes.plan("finetune")
    assert tuple(stage.name for stage in plan.stages) == recipes.STAGE_NAMES
    assert plan.notes == (NOTHING_TO_START_FROM,)
    assert "starts from random weights" in NOTHING_TO_START_FROM


def test_weights_that_are_not_there(tmp_path):
    message = r"weights must be 'imagenet', 'cifar10', a weights file or the folder of a run"
    with pytest.raises(FileNotFoundError, match=message):
        recipes.plan("finetune", weights=str(tmp_path / "none.h5"))


# --- trained ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_every_kind(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture(scope="module")
def from_nothing(photos, tmp_path_factory):
    """The folder of a run of all four stages from random weights, and the finished ``r2b train`` process."""
    folder = tmp_path_factory.mktemp("runs") / "nothing"
    epochs = {"teacher": 10, "real": 15, "binary_activations": 20, "binary": 60}
    words = [f"{stage}.epochs={number}" for stage, number in epochs.items()]
    words += [f"data.dir={photos}", f"image_size={SIZE}", "width=8", "stem=cifar", "--output", str(folder)]
    done = _in_a_process("train", "recipe=finetune", *words)
    return RunFolder(folder), done


def _in_a_process(*words):
    import subprocess

    command = [sys.executable, "-c", "from r2b_zoo.cli import main; main()", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def check_predictions(folder, classes, capfd, tmp_path):
    """Checks that r2b-runtime predicts at least 90 % of new photographs correctly with a run's .tflite file.

    Also checks that ``r2b predict`` predicts the same class as r2b-runtime for one photograph of each class.
    """
    classifier = r2b_runtime.Classifier(str(folder.tflite_path))
    assert tuple(classifier.labels) == classes
    right = 0
    for label, name in enumerate(classes):
        for i in range(FRESH):
            image = photograph(label, 7000 + i)
            (best, _), *_ = classifier.predict(np.asarray(image), top=1)
            right += best == name
        image.save(tmp_path / "fresh.png")
        printed = r2b(capfd, "predict", tmp_path / "fresh.png", "--model", folder.tflite_path, "--top", "1")
        assert printed.split(" %  ")[1].strip() == best
    assert right >= 0.9 * FRESH * len(classes), right


@pytest.mark.long
def test_training_from_random_weights_predicts_new_photographs(photos, from_nothing, capfd, tmp_path):
    folder, done = from_nothing
    words = " ".join(done.stdout.split())
    assert "Note: No weights were given, so the network starts from random weights" in words
    assert "Skipped 2 files:" in words
    for name in BAD_FILES:
        assert f"{name} is left out: " in words
    assert done.stderr == ""
    results = folder.results()
    assert results["dataset"]["class_names"] == list(CLASSES)
    assert results["dataset"]["description"] == f"photographs in photos, {SIZE}×{SIZE}"
    assert [sentence.split(" is left out")[0] for sentence in results["dataset"]["skipped"]] == list(BAD_FILES)
    page = folder.report_path.read_text(encoding="utf-8")
    for expected in ("2 files were left out", *BAD_FILES, "starts from random weights", *CLASSES, "true ↓ predicted →"):
        assert expected in page
    check_predictions(folder, CLASSES, capfd, tmp_path)
    evaluated = json.loads(r2b(capfd, "evaluate", folder.tflite_path, f"data={photos}", "--json"))["result"]
    assert evaluated["top1"] == results["tflite"]["accuracy"]
    assert len(evaluated["dataset"]["skipped"]) == 2


@pytest.mark.long
@pytest.mark.parametrize("kind", ["run", "file"])
def test_from_weights_with_two_classes_of_twenty_photographs(from_nothing, kind, capfd, tmp_path):
    """The new classes are the first two of the old ones, with other photographs; the first has a new name."""
    trained, _ = from_nothing
    start = {"run": trained.path, "file": trained.weights("binary")}[kind]
    photos = write_photographs(tmp_path / "photos", ("bricks", "grass"), seed=3)
    folder = RunFolder(tmp_path / "run")
    printed = r2b(capfd, "train", "recipe=finetune", f"data.dir={photos}", f"weights={start}", "--output", folder.path)
    assert "starts from random weights" not in printed
    results = folder.results()
    assert [stage["name"] for stage in results["stages"]] == list(PRETRAINED_STAGES)
    assert results["dataset"]["description"] == f"photographs in photos, {SIZE}×{SIZE}"
    assert (results["dataset"]["training_images"], results["dataset"]["test_images"]) == (36, 4)
    check_predictions(folder, ("bricks", "grass"), capfd, tmp_path)
    # The run records its class names, so ``r2b predict`` does not need the photographs of the training.
    shutil.rmtree(photos)
    photograph(0, 8000).save(tmp_path / "fresh.jpg")
    assert r2b(capfd, "predict", tmp_path / "fresh.jpg", "--model", folder.path).split()[2] in ("bricks", "grass")
