"""The engine: has the methods of a TensorFlow Lite interpreter, but needs only the compiled library to run a model.

The C functions are described in `native/r2b.h`.
"""

import ctypes
import functools
import numbers
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Optional

import numpy as np

from r2b_runtime.library import available_kernels, chosen_kernels, load_library
from r2b_runtime.model_file import ModelFile, Signature
from r2b_runtime.stock import TensorDetail

_MOST_DIMENSIONS = 8
_MOST_TEXT = 512
_DTYPES: dict[int, type[np.generic]] = {1: np.float32, 2: np.int32, 3: np.uint8, 6: np.bool_, 9: np.int8}
_MOST_WORK = 10**9  # the same limit as in native/options.cc
_WAY_OUT = "engine='litert' runs it in a TensorFlow Lite interpreter"


class _Error(ctypes.Structure):
    _fields_ = (("text", ctypes.c_char * _MOST_TEXT),)


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("number", ctypes.c_int32),
        ("type", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.c_int32 * _MOST_DIMENSIONS),
        ("bytes", ctypes.c_size_t),
        ("scale", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
        ("name", ctypes.c_char_p),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("num_threads", ctypes.c_int32),
        ("kernels", ctypes.c_char_p),
        ("max_memory", ctypes.c_int64),
        ("max_work", ctypes.c_int64),
        ("profile", ctypes.c_int32),
    )


class _Step(ctypes.Structure):
    _fields_ = (("description", ctypes.c_char * _MOST_TEXT), ("seconds", ctypes.c_double), ("runs", ctypes.c_int64))


