"""If something is wrong, the ``r2b`` command prints one clear sentence and writes nothing."""

import shutil
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from r2b_zoo import cli


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["list", "Resnet"], "There is no network 'Resnet'; the networks are RealToBinaryNet, StrongBaselineNet, "),
        (["cost", "Resnet"], "There is no network 'Resnet'; the networks are RealToBinaryNet, StrongBaselineNet, "),
        (["cost", "BNN18", "--stem", "tiny"], "stem must be one of 'imagenet', 'cifar'; received 'tiny'."),
        (
            ["train", "recipe=mnist"],
            "There is no recipe 'mnist'; the recipes are digits, cifar10, cifar100, imagenet, finetune.",
        ),
        (["train", "binary.epoch=3"], "Recipe digits has no field 'binary.epoch'. Did you mean binary.epochs"),
        (["train", "binary.epochs=many"], "binary.epochs must be a whole number; received 'many'."),
        (["train", "binary.epochs=1.5"], "binary.epochs must be a whole number; received 1.5."),
        (["train", "binary.learning_rate=nan"], "binary.learning_rate must be a number; received 'nan'."),
        (["train", "gate=maybe"], "gate must be true or false; received 'maybe'."),
        (["train", "gate=1"], "gate must be true or false; received 1."),
        (["train", "stem=3"], "stem must be a word; received 3."),
        (["train", "image_size=large"], "image_size must be a whole number or none; received 'large'."),
        (["train", "binary.decay_epochs=3"], "binary.decay_epochs must be a list of numbers, for example [40,60,70]"),
        (["train", "width=100000000"], "width must be in 1–512; received 100000000."),
        (["train", "recipe=cfar10"], "There is no recipe 'cfar10'; the recipes are digits, cifar10, cifar100, ima"),
        (
            ["train", "output={tmp}"],
            "output is an option, not a field: write --output {tmp} instead of 'output={tmp}'.",
        ),
        (["train", "smoke=true", "show=true"], "show is an option, not a field: write --show instead of 'show=true'"),
        (["evaluate", "{run}", "plot=x.png"], "plot is an option, not a field: write --plot x.png instead of 'plot=x"),
        (["train", "gate"], "Fields are set as key=value, for example binary.epochs=3; received 'gate'."),
        (
            ["train", "dataset=mnist", "--output", "{tmp}/run"],
            "There is no data set 'mnist'; the data sets are digits, cifar10, cifar100, imagenet, folder.",
        ),
        (["predict", "{tmp}/none.jpg"], "There is no image '{tmp}/none.jpg'."),
        (["predict", "{tmp}/text.jpg"], "{tmp}/text.jpg cannot be read as an image: cannot identify image file"),
        (
            ["predict", "{image}", "--model", "{tmp}/none.h5"],
            "There is no '{tmp}/none.h5': give 'imagenet', 'cifar10', the folder",
        ),
        (["predict", "{image}", "--model", "{tmp}/text.jpg"], "{tmp}/text.jpg cannot be read (truncated, altered or"),
        (["evaluate", "{tmp}"], "{tmp} holds no (finished) run: there is no config.json in it."),
        (
            ["evaluate", "{run}", "--data", "mnist"],
            "There is no data set 'mnist', and no folder of that name; the data sets are digits, cifar10, cifar100, im",
        ),
        (["evaluate", "{run}", "data"], "Fields are set as key=value, for example data=digits; received 'data'."),
        (["evaluate", "{run}", "seed=1"], "evaluate has no field 'seed'; its fields are data, data_dir, split."),
        (["evaluate", "{run}", "data=digits", "--data", "digits"], "Field 'data' is set twice."),
        (["evaluate", "{run}", "split=train"], "split must be 'test' or 'all'; received 'train'."),
        (["evaluate", "{run}", "split=all"], "split=all is for a folder of photographs; digits has a test split."),
        (
            ["evaluate", "{run}", "data={tmp}/below", "data_dir={tmp}"],
            "data={tmp}/below is a folder already: leave data_dir= out, or name a data set with data=.",
        ),
        (
            ["evaluate", "{run}", "data={tmp}/below"],
            "A classifier needs at least 2 classes, each a folder in {tmp}/below; there is none.",
        ),
        (
            ["evaluate", "{run}", "data=cifar10", "data_dir={tmp}"],
            "cifar10 is not prepared in {tmp}: pass the folder that has it as data_dir=, or prepare it with `tfds",
        ),
        (["evaluate", "{run}", "--plot", "x.gif"], "A plot is a file that ends in .png, .svg, .pdf; received 'x.gif'."),
        (["evaluate", "{run}", "--csv", "{tmp}/none/x.csv"], "There is no folder '{tmp}/none' to write x.csv into."),
        (["evaluate", "{run}", "--csv", "{tmp}/text.jpg"], "The file to write must end in .csv; received '{tmp}/text."),
        (
            ["evaluate", "{run}/stages/binary/weights.h5"],
            "weights.h5 does not record what it was trained on: name a data set, or a folder of photographs, with "
            "data=.",
        ),
        (
            ["evaluate", "{run}", "--stage", "student"],
            "The run in {run} has no stage 'student'; its stages are teacher,",
        ),
        (
            ["export", "{run}/stages/binary/weights.h5", "{run}/stages/binary/weights.h5", "--force"],
            "The file to write must end in .tflite; received '{run}/stages/binary/weights.h5'.",
        ),
        (["export", "{run}", "{tmp}/none/x.tflite"], "There is no folder '{tmp}/none' to write x.tflite into."),
        (["export", "{run}", "{run}/model.tflite"], "'{run}/model.tflite' exists already: name another file, or over"),
        (
            ["export", "{run}/model.tflite", "{run}/model.tflite", "--force"],
            "'{run}/model.tflite' is an input file and would be overwritten: name another output file.",
        ),
        (["export", "{run}", "{tmp}/x.tflite", "--labels", "{image}"], "{image} is not UTF-8 text; --labels takes a"),
        (
            ["export", "{run}/model.tflite", "{tmp}/x.tflite"],
            "{run}/model.tflite is converted already; export takes weights by",
        ),
        (["export", "{run}"], "Nothing to write: name a .tflite as OUTPUT, a page with --web PAGE.html, or both."),
        (["export", "{run}", "--web", "{tmp}/x.htm"], "The file to write must end in .html; received '{tmp}/x.htm'."),
        (["export", "{tmp}/none.tflite", "--web", "{tmp}/x.html"], "There is no file '{tmp}/none.tflite'."),
        (
            ["export", "{run}/model.tflite", "--web", "{tmp}/new.html", "--stage", "teacher"],
            "{run}/model.tflite is converted already; leave --stage out.",
        ),
        (
            ["export", "{run}/model.tflite", "--web", "{tmp}/x.html", "--labels", "{tmp}/text.jpg"],
            "{run}/model.tflite is converted already; labels are added when a network is converted.",
        ),
        (["verify", "{run}/model.tflite"], "{run}/model.tflite is a converted file; give first the network to com"),
        (
            ["verify", "{run}", "--images", "{tmp}/below"],
            "There are no images in {tmp}/below: give a folder that has images in it or in its subfolders.",
        ),
        (
            ["train", "--smoke", "--output", "{tmp}/text.jpg"],
            "The run folder {tmp}/text.jpg cannot be written (Not a dir",
        ),
        (["train", "--smoke", "--output", "{tmp}"], "{tmp} is not empty and holds no run (no config.json): choose"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_mistake_gives_one_clear_sentence(r2b, tmp_path, photograph, smoke_run, words, sentence):
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "below").mkdir()
    places = {"tmp": tmp_path, "image": photograph, "run": smoke_run.path}
    ended = r2b(*(word.format(**places) for word in words))
    assert ended.status == 1
    assert ended.err.startswith("Error: " + sentence.format(**places))
    assert "Traceback" not in ended.err
    assert "unexpected" not in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["below", "text.jpg"]


