"""The whole schedule on CIFAR-10 at a quarter of the paper's width, which a laptop can train.

Paper: Martínez et al., ICLR 2020, section 4.2, its stages and losses; all numbers are ours.
Command: ``r2b train recipe=cifar10 data_dir=TFDS``, after ``tfds build cifar10 --data_dir TFDS``.
Expected accuracy and time: not measured. With two epochs a stage (results/cifar10.md),
``r2b train recipe=cifar10 data_dir=TFDS teacher.epochs=2 real.epochs=2 binary_activations.epochs=2 binary.epochs=2``,
top-1 is 72.5, 73.2, 74.0 and 65.5 %.
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

MATCHING = {"attention_matching_weight": 1.0, "output_matching_weight": 1.0, "temperature": 2.0}


@component
class Cifar10(ProgressiveRecipe):
    dataset: str = Field("cifar10")
    width: int = Field(16)
    stem: str = Field("cifar")
    batch_size: int = Field(128)
    augmentation: str = Field("crop_flip")

    teacher: Stage = ComponentField(
        PartialComponent(
            Teacher,
            epochs=30,
            learning_rate=3e-3,
            warmup_epochs=0.5,
        )
    )
    real: Stage = ComponentField(
        PartialComponent(
            RealStudent,
            epochs=30,
            learning_rate=3e-3,
            warmup_epochs=0.5,
            **MATCHING,
        )
    )
    binary_activations: Stage = ComponentField(
        PartialComponent(
            BinaryActivationsStudent,
            epochs=30,
            learning_rate=3e-3,
            warmup_epochs=0.5,
            **MATCHING,
        )
    )
    binary: Stage = ComponentField(
        PartialComponent(
            BinaryStudent,
            epochs=60,
            learning_rate=1e-2,
            warmup_epochs=0.5,
            **MATCHING,
        )
    )
