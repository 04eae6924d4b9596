"""From an image to names of classes, with nothing but the model file."""

import os

import numpy as np

from r2b_runtime import model_file
from r2b_runtime.interpreter import Interpreter

_QUANTIZED = {np.int8: (-128, 127), np.uint8: (0, 255)}


class Classifier:
    """A model file that carries its labels and preprocessing, as r2b_zoo writes it.

    Args:
        model: path of a `.tflite` file, or its bytes.
        num_threads: threads for one inference; default: one.
        delegate_options: see `load_delegate`.

    Attributes:
        labels: names of the classes.
        preprocessing: from an image to the model's input.

    Raises `ValueError` where the file lacks labels or preprocessing, and what `Interpreter` raises.
    """

    def __init__(self, model, num_threads=None, **delegate_options):
        described = model_file.read(model)
        if len(described.inputs) != 1 or len(described.outputs) != 1:
            raise ValueError(
                f"a classifier has one input and one output; {described.name} has {len(described.inputs)} and "
                f"{len(described.outputs)}; use r2b_runtime.Interpreter for it"
            )
        self.labels, self.preprocessing = described.labels(), described.preprocessing()
        missing = [
            name for name, value in (("labels", self.labels), ("preprocessing", self.preprocessing)) if value is None
        ]
        if missing:
            raise ValueError(
                f"{described.name} carries no {' and no '.join(missing)}: convert the model with "
                "r2b_zoo.convert(model, labels=..., preprocessing=...), or use r2b_runtime.Interpreter and "
                "prepare the input yourself"
            )
        self._check_shapes(described)
        self._interpreter = Interpreter(model, num_threads, **delegate_options)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    def _check_shapes(self, described):
        given, taken = (
            (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels),
            described.inputs[0].shape,
        )
        if tuple(taken[1:]) != given:
            raise ValueError(
                f"the preprocessing makes images of shape {given}, but {described.name} takes {tuple(taken[1:])}"
            )
        shape = described.outputs[0].shape
        if not shape or shape[-1] != len(self.labels):
            raise ValueError(
                f"{described.name} has {len(self.labels)} labels for an output of shape {shape}; convert it again"
            )

    def predict(self, image, top=5):
        """The most probable classes of one image, best first.

        Args:
            image: uint8 (or numbers in 0–255) of any size, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or the path of an
                image file, which needs Pillow.
            top: how many classes; as many as there are if it is more.

        Returns:
            A list of (label, probability).
        """
        if not isinstance(top, int) or top < 1:
            raise ValueError(f"top must be a whole number from 1; received {top!r}")
        row = self.probabilities(image)
        best = np.argsort(-row, kind="stable")[:top]
        return [(self.labels[i], float(row[i])) for i in best]

    def probabilities(self, image):
        """The model's output for one image: float32, one number for each label."""
        pixels = read_image(image) if isinstance(image, (str, os.PathLike)) else image
        self._interpreter.set_tensor(
            self._input["index"], _quantized(self.preprocessing(pixels), self._input)[np.newaxis]
        )
        self._interpreter.invoke()
        return _real(self._interpreter.get_tensor(self._output["index"]), self._output).reshape(-1)


def read_image(path):
    """An image file as uint8 (H, W, 3), turned as its EXIF data says. Needs Pillow: r2b-runtime[images]."""
    path = os.fspath(path)
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError(
            "reading image files needs Pillow: pip install pillow, or give the pixels as a uint8 array"
        ) from None
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path!r}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path!r} cannot be read as an image: {error}") from None


def _quantized(values, detail):
    limits = _QUANTIZED.get(detail["dtype"])
    if limits is None:
        return values.astype(detail["dtype"], copy=False)
    scale, zero_point = detail["quantization"]
    return np.clip(np.rint(values / np.float32(scale)) + zero_point, *limits).astype(detail["dtype"])


def _real(values, detail):
    if detail["dtype"] not in _QUANTIZED:
        return values.astype(np.float32, copy=False)
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)
