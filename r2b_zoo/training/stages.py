"""Trains the stages of a plan, one after the other, with the same loop."""

import contextlib
import csv
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from r2b_zoo import models, weights
from r2b_zoo.data.dataset import WHOLE, Dataset, Epoch, Shard, left_out
from r2b_zoo.models.topology import PRECISIONS, STEMS
from r2b_zoo.ops import bit_counting
from r2b_zoo.ops.mixed_precision import why_half_precision_is_slow
from r2b_zoo.runs import data_record, pretrained, shared_stages
from r2b_zoo.runs.checkpoints import Progress
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.runs.networks import Networks, copy_weights, dataset_of, network_of
from r2b_zoo.runs.plans import Plan, StagePlan
from r2b_zoo.system import files
from r2b_zoo.system.captured_output import captured_output
from r2b_zoo.training import distribution
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.distribution import Distribution
from r2b_zoo.training.loop import StageLoop, Statistics, StopOnNaN, Tests
from r2b_zoo.training.optimizer import Adam
from r2b_zoo.training.schedules import learning_rate_schedule
from r2b_zoo.training.teacher_student import TeacherStudent, is_kernel
from r2b_zoo.training.throughput import EpochSummaries, Throughput

__all__ = ["CallbackFactory", "Log", "Networks", "copy_weights", "dataset_of", "network_of", "train"]

EVALUATION_BATCH = 500
# Batches of images larger than 64×64 are smaller, so that a batch's activations take about the same memory.
EVALUATION_PIXELS = EVALUATION_BATCH * 64 * 64
STATISTICS_BATCHES = 50
"""Batch-norm statistics are estimated anew from this many batches, or from one epoch if that is less."""
_SEEDS_APART = 1_000_003

CallbackFactory = Callable[[StagePlan], Sequence[tf.keras.callbacks.Callback]]
"""Makes the callbacks of one stage, for example a progress bar."""
Log = Callable[[str], None]
"""Takes a line of text about the current work."""
Rehearsal = Callable[["Networks"], None]
"""Raises errors that would otherwise be noticed only after all training."""


def train(
    plan: Plan,
    folder: RunFolder,
    callbacks: CallbackFactory = lambda stage: (),
    log: Log = lambda line: None,
    rehearse: Rehearsal = lambda networks: None,
) -> Optional[Networks]:
    """Trains every unfinished stage, from its last checkpoint if it has one.

    The same plan and data give the same weights on the same CPU, even if training was interrupted. For this, the seeds
    of Python, NumPy and TensorFlow are set before each stage. TensorFlow is also switched to deterministic algorithms,
    for the whole process.

    Args:
        plan: what to train.
        folder: the run's folder. Nothing is written to it before all stages are checked.
        callbacks: further Keras callbacks for each stage.
        log: takes lines about skipped files, stages that resume or are taken from another run, damaged checkpoints, and
            whatever makes training slow on this machine.
        rehearse: called on the chief before any training, to try what its caller does with the networks afterwards. An
            error in it ends the run before time is spent on training.

    Returns:
        The networks of the stages; None on workers other than the chief, which do nothing after training.

    Raises:
        RunFolderError: the folder is another run's, another process trains in it, or it cannot be written.
        TrainingDiverged: a loss became NaN or infinite, or gradients overflow float16 at any loss scale.
        TrainingStopped: SIGINT, SIGTERM or SIGHUP was received; a checkpoint is saved.
        ValueError: the plan does not fit the data or the devices.
        WorkerLost: another worker of the cluster died, failed, or did not start.
        RuntimeError: the devices cannot be set up, see ``distribution.start``.
    """
    folder.check(plan)  # before anything that takes time
    # Start the devices before all else, since a cluster must start before TensorFlow does anything.
    devices = distribution.start(plan, log)
    with devices.watched():
        networks = Networks(plan, folder)
        if plan.loop.validation:
            networks.split = networks.dataset.held_out(plan.loop.validation)
        if skipped := left_out(networks.dataset, "the report"):
            log(skipped)
        _train(networks, devices, _small_enough(plan, networks.split, devices.replicas), callbacks, log, rehearse)
    return networks if devices.is_chief else None


