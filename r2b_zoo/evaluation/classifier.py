"""Anything that classifies images: a run, a weights file, the published weights, or a converted file."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo import data, models, weights
from r2b_zoo.conversion import calibration, metadata
from r2b_zoo.conversion.tflite_engine import TFLiteEngine
from r2b_zoo.data.dataset import Dataset
from r2b_zoo.data.folder import Folder
from r2b_zoo.data.imagenet_classes import imagenet_classes
from r2b_zoo.data.images import read_image
from r2b_zoo.data.listing import image_files
from r2b_zoo.data.pixels import MAX_PIXELS
from r2b_zoo.data.preprocessing import IMAGENET, Preprocessing
from r2b_zoo.evaluation.accuracy import check_numbers, predict_keras, prediction_batch
from r2b_zoo.identity import TFLITE_SUFFIX
from r2b_zoo.runs import data_record
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.runs.networks import Networks, dataset_of, network_of
from r2b_zoo.runs.plans import Plan
from r2b_zoo.system.short_repr import short_repr
from r2b_zoo.system.suggestions import did_you_mean
from r2b_zoo.weights import named

PathLike = Union[str, "os.PathLike[str]"]

_FOLDER = "folder"  # name of the data set for a folder of photographs
_LABELS_SHOWN = 10


@dataclass(frozen=True)
class Classifier:
    """A network, or a converted file, with the names of its classes and its preprocessing.

    Threads may share a classifier; it serves one of them at a time.

    Attributes:
        name: its name in messages and tables.
        preprocessing: turns an image into the network's input; None if the file does not record how.
        labels: names of the classes; None if the file does not have them.
        model: the Keras model; None for a converted file.
        tflite: contents of the converted file; None for a Keras model.
        plan: the plan of a run; None for other classifiers.
        split_rule: the rule by which the classifier's run splits a folder of photographs, see
            ``data_record.split_rule``; None if the classifier belongs to no run.

    Raises:
        ValueError: the model's number of outputs is not the number of labels.
    """

    name: str
    preprocessing: Optional[Preprocessing]
    labels: Optional[tuple[str, ...]]
    model: Optional[tf.keras.Model] = None
    tflite: Optional[bytes] = None
    plan: Optional[Plan] = None
    split_rule: Optional[str] = None
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        outputs = None if self.model is None else self.model.output_shape[-1]
        if outputs is not None and self.labels is not None and len(self.labels) != outputs:
            raise ValueError(f"{self.name} has {outputs} outputs and {len(self.labels)} labels: name every output.")

    def __getstate__(self) -> dict[str, Any]:
        """The state without the lock and the engine; an unpickled copy makes new ones."""
        return {name: value for name, value in vars(self).items() if name not in ("_turn", "_engine")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turn=threading.Lock())

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from r2b_zoo.report import html

        takes = self.preprocessing
        labels = self.labels or ()
        named = ", ".join(labels[:_LABELS_SHOWN]) + ("" if len(labels) <= _LABELS_SHOWN else ", …")
        values = {
            "kind": "Keras model" if self.model is not None else f"converted file, {len(self.tflite or b''):,} bytes",
            "input": "" if takes is None else "×".join(map(str, takes.input_shape)),
            "classes": f"{len(labels):,}: {named}" if labels else "",
            "trained by": "" if self.plan is None else f"recipe {self.plan.recipe} on {self.plan.dataset}",
        }
        return html.together([html.facts(self.name, values)])

    @cached_property
    def dataset(self) -> Optional[Dataset]:
        """The data set that a run was trained on, loaded on first use; None for other classifiers."""
        plan = self.plan
        return None if plan is None else _without_warning(lambda: dataset_of(plan, self.split_rule))

    def recorded_preprocessing(self) -> Preprocessing:
        """The preprocessing. Raises ValueError if there is none."""
        if self.preprocessing is None:
            way_out = "convert it with preprocessing=, as r2b export does" if self.tflite else "name a data set instead"
            raise ValueError(f"{self.name} does not record how an image is prepared for it: {way_out}.")
        return self.preprocessing

    @cached_property
    def _engine(self) -> TFLiteEngine:
        assert self.tflite is not None, "a classifier is a model or a file"
        return TFLiteEngine(self.tflite)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) for preprocessed images (N, height, width, channels).

        Raises:
            ValueError: a probability is NaN or infinite.
        """
        with self._turn:
            found = self._engine.predict(images) if self.model is None else predict_keras(self.model, images)
        return check_numbers(found, self.name)

    def predict(self, image: Any, top: int = 5) -> list[tuple[str, float]]:
        """The most probable classes of one image of any size, best first.

        Args:
            image: uint8 (H, W, channels), or a Pillow image; see ``Preprocessing.__call__``.
            top: number of classes; all classes if there are fewer.

        Returns:
            Name and probability of each class; without labels, the name is "class" and the index.

        Raises:
            ValueError: ``image`` is not an image, ``top`` is less than 1, the classifier has no preprocessing, or a
                probability is NaN or infinite.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1; received {top}.")
        row = self.probabilities(self.recorded_preprocessing()(image)[np.newaxis])[0]
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
        reference: one of ``weights.named.NAMES``, or the path of a run's folder, a ``.tflite`` or a weights file.
        network: network of a weights file; None: the one it records, or RealToBinaryNet for the published weights.
        precision: precision of a weights file; None: the one it records, or "binary".
        input_size: height and width for a weights file; None: those it records, or 224.
        stage: for a run, the stage whose network is loaded; None: the last.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the file is none of these or is damaged; it is a weights file without top; it does not record its
            network, and ``network`` is None; the run has no such stage; or an argument is given that this kind of
            reference does not use.
        RunFolderError: the folder holds no run, the stage is not finished, or its weights are damaged.
    """
    if reference == named.IMAGENET:
        _refuse(reference, precision=precision, input_size=input_size, stage=stage)
        return _imagenet(models.create(network or "RealToBinaryNet", weights=reference))
    if named.is_name(reference):
        _refuse(reference, stage=stage)
        found = _from_weights(named.bundled_file(str(reference)), network, precision, input_size)
        return replace(found, name=str(reference))
    path = Path(reference).expanduser()
    if path.is_dir():
        _refuse(reference, network=network, precision=precision, input_size=input_size)
        return _from_run(RunFolder(path), stage)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {str(reference)!r}: give {named.NAMES_IN_WORDS}, the folder of a run, a .tflite or "
            "a weights file."
        )
    if path.suffix.lower() == TFLITE_SUFFIX:
        _refuse(reference, network=network, precision=precision, input_size=input_size, stage=stage)
        return _from_tflite(path)
    _refuse(reference, stage=stage)
    return _from_weights(path, network, precision, input_size)


