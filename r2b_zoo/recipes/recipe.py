"""What a recipe is: four stages as data.

A recipe is a zookeeper component, so every field can be set from outside by its dotted name
(``r2b train recipe=digits binary.epochs=3``). ``Recipe.plan()`` turns it into plain records for the training loop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from zookeeper import ComponentField, Field, component
from zookeeper.core.component import configure

from r2b_zoo.recipes.overrides import check_keys

STAGE_NAMES = ("teacher", "real", "binary_activations", "binary")
REAL_TO_BINARY_NET = "RealToBinaryNet"
STRONG_BASELINE_NET = "StrongBaselineNet"
SMOKE_STEPS = 2
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
class Recipe:
    """A progressive schedule: each stage's student teaches the next (Martínez et al., ICLR 2020, section 4.2)."""

    dataset: str = Field("digits")
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
    progressive: bool = Field(True)
    """Off: the teacher teaches the binary network directly, from random weights."""

    smoke: bool = Field(False)
    """On: each stage trains two steps only, to see that everything fits together."""

    teacher: Stage = ComponentField(Stage)
    real: Stage = ComponentField(Stage)
    binary_activations: Stage = ComponentField(Stage)
    binary: Stage = ComponentField(Stage)


@dataclass(frozen=True)
class StagePlan:
    """A stage as it will be trained: the recipe's switches applied, values checked. Fields as in ``Stage``."""

    name: str
    network: str
    precision: str
    taught_by: Optional[str]
    initial_weights: Optional[str]
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


@dataclass(frozen=True)
class Plan:
    """All that a run needs to know."""

    recipe: str
    dataset: str
    width: int
    stem: str
    seed: int
    stages: tuple[StagePlan, ...]
    switched_off: tuple[str, ...]
    """Which of the paper's ideas are off, in words."""
    config: dict[str, Any]
    """Every field of the recipe by its dotted name: configuring the recipe with it gives the same plan."""


def configured(recipe: Recipe, name: str, overrides: dict[str, Any]) -> Plan:
    """A recipe with some fields overridden, as a plan.

    Args:
        recipe: a fresh instance.
        name: of the recipe, for messages and the run's folder.
        overrides: values by dotted field name.

    Raises:
        ValueError: an unknown field (names the known ones), a value of the wrong type or out of range.
    """
    own_fields = [field for field in _fields(recipe) if field not in STAGE_NAMES]
    check_keys(name, overrides, own_fields, {stage: _fields(Stage) for stage in STAGE_NAMES})
    # The augmentation of that name, which the command line cannot tell from None.
    overrides = {k: "none" if v is None and k.endswith("augmentation") else v for k, v in overrides.items()}
    configure(recipe, overrides, name=name)
    try:
        config = dict(iter(recipe))  # type: ignore[call-overload]  # zookeeper makes components iterable
        stages = _stages(recipe)
    except TypeError as error:
        raise ValueError(f"Recipe {name}: {error}") from None
    if recipe.width < 1:
        raise ValueError(f"width must be at least 1; received {recipe.width}.")
    if not 0 <= recipe.seed < 2**31:
        raise ValueError(f"seed must be in 0–{2**31 - 1}; received {recipe.seed}.")
    return Plan(
        recipe=name,
        dataset=recipe.dataset,
        width=recipe.width,
        stem=recipe.stem,
        seed=recipe.seed,
        stages=stages,
        switched_off=_switched_off(recipe),
        config={key: _plain(value) for key, value in config.items() if key not in STAGE_NAMES},
    )


def _fields(recipe_or_stage: Any) -> list[str]:
    return list(recipe_or_stage.__component_fields__)


def _stages(recipe: Recipe) -> tuple[StagePlan, ...]:
    names = STAGE_NAMES if recipe.progressive else ("teacher", "binary")
    plans = []
    for name in names:
        stage = getattr(recipe, name)
        fields = {field: getattr(stage, field) for field in _fields(Stage)}
        fields["decay_epochs"] = tuple(float(epoch) for epoch in fields["decay_epochs"])
        if not recipe.gate and fields["network"] == REAL_TO_BINARY_NET:
            fields["network"] = STRONG_BASELINE_NET
        if not recipe.attention_matching:
            fields["attention_matching_weight"] = 0.0
        if not recipe.output_matching:
            fields["output_matching_weight"] = 0.0
        if not recipe.progressive and name == "binary":
            fields["taught_by"], fields["initial_weights"] = "teacher", None
        if recipe.smoke:
            fields["epochs"], fields["warmup_epochs"] = 1, 0.0
        for field in ("taught_by", "initial_weights"):
            earlier = names[: names.index(name)]
            if fields[field] is not None and fields[field] not in earlier:
                known = ", ".join(earlier) or "none"
                raise ValueError(
                    f"{name}.{field} must be None or an earlier stage ({known}); received {fields[field]!r}."
                )
        plans.append(StagePlan(name=name, max_steps_per_epoch=SMOKE_STEPS if recipe.smoke else None, **fields))
    return tuple(plans)


def _switched_off(recipe: Recipe) -> tuple[str, ...]:
    switches = {
        "gate": "the gate (the learned scale of the strong baseline takes its place)",
        "attention_matching": "attention matching",
        "output_matching": "output matching",
        "progressive": "the progressive stages (the real teacher teaches the binary network directly)",
    }
    return tuple(words for field, words in switches.items() if not getattr(recipe, field))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
