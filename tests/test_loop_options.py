"""Options of the training loop (accumulation, moving average, XLA, patience, half precision), also after a resume."""

import copy
import csv
import sys
from dataclasses import replace

import larq as lq
import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo import recipes, training
from r2b_zoo.conversion.converter import convert
from r2b_zoo.evaluation.verification import verify
from r2b_zoo.ops.mixed_precision import why_half_precision_is_slow
from r2b_zoo.recipes.overrides import parse
from r2b_zoo.runs.checkpoints import Checkpoint, Progress, random_state
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.runs.networks import Networks
from r2b_zoo.training import stages
from r2b_zoo.training import throughput as throughput_module
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.distribution import Distribution
from r2b_zoo.training.optimizer import Adam
from r2b_zoo.training.teacher_student import TeacherStudent
from tests.networks import randomize
from tests.test_training import assert_equal_networks, assert_equal_weights
from tests.tiny import HALF, batch, network, trainer, values

# The loop does not depend on a network's depth, so these tests use shallow networks, which build faster.
pytestmark = pytest.mark.usefixtures("shallow")

# --- accumulation -----------------------------------------------------------------------------------------------------


def test_accumulated_parts_equal_the_whole_batch_if_batch_norms_are_frozen(rng):
    data, found = batch(rng), []
    start = randomize(network())
    for parts in (1, 4):
        student = network()
        student.set_weights(start.get_weights())
        for layer in student.layers:
            layer.trainable = not isinstance(layer, tf.keras.layers.BatchNormalization)
        model = trainer(student, accumulation_steps=parts)
        logs = model.train_step(data)
        found.append(({k: float(v) for k, v in logs.items()}, values(student)))
    (logs, weights), (accumulated_logs, accumulated) = found
    assert accumulated_logs == pytest.approx(logs, rel=1e-5)
    for new, old, same in zip(accumulated, values(start), weights, strict=True):
        np.testing.assert_allclose(new - old, same - old, rtol=1e-3, atol=1e-6)
    assert not all(np.array_equal(a, b) for a, b in zip(weights, values(start), strict=True))


def test_running_statistics_move_once_by_the_mean_of_the_parts(rng):
    images, labels = batch(rng)
    student = randomize(network())
    start = student.get_weights()
    parts = []
    for part in range(4):
        student.set_weights(start)
        student(images[4 * part : 4 * part + 4], training=True)
        parts.append(student.get_weights())
    student.set_weights(start)
    trainer(student, tf.keras.optimizers.SGD(0.0), accumulation_steps=4).train_step((images, labels))
    running = ["moving" in weight.name for weight in student.weights]
    for weight, is_running, old, *each in zip(student.weights, running, start, *parts, strict=True):
        np.testing.assert_allclose(weight, np.mean(each, axis=0), rtol=1e-5, atol=1e-6, err_msg=weight.name)
        assert np.array_equal(weight, old) != is_running
    # The inputs of the first batch norm do not depend on how the batch is divided, so the mean of its moving means over
    # the parts is the moving mean after the whole batch.
    student.set_weights(start)
    student(images, training=True)
    names = [weight.name for weight in student.weights]
    index = names.index("stem_batch_norm/moving_mean:0")
    np.testing.assert_allclose(
        student.get_weights()[index], np.mean([part[index] for part in parts], axis=0), atol=1e-6
    )


# --- moving average ---------------------------------------------------------------------------------------------------


def averaged_in_numpy(steps, decay):
    """The moving average of weights; ``steps`` holds the weights before the first step and after each step."""
    average = [value.astype(np.float64) for value in steps[0]]
    for t, weights in enumerate(steps[1:], 1):
        d = min(decay, (1 + t) / (10 + t))
        average = [d * old + (1 - d) * new for old, new in zip(average, weights, strict=True)]
    return average


