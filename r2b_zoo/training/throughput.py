"""Callbacks in the training of every stage: TensorBoard's curves, and images per second."""

import time
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.runs.checkpoints import Progress


class EpochSummaries(tf.keras.callbacks.TensorBoard):
    """Writes curves of the epochs for TensorBoard.

    Keras' own callback also makes a summary of each metric after every step and then does not write it, which takes
    half a millisecond, and almost a second the first time. This callback leaves that out.
    """

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        pass


class Throughput(tf.keras.callbacks.Callback):
    """Measures a stage's images per second of training; when the stage resumes, the measurement continues.

    It counts neither the first step of each process, in which TensorFlow traces, nor evaluation. It adds
    ``images_per_second`` to the logs of a batch, for the callbacks that come after it.

    Args:
        batch_size: images per step.
        progress: stores the steps and seconds that are counted.
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
        # Measure until the end of the next step, so that waiting for its images counts.
        self._started = now
        if logs is not None and self.images_per_second is not None:
            logs["images_per_second"] = self.images_per_second
