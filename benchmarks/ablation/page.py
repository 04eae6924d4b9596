"""Writes the ablation's page from the rows: Markdown, with plots in a folder beside it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Optional

from benchmarks.ablation import figures
from benchmarks.ablation.contrasts import CONFIDENCE, Difference, differences, interval
from benchmarks.ablation.protocol import (
    ARMS,
    BASELINE,
    CONTRASTS,
    CONTROL,
    LADDER,
    ORDER,
    RATE,
    REAL_GATE,
    REAL_SCALE,
    RECIPE,
    STAGES,
    TEACHER,
    Arm,
    Contrast,
)
from benchmarks.ablation.rows import Row, Rows, Try
from r2b_zoo.system import files

LAST = STAGES[-1]
_PERCENT = f"{100 * CONFIDENCE:.0f} %"


@dataclass(frozen=True)
class Found:
    """The records of stages and of --try, from which tables and plots are made.

    Attributes:
        rows: the rows of one protocol and one commit.
        left_out: a sentence for each row that was left out, as ``Rows.read`` returns them.
        fields: the fields of the protocol.
        tries: the records of --try.
    """

    rows: Sequence[Row]
    left_out: Sequence[str]
    fields: Mapping[str, object]
    tries: Sequence[Try] = ()

    def accuracies(self, stage: str) -> dict[str, dict[int, float]]:
        """Test top-1 in percent, by arm and seed."""
        found: dict[str, dict[int, float]] = {}
        for row in self.rows:
            if row.stage == stage:
                found.setdefault(row.arm, {})[row.seed] = 100 * row.test_accuracy
        return found

    def missing(self) -> list[str]:
        """A sentence for each arm that has fewer seeds than it should."""
        of_arms = self.accuracies(LAST)
        present = {name: len(of_arms.get(name, {})) for name in ARMS}
        return [
            f"{arm.title}: {present[name]} of {arm.seeds} seeds {'is' if present[name] == 1 else 'are'} present."
            for name, arm in ARMS.items()
            if present[name] < arm.seeds
        ]


def write(rows: Rows, runs: Path) -> list[Path]:
    """Writes ``<folder of the rows>.md``, and its plots into that folder.

    Args:
        rows: the source of every number.
        runs: folder of the runs, for the attention maps. If the runs are missing, an existing picture is kept.

    Returns:
        Paths of the files that were written.

    Raises:
        ValueError: there are no rows.
    """
    taken, left_out = rows.read() if (rows.folder / "protocol.json").is_file() else ((), ())
    if not taken:
        raise ValueError(f"There are no rows in {rows.folder}: train first, without --summary.")
    found = Found(taken, left_out, rows.fields(), rows.tries())
    pictures = rows.folder
    written = [
        figures.ladder(pictures / "ladder.svg", found.accuracies(LAST)),
        figures.curves(pictures / "curves.svg", found.rows),
        figures.cost(pictures / "cost.svg", found.accuracies(LAST), found.accuracies("teacher"), found.fields),
    ]
    attention = figures.attention(pictures / "attention.png", runs, found.rows)
    if attention is not None:
        written.append(attention)
    page = rows.folder.with_suffix(".md")
    has_attention = (pictures / "attention.png").is_file()
    files.write_text(page, markdown(found, rows.folder.name, has_attention))
    return [page, *written]


def markdown(found: Found, folder: str, has_attention: bool = True) -> str:
    """The text of the page. ``folder`` is the name of the folder of plots, which is beside the page."""
    of_arms = found.accuracies(LAST)
    contrasts, compared = differences(CONTRASTS, of_arms), _compared(found)
    parts = [
        _head(found),
        f"![Test top-1 of each arm, every seed and the mean with its interval]({folder}/ladder.svg)",
        _ladder_table(found),
        "## Conclusions",
        _contrast_table(contrasts),
        *_statements(contrasts, of_arms, compared),
        *_teachers(found),
        *_tries(compared),
        "## Accuracy during training",
        f"![Validation top-1 after every epoch]({folder}/curves.svg)",
        "## Accuracy and cost",
        f"![Test top-1 over operations]({folder}/cost.svg)",
        *(_attention(folder) if has_attention else ()),
        "## Time",
        _time_table(found),
    ]
    return "\n\n".join(parts) + "\n"


def _attention(folder: str) -> tuple[str, str]:
    picture = f"![Attention maps of three networks on the same photographs]({folder}/attention.png)"
    return "## Where the networks look", picture


def _head(found: Found) -> str:
    fields = found.fields
    epochs = ", ".join(f"{stage} {fields[f'{stage}.epochs']}" for stage in STAGES)
    row = found.rows[0]
    processors = sorted({one.processor for one in found.rows})
    machines = f"{'Machine' if len(processors) == 1 else 'Machines'}: {', '.join(processors)}"
    lines = [
        f"# {str(fields.get('dataset', 'cifar10')).upper()}: what each idea is worth",
        "",
        "`python -m benchmarks.ablation data_dir=TFDS` trains what this page shows, and `--summary` writes it from the "
        "rows beside its plots: one JSON file for each trained stage.",
        "",
        f"All arms have: width {fields['width']}, {fields['stem']} stem, batch {fields['batch_size']}, "
        f"{fields['augmentation']}, α of the weights, cosine to 0, {epochs} epochs; `binary_activations` starts from "
        "random weights, `binary` from those of `binary_activations`, without attention matching. "
        f"{float(str(fields['validation'])):.0%} of the training images are held out. The test split is read once for "
        "each stage, with the weights after its last epoch.",
        "",
        _rates(),
        "",
        f"{machines}. Commit {row.commit[:12]}. Protocol {row.protocol}.",
    ]
    notes = [*found.missing(), *found.left_out]
    if notes:
        lines += ["", "Not complete:", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines)


def _rates() -> str:
    """Sentences on the learning rates of the arms."""
    titles: dict[object, list[str]] = {}
    for arm in ARMS.values():
        titles.setdefault(arm.fields[RATE], []).append(arm.title)
    common = max(titles, key=lambda rate: len(titles[rate]))
    others = [f"; {' and '.join(names)} with {rate}" for rate, names in titles.items() if rate != common]
    return (
        f"All arms train `{RATE.partition('.')[0]}` with a learning rate of {common}{''.join(others)}. These are the "
        "best values of a sweep on the held-out images: one sweep for each of the older networks, and one for the "
        "ladder and its control. The other stages have the recipe's learning rates."
    )


def _value(values: Mapping[int, float]) -> str:
    mean = statistics.mean(values.values())
    bounds = interval(list(values.values()))
    return f"{mean:.1f}" if bounds is None else f"{mean:.1f} [{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _ladder_table(found: Found) -> str:
    activations, binary = found.accuracies("binary_activations"), found.accuracies(LAST)
    lines = [
        "| arm | binary activations | binary | seeds | paper, CIFAR-100 |",
        "|---|---|---|---|---|",
    ]
    for group in (BASELINE, LADDER, CONTROL):
        for name, arm in ARMS.items():
            if arm.group != group or name not in binary:
                continue
            paper = " → ".join(f"{value}" for value in arm.table_3) if arm.table_3 else "–"
            seeds = ", ".join(f"{value:.1f}" for _, value in sorted(binary[name].items()))
            first = _value(activations[name]) if name in activations else "–"
            lines.append(f"| {arm.title} | {first} | {_value(binary[name])} | {seeds} | {paper} |")
    return "\n".join(lines) + (
        f"\n\nTest top-1 in percent: mean over the seeds with its {_PERCENT} interval (Student's t), and the binary "
        "network of each seed. The last column is table 3 of the paper, for another data set and a network four "
        "times as wide: only its order can be compared."
    )


def _contrast_table(contrasts: Mapping[Contrast, Optional[Difference]]) -> str:
    lines = ["| difference | points | interval | p, corrected | seeds | |", "|---|---|---|---|---|---|"]
    for contrast, one in contrasts.items():
        arm, over = ARMS[contrast.arm], ARMS[contrast.over]
        name = f"{arm.title} over {over.title}"
        if one is None:
            lines.append(f"| {name} | – | – | – | – | not measured |")
            continue
        bounds = "–" if one.interval is None else f"[{one.interval[0]:+.1f}, {one.interval[1]:+.1f}]"
        p = "secondary" if not contrast.primary else "–" if one.adjusted is None else f"{one.adjusted:.3f}"
        seeds = ", ".join(f"{value:+.1f}" for value in one.values)
        verdict = "resolved" if one.is_resolved else "not resolved"
        lines.append(f"| {name} | {one.mean:+.1f} | {bounds} | {p} | {seeds} | {verdict} |")
    return "\n".join(lines) + (
        "\n\nDifferences are paired by seed: arms of one seed share their teacher and the order of their images. "
        f"{_PERCENT} intervals of the mean; p of the paired t test after Holm's correction for the three primary "
        "differences, which were named before anything was trained. A difference is resolved if its interval "
        "excludes 0 and p is below 0.05."
    )


def _statements(
    contrasts: Mapping[Contrast, Optional[Difference]],
    accuracies: Mapping[str, Mapping[int, float]],
    compared: Sequence["_Compared"],
) -> list[str]:
    said = []
    for contrast, one in contrasts.items():
        if one is not None and one.is_resolved and one.interval is not None:
            arm, over = ARMS[contrast.arm], ARMS[contrast.over]
            side = "above" if one.mean > 0 else "below"
            said.append(
                f"- {arm.title} is {abs(one.mean):.1f} points {side} {over.title} "
                f"({_PERCENT} interval {one.interval[0]:+.1f} to {one.interval[1]:+.1f})."
            )
    if not said:
        said.append("- No difference is resolved with these seeds.")
    return ["\n".join(said), _order(accuracies, compared)]


def _teachers(found: Found) -> list[str]:
    """A list with one text on the accuracy of the networks that teach; empty if one of them has no rows."""
    taught_by = {TEACHER: "the teacher", REAL_SCALE: "the real student", REAL_GATE: "the real student with gates"}
    means = {}
    for name in taught_by:
        stage = "teacher" if name == TEACHER else "real"
        values = found.accuracies(stage).get(name)
        if not values:
            return []
        means[name] = f"{taught_by[name]} ({statistics.mean(values.values()):.1f} %)"
    by_teacher = {
        name: [arm.title for arm in ARMS.values() if _last_shared(arm) == name and arm.name in found.accuracies(LAST)]
        for name in taught_by
    }
    sentences = [f"{' and '.join(arms)} learned from {means[name]}" for name, arms in by_teacher.items() if arms]
    return [f"{'; '.join(sentences)}. The figures are means of test top-1."] if sentences else []


def _last_shared(arm: Arm) -> Optional[str]:
    """The shared run whose network teaches an arm: its real student, else its teacher; None if it has neither."""
    return arm.shared.get("real") or arm.shared.get("teacher")


def _order(accuracies: Mapping[str, Mapping[int, float]], compared: Sequence["_Compared"]) -> str:
    """Sentences on whether the arms' means are in the order of the literature."""
    known = [ARMS[name] for name in ORDER if name in accuracies]
    if len(known) < len(ORDER):
        return "The order of the networks: not measured for all of them."
    means = {arm.name: statistics.mean(accuracies[arm.name].values()) for arm in known}
    measured = sorted(known, key=lambda arm: means[arm.name])
    order = " < ".join(f"{arm.title} ({means[arm.name]:.1f})" for arm in measured)
    if all(means[lower.name] < means[higher.name] for lower, higher in pairwise(known)):
        return f"By their means: {order}, as in the literature."
    expected = " < ".join(arm.title for arm in known)
    best = [one.arm.title for one in compared if one.arm in known and one.best == one.used]
    rates = f"The learning rates of {', '.join(best)} are the best of the sweeps below. " if best else ""
    return (
        f"By their means: {order}. The order in the literature, {expected}, does not show here. {rates}"
        "The operations of all networks are those of table 1 of the paper (`tests/test_costs.py`). Training is much "
        "shorter here."
    )