def _train(
    networks: Networks, devices: Distribution, plan: Plan, callbacks: CallbackFactory, log: Log, rehearse: Rehearsal
) -> None:
    folder = networks.folder
    if plan.stem not in STEMS:
        raise ValueError(f"stem must be one of {', '.join(STEMS)}; received {plan.stem!r}.")
    for stage in plan.stages:
        _check(stage, networks, devices)
    with folder.opened(plan, log) if devices.is_chief else contextlib.nullcontext():
        _check_workers(networks, devices, plan, log)
        tf.config.experimental.enable_op_determinism()
        _start_compiler()
        unfinished = [stage for stage in plan.stages if not folder.is_finished(stage.name)]
        _log_what_is_slow(plan, unfinished, log)
        if unfinished and devices.is_chief:
            rehearse(networks)
        for index, stage in enumerate(plan.stages):
            if devices.from_chief(folder.is_finished(stage.name)):
                if not devices.is_chief:
                    folder.wait_for(folder.stage(stage.name))
            elif stage.from_run is not None:
                if devices.is_chief:
                    log(f"Stage {stage.name} is taken from {_shown(stage.from_run)}")
                    shared_stages.take(stage, folder)
                folder.wait_for(folder.stage(stage.name))
            else:
                # Each stage has its own seed, so that it makes no difference which stages this process trained before.
                tf.keras.utils.set_random_seed(plan.seed + index * _SEEDS_APART)
                _train_stage(stage, networks, devices, callbacks(stage), log)


def _shown(folder: str) -> Path:
    """The path of a folder, relative to the working directory if the folder is inside it."""
    path = Path(folder)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _check_workers(networks: Networks, devices: Distribution, plan: Plan, log: Log) -> None:
    """Records the chief's data in the run; raises ValueError if this worker's plan or data differ from the chief's."""
    if devices.from_chief(plan.config) != plan.config:
        raise ValueError("This worker's configuration differs from the chief's: start the same command on both.")
    if devices.is_chief:
        data_record.keep(networks.folder, networks.dataset, log)
    digest = data_record.digest(networks.dataset)
    if devices.from_chief(digest) != digest:
        raise ValueError("This worker's data differs from the chief's: give both the same files.")


def _log_what_is_slow(plan: Plan, unfinished: Sequence[StagePlan], log: Log) -> None:
    reasons = [why_half_precision_is_slow(plan.loop.mixed_precision)] if unfinished else []
    if any(stage.precision == "binary" for stage in unfinished):
        reasons.append(bit_counting.why_not_counting())
    for reason in filter(None, reasons):
        log(reason)


def _start_compiler() -> None:
    """Starts XLA with its output hidden, since it prints a message at its start that no log level hides.

    Training needs XLA if there is no GPU, to fuse layers.
    """
    if not tf.config.get_visible_devices("GPU"):
        with captured_output():
            tf.function(tf.abs, jit_compile=True)(tf.zeros(1))


def _small_enough(plan: Plan, dataset: Dataset, replicas: int) -> Plan:
    """Limits batch sizes of a smoke run to the number of training images; returns other plans unchanged."""
    if not plan.config["smoke"]:
        return plan
    parts = replicas * plan.loop.accumulation_steps
    most = max(parts, dataset.train_size - dataset.train_size % parts)
    return replace(plan, stages=tuple(replace(stage, batch_size=min(stage.batch_size, most)) for stage in plan.stages))


def _check(stage: StagePlan, networks: Networks, devices: Distribution) -> None:
    """Raises ValueError, with the name of the stage, if the stage cannot be trained."""
    try:
        models.card(stage.network)
        if stage.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; received {stage.precision!r}.")
        networks.check(stage.name)
        if stage.from_run is not None:
            shared_stages.check(stage, networks.plan, networks.build(stage.name))
            return
        networks.split.check_batches(stage.batch_size, stage.augmentation)
        shard = Shard(0, devices.replicas, networks.plan.loop.accumulation_steps)
        networks.split.check_mixup(stage.mixup, stage.batch_size, shard)
        _schedule(stage, _steps_per_epoch(stage, networks.split))
        if stage.pretrained is not None:
            # Build the network, since only loading the weights into it shows whether they fit.
            _start(stage, networks)
    except ValueError as error:
        raise ValueError(f"Stage {stage.name}: {error}") from None


