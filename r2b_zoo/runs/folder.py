"""The folder of a run: its files, and the checks before a run resumes in it.

    config.json                  every field of the recipe, and the versions of Python and of libraries at the start
    data.json                    the classes and images of the data set (r2b_zoo/runs/data_record.py)
    stages/<stage>/weights.h5    the trained weights of the stage
    stages/<stage>/log.csv       losses, accuracies and learning rate of every epoch
    stages/<stage>/tensorboard/  the same for TensorBoard
    stages/<stage>/result.json   the results of the stage
    model.tflite                 the converted network of the last stage
    attention.npz                attention maps of the first and the last stage's network on a few test images
    examples.npz                 a test image of each class, or of some classes if there are many
    results.json                 the results of all stages, and of conversion, verification and timing
    report.html                  a page that shows all results
    model.html                   a page that runs the network, if r2b-runtime is installed with its engine for browsers

A stage is trained in ``stages/.<stage>.partial``, which is renamed when the stage is complete. Until then it holds:

    checkpoints/                 the checkpoints of its training (r2b_zoo/runs/checkpoints.py)
    log.csv, tensorboard/        as above, for the epochs so far

The process that trains in the folder holds a lock on the file ``.lock``.
"""

import contextlib
import errno
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r2b_zoo.runs import checkpoints, records
from r2b_zoo.runs.checkpoints import Checkpoint, Checkpoints
from r2b_zoo.runs.later_fields import with_later_fields
from r2b_zoo.runs.plans import Plan, StagePlan
from r2b_zoo.runs.records import DamagedRecordError, MissingRecordError, RunFolderError
from r2b_zoo.system import files, locks

DEFAULT_ROOT = Path("runs")
LOCK_NAME = ".lock"
MAY_CHANGE = ("strategy", "cpu_devices", "checkpoint_minutes")
"""Fields that may differ when a run resumes, because they change the trained weights at most by rounding."""
SHARED_SECONDS = 60
"""Seconds to wait for a file that another machine has written; a network file system may show it late."""
_VERSIONED = ("r2b-zoo", "tensorflow", "tf_keras", "larq", "larq-compute-engine", "numpy")


__all__ = ["RunFolder", "RunFolderError"]