@functools.cache
def _functions() -> ctypes.CDLL:
    """The library, after setting the types of the arguments and results of the engine's functions."""
    library = load_library()
    handle, error, pointer = ctypes.c_void_p, ctypes.POINTER(_Error), ctypes.c_void_p
    number, size = ctypes.c_int32, ctypes.c_size_t
    for name, result, arguments in (
        ("r2b_model_load", handle, (pointer, size, error)),
        ("r2b_model_free", None, (handle,)),
        ("r2b_engine_create", handle, (handle, ctypes.POINTER(_Options), error)),
        ("r2b_engine_free", None, (handle,)),
        ("r2b_engine_inputs", number, (handle,)),
        ("r2b_engine_outputs", number, (handle,)),
        ("r2b_engine_input", ctypes.c_int, (handle, number, ctypes.POINTER(_Tensor), error)),
        ("r2b_engine_output", ctypes.c_int, (handle, number, ctypes.POINTER(_Tensor), error)),
        ("r2b_engine_resize", ctypes.c_int, (handle, number, ctypes.POINTER(number), number, error)),
        ("r2b_engine_set_input", ctypes.c_int, (handle, number, pointer, size, error)),
        ("r2b_engine_get_output", ctypes.c_int, (handle, number, pointer, size, error)),
        ("r2b_engine_run", ctypes.c_int, (handle, error)),
        ("r2b_engine_memory", ctypes.c_int64, (handle, error)),
        ("r2b_engine_weights", ctypes.c_int64, (handle, error)),
        ("r2b_engine_steps", number, (handle, error)),
        ("r2b_engine_step", ctypes.c_int, (handle, number, ctypes.POINTER(_Step), error)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Engine:
    """A model that is ready to run.

    One thread may use it at a time: a call while another thread's call runs raises `RuntimeError`.

    Args:
        model: the `.tflite` file, as `model_file.read` returns it.
        num_threads: threads for one inference, 1 to 256; at most one per core is used.
        kernels: a name of `available_kernels()`; None: the kernels that the environment's R2B_RUNTIME_KERNELS names, or
            the best ones if it is not set.
        max_memory: MiB that the engine may take besides the file; None: 2048.
        max_work: limit on one inference, in billions of operations; None: 200. An operation is a float product, or 32
            binary products.
        profile: whether to record the time of every step, see `steps`.

    Raises:
        ValueError: the kernels do not run here, or a limit is not a whole number in its range.
        RuntimeError: the file is damaged, holds something that the engine does not support, or exceeds a limit; or
            `num_threads` is outside its range.
    """

    def __init__(
        self,
        model: ModelFile,
        num_threads: int = 1,
        *,
        kernels: Optional[str] = None,
        max_memory: Optional[int] = None,
        max_work: Optional[int] = None,
        profile: bool = False,
    ) -> None:
        self._engine: Optional[int] = None
        library, error = _functions(), _Error()
        chosen = chosen_kernels(kernels)
        self.kernels = available_kernels()[0] if chosen == b"auto" else chosen.decode()
        options = _Options(
            ctypes.sizeof(_Options),
            num_threads,
            chosen,
            _limit("max_memory", max_memory, sys.maxsize >> 20) << 20,
            _limit("max_work", max_work, _MOST_WORK) * 10**9,
            bool(profile),
        )
        loaded = library.r2b_model_load(model.data, len(model.data), ctypes.byref(error))
        if loaded:
            self._engine = library.r2b_engine_create(loaded, ctypes.byref(options), ctypes.byref(error))
            library.r2b_model_free(loaded)  # the engine keeps what it needs
        if not self._engine:
            raise RuntimeError(error.text.decode())
        self._signatures = model.signatures()
        self._describe()
        self._shapes_in_file = {t.number: model.tensors[t.number].signature for t in [*self._inputs, *self._outputs]}

    def _describe(self) -> None:
        """Asks the library for the current inputs and outputs, and drops all arrays, whose shapes may be old."""
        library = _functions()
        self._inputs = [self._tensor(i, library.r2b_engine_input) for i in range(self._count("inputs"))]
        self._outputs = [self._tensor(i, library.r2b_engine_output) for i in range(self._count("outputs"))]
        # The numbers below are positions in these two lists. The next inference copies the inputs in `_set` into the
        # library. Every inference also copies the inputs in `_shared_inputs`: the caller got their arrays through
        # `tensor()`, and may have written to them. After every inference, the arrays in `_shared_outputs` are updated.
        self._values: dict[int, np.ndarray] = {}
        self._set: set[int] = set()
        self._shared_inputs: set[int] = set()
        self._shared_outputs: dict[int, np.ndarray] = {}

    def get_input_details(self) -> list[TensorDetail]:
        """The inputs, as a TensorFlow Lite interpreter describes them."""
        return [self._detail(tensor) for tensor in self._inputs]

    def get_output_details(self) -> list[TensorDetail]:
        """The outputs, as a TensorFlow Lite interpreter describes them."""
        return [self._detail(tensor) for tensor in self._outputs]

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None:
        """Gives an input another shape. The outputs' shapes follow from it, and all inputs become zeros.

        Args:
            input_index: number of the input, see `get_input_details`.
            tensor_size: its new shape.
            strict: refuse to change a dimension unless the file leaves it open (-1 in `shape_signature`).

        Raises:
            ValueError: there is no such input, or `strict` forbids the shape.
            RuntimeError: the model cannot run with that shape. The engine is then unchanged.
        """
        place = self._place(self._inputs, input_index, "input")
        size = [int(length) for length in tensor_size]
        signature = list(self._shapes_in_file[input_index])
        fits = len(size) == len(signature) and all(said in (-1, length) for said, length in zip(signature, size))
        if strict and not fits:
            raise ValueError(
                f"strict=True keeps every dimension that the file does not leave open, and input {input_index} has "
                f"shape {signature} there (open ones are -1); received {size}: leave strict out"
            )
        dims = (ctypes.c_int32 * len(size))(*size)
        self._call(_functions().r2b_engine_resize, place, dims, len(size))
        self._describe()

    def allocate_tensors(self) -> None:
        """Does nothing: an engine is always ready."""

    def set_tensor(self, tensor_index: int, value: np.ndarray) -> None:
        """Sets an input.

        Raises:
            ValueError: there is no such input, or `value` does not have the input's shape and type.
        """
        place = self._place(self._inputs, tensor_index, "input")
        tensor, value = self._inputs[place], np.asarray(value)
        shape, dtype = tuple(tensor.dims[: tensor.rank]), np.dtype(_DTYPES[tensor.type])
        if value.dtype != dtype or value.shape != shape:
            raise ValueError(
                f"input {tensor_index} must be {dtype.name} of shape {shape}; received {value.dtype.name} of shape "
                f"{value.shape}"
            )
        np.copyto(self._value(place), value)
        self._set.add(place)

    def _value(self, place: int) -> np.ndarray:
        if place not in self._values:
            self._values[place] = _array(self._inputs[place], np.zeros)
        return self._values[place]

    def invoke(self) -> None:
        """Runs one inference. Inputs that were never set are zeros."""
        for place in self._set | self._shared_inputs:
            value = self._values[place]
            self._call(_functions().r2b_engine_set_input, place, value.ctypes.data, value.nbytes)
        self._set.clear()
        self._call(_functions().r2b_engine_run)
        for place, value in self._shared_outputs.items():
            self._read(place, value)

    def _read(self, place: int, value: np.ndarray) -> np.ndarray:
        self._call(_functions().r2b_engine_get_output, place, value.ctypes.data, value.nbytes)
        return value

    def tensor(self, tensor_index: int) -> Callable[[], np.ndarray]:
        """A function that returns the array of an input, which `invoke` reads, or of an output, which it writes.

        After `resize_tensor_input` the function returns another array. Raises `ValueError` if the tensor is neither an
        input nor an output.
        """
        self._place([*self._inputs, *self._outputs], tensor_index, "input or output")
        return functools.partial(self._array_of, tensor_index)

    def _array_of(self, number: int) -> np.ndarray:
        if number in _numbers(self._inputs):
            place = self._place(self._inputs, number, "input")
            self._shared_inputs.add(place)
            return self._value(place)
        place = self._place(self._outputs, number, "output")
        if place not in self._shared_outputs:
            self._shared_outputs[place] = self._read(place, _array(self._outputs[place], np.empty))
        return self._shared_outputs[place]

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> np.ndarray:
        """A copy of an input or output. Raises `ValueError` for any other tensor or a `subgraph_index` other than 0."""
        if subgraph_index:
            raise ValueError(f"the engine runs a model's first graph, subgraph_index 0; received {subgraph_index}")
        if tensor_index in _numbers(self._inputs):
            return self._value(self._place(self._inputs, tensor_index, "input")).copy()
        place = self._place(self._outputs, tensor_index, "output")
        return self._read(place, _array(self._outputs[place], np.empty))

    def get_tensor_details(self, subgraph_index: int = 0) -> NoReturn:
        """Always raises `RuntimeError`: the engine keeps only some inner tensors of the file, in other layouts."""
        raise RuntimeError(
            "the engine has no tensors but inputs and outputs (get_input_details, get_output_details): 'r2b-run info' "
            "lists a file's operators, engine='litert' its tensors"
        )

    def num_subgraphs(self) -> int:
        """Always 1: the engine refuses files with several graphs."""
        return 1

    def reset_all_variables(self) -> None:
        """Does nothing: no operator of the engine has variables."""

    def steps(self) -> list[tuple[float, int, str]]:
        """Seconds in all runs, number of runs, and description of every step; the numbers are 0 without `profile`."""
        library, error = _functions(), _Error()
        found = []
        for index in range(library.r2b_engine_steps(self._engine, ctypes.byref(error))):
            step = _Step()
            self._call(library.r2b_engine_step, index, ctypes.byref(step))
            found.append((step.seconds, step.runs, step.description.decode("utf-8", "replace")))
        return found

    def memory_bytes(self) -> int:
        """Bytes that the engine takes, including its packed weights, but not the file."""
        return _functions().r2b_engine_memory(self._engine, None)

    def weight_bytes(self) -> int:
        """Bytes of the packed weights, which are a part of `memory_bytes`."""
        return _functions().r2b_engine_weights(self._engine, None)

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """The names of the inputs and outputs of each signature."""
        return {
            name: {"inputs": list(signature.inputs), "outputs": list(signature.outputs)}
            for name, signature in self._signatures.items()
        }

    def get_signature_runner(self, signature_key: Optional[str] = None) -> "_Runner":
        """A function from the inputs of a signature, by name, to its outputs, by name.

        Raises:
            ValueError: the model has no such signature; or none is named, and the model does not have exactly one.
        """
        names = list(self._signatures)
        if signature_key is None and len(names) == 1:
            (signature_key,) = names
        if signature_key not in names:
            raise ValueError(
                f"signature_key must be one of the model's signatures ({', '.join(names) or 'it has none'}); received "
                f"{signature_key!r}"
            )
        return _Runner(self, self._signatures[signature_key])

    def _count(self, what: str) -> int:
        return getattr(_functions(), f"r2b_engine_{what}")(self._engine)

    def _tensor(self, index: int, describe: Callable[..., int]) -> _Tensor:
        tensor = _Tensor()
        self._call(describe, index, ctypes.byref(tensor))
        if tensor.type not in _DTYPES:
            raise RuntimeError(
                f"tensor {tensor.number} of the model has a type that the engine does not support; {_WAY_OUT}"
            )
        return tensor

    @staticmethod
    def _place(tensors: Sequence[_Tensor], number: int, what: str) -> int:
        numbers = _numbers(tensors)
        if number not in numbers:
            plural = what.replace(" or ", "s and ")
            raise ValueError(
                f"tensor {number} is not an {what} of the model; its {plural}s are {', '.join(map(str, numbers))}"
            )
        return numbers.index(number)

    def _call(self, function: Callable[..., int], *arguments: object) -> None:
        error = _Error()
        if not function(self._engine, *arguments, ctypes.byref(error)):
            raise RuntimeError(error.text.decode())

    def _detail(self, tensor: _Tensor) -> TensorDetail:
        shape = np.array(tensor.dims[: tensor.rank], np.int32)
        opened = self._shapes_in_file[tensor.number]
        scales: dict[str, Any] = {
            "scales": np.array([tensor.scale] if tensor.scale else [], np.float32),
            "zero_points": np.array([tensor.zero_point] if tensor.scale else [], np.int32),
            "quantized_dimension": 0,
        }
        return {
            "name": tensor.name.decode("utf-8", "replace"),
            "index": tensor.number,
            "shape": shape,
            "shape_signature": np.array(opened, np.int32) if -1 in opened else shape.copy(),
            "dtype": _DTYPES[tensor.type],
            "quantization": (tensor.scale, tensor.zero_point),
            "quantization_parameters": scales,
            "sparsity_parameters": {},
        }

    def __del__(self) -> None:
        engine, self._engine = getattr(self, "_engine", None), None
        if engine:
            _functions().r2b_engine_free(engine)


def _limit(name: str, value: Optional[int], most: int) -> int:
    """A limit as an int; None becomes 0, which means the default. Raises `ValueError` if it is not in 1 to `most`."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}; received {value!r}")
    return int(value)


def _numbers(tensors: Sequence[_Tensor]) -> list[int]:
    return [tensor.number for tensor in tensors]


def _array(tensor: _Tensor, make: Callable[..., np.ndarray]) -> np.ndarray:
    return make(tensor.dims[: tensor.rank], _DTYPES[tensor.type])


class _Runner:
    """A signature of an engine's model, as a function from inputs by name to outputs by name."""

    def __init__(self, engine: Engine, signature: Signature) -> None:
        self._engine, self._signature = engine, signature

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        if set(inputs) != set(self._signature.inputs):
            raise ValueError(
                f"the inputs of this signature are {', '.join(self._signature.inputs)}; received "
                f"{', '.join(inputs) or 'none'}"
            )
        details = self.get_input_details()
        for name, value in inputs.items():
            if value.shape != tuple(details[name]["shape"]):
                self._engine.resize_tensor_input(details[name]["index"], value.shape)
        for name, value in inputs.items():
            self._engine.set_tensor(details[name]["index"], value)
        self._engine.invoke()
        return {name: self._engine.get_tensor(number) for name, number in self._signature.outputs.items()}

    def get_input_details(self) -> dict[str, TensorDetail]:
        by_number = {detail["index"]: detail for detail in self._engine.get_input_details()}
        return {name: by_number[number] for name, number in self._signature.inputs.items()}

    def get_output_details(self) -> dict[str, TensorDetail]:
        by_number = {detail["index"]: detail for detail in self._engine.get_output_details()}
        return {name: by_number[number] for name, number in self._signature.outputs.items()}
