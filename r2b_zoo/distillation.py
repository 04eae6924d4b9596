"""Teacher and student: attention matching, output matching, and the model that ``fit`` trains with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from r2b_zoo.models import BLOCK_NAMES, intermediates

# Below this an attention map has no direction: a map of zeros stays zeros instead of becoming NaN.
_SMALLEST_NORM = 1e-12


def attention_map(activations: tf.Tensor) -> tf.Tensor:
    """Where a layer looks: Q = Σ_c A_c², flattened and divided by its L2 norm.

    Args:
        activations: (N, H, W, C).

    Returns:
        (N, H · W), each row of length 1 and not negative (a row of zeros where all activations are zero).

    Source: Zagoruyko & Komodakis, ICLR 2017, section 3.1; Martínez et al., ICLR 2020, section 4.2.
    """
    energy = tf.reduce_sum(tf.square(activations), axis=-1)
    flat = tf.reshape(energy, [tf.shape(energy)[0], -1])
    norm = tf.sqrt(tf.reduce_sum(tf.square(flat), axis=1, keepdims=True) + _SMALLEST_NORM**2)
    return flat / norm


def attention_matching_loss(student: Mapping[str, tf.Tensor], teacher: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Σ_j ‖Q_S^j − Q_T^j‖₂ over the blocks j, averaged over the batch (Martínez et al., section 4.2).

    Args:
        student: the activations of each block by name, (N, H, W, C).
        teacher: the same of the teacher; channels may differ, height and width not.

    Returns:
        A scalar in [0, √2 · number of blocks], since maps are unit vectors without negative entries. At equal maps
        the gradient is taken as 0.

    Raises:
        ValueError: the blocks or their heights and widths differ.
    """
    if set(student) != set(teacher):
        raise ValueError(f"Attention matching needs the same blocks; received {sorted(student)} and {sorted(teacher)}.")
    losses = []
    for name, activations in student.items():
        if activations.shape[1:3] != teacher[name].shape[1:3]:
            raise ValueError(
                f"Attention maps of {name} must have the same height and width; received "
                f"{tuple(activations.shape[1:3])} of the student and {tuple(teacher[name].shape[1:3])} of the teacher."
            )
        difference = attention_map(activations) - attention_map(teacher[name])
        # tf.norm has no gradient at 0, so the square root never sees it.
        losses.append(tf.sqrt(tf.reduce_sum(tf.square(difference), axis=1) + _SMALLEST_NORM**2))
    return tf.reduce_mean(tf.add_n(losses))


def output_matching_loss(student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """T² · KL(softmax(t / T) ‖ softmax(s / T)), averaged over the batch.

    The factor T² keeps the size of the gradient when the temperature changes (Hinton et al., 2015, section 2).

    Args:
        student_logits: (N, classes), before the softmax.
        teacher_logits: (N, classes).
        temperature: T > 0; larger values bring out what the teacher thinks of the unlikely classes.
    """
    teacher = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    student = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * tf.reduce_mean(divergence)


@dataclass(frozen=True)
class LossWeights:
    """Weight of each loss; 0 switches it off.

    Attributes:
        classification: of the cross-entropy with the labels.
        attention_matching: of the attention maps' distance at the end of every block.
        output_matching: of the divergence between teacher's and student's probabilities.
        temperature: of output matching.

    Raises:
        ValueError: a weight is negative, the temperature is not positive, or every weight is 0.
    """

    classification: float = 1.0
    attention_matching: float = 0.0
    output_matching: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in ("classification", "attention_matching", "output_matching")}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"The weight of {name} must be 0 (off) or more; received {weight}.")
        if not any(weights.values()):
            raise ValueError("Every loss is switched off; give at least one of them a weight above 0.")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0; received {self.temperature}.")

    @property
    def needs_teacher(self) -> bool:
        return self.attention_matching > 0 or self.output_matching > 0


