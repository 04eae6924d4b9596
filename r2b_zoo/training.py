"""Trains the stages of a plan, one after the other, with one loop for all."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo import data, models, weights
from r2b_zoo.data.dataset import Dataset
from r2b_zoo.distillation import LossWeights, StopOnNaN, TeacherStudent
from r2b_zoo.models.topology import PRECISIONS, STEMS
from r2b_zoo.recipes import Plan, StagePlan
from r2b_zoo.run_folder import RunFolder
from r2b_zoo.schedules import learning_rate_schedule

EVALUATION_BATCH = 500
_SEEDS_APART = 1_000_003

CallbackFactory = Callable[[StagePlan], Sequence[tf.keras.callbacks.Callback]]
"""Makes the callbacks of one stage, a progress bar for instance."""


class Networks:
    """The trained networks of a run by stage, each built and loaded once.

    Args:
        plan: of the run.
        folder: where the weights are.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        self.plan = plan
        self.folder = folder
        self.dataset: Dataset = data.load(plan.dataset)
        self._stages = {stage.name: stage for stage in plan.stages}
        self._networks: dict[str, tf.keras.Model] = {}

    def build(self, stage: str) -> tf.keras.Model:
        """The untrained network of a stage."""
        planned = self._stages[stage]
        return models.create(
            planned.network,
            input_shape=self.dataset.input_shape,
            num_classes=self.dataset.num_classes,
            precision=planned.precision,
            width=self.plan.width,
            stem=self.plan.stem,
        )

    def __getitem__(self, stage: str) -> tf.keras.Model:
        """The network of a finished stage.

        Raises:
            ValueError: the run has no such stage, or its file of weights is damaged.
            RunFolderError: the stage is not finished.
        """
        if stage not in self._stages:
            raise ValueError(
                f"The run in {self.folder.path} has no stage {stage!r}; its stages are {', '.join(self._stages)}."
            )
        if stage not in self._networks:
            self.folder.stage_result(stage)  # says so where the stage is not finished
            network = self.build(stage)
            weights.load(network, self.folder.weights(stage))
            self._networks[stage] = network
        return self._networks[stage]

    def keep(self, stage: str, network: tf.keras.Model) -> None:
        """Takes a network whose weights have just been written, instead of reading them again."""
        self._networks[stage] = network


def train(plan: Plan, folder: RunFolder, callbacks: CallbackFactory = lambda stage: ()) -> Networks:
    """Trains every stage that is not finished yet, and writes each to the run's folder.

    The same plan gives the same weights on the same CPU: the seeds of Python, NumPy and TensorFlow are set before
    each stage, and TensorFlow is told to use deterministic algorithms (in the whole process).

    Args:
        plan: what to train.
        folder: where; opened here, so that a folder of another run is refused before anything is done, and after the
            plan is checked, so that a mistake in the last stage does not show after the others are trained.
        callbacks: further Keras callbacks for each stage.

    Returns:
        The network of each stage.

    Raises:
        RunFolderError: the folder is another run's, or cannot be written.
        TrainingDiverged: a loss became NaN.
        ValueError: the plan and the data do not fit.
    """
    networks = Networks(plan, folder)
    if plan.stem not in STEMS:
        raise ValueError(f"stem must be one of {', '.join(STEMS)}; received {plan.stem!r}.")
    for stage in plan.stages:
        _check(stage, networks.dataset)
    folder.open(plan)
    tf.config.experimental.enable_op_determinism()
    for index, stage in enumerate(plan.stages):
        if not folder.is_finished(stage.name):
            # A stage's own seed: what came before it, or was skipped as finished, makes no difference.
            tf.keras.utils.set_random_seed(plan.seed + index * _SEEDS_APART)
            _train_stage(stage, networks, callbacks(stage))
    return networks


def copy_weights(source: tf.keras.Model, target: tf.keras.Model) -> list[str]:
    """Copies the weights of every layer that both networks have in the same shapes.

    Returns:
        Names of the target's layers that keep their own weights.
    """
    sources = {layer.name: layer for layer in source.layers}
    kept = []
    for layer in target.layers:
        shapes = [tuple(w.shape) for w in layer.weights]
        if not shapes:
            continue
        twin = sources.get(layer.name)
        if twin is not None and [tuple(w.shape) for w in twin.weights] == shapes:
            layer.set_weights(twin.get_weights())
        else:
            kept.append(layer.name)
    return kept


