"""Maps the layer names in Larq Zoo's weights files to ours."""

import re
from collections.abc import Iterator, Sequence
from typing import Optional

# Matches names of the Real-to-Binary network's layers, with or without a prefix. Larq Zoo counts the stem as block 1.
_NAMED_LAYER = re.compile(r"(?:.*_)?block_(?P<block>\d+)(?P<half>[ab]?)_(?P<layer>\w+)$")
_STEM = {"conv2d": "stem_conv", "batch_norm": "stem_batch_norm", "prelu": "stem_activation"}
_HALF_BLOCK = {
    "batch_norm": "batch_norm",
    "conv2d": "conv",
    "prelu": "prelu",
    "shortcut_conv2d": "shortcut_conv",
    "shortcut_batch_norm": "shortcut_batch_norm",
    # Larq Zoo has two dense layers, in this order, where we have one gate with both kernels.
    "scaling_dense_reduce": "gate",
    "scaling_dense_expand": "gate",
}

_BLOCKS = 8
_BLOCKS_WITH_SHORTCUT_CONVOLUTION = (3, 5, 7)
# Bi-Real Net's layers have Keras' default names: a type and, from the second layer of that type on, a number.
_CONVOLUTION, _QUANTISED, _BATCH_NORM, _DENSE = "conv2d", "quant_conv2d", "batch_normalization", "dense"
_NUMBERED_LAYER = re.compile(rf"(?P<type>{_CONVOLUTION}|{_QUANTISED}|{_BATCH_NORM}|{_DENSE})(?:_\d+)?$")


def our_names(names: Sequence[str]) -> tuple[Optional[str], dict[str, str]]:
    """Recognises the network of a Larq Zoo file, and gives our names of its layers.

    Args:
        names: the names of the layers with weights, in the file's order.

    Returns:
        The name of the network, or None if the file is not one of Larq Zoo's; and a mapping from the file's names to
        ours, without the names that stay the same.
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
    """Our names and Keras' types of the layers with weights, in the file's order: farthest from the output first."""
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
