"""Finds, downloads, checks, loads and saves the weights of networks.

A file is validated as a whole before any variable changes, so a network is never half loaded.
"""

import contextlib
import errno
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar, Union

from r2b_zoo.identity import PACKAGE
from r2b_zoo.system import files
from r2b_zoo.weights import larq_zoo_files, named
from r2b_zoo.weights.named import BUNDLED, NAMES_IN_WORDS

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from r2b_zoo.weights.file import Record, WeightsFile
    from r2b_zoo.weights.packed import PackedWeights

CACHE_ENVIRONMENT_VARIABLE = "R2B_ZOO_CACHE"
DOWNLOAD_RETRIES = 3
_DOWNLOADS = ".downloads"
# A download that receives nothing for 30 seconds fails, so a file that has not changed for this long belongs to a
# process that was killed.
_ABANDONED_SECONDS = 3600
# These errors mean that the disk is full, the user's quota is used up, or the file is larger than allowed.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_KERNEL_RANK = 4

PathLike = Union[str, "os.PathLike[str]"]
_Shapes = list[tuple[int, ...]]
"""Shapes of a layer's variables, in their order."""


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights at a fixed address with a fixed hash."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]


# The Larq authors publish these weights under Apache-2.0. On ImageNet, the Real-to-Binary network reaches 65.01 % top-1
# and 85.72 % top-5, and Bi-Real Net 57.47 and 79.84 %.
_R2B_RELEASE = "https://github.com/larq/zoo/releases/download/r2b-v0.1.0/"
_BI_REAL_RELEASE = "https://github.com/larq/zoo/releases/download/birealnet-v0.3.0/"
PUBLISHED = {
    # (network, include_top)
    ("RealToBinaryNet", True): PublishedWeights(
        f"{_R2B_RELEASE}r2b_weights.h5", "e8fd16ca1ab9810ac3835f24f5c62758a57bc32a615f73aaa50d382d2b9617e1"
    ),
    ("RealToBinaryNet", False): PublishedWeights(
        f"{_R2B_RELEASE}r2b_weights_notop.h5", "4ec47abf1a4da5c65f4908076257e8d5c812673891089a88c9d9e84e949d1dab"
    ),
    ("BiRealNet18", True): PublishedWeights(
        f"{_BI_REAL_RELEASE}birealnet_weights.h5", "6e6efac1584fcd60dd024198c87f42eb53b5ec719a5ca1f527e1fe7e8b997117"
    ),
    ("BiRealNet18", False): PublishedWeights(
        f"{_BI_REAL_RELEASE}birealnet_weights_notop.h5",
        "5148b61c0c2a1094bdef811f68bf4957d5ba5f83ad26437b7a4a6855441ab46b",
    ),
}
# The published weights fit only networks with these arguments; without top, any num_classes is allowed.
_PUBLISHED_ARGUMENTS = {
    "num_classes": 1000,
    "precision": "binary",
    "width": 64,
    "stem": "imagenet",
    "channels": 3,
    "downsample": "real",
    "weight_scale": "none",
    "gate_reduction": 8,
}


def cache_folder() -> Path:
    """The folder for downloads: ``$R2B_ZOO_CACHE`` if it is set, else ``r2b_zoo`` in the user's cache folder."""
    override = os.environ.get(CACHE_ENVIRONMENT_VARIABLE)
    if override:
        return Path(override).expanduser()
    import pooch

    return Path(pooch.os_cache(PACKAGE))


def locate(network: str, weights: Optional[PathLike], **arguments: Any) -> Optional[Path]:
    """The file that a constructor's ``weights=`` refers to; None for ``weights=None``.

    Published weights are downloaded if they are not in the cache.

    Args:
        network: name of the constructor.
        weights: None, a name in ``weights.named``, or a path.
        **arguments: the constructor's other arguments, and the ``channels`` and the ``input_shape`` of the network's
            input. Arguments that are not given are not checked, but ``include_top`` is required if ``weights`` is a
            name.

    Raises:
        ValueError: there are no weights of that name for this network, they need other arguments, or the local file of
            these weights is damaged.
        FileNotFoundError: there is no file at the path, or weights that come with the package are missing.
        WeightsDownloadError: the file could not be downloaded.
    """
    if weights is None:
        return None
    if not named.is_name(weights):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"weights must be None, {NAMES_IN_WORDS} or the path of a weights file; there is no file "
                f"{str(weights)!r}."
            )
        return path
    if weights in BUNDLED:
        from r2b_zoo.weights import bundled  # imports this module

        return bundled.locate(network, str(weights), **arguments)
    include_top = bool(arguments["include_top"])
    published = PUBLISHED.get((network, include_top))
    if published is None:
        names = ", ".join(sorted({name for name, _ in PUBLISHED}))
        raise ValueError(
            f"There are no published ImageNet weights for {network}, only for {names}: "
            "pass weights=None to train it, or the path of a weights file."
        )
    for argument, required in _PUBLISHED_ARGUMENTS.items():
        if argument not in arguments or (argument == "num_classes" and not include_top):
            continue
        if arguments[argument] != required:
            hint = " To train your own classes on these features, pass include_top=False." * (argument == "num_classes")
            raise ValueError(
                f"weights='imagenet' needs {argument}={required!r}, received {argument}={arguments[argument]!r}.{hint}"
            )
    return fetch(published)


