"""The Python interface to runs: ``train`` starts or resumes a run, and ``Run`` gives access to its results."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo import pipeline, recipes, training
from r2b_zoo.evaluation import classifier
from r2b_zoo.models import intermediates
from r2b_zoo.models.topology import FEATURE_NAMES
from r2b_zoo.report import figures, html
from r2b_zoo.report.page import write_report
from r2b_zoo.report.tables import results_table
from r2b_zoo.runs.folder import DEFAULT_ROOT, RunFolder
from r2b_zoo.runs.networks import Networks
from r2b_zoo.runs.plans import Plan
from r2b_zoo.system import quiet_start
from r2b_zoo.system.short_repr import LONGEST
from r2b_zoo.training.distillation import attention_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = Union[str, "os.PathLike[str]"]
PHOTOGRAPHS = 4
"""Number of test images for which ``attention_maps`` draws maps if it is given no images."""


class Run:
    """A run in its folder, finished or not.

    Args:
        path: path of the folder that ``train`` or ``r2b train`` wrote.

    Raises:
        RunFolderError: there is no run in the folder, or its config.json is damaged.
    """

    def __init__(self, path: PathLike) -> None:
        self.folder = RunFolder(path)
        self.plan: Plan = self.folder.plan()

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the finished stages, in the order of training."""
        return tuple(stage.name for stage in self.plan.stages if self.folder.is_finished(stage.name))

    @cached_property
    def networks(self) -> Networks:
        """The trained Keras networks by stage, for example ``run.networks["binary"]``.

        Indexing raises ValueError for an unknown stage, and RunFolderError for an unfinished one.
        """
        return Networks(self.plan, self.folder)

    @property
    def results(self) -> dict[str, Any]:
        """Contents of ``results.json``. Raises RunFolderError if the run is not finished, or the file is damaged."""
        return self.folder.results()

    @property
    def report(self) -> Path:
        """The path of the HTML report; only a finished run has one."""
        return self.folder.report_path

    @property
    def file(self) -> Path:
        """The path of the ``.tflite``, the converted network of the last stage; only a finished run has one."""
        return self.folder.tflite_path

    @property
    def classifier(self) -> classifier.Classifier:
        """The network of the last stage, with the names of its classes and its preprocessing."""
        return classifier.load(self.path)

    def figure(self, metric: str = "accuracy") -> "Figure":
        """A metric over the epochs of each finished stage, as a matplotlib figure.

        Args:
            metric: "accuracy", "loss", "classification", "attention_matching", "output_matching" or "learning_rate".

        Raises:
            ValueError: there is no such metric, no stage is finished, or no finished stage has the metric.
            RunFolderError: a record of a stage is missing or damaged.
        """
        if not self.stages:
            raise ValueError(f"The run in {self.path} has no finished stage yet: resume it with the same call.")
        return figures.training(self.folder, self.stages, metric)

    def __repr__(self) -> str:
        done = f"{len(self.stages)} of {len(self.plan.stages)} stages finished"
        return f"Run({str(self.path)!r}, recipe {self.plan.recipe} on {self.plan.dataset}, {done})"[:LONGEST]

    def _repr_html_(self) -> str:
        if not self.folder.results_path.is_file():
            return html.together([html.note(repr(self))])
        results = self.results
        results["dataset"]["name"] = f"{self.plan.recipe} in {self.path}, {results['dataset']['name']}"
        return html.together([html.table(results_table(results))])


def attention_maps(run: Run, images: Optional[np.ndarray] = None, stages: Optional[Sequence[str]] = None) -> "Figure":
    """Draws where the networks of a run look: their attention maps of the same images.

    An attention map is Q = Σ_c A_c² of the activations A at the end of a block, divided by its L2 norm (Martínez et
    al., section 4.2, equation 2). The figure shows the last block of each section, unless its maps have one pixel.

    Args:
        run: a run with finished stages.
        images: uint8 (n, H, W, channels) of any size; None: a few images of the test split.
        stages: names of the stages whose networks to use; None: the first and the last finished stage.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: no stage is finished, a stage is unknown, or the preprocessing refuses an image.
        RunFolderError: one of ``stages`` is not finished.
    """
    chosen = tuple(stages) if stages is not None else tuple(dict.fromkeys((*run.stages[:1], *run.stages[-1:])))
    if not chosen:
        raise ValueError(f"The run in {run.path} has no finished stage yet: resume it with the same call.")
    dataset = run.networks.dataset
    if images is None:
        photographs, inputs, _ = dataset.test_sample(PHOTOGRAPHS, one_per_class=True)
        photographs, inputs = photographs[:PHOTOGRAPHS], inputs[:PHOTOGRAPHS]
    else:
        photographs = np.asarray(images)
        inputs = np.stack([dataset.preprocessing(image) for image in photographs])
    return figures.attention(photographs, {stage: _maps(run.networks[stage], inputs) for stage in chosen})


