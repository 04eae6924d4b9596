"""Defines what a recipe is: a description of training stages as data.

A recipe is a zookeeper component, so every field can be set from outside by its dotted name
(``r2b train recipe=digits binary.epochs=3``). ``plan_of`` turns a recipe into plain records for the training loop.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Optional, get_type_hints

from zookeeper import ComponentField, Field, component
from zookeeper.core.component import configure

from r2b_zoo.limits import MOST_WIDTH
from r2b_zoo.losses import LOSSES, switches
from r2b_zoo.recipes.overrides import ALIASES, check_keys, check_kinds
from r2b_zoo.runs.plans import LoopPlan, Plan, StagePlan

STAGE_NAMES = ("teacher", "real", "binary_activations", "binary")
"""The stages of Martínez et al.; ``ProgressiveRecipe`` has a field for each of them."""
REAL_TO_BINARY_NET = "RealToBinaryNet"
STRONG_BASELINE_NET = "StrongBaselineNet"
SMOKE_STEPS = 2
SMOKE_BATCH = 16
NETWORK_OPTIONS = ("weight_scale", "downsample", "batch_norm_momentum", "prelu_slope", "gate_reduction")
"""Fields of a recipe that are passed to the constructors of those networks that have such arguments."""
CHOSEN_ON_TEST = (
    "patience={} with validation=0 chooses the best epoch on the test images, so the accuracy that is reported is too "
    "high; validation=0.1 holds out a tenth of the training images for this choice."
)


@component
class Stage:
    """The training of one network from labels and, with ``taught_by``, from an earlier stage's network."""

    network: str = Field(REAL_TO_BINARY_NET)
    """Name in the registry of networks."""
    precision: str = Field("binary")
    """"real", "binary_activations" (real weights) or "binary"."""
    taught_by: Optional[str] = Field(None)
    """Name of the earlier stage whose network is the teacher; None: the student learns from the labels alone."""
    initial_weights: Optional[str] = Field(None)
    """Name of the earlier stage whose weights the student starts from; None for random weights or ``pretrained``."""
    pretrained: Optional[str] = Field(None)
    """Weights from outside the run that the student starts from, except for its classifier, which starts from random
    weights: a name in ``weights.named``, a weights file, or the folder of a run. Excludes ``initial_weights``."""
    skip: bool = Field(False)
    """True: the stage is not trained. Stages that it would have taught are taught by its teacher instead. Stages that
    would have started from its weights start from those of the stage that its own ``initial_weights`` names."""
    from_run: Optional[str] = Field(None)
    """Folder of another run, whose finished stage of this name is used instead of training this one."""
    trained: str = Field("all")
    """"all": all layers are trained; "classifier": only the last layer is, and batch norms keep their statistics."""

    # Each loss has a field for its weight: classification_weight, attention_matching_weight, …
    for _loss in LOSSES:
        __annotations__[_loss.field] = float
        locals()[_loss.field] = Field(_loss.weight)
    del _loss
    temperature: float = Field(1.0)
    """Divides the logits in output matching."""

    epochs: int = Field(75)
    learning_rate: float = Field(1e-3)
    """Adam's learning rate after the warm-up."""
    schedule: str = Field("cosine")
    """"cosine" to 0, "steps" or "constant"."""
    warmup_epochs: float = Field(5.0)
    """The number of epochs in which the learning rate rises linearly from 0; may be a fraction."""
    decay: float = Field(0.1)
    """Factor by which the "steps" schedule multiplies the learning rate at each of ``decay_epochs``."""
    decay_epochs: Sequence[float] = Field(lambda: (40.0, 60.0, 70.0))
    """Epochs since the start of the stage, including the warm-up, in ascending order; may be fractions."""
    weight_decay: float = Field(0.0)
    """Decoupled weight decay (Loshchilov & Hutter, 2019) of convolution and dense kernels: each step subtracts
    learning rate · ``weight_decay`` · w from a kernel w."""
    l2_penalty: float = Field(0.0)
    """λ of a penalty λ/2 · Σ w² on convolution and dense kernels; the reported loss does not include it."""
    batch_norm_statistics: str = Field("running")
    """"running": the averages that training updates; "before" or "after": estimated anew on training images before the
    first step or after the last; "both": at both times."""

    # By default, these fields have the recipe's values.
    batch_size: int = Field()
    """Images per optimizer step; ``accumulation_steps`` splits them into parts."""
    augmentation: str = Field()
    """See ``Recipe.augmentation``."""
    mixup: float = Field()
    """See ``Recipe.mixup``."""


