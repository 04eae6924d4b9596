"""Draws the plots of the ablation's page."""

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from benchmarks.ablation.contrasts import CONFIDENCE, interval
from benchmarks.ablation.protocol import ARMS, LADDER, STAGES, run_name
from benchmarks.ablation.rows import Row
from r2b_zoo.system import files

LAST = STAGES[-1]
WIDTH = 7.5  # inches
_INK, _FAINT, _ACCENT, _SECOND = "#1b1f24", "#9aa4af", "#0b6bcb", "#c2410c"
_PHOTOGRAPHS = 6
_MAPPED = (("teacher", "teacher"), ("baseline", LAST), ("real-to-binary", LAST))
"""The networks whose attention maps are shown, each by the name of its arm or shared run, and its stage."""


_NETWORKS = {
    ("bnn", "binary"): "BNN18",
    ("xnor", "binary"): "XNORNet18",
    ("bireal", "binary"): "BiRealNet18",
    ("baseline", "binary"): "StrongBaselineNet",
    ("real-to-binary", "binary"): "RealToBinaryNet",
    ("teacher", "real"): "ResNet18",
}
_LADDER = ("baseline", "real-to-binary")


def _save(figure: Figure, path: Path) -> Path:
    # The date is left out and the salt of identifiers is constant, so that the same rows give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "r2b", "svg.fonttype": "path"}), files.replacing(path) as partial:
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(partial, format=path.suffix[1:], metadata=metadata, bbox_inches="tight", facecolor="white")
    return path


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(axis="x" if axes.get_yaxis().get_inverted() else "y", color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)


