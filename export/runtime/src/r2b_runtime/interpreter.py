"""Stock TensorFlow Lite interpreters that use the delegate."""

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Optional, TypedDict, TypeVar, Union, cast

import numpy as np

from r2b_runtime import model_file
from r2b_runtime.engine import Engine
from r2b_runtime.library import checked_threads, library_path
from r2b_runtime.model_file import ModelBytes, ModelFile, ModelPath, ModelSource
from r2b_runtime.stock import Delegate, SignatureRunner, Stock, StockInterpreter, StockModule, TensorDetail

# Modules in order of preference. An imported TensorFlow comes before them, so that a program has one runtime, not two.
_STOCK = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}
_Result = TypeVar("_Result")
_MARK = "r2b-runtime: "  # the delegate's messages start with it


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
    """Whether TensorFlow still has its interpreter, which it announced to drop."""
    lite = getattr(tensorflow, "lite", None)
    return hasattr(lite, "Interpreter") and hasattr(lite, "experimental")


class _TensorFlow:
    """Gives tf.lite the interface of the small packages."""

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


class DelegateOptions(TypedDict, total=False):
    """Options of `load_delegate` that apply to any inference."""

    kernels: str
    claim: Literal["all", "binary"]
    max_memory: int
    max_work: int


def load_delegate(**options: Union[str, int]) -> Delegate:
    """Loads the delegate, for `Interpreter(..., experimental_delegates=[delegate])` of the stock interpreter.

    Options:
        kernels: the kernels to use, one of `available_kernels()`; default: the environment variable
            R2B_RUNTIME_KERNELS, else the best.
        num_threads: threads of the delegate, 1 to 256; default: the interpreter's. The delegate uses at most one per
            core.
        claim: "all" (default) or "binary", which leaves every float operator to the interpreter.
        profile: record the time of every step, see `profile()`.
        max_memory: MiB that the delegate may use for one interpreter, including its inputs and outputs; default: 2048.
        max_work: limit on one inference in billions of operations (a float product, or 32 binary ones); default: 200.

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
            "another platform: install the wheel that is made for this one"
        ) from None


class Interpreter:
    """An interpreter of Larq Compute Engine models, with the methods of TensorFlow Lite's.

    One thread may use it at a time: a call while another thread's call runs is an error. A copy (`pickle`,
    `copy.deepcopy`) is a new interpreter of the model, with the same shapes of the inputs but without their values.

    Args:
        model: path of a `.tflite` file, or its bytes. The file is read once, and may be replaced afterwards.
        num_threads: threads for one inference, 1 to 256; default: the stock interpreter's, which is one. The delegate
            uses at most one per core.
        model_path, model_content: the stock interpreter's names for a path and for bytes, in place of `model`.
        engine: "litert", the stock interpreter with the delegate; or "r2b", the compiled library alone, which needs no
            interpreter, runs the operators that the delegate claims, and takes `kernels`, `max_memory` and `max_work`.
        options: see `load_delegate`; and the stock interpreter's `experimental_` arguments, except for delegates, since
            it brings its own, and for preserving all tensors, since most of them never exist.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a model or is damaged, or the value of an option is invalid.
        RuntimeError: the model cannot be run, exceeds the limits, or needs a newer interpreter. `allocate_tensors()`
            raises errors that depend on the shapes.
        ImportError: there is no stock interpreter.
    """

    if TYPE_CHECKING:  # at run time __getattr__ finds them

        def get_input_details(self) -> list[TensorDetail]: ...

        def get_output_details(self) -> list[TensorDetail]: ...

        def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None: ...

    def __init__(
        self,
        model: Optional[ModelSource] = None,
        num_threads: Optional[int] = None,
        *,
        model_path: Optional[ModelPath] = None,
        model_content: Optional[ModelBytes] = None,
        engine: Literal["litert", "r2b"] = "litert",
        **options: Any,  # the stock interpreter's options have its own types
    ) -> None:
        if num_threads is not None:
            num_threads = checked_threads(num_threads)
        described = _described(model, model_path, model_content)
        self._model = described.data
        self._num_threads, self._options = num_threads, options
        self._lock, self._said, self._allocated, self._engine = threading.Lock(), "", False, engine
        if engine == "r2b":
            self._delegate: Optional[Delegate] = None
            self._interpreter: Any = self._call(Engine, described, num_threads or 1, **_for_engine(options))
            return
        if engine != "litert":
            raise ValueError(f"engine must be 'litert' or 'r2b'; received {engine!r}")
        stock = stock_interpreter()
        experimental = _experimental(stock, options)
        self._delegate = load_delegate(**{key: value for key, value in options.items() if not _is_stock(key)})
        self._interpreter = self._call(
            stock.Interpreter,
            model_content=self._model,
            num_threads=num_threads,
            experimental_delegates=[self._delegate],
            **experimental,
        )

    def _call(self, method: Callable[..., _Result], *args: object, **kwargs: object) -> _Result:
        """Calls the stock interpreter's method, and turns its errors into one sentence."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "another thread is using this interpreter; give each thread an interpreter of its own, or hold one "
                "lock around set_tensor, invoke and get_tensor"
            )
        try:
            return method(*args, **kwargs)
        except (RuntimeError, ValueError) as error:
            if self._engine == "r2b" or type(error) not in (RuntimeError, ValueError):
                raise
            # The interpreters accumulate messages: each error repeats all earlier ones.
            text = str(error)
            new, self._said = text.removeprefix(self._said), text
            raise _explained(type(error), new) from None
        finally:
            self._lock.release()

    def allocate_tensors(self) -> None:
        """Prepares for `invoke()`; see the stock interpreter."""
        self._call(self._interpreter.allocate_tensors)
        self._allocated = True

    def invoke(self) -> None:
        """Runs the model; see the stock interpreter."""
        self._call(self._interpreter.invoke)

    def set_tensor(self, tensor_index: int, value: np.ndarray) -> None:
        """Sets an input; see the stock interpreter."""
        self._call(self._interpreter.set_tensor, tensor_index, value)

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> np.ndarray:
        """A copy of an output; see the stock interpreter."""
        return self._call(self._interpreter.get_tensor, tensor_index, subgraph_index)

    def get_signature_runner(self, signature_key: Optional[str] = None) -> "_Runner":
        """A runner of one of the model's signatures; see the stock interpreter."""
        return _Runner(self, self._call(self._interpreter.get_signature_runner, signature_key))

    @property
    def delegate(self) -> Delegate:
        """Raises `RuntimeError` where the engine runs without one."""
        if self._delegate is None:
            raise RuntimeError("engine='r2b' runs without a delegate")
        return self._delegate

    def __getattr__(self, name: str) -> Any:
        if name == "_interpreter":  # missing, because __init__ raised
            raise AttributeError(name)
        found = getattr(self._interpreter, name)
        return functools.partial(self._call, found) if callable(found) else found

    def __reduce__(self) -> tuple[Callable[..., "Interpreter"], tuple[object, ...]]:
        shapes = [tuple(detail["shape"]) for detail in self.get_input_details()]
        options = {**self._options, "engine": self._engine}
        return _remade, (type(self), self._model, self._num_threads, options, shapes, self._allocated)


