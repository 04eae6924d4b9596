"""Names of Keras' policies of mixed precision, and where half precision is slow."""

from pathlib import Path
from typing import Optional

import tensorflow as tf

from r2b_zoo.system import machine

# CPU flags, as Linux spells them for x86 and ARM. With one of the first set, bfloat16 is faster than float32; with only
# the second, it was measured to be slower (see results/training.md).
_FAST_BFLOAT16 = {"amx_bf16", "bf16"}
_SLOW_BFLOAT16 = {"avx512_bf16"}


def policy_name(mixed_precision: str) -> str:
    """Keras' name of the policy: "bfloat16" → "mixed_bfloat16"; "float32" keeps its name."""
    return mixed_precision if mixed_precision == "float32" else f"mixed_{mixed_precision}"


def why_half_precision_is_slow(mixed_precision: str, cpuinfo: Path = machine.CPUINFO) -> Optional[str]:
    """Why this machine is slow in that type, as a message; None if it is not, or its instruction sets are unknown."""
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
