"""Fixtures and helpers for these tests. The runtime and its tests are added to the import path."""

import os
import pathlib
import shutil
import subprocess
import sys

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("R2B_RUNTIME_OVERSUBSCRIBE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "runtime"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "runtime" / "tests"))

import build_aar
import build_library
import build_native
import numpy as np
import pytest
import r2b_runtime

ROOT = build_aar.ROOT


def run(command, **options):
    """Runs a command and returns its standard output. If the command fails, the test fails with its output."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-6000:]
    return ended.stdout


@pytest.fixture(scope="session")
def java(tmp_path_factory):
    """A function that runs a Java program of tests/java with the library, and returns its standard output."""
    if shutil.which("javac") is None:
        pytest.skip("no javac: apt-get install default-jdk-headless")
    if build_native.machine_compiler() is None:
        pytest.skip("no C++ compiler: apt-get install g++")
    folder = tmp_path_factory.mktemp("java")
    build_aar.compile_java(folder, [*ROOT.glob("tests/java/*.java")])
    # Only the JNI functions are compiled here. The installed runtime has the engine, compiled from the same sources.
    runtime = pathlib.Path(r2b_runtime.__file__).parent
    command = [*build_native.machine_compiler(), *build_native.FLAGS]
    command += [f"-I{headers}" for headers in build_library.jni_headers()]
    command += ["-shared", ROOT / "native" / "jni.cc", "-o", folder / build_library.LIBRARY]
    run([*command, f"-L{runtime}", "-l:libr2b_runtime.so", f"-Wl,-rpath,{runtime}"])

    def program(*arguments):
        options = ["-Xcheck:jni", f"-Djava.library.path={folder}", "-cp", folder]
        printed = run(["java", *options, *arguments])
        assert "in native method" not in printed, printed  # -Xcheck:jni reports misuse in these words
        return printed

    return program


@pytest.fixture(scope="session")
def images():
    """Twenty images of different sizes, uint8 (H, W, 3)."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (int(h), int(w), 3), np.uint8) for h, w in rng.integers(1, 60, (20, 2))]


def image_file(path, images):
    """Writes images, uint8 (H, W, 3), in the format that tests/java/Predict.java reads; returns `path`."""
    path.write_bytes(b"".join(np.array(i.shape[1::-1], ">i4").tobytes() + i.tobytes() for i in images))
    return path


def answers(model, images, threads=1):
    """The answers of Python's classifier, one line per image, in the format that tests/java/Predict.java prints."""
    classifier = r2b_runtime.Classifier(model, threads, engine="r2b")
    lines = []
    for image in images:
        row = classifier.probabilities(image)
        label = classifier.predict(image, top=1)[0][0]
        lines.append(label + "\t" + "".join(f"{bits:08x}" for bits in row.view(np.uint32)))
    return lines