class WeightsDownloadError(RuntimeError):
    """A published file is not in the cache and could not be downloaded into it."""


def fetch(published: PublishedWeights) -> Path:
    """The path of a published file in the cache. If it is not there, it is downloaded first.

    The file's hash is checked in both cases.

    Raises:
        WeightsDownloadError: the download failed or has another hash (the message says where to put the file by hand),
            or the cache cannot be written.
        ValueError: the file in the cache has another hash, because it is truncated or altered.
    """
    import pooch
    from requests.exceptions import RequestException

    folder = cache_folder()
    target = folder / published.file_name
    if target.is_file():
        found = pooch.file_hash(str(target))
        if found != published.sha256:
            raise ValueError(
                f"{target} is truncated or altered: its SHA-256 is {found}, expected {published.sha256}. "
                "Delete it to download it again."
            )
        return target
    # Use a separate folder, so that no other file in the cache is mistaken for an interrupted download.
    downloads = folder / _DOWNLOADS
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        _delete_old(downloads)
    except OSError as error:
        raise WeightsDownloadError(
            f"Weights are kept in {folder}, which cannot be written ({type(error).__name__}): "
            f"set {CACHE_ENVIRONMENT_VARIABLE} to another folder."
        ) from error
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    files = pooch.create(
        path=downloads,
        base_url=published.url.rsplit("/", 1)[0] + "/",
        registry={published.file_name: f"sha256:{published.sha256}"},
        retry_if_failed=DOWNLOAD_RETRIES,
    )
    try:
        os.replace(files.fetch(published.file_name, downloader=downloader), target)
    except (RequestException, OSError, ValueError) as error:
        # Check the error's number, since the errors of the library requests are OSErrors too.
        if isinstance(error, OSError) and error.errno in _FULL:
            raise WeightsDownloadError(
                f"There is no room for {published.file_name} in {folder} ({error.strerror}): free some space there, or "
                f"set {CACHE_ENVIRONMENT_VARIABLE} to a folder on another disk."
            ) from error
        raise WeightsDownloadError(
            f"Could not download {published.url} ({type(error).__name__}). "
            f"Fetch it by hand and put it at {target}, or move the cache with {CACHE_ENVIRONMENT_VARIABLE}."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            downloads.rmdir()  # fails if another process is downloading
    return target


def _delete_old(downloads: Path) -> None:
    """Deletes the files of processes that were killed during a download."""
    for path in downloads.iterdir():
        # Another process's download may have ended, and its file been moved, since the folder was listed.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def read(path: PathLike) -> dict[str, list["np.ndarray"]]:
    """The arrays of a weights file by layer, with the layer names of this zoo.

    The file may come from ``model.save_weights("name.h5")``, ``model.save("name.h5")`` or this module's ``save``, for a
    network of this zoo or Larq Zoo's ``RealToBinaryNet`` or ``BiRealNet``. It may also be packed, see
    ``weights.packed``. Keras' newer files, ``name.weights.h5`` and ``name.keras``, number the layers of each class. In
    these files, only the first convolution and the classifier get this zoo's names; other layers keep the file's names.

    Raises:
        ValueError: the file is missing, truncated, altered, not a weights file, or refers to another file; or weights
            are not float16, float32 or float64, or not finite.
    """
    from r2b_zoo.weights.packed import opened

    with opened(path) as file:
        return _by_our_names(file.arrays(), _renamed(file)[1])


# In Keras' newer files the first layer of a class has no number. In every network of the zoo, the first Conv2D is the
# stem's, and the classifier is the only Dense.
_OF_ANY_NETWORK = {"conv2d": "stem_conv", "dense": "logits"}
_Values = TypeVar("_Values")


def _renamed(file: "WeightsFile | PackedWeights") -> tuple[Optional[str], Mapping[str, str]]:
    """The network's name if the file is Larq Zoo's, else None; and the file's layer names mapped to ours."""
    return (None, _OF_ANY_NETWORK) if file.numbered else larq_zoo_files.our_names(list(file.shapes))


def _by_our_names(layers: Mapping[str, list[_Values]], names: Mapping[str, str]) -> dict[str, list[_Values]]:
    found: dict[str, list[_Values]] = {}
    for name, values in layers.items():
        found.setdefault(names.get(name, name), []).extend(values)
    return found


def load(
    model: "tf.keras.Model", path: PathLike, *, classifier: bool = True, outside: "Sequence[tf.keras.layers.Layer]" = ()
) -> None:
    """Sets every variable of a network from a file; on an error, changes nothing.

    A file with a classifier fits a network without top; the classifier is then ignored. There is a warning if the file
    records another precision than the network's.

    Args:
        model: a network of the zoo.
        path: path of the file, see ``read``.
        classifier: if False, the network's classifier keeps its weights, and the file may have any classifier or none.
        outside: layers of the model that are not part of the network, for example a normalization before it. They keep
            their weights if the file has none for them.

    Raises:
        ValueError: the file cannot be read, was altered after it was written, or is for another architecture; the
            message names the first layer that differs, or the argument that the network must be built with.
    """
    from r2b_zoo.weights.file import numbered_names
    from r2b_zoo.weights.packed import opened

    not_own = {layer.name for layer in outside}
    own = [layer for layer in model.layers if layer.name not in not_own]
    expected = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in model.layers if layer.weights}
    with opened(path) as file:
        of_larq_zoo, names = _renamed(file)
        if file.numbered:
            names = {**names, **numbered_names(outside), **numbered_names(own)}
        _check_options(model, _recorded_options(file.record, of_larq_zoo), path)
        found = _by_our_names(file.shapes, names)
        expected = {name: shapes for name, shapes in expected.items() if name not in not_own or name in found}
        if not classifier:
            expected.pop("logits", None)
        if "logits" not in expected:
            found.pop("logits", None)
        _check_shapes(model, path, expected, found)
        _check_recorded(model, path, file.record)
        arrays = _by_our_names(file.arrays(), names)
    for name in expected:
        model.get_layer(name).set_weights(arrays[name])


