"""In a new network, inputs of quantised convolutions have both signs, and their outputs vary with the image."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_sample_images

import r2b_zoo
from r2b_zoo.models import PRECISIONS

NAMES = [name for name in r2b_zoo.list_models() if name != "ResNet18"]
FEWEST, MOST = 0.1, 0.9


@pytest.fixture(scope="module")
def tiles():
    """Tiles (12, 32, 32, 3) of two photographs; each channel has mean 0 and standard deviation 1 over all tiles."""
    photographs = [photograph[: 4 * 96, : 4 * 96] for photograph in load_sample_images().images]
    cut = [photograph[::2, ::2].reshape(6, 32, 6, 32, 3).swapaxes(1, 2)[1:5:2, ::2] for photograph in photographs]
    pixels = np.concatenate([tiles.reshape(-1, 32, 32, 3) for tiles in cut]).astype(np.float32)
    return (pixels - pixels.mean(axis=(0, 1, 2))) / pixels.std(axis=(0, 1, 2))


@pytest.mark.parametrize(
    "precision", [pytest.param(one, marks=[pytest.mark.slow] * (one != "binary")) for one in PRECISIONS]
)
@pytest.mark.parametrize(("stem", "downsample"), [("cifar", "real"), ("imagenet", "binary")])
@pytest.mark.parametrize("name", NAMES)
def test_both_signs_reach_every_convolution_and_vary_over_images(name, stem, downsample, precision, tiles):
    """Batch norms use the statistics of the batch, as in the first training step.

    Networks of precision "real" have tanh in place of the sign. They are tested too, because tanh saturates at ±1.
    """
    model = r2b_zoo.create(
        name,
        precision=precision,
        stem=stem,
        downsample=downsample,
        input_shape=tiles.shape[1:],
        width=8,
        include_top=False,
    )
    convolutions = [layer for layer in model.layers if getattr(layer, "input_quantizer", None) is not None]
    assert len(convolutions) == (16 if downsample == "real" else 19)
    tensors = tf.keras.Model(model.input, [(layer.input, layer.output) for layer in convolutions])
    for layer, (inputs, outputs) in zip(convolutions, tensors(tiles, training=True), strict=True):
        positive = np.mean(inputs.numpy() >= 0)
        assert FEWEST <= positive <= MOST, f"{100 * positive:.1f} % of the inputs of {layer.name} are not negative"
        assert outputs.numpy().std(axis=0).mean() > 0.1 * outputs.numpy().std(), f"{layer.name}: outputs hardly vary"
