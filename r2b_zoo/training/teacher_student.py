"""The model that is trained: a student and its frozen teacher, with the training step."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from r2b_zoo.losses import Seen
from r2b_zoo.models import intermediates
from r2b_zoo.models.layers import compiled_whole, convolutions_in_float32
from r2b_zoo.ops.bit_counting import counting_bits
from r2b_zoo.ops.fused import fused_for_training
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.local_value import local_value


class TeacherStudent(tf.keras.Model):
    """A student and its frozen teacher, for ``compile`` and ``fit``, or for a custom training loop.

    Batches are (images, labels), and all training batches have the same size. Labels are integers (N,), or
    probabilities of the classes (N, classes), as mix-up makes them. Every loss is a metric of the same name, and
    ``loss`` is their weighted sum. ``accuracy`` is top-1: the share of images whose predicted class is the label. If
    labels are probabilities, it is the mean probability that they give the predicted class. Stages without a teacher
    use this class too, with the classification loss alone. Under a distribution strategy, gradients are those of the
    whole batch, and metrics those of all replicas.

    Args:
        student: a network of the zoo with its top.
        loss_weights: weight of each loss.
        teacher: a network of the zoo with its top and as many classes as the student. Its layers are frozen
            (``trainable`` becomes and stays False), and it runs in inference mode: batch norms use their running
            statistics. It is ignored if no loss needs a teacher.
        accumulation_steps: number of equal parts of a batch whose gradients are computed one after the other and
            summed. Batch norms normalise each part with the statistics of that part; their running statistics are
            updated once, with the mean of the parts' statistics.
        ema_decay: decay of an exponential moving average of the student's weights and running statistics; 0 for none.
            ``averaged`` puts the averages in place of the weights. The decay of step t is at most (1 + t) / (10 + t),
            so that the average soon forgets the initial weights.
        l2_penalty: λ of the penalty λ/2 · Σ w² over the kernels. It changes the gradients, but no metric includes it.

    Raises:
        ValueError: a loss needs a teacher, and there is none or it has another number of classes than the student.
    """

    def __init__(
        self,
        student: tf.keras.Model,
        loss_weights: LossWeights,
        teacher: Optional[tf.keras.Model] = None,
        *,
        accumulation_steps: int = 1,
        ema_decay: float = 0.0,
        l2_penalty: float = 0.0,
    ) -> None:
        super().__init__(name=f"{student.name}_student")
        if loss_weights.needs_teacher and teacher is None:
            of_teachers = [loss.name for loss in loss_weights.used if loss.needs_teacher]
            words = ", ".join(f"{name}={loss_weights.weights[name]}" for name in of_teachers)
            raise ValueError(f"These losses need a teacher, and there is none: {words}.")
        self.student = student
        self.loss_weights = loss_weights
        self.accumulation_steps = accumulation_steps
        self.ema_decay = ema_decay
        self.l2_penalty = l2_penalty
        self._student_outputs = tf.keras.Model(student.inputs, intermediates(student))
        self._teacher_outputs = None
        if teacher is not None and loss_weights.needs_teacher:
            if teacher.output_shape != student.output_shape:
                raise ValueError(
                    f"Teacher and student must have the same classes; received outputs {teacher.output_shape} "
                    f"and {student.output_shape}."
                )
            self._teacher_outputs = tf.keras.Model(teacher.inputs, intermediates(teacher))
            self._teacher_outputs.trainable = False
        self.metric_names = ["loss", *(loss.name for loss in loss_weights.used), "accuracy"]
        # Holds the number of images of the epoch so far, and the sum of every metric over them.
        self.sums = _same_on_every_replica(tf.zeros(1 + len(self.metric_names), tf.float64), "metric_sums")
        self.averages = [_same_on_every_replica(w, "average") for w in student.weights] if ema_decay else []
        # Every replica returns the same metrics, over all images of the epoch so far, so there is nothing to reduce.
        self.distribute_reduction_method = "first"

    def call(self, inputs: tf.Tensor, training: Optional[bool] = None) -> tf.Tensor:
        return self.student(inputs, training=training)

    def reset_metrics(self) -> None:
        self.sums.assign(tf.zeros_like(self.sums))

    def results(self) -> dict[str, float]:
        """The metrics of the epoch so far: means over its images."""
        count, *sums = self.sums.numpy().tolist()
        return {name: value / count for name, value in zip(self.metric_names, sums, strict=True)}

    # No control flow depends on tensors, so AutoGraph would read the source of every layer for nothing.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, Any]:
        images, labels = data
        with fused_for_training(), counting_bits(not self.jit_compile), compiled_whole(self.jit_compile):
            gradients, sums = self._gradients_in_parts(images, labels)
            gradients = self._penalised(gradients)
            self.optimizer.apply_gradients(zip(gradients, self.student.trainable_variables, strict=True))
        self._update_averages()
        return self._record(sums)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, Any]:
        images, labels = data
        # Measure the network in float32, as it is saved.
        with convolutions_in_float32(), counting_bits(not self.jit_compile):
            return self._record(self._metric_sums(images, labels, training=False))

    def _metric_sums(self, images: tf.Tensor, labels: tf.Tensor, training: bool) -> tf.Tensor:
        """The number of images, and the sum of every metric over the images, (1 + metrics,)."""
        student = self._student_outputs(images, training=training)
        logits = student["logits"]
        teacher = {} if self._teacher_outputs is None else self._teacher_outputs(images, training=False)
        seen = Seen(labels, student, teacher, self.loss_weights.temperature)
        used, weights = self.loss_weights.used, self.loss_weights.weights
        values = {loss.name: loss.of(seen) for loss in used}
        values["loss"] = tf.add_n([weights[loss.name] * values[loss.name] for loss in used])
        are_mixed = len(labels.shape) > 1
        predicted = tf.argmax(logits, axis=-1, output_type=tf.int32)
        if are_mixed:
            values["accuracy"] = tf.reduce_sum(labels * tf.one_hot(predicted, logits.shape[-1]), axis=-1)
        else:
            values["accuracy"] = tf.cast(tf.equal(predicted, tf.cast(labels, tf.int32)), tf.float32)
        ones = tf.ones_like(values["accuracy"])
        return tf.stack([tf.reduce_sum(value) for value in (ones, *(values[name] for name in self.metric_names))])

    def _gradients(self, images: tf.Tensor, labels: tf.Tensor, batch_size: tf.Tensor) -> tuple[list[tf.Tensor], Any]:
        """These images' contribution to the gradients of a batch's loss, and their metric sums."""
        scaled = isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
        variables = self.student.trainable_variables
        with tf.GradientTape() as tape:
            sums = self._metric_sums(images, labels, training=True)
            loss = sums[1 + self.metric_names.index("loss")] / batch_size
            if scaled:
                loss = self.optimizer.get_scaled_loss(loss)
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return (self.optimizer.get_unscaled_gradients(gradients) if scaled else gradients), sums

    def _penalised(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        if not self.l2_penalty:
            return gradients
        # Divide, because the optimizer sums the gradients of all replicas.
        penalty = self.l2_penalty / self.distribute_strategy.num_replicas_in_sync
        return [
            gradient + penalty * tf.convert_to_tensor(variable) if is_kernel(variable) else gradient
            for gradient, variable in zip(gradients, self.student.trainable_variables, strict=True)
        ]

    def _gradients_in_parts(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        parts = self.accumulation_steps
        # Count the images of all replicas, because the optimizer sums their gradients.
        batch_size = tf.cast(tf.shape(labels)[0] * self.distribute_strategy.num_replicas_in_sync, tf.float32)
        if parts == 1:
            return self._gradients(images, labels, batch_size)
        images = tf.reshape(images, [parts, -1, *images.shape[1:]])
        labels = tf.reshape(labels, [parts, -1, *labels.shape[1:]])
        norms = [layer for layer in self.student.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
        running = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
        before = [tf.identity(variable) for variable in running]

        def add_part(i: tf.Tensor, gradients: list[tf.Tensor], sums: tf.Tensor, moved: list[tf.Tensor]) -> Any:
            _assign(running, before)
            more, more_sums = self._gradients(images[i], labels[i], batch_size)
            after = [tf.convert_to_tensor(variable) for variable in running]
            return (
                i + 1,
                [a + b for a, b in zip(gradients, more, strict=True)],
                sums + more_sums,
                [a + b / parts for a, b in zip(moved, after, strict=True)],
            )

        zeros = [tf.zeros_like(variable) for variable in self.student.trainable_variables]
        start = (tf.constant(0), zeros, tf.zeros(self.sums.shape), [tf.zeros_like(value) for value in before])
        _, gradients, sums, moved = self._part_by_part(add_part, start)
        _assign(running, moved)
        return gradients, sums

    def _part_by_part(self, add_part: Callable[..., Any], state: tuple[Any, ...]) -> tuple[Any, ...]:
        """Calls ``add_part`` for one part at a time, to save memory.

        The state begins with the part's number and the gradients.
        """
        parts = self.accumulation_steps
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return tf.while_loop(
                lambda i, *_: i < parts, add_part, state, parallel_iterations=1, maximum_iterations=parts
            )
        # Unroll the loop, because batch norm's all-reduce cannot run inside TensorFlow's while_loop.
        for _ in range(parts):
            with tf.control_dependencies(state[1]):
                state = add_part(*state)
        return state

    def _record(self, sums: tf.Tensor) -> dict[str, Any]:
        if self.distribute_strategy.num_replicas_in_sync > 1:
            sums = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)
        self.sums.assign_add(tf.cast(sums, tf.float64))
        total = tf.convert_to_tensor(self.sums)
        return {name: total[i] / total[0] for i, name in enumerate(self.metric_names, 1)}

    def _update_averages(self) -> None:
        if not self.averages:
            return
        step = tf.cast(self.optimizer.iterations, tf.float32)
        rate = 1 - tf.minimum(self.ema_decay, (1 + step) / (10 + step))
        for average, weight in zip(self.averages, self.student.weights, strict=True):
            average.assign_add(rate * (tf.convert_to_tensor(weight) - tf.convert_to_tensor(average)))

    def restart_averages(self) -> None:
        """Resets the moving averages, where there are any, to the current weights."""
        for average, weight in zip(self.averages, self.student.weights, strict=bool(self.averages)):
            average.assign(local_value(weight))

    def estimate_batch_norms(self, batches: Iterator[Any], steps: int) -> None:
        """Replaces the running statistics of trainable batch norms by means of their statistics over ``steps`` batches.

        The student runs with batch statistics, as in training, and in float32, as in evaluation.
        """
        norms = [
            layer
            for layer in self.student.layers
            if isinstance(layer, tf.keras.layers.BatchNormalization) and layer.trainable
        ]
        running = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]

        totals = [np.zeros(variable.shape, np.float64) for variable in running]
        for _ in range(steps):
            # After an update from zero, the variable holds the batch's statistic times 1 - momentum.
            for variable in running:
                variable.assign(np.zeros(variable.shape, np.float32))
            self._forward(batches)
            for total, variable in zip(totals, running, strict=True):
                total += local_value(variable)
        moved = [1 - norm.momentum for norm in norms for _ in range(2)]
        for variable, total, share in zip(running, totals, moved, strict=True):
            variable.assign((total / (steps * share)).astype(np.float32))

    @functools.cached_property
    def _forward(self) -> Callable[[Iterator[Any]], None]:
        """A function that passes the next batch through the student in training mode, to update running statistics."""

        def forward(images: tf.Tensor) -> None:
            with convolutions_in_float32(), counting_bits():
                self.student(images, training=True)

        def step(batches: Any) -> None:
            images, _ = next(batches)
            self.distribute_strategy.run(forward, (images,))

        return tf.function(step)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Replaces the student's weights by their moving averages, where there are any, until the block ends."""
        kept = [local_value(weight) for weight in self.student.weights] if self.averages else []
        try:
            for weight, average in zip(self.student.weights, self.averages, strict=bool(self.averages)):
                weight.assign(local_value(average))
            yield
        finally:
            for weight, value in zip(self.student.weights, kept, strict=bool(self.averages)):
                weight.assign(value)


def is_kernel(variable: tf.Variable) -> bool:
    """Whether L2 penalty and weight decay apply to a variable; they apply only to kernels, including those of gates."""
    return "kernel" in variable.name


def _assign(variables: list[tf.Variable], values: list[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _same_on_every_replica(value: tf.Tensor, name: str) -> tf.Variable:
    """A variable that every replica updates separately, with the same values."""
    return tf.Variable(
        tf.convert_to_tensor(value),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        name=name,
    )
