"""The tables that the commands print."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from r2b_zoo.evaluation.confusion import MOST_CLASSES_IN_TABLE, mistakes
from r2b_zoo.system.terminal import printable

if TYPE_CHECKING:
    from r2b_zoo.conversion.converter import Conversion
    from r2b_zoo.data.dataset import Dataset
    from r2b_zoo.evaluation.accuracy import Evaluation
    from r2b_zoo.evaluation.costs import Cost
    from r2b_zoo.evaluation.published_costs import PublishedCost
    from r2b_zoo.weights.cards import Card, WeightsCard

LEFT, RIGHT = "left", "right"
_WIDTH_OF_A_FILE = 150
_MISTAKES_SHOWN = 20
_GAP = 2


Cell = Union[str, Text]


@dataclass
class Stacked:
    """A table that shows all its columns at any width.

    Columns that do not fit are printed below the others, with the first column repeated. A number is never broken over
    two lines; text is broken between words if possible.

    Attributes:
        title: a line above the table.
        columns: heading and alignment of each column: LEFT for text, RIGHT for numbers.
        show_header: whether the headings are printed.
        caption: text below the table.
        rows: the cells, filled by ``add_row``.
    """

    title: Optional[str]
    columns: Sequence[tuple[str, str]]
    show_header: bool = True
    caption: str = ""
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add_row(self, *cells: Cell) -> None:
        self.rows.append(tuple(printable(cell) if isinstance(cell, str) else cell for cell in cells))

    @property
    def width(self) -> int:
        """Width in characters of the table in one piece, with no cell broken over several lines."""
        return sum(self._full(column) + _GAP for column in range(len(self.columns))) - _GAP

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(self.title, style="bold")
        for i, part in enumerate(self._parts(options.max_width)):
            if i:
                yield ""
            yield self._table(part, options.max_width)
        if self.caption:
            yield Text(self.caption, style="dim italic")

    def _parts(self, room: int) -> list[list[int]]:
        """The columns of each piece of the table; every piece starts with the table's first column."""
        parts = [[0]]
        left = room - self._least(0, room)
        for column in range(1, len(self.columns)):
            needed = self._least(column, room) + _GAP
            if needed > left and len(parts[-1]) > 1:
                parts.append([0])
                left = room - self._least(0, room)
            parts[-1].append(column)
            left -= needed
        return parts

    def _table(self, part: Sequence[int], room: int) -> Table:
        widths = [self._least(column, room) for column in part]
        left = room - sum(widths) - _GAP * (len(part) - 1)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=self.show_header)
        for column, least in zip(part, widths, strict=True):
            heading, justify = self.columns[column]
            width = max(1, min(self._full(column), least + left))
            left -= width - least
            table.add_column(heading, justify="right" if justify == RIGHT else "left", width=width, overflow="fold")
        for row in self.rows:
            table.add_row(*(row[column] for column in part))
        return table

    def _texts(self, column: int) -> list[str]:
        heading = [self.columns[column][0]] if self.show_header else []
        return heading + [str(row[column]) for row in self.rows]

    def _full(self, column: int) -> int:
        return max((cell_len(line) for text in self._texts(column) for line in text.splitlines()), default=0)

    def _least(self, column: int, room: int) -> int:
        """The least width of a column: its full width if it holds numbers or short text, else that of its longest word.

        Text is short if it takes at most a third of ``room``; the longest word counts for at most half of ``room``.
        """
        full = self._full(column)
        if self.columns[column][1] == RIGHT or full <= room // 3:
            return full
        longest = max((cell_len(word) for text in self._texts(column) for word in text.split()), default=0)
        return min(longest, room // 2)


def console(stderr: bool = False) -> Console:
    """A console for tables, as wide as the terminal; 150 characters wide if the output is not a terminal.

    It does not interpret markup, because names of files and classes may look like markup.

    Args:
        stderr: whether to print to standard error instead of standard output.
    """
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        width=None if terminal else _WIDTH_OF_A_FILE,
        # Ignore FORCE_COLOR if the output is not a terminal: progress bars would fill a file with their frames.
        force_terminal=terminal,
        stderr=stderr,
        markup=False,
        emoji=False,
        highlight=False,
    )


