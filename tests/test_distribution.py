"""Several devices or machines train with the loss curve of one device. If a worker dies, the others stop."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo import data, recipes
from r2b_zoo.data.dataset import WHOLE, Shard
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.training import cluster, distribution
from tests.test_death import COMMAND, ROOT, Moments, finish, kill, wait_for
from tests.test_folder import write_classes
from tests.test_training import assert_equal_weights

TWO_WORKERS = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}


# --- shards of a batch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_shards_together_are_the_batch(groups):
    batch = tf.reshape(tf.range(24), (12, 2))
    shards = [Shard(i, 2, groups).of(batch) for i in range(2)]
    assert all(shard.shape == (6, 2) for shard in shards)
    # Each shard has half of every group. The halves, joined in the order of the shards, are the group.
    for group in range(groups):
        size = 12 // groups
        half = slice(group * size // 2, (group + 1) * size // 2)
        found = np.concatenate([shard[half] for shard in shards])
        np.testing.assert_array_equal(found, batch[group * size : (group + 1) * size])


@pytest.mark.parametrize("number", [0, 1, 5, 7])
def test_shards_of_any_number_of_images_hold_each_of_them_once(number):
    batch = tf.range(number)
    found = np.concatenate([Shard(i, 3).of(batch) for i in range(3)])
    np.testing.assert_array_equal(found, batch)


@pytest.fixture(params=["digits", "folder"])
def dataset(request, tmp_path):
    if request.param == "digits":
        return data.load("digits"), "affine"
    return data.load("folder", write_classes(tmp_path, number=13), image_size=16), "resized_crop_flip"


@pytest.mark.parametrize("groups", [1, 2])
def test_the_shards_of_all_workers_are_the_batches_of_one(dataset, groups):
    images, augmentation = dataset

    def batches(shard):
        return list(images.training_batches(8, augmentation, seed=3, epoch=1, skip=1, shard=shard))

    whole, shards = batches(WHOLE), [batches(Shard(i, 2, groups)) for i in range(2)]
    assert len(whole) == len(shards[0]) == len(shards[1]) == images.train_size // 8 - 1
    for step, batch in enumerate(whole):
        for part, expected in enumerate(batch):
            for index, shard in enumerate(shards):
                np.testing.assert_array_equal(shard[step][part], Shard(index, 2, groups).of(expected))


# --- TF_CONFIG --------------------------------------------------------------------------------------------------------


def environment(**config):
    return {"TF_CONFIG": json.dumps(config)}


def test_the_cluster_is_read_from_tf_config():
    found = cluster.from_environment(environment(cluster=TWO_WORKERS, task={"type": "worker", "index": 1}))
    assert (found.names, found.index, found.is_chief) == (("worker 0", "worker 1"), 1, False)
    # The chief comes first, even if TF_CONFIG lists it last.
    jobs = {"worker": ["a:1"], "chief": ["b:1"]}
    found = cluster.from_environment(environment(cluster=jobs, task={"type": "chief", "index": 0}))
    assert (found.names, found.addresses, found.is_chief) == (("chief 0", "worker 0"), ("b:1", "a:1"), True)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, r"needs the environment variable TF_CONFIG, .* it is not set\. For example: TF_CONFIG='\{"),
        ({"TF_CONFIG": "{"}, r"TF_CONFIG cannot be used \(Expecting .*\); received '\{'\. For example: TF_CONFIG='"),
        ({"TF_CONFIG": "[]"}, r"TF_CONFIG cannot be used \(.*\); received '\[\]'"),
        (environment(task={}), r"\(there is no 'cluster' in it\)"),
        (environment(cluster=TWO_WORKERS), r"\(there is no 'task' in it\)"),
        (environment(cluster={"ps": ["a:1"]}, task={}), r"\(its cluster has ps; only 'worker' and at most one"),
        (environment(cluster={"worker": []}, task={}), r"\(there must be a chief or workers, and at most one chief"),
        (environment(cluster={"worker": "a:1"}, task={}), r"\(addresses must be a list; received 'a:1'\)"),
        (environment(cluster={"worker": ["a"]}, task={}), r"\(an address must be host:port; received 'a'\)"),
        (environment(cluster={"worker": ["a:1", "a:1"]}, task={}), r"\(two workers have the same address\)"),
        (
            environment(cluster=TWO_WORKERS, task={"type": "worker", "index": 2}),
            r"\(its task is worker 2, and its cluster has worker 0, worker 1\)",
        ),
    ],
)
def test_a_tf_config_that_cannot_be_used(variables, message):
    with pytest.raises(ValueError, match=message):
        cluster.from_environment(variables)


# --- what is refused, and what is said --------------------------------------------------------------------------------


def test_a_batch_that_cannot_be_shared_is_refused_before_a_cluster_starts(monkeypatch):
    workers = {"worker": [f"127.0.0.1:{port}" for port in (1, 2, 3)]}
    monkeypatch.setenv("TF_CONFIG", environment(cluster=workers, task={"type": "worker", "index": 0})["TF_CONFIG"])
    message = (
        r"teacher\.batch_size must be a multiple of 3 \(3 devices\), .*; received 64\. "
        r"For example: teacher\.batch_size=63"
    )
    with pytest.raises(ValueError, match=message):
        distribution.start(recipes.plan("digits", strategy="multi_worker"))


def test_batch_size_must_be_a_multiple_of_devices_times_accumulation_steps():
    message = r"must be a multiple of 8 \(4 devices × 2 accumulation_steps\).* received 4\. For example: .*batch_size=8"
    with pytest.raises(ValueError, match=message):
        distribution.check_shares(recipes.plan("digits", batch_size=4, accumulation_steps=2), replicas=4)


def test_a_single_device_is_reported():
    said: list[str] = []
    found = distribution.start(recipes.plan("digits", strategy="mirrored"), said.append)
    (line,) = said
    assert re.fullmatch(r"strategy=mirrored finds one device, /device:.PU:0, and trains as strategy=none does", line)
    assert (found.replicas, found.is_chief, found.strategy) == (1, True, None)


def test_xla_with_several_devices_is_refused():
    with pytest.raises(ValueError, match=r"xla needs strategy='none': .* received 'mirrored'"):
        recipes.plan("digits", xla=True, strategy="mirrored")


@pytest.mark.parametrize("fields", [{"cpu_devices": 0}, {"cpu_devices": 2}])
def test_cpu_devices_that_are_refused(fields):
    message = (
        rf"cpu_devices must be at least 1, and above 1 only with .*; received {fields['cpu_devices']} and 'none'\."
    )
    with pytest.raises(ValueError, match=message):
        recipes.plan("digits", **fields)


def test_cpu_devices_are_refused_once_tensorflow_has_started():
    tf.zeros(1)
    with pytest.raises(RuntimeError, match=r"cpu_devices must be set before TensorFlow does anything else"):
        distribution.start(recipes.plan("digits", strategy="mirrored", cpu_devices=2))


def test_a_run_may_resume_on_other_devices(tmp_path):
    folder = RunFolder(tmp_path)
    for fields in ({}, {"strategy": "mirrored"}, {"strategy": "mirrored", "checkpoint_minutes": 1.0}):
        with folder.opened(recipes.plan("digits", **fields)):
            pass
        assert folder.plan() == recipes.plan("digits", **fields)  # the plan of the latest command
    with pytest.raises(RunFolderError, match=r"holds a run with batch_size=64, and this command has 32"):
        folder.check(recipes.plan("digits", batch_size=32))


def test_a_folder_that_the_workers_do_not_share(tmp_path, monkeypatch):
    monkeypatch.setattr("r2b_zoo.runs.folder.SHARED_SECONDS", 0.1)
    message = r"The chief has written .*x\.npz, but this worker cannot see it: --output must be a folder on storage"
    with pytest.raises(RunFolderError, match=message):
        RunFolder(tmp_path).shared_checkpoint("teacher", "x.npz")


# --- batch norm -------------------------------------------------------------------------------------------------------

BATCH_NORM = """
import r2b_zoo
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], 2 * [tf.config.LogicalDeviceConfiguration()]
)
import numpy as np
from r2b_zoo.ops.batch_norm import SynchronisedBatchNormalization

