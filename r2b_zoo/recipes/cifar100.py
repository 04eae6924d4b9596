"""The Real-to-Binary network on CIFAR-100, as the paper trains it.

Paper: Martínez et al., ICLR 2020, sections 4.1 and 4.2, and 5.1 for CIFAR-100.
Command: ``r2b train recipe=cifar100 data_dir=TFDS``, after ``tfds build cifar100 --data_dir TFDS``.
Expected accuracy: the paper's binary network is within 3 percent points of its real-valued counterpart (its abstract).
Hours: not measured. Accuracy of this recipe: not measured.

Each number is marked as in ``imagenet.py``; what has no mark is that recipe's.
"""

from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo.recipes.imagenet import (
    ATTENTION_MATCHING_WEIGHT,
    BATCH_SIZE,
    BINARY_LEARNING_RATE,
    DECAY,
    LEARNING_RATE,
    OUTPUT_MATCHING_WEIGHT,
    OUTPUT_MATCHING_WEIGHT_BINARY,
    TEMPERATURE,
    WARMUP_EPOCHS,
    WEIGHT_DECAY,
)
from r2b_zoo.recipes.recipe import ProgressiveRecipe, Stage

EPOCHS = 350  # [paper] of each stage
DECAY_EPOCHS = (150.0, 250.0, 320.0)  # [paper]


@component
class Cifar100(ProgressiveRecipe):
    dataset: str = Field("cifar100")
    width: int = Field(64)  # [paper] ResNet-18
    stem: str = Field("cifar")  # [paper] 3×3 stride 1, no pool, for 32×32 images
    batch_size: int = Field(BATCH_SIZE)
    augmentation: str = Field("crop_flip")  # [paper] random 32×32 crop of the padded image, and flip

    teacher: Stage = ComponentField(
        PartialComponent(
            Stage,
            network="ResNet18",
            precision="real",
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            schedule="steps",  # [ours] the students'
            warmup_epochs=WARMUP_EPOCHS,
            decay=DECAY,
            decay_epochs=DECAY_EPOCHS,
            weight_decay=WEIGHT_DECAY,
        )
    )
    real: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="real",
            taught_by="teacher",
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            schedule="steps",  # [paper]
            warmup_epochs=WARMUP_EPOCHS,
            decay=DECAY,
            decay_epochs=DECAY_EPOCHS,
            weight_decay=WEIGHT_DECAY,
            attention_matching_weight=ATTENTION_MATCHING_WEIGHT,
            output_matching_weight=OUTPUT_MATCHING_WEIGHT,
            temperature=TEMPERATURE,
        )
    )
    binary_activations: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="binary_activations",
            taught_by="real",
            initial_weights="real",
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            schedule="steps",  # [paper]
            warmup_epochs=WARMUP_EPOCHS,
            decay=DECAY,
            decay_epochs=DECAY_EPOCHS,
            weight_decay=WEIGHT_DECAY,
            attention_matching_weight=ATTENTION_MATCHING_WEIGHT,
            output_matching_weight=OUTPUT_MATCHING_WEIGHT,
            temperature=TEMPERATURE,
        )
    )
    binary: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="binary",
            taught_by="binary_activations",
            initial_weights="binary_activations",
            epochs=EPOCHS,
            learning_rate=BINARY_LEARNING_RATE,
            schedule="steps",  # [paper]
            warmup_epochs=WARMUP_EPOCHS,
            decay=DECAY,
            decay_epochs=DECAY_EPOCHS,
            weight_decay=0.0,
            attention_matching_weight=0.0,
            output_matching_weight=OUTPUT_MATCHING_WEIGHT_BINARY,
            temperature=TEMPERATURE,
        )
    )
