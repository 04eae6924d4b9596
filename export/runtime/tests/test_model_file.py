"""Tests what the package reads from a model file without an interpreter."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import lce_model
import small_classifier
from flatbuffers import flexbuffers
from r2b_runtime import model_file
from r2b_runtime.flatbuffer import flexbuffer_integers


def test_reads_operators_and_tensors():
    model = model_file.read(small_classifier.model())
    assert [operator.name for operator in model.operators] == [
        "LceQuantize",
        "LceBconv2d",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert [operator.binary for operator in model.operators] == [True, True, False, False, False]
    assert [(tensor.shape, tensor.dtype) for tensor in model.inputs] == [((1, 8, 8, 1), "float32")]
    assert [(tensor.shape, tensor.dtype) for tensor in model.outputs] == [((1, 3), "float32")]
    assert [operator.macs for operator in model.operators] == [0, 8 * 8 * 32 * 3 * 3 * 1, 0, 3 * 32, 0]
    assert model.operators[1].options["channels_in"] == 1
    assert model.operators[1].inputs[1].bytes == 32 * 3 * 3 * 4
    assert model.operators[1].inputs[4] is None


def test_an_operator_without_an_output_counts_no_multiplications():
    """In a damaged file, an operator's output may be -1, which stands for an absent tensor."""
    image, kernel = model_file.Tensor("x", (1, 4, 4, 2), "float32", 0), model_file.Tensor("w", (3, 2), "float32", 24)
    for name in ("CONV_2D", "LceBconv2d", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        assert model_file.Operator(name, (image, kernel, image), (None,), {}).macs == 0


def test_names_of_operators_and_types_match_the_schema():
    schema = lce_model.schema
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    assert [names[number] for number in range(len(model_file._BUILTIN))] == model_file._BUILTIN
    types = {number: name.lower() for name, number in vars(schema.TensorType).items() if not name.startswith("_")}
    assert [types[number] for number in range(len(model_file._TYPES))] == model_file._TYPES


@pytest.mark.parametrize(
    "values", [{}, {"a": 1}, {"b": -3, "a": 70_000}, {"x": True, "y": 1 << 40}, {"z": 0, "s": "text"}]
)
def test_integers_of_flexbuffers_are_read_and_texts_left_out(values):
    expected = {key: value for key, value in values.items() if not isinstance(value, str)}
    assert flexbuffer_integers(bytes(flexbuffers.Dumps(values))) == expected


def test_truncated_files_are_refused_unless_only_unread_bytes_are_missing():
    data = small_classifier.model()
    for size in range(0, len(data), 7):
        try:
            model = model_file.read(data[:size])
        except ValueError as error:
            said = str(error)
        else:  # only bytes that are never read, such as padding, were cut off
            assert len(model.operators) == 5
            continue
        assert "is damaged or was not copied whole" in said or "is not a .tflite file" in said


def test_random_damage_raises_no_error_but_value_error():
    rng = np.random.default_rng(0)
    whole = small_classifier.with_files(small_classifier.model())
    for _ in range(2000):
        data = bytearray(whole)
        for at in rng.integers(8, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        try:
            model = model_file.read(bytes(data))
            [operator.macs for operator in model.operators]
            model.labels(), model.preprocessing()
        except ValueError:
            pass


def test_missing_files_and_files_of_another_format_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no model file '.*nowhere.tflite'"):
        model_file.read(tmp_path / "nowhere.tflite")
    (tmp_path / "text.tflite").write_text("this is text")
    with pytest.raises(ValueError, match=r"'.*text.tflite' is not a .tflite file: it has b' is ' at byte 4"):
        model_file.read(tmp_path / "text.tflite")
