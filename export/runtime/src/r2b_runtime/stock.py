"""Types for the parts of the stock TensorFlow Lite interpreters that r2b-runtime uses; their packages define none."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional, Protocol, TypedDict, Union

import numpy as np


class TensorDetail(TypedDict):
    """An input or output, as `get_input_details()` and `get_output_details()` describe it."""

    name: str
    index: int
    shape: np.ndarray
    shape_signature: np.ndarray
    dtype: type[np.generic]
    quantization: tuple[float, int]  # scale and zero point; the scale is 0 if the tensor is not quantised
    quantization_parameters: dict[str, Union[np.ndarray, int]]
    sparsity_parameters: dict[str, Any]  # not documented by the interpreters


class Delegate(Protocol):
    """A loaded delegate."""

    def _get_native_delegate_pointer(self) -> int: ...


class SignatureRunner(Protocol):
    """A signature of a model: a function that takes inputs by name and returns outputs by name."""

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]: ...

    def get_input_details(self) -> dict[str, TensorDetail]: ...

    def get_output_details(self) -> dict[str, TensorDetail]: ...


class StockInterpreter(Protocol):
    """An interpreter with a loaded model."""

    def __init__(
        self,
        *,
        model_content: bytes,
        num_threads: Optional[int] = None,
        experimental_delegates: Optional[Sequence[Delegate]] = None,
        **experimental: Any,
    ) -> None: ...

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[TensorDetail]: ...

    def get_output_details(self) -> list[TensorDetail]: ...

    def resize_tensor_input(self, input_index: int, tensor_size: Sequence[int], strict: bool = False) -> None: ...

    def set_tensor(self, tensor_index: int, value: np.ndarray) -> None: ...

    def invoke(self) -> None: ...

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> np.ndarray: ...

    def get_signature_runner(self, signature_key: Optional[str] = None) -> SignatureRunner: ...


class Stock(Protocol):
    """A module, or a wrapper of `tensorflow.lite`, that has an interpreter class and a function to load a delegate."""

    @property
    def Interpreter(self) -> type[StockInterpreter]: ...  # noqa: N802  (the stock interpreters' name)

    @property
    def load_delegate(self) -> Callable[[str, Mapping[str, str]], Delegate]: ...


class StockModule(Stock, Protocol):
    """The module `interpreter` of ai-edge-litert or tflite-runtime."""

    @property
    def __name__(self) -> str: ...