def _check(stage: StagePlan, dataset: Dataset) -> None:
    """Raises ValueError, naming the stage, for what cannot be trained."""
    try:
        models.card(stage.network)
        if stage.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; received {stage.precision!r}.")
        dataset.check_batches(stage.batch_size, stage.augmentation)
        _schedule(stage, _steps_per_epoch(stage, dataset))
    except ValueError as error:
        raise ValueError(f"Stage {stage.name}: {error}") from None


def _steps_per_epoch(stage: StagePlan, dataset: Dataset) -> int:
    steps = dataset.train_size // stage.batch_size
    return min(steps, stage.max_steps_per_epoch or steps)


def _train_stage(stage: StagePlan, networks: Networks, callbacks: Sequence[tf.keras.callbacks.Callback]) -> None:
    # First of all, so that its random weights depend on the seed alone.
    student = networks.build(stage.name)
    loss_weights = LossWeights(
        classification=stage.classification_weight,
        attention_matching=stage.attention_matching_weight,
        output_matching=stage.output_matching_weight,
        temperature=stage.temperature,
    )
    teacher = stage.taught_by if loss_weights.needs_teacher else None
    kept = [] if stage.initial_weights is None else copy_weights(networks[stage.initial_weights], student)

    dataset = networks.dataset
    steps_per_epoch = _steps_per_epoch(stage, dataset)
    # One data set through all epochs, so that fit makes one iterator and traces the step once.
    batches = tf.data.Dataset.range(stage.epochs).flat_map(
        lambda epoch: dataset.training_batches(
            stage.batch_size, stage.augmentation, networks.plan.seed, epoch=epoch
        ).take(steps_per_epoch)
    )
    model = TeacherStudent(student, loss_weights, networks[teacher] if teacher else None)
    model.compile(optimizer=_optimizer(stage, student, steps_per_epoch))

    started = time.perf_counter()
    with networks.folder.new_stage(stage.name) as partial:
        model.fit(
            batches,
            epochs=stage.epochs,
            steps_per_epoch=steps_per_epoch,
            validation_data=dataset.test_batches(EVALUATION_BATCH),
            verbose=0,
            callbacks=[
                StopOnNaN(stage.name),
                LogLearningRate(),
                tf.keras.callbacks.CSVLogger(str(partial / "log.csv")),
                tf.keras.callbacks.TensorBoard(str(partial / "tensorboard"), write_graph=False),
                *callbacks,
            ],
        )
        metrics = model.evaluate(dataset.test_batches(EVALUATION_BATCH), verbose=0, return_dict=True)
        weights.save(student, partial / "weights.h5")
        result = {
            "network": stage.network,
            "precision": stage.precision,
            "taught_by": teacher,
            "initial_weights": stage.initial_weights,
            "layers_not_initialised": kept,
            "epochs": stage.epochs,
            "seconds": time.perf_counter() - started,
            "test_accuracy": metrics["accuracy"],
        }
        (partial / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    networks.keep(stage.name, student)


def _optimizer(stage: StagePlan, student: tf.keras.Model, steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
    optimizer = tf.keras.optimizers.Adam(_schedule(stage, steps_per_epoch), weight_decay=stage.weight_decay or None)
    if stage.weight_decay:
        kernels = [w for w in student.trainable_variables if "kernel" in w.name]
        others = {id(w) for w in student.trainable_variables} - {id(w) for w in kernels}
        optimizer.exclude_from_weight_decay([w for w in student.trainable_variables if id(w) in others])
    # Variables that exist before fit need no second trace of the training step, which takes longer than an epoch here.
    optimizer.build(student.trainable_variables)
    return optimizer


def _schedule(stage: StagePlan, steps_per_epoch: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    return learning_rate_schedule(
        stage.schedule,
        learning_rate=stage.learning_rate,
        steps_per_epoch=steps_per_epoch,
        epochs=stage.epochs,
        warmup_epochs=stage.warmup_epochs,
        decay=stage.decay,
        decay_epochs=stage.decay_epochs,
    )


class LogLearningRate(tf.keras.callbacks.Callback):
    """Adds the learning rate at the end of the epoch to the logs, for the callbacks after it."""

    def on_epoch_end(self, epoch: int, logs: Optional[dict[str, Any]] = None) -> None:
        if logs is not None:
            optimizer = self.model.optimizer
            logs["learning_rate"] = float(optimizer.learning_rate.numpy())