rng = np.random.default_rng(5)
# The mean is far from 0, so that E[x²] − E[x]² would be off by more than the tolerance.
images = rng.normal(30, 2, (8, 3, 5, 4)).astype("float32")
upstream = rng.normal(size=images.shape).astype("float32")
weights = [rng.normal(size=4).astype("float32") for _ in range(3)] + [rng.uniform(1, 2, 4).astype("float32")]

def step(layer, x, d):
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True)
        loss = tf.reduce_sum(output * d)
    return output, *tape.gradient(loss, [x, layer.gamma, layer.beta])

def layer_of(kind):
    layer = kind(momentum=0.9)
    layer.build(images.shape)
    layer.set_weights(weights)
    return layer

one = layer_of(tf.keras.layers.BatchNormalization)
expected = [value.numpy() for value in step(one, tf.constant(images), tf.constant(upstream))]
expected += [one.moving_mean.numpy(), one.moving_variance.numpy(), one(images, training=False).numpy()]

strategy = tf.distribute.MirroredStrategy()
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    both = layer_of(SynchronisedBatchNormalization)
halves = strategy.experimental_distribute_values_from_function(lambda c: tf.constant(
    np.stack([images, upstream])[:, 4 * c.replica_id_in_sync_group :][:, :4]))
run = tf.function(lambda function: strategy.run(function, args=(halves,)))
results = [strategy.experimental_local_results(r) for r in run(lambda h: step(both, h[0], h[1]))]
inference = strategy.experimental_local_results(run(lambda h: both(h[0], training=False)))
statistics = [strategy.experimental_local_results(v) for v in (both.moving_mean, both.moving_variance)]
for first, second in statistics:
    np.testing.assert_array_equal(first, second)