def ladder(path: Path, accuracies: Mapping[str, Mapping[int, float]]) -> Path:
    """Plots test top-1 of each arm: every seed, the mean, and the mean's interval.

    Args:
        path: path of the plot.
        accuracies: test top-1 in percent, by arm and seed.
    """
    arms = [arm for arm in ARMS.values() if arm.name in accuracies]
    figure = Figure(figsize=(WIDTH, 0.42 * len(arms) + 0.9))
    axes = figure.subplots()
    for y, arm in enumerate(arms):
        values = list(accuracies[arm.name].values())
        colour = _ACCENT if arm.group == LADDER else _INK
        mean, bounds = statistics.mean(values), interval(values)
        if bounds is not None:
            axes.plot(bounds, (y, y), color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
        axes.plot(values, [y] * len(values), "o", markersize=5, color="white", markeredgecolor=colour, zorder=3)
        axes.plot([mean], [y], "D", markersize=6, color=colour, zorder=4)
        axes.annotate(f"{mean:.1f}", (mean, y), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(arms)), [arm.title for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.7)
    axes.set_xlabel(
        f"test top-1 of the binary network, %  (◆ mean, line {CONFIDENCE:.0%} interval, ○ one seed)", fontsize=9
    )
    _plain(axes)
    return _save(figure, path)


def curves(path: Path, rows: Sequence[Row]) -> Path:
    """Plots validation top-1 after every epoch of the two stages that all arms have, averaged over the seeds."""
    figure = Figure(figsize=(WIDTH, 3.2))
    panels = figure.subplots(1, 2, sharey=True)
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for axes, stage in zip(panels, STAGES[-2:], strict=True):
        for index, arm in enumerate(ARMS.values()):
            found = [row.curve for row in rows if row.arm == arm.name and row.stage == stage]
            if not found:
                continue
            length = min(map(len, found))
            mean = 100 * np.mean([curve[:length] for curve in found], axis=0)
            dashes = "-" if arm.group == LADDER else "--"
            axes.plot(
                range(1, length + 1),
                mean,
                dashes,
                marker="o",
                markersize=3,
                linewidth=1.5,
                color=colours[index],
                label=arm.title,
            )
        axes.set_title(stage.replace("_", " "), fontsize=10, loc="left")
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        _plain(axes)
    panels[0].set_ylabel("validation top-1, %", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, fontsize=8, frameon=False)
    return _save(figure, path)


def cost(
    path: Path,
    binary: Mapping[str, Mapping[int, float]],
    real: Mapping[str, Mapping[int, float]],
    fields: Mapping[str, object],
) -> Path:
    """Plots accuracy against the cost of one image: float MACs + binary MACs / 64, as Bi-Real Net counts FLOPs.

    Args:
        path: path of the plot.
        binary: test top-1 of the binary networks, in percent, by arm and seed.
        real: the same for the real-valued teacher.
        fields: the protocol's fields, which give the networks' width and stem.
    """
    from r2b_zoo import models
    from r2b_zoo.evaluation import costs

    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.subplots()
    for (name, precision), network in _NETWORKS.items():
        accuracies = (real if precision == "real" else binary).get(name)
        if not accuracies:
            continue
        model = models.create(
            network,
            input_shape=(32, 32, 3),
            num_classes=10,
            precision=precision,
            width=int(str(fields["width"])),
            stem=str(fields["stem"]),
        )
        operations = costs.cost(model).flops / 1e6
        mean = statistics.mean(accuracies.values())
        title = ARMS[name].title if name in ARMS else "real ResNet-18"
        axes.plot([operations], [mean], "D", markersize=7, color=_ACCENT if name in _LADDER else _INK)
        axes.annotate(title, (operations, mean), (8, -3), textcoords="offset points", fontsize=9, color=_INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(1, 100)
    axes.set_xlabel("million FLOPs per image: float MACs + binary MACs / 64", fontsize=9)
    axes.set_ylabel("test top-1, %", fontsize=9)
    axes.margins(y=0.15)
    _plain(axes)
    return _save(figure, path)


def attention(path: Path, runs: Path, rows: Sequence[Row]) -> Optional[Path]:
    """Plots the attention maps of one seed's networks (``_MAPPED``) on the same photographs.

    Args:
        path: path of the plot.
        runs: folder of the runs.
        rows: the rows, from which the seeds are taken.

    Returns:
        The path; None if there is no seed for which all these networks are trained.
    """
    from r2b_zoo.models import BLOCK_NAMES
    from r2b_zoo.runs.folder import RunFolder
    from r2b_zoo.runs.networks import Networks

    seeds = sorted({row.seed for row in rows if row.arm == "real-to-binary" and row.stage == LAST})
    of_seeds = [[(RunFolder(runs / run_name(arm, seed)), stage) for arm, stage in _MAPPED] for seed in seeds]
    there = [folders for folders in of_seeds if all(folder.is_finished(stage) for folder, stage in folders)]
    if not there:
        return None
    folders = there[0]
    figure = Figure(figsize=(WIDTH, WIDTH * (len(_MAPPED) + 1) / _PHOTOGRAPHS))
    panels = figure.subplots(len(_MAPPED) + 1, _PHOTOGRAPHS)
    titles = ["photograph", *(ARMS[arm].title if arm in ARMS else arm for arm, _ in _MAPPED)]
    for row, (folder, stage) in enumerate(folders):
        networks = Networks(folder.plan(), folder)
        photographs, inputs, _ = networks.dataset.test_sample(_PHOTOGRAPHS, one_per_class=True)
        for column in range(_PHOTOGRAPHS):
            panels[0][column].imshow(photographs[column])
        for column, values in enumerate(_maps(networks[stage], inputs, BLOCK_NAMES[-1])):
            panels[row + 1][column].imshow(values, cmap="magma", interpolation="nearest")
    _label_rows(panels, titles)
    return _save(figure, path)


def _label_rows(panels: np.ndarray, titles: Sequence[str]) -> None:
    for title, row_of_panels in zip(titles, panels, strict=True):
        row_of_panels[0].set_ylabel(textwrap.fill(title, 12), fontsize=8)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])


def _maps(model: Any, inputs: np.ndarray, block: str) -> np.ndarray:
    """Attention maps (n, h, w) at the end of a block."""
    import tensorflow as tf

    from r2b_zoo.models import intermediates
    from r2b_zoo.training.distillation import attention_map

    values = tf.keras.Model(model.inputs, intermediates(model)[block])(inputs, training=False)
    return tf.reshape(attention_map(values), values.shape[:3]).numpy()
