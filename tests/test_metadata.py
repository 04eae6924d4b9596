"""A .tflite contains labels and preprocessing, which ZIP programs and readers of the official schema can read."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import number_types
from flatbuffers.table import Table
from tensorflow.lite.python import schema_py_generated as schema

from r2b_zoo.conversion import metadata
from r2b_zoo.conversion.converter import convert
from r2b_zoo.conversion.tflite_engine import run_tflite
from r2b_zoo.data.preprocessing import Preprocessing
from r2b_zoo.evaluation.accuracy import predict_keras
from r2b_zoo.evaluation.verification import verify
from tests.converted import converted, images
from tests.small import SHALLOW

LABELS = ("cat", "dog, brown", "Löwe")
PREPROCESSING = Preprocessing(
    height=6, width=5, channels=3, crop_fraction=0.875, mean=(123.5, 116.25, 103.5), std=(58.5, 57.25, 57.5)
)
GREY = Preprocessing(height=6, width=5, channels=1, crop_fraction=1.0, mean=(33.0,), std=(78.0,))


def plain(channels: int = 3) -> bytes:
    """A model of three classes without metadata."""
    tf.keras.utils.set_random_seed(5)
    model = tf.keras.Sequential(
        [tf.keras.Input((6, 5, channels)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(3, "softmax")]
    )
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


@pytest.fixture(scope="module")
def bare() -> bytes:
    return plain()


@pytest.fixture(scope="module")
def full(bare: bytes) -> bytes:
    return metadata.write(bare, name="Net", description="Große Katzen", labels=LABELS, preprocessing=PREPROCESSING)


class Walk:
    """Reads a FlatBuffers table by the field numbers of metadata_schema.fbs, independently of the code under test."""

    def __init__(self, data: bytes, position: int) -> None:
        self.table = Table(data, position)

    def _at(self, field: int) -> int:
        offset = self.table.Offset(4 + 2 * field)
        assert offset, f"field {field} is absent"
        return int(offset)

    def text(self, field: int) -> str:
        return str(self.table.String(self._at(field) + self.table.Pos), "utf-8")

    def number(self, field: int, flags: Any) -> int:
        return int(self.table.Get(flags, self._at(field) + self.table.Pos))

    def child(self, field: int) -> "Walk":
        return Walk(self.table.Bytes, self.table.Indirect(self._at(field) + self.table.Pos))

    def item(self, field: int, index: int = 0) -> "Walk":
        return Walk(self.table.Bytes, self.table.Indirect(self.table.Vector(self._at(field)) + 4 * index))

    def floats(self, field: int) -> list[float]:
        return [float(x) for x in self.table.GetVectorAsNumpy(number_types.Float32Flags, self._at(field))]


def model_metadata(tflite: bytes) -> Walk:
    model = schema.Model.GetRootAs(tflite)
    entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    data = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return Walk(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))


def test_what_is_written_is_read(full: bytes) -> None:
    assert metadata.read(full) == metadata.Metadata("Net", "Große Katzen", LABELS, PREPROCESSING)


def test_labels_and_preprocessing_are_optional(bare: bytes) -> None:
    written = metadata.write(bare, name="Net", description="")
    assert metadata.read(written) == metadata.Metadata("Net", "", None, None)
    written = metadata.write(bare, name="Net", description="", labels=LABELS)
    assert metadata.read(written) == metadata.Metadata("Net", "", LABELS, None)


def test_fields_have_the_numbers_of_the_official_schema(full: bytes) -> None:
    root = model_metadata(full)
    assert (root.text(0), root.text(1), root.text(7)) == ("Net", "Große Katzen", "1.0.0")
    image, probabilities = root.item(3).item(2), root.item(3).item(3)
    assert image.text(0) == "image"
    content = image.child(3)
    assert content.number(0, number_types.Uint8Flags) == 2, "ImageProperties"
    assert content.child(1).number(0, number_types.Int8Flags) == 1, "RGB"
    size = content.child(1).child(1)
    assert [size.number(i, number_types.Uint32Flags) for i in (0, 1)] == [5, 6], "width, height"
    unit = image.item(4)
    assert unit.number(0, number_types.Uint8Flags) == 1, "NormalizationOptions"
    assert unit.child(1).floats(0) == list(PREPROCESSING.mean)
    assert unit.child(1).floats(1) == list(PREPROCESSING.std)
    assert probabilities.text(0) == "probabilities"
    assert probabilities.item(6).text(0) == "labels.txt"
    assert probabilities.item(6).number(2, number_types.Int8Flags) == 2, "TENSOR_AXIS_LABELS"
    assert root.item(6).text(0) == "preprocessing.json"


def test_a_grey_input_is_called_grey() -> None:
    written = metadata.write(plain(channels=1), name="Net", description="", preprocessing=GREY)
    content = model_metadata(written).item(3).item(2).child(3)
    assert content.child(1).number(0, number_types.Int8Flags) == 2
    assert metadata.read(written).preprocessing == GREY


def test_zipfile_opens_the_attached_files(full: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(full)) as archive:
        assert archive.testzip() is None
        assert {info.filename: info.compress_type for info in archive.infolist()} == {
            "labels.txt": zipfile.ZIP_STORED,
            "preprocessing.json": zipfile.ZIP_STORED,
        }
        assert archive.read("labels.txt").decode() == "cat\ndog, brown\nLöwe"
        fields = json.loads(archive.read("preprocessing.json"))
    assert fields.pop("format") == 1
    assert fields.pop("resize").startswith("bicubic, TensorFlow 1 (align_corners=False, half_pixel_centers=False")
    assert Preprocessing.from_dict(fields) == PREPROCESSING


def test_the_model_is_unchanged(bare: bytes, full: bytes) -> None:
    batch = np.random.default_rng(0).normal(size=(4, 6, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(run_tflite(full, batch), run_tflite(bare, batch))
    assert full[4:8] == b"TFL3"
    before, after = (schema.Model.GetRootAs(tflite).SignatureDefs(0) for tflite in (bare, full))
    assert after.SignatureKey() == before.SignatureKey() == b"serving_default"
    assert after.Inputs(0).Name() == before.Inputs(0).Name()


def test_a_binary_network_still_runs() -> None:
    _, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    again = metadata.write(conversion.tflite, name="again", description="", labels=list("abcdefghij"))
    np.testing.assert_array_equal(run_tflite(again, images(4)), run_tflite(conversion.tflite, images(4)))


def test_constants_stay_aligned() -> None:
    _, conversion = converted("RealToBinaryNet", "binary")
    start = np.frombuffer(conversion.tflite, np.uint8).ctypes.data
    model = schema.Model.GetRootAs(conversion.tflite)
    constants = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    offsets = [data.ctypes.data - start for data in constants if isinstance(data, np.ndarray) and data.size]
    assert len(offsets) > 100
    assert {offset % 16 for offset in offsets} == {0}


def test_writing_again_replaces_all_metadata(full: bytes) -> None:
    again = metadata.write(full, name="Other", description="", labels=("a", "b", "c"))
    assert metadata.read(again) == metadata.Metadata("Other", "", ("a", "b", "c"), None)
    assert schema.Model.GetRootAs(again).BuffersLength() == schema.Model.GetRootAs(full).BuffersLength()
    with zipfile.ZipFile(io.BytesIO(again)) as archive:
        assert archive.namelist() == ["labels.txt"]


def test_the_same_input_gives_the_same_bytes(bare: bytes, full: bytes) -> None:
    assert full == metadata.write(
        bare, name="Net", description="Große Katzen", labels=LABELS, preprocessing=PREPROCESSING
    )


def test_convert_writes_metadata() -> None:
    model = tf.keras.Sequential([tf.keras.Input((6, 5, 3)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(3)])
    conversion = convert(model, labels=LABELS, preprocessing=PREPROCESSING, description="three animals")
    assert metadata.read(conversion.tflite) == metadata.Metadata(model.name, "three animals", LABELS, PREPROCESSING)
    assert sum(row.bytes for row in conversion.layers) == len(conversion.tflite)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("cat", "dog"), r"one label per output of the model \(3\); received 2 labels"),
        ("cat", r"one label per output of the model \(3\); received the single text 'cat'"),
        (("cat", "dog\nwolf", "lion"), r"must be one line of text.*received 'dog\\nwolf' for output 1"),
        (("cat", "dog", ""), "must be one line of text.*received '' for output 2"),
        (("cat", "dog\u2028", "lion"), "must be one line of text.*for output 1"),
        (("cat", 7, "lion"), "must be one line of text.*received 7 for output 1"),
    ],
)
def test_labels_that_do_not_fit(bare: bytes, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metadata.write(bare, name="Net", description="", labels=labels)


def test_preprocessing_that_does_not_fit(bare: bytes) -> None:
    with pytest.raises(ValueError, match=r"images of shape \(7, 5, 3\), but the file takes \(6, 5, 3\)"):
        metadata.write(bare, name="Net", description="", preprocessing=replace(PREPROCESSING, height=7))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: b"PNG" * 9, "A .tflite has b'TFL3' at byte 4"),
        (lambda _: b"", "A .tflite has b'TFL3' at byte 4"),
        (lambda full: full[:-10], "truncated: its metadata mentions 'labels.txt'"),
        (lambda full: full[: len(full) // 3], "truncated"),
        (lambda full: full[:40], "truncated"),
        (lambda full: full.replace(b"M001", b"M999"), "metadata has b'M001' at byte 4; received b'M999'"),
        (
            lambda full: full.replace(b'"format": 1', b'"format": 2'),
            r"altered: preprocessing\.json inside it is damaged: Bad CRC",
        ),
    ],
)
def test_files_that_cannot_be_read(full: bytes, damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metadata.read(damage(full))


def test_a_file_without_metadata_says_how_to_get_it() -> None:
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
    tflite = bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    with pytest.raises(ValueError, match=r"carries no metadata.*convert the model with r2b_zoo.convert"):
        metadata.read(tflite)


def test_a_newer_preprocessing_is_refused(bare: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(metadata, "PREPROCESSING_FORMAT", 2)
        written = metadata.write(bare, name="Net", description="", preprocessing=PREPROCESSING)
    with pytest.raises(ValueError, match=r"has format 2 .*knows format 1 .*Install a newer"):
        metadata.read(written)


# --- hostile and damaged files ----------------------------------------------------------------------------------------


def archived(full: bytes, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The model with ``files`` attached too; a file replaces an attached file of the same name."""
    with zipfile.ZipFile(io.BytesIO(full)) as archive:
        present = {name: archive.read(name) for name in archive.namelist()}
        start = min(info.header_offset for info in archive.infolist())
    stream = io.BytesIO(full[:start])
    with zipfile.ZipFile(stream, "a", method) as archive:
        for name, content in {**present, **files}.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_labels_may_have_a_byte_order_mark_or_windows_line_ends(full: bytes) -> None:
    for text in ("\ufeffcat\ndog, brown\nLöwe", "cat\r\ndog, brown\r\nLöwe\r\n"):
        assert metadata.read(archived(full, {"labels.txt": text.encode()})).labels == LABELS


