"""The ``r2b`` command when something is wrong: one clear sentence, and nothing written."""

import sys
import warnings

import pytest

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
        (["train", "binary.epochs=many"], "Recipe digits: Field 'epochs' of component 'digits.binary' is"),
        (["train", "gate"], "Fields are set as key=value, for example binary.epochs=3; received 'gate'."),
        (
            ["train", "dataset=mnist", "--output", "{tmp}/run"],
            "There is no data set 'mnist'; the data sets are digits, cifar10, cifar100, imagenet, folder.",
        ),
        (["predict", "{tmp}/none.jpg"], "There is no image '{tmp}/none.jpg'."),
        (["predict", "{tmp}/text.jpg"], "{tmp}/text.jpg cannot be read as an image: cannot identify image file"),
        (
            ["predict", "{image}", "--model", "{tmp}/none.h5"],
            "There is no '{tmp}/none.h5': give 'imagenet', the folder",
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
            "cifar10 is not prepared in {tmp}: name another folder with data_dir=, or prepare it with `tfds build cif",
        ),
        (["evaluate", "{run}", "--plot", "x.gif"], "A plot is a file that ends in .png, .svg, .pdf; received 'x.gif'."),
        (["evaluate", "{run}", "--csv", "{tmp}/none/x.csv"], "There is no folder '{tmp}/none' to write x.csv into."),
        (
            ["evaluate", "{run}/stages/binary/weights.h5"],
            "weights.h5 does not say what it was trained on: name a data set, or a folder of photographs, with data=.",
        ),
        (
            ["evaluate", "{run}", "--stage", "student"],
            "The run in {run} has no stage 'student'; its stages are teacher,",
        ),
        (["export", "{run}/model.tflite", "{tmp}/x.tflite"], "{run}/model.tflite is converted already; export takes a"),
        (["verify", "{run}/model.tflite"], "{run}/model.tflite is a converted file; verify compares a run folder or a"),
        (
            ["verify", "{run}", "--images", "{tmp}/below"],
            "There are no images (.jpg, .jpeg, .png, .bmp, .webp, .gif) in",
        ),
        (
            ["train", "--smoke", "--output", "{tmp}/text.jpg"],
            "The run folder {tmp}/text.jpg cannot be written (Not a dir",
        ),
        (["train", "--smoke", "--output", "{tmp}"], "{tmp} is not empty and holds no run (no config.json): choose"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_one_clear_sentence(r2b, tmp_path, photograph, smoke_run, words, sentence):
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
    monkeypatch.setattr("warnings.showwarning", None)  # put back after the test, since the command sets its own
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


def test_an_error_that_is_not_ours_says_so(r2b, monkeypatch):
    monkeypatch.setattr("r2b_zoo.recipes.plan", lambda *_, **__: [][0])
    ended = r2b("demo")
    assert ended.status == 1
    assert ended.err == "Error: IndexError: list index out of range (unexpected; --debug shows where)\n"


@pytest.mark.parametrize("words", [["--debug", "list", "Resnet"], ["list", "Resnet", "--debug"]])
def test_debug_shows_the_traceback(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["r2b", *words])
    with pytest.raises(ValueError, match=r"There is no network 'Resnet'") as raised:
        cli.main()
    assert str(raised.traceback[-1].path).endswith("cli.py")
