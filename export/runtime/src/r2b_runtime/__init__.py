"""Runs Larq Compute Engine models in stock TensorFlow Lite interpreters.

`__all__` is the interface; all other modules are internal.
"""

from r2b_runtime.classifier import Classifier
from r2b_runtime.convolution import Convolver
from r2b_runtime.interpreter import Interpreter, interpreter_version, load_delegate, stock_interpreter
from r2b_runtime.library import available_kernels, library_path, profile
from r2b_runtime.resampling import resize, resize_batch

__all__ = [
    "Classifier",
    "Convolver",
    "Interpreter",
    "available_kernels",
    "interpreter_version",
    "library_path",
    "load_delegate",
    "profile",
    "resize",
    "resize_batch",
    "stock_interpreter",
]