def point(text: str, sign: str = "•") -> Text:
    """A line that starts with a green sign."""
    return Text.assemble((sign, "green"), " ", printable(text))


def results_table(results: Mapping[str, Any]) -> Stacked:
    """One row per stage of a run, and a caption that compares the converted file with its Keras model."""
    dataset, verification = results["dataset"], results["verification"]
    table = Stacked(
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
    from r2b_zoo.evaluation.verification import Verification, undecided_sentence  # imports TensorFlow

    verdict = Verification.recorded(verification).verdict
    table.caption = (
        f"images/s: in training. bytes: of the .tflite. ms: one image, one thread, {results['tflite']['engine']}, "
        f"{results['machine']['processor']}.\n"
        f"Keras and the binary .tflite are {verdict} on {verification['images']} images: "
        f"the predicted class differs on {verification['disagreements']}, mean difference of the probabilities "
        f"{verification['mean_difference']:.1e}, largest {verification['largest_difference']:.1e}; "
        f"top-1 of the file on these images {_percent(results['tflite']['accuracy'])}. "
        f"{undecided_sentence(verification['undecided'])}"
    ).rstrip()
    return table


def rate(images_per_second: Optional[float]) -> str:
    """Images per second as text; a dash if they were not measured."""
    if images_per_second is None:
        return "–"
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.1f}"


def evaluation_tables(name: str, dataset: "Dataset", result: "Evaluation", width: int) -> Iterator[RenderableType]:
    """Yields the scores of each class, the confusion matrix, and a line with the accuracy on all images.

    Args:
        name: name of the classifier.
        dataset: the data set on which it was evaluated.
        result: the evaluation.
        width: the number of characters in a line. If the matrix does not fit, a list of the most frequent mistakes
            replaces it.
    """
    table = Stacked(
        None,
        [("class", LEFT), ("images", RIGHT), ("precision", RIGHT), ("recall", RIGHT), ("confused with", LEFT)],
    )
    precision, recall = result.precision, result.recall
    for index, label in enumerate(dataset.class_names):
        row = result.confusion[index].copy()
        row[index] = 0
        mistaken = f"{dataset.class_names[row.argmax()]} ({row.max()})" if row.any() else ""
        table.add_row(
            label, f"{result.confusion[index].sum():,}", _percent(precision[index]), _percent(recall[index]), mistaken
        )
    yield Group(Text(printable(f"{name} on {dataset.description}"), style="bold"), table)
    matrix = _confusion_table(dataset.class_names, result, width)
    if matrix is not None:
        yield Group(Text("Confusion matrix: a row per true class, a column per predicted class", style="bold"), matrix)
    elif result.images > np.trace(result.confusion):
        yield Group(*_mistakes_table(dataset.class_names, result))
    yield Text(
        f"top-1 {_percent(result.top1)}, top-5 {_percent(result.top5)} of {result.images:,} test images", style="bold"
    )


def _confusion_table(class_names: Sequence[str], result: "Evaluation", width: int) -> Optional[Stacked]:
    """The confusion matrix; None if it has too many classes or columns that do not fit.

    If the names of the columns are too wide, the classes are numbered and the columns have only the numbers.
    """
    if len(class_names) > MOST_CLASSES_IN_TABLE:
        return None
    numbers = [str(i) for i in range(1, len(class_names) + 1)]
    named, numbered = (
        (list(class_names), list(class_names)),
        ([f"{i} {name}" for i, name in zip(numbers, class_names, strict=True)], numbers),
    )
    for rows, columns in (named, numbered):
        table = Stacked(None, [("", LEFT), *((printable(column), RIGHT) for column in columns)])
        for index, (label, counts) in enumerate(zip(rows, result.confusion.tolist(), strict=True)):
            cells = [Text(f"{count:,}" if count else "·", style="" if count else "dim") for count in counts]
            cells[index].stylize("bold green" if counts[index] else "")
            table.add_row(label, *cells)
        if table.width <= width:
            return table
    return None


