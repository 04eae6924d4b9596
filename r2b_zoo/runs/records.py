"""Reads the records of a run, and rebuilds damaged ones from the others.

A full disk or an interrupted copy may cut off a file, but then no finished stage must be lost. The results of a stage
are in its result.json and in the run's results.json; most of them also follow from its plan and its log.csv. A damaged
config.json is replaced by the configuration of the command that resumes the run, if nothing else in the folder
contradicts that configuration.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from r2b_zoo.runs.plans import Plan, StagePlan

# These fields of a stage's record are in its plan as well.
_PLANNED = ("network", "precision", "initial_weights", "pretrained", "trained")
# For each stage, the run's record has these fields in addition to those of the stage's own record.
_ADDED = ("name", "tflite_bytes", "milliseconds")
# Every record of a stage has these fields.
REQUIRED = ("network", "precision", "epochs", "test_accuracy")
ACCURACY = "val_accuracy"


class RunFolderError(RuntimeError):
    """The folder of a run cannot be used, for example because it belongs to another run or cannot be written."""


class MissingRecordError(RunFolderError):
    """The record does not exist (yet)."""


class DamagedRecordError(RunFolderError):
    """The record exists, but cannot be read."""


def read(path: Path, way_out: str, required: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a JSON object that has the required keys.

    Args:
        path: path of the file.
        way_out: what the user can do about a damaged file; the error message ends with it.
        required: the keys that the object must have.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecordError: the file holds no such object.
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
    """Fields that can still be read in a damaged config.json, which has one field per line."""
    found: dict[str, Any] = {}
    for line in path.read_bytes().decode(errors="replace").splitlines():
        # A value that was cut off may still look complete; only a comma after it shows that nothing is missing.
        if line.endswith(","):
            try:
                found |= json.loads(f"{{{line.rstrip(',')}}}")
            except (ValueError, TypeError):
                continue
    return found


def disagreement(plan: Plan, left: Mapping[str, Any], stages: Mapping[str, Mapping[str, Any]]) -> Optional[str]:
    """Says in words how a plan contradicts a run whose configuration is damaged; None if it does not.

    Args:
        plan: the plan of the command.
        left: fields that can still be read in the damaged configuration.
        stages: records of the finished stages, as far as they can be read.
    """
    config = {"recipe": plan.recipe, **plan.config}
    for key, value in left.items():
        if key in config and config[key] != value:
            return f"{key}={value!r}, and this command has {config[key]!r}"
    planned = {stage.name: stage for stage in plan.stages}
    for name, record in stages.items():
        if name not in planned:
            return f"a stage {name!r}, which this command does not have"
        for key in _PLANNED:
            if key in record and record[key] != getattr(planned[name], key):
                return f"{name}.{key}={record[key]!r}, and this command has {getattr(planned[name], key)!r}"
        epochs = record.get("epochs")
        if planned[name].from_run is not None:
            continue  # the other run may have trained the stage for fewer or more epochs
        if isinstance(epochs, int) and (
            epochs > planned[name].epochs or (not plan.loop.patience and epochs != planned[name].epochs)
        ):
            return f"{name}.epochs={epochs}, and this command has {planned[name].epochs}"
    return None


def whole_lines(path: Path) -> tuple[bytes, list[dict[str, float]]]:
    """The undamaged lines of a log, with its header, and the values in each row; both empty if the header is lost."""
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
                break  # without a header, nothing says what the numbers are
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
    """Rebuilds a stage's record from the run's record, or else from the stage's plan and log; None if neither suffices.

    Args:
        stage: the plan of the stage.
        patience: the plan's ``patience``.
        results: the run's record, empty if there is none.
        rows: the rows of the stage's log; empty if their accuracies are not those of the final weights on the test
            images.
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
        # These four are neither in the plan nor in the log.
        "seconds": None,
        "images_per_second": None,
        "validation_accuracy": None,
        "start": None,
        "test_accuracy": max(accuracies) if patience else accuracies[-1],
    }


def _stages_of(results: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    stages = results.get("stages")
    return (row for row in (stages if isinstance(stages, list) else []) if isinstance(row, dict))
