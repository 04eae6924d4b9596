"""Everything that public functions return has a short repr, because notebooks show it."""

import functools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo import recipes
from r2b_zoo.conversion import metadata
from r2b_zoo.conversion.converter import Conversion, convert
from r2b_zoo.data.digits import digits
from r2b_zoo.data.preprocessing import IMAGENET
from r2b_zoo.evaluation import accuracy, costs
from r2b_zoo.evaluation.verification import Verification
from r2b_zoo.system import short_repr

CLASSES = tuple(f"a class with a rather long name, number {i}" for i in range(1000))


@functools.cache
def small() -> tuple[tf.keras.Model, Conversion]:
    """A network of many layers, and its conversion."""
    image = tf.keras.Input((8, 8, 3))
    x = image
    for i in range(20):
        x = tf.keras.layers.PReLU(name=f"a_layer_with_a_long_name_{i}")(x)
    classes = tf.keras.layers.Dense(10)(tf.keras.layers.Flatten()(x))
    model = tf.keras.Model(image, classes, name="a_network_whose_name_is_rather_long")
    return model, convert(model)


def everything() -> dict[str, Any]:
    model, conversion = small()
    preprocessing = IMAGENET.with_size(8, 8)
    tflite = metadata.write(
        conversion.tflite,
        name="net",
        description="of ten classes " * 50,
        labels=CLASSES[:10],
        preprocessing=preprocessing,
    )
    counted = costs.cost(model)
    plan = recipes.plan("digits")
    dataset = digits()
    return {
        "convert": conversion,
        "a row of it": conversion.layers[0],
        "load": r2b_zoo.Classifier("net", preprocessing, CLASSES[:10], tflite=tflite),
        "load of a model": r2b_zoo.Classifier("net", preprocessing, CLASSES[:10], model=model),
        "load of a run": r2b_zoo.Classifier("net", preprocessing, CLASSES[:10], model=model, plan=plan),
        "verify": Verification(10, 0, 0.0, 0.0, 0, told_otherwise=("The file says otherwise. " * 40,) * 5),
        "evaluate": accuracy.Evaluation(np.eye(1000, dtype=np.int64), 1000),
        "cost": counted,
        "a layer of it": counted.layers[0],
        "card": r2b_zoo.card("RealToBinaryNet"),
        "read": metadata.read(tflite),
        "plan": plan,
        "a stage of it": plan.stages[0],
        "data set": dataset,
        "split": dataset.test,
        "preprocessing": IMAGENET,
        "list_models": r2b_zoo.list_models(),
        "decode_predictions": r2b_zoo.decode_predictions(np.eye(1000, dtype=np.float32)[:1], top=5),
    }


def test_every_repr_is_short() -> None:
    for name, found in everything().items():
        text = repr(found)
        assert len(text) <= short_repr.LONGEST, (name, text)
        assert "\n" not in text, name


def test_a_repr_shows_the_fields() -> None:
    _, conversion = small()
    assert repr(conversion).startswith(f"Conversion(tflite=<{conversion.total_bytes:,} bytes>, layers=(LayerReport(")
    assert repr(accuracy.Evaluation(np.eye(3, dtype=np.int64), 3)) == (
        "Evaluation(top1=1.0000, top5=1.0000, images=3, classes=3)"
    )


@pytest.mark.parametrize("value", [b"x" * 10_000_000, np.zeros((3000, 3000)), "x" * 10_000_000, list(range(10**6))])
def test_a_repr_is_short_whatever_a_field_holds(value: Any) -> None:
    classifier = r2b_zoo.Classifier(value, None, None)
    assert len(repr(classifier)) <= short_repr.LONGEST
