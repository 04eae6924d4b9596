"""Tests that invalid models and options raise errors that name the operator, field or option that is wrong."""

import lce_model
import numpy as np
import pytest
import r2b_runtime
from conftest import delegated, run


def model_with(options=None, words=2, filter_words=None, thresholds=None, output="float32", bias=40):
    rng = np.random.default_rng(0)
    model = lce_model.Model()
    x = model.input((1, 5, 5, words), "int32")
    out = model.tensor((1, 5, 5, 2 if output == "int32" else 40), output)
    channels = 64 if filter_words is None else 32 * filter_words
    model.bconv(
        x,
        out,
        rng.choice([-1.0, 1.0], (40, 3, 3, channels)),
        multiplier=np.ones(40),
        bias=np.ones(bias),
        thresholds=thresholds,
        **{"channels_in": 64, **(options or {})},
    )
    model.output(out)
    return model.bytes()


def allocate(model, **options):
    interpreter = delegated(model, **options)
    interpreter.allocate_tensors()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_with({"padding": 7}), r"LceBconv2d.*'padding' = 7"),
        (model_with({"pad_values": -1}), r"LceBconv2d.*'pad_values' = -1"),
        (model_with({"stride_height": 0}), r"'stride_height' = 0"),
        (model_with({"channels_in": 200}), r"channels_in = 200 needs 7"),
        (model_with({"fused_activation_function": 9}), r"'fused_activation_function' = 9"),
        (model_with({"padding": 1, "dilation_height_factor": 4}), r"3x3 does not fit the input \[1, 5, 5, 2\]"),
        (model_with(words=3), r"holds 3 words of 32 channels, channels_in = 64 needs 2"),
        (model_with(filter_words=3), r"does not divide 64 input channels"),
        (model_with(output="int32"), r"needs 40 constant int32 thresholds"),
        (model_with(output="int8"), r"int8 tensor without a quantization scale"),
        (model_with(bias=39), r"bias \[39\] must be a constant vector of the 40 output channels"),
    ],
)
def test_inconsistent_models(model, message):
    with pytest.raises((RuntimeError, ValueError), match=message):
        allocate(model)


@pytest.mark.parametrize("options", [b"", b"\x00", b"\xff" * 40, b"\x00\x01\x02\x03" * 9])
def test_malformed_options(options):
    model = lce_model.Model()
    x, out = model.input((1, 5, 5, 2), "int32"), model.tensor((1, 5, 5, 40))
    filters = model.constant(np.zeros((40, 3, 3, 2)), "int32")
    model.custom(
        "LceBconv2d", [x, filters, model.constant(np.ones(40)), model.constant(np.ones(40)), -1], [out], options
    )
    model.output(out)
    with pytest.raises((RuntimeError, ValueError), match="LceBconv2d"):
        allocate(model.bytes())


def test_unknown_lce_operator():
    model = lce_model.Model()
    x, out = model.input((1, 4)), model.tensor((1, 4))
    model.custom("LceFrobnicate", [x], [out])
    model.output(out)
    with pytest.raises((RuntimeError, ValueError), match=r"LceFrobnicate.*does not know"):
        allocate(model.bytes())


def test_unsupported_type():
    model = lce_model.Model()
    x, out = model.input((1, 4), "int32"), model.tensor((1, 1), "int32")
    model.custom("LceQuantize", [x], [out])
    model.output(out)
    with pytest.raises((RuntimeError, ValueError), match=r"LceQuantize.*unsupported input type"):
        allocate(model.bytes())


def test_unknown_option_and_values():
    with pytest.raises(ValueError, match="unknown option 'colour'; the options are kernels, num_threads"):
        r2b_runtime.load_delegate(colour="red")
    with pytest.raises(ValueError, match=r"kernels 'mmx'.*available: auto.*portable"):
        r2b_runtime.load_delegate(kernels="mmx")
    with pytest.raises(ValueError, match="num_threads = 'many'"):
        r2b_runtime.load_delegate(num_threads="many")


def test_environment_forces_kernels(monkeypatch):
    monkeypatch.setenv("R2B_RUNTIME_KERNELS", "portable")
    interpreter = delegated(model_with(), profile=True)
    interpreter.allocate_tensors()
    interpreter.invoke()
    assert r2b_runtime.profile(interpreter.delegate)[0] == "portable"
    monkeypatch.setenv("R2B_RUNTIME_KERNELS", "mmx")
    with pytest.raises(ValueError, match="mmx"):
        r2b_runtime.load_delegate()


def test_missing_and_corrupted_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tflite"):
        delegated(tmp_path / "nowhere.tflite")
    with pytest.raises((RuntimeError, ValueError)):
        allocate(b"TFL3" * 10)
    with pytest.raises((RuntimeError, ValueError)):
        allocate(model_with()[:200])


def test_model_without_binary_operators_runs():
    model = lce_model.Model()
    x, out = model.input((1, 4)), model.tensor((1, 4))
    model.builtin("RELU", [x], [out])
    model.output(out)
    value = np.array([[-1, 0, 1, 2]], np.float32)
    np.testing.assert_array_equal(run(model.bytes(), [value])[0], np.maximum(value, 0))
