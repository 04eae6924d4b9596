"""The ablation: the stages that each arm trains, rows of one protocol, and statements that the rows support."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from scipy import stats

from benchmarks.ablation import contrasts, page, runs
from benchmarks.ablation.__main__ import main
from benchmarks.ablation.protocol import ARMS, COMMON, CONTRASTS, RECIPE, SHARED, STAGES, Contrast, Protocol, Run
from benchmarks.ablation.rows import PROTOCOL_FILE, Row, Rows, Try
from r2b_zoo import recipes

PROTOCOL = Protocol(COMMON)
FOLDER = Path("/elsewhere")


def plans(name, seed=0):
    (*shared, run) = runs.runs(PROTOCOL, [name], [seed], FOLDER)
    return {one.name: recipes.plan(RECIPE, **one.fields) for one in (*shared, run)}, run


# --- the arms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_has_both_training_stages_under_the_same_rules(name):
    of_runs, run = plans(name)
    plan = of_runs[run.name]
    activations, binary = plan.stages[-2:]
    assert (activations.name, activations.precision) == ("binary_activations", "binary_activations")
    assert (binary.name, binary.precision) == ("binary", "binary")
    assert activations.initial_weights is None
    assert binary.initial_weights == "binary_activations"
    assert binary.loss_weights["attention_matching"] == 0
    assert binary.network == activations.network
    for stage in plan.stages:
        assert (stage.batch_size, stage.augmentation, stage.schedule) == (128, "crop_flip", "cosine")
        assert stage.epochs == PROTOCOL.epochs(ARMS[name]).get(stage.name, stage.epochs)
    # A stage that is taken from another run is among that run's stages.
    for stage in plan.stages:
        if stage.from_run is not None:
            other = of_runs[Path(stage.from_run).name]
            assert stage.name in [one.name for one in other.stages]
    assert len(plan.stages) == len(PROTOCOL.epochs(ARMS[name])) + len(ARMS[name].shared)


def test_each_idea_is_used_in_its_arms_only():
    found = {}
    for name in ARMS:
        of_runs, run = plans(name)
        activations = of_runs[run.name].stages[-2]
        found[name] = (
            activations.network,
            activations.taught_by,
            activations.loss_weights["attention_matching"] > 0,
            activations.loss_weights["output_matching"] > 0,
        )
    assert found == {
        "bnn": ("BNN18", None, False, False),
        "xnor": ("XNORNet18", None, False, False),
        "bireal": ("BiRealNet18", None, False, False),
        "baseline": ("StrongBaselineNet", None, False, False),
        "matching": ("StrongBaselineNet", "teacher", True, True),
        "gate": ("RealToBinaryNet", None, False, False),
        "progressive": ("StrongBaselineNet", "real", True, True),
        "real-to-binary": ("RealToBinaryNet", "real", True, True),
        "baseline-long": ("StrongBaselineNet", None, False, False),
    }


def test_the_long_control_has_all_the_epochs_of_real_to_binary():
    """The stages of Real-to-Binary have 4 + 2 + 2 + 1 epochs; the control has as many in two stages."""
    assert PROTOCOL.epochs(ARMS["baseline-long"]) == {"binary_activations": 6, "binary": 3}
    assert PROTOCOL.epochs(ARMS["real-to-binary"]) == {"binary_activations": 2, "binary": 1}
    assert PROTOCOL.epochs(SHARED["real-gate"]) == {"real": 2}


def test_runs_follow_those_they_need_and_shared_runs_occur_once():
    found = runs.runs(PROTOCOL, list(ARMS), [3, 4, 5, 6], FOLDER)
    names = [run.name for run in found]
    assert len(names) == len(set(names)) == 4 * (len(SHARED) + 5) + 2 * 4
    for run in found:
        assert all(names.index(need) < names.index(run.name) for need in run.needs)
    assert [run.seed for run in found if run.arm == "bnn"] == [3, 4]


def test_tried_values_start_from_the_same_stages():
    tried = runs.tries(PROTOCOL, ARMS["matching"], 0, FOLDER, "binary.learning_rate", {"1e-3": 1e-3, "1e-2": 1e-2})
    for rate, run in tried.items():
        plan = recipes.plan(RECIPE, **run.fields)
        taken = [stage.from_run for stage in plan.stages]
        assert taken == [str(FOLDER / "teacher-seed-0"), str(FOLDER / "matching-seed-0"), None]
        assert plan.stages[-1].learning_rate == float(rate)
        assert run.needs == ("matching-seed-0",)


def test_trying_a_stage_trains_no_later_stage():
    tried = runs.tries(PROTOCOL, ARMS["matching"], 0, FOLDER, "binary_activations.learning_rate", {"1e-2": 1e-2})
    plan = recipes.plan(RECIPE, **tried["1e-2"].fields)
    assert [(stage.name, stage.from_run) for stage in plan.stages] == [
        ("teacher", str(FOLDER / "teacher-seed-0")),
        ("binary_activations", None),
    ]
    assert tried["1e-2"].needs == ("teacher-seed-0",)
    words = ["--arm", "matching", "--try", "binary_activations.learning_rate=1e-2", "--plan", "--rows", "/nowhere"]
    ended = CliRunner().invoke(main, words)
    assert [line.split() for line in ended.output.splitlines()[:-1]] == [
        ["teacher-seed-0", "teacher", "4"],
        [tried["1e-2"].name, "binary_activations", "2"],
    ]


def test_page_shows_tried_values_beside_those_of_all_runs(rows):
    field = "binary_activations.learning_rate"
    add(rows, row("xnor", 0, 0.49, stage="binary_activations", validation_accuracy=0.488))
    for arm, accuracies in (("bnn", {"1e-3": 0.512, "3e-2": 0.5}), ("xnor", {"1e-3": 0.48})):
        tried = runs.tries(PROTOCOL, ARMS[arm], 0, FOLDER, field, {"1e-3": 1e-3})
        rows.write_try(PROTOCOL, Try.of(PROTOCOL, tried["1e-3"], field, accuracies))
    text = page.markdown(found(rows), "cifar10")
    assert f"| BNN | 0 | `{field}` | 1e-3: 51.2, **3e-2**: 50.0 |" in text
    assert f"| XNOR-Net | 0 | `{field}` | **0.003**: 48.8, 1e-3: 48.0 |" in text
    assert "Another value is better for BNN by 1.2 points (1e-3)." in text


def test_the_page_names_the_learning_rates_of_the_arms(rows):
    text = page.markdown(found(rows), "cifar10")
    assert "with a learning rate of 0.03; XNOR-Net with 0.003. These are the best" in text
    for name in ARMS:
        (stage,) = [stage for stage in plans(name)[0][f"{name}-seed-0"].stages if stage.name == "binary_activations"]
        assert stage.learning_rate == (0.003 if name == "xnor" else 0.03)


# --- the processes ----------------------------------------------------------------------------------------------------


def test_processes_run_in_order_and_those_that_need_a_failed_one_are_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_POLL_SECONDS", 0.01)
    todo = [
        Run("a", "", 0, {}, ()),
        Run("bad", "", 0, {}, ()),
        Run("c", "", 0, {}, ("a",)),
        Run("d", "", 0, {}, ("bad",)),
    ]
    said: list[str] = []
    order = tmp_path / "order"
    program = f"import sys; open({str(order)!r}, 'a').write(sys.argv[1] + ' '); sys.exit(sys.argv[1] == 'bad')"
    team = runs.Team([sys.executable, "-S", "-c", program], tmp_path / "logs", [0, 1], said.append)
    assert team.run(todo) == {"bad": 1, "d": -1}
    ran = order.read_text().split()
    assert sorted(ran) == ["a", "bad", "c"]
    assert ran.index("a") < ran.index("c")
    assert "d: skipped, because a run that it needs failed" in said


# --- rows and statements ----------------------------------------------------------------------------------------------


def row(arm, seed, accuracy, **other):
    values = {
        "protocol": PROTOCOL.digest, "arm": arm, "stage": "binary", "seed": seed, "network": "StrongBaselineNet",
        "precision": "binary", "epochs": 2, "learning_rate": 0.003, "validation_accuracy": accuracy,
        "test_accuracy": accuracy, "start_accuracy": None, "losses": {"loss": 1.0}, "curve": [accuracy / 2, accuracy],
        "seconds": 60.0, "images_per_second": 100.0, "commit": "c" * 40, "processor": "a machine",
    }  # fmt: skip
    return Row(**{**values, **other})


@pytest.fixture
def rows(tmp_path):
    """Rows of baseline, matching, progressive and Real-to-Binary, with four seeds each."""
    folder = Rows(tmp_path / "cifar10")
    folder.folder.mkdir()
    kept = {"digest": PROTOCOL.digest, "fields": dict(COMMON)}
    (folder.folder / PROTOCOL_FILE).write_text(json.dumps(kept))
    values = {
        "baseline": (0.60, 0.61, 0.60, 0.62),
        "matching": (0.62, 0.634, 0.62, 0.641),
        "progressive": (0.63, 0.62, 0.65, 0.64),
        "real-to-binary": (0.66, 0.65, 0.67, 0.669),
    }
    for arm, of_seeds in values.items():
        for seed, accuracy in enumerate(of_seeds):
            add(folder, row(arm, seed, accuracy))
    return folder


def add(folder, one):
    (folder.folder / f"{one.arm}-{one.seed}-{one.stage}.json").write_text(json.dumps(asdict(one)))


def found(folder):
    taken, left_out = folder.read()
    return page.Found(taken, left_out, folder.fields(), folder.tries())


def test_differences_are_those_of_a_paired_t_test(rows):
    of_arms = found(rows).accuracies("binary")
    one = contrasts.differences(CONTRASTS, of_arms)[Contrast("matching", "baseline", True)]
    assert one is not None
    expected = stats.ttest_rel([62.0, 63.4, 62.0, 64.1], [60.0, 61.0, 60.0, 62.0])
    low, high = expected.confidence_interval(0.95)
    assert one.values == pytest.approx((2.0, 2.4, 2.0, 2.1))
    assert one.interval == pytest.approx((low, high))
    assert one.p == pytest.approx(expected.pvalue)
    assert one.adjusted == pytest.approx(3 * expected.pvalue)
    assert one.is_resolved


def test_holms_correction():
    # In ascending order, each p is multiplied by the number of hypotheses not yet rejected; the products never fall.
    assert contrasts.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert contrasts.holm([0.9, 0.8]) == [1.0, 1.0]


def test_only_differences_whose_interval_excludes_zero_are_stated(rows):
    text = page.markdown(found(rows), "cifar10")
    assert "- SB + attention + logit matching is 2.1 points above strong baseline (SB)" in text
    assert "- SB + progressive" not in text  # its interval contains 0
    line = next(line for line in text.splitlines() if line.startswith("| SB + progressive over"))
    assert line.endswith("| not resolved |")
    assert "| SB + gate over strong baseline (SB) | – | – | – | – | not measured |" in text
    assert "The order of the networks: not measured for all of them." in text
    assert "attention.png" in text
    assert "attention.png" not in page.markdown(found(rows), "cifar10", has_attention=False)


def test_page_compares_the_order_of_networks_with_the_literature(rows):
    for arm, accuracy in (("bnn", 0.5), ("xnor", 0.49), ("bireal", 0.55)):
        add(rows, row(arm, 0, accuracy))
    text = page.markdown(found(rows), "cifar10")
    assert "By their means: XNOR-Net (49.0) < BNN (50.0) < Bi-Real Net (55.0) < strong baseline" in text
    assert "The order in the literature, BNN < XNOR-Net < Bi-Real Net < strong baseline (SB) < Real-to-Bin" in text
    add(rows, row("xnor", 0, 0.51))
    text = page.markdown(found(rows), "cifar10")
    assert "By their means: BNN (50.0) < XNOR-Net (51.0) < Bi-Real Net (55.0)" in text
    assert "as in the literature." in text


def test_page_gives_the_accuracy_of_the_teaching_networks(rows):
    assert "learned from" not in page.markdown(found(rows), "cifar10")
    for arm, stage, accuracy in (
        ("teacher", "teacher", 0.78),
        ("real-scale", "real", 0.73),
        ("real-gate", "real", 0.72),
    ):
        add(rows, row(arm, 0, accuracy, stage=stage))
    text = page.markdown(found(rows), "cifar10")
    assert (
        "SB + attention + logit matching learned from the teacher (78.0 %); SB + progressive learned from the real "
        "student (73.0 %); Real-to-Binary learned from the real student with gates (72.0 %)."
    ) in text


def test_missing_seeds_and_unsuitable_rows_are_named_and_not_averaged(rows):
    add(rows, row("baseline", 7, 0.99, commit="d" * 40))
    add(rows, row("baseline", 8, 0.99, protocol="0" * 12))
    add(rows, row("baseline", 9, 0.99, stage="binary_activations", learning_rate=0.003))
    text = page.markdown(found(rows), "cifar10")
    assert "- baseline-7-binary.json is of commit dddddddddddd, not cccccccccccc, and is left out." in text
    assert "- baseline-8-binary.json is of another protocol (000000000000) and is left out." in text
    assert "- baseline-9-binary_activations.json has a learning rate of 0.003, not 0.03, and is left out." in text
    assert "- BNN: 0 of 2 seeds are present." in text
    assert "99.0" not in text


def test_a_folder_takes_rows_of_one_protocol(rows):
    other = Protocol({**COMMON, "binary.epochs": 6})
    with pytest.raises(ValueError, match=r"has the rows of another protocol .* differs in {'binary.epochs': 6}"):
        rows.check(other)
    rows.check(Protocol({**COMMON, "data_dir": "/anywhere"}))
    ended = CliRunner().invoke(main, ["binary.epochs=6", "--plan", "--rows", str(rows.folder)])
    assert ended.exit_code == 1
    assert "name another folder with --rows" in ended.output


def test_plan_shows_how_much_is_still_to_train(rows):
    ended = CliRunner().invoke(main, ["--plan", "--arm", "baseline", "--seed", "0", "--rows", str(rows.folder)])
    assert ended.exit_code == 0
    assert "binary_activations 2, binary 1 ✓" in ended.output
    assert "3 epochs, 2 of them still to train" in ended.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["binary.epoch=3"], "binary.epoch"),
        (["--try", "binary.learning_rate=1e-3"], "and --arm 0 times."),
        (
            ["--arm", "bnn", "--try", "teacher.learning_rate=1e-3"],
            "--try needs exactly one --arm",
        ),
        (["--summary", "--rows", "/nowhere/rows"], "There are no rows in /nowhere/rows"),
    ],
)
def test_arguments_that_are_refused(words, message):
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 1
    assert message in " ".join(ended.output.split())


def test_page_and_plots_are_written_with_the_same_bytes_again(rows):
    written = page.write(rows, rows.folder / "no runs")
    assert [path.name for path in written] == ["cifar10.md", "ladder.svg", "curves.svg", "cost.svg"]
    before = [path.read_bytes() for path in written]
    page.write(rows, rows.folder / "no runs")
    assert [path.read_bytes() for path in written] == before
    assert all(path.read_text().count("<svg") == 1 for path in written[1:])


@pytest.mark.slow
def test_training_writes_a_row_for_each_stage(tmp_path):
    """Trains for a few steps on digits: a shared teacher, and an arm that takes its teacher from that run."""
    fields = {**COMMON, "dataset": "digits", "augmentation": "none", "width": 8, "smoke": True, "validation": 0.1}
    protocol = Protocol(fields)
    rows = Rows(tmp_path / "rows")
    for run in runs.runs(protocol, ["matching"], [0], tmp_path):
        runs.train(protocol, run, tmp_path, rows, log=lambda line: None)
    taken, left_out = rows.read()
    assert left_out == []
    assert sorted((one.arm, one.stage) for one in taken) == [
        ("matching", "binary"),
        ("matching", "binary_activations"),
        ("teacher", "teacher"),
    ]
    assert all(0 <= one.test_accuracy <= 1 and len(one.curve) == one.epochs for one in taken)
    assert STAGES[-1] in {one.stage for one in taken}
