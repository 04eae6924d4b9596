"""Writes the networks for benchmarks, with random weights and random statistics, as `.tflite` files.

A new batch norm multiplies by one and adds nothing, so converters fold it away; with random statistics a file takes as
long as a trained one.
"""

import pathlib

import numpy as np

BINARY = ("RealToBinaryNet", "StrongBaselineNet", "BiRealNet18", "XNORNet18", "BNN18")


def randomise(model, seed=0):
    """Draws batch norms' statistics, PReLUs' slopes and learned scales at random; other weights already are random."""
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


def _int8(model):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.uniform(-1, 1, (1, 224, 224, 3)).astype("float32")] for _ in range(4)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def _float(model):
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_keras_model(model).convert()


def _build(name):
    import r2b_zoo

    if name in BINARY:
        return r2b_zoo.convert(randomise(getattr(r2b_zoo, name)(weights=None))).tflite
    if name == "MobileNetV2 float":
        import tensorflow as tf

        return _float(randomise(tf.keras.applications.MobileNetV2(weights=None)))
    model = randomise(r2b_zoo.ResNet18(weights=None))
    return _int8(model) if name == "ResNet18 int8" else _float(model)


def file_of(name, directory):
    """Path of the network's file, which is written if it does not exist."""
    path = pathlib.Path(directory) / (name.replace(" ", "_") + ".tflite")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_build(name))
    return path
