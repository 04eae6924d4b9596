"""Runs Larq Compute Engine's converter and interpreter, each in a separate process.

Both are C++ code that prints to the process's stdout and stderr, and may crash on a model. In a separate process, its
output and crashes do not affect the calling program. Other threads of that program can print and predict meanwhile.
"""

import importlib.machinery
import importlib.util
import math
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import IO, Optional

import numpy as np

from r2b_zoo.conversion import lce_process

_LINES_SHOWN = 20
_SECONDS_TO_END = 5


class LCEError(RuntimeError):
    """The converter or the interpreter refused the model or crashed; the message ends with its last output."""


def convert_saved_model(folder: Path) -> bytes:
    """Converts a SavedModel with the signature ``serving_default`` to the contents of a ``.tflite``.

    Returns:
        The same bytes as ``larq_compute_engine.convert_saved_model``.

    Raises:
        LCEError: the converter refuses the model or crashes.
        ImportError: larq-compute-engine is not installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "model.tflite"
        words = _command("convert", _library("mlir", "_tf_tfl_flatbuffer"), folder, output)
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment()
        )
        if done.returncode == 0:
            return output.read_bytes()
        if done.returncode == lce_process.REFUSED:
            why = output.read_text(encoding="utf-8")
        else:
            why = f"it crashed ({_how_it_ended(done.returncode)})"
        raise LCEError(_with_messages(why, done.stdout))


class Interpreter:
    """Larq Compute Engine's interpreter with one model, in a process that ends with this object.

    Args:
        tflite: contents of a file with one input.
        num_threads: threads of the interpreter.
        reference: use the reference kernels of binary convolutions.
        indirect: use the optimised kernels that read their input through pointers (LCE's indirect BGEMM).

    Raises:
        LCEError: the interpreter refuses the model, or crashes.
        ImportError: larq-compute-engine is not installed.
    """

    def __init__(self, tflite: bytes, num_threads: int, *, reference: bool = False, indirect: bool = False) -> None:
        library = _library("tflite/python", "interpreter_wrapper_lite")
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (until the process ends)
        self._process = subprocess.Popen(
            _command("interpret", library, num_threads, int(reference), int(indirect)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=_environment(),
        )
        weakref.finalize(self, _end, self._process, self._messages)
        self.outputs: int = self._ask({}, tflite)[0]["outputs"]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The first output (N, ...) for images (N, height, width, channels) of the input's type. Raises LCEError."""
        return self._run(images, 0)[0]

    def all_outputs(self, image: np.ndarray) -> list[np.ndarray]:
        """Every output (1, ...) for one image (height, width, channels) of the input's type. Raises LCEError."""
        return self._run(image[np.newaxis], None)

    def _run(self, images: np.ndarray, output: Optional[int]) -> list[np.ndarray]:
        header = {"shape": images.shape, "type": images.dtype.str, "output": output}
        answer, payload = self._ask(header, images.tobytes())
        found, at = [], 0
        for kind in answer["outputs"]:
            values = np.frombuffer(payload, kind["type"], math.prod(kind["shape"]), at)
            found.append(values.reshape(kind["shape"]))
            at += values.nbytes
        return found

    def _ask(self, header: dict, payload: bytes) -> tuple[dict, bytes]:
        assert self._process.stdin is not None, "a pipe"
        assert self._process.stdout is not None, "a pipe"
        try:
            lce_process.send(self._process.stdin, header, payload)
            answer, payload = lce_process.receive(self._process.stdout)
        except (EOFError, BrokenPipeError):
            why = f"it crashed ({_how_it_ended(self._process.wait())})"
        else:
            if "error" not in answer:
                return answer, payload
            why = answer["error"]
        self._messages.seek(0)
        raise LCEError(_with_messages(why, self._messages.read()))


def _end(process: "subprocess.Popen[bytes]", messages: IO[bytes]) -> None:
    messages.close()
    try:
        process.communicate(timeout=_SECONDS_TO_END)  # closes its stdin, which makes it end
    except (subprocess.TimeoutExpired, OSError, ValueError):
        process.kill()
        process.wait()


def _library(folder: str, name: str) -> Path:
    """Path of LCE's extension module, found without importing the package, since that imports TensorFlow."""
    package = importlib.util.find_spec("larq_compute_engine")
    if package is None or not package.submodule_search_locations:
        raise ImportError("larq-compute-engine is not installed: pip install larq-compute-engine")
    place = Path(package.submodule_search_locations[0], folder)
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        if (place / (name + suffix)).is_file():
            return place / (name + suffix)
    raise ImportError(f"larq-compute-engine has no {name} in {place}: install it again")


def _command(*words: object) -> list[str]:
    return [sys.executable, lce_process.__file__, *map(str, words)]


def _environment() -> dict[str, str]:
    """This process's environment, changed so that TensorFlow's code logs only warnings and errors."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"}


def _how_it_ended(status: int) -> str:
    """How a process ended, in words: the name of a signal, or an exit status."""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"exit status {status}"


def _with_messages(why: str, messages: bytes) -> str:
    lines = messages.decode(errors="replace").splitlines()[-_LINES_SHOWN:]
    return why + ("\nIts last messages:\n" + "\n".join(lines) if lines else "")
