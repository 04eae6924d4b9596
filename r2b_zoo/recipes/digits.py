"""The whole schedule on scikit-learn's digits, small enough for every laptop.

Paper: Martínez et al., ICLR 2020, section 4.2, its stages and losses; numbers without a mark are ours, chosen for
1,442 images of 8×8.
Command: ``r2b demo``, or ``r2b train recipe=digits``.
Expected accuracy and time: not measured since the recipe has α; ``benchmarks/digits.py`` measures them.
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
LOGIT_MATCHING = {**MATCHING, "attention_matching_weight": 0.0}  # [paper] in the binary stage


@component
class Digits(ProgressiveRecipe):
    dataset: str = Field("digits")
    width: int = Field(16)
    stem: str = Field("cifar")
    batch_size: int = Field(64)
    augmentation: str = Field("affine")
    # An epoch has 22 steps, after which averages over a hundred still remember the start.
    batch_norm_momentum: float = Field(0.9)
    # At this width the paper's 8 would leave the first gates two hidden units, either of which may be dead.
    gate_reduction: int = Field(4)

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
            epochs=40,
            # With validation=0.1, 45 epochs and one seed, this and 3e-3 both end at 99.3 % of the images kept apart.
            learning_rate=1e-3,
            warmup_epochs=0.0,  # [paper]
            **LOGIT_MATCHING,
        )
    )