@pytest.mark.parametrize("decay", [0.999, 0.2])
def test_moving_average_equals_numpys_and_replaces_weights_in_evaluation(decay, rng):
    """Step t uses the smaller of ``decay`` and (1 + t) / (10 + t), which is below 0.2 only in the first step."""
    model = trainer(network(), Adam(0.01), ema_decay=decay)
    steps = [values(model.student)]
    for _ in range(4):
        model.train_step(batch(rng))
        steps.append(values(model.student))
    expected = averaged_in_numpy(steps, decay)
    for weight, average, value in zip(model.student.weights, model.averages, expected, strict=True):
        np.testing.assert_allclose(average, value, rtol=1e-5, atol=1e-7, err_msg=weight.name)
    images, labels = batch(rng, 64)
    plain = network()
    plain.set_weights([average.numpy() for average in model.averages])
    model.reset_metrics()
    with model.averaged():
        found = {name: float(value) for name, value in model.test_step((images, labels)).items()}
        # The binary kernel is the sign of the average, not the average of signs.
        with lq.context.quantized_scope(True):
            kernel = model.student.get_layer("block1a_conv").get_weights()[0]
    assert found == {name: float(value) for name, value in trainer(plain).test_step((images, labels)).items()}
    index = [weight.name for weight in model.student.weights].index("block1a_conv/kernel:0")
    np.testing.assert_array_equal(kernel, np.where(expected[index] >= 0, 1, -1))
    for weight, last in zip(model.student.weights, steps[-1], strict=True):
        np.testing.assert_array_equal(weight, last)


# --- XLA --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"accumulation_steps": 2, "ema_decay": 0.9}], ids=["plain", "with options"])
def test_xla_trains_the_same_curve(options, rng):
    """Trains with all three losses by plain gradient descent; Adam's first steps would amplify rounding errors."""
    teacher, start = randomize(network("binary_activations"), 1), randomize(network())
    data, found = batch(rng), []
    for xla in (False, True):
        student = network()
        student.set_weights(start.get_weights())
        model = TeacherStudent(student, LossWeights(attention_matching=1.0, output_matching=1.0), teacher, **options)
        optimizer = tf.keras.optimizers.SGD(1e-3)
        optimizer.build(student.trainable_variables)
        model.compile(optimizer=optimizer, jit_compile=xla)
        batches = iter(tf.data.Dataset.from_tensors(data).repeat())
        train = model.make_train_function()
        curve = []
        for _ in range(4):
            model.reset_metrics()
            curve.append([float(value) for value in train(batches).values()])
        found.append((curve, values(student) + [average.numpy() for average in model.averages]))
    (curve, weights), (xla_curve, xla_weights) = found
    assert curve[0] != curve[-1]
    np.testing.assert_allclose(xla_curve, curve, rtol=1e-3)
    for found_, expected in zip(xla_weights, weights, strict=True):
        np.testing.assert_allclose(found_, expected, rtol=1e-3, atol=1e-4)


# --- whole stages -----------------------------------------------------------------------------------------------------

STAGE = (
    "width=8 batch_size=256 checkpoint_minutes=1e-6 binary.epochs=3 binary.warmup_epochs=0 binary.schedule=constant "
    "binary.taught_by=none binary.initial_weights=none binary.attention_matching_weight=0 "
    "binary.output_matching_weight=0 binary.batch_norm_statistics=running augmentation=none"
)
STEPS = 5


def one_stage(words=""):
    """A plan with only the binary stage, which has no teacher."""
    plan = recipes.plan("digits", **{**parse(STAGE.split()), **parse(words.split())})
    return replace(plan, stages=plan.stages[-1:])


class Watch(tf.keras.callbacks.Callback):
    """Records the weights before the first step and after each step and epoch.

    Raises KeyboardInterrupt before step ``dies_at``, which is (epoch, step), both counted from 0.
    """

    def __init__(self, dies_at=None):
        super().__init__()
        self.dies_at = dies_at
        self.steps, self.epochs = [], []

    def on_train_begin(self, logs=None):
        self.steps.append(values(self.model.student))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.dies_at:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(values(self.model.student))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(values(self.model.student))


def train(words, path, watch=None, log=lambda line: None):
    watch = watch or Watch()
    folder = RunFolder(path)
    training.train(one_stage(words), folder, lambda stage: [watch], log)
    return folder, watch


