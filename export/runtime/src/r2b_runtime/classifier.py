"""Classifies images with nothing but a model file, which contains labels and preprocessing."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Optional, Union, overload

import numpy as np

from r2b_runtime import model_file, pixels, tensor_values
from r2b_runtime.interpreter import Interpreter, Options
from r2b_runtime.model_file import ModelSource, Tensor
from r2b_runtime.preprocessing import check_form

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import TypeGuard, Unpack  # type checkers know this module even if it is not installed

ImageSource = Union[np.ndarray, "Image.Image", str, "os.PathLike[str]"]
SeveralImages = Union[list[Any], tuple[Any, ...]]  # of ImageSource; several may also be an array (N, H, W, C)
Classes = list[tuple[str, float]]  # label and probability, best first
_OF_IMAGES = (FileNotFoundError, ImportError, ValueError)  # errors that concern one image


class Classifier:
    """Classifies images with a model file that contains labels and preprocessing, as r2b_zoo writes it.

    Threads may share a classifier; it runs one image at a time, whichever thread calls it.

    Args:
        model: path of a `.tflite` file, or its bytes.
        num_threads: threads for one inference; default: one.
        options: `engine`, `kernels`, `claim`, `max_memory` and `max_work`, as `Interpreter` takes them.

    Attributes:
        labels: names of the classes.
        preprocessing: turns an image into the model's input.

    Raises `ValueError` if the file lacks labels or preprocessing, or if it does not have exactly one input and one
    output that fit them. Raises the errors of `Interpreter` too.
    """

    def __init__(
        self,
        model: ModelSource,
        num_threads: Optional[int] = None,
        **options: "Unpack[Options]",
    ) -> None:
        described = model_file.read(model)
        tensors = [tensor for tensor in described.inputs + described.outputs if tensor is not None]
        if len(described.inputs) != 1 or len(described.outputs) != 1 or len(tensors) != 2:
            raise ValueError(
                f"a classifier has one input and one output; {described.name} has {len(described.inputs)} and "
                f"{len(described.outputs)}; use r2b_runtime.Interpreter for it"
            )
        labels, preprocessing = described.labels(), described.preprocessing()
        if labels is None or preprocessing is None:
            missing = [name for name, value in (("labels", labels), ("preprocessing", preprocessing)) if value is None]
            raise ValueError(
                f"{described.name} carries no {' and no '.join(missing)}: convert the model with "
                "r2b_zoo.convert(model, labels=..., preprocessing=...), or use r2b_runtime.Interpreter and "
                "prepare the input yourself"
            )
        self.labels, self.preprocessing = labels, preprocessing
        self._check_shapes(described.name, *tensors)
        self._interpreter = Interpreter(described, num_threads, **options)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self._check_numbers(described.name)
        # An interpreter holds one input and one output at a time, so threads take turns.
        self._turn = threading.Lock()

    def _check_shapes(self, name: str, taken: Tensor, answer: Tensor) -> None:
        given = (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)
        if taken.shape[1:] != given:
            raise ValueError(f"the preprocessing makes images of shape {given}, but {name} takes {taken.shape[1:]}")
        shape = answer.shape
        if not shape or shape[-1] != len(self.labels):
            raise ValueError(f"{name} has {len(self.labels)} labels for an output of shape {shape}; convert it again")

    def _check_numbers(self, name: str) -> None:
        for detail, is_input in ((self._input, True), (self._output, False)):
            tensor_values.check(name, detail["dtype"], detail["quantization"][0], is_input)
        tensor_values.check_normalisation(
            name,
            self._input["dtype"],
            self._input["quantization"][0],
            self.preprocessing.mean,
            self.preprocessing.std,
        )

    @overload
    def predict(self, image: SeveralImages, top: int = 5, max_pixels: int = ...) -> list[Classes]: ...

    @overload
    def predict(self, image: ImageSource, top: int = 5, max_pixels: int = ...) -> Classes: ...

    def predict(self, image: Any, top: int = 5, max_pixels: int = pixels.MAX_PIXELS) -> Any:
        """The most probable classes, best first, of one image or of each of several.

        Args:
            image: array of uint8, or of other numbers in 0–255, of shape (H, W) or (H, W, 1, 3 or 4); or one of
                Pillow's images, of any mode; or the path of an image file, which needs Pillow. Several images are a
                list of these, of any sizes and kinds, or an array (N, H, W, 1, 3 or 4).
            top: number of classes; all classes if there are fewer.
            max_pixels: refuse an image file with more pixels; even a small file could exhaust memory.

        Returns:
            A list of (label, probability); for several images a list of such lists, each as the image alone would give
            it. The images are read, prepared and run one after the other, so that many need no more memory than one.

        Raises:
            FileNotFoundError: there is no such image file.
            ImportError: `image` is a path, and Pillow is missing.
            ValueError: `image` is not an image, is damaged or has too many pixels; the model's output contains NaN; or
                `top` is not a whole number, at least 1.

        If one of several images causes an error, its message begins with the image's index, as in "images[2]: …", and
        no results are returned.
        """
        if not isinstance(top, int) or top < 1:
            raise ValueError(f"top must be a whole number, at least 1; received {top!r}")
        answers = self.probabilities(image, max_pixels)
        return self._best(answers, top) if answers.ndim == 1 else [self._best(row, top) for row in answers]

    def _best(self, row: np.ndarray, top: int) -> Classes:
        best = np.argsort(-row, kind="stable")[:top]
        return [(self.labels[i], float(row[i])) for i in best]

    def probabilities(
        self, image: Union[ImageSource, SeveralImages], max_pixels: int = pixels.MAX_PIXELS
    ) -> np.ndarray:
        """The model's output, float32 (labels,), or (N, labels) for several images; see `predict`."""
        if not _are_several(image):
            return self._row(image, max_pixels)
        rows = np.empty((len(image), len(self.labels)), np.float32)
        for check in (True, False):  # check the shapes, types and paths of all images before the first one runs
            for place, one in enumerate(image):
                with _placed(place):
                    if check:
                        _glance(one)
                    else:
                        rows[place] = self._row(one, max_pixels)
        return rows

    def _row(self, image: Any, max_pixels: int) -> np.ndarray:
        if isinstance(image, (str, os.PathLike)):
            with _opened(image, max_pixels) as opened:
                prepared = self.preprocessing(opened)
        else:
            prepared = self.preprocessing(image)
        given = tensor_values.stored(prepared, self._input["dtype"], *self._input["quantization"])
        with self._turn:
            # A model that takes several images at once gets the same one in each place.
            self._interpreter.set_tensor(
                self._input["index"], np.ascontiguousarray(np.broadcast_to(given, self._input["shape"]))
            )
            self._interpreter.invoke()
            answer = self._interpreter.get_tensor(self._output["index"])
        row = tensor_values.real(answer, *self._output["quantization"]).reshape(-1)[: len(self.labels)]
        if np.isnan(row).any():
            raise ValueError(
                f"the model's answer is not a number for {np.isnan(row).sum()} of {len(row)} classes: its weights are "
                "damaged, or training diverged; convert the model with intact weights"
            )
        return row


