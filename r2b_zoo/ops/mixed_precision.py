"""Gives Keras' names of the mixed-precision policies, and says where half precision is slow."""

from pathlib import Path
from typing import Optional

import tensorflow as tf

from r2b_zoo.system import machine

# CPU flags, as Linux spells them for x86 and ARM. On a CPU with a flag of the first set, bfloat16 is assumed to be
# faster than float32; this was measured only with amx_bf16. On a CPU with only a flag of the second set, bfloat16 was
# measured to be slower (results/training.md).
_FAST_BFLOAT16 = {"amx_bf16", "bf16"}
_SLOW_BFLOAT16 = {"avx512_bf16"}


def policy_name(mixed_precision: str) -> str:
    """Keras' name of the policy: "bfloat16" → "mixed_bfloat16"; "float32" keeps its name."""
    return mixed_precision if mixed_precision == "float32" else f"mixed_{mixed_precision}"


def why_half_precision_is_slow(mixed_precision: str, cpuinfo: Path = machine.CPUINFO) -> Optional[str]:
    """A message that says why training in the given type is slow on this machine; None if nothing suggests that it is.

    Without a GPU, float16 is always slow. Whether bfloat16 is slow depends on the CPU's instruction sets; if they are
    unknown, there is no message.

    Args:
        mixed_precision: "float32", "bfloat16" or "float16".
        cpuinfo: path of the file in which Linux describes the CPU.
    """
    if mixed_precision == "float32" or tf.config.list_physical_devices("GPU"):
        return None
    if mixed_precision == "float16":
        return (
            "float16 is for GPUs: TensorFlow's gradient of a convolution's kernel has no fast float16 form on CPUs and "
            "takes about a hundred times as long. mixed_precision=bfloat16 or float32 is faster here."
        )
    instructions = machine.instructions(cpuinfo)
    if not instructions or instructions & _FAST_BFLOAT16:
        return None
    if instructions & _SLOW_BFLOAT16:
        return (
            "This CPU has bfloat16 instructions without a matrix unit (avx512_bf16, not amx_bf16): in measurements, a "
            "step took longer than in float32, so mixed_precision=float32 is likely to be faster here."
        )
    return (
        "This CPU has no bfloat16 instructions (amx_bf16, avx512_bf16): mixed_precision=float32 may be faster here, "
        "with the same result."
    )
