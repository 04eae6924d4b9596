"""The tables the commands print."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from r2b_zoo.confusion import MOST_CLASSES_IN_TABLE, mistakes

if TYPE_CHECKING:
    from r2b_zoo.cards import Card
    from r2b_zoo.costs import Cost
    from r2b_zoo.data.dataset import Dataset
    from r2b_zoo.evaluation import Evaluation
    from r2b_zoo.published_costs import PublishedCost

LEFT, RIGHT = "left", "right"
_WIDTH_OF_A_FILE = 150
_MISTAKES_SHOWN = 20
_UNBOUNDED = Console(width=10_000)


def console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for every table where there is none.

    It takes text as it is: names of files and classes may look like the console's own markup.
    """
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE, markup=False, emoji=False, highlight=False)


def point(text: str, sign: str = "•") -> Text:
    """A line after a green sign."""
    return Text.assemble((sign, "green"), " ", text)


def results_table(results: Mapping[str, Any]) -> Table:
    """One row per stage of a run, then the converted file against its Keras model."""
    dataset, verification = results["dataset"], results["verification"]
    table = _table(
        f"\n{dataset['name']}: {dataset['test_images']} test images",
        [
            ("stage", LEFT),
            ("network", LEFT),
            ("precision", LEFT),
            ("images/s", RIGHT),
            ("test top-1", RIGHT),
            ("bytes", RIGHT),
            ("ms", RIGHT),
        ],
    )
    for row in results["stages"]:
        table.add_row(
            row["name"],
            row["network"],
            row["precision"],
            rate(row["images_per_second"]),
            _percent(row["test_accuracy"]),
            f"{row['tflite_bytes']:,}",
            f"{row['milliseconds']:.2f}",
        )
    from r2b_zoo.verification import Verification, undecided_sentence  # which imports TensorFlow

    verdict = Verification.recorded(verification).verdict
    table.caption = (
        f"images/s: in training. bytes: of the .tflite. ms: one image, one thread, {results['tflite']['engine']}, "
        f"{results['machine']['processor']}.\n"
        f"Keras and the binary .tflite are {verdict} on {verification['images']} images: "
        f"top-1 differs on {verification['disagreements']}, mean difference of the probabilities "
        f"{verification['mean_difference']:.1e}, largest {verification['largest_difference']:.1e}; "
        f"top-1 of the file on them {_percent(results['tflite']['accuracy'])}. "
        f"{undecided_sentence(verification['undecided'])}"
    ).rstrip()
    table.caption_justify = "left"
    return table


def rate(images_per_second: Optional[float]) -> str:
    """Images per second; a dash where a stage was too short to say."""
    if images_per_second is None:
        return "–"
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.1f}"


def evaluation_tables(name: str, dataset: "Dataset", result: "Evaluation", width: int) -> Iterator[RenderableType]:
    """What a classifier got right: the classes, what was taken for what, and the whole in the last line."""
    table = _table(
        None, [("class", LEFT), ("images", RIGHT), ("precision", RIGHT), ("recall", RIGHT), ("most taken for", LEFT)]
    )
    precision, recall = result.precision, result.recall
    for index, label in enumerate(dataset.class_names):
        row = result.confusion[index].copy()
        row[index] = 0
        mistaken = f"{dataset.class_names[row.argmax()]} ({row.max()})" if row.any() else ""
        table.add_row(
            label, f"{result.confusion[index].sum():,}", _percent(precision[index]), _percent(recall[index]), mistaken
        )
    # A title would be folded to the width of its table.
    yield Group(Text(f"{name} on {dataset.description}", style="bold"), table)
    matrix = _confusion_table(dataset.class_names, result, width)
    if matrix is not None:
        yield Group(
            Text("Confusion matrix: a row per true class, a column per class it was taken for", style="bold"), matrix
        )
    elif result.images > np.trace(result.confusion):
        yield Group(*_mistakes_table(dataset.class_names, result))
    yield Text(
        f"top-1 {_percent(result.top1)}, top-5 {_percent(result.top5)} of {result.images:,} test images", style="bold"
    )


def _confusion_table(class_names: Sequence[str], result: "Evaluation", width: int) -> Optional[Table]:
    """The confusion matrix; its columns have numbers where the names are too long; None where it is too wide."""
    if len(class_names) > MOST_CLASSES_IN_TABLE:
        return None
    numbers = [str(i) for i in range(1, len(class_names) + 1)]
    named, numbered = (
        (list(class_names), list(class_names)),
        ([f"{i} {name}" for i, name in zip(numbers, class_names, strict=True)], numbers),
    )
    for rows, columns in (named, numbered):
        table = _table(None, [("", LEFT), *((column, RIGHT) for column in columns)])
        for index, (label, counts) in enumerate(zip(rows, result.confusion.tolist(), strict=True)):
            cells = [Text(f"{count:,}" if count else "·", style="" if count else "dim") for count in counts]
            cells[index].stylize("bold green" if counts[index] else "")
            table.add_row(label, *cells)
        # As it would be with all the room there is.
        if table.__rich_measure__(_UNBOUNDED, _UNBOUNDED.options).maximum <= width:
            return table
    return None


def _mistakes_table(class_names: Sequence[str], result: "Evaluation") -> tuple[Text, Table]:
    found = mistakes(result.cells)
    title = f"Most frequent confusions, {min(len(found), _MISTAKES_SHOWN)} of {len(found):,}"
    table = _table(
        None,
        [("true class", LEFT), ("taken for", LEFT), ("images", RIGHT), ("of the class", RIGHT)],
    )
    for mistake in found[:_MISTAKES_SHOWN]:
        table.add_row(
            class_names[mistake.actual],
            class_names[mistake.predicted],
            f"{mistake.images:,}",
            _percent(mistake.share),
        )
    return Text(title, style="bold"), table


