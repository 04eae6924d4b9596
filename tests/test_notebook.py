"""Output in notebooks: records are short as text and valid as HTML, figures are shown, training redraws one output."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

import r2b_zoo
from r2b_zoo import recipes
from r2b_zoo.conversion.converter import Conversion
from r2b_zoo.conversion.layer_report import LayerReport
from r2b_zoo.data.digits import digits
from r2b_zoo.evaluation.accuracy import Evaluation, evaluate
from r2b_zoo.evaluation.verification import Verification
from r2b_zoo.report import html, notebook
from r2b_zoo.report.plots import ShownFigure
from r2b_zoo.report.tables import LEFT, RIGHT, Stacked
from r2b_zoo.run import Run, attention_maps, train
from r2b_zoo.runs.folder import RunFolderError
from r2b_zoo.system import quiet_start
from r2b_zoo.system.short_repr import LONGEST
from r2b_zoo.weights import bundled

MOST_BYTES = 100_000
HOSTILE = "<script>alert(1)</script>&\x1b[2J"


def parsed(record):
    """Parses the HTML of a record, which must be one well-formed element of at most ``MOST_BYTES`` bytes."""
    text = record._repr_html_()
    assert len(text.encode()) <= MOST_BYTES
    return ElementTree.fromstring(text.replace("&nbsp;", " "))


def words(record):
    return " ".join("".join(parsed(record).itertext()).split())


@pytest.fixture(scope="module")
def cost():
    model = r2b_zoo.RealToBinaryNet(weights=None, input_shape=(32, 32, 3), width=8, stem="cifar", num_classes=10)
    return r2b_zoo.cost(model)


@pytest.fixture(scope="module")
def evaluation():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), 200)
    return evaluate(probabilities, np.arange(200) % 10)


def rows(number):
    return tuple(LayerReport(f"{HOSTILE}{i}", "binary", "", 1_000_000 + i, True) for i in range(number))


def records(cost, evaluation, folder):
    loaded = r2b_zoo.load(folder.tflite_path)
    return {
        "conversion": Conversion(b"0" * 15_000_000, rows(90)),
        "card": r2b_zoo.card("RealToBinaryNet"),
        "cost": cost,
        "verification": Verification(100, 3, 1e-9, 1e-3, undecided=1, told_otherwise=(HOSTILE,)),
        "evaluation": evaluation,
        "classifier": replace(loaded, labels=tuple(f"{HOSTILE}{i}" for i in range(10))),
        "classifier of 1,000": replace(loaded, labels=tuple(f"{HOSTILE}{i}" for i in range(1000))),
        "weights": bundled.card("cifar10"),
        "run": Run(folder.path),
    }


def test_every_record_is_short_as_text_and_whole_as_html(cost, evaluation, smoke_run):
    for name, record in records(cost, evaluation, smoke_run).items():
        assert len(repr(record)) <= LONGEST, name
        assert "<script>" not in record._repr_html_(), name
        assert len(words(record)) > 10, name


def test_records_that_are_only_text_are_short_too(smoke_run):
    run = Run(smoke_run.path)
    stages = "teacher: ResNet18, real, real: RealToBinaryNet, real"
    assert stages in repr(run.networks)
    for record in (run.networks, run.plan, run.folder, r2b_zoo.IMAGENET, run.networks.dataset):
        assert len(repr(record)) <= LONGEST


def test_records_show_their_main_facts(cost, evaluation, smoke_run):
    shown = {name: words(record) for name, record in records(cost, evaluation, smoke_run).items()}
    assert f"{cost.parameters:,}" in shown["cost"]
    assert "15,000,000" in shown["conversion"]
    assert "90 binary convolutions" in shown["conversion"]
    assert "DIFFERENT" in shown["verification"]
    assert f"{100 * evaluation.top1:.2f} %" in shown["evaluation"]
    assert "8×8×1" in shown["classifier"]
    assert all(stage in shown["run"] for stage in ("teacher", "real", "binary_activations", "binary"))
    assert "11,995,624" in shown["card"]


def test_long_tables_end_with_the_number_of_rows_left_out():
    table = Stacked("Many", [("name", LEFT), ("number", RIGHT)])
    for i in range(html.MOST_ROWS + 7):
        table.add_row(f"row {i}", f"{i:,}")
    text = str(html.table(table))
    assert text.count("<tr>") == html.MOST_ROWS + 1
    assert "7 more rows." in text


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_of_a_run(smoke_run):
    run = Run(smoke_run.path)
    figure = run.figure("accuracy")
    assert isinstance(figure, ShownFigure)
    assert [axes.get_title("left") for axes in figure.axes] == list(run.stages)
    assert all(axes.lines for axes in figure.axes)
    assert figure._repr_png_().startswith(b"\x89PNG"), "the figure is not shown as a PNG"
    with pytest.raises(ValueError, match=r"metric must be one of accuracy, loss.*received 'acuracy'.*accuracy"):
        run.figure("acuracy")


def test_attention_maps_of_a_run(smoke_run):
    run = Run(smoke_run.path)
    figure = attention_maps(run)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0].startswith("teacher\n")
    assert titles[-1].startswith("binary\n")
    # Images may have another size than the network's input.
    images, _, _ = digits().test_sample(1, one_per_class=True)
    large = np.repeat(np.repeat(images[:1], 3, axis=1), 3, axis=2)
    alone = attention_maps(run, large, stages=["binary"])
    assert len(alone.axes) == 1 + len(titles) // 2


def test_figures_of_records(cost, evaluation):
    figure = evaluation.confusion_figure([f"$_{i}$" for i in range(10)], "Which")
    assert "Which" in figure.axes[0].get_title("left")
    with pytest.raises(ValueError, match="class_names must name all 10 classes; received 2 names"):
        evaluation.confusion_figure(["a", "b"])
    assert [text.get_text().split("\n")[0] for text in cost.figure().axes[0].get_yticklabels()] == [
        "Multiplications",
        "Work",
        "Memory",
    ]


def test_an_evaluation_of_a_thousand_classes_is_drawn():
    confusion = np.eye(1000, dtype=np.int64)
    assert isinstance(Evaluation(confusion, 1000).confusion_figure(), Figure)


# --- runs and training ------------------------------------------------------------------------------------------------


def test_a_run_knows_its_parts(smoke_run):
    run = Run(smoke_run.path)
    assert run.stages == ("teacher", "real", "binary_activations", "binary")
    assert run.results["stages"][-1]["name"] == "binary"
    assert run.file == smoke_run.tflite_path
    assert run.networks["binary"].output_shape == (None, 10)
    with pytest.raises(ValueError, match="has no stage 'binry'"):
        run.networks["binry"]


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(RunFolderError, match=r"config\.json"):
        Run(tmp_path)


@pytest.mark.slow
def test_training_a_finished_run_trains_nothing_and_writes_the_report(smoke_run, tmp_path, capsys):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(smoke_run.path, folder)
    weights = (folder / "stages/binary/weights.h5").read_bytes()
    run = train("digits", output=folder, smoke=True, width=8)
    assert (folder / "stages/binary/weights.h5").read_bytes() == weights
    assert run.report.read_text().startswith("<!DOCTYPE html>")
    assert "Converting binary" in capsys.readouterr().out


def test_a_plan_that_cannot_be_trained_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="There is no recipe 'digit'"):
        train("digit", output=tmp_path / "run")
    with pytest.raises(ValueError, match=r"binary\.epoch"):
        train("digits", output=tmp_path / "run", **{"binary.epoch": 3})
    assert not (tmp_path / "run").exists()


def test_the_live_figure_is_one_output_that_is_redrawn(smoke_run, monkeypatch):
    pytest.importorskip("IPython", reason="ipykernel is not installed")
    from IPython import display

    shown = []
    monkeypatch.setattr(display.DisplayHandle, "display", lambda self, it: shown.append(("new", it._repr_html_())))
    monkeypatch.setattr(display.DisplayHandle, "update", lambda self, it: shown.append(("same", it._repr_html_())))
    plan = recipes.plan("digits", smoke=True, width=8)
    stage = plan.stages[0]
    with notebook.LiveFigure(plan, smoke_run) as live:
        callback = live.callback(stage)
        callback.set_params({"steps": 2})
        for epoch in range(3):
            callback.on_epoch_begin(epoch)
            callback.on_train_batch_end(0)
            callback.on_epoch_end(epoch, {"accuracy": 0.5, "val_accuracy": 0.4 + epoch / 10})
        live.log(f"Converting {HOSTILE}")
        live.__exit__(KeyboardInterrupt, KeyboardInterrupt("by the stop button"), None)
    assert [kind for kind, _ in shown].count("new") == 1
    final = shown[-1][1]
    assert len(final.encode()) <= MOST_BYTES
    tree = ElementTree.fromstring(final.replace("xlink:", ""))
    assert len(list(tree.iter("svg"))) == len(plan.stages)
    assert "Stopped: by the stop button" in "".join(tree.itertext())
    assert "<script>" not in final
    assert "progress" not in {element.tag for element in tree.iter()}


def test_in_notebook_is_false_outside_a_notebook():
    assert not quiet_start.in_notebook()
