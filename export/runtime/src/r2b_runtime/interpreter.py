"""Interpreters of models: the engine, or a stock TensorFlow Lite interpreter with the delegate."""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, TypedDict, TypeVar, Union, get_args

import numpy as np

from r2b_runtime import model_file
from r2b_runtime.engine import Engine
from r2b_runtime.library import checked_threads, delegates_profile
from r2b_runtime.model_file import ModelBytes, ModelFile, ModelPath, ModelSource
from r2b_runtime.stock import Delegate, SignatureRunner, TensorDetail

EngineName = Literal["r2b", "litert"]
_Result = TypeVar("_Result")

_ENGINE_OPTIONS = ("kernels", "max_memory", "max_work", "profile")
# Options that only the delegate has. The engine accepts only the value here, which describes what it always does.
_DELEGATE_OPTIONS = {"claim": "all"}
# Options of the stock interpreters. The engine ignores false values, and refuses others.
_STOCK_OPTIONS = (
    "experimental_delegates",
    "experimental_op_resolver_type",
    "experimental_preserve_all_tensors",
    "experimental_disable_delegate_clustering",
    "experimental_default_delegate_latest_features",
)


class Options(TypedDict, total=False):
    """Options of `Interpreter` that `Classifier` and the benchmark take too."""

    engine: EngineName
    kernels: str
    claim: Literal["all", "binary"]
    max_memory: int
    max_work: int


class Interpreter:
    """An interpreter of Larq Compute Engine models, with the methods of TensorFlow Lite's `Interpreter`.

    One thread may use it at a time: a call while another thread's call runs raises `RuntimeError`. A copy (`pickle`,
    `copy.deepcopy`) is a new interpreter of the model. Its inputs have the same shapes; their values are not copied.

    Args:
        model: path of a `.tflite` file, or its bytes. The file is read once, and may be replaced afterwards.
        num_threads: threads for one inference, 1 to 256; default: one. At most one per core is used.
        model_path, model_content: the stock interpreter's names for a path and for bytes, in place of `model`.
        engine: what runs the model: "r2b", the compiled library alone; or "litert", a stock interpreter with the
            delegate. A stock interpreter, of ai-edge-litert, tflite-runtime or TensorFlow, also runs operators that
            "r2b" lacks.
        options: `kernels`, `max_memory`, `max_work` and `profile`, see `load_delegate`. With engine="litert" also
            `claim`, and the stock interpreter's `experimental_` arguments except two. `experimental_delegates` is not
            supported, because this class has its own delegate. `experimental_preserve_all_tensors` is not supported,
            because the delegate runs some operators as one and never stores the values between them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a model or is damaged, or an option does not exist or has an invalid value.
        RuntimeError: the model cannot be run, has an operator that the engine lacks, exceeds the limits, or needs a
            newer stock interpreter. With engine="litert" `allocate_tensors()` raises errors that depend on the shapes.
        ImportError: there is no stock interpreter, and engine="litert" needs one.
    """

    if TYPE_CHECKING:  # at run time __getattr__ finds them

        def get_input_details(self) -> list[TensorDetail]: ...

        def get_output_details(self) -> list[TensorDetail]: ...

        def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None: ...

    def __init__(
        self,
        model: Union[ModelSource, ModelFile, None] = None,
        num_threads: Optional[int] = None,
        *,
        model_path: Optional[ModelPath] = None,
        model_content: Optional[ModelBytes] = None,
        engine: EngineName = "r2b",
        **options: Any,  # the stock interpreter defines the types of its options
    ) -> None:
        if engine not in get_args(EngineName):
            raise ValueError(f"engine must be 'r2b' or 'litert'; received {engine!r}")
        if num_threads is not None:
            num_threads = checked_threads(num_threads)
        described = _described(model, model_path, model_content)
        _check_options(options)
        self._model, self._num_threads, self._options = described.data, num_threads, options
        self._lock, self._said, self._allocated, self._engine = threading.Lock(), "", False, engine
        self._delegate: Optional[Delegate] = None
        if engine == "r2b":
            self._interpreter: Any = self._call(Engine, described, num_threads or 1, **_for_engine(options))
            return
        from r2b_runtime.delegate import with_delegate

        self._delegate, make = with_delegate(self._model, num_threads, options)
        self._interpreter = self._call(make)

    def _call(self, method: Callable[..., _Result], *args: object, **kwargs: object) -> _Result:
        """Calls a method of the engine or of the stock interpreter, and makes a stock interpreter's error one line.

        Raises `RuntimeError` if another thread's call is running.
        """
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
            # Stock interpreters accumulate messages: each error repeats all earlier ones.
            text = str(error)
            new, self._said = text.removeprefix(self._said), text
            from r2b_runtime.delegate import explained

            raise explained(type(error), new) from None
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
        """A copy of an input or output; see the stock interpreter."""
        return self._call(self._interpreter.get_tensor, tensor_index, subgraph_index)

    def get_signature_runner(self, signature_key: Optional[str] = None) -> "_Runner":
        """A runner of one of the model's signatures; see the stock interpreter."""
        return _Runner(self, self._call(self._interpreter.get_signature_runner, signature_key))

    @property
    def delegate(self) -> Delegate:
        """The delegate of engine="litert"; raises `RuntimeError` for the other engine, which runs without one."""
        if self._delegate is None:
            raise RuntimeError("engine='r2b' runs without a delegate; engine='litert' has one")
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