def _are_several(image: Any) -> "TypeGuard[SeveralImages]":
    return isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4)


def _glance(image: Any) -> None:
    """Raises the errors that an image's shape, type or path shows, without reading its pixels."""
    if isinstance(image, (str, os.PathLike)):
        if not os.path.exists(image):
            raise FileNotFoundError(f"there is no image {os.fspath(image)!r}")
    elif not pixels.is_pillow_image(image):
        check_form(np.asarray(image))


@contextlib.contextmanager
def _placed(place: int) -> Iterator[None]:
    """Puts the index of an image in front of the message of an error that concerns it."""
    try:
        yield
    except _OF_IMAGES as error:
        kind = next(kind for kind in _OF_IMAGES if isinstance(error, kind))  # a subclass may need other arguments
        raise kind(f"images[{place}]: {error}") from error


def read_image(path: Union[str, "os.PathLike[str]"], max_pixels: int = pixels.MAX_PIXELS) -> np.ndarray:
    """Reads an image file as uint8 (H, W, 3), rotated as its EXIF data says. Needs Pillow: r2b-runtime[images].

    Args:
        path: path of a regular file of any format that Pillow recognises by its content.
        max_pixels: limit on height times width.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: Pillow is missing.
        ValueError: it is not an image, is damaged or too large, or the range of its values is unknown.
    """
    with _opened(path, max_pixels) as image:
        return pixels.rgb(image)


@contextlib.contextmanager
def _opened(path: Union[str, "os.PathLike[str]"], max_pixels: int) -> "Iterator[Image.Image]":
    path = os.fspath(path)
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ImportError(
            "reading image files needs Pillow: pip install pillow, or give the pixels as a uint8 array"
        ) from None
    try:
        with pixels.opened(path, max_pixels) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path!r}") from None
    except pixels.ImageError as error:
        raise ValueError(f"{path!r} cannot be read as an image: {error}") from None
