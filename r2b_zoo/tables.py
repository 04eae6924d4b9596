"""The tables the commands print."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from r2b_zoo.cards import Card
    from r2b_zoo.costs import Cost
    from r2b_zoo.data.dataset import Dataset
    from r2b_zoo.evaluation import Evaluation

LEFT, RIGHT = "left", "right"
_WIDTH_OF_A_FILE = 150


def console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for every table where there is none."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)


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
    verdict = "equal" if verification["passed"] else "DIFFERENT"
    table.caption = (
        f"images/s: in training. bytes: of the .tflite. ms: one image, one thread, {results['tflite']['engine']}, "
        f"{results['machine']['processor']}.\n"
        f"Keras and the binary .tflite are {verdict} on {verification['images']} images: "
        f"top-1 differs on {verification['disagreements']}, mean difference of the probabilities "
        f"{verification['mean_difference']:.1e}, largest {verification['largest_difference']:.1e}; "
        f"top-1 of the file on them {_percent(results['tflite']['accuracy'])}."
    )
    table.caption_justify = "left"
    return table


def rate(images_per_second: Optional[float]) -> str:
    """Images per second; a dash where a stage was too short to say."""
    if images_per_second is None:
        return "–"
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.1f}"


def evaluation_table(name: str, dataset: "Dataset", result: "Evaluation") -> Table:
    """Recall and precision of each class, and the whole."""
    table = _table(
        f"{name} on {dataset.name}: top-1 {_percent(result.top1)}, top-5 {_percent(result.top5)} "
        f"of {result.images} test images",
        [("class", LEFT), ("images", RIGHT), ("recall", RIGHT), ("precision", RIGHT), ("most taken for", LEFT)],
    )
    for index, label in enumerate(dataset.class_names):
        row = result.confusion[index].copy()
        row[index] = 0
        mistaken = f"{dataset.class_names[row.argmax()]} ({row.max()})" if row.any() else ""
        table.add_row(
            label,
            str(result.confusion[index].sum()),
            _percent(result.recall[index]),
            _percent(result.precision[index]),
            mistaken,
        )
    return table


def cost_tables(costs: Sequence["Cost"], layers: bool) -> Iterator[Table]:
    """The networks side by side, and with ``layers`` a table of each one's layers."""
    from r2b_zoo.costs import BINARY_MACS_PER_FLOP

    numbers = [
        ("parameters", RIGHT),
        ("bytes", RIGHT),
        ("binary MACs", RIGHT),
        ("float MACs", RIGHT),
        ("FLOPs", RIGHT),
        ("element-wise", RIGHT),
    ]
    size = "×".join(map(str, costs[0].input_shapes[0]))
    overview = _table(
        f"Cost of one image, {size}",
        [("network", LEFT), *numbers, ("binary convs", RIGHT), ("gate's FLOPs", RIGHT)],
    )
    for cost in costs:
        binary = len(cost.of("binary convolutions").layers)
        overview.add_row(cost.name, *_numbers(cost), str(binary), _percent(cost.share("gate"), 2))
    overview.caption = (
        f"FLOPs = float MACs + binary MACs / {BINARY_MACS_PER_FLOP}, as Martínez et al. count them. element-wise: "
        "float operations outside MACs (batch norm, PReLU, pools, gate, adds), which those FLOPs leave out."
        + _gates_in_words(costs)
    )
    overview.caption_justify = "left"
    yield overview
    for cost in costs if layers else ():
        table = _table(cost.name, [("layer", LEFT), ("kind", LEFT), ("output", LEFT), *numbers])
        for layer in cost.layers:
            table.add_row(layer.name, layer.kind, "×".join(map(str, layer.output_shape)), *_numbers(layer))
        yield table


def network_table(cards: Sequence["Card"]) -> Table:
    """The networks of the zoo with what the paper reports for them."""
    table = _table(
        "Networks (ImageNet accuracies as Martínez et al. report them, ICLR 2020)",
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
    from r2b_zoo.costs import gate_overhead

    by_name = {cost.name: cost for cost in costs}
    if not {"RealToBinaryNet", "StrongBaselineNet"} <= set(by_name):
        return ""
    overhead = gate_overhead(by_name["RealToBinaryNet"], by_name["StrongBaselineNet"])
    return (
        f"\nThe gates of RealToBinaryNet have {overhead.macs:,} MACs, {_percent(overhead.share_of_macs, 2)} of "
        f"StrongBaselineNet's FLOPs; with their element-wise operations, less those of the scales, it is "
        f"{_percent(overhead.share, 2)}."
    )


def _numbers(cost: Any) -> list[str]:
    fields = ("parameters", "bytes", "binary_macs", "float_macs", "flops", "elementwise")
    return [f"{getattr(cost, field):,.0f}" for field in fields]


def _table(title: str, columns: Sequence[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading, justify in columns:
        table.add_column(
            heading, justify="right" if justify == RIGHT else "left", no_wrap=justify == RIGHT, overflow="fold"
        )
    return table


def _percent(share: float, digits: int = 1) -> str:
    return "–" if share != share else f"{100 * share:.{digits}f} %"
