"""Tests the C interface, r2b.h: mainly how it reads labels and preprocesses images.

Python's classifier has its own implementation of both, which must give the same results.
"""

import ctypes
import io
import threading
import zipfile

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import c_interface
import small_classifier
from c_interface import CError
from conftest import run
from r2b_runtime import Classifier, attached_files, model_file
from small_classifier import LABELS

SHAPES = {"grey": (8, 8, 1), "colour": (20, 20, 3), "wide": (33, 50, 3)}


def with_text(name, text, **options):
    """The bytes of the small classifier with one attached file, `name`, which contains `text`."""
    stream = io.BytesIO(small_classifier.model())
    with zipfile.ZipFile(stream, "a", **options) as archive:
        archive.writestr(name, text)
    return stream.getvalue()


@pytest.fixture(scope="module", params=SHAPES)
def classifier_file(request):
    height, width, channels = SHAPES[request.param]
    return small_classifier.with_files(
        small_classifier.model(shape=(height, width, channels)),
        height=height,
        width=width,
        channels=channels,
        mean=[123.675, 116.28, 103.53][:channels],
        std=[58.395, 57.12, 57.375][:channels],
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (64, 48), (41, 97)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_gives_the_same_bits_as_in_pythons_classifier(classifier_file, size, channels):
    image = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    expected = Classifier(classifier_file, engine="r2b").probabilities(image)
    apart = np.zeros((size[0], size[1] + 5, channels), np.uint8)
    apart[:, : size[1]] = image
    with c_interface.engine(classifier_file) as engine:
        c_interface.call("r2b_engine_check_classifier", engine)
        for given in (image, apart[:, : size[1]]):
            c_interface.set_image(engine, given)
            c_interface.call("r2b_engine_run", engine)
            np.testing.assert_array_equal(c_interface.values(engine, 3), expected)
        c_interface.set_image(engine, image, stride=0)
        c_interface.call("r2b_engine_run", engine)
        np.testing.assert_array_equal(c_interface.values(engine, 3), expected)


def test_images_of_a_batch():
    content = small_classifier.with_files(small_classifier.model(batch=3))
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), np.uint8)
    prepare = model_file.read(content).preprocessing()
    (expected,) = run(content, [np.stack([prepare(image) for image in images])])
    with c_interface.engine(content) as engine:
        for place, image in enumerate(images):
            c_interface.set_image(engine, image, place)
        c_interface.call("r2b_engine_run", engine)
        np.testing.assert_array_equal(c_interface.values(engine, 9).reshape(3, 3), expected)
        with pytest.raises(CError, match=r"the input holds 3 images, numbered from 0; received 3"):
            c_interface.set_image(engine, images[0], 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 2}, r"an image must have 1, 3 or 4 channels; received 2"),
        ({"height": 0}, r"an image's height and width must be 1 to 16777216; received 0x9"),
        ({"width": -1}, r"received 9x-1"),
        ({"stride": 26}, r"a row of the image has 27 bytes, so the stride must be at least that, or 0; received 26"),
        ({"pixels": None}, r"the pixels of an image must be given"),
    ],
)
def test_invalid_images_are_refused(changes, message):
    image = np.zeros((9, 9, 3), np.uint8)
    with (
        c_interface.engine(small_classifier.with_files(small_classifier.model())) as engine,
        pytest.raises(CError, match=message),
    ):
        c_interface.set_image(engine, image, **changes)


@pytest.mark.parametrize(
    "text", ["", "a", "a\n", "a\n\n", "\n", "a\r\nb\r\n", "a\r", "\ufeffä\n漢", " a \n\tb", "a\0b"]
)
def test_labels_are_split_as_in_python(text):
    content = with_text("labels.txt", text.encode())
    expected = attached_files.lines(attached_files.AttachedFiles(content).text("labels.txt"))
    assert c_interface.labels(content) == [label.split("\0")[0] for label in expected]  # a C string ends at NUL


def test_a_file_without_metadata():
    content = small_classifier.model()
    assert c_interface.labels(content) == []
    with pytest.raises(CError, match=r"the model has no preprocessing metadata: convert it with"):
        c_interface.preprocessing(content)
    with (
        c_interface.engine(content) as engine,
        pytest.raises(CError, match=r"the model has no preprocessing metadata"),
    ):
        c_interface.set_image(engine, np.zeros((9, 9, 3), np.uint8))


