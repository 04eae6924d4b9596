"""Weights files that are damaged, malicious, or written in Keras' newer formats."""

import re
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo import weights
from r2b_zoo.models.layers import ChannelGate
from r2b_zoo.weights.file import Record, WeightsFile, content
from tests.networks import randomize
from tests.small import SHALLOW, SMALL, shallow, small_network
from tests.test_weights import unchanged, write

# Files are read and checked layer by layer, so a shallow network is enough.
pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def network():
    return randomize(small_network("RealToBinaryNet", "binary", SHALLOW))


@pytest.fixture
def written(network, tmp_path):
    path = tmp_path / "weights.h5"
    weights.save(network, path)
    return path


def kernel(file):
    return file["stem_conv"][file["stem_conv"].attrs["weight_names"][0]]


# --- altered ----------------------------------------------------------------------------------------------------------


def small_layers(rng):
    dense, gate = tf.keras.layers.Dense(3, name="logits"), ChannelGate(2, name="block1a_gate")
    dense(np.zeros((1, 4), np.float32))
    gate([np.zeros((1, 1, 1, 4), np.float32), np.zeros((1, 1, 1, 2), np.float32)])
    for layer in (dense, gate):
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return [dense, tf.keras.layers.ReLU(name="relu"), gate]


def test_no_flipped_bit_changes_what_is_read(tmp_path, rng):
    data = content(small_layers(rng), Record("RealToBinaryNet", "binary", (32, 32)))
    path = tmp_path / "weights.h5"
    path.write_bytes(data)
    with WeightsFile(path) as file:
        before, record = file.arrays(), file.record
    refused = 0
    for position in range(0, len(data), 37):
        altered = bytearray(data)
        altered[position] ^= 1 << position % 8
        path.write_bytes(altered)
        try:
            with WeightsFile(path) as file:
                arrays, found = file.arrays(), file.record
        except ValueError as error:
            refused += bool(re.search(r"weights\.h5 (cannot be read|is damaged|holds|refers|keeps)", str(error)))
            continue
        assert found == record
        assert arrays.keys() == before.keys()
        for name, values in arrays.items():
            assert [value.tobytes() for value in values] == [value.tobytes() for value in before[name]]
    assert refused > 15


def test_an_altered_weight_is_found_when_a_network_is_loaded(network, written):
    with h5py.File(written, "r+") as file:
        values = kernel(file)[()]
        values.flat[7] = np.nextafter(values.flat[7], np.float32(9))
        kernel(file)[...] = values
    message = (
        r"weights\.h5 is damaged: its values are not those that were written into it \(their SHA-256 is [0-9a-f]{64}"
    )
    with unchanged(network), pytest.raises(ValueError, match=message):
        weights.load(network, written)


@pytest.mark.parametrize("name", ["r2b_zoo_network", "r2b_zoo_precision"])
def test_an_altered_record_is_found(network, written, name):
    with h5py.File(written, "r+") as file:
        file.attrs[name] = {"r2b_zoo_network": "RealToBinaryNet ", "r2b_zoo_precision": "real"}[name]
    with WeightsFile(written) as file, pytest.raises(ValueError, match="is damaged: its values are not those that"):
        file.arrays()


def test_older_files_without_a_checksum_load(network, written):
    with h5py.File(written, "r+") as file:
        del file.attrs["r2b_zoo_sha256"]
    weights.load(network, written)


# --- malicious --------------------------------------------------------------------------------------------------------


def linked(link):
    def alter(file, tmp_path):
        group = file["stem_conv"]
        (name,) = group.attrs["weight_names"]
        del group[name]
        group[name] = link(tmp_path)

    return alter


def stored_outside(file, tmp_path):
    group = file["stem_conv"]
    (name,) = group.attrs["weight_names"]
    shape = group[name].shape
    del group[name]
    group.create_dataset(name, shape, "f4", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])


