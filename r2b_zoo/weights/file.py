"""Reads weights files without trusting them: a file may be damaged or malicious.

Three layouts are supported: Keras' HDF5 with names of layers (``save_weights("x.h5")``, ``save("x.h5")`` and
``r2b_zoo.weights.save``), Keras' newer HDF5 that numbers the layers of each class (``save_weights("x.weights.h5")``),
and ``save("x.keras")``, an archive with a file of the newer layout and the network's configuration.

HDF5 can keep an array in another file, by a link or as external storage, and can declare arrays of any size. We open
nothing outside the file, and check declared sizes before reading arrays.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional

import h5py
import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

WANTED = (
    "a weights file must be an HDF5 file as model.save_weights('name.h5') writes it, or a .keras file as "
    "model.save('name.keras') does"
)
# Weights hardly compress. A file whose arrays declare more than this many times its own size is therefore damaged.
MOST_BYTES_PER_BYTE = 16
# Keras splits lists of names at 64 KiB. A damaged attribute may declare far more, and take minutes to read.
_MOST_BYTES_OF_ATTRIBUTE = 1 << 20
_RECORDED_NETWORK = "r2b_zoo_network"
_RECORDED_PRECISION = "r2b_zoo_precision"
_RECORDED_SIZE = "r2b_zoo_input_size"
_RECORDED_OPTIONS = "r2b_zoo_options"
_RECORDED_DIGEST = "r2b_zoo_sha256"
# Keras' newer layout has groups of these names.
_LAYERS, _VARIABLES = "layers", "vars"
_MEMBER, _CONFIG = "model.weights.h5", "config.json"

Arrays = Mapping[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class Record:
    """The facts that a weights file records about its network; None for a fact that it does not record.

    Attributes:
        network: name of the constructor.
        precision: the precision it was built with.
        size: height and width of its input, in pixels.
        options: further arguments of its constructor; empty for a .keras file without a record, because Keras'
            configuration does not show them.
    """

    network: Optional[str] = None
    precision: Optional[str] = None
    size: Optional[tuple[int, int]] = None
    options: Optional[dict[str, Any]] = None


class WeightsFile(contextlib.AbstractContextManager["WeightsFile"]):
    """An open weights file.

    Attributes:
        path: path of the file.
        shapes: declared shapes of each layer's arrays, by the layer's name in the file; layers without arrays are left
            out.
        numbered: whether these names number the layers of each class, as ``numbered_names`` does.
        record: the facts that the file records about its network.
        card: None; only packed files have one.

    Raises:
        ValueError: the file is missing, truncated, altered, not a weights file, or refers to another file.
    """

    card: Optional[dict[str, Any]] = None

    def __init__(self, path: Any) -> None:
        self.path = path
        with contextlib.ExitStack() as stack, self._in_one_sentence():
            size = Path(path).stat().st_size
            config = None
            if zipfile.is_zipfile(path):
                image, config = _unpacked(Path(path), MOST_BYTES_PER_BYTE * size)
                file = stack.enter_context(h5py.File(io.BytesIO(image), "r"))
            else:
                file = stack.enter_context(h5py.File(path, "r"))
            group = _at(file, "model_weights") if "model_weights" in file else file
            self.numbered = "layer_names" not in group.attrs and _LAYERS in file
            if not self.numbered and "layer_names" not in group.attrs:
                raise _Refused(f"{path} holds no Keras layers: {WANTED}.")
            self._datasets = _numbered_datasets(file) if self.numbered else _named_datasets(group)
            self._check_declared(size)
            self.shapes = {name: [dataset.shape for dataset in all_] for name, all_ in self._datasets.items()}
            self.record = _record(file, config)
            recorded = _attribute(file, _RECORDED_DIGEST)
            self._digest = None if recorded is None else _text(recorded)
            self._open = stack.pop_all()

    def _check_declared(self, size: int) -> None:
        """Checks types and sizes before arrays are read: a small file can declare arrays larger than any memory."""
        declared = 0
        for name, datasets in self._datasets.items():
            for dataset in datasets:
                _check(self.path, name, dataset)
                declared += dataset.nbytes
        if declared > MOST_BYTES_PER_BYTE * size:
            raise _Refused(
                f"{self.path} is damaged: a file of {size:,} bytes cannot hold arrays of {declared:,} bytes, as it "
                "declares."
            )

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._open.close()

    def arrays(self) -> dict[str, list[np.ndarray]]:
        """The arrays of each layer, by the layer's name in the file.

        Raises:
            ValueError: the file cannot be read, its values are not those that were written, or a value is not finite.
        """
        with self._in_one_sentence():
            arrays = {name: [np.asarray(dataset) for dataset in all_] for name, all_ in self._datasets.items()}
        if self._digest is not None and digest(arrays, self.record) != self._digest:
            raise ValueError(
                f"{self.path} is damaged: its values are not those that were written into it (their SHA-256 is "
                f"{digest(arrays, self.record)}, and {self._digest} is recorded). Take another copy of the file."
            )
        for name, values in arrays.items():
            with np.errstate(over="ignore"):
                finite = all(np.isfinite(value.astype(np.float32)).all() for value in values)
            if not finite:
                raise ValueError(
                    f"{self.path} holds values that are not finite in float32 (NaN or infinite) in layer {name!r}; "
                    "all weights must be finite. Take weights from before the training diverged."
                )
        return arrays

    @contextlib.contextmanager
    def _in_one_sentence(self) -> Iterator[None]:
        try:
            yield
        except _Refused:
            raise
        except UNREADABLE as error:
            raise ValueError(
                f"{self.path} cannot be read (truncated, altered or another format?): {WANTED}."
            ) from error


class _Refused(ValueError):  # noqa: N818 - reads as what happened
    """An error whose message already says what is wrong with the file."""


# h5py, zipfile and json raise these errors for damaged or malicious files.
UNREADABLE = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def content(layers: Iterable["tf.keras.layers.Layer"], record: Record) -> bytes:
    """The bytes of a weights file as ``save_weights("name.h5")`` writes it, with a record and a checksum."""
    layers = list(layers)
    arrays = {layer.name: [weight.numpy() for weight in layer.weights] for layer in layers}
    # Use strings of fixed length. HDF5 keeps strings of variable length in a heap, and may never finish reading a
    # damaged heap. Write to memory, because on a full disk HDF5 keeps failing until the process crashes.
    with h5py.File("weights", "w", driver="core", backing_store=False) as file:
        file.attrs["layer_names"] = np.array([layer.name.encode() for layer in layers], "S")
        for layer in layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = np.array([weight.name.encode() for weight in layer.weights], "S")
            for weight, value in zip(layer.weights, arrays[layer.name], strict=True):
                group[weight.name] = value
        for name, value in (
            (_RECORDED_NETWORK, record.network),
            (_RECORDED_PRECISION, record.precision),
            (_RECORDED_SIZE, record.size),
            (_RECORDED_OPTIONS, None if record.options is None else json.dumps(record.options)),
        ):
            if value is not None:
                file.attrs[name] = np.bytes_(value) if isinstance(value, str) else value
        file.attrs[_RECORDED_DIGEST] = np.bytes_(digest(arrays, record))
        file.flush()
        return file.id.get_file_image()


def digest(arrays: Arrays, record: Record) -> str:
    """SHA-256 of a record and of layers: their names, and the types, shapes and values of their arrays, in order.

    HDF5 has checksums only for arrays that are stored in chunks, and ours are stored contiguously.
    """
    arrays = {name: values for name, values in arrays.items() if values}
    told = [
        [name, [[value.dtype.newbyteorder("<").str, value.shape] for value in all_]] for name, all_ in arrays.items()
    ]
    head = [record.network, record.precision, record.size, record.options, told]
    sha = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for value in itertools.chain.from_iterable(arrays.values()):
        sha.update(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha.hexdigest()


def numbered_names(layers: Iterable["tf.keras.layers.Layer"]) -> dict[str, str]:
    """Maps the names that Keras' newer layout gives layers to the layers' own names.

    The newer layout numbers the layers of each class: conv2d, conv2d_1, …
    """
    counts: dict[str, int] = {}
    names = {}
    for layer in layers:
        kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
        kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
        number = counts[kind] = counts.get(kind, -1) + 1
        names[f"{kind}_{number}" if number else kind] = layer.name
    return names


def _unpacked(path: Path, most: int) -> tuple[bytes, Any]:
    """The weights and the configuration in a .keras file."""
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(name) for name in (_MEMBER, _CONFIG)]
        if sum(member.file_size for member in members) > most:
            raise _Refused(f"{path} is damaged: its members declare more than {most:,} bytes.")
        weights, config = (archive.read(member) for member in members)
    return weights, json.loads(config)


def _at(group: "h5py.Group", name: str) -> Any:
    """The object at a path within the file; ``group[name]`` would follow links into other files."""
    for part in name.strip("/").split("/"):
        if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise _Refused(
                f"{group.file.filename} refers to another place or file by a link at {name!r}: a weights file must "
                "hold its arrays itself."
            )
        group = group[part]
    return group


def _named_datasets(group: "h5py.Group") -> dict[str, list["h5py.Dataset"]]:
    found: dict[str, list[h5py.Dataset]] = {}
    for name in _strings(group, "layer_names"):
        layer = _at(group, name)
        if datasets := [_at(layer, weight) for weight in _strings(layer, "weight_names")]:
            found.setdefault(name, []).extend(datasets)
    return found


def _numbered_datasets(file: "h5py.File") -> dict[str, list["h5py.Dataset"]]:
    found = {}
    layers = _at(file, _LAYERS)
    for name in layers:
        layer = _at(layers, name)
        variables = _at(layer, _VARIABLES) if _VARIABLES in layer else ()
        if datasets := [_at(variables, number) for number in sorted(variables, key=int)]:
            found[name] = datasets
    return found


def _check(path: Any, name: str, dataset: Any) -> None:
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise KeyError(name)
    if dataset.external or dataset.is_virtual:
        raise _Refused(
            f"{path} keeps the arrays of layer {name!r} in another file: a weights file must hold its arrays itself."
        )
    if dataset.shape == () and dataset.dtype.kind in "iu":
        return  # Keras' preprocessing layers have such a counter
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > np.dtype(np.float64).itemsize:
        raise _Refused(
            f"{path} holds {dataset.dtype} numbers in layer {name!r}; weights must be float16, float32 or float64."
        )


def _record(file: "h5py.File", config: Any) -> Record:
    """The record in a file of this package; for a .keras file, the facts in Keras' configuration of the network."""
    network, precision, size, options = (
        _attribute(file, name) for name in (_RECORDED_NETWORK, _RECORDED_PRECISION, _RECORDED_SIZE, _RECORDED_OPTIONS)
    )
    if network is not None:
        return Record(
            _text(network),
            None if precision is None else _text(precision),
            None if size is None else (int(size[0]), int(size[1])),
            None if options is None else dict(json.loads(_text(options))),
        )
    if config is None:
        return Record()
    from r2b_zoo.weights.cards import CARDS  # imports this module through weights.loading

    config = config["config"]
    layers = {layer["config"].get("name"): layer["config"] for layer in config["layers"]}
    shapes = [layer["batch_input_shape"] for layer in layers.values() if "batch_input_shape" in layer]
    of_image: Any = shapes[0][1:3] if shapes and len(shapes[0]) == 4 else (None, None)
    return Record(
        config["name"] if config["name"] in CARDS else None,
        _precision(layers.get("block1a_conv", {})),
        None if None in of_image else (int(of_image[0]), int(of_image[1])),
        {},
    )


def _precision(convolution: Mapping[str, Any]) -> Optional[str]:
    """A network's precision, from the configuration of its first quantised convolution; None if it has no quantiser."""
    if convolution.get("kernel_quantizer"):
        return "binary"
    quantizer = convolution.get("input_quantizer")
    if not quantizer:
        return None
    return "real" if "tanh" in str(quantizer) else "binary_activations"


def _strings(group: "h5py.Group", attribute: str) -> list[str]:
    values = _attribute(group, attribute)
    return [_text(value) for value in np.ravel(values).tolist()]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _attribute(group: Any, name: str) -> Any:
    """The value of an attribute, or None if there is no such attribute. Its declared size is checked before reading."""
    if name not in group.attrs:
        return None
    declared = group.attrs.get_id(name)
    if declared.shape is None or math.prod(declared.shape) * declared.dtype.itemsize > _MOST_BYTES_OF_ATTRIBUTE:
        raise KeyError(name)
    return group.attrs[name]
