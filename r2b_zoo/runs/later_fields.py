"""Completes the configurations that earlier versions recorded, with the values that those versions used implicitly."""

from collections.abc import Mapping
from typing import Any

# Before these fields existed, runs behaved as if they had these values.
BEFORE = {
    "weight_scale": "none",
    "downsample": "real",
    "batch_norm_momentum": 0.99,
    "prelu_slope": 0.0,
    "gate_reduction": 8,
    "mixup": 0.0,
    "validation": 0.0,
}
BEFORE_OF_STAGE = {
    "skip": False,
    "from_run": None,
    "l2_penalty": 0.0,
    "batch_norm_statistics": "running",
}


def with_later_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded fields of a run, and those that did not exist yet, with the values that were used implicitly."""
    stages = dict.fromkeys(key.partition(".")[0] for key in fields if "." in key)
    before: dict[str, Any] = dict(BEFORE)
    for stage in stages:
        before |= {f"{stage}.{field}": value for field, value in BEFORE_OF_STAGE.items()}
    if "binary_activations.skip" not in fields and fields.get("progressive") is False:
        # Before ``skip`` existed, progressive=false left this stage out: the teacher taught the binary network.
        before["binary_activations.skip"] = True
    return {**before, **fields}
