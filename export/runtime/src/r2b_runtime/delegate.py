"""The delegate, and the stock TensorFlow Lite interpreters that it runs in."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Optional, Union, cast

from r2b_runtime.library import library_path
from r2b_runtime.stock import Delegate, Stock, StockInterpreter, StockModule

# Packages and their names on PyPI, in order of preference. A TensorFlow that the program has imported comes first, so
# that the program has one runtime, not two.
_STOCK = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
_MARK = "r2b-runtime: "  # the start of the delegate's messages


def stock_interpreter() -> Union[StockModule, "_TensorFlow"]:
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


def interpreter_version() -> str:
    """Name and version of the stock interpreter, such as "ai-edge-litert 2.3.0"."""
    stock = stock_interpreter()
    if isinstance(stock, _TensorFlow):
        return f"tensorflow {sys.modules['tensorflow'].__version__}"
    distribution = _STOCK[stock.__name__.split(".")[0]]
    return f"{distribution} {importlib.metadata.version(distribution)}"


def _has_interpreter(tensorflow: ModuleType) -> bool:
    """Whether this TensorFlow has an interpreter. Later versions may have none: its removal has been announced."""
    lite = getattr(tensorflow, "lite", None)
    return hasattr(lite, "Interpreter") and hasattr(lite, "experimental")


class _TensorFlow:
    """Gives tf.lite the interface of the packages in `_STOCK`."""

    def __init__(self, lite: Any) -> None:
        self.Interpreter: type[StockInterpreter] = lite.Interpreter
        self.load_delegate: Callable[[str, Mapping[str, str]], Delegate] = lite.experimental.load_delegate


def _usable(module: ModuleType, distribution: str) -> StockModule:
    arguments = inspect.signature(module.Interpreter.__init__).parameters
    missing = [name for name in ("experimental_delegates", "num_threads") if name not in arguments]
    missing += [] if hasattr(module, "load_delegate") else ["load_delegate"]
    if missing:
        raise ImportError(f"it is too old, it has no {missing[0]}: pip install --upgrade {distribution}")
    return cast(StockModule, module)


def load_delegate(**options: Union[str, int]) -> Delegate:
    """Loads the delegate, for `Interpreter(..., experimental_delegates=[delegate])` of the stock interpreter.

    Options:
        kernels: the kernels to use, one of `available_kernels()`; default: the environment variable
            R2B_RUNTIME_KERNELS, else the best.
        num_threads: threads of the delegate, 1 to 256; default: the interpreter's. The delegate uses at most one per
            core.
        claim: which operators the delegate runs: "all" that it knows (default), or "binary", only those of Larq Compute
            Engine. In a model without any of the latter, the interpreter runs all operators.
        profile: True records the time of every step, see `profile()`; default: False.
        max_memory: MiB that the delegate may use for one interpreter, including its inputs and outputs; default: 2048.
        max_work: limit on one inference, in billions of operations; default: 200. An operation is a float product, or
            32 binary products.

    Raises `ValueError` for an option that does not exist or a value that it cannot have, `ImportError` if there is no
    stock interpreter, and `RuntimeError` if the delegate is missing or was made for another platform.
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
            "another platform: install the wheel that is made for this one"
        ) from None


def with_delegate(
    model: bytes, num_threads: Optional[int], options: Mapping[str, Any]
) -> tuple[Delegate, Callable[[], StockInterpreter]]:
    """The delegate, and a function that makes a stock interpreter with it. Each gets the options that belong to it."""
    stock = stock_interpreter()
    experimental = _experimental(stock, options)
    delegate = load_delegate(**{key: value for key, value in options.items() if not _is_stock(key)})

    def make() -> StockInterpreter:
        return stock.Interpreter(
            model_content=model, num_threads=num_threads, experimental_delegates=[delegate], **experimental
        )

    return delegate, make


def _is_stock(option: str) -> bool:
    return option.startswith("experimental_")


def _experimental(stock: Stock, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that belong to the stock interpreter. Raises `ValueError` for one that it does not have."""
    own = ("experimental_delegates", "experimental_preserve_all_tensors")  # `Interpreter` refuses true values
    found = {key: value for key, value in options.items() if _is_stock(key) and key not in own}
    known = inspect.signature(stock.Interpreter.__init__).parameters
    for name in found:
        if name not in known:
            stock_options = ", ".join(key for key in known if _is_stock(key))
            raise ValueError(f"{interpreter_version()} has no option {name!r}; there are {stock_options}")
    return found


def explained(kind: type[Exception], text: str) -> Exception:
    """Makes an exception with a message of one line from a stock interpreter's error.

    For the delegate's own errors, the message is the delegate's. For other known errors, it says what to do.
    """
    said, text = _said(text), _one_line(text)
    if said:
        return RuntimeError(said)
    if "Didn't find op for builtin opcode" in text:
        upgrade = interpreter_version().split()[0]
        return RuntimeError(
            f"{interpreter_version()} is too old for this model ({text}): pip install --upgrade {upgrade}"
        )
    if "unresolved custom op" in text:
        return RuntimeError(
            f"the model has an operator that neither r2b-runtime nor {interpreter_version()} knows ({text}); "
            "convert it again without that operator"
        )
    if "Flatbuffer" in text:
        return ValueError(f"the model is damaged or was not copied whole: {text}; convert or copy it again")
    return kind(text)


def _said(error: Union[Exception, str]) -> str:
    """The delegate's own message in an interpreter's error, or ""; the last one if there are several."""
    _, mark, rest = str(error).rpartition(_MARK)
    return rest.splitlines()[0] if mark and rest else ""


def _one_line(error: Union[Exception, str]) -> str:
    return " ".join(str(error).split())