class TeacherStudent(tf.keras.Model):
    """A student and its frozen teacher, for ``compile`` and ``fit``.

    The batches of ``fit`` are (images, integer labels). Every loss is a metric of its own name; ``accuracy`` is
    top-1. Without a teacher only the classification loss is left, which makes this the trainer of every stage.

    Args:
        student: a network of the zoo with its top.
        loss_weights: weight of each loss.
        teacher: a network of the zoo with its top, same number of classes; its weights never change and it runs in
            inference mode, batch norms with their running statistics.

    Raises:
        ValueError: the weights ask for a teacher and there is none, or the two do not fit.
    """

    def __init__(
        self,
        student: tf.keras.Model,
        loss_weights: LossWeights,
        teacher: Optional[tf.keras.Model] = None,
    ) -> None:
        super().__init__(name=f"{student.name}_student")
        if loss_weights.needs_teacher and teacher is None:
            raise ValueError(f"These losses need a teacher, and there is none: {loss_weights}.")
        self.student = student
        self.loss_weights = loss_weights
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
        names = ["loss", *self._active_losses()]
        self._means = {name: tf.keras.metrics.Mean(name) for name in names}
        self._accuracy = tf.keras.metrics.SparseCategoricalAccuracy("accuracy")

    def _active_losses(self) -> list[str]:
        weights = self.loss_weights
        return [
            name for name in ("classification", "attention_matching", "output_matching") if getattr(weights, name) > 0
        ]

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [*self._means.values(), self._accuracy]

    def call(self, inputs: tf.Tensor, training: Optional[bool] = None) -> tf.Tensor:
        return self.student(inputs, training=training)

    def _weighted_losses(
        self, images: tf.Tensor, labels: tf.Tensor, training: bool
    ) -> tuple[dict[str, Any], tf.Tensor]:
        student = self._student_outputs(images, training=training)
        logits = tf.cast(student["logits"], tf.float32)
        weights = self.loss_weights
        losses = {}
        if weights.classification > 0:
            losses["classification"] = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        if self._teacher_outputs is not None:
            teacher = self._teacher_outputs(images, training=False)
            if weights.attention_matching > 0:
                losses["attention_matching"] = attention_matching_loss(
                    {name: student[name] for name in BLOCK_NAMES}, {name: teacher[name] for name in BLOCK_NAMES}
                )
            if weights.output_matching > 0:
                losses["output_matching"] = output_matching_loss(logits, teacher["logits"], weights.temperature)
        losses["loss"] = tf.add_n([getattr(weights, name) * value for name, value in losses.items()])
        return losses, logits

    def _update_metrics(self, losses: Mapping[str, tf.Tensor], labels: tf.Tensor, logits: tf.Tensor) -> dict[str, Any]:
        number = tf.shape(labels)[0]
        for name, value in losses.items():
            self._means[name].update_state(value, sample_weight=number)
        self._accuracy.update_state(labels, logits)
        return {metric.name: metric.result() for metric in self.metrics}

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, Any]:
        images, labels = data
        with tf.GradientTape() as tape:
            losses, logits = self._weighted_losses(images, labels, training=True)
        self.optimizer.minimize(losses["loss"], self.student.trainable_variables, tape=tape)
        return self._update_metrics(losses, labels, logits)

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, Any]:
        images, labels = data
        losses, logits = self._weighted_losses(images, labels, training=False)
        return self._update_metrics(losses, labels, logits)


class TrainingDiverged(RuntimeError):  # noqa: N818 - reads as what happened
    """The loss is no longer a number."""


class StopOnNaN(tf.keras.callbacks.Callback):
    """Ends ``fit`` with an error that names the step at which the loss became NaN or infinite.

    Args:
        stage: name of the stage, for the message.

    Raises:
        TrainingDiverged: at the end of that step, before any checkpoint of it.
    """

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Optional[dict[str, float]] = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Optional[dict[str, float]] = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not abs(loss) < float("inf"):
            raise TrainingDiverged(
                f"The loss of stage {self.stage} became {loss} at epoch {self._epoch + 1}, step {batch + 1}: "
                f"lower the learning rate ({self.stage}.learning_rate=...) or check the images."
            )
