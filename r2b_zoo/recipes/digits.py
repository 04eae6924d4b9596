"""The whole schedule on scikit-learn's digits, small enough for every laptop.

Paper: Martínez et al., ICLR 2020, section 4.2, its stages and losses; the numbers of epochs, the learning rates and
the augmentation are ours, chosen for 1,442 images of 8×8.
Command: ``r2b demo``, or ``r2b train recipe=digits``.
Expected accuracy and time: README.md, measured by ``benchmarks/digits.py``.
"""

from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo.recipes.recipe import ProgressiveRecipe, Stage


@component
class Digits(ProgressiveRecipe):
    dataset: str = Field("digits")
    width: int = Field(16)
    stem: str = Field("cifar")
    batch_size: int = Field(64)
    augmentation: str = Field("affine")

    teacher: Stage = ComponentField(
        PartialComponent(
            Stage,
            network="ResNet18",
            precision="real",
            epochs=25,
            learning_rate=2e-3,
            warmup_epochs=2.0,
        )
    )
    real: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="real",
            taught_by="teacher",
            epochs=20,
            learning_rate=2e-3,
            warmup_epochs=2.0,
            attention_matching_weight=1.0,
            output_matching_weight=3.0,
            temperature=2.0,
        )
    )
    binary_activations: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="binary_activations",
            taught_by="real",
            initial_weights="real",
            epochs=25,
            learning_rate=2e-3,
            warmup_epochs=2.0,
            attention_matching_weight=1.0,
            output_matching_weight=3.0,
            temperature=2.0,
        )
    )
    binary: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="binary",
            taught_by="binary_activations",
            initial_weights="binary_activations",
            epochs=45,
            learning_rate=3e-2,
            warmup_epochs=2.0,
            attention_matching_weight=1.0,
            output_matching_weight=3.0,
            temperature=2.0,
        )
    )
