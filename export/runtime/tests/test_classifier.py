"""Tests `Classifier`: labels and preprocessing from the file, images as arrays and as files."""

import io
import json
import os
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import small_classifier
from conftest import run
from r2b_runtime import Classifier, attached_files, model_file
from r2b_runtime.classifier import read_image

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return small_classifier.with_files(small_classifier.model())


def test_predicts_what_the_model_says(model):
    prepared = model_file.read(model).preprocessing()(IMAGE)
    (expected,) = run(model, [prepared[np.newaxis]])
    classes = Classifier(model).predict(IMAGE)
    best = np.argsort(-expected[0])
    assert classes == [(small_classifier.LABELS[i], expected[0][i]) for i in best]
    assert sum(probability for _, probability in classes) == pytest.approx(1)


def test_top(model):
    classifier = Classifier(model, num_threads=2)
    assert len(classifier.predict(IMAGE, top=2)) == 2
    assert len(classifier.predict(IMAGE, top=9)) == 3
    with pytest.raises(ValueError, match=r"top must be a whole number, at least 1; received 0"):
        classifier.predict(IMAGE, top=0)


def test_classifies_one_image_after_the_other(model):
    classifier = Classifier(model)
    first = classifier.predict(IMAGE)
    assert classifier.predict(255 - IMAGE[:, :, 0]) != first
    assert classifier.predict(IMAGE) == first


