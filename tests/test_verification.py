"""Verification passes for a file that is equal to its Keras model, and fails for other files."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Optional

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.conversion import metadata
from r2b_zoo.conversion.tflite_engine import LCE, RUNTIME, run_tflite
from r2b_zoo.data.preprocessing import IMAGENET, Preprocessing
from r2b_zoo.evaluation import rounding, verification
from r2b_zoo.evaluation.verification import Verification, verify
from tests.converted import converted, images
from tests.networks import randomize
from tests.small import DEPLOYED, SHALLOW

CLASSES = 4
NO_FILE = metadata.without_operators((2, 2, 1), CLASSES)


def constant_model(probabilities: np.ndarray) -> tf.keras.Model:
    """A model that gives row i of ``probabilities`` for an image filled with i."""
    image = tf.keras.Input((2, 2, 1))
    rows = tf.keras.layers.Lambda(
        lambda x: tf.gather(tf.constant(probabilities), tf.cast(tf.round(x[:, 0, 0, 0]), tf.int32))
    )
    return tf.keras.Model(image, rows(image))


def numbered(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 2, 2, 1)).copy()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch):
    """answering(predict) makes every file answer with predict(batch)."""

    def answering(predict: Callable[[np.ndarray], np.ndarray]) -> None:
        class Engine:
            def __init__(self, tflite: bytes, num_threads: int, engine: Optional[str]) -> None:
                pass

            def predict(self, batch: np.ndarray) -> np.ndarray:
                return predict(batch).astype(np.float32)

        monkeypatch.setattr(verification, "TFLiteEngine", Engine)

    return answering


@pytest.fixture
def compare(answering):
    """compare(expected, found) verifies a model that gives ``expected`` against a file that gives ``found``."""

    def compare(expected: np.ndarray, found: np.ndarray) -> Verification:
        answering(lambda batch: found[batch[:, 0, 0, 0].astype(int)])
        return verify(constant_model(expected.astype(np.float32)), NO_FILE, numbered(len(expected)))

    return compare


@pytest.mark.parametrize(
    ("name", "precision"),
    DEPLOYED,
)
def test_file_and_model_agree(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, conversion = converted(name, precision)
    probabilities = model(images(), training=False).numpy()
    assert probabilities.std() > 0.03, "a network that always gives the same answer proves nothing"
    differences = np.abs(run_tflite(conversion.tflite, images()) - probabilities).max(axis=1)
    # Rarely, a rounding error decides a sign, and the difference spreads through a random network. An error in the
    # conversion would show on every image.
    assert np.mean(differences < 1e-4) >= 0.9

    def explains(keras: rounding.KerasNetwork, batch: np.ndarray, found: np.ndarray) -> np.ndarray:
        explained = by_rounding(keras, batch, found)
        for image in batch[explained]:
            left_out[np.all(images() == image, axis=(1, 2, 3))] = True
        return explained

    left_out = np.full(len(images()), False)
    by_rounding = rounding.explains
    monkeypatch.setattr(rounding, "explains", explains)
    result = verify(model, conversion.tflite, images())
    assert result.images == len(images())
    assert result.passed
    assert result.undecided == np.sum(left_out)
    # Undecided images differ by more than 1e-4, and the largest difference is that of the other images.
    assert np.all(differences[left_out] > 1e-4)
    assert result.largest_difference == pytest.approx(differences[~left_out].max(), abs=1e-4)


def test_a_network_with_real_weights_passes() -> None:
    model, conversion = converted("ResNet18", "real", SHALLOW)
    result = verify(model, conversion.tflite, images())
    assert result.passed
    assert result.disagreements == 0
    assert result.largest_difference < 1e-4
    assert "are equal on 48 images" in result.summary()


def test_other_weights_do_not_pass() -> None:
    model, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    weights = model.get_weights()
    try:
        randomize(model, seed=1)
        result = verify(model, conversion.tflite, images())
    finally:
        model.set_weights(weights)
    assert not result.passed
    assert result.disagreements > len(images()) // 2
    assert "DIFFERENT" in result.summary()


def test_the_numbers_are_exact(compare) -> None:
    expected = np.full((40, CLASSES), 0.25)
    expected[:, 0] = 0.5
    found = expected.copy()
    found[3] = [0.25, 0.25, 0.75, 0.25]
    result = compare(expected, found)
    assert result == Verification(40, 1, (0.25 + 0.5) / (40 * CLASSES), 0.5)
    assert result.agreement == 39 / 40
    assert "differs on 1 (97.50 % agree, at least 99.5 % needed)" in result.summary()
    assert "mean 4.69e-03 (at most 1e-03 allowed), largest 5.00e-01" in result.summary()


@pytest.mark.parametrize(("wrong", "passes"), [(0, True), (1, True), (2, False)])
def test_one_disagreement_in_200_is_the_limit(compare, wrong: int, passes: bool) -> None:
    expected = np.tile([0.25, 0.2499, 0.25, 0.25], (200, 1))
    expected[:, 0] += 1e-4
    found = expected.copy()
    found[:wrong, 1] += 4e-4
    result = compare(expected, found)
    assert result.disagreements == wrong
    assert result.passed is passes


@pytest.mark.parametrize(("difference", "passes"), [(0.0009, True), (0.0011, False)])
def test_the_mean_difference_has_a_limit(compare, difference: float, passes: bool) -> None:
    expected = np.tile([0.7, 0.1, 0.1, 0.1], (8, 1))
    assert compare(expected, expected + difference).passed is passes


# The model's answers if a sum over the pixels is at least 4, and if it is less.
ABOVE, BELOW = [0.9, 0.1], [0.1, 0.9]


@pytest.mark.parametrize(
    ("brightness", "answer", "disagreements", "undecided"),
    [
        (1.0, BELOW, 0, 1),  # the last bits decide, and the file gives the other answer
        (1.0, [0.3, 0.7], 1, 0),  # differs from both answers that the model can give
        (1.001, BELOW, 1, 0),  # too far from the threshold for the last bits to matter
        (1.001, ABOVE, 0, 0),
    ],
)
def test_images_that_the_last_bits_decide_are_left_out(
    answering, brightness: float, answer: list[float], disagreements: int, undecided: int
) -> None:
    image = tf.keras.Input((2, 2, 1))
    classes = tf.keras.layers.Lambda(
        lambda x: tf.where(tf.reduce_sum(x, axis=[1, 2]) >= 4.0, tf.constant([ABOVE]), tf.constant([BELOW]))
    )
    # The file is right about the second image, for which the last bits do not matter.
    answering(lambda batch: np.array([answer, ABOVE])[: len(batch)])
    images = np.full((2, 2, 2, 1), brightness, np.float32)
    images[1] = 2
    model = tf.keras.Model(image, classes(image))
    result = verify(model, NO_FILE, images)
    assert (result.disagreements, result.undecided) == (disagreements, undecided)
    assert result.passed is not bool(disagreements)
    assert ("Not counted: 1 image, for which the Keras model's own answer" in result.summary()) is bool(undecided)
    assert result.largest_difference == pytest.approx(0.6 + 0.2 * (answer is BELOW) if disagreements else 0)

    alone = verify(model, NO_FILE, images[:1])
    assert alone.passed is not bool(disagreements or undecided)
    assert ("NOT PROVEN equal on 1 image." in alone.summary()) is bool(undecided)
    assert ("At least 50 % of the images must count" in alone.summary()) is bool(undecided)


@pytest.mark.parametrize(("distance", "explained"), [(0.0, True), (0.15, True), (0.3, False)])
def test_rounding_explains_answers_near_an_isolated_variant(distance: float, explained: bool) -> None:
    """Rounding explains answers whose distance from the nearest variant is at most twice the largest gap.

    A variant's gap is its distance from the nearest other variant. Here one variant answers [0.5, 0.5], and all others
    are at least 0.1 away on one side, so the largest gap is about 0.1. The file's answer is ``distance`` away from
    [0.5, 0.5] on the other side, where the predicted class is another. The factor of two is ``rounding.LONELINESS``.
    """
    count = rounding.CHANGED_WEIGHTS * rounding.CHANGED_IMAGES
    answers = np.stack([np.linspace(0.6, 0.7, count), np.linspace(0.4, 0.3, count)], axis=1)
    answers[0] = [0.5, 0.5]

    class Network(rounding.KerasNetwork):
        def __init__(self) -> None:
            pass

        def variants(self, images: np.ndarray) -> Iterator[np.ndarray]:
            return iter(answers.reshape(rounding.CHANGED_WEIGHTS, rounding.CHANGED_IMAGES, 1, 2))

    found = np.array([[0.5 - distance, 0.5 + distance]])
    assert rounding.explains(Network(), np.ones((1, 2, 2, 1)), found).tolist() == [explained]


def test_image_that_the_last_bits_of_a_weight_decide_is_left_out(answering) -> None:
    """Relative changes leave pixels of 0 as they are, so only a change in the last bits of the bias changes the sum."""
    image = tf.keras.Input((2, 2, 1))
    offset = tf.keras.layers.Dense(1, bias_initializer=tf.keras.initializers.Constant(1.0))(image)
    classes = tf.keras.layers.Lambda(
        lambda x: tf.where(tf.reduce_sum(x, axis=[1, 2]) >= 4.0, tf.constant([ABOVE]), tf.constant([BELOW]))
    )
    model = tf.keras.Model(image, classes(offset))
    weights = model.get_weights()
    answering(lambda batch: np.array([BELOW])[: len(batch)])
    result = verify(model, NO_FILE, np.zeros((1, 2, 2, 1)))
    assert (result.disagreements, result.undecided) == (0, 1)
    for weight, kept in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_threads_have_to_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last bit that depends on the number of threads is not rounding, but an error in how threads divide the work."""

    class Engine:
        def __init__(self, tflite: bytes, num_threads: int, engine: Optional[str]) -> None:
            self._threads = num_threads

        def predict(self, batch: np.ndarray) -> np.ndarray:
            found = np.tile(np.array([0.7, 0.1, 0.1, 0.1], np.float32), (len(batch), 1))
            if self._threads == 4:
                found[3, 0] = np.nextafter(found[3, 0], np.float32(1))
            return found

    monkeypatch.setattr(verification, "TFLiteEngine", Engine)
    model = constant_model(np.tile(np.array([0.7, 0.1, 0.1, 0.1], np.float32), (8, 1)))
    result = verify(model, NO_FILE, numbered(8), engine=RUNTIME)
    assert (result.threads, result.disagreements, result.verdict) == (1, 0, "DIFFERENT")
    assert "For 1 image, the file's answer depends on the number of threads." in result.summary()
    assert verify(model, NO_FILE, numbered(8), engine=LCE).passed


