"""Reads and writes records of trained stages, one JSON file each. The page's numbers and plots are made from them."""

import csv
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from benchmarks.ablation.protocol import LOCAL, Protocol, Run, learning_rate
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.system import files
from r2b_zoo.system.machine import processor_name

PROTOCOL_FILE = "protocol.json"
TRIES = "tries"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Row:
    """One finished stage of one run.

    Attributes:
        protocol: digest of the fields that all arms have in common.
        arm, stage, seed: name of the arm or shared run, name of the stage, and seed of the run.
        network, precision: the stage's network and its precision.
        epochs: how many epochs it was trained for.
        learning_rate: the highest rate of its schedule.
        validation_accuracy, test_accuracy: top-1 in 0–1 with the weights after the last epoch; the first is None if no
            images are held out.
        start_accuracy: top-1 in 0–1 on the validation images before the first step; None if the stage does not start
            from trained weights.
        losses: losses of the last epoch, by their names in the log; names that start with ``val_`` are of losses and
            accuracy on the validation images.
        curve: top-1 in 0–1 on the validation images after each epoch.
        seconds: training time, including evaluation between the epochs.
        images_per_second: speed of the training steps, without evaluation.
        commit: the commit of the code, followed by "+" if files differed from it.
        processor: name of the machine's processor.
    """

    protocol: str
    arm: str
    stage: str
    seed: int
    network: str
    precision: str
    epochs: int
    learning_rate: float
    validation_accuracy: Optional[float]
    test_accuracy: float
    start_accuracy: Optional[float]
    losses: dict[str, float]
    curve: list[float]
    seconds: float
    images_per_second: float
    commit: str
    processor: str


@dataclass(frozen=True)
class Try:
    """The accuracies of runs that differ only in the value of one field.

    Attributes:
        protocol: digest of the fields that all arms have in common.
        arm, seed: arm and seed of the runs.
        field: dotted name of the field, which begins with the name of its stage.
        accuracies: top-1 in 0–1 on the validation images after that stage, by the value as it was given.
        commit: the commit of the code, followed by "+" if files differed from it.
        processor: name of the machine's processor.
    """

    protocol: str
    arm: str
    seed: int
    field: str
    accuracies: dict[str, float]
    commit: str
    processor: str

    @property
    def stage(self) -> str:
        return self.field.partition(".")[0]

    @classmethod
    def of(cls, protocol: Protocol, run: Run, field: str, accuracies: Mapping[str, float]) -> "Try":
        """Makes the record of runs that differ only in the field; ``run`` is one of them."""
        return cls(protocol.digest, run.arm, run.seed, field, dict(accuracies), _commit(), processor_name())


class Rows:
    """The rows in a folder, all of one protocol.

    Args:
        folder: the folder, which ``write`` creates.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, protocol: Protocol) -> None:
        """Raises ValueError if the folder holds rows of another protocol; call it before training."""
        path = self.folder / PROTOCOL_FILE
        if not path.is_file():
            return
        kept = json.loads(path.read_text())
        if kept["digest"] != protocol.digest:
            other = {key: value for key, value in protocol.fields.items() if kept["fields"].get(key, ...) != value}
            raise ValueError(
                f"{self.folder} has the rows of another protocol ({kept['digest']}; this one is {protocol.digest}, "
                f"and differs in {other or 'fields it does not have'}): name another folder with --rows."
            )

    def write(self, protocol: Protocol, run: Run, folder: RunFolder) -> list[Path]:
        """Writes the rows of the finished stages that a run trained itself, and returns their paths."""
        self.check(protocol)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {"digest": protocol.digest, "fields": _portable(protocol)}
        files.write_text(self.folder / PROTOCOL_FILE, json.dumps(kept, indent=1) + "\n")
        written = []
        for stage in folder.plan().stages:
            if not folder.is_finished(stage.name) or stage.from_run is not None:
                continue
            path = self.folder / f"{run.name}-{stage.name}.json"
            # Keep an existing row: it names the commit that trained the stage, which may not be the current commit.
            if not path.exists():
                row = _row(protocol, run, folder, stage.name)
                files.write_text(path, json.dumps(asdict(row), indent=1) + "\n")
                written.append(path)
        return written

    def write_try(self, protocol: Protocol, tried: Try) -> Path:
        """Writes the record of a try, in place of an earlier one of the same arm and field; returns its path."""
        self.check(protocol)
        path = self.folder / TRIES / f"{tried.arm}-{tried.field}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(asdict(tried), indent=1) + "\n")
        return path

    def tries(self) -> list[Try]:
        """The records of tries under the protocol of the rows."""
        found = [Try(**json.loads(path.read_text())) for path in sorted((self.folder / TRIES).glob("*.json"))]
        digest = json.loads((self.folder / PROTOCOL_FILE).read_text())["digest"]
        return [one for one in found if one.protocol == digest]

    def read(self) -> tuple[list[Row], list[str]]:
        """Returns the rows that can be compared, and a sentence for each row that is left out.

        The rows have the folder's protocol, the commit that most of these rows have, and the learning rates that the
        arms set now.
        """
        digest = json.loads((self.folder / PROTOCOL_FILE).read_text())["digest"]
        rows, left_out = [], []
        for path in sorted(self.folder.glob("*.json")):
            if path.name == PROTOCOL_FILE:
                continue
            row = Row(**json.loads(path.read_text()))
            if row.protocol == digest:
                rows.append((path, row))
            else:
                left_out.append(f"{path.name} is of another protocol ({row.protocol}) and is left out.")
        commits = [row.commit for _, row in rows]
        most = max(sorted(set(commits)), key=commits.count, default="")
        kept = []
        for path, row in rows:
            rate = learning_rate(row.arm, row.stage)
            if row.commit != most:
                left_out.append(f"{path.name} is of commit {row.commit[:12]}, not {most[:12]}, and is left out.")
            elif rate not in (None, row.learning_rate):
                left_out.append(f"{path.name} has a learning rate of {row.learning_rate}, not {rate}, and is left out.")
            else:
                kept.append(row)
        return kept, left_out

    def fields(self) -> dict[str, Any]:
        """The protocol's fields, as they were written."""
        return dict(json.loads((self.folder / PROTOCOL_FILE).read_text())["fields"])


def _portable(protocol: Protocol) -> dict[str, Any]:
    return {key: value for key, value in protocol.fields.items() if key not in LOCAL}


def _row(protocol: Protocol, run: Run, folder: RunFolder, stage: str) -> Row:
    result = folder.stage_result(stage)
    log = _log(folder.log_path(stage))
    start = result.get("start")
    return Row(
        protocol=protocol.digest,
        arm=run.arm,
        stage=stage,
        seed=run.seed,
        network=result["network"],
        precision=result["precision"],
        epochs=result["epochs"],
        learning_rate=next(one.learning_rate for one in folder.plan().stages if one.name == stage),
        validation_accuracy=result["validation_accuracy"],
        test_accuracy=result["test_accuracy"],
        start_accuracy=start["accuracy"] if start else None,
        losses={key: value for key, value in log[-1].items() if key not in ("epoch", "learning_rate", "accuracy")},
        curve=[row["val_accuracy"] for row in log],
        seconds=result["seconds"],
        images_per_second=result["images_per_second"],
        commit=_commit(),
        processor=processor_name(),
    )


def _log(path: Path) -> Sequence[dict[str, float]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "r2b_zoo", "benchmarks/ablation")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