def put_together_from_outside(file, tmp_path):
    group = file["stem_conv"]
    (name,) = group.attrs["weight_names"]
    shape = group[name].shape
    del group[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "kernel", shape)
    group.create_virtual_dataset(name, layout)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (linked(lambda folder: h5py.ExternalLink(str(folder / "other.h5"), "kernel")), r"refers to another place or"),
        (linked(lambda folder: h5py.SoftLink("/logits/logits/bias:0")), r"refers to another place or file by a link"),
        (linked(lambda folder: h5py.SoftLink("/nowhere")), r"refers to another place or file by a link at 'stem_conv/"),
        (stored_outside, r"keeps the arrays of layer 'stem_conv' in another file: a weights file must hold its arrays"),
        (put_together_from_outside, r"keeps the arrays of layer 'stem_conv' in another file"),
    ],
    ids=["external link", "soft link", "dangling link", "external storage", "virtual"],
)
def test_a_file_that_reads_another_place_is_refused(network, written, tmp_path, alter, message):
    with h5py.File(written, "r+") as file:
        shape = kernel(file).shape
        alter(file, tmp_path)
    (tmp_path / "secret").write_bytes(bytes(100_000))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.zeros(shape, np.float32)
    with unchanged(network), pytest.raises(ValueError, match=message):
        weights.load(network, written)
    with pytest.raises(ValueError, match=message):
        weights.architecture(written)


def test_a_layer_behind_a_link_is_refused(network, written):
    with h5py.File(written, "r+") as file:
        file.move("stem_conv", "elsewhere")
        file["stem_conv"] = h5py.SoftLink("/elsewhere")
    with pytest.raises(ValueError, match=r"refers to another place or file by a link at 'stem_conv'"):
        weights.load(network, written)


@pytest.mark.parametrize("use", [weights.architecture, weights.read])
def test_a_small_file_that_declares_64_gib_is_refused(written, use):
    with h5py.File(written, "r+") as file:
        group = file["stem_conv"]
        (name,) = group.attrs["weight_names"]
        del group[name]
        group.create_dataset(name, (1 << 17, 1 << 17), "f4", chunks=(1 << 10, 1 << 10))
    message = r"weights\.h5 is damaged: a file of [\d,]+ bytes cannot hold arrays of 68,7[\d,]+ bytes, as it declares"
    with pytest.raises(ValueError, match=message):
        use(written)


def test_shapes_are_compared_before_anything_is_read(network, written, monkeypatch):
    with h5py.File(written, "r+") as file:
        group = file["stem_conv"]
        (name,) = group.attrs["weight_names"]
        del group[name]
        group.create_dataset(name, (3, 3, 3, 17), "f4")
    monkeypatch.setattr(WeightsFile, "arrays", lambda self: pytest.fail("reads"))
    with pytest.raises(
        ValueError, match=r"another architecture .*: layer 'stem_conv' has shapes \[\(3, 3, 3, 16\)\] in"
    ):
        weights.load(network, written)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool", "complex64", "S4"])
def test_only_floating_point_numbers_are_weights(network, tmp_path, dtype):
    arrays = {layer.name: layer.get_weights() for layer in network.layers}
    arrays["block1a_conv"] = [np.ones(arrays["block1a_conv"][0].shape).astype(dtype)]
    write(tmp_path / "weights.h5", arrays)
    message = r"weights\.h5 holds \S+ numbers in layer 'block1a_conv'; weights must be float16, float32 or float64"
    with unchanged(network), pytest.raises(ValueError, match=message):
        weights.load(network, tmp_path / "weights.h5")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39], ids=str)
def test_weights_must_be_finite(network, tmp_path, value):
    arrays = {layer.name: layer.get_weights() for layer in network.layers}
    arrays["logits"][1] = arrays["logits"][1].astype("float64")
    arrays["logits"][1][3] = value
    write(tmp_path / "weights.h5", arrays)
    message = r"holds values that are not finite in float32 \(NaN or infinite\) in layer 'logits'; all weights must"
    with unchanged(network), pytest.raises(ValueError, match=message):
        weights.load(network, tmp_path / "weights.h5")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_weights_in_float16_and_float64_load(network, tmp_path, dtype):
    arrays = {layer.name: [value.astype(dtype) for value in layer.get_weights()] for layer in network.layers}
    write(tmp_path / "weights.h5", arrays)
    weights.load(network, tmp_path / "weights.h5")
    np.testing.assert_array_equal(network.get_layer("logits").get_weights()[1], arrays["logits"][1].astype("float32"))


