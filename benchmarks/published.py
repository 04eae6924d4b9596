"""Plots the published ImageNet accuracies of networks over the times that benchmarks/inference.py measures."""

from collections.abc import Mapping
from typing import NamedTuple

PAPER = "Martínez et al., ICLR 2020, tables 1 and 2"
LARQ_ZOO = "Larq Zoo 2.4, documentation of the pretrained weights"
HOSTED = "TensorFlow models, research/slim, page of MobileNet v1: mobilenet_v2_1.0_224, float and in 8 bits"
V3 = "Howard et al., ICCV 2019, table 3"


class Published(NamedTuple):
    """ImageNet top-1 in percent at 224×224, and its source."""

    top1: float
    source: str


TOP1 = {
    "RealToBinaryNet": Published(65.4, PAPER),
    "StrongBaselineNet": Published(60.9, PAPER),
    "BiRealNet18": Published(56.4, PAPER),
    "ResNet18 float": Published(69.3, PAPER),
    "MobileNetV2 float": Published(71.8, HOSTED),
    "MobileNetV2 int8": Published(70.8, HOSTED),
    "MobileNetV3Small float": Published(67.4, V3),
    "QuickNetSmall": Published(59.4, LARQ_ZOO),
    "QuickNet": Published(63.3, LARQ_ZOO),
    "QuickNetLarge": Published(66.9, LARQ_ZOO),
    "BinaryDenseNet28": Published(60.7, LARQ_ZOO),
    "MeliusNet22": Published(62.4, LARQ_ZOO),
    "BinaryResNetE18": Published(58.3, LARQ_ZOO),
}
"""Accuracies by the network's name in benchmarks/networks.py."""

# Label and colour of each runtime, by the suffix of a row's name; LiteRT's rows have no suffix.
SIDES = {", runtime": ("r2b-runtime, 1 bit", "C0"), ", OpenVINO": ("OpenVINO", "C2"), "": ("LiteRT", "C1")}


def plot(milliseconds: Mapping[str, float], path: str) -> None:
    """Draws published top-1 over measured milliseconds, one thread.

    Args:
        milliseconds: times by name of the row that benchmarks/inference.py prints. Rows of LCE's interpreter, of two
            threads, of the other core and of networks without published accuracy are left out.
        path: path of the picture; its suffix, for example .svg, sets the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    shown: dict[str, dict[str, float]] = {}  # milliseconds by the network's name and the suffix
    for row, value in milliseconds.items():
        name, comma, through = row.partition(",")
        if comma + through in SIDES and name in TOP1:
            shown.setdefault(name, {})[comma + through] = value
    drawn = set()
    for name, sides in shown.items():
        for side, value in sides.items():
            label, colour = SIDES[side]
            axes.plot(value, TOP1[name].top1, "o", color=colour, label=None if label in drawn else label)
            # If a network has several points, the leftmost has its name on the left, so that names do not overlap.
            left = len(sides) > 1 and value == min(sides.values())
            place = {"xytext": (-6, -3), "ha": "right"} if left else {"xytext": (6, -3)}
            axes.annotate(name, (value, TOP1[name].top1), textcoords="offset points", fontsize=8, **place)
            drawn.add(label)
    found = [value for sides in shown.values() for value in sides.values()]
    axes.set_xscale("log")
    axes.set_xlim(min(found) / 4, max(found) * 2)  # room for names on both sides
    least, most = axes.get_xlim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if least <= tick <= most]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("milliseconds per image of 224×224, one thread, measured")
    axes.set_ylabel("ImageNet top-1 in percent, published")
    axes.legend(frameon=False, loc="lower right")
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    figure.savefig(path)
