"""Keras 2 is selected in any order of imports, unless TensorFlow already uses Keras 3.

The tests start separate processes, because this process has already selected its version of Keras.
"""

import os
import subprocess
import sys

import pytest


def python(code, **environment):
    inherited = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def test_tensorflow_with_keras_3_first_is_refused_in_one_sentence():
    done = python("import tensorflow, r2b_zoo")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ImportError: r2b_zoo needs Keras 2, but TensorFlow was imported before it and already uses "
    )
    assert last.endswith("import r2b_zoo before tensorflow, or set TF_USE_LEGACY_KERAS=1 before Python starts.")
    assert "During handling of the above exception" not in done.stderr


@pytest.mark.parametrize(
    ("code", "environment"),
    [
        ("import r2b_zoo, tensorflow as tf", {}),
        ("import r2b_zoo, tensorflow as tf", {"TF_USE_LEGACY_KERAS": "0"}),
        ("import tensorflow as tf, r2b_zoo", {"TF_USE_LEGACY_KERAS": "1"}),
    ],
    ids=["r2b_zoo first", "against the environment", "tensorflow first, with Keras 2"],
)
def test_keras_2_is_selected(code, environment):
    done = python(f"{code}; print(tf.keras.Model.__module__); print(r2b_zoo.list_models()[0])", **environment)
    assert done.returncode == 0, done.stderr
    module, model = done.stdout.splitlines()
    assert module.startswith("tf_keras.")
    assert model == "RealToBinaryNet"


def test_importing_the_package_and_the_command_loads_nothing_slow():
    slow = ("tensorflow", "tf_keras", "larq", "numpy", "sklearn", "matplotlib", "h5py", "zookeeper")
    done = python(f"import sys, r2b_zoo, r2b_zoo.cli; print([name for name in {slow} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_public_names_are_found_and_others_are_not():
    import r2b_zoo

    for name in r2b_zoo.__all__:
        assert getattr(r2b_zoo, name) is not None
        assert name in dir(r2b_zoo)
    with pytest.raises(AttributeError, match=r"module 'r2b_zoo' has no attribute 'RealToBinary'"):
        r2b_zoo.RealToBinary  # noqa: B018
