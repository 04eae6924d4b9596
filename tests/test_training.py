"""A tiny run through every stage: its files, how it starts and resumes, and what it leaves after an error."""

import contextlib
import csv
import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo import recipes, training, weights
from r2b_zoo.conversion.tflite_engine import run_tflite
from r2b_zoo.recipes import STAGE_NAMES
from r2b_zoo.recipes.overrides import parse
from r2b_zoo.runs.checkpoints import Progress
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.runs.networks import Networks, copy_weights
from r2b_zoo.training import stages
from r2b_zoo.training import throughput as throughput_module
from tests.small import shallow, small_network

LOSSES = ["classification", "attention_matching", "output_matching"]


def plan(*words):
    return recipes.plan("digits", **{**parse(["smoke=true", "width=8"]), **parse(words)})


def teacher_only(*words):
    """The plan with only its first stage, which is the fastest to train."""
    whole = plan(*words)
    return replace(whole, stages=whole.stages[:1])


def arrays(path):
    return {f"{layer}/{i}": value for layer, values in weights.read(path).items() for i, value in enumerate(values)}


def assert_equal_weights(path, other):
    first, second = arrays(path), arrays(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def copied_run(smoke_run, tmp_path):
    """A copy of the finished run, which tests may change."""
    shutil.copytree(smoke_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


@pytest.fixture
def eagerly():
    """Runs TensorFlow eagerly: a few steps are faster without tracing. Use it only in tests that compare no weights."""
    tf.config.run_functions_eagerly(True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not apply to tf.data functions")
        yield
    tf.config.run_functions_eagerly(False)


# --- what a run writes ------------------------------------------------------------------------------------------------


def test_every_file_of_a_run_is_there(smoke_run):
    found = everything_in(smoke_run.path)
    for name in ("config.json", "results.json", "model.tflite", "attention.npz"):
        assert name in found
    for stage in STAGE_NAMES:
        for name in ("weights.h5", "log.csv", "result.json"):
            assert f"stages/{stage}/{name}" in found
        for split in ("train", "validation"):
            assert list((smoke_run.stage(stage) / "tensorboard" / split).glob("events.out.tfevents.*"))
    assert [name for name in found if "partial" in name] == []


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_log_has_the_losses_of_the_stage_and_its_learning_rate(smoke_run, stage):
    with open(smoke_run.stage(stage) / "log.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    # The binary stage does not match attention.
    losses = {"teacher": LOSSES[:1], "binary": [LOSSES[0], LOSSES[2]]}.get(stage, LOSSES)
    curves = ["loss", "accuracy", *losses]
    assert set(row) == {"epoch", "learning_rate", *curves, *(f"val_{name}" for name in curves)}
    assert all(np.isfinite(float(value)) for value in row.values())
    planned = next(planned for planned in plan().stages if planned.name == stage)
    # The second of two steps is in the middle of the cosine, where the rate is half the highest.
    assert float(row["learning_rate"]) == pytest.approx(planned.learning_rate / 2, rel=1e-5)
    total = sum(planned.loss_weights[name] * float(row[name]) for name in losses)
    assert float(row["loss"]) == pytest.approx(total, rel=1e-4)


def test_results_are_those_of_the_saved_weights_and_the_file(smoke_run):
    results, networks = smoke_run.results(), Networks(plan(), smoke_run)
    _, inputs, labels = networks.dataset.test_sample(355)
    for row in results["stages"]:
        predicted = networks[row["name"]](inputs, training=False).numpy().argmax(axis=1)
        assert row["test_accuracy"] == pytest.approx(np.mean(predicted == labels), abs=1.5 / len(labels))
    predicted = run_tflite(smoke_run.tflite_path.read_bytes(), inputs).argmax(axis=1)
    assert results["tflite"]["accuracy"] == pytest.approx(np.mean(predicted == labels))
    assert results["tflite"]["bytes"] == results["stages"][-1]["tflite_bytes"] == smoke_run.tflite_path.stat().st_size
    assert [row["name"] for row in results["stages"]] == list(STAGE_NAMES)
    assert results["switched_off"] == []
    assert results["smoke"] is True


def test_the_file_computes_what_the_network_computes(smoke_run):
    verification = smoke_run.results()["verification"]
    assert verification["images"] == 355
    assert verification["passed"], verification


def test_the_configuration_gives_the_plan_again(smoke_run):
    assert smoke_run.plan() == plan()
    versions = smoke_run.config()["versions"]
    assert versions["tensorflow"] == tf.__version__
    assert set(versions) >= {"python", "r2b-zoo", "larq", "larq-compute-engine", "numpy"}


# --- where a stage starts ---------------------------------------------------------------------------------------------


class WeightsAtTheStart(tf.keras.callbacks.Callback):
    """Writes the student's weights before the first step."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_begin(self, logs=None):
        weights.save(self.model.student, self.path)


@pytest.fixture(scope="module")
def resumed(smoke_folder, tmp_path_factory):
    """A copy of the finished run, resumed after its last stage was deleted; and the names of the trained stages."""
    folder = RunFolder(tmp_path_factory.mktemp("resumed") / "run")
    shutil.copytree(smoke_folder.path, folder.path)
    shutil.rmtree(folder.stage("binary"))
    started = []

    def callbacks(stage):
        started.append(stage.name)
        return [WeightsAtTheStart(folder.path / "start.h5")]

    with shallow():
        training.train(plan(), folder, callbacks)
    return folder, started


def test_finished_stages_are_skipped(smoke_run, resumed):
    folder, started = resumed
    assert started == ["binary"]
    for stage in STAGE_NAMES[:-1]:
        assert folder.weights(stage).stat().st_mtime == smoke_run.weights(stage).stat().st_mtime


def test_a_stage_starts_from_the_weights_saved_before_it(resumed):
    folder, _ = resumed
    assert_equal_weights(folder.path / "start.h5", folder.weights("binary_activations"))
    assert folder.stage_result("binary")["layers_not_initialised"] == []


def test_a_run_that_resumes_ends_with_the_same_weights_bit_for_bit(smoke_run, resumed):
    folder, _ = resumed
    assert_equal_weights(folder.weights("binary"), smoke_run.weights("binary"))
    first, second = smoke_run.stage_result("binary"), folder.stage_result("binary")
    timings = {"seconds": 0, "images_per_second": 0}
    assert {**first, **timings} == {**second, **timings}


def test_training_changed_every_layer(resumed):
    folder, _ = resumed
    start, end = arrays(folder.path / "start.h5"), arrays(folder.weights("binary"))
    assert [name for name in start if np.array_equal(start[name], end[name])] == []


def test_a_finished_run_is_not_trained_again(copied_run):
    before = everything_in(copied_run.path)
    networks = training.train(plan(), copied_run, lambda stage: pytest.fail(f"trains {stage.name} again"))
    assert networks is not None
    assert everything_in(copied_run.path) == before
    for stage in STAGE_NAMES:
        assert_equal_networks(networks[stage], copied_run.weights(stage))


def assert_equal_networks(network, path):
    values = weights.read(path)
    for layer in network.layers:
        for found, expected in zip(layer.get_weights(), values.get(layer.name, []), strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=layer.name)


def test_the_same_seed_gives_the_same_weights_bit_for_bit(smoke_run, tmp_path):
    training.train(teacher_only(), RunFolder(tmp_path))
    assert_equal_weights(RunFolder(tmp_path).weights("teacher"), smoke_run.weights("teacher"))


class StopsAtTheStart(WeightsAtTheStart):
    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        raise KeyboardInterrupt


@pytest.mark.usefixtures("shallow")
def test_another_seed_starts_from_other_weights(tmp_path):
    starts = []
    for seed in (0, 1):
        folder = RunFolder(tmp_path / f"run{seed}")
        starts.append(tmp_path / f"start{seed}.h5")
        with pytest.raises(KeyboardInterrupt):
            training.train(teacher_only(f"seed={seed}"), folder, lambda _: [StopsAtTheStart(starts[-1])])
        # The interrupted stage leaves no files.
        assert everything_in(folder.path) == [".lock", "config.json", "data.json", "stages"]
        assert not folder.is_finished("teacher")
    first, other = (arrays(start) for start in starts)
    random = [name for name, value in first.items() if value.ndim > 1]
    assert len(random) == 7  # six convolutions, one of them in a shortcut, and the classifier
    assert [name for name in random if np.array_equal(first[name], other[name])] == []


def test_layers_that_the_source_lacks_keep_their_own_weights():
    gated, scaled = small_network("RealToBinaryNet", "real"), small_network("StrongBaselineNet", "real")
    tf.keras.utils.set_random_seed(1)
    for layer in gated.layers:
        layer.set_weights([np.random.normal(size=value.shape) for value in layer.get_weights()])
    before = {layer.name: layer.get_weights() for layer in scaled.layers}
    kept = copy_weights(gated, scaled)
    assert kept == [layer.name for layer in scaled.layers if layer.name.endswith("_scale")]
    assert len(kept) == 16
    for layer in scaled.layers:
        expected = before[layer.name] if layer.name in kept else gated.get_layer(layer.name).get_weights()
        for found, value in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(found, value, err_msg=layer.name)


def test_weight_decay_is_of_kernels_alone():
    student = small_network("RealToBinaryNet", "real")
    stage = replace(plan("binary.weight_decay=0.5", "binary.learning_rate=0.1").stages[-1], schedule="constant")
    optimizer = stages._optimizer(stage, student, steps_per_epoch=2)
    before = [variable.numpy() for variable in student.trainable_variables]
    optimizer.apply_gradients([(tf.zeros_like(v), v) for v in student.trainable_variables])
    for variable, value in zip(student.trainable_variables, before, strict=True):
        factor = 1 - 0.1 * 0.5 if "kernel" in variable.name else 1
        np.testing.assert_allclose(variable, factor * value, rtol=1e-5, err_msg=variable.name)
    decayed = {v.name.split("/")[-1].split(":")[0] for v in student.trainable_variables if "kernel" in v.name}
    others = {v.name.split("/")[-1].split(":")[0] for v in student.trainable_variables if "kernel" not in v.name}
    assert "kernel" in decayed
    assert {"gamma", "beta", "alpha", "bias"} <= others


# --- plans that cannot be trained -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=mnist"], r"There is no data set 'mnist'; the data sets are digits"),
        (["stem=tiny"], r"stem must be one of imagenet, cifar; received 'tiny'"),
        (["binary.network=Resnet"], r"Stage binary: There is no network 'Resnet'; the networks are RealToBinaryNet"),
        (["binary.network=ResNet18"], r"Stage binary: precision of ResNet18 must be one of 'real'; received 'binary'"),
        (
            ["width=2"],
            r"Stage real: The gate reduces 2 channels by 4, which leaves no hidden units: use a wider network",
        ),
        (["binary.precision=ternary"], r"Stage binary: precision must be one of binary, .*; received 'ternary'"),
        (["real.schedule=linear"], r"Stage real: schedule must be one of 'constant', .*; received 'linear'"),
        (["real.augmentation=flip"], r"Stage real: There is no augmentation 'flip'; there are none, affine"),
        (["batch_size=2000", "smoke=false"], r"Stage teacher: batch_size must be .*1442 in digits; received 2000"),
    ],
)
def test_a_mistake_in_any_stage_is_found_before_the_first_is_trained(tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        training.train(plan(*words), RunFolder(tmp_path / "run"), lambda stage: pytest.fail("trains"))
    assert everything_in(tmp_path) == []


# --- folders that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "field"), [("seed=1", "seed=0"), ("binary.epochs=3", r"binary.epochs=\d+"), ("gate=false", "gate=True")]
)
def test_a_folder_of_another_configuration_is_refused_naming_the_field(smoke_run, word, field):
    before = everything_in(smoke_run.path)
    with pytest.raises(
        RunFolderError, match=rf"holds a run with {field}, and this command has .*another folder with --out"
    ):
        training.train(plan(word), smoke_run)
    assert everything_in(smoke_run.path) == before


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(
        RunFolderError, match=r"is not empty and holds no run \(no config\.json\): choose another folder"
    ):
        training.train(plan(), RunFolder(tmp_path))
    assert everything_in(tmp_path) == ["holiday.jpg"]


@pytest.mark.usefixtures("shallow")
def test_a_warm_up_longer_than_the_stage_is_found_before_the_first_is_trained(tmp_path):
    long = recipes.plan("digits", **{"binary.epochs": 7, "binary.warmup_epochs": 7.5})
    with pytest.raises(ValueError, match=r"Stage binary: warmup_epochs must be less than epochs \(7\); received 7\.5"):
        training.train(long, RunFolder(tmp_path / "run"), lambda stage: pytest.fail("trains"))
    assert everything_in(tmp_path) == []


@pytest.mark.usefixtures("shallow")
def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("a file")
    for path in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(RunFolderError, match=r"cannot be written \(Not a directory\): choose another folder"):
            training.train(plan(), RunFolder(path))
    assert (tmp_path / "run").read_text() == "a file"


@contextlib.contextmanager
def largest_file(size):
    """Makes writing more than ``size`` bytes to one file fail, as on a full disk."""
    resource = pytest.importorskip("resource", reason="this system has no resource limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("shallow")
def test_a_disk_too_full_for_the_configuration(tmp_path):
    with (
        largest_file(100),
        pytest.raises(RunFolderError, match=r"cannot be written \(File too large\): free some space"),
    ):
        training.train(plan(), RunFolder(tmp_path / "run"))
    assert everything_in(tmp_path / "run") == [".lock"]


@pytest.mark.usefixtures("eagerly")
def test_a_disk_too_full_for_the_weights(tmp_path, capfd):
    folder = RunFolder(tmp_path / "run")
    message = r"cannot be written \(File too large\): .*Finished stages and checkpoints are kept, and the same"
    with largest_file(50_000), pytest.raises(RunFolderError, match=message):
        training.train(teacher_only(), folder)
    assert everything_in(folder.path) == [".lock", "config.json", "data.json", "stages"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("eagerly", "shallow")
def test_a_loss_that_is_nan_leaves_no_stage(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(
        RuntimeError, match=r"loss of stage teacher became (nan|inf) at epoch 1, step 2: lower the learn"
    ):
        training.train(teacher_only("teacher.learning_rate=1e30"), folder)
    assert everything_in(folder.path) == [".lock", "config.json", "data.json", "stages"]


# --- records ----------------------------------------------------------------------------------------------------------


def test_errors_name_the_file_that_an_unfinished_run_lacks(copied_run, tmp_path):
    copied_run.results_path.unlink()
    with pytest.raises(RunFolderError, match=r"copy holds no \(finished\) run: there is no results\.json in it"):
        copied_run.results()
    with pytest.raises(RunFolderError, match=r"empty holds no \(finished\) run: there is no config\.json in it"):
        RunFolder(tmp_path / "empty").plan()
    shutil.rmtree(copied_run.stage("real"))
    with pytest.raises(RunFolderError, match=r"copy holds no \(finished\) run: there is no result\.json"):
        Networks(plan(), copied_run)["real"]


def test_a_stage_the_run_does_not_have(smoke_run):
    with pytest.raises(ValueError, match=r"has no stage 'student'; its stages are teacher, real, binary_activations, "):
        Networks(plan(), smoke_run)["student"]


def test_records_are_plain_json(smoke_run):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    for path in (smoke_run.config_path, smoke_run.results_path):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_later_callbacks_see_images_per_second_in_the_logs(monkeypatch):
    """Steps end at 1, 3 and 7 s. The first does not count, so the rates are 8 images in 2 s, then 16 in 6 s."""
    now = [0.0]
    monkeypatch.setattr(throughput_module.time, "perf_counter", lambda: now[0])
    throughput = throughput_module.Throughput(batch_size=8, progress=Progress())
    throughput.on_train_batch_begin(0)
    seen = []
    for batch, end in enumerate((1.0, 3.0, 7.0)):
        now[0], logs = end, {"loss": 0.0}
        throughput.on_train_batch_end(batch, logs)
        seen.append(logs.get("images_per_second"))
    assert seen == [None, pytest.approx(4.0), pytest.approx(16 / 6)]
    assert throughput.images_per_second == seen[-1]