joined = [np.concatenate(results[0]), np.concatenate(results[1]), sum(results[2]), sum(results[3])]
joined += [statistics[0][0], statistics[1][0], np.concatenate(inference)]
for found, value in zip(joined, expected, strict=True):
    np.testing.assert_allclose(found, value, rtol=2e-5, atol=2e-5)

# A layer that is not trainable uses its running statistics in training mode too, as Keras' layer does.
both.trainable = False
frozen = strategy.experimental_local_results(run(lambda h: both(h[0], training=True)))
np.testing.assert_array_equal(np.concatenate(frozen), np.concatenate(inference))
print("equal")
"""


def run_program(program, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_batch_norm_over_two_devices_is_that_of_one():
    out, err, status = finish(run_program(BATCH_NORM))
    assert (status, out) == (0, "equal\n"), err


# --- training ---------------------------------------------------------------------------------------------------------

# An epoch is one step of 1,024 images, so that log.csv has the loss of every step. The learning rate is so low that
# rounding errors do not grow. At the recipe's rate, a change of the last bit of the initial weights changes the loss on
# one device by 1e-2 after 50 steps.
STEPS = 50
FIELDS = {
    "width": 8,
    "batch_size": 1024,
    "augmentation": "affine",
    "progressive": False,
    "binary_activations.skip": True,
    "checkpoint_minutes": 1e-6,
    "teacher.epochs": STEPS,
    "teacher.learning_rate": 5e-5,
    "binary.epochs": 2,
    "binary.warmup_epochs": 1.0,
}
STAGES = ("teacher", "binary")


def train(path, strategy, *more, **variables):
    words = [f"{key}={value}" for key, value in {**FIELDS, "strategy": strategy}.items()]
    return run_program(COMMAND, "train", "--output", path, *words, *more, **variables)


def two_workers(path):
    """Starts two processes of `r2b train` in the same folder; the first is the chief."""
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{free.getsockname()[1]}" for free in (first, second)]
    configs = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}} for i in range(2)]
    return [train(path, "multi_worker", TF_CONFIG=json.dumps(config)) for config in configs]


def curve(folder, column="loss"):
    with open(folder.stage("teacher") / "log.csv", encoding="utf-8", newline="") as file:
        return np.array([float(row[column]) for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("one") / "run")
    _, err, status = finish(train(folder.path, "none"))
    assert status == 0, err
    return folder


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("two") / "run")
    out, err, status = finish(train(folder.path, "mirrored", "cpu_devices=2"))
    assert status == 0, err
    assert "Each batch is shared by 2 devices on 1 machine\n" in out
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Trains with two workers. Worker 1 is killed, both resume, worker 0 is killed, and both resume and finish.

    Returns:
        The run's folder. For each kill: the survivor's output, errors and exit status, the seconds until it ended, and
        the position (epoch, step) of the newest checkpoint. For each worker that finished: output, errors and exit
        status.
    """
    folder = RunFolder(tmp_path_factory.mktemp("killed") / "run")
    seen, ends = Moments(folder.path), []
    for epoch, victim in ((8, 1), (20, 0)):
        workers = two_workers(folder.path)
        assert wait_for(lambda least=epoch: seen.position("teacher") >= (least, 0), workers[0])
        kill(workers[victim])
        killed_at = time.monotonic()
        out, err, status = finish(workers[1 - victim])
        ends.append((out, err, status, time.monotonic() - killed_at, seen.position("teacher")))
    workers = two_workers(folder.path)
    return folder, ends, [finish(worker) for worker in workers]