@dataclass(frozen=True)
class _Compared:
    """The values of a field that were compared for an arm.

    Attributes:
        arm: the arm.
        tried: the record of --try.
        used: the value in the arm's runs. If it was tried, it is spelt as in the record.
        accuracies: validation accuracy (0–1) by value. If the used value was not tried, its accuracy is that of the
            arm's row, if there is one.
    """

    arm: Arm
    tried: Try
    used: str
    accuracies: Mapping[str, float]

    @property
    def best(self) -> str:
        return max(self.accuracies, key=lambda value: self.accuracies[value])


def _compared(found: Found) -> list[_Compared]:
    """The values that were tried, in the order of stages and arms."""
    of_rows = {(row.arm, row.stage, row.seed): row.validation_accuracy for row in found.rows}
    order = list(ARMS)
    compared = []
    for one in sorted(found.tries, key=lambda one: (STAGES.index(one.stage), order.index(one.arm))):
        accuracies = dict(one.accuracies)
        used = _used(ARMS[one.arm], one, found.fields)
        of_row = of_rows.get((one.arm, one.stage, one.seed))
        if used not in accuracies and of_row is not None:
            accuracies = {used: of_row, **accuracies}
        compared.append(_Compared(ARMS[one.arm], one, used, accuracies))
    return compared


