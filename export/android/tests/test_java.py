"""The Java classes on a JVM, with the native sources compiled for it: Python's answers; a sentence for each misuse."""

import lce_model
import small_classifier
from conftest import answers, image_file


def test_the_answers_are_python_s(java, images, tmp_path):
    model = small_classifier.with_files(small_classifier.model())
    (tmp_path / "model.tflite").write_bytes(model)
    expected = answers(model, images)
    assert len(set(expected)) > 10
    for threads in (1, 2):
        printed = java("Predict", tmp_path / "model.tflite", image_file(tmp_path / "images", images), threads)
        assert printed.splitlines() == expected


def signs_of_int8():
    """A model from int8 (1, 8, 8, 1) to int8 of that shape: the signs of its values."""
    made = lce_model.Model()
    values = made.input([1, 8, 8, 1], "int8", scale=0.5, zero_point=4)
    bits, signs = made.tensor([1, 8, 8, 1], "int32"), made.tensor([1, 8, 8, 1], "int8", scale=0.25, zero_point=-3)
    made.custom("LceQuantize", [values], [bits])
    made.custom("LceDequantize", [bits], [signs])
    made.output(signs)
    return made.bytes()


def test_errors_closing_and_threads(java, tmp_path):
    files = {
        "classifier": small_classifier.with_files(small_classifier.model()),
        "bare": small_classifier.model(),
        "int8": signs_of_int8(),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    printed = java("Checks", *(tmp_path / name for name in files))
    assert printed.splitlines()[-1] == "all checks passed"
