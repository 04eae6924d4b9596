"""What the page shows: the files of a run's folder, arranged for the template. Numbers stay numbers here."""

import csv
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from markupsafe import Markup

from r2b_zoo import recipes
from r2b_zoo.report import plots
from r2b_zoo.run_folder import RunFolder, RunFolderError

LOSSES = ("classification", "attention_matching", "output_matching")
# A table with more classes than this is too wide to read; a picture takes its place.
MOST_CLASSES_IN_TABLE = 20
CONFUSED_PAIRS = 8

# Colour-blind safe (Okabe & Ito, 2008). A gate and a scale never meet in one network.
KIND_COLOURS = {
    "binary convolutions": "#0072b2",
    "real convolutions": "#56b4e9",
    "stem": "#e69f00",
    "shortcuts": "#d55e00",
    "gate": "#009e73",
    "scale": "#009e73",
    "batch norm": "#cc79a7",
    "activation": "#f0e442",
}
OTHER_KIND_COLOUR = "#999999"


@dataclass(frozen=True)
class Metric:
    """A column of log.csv, and ``val_`` before it for the test images."""

    column: str
    title: str
    explanation: str
    may_be_log: bool = True
    percent: bool = False


METRICS = (
    Metric(
        "accuracy",
        "Accuracy",
        "Share of images whose most probable class is the right one; the number is the last epoch's on test images.",
        may_be_log=False,
        percent=True,
    ),
    Metric("loss", "Total loss", "What training makes small: the sum of the losses below, each times its weight."),
    Metric(
        "classification", "Classification", "Cross-entropy between the network's probabilities and the right class."
    ),
    Metric(
        "attention_matching",
        "Attention matching",
        "How far the student looks elsewhere than its teacher: distances of attention maps, summed over the blocks.",
    ),
    Metric(
        "output_matching",
        "Output matching",
        "How far the student's probabilities are from its teacher's (Kullback–Leibler divergence, softened by a "
        "temperature).",
    ),
    Metric("learning_rate", "Learning rate", "Size of a step, at the end of each epoch.", may_be_log=False),
)


@dataclass(frozen=True)
class Panel:
    stage: str
    svg: Optional[Markup]
    """None where the stage has no such loss."""
    note: str = ""


@dataclass(frozen=True)
class MetricRow:
    metric: Metric
    axes: plots.Axes
    panels: tuple[Panel, ...]


def curves(folder: RunFolder, stages: Sequence[str], fields: Mapping[str, Any]) -> list[MetricRow]:
    """One row per metric that any stage has, one panel per stage, the same axes within a row."""
    logs = {stage: _log(folder, stage) for stage in stages}
    rows = []
    for metric in METRICS:
        by_stage = {stage: list(_curves_of(log, metric.column)) for stage, log in logs.items()}
        drawn = [curve for lines in by_stage.values() for curve in lines]
        if not drawn:
            continue
        axes = plots.Axes.around(drawn, may_be_log=metric.may_be_log, percent=metric.percent)
        panels = []
        for stage, lines in by_stage.items():
            svg = None
            if lines:
                words = ", ".join(f"{line.name} {_spoken(line.values, metric.percent)}" for line in lines)
                svg = plots.panel(
                    lines,
                    axes,
                    name=f"{metric.column}-{stage}",
                    description=f"{metric.title} of stage {stage} over {len(lines[0].values)} epochs: {words}",
                )
            note = _weighted_sum(stage, logs[stage], fields) if metric.column == "loss" else ""
            panels.append(Panel(stage, svg, note))
        rows.append(MetricRow(metric, axes, tuple(panels)))
    return rows


def _log(folder: RunFolder, stage: str) -> dict[str, tuple[float, ...]]:
    """The columns of a stage's log.csv."""
    path = folder.stage(stage) / "log.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        return {column: tuple(float(line[column]) for line in lines) for column in (lines[0] if lines else ())}
    except FileNotFoundError:
        raise missing(folder, f"stages/{stage}/log.csv") from None
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): delete the folder and run again.") from None