def test_preprocessing_is_what_the_file_says():
    content = small_classifier.with_files(small_classifier.model(), crop_fraction=0.1 + 0.2, mean=[1e-3], std=[57.375])
    result = c_interface.preprocessing(content)
    assert (result.height, result.width, result.channels, result.crop_fraction) == (8, 8, 1, 0.1 + 0.2)
    assert (result.mean[0], result.std[0]) == (np.float32(1e-3), np.float32(57.375))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"another format or resizes by another rule than this engine knows: use a newer one"),
        ({"resize": "nearest"}, r"another format or resizes by another rule"),
        ({"height": 8.0}, r"height must be a whole number from 1 to 32768"),
        ({"width": 0}, r"width must be a whole number from 1 to 32768"),
        ({"channels": 2}, r"channels must be 1 or 3"),
        ({"crop_fraction": 1.5}, r"crop_fraction must be above 0 and at most 1"),
        ({"crop_fraction": "all"}, r"crop_fraction must be above 0 and at most 1"),
        ({"mean": [1.0, 2.0]}, r"mean must be 1 numbers"),
        ({"std": [0.0]}, r"mean and std must be finite in float32 and std not 0"),
        ({"std": [1e-40]}, r"mean and std must be finite in float32 and std not 0"),
        ({"mean": [float("nan")]}, r"the JSON inside the model cannot be read at character \d+"),
        ({"more": 1}, r"it has the unknown field 'more'"),
    ],
)
def test_preprocessing_that_cannot_be_used(changes, message):
    content = small_classifier.with_files(small_classifier.model(), **changes)
    with pytest.raises(CError, match=message):
        c_interface.preprocessing(content)
    with c_interface.engine(content) as engine:  # the model still runs
        c_interface.call("r2b_engine_run", engine)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"a": }', '{"a": 1,}', '{"a": 1} x', '{"a": true}', '{"a": "\\u0041"}', '{"a": 1e999}']
)
def test_json_that_cannot_be_read(text):
    with pytest.raises(CError, match=r"the JSON inside the model cannot be read at character \d+; convert the model"):
        c_interface.preprocessing(with_text("preprocessing.json", text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            with_text("labels.txt", "a\nb", compression=zipfile.ZIP_DEFLATED),
            r"labels.txt inside the model is compressed or encrypted, and only stored files are read; convert",
        ),
        (with_text("labels.txt", b"\xc0\xaf"), r"labels.txt inside the model is not UTF-8 text; convert the model"),
        (with_text("labels.txt", b"\xed\xa0\x80"), r"labels.txt inside the model is not UTF-8 text"),
        (with_text("labels.txt", "abc").replace(b"abc", b"abd", 1), r"labels.txt inside the model is damaged"),
    ],
)
def test_labels_that_cannot_be_read(content, message):
    with pytest.raises(CError, match=message):
        c_interface.labels(content)


def test_number_of_labels_must_match_the_output():
    content = small_classifier.with_files(small_classifier.model(), labels=("a", "b"))
    with (
        c_interface.engine(content) as engine,
        pytest.raises(CError, match=r"the model has 2 labels for an output of shape \[1, 3\]; convert it again"),
    ):
        c_interface.call("r2b_engine_check_classifier", engine)


def test_preprocessing_must_match_the_shape_of_the_input():
    content = small_classifier.with_files(small_classifier.model(), height=9)
    with (
        c_interface.engine(content) as engine,
        pytest.raises(CError, match=r"images of shape \[9, 8, 1\], but the model's input has shape \[1, 8, 8, 1"),
    ):
        c_interface.call("r2b_engine_check_classifier", engine)