def test_image_files(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    classifier = Classifier(model)
    image = pillow.fromarray(IMAGE)
    image.save(tmp_path / "image.png")
    assert classifier.predict(tmp_path / "image.png") == classifier.predict(IMAGE)
    for mode in ("L", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        image.convert(mode).save(path)
        expected = np.asarray(pillow.open(path).convert("RGB"))
        assert classifier.predict(str(path)) == classifier.predict(expected)


def test_image_files_that_cannot_be_read(model, tmp_path):
    pytest.importorskip("PIL.Image")
    classifier = Classifier(model)
    with pytest.raises(FileNotFoundError, match=r"there is no image '.*nowhere.png'"):
        classifier.predict(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"'.*text.png' cannot be read as an image"):
        classifier.predict(tmp_path / "text.png")


def test_image_files_without_pillow(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install pillow, or give the pixels"):
        Classifier(model).predict("image.png")


# --- several images ---------------------------------------------------------------------------------------------------


def frames(number=3):
    """Random images, uint8 (number, 48, 64, 3)."""
    return np.random.default_rng(5).integers(0, 256, (number, 48, 64, 3), dtype=np.uint8)


def test_several_images_are_answered_like_one_by_one(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(IMAGE).save(tmp_path / "image.png")
    images = [*frames(), IMAGE[..., 0], pillow.fromarray(IMAGE), tmp_path / "image.png", str(tmp_path / "image.png")]
    classifier = Classifier(model)
    alone = [classifier.probabilities(image) for image in images]
    assert len({row.tobytes() for row in alone}) == 5
    for several in (images, tuple(images)):
        rows = classifier.probabilities(several)
        assert (rows.dtype, rows.shape) == (np.float32, (7, 3))
        assert [row.tobytes() for row in rows] == [row.tobytes() for row in alone]
        assert classifier.predict(several, top=2) == [classifier.predict(image, top=2) for image in images]
    batch = classifier.probabilities(frames())
    assert [row.tobytes() for row in batch] == [row.tobytes() for row in alone[:3]]
    assert classifier.predict(frames()[:1]) == [classifier.predict(frames()[0])]
    assert classifier.predict([]) == []
    assert classifier.probabilities(frames(0)).shape == (0, 3)


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"^images\[2\]: an image must be one array of .*shape \(4, 4, 2\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError, r"^images\[2\]: .*takes the images of a batch"),
        (np.zeros((4, 0, 3), np.uint8), ValueError, r"^images\[2\]: .*with at least one pixel; received shape"),
        (np.full((4, 4), "a"), ValueError, r"^images\[2\]: an image must hold uint8 values, or numbers in 0–255"),
        (np.full((4, 4), 256.0), ValueError, r"^images\[2\]: an image must hold uint8 .* from 256\.0 to 256\.0"),
        ([[1, 2], [3]], ValueError, r"^images\[2\]: "),
        ("nowhere.png", FileNotFoundError, r"^images\[2\]: there is no image 'nowhere.png'"),
        (__file__, ValueError, r"^images\[2\]: '.*test_classifier.py' cannot be read as an image"),
    ],
)
def test_an_error_names_the_image(model, wrong, kind, message):
    pytest.importorskip("PIL.Image")
    for call in (Classifier(model).predict, Classifier(model).probabilities):
        with pytest.raises(kind, match=message):
            call([IMAGE, IMAGE, wrong])


def test_no_image_is_run_if_the_file_of_another_is_missing(model, monkeypatch):
    classifier, ran = Classifier(model), []
    monkeypatch.setattr(classifier, "preprocessing", lambda image: ran.append(image))
    with pytest.raises(FileNotFoundError, match=r"images\[1\]: there is no image 'nowhere.png'"):
        classifier.predict([IMAGE, "nowhere.png"])
    assert not ran


@pytest.mark.parametrize("engine", ["r2b", "litert"])
def test_a_model_with_a_batch_of_three_classifies_one_image(engine):
    one, three = (
        Classifier(small_classifier.with_files(small_classifier.model(batch=batch)), engine=engine) for batch in (1, 3)
    )
    # The dense layer adds in another order for several rows.
    np.testing.assert_allclose(three.probabilities(IMAGE), one.probabilities(IMAGE), rtol=1e-5)
    assert [label for label, _ in three.predict(IMAGE)] == [label for label, _ in one.predict(IMAGE)]


def test_many_images_take_no_more_memory(model, tmp_path):
    """The peak memory for 600 images is less than 4 MiB above that for two."""
    # Reads VmHWM, because the peak that getrusage reports includes the parent process's.
    program = (
        "import re, sys\nimport numpy as np\nfrom r2b_runtime import Classifier\n"
        "classifier, frame = Classifier(sys.argv[1]), np.zeros((480, 640, 3), np.uint8)\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "classifier.predict([frame] * 2)\nbefore = peak()\nclassifier.predict([frame] * 600)\nprint(peak() - before)"
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(model)
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096  # KiB


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"labels": None}, r"carries no labels: convert the model with r2b_zoo.convert\(model, labels="),
        ({"preprocessing": None}, "carries no preprocessing: convert"),
        ({"labels": None, "preprocessing": None}, "carries no labels and no preprocessing: convert"),
        ({"labels": ["a", "b"]}, r"has 2 labels for an output of shape \(1, 3\)"),
        ({"labels": list("abcdefghijklmnopqrst")}, r"has 20 labels for an output of shape \(1, 3\)"),
        ({"mean": [float("nan")]}, r"preprocessing in the model file is damaged \(mean and std must be finite .*nan"),
        ({"std": [float("inf")]}, r"is damaged \(mean and std must be finite .*std=\(inf,\)"),
        ({"height": 9}, r"makes images of shape \(9, 8, 1\), but the model takes \(8, 8, 1\)"),
    ],
)
def test_refuses_a_file_with_missing_or_wrong_labels_or_preprocessing(files, message):
    data = small_classifier.with_files(small_classifier.model(), **files)
    with pytest.raises(ValueError, match=message):
        Classifier(data)


def test_refuses_a_file_without_an_archive():
    with pytest.raises(ValueError, match=r"carries no labels and no preprocessing"):
        Classifier(small_classifier.model())


def test_refuses_a_damaged_archive(model):
    at = model.index(b"zero\none")
    with pytest.raises(ValueError, match=r"labels.txt inside the model is damaged: Bad CRC-32"):
        Classifier(model[:at] + b"X" + model[at + 1 :])


# --- images of every kind ---------------------------------------------------------------------------------------------


def test_grey_of_16_bits(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    classifier = Classifier(model)
    grey = IMAGE[..., 0]
    for name in ("deep.png", "deep.tif"):
        pillow.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 1], grey)
        assert classifier.predict(tmp_path / name) == classifier.predict(np.repeat(grey[..., np.newaxis], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "LA", "I;16", "I", "F"])
