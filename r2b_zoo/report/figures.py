"""Matplotlib figures for notebooks and files; drawing them does not change matplotlib's global state.

``figure.savefig("curves.svg")`` writes a figure. A notebook displays a figure if it is the value of a cell's last line.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from r2b_zoo.report import plots, view
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.system.suggestions import did_you_mean

_PANEL = (2.9, 2.1)  # inches
_PHOTOGRAPH = 1.15  # inches


def training(folder: RunFolder, stages: Sequence[str], metric: str = "accuracy") -> Figure:
    """Draws a metric of a run over the epochs, with a panel per stage and the same axes in every panel.

    Args:
        folder: the folder of the run.
        stages: names of its finished stages.
        metric: "accuracy", "loss", "classification", "attention_matching", "output_matching" or "learning_rate".

    Raises:
        ValueError: there is no such metric, or no stage of the run has it.
        RunFolderError: a log is missing or damaged.
    """
    known = {one.column: one for one in view.METRICS}
    if metric not in known:
        raise ValueError(
            f"metric must be one of {', '.join(known)}; received {metric!r}.{did_you_mean(metric, list(known))}"
        )
    lines = view.lines_of(folder, stages, known[metric])
    drawn = [curve for of_stage in lines.values() for curve in of_stage]
    if not drawn:
        raise ValueError(f"No stage of {folder.path} has {metric}: the run was trained without it.")
    axes = plots.Axes.around(drawn, may_be_log=known[metric].may_be_log, percent=known[metric].percent)
    figure = plots.ShownFigure(figsize=(_PANEL[0] * len(lines), _PANEL[1]), layout="constrained")
    for plot, (stage, curves) in zip(np.ravel(figure.subplots(1, len(lines))), lines.items(), strict=True):
        plots.draw(plot, curves, axes, plots.ON_WHITE)
        plot.set_title(stage, fontsize=10, loc="left", color=plots.ON_WHITE.ink)
    figure.suptitle(
        f"{known[metric].title} (solid: images not trained on; dashed: training images)", fontsize=10, x=0.01, ha="left"
    )
    return figure


def attention(photographs: np.ndarray, maps: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draws attention maps: a row per photograph, and a column per network and block.

    Args:
        photographs: uint8 (n, H, W, 1 or 3).
        maps: attention maps (n, h, w) by network and block. In each row, a block has the same colour scale for all
            networks.
    """
    columns = [(network, block) for network, blocks in maps.items() for block in blocks]
    figure = plots.ShownFigure(
        figsize=(_PHOTOGRAPH * (len(columns) + 1), _PHOTOGRAPH * len(photographs) + 0.5), layout="constrained"
    )
    panels = figure.subplots(len(photographs), len(columns) + 1, squeeze=False)
    for row, photograph in enumerate(photographs):
        panels[row][0].imshow(photograph[..., 0] if photograph.shape[-1] == 1 else photograph, cmap="gray")
        for column, (network, block) in enumerate(columns, 1):
            largest = max(float(blocks[block][row].max()) for blocks in maps.values())
            panels[row][column].imshow(
                maps[network][block][row], cmap=plots.MAP_COLOURS, vmin=0, vmax=largest or 1, interpolation="nearest"
            )
            if row == 0:
                panels[row][column].set_title(f"{network}\n{block}", fontsize=8)
        for axes in panels[row]:
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def cost(name: str, kinds: Sequence[Mapping[str, object]]) -> Figure:
    """Draws how much each kind of layer contributes to a network's multiplications, work and bytes.

    Work is the number of multiplications, where 64 binary multiplications count as one.

    Args:
        name: name of the network.
        kinds: ``Cost.by_kind()``.
    """
    bars = view.cost_bars(kinds)
    figure = plots.ShownFigure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    drawn: dict[str, str] = {}
    for row, bar in enumerate(bars):
        left = 0.0
        for segment in bar.segments:
            drawn[segment.kind] = segment.colour
            axes.barh(row, segment.share, left=left, color=segment.colour, edgecolor="white", linewidth=0.8)
            left += segment.share
    axes.set_yticks(range(len(bars)), [f"{bar.title}\n{bar.total:,.0f} {bar.unit}" for bar in bars], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
    axes.tick_params(length=0)
    handles = [Patch(facecolor=colour, label=kind) for kind, colour in drawn.items()]
    figure.legend(handles=handles, loc="outside lower center", ncol=4, fontsize=8, frameon=False)
    axes.set_title(f"{name}: shares of its parts", fontsize=10, loc="left")
    return figure
