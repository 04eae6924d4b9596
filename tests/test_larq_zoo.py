"""Our RealToBinaryNet, BiRealNet18 and preprocessing compute what Larq Zoo's do."""

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from tests.networks import randomize

larq_zoo = pytest.importorskip("larq_zoo", reason="larq-zoo is not installed (pip install '.[test]' in the repository)")

TOLERANCE = 1e-5
# The names of our network and of Larq Zoo's, include_top, and the input shape of both. The shape must be the same: if
# the size is not fixed, global averages are summed in another order. One rounding error can flip a sign in a later
# layer.
PAIRS = {
    "top": ("RealToBinaryNet", "RealToBinaryNet", True, (224, 224, 3)),
    "no_top": ("RealToBinaryNet", "RealToBinaryNet", False, (224, 224, 3)),
    "no_top_any_size": ("RealToBinaryNet", "RealToBinaryNet", False, (None, None, 3)),  # Larq Zoo's default without top
    "bireal_top": ("BiRealNet18", "BiRealNet", True, (224, 224, 3)),
    "bireal_no_top": ("BiRealNet18", "BiRealNet", False, (224, 224, 3)),
}


@pytest.fixture(scope="module", params=list(PAIRS.values()), ids=list(PAIRS))
def pair(request, tmp_path_factory):
    """Larq Zoo's network with random weights and batch-norm statistics, and our network with the same, from a file."""
    name, their_name, include_top, input_shape = request.param
    arguments = {"include_top": include_top, "input_shape": input_shape}
    theirs = getattr(larq_zoo.literature, their_name)(weights=None, **arguments)
    path = tmp_path_factory.mktemp("larq_zoo") / "weights.h5"
    randomize(theirs, seed=3).save_weights(path)
    return theirs, r2b_zoo.create(name, weights=path, **arguments)


def assert_same(pair, images):
    """Compares the outputs, and for networks with a top also the logits, which are the outputs before the softmax.

    Logits and feature maps have no fixed range, so their tolerance is relative to their standard deviation.
    """
    with_top = len(pair[0].output_shape) == 2
    outputs = []
    for model in pair:
        before_softmax = tf.keras.Model(model.input, model.layers[-2].output) if with_top else model
        outputs.append((before_softmax(images).numpy(), model(images).numpy()))
    (theirs, their_answer), (ours, our_answer) = outputs
    spread = theirs.std()
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).max() <= TOLERANCE * spread
    assert np.ptp(theirs, axis=0).max() > 0.1 * spread, "all images give the same answer, so agreement says nothing"
    if with_top:
        assert np.abs(their_answer - our_answer).max() <= TOLERANCE
        assert np.array_equal(their_answer.argmax(axis=1), our_answer.argmax(axis=1))


def test_same_function_on_photographs(pair, photographs):
    assert_same(pair, np.stack([r2b_zoo.preprocess_input(image) for image in photographs[:4]]))


def test_same_function_on_random_images(pair, rng):
    assert_same(pair, rng.normal(size=(2, 224, 224, 3)).astype("float32"))


def test_same_weights(pair):
    """Compares the number of values and the sorted sums of the arrays. Neither depends on the order of layers."""
    theirs, ours = ([weight.numpy() for weight in model.weights] for model in pair)
    assert sum(weight.size for weight in theirs) == sum(weight.size for weight in ours)
    assert sorted(float(weight.sum()) for weight in theirs) == sorted(float(weight.sum()) for weight in ours)


# --- preprocessing ----------------------------------------------------------------------------------------------------

SIZES = [(224, 224), (256, 256), (300, 451), (333, 500), (97, 64), (225, 31), (8, 1023)]


@pytest.mark.parametrize("size", SIZES)
def test_same_preprocessing_of_any_size(size, rng):
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(r2b_zoo.preprocess_input(image), larq_zoo.preprocess_input(image))


def test_same_preprocessing_of_photographs(photographs):
    for image in photographs:
        np.testing.assert_array_equal(r2b_zoo.preprocess_input(image), larq_zoo.preprocess_input(image))


def test_grey_is_repeated_and_alpha_dropped(rng):
    rgba = rng.integers(0, 256, (120, 90, 4), dtype=np.uint8)
    colour = larq_zoo.preprocess_input(rgba[..., :3])
    np.testing.assert_array_equal(r2b_zoo.preprocess_input(rgba), colour)
    grey = larq_zoo.preprocess_input(np.repeat(rgba[..., :1], 3, axis=-1))
    np.testing.assert_array_equal(r2b_zoo.preprocess_input(rgba[..., 0]), grey)
    np.testing.assert_array_equal(r2b_zoo.preprocess_input(rgba[..., :1]), grey)


def test_same_preprocessing_inside_a_pipeline(rng):
    from r2b_zoo.data.preprocessing import IMAGENET

    image = rng.integers(0, 256, (120, 90, 3), dtype=np.uint8)
    data = tf.data.Dataset.from_tensors(image).map(IMAGENET.tensor)
    np.testing.assert_allclose(next(iter(data)), larq_zoo.preprocess_input(image), atol=1e-6)
