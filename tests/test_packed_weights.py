"""Packed weights: networks compute the same from them, and damaged or malicious files are refused."""

import io
import json
import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo import weights
from r2b_zoo.models.layers import QuantConv2D
from r2b_zoo.weights.file import Record, WeightsFile
from r2b_zoo.weights.packed import PackedWeights, content, opened
from tests.networks import randomize
from tests.small import SMALL
from tests.test_weights import unchanged

CARD = {"class_names": ["a", "b"], "preprocessing": {}}


def pack(network, path):
    path.write_bytes(content(network.layers, weights.record_of(network), CARD))
    return path


# --- what a network computes ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RealToBinaryNet", {"weight_scale": "mean", "gate_reduction": 4}),
        ("RealToBinaryNet", {"weight_scale": "none", "downsample": "binary"}),
        ("RealToBinaryNet", {"weight_scale": "learned"}),
        ("XNORNet18", {}),
    ],
)
def test_a_network_computes_the_same_from_bits_and_scales(tmp_path, name, options, rng):
    """Weights of layers other than QuantConv2D are rounded to float16 first, so that packing does not change them."""
    network = randomize(r2b_zoo.create(name, **SMALL, **options))
    for layer in network.layers:
        if not isinstance(layer, QuantConv2D):
            layer.set_weights([value.astype(np.float16) for value in layer.get_weights()])
    path = pack(network, tmp_path / "packed.zip")
    assert path.stat().st_size < sum(w.numpy().nbytes for w in network.weights) / 4
    again = r2b_zoo.create(name, **SMALL, **options, weights=path)
    for layer in network.layers:
        twin = again.get_layer(layer.name)
        for value, unpacked in zip(layer.weights, twin.weights, strict=True):
            if getattr(layer, "kernel_quantizer", None) is None:
                np.testing.assert_array_equal(value, unpacked)
                continue
            np.testing.assert_array_equal(value.numpy() < 0, unpacked.numpy() < 0)
            before, after = (layer.kernel_quantizer(tf.convert_to_tensor(one)) for one in (value, unpacked))
            np.testing.assert_allclose(after, before, rtol=3e-6)
    images = rng.normal(size=(8, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(again(images), network(images), rtol=1e-3, atol=1e-5)
    found = weights.architecture(path)
    assert (found["network"], found["width"], found["size"], found["num_classes"]) == (name, 16, (32, 32), 10)
    assert options.items() <= found["options"].items()
    assert weights.read(path)["stem_conv"][0].dtype == np.float16


@pytest.mark.usefixtures("shallow")
def test_packing_again_changes_nothing(tmp_path):
    path = pack(randomize(r2b_zoo.RealToBinaryNet(**SMALL, weight_scale="mean")), tmp_path / "packed.zip")
    again = r2b_zoo.RealToBinaryNet(**SMALL, weight_scale="mean", weights=path)
    assert pack(again, tmp_path / "again.zip").read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("shallow")
def test_weights_that_cannot_be_packed():
    network = r2b_zoo.ResNet18(**SMALL)
    with pytest.raises(
        ValueError, match=r"a network with binary kernels can be packed, and this one has none: save it"
    ):
        content(network.layers, weights.record_of(network), CARD)
    network = r2b_zoo.RealToBinaryNet(**SMALL)
    network.get_layer("logits").bias.assign(np.full(10, 7e4, np.float32))
    with pytest.raises(ValueError, match=r"finite float16 numbers, up to 65,504; logits/bias:0 has 70000\. Write"):
        content(network.layers, weights.record_of(network), CARD)


# --- damaged ----------------------------------------------------------------------------------------------------------


def small_layers(rng):
    convolution = QuantConv2D(4, 3, kernel_quantizer="ste_sign", use_bias=False, name="block1a_conv")
    dense = tf.keras.layers.Dense(3, name="logits")
    convolution(np.zeros((1, 4, 4, 2), np.float32))
    dense(np.zeros((1, 4), np.float32))
    for layer in (convolution, dense):
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return [convolution, dense]


@pytest.fixture
def data(rng):
    return content(small_layers(rng), Record("RealToBinaryNet", "binary", (32, 32), {}), CARD)


REFUSED = r"weights\.zip (cannot be read|is damaged|is a file of packed weights of format)"


def test_a_flipped_bit_in_any_byte_changes_nothing_that_is_read(tmp_path, data):
    path = tmp_path / "weights.zip"
    path.write_bytes(data)
    before = PackedWeights(path)
    refused = 0
    for position in range(len(data)):
        altered = bytearray(data)
        altered[position] ^= 1 << position % 8
        path.write_bytes(altered)
        try:
            with opened(path) as file:
                arrays = file.arrays()
        except ValueError as error:
            refused += bool(re.search(REFUSED, str(error)))
            continue
        assert (file.record, file.card) == (before.record, before.card)
        for name, values in before.arrays().items():
            assert [value.tobytes() for value in values] == [value.tobytes() for value in arrays[name]]
    assert refused > len(data) / 2


def test_no_truncated_file_is_read(tmp_path, data):
    path = tmp_path / "weights.zip"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"weights\.zip cannot be read \(truncated"), opened(path):
            pass


@pytest.mark.usefixtures("shallow")
def test_a_damaged_file_leaves_a_network_alone(tmp_path):
    network = r2b_zoo.RealToBinaryNet(**SMALL)
    path = pack(network, tmp_path / "weights.zip")
    path.write_bytes(path.read_bytes()[:-100])
    with (
        unchanged(network),
        pytest.raises(ValueError, match=r"cannot be read \(truncated or altered\?\): take an"),
    ):
        weights.load(network, path)


def rewritten(data, path, *, record=None, compression=zipfile.ZIP_STORED, **members):
    """Writes a packed file with changes, and with the SHA-256 of its new content; returns its path.

    Args:
        data: the file before the changes.
        path: where to write the new file.
        record: fields that replace those of record.json.
        compression: compression method of the ZIP members.
        members: new bytes of the other members, by name.
    """
    from r2b_zoo.weights.packed import _MEMBERS, _digest

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name: archive.read(name) for name in _MEMBERS} | members
    told = json.loads(contents["record.json"]) | (record or {})
    told.pop("sha256")
    told["sha256"] = _digest(told, [contents[name] for name in _MEMBERS[1:]])
    contents["record.json"] = json.dumps(told).encode()
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in contents.items():
            archive.writestr(name, value)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"record": {"format": 2}},
            r"of format 2, and this version of r2b_zoo knows format 1: install a newer",
        ),
        ({"values": b"\0\0"}, r"is damaged: its record describes arrays of other sizes than the file holds"),
        ({"record": {"layers": [["logits", [[[1 << 60], True]]]]}}, "is damaged: its record describes arrays of other"),
        ({"record": {"layers": [["logits", [[[-4, 3], False]]]]}}, r"cannot be read \(truncated or altered\?\)"),
        ({"record": {"layers": [["logits", [[[], True]]]]}}, r"cannot be read \(truncated or altered\?\)"),
        ({"record": {"layers": 3}}, r"cannot be read \(truncated or altered\?\)"),
        ({"record": {"card": {}}}, r"cannot be read \(truncated or altered\?\)"),
        ({"record": {"card": {"class_names": [1], "preprocessing": {}}}}, r"cannot be read \(truncated or altered\?\)"),
        # Compressed, these 16 MiB of zeros take only 16 kilobytes.
        ({"values": bytes(1 << 24), "compression": zipfile.ZIP_DEFLATED}, r"cannot be read \(truncated or altered\?\)"),
    ],
)
def test_newer_or_inconsistent_packed_files_are_refused(tmp_path, data, changes, message):
    path = rewritten(data, tmp_path / "weights.zip", **changes)
    with pytest.raises(ValueError, match=message):
        opened(path)


def test_the_hash_is_that_of_the_content(tmp_path, data):
    path = tmp_path / "weights.zip"
    path.write_bytes(data)
    rewritten(data, tmp_path / "same.zip")
    assert PackedWeights(tmp_path / "same.zip").sha256 == PackedWeights(path).sha256
    rewritten(data, tmp_path / "other.zip", record={"network": "BNN18"})
    assert PackedWeights(tmp_path / "other.zip").sha256 != PackedWeights(path).sha256


def test_packed_weights_that_are_not_finite_are_refused(tmp_path, data):
    values = np.full(15, np.nan, np.float16).tobytes()
    file = PackedWeights(rewritten(data, tmp_path / "weights.zip", values=values))
    with pytest.raises(ValueError, match=r"not finite numbers \(NaN or infinite\) in layer 'logits'; all weights must"):
        file.arrays()


def test_keras_files_are_opened_as_weights_files(tmp_path, rng):
    network = tf.keras.Sequential(small_layers(rng)[1:])
    network.build((None, 4))
    network.save(tmp_path / "network.keras")
    network.save_weights(tmp_path / "network.h5")
    for name in ("network.keras", "network.h5"):
        with opened(tmp_path / name) as file:
            assert isinstance(file, WeightsFile)
            assert file.card is None
