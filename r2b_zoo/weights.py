"""Published weights: where they are, how they are checked, how they are loaded.

A file is validated as a whole before any variable changes, so a network is never half loaded.
"""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from r2b_zoo import files, larq_zoo_files

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import tensorflow as tf

CACHE_ENVIRONMENT_VARIABLE = "R2B_ZOO_CACHE"
IMAGENET = "imagenet"
DOWNLOAD_RETRIES = 3

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights at a fixed address with a fixed hash."""

    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]


# Apache-2.0, published by the Larq authors. On ImageNet, top-1 and top-5: the Real-to-Binary network 65.01 and 85.72 %,
# Bi-Real Net 57.47 and 79.84 %.
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
# What the published files were trained with; anything else is another network.
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
    """Where downloads are kept: ``$R2B_ZOO_CACHE``, or the user's cache folder."""
    override = os.environ.get(CACHE_ENVIRONMENT_VARIABLE)
    if override:
        return Path(override).expanduser()
    import pooch

    return Path(pooch.os_cache("r2b_zoo"))


def locate(network: str, weights: Optional[PathLike], **arguments: Any) -> Optional[Path]:
    """The file that ``weights=`` of a network's constructor means; downloads it where it is a published one.

    Args:
        network: name of the constructor.
        weights: None, ``"imagenet"`` or a path.
        **arguments: the constructor's other arguments, and ``channels`` of its input; one that is missing is not
            checked.

    Raises:
        ValueError: no such weights are published, or they are of a network with other arguments.
        FileNotFoundError: a path that does not exist.
        WeightsDownloadError: the file could not be had from the network.
    """
    if weights is None:
        return None
    if weights != IMAGENET:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"weights must be None, 'imagenet' or the path of a weights file; there is no file {str(weights)!r}."
            )
        return path
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
    """A published file is neither in the cache nor to be had from the network."""


def fetch(published: PublishedWeights) -> Path:
    """The local copy of a published file, downloaded, hash-checked and moved into the cache as a whole.

    Raises:
        WeightsDownloadError: no network, or what came has another hash; says where to put the file by hand. Or the
            cache cannot be written.
        ValueError: a file of that name in the cache has another hash (truncated or altered).
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsDownloadError(
            f"Weights are kept in {folder}, which cannot be written ({type(error).__name__}): "
            f"set {CACHE_ENVIRONMENT_VARIABLE} to another folder."
        ) from error
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    files = pooch.create(
        path=folder,
        base_url=published.url.rsplit("/", 1)[0] + "/",
        registry={published.file_name: f"sha256:{published.sha256}"},
        retry_if_failed=DOWNLOAD_RETRIES,
    )
    try:
        return Path(files.fetch(published.file_name, downloader=downloader))
    except (RequestException, OSError, ValueError) as error:
        raise WeightsDownloadError(
            f"Could not download {published.url} ({type(error).__name__}). "
            f"Fetch it by hand and put it at {target}, or move the cache with {CACHE_ENVIRONMENT_VARIABLE}."
        ) from error


def read(path: PathLike) -> dict[str, list["np.ndarray"]]:
    """The arrays of an HDF5 weights file by layer, in the layer names of this zoo.

    Reads what ``model.save_weights("name.h5")`` and ``model.save("name.h5")`` write, for networks of this zoo and for
    Larq Zoo's ``RealToBinaryNet`` and ``BiRealNet``.

    Raises:
        ValueError: the file is truncated, altered, or no such file.
    """
    return _read(path)[0]


def _read(path: PathLike) -> tuple[dict[str, list["np.ndarray"]], Optional[str]]:
    """``read``, and the network where the file is one of Larq Zoo's."""
    import h5py
    import numpy as np

    wanted = "a weights file must be an HDF5 file as model.save_weights('name.h5') writes it"
    layers: dict[str, list[np.ndarray]] = {}
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs:
                raise ValueError(f"{path} holds no Keras layers: {wanted}.")
            names = [name for name in _strings(group, "layer_names") if _strings(group[name], "weight_names")]
            network, ours = larq_zoo_files.our_names(names)
            for name in names:
                arrays = [np.asarray(group[name][weight]) for weight in _strings(group[name], "weight_names")]
                layers.setdefault(ours.get(name, name), []).extend(arrays)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} cannot be read (truncated, altered or another format?): {wanted}.") from error
    return layers, network


def load(model: "tf.keras.Model", path: PathLike, *, classifier: bool = True) -> None:
    """Sets every variable of a network from a file, or changes nothing.

    A file with a classifier fits a network without top; the classifier is then left out.

    Args:
        model: a network of the zoo.
        path: of the file.
        classifier: off: the network's classifier keeps its weights, and the file may have another one or none.

    Raises:
        ValueError: the file cannot be read, or is of another architecture: names the first layer that differs, or the
            argument that its network was built with.
    """
    arrays, of_larq_zoo = _read(path)
    _check_options(model, _recorded_options(path, of_larq_zoo), path)
    expected = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in model.layers if layer.weights}
    found = {name: [array.shape for array in values] for name, values in arrays.items()}
    if not classifier:
        expected.pop("logits", None)
    if "logits" not in expected:
        found.pop("logits", None)
    for name in [*expected, *(name for name in found if name not in expected)]:
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"The weights in {path} are of another architecture than {model.name}: layer {name!r} "
                f"{_describe(expected.get(name))} in the network and {_describe(found.get(name))} in the file."
            )
    _check_recorded(model, path)
    for name in expected:
        model.get_layer(name).set_weights(arrays[name])


