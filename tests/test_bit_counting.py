"""Counting bits in training gives the same values and gradients as TensorFlow, bit for bit.

There is one exception: if a quantiser scales the filters, the last digits of the values may differ.
"""

import contextlib
import importlib.util

import numpy as np
import pytest
import tensorflow as tf

import r2b_zoo
from r2b_zoo.models.layers import FusedSteSign, QuantConv2D
from r2b_zoo.ops import bit_counting
from r2b_zoo.ops.bit_counting import counting_bits
from r2b_zoo.training import teacher_student
from r2b_zoo.training.distillation import LossWeights
from r2b_zoo.training.teacher_student import TeacherStudent
from tests.small import SHALLOW

# Bits are counted in the same way in every block, so two blocks suffice.
pytestmark = pytest.mark.usefixtures("shallow")

SMALL = {"input_shape": (16, 16, 3), "num_classes": 10, "width": 32, "stem": "cifar"}
OF_SIGNS = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def is_counted(function, *arguments):
    graph = function.get_concrete_function(*arguments).graph
    nodes = [node for f in graph.as_graph_def().library.function for node in f.node_def]
    return "PyFuncStateless" in {node.op for node in [*nodes, *graph.as_graph_def().node]}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": 2},
        {"padding": "valid", "strides": (2, 1)},
        {"pad_values": 1.0},
        {"use_bias": True},
        {"input_quantizer": "approx_sign"},
        {"kernel_quantizer": "magnitude_aware_sign"},
    ],
    ids=str,
)
def test_counting_has_the_same_values_and_gradients(options, rng):
    layer = QuantConv2D(64, 3, **{"padding": "same", "use_bias": False, **OF_SIGNS, **options})
    x = tf.constant(rng.normal(size=(3, 7, 6, 32)), tf.float32)
    upstream = tf.constant(rng.normal(size=layer(x).shape), tf.float32)

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
        return output, *tape.gradient(output, [x, layer.kernel], upstream)

    plain = tf.function(gradients)
    expected = plain()
    with counting_bits():
        counted = tf.function(gradients)
        found = counted()
    assert is_counted(counted)
    assert not is_counted(plain)
    # With counted bits, the scale multiplies exact sums; in TensorFlow it multiplies every addend, which adds rounding
    # errors.
    tolerance = 3e-6 if options.get("kernel_quantizer") == "magnitude_aware_sign" else 0
    for ours, theirs in zip(found, expected, strict=True):
        assert np.ptp(theirs) > 0
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert counted.get_concrete_function().outputs[0].shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_quantizer": None, "kernel_constraint": None},
        {"input_quantizer": "ste_heaviside"},
        {"input_quantizer": None},
        {"dilation_rate": 2},
        {"groups": 2},
        {"filters": 40},
    ],
    ids=str,
)
def test_bits_are_not_counted_if_values_are_not_signs_or_it_would_be_slower(options, rng):
    layer = QuantConv2D(**{"filters": 32, "kernel_size": 3, "padding": "same", **OF_SIGNS, **options})
    x = tf.constant(rng.normal(size=(1, 5, 5, 64)), tf.float32)
    with counting_bits():
        assert not is_counted(tf.function(layer), x)


def trainer(start=None, **options):
    """A compiled trainer of the binary stage; its student starts from the weights ``start`` if they are given."""
    student = r2b_zoo.create("RealToBinaryNet", **SMALL)
    if start is not None:
        student.set_weights(start)
    model = TeacherStudent(student, LossWeights())
    model.compile(tf.keras.optimizers.Adam(1e-2), **options)
    return model


def test_counting_bits_changes_no_result_of_training_and_evaluation(rng, monkeypatch):
    """Trains without fusion, so that only bit counting could change a result."""
    start = r2b_zoo.create("RealToBinaryNet", **SMALL).get_weights()
    images = tf.constant(rng.normal(size=(6, 16, 16, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 10, 6), tf.int32)
    tf.config.experimental.enable_op_determinism()
    monkeypatch.setattr(teacher_student, "fused_for_training", contextlib.nullcontext)
    calls = []
    convolver = type(bit_counting._counting.convolver)
    plain_call = convolver.__call__

    def call(*args):
        calls.append(args)
        return plain_call(*args)

    monkeypatch.setattr(convolver, "__call__", call)
    found = []
    for counting in (True, False):
        monkeypatch.setattr(teacher_student, "counting_bits", lambda _, on=counting: counting_bits(on))
        model = trainer(start)
        logs = [model.train_on_batch(images, labels, return_dict=True) for _ in range(3)]
        model.reset_metrics()
        logs.append(model.test_on_batch(images, labels, return_dict=True))
        found.append((logs, model.student.get_weights()))
        # There are three training steps and one evaluation, each with two binary convolutions per block.
        assert len(calls) == counting * 4 * 2 * sum(SHALLOW)
        calls.clear()
    assert found[0][0] == found[1][0]
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_xla_compiles_counts_no_bits(monkeypatch):
    monkeypatch.setattr(teacher_student, "fused_for_training", contextlib.nullcontext)
    model = trainer(jit_compile=True)
    batch = tf.zeros((2, 16, 16, 3)), tf.zeros(2, tf.int32)
    for step in (model.train_step, model.test_step):
        assert not is_counted(tf.function(step), batch)


def test_without_the_runtime_no_bits_are_counted_and_the_reason_is_given(rng, monkeypatch):
    assert bit_counting.why_not_counting() is None
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "r2b_runtime" else find_spec(name))
    assert "takes longer: pip install ./export/runtime" in str(bit_counting.why_not_counting())
    layer = QuantConv2D(32, 3, input_quantizer=FusedSteSign(), kernel_quantizer=FusedSteSign())
    with counting_bits():
        assert not is_counted(tf.function(layer), tf.zeros((1, 5, 5, 32)))
