"""What a model needs on a microcontroller: flash for its file and for code, RAM for what the engine makes of it."""

from dataclasses import dataclass

from r2b_runtime.engine import Engine
from r2b_runtime.model_file import ModelFile

# The example of export/microcontroller, C and C++ library included, on a Cortex-M7 (GCC 12, -Os); its tests compare.
CODE_BYTES = 305_000


@dataclass(frozen=True)
class Memory:
    """Bytes that a model takes on a microcontroller.

    Attributes:
        file: of the flash, where the model's file stays.
        code: of the flash, for the engine on a Cortex-M7.
        weights: of the RAM, for weights in the order in which the kernels read them.
        rest: of the RAM, for values between operators, inputs, outputs, tables and the graph. Counted on this machine,
            whose pointers may be longer than a microcontroller's.
    """

    file: int
    code: int
    weights: int
    rest: int


def memory(model: ModelFile) -> Memory:
    """What a model takes with the kernels and the one thread of a microcontroller.

    Raises:
        RuntimeError: the engine does not run the model.
    """
    engine = Engine(model, kernels="portable")
    weights = engine.weight_bytes()
    return Memory(len(model.data), CODE_BYTES, weights, engine.memory_bytes() - weights)