def _tries(compared: Sequence[_Compared]) -> list[str]:
    """The section on the values that were tried, with a table of their accuracies; empty if none were tried."""
    if not compared:
        return []
    lines = ["| arm | seed | field | value: validation top-1 |", "|---|---|---|---|"]
    better = []
    for one in compared:
        shown = ", ".join(
            f"{f'**{value}**' if value == one.used else value}: {100 * accuracy:.1f}"
            for value, accuracy in one.accuracies.items()
        )
        lines.append(f"| {one.arm.title} | {one.tried.seed} | `{one.tried.field}` | {shown} |")
        if one.used in one.accuracies and one.best != one.used:
            points = 100 * (one.accuracies[one.best] - one.accuracies[one.used])
            better.append(f"{one.arm.title} by {points:.1f} points ({one.best})")
    commits = ", ".join(sorted({one.tried.commit[:12] for one in compared}))
    verdict = f" Another value is better for {'; '.join(better)}." if better else ""
    if all(one.best == one.used for one in compared):
        verdict = " In every row, it has the highest validation top-1."
    return [
        "## Values that were compared",
        "\n".join(lines),
        "Each value is from one run with the seed named, on the held-out validation images after the field's stage "
        f"(`--try`, commit {commits}). The runs in the tables above use the value in bold.{verdict}",
    ]


