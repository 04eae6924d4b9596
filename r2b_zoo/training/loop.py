"""The training loop of all recipes. It starts or resumes a stage, and trains it to its end."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from r2b_zoo.runs.checkpoints import Checkpoint, Progress, set_random_state
from r2b_zoo.system.stop_requests import StopRequest, stop_requests
from r2b_zoo.training.local_value import local_value
from r2b_zoo.training.teacher_student import TeacherStudent

BEST = "best"

Batches = Callable[[int, int], Any]
"""``batches(epoch, skip)``: the training batches of ``epoch``, except the first ``skip``, and of all later epochs."""
Save = Callable[[Progress, dict[str, np.ndarray]], None]
"""Writes a checkpoint with this progress and these arrays by name."""


class TrainingDiverged(RuntimeError):  # noqa: N818 - the name says what happened
    """The loss became NaN or infinite, or gradients overflow float16 at any loss scale."""


class TrainingStopped(Exception):  # noqa: N818 - the name says what happened
    """Training stopped because of a signal; a checkpoint is saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@dataclass(frozen=True)
class Tests:
    """The test data of a network, which can be read any number of times.

    Attributes:
        batches: the batches, which may repeat without end.
        steps: number of batches in one test.
    """

    batches: Any
    steps: int


@dataclass(frozen=True)
class Statistics:
    """When batch-norm statistics are estimated anew, and from which data.

    Attributes:
        batches: ``batches(i)`` gives the training batches for an estimate: ``i`` is 0 before the first step and 1 after
            the last one.
        steps: number of batches for one estimate.
        when: "before" the first step, "after" the last one, "both", or "running", which means never: the network then
            keeps the running averages of training.
    """

    batches: Callable[[int], Any]
    steps: int
    when: str = "running"