def test_a_wrong_file_is_not_examined_image_by_image(compare, monkeypatch: pytest.MonkeyPatch) -> None:
    examined: list[np.ndarray] = []

    def explains(keras: rounding.KerasNetwork, images: np.ndarray, found: np.ndarray) -> np.ndarray:
        examined.extend(images)
        return np.zeros(len(images), bool)

    monkeypatch.setattr(rounding, "explains", explains)
    expected = np.tile([0.7, 0.1, 0.1, 0.1], (100, 1))
    assert compare(expected, expected[:, ::-1]).disagreements == 100
    assert len(examined) == verification.MOST_UNEXPLAINED


def test_nan_does_not_pass(compare) -> None:
    expected = np.tile([0.7, 0.1, 0.1, 0.1], (8, 1))
    found = expected.copy()
    found[5, 0] = np.nan
    result = compare(expected, found)
    assert not result.passed
    assert np.isnan(result.largest_difference)


def test_a_model_that_answers_nan_proves_nothing(compare) -> None:
    expected = np.tile([0.7, 0.1, 0.1, 0.1], (8, 1))
    expected[2:4, 0] = np.nan
    with pytest.raises(ValueError, match=r".* gives NaN or infinity for 2 of 8 images: its weights are damaged"):
        compare(expected, expected)


