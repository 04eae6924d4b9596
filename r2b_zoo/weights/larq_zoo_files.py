"""The layer names in Larq Zoo's files of weights, and ours."""

import re
from collections.abc import Iterator, Sequence
from typing import Optional

# Of the Real-to-Binary network, without the prefix of the model. Its blocks count from 2, because its stem is block 1.
_NAMED_LAYER = re.compile(r"(?:.*_)?block_(?P<block>\d+)(?P<half>[ab]?)_(?P<layer>\w+)$")
_STEM = {"conv2d": "stem_conv", "batch_norm": "stem_batch_norm", "prelu": "stem_activation"}
_HALF_BLOCK = {
    "batch_norm": "batch_norm",
    "conv2d": "conv",
    "prelu": "prelu",
    "shortcut_conv2d": "shortcut_conv",
    "shortcut_batch_norm": "shortcut_batch_norm",
    # Two dense layers there, in this order; one gate with both kernels here.
    "scaling_dense_reduce": "gate",
    "scaling_dense_expand": "gate",
}

_BLOCKS = 8
_BLOCKS_WITH_SHORTCUT_CONVOLUTION = (3, 5, 7)
# Of Bi-Real Net, whose layers have the names that Keras numbers: type in the file, and what it is here.
_CONVOLUTION, _QUANTISED, _BATCH_NORM, _DENSE = "conv2d", "quant_conv2d", "batch_normalization", "dense"
_NUMBERED_LAYER = re.compile(rf"(?P<type>{_CONVOLUTION}|{_QUANTISED}|{_BATCH_NORM}|{_DENSE})(?:_\d+)?$")


def our_names(names: Sequence[str]) -> tuple[Optional[str], dict[str, str]]:
    """What layers with weights are called here.

    Args:
        names: in the file, in its order.

    Returns:
        The network, where the file is one of Larq Zoo's, and our name by theirs of each layer that has another one.
    """
    numbered = dict(_bi_real_net(with_top=_DENSE in map(_type, names)))
    if [_type(name) for name in names] == list(numbered.values()):
        return "BiRealNet18", dict(zip(names, numbered, strict=True))
    renamed = {name: ours for name in names if (ours := _real_to_binary_net(name)) is not None}
    return ("RealToBinaryNet" if renamed else None), renamed


def _type(name: str) -> Optional[str]:
    match = _NUMBERED_LAYER.match(name)
    return match and match["type"]


def _bi_real_net(with_top: bool) -> Iterator[tuple[str, str]]:
    """Our names and Keras' types, in the order of the file: by distance from the output, as Keras sorts layers."""
    yield from (("stem_conv", _CONVOLUTION), ("stem_batch_norm", _BATCH_NORM))
    for block in range(1, _BLOCKS + 1):
        for half in (f"block{block}a", f"block{block}b"):
            changes_shape = block in _BLOCKS_WITH_SHORTCUT_CONVOLUTION and half.endswith("a")
            yield f"{half}_conv", _QUANTISED
            if changes_shape:
                yield f"{half}_shortcut_conv", _CONVOLUTION
            yield f"{half}_batch_norm", _BATCH_NORM
            if changes_shape:
                yield f"{half}_shortcut_batch_norm", _BATCH_NORM
    if with_top:
        yield "logits", _DENSE


def _real_to_binary_net(name: str) -> Optional[str]:
    match = _NAMED_LAYER.match(name)
    if match is None:
        return None
    block, half, layer = int(match["block"]), match["half"], match["layer"]
    if block == 1:
        return _STEM.get(layer)
    if layer == "logits":
        return "logits"
    ours = _HALF_BLOCK.get(layer)
    return None if ours is None else f"block{block - 1}{half}_{ours}"
