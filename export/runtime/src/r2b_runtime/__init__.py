"""Runs Larq Compute Engine models.

`__all__` lists the public names. The modules are internal.
"""

from typing import TYPE_CHECKING, Any

from r2b_runtime.classifier import Classifier
from r2b_runtime.convolution import Convolver
from r2b_runtime.interpreter import Interpreter, profile
from r2b_runtime.library import available_kernels, library_path
from r2b_runtime.resampling import resize, resize_batch

if TYPE_CHECKING:  # at run time __getattr__ finds them
    from r2b_runtime.delegate import interpreter_version, load_delegate, stock_interpreter

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

_OF_THE_DELEGATE = ("interpreter_version", "load_delegate", "stock_interpreter")


def __getattr__(name: str) -> Any:
    """Imports the delegate's module when first needed, since the import takes longer than a small model's inference."""
    if name in _OF_THE_DELEGATE:
        from r2b_runtime import delegate

        return getattr(delegate, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
