"""The Real-to-Binary network on CIFAR-100, as the paper trains it.

Paper: Martínez et al., ICLR 2020, sections 4.1 and 4.2, and 5.1 for CIFAR-100.
Command: ``r2b train recipe=cifar100 data_dir=TFDS``, after ``tfds build cifar100 --data_dir TFDS``.
Expected accuracy: the paper's binary network is within 3 percent points of its real-valued counterpart (its abstract).
Hours: not measured. Accuracy of this recipe: not measured.

Each number is marked as in ``imagenet.py``; what has no mark is that recipe's.
"""

from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo.recipes.imagenet import BATCH_SIZE, BINARY, MATCHING, REAL_WEIGHTS, STEPS
from r2b_zoo.recipes.recipe import (
    BinaryActivationsStudent,
    BinaryStudent,
    ProgressiveRecipe,
    RealStudent,
    Stage,
    Teacher,
)

EPOCHS = {"epochs": 350, "decay_epochs": (150.0, 250.0, 320.0)}  # [paper] of each stage


@component
class Cifar100(ProgressiveRecipe):
    dataset: str = Field("cifar100")
    width: int = Field(64)  # [paper] ResNet-18
    stem: str = Field("cifar")  # [paper] 3×3 stride 1, no pool, for 32×32 images
    batch_size: int = Field(BATCH_SIZE)
    augmentation: str = Field("crop_flip")  # [paper] random 32×32 crop of the padded image, and flip

    # [ours] the teacher's schedule: the students'.
    teacher: Stage = ComponentField(PartialComponent(Teacher, **EPOCHS, **STEPS, **REAL_WEIGHTS))
    real: Stage = ComponentField(PartialComponent(RealStudent, **EPOCHS, **STEPS, **REAL_WEIGHTS, **MATCHING))
    binary_activations: Stage = ComponentField(
        PartialComponent(BinaryActivationsStudent, **EPOCHS, **STEPS, **REAL_WEIGHTS, **MATCHING)
    )
    binary: Stage = ComponentField(PartialComponent(BinaryStudent, **EPOCHS, **STEPS, **BINARY))
