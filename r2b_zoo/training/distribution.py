"""How devices share the work of a step: one device, all GPUs of a machine, or all GPUs of several machines.

Every device has a replica of the network, and processes an equal shard of each batch. Gradients, losses and batch-norm
statistics are all-reduced, so they are those of the whole batch. Up to rounding, any number of devices therefore trains
the same network. Only the chief, the first of several machines, writes to the run's folder.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from r2b_zoo.data.dataset import Shard
from r2b_zoo.ops.batch_norm import SynchronisedBatchNormalization
from r2b_zoo.runs.plans import Plan
from r2b_zoo.training import cluster
from r2b_zoo.training.cluster import Cluster
from r2b_zoo.training.local_value import local_value

Log = Callable[[str], None]


class Distribution:
    """The devices of a run.

    Args:
        strategy: TensorFlow's strategy; None for a single device.
        cluster: the machines; None if there is only this machine.
    """

    def __init__(self, strategy: Optional[tf.distribute.Strategy] = None, cluster: Optional[Cluster] = None) -> None:
        self.strategy = strategy
        self.cluster = cluster

    @property
    def replicas(self) -> int:
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def workers(self) -> int:
        return 1 if self.cluster is None else self.cluster.size

    @property
    def is_chief(self) -> bool:
        """Whether this process writes to the run's folder."""
        return self.cluster is None or self.cluster.is_chief

    def scope(self) -> contextlib.AbstractContextManager:
        """A context in which new variables are created on every replica."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def replicate(self, network: tf.keras.Model) -> tf.keras.Model:
        """A copy of the network on every replica, with synchronised batch norms; on one device the network itself."""
        if self.strategy is None:
            return network

        def copy(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
            kind = type(layer)
            if kind is tf.keras.layers.BatchNormalization:
                kind = SynchronisedBatchNormalization
            return kind.from_config(layer.get_config())

        with self.scope():
            replicated = tf.keras.models.clone_model(network, clone_function=copy)
            replicated.set_weights(network.get_weights())
        return replicated

    def collect(self, replicated: tf.keras.Model, network: tf.keras.Model) -> None:
        """Copies the weights of ``replicated``, which ``replicate`` made from ``network``, back into ``network``."""
        if replicated is not network:
            with self.scope():
                values = [local_value(weight) for weight in replicated.weights]
            for weight, value in zip(network.weights, values, strict=True):
                weight.assign(value)

    def batches(self, of_shard: Callable[[Shard], tf.data.Dataset], groups: int = 1) -> Any:
        """Distributes batches over the replicas.

        Under a strategy the batches repeat without end. If they ended, TensorFlow would ask all workers before each
        batch whether there is another, which takes time.

        Args:
            of_shard: returns a shard's part of every batch; batches and their order must be the same for all shards.
            groups: see ``Shard``.

        Returns:
            A ``tf.data.Dataset``, or a distributed dataset under a strategy.
        """
        if self.strategy is None:
            return of_shard(Shard())
        local = self.replicas // self.workers

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            batches = of_shard(Shard(context.input_pipeline_id, context.num_input_pipelines, groups))
            if local > 1:
                batches = batches.flat_map(for_replicas)
            return batches.repeat()

        def for_replicas(images: tf.Tensor, labels: tf.Tensor) -> tf.data.Dataset:
            shards = [Shard(i, local, groups) for i in range(local)]
            parts = [tf.data.Dataset.from_tensors((shard.of(images), shard.of(labels))) for shard in shards]
            whole = parts[0]
            for part in parts[1:]:
                whole = whole.concatenate(part)
            return whole

        return self.strategy.distribute_datasets_from_function(of_worker)

    def largest(self, number: int) -> int:
        """The largest ``number`` of all workers. All workers must make the same calls in the same order."""
        if self.strategy is None or self.cluster is None:
            return number
        own = tf.one_hot(self.cluster.index, self.cluster.size, on_value=float(number), dtype=tf.float64)
        return int(np.max(self.strategy.reduce(tf.distribute.ReduceOp.SUM, own, axis=None)))

    def from_chief(self, value: Any) -> Any:
        """Returns the chief's value, which must be plain JSON data, on every worker.

        All workers must make the same calls in the same order.
        """
        return value if self.cluster is None else json.loads(self.cluster.from_chief(json.dumps(value)))

    def watched(self) -> contextlib.AbstractContextManager:
        """See ``Cluster.watched``; does nothing on one machine."""
        return contextlib.nullcontext() if self.cluster is None else self.cluster.watched()


@contextlib.contextmanager
def _startup() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise RuntimeError(
            "strategy='multi_worker' must start before TensorFlow does anything else in the process: call train first."
        ) from error


def _cut_cpu(number: int) -> list[str]:
    """Splits the CPU into this many virtual devices; returns their names."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    try:
        tf.config.set_logical_device_configuration(cpu, number * [tf.config.LogicalDeviceConfiguration()])
    except RuntimeError as error:
        raise RuntimeError(
            "cpu_devices must be set before TensorFlow does anything else in the process: call train first."
        ) from error
    return [device.name for device in tf.config.list_logical_devices("CPU")]


