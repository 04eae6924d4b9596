"""The engines that run a file, r2b-runtime and Larq Compute Engine's interpreter, give the same results."""

import re

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.conversion import tflite_engine
from r2b_zoo.conversion.converter import convert
from r2b_zoo.conversion.tflite_engine import ENGINES, LCE, RUNTIME, TFLiteEngine, default_engine, run_tflite
from tests.converted import converted, images
from tests.small import DEPLOYED, SHALLOW

needs_runtime = pytest.mark.skipif(default_engine() != RUNTIME, reason="no r2b-runtime: pip install ./export/runtime")


@needs_runtime
@pytest.mark.parametrize(("name", "precision"), DEPLOYED)
def test_keras_lce_and_runtime_agree_but_for_rounding(name: str, precision: str) -> None:
    model, conversion = converted(name, precision)
    runtime, lce = (run_tflite(conversion.tflite, images(), engine=engine) for engine in (RUNTIME, LCE))
    assert runtime.std() > 0.03, "a network that always gives the same answer proves nothing"
    for other in (lce, model(images(), training=False).numpy()):
        # Rarely, a rounding error decides a sign, and the difference spreads through a random network.
        assert np.mean(np.abs(runtime - other).max(axis=1) < 1e-4) >= 0.9
        assert np.mean(runtime.argmax(axis=1) == other.argmax(axis=1)) >= 0.97


@needs_runtime
def test_threads_change_nothing() -> None:
    _, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    one, *others = (run_tflite(conversion.tflite, images(8), threads, RUNTIME) for threads in (1, 2, 3, 4))
    for other in others:
        np.testing.assert_array_equal(other, one)


@needs_runtime
def test_the_engines_name_says_what_runs_the_file() -> None:
    _, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    assert re.fullmatch(r"r2b-runtime \S+ \(\w+\)", TFLiteEngine(conversion.tflite).name)
    assert TFLiteEngine(conversion.tflite, engine=LCE).name == "Larq Compute Engine's interpreter"


@needs_runtime
def test_a_file_that_the_runtime_does_not_run_alone_runs_in_an_interpreter() -> None:
    layers = tf.keras.layers
    model = tf.keras.Sequential([layers.Input((4, 4, 2)), layers.Flatten(), layers.Dense(3), layers.ELU()])
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2)).astype(np.float32)
    engine = TFLiteEngine(convert(model).tflite)
    assert re.fullmatch(r"r2b-runtime \S+ \(\w+\) in tensorflow \S+", engine.name)
    np.testing.assert_allclose(engine.predict(x), model(x), rtol=1e-5, atol=1e-6)


def test_lce_is_the_default_engine_without_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_engine.importlib.util, "find_spec", lambda name: None)
    assert default_engine() == LCE


def test_without_the_runtime_asking_for_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "r2b_runtime", None)
    with pytest.raises(ImportError, match=r"r2b-runtime is not installed: pip install \./export/runtime"):
        TFLiteEngine(b"", engine=RUNTIME)


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="engine must be one of runtime, lce; received 'fast'"):
        TFLiteEngine(b"", engine="fast")


@pytest.mark.parametrize("engine", [pytest.param(RUNTIME, marks=needs_runtime), LCE])
def test_bytes_that_are_not_a_model_are_refused(engine: str) -> None:
    assert engine in ENGINES
    with pytest.raises(ValueError, match="cannot run this file"):
        TFLiteEngine(b"not a model at all", engine=engine)


@pytest.mark.parametrize("engine", [pytest.param(RUNTIME, marks=needs_runtime), LCE])
def test_images_of_another_shape_are_refused(engine: str) -> None:
    _, conversion = converted("RealToBinaryNet", "binary", SHALLOW)
    with pytest.raises(ValueError, match="cannot run this file"):
        run_tflite(conversion.tflite, np.zeros((1, 16, 16, 3), np.float32), engine=engine)
