"""Plans: plain records of what a run trains. ``recipes.plan`` makes them from recipes.

``StagePlan`` and ``LoopPlan`` raise ValueError for values out of range. ``training.train`` checks the values that
depend on networks, data or devices.
"""

import math
from dataclasses import dataclass
from typing import Any, Optional

from r2b_zoo import losses
from r2b_zoo.system.short_repr import short_repr

MIXED_PRECISIONS = ("float32", "bfloat16", "float16")
STRATEGIES = ("none", "mirrored", "multi_worker")
TRAINED = ("all", "classifier")
BATCH_NORM_STATISTICS = ("running", "before", "after", "both")


@dataclass(frozen=True)
class StagePlan:
    """A stage as it is trained: the fields of ``recipes.recipe.Stage``, with the recipe's switches applied."""

    name: str
    network: str
    precision: str
    taught_by: Optional[str]
    initial_weights: Optional[str]
    pretrained: Optional[str]
    trained: str
    loss_weights: dict[str, float]
    """Weights by name of the loss, from the fields ``<name>_weight`` of ``Stage``."""
    temperature: float
    epochs: int
    learning_rate: float
    schedule: str
    warmup_epochs: float
    decay: float
    decay_epochs: tuple[float, ...]
    weight_decay: float
    l2_penalty: float
    batch_norm_statistics: str
    from_run: Optional[str]
    batch_size: int
    augmentation: str
    mixup: float
    max_steps_per_epoch: Optional[int]
    """Maximum number of steps per epoch in a smoke run; None in other runs."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{self.name}.{field} must be at least 1; received {getattr(self, field)}.")
        for field in ("learning_rate", "temperature", "decay"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{self.name}.{field} must be a number above 0; received {getattr(self, field)}.")
        for field in ("weight_decay", "l2_penalty", "mixup", "warmup_epochs"):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(
                    f"{self.name}.{field} must be a number of at least 0; received {getattr(self, field)}."
                )
        self._check_losses()
        for field, allowed in (("trained", TRAINED), ("batch_norm_statistics", BATCH_NORM_STATISTICS)):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{self.name}.{field} must be one of {', '.join(map(repr, allowed))}; "
                    f"received {getattr(self, field)!r}."
                )
        if self.trained == "classifier" and self.batch_norm_statistics != "running":
            raise ValueError(
                f"{self.name}.trained='classifier' keeps the statistics of batch norms, so "
                f"{self.name}.batch_norm_statistics must be 'running'; received {self.batch_norm_statistics!r}."
            )
        if self.pretrained is not None and self.initial_weights is not None:
            raise ValueError(
                f"{self.name} starts either from {self.name}.pretrained or from the earlier stage that "
                f"{self.name}.initial_weights names; received {self.pretrained!r} and {self.initial_weights!r}."
            )

    def _check_losses(self) -> None:
        for loss in losses.LOSSES:
            weight = self.loss_weights[loss.name]
            if not 0 <= weight < math.inf:
                raise ValueError(f"{self.name}.{loss.field} must be a number of at least 0; received {weight}.")
        if not any(self.loss_weights.values()):
            fields = ", ".join(loss.field for loss in losses.LOSSES)
            raise ValueError(f"{self.name} has no loss: one of {fields} must be above 0.")
        of_teachers = losses.switches()
        if self.taught_by is None and any(self.loss_weights[loss.name] for loss in of_teachers):
            fields = " and ".join(loss.field for loss in of_teachers)
            off = " ".join(f"{loss.name}=false" for loss in of_teachers)
            raise ValueError(
                f"{self.name} has no teacher to match: {self.name}.taught_by must name an earlier stage, or {fields} "
                f"must be 0 (for all stages: {off})."
            )


@dataclass(frozen=True)
class LoopPlan:
    """Settings of the training loop, which are the same for all stages of a recipe.

    Attributes:
        mixed_precision: the type in which the convolutions of the blocks compute: "float32", "bfloat16", or "float16"
            with dynamic loss scaling. Real convolutions of shortcuts, convolutions with fewer than
            ``models.parts.SMALLEST_HALF`` output pixels, all other layers, all weights, evaluation and the saved
            network are float32.
        xla: whether the training step is compiled with XLA.
        accumulation_steps: number of parts of a batch that are computed one after the other, for devices with too
            little memory for the whole batch. Up to rounding, the result is that of the whole batch, with one
            exception: batch norm normalises each part with the statistics of that part. The running statistics are
            updated once a step, with the mean of the parts' statistics.
        ema_decay: decay of an exponential moving average of the weights, which is evaluated and saved instead of the
            weights; 0 for none.
        validation: share of every class's training images that is held out. Above 0, the accuracy after each epoch,
            which ``patience`` uses, is measured on the held-out images; the training loop reads the test split only
            once, at the end of each stage. With 0, stages are trained on all training images, and the accuracy after
            each epoch is measured on the test split.
        patience: a stage ends after this many epochs without a better accuracy. Its best weights are kept, even if it
            does not end early. With 0, every stage is trained for all its epochs, and its last weights are kept.
        checkpoint_minutes: time between two checkpoints within an epoch; every epoch also ends with a checkpoint.
        strategy: how devices share the work: "none", one device; "mirrored", all GPUs of the machine; "multi_worker",
            all GPUs of all machines in TF_CONFIG.
        cpu_devices: with "mirrored", the number of virtual devices into which the CPU is split, so that training on
            several devices can be tried without them. With 1, the CPU is not split.
    """

    mixed_precision: str
    xla: bool
    accumulation_steps: int
    ema_decay: float
    validation: float
    patience: int
    checkpoint_minutes: float
    strategy: str
    cpu_devices: int

    def __post_init__(self) -> None:
        for field, allowed in (("mixed_precision", MIXED_PRECISIONS), ("strategy", STRATEGIES)):
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{field} must be one of {', '.join(map(repr, allowed))}; received {getattr(self, field)!r}."
                )
        if self.xla and self.strategy != "none":
            raise ValueError(
                "xla needs strategy='none': XLA does not compile communication between devices; "
                f"received {self.strategy!r}."
            )
        if self.cpu_devices < 1 or (self.cpu_devices > 1 and self.strategy != "mirrored"):
            raise ValueError(
                "cpu_devices must be at least 1, and above 1 only with strategy='mirrored'; "
                f"received {self.cpu_devices} and {self.strategy!r}."
            )
        if self.accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1; received {self.accumulation_steps}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be 0 (off) or below 1, for example 0.999; received {self.ema_decay}.")
        if not 0 <= self.validation < 1:
            raise ValueError(
                "validation must be 0 (none) or the share of the training images to hold out, below 1, for example "
                f"0.1; received {self.validation}."
            )
        if self.patience < 0:
            raise ValueError(f"patience must be 0 (off) or a number of epochs; received {self.patience}.")
        if not 0 < self.checkpoint_minutes < math.inf:
            raise ValueError(f"checkpoint_minutes must be a number above 0; received {self.checkpoint_minutes}.")


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs to know."""

    recipe: str
    dataset: str
    data_dir: Optional[str]
    preprocessing: Optional[dict[str, Any]]
    image_size: Optional[int]
    width: int
    stem: str
    options: dict[str, Any]
    """Further arguments for the constructors of those networks that have such arguments."""
    seed: int
    stages: tuple[StagePlan, ...]
    loop: LoopPlan
    switched_off: tuple[str, ...]
    """The ideas of Martínez et al. that are switched off, in words."""
    notes: tuple[str, ...]
    """Sentences that the user should read before training."""
    config: dict[str, Any]
    """Every field of the recipe by its dotted name; the recipe configured with these fields gives the same plan."""

    __repr__ = short_repr
