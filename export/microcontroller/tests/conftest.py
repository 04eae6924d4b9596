"""Fixtures and helpers for these tests. The runtime and its tests are added to the import path."""

import os
import pathlib
import shutil
import subprocess
import sys

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "runtime"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "runtime" / "tests"))

import build_microcontroller
import numpy as np
import PIL.Image
import pytest

QEMU = ["qemu-system-arm", "-M", "mps2-an500", "-nographic", "-semihosting-config", "enable=on,target=native"]


def skip_without_tools():
    if build_microcontroller.missing_tools():
        pytest.skip(f"no compiler for Cortex-M: apt-get install {build_microcontroller.missing_tools()}")
    if shutil.which(QEMU[0]) is None:
        pytest.skip(f"no {QEMU[0]}: apt-get install qemu-system-arm")


@pytest.fixture(scope="session")
def images():
    """Five images, uint8 (5, 9, 12, 1)."""
    return np.random.default_rng(0).integers(0, 256, (5, 9, 12, 1), np.uint8)


@pytest.fixture(scope="session")
def library(tmp_path_factory, images):
    """The path of libr2b.a; its folder also has model.tflite, and example.elf, which classifies `images` with it."""
    skip_without_tools()
    pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")
    import small_classifier

    folder = tmp_path_factory.mktemp("library")
    (folder / "model.tflite").write_bytes(small_classifier.with_files(small_classifier.model()))
    paths = [str(folder / f"{number}.png") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        PIL.Image.fromarray(image[..., 0]).save(path)
    build_microcontroller.main([str(folder / "model.tflite"), *paths, "--output", str(folder)])
    return folder / "libr2b.a"


@pytest.fixture
def build(library, tmp_path):
    """A function that links a program from a model and images, and returns its path."""
    return lambda model, images, **options: build_microcontroller.build_example(
        library, model, images, tmp_path / "example.elf", **options
    )


def start(program):
    """Runs a program on the emulated board; returns its exit status and the lines that it printed."""
    ended = subprocess.run([*QEMU, "-kernel", str(program)], capture_output=True, text=True, timeout=120)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()
