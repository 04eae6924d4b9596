"""Networks for tests: random weights, small stacks of layers, and the comparison of a file with its network."""

from typing import Any

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion.tflite_engine import run_tflite

SIGN = "ste_sign"
BINARY: dict[str, Any] = {"input_quantizer": SIGN, "kernel_quantizer": SIGN, "kernel_constraint": "weight_clip"}
"""The arguments of a binary layer of Larq."""


def randomize(model: tf.keras.Model, seed: int = 0) -> tf.keras.Model:
    """Sets every weight and batch-norm statistic to random values that keep activations of order one.

    New networks have γ = 1, β = 0, slopes 0 and scales 1, which would hide mistakes in code that reads these values. If
    the network has a classifier, its logits are shifted and scaled to a standard deviation of about 2 across images.
    Otherwise they would be so large that all probabilities are close to 0 or 1, which would hide differences between
    logits.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([_random(rng, weight.name.split("/")[-1], weight.shape) for weight in layer.weights])
    if isinstance(model.layers[-1], (tf.keras.layers.Softmax, tf.keras.layers.Activation)):
        logits = model.layers[-2]
        shape = [size or 32 for size in model.input_shape[1:]]
        noise = rng.normal(size=(8, *shape)).astype("float32")
        kernel, bias = logits.get_weights()
        raw = tf.keras.Model(model.input, logits.output)(noise).numpy()
        scale = 2 / raw.std(axis=0).mean()
        logits.set_weights([scale * kernel, bias - scale * (raw - bias).mean(axis=0)])
    return model


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    noise = rng.normal(size=shape)
    if name.startswith("gamma") or "scale" in name:
        return 1 + 0.3 * noise
    if name.startswith(("beta", "bias")):
        return 0.3 * noise
    if name.startswith("alpha"):  # PReLU
        return 0.25 + 0.1 * noise
    if name.startswith("moving_mean"):
        return noise
    if name.startswith("moving_variance"):
        return rng.uniform(0.5, 1.5, size=shape)
    return noise / np.sqrt(np.prod(shape[:-1]))


def sequential(shape: tuple[int, ...], *stack: tf.keras.layers.Layer, name: str = "net") -> tf.keras.Model:
    model = tf.keras.Sequential([tf.keras.Input(shape), *stack], name=name)
    return randomize(model)


def assert_same_outputs(model: tf.keras.Model, tflite: bytes) -> None:
    batch = np.random.default_rng(1).normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(run_tflite(tflite, batch), model(batch, training=False), rtol=1e-4, atol=1e-3)
