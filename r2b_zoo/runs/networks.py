"""The networks of a run's stages, and the run's data set."""

from typing import Any, Optional

import tensorflow as tf

from r2b_zoo import data, models, weights
from r2b_zoo.data.dataset import Dataset
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.models.topology import global_policy
from r2b_zoo.ops.mixed_precision import policy_name
from r2b_zoo.runs import data_record
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.runs.plans import Plan, StagePlan
from r2b_zoo.system.short_repr import LONGEST


class Networks:
    """The trained networks of a run by stage; each is built and loaded when it is first used.

    Args:
        plan: the run's plan.
        folder: the run's folder, which holds the weights.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        self.plan = plan
        self.folder = folder
        self.dataset: Dataset = dataset_of(plan, data_record.split_rule(folder))
        # Each stage is trained on this data set, and is tested on it after each epoch. If the plan asks for validation,
        # ``training.train`` replaces it by a data set whose test images are held out from the training images.
        self.split = self.dataset
        self._stages = {stage.name: stage for stage in plan.stages}
        self._networks: dict[str, tf.keras.Model] = {}

    def __repr__(self) -> str:
        networks = ", ".join(f"{name}: {stage.network}, {stage.precision}" for name, stage in self._stages.items())
        return f"Networks({str(self.folder.path)!r}, {networks})"[:LONGEST]

    def build(self, stage: str, mixed_precision: str = "float32") -> tf.keras.Model:
        """The untrained network of a stage."""
        with global_policy(policy_name(mixed_precision)):
            return network_of(self.plan, self._stages[stage], self.dataset.input_shape, self.dataset.num_classes)

    def check(self, stage: str) -> None:
        """Raises ValueError if the network of a stage cannot be built; does not build it."""
        plan, dataset = self.plan, self.dataset
        network = self._stages[stage].network
        models.check(network, **_arguments(plan, self._stages[stage], dataset.input_shape, dataset.num_classes))

    def in_precision(self, stage: str, mixed_precision: str) -> tf.keras.Model:
        """The network of a finished stage, which computes in the type ``mixed_precision``, for example "bfloat16"."""
        if mixed_precision == "float32":
            return self[stage]
        network = self.build(stage, mixed_precision)
        network.set_weights(self[stage].get_weights())
        return network

    def keep(self, stage: str, network: tf.keras.Model) -> None:
        """Keeps the network of a stage that was just trained and saved, so that it need not be loaded from its file."""
        self._networks[stage] = network

    def __getitem__(self, stage: str) -> tf.keras.Model:
        """The network of a finished stage.

        Raises:
            ValueError: the run has no such stage.
            RunFolderError: the stage is not finished, or its file of weights is damaged.
        """
        if stage not in self._stages:
            raise ValueError(
                f"The run in {self.folder.path} has no stage {stage!r}; its stages are {', '.join(self._stages)}."
            )
        if stage not in self._networks:
            with self.folder.loading(stage) as path:
                network = self.build(stage)
                weights.load(network, path)
            self._networks[stage] = network
        return self._networks[stage]


def network_of(plan: Plan, stage: StagePlan, input_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
    """Builds the untrained network of a stage without loading the data set.

    Args:
        plan: the run's plan.
        stage: a stage of the plan.
        input_shape: height, width and channels of an image.
        num_classes: number of classes.
    """
    return models.create(stage.network, **_arguments(plan, stage, input_shape, num_classes))


def _arguments(plan: Plan, stage: StagePlan, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    """Arguments for the constructor of a stage's network."""
    own = models.options(stage.network)
    return {
        "input_shape": input_shape,
        "num_classes": num_classes,
        "precision": stage.precision,
        "width": plan.width,
        "stem": plan.stem,
        **{name: value for name, value in plan.options.items() if name in own},
    }


def dataset_of(plan: Plan, split_rule: Optional[str] = None) -> Dataset:
    """The data set of a plan, with the preprocessing and the image size that the plan asks for.

    Args:
        plan: the plan of a run.
        split_rule: what ``data_record.split_rule`` returns for the run; only folders of photographs use it.
    """
    options = {"split_rule": split_rule} if split_rule and plan.dataset == "folder" else {}
    dataset = data.load(plan.dataset, plan.data_dir, **options)
    preprocessing = dataset.preprocessing
    if plan.preprocessing is not None:
        preprocessing = Preprocessing.from_dict(plan.preprocessing)
    if plan.image_size is not None:
        preprocessing = preprocessing.with_size(plan.image_size, plan.image_size)
    return dataset if preprocessing == dataset.preprocessing else dataset.with_preprocessing(preprocessing)


def copy_weights(source: tf.keras.Model, target: tf.keras.Model) -> list[str]:
    """Copies the weights of every layer whose name and weight shapes are the same in both networks.

    Returns:
        Names of the target's layers that keep their own weights.
    """
    sources = {layer.name: layer for layer in source.layers}
    kept = []
    for layer in target.layers:
        shapes = [tuple(w.shape) for w in layer.weights]
        if not shapes:
            continue
        twin = sources.get(layer.name)
        if twin is not None and [tuple(w.shape) for w in twin.weights] == shapes:
            layer.set_weights(twin.get_weights())
        else:
            kept.append(layer.name)
    return kept
