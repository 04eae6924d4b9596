"""The records of a run, read with their damage, and rebuilt from what else there is.

A file that was cut off, by a disk that filled up or a copy that broke off, must cost no trained stage. The results of a
stage stand in its result.json, in the run's results.json, and but for timings in its log.csv; the configuration is
that of the command, where all else that the folder says about it agrees.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from r2b_zoo.runs.plans import Plan, StagePlan

# Of a stage's record, those that its plan tells too.
_PLANNED = ("network", "precision", "initial_weights", "pretrained", "trained")
# What a run's record adds to each stage's.
_ADDED = ("name", "tflite_bytes", "milliseconds")
# What every record of a stage has.
REQUIRED = ("network", "precision", "epochs", "test_accuracy")
ACCURACY = "val_accuracy"


class RunFolderError(RuntimeError):
    """The folder of a run cannot be used: it belongs to another run, or cannot be written."""


class MissingRecordError(RunFolderError):
    """There is no such record, or not yet."""


class DamagedRecordError(RunFolderError):
    """A record is there, and cannot be read."""


def read(path: Path, way_out: str, required: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object with the required keys.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecordError: it is not one; ends with the way out.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedRecordError(f"{path} is damaged ({error}): {way_out}") from None
    why = None
    if not isinstance(record, dict):
        why = "not a JSON object"
    elif missing := [key for key in required if key not in record]:
        why = f"no {', '.join(missing)} in it"
    if why is not None:
        raise DamagedRecordError(f"{path} is damaged ({why}): {way_out}")
    return record


def fields_left(path: Path) -> dict[str, Any]:
    """Fields that can still be read in a damaged record, which has one on each line."""
    found: dict[str, Any] = {}
    for line in path.read_bytes().decode(errors="replace").splitlines():
        # The last value may be cut off, and still look like one; before a comma it is whole.
        if line.endswith(","):
            try:
                found |= json.loads(f"{{{line.rstrip(',')}}}")
            except (ValueError, TypeError):
                continue
    return found


def disagreement(plan: Plan, left: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> Optional[str]:
    """In what a plan is not that of a run whose configuration is damaged, in words; None where nothing contradicts it.

    Args:
        plan: of the command.
        left: fields that can still be read in the configuration.
        stages: records of the finished stages, as far as they can be read.
    """
    config = {"recipe": plan.recipe, **plan.config}
    for key, value in left.items():
        if key in config and config[key] != value:
            return f"{key}={value!r}, and this command has {config[key]!r}"
    planned = {stage.name: stage for stage in plan.stages}
    for name, record in stages.items():
        if name not in planned:
            return f"a stage {name!r}, which this command has not"
        for key in _PLANNED:
            if key in record and record[key] != getattr(planned[name], key):
                return f"{name}.{key}={record[key]!r}, and this command has {getattr(planned[name], key)!r}"
        epochs = record.get("epochs")
        if planned[name].from_run is not None:
            continue  # trained by another plan
        if isinstance(epochs, int) and (
            epochs > planned[name].epochs or (not plan.loop.patience and epochs != planned[name].epochs)
        ):
            return f"{name}.epochs={epochs}, and this command has {planned[name].epochs}"
    return None


def whole_lines(path: Path) -> tuple[bytes, list[dict[str, float]]]:
    """The lines of a log that are whole, header included, and their values. Of a missing file none."""
    lines: list[bytes] = []
    rows: list[dict[str, float]] = []
    columns: list[str] = []
    content = path.read_bytes() if path.is_file() else b""
    for line in content.splitlines(keepends=True):
        cells = next(csv.reader(io.StringIO(line.decode(errors="replace"))), [])
        if not line.endswith(b"\n"):
            continue
        if not columns:
            if "epoch" not in cells or ACCURACY not in cells:
                break  # without a header no number says what it is of
            columns = cells
        else:
            try:
                rows.append({column: float(cell) for column, cell in zip(columns, cells, strict=True)})
            except ValueError:
                continue
        lines.append(line)
    return b"".join(lines), rows


def rebuilt_result(
    stage: StagePlan, patience: int, results: Mapping[str, Any], rows: Sequence[Mapping[str, float]]
) -> Optional[dict[str, Any]]:
    """A stage's record from the run's, or from its plan and its log; None where neither tells.

    Args:
        stage: whose record it is.
        patience: of the plan.
        results: the run's record, empty where there is none.
        rows: of the stage's log.
    """
    for row in _stages_of(results):
        if row.get("name") == stage.name and all(key in row for key in REQUIRED):
            return {key: value for key, value in row.items() if key not in _ADDED}
    if not rows or (not patience and len(rows) != stage.epochs):
        return None
    accuracies = [row[ACCURACY] for row in rows]
    return {
        **{key: getattr(stage, key) for key in _PLANNED},
        "taught_by": stage.taught_by,
        "epochs": len(rows),
        # Nothing else has the timings and where the stage started.
        "seconds": None,
        "images_per_second": None,
        "validation_accuracy": None,
        "start": None,
        "test_accuracy": max(accuracies) if patience else accuracies[-1],
    }


def _stages_of(results: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    stages = results.get("stages")
    return (row for row in (stages if isinstance(stages, list) else []) if isinstance(row, dict))