def test_a_warning_is_one_sentence(r2b, monkeypatch):
    monkeypatch.setattr("warnings.showwarning", None)  # the command replaces it; monkeypatch restores it
    monkeypatch.setattr("r2b_zoo.recipes.list_recipes", lambda: warnings.warn("Few images.", stacklevel=1) or [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        ended = r2b("list")
    assert (ended.status, ended.err) == (0, "Warning: Few images.\n")


def test_an_option_that_is_not_known(r2b):
    ended = r2b("cost", "--resolution", 32)
    assert ended.status == 2
    assert "No such option" in ended.err
    assert "Traceback" not in ended.err


def test_an_unforeseen_error_is_marked_as_unexpected(r2b, monkeypatch):
    monkeypatch.setattr("r2b_zoo.recipes.plan", lambda *_, **__: [][0])
    ended = r2b("demo")
    assert ended.status == 1
    assert ended.err == "Error: IndexError: list index out of range (unexpected; --debug shows where)\n"


@pytest.mark.parametrize("words", [["--debug", "list", "Resnet"], ["list", "Resnet", "--debug"]])
def test_debug_shows_the_traceback(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["r2b", *words])
    with pytest.raises(ValueError, match=r"There is no network 'Resnet'") as raised:
        cli.main()
    assert Path(raised.traceback[-1].path).parts[-2:] == ("cli", "zoo.py")


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["train", "recipe=cfar10"], "Did you mean cifar10 or cifar100?"),
        (["train", "binary.epoch=3"], "Did you mean binary.epochs"),
        (["train", "dataset=digit", "--output", "{tmp}/run"], "Did you mean digits?"),
        (["cost", "RealToBinary"], "Did you mean RealToBinaryNet?"),
        (["list", "Resnet"], "Did you mean ResNet18?"),
        (["evaluate", "{run}", "dat=digits"], "Did you mean data"),
        (["evaluate", "{run}", "data=digts"], "Did you mean digits?"),
        (["evalute", "{run}"], "Did you mean"),
        (["train", "--outptu", "x"], "--output"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_misspelt_words_get_a_suggestion(r2b, tmp_path, smoke_run, words, suggestion):
    ended = r2b(*(word.format(tmp=tmp_path, run=smoke_run.path) for word in words))
    assert ended.status != 0
    assert suggestion in ended.err


def test_an_output_that_links_to_the_input_is_refused(r2b, smoke_run, tmp_path):
    """The output is a link whose name ends in .tflite. It points to the weights file that the command reads."""
    weights = smoke_run.weights("binary")
    before = weights.read_bytes()
    (tmp_path / "link.tflite").symlink_to(weights)
    ended = r2b("export", weights, tmp_path / "link.tflite", "--force")
    assert ended.status == 1
    assert "link.tflite' is an input file and would be overwritten: name another output file." in ended.err
    assert weights.read_bytes() == before


def test_force_overwrites(r2b, smoke_run, tmp_path):
    for name in ("table.csv", "table.png"):
        (tmp_path / name).write_text("old")
    words = ["evaluate", smoke_run.tflite_path, "data=digits", "--csv", tmp_path / "table.csv"]
    words += ["--plot", tmp_path / "table.png"]
    refused = r2b(*words)
    assert refused.status == 1
    assert refused.err.startswith(f"Error: '{tmp_path / 'table.png'}' exists already: name another file")
    assert (tmp_path / "table.png").read_text() == "old"
    allowed = r2b(*words, "--force")
    assert allowed.status == 0, allowed.err
    assert (tmp_path / "table.csv").read_text().startswith("class,")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_network_that_answers_nan_is_refused(r2b, smoke_run, tmp_path):
    shutil.copytree(smoke_run.path, tmp_path / "run")
    weights = tmp_path / "run" / "stages" / "binary" / "weights.h5"
    with h5py.File(weights, "r+") as file:
        kernel = file["logits"]["logits"]["kernel:0"]
        kernel[0, 0] = np.nan
        del file.attrs["r2b_zoo_sha256"]  # else the command reports a wrong checksum, not the NaN
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "digit.png")
    for words in (
        ["evaluate", tmp_path / "run"],
        ["predict", tmp_path / "digit.png", "--model", tmp_path / "run"],
        ["export", tmp_path / "run", tmp_path / "x.tflite"],
        ["verify", tmp_path / "run"],
    ):
        ended = r2b(*words)
        assert (ended.status, ended.out) == (1, ""), words
        assert "NaN" in ended.err
        assert ended.err.count("\n") == 1
    assert not (tmp_path / "x.tflite").exists()
