"""Shows the progress of training in a notebook. One output is redrawn, so that outputs do not accumulate."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional

import numpy as np
import tensorflow as tf
from markupsafe import Markup

from r2b_zoo.report import html, plots, view
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.runs.plans import Plan, StagePlan

_SECONDS = 0.5
"""Minimum time between two redraws of the bar; a browser could not keep up with a redraw after every step."""
_ACCURACY = view.METRICS[0]
_PANEL = Markup('<figure style="display:inline-block;width:270px;margin:.3em"><figcaption>{}</figcaption>{}</figure>')
# Colours and font of the panels. The report page defines them in its style sheet, which a notebook does not have.
_COLOURS = "--ink:currentColor;--faint:#9aa4af80;--train:#8b949e;--test:#1f8fff;--font:sans-serif"


class LiveFigure:
    """Shows the progress of training in one output of a notebook.

    Args:
        plan: the plan of the run.
        folder: the folder of the run, which has the logs of its finished stages.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        from IPython.display import DisplayHandle

        self._plan = plan
        self._folder = folder
        self._handle = DisplayHandle()
        self._lines: list[str] = []
        self._bar = Markup("")
        self._curves: dict[str, list[plots.Curve]] = {}
        self._svg = Markup("")
        self._drawn = 0.0

    def __enter__(self) -> "LiveFigure":
        self._handle.display(self)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._bar = Markup("")
        if error is not None:
            self._lines.append(f"Stopped: {error}")
        elif self._curves:
            self._svg = self._draw()
        self._redraw(at_once=True)

    def log(self, line: str) -> None:
        """Adds a line about the current work; the last six lines are shown below the curves."""
        self._lines.append(line)
        self._redraw(at_once=True)

    def callback(self, stage: StagePlan) -> tf.keras.callbacks.Callback:
        return _Callback(self, stage)

    def _repr_html_(self) -> str:
        lines = html.note("\n".join(self._lines[-6:])) if self._lines else Markup("")
        return html.together([self._svg, self._bar, lines])

    def __repr__(self) -> str:
        return self._lines[-1] if self._lines else f"Training recipe {self._plan.recipe}"

    def step(self, stage: StagePlan, done: float, words: str) -> None:
        """Moves the bar of a stage to ``done``, the share of its steps that are done, 0–1; shows ``words`` there."""
        self._bar = Markup(
            '<div style="font-size:90%">{} <progress value="{:.4f}" max="1" style="width:16em"></progress> {}</div>'
        ).format(stage.name, done, words)
        self._redraw()

    def epoch(self, stage: StagePlan, train: Sequence[float], test: Sequence[float], first: int) -> None:
        """Draws the accuracies of the current stage, and those of the stages before it.

        Args:
            stage: the stage in training.
            train: accuracy on training images in each epoch that this process has trained, 0–1.
            test: accuracy on test or validation images after each of these epochs, 0–1.
            first: number of the first of these epochs, counted from 1.
        """
        if len(test):
            self._curves[stage.name] = [
                plots.Curve("train", tuple(train), first=first),
                plots.Curve("test", tuple(test), first=first),
            ]
            self._svg = self._draw()
        self._redraw(at_once=True)

    def _draw(self) -> Markup:
        finished = [one.name for one in self._plan.stages if self._folder.is_finished(one.name)]
        # The log of a finished stage also has the epochs that another process trained before an interruption.
        known = {**self._curves, **view.lines_of(self._folder, finished, _ACCURACY)}
        curves = {stage.name: known[stage.name] for stage in self._plan.stages if stage.name in known}
        drawn = [curve for lines in curves.values() for curve in lines]
        axes = plots.Axes.around(drawn, may_be_log=False, percent=True)
        panels = Markup("").join(
            _PANEL.format(stage, plots.panel(lines, axes, name=f"live-{stage}", description=f"Accuracy of {stage}"))
            for stage, lines in curves.items()
        )
        return Markup('<div style="{}">{}</div>').format(_COLOURS, panels)

    def _redraw(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._drawn >= _SECONDS:
            self._drawn = now
            self._handle.update(self)


class _Callback(tf.keras.callbacks.Callback):
    """Reports the progress of a stage to a live figure."""

    def __init__(self, live: LiveFigure, stage: StagePlan) -> None:
        super().__init__()
        self._live = live
        self._stage = stage
        self._epoch = 0
        self._first: Optional[int] = None
        self._train: list[float] = []
        self._test: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Optional[dict[str, Any]] = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, Any]] = None) -> None:
        steps = (self.params.get("steps") or 1) * self._stage.epochs
        done = (self._epoch * (self.params.get("steps") or 1) + batch + 1) / steps
        self._live.step(self._stage, min(done, 1.0), f"epoch {self._epoch + 1}/{self._stage.epochs}")

    def on_epoch_end(self, epoch: int, logs: Optional[dict[str, Any]] = None) -> None:
        logs = logs or {}
        self._first = epoch + 1 if self._first is None else self._first
        self._train.append(float(logs.get("accuracy", np.nan)))
        self._test.append(float(logs.get("val_accuracy", np.nan)))
        self._live.epoch(self._stage, self._train, self._test, self._first)
