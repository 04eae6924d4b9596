"""Stages: batch-norm statistics, losses, stages of other runs, the start, the validation split, and old records."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo import recipes, training
from r2b_zoo.recipes import STAGE_NAMES
from r2b_zoo.report import view
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.runs.later_fields import BEFORE, BEFORE_OF_STAGE
from r2b_zoo.runs.networks import Networks
from r2b_zoo.training import stages
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.teacher_student import TeacherStudent
from tests.networks import randomize
from tests.small import FULL, shallow
from tests.test_training import assert_equal_weights, everything_in, plan
from tests.tiny import batch, network, trainer, values

# --- statistics of batch norms ----------------------------------------------------------------------------------------


def batches_of(images):
    return iter(tf.data.Dataset.from_tensor_slices((tf.stack(images), tf.zeros((len(images), 1)))))


def test_estimated_statistics_are_batch_means_and_ignore_earlier_values(rng):
    images = [batch(rng)[0] for _ in range(3)]
    student = randomize(network())
    model = trainer(student)
    found = []
    for garbage in (0.0, 1e3):
        for weight in student.weights:
            if "moving" in weight.name:
                weight.assign(tf.fill(weight.shape, garbage))
        model.estimate_batch_norms(batches_of(images), 3)
        found.append(values(student))
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
    # Compare only the first batch norm, since the inputs of later batch norms depend on its statistics.
    stem = tf.keras.Model(student.inputs, student.get_layer("stem_conv").output)
    outputs = [stem(image).numpy().astype(np.float64) for image in images]
    norm = student.get_layer("stem_batch_norm")
    np.testing.assert_allclose(norm.moving_mean, np.mean([x.mean(axis=(0, 1, 2)) for x in outputs], axis=0), atol=1e-5)
    unbiased = np.mean([x.var(axis=(0, 1, 2), ddof=0) * 1024 / 1023 for x in outputs], axis=0)
    np.testing.assert_allclose(norm.moving_variance, unbiased, rtol=1e-4)


def test_a_network_with_estimated_statistics_evaluates_as_it_trains(rng):
    """The answers differ a little, because moving variances are unbiased: n / (n - 1) times the variances of the batch.

    n is the number of images times the pixels of a map. The last maps have one pixel, so n is only 64 there.
    """
    images, _ = batch(rng, 64)
    student = randomize(network("real", blocks=FULL))
    before = student(images, training=False).numpy()
    trainer(student).estimate_batch_norms(batches_of([images]), 1)
    evaluated, trained = (student(images, training=flag).numpy() for flag in (False, True))
    assert np.abs(evaluated - trained).max() < 0.2
    assert np.abs(before - trained).max() > 0.8


# --- losses -----------------------------------------------------------------------------------------------------------


def test_labels_may_be_probabilities_of_classes(rng):
    images, labels = batch(rng)
    start, one_hot = randomize(network("real")), tf.one_hot(labels, 10)
    found = []
    for targets in (labels, one_hot):
        student = network("real")
        student.set_weights(start.get_weights())
        model = trainer(student, accumulation_steps=2)
        found.append(
            ({name: float(value) for name, value in model.train_step((images, targets)).items()}, values(student))
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for first, second in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)
    other = tf.one_hot((labels + 1) % 10, 10)
    logs = trainer(start).test_step((images, 0.75 * one_hot + 0.25 * other))
    probabilities = start(images, training=False).numpy()
    log = np.log(probabilities)
    rows = np.arange(len(labels))
    expected = -(0.75 * log[rows, labels] + 0.25 * log[rows, (labels.numpy() + 1) % 10]).mean()
    assert float(logs["classification"]) == pytest.approx(expected, rel=1e-4)
    predicted = probabilities.argmax(axis=1)
    hits = 0.75 * (predicted == labels.numpy()) + 0.25 * (predicted == (labels.numpy() + 1) % 10)
    assert float(logs["accuracy"]) == pytest.approx(hits.mean())


def test_the_l2_penalty_shrinks_kernels_only(rng):
    data, start = batch(rng), randomize(network("real"))
    found = []
    for penalty in (0.0, 0.3):
        student = network("real")
        student.set_weights(start.get_weights())
        model = TeacherStudent(student, LossWeights(), l2_penalty=penalty)
        optimizer = tf.keras.optimizers.SGD(0.1)
        optimizer.build(student.trainable_variables)
        model.compile(optimizer=optimizer)
        logs = model.train_step(data)
        found.append((float(logs["loss"]), [variable.numpy() for variable in student.trainable_variables]))
    (loss, plain), (penalised_loss, penalised) = found
    assert penalised_loss == pytest.approx(loss)
    for before, variable, without, pulled in zip(
        start.trainable_variables, student.trainable_variables, plain, penalised, strict=True
    ):
        expected = without - (0.1 * 0.3 * before.numpy() if "kernel" in variable.name else 0)
        np.testing.assert_allclose(pulled, expected, rtol=1e-4, atol=1e-6, err_msg=variable.name)


# --- stages of other runs ---------------------------------------------------------------------------------------------

SHARED = STAGE_NAMES[:-1]


def shared(run, *words):
    return plan(*(f"{stage}.from_run={run}" for stage in SHARED), *words)


@pytest.fixture(scope="module")
def sharing(smoke_folder, tmp_path_factory):
    """A run that trained its last stage and took the others from the smoke run, and the lines that it logged."""
    folder = RunFolder(tmp_path_factory.mktemp("sharing") / "run")
    said: list[str] = []
    with shallow():
        training.train(shared(smoke_folder.path), folder, log=said.append)
    return folder, said


def test_stages_of_another_run_are_taken_and_the_rest_is_the_same_bit_for_bit(smoke_run, sharing):
    folder, said = sharing
    assert said == [f"Stage {stage} is taken from {smoke_run.path}" for stage in SHARED]
    for stage in STAGE_NAMES:
        assert_equal_weights(folder.weights(stage), smoke_run.weights(stage))
    assert folder.stage_result("teacher") == {**smoke_run.stage_result("teacher"), "from_run": str(smoke_run.path)}
    assert "from_run" not in folder.stage_result("binary")
    assert not list(folder.path.rglob("checkpoints"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["width=16"], r"Stage teacher: teacher\.from_run must be .* finished and fits; received .*: .*stem_conv"),
        (["gate=false"], r"Stage real: real\.from_run must be the folder .*; received .*: .*"),
        (
            ["validation=0.1"],
            r"teacher\.from_run must be .*: that run has validation=0\.0 and this one 0\.1, so it has",
        ),
    ],
)
def test_a_stage_that_does_not_fit_is_refused_before_anything_is_trained(smoke_run, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        training.train(shared(smoke_run.path, *words), RunFolder(tmp_path / "run"), lambda _: pytest.fail("trains"))
    assert everything_in(tmp_path) == []


def test_a_stage_that_is_not_there_is_refused(smoke_run, tmp_path):
    def refused(message, run, *words):
        with pytest.raises(ValueError, match=message):
            training.train(shared(run, *words), RunFolder(tmp_path / "run"), lambda _: pytest.fail("trains"))
        assert not (tmp_path / "run").exists()

    refused(r"Stage teacher: teacher\.from_run must be .*nowhere: .*there is no config\.json", tmp_path / "nowhere")
    other = tmp_path / "other"
    shutil.copytree(smoke_run.path, other, ignore=shutil.ignore_patterns("teacher", "tensorboard"))
    refused(r"received .*other: stage teacher of that run is not finished", other)
    record = json.loads((other / "config.json").read_text())
    record["fields"]["teacher.skip"] = True
    record["fields"]["real.skip"] = True
    (other / "config.json").write_text(json.dumps(record | {"fields": record["fields"] | no_losses()}))
    refused(r"received .*other: that run has only binary_activations, binary\.", other)


def no_losses():
    return {"attention_matching": False, "output_matching": False}


# --- the start, the validation split ----------------------------------------------------------------------------------


def test_a_stage_that_starts_from_weights_is_tested_before_its_first_step(smoke_run):
    starts = {stage: smoke_run.stage_result(stage)["start"] for stage in STAGE_NAMES}
    assert starts["teacher"] is None
    assert starts["real"] is None
    for stage in ("binary_activations", "binary"):
        assert 0 <= starts[stage]["accuracy"] <= 1
        assert np.isfinite(starts[stage]["classification"])
    # The accuracy at the start is that of the stage's own network with the weights of the real network.
    network = Networks(plan(), smoke_run)
    student = network.build("binary_activations")
    student.set_weights(network["real"].get_weights())
    _, inputs, labels = network.dataset.test_sample(355)
    predicted = student(inputs, training=False).numpy().argmax(axis=1)
    assert starts["binary_activations"]["accuracy"] == pytest.approx(np.mean(predicted == labels), abs=1.5 / 355)


def test_the_curve_of_a_stage_that_starts_from_weights_begins_at_epoch_0(smoke_run):
    rows = view.curves(smoke_run, list(STAGE_NAMES), smoke_run.config()["fields"])
    accuracy = next(row for row in rows if row.metric.column == "accuracy")
    start = smoke_run.stage_result("binary")["start"]["accuracy"]
    assert accuracy.axes.first == 0
    by_stage = {panel.stage: str(panel.svg) for panel in accuracy.panels}
    assert f"test from {100 * start:.1f} % to" in by_stage["binary"]
    assert "test from" not in by_stage["teacher"]


@pytest.mark.usefixtures("shallow")
def test_with_a_validation_split_the_test_images_are_read_once_at_the_end(tmp_path, monkeypatch):
    reads = []
    tested = stages.Tests

    def noted(batches, steps):
        def counted():
            for one in batches:
                reads.append(len(one[1]))
                yield one

        signature = batches.element_spec
        return tested(tf.data.Dataset.from_generator(counted, output_signature=signature), steps)

    monkeypatch.setattr(stages, "Tests", noted)
    whole = plan("smoke=false", "validation=0.25", "teacher.epochs=2", "teacher.warmup_epochs=0", "batch_size=512")
    whole = replace(whole, stages=whole.stages[:1])
    folder = RunFolder(tmp_path / "run")
    networks = training.train(whole, folder)
    assert networks is not None
    kept = networks.split.test_size
    assert reads == [kept, kept, 355]
    assert networks.split.train_size == 1442 - kept
    result = folder.stage_result("teacher")
    _, inputs, labels = networks.dataset.test_sample(355)
    predicted = networks["teacher"](inputs, training=False).numpy().argmax(axis=1)
    assert result["test_accuracy"] == pytest.approx(np.mean(predicted == labels), abs=1.5 / 355)
    assert result["validation_accuracy"] * kept == pytest.approx(round(result["validation_accuracy"] * kept), abs=1e-3)


@pytest.mark.usefixtures("shallow")
def test_a_validation_split_that_leaves_a_class_empty_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"validation=0\.001 leaves class '0' no image to validate with: it has 143"):
        training.train(plan("validation=0.001"), RunFolder(tmp_path / "run"), lambda _: pytest.fail("trains"))
    assert everything_in(tmp_path) == []


# --- runs of earlier versions -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shallow")
def test_a_finished_run_of_an_earlier_version_loads_and_is_left_unchanged(tmp_path):
    """The run's config.json lacks the fields of ``later_fields``, and its networks have no scale α."""
    old = plan(*(f"{field}={value}" for field, value in BEFORE.items()))
    words = {f"{stage}.batch_norm_statistics": "running" for stage in STAGE_NAMES}
    old = recipes.plan("digits", **{**old.config, **words})
    teacher = replace(old, stages=old.stages[:1])
    folder = RunFolder(tmp_path / "run")
    training.train(teacher, folder)
    record = folder.config()
    later = {*BEFORE, *(f"{stage}.{field}" for stage in STAGE_NAMES for field in BEFORE_OF_STAGE)}
    record["fields"] = {key: value for key, value in record["fields"].items() if key not in later}
    folder.config_path.write_text(json.dumps(record))
    assert folder.plan() == old
    Networks(folder.plan(), folder)["teacher"]
    before = everything_in(folder.path)
    training.train(teacher, folder, lambda _: pytest.fail("trains again"))
    assert everything_in(folder.path) == before
    with pytest.raises(RunFolderError, match=r"holds a run with weight_scale='none', and this command has 'mean'"):
        folder.check(recipes.plan("digits", **{**old.config, "weight_scale": "mean"}))