def missing(folder: RunFolder, name: str) -> RunFolderError:
    return RunFolderError(f"{folder.path} holds no finished run: there is no {name} in it. Run the same command again.")


def _curves_of(log: Mapping[str, tuple[float, ...]], column: str) -> Iterator[plots.Curve]:
    test = log.get(f"val_{column}")
    if log.get(column):
        # What has no test value, the learning rate, is of neither kind of images.
        yield plots.Curve("train" if test else "value", log[column])
    if test:
        yield plots.Curve("test", test)


def _spoken(values: Sequence[float], percent: bool) -> str:
    first, last = (f"{100 * value:.1f} %" if percent else f"{value:.3g}" for value in (values[0], values[-1]))
    return f"from {first} to {last}" if len(values) > 1 else last


def _weighted_sum(stage: str, log: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    terms = []
    for loss in LOSSES:
        weight = fields.get(f"{stage}.{loss}_weight", 1)
        if loss in log:
            terms.append(("" if weight == 1 else f"{weight:g}·") + loss.replace("_matching", "").replace("_", " "))
    return "= " + " + ".join(terms)


@dataclass(frozen=True)
class AttentionMap:
    src: str
    alt: str


@dataclass(frozen=True)
class AttentionImage:
    """One test image with its maps; ``maps`` has a row per stage and a column per block."""

    src: str
    alt: str
    label: str
    maps: tuple[tuple[str, tuple[AttentionMap, ...]], ...]
    distances: tuple[float, ...]


@dataclass(frozen=True)
class Attention:
    stages: tuple[str, ...]
    blocks: tuple[tuple[str, str], ...]
    """Name and size of each."""
    images: tuple[AttentionImage, ...]
    mean_distances: tuple[float, ...]
    constant_blocks: tuple[str, ...]
    """Blocks whose maps are a single number."""


def attention(folder: RunFolder, class_names: Sequence[str]) -> Attention:
    """The maps of attention.npz, as pictures, and their distances ‖Q_S − Q_T‖₂."""
    try:
        with np.load(folder.attention_path) as archive:
            arrays = dict(archive)
    except FileNotFoundError:
        raise missing(folder, folder.attention_path.name) from None
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{folder.attention_path} is damaged ({error}): delete the folder and run again."
        ) from None
    keys = [key.split("/") for key in arrays if "/" in key]
    stages = tuple(dict.fromkeys(stage for stage, _ in keys))
    blocks = sorted(dict.fromkeys(block for _, block in keys), key=lambda block: int(block.removeprefix("block")))
    sizes = {block: "×".join(map(str, arrays[f"{stages[0]}/{block}"].shape[1:])) for block in blocks}
    difference = {
        block: arrays[f"{stages[-1]}/{block}"].astype(np.float64) - arrays[f"{stages[0]}/{block}"] for block in blocks
    }
    distances = np.stack([np.sqrt(np.square(difference[block]).sum(axis=(1, 2))) for block in blocks], axis=1)
    images = []
    for i, image in enumerate(arrays["images"]):
        label = class_names[int(arrays["labels"][i])]
        largest = {block: max(float(arrays[f"{stage}/{block}"][i].max()) for stage in stages) for block in blocks}
        maps = tuple(
            (
                stage,
                tuple(
                    AttentionMap(
                        plots.map_png(arrays[f"{stage}/{block}"][i], largest[block]),
                        f"{stage}, {block}: {_brightest(arrays[f'{stage}/{block}'][i])}",
                    )
                    for block in blocks
                ),
            )
            for stage in stages
        )
        alt = f"Test image of class {label}"
        images.append(AttentionImage(plots.photo_png(image), alt, label, maps, tuple(distances[i].tolist())))
    return Attention(
        stages,
        tuple((block.removeprefix("block"), sizes[block]) for block in blocks),
        tuple(images),
        tuple(distances.mean(axis=0).tolist()),
        tuple(block.removeprefix("block") for block in blocks if sizes[block] == "1×1"),
    )


