"""Saved networks load after a bare ``import r2b_zoo``; none of its modules needs to be imported."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from r2b_zoo.models.layers import QuantConv2D, tanh
from tests.small import DEPLOYED, small_network
from tests.test_layers import CASES, call

LOAD = """
import sys
{imports}
import numpy as np
for path in sys.argv[1:]:
    model = tf_keras.models.load_model(path, compile=False)
    np.save(path + ".npy", model([np.ones((1, *i.shape[1:]), np.float32) for i in model.inputs])[0])
"""


def load(imports, folder, models):
    """Saves models as .keras and .h5, loads them in a process that runs ``imports``, and compares the outputs."""
    paths = {folder / f"{i}{suffix}": model for i, model in enumerate(models) for suffix in (".keras", ".h5")}
    for path, model in paths.items():
        model.save(path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    program = LOAD.format(imports=imports)
    ended = subprocess.run(
        [sys.executable, "-c", program, *paths], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    for path, model in paths.items():
        expected = model([np.ones((1, *i.shape[1:]), np.float32) for i in model.inputs])[0]
        np.testing.assert_allclose(np.load(f"{path}.npy"), expected, rtol=1e-5, atol=1e-5)


def every_layer():
    """Yields a model of each layer in ``CASES``, then a Sequential of two convolutions with quantisers."""
    for case in CASES.values():
        inputs = [tf.keras.Input(shape) for shape in case.shapes]
        yield tf.keras.Model(inputs, call(case.make(), inputs))
    yield tf.keras.Sequential(
        [
            tf.keras.Input((4, 4, 2)),
            QuantConv2D(3, 3, input_quantizer=tanh),
            QuantConv2D(
                2, 2, input_quantizer="ste_sign", kernel_quantizer="approx_sign", kernel_constraint="weight_clip"
            ),
        ]
    )


def test_every_layer_loads_after_the_bare_import(tmp_path):
    load("import r2b_zoo, tf_keras", tmp_path, every_layer())


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports",
    [
        "import r2b_zoo\nimport tensorflow as tf\ntf_keras = tf.keras",
        "import os\nos.environ['TF_USE_LEGACY_KERAS'] = '1'\nimport tf_keras\nimport r2b_zoo",
        "import r2b_zoo\nimport larq\nimport tf_keras",
    ],
    ids=["before TensorFlow", "after Keras", "before Larq"],
)
def test_layers_load_whatever_the_order_of_imports(imports, tmp_path):
    load(imports, tmp_path, list(every_layer())[-1:])


@pytest.mark.slow
def test_every_network_loads_after_the_bare_import(tmp_path):
    networks = [*DEPLOYED, ("RealToBinaryNet", "real"), ("BNN18", "real")]
    load("import r2b_zoo, tf_keras", tmp_path, [small_network(*network) for network in networks])


def test_the_bare_import_loads_neither_tensorflow_nor_larq():
    program = "import sys, r2b_zoo; print({'tensorflow', 'tf_keras', 'larq', 'h5py'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
