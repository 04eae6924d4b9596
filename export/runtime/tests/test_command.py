"""Tests the command r2b-run: what it prints, its error messages and its exit status."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import small_classifier
from r2b_runtime import benchmark, delegate, envelope
from r2b_runtime.command import main


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(small_classifier.with_files(small_classifier.model()))
    return str(path)


@pytest.fixture
def image(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / "image.png"
    pillow.fromarray(np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(path)
    return str(path)


def output(capsys, *arguments):
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def answer(capsys, command, *arguments):
    """The result in the line of JSON that a command prints."""
    (line,) = output(capsys, command, *arguments, "--json").splitlines()
    document = json.loads(line)
    assert {key: value for key, value in document.items() if key != "result"} == {"r2b": 1, "command": command}
    return document["result"]


def test_predict(capsys, model, image):
    lines = output(capsys, "predict", model, image, "--top", "2").splitlines()
    assert len(lines) == 2
    assert lines[0].split()[1] in small_classifier.LABELS
    classes = answer(capsys, "predict", model, image)
    assert sum(entry["probability"] for entry in classes) == pytest.approx(1)
    assert lines[0] == f"{classes[0]['probability']:8.2%}  {classes[0]['label']}"


def test_predict_several_images(capsys, model, image, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    other = str(tmp_path / "other\x1b.png")
    pillow.new("L", (9, 9), 200).save(other)
    alone = [output(capsys, "predict", model, path) for path in (image, other)]
    assert alone[0] != alone[1]
    printed = output(capsys, "predict", model, image, other)
    assert printed == f"{image}\n{alone[0]}{tmp_path}/other\\x1b.png\n{alone[1]}"
    result = answer(capsys, "predict", model, image, other)
    assert [entry["image"] for entry in result] == [image, other]
    assert result[0]["classes"] == answer(capsys, "predict", model, image)


def test_json_output_replaces_values_that_json_cannot_hold():
    document = json.loads(envelope.document("info", {"a\udcff": [float("inf"), 0.5, ("\x7f", None)]}))
    assert document["result"] == {"a\\udcff": [None, 0.5, ["\x7f", None]]}


def test_info(capsys, model):
    info = answer(capsys, "info", model)
    assert info["bytes"] == os.path.getsize(model)
    assert info["operators"] == {"LceQuantize": 1, "LceBconv2d": 1, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    assert info["binary_macs"] == 8 * 8 * 32 * 9
    assert info["float_macs"] == 96
    assert info["binary_weight_bytes"] == 32 * 9 * 4
    assert info["labels"] == list(small_classifier.LABELS)
    assert info["preprocessing"]["crop_fraction"] == 0.875
    text = output(capsys, "info", model)
    assert "LceBconv2d" in text
    assert "3: zero, one, two" in text
    assert (info["engine_refuses"], "runs it without an interpreter" in text) == (None, True)
    assert "version of Larq Compute Engine not recorded in the file" in text


def test_memory_of_a_microcontroller(capsys, model):
    assert answer(capsys, "info", model)["microcontroller"] is None
    needs = answer(capsys, "info", model, "--memory")["microcontroller"]
    assert needs["file"] == os.path.getsize(model)
    # The convolution has 9 words for each of 32 outputs, the dense layer 32 floats for each class, padded to 8 classes.
    assert needs["weights"] == 9 * 32 * 4 + 8 * 32 * 4
    values = 8 * 8 * 4 + 8 * 8 * 32 * 4  # bytes of the packed bits and of the convolution's float outputs
    assert values < needs["rest"] < 3 * values
    text = output(capsys, "info", model, "--memory")
    assert f"flash          {needs['file']:,} bytes of the file, and about " in text
    ram = needs["weights"] + needs["rest"]
    assert f"RAM            {ram:,} bytes, {needs['weights']:,} of them for copies of the weights" in text


def test_bench(capsys, model):
    result = answer(capsys, "bench", model, "--threads", "1", "2", "--runs", "5", "--profile")
    found = [(timing["engine"], timing["threads"]) for timing in result["results"]]
    assert found == [("r2b", 1), ("r2b", 2), ("litert", 1), ("litert", 2)]
    assert result["interpreter"].startswith("tensorflow ")
    for timing in result["results"]:
        # The first inference's time is not compared with the others: other processes can slow down any of them.
        assert 0 < timing["minimum_ms"] <= timing["median_ms"]
        assert timing["load_and_first_inference_ms"] > 0
        steps = timing["profile"]["steps"]
        assert any(step["name"].startswith("bconv") and step["binary"] for step in steps)
        assert sum(step["ms"] for step in steps) + timing["profile"]["rest_ms"] == pytest.approx(
            timing["profile"]["total_ms"]
        )
        assert timing["profile"]["rest_ms"] >= 0
    assert result["peak_memory_bytes"] > 1 << 20
    assert result["cpu"]
    text = output(capsys, "bench", model, "--runs", "3", "--profile", "--kernels", "portable")
    assert "kernels: portable" in text
    assert re.search(r"^engine litert: tensorflow \S+ with the delegate$", text, re.MULTILINE)
    assert [len(re.findall(rf"^ *{engine} +1 ", text, re.MULTILINE)) for engine in ("r2b", "litert")] == [1, 1]
    assert re.search(r"peak memory of the process: \d+ MiB with the engine, \d+ MiB in all", text)
    assert "The steps add up to" in text
    assert "peak memory of the process" in text


def test_bench_of_one_engine(capsys, model, monkeypatch):
    for engine in ("r2b", "litert"):
        result = answer(capsys, "bench", model, "--engine", engine, "--runs", "1")
        assert [timing["engine"] for timing in result["results"]] == [engine]
        assert (result["interpreter"] is None) == (engine == "r2b")

    def none():
        raise ImportError("there is no interpreter")

    monkeypatch.setattr(delegate, "stock_interpreter", none)
    result = answer(capsys, "bench", model, "--runs", "1")
    assert [timing["engine"] for timing in result["results"]] == ["r2b"]
    assert re.search(r"peak memory of the process: \d+ MiB$", output(capsys, "bench", model, "--runs", "1"))
    assert main(["bench", model, "--engine", "litert"]) == 1
    assert capsys.readouterr().err == "r2b-run: there is no interpreter\n"


def test_a_model_that_the_engine_refuses(capsys, tmp_path, image):
    path = str(tmp_path / "cast.tflite")
    as_it_is = {"mean": [0.0], "std": [1.0]}
    pathlib.Path(path).write_bytes(small_classifier.with_files(small_classifier.of_type("uint8"), **as_it_is))
    refusal = r"the engine does not run .*"
    assert re.search(refusal, answer(capsys, "info", path)["engine_refuses"])
    assert re.search(rf"^engine +.*{refusal}$", output(capsys, "info", path), re.MULTILINE)
    text = output(capsys, "bench", path, "--runs", "1")
    assert re.search(rf"^engine r2b: .*{refusal}$", text, re.MULTILINE)
    assert re.search(r"^ *litert +1 ", text, re.MULTILINE)
    for arguments in (["predict", path, image], ["bench", path, "--engine", "r2b"]):
        assert main(arguments) == 1
        assert re.search(rf"^r2b-run: .*{refusal}$", capsys.readouterr().err, re.MULTILINE)
    assert output(capsys, "predict", path, image, "--engine", "litert")


@pytest.mark.parametrize("engine", ["r2b", "litert"])
def test_profiled_steps_take_at_least_95_percent_of_the_time(engine):
    """In a network of this size, the time outside the steps, the row "rest", is at most 5 % of the whole."""
    from test_networks import half_blocks

    model = half_blocks(np.random.default_rng(0), size=28)
    measured = benchmark.profile_model(model, runs=40, engine=engine)
    assert len(measured.steps) > 10
    assert 0 <= measured.rest <= 0.05 * measured.seconds
    assert 0 < measured.binary_share < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere.tflite"], "r2b-run: there is no model file 'nowhere.tflite'\n"),
        (["bench", "MODEL", "--kernels", "mmx"], "r2b-run: kernels 'mmx' do not run here; .*portable\n"),
        (["info", "/"], "r2b-run: '/' is not a regular file; give the path of a .tflite file\n"),
        (["info", "\x1b[2J\u202e"], r"r2b-run: there is no model file '\\x1b\[2J\\u202e'\n"),
        (["predict", "MODEL", "/"], "r2b-run: '/' cannot be read as an image: it is not a regular file\n"),
        (["predict", "MODEL", "nowhere.png"], "r2b-run: there is no image 'nowhere.png'\n"),
        (["info", __file__], "r2b-run: '.*test_command.py' is not a .tflite file: .*\n"),
    ],
)
def test_errors_are_one_sentence(capfd, model, arguments, message):
    pytest.importorskip("PIL")
    assert main([model if argument == "MODEL" else argument for argument in arguments]) == 1
    captured = capfd.readouterr()
    assert not captured.out
    assert re.search(rf"^{message}\Z", captured.err, re.MULTILINE)
    assert "Traceback" not in captured.err


def test_control_characters_in_labels_and_paths_are_escaped(capsys, tmp_path, image):
    labels = ("\r  99.99%  all good", "\x1b[31mred\u202e", "zwei\u200d")
    path = tmp_path / "m\x1b[2J.tflite"
    path.write_bytes(small_classifier.with_files(small_classifier.model(), labels))
    for arguments in (["predict", path, image], ["info", path], ["bench", path, "--runs", "1"]):
        text = output(capsys, *map(str, arguments))
        assert not set(text) & set("\r\x1b\u202e")
        assert r"\x1b" in text
    classes = answer(capsys, "predict", str(path), image)
    assert {entry["label"] for entry in classes} == set(labels)


def test_max_pixels_limits_the_size_of_an_image(capsys, model, tmp_path):
    """An image with more pixels than `--max-pixels` is refused; one with exactly as many is read."""
    pillow = pytest.importorskip("PIL.Image")
    path = str(tmp_path / "large.png")
    pillow.new("1", (1200, 1000), 1).save(path)
    assert main(["predict", model, path, "--max-pixels", "1199999"]) == 1
    assert "Image size (1200000 pixels) exceeds limit of 1199999 pixels; give a larger" in capsys.readouterr().err
    assert output(capsys, "predict", model, path, "--max-pixels", "1200000")


def test_a_large_image_is_not_held_as_floats(model, tmp_path):
    """The image and its crop are held as bytes; floats of the whole image would take 0.4 GB more."""
    pillow = pytest.importorskip("PIL.Image")
    path = tmp_path / "large.png"
    pillow.new("1", (6000, 6000), 1).save(path)
    # Reads VmHWM, because the peak that getrusage reports includes the parent process's.
    program = (
        "import re, sys; from r2b_runtime import command;"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1]) << 10;"
        "command.main([*sys.argv[1:3], sys.argv[4]]); before = peak(); assert command.main(sys.argv[1:4]) == 0;"
        "print(peak() - before)"
    )
    pillow.new("1", (8, 8), 1).save(tmp_path / "small.png")
    arguments = ["predict", model, str(path), str(tmp_path / "small.png")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout.split()[-1]) < 160 << 20


@pytest.mark.parametrize("columns", [60, 80, 100, 120, 200])
def test_info_wraps_lines_to_the_width_of_the_terminal(capsys, monkeypatch, model, columns):
    """No word is broken, and every line fits the terminal unless a single word is too long."""
    import pty

    plain = output(capsys, "info", model)
    ours, theirs = pty.openpty()
    monkeypatch.setenv("COLUMNS", str(columns))
    with open(theirs, "w") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        assert main(["info", model]) == 0
    chunks = []
    with contextlib.suppress(OSError):  # raised once everything has been read, because the other end is closed
        while chunk := os.read(ours, 1 << 12):
            chunks.append(chunk)
    os.close(ours)
    shown = b"".join(chunks).decode().replace("\r\n", "\n")
    assert shown.split() == plain.split()
    longest = max(map(len, plain.split()))
    assert max(map(len, shown.splitlines())) <= max(columns, longest + 15)
    assert (max(map(len, plain.splitlines())) <= columns) == (shown == plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "x", "--threads", "0"], "must be a whole number, at least 1; received '0'"),
        (["predict", "x", "y", "--top", "many"], "must be a whole number, at least 1; received 'many'"),
        ([], "the following arguments are required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
    ],
)
def test_wrong_arguments(capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_command_runs_as_a_python_module(model):
    done = subprocess.run(
        [sys.executable, "-m", "r2b_runtime", "info", model], capture_output=True, text=True, check=True
    )
    assert "LceBconv2d" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "r2b_runtime", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("r2b-runtime ")
