"""Stock TensorFlow Lite interpreters with the delegate in them."""

import importlib
import os
import sys

from r2b_runtime.library import library_path

# In order of preference. An imported TensorFlow comes first: a program that has it wants one runtime, not two.
_STOCK = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")


def stock_interpreter():
    """The module that provides `Interpreter` and `load_delegate`.

    TensorFlow if the program has imported it, else ai-edge-litert, else tflite-runtime. Raises `ImportError` if
    there is none.
    """
    if "tensorflow" in sys.modules:
        lite = sys.modules["tensorflow"].lite
        if hasattr(lite, "Interpreter") and hasattr(lite, "experimental"):
            return _TensorFlow(lite)
    for name in _STOCK:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(
        "r2b-runtime needs a TensorFlow Lite interpreter: pip install ai-edge-litert (on 32-bit ARM: tflite-runtime)"
    )


class _TensorFlow:
    """tf.lite under the names that the small packages use."""

    def __init__(self, lite):
        self.Interpreter = lite.Interpreter
        self.load_delegate = lite.experimental.load_delegate


def load_delegate(**options):
    """The delegate, for `Interpreter(..., experimental_delegates=[delegate])` of the stock interpreter.

    Options:
        kernels: force a path, one of `available_kernels()`; default: the environment's R2B_RUNTIME_KERNELS, else the best.
        num_threads: threads of the delegate; default: the interpreter's.
        claim: "all" (default) or "binary", which leaves every float operator to the interpreter.
        profile: record the time of every step, see `profile()`.

    Raises `ValueError` for an option that does not exist or a value it cannot have.
    """
    texts = {key: str(int(value) if isinstance(value, bool) else value) for key, value in options.items()}
    return stock_interpreter().load_delegate(str(library_path()), texts)


class Interpreter:
    """A stock interpreter that runs Larq Compute Engine models; has all of the stock interpreter's methods.

    Args:
        model: path of a `.tflite` file, or its bytes.
        num_threads: threads for one inference; default: the stock interpreter's, which is one.
        delegate_options: see `load_delegate`.
    """

    def __init__(self, model, num_threads=None, **delegate_options):
        self._delegate = load_delegate(**delegate_options)
        if isinstance(model, (bytes, bytearray, memoryview)):
            source = {"model_content": bytes(model)}
        else:
            if not os.path.exists(model):
                raise FileNotFoundError(f"no model file {os.fspath(model)!r}")
            source = {"model_path": os.fspath(model)}
        self._interpreter = stock_interpreter().Interpreter(
            **source, num_threads=num_threads, experimental_delegates=[self._delegate]
        )

    @property
    def delegate(self):
        return self._delegate

    def __getattr__(self, name):
        return getattr(self._interpreter, name)
