"""The one place that runs a ``.tflite`` on this machine."""

import numpy as np

from r2b_zoo.captured_output import captured_output

ENGINE_NAME = "Larq Compute Engine's interpreter"
_REFUSED_BY_REFERENCE = "Zero-padding is only supported by the reference kernel"


class TFLiteEngine:
    """A converted file, loaded once.

    It runs on LCE's reference kernels: the optimised ones are wrong where a zero-padded 3×3 convolution reads an input
    of 1×1 or 2×2, and on x86 they are portable C++ too. Reference kernels refuse zero padding for an odd number of
    channels where more than a float convolution is fused; such a file runs on the optimised ones.

    Args:
        tflite: contents of a file with one input and one output.
        num_threads: threads of the interpreter.

    Raises:
        ValueError: the interpreter refuses the file; says what it printed.
    """

    def __init__(self, tflite: bytes, num_threads: int = 1) -> None:
        from larq_compute_engine.tflite.python.interpreter import Interpreter

        with captured_output() as messages:
            try:
                self._interpreter = Interpreter(tflite, num_threads=num_threads, use_reference_bconv=True)
            except (RuntimeError, ValueError) as error:
                if _REFUSED_BY_REFERENCE not in messages():
                    raise _refused(error, messages()) from error
                # The indirect kernel is the optimised one that also takes grouped convolutions.
                self._interpreter = Interpreter(tflite, num_threads=num_threads, use_indirect_bgemm=True)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The output (N, ...) for preprocessed images, float32 (N, height, width, channels), N at least 1.

        Raises:
            ValueError: the images do not fit the file's input.
        """
        with captured_output() as messages:
            try:
                return np.asarray(self._interpreter.predict(np.ascontiguousarray(images, np.float32)))
            except (RuntimeError, ValueError) as error:
                raise _refused(error, messages()) from error


def run_tflite(tflite: bytes, images: np.ndarray, num_threads: int = 1) -> np.ndarray:
    """The output (N, ...) of a file for each of N images; loads the file for this one call. Raises as the engine."""
    return TFLiteEngine(tflite, num_threads).predict(images)


def _refused(error: Exception, messages: str) -> ValueError:
    return ValueError(f"{ENGINE_NAME} cannot run this file: {error}\n{messages}".rstrip())