def test_damaged_archive_never_gives_wrong_labels():
    """Changes a random bit of each byte of the archive in turn: labels are right or absent, or an error is reported."""
    whole = small_classifier.with_files(small_classifier.model())
    begin, rng = len(small_classifier.model()), np.random.default_rng(0)
    read = 0
    for place in range(begin, len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        try:
            labels = c_interface.labels(bytes(content))
        except CError:
            continue
        read += labels == list(LABELS)
        assert labels in ([], list(LABELS))
    assert 0 < read < len(whole) - begin


def test_handles_that_are_freed():
    with c_interface.engine(small_classifier.model()) as engine:
        pass
    for name, *arguments in (("check_classifier",), ("steps",), ("memory",), ("set_image", 0, None), ("run",)):
        with pytest.raises(CError, match=r"this is not an engine, or the engine has been freed"):
            c_interface.call(f"r2b_engine_{name}", engine, *arguments)
    with c_interface.model(small_classifier.model()) as model:
        pass
    with pytest.raises(CError, match=r"this is not a model, or the model has been freed"):
        c_interface.call("r2b_model_labels", model)
    with (
        c_interface.model(small_classifier.model()) as model,
        pytest.raises(CError, match=r"the model has 0 labels, numbered from 0; received 0"),
    ):
        c_interface.call("r2b_model_label", model, 0)


@pytest.mark.parametrize("profile", [0, 1])
def test_steps_are_described_and_timed_only_if_profiled(profile):
    with c_interface.engine(small_classifier.model(), profile=profile) as engine:
        for _ in range(3):
            c_interface.call("r2b_engine_run", engine)
        steps = []
        for i in range(c_interface.call("r2b_engine_steps", engine)):
            steps.append(c_interface.Step())
            c_interface.call("r2b_engine_step", engine, i, ctypes.byref(steps[-1]))
        assert any(b"LceBconv2d" in step.description for step in steps)
        assert {step.runs for step in steps} == {3 * profile}
        assert all((step.seconds > 0) == bool(profile) for step in steps)
        with pytest.raises(CError, match=r"the engine has \d+ steps, numbered from 0; received 99"):
            c_interface.call("r2b_engine_step", engine, 99, ctypes.byref(steps[0]))
        memory, weights = (c_interface.call(f"r2b_engine_{what}", engine) for what in ("memory", "weights"))
        assert 0 < weights < memory


def test_a_borrowed_file():
    content = small_classifier.with_files(small_classifier.model())
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    memory = np.zeros(len(content) + 32, np.uint8)
    begin = -memory.ctypes.data % 16
    memory[begin : begin + len(content)] = np.frombuffer(content, np.uint8)
    address, size = memory.ctypes.data + begin, ctypes.c_size_t(len(content))
    model = ctypes.c_void_p(c_interface.call("r2b_model_borrow", ctypes.c_void_p(address), size))
    engine = ctypes.c_void_p(c_interface.call("r2b_engine_create", model, None))
    c_interface.call("r2b_model_free", model)  # the engine still reads the file
    c_interface.set_image(engine, image)
    c_interface.call("r2b_engine_run", engine)
    np.testing.assert_array_equal(c_interface.values(engine, 3), Classifier(content, engine="r2b").probabilities(image))
    c_interface.call("r2b_engine_free", engine)


@pytest.mark.parametrize(
    ("address", "size", "message"),
    [
        (None, 16, r"the bytes of a model must be given"),
        (8, 16, r"a model that is not copied must begin at a multiple of 16 bytes; align it, or load it with a copy"),
        (16, 1 << 32, r"the file is larger than 2 GiB, the most that a model can have"),
    ],
)
def test_memory_that_cannot_be_a_borrowed_file_is_refused(address, size, message):
    with pytest.raises(CError, match=message):
        c_interface.call("r2b_model_borrow", ctypes.c_void_p(address), ctypes.c_size_t(size))


def test_engines_of_one_model_in_threads():
    content = small_classifier.with_files(small_classifier.model())
    images = np.random.default_rng(0).integers(0, 256, (8, 9, 9, 3), np.uint8)
    expected = [Classifier(content, engine="r2b").probabilities(image) for image in images]
    wrong = []

    def work(loaded, image, row):
        engine = ctypes.c_void_p(c_interface.call("r2b_engine_create", loaded, None))
        for _ in range(20):
            c_interface.set_image(engine, image)
            c_interface.call("r2b_engine_run", engine)
            if not np.array_equal(c_interface.values(engine, 3), row):
                wrong.append(row)
        c_interface.call("r2b_engine_free", engine)

    with c_interface.model(content) as loaded:
        threads = [threading.Thread(target=work, args=(loaded, *given)) for given in zip(images, expected)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
