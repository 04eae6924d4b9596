"""Compares Larq Zoo's networks in the engine with Larq Compute Engine's interpreter."""

import sys

import build_native
import numpy as np
import pytest
import r2b_runtime
from conftest import outputs_of, run_lce

zoo = pytest.importorskip("larq_zoo", reason="larq-zoo is not installed (pip install '.[test]' in the repository)")
pytest.importorskip("larq_compute_engine")
converter = pytest.importorskip("r2b_zoo.conversion.converter", reason="the zoo is not installed beside the runtime")
sys.path.insert(0, str(build_native.ROOT.parents[1]))
networks = pytest.importorskip("benchmarks.networks", reason="the project's benchmarks/ are not beside the runtime")

CLASSES, IMAGES = 100, 2
SIDE = 64
# XNORNet is left out: its layer of 4096 6x6 filters is too large for the converter's constant folding. So the file
# computes this layer's weights in every inference, with operators that the engine lacks (ABS, TRANSPOSE, a CONV_2D with
# a computed filter).
WHOLE = [
    *("BinaryAlexNet", "BinaryDenseNet28", "BinaryDenseNet37", "BinaryDenseNet37Dilated", "BinaryDenseNet45"),
    *("BinaryResNetE18", "BiRealNet", "DoReFaNet", "MeliusNet22", "QuickNet", "QuickNetLarge", "QuickNetSmall"),
    "RealToBinaryNet",
]


def one_block_each():
    """Factories by family. A network with one block in each section has all operators of the whole network.

    The DenseNet factory builds such a network by default. To QuickNet's, the caller must pass `section_blocks`.
    """
    from larq_zoo.literature import densenet
    from larq_zoo.sota import quicknet
    from zookeeper import factory

    @factory
    class DenseNet(densenet.BinaryDenseNet28Factory):
        layers = (1, 1, 1, 1)

    return {"QuickNet": quicknet.QuickNetFactory, "BinaryDenseNet": DenseNet}


def agrees(build):
    """Asserts that the engine's logits and predicted classes agree with LCE's, for a network that `build` makes.

    The weights of its batch normalisation are random. The logarithms of its probabilities stand for the logits.
    """
    import tensorflow as tf

    tf.random.set_seed(0)
    network = build(input_shape=(SIDE, SIDE, 3), num_classes=CLASSES, weights=None)
    model = converter.lce_file(networks.randomise(network))
    for image in np.random.default_rng(0).normal(0, 1, (IMAGES, 1, SIDE, SIDE, 3)).astype(np.float32):
        (theirs,) = run_lce(model, [image], use_reference_bconv=True)
        (ours,) = outputs_of(r2b_runtime.Interpreter(model, 2, engine="r2b"), [image])
        logits = [np.log(np.maximum(probabilities, 1e-37)).ravel() for probabilities in (ours, theirs)]
        assert np.corrcoef(*logits)[0, 1] >= 0.9999
        assert ours.argmax() == theirs.argmax()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["QuickNet", "BinaryDenseNet"])
def test_one_block_of_each_section(family):
    made = one_block_each()[family]
    blocks = {"section_blocks": (1, 1, 1, 1)} if family == "QuickNet" else {}
    agrees(lambda **options: made(**options, **blocks).build())


@pytest.mark.long
@pytest.mark.parametrize("name", WHOLE)
def test_whole_network(name):
    agrees(getattr(zoo.sota if name.startswith("QuickNet") else zoo.literature, name))