class RunFolder:
    """The paths and records of one run, the lock on its folder, and the checks before it is trained.

    Args:
        path: the folder; ``opened`` creates it if it does not exist.
    """

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self.path = Path(path)

    config_path = property(lambda self: self.path / "config.json")
    data_path = property(lambda self: self.path / "data.json")
    stages_path = property(lambda self: self.path / "stages")
    results_path = property(lambda self: self.path / "results.json")
    tflite_path = property(lambda self: self.path / "model.tflite")
    attention_path = property(lambda self: self.path / "attention.npz")
    examples_path = property(lambda self: self.path / "examples.npz")
    report_path = property(lambda self: self.path / "report.html")
    web_path = property(lambda self: self.path / "model.html")

    def stage(self, name: str) -> Path:
        return self.path / "stages" / name

    def weights(self, name: str) -> Path:
        return self.stage(name) / "weights.h5"

    def result_path(self, name: str) -> Path:
        return self.stage(name) / "result.json"

    def log_path(self, name: str) -> Path:
        return self.stage(name) / "log.csv"

    def is_finished(self, name: str) -> bool:
        return self.stage(name).is_dir()

    def partial(self, name: str) -> Path:
        """The folder of a stage while it is trained."""
        return self.path / "stages" / f".{name}.partial"

    def checkpoints(self, name: str) -> Checkpoints:
        """The checkpoints of an unfinished stage."""
        return Checkpoints(self.partial(name) / checkpoints.FOLDER_NAME)

    def wait_for(self, path: Path) -> None:
        """Waits until ``path``, which another machine has written, appears here.

        Raises:
            RunFolderError: it has not appeared after a minute.
        """
        end = time.monotonic() + SHARED_SECONDS
        while not path.exists():
            if time.monotonic() > end:
                raise RunFolderError(
                    f"The chief has written {path}, but this worker cannot see it: --output must be a folder on "
                    "storage that all workers share, by the same path."
                )
            time.sleep(0.2)

    def shared_checkpoint(self, stage: str, name: str) -> Checkpoint:
        """The checkpoint of an unfinished stage with the file name ``name``, which another machine has written.

        Raises:
            RunFolderError: it has not appeared here after a minute, or it cannot be read here.
        """
        path = self.checkpoints(stage).folder / name
        self.wait_for(path)
        try:
            return self.checkpoints(stage).read(name)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"The chief has read {path}, and this worker cannot ({error}).") from error

    @contextmanager
    def opened(self, plan: Plan, log: Callable[[str], None] = lambda line: None) -> Iterator[None]:
        """Starts or resumes a run in this folder, and keeps other processes out of it until the block ends.

        A run resumes only with the same configuration, except for the fields in ``MAY_CHANGE``. Damaged records are set
        aside, and rebuilt from the other records.

        Args:
            plan: the plan of the run.
            log: takes a line for each damaged record; the line says how the record was rebuilt.

        Raises:
            RunFolderError: the folder holds a run with other fields (the message names the first), or files but no run;
                it cannot be written; another process uses it; or a damaged record cannot be rebuilt.
        """
        self.check(plan)
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            self.check(plan)  # again: another process may have started a run here since the first check
            with self.writing():
                self._write_config(plan, log)
                for stage in plan.stages:
                    if self.is_finished(stage.name):
                        self._mend(stage, plan, log)
                # Remove the checkpoints of a process that died right after it had finished the stage.
                for stage in plan.stages:
                    shutil.rmtree(self.stage(stage.name) / checkpoints.FOLDER_NAME, ignore_errors=True)
            yield
        finally:
            lock.release()

    def _write_config(self, plan: Plan, log: Callable[[str], None]) -> None:
        config = {"fields": _config(plan), "versions": _versions()}
        if self.config_path.is_file():
            try:
                before = self.config()
            except DamagedRecordError:
                aside = files.set_aside(self.config_path)
                log(
                    f"{self.config_path} was damaged: written again from this command, which nothing in the folder "
                    f"contradicts. The damaged file is {aside}."
                )
            else:
                if before["fields"] == config["fields"]:
                    return
                config["versions"] = before["versions"]
        files.write_text(self.config_path, json.dumps(config, indent=2))

    def _lock(self) -> locks.Lock:
        try:
            with self.writing():
                return locks.Lock(self.path / LOCK_NAME)
        except locks.LockedError as error:
            raise RunFolderError(
                f"{self.path} is in use: {error.owner} trains in it. Wait until it is done, stop it, or choose another "
                "folder with --output."
            ) from None

    def check(self, plan: Plan) -> None:
        """Raises RunFolderError, as ``opened`` does, if the folder cannot be used for this plan; changes nothing."""
        with self.writing():
            if self.config_path.is_file():
                try:
                    existing = with_later_fields(self.config()["fields"])
                except DamagedRecordError:
                    self._require_like(plan)
                else:
                    self._require_same(_config(plan), existing)
            elif self.path.exists() and any(not path.name.startswith(".") for path in self.path.iterdir()):
                raise RunFolderError(
                    f"{self.path} is not empty and holds no run (no config.json): choose another folder with --output."
                )

    def _require_like(self, plan: Plan) -> None:
        """Raises RunFolderError if what can be read in a folder with a damaged config.json contradicts the plan."""
        stages = {}
        for path in (self.path / "stages").glob("[!.]*"):
            with contextlib.suppress(RunFolderError):
                stages[path.name] = self.stage_result(path.name)
        other = records.disagreement(plan, records.fields_left(self.config_path), stages)
        if other is not None:
            raise RunFolderError(
                f"{self.config_path} is damaged, and {self.path} holds a run with {other}: give the command that "
                "started the run, which writes the file again and keeps the finished stages, or choose another folder "
                "with --output."
            )

    def _mend(self, stage: StagePlan, plan: Plan, log: Callable[[str], None]) -> None:
        """Rebuilds damaged records of a finished stage. Raises RunFolderError if result.json cannot be rebuilt."""
        log_path, result_path = self.log_path(stage.name), self.result_path(stage.name)
        whole, rows = records.whole_lines(log_path)
        if log_path.is_file() and log_path.read_bytes() != whole:
            aside = files.set_aside(log_path)
            files.write_bytes(log_path, whole)
            log(f"{log_path} was damaged: its {len(rows)} whole rows are kept. The damaged file is {aside}.")
        try:
            self.stage_result(stage.name)
        except RunFolderError as damage:
            results: dict[str, Any] = {}
            with contextlib.suppress(RunFolderError):
                results = self.results()
            # The accuracy in the log is the stage's test accuracy only if it was measured on the test images, and if
            # batch-norm statistics did not change after it.
            is_tested = stage.batch_norm_statistics in ("running", "before") and not plan.loop.validation
            of_test = rows if is_tested and stage.from_run is None else []
            result = records.rebuilt_result(stage, plan.loop.patience, results, of_test)
            if result is None:
                raise damage
            if result_path.is_file():
                files.set_aside(result_path)
            files.write_text(result_path, json.dumps(result, indent=2))
            log(f"{result_path} was damaged or missing: written again from the run's other records.")

    def _require_same(self, config: dict[str, Any], existing: dict[str, Any]) -> None:
        for key in [*config, *existing]:
            if key not in MAY_CHANGE and config.get(key) != existing.get(key):
                raise RunFolderError(
                    f"{self.path} holds a run with {key}={existing.get(key)!r}, and this command has "
                    f"{config.get(key)!r}: choose another folder with --output, or delete this one."
                )

    def config(self) -> dict[str, Any]:
        """The configuration and versions that ``opened`` wrote.

        Raises:
            RunFolderError: the folder holds no run, or its config.json is damaged.
        """
        way_out = "give the command that started the run again: it rewrites the file and keeps the finished stages."
        config = self._read(self.config_path, way_out, ("fields", "versions"))
        fields = config["fields"]
        if not isinstance(fields, dict) or "recipe" not in fields:
            raise DamagedRecordError(f"{self.config_path} is damaged (no fields of a recipe in it): {way_out}")
        return config

    def plan(self) -> Plan:
        """The plan of the run in this folder. Raises RunFolderError, as ``config`` does."""
        from r2b_zoo import recipes  # loads zookeeper, which only plans need

        fields = with_later_fields(self.config()["fields"])
        return recipes.plan(fields.pop("recipe"), **fields)

    def stage_result(self, name: str) -> dict[str, Any]:
        """The results of a stage.

        Raises:
            RunFolderError: the stage is not finished, or its result.json is damaged.
        """
        way_out = (
            "run the command that started the run again, which rebuilds the file from the run's other records. If that "
            f"fails, delete {self.stage(name)} and run the command again: it trains that stage anew and keeps the "
            "others."
        )
        return self._read(self.result_path(name), way_out, records.REQUIRED)

    def results(self) -> dict[str, Any]:
        """Contents of ``results.json``. Raises RunFolderError if the run is not finished, or the file is damaged."""
        way_out = "run the command that started the run again, which rewrites the file from the finished stages."
        return self._read(self.results_path, way_out)

    def write_results(self, results: dict[str, Any]) -> None:
        with self.writing():
            files.write_text(self.results_path, json.dumps(results, indent=2))

    def _read(self, path: Path, way_out: str, required: Sequence[str] = ()) -> dict[str, Any]:
        try:
            return records.read(path, way_out, required)
        except FileNotFoundError:
            raise MissingRecordError(f"{self.path} holds no (finished) run: there is no {path.name} in it.") from None

    @contextmanager
    def loading(self, stage: str) -> Iterator[Path]:
        """Yields the path of a stage's weights; turns a ValueError in the block into an error that says what to do.

        Raises:
            RunFolderError: the stage is not finished, its result.json is damaged, or the block raised ValueError.
        """
        self.stage_result(stage)  # raises if the stage is not finished
        try:
            yield self.weights(stage)
        except ValueError as error:
            raise RunFolderError(
                f"{error} If there is no copy, delete {self.stage(stage)} and give the command that started the run "
                "again: it trains that stage anew and keeps the others."
            ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turns an OSError in the block, for example of a full disk, into a RunFolderError that says what to do."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise RunFolderError(
                f"The run folder {self.path} cannot be written ({error.strerror or error}): "
                f"{'free some space there or ' if full else ''}choose another folder with --output. Finished stages "
                "and checkpoints are kept, and the same command resumes from them."
            ) from error

    @contextmanager
    def new_stage(self, name: str) -> Iterator[Path]:
        """Yields the folder of a stage in training, and renames it to ``stage(name)`` if the block succeeds.

        The block must write checkpoints into it, or at least make their folder. If the block fails, the folder is
        deleted, unless it holds a checkpoint from which a later process can resume.

        Raises:
            RunFolderError: the folder cannot be made or renamed.
        """
        partial, in_training = self.partial(name), self.checkpoints(name)
        if not in_training.paths():
            shutil.rmtree(partial, ignore_errors=True)
        with self.writing():
            partial.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            with self.writing():
                files.replace_folder(partial, self.stage(name))
                shutil.rmtree(self.stage(name) / checkpoints.FOLDER_NAME)
        finally:
            if not in_training.paths():
                shutil.rmtree(partial, ignore_errors=True)


def _config(plan: Plan) -> dict[str, Any]:
    return {"recipe": plan.recipe, **plan.config}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _VERSIONED}
