"""Tests that `Convolver` equals TensorFlow's convolution of ±1 exactly, and refuses invalid arguments."""

import concurrent.futures

import numpy as np
import pytest
import r2b_runtime
from hypothesis import assume, given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

KERNELS = r2b_runtime.available_kernels()
CONVOLVERS = {(k, threads): r2b_runtime.Convolver(threads, k) for k in KERNELS for threads in (1, 2, 3)}


def signs(x):
    return np.where(x < 0, -1, 1).astype(np.float32)


def expected(images, kernel, strides, padding):
    return tf.nn.conv2d(signs(images), signs(kernel), strides, padding.upper()).numpy()


def floats(rng, *shape):
    """Draws positive numbers, negative numbers, 0.0 and -0.0."""
    return rng.choice([-1.5, -1e-38, -0.0, 0.0, 1e-38, 2.0], shape).astype(np.float32)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    convolver=st.sampled_from(sorted(CONVOLVERS)),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    channels=st.sampled_from([1, 31, 32, 33, 64, 100]),
    outputs=st.sampled_from([1, 31, 32, 33, 64, 100]),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["same", "valid"]),
    seed=st.integers(0, 2**32),
)
def test_it_equals_tensorflow(convolver, shape, channels, outputs, window, strides, padding, seed):
    assume(padding == "same" or all(size >= reach for size, reach in zip(shape[1:], window, strict=True)))
    rng = np.random.default_rng(seed)
    images, kernel = floats(rng, *shape, channels), floats(rng, *window, channels, outputs)
    found = CONVOLVERS[convolver](images, kernel, strides, padding)
    np.testing.assert_array_equal(found, expected(images, kernel, strides, padding))


def test_several_threads_may_call_one_convolver(rng):
    """Several threads call one convolver; each call has a kernel and images of a different shape."""
    convolver = r2b_runtime.Convolver(2)
    calls = [(floats(rng, 2, 6, 5, 8 + i), floats(rng, 3, 3, 8 + i, 5 + i), (1, 1), "same") for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda call: convolver(*call), calls))
    for output, call in zip(found, calls, strict=True):
        np.testing.assert_array_equal(output, expected(*call))


def test_arrays_may_have_any_layout_and_no_images(rng):
    images, kernel = floats(rng, 4, 6, 5, 7), floats(rng, 3, 3, 7, 9)
    convolver = CONVOLVERS[KERNELS[0], 1]
    strided = convolver(images[::2, ::-1].astype(float), np.asfortranarray(kernel))
    np.testing.assert_array_equal(strided, expected(images[::2, ::-1], kernel, (1, 1), "same"))
    assert convolver(images[:0], kernel).shape == (0, 6, 5, 9)
    assert strided.ctypes.data % 64 == 0  # TensorFlow copies arrays with a smaller alignment


@pytest.mark.parametrize(
    ("shape", "window", "options", "message"),
    [
        ((2, 5, 4), (3, 3, 4, 8), {}, r"images must be \(N, H, W, C\) .* received \(2, 5, 4\) and \(3, 3, 4, 8\)"),
        ((2, 5, 5, 4), (3, 3, 5, 8), {}, r"with the same C, received \(2, 5, 5, 4\) and \(3, 3, 5, 8\)"),
        ((2, 5, 5, 4), (3, 3, 4, 0), {}, r"received \(2, 5, 5, 4\) and \(3, 3, 4, 0\)"),
        ((2, 5, 5, 4), (3, 3, 4, 8), {"padding": "full"}, r"padding must be 'same' or 'valid', received 'full'"),
        (
            (2, 5, 5, 4),
            (3, 3, 4, 8),
            {"strides": (1, 0)},
            r"strides must be two numbers .* received \(1, 0\)",
        ),
        (
            (2, 5, 5, 4),
            (3, 3, 4, 8),
            {"strides": (1,)},
            r"strides must be two numbers .* received \(1,\)",
        ),
        (
            (2, 5, 5, 4),
            (3, 3, 4, 8),
            {"strides": (1, 1, 1)},
            r"strides must be two numbers .* received \(1, 1, 1\)",
        ),
        ((2, 5, 2, 4), (3, 3, 4, 8), {"padding": "valid"}, r"3x3 does not fit images of 5x2; .* padding='same'"),
        ((1, 1, 1, 1 << 19), (3, 3, 1 << 19, 1), {}, r"more products than an accumulator holds \(at most 4194303\)"),
    ],
    ids=str,
)
def test_arguments_that_give_no_convolution_are_refused(shape, window, options, message):
    with pytest.raises(ValueError, match=message):
        r2b_runtime.Convolver(1)(np.zeros(shape, np.float32), np.zeros(window, np.float32), **options)


def test_invalid_numbers_of_threads_and_kernels_are_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"num_threads must be a whole number from 1 to 256; received 0"):
        r2b_runtime.Convolver(0)
    with pytest.raises(ValueError, match=r"kernels 'mmx' do not run here; available: auto, .*portable"):
        r2b_runtime.Convolver(1, "mmx")
    monkeypatch.setenv("R2B_RUNTIME_KERNELS", "mmx")
    with pytest.raises(ValueError, match="kernels 'mmx' do not run here"):
        r2b_runtime.Convolver(1)
