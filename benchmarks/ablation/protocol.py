"""Defines, as data, the arms of the ablation, their common fields, and the runs that train them.

An arm is recipe ``cifar10`` with some fields overridden. The ablation follows table 3 of Martínez et al., ICLR 2020,
which is on CIFAR-100. The paper's two training stages are ``binary_activations`` and ``binary``; every arm has both.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

RECIPE = "cifar10"
LADDER, BASELINE, CONTROL = "ladder", "baseline", "control"
STAGES = ("teacher", "real", "binary_activations", "binary")
LOCAL = ("data_dir",)
"""Fields that are paths on one machine, and do not affect what is trained."""

COMMON: dict[str, Any] = {
    "width": 16,
    "stem": "cifar",
    "batch_size": 128,
    "augmentation": "crop_flip",
    "weight_scale": "mean",
    "validation": 0.1,
    # Few epochs, so that all seeds of all arms take less than a day on one core. Only the control has more.
    "teacher.epochs": 4,
    "real.epochs": 2,
    "binary_activations.epochs": 2,
    "binary.epochs": 1,
    # With the real student's weights at the start, a progressive arm would be trained for longer than the others.
    "binary_activations.initial_weights": None,
}
"""Fields of the recipe for all arms. The command line may change them and add others."""

NO_TEACHER: dict[str, Any] = {
    "progressive": False,
    "attention_matching": False,
    "output_matching": False,
    "teacher.skip": True,
}


@dataclass(frozen=True)
class Arm:
    """One of the compared configurations.

    Attributes:
        name: its name in files and on the command line.
        title: its name in tables and plots.
        group: ``LADDER``, ``BASELINE`` or ``CONTROL``.
        fields: fields of the recipe, besides the common ones.
        shared: by stage, the name of the shared run from which the stage is taken, with the same seed.
        seeds: number of seeds that the arm is trained with; further seeds are not used.
        table_3: the paper's CIFAR-100 top-1 in percent, after binary activations and after binary weights; None if
            table 3 does not have the arm.
    """

    name: str
    title: str
    group: str
    fields: Mapping[str, Any]
    shared: Mapping[str, str] = field(default_factory=dict)
    seeds: int = 4
    table_3: Optional[tuple[float, float]] = None


RATE = "binary_activations.learning_rate"
LADDER_RATE = {RATE: 3e-2}
"""The best learning rate on validation images for the strong baseline and for Real-to-Binary. --try compared it with
lower ones and, for the baseline, with 1e-1. The other arms of the ladder and the control use it too."""


def _baseline(name: str, title: str, network: str, rate: float) -> Arm:
    """An arm with a network of an earlier paper. ``rate`` is the best one on validation images that --try found."""
    fields = {**NO_TEACHER, "binary_activations.network": network, "binary.network": network, RATE: rate}
    return Arm(name, title, BASELINE, fields, seeds=2)


TEACHER, REAL_GATE, REAL_SCALE = "teacher", "real-gate", "real-scale"

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        _baseline("bnn", "BNN", "BNN18", 3e-2),
        _baseline("xnor", "XNOR-Net", "XNORNet18", 3e-3),
        _baseline("bireal", "Bi-Real Net", "BiRealNet18", 3e-2),
        Arm(
            "baseline",
            "strong baseline (SB)",
            LADDER,
            {**LADDER_RATE, "gate": False, **NO_TEACHER},
            table_3=(72.1, 69.6),
        ),
        Arm(
            "matching",
            "SB + attention + logit matching",
            LADDER,
            {**LADDER_RATE, "gate": False, "progressive": False},
            {"teacher": TEACHER},
            table_3=(75.4, 73.9),
        ),
        Arm("gate", "SB + gate", LADDER, {**LADDER_RATE, **NO_TEACHER}, table_3=(72.0, 70.9)),
        Arm(
            "progressive",
            "SB + progressive",
            LADDER,
            {**LADDER_RATE, "gate": False},
            {"teacher": TEACHER, "real": REAL_SCALE},
            table_3=(75.7, 74.6),
        ),
        Arm(
            "real-to-binary",
            "Real-to-Binary",
            LADDER,
            LADDER_RATE,
            {"teacher": TEACHER, "real": REAL_GATE},
            table_3=(76.5, 76.2),
        ),
        Arm(
            "baseline-long",
            "SB for as long as Real-to-Binary",
            CONTROL,
            {**LADDER_RATE, "gate": False, **NO_TEACHER},
            seeds=2,
        ),
    )
}

_STUDENTS_LEFT_OUT = {"binary_activations.skip": True, "binary.skip": True}
SHARED: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(TEACHER, "teacher", LADDER, {**_STUDENTS_LEFT_OUT, "real.skip": True}),
        Arm(REAL_GATE, "real student with gate", LADDER, _STUDENTS_LEFT_OUT, {"teacher": TEACHER}),
        Arm(REAL_SCALE, "real student", LADDER, {**_STUDENTS_LEFT_OUT, "gate": False}, {"teacher": TEACHER}),
    )
}
"""Runs of stages that several arms have in common, trained once for each seed."""


@dataclass(frozen=True)
class Contrast:
    """Two arms whose difference over paired seeds is measured.

    Attributes:
        arm, over: names of arms; the difference is the accuracy of ``arm`` minus that of ``over``.
        primary: whether it is one of the three contrasts in Holm's correction, chosen before any training.
    """

    arm: str
    over: str
    primary: bool


CONTRASTS = (
    Contrast("matching", "baseline", True),
    Contrast("progressive", "matching", True),
    Contrast("real-to-binary", "progressive", True),
    Contrast("real-to-binary", "baseline-long", False),
    Contrast("gate", "baseline", False),
)
ORDER = ("bnn", "xnor", "bireal", "baseline", "real-to-binary")
"""Arms in the order of their accuracies in the literature, the lowest first."""


@dataclass(frozen=True)
class Run:
    """One arm, or one shared run, with one seed.

    Attributes:
        name: name of its folder.
        arm: name of its arm, or of the shared run.
        seed: seed of everything random in it.
        fields: fields of the recipe, by dotted name; the others have the recipe's defaults.
        needs: names of the runs from which stages are taken.
    """

    name: str
    arm: str
    seed: int
    fields: Mapping[str, Any]
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """The fields that are the same for all arms.

    Attributes:
        fields: fields of the recipe, by dotted name.
    """

    fields: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The first twelve hexadecimal digits of the SHA-256 of the fields, without those in ``LOCAL``."""
        kept = {key: value for key, value in self.fields.items() if key not in LOCAL}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]

    def epochs(self, arm: Arm) -> dict[str, int]:
        """Number of epochs of each stage that the arm trains itself, by name of the stage."""
        fields = {**self.fields, **arm.fields, **self._longer(arm)}
        stages = [stage for stage in STAGES if not fields.get(f"{stage}.skip") and stage not in arm.shared]
        if fields.get("progressive") is False and "real" in stages:
            stages.remove("real")
        return {stage: int(fields[f"{stage}.epochs"]) for stage in stages}

    def run(self, arm: Arm, seed: int, folders: Mapping[str, str]) -> Run:
        """The run of an arm.

        Args:
            arm: an arm in ``ARMS`` or ``SHARED``.
            seed: seed of the run, and of the runs from which it takes stages.
            folders: paths of the runs' folders, by name of the run.
        """
        needs = {stage: run_name(name, seed) for stage, name in arm.shared.items()}
        fields = {**self.fields, **arm.fields, **self._longer(arm), "seed": seed}
        fields |= {f"{stage}.from_run": folders[name] for stage, name in needs.items()}
        return Run(run_name(arm.name, seed), arm.name, seed, fields, tuple(needs.values()))

    def _longer(self, arm: Arm) -> dict[str, int]:
        """The control's fields of epochs, whose sum is at least that of Real-to-Binary's stages; {} for other arms."""
        if arm.group != CONTROL:
            return {}
        epochs = {stage: int(self.fields[f"{stage}.epochs"]) for stage in STAGES}
        own = [stage for stage in STAGES if stage not in ARMS["real-to-binary"].shared]
        times = sum(epochs.values()) / sum(epochs[stage] for stage in own)
        return {f"{stage}.epochs": math.ceil(times * epochs[stage]) for stage in own}


def learning_rate(arm: str, stage: str) -> Optional[float]:
    """The learning rate that an arm or shared run sets for a stage; None if it keeps the recipe's."""
    fields = (SHARED.get(arm) or ARMS[arm]).fields
    return fields.get(f"{stage}.learning_rate")


def run_name(arm: str, seed: int) -> str:
    return f"{arm}-seed-{seed}"


def seeds_of(arm: Arm, seeds: Iterable[int]) -> list[int]:
    """The first ``arm.seeds`` of the seeds."""
    return list(seeds)[: arm.seeds]