LABELS = tuple(f"class {i}" for i in range(10))
SMALL_IMAGENET = IMAGENET.with_size(32, 32)


@pytest.mark.parametrize(
    ("labels", "preprocessing", "sentence"),
    [
        (LABELS, SMALL_IMAGENET, None),
        (None, None, None),
        (None, SMALL_IMAGENET, None),
        (
            (*LABELS[:2], LABELS[3], LABELS[2], *LABELS[4:]),
            SMALL_IMAGENET,
            "The file gives 2 of 10 classes other names than the model: class 2 is 'class 3' in the model and",
        ),
        (LABELS[:9], None, "The file names 10 classes, the model has 9."),
        (
            LABELS,
            replace(SMALL_IMAGENET, crop_fraction=0.5),
            "The file's preprocessing differs from the model's: crop_fraction is 0.5 in the model and 0.875",
        ),
        (
            None,
            replace(SMALL_IMAGENET, mean=(0.0, 0.0, 0.0)),
            "The file's preprocessing differs from the model's: mean is (0.0, 0.0, 0.0) in the model and (",
        ),
    ],
)
def test_metadata_of_the_file_are_compared_too(
    labels: Optional[tuple[str, ...]], preprocessing: Optional[Preprocessing], sentence: Optional[str]
) -> None:
    model, conversion = converted("ResNet18", "real", SHALLOW)
    tflite = metadata.write(conversion.tflite, name="net", description="", labels=LABELS, preprocessing=SMALL_IMAGENET)
    result = verify(model, tflite, images(2), labels=labels, preprocessing=preprocessing)
    assert result.passed is (sentence is None)
    assert result.verdict == ("equal" if sentence is None else "DIFFERENT")
    assert sentence is None or sentence in result.summary()
    recorded = json.loads(json.dumps(asdict(result)))
    assert Verification.recorded(recorded) == result


