"""Draws a confusion matrix as a picture, for papers and slides."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from r2b_zoo.report.plots import ShownFigure
from r2b_zoo.system import files

if TYPE_CHECKING:
    from r2b_zoo.evaluation.accuracy import Evaluation

FORMATS = (".png", ".svg", ".pdf")
COLOURS = "Blues"
# As the number of classes grows, first the numbers in the cells, then the class names, and finally the cells themselves
# become too small to see. Beyond MOST_CLASSES_WITH_NAMES, consecutive classes share a cell, with at most GROUPS_OF_MANY
# cells in a row.
MOST_CLASSES_WITH_NUMBERS = 30
MOST_CLASSES_WITH_NAMES = 120
GROUPS_OF_MANY = 100
LONGEST_NAME = 24

_CELL, _SMALL_CELL = 0.42, 0.13  # inches
_SMALLEST, _WITHOUT_NAMES = 4.6, 7.0  # inches
_DPI = 150
_LOG_TICKS = (0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_FAINTEST = 0.18  # position in the colour map, 0–1, of the smallest share, so that it differs visibly from zero
_WHITE_TEXT = 0.55  # text is white in cells with a larger share


def check_format(path: Path) -> None:
    """Raises ValueError if the name of the picture does not end in one of ``FORMATS``."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"A plot is a file that ends in {', '.join(FORMATS)}; received {path.name!r}.")


def write_confusion_plot(path: Path, result: "Evaluation", class_names: Sequence[str], title: str) -> None:
    """Draws a confusion matrix with a row per true class and a column per predicted class.

    The colour of a cell is its share of the true class's images, so that large classes do not dominate small ones. With
    more than MOST_CLASSES_WITH_NUMBERS classes the colour scale is logarithmic, because mistakes are then spread over
    many cells, each with a small share.

    Args:
        path: path of the picture.
        result: the evaluation to draw.
        class_names: names of the classes, in the order of the labels.
        title: name of the classifier.

    Raises:
        ValueError: the format is not supported.
        OSError: the file cannot be written.
    """
    check_format(path)
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    # Keep text as text in an SVG, do not parse names as formulas, and give the same file for the same result.
    style = {"svg.fonttype": "none", "svg.hashsalt": "confusion", "text.parse_math": False}
    with matplotlib.rc_context(style), files.replacing(path) as partial:
        figure = confusion_figure(result, class_names, title)
        figure.savefig(partial, dpi=_DPI, bbox_inches="tight", metadata=metadata)


def confusion_figure(result: "Evaluation", class_names: Sequence[str], title: str) -> Figure:
    """The plot that ``write_confusion_plot`` writes, as a figure."""
    class_names = [_shortened(name) for name in class_names]
    classes = len(class_names)
    numbers, names = classes <= MOST_CLASSES_WITH_NUMBERS, classes <= MOST_CLASSES_WITH_NAMES
    per_cell = 1 if names else -(-classes // GROUPS_OF_MANY)
    shares = _shares(result.confusion, per_cell)
    side = max((_CELL if numbers else _SMALL_CELL) * classes, _SMALLEST) if names else _WITHOUT_NAMES
    font = 9 if numbers else 7

    figure = ShownFigure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    picture = _with_numbers(axes, result.confusion, shares, font) if numbers else _with_faintest_visible(axes, shares)
    if per_cell > 1:
        picture.set_extent((0.5, len(shares) * per_cell + 0.5, len(shares) * per_cell + 0.5, 0.5))
    if names:
        axes.set_xticks(range(classes), class_names, rotation=90 if classes > 5 else 0, fontsize=font)
        axes.set_yticks(range(classes), class_names, fontsize=font)
        axes.tick_params(length=0)
    which = "" if names else f", by number, {per_cell} to a cell" if per_cell > 1 else ", by number"
    axes.set_xlabel(f"predicted class{which}")
    axes.set_ylabel(f"true class{which}")
    for spine in axes.spines.values():
        spine.set_color("0.7")
    axes.set_title(
        f"{title}\ntop-1 {100 * result.top1:.1f} %, top-5 {100 * result.top5:.1f} % of {result.images:,} images",
        fontsize=10,
        loc="left",
    )
    bar = figure.colorbar(
        picture,
        ax=axes,
        fraction=0.046,
        pad=0.03,
        ticks=None if numbers else _LOG_TICKS,
        format=lambda share, _: f"{100 * share:g} %",
    )
    bar.minorticks_off()
    bar.set_label(f"share of the true class{'es' if per_cell > 1 else ''}", fontsize=font)
    bar.ax.tick_params(labelsize=font)
    bar.outline.set_edgecolor("0.7")
    return figure


def _with_numbers(axes: Axes, confusion: np.ndarray, shares: np.ndarray, font: int) -> AxesImage:
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if shares[row, column] > _WHITE_TEXT else "black"
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=font)
    return axes.imshow(shares, cmap=COLOURS, norm=Normalize(0, 1))


def _with_faintest_visible(axes: Axes, shares: np.ndarray) -> AxesImage:
    visible = ListedColormap(matplotlib.colormaps[COLOURS](np.linspace(_FAINTEST, 1, 256)))
    smallest = float(shares[shares > 0].min(initial=0.1))
    return axes.imshow(np.where(shares > 0, shares, np.nan), cmap=visible, norm=LogNorm(smallest, 1))


def _shares(confusion: np.ndarray, per_cell: int) -> np.ndarray:
    """Shares of each row's images, where every ``per_cell`` consecutive classes are merged into one row and column."""
    starts = range(0, len(confusion), per_cell)
    grouped = np.add.reduceat(np.add.reduceat(confusion, starts, axis=0), starts, axis=1)
    totals = grouped.sum(axis=1, keepdims=True)
    return np.divide(grouped, totals, out=np.zeros(grouped.shape), where=totals > 0)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