@pytest.mark.long
def test_two_devices_have_the_loss_curve_of_one(one_device, two_devices):
    expected, found = curve(one_device), curve(two_devices)
    assert len(expected) == STEPS
    assert expected[0] - expected[-1] > 0.3  # they learn
    np.testing.assert_allclose(found, expected, atol=1e-3)
    # These columns agree only if the running statistics of the batch norms agree, and every test image counts once.
    for column in ("val_loss", "val_classification"):
        np.testing.assert_allclose(curve(two_devices, column), curve(one_device, column), atol=1e-3)
    assert curve(two_devices, "val_accuracy")[0] == curve(one_device, "val_accuracy")[0]


@pytest.mark.long
def test_two_workers_have_the_loss_curve_of_one(one_device, two_devices, killed):
    np.testing.assert_allclose(curve(killed[0]), curve(one_device), atol=1e-3)
    np.testing.assert_array_equal(curve(killed[0]), curve(two_devices))


@pytest.mark.long
@pytest.mark.parametrize("victim", [1, 0])
def test_a_worker_that_is_killed_ends_the_other_with_a_sentence(killed, victim):
    _, ends, _ = killed
    _, err, status, seconds, position = ends[1 - victim]
    assert status == 1
    assert seconds < 2 * cluster.HEARTBEAT_SECONDS
    assert re.search(
        rf"Error: Training stopped because worker {victim} \(127\.0\.0\.1:\d+\) died, or cannot be reached any more\. "
        r"Fix the cause, then start the same command on every worker: it resumes from the last checkpoint\.\n$",
        err,
    )
    assert position >= ((8, 0), (20, 0))[1 - victim]
    assert "Traceback" not in err


@pytest.mark.long
def test_workers_resume_after_a_death_and_leave_no_trace_of_it_in_the_weights(two_devices, killed):
    folder, ends, ((out, err, status), (other_out, other_err, other_status)) = killed
    assert (status, other_status) == (0, 0), err + other_err
    epoch = ends[1][4][0]
    for words in (out, other_out):
        assert f"Resuming stage teacher after {epoch} of {STEPS} epochs" in words
    assert "This worker has finished; the chief converts, verifies and reports." in other_out
    assert folder.results_path.is_file()
    for stage in STAGES:
        assert_equal_weights(folder.weights(stage), two_devices.weights(stage))


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_both_at_the_same_step(tmp_path):
    workers = two_workers(tmp_path / "run")
    assert wait_for(lambda: Moments(tmp_path / "run").position("teacher") >= (3, 0), workers[0])
    workers[1].send_signal(signal.SIGTERM)
    ends = [finish(worker) for worker in workers]
    assert [status for _, _, status in ends] == [128 + signal.SIGTERM] * 2
    lines = [err.strip().splitlines()[-1] for _, err, _ in ends]
    assert re.fullmatch(r"Stopped in stage teacher after .* and saved: the same command resumes there\.", lines[0])
    assert lines[0] == lines[1]


@pytest.mark.slow
def test_an_error_of_the_chief_ends_the_others_with_its_message(tmp_path):
    """The run's folder is a broken link. Only the chief creates the folder, so only the chief fails.

    With the folder of another run, every worker would fail.
    """
    (tmp_path / "run").symlink_to(tmp_path / "nothing")
    ends = [finish(worker) for worker in two_workers(tmp_path / "run")]
    assert [status for _, _, status in ends] == [1, 1]
    assert "run cannot be written (File exists)" in ends[0][1]
    assert re.search(r"Training stopped because worker 0 .* ended \(.*run cannot be written \(File exists", ends[1][1])
