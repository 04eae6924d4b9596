"""Counts the flash and the RAM that a model needs on a microcontroller."""

from dataclasses import dataclass

from r2b_runtime.engine import Engine
from r2b_runtime.model_file import ModelFile

# The code size of the example in export/microcontroller, including the C and C++ libraries, on a Cortex-M7 (GCC 12,
# -Os). A test there checks that it is within 10% of the real size.
CODE_BYTES = 305_000


@dataclass(frozen=True)
class Memory:
    """Bytes that a model takes on a microcontroller.

    Attributes:
        file: flash for the model's file, which stays there.
        code: flash for the engine's code on a Cortex-M7, approximately.
        weights: RAM for copies of the weights, in the order in which the kernels read them.
        rest: RAM for everything else: values between operators, inputs, outputs, tables and the graph. It is counted on
            this machine; a microcontroller with shorter pointers needs less.
    """

    file: int
    code: int
    weights: int
    rest: int


def memory(model: ModelFile) -> Memory:
    """Counts the memory of a model with the portable kernels and one thread, as on a microcontroller.

    Raises:
        RuntimeError: the engine does not run the model.
    """
    engine = Engine(model, kernels="portable")
    weights = engine.weight_bytes()
    return Memory(len(model.data), CODE_BYTES, weights, engine.memory_bytes() - weights)
