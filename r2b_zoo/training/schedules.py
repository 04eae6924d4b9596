"""Learning-rate schedules by name."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from r2b_zoo.identity import PACKAGE

SCHEDULES = ("constant", "cosine", "steps")


@tf.keras.utils.register_keras_serializable(PACKAGE)
class WarmUp(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise from 0 over the first steps, followed by another schedule.

    rate(t) = peak · t / steps for t < steps, then after(t − steps).

    Args:
        peak: learning rate at the end of the rise.
        steps: length of the rise, in optimizer steps; 0 for none.
        after: the schedule that follows, called with the number of steps since the end of the rise.
    """

    def __init__(self, peak: float, steps: int, after: tf.keras.optimizers.schedules.LearningRateSchedule) -> None:
        self.peak = peak
        self.steps = steps
        self.after = after

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        rising = self.peak * step / max(self.steps, 1)
        return tf.where(step < self.steps, rising, self.after(tf.maximum(step - self.steps, 0.0)))

    def get_config(self) -> dict[str, object]:
        after = tf.keras.optimizers.schedules.serialize(self.after)
        return {"peak": self.peak, "steps": self.steps, "after": after}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        return cls(**{**config, "after": tf.keras.optimizers.schedules.deserialize(config["after"])})


def learning_rate_schedule(
    name: str,
    *,
    learning_rate: float,
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float,
    decay: float,
    decay_epochs: Sequence[float],
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of a stage.

    Args:
        name: name of the schedule after the warm-up. ``"constant"`` keeps the rate. ``"cosine"`` falls along half a
            cosine, and would reach 0 one step after the last. ``"steps"`` multiplies the rate by ``decay`` at each of
            ``decay_epochs``.
        learning_rate: the rate at the end of the warm-up.
        steps_per_epoch: optimizer steps per epoch.
        epochs: epochs of the whole stage, including the warm-up.
        warmup_epochs: length of the linear rise from 0; may be a fraction.
        decay: factor of ``"steps"``.
        decay_epochs: epochs of ``"steps"``, counted from the start of the stage; may be fractions.

    Raises:
        ValueError: the name is unknown, the warm-up is not shorter than the stage, or ``decay_epochs`` do not ascend.
    """
    schedules = tf.keras.optimizers.schedules
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(map(repr, SCHEDULES))}; received {name!r}.")
    warmup = round(warmup_epochs * steps_per_epoch)
    remaining = epochs * steps_per_epoch - warmup
    if remaining < 1:
        raise ValueError(f"warmup_epochs must be less than epochs ({epochs}); received {warmup_epochs}.")
    if name == "cosine":
        after = schedules.CosineDecay(learning_rate, remaining)
    elif name == "steps":
        if list(decay_epochs) != sorted(set(decay_epochs)):
            raise ValueError(f"decay_epochs must ascend; received {', '.join(map(str, decay_epochs))}.")
        boundaries = [round(epoch * steps_per_epoch) - warmup for epoch in decay_epochs]
        values = [learning_rate * decay**i for i in range(len(boundaries) + 1)]
        # PiecewiseConstantDecay keeps the old rate at a boundary, but the rate must change at the epoch's first step.
        after = schedules.PiecewiseConstantDecay([float(boundary) - 0.5 for boundary in boundaries], values)
    else:
        after = schedules.PiecewiseConstantDecay([0.0], [learning_rate, learning_rate])
    return WarmUp(learning_rate, warmup, after)
