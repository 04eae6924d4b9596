"""Tests that the WebAssembly engine, in node, gives the native engine's bits and labels, and a message per mistake."""

import base64
import gzip
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import drawn_graphs
import lce_model
import small_classifier
from conftest import outputs_of
from r2b_runtime import Classifier, Interpreter, web
from tensorflow.lite.python import schema_py_generated as schema
from test_networks import half_blocks

JOBS = pathlib.Path(__file__).parent / "web" / "jobs.mjs"
TYPES = pathlib.Path(__file__).resolve().parents[2] / "web" / "index.d.ts"
GRAPHS = 40
CHANNELS = (1, 8, 31, 48, 64)
pytestmark = pytest.mark.skipif(
    not web.WASM.is_file(),
    reason="r2b-runtime was installed without its engine for browsers: pip install ziglang, and install it again",
)


@pytest.fixture(scope="session")
def node():
    """The command that runs node."""
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is missing: apt-get install nodejs")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.match(r"v(\d+)", version)[1]) < 18:
        pytest.skip(f"node {version.strip()} is too old: install 18 or newer")
    return path


@pytest.fixture
def run_jobs(node, tmp_path):
    """Runs jobs in one process: run_jobs([{kind, model as bytes, ...}]) returns the list of results."""

    def run(jobs):
        for number, job in enumerate(jobs):
            path = tmp_path / f"{number}.tflite"
            path.write_bytes(job["model"])
            job["model"] = str(path)
        (tmp_path / "jobs.json").write_text(json.dumps(jobs))
        ended = subprocess.run(
            [node, "--expose-gc", str(JOBS), str(web.FOLDER / "index.js"), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads((tmp_path / "answers.json").read_text())

    return run


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def expected(model, x):
    """Returns the native engine's outputs in base64.

    Its portable kernels and the WebAssembly kernels add in the same order, without fused multiply-add.
    """
    interpreter = Interpreter(model, engine="r2b", kernels="portable")
    interpreter.allocate_tensors()
    return [text(value) for value in outputs_of(interpreter, [x])]


def test_graphs_and_networks_have_the_bits_of_the_native_engine(run_jobs):
    models = [(graph.model, graph.shape) for graph in (drawn_graphs.draw([11, number]) for number in range(GRAPHS))]
    models += [
        (half_blocks(np.random.default_rng(channels), size=6, channels=channels, blocks=2), (1, 24, 24, 3))
        for channels in CHANNELS
    ]
    inputs = [np.random.default_rng(i).normal(0, 1, shape).astype(np.float32) for i, (_, shape) in enumerate(models)]
    answers = run_jobs([{"kind": "run", "model": model, "input": text(x)} for (model, _), x in zip(models, inputs)])
    for number, ((model, _), x, answer) in enumerate(zip(models, inputs, answers)):
        assert answer == {"outputs": expected(model, x)}, number


def convolutions(rng, channels):
    """Returns the bytes of a model: a float convolution, LOGISTIC, and a second convolution; both pad with zeros."""
    model = lce_model.Model()

    def conv(x, inputs, outputs):
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        filters = model.constant(rng.normal(size=(outputs, 3, 3, inputs)))
        bias = model.constant(rng.normal(size=outputs))
        out = model.tensor((1, 7, 9, outputs))
        model.builtin("CONV_2D", [x, filters, bias], [out], options)
        return out

    activated = model.tensor((1, 7, 9, channels))
    model.builtin("LOGISTIC", [conv(model.input((1, 7, 9, 3)), 3, channels)], [activated])
    model.output(conv(activated, channels, 4))
    return model.bytes()


def test_convolutions_of_1_to_33_channels_have_the_native_engines_bits(run_jobs):
    """WebAssembly's kernels compute three quarters of a block as a whole block, but must not store the unused lanes."""
    models = [convolutions(np.random.default_rng(channels), channels) for channels in range(1, 34)]
    x = np.random.default_rng(0).normal(0, 1, (1, 7, 9, 3)).astype(np.float32)
    answers = run_jobs([{"kind": "run", "model": model, "input": text(x)} for model in models])
    differing = [i + 1 for i, model in enumerate(models) if answers[i] != {"outputs": expected(model, x)}]
    assert differing == []


def test_images_have_the_labels_and_probabilities_of_pythons_classifier(run_jobs):
    rng = np.random.default_rng(0)
    shapes = {"grey": (8, 8, 1), "colour": (20, 20, 3), "wide": (9, 31, 3)}
    jobs, wanted = [], []
    for batch, (height, width, channels) in enumerate(shapes.values(), 1):
        model = small_classifier.with_files(
            small_classifier.model(shape=(height, width, channels), batch=batch),
            height=height,
            width=width,
            channels=channels,
            mean=[120.0] * channels,
            std=[60.0] * channels,
        )
        images = [rng.integers(0, 256, (h, w, c), np.uint8) for h, w, c in ((41, 60, 4), (20, 20, 3), (7, 5, 1))]
        given = [{"data": text(image), "height": image.shape[0], "width": image.shape[1]} for image in images]
        jobs.append({"kind": "predict", "model": model, "images": given})
        wanted.append((model, [Classifier(model, kernels="portable").predict(i) for i in images]))
    for answer, (model, predictions), (height, width, channels) in zip(run_jobs(jobs), wanted, shapes.values()):
        found = [[(one["label"], np.float32(one["probability"])) for one in image] for image in answer["answers"]]
        assert found == [[(label, np.float32(share)) for label, share in image] for image in predictions]
        assert answer["labels"] == list(small_classifier.LABELS)
        assert answer["size"] == len(model)
        assert answer["preprocessing"] == {
            "height": height,
            "width": width,
            "channels": channels,
            "cropFraction": small_classifier.PREPROCESSING["crop_fraction"],
            "mean": [120.0] * channels,
            "std": [60.0] * channels,
        }


def network_for_photographs():
    """The file of a small Real-to-Binary network with random weights, for photographs."""
    return small_classifier.with_files(
        half_blocks(np.random.default_rng(0), size=24, channels=64, blocks=3),
        labels=[f"class {i}" for i in range(10)],
        height=96,
        width=96,
        channels=3,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    )


def test_photographs_have_the_labels_of_pythons_classifier(run_jobs, whole_photographs):
    model = network_for_photographs()
    classifier = Classifier(model, kernels="portable")
    images = [{"data": text(image), "height": image.shape[0], "width": image.shape[1]} for image in whole_photographs]
    (answer,) = run_jobs([{"kind": "predict", "model": model, "images": images}])
    expected = [classifier.predict(image, top=10) for image in whole_photographs]
    found = [[(one["label"], one["probability"]) for one in image] for image in answer["answers"]]
    assert found == expected
    assert len({str(image) for image in expected}) == 20


def test_errors_of_damaged_files_are_sentences(run_jobs):
    model = small_classifier.with_files(small_classifier.model())
    bare = small_classifier.model()
    labels = small_classifier.with_files(bare, labels=("zero", "one"))
    rng = np.random.default_rng(0)
    flipped = []
    for _ in range(150):
        changed = bytearray(model)
        for place in rng.integers(0, len(model), 3):
            changed[place] = rng.integers(0, 256)
        flipped.append(bytes(changed))
    cut = [model[:size] for size in (0, 1, 7, 100, len(bare) // 2)]
    answers = run_jobs([{"kind": "load", "model": data} for data in [bare, labels, *cut, *flipped]])
    assert answers[0]["Engine"] is None
    assert re.match("Error: the model has no preprocessing metadata: convert it", answers[0]["Classifier"])
    assert answers[1] == {
        "Engine": None,
        "Classifier": "Error: the model has 2 labels for an output of shape [1, 3]; convert it again with as many "
        "labels as classes",
    }
    for data, answer in zip(cut, answers[2:]):
        assert re.match(r"Error: .*(damaged|not copied whole|no model|empty)", answer["Engine"]), (len(data), answer)
    told = [one for answer in answers[2 + len(cut) :] for one in answer.values() if one is not None]
    assert len(told) > 20
    for sentence in told:
        assert re.match("Error: [^\n]{10,}$", sentence)
        assert "the engine stopped" not in sentence  # the engine caught the error, not the WebAssembly runtime


def test_errors_of_wrong_calls_are_sentences(run_jobs):
    (told,) = run_jobs([{"kind": "misuse", "model": small_classifier.with_files(small_classifier.model())}])
    images = "TypeError: an image must be an ImageData, a canvas, an ImageBitmap, an <img> that is loaded, "
    freed = "Error: this engine was freed; load the model again"
    assert told["few"] == "RangeError: input 0 has 64 values, in the shape [1,8,8,1]; received 3"
    assert told["none"] == "TypeError: run() takes an array for each of the model's inputs (1); received 0"
    values = "TypeError: input 0 takes float32 values, as a Float32Array or a plain array; received "
    assert told["bytes"] == f"{values}Uint8Array"
    assert told["text"] == f"{values}String"
    assert re.match(r"Error: .*\[1, 0, 8, 1\] has no elements", told["shape"])
    assert told["input"] == "Error: the model has 1 inputs, numbered from 0; received 1"
    assert told["freed"] == told["freedInputs"] == freed
    assert told["image"].startswith(images)
    assert told["image"].endswith("received String")
    assert told["pixels"] == (
        "TypeError: an image's data must be a Uint8Array or Uint8ClampedArray with 1, 3 or 4 bytes for each of its "
        "3 x 2 pixels; received Uint8Array, 10 values"
    )
    assert told["floats"].endswith("received Float32Array, 64 values")
    assert told["empty"].endswith("of its 0 x 8 pixels; received Uint8Array, 0 values")
    assert told["place"] == "Error: the input holds 1 images, numbered from 0; received 1"
    assert told["top"] == "RangeError: top must be a whole number of at least 1; received 0"
    assert re.match("Error: .*memory", told["memory"])
    assert told["wasm"].startswith(
        "Error: the compiled engine is damaged, or WebAssembly with SIMD and exceptions does"
    )
    assert told["source"] == (
        "TypeError: a model must be given as a URL (in node also a path), a Blob, a Response, an ArrayBuffer or a view "
        "of an ArrayBuffer; received number"
    )
    assert re.match("Error: a model could not be read: .*no such file", told["file"])
    assert told["after"] == 3 + 3
    assert told["resized"] == 6


@pytest.mark.parametrize(("kind", "count"), [("cycles", 1000), ("abandoned", 20)])
def test_cycles_of_loading_and_freeing_leave_no_memory_behind(run_jobs, kind, count):
    (sizes,) = run_jobs([{"kind": kind, "model": small_classifier.model(), "count": count}])
    assert sizes["late"] == sizes["early"] > 0


def test_compiled_engine_stays_within_its_size_limits():
    compiled = web.wasm()
    assert len(compiled) <= 350 * 1024
    assert len(gzip.compress(compiled, 9)) <= 120 * 1024


def test_a_page_refuses_a_file_without_labels_or_preprocessing():
    bare = small_classifier.model()
    with pytest.raises(ValueError, match=r"a page needs labels and preprocessing, but .* carries no labels and no pre"):
        web.page(bare)
    with pytest.raises(ValueError, match=r"carries no labels: convert the model with r2b_zoo.convert\(model, labels"):
        web.page(small_classifier.with_files(bare, labels=None))
    with pytest.raises(ValueError, match="carries no preprocessing"):
        web.page(small_classifier.with_files(bare, preprocessing=None))
    with pytest.raises(ValueError, match="damaged or was not copied whole"):
        web.page(small_classifier.with_files(bare)[:1000])
    with pytest.raises(FileNotFoundError, match=r"there is no model file 'none\.tflite'"):
        web.page("none.tflite")


def test_an_installation_without_the_engine_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(web, "WASM", tmp_path / "r2b.wasm")
    with pytest.raises(RuntimeError, match="was compiled where ziglang was missing: install a wheel, or pip install z"):
        web.page(small_classifier.with_files(small_classifier.model()))


def test_a_page_holds_all_that_it_needs(tmp_path):
    model = small_classifier.with_files(small_classifier.model())
    path = tmp_path / "<b>&digits.tflite"
    path.write_bytes(model)
    page = web.page(path)
    assert page == web.page(path)
    assert "<title>&lt;b&gt;&amp;digits</title>" in page
    assert base64.b64encode(model).decode() in page
    assert not re.search(r"@[A-Z]+@|^export |src=\"|href=|https?://", page, re.MULTILINE)
    assert "default-src 'none'" in page
    shown = page._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<script" not in shown


def test_typescript_accepts_the_types_and_refuses_what_they_exclude(tmp_path):
    if shutil.which("tsc") is None:
        pytest.skip("tsc is missing: apt-get install node-typescript")
    for path in (TYPES, JOBS.with_name("use.ts")):
        shutil.copy(path, tmp_path)
    command = "tsc --noEmit --strict --target es2022 --module es2022 --moduleResolution node use.ts"
    checked = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True)
    assert (checked.stdout, checked.returncode) == ("", 0)