class StageLoop:
    """Trains one stage.

    The loop runs Keras' callbacks and step functions, but not ``fit``, which cannot resume from a checkpoint within an
    epoch.

    Args:
        name: name of the stage, for messages.
        model: the compiled model.
        batches: the training data.
        tests: the data for the accuracy after each epoch.
        final_tests: the data on which the final weights are tested once; None for ``tests``.
        starts_from_weights: whether the student has trained weights at the start; if so, it is tested before the first
            step.
        statistics: how batch-norm statistics are estimated anew; None if they are not.
        steps_per_epoch: optimizer steps per epoch.
        epochs: epochs of the whole stage.
        save: called after every epoch, every ``checkpoint_minutes``, and when the process is asked to stop.
        checkpoint_minutes: time between two checkpoints within an epoch.
        patience: if above 0, the weights with the best accuracy on ``tests`` are kept, and training ends after this
            many epochs without a better accuracy. If 0, all epochs are trained.
        largest: called after every step and epoch with the number of the stop signal that this worker received, or 0.
            Returns the largest number of all workers, so that all stop together.
    """

    def __init__(
        self,
        name: str,
        model: TeacherStudent,
        batches: Batches,
        tests: Tests,
        final_tests: Optional[Tests] = None,
        *,
        starts_from_weights: bool = False,
        statistics: Optional[Statistics] = None,
        steps_per_epoch: int,
        epochs: int,
        save: Save,
        checkpoint_minutes: float,
        patience: int = 0,
        largest: Callable[[int], int] = lambda number: number,
    ) -> None:
        self.name = name
        self.model = model
        self.batches = batches
        self.tests = tests
        self.final_tests = final_tests
        self.starts_from_weights = starts_from_weights
        self.statistics = statistics
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self.save = save
        self.checkpoint_minutes = checkpoint_minutes
        self.patience = patience
        self.largest = largest
        self.progress = Progress()
        self.final: dict[str, float] = {}
        self._best_weights: list[np.ndarray] = []
        self._saved_at = time.monotonic()
        self._running_since = time.monotonic()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Resumes from a checkpoint.

        Raises:
            ValueError: the checkpoint is of another network or optimizer.
        """
        arrays = dict(checkpoint.arrays)
        best = [arrays.pop(name) for name in sorted(arrays) if name.startswith(BEST)]
        variables = self._variables()
        if {name: value.shape for name, value in arrays.items()} != {n: tuple(v.shape) for n, v in variables.items()}:
            raise ValueError(
                "The checkpoint does not have the variables of this stage; another version may have written it."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.progress = checkpoint.progress
        self._best_weights = best
        set_random_state(checkpoint.random_state)

    def run(self, callbacks: Sequence[tf.keras.callbacks.Callback]) -> Progress:
        """Trains to the end, and leaves the final weights in the student.

        The final weights are those after the last step or, with ``patience``, those with the best accuracy. If the
        model has an ``ema_decay``, they are the moving averages of the weights at that point.

        Raises:
            TrainingStopped: SIGINT, SIGTERM or SIGHUP was received; a checkpoint is saved. See ``stop_requests``.
        """
        hooks = tf.keras.callbacks.CallbackList(
            list(callbacks), model=self.model, epochs=self.epochs, steps=self.steps_per_epoch, verbose=0
        )
        self._saved_at = self._running_since = time.monotonic()
        with stop_requests() as stop:
            hooks.on_train_begin()
            if (self.progress.epoch, self.progress.step) == (0, 0):
                self._prepare_start()
            batches = iter(self.batches(self.progress.epoch, self.progress.step))
            while not self._is_done():
                self._train_epoch(batches, hooks, stop)
                self._finish_epoch(hooks)
                if number := self.largest(stop.received):
                    raise self._stopped(number)
            self._finish()
            if number := self.largest(stop.received):
                raise self._stopped(number)
            hooks.on_train_end({**self.final, "epochs": self.progress.epoch})
        self._add_time()
        return self.progress

    def _prepare_start(self) -> None:
        """Does what comes before the first step. It is repeated if the process restarts before the first checkpoint."""
        self._estimate_statistics("before", 0)
        self.model.restart_averages()
        if self.starts_from_weights:
            self.progress.start = self._tested(self.tests)

    def _finish(self) -> None:
        """Leaves the final weights in the student, and their accuracy in ``final``.

        This is repeated if the process ends before the stage is saved, and then resumes.
        """
        self.final = dict(self._final_row())
        self._keep_final_weights()
        estimated = self._estimate_statistics("after", 1)
        accuracy = self.final["val_accuracy"]
        if estimated or self.final_tests is not None:
            accuracy = self._tested(self.final_tests or self.tests)["accuracy"]
        self.final["test_accuracy"] = accuracy

    def _estimate_statistics(self, when: str, number: int) -> bool:
        statistics = self.statistics
        if statistics is None or statistics.when not in (when, "both"):
            return False
        self.model.estimate_batch_norms(iter(statistics.batches(number)), statistics.steps)
        return True

    def _tested(self, tests: Tests) -> dict[str, float]:
        tested = self.model.evaluate(tests.batches, steps=tests.steps, verbose=0, return_dict=True)
        return {name: float(value) for name, value in tested.items()}

    def _is_done(self) -> bool:
        return self.progress.epoch >= self.epochs or 0 < self.patience <= self.progress.waited

    def _train_epoch(self, batches: Iterator[Any], hooks: tf.keras.callbacks.CallbackList, stop: StopRequest) -> None:
        progress = self.progress
        hooks.on_epoch_begin(progress.epoch)
        if progress.step == 0:
            self.model.reset_metrics()
        train = self.model.make_train_function()
        while progress.step < self.steps_per_epoch:
            step = progress.step
            hooks.on_train_batch_begin(step)
            logs = train(batches)
            progress.step += 1
            hooks.on_train_batch_end(step, logs)
            if number := self.largest(stop.received):
                self._write_checkpoint()
                raise self._stopped(number)
            if time.monotonic() - self._saved_at >= 60 * self.checkpoint_minutes:
                self._write_checkpoint()

    def _stopped(self, signal_number: int) -> TrainingStopped:
        return TrainingStopped(
            f"Stopped in stage {self.name} after {self.where()}, and saved: the same command resumes there.",
            signal_number,
        )

    def where(self) -> str:
        """The progress in words."""
        epochs = f"{self.progress.epoch} of {self.epochs} epochs"
        return epochs + (f" and {self.progress.step} of {self.steps_per_epoch} steps" if self.progress.step else "")

    def _finish_epoch(self, hooks: tf.keras.callbacks.CallbackList) -> None:
        progress = self.progress
        logs = self.model.results()
        logs["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
        with self.model.averaged():
            logs |= {f"val_{name}": value for name, value in self._tested(self.tests).items()}
            if self.patience:
                self._compare(logs["val_accuracy"])
        hooks.on_epoch_end(progress.epoch, logs)
        progress.rows.append({"epoch": progress.epoch, **{name: float(value) for name, value in logs.items()}})
        progress.epoch, progress.step = progress.epoch + 1, 0
        self._write_checkpoint()

    def _compare(self, accuracy: float) -> None:
        progress = self.progress
        if progress.best is None or accuracy > progress.best:
            progress.best, progress.waited = accuracy, 0
            self._best_weights = [local_value(weight) for weight in self.model.student.weights]
        else:
            progress.waited += 1

    def _final_row(self) -> dict[str, float]:
        """The log's row for the weights that are kept."""
        rows = self.progress.rows
        return max(rows, key=lambda row: row["val_accuracy"]) if self.patience else rows[-1]

    def _keep_final_weights(self) -> None:
        final = self._best_weights or [local_value(average) for average in self.model.averages]
        for weight, value in zip(self.model.student.weights, final, strict=bool(final)):
            weight.assign(value)

    def _variables(self) -> dict[str, tf.Variable]:
        """All variables that training changes, by names that are the same in every process."""
        # Walk through what the optimizer tracks, because a LossScaleOptimizer's ``variables`` lacks the loss scale.
        in_optimizer = tf.train.TrackableView(self.model.optimizer).descendants()
        optimizer = {id(v): v for v in in_optimizer if isinstance(v, tf.Variable)}
        students = {id(weight) for weight in self.model.student.weights}
        groups = {
            "student": self.model.student.weights,
            "optimizer": [variable for key, variable in optimizer.items() if key not in students],
            "average": self.model.averages,
            "metrics": [self.model.sums],
        }
        return {f"{name}/{i:05d}": variable for name, group in groups.items() for i, variable in enumerate(group)}

    def _write_checkpoint(self) -> None:
        self._add_time()
        arrays = {name: np.asarray(local_value(variable)) for name, variable in self._variables().items()}
        arrays |= {f"{BEST}/{i:05d}": value for i, value in enumerate(self._best_weights)}
        self.save(self.progress, arrays)
        self._saved_at = time.monotonic()

    def _add_time(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._running_since
        self._running_since = now


class StopOnNaN(tf.keras.callbacks.Callback):
    """Ends training with an error that names the step at which the loss became NaN or infinite.

    In float16 a single overflowing gradient does not end training: the step is skipped and the loss scale halved.
    Training ends once overflows have halved the loss scale to 1.

    Args:
        stage: name of the stage, for the message.

    Raises:
        TrainingDiverged: in both cases, at the end of the step and before a checkpoint is written.
    """

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Optional[dict[str, float]] = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, float]] = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not abs(loss) < float("inf"):
            raise TrainingDiverged(
                f"The loss of stage {self.stage} became {loss} at epoch {self._epoch + 1}, step {batch + 1}: "
                f"lower the learning rate ({self.stage}.learning_rate=...) or check the images."
            )
        optimizer: Any = getattr(self.model, "optimizer", None)
        scaled = isinstance(optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
        if scaled and optimizer.loss_scale.numpy() <= 1:
            raise TrainingDiverged(
                f"The gradients of stage {self.stage} overflow float16 at any loss scale, at epoch {self._epoch + 1}, "
                f"step {batch + 1}: train with mixed_precision=bfloat16, or lower the learning rate "
                f"({self.stage}.learning_rate=...)."
            )