def test_missing_metadata_are_not_compared() -> None:
    model, conversion = converted("ResNet18", "real", SHALLOW)
    assert verify(model, conversion.tflite, images(2), labels=LABELS, preprocessing=SMALL_IMAGENET).passed


def test_each_output_receives_the_files_outputs() -> None:
    model, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    found: list[np.ndarray] = []
    verify(model, conversion.tflite, iter([images()[:3], images()[3:]]), each_output=found.append)
    np.testing.assert_allclose(np.concatenate(found), run_tflite(conversion.tflite, images()))


def test_batches_give_the_same_result_as_one_array() -> None:
    model, conversion = converted("ResNet18", "real", SHALLOW)
    whole = verify(model, conversion.tflite, images(40))
    parts = verify(model, conversion.tflite, (images(40)[i : i + 7] for i in range(0, 40, 7)))
    assert (whole.images, whole.disagreements) == (parts.images, parts.disagreements)
    assert whole.mean_difference == pytest.approx(parts.mean_difference, abs=1e-6)


@pytest.mark.parametrize("nothing", [np.zeros((0, 32, 32, 3), np.float32), []])
def test_no_images(nothing) -> None:
    model, conversion = converted("ResNet18", "real", SHALLOW)
    with pytest.raises(ValueError, match="needs at least one image; received none"):
        verify(model, conversion.tflite, nothing)


def test_images_of_another_shape() -> None:
    model, conversion = converted("ResNet18", "real", SHALLOW)
    with pytest.raises(ValueError, match=r"shape \(N, 32, 32, 3\) that the model takes; received \(2, 28, 28, 1\)"):
        verify(model, conversion.tflite, np.zeros((2, 28, 28, 1), np.float32))


def test_a_file_of_another_model() -> None:
    _, conversion = converted("ResNet18", "real", SHALLOW)
    image = tf.keras.Input((32, 32, 3))
    other = tf.keras.Model(image, tf.keras.layers.Dense(7)(tf.keras.layers.Flatten()(image)))
    with pytest.raises(ValueError, match=r"the Keras model gives \(2, 7\) and the file \(2, 10\)"):
        verify(other, conversion.tflite, images(2))


def test_the_engine_explains_what_it_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"Larq Compute Engine's interpreter cannot run this file.*Invalid model"):
        run_tflite(b"not a model at all", images(1), engine=LCE)
    assert capfd.readouterr() == ("", "")
