"""A run resumes only on the data that it was started with."""

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from r2b_zoo import data, pipeline, recipes, training, weights
from r2b_zoo.conversion import metadata
from r2b_zoo.data.folder import BY_NAME, BY_RANK
from r2b_zoo.evaluation import classifier
from r2b_zoo.runs import data_record
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.runs.networks import Networks
from r2b_zoo.training import stages
from tests.test_folder import picture, write_classes

pytestmark = pytest.mark.filterwarnings("ignore:Few images to train on")


def quiet(line):
    raise AssertionError(line)


def paths_tested(dataset):
    return {photograph.path for photograph in dataset.test}


def load(photos, **options):
    return data.load("folder", photos, image_size=16, **options)


@pytest.fixture
def photos(tmp_path):
    return write_classes(tmp_path / "photos", ("apple", "pear"), 10, ".png")


@pytest.fixture
def run(photos, tmp_path):
    """The folder of a run that has been started on the photographs."""
    folder = RunFolder(tmp_path / "run")
    with folder.opened(recipes.plan("finetune", data_dir=str(photos))):
        data_record.keep(folder, load(photos), quiet)
    folder.stages_path.mkdir()
    return folder


def test_the_same_data_are_accepted_again_and_after_a_move(run, photos, tmp_path):
    data_record.keep(run, load(photos), quiet)
    moved = photos.rename(tmp_path / "moved")
    data_record.keep(run, load(moved), quiet)
    assert data_record.class_names(run) == ("apple", "pear")


def rename_a_class(photos):
    (photos / "apple").rename(photos / "quince")


def swap_two_classes(photos):
    for old, new in (("apple", "other"), ("pear", "apple"), ("other", "pear")):
        (photos / old).rename(photos / new)


def add_a_class(photos):
    write_classes(photos, ("fig",), 3)


def remove(photos):
    (photos / "pear" / "003.png").unlink()


def add(photos):
    for i in range(5):
        picture(50 + i).save(photos / "pear" / f"new{i}.png")


def change(photos):
    picture(60).save(photos / "pear" / "003.png")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (
            rename_a_class,
            r"1 class \(apple\) is gone; 1 class \(quince\) is new; 10 photographs \(apple/.*, \.\.\.\) are gone",
        ),
        (
            swap_two_classes,
            r"20 photographs \(apple/.*, \.\.\.\) are changed\. Restore the data, or choos",
        ),
        (add_a_class, r"1 class \(fig\) is new; 3 photographs \(fig/.*\) are new"),
        (remove, r"1 photograph \(pear/003\.png\) is gone\. Restore"),
        (add, r"5 photographs \(pear/new.*\) are new"),
        (change, r"1 photograph \(pear/003\.png\) is changed\. Restore"),
    ],
)
def test_other_data_are_refused_and_the_difference_is_named(run, photos, make, what):
    before = run.data_path.read_bytes()
    make(photos)
    with pytest.raises(RunFolderError, match=r"run holds a run that was started with other data: " + what):
        data_record.keep(run, load(photos), quiet)
    assert run.data_path.read_bytes() == before


def test_another_split_or_version_or_order_of_classes_is_refused(run, photos):
    by_rank = load(photos, split_rule=BY_RANK)
    with pytest.raises(RunFolderError, match=r"data: \d photographs? \(.*\) (is|are) on the other side of the split"):
        data_record.keep(run, by_rank, quiet)
    digits = data.load("digits")
    folder = RunFolder(run.path.parent / "digits")
    folder.path.mkdir()
    data_record.keep(folder, replace(digits, version="1.0"), quiet)
    with pytest.raises(RunFolderError, match=r"data: its version was '1\.0' and is '1\.1'"):
        data_record.keep(folder, replace(digits, version="1.1"), quiet)
    other = replace(digits, version="1.0", class_names=digits.class_names[::-1])
    with pytest.raises(RunFolderError, match=r"data: the classes are in another order"):
        data_record.keep(folder, other, quiet)


def test_a_run_of_an_earlier_version_resumes_with_its_split(run, photos):
    assert data_record.split_rule(run) == BY_NAME
    run.data_path.unlink()
    assert data_record.split_rule(run) == BY_RANK
    data_record.keep(run, load(photos, split_rule=BY_RANK), quiet)
    assert json.loads(run.data_path.read_text())["split"] == BY_RANK
    assert data_record.split_rule(run) == BY_RANK
    assert data_record.split_rule(RunFolder(run.path / "new")) == BY_NAME


def test_a_finished_run_of_an_earlier_version_checks_classes_and_image_count(run, photos):
    run.data_path.unlink()
    dataset = {"class_names": ["apple", "pear"], "training_images": 16, "test_images": 4}
    run.write_results({"dataset": dataset})
    by_rank = load(photos, split_rule=BY_RANK)
    add(photos)
    with pytest.raises(RunFolderError, match=r"data: the number of images was 20 and is 25\. Restore"):
        data_record.keep(run, load(photos, split_rule=BY_RANK), quiet)
    rename_a_class(photos)
    with pytest.raises(RunFolderError, match=r"data: 1 class \(apple\) is gone; 1 class \(quince\) is new\. Restore"):
        data_record.keep(run, load(photos, split_rule=BY_RANK), quiet)
    data_record.keep(run, by_rank, quiet)
    assert run.data_path.is_file()