def profile(runner: Union[Interpreter, Delegate]) -> tuple[str, list[tuple[float, int, str]]]:
    """The times of the steps of an `Interpreter` or a delegate.

    Returns the kernels' name and, for each step, (seconds in all runs, number of runs, description). The numbers are 0
    unless `runner` was made with `profile=True`.

    Raises:
        ValueError: the delegate is another library's, or has been freed.
        RuntimeError: another thread is running the model.
    """
    if not isinstance(runner, Interpreter):
        return delegates_profile(runner)
    if runner._delegate is not None:
        return delegates_profile(runner._delegate)
    return runner._interpreter.kernels, runner._call(runner._interpreter.steps)


def _remade(
    kind: type[Interpreter],
    model: bytes,
    num_threads: Optional[int],
    options: dict[str, Any],
    shapes: list[tuple[int, ...]],
    allocated: bool,
) -> Interpreter:
    """Makes a copy of an interpreter from what `Interpreter.__reduce__` recorded."""
    made = kind(model, num_threads, **options)
    for detail, shape in zip(made.get_input_details(), shapes):
        if tuple(detail["shape"]) != shape:
            made.resize_tensor_input(detail["index"], shape)
    if allocated:
        made.allocate_tensors()
    return made


class _Runner:
    """Runs a signature with either engine. A call raises `RuntimeError` while another thread uses the interpreter."""

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
    """Reads the model and checks it, because not every stock interpreter checks what it reads.

    A file is read into memory: if an interpreter mapped the file, overwriting the file could crash the program.
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


def _check_options(options: dict[str, Any]) -> None:
    """Raises `ValueError` for options that neither engine supports."""
    if options.get("experimental_delegates"):
        raise ValueError(
            "experimental_delegates is not supported, because this class brings its own delegate: give the delegate's "
            "options themselves, or use the stock interpreter with r2b_runtime.load_delegate()"
        )
    if options.get("experimental_preserve_all_tensors"):
        raise ValueError(
            "experimental_preserve_all_tensors is not supported: the values between operators that run as one never "
            "exist; make the tensor an output of the model, or use Larq Compute Engine's interpreter"
        )


def _for_engine(options: dict[str, Any]) -> dict[str, Any]:
    """The options that the engine takes. Raises `ValueError` for others, unless their value changes nothing."""
    taken = {}
    for name, value in options.items():
        if name in _ENGINE_OPTIONS:
            taken[name] = value
        elif name not in _DELEGATE_OPTIONS and name not in _STOCK_OPTIONS:
            raise ValueError(
                f"there is no option {name!r}; there are {', '.join(_ENGINE_OPTIONS)}, and with engine='litert' "
                f"{', '.join(_DELEGATE_OPTIONS)} and those of the stock interpreter"
            )
        elif value and value != _DELEGATE_OPTIONS.get(name):
            owner = "delegate" if name in _DELEGATE_OPTIONS else "stock interpreter"
            raise ValueError(
                f"{name} is an option of the {owner}; received {value!r}: give engine='litert' with it, or leave it out"
            )
    return taken
