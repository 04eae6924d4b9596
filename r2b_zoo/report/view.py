"""Prepares the contents of a run's folder for the report page, whose template formats the numbers."""

import csv
import json
import shlex
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from markupsafe import Markup

from r2b_zoo.evaluation.confusion import MOST_CLASSES_IN_TABLE, Mistake, mistakes
from r2b_zoo.losses import LOSSES
from r2b_zoo.report import plots
from r2b_zoo.runs.folder import RunFolder, RunFolderError

CONFUSED_PAIRS = 8
CONFUSED_PAIRS_OF_MANY = 25
EXTREME_CLASSES = 10

# These colours are colour-blind safe (Okabe & Ito, 2008). Gates and scales share a colour, because only a network with
# weight_scale="learned" has both.
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
    """A column of log.csv. The column ``val_<column>`` has the same metric for test or validation images."""

    column: str
    title: str
    explanation: str
    may_be_log: bool = True
    percent: bool = False


METRICS = (
    Metric(
        "accuracy",
        "Accuracy",
        "Share of images whose predicted class is the true class. The number is the accuracy after the last epoch on "
        "images that were not trained on; in a stage that starts from trained weights, epoch 0 "
        "shows the accuracy before the first step.",
        may_be_log=False,
        percent=True,
    ),
    Metric(
        "loss", "Total loss", "The loss that training minimises: the sum of the losses below, each times its weight."
    ),
    *(Metric(loss.name, loss.title, loss.explanation) for loss in LOSSES),
    Metric("learning_rate", "Learning rate", "Size of a step, at the end of each epoch.", may_be_log=False),
)


@dataclass(frozen=True)
class Panel:
    stage: str
    svg: Optional[Markup]
    """None if the stage does not have the metric."""
    note: str = ""


@dataclass(frozen=True)
class MetricRow:
    metric: Metric
    axes: plots.Axes
    panels: tuple[Panel, ...]


def curves(folder: RunFolder, stages: Sequence[str], fields: Mapping[str, Any]) -> list[MetricRow]:
    """One row per metric that any stage has, with one panel per stage and the same axes within a row.

    Args:
        folder: the folder of the run.
        stages: names of its finished stages.
        fields: fields of the recipe by dotted name, for the weights of the losses.
    """
    rows = []
    for metric in METRICS:
        by_stage = lines_of(folder, stages, metric)
        drawn = [curve for lines in by_stage.values() for curve in lines]
        if not drawn:
            continue
        axes = plots.Axes.around(drawn, may_be_log=metric.may_be_log, percent=metric.percent)
        panels = []
        for stage, lines in by_stage.items():
            svg = None
            if lines:
                words = ", ".join(f"{line.name} {_spoken(line.values, metric.percent)}" for line in lines)
                epochs = "1 epoch" if lines[0].last == 1 else f"{lines[0].last} epochs"
                svg = plots.panel(
                    lines,
                    axes,
                    name=f"{metric.column}-{stage}",
                    description=f"{metric.title} of stage {stage} over {epochs}: {words}",
                )
            note = _weighted_sum(stage, _log(folder, stage), fields) if metric.column == "loss" else ""
            panels.append(Panel(stage, svg, note))
        rows.append(MetricRow(metric, axes, tuple(panels)))
    return rows


def lines_of(folder: RunFolder, stages: Sequence[str], metric: Metric) -> dict[str, list[plots.Curve]]:
    """The curves of a metric in each stage, on training images and on test or validation images."""
    return {
        stage: list(
            _curves_of(
                _log(folder, stage), metric.column, (folder.stage_result(stage).get("start") or {}).get(metric.column)
            )
        )
        for stage in stages
    }