def test_damage_in_an_unknown_attached_file_is_ignored(full: bytes) -> None:
    altered = archived(full, {"other": b"\0" * 99}, zipfile.ZIP_STORED)
    at = altered.index(b"\0" * 99)
    assert metadata.read(altered[:at] + b"X" + altered[at + 1 :]) == metadata.read(full)


@pytest.mark.parametrize(
    ("files", "method", "message"),
    [
        (
            {"labels.txt": b"a" * ((1 << 24) + 1)},
            zipfile.ZIP_DEFLATED,
            r"labels\.txt inside it has 16,777,217 byt",
        ),
        ({"labels.txt": b"a"}, zipfile.ZIP_BZIP2, r"labels\.txt inside it is compressed by method 12; known are 0 "),
        ({"preprocessing.json": b"\xff"}, zipfile.ZIP_STORED, r"preprocessing\.json inside it is not UTF-8 text"),
        ({"labels.txt": b"a\nb"}, zipfile.ZIP_STORED, r"one label per output of the model \(3\); received 2 labels"),
        (
            {"labels.txt": b"a\n" * 20},
            zipfile.ZIP_STORED,
            r"one label per output of the model .*received 20 labels",
        ),
        ({"preprocessing.json": b"{"}, zipfile.ZIP_STORED, r"preprocessing\.json inside the \.tflite is damaged: "),
        ({"preprocessing.json": b"[]"}, zipfile.ZIP_STORED, r"preprocessing\.json inside the \.tflite is damaged: "),
        ({"preprocessing.json": b"[" * 99_999}, zipfile.ZIP_STORED, r"preprocessing\.json inside .* is damaged: "),
    ],
)
def test_unusable_attached_files_are_refused(full: bytes, files: dict[str, bytes], method: int, message: str) -> None:
    data = archived(full, files, method)
    assert len(data) < len(full) + 200_000
    with pytest.raises(ValueError, match=message):
        metadata.read(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": [float("nan")] * 3}, r"mean and std must be finite in float32 and std not 0; received mean=\(nan"),
        ({"std": [1.0, 0.0, 1.0]}, r"std not 0; received .*std=\(1\.0, 0\.0, 1\.0\)"),
        ({"std": "111"}, r"mean and std must be lists of numbers; received '111'"),
        ({"height": 7}, r"images of shape \(7, 5, 3\), but the file takes \(6, 5, 3\)"),
        ({"crop_fraction": float("nan")}, r"crop_fraction must be in \(0, 1\]; received nan"),
        ({"mean": None}, r"lists of numbers; received None"),
        ({"gamma": 2}, r"unexpected keyword argument 'gamma'"),
    ],
)
def test_invalid_preprocessing_in_a_file_is_refused(full: bytes, changes: dict[str, Any], message: str) -> None:
    with zipfile.ZipFile(io.BytesIO(full)) as archive:
        fields = json.loads(archive.read("preprocessing.json"))
    data = archived(full, {"preprocessing.json": json.dumps({**fields, **changes}).encode()})
    with pytest.raises(ValueError, match=message):
        metadata.read(data)


