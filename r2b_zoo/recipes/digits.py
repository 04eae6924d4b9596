"""The whole schedule on scikit-learn's digits, small enough for every laptop.

Paper: Martínez et al., ICLR 2020, section 4.2, its stages and losses; the numbers of epochs, the learning rates and
the augmentation are ours, chosen for 1,442 images of 8×8.
Command: ``r2b demo``, or ``r2b train recipe=digits``.
Expected accuracy and time: README.md, measured by ``benchmarks/digits.py``.
"""

from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo.recipes.recipe import (
    BinaryActivationsStudent,
    BinaryStudent,
    ProgressiveRecipe,
    RealStudent,
    Stage,
    Teacher,
)

MATCHING = {"attention_matching_weight": 1.0, "output_matching_weight": 3.0, "temperature": 2.0}


@component
class Digits(ProgressiveRecipe):
    dataset: str = Field("digits")
    width: int = Field(16)
    stem: str = Field("cifar")
    batch_size: int = Field(64)
    augmentation: str = Field("affine")

    teacher: Stage = ComponentField(
        PartialComponent(
            Teacher,
            epochs=25,
            learning_rate=2e-3,
            warmup_epochs=2.0,
        )
    )
    real: Stage = ComponentField(
        PartialComponent(
            RealStudent,
            epochs=20,
            learning_rate=2e-3,
            warmup_epochs=2.0,
            **MATCHING,
        )
    )
    binary_activations: Stage = ComponentField(
        PartialComponent(
            BinaryActivationsStudent,
            epochs=25,
            learning_rate=2e-3,
            warmup_epochs=2.0,
            **MATCHING,
        )
    )
    binary: Stage = ComponentField(
        PartialComponent(
            BinaryStudent,
            epochs=45,
            learning_rate=3e-2,
            warmup_epochs=2.0,
            **MATCHING,
        )
    )
