"""The Real-to-Binary network on CIFAR-100, with the paper's numbers as far as it gives them.

Paper: Martínez et al., ICLR 2020, sections 4.1 and 4.2; its ablation is table 3.
Command: ``r2b train recipe=cifar100 data_dir=TFDS``, after ``tfds build cifar100 --data_dir TFDS``.
Hours: not measured. Accuracy of this recipe: not measured.

Expected accuracy: CIFAR-100 top-1 in percent, from the rows with real downsampling of the paper's table 3. Stage 1 is
binary_activations, and stage 2 is binary. To train a row, add the words below it to
``r2b train recipe=cifar100 data_dir=TFDS``.

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

With binary downsampling (``downsample=binary``), stage 2 of the first six rows has 68.0, 71.1, 71.9, 66.2, 72.3 and
73.5. To train a teacher once for all rows, add ``teacher.from_run=RUN``, where RUN is the folder of another run. The
binary stage of "SB + attention" has no matching loss here, because in section 4.2 the binary stage matches only logits.
This is [ours]: the paper does not say whether that also holds for the rows of table 3. To match attention in the binary
stage too, add binary.attention_matching_weight=1.0.

Numbers are marked as in ``imagenet.py``; numbers without a mark are from that recipe.
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

EPOCHS = {"epochs": 350, "decay_epochs": (150.0, 250.0, 320.0)}  # [paper] in each stage


@component
class Cifar100(ProgressiveRecipe):
    dataset: str = Field("cifar100")
    width: int = Field(64)  # [paper] ResNet-18
    stem: str = Field("cifar")  # [ours] 3×3 stride 1, no pool, for 32×32 images
    batch_size: int = Field(128)  # [paper]
    augmentation: str = Field("crop_flip_rotate")  # [paper] random crop, flip, rotation by ±15°
    mixup: float = Field(1.0)  # [paper] mix-up; [ours] its parameter, from Zhang et al. for CIFAR
    weight_scale: str = Field("mean")  # [paper] α of equation 3; [ours] its value, the mean of |W|

    # [ours] The teacher has the students' schedule.
    teacher: Stage = ComponentField(PartialComponent(Teacher, **EPOCHS, **STEPS, **REAL_WEIGHTS))
    real: Stage = ComponentField(PartialComponent(RealStudent, **EPOCHS, **STEPS, **REAL_WEIGHTS, **MATCHING))
    binary_activations: Stage = ComponentField(
        PartialComponent(
            BinaryActivationsStudent,
            # [re-implementation] Weights of stage "real" would give the network more training in rows that have that
            # stage.
            initial_weights=None,
            **EPOCHS,
            **STEPS,
            **REAL_WEIGHTS,
            **MATCHING,
        )
    )
    binary: Stage = ComponentField(PartialComponent(BinaryStudent, **EPOCHS, **STEPS, **BINARY))