def test_damaged_files_give_one_kind_of_error(full: bytes) -> None:
    rng, refused = np.random.default_rng(6), 0
    whole = archived(full, {})
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(8, len(data))] = rng.integers(256)
        try:
            metadata.read(bytes(data[: rng.integers(len(data))] if rng.random() < 0.2 else data))
        except ValueError:
            refused += 1
    assert refused > 50


def test_an_input_of_whole_numbers_takes_no_normalisation() -> None:
    image = tf.keras.Input((6, 5, 3), dtype="uint8")
    model = tf.keras.Model(
        image, tf.keras.layers.Dense(3, "softmax")(tf.keras.layers.Flatten()(tf.cast(image, "float32") / 255))
    )
    with pytest.raises(
        ValueError, match=r"input of the file is uint8 without a scale, so pixel values are passed unchang"
    ):
        convert(model, labels=LABELS, preprocessing=PREPROCESSING)
    plainly = replace(PREPROCESSING, mean=(0.0,) * 3, std=(1.0,) * 3)
    conversion = convert(model, labels=LABELS, preprocessing=plainly)
    photographs = np.random.default_rng(2).integers(0, 256, (5, 40, 50, 3), dtype=np.uint8)
    prepared = np.stack([plainly(photograph) for photograph in photographs])
    assert prepared.min() < 0
    assert prepared.max() > 255
    assert prepared.dtype == np.float32
    for engine in ("runtime", "lce"):
        assert verify(model, conversion.tflite, prepared, engine=engine).largest_difference < 1e-5
    expected = model(np.clip(np.rint(prepared), 0, 255).astype(np.uint8)).numpy()
    np.testing.assert_allclose(run_tflite(conversion.tflite, prepared), expected, atol=1e-5)
    np.testing.assert_allclose(predict_keras(model, prepared), expected, atol=1e-5)