def _used(arm: Arm, tried: Try, fields: Mapping[str, object]) -> str:
    """The value of a field in the arm's runs. If this value was tried, it is spelt as in the record."""
    from r2b_zoo import recipes
    from r2b_zoo.recipes.overrides import parse

    value = recipes.plan(RECIPE, **{**fields, **arm.fields}).config[tried.field]
    same = (text for text in tried.accuracies if parse([f"{tried.field}={text}"])[tried.field] == value)
    return next(same, str(value))


def _time_table(found: Found) -> str:
    lines = ["| stage | network | images/s | seconds an epoch |", "|---|---|---|---|"]
    seen: dict[tuple[str, str, str], list[Row]] = {}
    for row in found.rows:
        seen.setdefault((row.stage, row.network, row.precision), []).append(row)
    for (stage, network, _), rows in sorted(seen.items(), key=lambda item: (STAGES.index(item[0][0]), item[0][1])):
        speed = statistics.median(row.images_per_second for row in rows)
        seconds = statistics.median(row.seconds / row.epochs for row in rows)
        lines.append(f"| `{stage}` | `{network}` | {speed:.0f} | {seconds:.0f} |")
    hours = sum(row.seconds for row in found.rows) / 3600
    return "\n".join(lines) + (
        "\n\nThe table shows medians of one process on one core, at low priority beside other work; all rows together "
        f"took {hours:.1f} core hours."
    )
