"""External weights that a run starts from: published weights, a file, or the weights of another run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from r2b_zoo import weights
from r2b_zoo.weights import named
from r2b_zoo.weights.cards import CARDS
from r2b_zoo.weights.named import BUNDLED, IMAGENET, NAMES_IN_WORDS

if TYPE_CHECKING:
    import tensorflow as tf

# This image size is assumed for a file that has the stem for small images and does not record its image size.
SMALL_IMAGE_SIZE = 32


@dataclass(frozen=True)
class Pretrained:
    """The network to which weights belong.

    Attributes:
        network: name of its constructor.
        precision: the precision it was trained with.
        width: channels of its first section of blocks.
        stem: its constructor's ``stem``.
        preprocessing: fields of the ``Preprocessing`` it was trained with; None if they are not known.
        image_size: height and width of its square input, in pixels; None if ``preprocessing`` has them, or they are not
            known.
        options: further arguments of its constructor that are known: "downsample", "weight_scale", ...
    """

    network: str
    precision: str
    width: int
    stem: str
    preprocessing: Optional[dict[str, Any]] = None
    image_size: Optional[int] = None
    options: dict[str, Any] = field(default_factory=dict)


def describe(reference: str) -> Pretrained:
    """Describes the network of the weights that ``reference`` names, without downloading them.

    Args:
        reference: a name of weights in ``weights.named``, a weights file, or the folder of a finished run, whose last
            stage has the weights.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the file is not a weights file, is damaged, or does not record which network it belongs to.
        RunFolderError: the folder holds no finished run.
    """
    if reference == IMAGENET:
        best = max((card for card in CARDS.values() if card.pretrained), key=lambda card: card.pretrained_top1 or 0)
        return Pretrained(best.name, "binary", width=64, stem="imagenet", options={"weight_scale": "none"})
    path = named.bundled_file(reference) if reference in BUNDLED else _existing(reference)
    if path.is_dir():
        return _describe_run(path)
    found = weights.architecture(path)
    if found["network"] is None:
        raise ValueError(
            f"{reference} does not record which network its weights belong to. Load it with that network's constructor "
            "and write it again with r2b_zoo.weights.save, which records the name."
        )
    size = SMALL_IMAGE_SIZE if found["stem"] == "cifar" else None
    if found["size"] is not None and found["size"][0] == found["size"][1]:
        size = found["size"][0]
    return Pretrained(
        found["network"],
        found["precision"],
        found["width"],
        found["stem"],
        None if found["card"] is None else found["card"]["preprocessing"],
        image_size=size if found["card"] is None else None,
        options=found["options"],
    )


def load(model: "tf.keras.Model", reference: str, *, width: int, stem: str, precision: str) -> None:
    """Loads the weights of all layers of a network except its classifier; downloads published weights if necessary.

    Args:
        model: the network, with random weights.
        reference: as in ``describe``.
        width: the model's width.
        stem: the model's stem.
        precision: the model's precision.

    Raises:
        ValueError: the weights are of another architecture, or the file cannot be read.
        WeightsDownloadError: the published weights could not be downloaded.
        FileNotFoundError: there is no such file or folder.
        RunFolderError: the folder holds no run, its last stage is not finished, or the weights of that stage are
            damaged or of another architecture.
    """
    from r2b_zoo.runs.folder import RunFolder

    path: Optional[Path]
    if named.is_name(reference):
        path = weights.locate(
            model.name,
            reference,
            include_top=False,
            width=width,
            stem=stem,
            precision=precision,
            channels=model.input_shape[-1],
        )
    else:
        path = _existing(reference)
        if path.is_dir():
            folder = RunFolder(path)
            with folder.loading(folder.plan().stages[-1].name) as path:
                weights.load(model, path, classifier=False)
            return
    assert path is not None, "a reference is never None"
    weights.load(model, path, classifier=False)


def _existing(reference: str) -> Path:
    path = Path(reference).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"weights must be {NAMES_IN_WORDS}, a weights file or the folder of a run; there is no {reference!r}."
        )
    return path


def _describe_run(path: Path) -> Pretrained:
    from r2b_zoo.conversion import metadata
    from r2b_zoo.runs.folder import RunFolder

    folder = RunFolder(path)
    plan = folder.plan()
    folder.results()  # raises if the run is not finished
    preprocessing = metadata.read(folder.tflite_path.read_bytes()).preprocessing
    stage = plan.stages[-1]
    with folder.loading(stage.name) as weights_path:
        options = weights.architecture(weights_path)["options"]
    return Pretrained(
        stage.network,
        stage.precision,
        plan.width,
        plan.stem,
        None if preprocessing is None else preprocessing.to_dict(),
        options=options,
    )