# --- Keras' newer files -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def without_top():
    with shallow():
        return r2b_zoo.RealToBinaryNet(**SMALL, include_top=False)


@pytest.mark.parametrize(
    ("file", "save"),
    [("network.weights.h5", tf.keras.Model.save_weights), ("network.keras", tf.keras.Model.save)],
    ids=["weights.h5", "keras"],
)
def test_keras_newer_files_load(network, without_top, tmp_path, file, save):
    path = tmp_path / file
    save(network, path)
    saved = network.get_weights()
    weights.load(randomize(network, seed=1), path)
    for found, expected in zip(network.get_weights(), saved, strict=True):
        np.testing.assert_array_equal(found, expected)
    weights.load(without_top, path)
    for found, expected in zip(without_top.get_weights(), saved[:-2], strict=True):
        np.testing.assert_array_equal(found, expected)
    known = weights.architecture(path)
    told = (
        known["network"],
        known["precision"],
        known["width"],
        known["num_classes"],
        known["channels"],
        known["stem"],
    )
    assert told == ("RealToBinaryNet", "binary", 16, 10, 3, "cifar")
    assert known["size"] == ((32, 32) if file.endswith(".keras") else None)
    other = small_network("BiRealNet18", "real", SHALLOW)
    with unchanged(other), pytest.raises(ValueError, match=r"are for another architecture than BiRealNet18: layer '"):
        weights.load(other, path)


def test_network_and_precision_are_read_from_a_keras_file(tmp_path):
    small_network("BiRealNet18", "real", SHALLOW).save(tmp_path / "network.keras")
    known = weights.architecture(tmp_path / "network.keras")
    assert (known["network"], known["precision"]) == ("BiRealNet18", "real")


def test_keras_files_that_are_truncated_or_declare_too_much_are_refused(network, tmp_path):
    path = tmp_path / "network.keras"
    network.save(path)
    whole = path.read_bytes()
    for keep in (0.5, 0.999):
        path.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ValueError, match=r"network\.keras cannot be read \(truncated, altered or another format"):
            weights.load(network, path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10_000_000))
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"network\.keras is damaged: its members declare more than [\d,]+ bytes"):
        weights.load(network, path)


# --- layers before and after the network ------------------------------------------------------------------------------


def test_a_normalization_before_the_network_keeps_its_weights(network, written, tmp_path):
    image = tf.keras.Input((32, 32, 3))
    layer = tf.keras.layers.Normalization(mean=None, name="normalization")
    layer.build((None, 32, 32, 3))
    tensor = layer(image)
    layer.set_weights([np.full(3, 2.0), np.ones(3), np.array(9)])
    arguments = {name: value for name, value in SMALL.items() if name != "input_shape"}
    model = r2b_zoo.RealToBinaryNet(**arguments, input_tensor=tensor, weights=written)

    def check(mean):
        np.testing.assert_array_equal(layer.get_weights()[0], np.full(3, mean))
        for ours, expected in zip(model.get_weights()[3:], network.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, expected)

    check(2.0)
    # In the first file, Keras numbers only the layers of the network. In the second, it numbers all layers of the
    # model, and stores the weights of the normalization too.
    network.save_weights(tmp_path / "network.weights.h5")
    model.save(tmp_path / "whole.keras")
    for name, mean in (("network.weights.h5", 5.0), ("whole.keras", 2.0)):
        layer.set_weights([np.full(3, 5.0), np.ones(3), np.array(9)])
        weights.load(model, tmp_path / name, outside=[layer])
        check(mean)


def test_the_error_for_another_number_of_classes_says_what_to_do(network, tmp_path):
    arrays = {layer.name: layer.get_weights() for layer in network.layers}
    arrays["logits"] = [np.zeros((32, 5), "float32"), np.zeros(5, "float32")]
    write(tmp_path / "five.h5", arrays)
    message = (
        r"layer 'logits' has shapes \[\(32, 10\), \(10,\)\] in the network and has shapes \[\(32, 5\), \(5,\)\] in "
        r"the file\. To load everything except the classifier, build the network with include_top=False, or train a "
        r"new classifier: r2b train recipe=finetune weights=FILE data\.dir=PHOTOS\."
    )
    with unchanged(network), pytest.raises(ValueError, match=message):
        weights.load(network, tmp_path / "five.h5")
