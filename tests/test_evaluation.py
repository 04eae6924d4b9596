"""Accuracy, recall and precision against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from r2b_zoo import evaluation
from r2b_zoo.evaluation import evaluate
from r2b_zoo.tflite_engine import TFLiteEngine
from tests.converted import converted, images

CLASSES = 8


@pytest.fixture
def labels(rng):
    return rng.integers(0, CLASSES, 300)


@pytest.fixture
def probabilities(rng, labels):
    """Right about half of the time."""
    raw = rng.random((300, CLASSES))
    raw[np.arange(300), labels] += 0.5
    return raw / raw.sum(axis=1, keepdims=True)


def test_accuracies_are_scikit_learns(probabilities, labels):
    found = evaluate(probabilities, labels)
    assert found.images == 300
    assert found.top1 == pytest.approx(metrics.accuracy_score(labels, probabilities.argmax(axis=1)))
    top5 = metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(CLASSES))
    assert found.top5 == pytest.approx(top5)
    assert 0.2 < found.top1 < found.top5 < 1


def test_confusion_recall_and_precision_are_scikit_learns(probabilities, labels):
    found, predicted = evaluate(probabilities, labels), probabilities.argmax(axis=1)
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(labels, predicted))
    np.testing.assert_allclose(found.recall, metrics.recall_score(labels, predicted, average=None))
    np.testing.assert_allclose(found.precision, metrics.precision_score(labels, predicted, average=None))
    assert not np.array_equal(found.confusion, found.confusion.T)  # rows are the true classes


def test_a_class_without_images_and_one_never_predicted_have_no_score():
    found = evaluate(np.array([[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]), np.array([0, 2, 1]))
    np.testing.assert_array_equal(found.confusion, [[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(found.recall, [1, 1, 0])
    np.testing.assert_array_equal(found.precision, [0.5, 1, np.nan])
    only_zero = evaluate(np.array([[0.9, 0.1, 0.0]]), np.array([0]))
    np.testing.assert_array_equal(only_zero.recall, [1, np.nan, np.nan])


def test_with_five_classes_or_fewer_the_top_five_are_all(rng):
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
def test_what_cannot_be_compared(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate(probabilities, labels)


def test_the_model_sees_every_image_in_order():
    model, _ = converted("RealToBinaryNet", "binary")
    batch = images(20)
    found = evaluation.predict_keras(model, batch)
    assert found.shape == (20, 10)
    np.testing.assert_allclose(found, model(batch, training=False), atol=1e-5)


def test_the_time_is_the_median_after_the_warm_up(monkeypatch):
    """Runs of 1, 2, 3, ... ms: after three to warm up the median of 4–33 is 18.5."""
    now, run = [0.0], [0]
    monkeypatch.setattr(evaluation.time, "perf_counter", lambda: now[0])

    def predict(engine, batch):
        assert batch.shape == (1, 32, 32, 3)
        run[0] += 1
        now[0] += run[0] / 1000

    monkeypatch.setattr(TFLiteEngine, "predict", predict)
    _, conversion = converted("RealToBinaryNet", "binary")
    assert evaluation.milliseconds_per_image(conversion.tflite, images(1)[0]) == pytest.approx(18.5)
    assert run[0] == evaluation.TIMING_WARM_UP + evaluation.TIMING_RUNS
