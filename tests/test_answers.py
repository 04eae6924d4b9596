"""``--json`` prints one line of JSON on standard output: an envelope around what the package's own records contain."""

import json
import math
import os
import shutil
from dataclasses import asdict

import click
import numpy as np
import pytest
from PIL import Image

import r2b_zoo
from r2b_zoo import cli, data, models, pipeline, recipes
from r2b_zoo.conversion import metadata
from r2b_zoo.evaluation import classifier, costs
from r2b_zoo.runs.folder import RunFolder
from r2b_zoo.system.envelope import FORMAT, document
from r2b_zoo.weights import bundled

HOSTILE = "\x1b[2J\x7f\u202eäpfel 🍎"


def result_of(ended, command, status=0):
    """The result in the envelope, after checks of exit status, line and envelope."""
    assert ended.status == status, ended.err
    assert ended.out.endswith("\n")
    assert ended.out.count("\n") == 1
    assert all(" " <= character <= "~" for character in ended.out[:-1])
    found = json.loads(ended.out, parse_constant=pytest.fail)
    assert list(found) == ["r2b", "command", "result"]
    assert (found["r2b"], found["command"]) == (FORMAT, command)
    return found["result"]


def plain(record):
    return json.loads(json.dumps(record))


def of_list(result, run):
    assert [card["name"] for card in result["networks"]] == list(r2b_zoo.list_models())
    assert [card["name"] for card in result["weights"]] == [card.name for card in bundled.cards()]
    assert result["recipes"] == list(recipes.list_recipes())
    assert result["data_sets"] == list(data.list_datasets())


def of_network(result, run):
    card = result["network"]
    assert (card["parameters"], card["top1"], card["pretrained_licence"]) == (11_995_624, 65.4, "Apache-2.0")
    assert card["weights_url"].startswith("https://")
    assert card["bundled"] == ["cifar10"]


def of_weights(result, run):
    card = bundled.card("cifar10")
    assert result["weights"] == plain({**asdict(card), "call": card.call})
    assert result["weights"]["top1"] == card.top1


def of_cost(result, run):
    (found,) = result["networks"]
    size = {"input_shape": (32, 32, 3), "stem": "cifar", "width": 8, "num_classes": 10, "downsample": "binary"}
    assert found.pop("table_1") is None
    assert result["gate_overhead"] is None
    assert found == plain(costs.cost(models.create("BNN18", **size)).as_dict())
    assert sum(layer["parameters"] for layer in found["layer_costs"]) == found["parameters"]


def of_evaluate(result, run):
    assert result["images"] == np.sum(result["confusion"]) == 355
    recorded = run.results()["tflite"]
    assert result["top1"] == recorded["accuracy"]
    assert all(result["confusion"][i][j] == images for i, j, images in recorded["confusion"])
    assert result["model"] == "model.tflite"


def of_predict(result, run):
    with Image.open(result["image"]) as image:
        expected = classifier.load(run.tflite_path).predict(np.asarray(image.convert("RGB")), 3)
    assert [(row["label"], row["probability"]) for row in result["classes"]] == expected


def of_verify(result, run):
    assert (result["images"], result["passed"], result["verdict"]) == (48, True, "equal")
    assert result["agreement"] == 1 - result["disagreements"] / (48 - result["undecided"])
    assert result["file"] == str(run.tflite_path)


def of_export(result, run):
    # The last row is the remainder of the file. It includes the description, which differs from that of the run's file.
    assert result["layers"][:-1] == run.results()["layers"][:-1]
    assert result["bytes"] == sum(row["bytes"] for row in result["layers"]) == os.path.getsize(result["file"])
    assert result["binary_convolutions"] == sum(row["kind"] == "binary" for row in result["layers"]) > 0


def of_show(result, run):
    assert result == plain({"recipe": "digits", "fields": recipes.plan("digits", **{"binary.epochs": 3}).config})


SMALL_COST = ["--input-size", "32", "--stem", "cifar", "--num-classes", "10", "--width", "8", "--downsample", "binary"]
ANSWERS = [
    (["list"], of_list),
    (["list", "RealToBinaryNet"], of_network),
    (["list", "cifar10"], of_weights),
    (["cost", "BNN18", *SMALL_COST], of_cost),
    (["cost", "BNN18", "--layers", *SMALL_COST], of_cost),
    (["evaluate", "{run}/model.tflite", "data=digits", "--csv", "{tmp}/table.csv"], of_evaluate),
    (["predict", "{image}", "--model", "{run}/model.tflite", "--top", "3"], of_predict),
    (["verify", "{run}", "-n", "48"], of_verify),
    (["export", "{run}", "{tmp}/net.tflite"], of_export),
    (["train", "binary.epochs=3", "--show"], of_show),
]


