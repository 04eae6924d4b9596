"""Runs Larq Compute Engine models in stock TensorFlow Lite interpreters."""

from r2b_runtime.interpreter import Interpreter, load_delegate, stock_interpreter
from r2b_runtime.library import available_kernels, library_path, profile

__all__ = ["Interpreter", "available_kernels", "library_path", "load_delegate", "profile", "stock_interpreter"]