def _check_shapes(
    model: "tf.keras.Model", path: PathLike, expected: Mapping[str, _Shapes], found: Mapping[str, _Shapes]
) -> None:
    for name in [*expected, *(name for name in found if name not in expected)]:
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"The weights in {path} are for another architecture than {model.name}: layer {name!r} "
                f"{_describe(expected.get(name))} in the network and {_describe(found.get(name))} in the file."
                + (_OTHER_CLASSES if name == "logits" else "")
            )


_OTHER_CLASSES = (
    " To load everything except the classifier, build the network with include_top=False, or train a new classifier: "
    "r2b train recipe=finetune weights=FILE data.dir=PHOTOS."
)


def save(model: "tf.keras.Model", path: PathLike) -> None:
    """Writes a network's weights as ``model.save_weights("name.h5")`` does, without leaving a partial file on failure.

    The file also records what the shapes of the weights do not show: the network, its precision, its options and the
    size of its input. It contains a checksum, by which ``load`` detects altered values.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    from r2b_zoo.weights.file import content

    files.write_bytes(Path(path), content(model.layers, record_of(model)))


def record_of(model: "tf.keras.Model") -> "Record":
    """The facts about a network that its weights file records, because the weights do not show them."""
    from r2b_zoo.weights.file import Record

    height, width = model.input_shape[1:3]
    size = None if None in (height, width) else (height, width)
    return Record(model.name, _precision(model), size, _options(model))


def architecture(path: PathLike) -> dict[str, Any]:
    """Describes the network of a weights file.

    Returns:
        A dictionary with these keys:

        - ``network``: name of the constructor; None if neither a record nor the layers show it.
        - ``num_classes``, ``width``, ``stem``, ``include_top`` and ``precision``, as the constructor takes them.
          ``num_classes`` is 1000 without top, and ``precision`` is "binary" if it is not recorded.
        - ``channels``: number of channels of the input.
        - ``size``: height and width of the input in pixels; None if they are not recorded.
        - ``options``: further arguments of the constructor that change the meaning of the weights, as far as known.
        - ``card``: the fields of ``cards.WeightsCard`` that a packed file stores; None for other files.

    Raises:
        ValueError: the file cannot be read, or is not of a network of the zoo.
    """
    from r2b_zoo.weights.packed import opened

    with opened(path) as file:
        of_larq_zoo, names = _renamed(file)
        shapes = _by_our_names(file.shapes, names)
        record, card = file.record, file.card
    if len(shapes.get("stem_conv", [()])[0]) != _KERNEL_RANK:
        raise ValueError(f"{path} holds no weights of a network of this zoo: it has no layer 'stem_conv'.")
    kernel_size, _, channels, width = shapes["stem_conv"][0]
    network = record.network or of_larq_zoo
    # Also match numbered names in Keras' newer files, for example channel_gate_2.
    for part, name in (("_gate", "RealToBinaryNet"), ("_scale", "StrongBaselineNet")):
        # Look for gates first: RealToBinaryNet with weight_scale="learned" has layers of both names.
        if network is None and any(re.search(rf"{part}(_\d+)?$", layer) for layer in shapes):
            network = name
    include_top = "logits" in shapes
    return {
        "network": network,
        "precision": record.precision or "binary",
        "width": width,
        "stem": "imagenet" if kernel_size == 7 else "cifar",
        "channels": channels,
        "size": record.size,
        "options": _recorded_options(record, of_larq_zoo),
        "card": card,
        "include_top": include_top,
        "num_classes": shapes["logits"][-1][-1] if include_top else 1000,
    }


# All networks had these values before the options existed. Larq Zoo's networks have them too.
_WITHOUT_OPTIONS = {"downsample": "real", "weight_scale": "none", "gate_reduction": 8}
# The networks that have an option, if not all networks have it.
_NETWORKS_WITH = {"weight_scale": ("RealToBinaryNet", "StrongBaselineNet"), "gate_reduction": ("RealToBinaryNet",)}


def _check_recorded(model: "tf.keras.Model", path: PathLike, record: "Record") -> None:
    network, precision = record.network, record.precision
    if network is not None and network != model.name:
        raise ValueError(f"The weights in {path} are for another architecture: {network}, not {model.name}.")
    if precision is not None and precision != _precision(model):
        warnings.warn(
            f"The weights in {path} were trained with precision={precision!r}; {model.name} has "
            f"precision={_precision(model)!r}, so they are only a start for training.",
            stacklevel=3,
        )


def _recorded_options(record: "Record", of_larq_zoo: Optional[str]) -> dict[str, Any]:
    """The options of a file's network; empty if they are unknown, because Keras wrote the file without a record.

    A file that records its network but no options, or comes from Larq Zoo, has the values of ``_WITHOUT_OPTIONS``.
    """
    if record.options is not None:
        return record.options
    network = record.network or of_larq_zoo
    if network is None:
        return {}
    options = {key: value for key, value in _WITHOUT_OPTIONS.items() if network in _NETWORKS_WITH.get(key, (network,))}
    if record.precision not in (None, "binary"):
        options.pop("weight_scale", None)
    return options


def _options(model: "tf.keras.Model") -> dict[str, Any]:
    """The options of a network that change the meaning of its weights, read from its layers.

    A real kernel includes its scale and therefore fits ``weight_scale`` "none" and "mean" alike, so a network with real
    kernels records the option only if it is "learned".
    """
    layers = {layer.name: layer for layer in model.layers}
    shortcuts = (layer for name, layer in layers.items() if name.endswith("_shortcut_conv"))
    # A binary shortcut has an input quantiser (tanh or sign); a real one has none.
    is_binary = any(getattr(shortcut, "input_quantizer", None) is not None for shortcut in shortcuts)
    options: dict[str, Any] = {"downsample": "binary" if is_binary else "real"}
    quantizer = getattr(layers["block1a_conv"], "kernel_quantizer", None)
    if model.name in _NETWORKS_WITH["weight_scale"]:
        if "block1a_weight_scale" in layers:
            options["weight_scale"] = "learned"
        elif quantizer is not None:
            options["weight_scale"] = "mean" if type(quantizer).__name__ == "MagnitudeAwareSign" else "none"
    if "block1a_gate" in layers:
        options["gate_reduction"] = layers["block1a_gate"].reduction
    return options


def _check_options(model: "tf.keras.Model", recorded: dict[str, Any], path: PathLike) -> None:
    built = _options(model)
    for option, value in recorded.items():
        if built.get(option, value) != value:
            raise ValueError(
                f"The weights in {path} are of a network with {option}={value!r}, and {model.name} was built with "
                f"{option}={built[option]!r}: pass {option}={value!r} to load them."
            )


def _precision(model: "tf.keras.Model") -> str:
    """The precision a network was built with, read from its first quantised convolution."""
    convolution = model.get_layer("block1a_conv")
    if getattr(convolution, "kernel_quantizer", None) is not None:
        return "binary"
    quantizer = getattr(convolution, "input_quantizer", None)
    return "real" if quantizer is None or getattr(quantizer, "__name__", "") == "tanh" else "binary_activations"


def _describe(shapes: Optional[_Shapes]) -> str:
    return "is missing" if shapes is None else f"has shapes {shapes}"