@pytest.mark.parametrize(("words", "check"), ANSWERS, ids=lambda value: value.__name__ if callable(value) else "")
def test_the_envelope_has_the_contents_of_the_records(r2b, smoke_run, photograph, tmp_path, words, check):
    places = {"run": smoke_run.path, "tmp": tmp_path, "image": photograph}
    ended = r2b(*(word.format(**places) for word in words), "--json")
    check(result_of(ended, words[0]), smoke_run)
    written = [f"Written to {word.format(**places)}\n" for word in words if word.startswith("{tmp}")]
    assert ended.err == "".join(written)


@pytest.mark.parametrize(("command", "passed"), [("demo", True), ("train", False)])
def test_what_a_run_prints_before_the_result_goes_to_stderr(r2b, smoke_run, tmp_path, monkeypatch, command, passed):
    """Replaces training by a finished run whose verification passed or failed; one of its results is infinite."""
    results = smoke_run.results() | {"seconds": math.inf}
    results["verification"] |= {"passed": passed}

    def run(plan, folder, callbacks, log):
        shutil.copytree(smoke_run.path, folder.path)
        log("Converting binary")
        return results

    monkeypatch.setattr(pipeline, "run", run)
    ended = r2b(command, "--output", tmp_path / "run", "--json")
    result = result_of(ended, command, status=0 if passed else 1)
    assert result == {"folder": str(tmp_path / "run"), "results": {**results, "seconds": None}}
    assert ended.err.startswith("Recipe digits in ")
    assert "Converting binary" in ended.err
    assert f"Report: {RunFolder(tmp_path / 'run').report_path}" in ended.err
    assert ("Error: The converted file could not be shown to be equal to the Keras model" in ended.err) is not passed


def test_an_error_is_a_sentence_and_not_json(r2b):
    ended = r2b("list", "Resnet", "--json")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("Error: There is no network 'Resnet'; ")


@pytest.fixture
def renamed(smoke_run, tmp_path):
    """The run's file with class names that contain control sequences of terminals."""
    tflite = smoke_run.tflite_path.read_bytes()
    labels = [f"{HOSTILE} {digit}" for digit in range(10)]
    preprocessing = metadata.read(tflite).preprocessing
    path = tmp_path / "renamed.tflite"
    path.write_bytes(metadata.write(tflite, name="net", description="", labels=labels, preprocessing=preprocessing))
    return path


def test_names_are_complete_and_their_control_characters_escaped(r2b, photograph, renamed):
    classes = result_of(r2b("predict", photograph, "--model", renamed, "--json"), "predict")["classes"]
    assert len(classes) == 5
    assert {row["label"][:-1] for row in classes} == {f"{HOSTILE} "}


def test_verify_ends_with_1_where_the_file_differs(r2b, smoke_run, renamed):
    ended = r2b("verify", smoke_run.path, renamed, "-n", 4, "--json")
    result = result_of(ended, "verify", status=1)
    assert (result["passed"], result["verdict"], len(result["told_otherwise"])) == (False, "DIFFERENT", 1)
    assert ended.err == ""


def test_every_command_has_the_json_option_with_the_same_help():
    """Also checks that ``ANSWERS`` has every command but ``demo``, which another test runs."""
    assert isinstance(cli.r2b, click.Group)
    own = {
        name: [option.help for option in command.params if isinstance(option, click.Option) and "--json" in option.opts]
        for name, command in cli.r2b.commands.items()
    }
    assert [name for name, helps in own.items() if len(helps) != 1] == []
    (words,) = {helps[0] for helps in own.values()}
    assert f'{{"r2b": {FORMAT}, "command": ..., "result": ...}}' in str(words)
    assert {words[0] for words, _ in ANSWERS} | {"demo"} == set(own)


def test_nan_and_infinity_become_null_and_undecodable_names_are_escaped():
    name = os.fsdecode(b"caf\xe9.png")
    text = document("list", {"a": (math.nan, [-math.inf, np.float64("nan")]), "b": 0.1 + 0.2, "c": name})
    assert json.loads(text)["result"] == {"a": [None, [None, None]], "b": 0.1 + 0.2, "c": "caf\\udce9.png"}
    assert "NaN" not in text
    assert "Infinity" not in text


def test_an_array_in_a_result_is_refused():
    with pytest.raises(TypeError, match="ndarray is not JSON serializable"):
        document("cost", {"confusion": np.zeros((2, 2))})
