"""The ``r2b`` command: what it prints, how it ends, and what it says when something is wrong."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import r2b_zoo
from r2b_zoo import cli, pipeline, weights
from r2b_zoo.conversion import metadata, web_page
from r2b_zoo.data.preprocessing import IMAGENET
from tests.networks import randomize
from tests.small import SMALL, small_network

COMMANDS = ["cost", "demo", "evaluate", "export", "list", "predict", "train", "verify"]
NOISE = ["cuda", "onednn", "absl", "computation_placer", "cpu_feature_guard", "tensorflow/", "Warning", "WARNING"]


@pytest.fixture(scope="module")
def imagenet_network():
    """A narrow network for ImageNet's classes, with random weights."""
    return randomize(r2b_zoo.RealToBinaryNet(**{**SMALL, "num_classes": 1000}))


@pytest.fixture(scope="module")
def imagenet_weights(imagenet_network, tmp_path_factory):
    """Path of the weights of ``imagenet_network`` as Keras writes them: without a record."""
    path = tmp_path_factory.mktemp("weights") / "imagenet.h5"
    imagenet_network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def exported(imagenet_weights):
    """Path of the .tflite that ``r2b export`` makes from ``imagenet_weights``, and the output of the command.

    If r2b-runtime has its engine for browsers, the command also writes a page beside the .tflite.
    """
    path = imagenet_weights.with_suffix(".tflite")
    words = ["export", str(imagenet_weights), str(path), "--input-size", "32"]
    if web_page.is_available():
        words += ["--web", str(path.with_suffix(".html"))]
    done = CliRunner().invoke(cli.r2b, words)
    assert done.exit_code == 0, done.output
    return path, done.output


# --- help -------------------------------------------------------------------------------------------------------------


def test_the_help_names_every_command():
    done = CliRunner().invoke(cli.r2b, ["--help"])
    assert done.exit_code == 0
    assert sorted(cli.r2b.commands) == COMMANDS
    for command in COMMANDS:
        assert f"\n  {command} " in done.output
    assert "Start with `r2b demo`" in done.output