def save(model: "tf.keras.Model", path: PathLike) -> None:
    """Writes a network's weights as ``model.save_weights("name.h5")`` does; a failed write leaves no half of a file.

    The file records the network, its precision, its options and the size of its input too, which shapes alone do not
    tell.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    import h5py

    # In memory first: where the disk is full, HDF5 itself goes on failing until the process crashes.
    with h5py.File("weights", "w", driver="core", backing_store=False) as file:
        file.attrs["layer_names"] = [layer.name for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [weight.name for weight in layer.weights]
            for weight in layer.weights:
                group[weight.name] = weight.numpy()
        file.attrs[_RECORDED_NETWORK] = model.name
        file.attrs[_RECORDED_PRECISION] = _precision(model)
        file.attrs[_RECORDED_OPTIONS] = json.dumps(_options(model))
        if None not in model.input_shape[1:3]:
            file.attrs[_RECORDED_SIZE] = model.input_shape[1:3]
        file.flush()
        content = file.id.get_file_image()
    files.write_bytes(Path(path), content)


def architecture(path: PathLike) -> dict[str, Any]:
    """What a weights file tells about its network.

    Returns:
        ``num_classes``, ``width``, ``stem``, ``include_top`` and ``precision`` as its constructor takes them, the
        ``channels`` of its input, ``network``, which is None where neither a record nor the layers tell, ``size``,
        height and width of its input, which is None where there is no record, and ``options``, those arguments of its
        constructor beyond these that the file tells and that say what its weights mean.

    Raises:
        ValueError: the file cannot be read, or is of no network of the zoo.
    """
    arrays, of_larq_zoo = _read(path)
    if "stem_conv" not in arrays:
        raise ValueError(f"{path} holds no weights of a network of this zoo: it has no layer 'stem_conv'.")
    kernel_size, _, channels, width = arrays["stem_conv"][0].shape
    network, precision, size = _recorded(path)
    network = network or of_larq_zoo
    for ending, name in (("_gate", "RealToBinaryNet"), ("_scale", "StrongBaselineNet")):
        if any(layer.endswith(ending) for layer in arrays):
            network = name
    include_top = "logits" in arrays
    return {
        "network": network,
        "precision": precision or "binary",
        "width": width,
        "stem": "imagenet" if kernel_size == 7 else "cifar",
        "channels": channels,
        "size": size,
        "options": _recorded_options(path, of_larq_zoo),
        "include_top": include_top,
        "num_classes": arrays["logits"][1].shape[0] if include_top else 1000,
    }


_RECORDED_NETWORK = "r2b_zoo_network"
_RECORDED_PRECISION = "r2b_zoo_precision"
_RECORDED_SIZE = "r2b_zoo_input_size"
_RECORDED_OPTIONS = "r2b_zoo_options"
# What the networks of files were before there was a choice, and those of Larq Zoo are.
_WITHOUT_OPTIONS = {"downsample": "real", "weight_scale": "none", "gate_reduction": 8}
# The networks that have a choice; of the others all have the same.
_NETWORKS_WITH = {"weight_scale": ("RealToBinaryNet", "StrongBaselineNet"), "gate_reduction": ("RealToBinaryNet",)}


def _recorded(path: PathLike) -> tuple[Optional[str], Optional[str], Optional[tuple[int, int]]]:
    """Network, precision and size of the input."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            size = file.attrs.get(_RECORDED_SIZE)
            return (
                file.attrs.get(_RECORDED_NETWORK),
                file.attrs.get(_RECORDED_PRECISION),
                None if size is None else (int(size[0]), int(size[1])),
            )
    except OSError:
        return None, None, None  # read() says what is wrong with the file


def _check_recorded(model: "tf.keras.Model", path: PathLike) -> None:
    network, precision, _ = _recorded(path)
    if network is not None and network != model.name:
        raise ValueError(f"The weights in {path} are of another architecture: of {network}, not of {model.name}.")
    if precision is not None and precision != _precision(model):
        warnings.warn(
            f"The weights in {path} were trained with precision={precision!r}; {model.name} has "
            f"precision={_precision(model)!r}, so they are only a start for training.",
            stacklevel=3,
        )


def _recorded_options(path: PathLike, of_larq_zoo: Optional[str]) -> dict[str, Any]:
    """Those a file was written with; none where they cannot be known, since Keras itself wrote it."""
    import h5py

    with h5py.File(path, "r") as file:
        if _RECORDED_OPTIONS in file.attrs:
            return dict(json.loads(file.attrs[_RECORDED_OPTIONS]))
        network = file.attrs.get(_RECORDED_NETWORK, of_larq_zoo)
        is_binary = file.attrs.get(_RECORDED_PRECISION, "binary") == "binary"
    if network is None:
        return {}
    options = {key: value for key, value in _WITHOUT_OPTIONS.items() if network in _NETWORKS_WITH.get(key, (network,))}
    if not is_binary:
        options.pop("weight_scale", None)
    return options


def _options(model: "tf.keras.Model") -> dict[str, Any]:
    """The options of a network that say what its weights mean, read off its layers.

    Real kernels have their scale in themselves, which fits every choice of one.
    """
    layers = {layer.name: layer for layer in model.layers}
    shortcuts = (layer for name, layer in layers.items() if name.endswith("_shortcut_conv"))
    # Of tanh or sign, which a real shortcut has not.
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
    """The precision a network was built with, read off its first quantised convolution."""
    convolution = model.get_layer("block1a_conv")
    if getattr(convolution, "kernel_quantizer", None) is not None:
        return "binary"
    quantizer = getattr(convolution, "input_quantizer", None)
    return "real" if quantizer is None or getattr(quantizer, "__name__", "") == "tanh" else "binary_activations"


def _strings(group: "h5py.Group", attribute: str) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in group.attrs[attribute]]


def _describe(shapes: Optional[list[tuple[int, ...]]]) -> str:
    return "is missing" if shapes is None else f"has shapes {shapes}"
