"""Converts a Keras model to a ``.tflite``, with a table of what became of each layer.

Larq Compute Engine's converter silently turns layers that it does not recognise into float operators; the table shows
them, and ``strict`` refuses them.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.conversion import calibration as calibrating
from r2b_zoo.conversion import frozen_graph, int8, lce, metadata
from r2b_zoo.conversion.layer_report import LayerReport, layer_table, why_unrunnable
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.identity import TFLITE_SUFFIX, __version__
from r2b_zoo.system import files
from r2b_zoo.system.garbage import rarely_collected
from r2b_zoo.system.short_repr import short_repr

PathLike = Union[str, "os.PathLike[str]"]
REAL_PARTS = ("float", "int8")
INPUTS = ("float32", "uint8")


class ConversionError(ValueError):
    """The model cannot be converted, or its conversion does not meet ``strict``."""


@dataclass(frozen=True)
class Conversion:
    """A ``.tflite`` and what became of each layer.

    Attributes:
        tflite: contents of the file.
        layers: one row per layer with variables or quantisers, then one row for everything else in the file.
    """

    tflite: bytes
    layers: tuple[LayerReport, ...]

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from r2b_zoo.report import html, tables

        return html.together([html.table(tables.layers_table(self))])

    @property
    def total_bytes(self) -> int:
        return len(self.tflite)

    @property
    def binary(self) -> tuple[LayerReport, ...]:
        """The rows of the layers that became an ``LceBconv2d``."""
        return tuple(row for row in self.layers if row.kind == "binary")

    @property
    def int8(self) -> tuple[LayerReport, ...]:
        """The rows of the layers that are int8."""
        return tuple(row for row in self.layers if row.kind == "int8")

    @property
    def not_binary(self) -> tuple[LayerReport, ...]:
        """The rows of the quantised layers that did not become an ``LceBconv2d``."""
        return tuple(row for row in self.layers if row.quantized and row.kind != "binary")

    def as_dict(self) -> dict[str, Any]:
        """Plain data: a row per layer, and the totals, but not the file."""
        return {
            "bytes": self.total_bytes,
            "binary_convolutions": len(self.binary),
            "layers": [asdict(row) for row in self.layers],
        }

    def summary(self) -> str:
        """The table as text."""
        rows = [("layer", "kind", "bytes", "why")]
        rows += [(row.name, row.kind, f"{row.bytes:,}", row.reason) for row in self.layers]
        rows.append(("total", "", f"{self.total_bytes:,}", f"{len(self.binary)} binary convolutions"))
        name, kind, size = (max(len(row[i]) for row in rows) for i in range(3))
        return "\n".join(f"{a:<{name}}  {b:<{kind}}  {c:>{size}}  {d}".rstrip() for a, b, c, d in rows)

    def save(self, path: PathLike) -> None:
        """Writes the file; an interrupted write leaves no partial file.

        Raises:
            ValueError: the name does not end in ``.tflite``, by which ``r2b_zoo.load`` recognises such files.
            OSError: the folder cannot be written or the disk is full.
        """
        if Path(path).suffix.lower() != TFLITE_SUFFIX:
            raise ValueError(f"A converted file has a name that ends in {TFLITE_SUFFIX}; received {str(path)!r}.")
        try:
            files.write_bytes(Path(path), self.tflite)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"The model cannot be written to {path}: {reason}") from error


@rarely_collected()
def convert(
    model: tf.keras.Model,
    *,
    labels: Optional[Sequence[str]] = None,
    preprocessing: Optional[Preprocessing] = None,
    strict: bool = False,
    description: Optional[str] = None,
    real_part: str = "float",
    calibration: Optional[calibrating.Images] = None,
    input: str = "float32",
) -> Conversion:
    """Converts a model with one input to a file that takes one image at a time.

    The file contains name, description, labels and preprocessing as TFLite metadata. Several outputs are named after
    the output layers, or after the keys if the model returns a dictionary. They are in the alphabetical order of these
    names.

    Args:
        model: a functional or Sequential model with a fixed input size.
        labels: names of the classes, in the order of the output; only for a model with one output.
        preprocessing: how an image becomes the model's input.
        strict: refuse a model in which a quantised layer does not become an ``LceBconv2d``.
        description: a sentence about the model.
        real_part: "float", or "int8", which quantises the classifier and the convolutions that are not binary, with
            TFLite's own operators; see ``conversion.int8``. Operators that scale the activations of binary layers stay
            float.
        calibration: prepared images of the kind that the network was trained on, needed for ``real_part="int8"``:
            float32 (N, height, width, channels), or several such arrays. The scales of activations inside the network
            are those with the least mean squared error on these images.
        input: "float32": the file takes prepared images; "uint8": it takes resized images in 0–255 and normalises them
            itself, which needs ``real_part="int8"`` and ``preprocessing``.

    Raises:
        CalibrationError: calibration images are missing, too few, all equal, or do not suit the model's input.
        ConversionError: the model is not a Keras 2 model with one input of a fixed size, computes in half precision, or
            has a weight that is not finite; LCE's converter refuses it or crashes; no engine could run the result; no
            layer can become int8, or the file cannot take uint8; or ``strict`` finds quantised layers that are not
            binary (the message names all of them).
        ValueError: labels or preprocessing do not fit the model, ``real_part`` or ``input`` has an unknown value, or
            arguments do not go together.
    """
    _check_model(model)
    _check_form(real_part, input, calibration, preprocessing)
    if labels is not None and len(model.outputs) != 1:
        raise ValueError(
            f"Labels name the classes of one output; {model.name} has {len(model.outputs)} outputs: convert it without "
            "labels."
        )
    if preprocessing is not None and preprocessing.input_shape != tuple(model.input_shape[1:]):
        raise ValueError(
            f"The preprocessing makes images of shape {preprocessing.input_shape}, but {model.name} takes "
            f"{tuple(model.input_shape[1:])}: use preprocessing.with_size, or build the network with that input_shape."
        )
    _check_weights(model)
    tflite = lce_file(model)
    obstacle = why_unrunnable(tflite)
    if obstacle is not None:
        raise ConversionError(f"{model.name} converts to a file that no engine can run: {obstacle}.")
    rewritten = None
    if real_part == "int8":
        images = calibrating.checked(calibration, tuple(model.input_shape[1:]), preprocessing)
        rewritten = _in_int8(model, tflite, images, preprocessing, input)
        tflite, preprocessing = rewritten.tflite, rewritten.preprocessing
    tflite = metadata.write(
        tflite,
        name=model.name,
        description=description or f"{model.name}, converted by r2b_zoo {__version__}",
        labels=labels,
        preprocessing=preprocessing,
    )
    conversion = Conversion(tflite, layer_table(model, tflite, rewritten))
    if strict and conversion.not_binary:
        raise ConversionError(
            f"{len(conversion.not_binary)} quantised layers of {model.name} did not become an LceBconv2d: "
            + "; ".join(f"{row.name!r} ({row.reason})" for row in conversion.not_binary)
            + ". Change them, or convert without strict to have them as float operators."
        )
    return conversion


def _check_form(
    real_part: str, taken: str, calibration: Optional[calibrating.Images], preprocessing: Optional[Preprocessing]
) -> None:
    for name, value, known in (("real_part", real_part, REAL_PARTS), ("input", taken, INPUTS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; received {value!r}.")
    if real_part == "float" and calibration is not None:
        raise ValueError("calibration= is for real_part='int8'; received it with real_part='float'.")
    if taken == "uint8" and real_part != "int8":
        raise ValueError(
            "input='uint8' makes normalising a part of the first int8 operator: it needs real_part='int8'; received "
            f"real_part={real_part!r}."
        )
    if taken == "uint8" and preprocessing is None:
        raise ValueError("input='uint8' needs preprocessing=, whose mean and std become part of the file.")


def _in_int8(
    model: tf.keras.Model,
    tflite: bytes,
    images: Sequence[np.ndarray],
    preprocessing: Optional[Preprocessing],
    taken: str,
) -> int8.Rewritten:
    try:
        return int8.quantise(tflite, images, preprocessing=preprocessing, takes_bytes=taken == "uint8")
    except int8.Int8Error as error:
        raise ConversionError(f"{model.name} {error}.") from error


def _check_model(model: tf.keras.Model) -> None:
    if not isinstance(model, tf.keras.Model):
        raise ConversionError(f"convert takes a Keras 2 model (tf.keras.Model); received {type(model)}.")
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ConversionError(
            f"{model.name} has no known input shape: build it as a functional model, or give a Sequential model an "
            "Input layer."
        )
    if len(inputs) != 1:
        raise ConversionError(f"convert takes models with one input; {model.name} has {len(inputs)}.")
    if None in tuple(inputs[0].shape[1:]):
        raise ConversionError(
            f"convert needs a fixed input size; the input of {model.name} has shape {tuple(inputs[0].shape)}: "
            "build the network with input_shape=(height, width, channels)."
        )
    half = sorted({layer.compute_dtype for layer in model.layers if layer.compute_dtype in ("float16", "bfloat16")})
    if half:
        raise ConversionError(
            f"convert takes float32 models; {model.name} computes in {', '.join(half)}: "
            "build it again under the float32 policy and copy the weights."
        )


def _check_weights(model: tf.keras.Model) -> None:
    for weight in model.weights:
        values = weight.numpy()
        wrong = values.size - int(np.isfinite(values).sum()) if np.issubdtype(values.dtype, np.floating) else 0
        if wrong:
            raise ConversionError(
                f"convert takes weights that are numbers; {wrong} of the {values.size} in {weight.name} of "
                f"{model.name} are NaN or infinite: train it again from an earlier checkpoint with a smaller "
                "learning_rate."
            )


@rarely_collected()
def lce_file(model: tf.keras.Model, batch: int = 1) -> bytes:
    """The file that LCE's converter makes of the model in inference mode, for batches of ``batch`` images.

    Raises:
        ConversionError: the converter refuses the model or crashes.
    """
    with tempfile.TemporaryDirectory() as folder:
        frozen_graph.save(model, Path(folder), batch)
        try:
            return lce.convert_saved_model(Path(folder))
        except lce.LCEError as error:
            raise ConversionError(f"LCE's converter cannot convert {model.name}: {error}") from error
