"""Weights become constants before LCE converts a model. The file's operators and data are those of LCE alone."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import larq_compute_engine
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

import r2b_zoo
from r2b_zoo.conversion import frozen_graph
from r2b_zoo.conversion.converter import convert, lce_file
from r2b_zoo.conversion.tflite_engine import run_tflite
from r2b_zoo.models.layers import resizable_files
from tests.networks import randomize
from tests.small import SMALL, shallow

SHAPE = (6, 6, 4)
layers = tf.keras.layers


def contents(tflite: bytes) -> tuple[list[bytes], Counter[bytes]]:
    """The file's operators in order (name if custom, number if built in), and how often each buffer content occurs."""
    model = schema.ModelT.InitFromPackedBuf(tflite)
    codes = [code.customCode or str(code.builtinCode).encode() for code in model.operatorCodes]
    operators = [codes[operator.opcodeIndex] for operator in model.subgraphs[0].operators]
    return operators, Counter(bytes(buffer.data) for buffer in model.buffers if buffer.data is not None)


def test_the_file_has_the_operators_and_the_data_that_lce_alone_writes() -> None:
    with shallow():
        model = randomize(r2b_zoo.RealToBinaryNet(**SMALL))
    image = tf.keras.Input(SMALL["input_shape"], batch_size=1)
    with resizable_files():
        expected = larq_compute_engine.convert_keras_model(tf.keras.Model(image, model(image)))
    assert contents(lce_file(model)) == contents(expected)


class Scaled(tf.keras.layers.Layer):
    """Multiplies each channel by a weight."""

    def build(self, shape: tf.TensorShape) -> None:
        self.scale = self.add_weight("scale", shape[-1:], initializer="random_normal")
        self.other = self.add_weight("other", shape[-1:], initializer="random_normal")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.scale


class ScaledInAFunction(Scaled):
    @tf.function
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.scale


class ScaledAfterAnother(Scaled):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([self.other.read_value()]):
            return x * self.scale


class ScaledByATensor(Scaled):
    def build(self, shape: tf.TensorShape) -> None:
        self.scale = tf.range(1.0, 1.0 + shape[-1])


class ScaledInALoop(Scaled):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        for _ in tf.range(3):
            x = x * self.scale
        return x


def one_name_twice(x: tf.Tensor) -> tf.Tensor:
    for outer in ("first", "second"):
        x = tf.keras.Sequential([layers.Conv2D(4, 3, padding="same", name="same")], name=outer)(x)
    return x


def shared(x: tf.Tensor) -> tf.Tensor:
    layer = layers.Conv2D(4, 1)
    return layer(layer(x))


@pytest.mark.parametrize(
    "layer",
    [Scaled(), ScaledInAFunction(), ScaledAfterAnother(), ScaledByATensor(), ScaledInALoop(), one_name_twice, shared],
    ids=lambda layer: getattr(layer, "__name__", type(layer).__name__),
)
@pytest.mark.parametrize("input_name", ["image", "an image:0"])
def test_the_file_computes_what_keras_does_however_weights_are_read(
    layer: Callable[[tf.Tensor], tf.Tensor], input_name: str, rng: np.random.Generator
) -> None:
    image = tf.keras.Input(SHAPE, name=input_name)
    model = tf.keras.Model(image, layers.Flatten()(layer(image)))
    images = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(run_tflite(convert(model).tflite, images), model(images), rtol=1e-5, atol=1e-6)


def test_a_model_built_under_a_strategy_is_saved_with_its_weights(tmp_path: Path) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        image = tf.keras.Input(SHAPE)
        model = tf.keras.Model(image, Scaled()(image))
    frozen_graph.save(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model.pb"]
    assert model.weights[0].numpy().tobytes() in (tmp_path / "saved_model.pb").read_bytes()
