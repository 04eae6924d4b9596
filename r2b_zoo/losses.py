"""The losses of a training step, one record each.

The step, the recipes, their switches and the report read these records. So a new loss is a function and a record here,
and a weight in the recipes that want it. Importing this loads no TensorFlow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Seen:
    """What a loss sees of a batch.

    Attributes:
        labels: of the images: integers (N,), or probabilities (N, classes) of images that are mixed.
        student: the student's outputs by name, as ``models.intermediates`` has them: blocks and ``logits``.
        teacher: the teacher's; empty where no loss needs one.
        temperature: T > 0, by which logits are divided where they are matched.
    """

    labels: "tf.Tensor"
    student: "Mapping[str, tf.Tensor]"
    teacher: "Mapping[str, tf.Tensor]"
    temperature: float


@dataclass(frozen=True)
class Loss:
    """A loss.

    Attributes:
        name: of its metric, of its column in a log and, with ``_weight``, of its field in every stage.
        title: in the report.
        explanation: a sentence for the report.
        of: the loss of each image, (N,).
        needs_teacher: a loss that does is one of the paper's ideas: a recipe has a switch of its name.
        weight: in a stage that says nothing.
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
        "How far the student looks elsewhere than its teacher: distances of attention maps, summed over the blocks.",
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
"""In the order in which they are added up."""


def switches() -> list[Loss]:
    """The losses that a recipe turns off by one word."""
    return [loss for loss in LOSSES if loss.needs_teacher]
