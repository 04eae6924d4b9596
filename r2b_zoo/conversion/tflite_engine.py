"""Runs a ``.tflite`` on this computer, with r2b-runtime or with Larq Compute Engine's interpreter."""

import importlib.metadata
import re
import threading
import warnings
from typing import Optional

import numpy as np

from r2b_zoo.conversion import file_tensors
from r2b_zoo.system import runtime
from r2b_zoo.system.captured_output import without_lines

RUNTIME = "runtime"
LCE = "lce"
ENGINES = (RUNTIME, LCE)
_NOISE = re.compile(rb"^INFO: Created TensorFlow Lite XNNPACK delegate")
_REFUSED_BY_REFERENCE = "Zero-padding is only supported by the reference kernel"


def default_engine() -> str:
    """``"runtime"`` where r2b-runtime is installed (``pip install ./export/runtime``), else ``"lce"``."""
    return RUNTIME if runtime.is_installed() else LCE


class TFLiteEngine:
    """Loads a converted file once, and runs it.

    Attributes:
        name: the engine's name for reports of measurements; r2b-runtime's includes its version and kernels.

    Args:
        tflite: contents of a file with one input and one output.
        num_threads: threads of the interpreter.
        engine: ``"runtime"``: r2b-runtime's own engine, or TensorFlow's interpreter with r2b-runtime's delegate if the
            file has an operator that this engine lacks; ``"lce"``: Larq Compute Engine's interpreter; None:
            ``default_engine()``.

    Raises:
        ValueError: the engine is unknown or refuses the file; in the latter case, the message gives the reason.
        ImportError: the engine is not installed.
    """

    def __init__(self, tflite: bytes, num_threads: int = 1, engine: Optional[str] = None) -> None:
        make = _engine(engine)
        self.name = make.family()
        self._lock = threading.Lock()  # the interpreter serves one thread at a time
        try:
            self._interpreter = make(tflite, num_threads)
            self.name = self._interpreter.name
            _check_outputs(self._interpreter.number_of_outputs)
            self._input, self._output = file_tensors.check(tflite)
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from error

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The output (N, ...) for preprocessed images, float32 (N, height, width, channels), N at least 1.

        Images are quantised where the file's input is quantised, and rounded to 0–255 where it takes integers without a
        scale; the output is float32. Threads may share an engine; it runs their images one after the other.

        Raises:
            ValueError: the images do not fit the file's input.
        """
        try:
            stored = np.ascontiguousarray(self._input.stored(np.asarray(images, np.float32)))
            with self._lock:
                found = self._interpreter.predict(stored)
            return self._output.real(found)
        except (RuntimeError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ValueError:
        return ValueError(f"{self.name} cannot run this file: {error}")


def run_tflite(tflite: bytes, images: np.ndarray, num_threads: int = 1, engine: Optional[str] = None) -> np.ndarray:
    """The output (N, ...) of a file for N images; loads the file for this call, and raises as ``TFLiteEngine`` does."""
    return TFLiteEngine(tflite, num_threads, engine).predict(images)


class SeveralOutputs:
    """Loads a file with any number of outputs once, and runs it on one image at a time.

    Args:
        tflite: contents of a file with one float32 input.
        engine: see ``TFLiteEngine``.

    Raises:
        ValueError: the engine is unknown or refuses the file.
        ImportError: the engine is not installed.
    """

    def __init__(self, tflite: bytes, engine: Optional[str] = None) -> None:
        make = _engine(engine)
        try:
            self._interpreter = make(tflite, 1)
        except RuntimeError as error:
            raise ValueError(f"{make.family()} cannot run this file: {error}") from error

    def outputs(self, image: np.ndarray) -> list[np.ndarray]:
        """Every output (1, ...) for an image, float32 (height, width, channels)."""
        return self._interpreter.outputs(np.ascontiguousarray(image, np.float32))


class _Runtime:
    """r2b-runtime's own engine; if it lacks an operator of the file, TensorFlow's interpreter with the delegate."""

    @staticmethod
    def family() -> str:
        try:
            import r2b_runtime
        except ImportError:
            raise ImportError(
                "r2b-runtime is not installed: pip install ./export/runtime (from the root of the repository), or "
                f"choose the engine {LCE!r}."
            ) from None
        return f"r2b-runtime {importlib.metadata.version('r2b-runtime')} ({r2b_runtime.available_kernels()[0]})"

    def __init__(self, tflite: bytes, num_threads: int) -> None:
        import r2b_runtime

        self.name = self.family()
        try:
            self._interpreter = r2b_runtime.Interpreter(tflite, num_threads, engine="r2b")
        except RuntimeError:
            import tensorflow  # noqa: F401  (r2b-runtime uses the interpreter that is already imported)

            # Never remove this filter. Filters belong to the whole process, so a thread that restored the earlier
            # filters would also remove those that other threads have added.
            warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
            with without_lines(_NOISE):
                self._interpreter = r2b_runtime.Interpreter(tflite, num_threads, engine="litert")
                self._interpreter.allocate_tensors()
            self.name += f" in {r2b_runtime.interpreter_version()}"
        inputs = self._interpreter.get_input_details()
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs, and a classifier has one")
        self._input = inputs[0]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    @property
    def number_of_outputs(self) -> int:
        return len(self._outputs)

    def predict(self, images: np.ndarray) -> np.ndarray:
        expected = tuple(self._input["shape"][1:])
        if images.shape[1:] != expected:
            raise ValueError(
                f"images must have the shape (N, {', '.join(map(str, expected))}); received {images.shape}"
            )
        # Run images one by one, as LCE's interpreter and devices do.
        return np.stack([self.outputs(image)[0][0] for image in images])

    def outputs(self, image: np.ndarray) -> list[np.ndarray]:
        self._interpreter.set_tensor(self._input["index"], image[np.newaxis])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(number) for number in self._outputs]


class _LarqComputeEngine:
    """LCE's interpreter with its reference kernels.

    The optimised kernels give wrong results where a zero-padded 3×3 convolution reads an input of 1×1 or 2×2. On x86,
    both kinds of kernels are portable C++. With zero padding, the reference kernels refuse an odd number of input
    channels unless the output is float and no activation function is fused. A file with such a convolution runs on the
    optimised kernels.
    """

    @staticmethod
    def family() -> str:
        return "Larq Compute Engine's interpreter"

    def __init__(self, tflite: bytes, num_threads: int) -> None:
        from r2b_zoo.conversion import lce

        self.name = self.family()
        try:
            self._interpreter = lce.Interpreter(tflite, num_threads, reference=True)
        except lce.LCEError as error:
            if _REFUSED_BY_REFERENCE not in str(error):
                raise
            # Of the optimised kernels, only the indirect one also supports grouped convolutions.
            self._interpreter = lce.Interpreter(tflite, num_threads, indirect=True)

    @property
    def number_of_outputs(self) -> int:
        return self._interpreter.outputs

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self._interpreter.predict(images)

    def outputs(self, image: np.ndarray) -> list[np.ndarray]:
        return self._interpreter.all_outputs(image)


def _check_outputs(number: int) -> None:
    if number != 1:
        raise ValueError(
            f"it has {number} outputs, and a classifier has one: run it with r2b_runtime.Interpreter, which gives all"
        )


def _engine(engine: Optional[str]) -> "type[_Runtime] | type[_LarqComputeEngine]":
    engine = engine or default_engine()
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}; received {engine!r}.")
    return _Runtime if engine == RUNTIME else _LarqComputeEngine