def _mistakes_table(class_names: Sequence[str], result: "Evaluation") -> tuple[Text, Stacked]:
    found = mistakes(result.cells)
    title = f"Most frequent confusions, {min(len(found), _MISTAKES_SHOWN)} of {len(found):,}"
    table = Stacked(
        None,
        [("true class", LEFT), ("predicted class", LEFT), ("images", RIGHT), ("share of its class", RIGHT)],
    )
    for mistake in found[:_MISTAKES_SHOWN]:
        table.add_row(
            class_names[mistake.actual],
            class_names[mistake.predicted],
            f"{mistake.images:,}",
            _percent(mistake.share),
        )
    return Text(title, style="bold"), table


def cost_tables(costs: Sequence["Cost"], layers: bool) -> Iterator[Stacked]:
    """A table that compares the networks, and with ``layers`` a table of each network's layers."""
    from r2b_zoo.evaluation.costs import BINARY_MACS_PER_FLOP
    from r2b_zoo.evaluation.published_costs import published

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
    overview = Stacked(f"Cost of one image, {size}", [*heads, *([("in table 1", LEFT)] if any(rows) else [])])
    for cost, row in zip(costs, rows, strict=True):
        overview.add_row(cost.name, cost.downsample, *_numbers(cost), *([_as_printed(row)] if any(rows) else []))
    overview.caption = (
        "Operations are counted as in table 1 of Martínez et al.; the float ones include skips, pools and element-wise "
        f"work. Bi-Real FLOPs, by Bi-Real Net's rule (section 4.4): float MACs + binary MACs / {BINARY_MACS_PER_FLOP}."
        + "".join(_differences_in_words(cost, row) for cost, row in zip(costs, rows, strict=True) if row)
        + _gates_in_words(costs)
    )
    yield overview
    for cost in costs if layers else ():
        table = Stacked(
            f"{cost.name}, {cost.downsample} downsampling",
            [("layer", LEFT), ("kind", LEFT), ("output", LEFT), *numbers],
        )
        for layer in cost.layers:
            table.add_row(layer.name, layer.kind, "×".join(map(str, layer.output_shape)), *_numbers(layer))
        yield table


def _as_printed(row: Optional["PublishedCost"]) -> str:
    """A row as table 1 prints it, for example "1.676e9, 1.564e8 (Real-to-Binary)"."""
    if row is None:
        return ""
    numbers = (f"{operations:.3e}".split("e") for operations in (row.binary_operations, row.float_operations))
    binary, real = (f"{digits}e{int(exponent)}" for digits, exponent in numbers)
    return f"{binary}, {real} ({row.row})"


def _differences_in_words(cost: "Cost", row: "PublishedCost") -> str:
    if not row.differences:
        return ""
    differences = ", ".join(f"{words} ({operations:+,})" for words, operations in row.differences)
    return f"\n{row.row} in table 1 differs from {cost.name} here by: {differences}."


def network_table(cards: Sequence["Card"]) -> Stacked:
    """The networks of the zoo, with the accuracies that the paper reports for them."""
    table = Stacked(
        "Networks (ImageNet accuracies as Martínez et al. report them, ICLR 2020, table 2)",
        [("network", LEFT), ("top-1", RIGHT), ("top-5", RIGHT), ("published weights", LEFT), ("paper", LEFT)],
    )
    for card in cards:
        published = f"top-1 {card.pretrained_top1} %, {card.pretrained_licence}" if card.pretrained else "none"
        table.add_row(card.name, f"{card.top1} %", f"{card.top5} %", published, card.paper)
    return table


