"""Compares accuracy, recall and precision with scikit-learn's, and tests how an evaluation is shown and timed."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn import metrics

from r2b_zoo import data
from r2b_zoo.conversion.tflite_engine import TFLiteEngine
from r2b_zoo.evaluation import accuracy
from r2b_zoo.evaluation.accuracy import evaluate
from r2b_zoo.evaluation.confusion import Mistake, mistakes
from r2b_zoo.report.confusion_plot import write_confusion_plot
from r2b_zoo.report.tables import evaluation_tables
from tests.converted import converted, images
from tests.small import SHALLOW

CLASSES = 8


@pytest.fixture
def labels(rng):
    return rng.integers(0, CLASSES, 300)


@pytest.fixture
def probabilities(rng, labels):
    """Probabilities that predict the right class about 60 % of the time."""
    raw = rng.random((300, CLASSES))
    raw[np.arange(300), labels] += 0.5
    return raw / raw.sum(axis=1, keepdims=True)


def test_accuracies_equal_scikit_learns(probabilities, labels):
    found = evaluate(probabilities, labels)
    assert found.images == 300
    assert found.top1 == pytest.approx(metrics.accuracy_score(labels, probabilities.argmax(axis=1)))
    top5 = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(CLASSES))
    assert found.top5 == pytest.approx(top5)
    assert 0.2 < found.top1 < found.top5 < 1


def test_confusion_recall_and_precision_equal_scikit_learns(probabilities, labels):
    found, predicted = evaluate(probabilities, labels), probabilities.argmax(axis=1)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, predicted))
    np.testing.assert_allclose(found.recall, metrics.recall_score(labels, predicted, average=None))
    np.testing.assert_allclose(found.precision, metrics.precision_score(labels, predicted, average=None))
    # The matrix is not symmetric, so the comparison above would fail if rows and columns were exchanged.
    assert not np.array_equal(found.confusion, found.confusion.T)


def test_a_class_without_images_and_one_never_predicted_have_no_score():
    found = evaluate(np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]), np.array([0, 2, 1]))
    np.testing.assert_array_equal(found.confusion, [[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found.recall, [1, 1, 0])
    np.testing.assert_array_equal(found.precision, [0.5, 1, np.nan])
    only_zero = evaluate(np.array([[0.9, 0.1, 0.0]]), np.array([0]))
    np.testing.assert_array_equal(only_zero.recall, [1, np.nan, np.nan])


def test_top5_accuracy_is_1_with_five_classes_or_fewer(rng):
    found = evaluate(rng.random((20, 4)), rng.integers(0, 4, 20))
    assert found.top5 == 1
    assert found.top1 < 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((3, 4)), np.zeros(2, int), r"with N at least 1; received \(3, 4\) and \(2,\)"),
        (np.ones((0, 4)), np.zeros(0, int), r"with N at least 1; received \(0, 4\) and \(0,\)"),
        (np.ones(4), np.zeros(4, int), r"probabilities \(N, classes\) and labels \(N,\) .*received \(4,\)"),
        (np.ones((2, 4)), np.array([0, 4]), r"Labels must be in 0–3; received 0–4"),
        (np.ones((2, 4)), np.array([-1, 2]), r"Labels must be in 0–3; received -1–2"),
    ],
)
def test_predictions_that_do_not_fit_the_labels_are_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(probabilities, labels)


def test_a_network_must_have_as_many_classes_as_the_data():
    batches = [(np.zeros((2, 8, 8, 3), np.float32), np.array([0, 1]))]
    told: list[int] = []

    def predict(images):
        return np.full((len(images), 4), 0.25)

    assert accuracy.evaluate_batches(predict, batches, told.append, num_classes=4).images == 2
    assert told == [2]
    with pytest.raises(ValueError, match=r"The network has 4 classes, but the data has 3: evaluate it on data"):
        accuracy.evaluate_batches(predict, batches, num_classes=3)


def test_batches_of_large_images_are_smaller():
    assert accuracy.prediction_batch((8, 8, 1)) == accuracy.PREDICTION_BATCH
    assert 1 < accuracy.prediction_batch((224, 224, 3)) < 64
    assert accuracy.prediction_batch((5000, 5000, 3)) == 1


def test_scores_of_the_classes_and_the_mistakes():
    found = accuracy.Evaluation(np.array([[3, 1, 0], [2, 0, 0], [0, 0, 0]]), 6)
    assert found.per_class(("a", "b", "c")) == [
        {"name": "a", "images": 4, "precision": 3 / 5, "recall": 3 / 4},
        {"name": "b", "images": 2, "precision": 0.0, "recall": 0.0},
        {"name": "c", "images": 0, "precision": None, "recall": None},
    ]
    assert found.cells == [[0, 0, 3], [0, 1, 1], [1, 0, 2]]
    assert mistakes(found.cells) == [Mistake(1, 0, 2, 1.0), Mistake(0, 1, 1, 0.25)]


# --- shown ------------------------------------------------------------------------------------------------------------


def blurred(classes, images=20):
    """An evaluation of ``images`` images per class: 4 of 5 are right, the others are predicted as the next class."""
    confusion = np.eye(classes, dtype=int) * (images * 4 // 5)
    return accuracy.Evaluation(confusion + np.roll(np.eye(classes, dtype=int), 1, axis=1) * (images // 5), 9)


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_confusion_plot_has_fewer_texts_for_many_classes(tmp_path, classes):
    names = [f"class $number$ {i} of a name that is far too long" for i in range(classes)]
    write_confusion_plot(tmp_path / "matrix.png", blurred(classes), names, "a network")
    with Image.open(tmp_path / "matrix.png") as image:
        assert 500 < min(image.size) <= max(image.size) < 4000
    write_confusion_plot(tmp_path / "matrix.svg", blurred(classes), names, "a network")
    svg = (tmp_path / "matrix.svg").read_text(encoding="utf-8")
    assert ("class $number$ 1 of a n…" in svg) == (classes <= 120)
    assert (">16</text>" in svg) == (classes <= 30)
    assert ("to a cell" in svg) == (classes == 1000)
    assert f"top-1 80.0 %, top-5 {100 * blurred(classes).top5:.1f} % of {20 * classes:,} images" in svg
    write_confusion_plot(tmp_path / "again.svg", blurred(classes), names, "a network")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "matrix.svg").read_bytes()


@pytest.mark.parametrize(
    ("classes", "width", "expected", "unexpected"),
    [
        (3, 100, "class_number_2 class_number_3", "Most frequent confusions"),
        (10, 100, " 1 2 3 4 5 6 ", "Most frequent confusions"),
        (20, 40, "Most frequent confusions, 20 of 20", "Confusion matrix"),
        (21, 1000, "Most frequent confusions, 20 of 21", "Confusion matrix"),
    ],
)
def test_tables_of_few_and_of_many_classes(classes, width, expected, unexpected):
    names = tuple(f"class_number_{i}" for i in range(1, classes + 1))
    dataset = replace(data.load("digits"), class_names=names)
    out = Console(width=width, markup=False, record=True, file=io.StringIO())
    for part in evaluation_tables("a network", dataset, blurred(classes), width):
        out.print(part)
    words = " ".join(out.export_text().split())
    assert expected in words
    assert unexpected not in words
    assert words.endswith(f"of {20 * classes} test images")


def test_the_model_sees_every_image_in_order():
    model, _ = converted("RealToBinaryNet", "binary", SHALLOW)
    batch = images(20)
    found = accuracy.predict_keras(model, batch)
    assert found.shape == (20, 10)
    np.testing.assert_allclose(found, model(batch, training=False), atol=1e-5)


def test_the_time_is_the_median_after_the_warm_up(monkeypatch):
    """Runs take 1, 2, 3, ... ms. The first three are the warm-up. The others take 4 to 33 ms; the median is 18.5 ms."""
    now, run = [0.0], [0]
    monkeypatch.setattr(accuracy.time, "perf_counter", lambda: now[0])

    def predict(engine, batch):
        assert batch.shape == (1, 32, 32, 3)
        run[0] += 1
        now[0] += run[0] / 1000

    monkeypatch.setattr(TFLiteEngine, "predict", predict)
    _, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    assert accuracy.milliseconds_per_image(conversion.tflite, images(1)[0]) == pytest.approx(18.5)
    assert run[0] == accuracy.TIMING_WARM_UP + accuracy.TIMING_RUNS
