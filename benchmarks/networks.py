"""Writes the networks for benchmarks, with random weights and random statistics, as `.tflite` files.

A new batch norm multiplies by one and adds nothing, so converters fold it away; with random statistics a file takes as
long to run as a trained one.
"""

import pathlib

import numpy as np

BINARY = ("RealToBinaryNet", "StrongBaselineNet", "BiRealNet18", "XNORNet18", "BNN18")
INT8 = "RealToBinaryNet int8"
"""RealToBinaryNet with its real part in int8 and a uint8 image as input."""
LARQ_ZOO = ("QuickNetSmall", "QuickNet", "QuickNetLarge", "BinaryDenseNet28", "MeliusNet22", "BinaryResNetE18")


def randomise(model, seed=0):
    """Draws the weights of a model's batch norms, PReLUs and learned scales; other weights are random already."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    for layer in model.layers:
        values = []
        for variable in layer.weights:
            name, shape = variable.name, variable.shape
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                positive = "variance" in name or "gamma" in name
                values.append(rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.3, shape))
            elif isinstance(layer, tf.keras.layers.PReLU):
                values.append(rng.uniform(0.1, 0.4, shape))
            elif type(layer).__name__ == "LearnedScale":
                values.append(rng.uniform(0.5, 1.5, shape))
            else:
                values.append(variable.numpy())
        layer.set_weights(values)
    return model


def with_batch(model, size=1):
    """The model with a fixed batch size."""
    import tensorflow as tf

    image = tf.keras.Input(model.input_shape[1:], batch_size=size)
    return tf.keras.Model(image, model(image))


def _images(shape):
    """Sixteen random images (1, *shape) in -1 to 1, to calibrate the ranges of int8."""
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, (1, *shape)).astype("float32") for _ in range(16)]


def int8(model):
    """The bytes of a Keras model's ``.tflite`` file, quantised to int8 as a whole by TensorFlow's own converter."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image] for image in _images(model.input_shape[1:]))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def _float(model):
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def real_part_in_int8(model):
    """The bytes of a binary network's ``.tflite`` file, with the real part in int8 and a uint8 image as input."""
    import r2b_zoo
    from r2b_zoo.data.preprocessing import IMAGENET

    _, height, width, _ = model.input_shape
    return r2b_zoo.convert(
        model,
        real_part="int8",
        calibration=_images(model.input_shape[1:]),
        input="uint8",
        preprocessing=IMAGENET.with_size(height, width),
    ).tflite


def _larq_zoo(name):
    import larq_zoo

    from r2b_zoo.conversion.converter import lce_file

    family = larq_zoo.sota if name.startswith("QuickNet") else larq_zoo.literature
    return lce_file(randomise(getattr(family, name)(weights=None)))


def _stock(name):
    import tensorflow as tf

    import r2b_zoo

    network, precision = name.split()
    if network == "ResNet18":
        model = r2b_zoo.ResNet18(weights=None)
    else:
        model = getattr(tf.keras.applications, network)(weights=None, input_shape=(224, 224, 3))
    # With a batch of unknown size, XNNPACK refuses MobileNetV3's multiplications, and LiteRT.js refuses any input.
    return {"int8": int8, "float": _float}[precision](with_batch(randomise(model)))


def _build(name):
    import r2b_zoo

    if name == INT8:
        return real_part_in_int8(randomise(r2b_zoo.RealToBinaryNet(weights=None)))
    if name in BINARY:
        return r2b_zoo.convert(randomise(getattr(r2b_zoo, name)(weights=None))).tflite
    return _larq_zoo(name) if name in LARQ_ZOO else _stock(name)


def file_of(name, directory, build=None):
    """The path of a network's file. A missing file is first made by ``build()``, or by ``_build(name)`` without it."""
    path = pathlib.Path(directory) / (name.replace(" ", "_") + ".tflite")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build() if build else _build(name))
    return path