def _start(stage: StagePlan, networks: Networks) -> tf.keras.Model:
    """A stage's network with its pretrained weights, or with random ones."""
    student = networks.build(stage.name, networks.plan.loop.mixed_precision)
    if stage.pretrained is not None:
        plan = networks.plan
        pretrained.load(student, stage.pretrained, width=plan.width, stem=plan.stem, precision=stage.precision)
    if stage.trained == "classifier":
        # In a batch norm that is not trainable, Keras uses the running statistics and does not update them.
        for layer in student.layers:
            layer.trainable = layer.name == "logits"
    return student


def _steps_per_epoch(stage: StagePlan, dataset: Dataset) -> int:
    steps = dataset.train_size // stage.batch_size
    return min(steps, stage.max_steps_per_epoch or steps)


def _test_batches(stage: StagePlan, dataset: Dataset, shard: Shard = WHOLE) -> tuple[tf.data.Dataset, int]:
    """The shard of each test batch, and the number of batches; in a smoke run, at most ``max_steps_per_epoch``."""
    height, width, _ = dataset.input_shape
    batch_size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))
    number = -(-dataset.test_size // batch_size)
    number = min(number, stage.max_steps_per_epoch or number)
    batches = dataset.test_batches(batch_size).take(number)
    return batches.map(lambda images, labels: (shard.of(images), shard.of(labels))), number


def _train_stage(
    stage: StagePlan,
    networks: Networks,
    devices: Distribution,
    callbacks: Sequence[tf.keras.callbacks.Callback],
    log: Log,
) -> None:
    folder = networks.folder
    # Build the network first, so that its random weights depend only on the seed.
    student = _start(stage, networks)
    kept = [] if stage.initial_weights is None else copy_weights(networks[stage.initial_weights], student)
    if not devices.is_chief:
        _run(_loop(stage, networks, devices, student), stage, networks, devices, callbacks, log)
        return
    with folder.new_stage(stage.name) as partial:
        loop = _loop(stage, networks, devices, student)
        summaries = EpochSummaries(str(partial / "tensorboard"), write_graph=False)
        throughput = _run(loop, stage, networks, devices, [summaries, *callbacks], log)
        progress = loop.progress
        devices.collect(loop.model.student, student)
        student.trainable = True
        with folder.writing():
            weights.save(student, partial / "weights.h5")
            _write_log(progress, partial)
            result = {
                "network": stage.network,
                "precision": stage.precision,
                "taught_by": stage.taught_by if _loss_weights(stage).needs_teacher else None,
                "initial_weights": stage.initial_weights,
                "pretrained": stage.pretrained,
                "trained": stage.trained,
                "layers_not_initialised": kept,
                "epochs": progress.epoch,
                "seconds": progress.seconds,
                "images_per_second": throughput.images_per_second,
                "test_accuracy": loop.final["test_accuracy"],
                "validation_accuracy": loop.final["val_accuracy"] if networks.plan.loop.validation else None,
                # The metrics before the first step; None if the stage starts from random weights.
                "start": progress.start,
            }
            files.write_text(partial / "result.json", json.dumps(result, indent=2))
    if networks.plan.loop.mixed_precision == "float32":
        networks.keep(stage.name, student)


def _run(
    loop: StageLoop,
    stage: StagePlan,
    networks: Networks,
    devices: Distribution,
    callbacks: Sequence[tf.keras.callbacks.Callback],
    log: Log,
) -> "Throughput":
    """Runs a stage from its last checkpoint to its end."""
    with devices.scope():
        _resume(loop, networks, devices, log)
        throughput = Throughput(stage.batch_size, loop.progress)
        loop.run([StopOnNaN(stage.name), throughput, *callbacks])
        return throughput


def _loop(stage: StagePlan, networks: Networks, devices: Distribution, student: tf.keras.Model) -> StageLoop:
    dataset, loop, folder = networks.split, networks.plan.loop, networks.folder
    loss_weights = _loss_weights(stage)
    teacher = None
    if loss_weights.needs_teacher and stage.taught_by is not None:
        teacher = devices.replicate(networks.in_precision(stage.taught_by, loop.mixed_precision))
    student = devices.replicate(student)
    steps_per_epoch = _steps_per_epoch(stage, dataset)
    with devices.scope():
        model = TeacherStudent(
            student,
            loss_weights,
            teacher,
            accumulation_steps=loop.accumulation_steps,
            ema_decay=loop.ema_decay,
            l2_penalty=stage.l2_penalty,
        )
        optimizer = _optimizer(stage, student, steps_per_epoch)
        if loop.mixed_precision == "float16":
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
        model.compile(optimizer=optimizer, jit_compile=loop.xla)

    def save(progress: Progress, arrays: dict[str, np.ndarray]) -> None:
        if not devices.is_chief:
            return
        with folder.writing():
            folder.checkpoints(stage.name).save(progress, arrays)
            _write_log(progress, folder.partial(stage.name))

    def batches(shard: Shard, epoch: Epoch, skip: int = 0, mixup: float = stage.mixup) -> tf.data.Dataset:
        whole = dataset.training_batches(
            stage.batch_size, stage.augmentation, networks.plan.seed, epoch, skip, shard, mixup
        )
        return whole.take(steps_per_epoch - skip)

    def batches_from(epoch: int, skip: int) -> Any:
        def of_shard(shard: Shard) -> tf.data.Dataset:
            later = tf.data.Dataset.range(epoch + 1, stage.epochs).flat_map(functools.partial(batches, shard))
            return batches(shard, epoch, skip).concatenate(later)

        return devices.batches(of_shard, loop.accumulation_steps)

    def batches_for_statistics(pass_number: int) -> Any:
        """The batches of an epoch after the last one, augmented as in training, but without mix-up."""
        return devices.batches(lambda shard: batches(shard, stage.epochs + pass_number, mixup=0.0))

    def tests(split: Dataset) -> Tests:
        return Tests(
            devices.batches(lambda shard: _test_batches(stage, split, shard)[0]), _test_batches(stage, split)[1]
        )

    return StageLoop(
        stage.name,
        model,
        batches_from,
        tests(dataset),
        final_tests=tests(networks.dataset) if loop.validation else None,
        starts_from_weights=stage.initial_weights is not None or stage.pretrained is not None,
        statistics=Statistics(
            batches_for_statistics, min(STATISTICS_BATCHES, steps_per_epoch), stage.batch_norm_statistics
        ),
        steps_per_epoch=steps_per_epoch,
        epochs=stage.epochs,
        save=save,
        checkpoint_minutes=loop.checkpoint_minutes,
        patience=loop.patience,
        largest=devices.largest,
    )


def _loss_weights(stage: StagePlan) -> LossWeights:
    return LossWeights(temperature=stage.temperature, **stage.loss_weights)


def _resume(loop: StageLoop, networks: Networks, devices: Distribution, log: Log) -> None:
    folder = networks.folder
    checkpoint, damaged = folder.checkpoints(loop.name).latest() if devices.is_chief else (None, [])
    for sentence in damaged:
        log(sentence)
    # All workers resume from the chief's checkpoint, even if a network file system shows them another one.
    name = devices.from_chief(None if checkpoint is None else checkpoint.path.name)
    if name is not None and checkpoint is None:
        checkpoint = folder.shared_checkpoint(loop.name, name)
    if checkpoint is None:
        if damaged:
            log(f"Stage {loop.name} starts again: it has no checkpoint that can be read.")
        return
    try:
        loop.restore(checkpoint)
    except ValueError as error:
        raise RunFolderError(f"{error} Delete {folder.partial(loop.name)} to train the stage again.") from None
    log(f"Resuming stage {loop.name} after {loop.where()}.")


def _write_log(progress: Progress, folder: Path) -> None:
    if progress.rows:
        with files.replacing(folder / "log.csv") as partial, open(partial, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, progress.rows[0])
            writer.writeheader()
            writer.writerows(progress.rows)


def _optimizer(stage: StagePlan, student: tf.keras.Model, steps_per_epoch: int) -> tf.keras.optimizers.Optimizer:
    optimizer = Adam(_schedule(stage, steps_per_epoch), weight_decay=stage.weight_decay or None)
    if stage.weight_decay:
        optimizer.exclude_from_weight_decay([w for w in student.trainable_variables if not is_kernel(w)])
    # Create the variables now: otherwise the training step is traced twice, which can take longer than an epoch.
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