def _log(folder: RunFolder, stage: str) -> dict[str, tuple[float, ...]]:
    """The columns of a stage's log.csv."""
    path = folder.log_path(stage)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        return {column: tuple(float(line[column]) for line in lines) for column in (lines[0] if lines else ())}
    except FileNotFoundError:
        raise missing(folder, f"stages/{stage}/log.csv") from None
    except (TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> RunFolderError:
    return RunFolderError(
        f"{path} is damaged ({error}): run the command that started the run again; it repairs or rewrites the file "
        "and keeps the finished stages."
    )


def missing(folder: RunFolder, name: str) -> RunFolderError:
    return RunFolderError(f"{folder.path} holds no finished run: there is no {name} in it. Run the same command again.")


def _curves_of(log: Mapping[str, tuple[float, ...]], column: str, start: Optional[float]) -> Iterator[plots.Curve]:
    test = log.get(f"val_{column}")
    if log.get(column):
        # The learning rate belongs to neither training nor test images: its curve is called "value".
        yield plots.Curve("train" if test else "value", log[column])
    if test:
        yield plots.Curve("test", test) if start is None else plots.Curve("test", (start, *test), first=0)


def _spoken(values: Sequence[float], percent: bool) -> str:
    first, last = (f"{100 * value:.1f} %" if percent else f"{value:.3g}" for value in (values[0], values[-1]))
    return f"from {first} to {last}" if len(values) > 1 else last


def _weighted_sum(stage: str, log: Mapping[str, Any], fields: Mapping[str, Any]) -> str:
    terms = []
    for loss in LOSSES:
        weight = fields.get(f"{stage}.{loss.field}", 1)
        if loss.name in log:
            words = loss.name.replace("_matching", "").replace("_", " ")
            terms.append(("" if weight == 1 else f"{weight:g}·") + words)
    return "= " + " + ".join(terms)


@dataclass(frozen=True)
class AttentionMap:
    src: str
    alt: str


@dataclass(frozen=True)
class AttentionImage:
    """One test image with its maps."""

    src: str
    alt: str
    label: str
    maps: tuple[tuple[str, tuple[AttentionMap, ...]], ...]
    """Name and maps of each stage; a map per block."""
    distances: tuple[float, ...]
    """For each block, the distance between the maps of the last and the first stage."""


@dataclass(frozen=True)
class Attention:
    stages: tuple[str, ...]
    blocks: tuple[tuple[str, str], ...]
    """Number of each block and size of its maps, for example ("1", "8×8")."""
    images: tuple[AttentionImage, ...]
    mean_distances: tuple[float, ...]
    """``AttentionImage.distances``, averaged over the images."""
    constant_blocks: tuple[str, ...]
    """Numbers of the blocks whose maps are 1×1, and therefore the same for every image."""


def attention(folder: RunFolder, class_names: Sequence[str]) -> Attention:
    """The maps of attention.npz as pictures, and the distances between those of the last and the first stage.

    The distance of two maps is ‖Q_last − Q_first‖₂.
    """
    arrays = _arrays(folder, folder.attention_path)
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
        of_image = {key: values[i] for key, values in arrays.items() if "/" in key}
        maps = _maps_of(stages, blocks, of_image)
        alt = f"Test image of class {label}"
        images.append(AttentionImage(plots.photo_png(image), alt, label, maps, tuple(distances[i].tolist())))
    return Attention(
        stages,
        tuple((block.removeprefix("block"), sizes[block]) for block in blocks),
        tuple(images),
        tuple(distances.mean(axis=0).tolist()),
        tuple(block.removeprefix("block") for block in blocks if sizes[block] == "1×1"),
    )


def _maps_of(
    stages: Sequence[str], blocks: Sequence[str], of_image: Mapping[str, np.ndarray]
) -> tuple[tuple[str, tuple[AttentionMap, ...]], ...]:
    """The maps of one image by stage. The maps of one block have the same colour scale in all stages."""
    largest = {block: max(float(of_image[f"{stage}/{block}"].max()) for stage in stages) for block in blocks}

    def shown(stage: str, block: str) -> AttentionMap:
        values = of_image[f"{stage}/{block}"]
        return AttentionMap(plots.map_png(values, largest[block]), f"{stage}, {block}: {_brightest(values)}")

    return tuple((stage, tuple(shown(stage, block) for block in blocks)) for stage in stages)


def _arrays(folder: RunFolder, path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise missing(folder, path.name) from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from None


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
    """A bar for each of three measures (multiplications, FLOPs, bytes), with a segment per kind of layer.

    Args:
        kinds: ``Cost.by_kind()``.
    """
    measures = (
        (
            "Multiplications",
            "multiply-accumulates, each counted once",
            "MACs",
            lambda k: k["binary_macs"] + k["float_macs"],
        ),
        (
            "Work",
            "64 binary multiplications count as one, since a processor does them at once",
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
class Example:
    src: str
    label: str


def examples(folder: RunFolder, class_names: Sequence[str]) -> tuple[Example, ...]:
    """The images of examples.npz: one of each class, or of some classes if there are many."""
    arrays = _arrays(folder, folder.examples_path)
    return tuple(
        Example(plots.photo_png(image), class_names[int(label)])
        for image, label in zip(arrays["images"], arrays["labels"], strict=True)
    )


@dataclass(frozen=True)
class ConfusionRow:
    name: str
    counts: tuple[int, ...]
    """Number of images by predicted class; empty if there are too many classes for a table."""
    shares: tuple[float, ...]
    """``counts`` divided by ``images``."""
    images: int
    """Number of test images of the class."""
    recall: Optional[float]
    """Share of the class's images that were predicted correctly, 0–1; None for a class without test images."""
    mistaken: str
    """The wrong class that is most often predicted for the row's images; "" if no prediction is wrong."""


@dataclass(frozen=True)
class Confusion:
    rows: tuple[ConfusionRow, ...]
    pairs: tuple[Mistake, ...]
    """The most frequent mistakes, in descending order."""
    images: int
    mistakes: int
    """Number of images that were predicted wrongly."""
    is_table: bool
    """Whether there are few enough classes to show the matrix as a table."""
    worst: tuple[ConfusionRow, ...]
    """The classes with the lowest recall, the lowest first; empty if ``is_table``."""
    best: tuple[ConfusionRow, ...]
    """The classes with the highest recall, the highest first; empty if ``is_table``."""


def confusion(cells: Sequence[Sequence[int]], class_names: Sequence[str]) -> Confusion:
    """The confusion matrix as the page shows it: as a table or, if there are many classes, as lists.

    Args:
        cells: (true class, predicted class, images) of each pair that occurs.
        class_names: names of the classes, in the order of the labels.
    """
    classes = len(class_names)
    matrix = np.zeros((classes, classes), np.int64)
    for actual, predicted, images in cells:
        matrix[actual, predicted] = images
    is_table = classes <= MOST_CLASSES_IN_TABLE
    rows = tuple(_confusion_row(matrix[i], i, class_names, is_table) for i in range(classes))
    wrong = mistakes(cells)
    seen = sorted((row for row in rows if row.recall is not None), key=lambda row: (row.recall, -row.images))
    return Confusion(
        rows,
        tuple(wrong[: CONFUSED_PAIRS if is_table else CONFUSED_PAIRS_OF_MANY]),
        int(matrix.sum()),
        sum(mistake.images for mistake in wrong),
        is_table,
        () if is_table else tuple(seen[:EXTREME_CLASSES]),
        () if is_table else tuple(seen[: -EXTREME_CLASSES - 1 : -1]),
    )


def _confusion_row(counts: np.ndarray, index: int, class_names: Sequence[str], is_table: bool) -> ConfusionRow:
    total = int(counts.sum())
    others = counts.copy()
    others[index] = 0
    return ConfusionRow(
        class_names[index],
        tuple(counts.tolist()) if is_table else (),
        tuple((counts / max(total, 1)).tolist()) if is_table else (),
        total,
        float(counts[index] / total) if total else None,
        class_names[int(others.argmax())] if others.any() else "",
    )


def command(fields: Mapping[str, Any]) -> str:
    """The command line that repeats this run, with the fields that differ from the recipe's defaults."""
    from r2b_zoo import recipes  # loads zookeeper, which figures do not need

    name = fields["recipe"]
    own = {key: value for key, value in fields.items() if key != "recipe"}
    changed = own
    if name in recipes.list_recipes():
        changed = _changed(name, own)
    words = [f"{key}={_word(value)}" for key, value in changed.items()]
    return shlex.join(["r2b", "train", f"recipe={name}", *words])


def _changed(name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``own`` that the command must set; all of them if the run's weights can no longer be read."""
    from r2b_zoo import recipes

    defaults = recipes.plan(name).config
    changed = {key: value for key, value in own.items() if "." not in key and defaults.get(key) != value}
    try:
        # Leave out fields that follow from others: the weights determine some, and some fields of a stage have the
        # recipe's values by default.
        if own.get("weights") is not None:
            followed = recipes.plan(name, weights=own["weights"]).config
            changed = {key: value for key, value in changed.items() if key == "weights" or followed.get(key) != value}
        defaults = recipes.plan(name, **changed).config
    except (ValueError, OSError, RuntimeError):
        return dict(own)  # the weights have been moved or deleted
    return changed | {key: value for key, value in own.items() if defaults.get(key) != value}


def _word(value: Any) -> str:
    """A value in the form that ``recipes.overrides.parse`` reads."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)