def test_images_of_pillow(model, mode):
    """A Pillow image is classified like its RGB pixels, rotated as its EXIF data says."""
    pillow = pytest.importorskip("PIL.Image")
    from PIL import ImageCms

    image = pillow.fromarray(IMAGE)
    if mode in ("I;16", "I"):
        image = pillow.fromarray(IMAGE[..., 0].astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    elif mode == "LAB":
        profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        image = image.convert(mode)
    assert image.mode == mode
    plain = image
    if mode in ("I;16", "I"):
        plain = pillow.fromarray(IMAGE[..., 0])
    seen = np.asarray(plain.convert("RGB"))
    classifier = Classifier(model)
    assert classifier.predict(image) == classifier.predict(seen)
    image.getexif()[0x0112] = 6
    assert classifier.predict(image) == classifier.predict(np.rot90(seen, -1))


def test_files_that_are_no_images(model, tmp_path):
    pytest.importorskip("PIL")
    classifier = Classifier(model)
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(ValueError, match="cannot be read as an image: it is not a regular file"):
            classifier.predict(path)


def test_an_image_of_too_many_pixels(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / "image.png"
    pillow.fromarray(IMAGE).save(path)
    classifier = Classifier(model)
    message = (
        r"image.png' cannot be read as an image: Image size \(600 pixels\) exceeds limit of 599 pixels; give a larger"
    )
    for call in (classifier.predict, classifier.probabilities, read_image):
        with pytest.raises(ValueError, match=message):
            call(path, max_pixels=599)
    assert classifier.predict(path, max_pixels=600) == classifier.predict(IMAGE)


# --- threads ----------------------------------------------------------------------------------------------------------


def test_many_threads_share_one_classifier(model):
    classifier = Classifier(model)
    images = [np.roll(IMAGE, shift, axis=0) for shift in range(8)]
    expected = [classifier.probabilities(image).tolist() for image in images]
    wrong = []

    def work(first):
        try:
            for step in range(60):
                i = (first + step) % len(images)
                if classifier.probabilities(images[i]).tolist() != expected[i]:
                    wrong.append(i)
        except Exception as error:
            wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


# --- what the model takes and gives -----------------------------------------------------------------------------------

AS_IT_IS = {"mean": [0.0], "std": [1.0]}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_an_integer_input_without_a_scale_receives_rounded_pixels(dtype):
    """The probabilities equal those of the same model with a float input that receives the rounded image."""
    prepared = model_file.read(small_classifier.with_files(small_classifier.model(), **AS_IT_IS)).preprocessing()(IMAGE)
    rounded = np.clip(np.rint(prepared), 0, 255)
    assert np.ptp(rounded) > 100
    (expected,) = run(small_classifier.of_type("float32"), [rounded[np.newaxis]])
    data = small_classifier.with_files(small_classifier.of_type(dtype), **AS_IT_IS)
    classifier = Classifier(data, engine="litert")  # engine="r2b" does not run CAST
    np.testing.assert_allclose(classifier.probabilities(IMAGE), expected[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_an_input_with_a_scale_is_quantised(dtype):
    prepared = model_file.read(small_classifier.with_files(small_classifier.model())).preprocessing()(IMAGE)
    limits, scale = np.iinfo(dtype), np.float32(0.015)
    held = np.clip(np.rint(prepared / scale), limits.min, limits.max) * scale
    assert np.unique(held).size > 30
    (expected,) = run(small_classifier.of_type("float32"), [held[np.newaxis].astype(np.float32)])
    quantised = small_classifier.of_type(dtype, float(scale), operator="DEQUANTIZE")
    found = Classifier(small_classifier.with_files(quantised), engine="litert").probabilities(IMAGE)
    np.testing.assert_allclose(found, expected[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scale", "changes", "message"),
    [
        (
            "uint8",
            None,
            {},
            r"uint8 without a scale, so pixel values are passed unchanged, .*mean 0 and std 1; received mean=\(1",
        ),
        ("int32", None, {"mean": [0.0]}, r"int32 without a scale, .* received mean=\(0\.0,\), std=\(50\.0,\)"),
        (
            "int8",
            None,
            AS_IT_IS,
            "input of the model is int8 without a scale, which cannot hold 0–255: convert it with",
        ),
        ("bool", None, AS_IT_IS, "the input of the model must hold numbers; it holds bool: convert it with another"),
        ("int8", float("nan"), {}, "the scale of the input of the model must be finite and not negative; it is nan"),
    ],
)
def test_inputs_that_cannot_hold_the_image(dtype, scale, changes, message):
    data = small_classifier.with_files(small_classifier.of_type(dtype, scale), **changes)
    with pytest.raises(ValueError, match=message):
        Classifier(data, engine="litert")


def test_an_answer_that_is_not_a_number():
    weights = np.ones((3, 64))
    weights[1] = np.nan
    data = small_classifier.with_files(small_classifier.of_type("float32", weights=weights))
    classifier = Classifier(data, engine="litert")
    for call in (classifier.predict, classifier.probabilities):
        with pytest.raises(ValueError, match=r"the model's answer is not a number for 3 of 3 classes: its weights"):
            call(IMAGE)


# --- the archive behind the model -------------------------------------------------------------------------------------


def archived(files, method=zipfile.ZIP_STORED):
    stream = io.BytesIO(small_classifier.model())
    with zipfile.ZipFile(stream, "a", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


PREPROCESSING = json.dumps(small_classifier.PREPROCESSING)


@pytest.mark.parametrize("text", ["\ufeffzero\none\ntwo", "zero\r\none\r\ntwo\r\n", "zero\none\ntwo\n"])
def test_labels_may_have_a_bom_crlf_or_a_final_newline(text):
    data = archived({"labels.txt": text.encode(), "preprocessing.json": PREPROCESSING}, zipfile.ZIP_DEFLATED)
    assert Classifier(data).labels == ("zero", "one", "two")


def test_a_damaged_attached_file_that_is_not_needed_does_no_harm():
    data = archived({"labels.txt": "zero\none\ntwo", "preprocessing.json": PREPROCESSING, "other": b"\0" * 99})
    at = data.index(b"\0" * 99)
    assert Classifier(data[:at] + b"X" + data[at + 1 :]).labels == ("zero", "one", "two")


@pytest.mark.parametrize(
    ("content", "method", "message"),
    [
        (
            b"a" * (attached_files.MAX_BYTES + 1),
            zipfile.ZIP_DEFLATED,
            r"has 16,777,217 bytes, and at most 16,777,216 are",
        ),
        (b"zero\none\ntwo", zipfile.ZIP_BZIP2, r"is compressed by method 12; known are 0 \(stored\) and 8 \(deflated"),
        (b"zero\none\ntwo", zipfile.ZIP_LZMA, r"is compressed by method 14; known are"),
        (b"zero\none\n\xfftwo", zipfile.ZIP_STORED, r"is not UTF-8 text: 'utf-8' codec"),
    ],
)
def test_attached_files_that_are_not_read(content, method, message):
    data = archived({"labels.txt": content}, method)
    assert len(data) < 100_000
    with pytest.raises(ValueError, match=f"labels.txt inside the model {message}.*; convert or copy it again"):
        Classifier(data)


def test_refuses_an_attached_file_larger_than_its_stated_size():
    """Only as many bytes are inflated as the archive states, so their checksum is wrong."""
    data = bytearray(archived({"labels.txt": b"a" * (1 << 20)}, zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.index(signature) + offset
        data[at : at + 4] = (1000).to_bytes(4, "little")
    with pytest.raises(ValueError, match=r"labels.txt inside the model is damaged: "):
        Classifier(bytes(data))


def test_damaged_archives_give_one_kind_of_error():
    rng = np.random.default_rng(4)
    whole = archived({"labels.txt": b"zero\none\ntwo", "preprocessing.json": PREPROCESSING}, zipfile.ZIP_DEFLATED)
    start, refused = len(small_classifier.model()), 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(start, len(data))] = rng.integers(256)
        described = model_file.read(bytes(data[: rng.integers(start, len(data))] if rng.random() < 0.2 else data))
        for read in (described.labels, described.preprocessing):
            try:
                read()
            except ValueError:
                refused += 1
    assert refused > 50
