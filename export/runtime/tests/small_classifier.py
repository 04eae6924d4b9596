"""Makes small model files like those of r2b_zoo, for 8x8 grey images and three classes."""

import io
import json
import zipfile

import lce_model
import numpy as np
from r2b_runtime import preprocessing

LABELS = ("zero", "one", "two")
PREPROCESSING = {
    "format": preprocessing.FORMAT,
    "resize": preprocessing.RESIZE_RULE,
    "height": 8,
    "width": 8,
    "channels": 1,
    "crop_fraction": 0.875,
    "mean": [100.0],
    "std": [50.0],
}


def model(classes=3, shape=(8, 8, 1), batch=1):
    """The bytes of a model of a binary convolution, a mean, a dense layer and softmax, without attached files."""
    rng = np.random.default_rng(0)
    made = lce_model.Model()
    height, width, channels = shape
    image = made.input([batch, *shape])
    bits, features, means, logits, output = (
        made.tensor(shape, dtype)
        for shape, dtype in (
            ([batch, height, width, 1], "int32"),
            ([batch, height, width, 32], "float32"),
            ([batch, 32], "float32"),
            ([batch, classes], "float32"),
            ([batch, classes], "float32"),
        )
    )
    made.custom("LceQuantize", [image], [bits])
    made.bconv(bits, features, rng.choice([-1, 1], (32, 3, 3, channels)), rng.normal(size=32), rng.normal(size=32))
    schema = lce_model.schema
    axes = made.constant([1, 2], "int32")
    made.builtin("MEAN", [features, axes], [means], schema.ReducerOptionsT())
    weights = made.constant(rng.normal(size=(classes, 32)))
    made.builtin("FULLY_CONNECTED", [means, weights, -1], [logits], schema.FullyConnectedOptionsT())
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    made.builtin("SOFTMAX", [logits], [output], softmax)
    made.output(output)
    return made.bytes()


def with_files(data, labels=LABELS, **changes):
    """Returns a model's bytes with attached labels and preprocessing.

    `changes` replace fields of `PREPROCESSING`. `labels=None` or `preprocessing=None` leaves that file out.
    """
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive:
        if labels is not None:
            archive.writestr("labels.txt", "\n".join(labels))
        if changes != {"preprocessing": None}:
            archive.writestr("preprocessing.json", json.dumps({**PREPROCESSING, **changes}))
    return stream.getvalue()


def of_type(dtype, scale=None, weights=None, operator="CAST"):
    """The bytes of a model of one dense layer and softmax, without attached files.

    The input has type `dtype` and quantisation scale `scale`; `operator` converts it to float32. `weights` has shape
    (3, 64); None draws them at random.
    """
    made = lce_model.Model()
    schema = lce_model.schema
    image = made.input([1, 8, 8, 1], dtype, scale=scale)
    numbers, logits, output = made.tensor([1, 8, 8, 1]), made.tensor([1, 3]), made.tensor([1, 3])
    made.builtin(operator, [image], [numbers], schema.CastOptionsT() if operator == "CAST" else None)
    weights = np.random.default_rng(1).normal(size=(3, 64)) / 100 if weights is None else weights
    made.builtin("FULLY_CONNECTED", [numbers, made.constant(weights), -1], [logits], schema.FullyConnectedOptionsT())
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    made.builtin("SOFTMAX", [logits], [output], softmax)
    made.output(output)
    return made.bytes()
