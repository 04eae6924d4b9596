"""Stock TensorFlow Lite interpreters with the delegate in them."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import mmap
import os
import sys

from r2b_runtime.library import library_path
from r2b_runtime.model_file import ModelFile

# In order of preference. An imported TensorFlow comes first: a program that has it wants one runtime, not two.
_STOCK = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
_MARK = "r2b-runtime: "  # the delegate's messages start with it


def stock_interpreter():
    """The module that provides `Interpreter` and `load_delegate`.

    TensorFlow if the program has imported it, else ai-edge-litert, else tflite-runtime, else an installed TensorFlow.
    Raises `ImportError` if there is none, or none that works.
    """
    if "tensorflow" in sys.modules and _has_interpreter(sys.modules["tensorflow"]):
        return _TensorFlow(sys.modules["tensorflow"].lite)
    broken = ""
    for package, distribution in _STOCK.items():
        if importlib.util.find_spec(package) is None:
            continue
        try:
            return _usable(importlib.import_module(f"{package}.interpreter"), distribution)
        except (ImportError, AttributeError) as error:  # AttributeError: NumPy 2 with an extension made for NumPy 1
            broken += f"; {distribution} is installed but cannot be used ({_one_line(error)})"
            if "numpy" in str(error).lower() or "_ARRAY_API" in str(error):
                broken += ", try pip install 'numpy<2'"
    if importlib.util.find_spec("tensorflow") is not None:
        tensorflow = importlib.import_module("tensorflow")
        if _has_interpreter(tensorflow):
            return _TensorFlow(tensorflow.lite)
    raise ImportError(
        "r2b-runtime needs a TensorFlow Lite interpreter: pip install ai-edge-litert (on 32-bit ARM: tflite-runtime)"
        + broken
    )


def interpreter_version():
    """Name and version of the stock interpreter, such as "ai-edge-litert 2.3.0"."""
    stock = stock_interpreter()
    if isinstance(stock, _TensorFlow):
        return f"tensorflow {sys.modules['tensorflow'].__version__}"
    distribution = _STOCK[stock.__name__.split(".")[0]]
    return f"{distribution} {importlib.metadata.version(distribution)}"


def _has_interpreter(tensorflow):
    """TensorFlow announced that it will drop its interpreter."""
    lite = getattr(tensorflow, "lite", None)
    return hasattr(lite, "Interpreter") and hasattr(lite, "experimental")


class _TensorFlow:
    """tf.lite under the names that the small packages use."""

    def __init__(self, lite):
        self.Interpreter = lite.Interpreter
        self.load_delegate = lite.experimental.load_delegate


def _usable(module, distribution):
    arguments = inspect.signature(module.Interpreter.__init__).parameters
    missing = [name for name in ("experimental_delegates", "num_threads") if name not in arguments]
    missing += [] if hasattr(module, "load_delegate") else ["load_delegate"]
    if missing:
        raise ImportError(f"it is too old, it has no {missing[0]}: pip install --upgrade {distribution}")
    return module


def load_delegate(**options):
    """The delegate, for `Interpreter(..., experimental_delegates=[delegate])` of the stock interpreter.

    Options:
        kernels: force a path, one of `available_kernels()`; default: the environment's R2B_RUNTIME_KERNELS, else
            the best.
        num_threads: threads of the delegate; default: the interpreter's.
        claim: "all" (default) or "binary", which leaves every float operator to the interpreter.
        profile: record the time of every step, see `profile()`.

    Raises `ValueError` for an option that does not exist or a value it cannot have.
    """
    texts = {key: str(int(value) if isinstance(value, bool) else value) for key, value in options.items()}
    stock, path = stock_interpreter(), library_path()
    try:
        return stock.load_delegate(str(path), texts)
    except ValueError as error:
        message = _said(error)
        if (
            message
            and "R2B_RUNTIME_KERNELS" in os.environ
            and "kernels" not in options
            and message.startswith("kernels")
        ):
            message += " (kernels come from the environment's R2B_RUNTIME_KERNELS: unset it)"
        raise ValueError(message or _one_line(error)) from None
    except OSError as error:
        raise RuntimeError(
            f"the delegate {path.name} of this installation does not load here ({_one_line(error)}); it was made for "
            "another platform: pip install --force-reinstall r2b-runtime"
        ) from None


class Interpreter:
    """A stock interpreter that runs Larq Compute Engine models; has all of the stock interpreter's methods.

    Args:
        model: path of a `.tflite` file, or its bytes.
        num_threads: threads for one inference; default: the stock interpreter's, which is one.
        delegate_options: see `load_delegate`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no model or is damaged, or an option cannot have the value.
        RuntimeError: the model holds something that cannot be run, or the interpreter is too old for it. An error that
            only shows once the shapes are known comes from `allocate_tensors()`.
        ImportError: there is no stock interpreter.
    """

    def __init__(self, model, num_threads=None, **delegate_options):
        if num_threads is not None and (not isinstance(num_threads, int) or num_threads < 1):
            raise ValueError(
                f"num_threads must be a whole number from 1, or None for one thread; received {num_threads!r}"
            )
        source = _source(model)
        self._delegate = load_delegate(**delegate_options)
        with _Explained():
            self._interpreter = stock_interpreter().Interpreter(
                **source, num_threads=num_threads, experimental_delegates=[self._delegate]
            )

    def allocate_tensors(self):
        """Prepares for `invoke()`; see the stock interpreter."""
        with _Explained():
            self._interpreter.allocate_tensors()

    @property
    def delegate(self):
        return self._delegate

    def __getattr__(self, name):
        if name == "_interpreter":  # not made: __init__ raised
            raise AttributeError(name)
        return getattr(self._interpreter, name)


def _source(model):
    """The model as the stock interpreter's argument, checked: not every interpreter checks what it reads."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        data = bytes(model)
        ModelFile(data)
        return {"model_content": data}
    path = os.fspath(model)
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError(f"{path!r} is empty; copy or convert it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                ModelFile(data, repr(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no model file {path!r}") from None
    return {"model_path": path}


class _Explained:
    """Turns the stock interpreter's errors into one sentence with the way out."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind not in (RuntimeError, ValueError):
            return
        text = _one_line(error)
        said = _said(error)
        if said:
            raise RuntimeError(said) from None
        if "Didn't find op for builtin opcode" in text:
            upgrade = interpreter_version().split()[0]
            raise RuntimeError(
                f"{interpreter_version()} is too old for this model ({text}): pip install --upgrade {upgrade}"
            ) from None
        if "unresolved custom op" in text:
            raise RuntimeError(
                f"the model has an operator that neither r2b-runtime nor {interpreter_version()} knows ({text}); "
                "convert it again without that operator"
            ) from None
        if "Flatbuffer" in text:
            raise ValueError(
                f"the model is damaged or was not copied whole: {text}; convert or copy it again"
            ) from None


def _said(error):
    """The delegate's own message in an interpreter's error, or ""."""
    _, mark, rest = str(error).partition(_MARK)
    return rest.splitlines()[0] if mark and rest else ""


def _one_line(error):
    return " ".join(str(error).split())