def _maps(model: tf.keras.Model, inputs: np.ndarray) -> dict[str, np.ndarray]:
    ends_of_stages = {name: output for name, output in intermediates(model).items() if name in FEATURE_NAMES}
    blocks = tf.keras.Model(model.inputs, ends_of_stages)
    found = {}
    for name, activations in blocks(inputs, training=False).items():
        if activations.shape[1] > 1:  # a map of one pixel shows nothing
            found[name] = tf.reshape(attention_map(activations), activations.shape[:3]).numpy()
    return {name: found[name] for name in FEATURE_NAMES if name in found}


def train(recipe: str = recipes.DEFAULT_RECIPE, output: Optional[PathLike] = None, **overrides: Any) -> Run:
    """Trains the stages of a recipe, converts and verifies the result, and writes the report.

    Progress is shown as a figure in Jupyter, as a bar in a terminal, and as a line per stage elsewhere. The kernel's
    stop button or Ctrl-C stops training and saves a checkpoint. The same call then resumes training, and gives the same
    weights as without the interruption. A finished run is not trained again.

    Args:
        recipe: name of the recipe, one of ``r2b_zoo.recipes.list_recipes()``.
        output: folder of the run; None: ``runs/<recipe>``.
        **overrides: new values of the recipe's fields; those of a stage's fields as ``**{"binary.epochs": 3}``.

    Returns:
        The finished run.

    Raises:
        ValueError: the recipe or a field is unknown, a value is not allowed, or the plan does not fit the data; raised
            before anything is trained.
        RunFolderError: the folder belongs to another run, is in use by another process, or cannot be written.
        TrainingStopped: training was interrupted, and a checkpoint is saved.
        TrainingDiverged: a loss became NaN or infinite, or gradients overflow float16.
        ConversionError: a network cannot be converted, or a quantised layer of a binary network did not become binary.
        WorkerLost: another machine of the cluster died.
    """
    plan = recipes.plan(recipe, **overrides)
    folder = RunFolder(output if output is not None else DEFAULT_ROOT / plan.recipe)
    folder.check(plan)
    with ExitStack() as stack:
        callbacks, log = _progress(plan, folder, stack)
        execute(plan, folder, callbacks, log)
    return Run(folder.path)


def execute(plan: Plan, folder: RunFolder, callbacks: training.CallbackFactory, log: training.Log) -> dict[str, Any]:
    """Does what ``pipeline.run`` does, writes the report, and returns the results of ``pipeline.run``."""
    results = pipeline.run(plan, folder, callbacks, log)
    if results:
        with folder.writing():
            write_report(folder)
    return results


def _progress(
    plan: Plan, folder: RunFolder, stack: ExitStack
) -> tuple[training.CallbackFactory, Callable[[str], None]]:
    """Callbacks and a log that show progress in a notebook, a terminal or elsewhere; ``stack`` closes them."""
    from r2b_zoo.report.progress import StageProgress
    from r2b_zoo.report.tables import console, point

    if quiet_start.in_notebook():
        from r2b_zoo.report import notebook

        live = stack.enter_context(notebook.LiveFigure(plan, folder))
        return (lambda stage: [live.callback(stage)]), live.log
    out = console()

    def callbacks(stage: recipes.StagePlan) -> list[tf.keras.callbacks.Callback]:
        bar = StageProgress(stage, out)
        stack.callback(bar.close)
        return [bar]

    return callbacks, lambda line: out.print(point(line), soft_wrap=not out.is_terminal)
