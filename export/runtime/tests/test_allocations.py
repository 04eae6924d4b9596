"""Tests that an inference neither allocates nor frees memory: a C program counts all calls of malloc, free, etc."""

import platform
import subprocess

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import drawn_graphs
import small_classifier
from c_interface import host_program
from test_networks import half_blocks

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the counting program calls glibc's functions by their own names"
)
GRAPHS = 12


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return host_program("allocations_host.c", tmp_path_factory.mktemp("host"), "-std=c11", "-fno-builtin")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of model files: two small Real-to-Binary networks, a classifier, and random graphs."""
    rng = np.random.default_rng(0)
    files = [half_blocks(rng), half_blocks(rng, batch=2, channels=40), small_classifier.model()]
    files += [drawn_graphs.draw([7, number]).model for number in range(GRAPHS)]
    folder = tmp_path_factory.mktemp("models")
    for number, content in enumerate(files):
        (folder / f"{number}.tflite").write_bytes(content)
    return [folder / f"{number}.tflite" for number in range(len(files))]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_inference_neither_allocates_nor_frees_memory(host, models, kernels, threads):
    for model in models:
        done = subprocess.run([host, model, kernels, str(threads)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        loading, running = map(int, done.stdout.split())
        assert loading > 100  # shows that the library's allocations are counted
        assert running == 0, f"{model.name}: memory was allocated or freed {running} times"
