"""On a JVM, the Java classes give the same answers as Python, and the expected messages for misuse."""

import os
import pathlib

import lce_model
import pytest
import small_classifier
from conftest import ROOT, answers, image_file


def test_java_gives_pythons_answers(java, images, tmp_path):
    for threads in (1, 2):
        model = small_classifier.with_files(small_classifier.model(batch=threads))
        expected = answers(model, images)
        assert len(set(expected)) > 10
        (tmp_path / "model.tflite").write_bytes(model)
        printed = java("Predict", tmp_path / "model.tflite", image_file(tmp_path / "images", images), threads)
        assert printed.splitlines() == expected


@pytest.fixture
def photographs():
    """Twenty photographs, uint8 (H, W, 3)."""
    datasets = pytest.importorskip("tensorflow_datasets", reason="pip install tensorflow-datasets")
    shared = ROOT.parents[2] / "shared" / "tfds"
    data = pathlib.Path(os.environ.get("R2B_ZOO_TEST_DATA") or shared)
    if not (data / "imagenet2012").is_dir():
        pytest.skip(f"no photographs: {data / 'imagenet2012'} is missing (set R2B_ZOO_TEST_DATA)")
    split = datasets.load("imagenet2012", split="validation[:20]", data_dir=str(data), download=False)
    return [example["image"] for example in datasets.as_numpy(split)]


@pytest.mark.slow
def test_java_gives_pythons_answers_for_photographs(java, photographs, tmp_path):
    """In Java, `cifar10` of r2b_zoo gives the photographs the same labels and probabilities as in Python."""
    zoo = pytest.importorskip("r2b_zoo", reason="the zoo is not installed beside the runtime: pip install ../..")
    loaded = zoo.load("cifar10")
    model = zoo.convert(loaded.model, labels=loaded.labels, preprocessing=loaded.preprocessing).tflite
    (tmp_path / "cifar10.tflite").write_bytes(model)
    expected = answers(model, photographs)
    assert len({line.split("\t")[0] for line in expected}) > 3
    printed = java("Predict", tmp_path / "cifar10.tflite", image_file(tmp_path / "photographs", photographs), 2)
    assert printed.splitlines() == expected


def signs_of_int8():
    """The bytes of a model whose output is the signs of its input, both int8 (1, 8, 8, 1)."""
    made = lce_model.Model()
    values = made.input([1, 8, 8, 1], "int8", scale=0.5, zero_point=4)
    bits, signs = made.tensor([1, 8, 8, 1], "int32"), made.tensor([1, 8, 8, 1], "int8", scale=0.25, zero_point=-3)
    made.custom("LceQuantize", [values], [bits])
    made.custom("LceDequantize", [bits], [signs])
    made.output(signs)
    return made.bytes()


def test_java_checks_of_errors_closing_and_threads_pass(java, tmp_path):
    files = {
        "classifier": small_classifier.with_files(small_classifier.model()),
        "bare": small_classifier.model(),
        "int8": signs_of_int8(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    printed = java("Checks", *(tmp_path / name for name in files))
    assert printed.splitlines()[-1] == "all checks passed"
