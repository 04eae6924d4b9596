"""The losses of a training step, one record each.

The step, the recipes, their switches and the report read these records. A new loss therefore needs only a function and
a record here, and a weight in the recipes that use it. Importing this module does not load TensorFlow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Seen:
    """The labels and outputs of one batch, from which losses are computed.

    Attributes:
        labels: labels of the images: integers (N,), or probabilities (N, classes) if mix-up mixed the images.
        student: the student's outputs by the names of ``models.intermediates``: blocks and ``logits``.
        teacher: the teacher's outputs; empty if no loss needs a teacher.
        temperature: the number, above 0, that divides logits in output matching.
    """

    labels: "tf.Tensor"
    student: "Mapping[str, tf.Tensor]"
    teacher: "Mapping[str, tf.Tensor]"
    temperature: float


@dataclass(frozen=True)
class Loss:
    """One loss of a training step: its function, its names and its default weight.

    Attributes:
        name: name of its metric, of its column in a log and, with ``_weight``, of its field in every stage.
        title: title in the report.
        explanation: a sentence for the report.
        of: a function that returns the loss of each image, (N,).
        needs_teacher: whether it needs a teacher; if so, recipes have a switch with the loss's name.
        weight: default weight in a stage.
    """

    name: str
    title: str
    explanation: str
    of: "Callable[[Seen], tf.Tensor]"
    needs_teacher: bool = False
    weight: float = 0.0

    @property
    def field(self) -> str:
        """The name of the stage's field that holds the weight of this loss."""
        return f"{self.name}_weight"


def _cross_entropy(seen: Seen) -> "tf.Tensor":
    import tensorflow as tf

    are_mixed = len(seen.labels.shape) > 1
    function = tf.nn.softmax_cross_entropy_with_logits if are_mixed else tf.nn.sparse_softmax_cross_entropy_with_logits
    return function(seen.labels, seen.student["logits"])


def _attention_distances(seen: Seen) -> "tf.Tensor":
    from r2b_zoo.models.topology import blocks_of
    from r2b_zoo.training.distillation import attention_distances

    return attention_distances(blocks_of(seen.student), blocks_of(seen.teacher))


def _output_divergences(seen: Seen) -> "tf.Tensor":
    from r2b_zoo.training.distillation import output_divergences

    return output_divergences(seen.student["logits"], seen.teacher["logits"], seen.temperature)


LOSSES = (
    Loss(
        "classification",
        "Classification",
        "Cross-entropy between the network's probabilities and the right class.",
        _cross_entropy,
        weight=1.0,
    ),
    Loss(
        "attention_matching",
        "Attention matching",
        "How much the student's attention differs from its teacher's: distances of attention maps, summed over the "
        "blocks.",
        _attention_distances,
        needs_teacher=True,
    ),
    Loss(
        "output_matching",
        "Output matching",
        "How far the student's probabilities are from its teacher's (Kullback–Leibler divergence, softened by a "
        "temperature).",
        _output_divergences,
        needs_teacher=True,
    ),
)
"""All losses, in the order in which they are summed."""


def switches() -> list[Loss]:
    """The losses that a recipe can switch off, each by a boolean field with the loss's name."""
    return [loss for loss in LOSSES if loss.needs_teacher]