def _refuse(reference: PathLike, **arguments: object) -> None:
    """Raises ValueError if one of these arguments, which ``load`` does not use for this reference, is not None."""
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ValueError(
            f"{given[0]} is not an option of {str(reference)!r}; received {given[0]}={arguments[given[0]]!r}: leave it "
            "out."
        )


def _imagenet(model: tf.keras.Model) -> Classifier:
    return Classifier(model.name, IMAGENET, tuple(name for _, name in imagenet_classes()), model=model)


def _from_run(folder: RunFolder, stage: Optional[str]) -> Classifier:
    plan = folder.plan()
    stage = stage or plan.stages[-1].name
    name = f"{folder.path}, stage {stage}"
    rule = data_record.split_rule(folder)
    planned = {stage.name: stage for stage in plan.stages}.get(stage)
    if planned is not None and folder.is_finished(stage) and folder.tflite_path.is_file():
        # The converted file records classes and preprocessing, so the data is not needed: it may have been moved.
        described = metadata.read(folder.tflite_path.read_bytes())
        if described.preprocessing is not None and described.labels is not None:
            model = network_of(plan, planned, described.preprocessing.input_shape, len(described.labels))
            with folder.loading(stage) as path:
                weights.load(model, path)
            return Classifier(name, described.preprocessing, described.labels, model=model, plan=plan, split_rule=rule)
    networks = Networks(plan, folder)
    model, dataset = networks[stage], networks.dataset
    # Prefer the recorded names: a class may have been renamed in the data since.
    labels = data_record.class_names(folder) or dataset.class_names
    return Classifier(name, dataset.preprocessing, labels, model=model, plan=plan, split_rule=rule)


def _from_tflite(path: Path) -> Classifier:
    tflite = path.read_bytes()
    described = metadata.read(tflite)
    run = RunFolder(path.parent)
    rule = data_record.split_rule(run) if run.config_path.is_file() else None
    return Classifier(path.name, described.preprocessing, described.labels, tflite=tflite, split_rule=rule)