def test_the_help_cuts_no_sentence():
    done = CliRunner().invoke(cli.r2b, ["--help"], env={"COLUMNS": "80"}, terminal_width=80)
    commands = done.output.split("Commands:\n")[1].splitlines()
    assert len(commands) == len(COMMANDS)
    assert not [line for line in commands if line.endswith(("...", "…"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_an_example_that_the_command_understands(command):
    done = CliRunner().invoke(cli.r2b, [command, "--help"])
    assert done.exit_code == 0
    examples = [line.split("#")[0].split() for line in done.output.split("Example:\n")[1].splitlines() if line.strip()]
    assert examples
    for r2b_word, name, *arguments in examples:
        assert (r2b_word, name) == ("r2b", command)
        cli.r2b.commands[command].make_context(command, arguments)  # raises for an unknown option


def test_the_version(r2b):
    ended = r2b("--version")
    assert (ended.status, ended.out) == (0, f"r2b, version {r2b_zoo.__version__}\n")


# --- list and cost ----------------------------------------------------------------------------------------------------


def test_list_names_networks_recipes_and_data_sets(r2b):
    ended = r2b("list")
    assert ended.status == 0
    for name in r2b_zoo.list_models():
        assert name in ended.out
    assert "Recipes: digits" in ended.out
    assert "Data sets: digits" in ended.out


def test_the_card_of_a_network(r2b):
    ended = r2b("list", "RealToBinaryNet")
    assert ended.status == 0
    assert "11,995,624" in ended.out
    assert "65.01 % / 85.72 %" in ended.out
    assert "Apache-2.0" in ended.out


def test_cost_of_the_papers_network(r2b):
    ended = r2b("cost", "RealToBinaryNet", "StrongBaselineNet", "--downsample", "real", "--json")
    assert ended.status == 0
    result = json.loads(ended.out)["result"]
    gated, scaled = result["networks"]
    assert gated["parameters"] == 11_995_624
    assert gated["binary_macs"] == 1_676_279_808
    assert gated["float_macs"] == 138_087_936
    # The gate of each half block has two dense layers: from its input's C channels to C/8, and from C/8 to the channels
    # of its output.
    gates = [(c, c) for c in (64, 128, 256, 512) for _ in range(3)] + [(64, 64), (64, 128), (128, 256), (256, 512)]
    assert gated["flops"] - scaled["flops"] == sum(c * c // 8 + c // 8 * out for c, out in gates)
    assert result["gate_overhead"]["macs"] == gated["flops"] - scaled["flops"]
    assert gated["table_1"]["row"] == "Real-to-Binary"
    assert gated["table_1"]["float_operations"] == 1.564e8
    assert scaled["table_1"] is None


def test_the_table_of_costs(r2b):
    words = ["--input-size", 32, "--stem", "cifar", "--num-classes", 10, "--width", 16]
    ended = r2b("cost", *words)
    assert ended.status == 0
    assert "Cost of one image, 32×32×3" in ended.words
    for name in r2b_zoo.list_models():
        assert name in ended.out
    assert "block8b_conv" not in ended.out
    assert "in table 1 " not in ended.words.replace("as in table 1 of", "")
    layers = r2b("cost", "BNN18", "--layers", *words)
    assert "block8b_conv" in layers.out
    assert "BNN18, binary downsampling" in layers.out


# --- train and demo ---------------------------------------------------------------------------------------------------


def test_train_shows_the_fields_and_trains_nothing(r2b, tmp_path):
    ended = r2b("train", "recipe=digits", "binary.epochs=3", "--show", "--output", tmp_path / "run")
    assert ended.status == 0
    fields = dict(line.split("=", 1) for line in ended.out.splitlines())
    assert fields["binary.epochs"] == "3"
    assert fields["gate"] == "True"
    assert not (tmp_path / "run").exists()


@pytest.fixture
def finished(smoke_run, tmp_path, monkeypatch):
    """Replaces training by a copy of a finished run.

    Returns the folder, the results that the pipeline returns, and a list of the plans that it receives.
    """
    from r2b_zoo.runs.folder import RunFolder

    folder = RunFolder(tmp_path / "run")
    results, plans = smoke_run.results(), []

    def run(plan, opened, callbacks, log):
        assert opened.path == folder.path
        shutil.copytree(smoke_run.path, folder.path)
        plans.append(plan)
        log("Converting binary")
        return results

    monkeypatch.setattr(pipeline, "run", run)
    return folder, results, plans


def test_demo_prints_a_table_and_says_where_the_report_is(r2b, finished):
    folder, results, plans = finished
    ended = r2b("demo", "--seed", 4, "--output", folder.path)
    assert ended.status == 0, ended.err
    assert plans[0].seed == 4
    for row in results["stages"]:
        assert f"{row['tflite_bytes']:,}" in ended.out
        assert f"{100 * row['test_accuracy']:.1f} %" in ended.out
    for heading in ("stage", "precision", "test top-1", "bytes", "ms"):
        assert heading in ended.words
    assert f"Report: {folder.report_path}" in ended.out
    assert folder.report_path.is_file()
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ("gate=false", "Off: the gate (the learned scale"),
        ("attention_matching=false", "Off: attention matching"),
        ("output_matching=false", "Off: output matching"),
        ("progressive=false", "Off: the progressive teachers"),
    ],
)
def test_one_argument_switches_an_idea_off(r2b, finished, switch, words):
    folder, _, plans = finished
    ended = r2b("train", "recipe=digits", switch, "--smoke", "--output", folder.path)
    assert ended.status == 0, ended.err
    assert words in ended.words
    assert len(plans[0].switched_off) == 1
    assert plans[0].config["smoke"] is True


def test_train_exits_with_1_if_the_verification_fails(r2b, finished):
    folder, results, _ = finished
    verification = results["verification"]
    verification |= {"passed": False, "disagreements": verification["images"]}
    ended = r2b("train", "--smoke", "--output", folder.path)
    assert ended.status == 1
    assert "DIFFERENT" in ended.out
    assert (
        ended.err.strip() == "Error: The converted file could not be shown to be equal to the Keras model; see above."
    )
    assert folder.report_path.is_file()


def test_an_interrupted_run_says_how_to_resume(r2b, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    ended = r2b("demo", "--output", tmp_path / "run")
    assert ended.status == 130
    assert ended.err == "\nStopped. Finished stages of a run are kept; the same command resumes from them.\n"


# --- predict, evaluate, export, verify --------------------------------------------------------------------------------


def test_predict_prints_the_five_best_labels(r2b, photograph, imagenet_network, imagenet_weights):
    ended = r2b("predict", photograph, "--model", imagenet_weights, "--input-size", 32)
    assert ended.status == 0, ended.err
    found = [line.split(" %  ") for line in ended.out.splitlines()]
    inputs = IMAGENET.with_size(32, 32)(np.asarray(Image.open(photograph).convert("RGB")))
    (expected,) = r2b_zoo.decode_predictions(imagenet_network(inputs[np.newaxis], training=False).numpy())
    assert [label for _, label in found] == [label for _, label, _ in expected]
    for (percent, _), (_, _, probability) in zip(found, expected, strict=True):
        assert float(percent) == pytest.approx(100 * probability, abs=0.011)
    assert len(found) == 5


def test_predict_with_a_runs_file(r2b, photograph, smoke_run):
    ended = r2b("predict", photograph, "--weights", smoke_run.tflite_path, "--top", 3)
    assert ended.status == 0, ended.err
    labels = [line.split()[-1] for line in ended.out.splitlines()]
    assert len(labels) == 3
    assert set(labels) <= set("0123456789")


def test_predict_of_an_image_larger_than_allowed(r2b, photograph, smoke_run):
    width, height = Image.open(photograph).size
    words = ["predict", photograph, "--model", smoke_run.tflite_path, "--top", 1, "--max-pixels"]
    refused = r2b(*words, width * height - 1)
    assert refused.status == 1
    assert f"Image size ({width * height} pixels) exceeds limit of {width * height - 1} pixels" in refused.err
    assert r2b(*words, width * height).status == 0


def test_labels_cannot_drive_the_terminal(r2b, photograph, smoke_run, tmp_path):
    labels = [f"\x1b[2J{digit}\u202e" for digit in range(10)]
    preprocessing = metadata.read(smoke_run.tflite_path.read_bytes()).preprocessing
    written = metadata.write(
        smoke_run.tflite_path.read_bytes(), name="net", description="", labels=labels, preprocessing=preprocessing
    )
    (tmp_path / "net.tflite").write_bytes(written)
    ended = r2b("predict", photograph, "--model", tmp_path / "net.tflite", "--top", 1)
    assert ended.status == 0, ended.err
    assert re.fullmatch(r" *\d+\.\d\d %  \\x1b\[2J\d\\u202e\n", ended.out)


def test_evaluate_a_run(r2b, smoke_run):
    ended = r2b("evaluate", smoke_run.path, "--json")
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)["result"]
    assert found["images"] == 355
    assert found["top1"] == pytest.approx(smoke_run.stage_result("binary")["test_accuracy"], abs=1.5 / 355)
    assert found["top1"] <= found["top5"] <= 1
    assert np.sum(found["confusion"]) == 355
    assert [row["name"] for row in found["classes"]] == list("0123456789")
    assert [row["images"] for row in found["classes"]] == np.sum(found["confusion"], axis=1).tolist()
    assert found["dataset"]["description"] == "scikit-learn's handwritten digits, 8×8"


def test_evaluate_a_file_a_run_and_its_weights_on_the_same_images(r2b, smoke_run):
    weights_file = smoke_run.weights("binary")  # the file records its network and its input size
    for model, fields in (
        (smoke_run.tflite_path, ["data=digits"]),
        (smoke_run.path, []),
        (weights_file, ["--data", "digits"]),
    ):
        ended = r2b("evaluate", model, *fields)
        assert ended.status == 0, ended.err
        results = smoke_run.results()["tflite"]
        assert f"top-1 {100 * results['accuracy']:.1f} %, top-5 " in ended.words
        assert ended.out.endswith(" of 355 test images\n")
        before, matrix = ended.out.split("Confusion matrix: a row per true class, a column per predicted class")
        classes = before.split("digits, 8×8\n")[1].splitlines()
        assert classes[0].split() == ["class", "images", "precision", "recall", "confused", "with"]
        assert [line.split()[0] for line in classes[1:11]] == list("0123456789")
        shown = [line.split()[1:] for line in matrix.splitlines()[2:12]]
        cells = np.zeros((10, 10), int)
        for actual, predicted, images in results["confusion"]:
            cells[actual, predicted] = images
        assert [[int(cell.replace("·", "0")) for cell in row] for row in shown] == cells.tolist()


def test_evaluate_writes_a_picture_and_a_table(r2b, smoke_run, tmp_path):
    picture, table = tmp_path / "confusion.png", tmp_path / "confusion.csv"
    ended = r2b("evaluate", smoke_run.path, "--plot", picture, "--csv", table)
    assert ended.status == 0, ended.err
    assert f"Written to {picture}\nWritten to {table}\n" in ended.out
    with Image.open(picture) as image:
        assert min(image.size) > 500
        assert len(set(image.convert("RGB").resize((64, 64)).getdata())) > 10
    rows = list(csv.reader(table.open(encoding="utf-8")))
    assert rows[0] == ["class", "images", "precision", "recall", *(f"predicted {i}" for i in range(10))]
    assert sum(int(cell) for row in rows[1:] for cell in row[4:]) == 355


def test_evaluate_on_a_folder_of_photographs(r2b, smoke_run, tmp_path):
    """Evaluates on image files of the digits 3 and 8 only."""
    from r2b_zoo.data.digits import digits

    images, labels = digits().test.images, digits().test.labels
    for digit in (3, 8):
        (tmp_path / "photos" / str(digit)).mkdir(parents=True)
        for i in np.flatnonzero(labels == digit):
            Image.fromarray(images[i, ..., 0]).save(tmp_path / "photos" / str(digit) / f"{i}.png")
    (tmp_path / "photos" / "3" / "[b]text.png").write_text("no image")
    everything = r2b("evaluate", smoke_run.tflite_path, f"data={tmp_path / 'photos'}", "split=all", "--json")
    found = json.loads(everything.out)["result"]
    own = json.loads(r2b("evaluate", smoke_run.tflite_path, "data=digits", "--json").out)["result"]["confusion"]
    expected = [own[digit] if digit in (3, 8) else [0] * 10 for digit in range(10)]
    assert found["confusion"] == expected
    assert found["dataset"]["skipped"][0].startswith("3/[b]text.png is left out: cannot identify image file")
    fifth = r2b("evaluate", smoke_run.path, "data=folder", f"data.dir={tmp_path / 'photos'}")
    assert fifth.status == 0, fifth.err
    assert "Skipped 1 file:" in fifth.out
    assert "3/[b]text.png is left out" in fifth.out
    assert (
        "has no split of its own, so these are about a fifth of each class, which training leaves out; split="
        in fifth.words
    )
    assert "of 15 test images" in fifth.words
    (tmp_path / "photos" / "3").rename(tmp_path / "photos" / "three")
    unknown = r2b("evaluate", smoke_run.path, f"data={tmp_path / 'photos'}")
    assert unknown.err == (
        "Error: The network does not know three; its 10 classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9. Name the folders of "
        "photographs after its classes, or remove the other folders.\n"
    )


def test_export_prints_what_became_of_each_layer(exported):
    path, output = exported
    assert path.stat().st_size > 100_000
    assert output.count(" binary ") >= 16
    assert f"Written to {path}" in output
    if web_page.is_available():
        assert base64.b64encode(path.read_bytes()).decode() in path.with_suffix(".html").read_text(encoding="utf-8")
    labels = r2b_zoo.load(path).labels
    assert labels is not None
    assert labels[0] == "tench"


@pytest.mark.skipif(not web_page.is_available(), reason="r2b-runtime is not installed with its engine for browsers")
def test_export_writes_a_page_for_browsers(r2b, smoke_run, tmp_path):
    page, other = tmp_path / "digits.html", tmp_path / "again.html"
    ended = r2b("export", smoke_run.tflite_path, "--web", page)
    assert (ended.status, ended.out) == (0, f"Written to {page}\n"), ended.err
    text = page.read_text(encoding="utf-8")
    assert base64.b64encode(smoke_run.tflite_path.read_bytes()).decode() in text
    assert "<title>model</title>" in text
    refused = r2b("export", smoke_run.tflite_path, "--web", page)
    assert "digits.html' exists already: name another file, or overwrite it with --force." in refused.err
    answer = r2b("export", smoke_run.tflite_path, "--web", other, "--json")
    assert json.loads(answer.out)["result"] == {"model": str(smoke_run.tflite_path), "web": str(other)}
    assert other.read_text(encoding="utf-8") == text


@pytest.mark.skipif(not web_page.is_available(), reason="r2b-runtime is not installed with its engine for browsers")
def test_export_refuses_a_page_of_a_file_without_labels(r2b, smoke_run, tmp_path):
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(smoke_run.tflite_path.read_bytes().split(b"PK\x03\x04")[0])
    ended = r2b("export", bare, "--web", tmp_path / "bare.html")
    assert ended.status == 1
    assert f"'{bare}' carries no labels and no preprocessing: convert the model with r2b_zoo.convert" in ended.err
    assert not (tmp_path / "bare.html").exists()


def test_export_refuses_layers_that_stay_float_without_no_strict(r2b, tmp_path):
    weights.save(small_network("BiRealNet18", "binary_activations"), tmp_path / "weights.h5")
    (tmp_path / "labels.txt").write_text("\n".join(f"thing {i}" for i in range(10)) + "\n", encoding="utf-8")
    words = ["export", tmp_path / "weights.h5", tmp_path / "model.tflite", "--input-size", 32]
    refused = r2b(*words)
    assert refused.status == 1
    assert "block1a_conv" in refused.err
    assert "Traceback" not in refused.err
    assert not (tmp_path / "model.tflite").exists()
    allowed = r2b(*words, "--no-strict", "--labels", tmp_path / "labels.txt")
    assert allowed.status == 0, allowed.err
    assert r2b_zoo.load(tmp_path / "model.tflite").labels == tuple(f"thing {i}" for i in range(10))


def test_verify_ends_with_0_for_the_same_network_and_1_for_another(
    r2b, imagenet_weights, exported, photograph, tmp_path
):
    words = ["verify", imagenet_weights, exported[0], "--images", photograph.parent, "--input-size", 32]
    equal = r2b(*words)
    assert equal.status == 0, equal.err
    assert "equal on 1 image." in equal.out
    too_large = r2b(*words, "--max-pixels", 1)
    assert too_large.status == 1
    assert "exceeds limit of 1 pixels" in too_large.err
    shutil.copy(imagenet_weights, tmp_path / "other.h5")
    with h5py.File(tmp_path / "other.h5", "r+") as file:
        for values in file["logits"]["logits"].values():
            values[...] = -values[...]
    different = r2b("verify", tmp_path / "other.h5", *words[2:])
    assert different.status == 1
    assert "DIFFERENT on 1 image." in different.out
    assert different.err == ""


def test_verify_a_run_on_some_of_its_test_images(r2b, smoke_run):
    ended = r2b("verify", smoke_run.path, "-n", 64)
    assert ended.status == 0, ended.out + ended.err
    assert "equal on 64 images" in ended.out


# --- in a separate process --------------------------------------------------------------------------------------------


def process(*words):
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", "from r2b_zoo.cli import main; main()", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_tensorflows_noise_does_not_reach_the_user(photograph, imagenet_weights):
    done = process("predict", photograph, "--model", imagenet_weights, "--input-size", 32)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5
    assert [word for word in NOISE if word.lower() in done.stderr.lower()] == []


def test_an_error_is_one_sentence_and_with_debug_a_traceback(tmp_path):
    done = process("evaluate", tmp_path / "none")
    assert done.returncode == 1
    said = f"Error: There is no '{tmp_path / 'none'}': give 'imagenet', 'cifar10', the folder of a run"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    debug = process("list", "Resnet", "--debug")
    assert debug.returncode == 1
    assert debug.stderr.startswith("Traceback (most recent call last)")
    assert "ValueError: There is no network 'Resnet'" in debug.stderr
