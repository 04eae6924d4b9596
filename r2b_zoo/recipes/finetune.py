"""Fine-tunes a binary network on your own photographs, from pretrained weights.

Paper: Martínez et al., ICLR 2020, for the network; the two stages of fine-tuning are from no paper. Numbers without a
mark are ours.
Command: ``r2b train recipe=finetune data.dir=PHOTOS weights=imagenet``, where PHOTOS has a folder per class, and
``weights`` is a name (``imagenet``, published; ``cifar10``, which comes with this package), a weights file, or the
folder of a run.
Expected accuracy and time: not measured; both depend on the photographs.

With weights there are two stages, both binary: the new classifier is trained on the features of the pretrained network;
then the whole network is trained. Without weights, the paper's four stages are trained from scratch, and a note says
what to expect.
"""

from collections.abc import Mapping
from typing import Any, Optional

from zookeeper import ComponentField, Field, PartialComponent, component

from r2b_zoo.recipes.recipe import (
    BinaryActivationsStudent,
    BinaryStudent,
    ProgressiveRecipe,
    RealStudent,
    Stage,
    Teacher,
    absolute,
)
from r2b_zoo.weights.named import NAMES, is_name

MATCHING = {"attention_matching_weight": 1.0, "output_matching_weight": 1.0, "temperature": 2.0}
LOGIT_MATCHING = {**MATCHING, "attention_matching_weight": 0.0}  # [paper] the binary stage matches only logits
PRETRAINED_STAGES = ("classifier", "finetuned")
# The weights determine these options of the network.
OF_WEIGHTS = ("weight_scale", "downsample", "gate_reduction")
NOTHING_TO_START_FROM = (
    "No weights were given, so the network starts from random weights and learns from your photographs alone: expect a "
    f"low accuracy with fewer than a few thousand of them. weights={' or '.join(NAMES)} (or a weights file, or the "
    "folder of a run) starts from a trained network, which takes a fraction of the time."
)


@component
class FineTune(ProgressiveRecipe):
    dataset: str = Field("folder")
    weights: Optional[str] = Field(None)
    """Initial weights of the network: a name in ``weights.named``, a weights file, or the folder of a run.

    They also determine the network, its width, stem and options, the preprocessing and the image size, except for
    fields that are set explicitly."""
    batch_size: int = Field(16)
    augmentation: str = Field("resized_crop_flip")
    # With about ten photographs per class, an epoch has only a few steps. The default, 0.99, averages statistics over
    # about a hundred steps, so that they lag behind the weights: training on 40 images then reaches 50.5 % on the test
    # images instead of 74.5 % (benchmarks/transfer.py, seed 0).
    batch_norm_momentum: float = Field(0.9)

    classifier: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="binary",
            trained="classifier",
            epochs=20,
            learning_rate=1e-2,
            warmup_epochs=0.0,
        )
    )
    finetuned: Stage = ComponentField(
        PartialComponent(
            Stage,
            precision="binary",
            initial_weights="classifier",
            epochs=30,
            # This is the rate of the paper's binary stage. With few photographs, a higher rate would flip too many
            # signs.
            learning_rate=2e-4,
            warmup_epochs=1.0,
        )
    )

    teacher: Stage = ComponentField(
        PartialComponent(
            Teacher,
            epochs=60,
            learning_rate=2e-3,
        )
    )
    real: Stage = ComponentField(
        PartialComponent(
            RealStudent,
            epochs=60,
            learning_rate=2e-3,
            **MATCHING,
        )
    )
    binary_activations: Stage = ComponentField(
        PartialComponent(
            BinaryActivationsStudent,
            epochs=60,
            learning_rate=2e-3,
            **MATCHING,
        )
    )
    binary: Stage = ComponentField(
        PartialComponent(
            BinaryStudent,
            epochs=90,
            learning_rate=1e-3,
            warmup_epochs=0.0,  # [paper]
            **LOGIT_MATCHING,
        )
    )

    @classmethod
    def with_dependent_values(cls, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The overrides, and the fields that the weights determine.

        The weights are only read if one of these fields is missing; a recorded run has all of them.
        """
        weights = overrides.get("weights")
        if weights is None:
            return dict(overrides)
        reference = str(weights) if is_name(weights) else absolute(str(weights))
        stages = (f"{stage}.network" for stage in PRETRAINED_STAGES)
        of_weights = ("width", "stem", "preprocessing", "image_size", *OF_WEIGHTS, *stages)
        if all(key in overrides for key in of_weights):
            return {**overrides, "weights": reference}
        # Import this only here, because most plans start from no weights.
        from r2b_zoo.runs import pretrained

        found = pretrained.describe(reference)
        values = {
            "width": found.width,
            "stem": found.stem,
            "preprocessing": found.preprocessing,
            "image_size": found.image_size,
            **{option: value for option, value in found.options.items() if option in OF_WEIGHTS},
            **{f"{stage}.network": found.network for stage in PRETRAINED_STAGES},
        }
        return {**values, **overrides, "weights": reference}

    def stages(self) -> tuple[str, ...]:
        return super().stages() if self.weights is None else PRETRAINED_STAGES

    def switched_values(self, stage: str) -> dict[str, Any]:
        if self.weights is None:
            return super().switched_values(stage)
        return {"pretrained": self.weights} if stage == PRETRAINED_STAGES[0] else {}

    def notes(self) -> tuple[str, ...]:
        return (*super().notes(), *(() if self.weights is not None else (NOTHING_TO_START_FROM,)))