def _from_weights(
    path: Path, network: Optional[str], precision: Optional[str], input_size: Optional[int]
) -> Classifier:
    arguments = weights.architecture(path)
    recorded, options, card = (arguments.pop(name) for name in ("network", "options", "card"))
    name = network or recorded
    if name is None:
        raise ValueError(f"{path} does not record which network its weights belong to: name it with --network.")
    if not arguments["include_top"]:
        raise ValueError(f"{path} has no classifier: it holds the weights of a network without top.")
    if precision is not None:
        arguments["precision"] = precision
    height, width = arguments.pop("size") or (IMAGENET.height, IMAGENET.width)
    if input_size is not None:
        height = width = input_size
    channels = arguments.pop("channels")
    if name == recorded:
        arguments |= options  # only for the recorded network: another one may not have these options
    model = models.create(name, weights=path, input_shape=(height, width, channels), **arguments)
    if card is not None:
        prepared = Preprocessing.from_dict(card["preprocessing"]).with_size(height, width)
        return Classifier(path.name, prepared, tuple(card["class_names"]), model=model)
    if arguments["num_classes"] == len(imagenet_classes()) and channels == IMAGENET.channels:
        classifier = _imagenet(model)
        return replace(classifier, name=path.name, preprocessing=IMAGENET.with_size(height, width))
    return Classifier(path.name, None, None, model=model)


def dataset_for(
    classifier: Classifier,
    name: Optional[str] = None,
    data_dir: Optional[PathLike] = None,
    all_photographs: bool = False,
) -> Dataset:
    """A data set for evaluating a classifier, with images prepared for it and classes in the order of its labels.

    Args:
        classifier: the classifier; if it has no preprocessing or no labels, those of the data set are used.
        name: name of a data set, or path of a folder of photographs; None: the classifier's own data.
        data_dir: folder of the data set's files; None: the folder that the run used if ``classifier`` is a run that was
            trained on this data set, else the data set's default.
        all_photographs: use all photographs of a folder, not only those that training leaves out.

    Raises:
        ValueError: there is no such data set, its images or classes do not fit the classifier, or the arguments
            contradict each other.
    """
    dataset = _loaded(classifier, name, data_dir, all_photographs)
    if classifier.preprocessing is not None:
        if classifier.preprocessing != dataset.preprocessing:
            dataset = dataset.with_preprocessing(classifier.preprocessing)
    elif classifier.model is not None:
        height, width, channels = classifier.model.input_shape[1:]
        if channels != dataset.preprocessing.channels:
            raise ValueError(
                f"{classifier.name} takes images of {channels} channel{'s' if channels > 1 else ''}, and those of "
                f"{dataset.name} have {dataset.preprocessing.channels}."
            )
        dataset = dataset.with_preprocessing(dataset.preprocessing.with_size(height, width))
    if classifier.labels is None:
        outputs = dataset.num_classes if classifier.model is None else classifier.model.output_shape[-1]
        if outputs != dataset.num_classes:
            raise ValueError(
                f"{classifier.name} has {outputs} class{'es' if outputs != 1 else ''}, but {dataset.name} has "
                f"{dataset.num_classes}: evaluate it on data of its own classes."
            )
    elif classifier.labels != dataset.class_names:
        if isinstance(dataset, Folder):
            return dataset.with_class_names(classifier.labels)
        raise ValueError(
            f"{classifier.name} knows {len(classifier.labels)} classes ({', '.join(classifier.labels[:3])}, ...), "
            f"which are not those of {dataset.name} ({', '.join(dataset.class_names[:3])}, ...)."
        )
    return dataset


def _loaded(
    classifier: Classifier, name: Optional[str], data_dir: Optional[PathLike], all_photographs: bool
) -> Dataset:
    plan = classifier.plan
    if name is None:
        if plan is None:
            raise ValueError(
                f"{classifier.name} does not record what it was trained on: name a data set, or a folder of "
                "photographs, with data=."
            )
        if data_dir is None and not all_photographs:
            assert classifier.dataset is not None, "a run has one"
            return classifier.dataset
        name = plan.dataset
    elif name not in data.list_datasets():
        if not Path(name).expanduser().is_dir():
            raise ValueError(
                f"There is no data set {name!r}, and no folder of that name; the data sets are "
                f"{', '.join(data.list_datasets())}.{did_you_mean(name, data.list_datasets())}"
            )
        if data_dir is not None:
            raise ValueError(f"data={name} is a folder already: leave data_dir= out, or name a data set with data=.")
        name, data_dir = _FOLDER, name
    if data_dir is None and plan is not None and plan.dataset == name:
        data_dir = plan.data_dir
    options: dict[str, Any] = {}
    if all_photographs:
        if name != _FOLDER:
            raise ValueError(f"split=all is for a folder of photographs; {name} has a test split.")
        options["all_to_test"] = True
    if name == _FOLDER and classifier.split_rule is not None:
        options["split_rule"] = classifier.split_rule
    return _without_warning(lambda: data.load(name, data_dir, **options))


