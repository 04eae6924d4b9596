"""Callbacks for the training of every stage: curves for TensorBoard, and images per second."""

import time
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.runs.checkpoints import Progress


class EpochSummaries(tf.keras.callbacks.TensorBoard):
    """Writes the metrics of each epoch for TensorBoard.

    After every step, Keras' own callback also makes a summary of each metric, but does not write it. This takes half a
    millisecond, and almost a second the first time, so this callback does nothing after a step.
    """

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        pass


class Throughput(tf.keras.callbacks.Callback):
    """Measures how many images per second a stage trains on, from its first start and across interruptions.

    It leaves out evaluation, and the first step of each process, in which TensorFlow traces. It adds
    ``images_per_second`` to the logs of a batch, for the callbacks that come after it.

    Args:
        batch_size: images per step, on all devices together.
        progress: stores the number of counted steps and the seconds that they took.
    """

    def __init__(self, batch_size: int, progress: Progress) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._progress = progress
        self._has_traced = False
        self._started = 0.0

    @property
    def images_per_second(self) -> Optional[float]:
        """Images per second so far; None until a step has been counted."""
        progress = self._progress
        return progress.timed_steps * self._batch_size / progress.timed_seconds if progress.timed_steps else None

    def on_train_batch_begin(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        if batch == 0:
            self._started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        now = time.perf_counter()
        if self._has_traced:
            self._progress.timed_seconds += now - self._started
            self._progress.timed_steps += 1
        self._has_traced = True
        # The next step is measured from here, so that waiting for its images counts.
        self._started = now
        if logs is not None and self.images_per_second is not None:
            logs["images_per_second"] = self.images_per_second
