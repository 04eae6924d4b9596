"""What a recipe is: stages as data.

A recipe is a zookeeper component, so every field can be set from outside by its dotted name
(``r2b train recipe=digits binary.epochs=3``). ``configured`` turns it into plain records for the training loop.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Optional, get_type_hints

from zookeeper import ComponentField, Field, component
from zookeeper.core.component import configure

from r2b_zoo.limits import MOST_WIDTH
from r2b_zoo.recipes.overrides import ALIASES, check_keys, check_kinds
from r2b_zoo.short_repr import short_repr

STAGE_NAMES = ("teacher", "real", "binary_activations", "binary")
"""The stages of Martínez et al., which ``ProgressiveRecipe`` has."""
REAL_TO_BINARY_NET = "RealToBinaryNet"
STRONG_BASELINE_NET = "StrongBaselineNet"
MIXED_PRECISIONS = ("float32", "bfloat16", "float16")
STRATEGIES = ("none", "mirrored", "multi_worker")
TRAINED = ("all", "classifier")
SMOKE_STEPS = 2
SMOKE_BATCH = 16
LOSS_WEIGHTS = ("classification_weight", "attention_matching_weight", "output_matching_weight")


@component
class Stage:
    """One training run of one network, taught by an earlier stage or by the labels alone."""

    network: str = Field(REAL_TO_BINARY_NET)
    """Name in the registry of networks."""
    precision: str = Field("binary")
    taught_by: Optional[str] = Field(None)
    """Name of the earlier stage whose student is the teacher; None for labels alone."""
    initial_weights: Optional[str] = Field(None)
    """Name of the earlier stage whose weights the student starts from; None for random ones."""
    pretrained: Optional[str] = Field(None)
    """Weights from outside that the student starts from instead, with a new classifier: 'imagenet', a file or a run."""
    trained: str = Field("all")
    """"all" layers, or the "classifier" alone: the others keep their weights, and batch norms their statistics."""

    classification_weight: float = Field(1.0)
    attention_matching_weight: float = Field(0.0)
    output_matching_weight: float = Field(0.0)
    temperature: float = Field(1.0)

    epochs: int = Field(75)
    learning_rate: float = Field(1e-3)
    schedule: str = Field("cosine")
    warmup_epochs: float = Field(5.0)
    decay: float = Field(0.1)
    decay_epochs: Sequence[float] = Field(lambda: (40.0, 60.0, 70.0))
    weight_decay: float = Field(0.0)
    """Decoupled (Loshchilov & Hutter, 2019); convolution and dense kernels only; times the learning rate."""

    # Without a value of their own: the recipe's.
    batch_size: int = Field()
    augmentation: str = Field()


@component
class Teacher(Stage):
    """The real-valued ResNet-18, taught by the labels."""

    network: str = Field("ResNet18")
    precision: str = Field("real")


@component
class RealStudent(Stage):
    """The Real-to-Binary network with tanh where the binary one has sign."""

    precision: str = Field("real")
    taught_by: Optional[str] = Field("teacher")


@component
class BinaryActivationsStudent(Stage):
    """The Real-to-Binary network with binary activations and real weights."""

    precision: str = Field("binary_activations")
    taught_by: Optional[str] = Field("real")
    initial_weights: Optional[str] = Field("real")


@component
class BinaryStudent(Stage):
    """The Real-to-Binary network."""

    precision: str = Field("binary")
    taught_by: Optional[str] = Field("binary_activations")
    initial_weights: Optional[str] = Field("binary_activations")


@component
class Recipe:
    """What all recipes have in common. A recipe adds its stages, as fields that are a ``Stage``, in their order."""

    dataset: str = Field("digits")
    data_dir: Optional[str] = Field(None)
    """Folder of the data, for data sets that come from files; also spelled ``data.dir``."""
    preprocessing: Optional[dict] = Field(None)
    """From an image to a network's input, fields of ``data.preprocessing.Preprocessing``; None: the data set's own."""
    image_size: Optional[int] = Field(None)
    """Height and width of a network's input; None: as the preprocessing has it."""
    width: int = Field(64)
    stem: str = Field("imagenet")
    seed: int = Field(0)
    batch_size: int = Field(256)
    augmentation: str = Field("none")

    # The paper's ideas, each off by one word.
    gate: bool = Field(True)
    """Data-driven rescaling; off: the strong baseline's learned scale in its place."""
    attention_matching: bool = Field(True)
    output_matching: bool = Field(True)

    # How the loop trains every stage; see ``LoopPlan``.
    mixed_precision: str = Field("float32")
    xla: bool = Field(False)
    accumulation_steps: int = Field(1)
    ema_decay: float = Field(0.0)
    patience: int = Field(0)
    checkpoint_minutes: float = Field(10.0)
    strategy: str = Field("none")
    cpu_devices: int = Field(1)

    smoke: bool = Field(False)
    """On: each stage trains two steps of a few images only, to see that everything fits together."""

    @classmethod
    def completed(cls, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The overrides with what follows from them; a recipe adds the values of fields that depend on others."""
        return dict(overrides)

    def stages(self) -> tuple[str, ...]:
        """Names of the stages that are trained, in their order."""
        return stage_names(type(self))

    def changed(self, stage: str) -> dict[str, Any]:
        """Values of a stage's fields that the recipe's switches replace."""
        return {}

    def switched_off(self) -> tuple[str, ...]:
        """Which of the paper's ideas are off, in words."""
        switches = {
            "gate": "the gate (the learned scale of the strong baseline takes its place)",
            "attention_matching": "attention matching",
            "output_matching": "output matching",
        }
        return tuple(words for field, words in switches.items() if not getattr(self, field))

    def notes(self) -> tuple[str, ...]:
        """Sentences that whoever trains this should read first."""
        return ()


@component
class ProgressiveRecipe(Recipe):
    """A progressive schedule: each stage's student teaches the next (Martínez et al., ICLR 2020, section 4.2).

    A recipe gives each stage its numbers; who teaches whom, and from whose weights, stands with the stages above.
    """

    progressive: bool = Field(True)
    """Off: the teacher teaches the binary network directly, from random weights."""

    teacher: Stage = ComponentField(Teacher)
    real: Stage = ComponentField(RealStudent)
    binary_activations: Stage = ComponentField(BinaryActivationsStudent)
    binary: Stage = ComponentField(BinaryStudent)

    def stages(self) -> tuple[str, ...]:
        return STAGE_NAMES if self.progressive else (STAGE_NAMES[0], STAGE_NAMES[-1])

    def changed(self, stage: str) -> dict[str, Any]:
        return {} if self.progressive or stage != "binary" else {"taught_by": "teacher", "initial_weights": None}

    def switched_off(self) -> tuple[str, ...]:
        words = "the progressive stages (the real teacher teaches the binary network directly)"
        return (*super().switched_off(), *(() if self.progressive else (words,)))


def stage_names(recipe: type[Recipe]) -> tuple[str, ...]:
    """Names of all stages that a recipe has fields for, in their order."""
    fields = recipe.__component_fields__  # type: ignore[attr-defined]  # of zookeeper
    return tuple(name for name, field in fields.items() if isinstance(field, ComponentField))


@dataclass(frozen=True)
class StagePlan:
    """A stage as it will be trained: the recipe's switches applied, values checked. Fields as in ``Stage``."""

    name: str
    network: str
    precision: str
    taught_by: Optional[str]
    initial_weights: Optional[str]
    pretrained: Optional[str]
    trained: str
    classification_weight: float
    attention_matching_weight: float
    output_matching_weight: float
    temperature: float
    epochs: int
    learning_rate: float
    schedule: str
    warmup_epochs: float
    decay: float
    decay_epochs: tuple[float, ...]
    weight_decay: float
    batch_size: int
    augmentation: str
    max_steps_per_epoch: Optional[int]
    """None, or a limit far below the data's size for a smoke run."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"{self.name}.{field} must be at least 1; received {getattr(self, field)}.")
        for field in ("learning_rate", "temperature", "decay"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{self.name}.{field} must be a number above 0; received {getattr(self, field)}.")
        for field in ("weight_decay", "warmup_epochs", *LOSS_WEIGHTS):
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{self.name}.{field} must be a number from 0; received {getattr(self, field)}.")
        if not any(getattr(self, field) for field in LOSS_WEIGHTS):
            raise ValueError(f"{self.name} has no loss left: one of {', '.join(LOSS_WEIGHTS)} must be above 0.")
        if self.taught_by is None and (self.attention_matching_weight or self.output_matching_weight):
            raise ValueError(
                f"{self.name} has no teacher to match: {self.name}.taught_by must name an earlier stage, or "
                "attention_matching_weight and output_matching_weight be 0."
            )
        if self.trained not in TRAINED:
            raise ValueError(
                f"{self.name}.trained must be one of {', '.join(map(repr, TRAINED))}; received {self.trained!r}."
            )
        if self.pretrained is not None and self.initial_weights is not None:
            raise ValueError(
                f"{self.name} starts either from {self.name}.pretrained or from the earlier stage that "
                f"{self.name}.initial_weights names; received {self.pretrained!r} and {self.initial_weights!r}."
            )


@dataclass(frozen=True)
class LoopPlan:
    """How the loop trains, the same for all stages of a recipe.

    Attributes:
        mixed_precision: what the 3×3 convolutions compute in: "float32", "bfloat16", or "float16" with a loss scale
            that adapts. Everything else, and every weight, is float32, and so are evaluation and the saved network.
        xla: whether the training step is compiled with XLA.
        accumulation_steps: into how many parts a batch is cut, one after the other, for devices with too little memory
            for all of it. Equal to the whole batch up to rounding, except that batch norm normalises each part with its
            own statistics; its running statistics move once a step, by the mean of the parts'.
        ema_decay: of the exponential moving average of the weights, which is what is evaluated and saved; 0 for none.
        patience: epochs without a better test accuracy after which a stage ends, with its best weights; 0 for never.
        checkpoint_minutes: time between two checkpoints within an epoch; there is one after every epoch besides.
        strategy: how devices share the work: "none", one device; "mirrored", all GPUs of the machine; "multi_worker",
            those of all machines in TF_CONFIG.
        cpu_devices: with "mirrored", into how many devices the CPU is cut, to see on one machine what several would
            train; 1 for not at all.
    """

    mixed_precision: str
    xla: bool
    accumulation_steps: int
    ema_decay: float
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
                f"xla needs strategy='none': what devices send each other is not compiled; received {self.strategy!r}."
            )
        if self.cpu_devices < 1 or (self.cpu_devices > 1 and self.strategy != "mirrored"):
            raise ValueError(
                "cpu_devices must be at least 1, and above 1 with strategy='mirrored' alone; "
                f"received {self.cpu_devices} and {self.strategy!r}."
            )
        if self.accumulation_steps < 1:
            raise ValueError(f"accumulation_steps must be at least 1; received {self.accumulation_steps}.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be 0 (off) or below 1, for example 0.999; received {self.ema_decay}.")
        if self.patience < 0:
            raise ValueError(f"patience must be 0 (off) or a number of epochs; received {self.patience}.")
        if not 0 < self.checkpoint_minutes < math.inf:
            raise ValueError(f"checkpoint_minutes must be a number above 0; received {self.checkpoint_minutes}.")


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know."""

    recipe: str
    dataset: str
    data_dir: Optional[str]
    preprocessing: Optional[dict[str, Any]]
    image_size: Optional[int]
    width: int
    stem: str
    seed: int
    stages: tuple[StagePlan, ...]
    loop: LoopPlan
    switched_off: tuple[str, ...]
    """Which of the paper's ideas are off, in words."""
    notes: tuple[str, ...]
    """Sentences that whoever trains this should read first."""
    config: dict[str, Any]
    """Every field of the recipe by its dotted name: configuring the recipe with it gives the same plan."""

    __repr__ = short_repr


def configured(recipe: type[Recipe], name: str, overrides: Mapping[str, Any]) -> Plan:
    """A recipe with some fields overridden, as a plan.

    Args:
        recipe: the class of the recipe.
        name: of the recipe, for messages and the run's folder.
        overrides: values by dotted field name.

    Raises:
        ValueError: an unknown field (names the known ones), a value of the wrong type or out of range.
    """
    names = stage_names(recipe)
    own_fields = [field for field in _fields(recipe) if field not in names]
    overrides = {ALIASES.get(key, key): value for key, value in overrides.items()}
    check_keys(name, overrides, own_fields, {stage: _fields(Stage) for stage in names})
    # The word, which the command line cannot tell from None.
    words = ("augmentation", "strategy")
    overrides = {k: "none" if v is None and k.endswith(words) else v for k, v in overrides.items()}
    if overrides.get("data_dir") is not None:
        overrides["data_dir"] = absolute(str(overrides["data_dir"]))
    check_kinds(overrides, _kinds(recipe, names))
    if isinstance(overrides.get("width"), int) and overrides["width"] > MOST_WIDTH:
        raise ValueError(f"width must be in 1–{MOST_WIDTH}; received {overrides['width']}.")
    instance = recipe()
    configure(instance, recipe.completed(overrides), name=name)
    try:
        config = dict(iter(instance))  # type: ignore[call-overload]  # zookeeper makes components iterable
        stages = _stages(instance)
    except TypeError as error:
        raise ValueError(f"Recipe {name}: {error}") from None
    for field in ("width", "image_size"):
        value = getattr(instance, field)
        if value is not None and value < 1:
            raise ValueError(f"{field} must be at least 1; received {value}.")
    if not 0 <= instance.seed < 2**31:
        raise ValueError(f"seed must be in 0–{2**31 - 1}; received {instance.seed}.")
    return Plan(
        recipe=name,
        dataset=instance.dataset,
        data_dir=instance.data_dir,
        preprocessing=instance.preprocessing,
        image_size=instance.image_size,
        width=instance.width,
        stem=instance.stem,
        seed=instance.seed,
        stages=stages,
        loop=_loop(instance, stages),
        switched_off=instance.switched_off(),
        notes=instance.notes(),
        config={key: _plain(value) for key, value in config.items() if key not in names},
    )


def _kinds(recipe: type[Recipe], stages: Sequence[str]) -> dict[str, Any]:
    """The annotation of every field by its dotted name."""
    of_stage = get_type_hints(Stage)
    return {
        **{name: kind for name, kind in get_type_hints(recipe).items() if name not in stages},
        **{f"{stage}.{name}": kind for stage in stages for name, kind in of_stage.items()},
    }


def absolute(path: str) -> str:
    """A path that means the same from every folder, so that a run finds its data again; an address stays as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def _fields(recipe_or_stage: Any) -> list[str]:
    return list(recipe_or_stage.__component_fields__)


def _loop(recipe: Recipe, stages: Sequence[StagePlan]) -> LoopPlan:
    loop = LoopPlan(**{field.name: getattr(recipe, field.name) for field in fields(LoopPlan)})
    for stage in stages:
        if stage.batch_size % loop.accumulation_steps:
            raise ValueError(
                f"{stage.name}.batch_size must be a multiple of accumulation_steps ({loop.accumulation_steps}); "
                f"received {stage.batch_size}."
            )
    return loop


def _stages(recipe: Recipe) -> tuple[StagePlan, ...]:
    names = recipe.stages()
    plans = []
    for name in names:
        stage = getattr(recipe, name)
        values = {field: getattr(stage, field) for field in _fields(Stage)}
        values["decay_epochs"] = tuple(float(epoch) for epoch in values["decay_epochs"])
        if not recipe.gate and values["network"] == REAL_TO_BINARY_NET:
            values["network"] = STRONG_BASELINE_NET
        if not recipe.attention_matching:
            values["attention_matching_weight"] = 0.0
        if not recipe.output_matching:
            values["output_matching_weight"] = 0.0
        values |= recipe.changed(name)
        if recipe.smoke:
            values["epochs"], values["warmup_epochs"] = 1, 0.0
            values["batch_size"] = min(values["batch_size"], SMOKE_BATCH)
        for field in ("taught_by", "initial_weights"):
            earlier = names[: names.index(name)]
            if values[field] is not None and values[field] not in earlier:
                known = ", ".join(earlier) or "none"
                raise ValueError(
                    f"{name}.{field} must be None or an earlier stage ({known}); received {values[field]!r}."
                )
        plans.append(StagePlan(name=name, max_steps_per_epoch=SMOKE_STEPS if recipe.smoke else None, **values))
    return tuple(plans)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
