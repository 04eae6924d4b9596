"""Anything that classifies images: a run, a weights file, the published weights, or a converted file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo import data, metadata, models, weights
from r2b_zoo.data.dataset import Dataset
from r2b_zoo.data.imagenet_classes import imagenet_classes
from r2b_zoo.data.images import image_files, read_image
from r2b_zoo.data.preprocessing import IMAGENET, Preprocessing
from r2b_zoo.evaluation import PREDICTION_BATCH, predict_keras
from r2b_zoo.run_folder import RunFolder
from r2b_zoo.tflite_engine import TFLiteEngine
from r2b_zoo.training import Networks

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Classifier:
    """A network, or a converted file, with the names of its classes and what it does to an image first.

    Attributes:
        name: for messages and tables.
        preprocessing: from an image to the network's input; None where the file does not say.
        labels: names of the classes; None where the file does not say.
        model: the Keras model; None for a converted file.
        tflite: contents of the converted file; None for a Keras model.
        dataset: what a run was trained on; None for the others.
    """

    name: str
    preprocessing: Optional[Preprocessing]
    labels: Optional[tuple[str, ...]]
    model: Optional[tf.keras.Model] = None
    tflite: Optional[bytes] = None
    dataset: Optional[Dataset] = None

    @cached_property
    def _engine(self) -> TFLiteEngine:
        assert self.tflite is not None, "a classifier is a model or a file"
        return TFLiteEngine(self.tflite)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(N, classes) for preprocessed images (N, height, width, channels)."""
        return self._engine.predict(images) if self.model is None else predict_keras(self.model, images)

    def predict(self, image: Any, top: int = 5) -> list[tuple[str, float]]:
        """The most probable classes of one image, uint8 (H, W, channels) of any size, best first.

        Returns:
            (name of the class, probability), ``top`` of them or as many as there are classes.

        Raises:
            ValueError: not an image, or ``top`` is less than 1.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1; received {top}.")
        if self.preprocessing is None:
            raise ValueError(
                f"{self.name} does not say how an image is prepared for it: convert it with preprocessing=, "
                "as r2b export does."
            )
        row = self.probabilities(self.preprocessing(image)[np.newaxis])[0]
        best = np.argsort(-row, kind="stable")[:top]
        return [(self.labels[i] if self.labels else f"class {i}", float(row[i])) for i in best]


def load(
    reference: PathLike,
    *,
    network: Optional[str] = None,
    precision: Optional[str] = None,
    input_size: Optional[int] = None,
    stage: Optional[str] = None,
) -> Classifier:
    """Loads a classifier.

    Args:
        reference: ``"imagenet"`` (published weights), the folder of a run, a ``.tflite``, or an ``.h5`` of weights.
        network: of a weights file that does not say; RealToBinaryNet for the published weights.
        precision: of a weights file that does not say; "binary" unless told.
        input_size: height and width for a weights file, 224 unless told.
        stage: which network of a run; its last unless told.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the file is not one of these, or is damaged.
        RunFolderError: the folder holds no finished run.
    """
    if reference == weights.IMAGENET:
        return _imagenet(models.create(network or "RealToBinaryNet", weights=weights.IMAGENET))
    path = Path(reference).expanduser()
    if path.is_dir():
        return _from_run(RunFolder(path), stage)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {str(reference)!r}: give 'imagenet', the folder of a run, a .tflite or an .h5 of weights."
        )
    if path.suffix == ".tflite":
        return _from_tflite(path)
    return _from_weights(path, network, precision, input_size)


def _imagenet(model: tf.keras.Model) -> Classifier:
    return Classifier(model.name, IMAGENET, tuple(name for _, name in imagenet_classes()), model=model)


def _from_run(folder: RunFolder, stage: Optional[str]) -> Classifier:
    networks = Networks(folder.plan(), folder)
    stage = stage or networks.plan.stages[-1].name
    model, dataset = networks[stage], networks.dataset
    return Classifier(
        f"{folder.path}, stage {stage}", dataset.preprocessing, dataset.class_names, model=model, dataset=dataset
    )


def _from_tflite(path: Path) -> Classifier:
    tflite = path.read_bytes()
    described = metadata.read(tflite)
    return Classifier(path.name, described.preprocessing, described.labels, tflite=tflite)


def _from_weights(
    path: Path, network: Optional[str], precision: Optional[str], input_size: Optional[int]
) -> Classifier:
    arguments = weights.architecture(path)
    name = network or arguments.pop("network", None)
    arguments.pop("network", None)
    if name is None:
        raise ValueError(f"{path} does not say which network it is of: name it with --network.")
    if not arguments["include_top"]:
        raise ValueError(f"{path} has no classifier: it holds the weights of a network without top.")
    if precision is not None:
        arguments["precision"] = precision
    size = input_size or 224
    channels = arguments.pop("channels")
    model = models.create(name, weights=path, input_shape=(size, size, channels), **arguments)
    if arguments["num_classes"] == len(imagenet_classes()) and channels == IMAGENET.channels:
        return _resized(_imagenet(model), size)
    return Classifier(path.name, None, None, model=model)


def _resized(classifier: Classifier, size: int) -> Classifier:
    assert classifier.preprocessing is not None
    preprocessing = classifier.preprocessing.with_size(size, size)
    return Classifier(classifier.name, preprocessing, classifier.labels, model=classifier.model)


def dataset_for(classifier: Classifier, name: Optional[str]) -> Dataset:
    """The data set of that name, or the classifier's own.

    Raises:
        ValueError: neither is there, or its images or classes do not fit the classifier.
    """
    if name is None and classifier.dataset is None:
        raise ValueError(f"{classifier.name} does not say what it was trained on: name a data set with --data.")
    dataset = data.load(name) if name is not None else classifier.dataset
    assert dataset is not None, "checked above"
    if classifier.labels is not None and classifier.labels != dataset.class_names:
        raise ValueError(
            f"{classifier.name} knows {len(classifier.labels)} classes ({', '.join(classifier.labels[:3])}, ...), "
            f"which are not those of {dataset.name} ({', '.join(dataset.class_names[:3])}, ...)."
        )
    return dataset


def converted_file(reference: PathLike) -> Path:
    """The converted file of a run. Raises ValueError where ``reference`` is no run's folder or has none."""
    path = RunFolder(reference).tflite_path
    if not path.is_file():
        raise ValueError(f"There is no {path}: name the converted file to compare with.")
    return path


def images_for(classifier: Classifier, folder: Optional[PathLike], number: Optional[int]) -> Iterator[np.ndarray]:
    """Preprocessed images in batches: those in a folder and below it, or the test split of the classifier's data set.

    Args:
        classifier: says how images are prepared.
        folder: None for the test split.
        number: how many at most; None for all.

    Raises:
        ValueError: there are no images, one cannot be read, or the classifier does not say how to prepare them.
    """
    if folder is None:
        dataset = dataset_for(classifier, None)
        for inputs, _ in dataset.test_batches(PREDICTION_BATCH).unbatch().take(number or -1).batch(PREDICTION_BATCH):
            yield inputs.numpy()
        return
    if classifier.preprocessing is None:
        raise ValueError(f"{classifier.name} does not say how an image is prepared for it.")
    paths = image_files(folder, number)
    for start in range(0, len(paths), PREDICTION_BATCH):
        yield np.stack([classifier.preprocessing(read_image(path)) for path in paths[start : start + PREDICTION_BATCH]])
