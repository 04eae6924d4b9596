"""The costs that Martínez et al. publish (ICLR 2020, section 4.4), for comparison with ``costs.py``."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from r2b_zoo.evaluation.costs import Cost

_CONVOLVED = 4 * 56**2 * 64 + 4 * 28**2 * 128 + 4 * 14**2 * 256 + 4 * 7**2 * 512
"""Number of output values of the sixteen 3×3 convolutions of the blocks, for one image of 224×224 at width 64."""
_SHORTCUTS = 28**2 * 128 + 14**2 * 256 + 7**2 * 512
"""Number of output values of the three convolutions of the shortcuts, which have half as many input values."""
_STEM = 112**2 * 64
"""Number of output values of the first convolution."""

_NO_ACTIVATION = ("no activation after the first convolution", -_STEM)
_PRELU = ("a PReLU after each 3×3 convolution", _CONVOLVED)
# A batch norm has 4 float operations per value. Before a convolution of stride 2 it has twice as many values as after
# it: 4 times the pixels, with half the channels.
_BATCH_NORMS_LATER = ("batch norms after the convolutions instead of before them", -4 * _SHORTCUTS)


@dataclass(frozen=True)
class PublishedCost:
    """A row of table 1: operations for one image of 224×224 in the ResNet-18 topology.

    Attributes:
        row: the row's name in the table.
        binary_operations: as printed in the table.
        float_operations: as printed in the table.
        differences: the differences between the row's network and the zoo's, inferred from the printed numbers. Each is
            a description and a number of float operations. The zoo's count plus these numbers is within 0.2 % of the
            row.
    """

    row: str
    binary_operations: float
    float_operations: float
    differences: tuple[tuple[str, int], ...] = ()


# The key is the name of the network and its kind of downsampling.
TABLE_1: dict[tuple[str, str], PublishedCost] = {
    ("BNN18", "binary"): PublishedCost("BNN", 1.695e9, 1.314e8),
    ("XNORNet18", "binary"): PublishedCost(
        "XNOR-Net",
        1.695e9,
        1.333e8,
        (
            _NO_ACTIVATION,
            _BATCH_NORMS_LATER,
            ("one batch norm in a binary shortcut instead of two", -4 * _SHORTCUTS // 2),
        ),
    ),
    ("BiRealNet18", "binary"): PublishedCost(
        "double skip", 1.695e9, 1.351e8, (_PRELU, ("no scale of the shortcuts' filters", -_SHORTCUTS))
    ),
    ("BiRealNet18", "real"): PublishedCost("Bi-Real", 1.676e9, 1.544e8, (_PRELU,)),
    ("RealToBinaryNet", "real"): PublishedCost(
        "Real-to-Binary", 1.676e9, 1.564e8, (_NO_ACTIVATION, _BATCH_NORMS_LATER)
    ),
    ("ResNet18", "real"): PublishedCost("real", 0.0, 1.826e9),
}
_IMAGE = (224, 224, 3)
_STEM_OUTPUT = (56, 56, 64)
_CLASSES = (1000,)


def published(cost: Cost) -> Optional[PublishedCost]:
    """The row of table 1 for a network; None if there is no such row, or the network is not of the table's size."""
    stem = cost.of("stem").layers
    is_of_the_papers_size = (
        cost.input_shapes == (_IMAGE,)
        and cost.layers[-1].output_shape == _CLASSES
        and bool(stem)
        and stem[-1].output_shape == _STEM_OUTPUT
    )
    row = TABLE_1.get((cost.name, cost.downsample)) if is_of_the_papers_size else None
    # A network with real weights has the same name as the binary one, but no binary operations.
    return row if row and bool(row.binary_operations) == bool(cost.binary_macs) else None


@dataclass(frozen=True)
class GateOverhead:
    """The additional cost of gates over the learned scales that they replace.

    At 224×224 and width 64 the gates' dense layers have 294,400 MACs: 0.18 % of the baseline's 164 M FLOPs. With the
    gates' other operations (1,680,896 additions to pool their inputs, 424 ReLUs and 3,840 sigmoids) the overhead is
    1.2 %, the paper's "about 1 % more". The gates' 1,505,280 multiplications of activations by factors are not part of
    it, because the scales have as many.

    Attributes:
        macs: MACs of the gates' dense layers.
        elementwise: number of elementwise operations of the gates minus that of the scales.
        baseline_flops: FLOPs of the whole baseline.
    """

    macs: int
    elementwise: int
    baseline_flops: float

    @property
    def share_of_macs(self) -> float:
        """The MACs alone, as a share of the baseline's FLOPs."""
        return self.macs / self.baseline_flops

    @property
    def share(self) -> float:
        """MACs and elementwise operations, as a share of the baseline's FLOPs."""
        return (self.macs + self.elementwise) / self.baseline_flops

    def to_dict(self) -> dict[str, float]:
        return {**asdict(self), "share_of_macs": self.share_of_macs, "share": self.share}


def gate_overhead(gated: Cost, baseline: Cost) -> GateOverhead:
    """The additional cost of RealToBinaryNet's gates over StrongBaselineNet's scales.

    Raises:
        ValueError: the networks differ in other respects too, for example in their input size.
    """
    rest = [[layer for layer in cost.layers if layer.kind not in ("gate", "scale")] for cost in (gated, baseline)]
    if rest[0] != rest[1]:
        raise ValueError(
            f"gate_overhead compares two networks that differ only in gates and scales; {gated.name} for "
            f"{gated.input_shapes} and {baseline.name} for {baseline.input_shapes} differ elsewhere too. "
            "Build RealToBinaryNet and StrongBaselineNet with the same arguments."
        )
    gate, own_scale, scale = gated.of("gate"), gated.of("scale"), baseline.of("scale")
    elementwise = gate.elementwise + own_scale.elementwise - scale.elementwise
    return GateOverhead(gate.float_macs, elementwise, baseline.flops)


def overhead_among(costs: Sequence[Cost]) -> Optional[GateOverhead]:
    """``gate_overhead`` of RealToBinaryNet and StrongBaselineNet with real downsampling; None if one is missing."""
    by_name = {cost.name: cost for cost in costs if cost.downsample == "real"}
    if not {"RealToBinaryNet", "StrongBaselineNet"} <= set(by_name):
        return None
    return gate_overhead(by_name["RealToBinaryNet"], by_name["StrongBaselineNet"])


def as_dict(costs: Sequence[Cost]) -> dict[str, Any]:
    """Plain data of several networks: the cost of each, its row of table 1, and the additional cost of gates.

    The row is None for a network that table 1 does not have. The additional cost is None as in ``overhead_among``.
    """
    rows, overhead = [published(cost) for cost in costs], overhead_among(costs)
    return {
        "networks": [
            {**cost.as_dict(), "table_1": None if row is None else asdict(row)}
            for cost, row in zip(costs, rows, strict=True)
        ],
        "gate_overhead": None if overhead is None else overhead.to_dict(),
    }
