"""The Real-to-Binary network on CIFAR-100, with the paper's numbers as far as it gives them.

Paper: Martínez et al., ICLR 2020, sections 4.1 and 4.2; its ablation is table 3.
Command: ``r2b train recipe=cifar100 data_dir=TFDS``, after ``tfds build cifar100 --data_dir TFDS``.
Hours: not measured. Accuracy of this recipe: not measured.

Expected accuracy, CIFAR-100 top-1 in the paper's table 3 with real downsampling: stage 1 is binary_activations, stage 2
binary. A row is ``r2b train recipe=cifar100 data_dir=TFDS`` and the words below it.

    row                                stage 1   stage 2
    strong baseline (SB)                  72.1      69.6
        gate=false progressive=false attention_matching=false output_matching=false teacher.skip=true
    SB + attention                        74.3      72.6
        gate=false progressive=false output_matching=false
    SB + attention + logit matching       75.4      73.9
        gate=false progressive=false
    SB + gate                             72.0      70.9
        progressive=false attention_matching=false output_matching=false teacher.skip=true
    SB + progressive                      75.7      74.6
        gate=false
    Real-to-Binary                        76.5      76.2
        (none)
    real                                  78.3         –
        real.skip=true binary_activations.skip=true binary.skip=true
    real with a teacher                   79.3         –
        real.network=ResNet18 binary_activations.skip=true binary.skip=true

With binary downsampling (``downsample=binary``) stage 2 of the first six has 68.0, 71.1, 71.9, 66.2, 72.3 and 73.5.
To train a teacher once for all rows, add ``teacher.from_run=RUN``, the folder of another run. That "SB + attention" has
no matching loss left in its binary stage follows from section 4.2, where that stage matches logits alone: [ours], the
paper does not say it of the rows; binary.attention_matching_weight=1.0 matches attention there too.

Each number is marked as in ``imagenet.py``; what has no mark is that recipe's.
"""

from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo.recipes.imagenet import BINARY, MATCHING, REAL_WEIGHTS, STEPS
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
    stem: str = Field("cifar")  # [ours] 3×3 stride 1, no pool, for 32×32 images
    batch_size: int = Field(128)  # [paper]
    augmentation: str = Field("crop_flip_rotate")  # [paper] random crop, flip, rotation by ±15°
    mixup: float = Field(1.0)  # [paper] mix-up; its parameter [ours], that of Zhang et al. for CIFAR
    weight_scale: str = Field("mean")  # [paper] α of equation 3; that it is the mean of |W| [ours]

    # [ours] the teacher's schedule: the students'.
    teacher: Stage = ComponentField(PartialComponent(Teacher, **EPOCHS, **STEPS, **REAL_WEIGHTS))
    real: Stage = ComponentField(PartialComponent(RealStudent, **EPOCHS, **STEPS, **REAL_WEIGHTS, **MATCHING))
    binary_activations: Stage = ComponentField(
        PartialComponent(
            BinaryActivationsStudent,
            initial_weights=None,  # [re-implementation]; so that no row of table 3 is trained for longer than others
            **EPOCHS,
            **STEPS,
            **REAL_WEIGHTS,
            **MATCHING,
        )
    )
    binary: Stage = ComponentField(PartialComponent(BinaryStudent, **EPOCHS, **STEPS, **BINARY))
