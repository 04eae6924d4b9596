"""The losses that match a student to its teacher, by attention and by output; and the weights of all losses."""

from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from r2b_zoo import losses
from r2b_zoo.system.suggestions import did_you_mean

# The square of this is added under the square root of a norm, so that a map of zeros is not divided by zero.
_SMALLEST_NORM = 1e-12


def attention_map(activations: tf.Tensor) -> tf.Tensor:
    """The attention map Q of a layer: Σ_c A_c² over the channels c, flattened and divided by its L2 norm.

    Args:
        activations: (N, H, W, C).

    Returns:
        (N, H · W), each value at least 0. Each row has L2 norm 1, or is all zeros if the image's activations are.

    Source: Zagoruyko & Komodakis, ICLR 2017, section 3.1; Martínez et al., ICLR 2020, section 4.2.
    """
    energy = tf.reduce_sum(tf.square(activations), axis=-1)
    flat = tf.reshape(energy, [tf.shape(energy)[0], -1])
    norm = tf.sqrt(tf.reduce_sum(tf.square(flat), axis=1, keepdims=True) + _SMALLEST_NORM**2)
    return flat / norm


def attention_matching_loss(student: Mapping[str, tf.Tensor], teacher: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """``attention_distances`` averaged over the batch; raises the same errors."""
    return tf.reduce_mean(attention_distances(student, teacher))


def attention_distances(student: Mapping[str, tf.Tensor], teacher: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Σ_j ‖Q_S^j − Q_T^j‖₂ over the blocks j, for each image (Martínez et al., section 4.2).

    Q_S^j and Q_T^j are the attention maps of student and teacher.

    Args:
        student: the student's activations (N, H, W, C) by name of the block.
        teacher: the teacher's activations; C may differ from the student's, H and W may not.

    Returns:
        (N,), each in [0, √2 · number of blocks], since maps are unit vectors without negative entries. The gradient is
        0 where the maps are equal.

    Raises:
        ValueError: student and teacher have different blocks, or the height or width of a block differs.
    """
    if set(student) != set(teacher):
        raise ValueError(f"Attention matching needs the same blocks; received {sorted(student)} and {sorted(teacher)}.")
    distances = []
    for name, activations in student.items():
        if activations.shape[1:3] != teacher[name].shape[1:3]:
            raise ValueError(
                f"Attention maps of {name} must have the same height and width; received "
                f"{tuple(activations.shape[1:3])} of the student and {tuple(teacher[name].shape[1:3])} of the teacher."
            )
        difference = attention_map(activations) - attention_map(teacher[name])
        # The gradient of tf.norm is not defined at 0, so a small constant keeps the square root's argument above 0.
        distances.append(tf.sqrt(tf.reduce_sum(tf.square(difference), axis=1) + _SMALLEST_NORM**2))
    return tf.add_n(distances)


def output_matching_loss(student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """``output_divergences``, averaged over the batch."""
    return tf.reduce_mean(output_divergences(student_logits, teacher_logits, temperature))


def output_divergences(student_logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """T² · KL(softmax(t / T) ‖ softmax(s / T)) for each image, with the logits s of the student and t of the teacher.

    Due to T², gradients have about the same size at every temperature T (Hinton et al., 2015, section 2).

    Args:
        student_logits: (N, classes), before the softmax.
        teacher_logits: (N, classes).
        temperature: T > 0; a larger T gives the teacher's probabilities of unlikely classes more weight.

    Returns:
        (N,), each at least 0.
    """
    teacher = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    student = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)


@dataclass(frozen=True, init=False)
class LossWeights:
    """Weight of each loss; 0 switches it off.

    Attributes:
        weights: weight of each loss in ``losses.LOSSES``, by name. The constructor takes weights by keyword; the
            default is ``Loss.weight``.
        temperature: temperature of output matching, above 0.

    Raises:
        ValueError: there is no such loss, a weight is negative, the temperature is not positive, or every weight is 0.
    """

    weights: Mapping[str, float]
    temperature: float

    def __init__(self, *, temperature: float = 1.0, **weights: float) -> None:
        known = {loss.name: loss.weight for loss in losses.LOSSES}
        for name, weight in weights.items():
            if name not in known:
                raise ValueError(f"The losses are {', '.join(known)}; received {name!r}.{did_you_mean(name, known)}")
            if weight < 0:
                raise ValueError(f"The weight of {name} must be 0 (off) or more; received {weight}.")
        object.__setattr__(self, "weights", {**known, **weights})
        object.__setattr__(self, "temperature", temperature)
        if not self.used:
            raise ValueError("Every loss is switched off; give at least one of them a weight above 0.")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0; received {temperature}.")

    @property
    def used(self) -> tuple[losses.Loss, ...]:
        """The losses with a weight above 0, in the order in which they are summed."""
        return tuple(loss for loss in losses.LOSSES if self.weights.get(loss.name, 0) > 0)

    @property
    def needs_teacher(self) -> bool:
        return any(loss.needs_teacher for loss in self.used)
