"""The report of a run is complete and self-contained, and names the paper's ideas that were switched off."""

import base64
import itertools
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2b_zoo import recipes
from r2b_zoo.conversion import web_page
from r2b_zoo.recipes.overrides import parse
from r2b_zoo.report import plots, view
from r2b_zoo.report.page import write_report
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from tests.small import SHALLOW

VOID = {"meta", "img", "br", "wbr", "link", "hr", "path", "use", "rect"}
LARGEST_PAGE = 2_000_000


class Page(HTMLParser):
    """Parses a page; fails if tags are wrongly nested or not closed, or if two elements have the same id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.by_id: dict[str, str] = {}
        self._open: list[tuple[str, str]] = []
        self._text: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if identifier := attributes.get("id"):
            assert identifier not in self.by_id, f"two elements have the id {identifier}"
            self.by_id[identifier] = ""
        if tag not in VOID:
            self._open.append((tag, attributes.get("id", "")))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}> at {self.getpos()}"
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1][0] != "style":
            self._text.append(data)
        for _, identifier in self._open:
            if identifier:
                self.by_id[identifier] += data

    @property
    def text(self) -> str:
        """The page's text without style sheets; white space, including no-break spaces, becomes single spaces."""
        return " ".join("".join(self._text).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(smoke_folder: RunFolder) -> Page:
    return Page(write_report(smoke_folder))


@pytest.fixture
def run_copy(smoke_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the smoke run, without weights, TensorBoard files and pages; tests may change it."""
    ignore = shutil.ignore_patterns("*.h5", "tensorboard", "*.html")
    return RunFolder(shutil.copytree(smoke_run.path, tmp_path / "run", ignore=ignore))


def changed(folder: RunFolder, **results) -> Page:
    folder.write_results({**folder.results(), **results})
    return Page(write_report(folder))


def test_page_is_self_contained(page: Page) -> None:
    addresses = [
        a[key] for _, a in page.elements for key in ("src", "href", "xlink:href", "srcset", "data") if key in a
    ]
    assert addresses
    others = [address[:40] for address in addresses if not address.startswith(("#", "data:image/png;base64,"))]
    assert others == (["model.html"] if web_page.is_available() else [])
    assert re.findall(r"url\((?!#)|@import", page.source) == []
    assert not page.all("script")
    assert len(page.source.encode()) < LARGEST_PAGE


@pytest.mark.skipif(not web_page.is_available(), reason="r2b-runtime is not installed with its engine for browsers")
def test_the_network_runs_in_a_page_beside_the_report(smoke_run: RunFolder, page: Page) -> None:
    text = smoke_run.web_path.read_text(encoding="utf-8")
    assert "<title>Recipe digits</title>" in text
    assert base64.b64encode(smoke_run.tflite_path.read_bytes()).decode() in text


def test_inner_links_have_targets(page: Page) -> None:
    links = [a[key][1:] for _, a in page.elements for key in ("href", "xlink:href") if a.get(key, "").startswith("#")]
    links += re.findall(r"url\(#([^)]+)\)", page.source)
    assert set(links) <= set(page.by_id)


def test_pictures_have_text_alternatives(page: Page) -> None:
    images = page.all("img")
    blocks, maps_per_image, examples = sum(SHALLOW), 2, 10
    labels = {image["alt"] for image in images if image["alt"].startswith("Test image of class")}
    assert len(labels) == 6
    assert len(images) == examples + 6 * (1 + maps_per_image * blocks)
    assert {f"An example of class {digit}" for digit in range(10)} <= {image["alt"] for image in images}
    assert all(image.get("alt") for image in images)
    drawings = [svg for svg in page.all("svg") if svg.get("aria-hidden") != "true"]
    assert drawings
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in drawings)


def test_headings_leave_out_no_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_numbers_of_the_run_are_on_the_page(page: Page, smoke_run: RunFolder) -> None:
    results = smoke_run.results()
    stages = page.by_id["stages"]
    for stage in results["stages"]:
        for expected in (stage["name"], stage["network"], f"{100 * stage['test_accuracy']:.1f}\xa0%"):
            assert expected in stages
        kilobytes = stage["tflite_bytes"] / 1000
        assert f"{kilobytes:.0f}\xa0kB" in stages or f"{kilobytes:.1f}\xa0kB" in stages
        assert f"{stage['milliseconds']:.2f}\xa0ms" in stages
    assert f"recognises {100 * results['tflite']['accuracy']:.1f} % of 355 test images" in page.text
    cells = np.zeros((10, 10), int)
    for actual, predicted, images in results["tflite"]["confusion"]:
        cells[actual, predicted] = images
    shown = re.findall(r'<td class="cell[^>]*>(\d+)</td>', page.source)
    assert [int(number) for number in shown] == cells.ravel().tolist()
    assert cells.sum() == results["tflite"]["images"] == 355
    for layer in results["layers"]:
        assert f"{layer['bytes']:,}" in page.by_id["cost"]
        assert layer["name"] in page.by_id["cost"]
    assert results["tflite"]["engine"] in page.text
    assert results["machine"]["processor"] in page.text
    for version in smoke_run.config()["versions"].values():
        assert version in page.by_id["again"]


def test_attention_distances_are_those_of_the_maps(page: Page, smoke_run: RunFolder) -> None:
    with np.load(smoke_run.attention_path) as maps:
        distance = np.linalg.norm((maps["binary/block2"] - maps["teacher/block2"]).reshape(6, -1), axis=1)
    for value in distance:
        assert f"{value:.2f}" in page.by_id["attention"]
    assert f"{distance.mean():.2f}" in page.by_id["attention"]


def test_blocks_whose_maps_are_a_single_number_are_named(run_copy: RunFolder, page: Page) -> None:
    sentence = "The maps of block 3 are a"
    assert sentence not in page.text
    with np.load(run_copy.attention_path) as archive:
        arrays = dict(archive)
    arrays |= {f"{stage}/block3": np.ones((6, 1, 1), np.float32) for stage in ("teacher", "binary")}
    np.savez(run_copy.attention_path, **arrays)
    assert sentence in Page(write_report(run_copy)).text


def test_smoke_run_warns_and_another_does_not(page: Page, run_copy: RunFolder) -> None:
    assert "This was a smoke run" in page.text
    assert "This was a smoke run" not in changed(run_copy, smoke=False).text


def test_page_is_silent_about_switched_off_ideas_if_there_are_none(page: Page) -> None:
    assert "switched-off" not in page.by_id
    assert "Switched off" not in page.text


@pytest.mark.parametrize("field", ["gate", "attention_matching", "output_matching", "progressive"])
def test_page_says_what_was_switched_off(run_copy: RunFolder, field: str) -> None:
    words = recipes.plan("digits", **{field: False}).switched_off
    assert len(words) == 1
    assert words[0] in changed(run_copy, switched_off=list(words)).by_id["switched-off"]


def test_page_warns_if_the_file_is_not_proven_equal(run_copy: RunFolder) -> None:
    check = {"images": 355, "disagreements": 40, "mean_difference": 0.02, "largest_difference": 0.9, "undecided": 0}
    page = changed(run_copy, verification={**check, "agreement": 1 - 40 / 355, "passed": False})
    assert "The converted file could not be shown to be equal to the trained network" in page.text
    assert "✗ No" in page.by_id["verification"]
    page = changed(run_copy, verification={**check, "agreement": 1.0, "passed": True})
    assert "could not be shown to be equal" not in page.text
    assert "✓ Yes" in page.by_id["verification"]
    assert "Undecided" not in page.by_id["verification"]
    page = changed(run_copy, verification={**check, "agreement": 1.0, "passed": True, "undecided": 3})
    assert "3, not counted above" in page.by_id["verification"]
    told = {"undecided": 178, "told_otherwise": ["The file names 9 classes, the model has 10."]}
    page = changed(run_copy, verification={**check, **told, "agreement": 1.0, "passed": False})
    assert "✗ No:" in page.by_id["verification"]
    assert "The file names 9 classes, the model has 10." in page.by_id["verification"]
    page = changed(run_copy, verification={**check, "agreement": 1.0, "passed": False, "undecided": 178})
    assert "✗ Not proven: too few images are decided; at least 50.0\xa0% are needed" in page.by_id["verification"]


def test_class_names_are_escaped(run_copy: RunFolder) -> None:
    names = ["<script>alert(1)</script>", 'a "b" & c', "l'été", "零", *"456789"]
    page = changed(run_copy, dataset={**run_copy.results()["dataset"], "class_names": names})
    assert not page.all("script")
    assert "<script" not in page.source
    for name in names:
        assert name in page.by_id["confusion"]
        assert name in page.by_id["attention"] or name in "6789"
        assert name in page.by_id["data"]
    assert "Test image of class " + names[1] in {image["alt"] for image in page.all("img")}


def test_page_leaves_out_missing_stages(run_copy: RunFolder) -> None:
    rows = run_copy.results()["stages"]
    for name in ("real", "binary_activations"):
        shutil.rmtree(run_copy.stage(name))
    page = changed(run_copy, stages=[rows[0], {**rows[-1], "taught_by": None}])
    assert "binary_activations" not in page.by_id["stages"]
    assert "labels alone" in page.by_id["stages"]
    panels = [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg]
    assert sum("of stage teacher" in label for label in panels) == 4  # accuracy, loss, classification, rate
    assert not any("of stage real" in label for label in panels)


def test_stage_without_teacher_has_no_matching(page: Page) -> None:
    panels = [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg]
    assert not any("matching of stage teacher" in label for label in panels)
    assert any("Attention matching of stage binary_activations over 1 epoch:" in label for label in panels)
    assert "not part of this stage" in page.by_id["curves"]


def of_classes(folder: RunFolder, counts: np.ndarray, **dataset) -> Page:
    """The page of a run whose confusion matrix is ``counts`` (true classes, predicted classes).

    ``dataset`` replaces fields of the data set in the run's results.
    """
    results, classes = folder.results(), len(counts)
    cells = [[int(i), int(j), int(counts[i, j])] for i, j in zip(*np.nonzero(counts), strict=True)]
    with np.load(folder.examples_path) as archive:
        arrays = dict(archive)
    np.savez(folder.examples_path, images=arrays["images"], labels=arrays["labels"] % classes)
    with np.load(folder.attention_path) as archive:
        arrays = dict(archive)
    np.savez(folder.attention_path, **{**arrays, "labels": arrays["labels"] % classes})
    names = [f"class {i}" for i in range(classes)]
    return changed(
        folder,
        dataset={**results["dataset"], "class_names": names, **dataset},
        tflite={**results["tflite"], "confusion": cells, "images": int(counts.sum())},
    )


@pytest.mark.parametrize("classes", [2, 10, 20])
def test_few_classes_are_a_table(run_copy: RunFolder, classes: int) -> None:
    counts = np.diag(np.full(classes, 5))
    counts[1, 0] = 3
    page = of_classes(run_copy, counts)
    assert page.source.count('<td class="cell') == classes**2
    assert "wrong on 3 of" in page.text
    assert "class 1 predicted as class 0: 3 images" in page.text
    assert "62.5\xa0%" in page.by_id["confusion"]  # 5 of 8


@pytest.mark.parametrize("classes", [21, 100, 1000])
def test_many_classes_become_lists_of_best_and_worst(run_copy: RunFolder, classes: int) -> None:
    counts = np.diag(np.full(classes, 5))
    counts[7, 9], counts[3, 4] = 3, 2
    counts[12] = 0
    counts[12, 13] = 1
    counts[11] = 0
    page = of_classes(run_copy, counts, test_images=50_000)
    assert 'class="cell' not in page.source
    mistakes = " ".join(page.by_id["confusion"].split())
    first, second = "class 7 predicted as class 9: 3 images, 38 %", "class 3 predicted as class 4: 2 images, 29 %"
    assert mistakes.index(first) < mistakes.index(second)
    assert mistakes.index("class 12: 0 % of 1, else class 13") < mistakes.index("class 7: 62 % of 8, else class 9")
    assert f"wrong on 6 of {counts.sum():,} test images, which are spread evenly over all 50,000" in mistakes
    # Class 11 has no test image, so it is neither among the best nor among the worst.
    assert '<th scope="row">class 11</th><td class="number">0</td><td class="number">–</td>' in page.source
    assert "<strong>class 11</strong>" not in page.source
    assert len(page.source.encode()) < LARGEST_PAGE


def test_files_that_were_left_out_are_named(run_copy: RunFolder, page: Page) -> None:
    assert "skipped" not in page.by_id
    sentences = ["a/b.jpg cannot be read as an image: truncated.", "c.jpg is <empty>."]
    data = {**run_copy.results()["dataset"], "skipped": sentences}
    left_out = changed(run_copy, dataset=data).by_id["skipped"]
    assert "2 files were left out" in left_out
    assert all(sentence in left_out for sentence in sentences)


def test_a_note_of_the_recipe_is_on_the_page(run_copy: RunFolder) -> None:
    note = recipes.plan("finetune").notes[0]
    assert note in changed(run_copy, notes=[note]).text


def test_a_run_without_a_real_teacher_compares_with_none(run_copy: RunFolder) -> None:
    rows = [{**row, "precision": "binary", "taught_by": None} for row in run_copy.results()["stages"]]
    rows[0] |= {"pretrained": "imagenet", "trained": "classifier"}
    page = changed(run_copy, stages=rows)
    assert "teacher" not in page.by_id["stages"].replace(rows[0]["name"], "")
    assert "started from the weights of imagenet, with a new classifier" in page.text
    assert "labels alone; the classifier only" in page.text
    assert page.text.count("its real-valued teacher") == 0


def test_command_makes_the_same_plan() -> None:
    overrides = {
        "width": 8,
        "gate": False,
        "batch_size": 32,
        "binary.epochs": 3,
        "real.batch_size": 16,
        "binary.initial_weights": None,
        "teacher.decay_epochs": [1.0, 2.0],
    }
    plan = recipes.plan("digits", **overrides)
    command = view.command({"recipe": "digits", **plan.config})
    words = shlex.split(command)
    assert words[:3] == ["r2b", "train", "recipe=digits"]
    assert {word.partition("=")[0] for word in words[3:]} == set(overrides)
    assert recipes.plan("digits", **parse(words[3:])) == plan


def test_command_is_on_the_page(page: Page) -> None:
    assert page.by_id["command"] == "r2b train recipe=digits width=8 smoke=true"


def test_python_lines_run(
    page: Page, smoke_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shutil.copy(smoke_run.tflite_path, tmp_path)
    Image.fromarray(np.full((20, 20), 128, np.uint8)).save(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(page.by_id["python"], "report", "exec"), {})
    assert len(re.findall(r"^\d+\.\d% \d$", capsys.readouterr().out, re.MULTILINE)) == 3


@pytest.mark.parametrize(
    "name", ["results.json", "attention.npz", "examples.npz", "stages/real/log.csv", "config.json"]
)
def test_report_of_an_unfinished_run_names_the_missing_file(run_copy: RunFolder, name: str) -> None:
    (run_copy.path / name).unlink()
    with pytest.raises(RunFolderError, match=f"there is no {name}"):
        write_report(run_copy)
    assert not run_copy.report_path.exists()


def test_damaged_log_is_named_in_the_error(run_copy: RunFolder) -> None:
    path = run_copy.stage("real") / "log.csv"
    path.write_text(path.read_text() + "1,abc\n")
    with pytest.raises(RunFolderError, match=r"log\.csv is damaged"):
        write_report(run_copy)


def test_same_run_same_page(smoke_run: RunFolder, page: Page) -> None:
    assert write_report(smoke_run).read_text(encoding="utf-8") == page.source


def test_failed_write_keeps_the_old_page(run_copy: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run_copy.report_path.write_text("old")

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_report(run_copy)
    assert run_copy.report_path.read_text() == "old"


def test_axes_show_the_range_of_the_curves() -> None:
    curve = plots.Curve("test", (0.1, 0.3, 0.9, 0.93, 0.95, 0.97))
    accuracy = plots.Axes.around([curve], may_be_log=False, percent=True)
    assert (accuracy.low, accuracy.high, accuracy.epochs, accuracy.first) == (0.9, 1.0, 6, 1)
    inherited = plots.Curve("test", (0.62, 0.9, 0.93, 0.95), first=0)
    accuracy = plots.Axes.around([curve, inherited], may_be_log=False, percent=True)
    assert (accuracy.low, accuracy.epochs, accuracy.first) == (0.6, 6, 0)
    loss = plots.Axes.around([plots.Curve("train", (2.3, 0.01))], may_be_log=True, percent=False)
    assert loss.log
    zero = plots.Axes.around([plots.Curve("train", (2.3, 0.0, float("nan")))], may_be_log=True, percent=False)
    assert not zero.log
    assert (zero.low, zero.high) == (0.0, 2.3)


def test_brightness_of_maps_is_relative_to_the_given_largest_value() -> None:
    values = np.array([[0.0, 0.25], [0.5, 0.25]])
    bright, dark = plots.map_png(values, 0.5), plots.map_png(values, 1.0)
    assert bright.startswith("data:image/png;base64,")
    assert bright != dark
    assert plots.map_png(values, 0.5) == plots.map_png(values / 2, 0.25)
    assert plots.map_png(np.zeros((2, 2)), 0.0) == plots.map_png(np.zeros((2, 2)), 1.0)


def test_thumbnail_of_a_large_photograph() -> None:
    small = plots.photo_png(np.zeros((8, 8, 1), np.uint8))
    large = plots.photo_png(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8))
    assert len(small) < 200
    assert len(large) < 60_000


def test_command_for_an_unknown_recipe_lists_every_field() -> None:
    words = view.command({"recipe": "my own", "width": 8, "binary.epochs": 3})
    assert words == "r2b train 'recipe=my own' width=8 binary.epochs=3"