def _brightest(values: np.ndarray) -> str:
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return f"brightest at row {row + 1} of {values.shape[0]}, column {column + 1} of {values.shape[1]}"


@dataclass(frozen=True)
class Segment:
    kind: str
    colour: str
    value: float
    share: float


@dataclass(frozen=True)
class Bar:
    title: str
    explanation: str
    unit: str
    total: float
    segments: tuple[Segment, ...]

    @property
    def binary_share(self) -> float:
        return sum(segment.share for segment in self.segments if segment.kind.startswith("binary"))


def cost_bars(kinds: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """The same kinds of layers by three measures: multiplications, FLOPs, bytes."""
    measures = (
        (
            "Multiplications",
            "multiply-accumulates, each counted once",
            "MACs",
            lambda k: k["binary_macs"] + k["float_macs"],
        ),
        (
            "Work",
            "64 binary ones count as one, since a processor does them at once",
            "FLOPs",
            lambda k: k["flops"],
        ),
        ("Memory", "one bit per binary weight, four bytes per other", "bytes", lambda k: k["bytes"]),
    )
    bars = []
    for title, explanation, unit, value in measures:
        total = sum(value(kind) for kind in kinds)
        segments = tuple(
            Segment(kind["kind"], kind_colour(kind["kind"]), value(kind), value(kind) / total)
            for kind in kinds
            if value(kind) > 0
        )
        bars.append(Bar(title, explanation, unit, total, segments))
    return bars


def kind_colour(kind: str) -> str:
    return KIND_COLOURS.get(kind, OTHER_KIND_COLOUR)


@dataclass(frozen=True)
class ConfusionRow:
    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    recall: Optional[float]
    """None for a class without test images."""


@dataclass(frozen=True)
class Confusion:
    rows: tuple[ConfusionRow, ...]
    pairs: tuple[tuple[int, str, str], ...]
    """(number of images, true class, predicted class), the most frequent mistakes first."""
    mistakes: int
    png: Optional[str]
    """A picture in place of the table where there are many classes."""


def confusion(counts: Sequence[Sequence[int]], class_names: Sequence[str]) -> Confusion:
    matrix = np.array(counts, np.int64)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    rows = tuple(
        ConfusionRow(
            name,
            tuple(matrix[i].tolist()),
            tuple(shares[i].tolist()),
            float(shares[i, i]) if totals[i, 0] else None,
        )
        for i, name in enumerate(class_names)
    )
    mistakes = matrix - np.diag(np.diag(matrix))
    worst = np.argsort(-mistakes, axis=None, kind="stable")[:CONFUSED_PAIRS]
    cells = [divmod(int(flat), len(class_names)) for flat in worst]
    pairs = tuple((int(mistakes[i, j]), class_names[i], class_names[j]) for i, j in cells if mistakes[i, j])
    png = plots.confusion_png(shares) if len(class_names) > MOST_CLASSES_IN_TABLE else None
    return Confusion(rows, pairs, int(mistakes.sum()), png)


def command(fields: Mapping[str, Any]) -> str:
    """The command line that makes this run again: the fields that differ from the recipe's own."""
    name = fields["recipe"]
    own = {key: value for key, value in fields.items() if key != "recipe"}
    changed = own
    if name in recipes.list_recipes():
        defaults = recipes.plan(name).config
        changed = {key: value for key, value in own.items() if "." not in key and defaults.get(key) != value}
        # Stages take some values from the recipe, so what is left are those that the above does not bring about.
        defaults = recipes.plan(name, **changed).config
        changed |= {key: value for key, value in own.items() if defaults.get(key) != value}
    words = [f"{key}={_word(value)}" for key, value in changed.items()]
    return shlex.join(["r2b", "train", f"recipe={name}", *words])


def _word(value: Any) -> str:
    """A value as ``recipes.overrides.parse`` reads it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)
