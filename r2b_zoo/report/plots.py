"""Pictures of the report: curves as inline SVG, maps and photographs as PNG data URLs.

Figures use matplotlib's object interface, not pyplot. An SVG takes its colours and its font from the page (``COLOURS``
maps each colour to a CSS variable), so that one picture suits the light, the dark and the printed page.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator
from PIL import Image


class ShownFigure(Figure):
    """A figure that a notebook displays if it is the value of a cell's last line.

    IPython displays matplotlib's own figures only once pyplot has been imported; before that it prints their size.
    """

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


@dataclass(frozen=True)
class Palette:
    """Colours of a plot: ``ink`` for text, ``faint`` for the grid, ``train`` and ``test`` for the curves."""

    ink: str
    faint: str
    train: str
    test: str

    def style(self, curve: str) -> dict[str, Any]:
        """Line style of the curve "train", "test" or "value".

        The styles also differ in line and marker, for readers who cannot distinguish the colours.
        """
        if curve == "train":
            return {
                "color": self.train,
                "linewidth": 1.3,
                "linestyle": (0, (3, 1.5)),
                "marker": "s",
                "markersize": 6,
                "markerfacecolor": "none",
            }
        if curve == "test":
            return {"color": self.test, "linewidth": 1.8, "marker": "o", "markersize": 4}
        return {"color": self.ink, "linewidth": 1.3, "marker": "o", "markersize": 4}


OF_PAGE = Palette("#000001", "#000002", "#000003", "#000004")
"""Placeholder colours for a page. They only have to differ, since each is replaced by a colour of the style sheet."""
COLOURS = {
    OF_PAGE.ink: "var(--ink)",
    OF_PAGE.faint: "var(--faint)",
    OF_PAGE.train: "var(--train)",
    OF_PAGE.test: "var(--test)",
}
ON_WHITE = Palette("#1b1f24", "#c9d1d9", "#6b7280", "#0b6bcb")

# Size of a panel in CSS pixels; at this size its text is 10 pixels high.
PANEL_SIZE = (270, 140)
_PLOT = {"left": 0.145, "right": 0.84, "bottom": 0.17, "top": 0.95}
_FONT_SIZE = 10
# The scale is logarithmic if the largest value is more than this many times the smallest.
_LOG_RANGE = 30

MAP_COLOURS = "magma"
LARGEST_THUMBNAIL = 128


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        name: "train", "test" or "value", see ``Palette.style``.
        values: one value per epoch, NaN where there is none.
        first: number of the epoch of the first value; 0 stands for the time before the first step.
    """

    name: str
    values: tuple[float, ...]
    first: int = 1

    @property
    def last(self) -> int:
        return self.first + len(self.values) - 1


@dataclass(frozen=True)
class Axes:
    """The axes shared by panels that are compared.

    Attributes:
        epochs: the last epoch of any curve.
        first: the first epoch of any curve; 0 if a curve starts before the first step.
        low: smallest value that the vertical axis must show.
        high: largest value that the vertical axis must show.
        log: whether the vertical scale is logarithmic.
        percent: whether the values are shares, 0–1. The ticks are then labelled in percent.
    """

    epochs: int
    low: float
    high: float
    log: bool = False
    percent: bool = False
    first: int = 1

    @classmethod
    def around(cls, curves: Sequence[Curve], *, may_be_log: bool, percent: bool) -> "Axes":
        """Axes that show these curves completely; with ``percent``, they may cut off the first third of a curve.

        Args:
            curves: the curves.
            may_be_log: whether the vertical scale may be logarithmic. It is if all values are positive, and the largest
                is more than ``_LOG_RANGE`` times the smallest.
            percent: whether the values are shares, 0–1. ``_first_percent`` then gives the start of the vertical axis.
        """
        epochs, first = max(curve.last for curve in curves), min(curve.first for curve in curves)
        values = np.array([value for curve in curves for value in curve.values], np.float64)
        values = values[np.isfinite(values)]
        if percent or not len(values):
            return cls(epochs, _first_percent(curves), 1.0, percent=percent, first=first)
        low, high = float(values.min()), float(values.max())
        log = may_be_log and low > 0 and high / low > _LOG_RANGE
        return cls(epochs, low if log else min(low, 0.0), high if high > low or high > 0 else 1.0, log=log, first=first)