def _remade(
    kind: type[Interpreter],
    model: bytes,
    num_threads: Optional[int],
    options: dict[str, Any],
    shapes: list[tuple[int, ...]],
    allocated: bool,
) -> Interpreter:
    """Makes the copy of an interpreter."""
    made = kind(model, num_threads, **options)
    for detail, shape in zip(made.get_input_details(), shapes):
        if tuple(detail["shape"]) != shape:
            made.resize_tensor_input(detail["index"], shape)
    if allocated:
        made.allocate_tensors()
    return made


class _Runner:
    """A stock signature runner whose calls count as calls of its interpreter: one at a time."""

    def __init__(self, owner: Interpreter, runner: SignatureRunner) -> None:
        self._owner, self._runner = owner, runner

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return self._owner._call(self._runner, **inputs)

    def __getattr__(self, name: str) -> Any:
        if name == "_runner":
            raise AttributeError(name)
        return getattr(self._runner, name)


def _described(
    model: Union[ModelSource, ModelFile, None], model_path: Optional[ModelPath], model_content: Optional[ModelBytes]
) -> ModelFile:
    """The model, read and checked here, because not every interpreter checks what it reads.

    A file is read into memory, because an interpreter that maps it would crash when it is overwritten in place.
    """
    named = {"model": model, "model_path": model_path, "model_content": model_content}
    given = {name: value for name, value in named.items() if value is not None}
    if len(given) != 1:
        received = " and ".join(given) or "none of them"
        raise ValueError(f"give the model as one of model, model_path and model_content; received {received}")
    ((name, value),) = given.items()
    kinds: dict[str, tuple[tuple[type, ...], str]] = {
        "model": ((bytes, bytearray, memoryview, str, os.PathLike, ModelFile), "a path or bytes"),
        "model_path": ((str, os.PathLike), "a path"),
        "model_content": ((bytes, bytearray, memoryview), "bytes"),
    }
    types, words = kinds[name]
    if not isinstance(value, types):
        raise ValueError(f"{name} must be {words}; received {type(value).__name__}")
    return model_file.read(value)


def _for_engine(options: dict[str, Any]) -> dict[str, Any]:
    """The options, where the engine takes them."""
    taken = ("kernels", "max_memory", "max_work")
    for name in options:
        if name not in taken:
            raise ValueError(f"engine='r2b' has no option {name!r}; there are {', '.join(taken)}")
    return options


def _is_stock(option: str) -> bool:
    return option.startswith("experimental_")


def _experimental(stock: Stock, options: dict[str, Any]) -> dict[str, Any]:
    """The options that belong to the stock interpreter."""
    found = {key: value for key, value in options.items() if _is_stock(key)}
    if found.pop("experimental_delegates", None):
        raise ValueError(
            "this interpreter brings its delegate with it, and experimental_delegates cannot be given: give the "
            "delegate's options themselves, or use the stock interpreter with r2b_runtime.load_delegate()"
        )
    if found.pop("experimental_preserve_all_tensors", False):
        raise ValueError(
            "experimental_preserve_all_tensors cannot be had: the values between operators that run as one never "
            "exist; make the tensor an output of the model, or use Larq Compute Engine's interpreter"
        )
    known = inspect.signature(stock.Interpreter.__init__).parameters
    for name in found:
        if name not in known:
            stock_options = ", ".join(key for key in known if _is_stock(key))
            raise ValueError(f"{interpreter_version()} has no option {name!r}; there are {stock_options}")
    return found


def _explained(kind: type[Exception], text: str) -> Exception:
    """Turns the stock interpreter's error into one sentence with the way out."""
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
    """The delegate's own message in an interpreter's error, or ""; the last message if there are several."""
    _, mark, rest = str(error).rpartition(_MARK)
    return rest.splitlines()[0] if mark and rest else ""


def _one_line(error: Union[Exception, str]) -> str:
    return " ".join(str(error).split())