def test_a_damaged_record_is_written_again_and_keeps_the_split(run, photos):
    for text, rule in (("", BY_NAME), ("[]", BY_NAME), ('{"split": "by rank", "fil', BY_RANK)):
        run.data_path.write_text(text)
        assert data_record.split_rule(run) == rule
        said: list[str] = []
        data_record.keep(run, load(photos, split_rule=rule), said.append)
        assert len(said) == 1
        assert said[0].startswith(f"{run.data_path} is damaged (")
        assert json.loads(run.data_path.read_text())["split"] == rule
    run.data_path.write_text('{"format": 9}')
    with pytest.raises(RunFolderError, match=r"data\.json has format 9, and this version of r2b_zoo reads 1: install"):
        data_record.keep(run, load(photos), quiet)


# --- in training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on photographs whose stages count as finished, with random weights. Copy it before you change it."""
    root = tmp_path_factory.mktemp("trained")
    photos = write_classes(root / "photos", ("apple", "pear"), 10, ".png")
    folder, plan = RunFolder(root / "run"), plan_of(photos)
    with folder.opened(plan):
        networks = Networks(plan, folder)
        data_record.keep(folder, networks.dataset, quiet)
        for stage in plan.stages:
            folder.stage(stage.name).mkdir(parents=True)
            weights.save(networks.build(stage.name), folder.weights(stage.name))
            (folder.stage(stage.name) / "result.json").write_text(json.dumps(RESULT | {"network": stage.network}))
    return folder, photos


RESULT: dict[str, Any] = {
    "precision": "binary",
    "taught_by": None,
    "initial_weights": None,
    "pretrained": None,
    "trained": "all",
    "layers_not_initialised": [],
    "epochs": 1,
    "seconds": 1.0,
    "images_per_second": None,
    "test_accuracy": 0.5,
}


def plan_of(photos):
    return recipes.plan(
        "finetune", data_dir=str(photos), smoke=True, width=8, stem="cifar", image_size=16, progressive=False
    )


def test_a_finished_run_is_refused_after_a_class_was_renamed(trained):
    """Without the check, the command would write a file whose labels are in the wrong order."""
    folder, photos = trained
    plan = plan_of(photos)
    again = training.train(plan, folder)
    assert again is not None
    assert again.dataset.class_names == ("apple", "pear")
    (photos / "apple").rename(photos / "quince")
    try:
        with pytest.raises(RunFolderError, match=r"1 class \(apple\) is gone; 1 class \(quince\) is new"):
            training.train(plan, folder)
        assert classifier.load(folder.path).labels == ("apple", "pear")
    finally:
        (photos / "quince").rename(photos / "apple")


def test_an_old_run_is_evaluated_on_photographs_it_did_not_train_on(trained, tmp_path):
    folder, photos = trained
    loaded = classifier.load(folder.path)
    names = paths_tested(load(photos))
    assert paths_tested(classifier.dataset_for(loaded)) == names
    old = RunFolder(shutil.copytree(folder.path, tmp_path / "old"))
    old.data_path.unlink()
    ranked = paths_tested(load(photos, split_rule=BY_RANK))
    assert ranked != names
    old.tflite_path.write_bytes(
        metadata.write(
            metadata.without_operators((16, 16, 3), 2),
            name="",
            description="",
            labels=("apple", "pear"),
            preprocessing=loaded.preprocessing,
        )
    )
    for reference in (old.path, old.tflite_path):
        dataset = classifier.dataset_for(classifier.load(reference), str(photos))
        assert paths_tested(dataset) == ranked


# --- the rehearsal ----------------------------------------------------------------------------------------------------


def test_damaged_test_images_are_found_before_any_training(photos, tmp_path, monkeypatch):
    """Damages the test images after they are listed. The rehearsal before the first stage reads some of them."""
    folder = RunFolder(tmp_path / "run")
    plan = plan_of(photos)

    def loaded_and_damaged(name, data_dir, **options):
        dataset = data.folder.folder(data_dir, **options)
        for photograph in dataset.test:
            photograph.path.write_bytes(b"no longer an image")
        return dataset

    monkeypatch.setattr(data, "load", loaded_and_damaged)
    monkeypatch.setattr(stages, "_train_stage", lambda *_: pytest.fail("trained"))
    with pytest.raises(Exception, match=r"cannot be read as an image|cannot identify image file"):
        pipeline.run(plan, folder)
    assert not folder.results_path.exists()


def test_rehearsal_refuses_labels_and_preprocessing_that_fail_later(trained):
    folder, photos = trained
    networks = Networks(plan_of(photos), folder)
    pipeline.rehearse(networks)
    networks.dataset = replace(networks.dataset, class_names=("apple", "pe\nar"))
    with pytest.raises(ValueError, match=r"[Aa] label must be one line"):
        pipeline.rehearse(networks)
    preprocessing = replace(data.load("digits").preprocessing)
    object.__setattr__(preprocessing, "mean", (np.nan,))  # bypasses the checks of Preprocessing
    networks.dataset = replace(data.load("digits"), preprocessing=preprocessing)
    with pytest.raises(ValueError, match=r"gives values that are not finite"):
        pipeline.rehearse(networks)