def _first_percent(curves: Sequence[Curve]) -> float:
    """Start of the axis for shares, 0–1: the largest multiple of 0.1 that no curve falls below; 0 if that is below 0.5.

    The first third of each curve is ignored. Accuracy starts near chance, and an axis that started there would squeeze
    the later epochs, which differ by a few percent, into a line. A value before the first step always counts, because
    it shows how good the initial weights of the stage are.
    """
    later = [value for curve in curves for value in curve.values[len(curve.values) // 3 :] if np.isfinite(value)]
    later += [curve.values[0] for curve in curves if curve.first == 0 and np.isfinite(curve.values[0])]
    low = np.floor(10 * min(later, default=0.0)) / 10
    return float(low) if low >= 0.5 else 0.0


def panel(curves: Sequence[Curve], axes: Axes, *, name: str, description: str) -> Markup:
    """A small plot of training and test curves as an inline SVG.

    Args:
        curves: the curves; the end of the test curve is labelled with its value.
        axes: the axes, shared with the panels beside it.
        name: a name that is unique in the page; the SVG's identifiers start with it.
        description: text for screen readers.
    """
    figure = Figure(figsize=(PANEL_SIZE[0] / 72, PANEL_SIZE[1] / 72))
    plot = figure.add_axes(
        (_PLOT["left"], _PLOT["bottom"], _PLOT["right"] - _PLOT["left"], _PLOT["top"] - _PLOT["bottom"])
    )
    draw(plot, curves, axes, OF_PAGE)
    return _inline_svg(figure, name, description)


def draw(plot: matplotlib.axes.Axes, curves: Sequence[Curve], axes: Axes, palette: Palette) -> None:
    """Draws curves into a matplotlib plot, and labels the end of the test curve with its value."""
    for curve in curves:
        style = palette.style(curve.name)
        # A stage of one epoch is a single point, which needs a marker to be visible.
        marker = style["marker"] if len(curve.values) <= 3 else ""
        epochs = np.arange(curve.first, curve.last + 1)
        plot.plot(epochs, curve.values, clip_on=axes.low > 0 and axes.percent, **{**style, "marker": marker})
        if curve.name == "test" and len(curve.values):
            plot.annotate(
                _number(curve.values[-1], axes.percent),
                (curve.last, curve.values[-1]),
                xytext=(6, 0),
                textcoords="offset points",
                verticalalignment="center",
                color=style["color"],
                fontsize=_FONT_SIZE,
                fontweight="bold",
                annotation_clip=False,
            )
    _style(plot, axes, palette)


def _style(plot: matplotlib.axes.Axes, axes: Axes, palette: Palette) -> None:
    few = axes.epochs <= 3
    plot.set_xlim(axes.first - 0.5 if few else axes.first, axes.epochs + 0.5 if few else axes.epochs)
    plot.set_facecolor("none")
    if axes.log:
        plot.set_yscale("log")
        plot.set_ylim(axes.low * 0.8, axes.high * 1.25)
        plot.yaxis.set_major_locator(LogLocator(numticks=5))
        plot.yaxis.set_minor_locator(LogLocator(subs=()))
    else:
        margin = 0.0 if axes.percent else 0.06 * (axes.high - axes.low)
        plot.set_ylim(axes.low, axes.high + margin)
        plot.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, axes.percent)))
    plot.xaxis.set_major_locator(
        FixedLocator(range(axes.first, axes.epochs + 1)) if few else MaxNLocator(4, integer=True, steps=[1, 2, 5, 10])
    )
    plot.grid(axis="y", color=palette.faint, linewidth=0.6)
    plot.set_axisbelow(True)
    plot.tick_params(length=0, pad=4, labelsize=_FONT_SIZE, labelcolor=palette.ink)
    for side, spine in plot.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(palette.faint)


def _tick(value: float, percent: bool) -> str:
    return f"{100 * value:.3g} %" if percent else f"{value:.3g}"


def _number(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if value >= 100 else f"{value:#.2g}".rstrip(".")


def _inline_svg(figure: Figure, name: str, description: str) -> Markup:
    buffer = io.StringIO()
    # Write text as text, not as paths: it is smaller, selectable, and in the page's font. With a fixed salt, the
    # identifiers are the same in every run.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    _, end = re.search(r"<svg[^>]*>", svg).span()  # type: ignore[union-attr]
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[end:], flags=re.DOTALL)
    # Prefix the identifiers, which would otherwise collide with those of the page's other panels.
    body = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r"font: ([^;\"]*?)([\d.]+px) [^;\"]*", r"font: \1\2 var(--font)", body)
    body = re.sub(r">\s+<", "><", body)
    for drawn, variable in COLOURS.items():
        body = body.replace(drawn, variable)
    head = f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {PANEL_SIZE[0]} {PANEL_SIZE[1]}">'
    return Markup(head + body.strip())


def map_png(values: np.ndarray, largest: float) -> str:
    """An attention map (H, W) as a PNG data URL, with one pixel per value, from 0 (dark) to ``largest`` (bright)."""
    shares = np.clip(values / largest, 0, 1) if largest > 0 else np.zeros_like(values)
    return _png(matplotlib.colormaps[MAP_COLOURS](shares, bytes=True)[..., :3])


def map_gradient(steps: int = 9) -> str:
    """The colours of ``map_png`` as a CSS gradient, from 0 on the left."""
    colours = (matplotlib.colors.to_hex(matplotlib.colormaps[MAP_COLOURS](i / (steps - 1))) for i in range(steps))
    return f"linear-gradient(to right, {', '.join(colours)})"


def photo_png(image: np.ndarray) -> str:
    """A uint8 image (H, W, 1 or 3) as a PNG data URL; a large image becomes a thumbnail."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((LARGEST_THUMBNAIL, LARGEST_THUMBNAIL))
    return _png(np.asarray(picture))


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