def card_table(card: "Card") -> Stacked:
    """A row for each fact on a network's card."""
    table = Stacked(card.name, [("", LEFT), ("", LEFT)], show_header=False)
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
        "weights with r2b_zoo": "; ".join(
            f"{one.name}: top-1 {one.top1:.2f} % on {one.data}, {one.licence}" for one in card.bundled
        ),
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    return table


def bundled_table(cards: Sequence["WeightsCard"]) -> Stacked:
    """The weights that come with the package."""
    table = Stacked(
        "Weights that come with r2b_zoo (r2b list NAME shows more)",
        [("weights", LEFT), ("network", LEFT), ("top-1", RIGHT), ("data", LEFT), ("bytes", RIGHT), ("licence", LEFT)],
    )
    for card in cards:
        network = f"{card.network}, width {card.arguments['width']}"
        table.add_row(card.name, network, f"{card.top1:.2f} %", card.data, f"{card.bytes:,}", card.licence)
    return table


def weights_card_table(card: "WeightsCard") -> Stacked:
    """A row for each fact on a card of weights."""
    table = Stacked(card.name, [("", LEFT), ("", LEFT)], show_header=False)
    takes = card.preprocessing
    rows = {
        "network": card.network,
        "arguments": ", ".join(f"{key}={value!r}" for key, value in card.arguments.items()),
        "in Python": card.call,
        "classes": ", ".join(card.class_names),
        "input": f"{takes['height']}×{takes['width']}×{takes['channels']}, the central {takes['crop_fraction']:.0%} of "
        f"an image, minus {', '.join(map(str, takes['mean']))}, divided by {', '.join(map(str, takes['std']))}",
        "data": f"{card.data}: {card.training_images:,} images to train, {card.test_images:,} to test",
        "source of the data": card.source,
        "top-1 / top-5": f"{card.top1:.2f} % / {card.top5:.2f} % of the {card.test_images:,} test images",
        "before rounding": f"top-1 {card.trained_top1:.2f} %; storing a binary weight in one bit and every other "
        f"weight in 16 bits changes the most probable class of {card.changed_classes:,} test images, and no logit by "
        f"more than {card.largest_logit_difference:.2g} (the standard deviation of the logits is "
        f"{card.logit_deviation:.2g})",
        "bytes": f"{card.bytes:,}",
        "recipe": card.recipe,
        "commit": card.commit or "not recorded",
        "versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
        "licence": card.licence,
        "notes": " ".join(card.notes),
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    return table


def _gates_in_words(costs: Sequence["Cost"]) -> str:
    """A sentence on how much more gates cost than scales.

    It is "" unless ``costs`` has RealToBinaryNet and StrongBaselineNet, both with real downsampling.
    """
    from r2b_zoo.evaluation.published_costs import overhead_among

    overhead = overhead_among(costs)
    if overhead is None:
        return ""
    return (
        f"\nThe gates of RealToBinaryNet have {overhead.macs:,} MACs, {_percent(overhead.share_of_macs, 2)} of "
        f"StrongBaselineNet's Bi-Real FLOPs; with the gates' element-wise operations, minus those of the scales that "
        f"they replace, their additional cost is {_percent(overhead.share, 2)}."
    )


def _numbers(cost: Any) -> list[str]:
    fields = ("parameters", "bytes", "binary_macs", "float_operations", "flops")
    return [f"{getattr(cost, field):,.0f}" for field in fields]


def layers_table(conversion: "Conversion") -> Stacked:
    """A row for each layer of a converted model: its kind in the file, its bytes, and the reason for the kind."""
    table = Stacked(None, [("layer", LEFT), ("kind", LEFT), ("bytes", RIGHT), ("why", LEFT)])
    for row in conversion.layers:
        table.add_row(row.name, row.kind, f"{row.bytes:,}", row.reason)
    table.add_row("total", "", f"{conversion.total_bytes:,}", f"{len(conversion.binary)} binary convolutions")
    return table


def _percent(share: float, digits: int = 1) -> str:
    return "–" if share != share else f"{100 * share:.{digits}f} %"