def log(folder):
    with open(folder.stage("binary") / "log.csv", encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


COMBINED = "mixed_precision=bfloat16 accumulation_steps=2 ema_decay=0.9 patience=1"
MIXED = "patience=1 validation=0.1 mixup=0.5 binary.l2_penalty=0.01 binary.batch_norm_statistics=both"
OPTIONS = [
    "mixed_precision=bfloat16",
    "accumulation_steps=2",
    "ema_decay=0.9",
    MIXED,
    # Train two steps of a few images only: float16 gradients are slow on a CPU.
    "mixed_precision=float16 batch_size=16 smoke=true",
    COMBINED,
    pytest.param("xla=true accumulation_steps=2 ema_decay=0.9", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("words", OPTIONS)
def test_a_stage_resumes_from_a_checkpoint_bit_for_bit(words, tmp_path):
    """Trains to the end again from every third checkpoint, and compares the results.

    All variables are overwritten before each restore. All trainings use the same loop, so that its step is traced only
    once.
    """
    tf.config.experimental.enable_op_determinism()
    plan = one_stage(words)
    (stage,), networks = plan.stages, Networks(plan, RunFolder(tmp_path))
    loop = stages._loop(stage, networks, Distribution(), stages._start(stage, networks))
    saved = []

    def save(progress, arrays):
        copies = {name: array.copy() for name, array in arrays.items()}
        saved.append(Checkpoint(tmp_path, copy.deepcopy(progress), copies, random_state()))

    def end():
        progress = copy.deepcopy(loop.run([]))
        progress.seconds = 0.0
        return progress, values(loop.model.student)

    loop.save = save
    progress, weights = end()
    assert len(saved) == len(progress.rows) * (1 + loop.steps_per_epoch)
    final = loop.final
    assert progress.best == (max(row["val_accuracy"] for row in progress.rows) if "patience" in words else None)
    checkpoints, loop.save = saved[::3], lambda *_: None
    for checkpoint in checkpoints:
        for variable in loop._variables().values():
            variable.assign(tf.fill(variable.shape, tf.cast(7, variable.dtype)))
        loop.restore(copy.deepcopy(checkpoint))
        found_progress, found = end()
        assert found_progress == progress
        assert loop.final == final
        for weight, value, expected in zip(loop.model.student.weights, found, weights, strict=True):
            np.testing.assert_array_equal(value, expected, err_msg=f"{weight.name} after {checkpoint.progress}")


@pytest.mark.long
def test_a_run_that_dies_and_resumes_equals_one_that_does_not_die(tmp_path):
    words = f"{COMBINED} binary.epochs=2 checkpoint_minutes=10"
    whole, _ = train(words, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(words, tmp_path / "died", Watch(dies_at=(1, 2)))
    said: list[str] = []
    died, _ = train(words, tmp_path / "died", log=said.append)
    assert said[-1] == "Resuming stage binary after 1 of 2 epochs."
    assert_equal_weights(died.weights("binary"), whole.weights("binary"))
    assert log(died) == log(whole)
    results = [folder.stage_result("binary") for folder in (whole, died)]
    timings = {"seconds": 0, "images_per_second": 0}
    assert {**results[0], **timings} == {**results[1], **timings}


def test_a_stage_ends_with_the_average_of_its_weights(tmp_path):
    folder, watch = train("ema_decay=0.9 binary.epochs=2", tmp_path)
    assert len(watch.steps) == 1 + 2 * STEPS
    expected = averaged_in_numpy(watch.steps, 0.9)
    saved = Networks(one_stage("ema_decay=0.9 binary.epochs=2"), folder)["binary"]
    for weight, value in zip(saved.weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-5, atol=1e-6, err_msg=weight.name)
    assert accuracy(saved, folder) == pytest.approx(folder.stage_result("binary")["test_accuracy"], abs=1.5 / 355)


def accuracy(model, folder):
    _, inputs, labels = Networks(one_stage(), folder).dataset.test_sample(355)
    return np.mean(model(inputs, training=False).numpy().argmax(axis=1) == labels)


def test_patience_ends_with_the_best_weights(tmp_path):
    """Running statistics of batch norms lag behind the weights, so the test accuracy falls before epoch 40."""
    words = "patience=2 binary.epochs=40 binary.learning_rate=0.03"
    folder, watch = train(words, tmp_path)
    accuracies = [row["val_accuracy"] for row in log(folder)]
    best = int(np.argmax(accuracies))
    assert len(accuracies) == best + 1 + 2 < 40
    for start in range(best):
        assert max(accuracies[start + 1 : start + 3]) > max(accuracies[: start + 1])
    result = folder.stage_result("binary")
    assert result["epochs"] == len(accuracies)
    assert result["test_accuracy"] == accuracies[best]
    reference = Networks(one_stage(words), folder).build("binary")
    reference.set_weights(watch.epochs[best])
    assert_equal_networks(reference, folder.weights("binary"))


@pytest.mark.parametrize("mixed_precision", HALF)
def test_a_network_trained_in_half_precision_converts_and_verifies(mixed_precision, tmp_path):
    words = f"mixed_precision={mixed_precision} smoke=true"
    folder, _ = train(words, tmp_path)
    networks = Networks(one_stage(words), folder)
    saved = networks["binary"]
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    assert accuracy(saved, folder) == pytest.approx(folder.stage_result("binary")["test_accuracy"], abs=1e-6)
    _, inputs, _ = networks.dataset.test_sample(50)
    assert verify(saved, convert(saved, strict=True).tflite, [inputs]).passed


# --- invalid values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mixed_precision=int8", r"mixed_precision must be one of 'float32', 'bfloat16', 'float16'; received 'int8'"),
        ("xla=1", r"xla"),
        ("accumulation_steps=0", r"accumulation_steps must be at least 1; received 0"),
        ("accumulation_steps=3", r"teacher\.batch_size must be a multiple of accumulation_steps \(3\); received 64"),
        ("accumulation_steps=0.5", r"accumulation_steps"),
        ("ema_decay=1.0", r"ema_decay must be 0 \(off\) or below 1, for example 0\.999; received 1\.0"),
        ("ema_decay=-0.1", r"ema_decay must be 0 \(off\) or below 1, for example 0\.999; received -0\.1"),
        ("patience=-1", r"patience must be 0 \(off\) or a number of epochs; received -1"),
        ("patience=0.5", r"patience"),
    ],
)
def test_values_that_are_refused(word, message):
    with pytest.raises(ValueError, match=message):
        recipes.plan("digits", **parse([word]))


# --- what the loop says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mixed_precision", "flags", "message"),
    [
        ("float32", "flags : fpu avx2", None),
        ("bfloat16", "flags : fpu avx512_bf16 amx_bf16", None),
        ("bfloat16", "flags : fpu avx512_bf16", "This CPU has bfloat16 instructions without a matrix unit"),
        ("bfloat16", "Features : fp asimd bf16", None),
        ("bfloat16", "", None),
        ("bfloat16", "flags : fpu avx2", "This CPU has no bfloat16 instructions"),
        ("float16", "flags : fpu avx512_bf16", "float16 is for GPUs"),
    ],
)
def test_slow_half_precision_is_recognised_by_the_cpus_flags(mixed_precision, flags, message, tmp_path):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU, where half precision is fast")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    found = why_half_precision_is_slow(mixed_precision, tmp_path / "cpuinfo")
    assert (found is None) == (message is None)
    assert (found or "").startswith(message or "")
    assert why_half_precision_is_slow("bfloat16", tmp_path / "missing") is None


def test_images_per_second_include_the_processes_before_a_resume(monkeypatch):
    """One process counts 4 steps in 4 s, the next 2 steps in 8 s; the first step of each process does not count."""
    now = [0.0]
    monkeypatch.setattr(throughput_module.time, "perf_counter", lambda: now[0])
    progress = Progress()
    for start, ends in ((0.0, (9.0, 10.0, 11.0, 12.0, 13.0)), (50.0, (60.0, 64.0, 68.0))):
        now[0] = start
        throughput = throughput_module.Throughput(8, progress)
        throughput.on_train_batch_begin(0)
        for step, end in enumerate(ends):
            now[0] = end
            throughput.on_train_batch_end(step, {})
        # The next process reads its progress from a checkpoint, so it gets a copy.
        progress = copy.deepcopy(progress)
    assert throughput.images_per_second == pytest.approx(6 * 8 / 12)


def test_tensorboard_summarises_epochs_but_not_steps(monkeypatch, tmp_path):
    """Keras' own callback makes summaries of steps and discards them; the first takes so long that Keras warns."""
    made: list[str] = []
    # Keras imports tensorflow.compat.v2, whose ``summary`` is not the module ``tf.summary``. Patch the one Keras uses.
    summary = sys.modules[tf.keras.callbacks.TensorBoard.__module__].tf.summary
    scalar = summary.scalar

    def noted(name, *arguments, **options):
        made.append(name)
        return scalar(name, *arguments, **options)

    monkeypatch.setattr(summary, "scalar", noted)
    train("smoke=true", tmp_path)
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"} <= set(made)
    assert [name for name in made if name.startswith("batch")] == []