def cost_tables(costs: Sequence["Cost"], layers: bool) -> Iterator[Table]:
    """The networks side by side, and with ``layers`` a table of each one's layers."""
    from r2b_zoo.costs import BINARY_MACS_PER_FLOP
    from r2b_zoo.published_costs import published

    numbers = [
        ("parameters", RIGHT),
        ("bytes", RIGHT),
        ("binary operations", RIGHT),
        ("float operations", RIGHT),
        ("Bi-Real FLOPs", RIGHT),
    ]
    rows = [published(cost) for cost in costs]
    size = "×".join(map(str, costs[0].input_shapes[0]))
    heads = [("network", LEFT), ("downsampling", LEFT), *numbers]
    overview = _table(f"Cost of one image, {size}", [*heads, *([("in table 1", LEFT)] if any(rows) else [])])
    for cost, row in zip(costs, rows, strict=True):
        overview.add_row(cost.name, cost.downsample, *_numbers(cost), *([_as_printed(row)] if any(rows) else []))
    overview.caption = (
        "Operations as in table 1 of Martínez et al.: binary ones, and float ones with skips, pools and element-wise "
        f"work. Bi-Real FLOPs, by Bi-Real Net's rule (section 4.4): float MACs + binary MACs / {BINARY_MACS_PER_FLOP}."
        + "".join(_differences_in_words(cost, row) for cost, row in zip(costs, rows, strict=True) if row)
        + _gates_in_words(costs)
    )
    overview.caption_justify = "left"
    yield overview
    for cost in costs if layers else ():
        table = _table(
            f"{cost.name}, {cost.downsample} downsampling",
            [("layer", LEFT), ("kind", LEFT), ("output", LEFT), *numbers],
        )
        for layer in cost.layers:
            table.add_row(layer.name, layer.kind, "×".join(map(str, layer.output_shape)), *_numbers(layer))
        yield table


def _as_printed(row: Optional["PublishedCost"]) -> str:
    """As table 1 has it, "1.676e9, 1.564e8 (Real-to-Binary)"."""
    if row is None:
        return ""
    numbers = (f"{operations:.3e}".split("e") for operations in (row.binary_operations, row.float_operations))
    binary, real = (f"{digits}e{int(exponent)}" for digits, exponent in numbers)
    return f"{binary}, {real} ({row.row})"


def _differences_in_words(cost: "Cost", row: "PublishedCost") -> str:
    if not row.differences:
        return ""
    differences = ", ".join(f"{words} ({operations:+,})" for words, operations in row.differences)
    return f"\nThe table's {row.row} has, other than {cost.name}: {differences}."


def network_table(cards: Sequence["Card"]) -> Table:
    """The networks of the zoo with what the paper reports for them."""
    table = _table(
        "Networks (ImageNet accuracies as Martínez et al. report them, ICLR 2020, table 2)",
        [("network", LEFT), ("top-1", RIGHT), ("top-5", RIGHT), ("published weights", LEFT), ("paper", LEFT)],
    )
    for card in cards:
        published = f"top-1 {card.pretrained_top1} %, {card.pretrained_licence}" if card.pretrained else "none"
        table.add_row(card.name, f"{card.top1} %", f"{card.top5} %", published, card.paper)
    return table


def card_table(card: "Card") -> Table:
    """Everything a card says."""
    table = _table(card.name, [("", LEFT), ("", LEFT)])
    table.show_header = False
    rows = {
        "paper": card.paper,
        "address": card.url,
        "ImageNet top-1 / top-5 in the paper": f"{card.top1} % / {card.top5} %",
        "input": card.input,
        "parameters": f"{card.parameters:,}",
        "bytes": f"{card.bytes:,} (224×224, 1,000 classes; 1 bit per binary weight)",
        "published weights": card.weights_url or "none",
        "their top-1 / top-5": f"{card.pretrained_top1} % / {card.pretrained_top5} %" if card.pretrained else "",
        "their licence": card.pretrained_licence or "",
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    return table


def _gates_in_words(costs: Sequence["Cost"]) -> str:
    """What the gates cost more than the scales, where both networks are among these."""
    from r2b_zoo.published_costs import gate_overhead

    by_name = {cost.name: cost for cost in costs if cost.downsample == "real"}
    if not {"RealToBinaryNet", "StrongBaselineNet"} <= set(by_name):
        return ""
    overhead = gate_overhead(by_name["RealToBinaryNet"], by_name["StrongBaselineNet"])
    return (
        f"\nThe gates of RealToBinaryNet have {overhead.macs:,} MACs, {_percent(overhead.share_of_macs, 2)} of "
        f"StrongBaselineNet's Bi-Real FLOPs; with their element-wise operations, less those of the scales, it is "
        f"{_percent(overhead.share, 2)}."
    )


def _numbers(cost: Any) -> list[str]:
    fields = ("parameters", "bytes", "binary_macs", "float_operations", "flops")
    return [f"{getattr(cost, field):,.0f}" for field in fields]


def _table(title: Optional[str], columns: Sequence[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading, justify in columns:
        table.add_column(
            heading, justify="right" if justify == RIGHT else "left", no_wrap=justify == RIGHT, overflow="fold"
        )
    return table


def _percent(share: float, digits: int = 1) -> str:
    return "–" if share != share else f"{100 * share:.{digits}f} %"