@component
class Teacher(Stage):
    """The real-valued ResNet-18, taught by the labels."""

    network: str = Field("ResNet18")
    precision: str = Field("real")


@component
class RealStudent(Stage):
    """The Real-to-Binary network with tanh in place of sign."""

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
    """The Real-to-Binary network.

    Its kernels lose the magnitudes that they had in the previous stage, so batch-norm statistics are estimated anew
    before the first step.
    """

    precision: str = Field("binary")
    taught_by: Optional[str] = Field("binary_activations")
    initial_weights: Optional[str] = Field("binary_activations")
    batch_norm_statistics: str = Field("before")


@component
class Recipe:
    """The fields of all recipes. A recipe adds its stages: fields of type ``Stage``, in the order of training."""

    dataset: str = Field("digits")
    """Name of the data set; ``r2b list`` shows the names."""
    data_dir: Optional[str] = Field(None)
    """Folder of the data, for data sets that come from files; also spelled ``data.dir``."""
    preprocessing: Optional[dict] = Field(None)
    """Fields of ``data.preprocessing.Preprocessing``, which turns an image into a network's input; None: those of the
    data set's preprocessing."""
    image_size: Optional[int] = Field(None)
    """Height and width of a network's input; None: those of the preprocessing."""
    width: int = Field(64)
    """Channels of the first section of every network; the other sections have 2, 4 and 8 times as many."""
    stem: str = Field("imagenet")
    """"imagenet" (7×7 stride 2, then max pool) or "cifar" (3×3 stride 1)."""
    seed: int = Field(0)
    """Seed of the initial weights, of the order of the images and of their augmentation."""
    batch_size: int = Field(256)
    augmentation: str = Field("none")
    """Name of the random changes to training images; each data set accepts certain names."""
    mixup: float = Field(0.0)
    """Above 0: training images and their labels are mixed in pairs, with a weight drawn from Beta(mixup, mixup)."""

    # Only some networks have these options; see their constructors.
    weight_scale: str = Field("mean")
    """α of equation 3 of Martínez et al., the scale of each filter of binary weights: "none", "mean" or "learned"."""
    downsample: str = Field("real")
    """Whether the convolutions of the shortcuts are "real", or "binary" like those of the blocks."""
    batch_norm_momentum: float = Field(0.99)
    """The share of a batch norm's running statistics that a step keeps, 0–1."""
    prelu_slope: float = Field(0.25)
    """Initial slope of the PReLUs below 0."""
    gate_reduction: int = Field(8)
    """The gate's hidden layer has 1 / gate_reduction of the channels that the gate reads."""

    # Each of these fields switches an idea of the paper off if it is False.
    gate: bool = Field(True)
    """Data-driven rescaling; False: the learned scale of the strong baseline replaces it."""
    for _loss in switches():
        __annotations__[_loss.name] = bool
        locals()[_loss.name] = Field(True)
    del _loss

    # How the loop trains every stage; see ``LoopPlan``.
    mixed_precision: str = Field("float32")
    xla: bool = Field(False)
    accumulation_steps: int = Field(1)
    ema_decay: float = Field(0.0)
    validation: float = Field(0.0)
    patience: int = Field(0)
    checkpoint_minutes: float = Field(10.0)
    strategy: str = Field("none")
    cpu_devices: int = Field(1)

    smoke: bool = Field(False)
    """True: each stage is trained for only two steps of a few images, to check that everything works."""

    @classmethod
    def with_dependent_values(cls, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The overrides, and fields that depend on them; a recipe overrides this method to add dependent fields."""
        return dict(overrides)

    def stages(self) -> tuple[str, ...]:
        """Names of the stages that are trained, in their order."""
        return stage_names(type(self))

    def switched_values(self, stage: str) -> dict[str, Any]:
        """The fields of a stage that the recipe's switches change, with their new values."""
        return {}

    def switched_off(self) -> tuple[str, ...]:
        """The paper's ideas that are switched off, in words."""
        ideas = {
            "gate": "the gate (the learned scale of the strong baseline takes its place)",
            **{loss.name: loss.title.lower() for loss in switches()},
        }
        left_out = (f"stage {name}" for name in self.stages() if getattr(self, name).skip)
        return (*(words for field, words in ideas.items() if not getattr(self, field)), *left_out)

    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should read before training."""
        return (CHOSEN_ON_TEST.format(self.patience),) if self.patience > 0 and self.validation == 0 else ()


@component
class ProgressiveRecipe(Recipe):
    """A progressive schedule: each stage's network teaches the next one (Martínez et al., ICLR 2020, section 4.2).

    The classes of the stages above define teachers and initial weights. A recipe adds numbers, for example epochs.
    """

    progressive: bool = Field(True)
    """False: there is no stage "real", and the teacher teaches both other students. Weights still become binary a stage
    later than activations."""

    teacher: Stage = ComponentField(Teacher)
    real: Stage = ComponentField(RealStudent)
    binary_activations: Stage = ComponentField(BinaryActivationsStudent)
    binary: Stage = ComponentField(BinaryStudent)

    def stages(self) -> tuple[str, ...]:
        return STAGE_NAMES if self.progressive else tuple(name for name in STAGE_NAMES if name != "real")

    def switched_values(self, stage: str) -> dict[str, Any]:
        if self.progressive or stage == "teacher":
            return {}
        return {"taught_by": "teacher", **({"initial_weights": None} if stage == "binary_activations" else {})}

    def switched_off(self) -> tuple[str, ...]:
        words = "the progressive teachers (the real teacher teaches every student)"
        return (*super().switched_off(), *(() if self.progressive else (words,)))


def stage_names(recipe: type[Recipe]) -> tuple[str, ...]:
    """Names of all stages that a recipe has fields for, in their order."""
    fields = recipe.__component_fields__  # type: ignore[attr-defined]  # of zookeeper
    return tuple(name for name, field in fields.items() if isinstance(field, ComponentField))


def plan_of(recipe: type[Recipe], name: str, overrides: Mapping[str, Any]) -> Plan:
    """Turns a recipe with some overridden fields into a plan.

    Args:
        recipe: the class of the recipe.
        name: name of the recipe, for messages and the run's folder.
        overrides: values by dotted field name.

    Raises:
        ValueError: a field is unknown (the message names the known ones), or a value has the wrong type or is out of
            range.
    """
    names = stage_names(recipe)
    instance = recipe()
    configure(instance, recipe.with_dependent_values(_checked(recipe, name, names, overrides)), name=name)
    try:
        config = dict(iter(instance))  # type: ignore[call-overload]  # zookeeper makes components iterable
        stages = _stages(instance)
    except TypeError as error:
        raise ValueError(f"Recipe {name}: {error}") from None
    _check_numbers(instance)
    return Plan(
        recipe=name,
        dataset=instance.dataset,
        data_dir=instance.data_dir,
        preprocessing=instance.preprocessing,
        image_size=instance.image_size,
        width=instance.width,
        stem=instance.stem,
        options={field: getattr(instance, field) for field in NETWORK_OPTIONS},
        seed=instance.seed,
        stages=stages,
        loop=_loop(instance, stages),
        switched_off=instance.switched_off(),
        notes=instance.notes(),
        config={key: _plain(value) for key, value in config.items() if key not in names},
    )


def _checked(recipe: type[Recipe], name: str, stages: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the overrides, and returns them by the fields' own names and with absolute paths.

    Raises:
        ValueError: a field is unknown, a value has the wrong type, or ``width`` is too large.
    """
    own_fields = [field for field in _fields(recipe) if field not in stages]
    overrides = {ALIASES.get(key, key): value for key, value in overrides.items()}
    check_keys(name, overrides, own_fields, {stage: _fields(Stage) for stage in stages})
    kinds = _kinds(recipe, stages)
    # The command line reads the word "none" as None. In a text field that must not be None, the word itself is meant.
    overrides = {key: "none" if value is None and kinds[key] is str else value for key, value in overrides.items()}
    for key, value in overrides.items():
        if value is not None and (key == "data_dir" or key.endswith(".from_run")):
            overrides[key] = absolute(str(value))
    check_kinds(overrides, kinds)
    if isinstance(overrides.get("width"), int) and overrides["width"] > MOST_WIDTH:
        raise ValueError(f"width must be in 1–{MOST_WIDTH}; received {overrides['width']}.")
    return overrides


def _check_numbers(recipe: Recipe) -> None:
    for field in ("width", "image_size"):
        value = getattr(recipe, field)
        if value is not None and value < 1:
            raise ValueError(f"{field} must be at least 1; received {value}.")
    if not 0 <= recipe.seed < 2**31:
        raise ValueError(f"seed must be in 0–{2**31 - 1}; received {recipe.seed}.")


def _kinds(recipe: type[Recipe], stages: Sequence[str]) -> dict[str, Any]:
    """The type annotation of every field by its dotted name."""
    of_stage = get_type_hints(Stage)
    return {
        **{name: kind for name, kind in get_type_hints(recipe).items() if name not in stages},
        **{f"{stage}.{name}": kind for stage in stages for name, kind in of_stage.items()},
    }


def absolute(path: str) -> str:
    """The absolute path, so that a run finds its data from any working directory; a URL is not changed."""
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
    of_all = {name: _values(recipe, name) for name in recipe.stages()}
    skipped = {name for name, values in of_all.items() if values.pop("skip")}
    names = [name for name in of_all if name not in skipped]
    if not names:
        raise ValueError(f"A run needs at least one stage, and {', '.join(of_all)} are left out (skip=true).")
    plans = []
    for name in names:
        values = of_all[name]
        for field in ("taught_by", "initial_weights"):
            while values[field] in skipped:
                values[field] = of_all[values[field]][field]
            earlier = names[: names.index(name)]
            if values[field] is not None and values[field] not in earlier:
                known = ", ".join(earlier) or "none"
                raise ValueError(
                    f"{name}.{field} must be None or an earlier stage ({known}); received {values[field]!r}."
                )
        plans.append(StagePlan(name=name, max_steps_per_epoch=SMOKE_STEPS if recipe.smoke else None, **values))
    return tuple(plans)


def _values(recipe: Recipe, name: str) -> dict[str, Any]:
    """The values of a stage's fields, with the recipe's switches applied."""
    stage = getattr(recipe, name)
    values = {field: getattr(stage, field) for field in _fields(Stage)}
    values["decay_epochs"] = tuple(float(epoch) for epoch in values["decay_epochs"])
    if not recipe.gate and values["network"] == REAL_TO_BINARY_NET:
        values["network"] = STRONG_BASELINE_NET
    weights = {loss.name: values.pop(loss.field) for loss in LOSSES}
    off = {loss.name: 0.0 for loss in switches() if not getattr(recipe, loss.name)}
    values["loss_weights"] = {**weights, **off}
    values |= recipe.switched_values(name)
    if recipe.smoke:
        values["epochs"], values["warmup_epochs"] = 1, 0.0
        values["batch_size"] = min(values["batch_size"], SMOKE_BATCH)
    return values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
