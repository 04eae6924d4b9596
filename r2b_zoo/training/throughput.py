"""Callbacks that every stage is trained with: TensorBoard's curves, and images per second."""

import time
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.runs.checkpoints import Progress


class EpochSummaries(tf.keras.callbacks.TensorBoard):
    """TensorBoard's curves of the epochs.

    After every step Keras' own also makes a summary of each metric, which nothing writes: half a millisecond, and the
    better part of a second the first time.
    """

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        pass


class Throughput(tf.keras.callbacks.Callback):
    """Counts the images that training takes per second, in all processes of a stage.

    Without the first step of each process, which traces, and without evaluation. Adds ``images_per_second`` to the
    logs of a batch, for the callbacks after it.

    Args:
        batch_size: images per step.
        progress: where the steps and seconds that count are kept.
    """

    def __init__(self, batch_size: int, progress: Progress) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._progress = progress
        self._has_traced = False
        self._started = 0.0

    @property
    def images_per_second(self) -> Optional[float]:
        """None before the second step."""
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
        # To the end of the next step, so that waiting for its images counts.
        self._started = now
        if logs is not None and self.images_per_second is not None:
            logs["images_per_second"] = self.images_per_second
