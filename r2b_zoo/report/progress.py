"""Progress bars for a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Optional

import tensorflow as tf
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from r2b_zoo.report.tables import point, rate
from r2b_zoo.runs.plans import StagePlan


@contextmanager
def image_progress(title: str, images: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over images, on standard error if that is a terminal. Standard output is kept for the result.

    Yields:
        A function to call with the number of images that were finished since the last call.
    """
    console = Console(stderr=True, force_terminal=sys.stderr.isatty(), markup=False)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = progress.add_task(title, total=images)
    with progress:
        yield lambda number: progress.advance(task, number)


class StageProgress(tf.keras.callbacks.Callback):
    """A progress bar over the steps of one stage, and one line when the stage is done.

    If the output is not a terminal, only the line is printed.
    """

    def __init__(self, stage: StagePlan, console: Console) -> None:
        super().__init__()
        self._stage = stage
        self._console = console
        self._progress: Optional[Progress] = None
        self._task: Optional[TaskID] = None
        self._epoch = 0
        self._rate = ""

    def on_train_begin(self, logs: Optional[dict[str, Any]] = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<19}"),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]}/" + str(self._stage.epochs)),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        steps = (self.params.get("steps") or 0) * self._stage.epochs or None
        self._task = self._progress.add_task(self._stage.name, total=steps, epoch=1, rate="", metrics="")
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: Optional[dict[str, Any]] = None) -> None:
        self._epoch = epoch
        self._update(epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        if logs and "images_per_second" in logs:
            self._rate = f"{rate(logs['images_per_second'])} images/s"
        # A stage may resume at any step, so set the bar's position instead of advancing it.
        self._update(completed=self._epoch * (self.params.get("steps") or 0) + batch + 1, rate=self._rate)

    def on_epoch_end(self, epoch: int, logs: Optional[dict[str, Any]] = None) -> None:
        logs = logs or {}
        self._update(metrics=f"loss {logs.get('loss', 0):.3f}  top-1 {100 * logs.get('val_accuracy', 0):.1f} %")

    def close(self) -> None:
        """Removes the bar; must be called even if training stopped with an error."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def on_train_end(self, logs: Optional[dict[str, Any]] = None) -> None:
        self.close()
        logs = logs or {}
        accuracy, epochs = 100 * logs.get("test_accuracy", 0), logs.get("epochs", self._stage.epochs)
        self._console.print(
            point(
                f"{self._stage.name:<19}{self._stage.network} ({self._stage.precision}), "
                f"{epochs} {'epoch' if epochs == 1 else 'epochs'}: test top-1 {accuracy:.1f} %"
                + (f", {self._rate}" if self._rate else ""),
                "✓",
            )
        )

    def _update(self, **fields: Any) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, **fields)