def start(plan: Plan, log: Log = lambda line: None) -> Distribution:
    """Sets up the devices that a plan's ``strategy`` asks for.

    Raises:
        ValueError: a stage's batch cannot be split equally among the devices; workers have different numbers of
            devices; TF_CONFIG is invalid.
        WorkerLost: not all workers started, or one of them ended during the start.
        RuntimeError: this process cannot listen on its address; or it has used TensorFlow already, so that a cluster or
            virtual CPU devices cannot be set up any more.
    """
    strategy = plan.loop.strategy
    if strategy == "none":
        return Distribution()
    machines = cluster.from_environment() if strategy == "multi_worker" else None
    if machines is not None and machines.size > 1:
        # All workers must have equally many GPUs. Count the physical ones, since listing logical ones would start
        # TensorFlow.
        local = len(tf.config.list_physical_devices("GPU")) or 1
        check_shares(plan, local * machines.size)
        log(f"This is {machines.names[machines.index]} of {machines.size}; waiting for the others")
        with _startup():
            distribution = Distribution(machines.start(), machines)
        with distribution.watched():
            of_chief = distribution.from_chief(local)
            if of_chief != local:
                raise ValueError(
                    f"All workers must have the same number of devices: {machines.names[0]} has {of_chief}, and "
                    f"{machines.names[machines.index]} has {local}. Set CUDA_VISIBLE_DEVICES to hide some."
                )
    else:
        if plan.loop.cpu_devices > 1:
            devices = _cut_cpu(plan.loop.cpu_devices)
        else:
            devices = [device.name for kind in ("GPU", "CPU") for device in tf.config.list_logical_devices(kind)]
            devices = [name for name in devices if name.split(":")[1] == devices[0].split(":")[1]]
        if len(devices) == 1:
            log(f"strategy={strategy} finds one device, {devices[0]}, and trains as strategy=none does")
            return Distribution()
        check_shares(plan, len(devices))
        distribution = Distribution(tf.distribute.MirroredStrategy(devices))
    machine = "machine" if distribution.workers == 1 else "machines"
    log(f"Each batch is shared by {distribution.replicas} devices on {distribution.workers} {machine}")
    return distribution


def check_shares(plan: Plan, replicas: int) -> None:
    """Raises ValueError if the batch of a stage cannot be split equally over the replicas and accumulation steps."""
    for stage in plan.stages:
        parts = replicas * plan.loop.accumulation_steps
        if stage.batch_size % parts:
            of = f"{replicas} devices"
            if plan.loop.accumulation_steps > 1:
                of += f" × {plan.loop.accumulation_steps} accumulation_steps"
            nearest = max(1, round(stage.batch_size / parts)) * parts
            raise ValueError(
                f"{stage.name}.batch_size must be a multiple of {parts} ({of}), so that every device gets the "
                f"same number of images; received {stage.batch_size}. For example: {stage.name}.batch_size={nearest}."
            )
