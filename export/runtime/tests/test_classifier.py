"""Classifier: labels and preprocessing from the file, images as arrays and as files."""

import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import small_classifier
from conftest import run
from r2b_runtime import Classifier, model_file

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return small_classifier.with_files(small_classifier.model())


def test_predicts_what_the_model_says(model):
    prepared = model_file.read(model).preprocessing()(IMAGE)
    (expected,) = run(model, [prepared[np.newaxis]])
    classes = Classifier(model).predict(IMAGE)
    best = np.argsort(-expected[0])
    assert classes == [(small_classifier.LABELS[i], expected[0][i]) for i in best]
    assert sum(probability for _, probability in classes) == pytest.approx(1)


def test_top(model):
    classifier = Classifier(model, num_threads=2)
    assert len(classifier.predict(IMAGE, top=2)) == 2
    assert len(classifier.predict(IMAGE, top=9)) == 3
    with pytest.raises(ValueError, match=r"top must be a whole number from 1; received 0"):
        classifier.predict(IMAGE, top=0)


def test_classifies_one_image_after_the_other(model):
    classifier = Classifier(model)
    first = classifier.predict(IMAGE)
    assert classifier.predict(255 - IMAGE[:, :, 0]) != first
    assert classifier.predict(IMAGE) == first


def test_image_files(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    classifier = Classifier(model)
    image = pillow.fromarray(IMAGE)
    image.save(tmp_path / "image.png")
    assert classifier.predict(tmp_path / "image.png") == classifier.predict(IMAGE)
    for mode in ("L", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        image.convert(mode).save(path)
        expected = np.asarray(pillow.open(path).convert("RGB"))
        assert classifier.predict(str(path)) == classifier.predict(expected)


def test_image_files_that_cannot_be_read(model, tmp_path):
    pytest.importorskip("PIL.Image")
    classifier = Classifier(model)
    with pytest.raises(FileNotFoundError, match=r"there is no image '.*nowhere.png'"):
        classifier.predict(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"'.*text.png' cannot be read as an image"):
        classifier.predict(tmp_path / "text.png")


def test_image_files_without_pillow(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install pillow, or give the pixels"):
        Classifier(model).predict("image.png")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels": None}, r"carries no labels: convert the model with r2b_zoo.convert\(model, labels="),
        ({"preprocessing": None}, "carries no preprocessing: convert"),
        ({"labels": None, "preprocessing": None}, "carries no labels and no preprocessing: convert"),
        ({"labels": ["a", "b"]}, r"has 2 labels for an output of shape \(1, 3\)"),
        ({"height": 9}, r"makes images of shape \(9, 8, 1\), but the model takes \(8, 8, 1\)"),
    ],
)
def test_refuses_a_file_that_does_not_say(files, message):
    data = small_classifier.with_files(small_classifier.model(), **files)
    with pytest.raises(ValueError, match=message):
        Classifier(data)


def test_refuses_a_file_without_an_archive():
    with pytest.raises(ValueError, match=r"carries no labels and no preprocessing"):
        Classifier(small_classifier.model())


def test_refuses_a_damaged_archive(model):
    at = model.index(b"zero\none")
    with pytest.raises(ValueError, match=r"labels.txt inside the model is damaged: Bad CRC-32"):
        Classifier(model[:at] + b"X" + model[at + 1 :])