def _without_warning(load: Callable[[], Dataset]) -> Dataset:
    """Loads a data set without the warning about few images to train on, because nothing is trained here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Few images to train on")
        return load()


def converted_file(reference: PathLike) -> Path:
    """The converted file of a run. Raises ValueError if ``reference`` is not a run's folder or has no such file."""
    path = RunFolder(reference).tflite_path
    if not path.is_file():
        raise ValueError(f"There is no converted file {path}: name the file to compare with.")
    return path


def images_for(
    classifier: Classifier, folder: Optional[PathLike], number: Optional[int], max_pixels: int = MAX_PIXELS
) -> Iterator[np.ndarray]:
    """Batches of preprocessed images from a folder and its subfolders, or from the test split of the classifier's data.

    Args:
        classifier: gives the preprocessing, and the data if ``folder`` is None.
        folder: the folder; None: the test split.
        number: maximum number of images; None: all.
        max_pixels: limit on height times width of an image file.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are no images, one cannot be read, or the classifier does not record how to prepare them; for
            the test split, as ``dataset_for``.
    """
    if folder is None:
        for inputs, _ in labelled_images_for(classifier, number=number):
            yield inputs
        return
    preprocessing = classifier.recorded_preprocessing()
    paths = image_files(folder, number)
    batch = prediction_batch(preprocessing.input_shape)
    for start in range(0, len(paths), batch):
        images = (read_image(path, max_pixels) for path in paths[start : start + batch])
        yield np.stack([preprocessing(image) for image in images])


def labelled_images_for(
    classifier: Classifier,
    data: Optional[str] = None,
    data_dir: Optional[PathLike] = None,
    number: Optional[int] = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of preprocessed images of a test split with their true classes.

    Args:
        classifier: gives the preprocessing and the order of the classes.
        data: see ``dataset_for``.
        data_dir: see ``dataset_for``.
        number: maximum number of images, from the start of the split; None: all.

    Raises:
        ValueError: as ``dataset_for``.
    """
    dataset = dataset_for(classifier, data, data_dir)
    batch = prediction_batch(dataset.input_shape)
    for images, labels in dataset.test_batches(batch).unbatch().take(-1 if number is None else number).batch(batch):
        yield images.numpy(), labels.numpy()


def calibration_images(
    classifier: Classifier,
    source: Optional[str] = None,
    data_dir: Optional[PathLike] = None,
    max_pixels: int = MAX_PIXELS,
) -> list[np.ndarray]:
    """Batches of preprocessed images, about ``calibration.MOST_IMAGES`` in all, for ``convert(calibration=...)``.

    Args:
        classifier: gives the preprocessing.
        source: a folder of images, or the name of a data set; None: the data set of a run. From a folder, every n-th
            image is taken, in the order of the paths. From a data set, training images are drawn with a fixed seed.
        data_dir: see ``dataset_for``.
        max_pixels: limit on height times width of an image file.

    Raises:
        ValueError: the classifier is not a run and ``source`` is None; there is no such folder or data set; there are
            no images, one cannot be read, or the classifier does not record how to prepare them.
    """
    if source is None and classifier.plan is None:
        raise ValueError(
            f"{classifier.name} does not record what it was trained on: name a folder of images, or a data set, with "
            "--calibration, to show what values occur."
        )
    if source is not None and source not in data.list_datasets():
        return _spread_over(classifier, source, max_pixels)
    dataset = dataset_for(classifier, source, data_dir)
    batch = min(prediction_batch(dataset.input_shape), dataset.train_size)
    drawn = dataset.training_batches(batch, "none", seed=0).take(-(-calibration.MOST_IMAGES // batch))
    return [images.numpy() for images, _ in drawn]


def _spread_over(classifier: Classifier, folder: str, max_pixels: int) -> list[np.ndarray]:
    if not Path(folder).expanduser().exists():
        raise ValueError(
            f"There is no folder {folder!r} to calibrate with, and no data set of that name; the data sets are "
            f"{', '.join(data.list_datasets())}.{did_you_mean(folder, data.list_datasets())}"
        )
    preprocessing = classifier.recorded_preprocessing()
    paths = image_files(Path(folder).expanduser(), None)
    every = -(-len(paths) // calibration.MOST_IMAGES)
    prepared = [preprocessing(read_image(path, max_pixels)) for path in paths[::every]]
    return [np.stack(prepared)]
