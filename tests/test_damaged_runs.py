"""Training rebuilds the damaged records of a run if it can; otherwise, an error says what to do."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r2b_zoo import training, weights
from r2b_zoo.report.page import write_report
from r2b_zoo.runs import networks, pretrained
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.runs.networks import Networks
from tests.test_training import everything_in, plan

CUTS = (0.0, 0.02, 0.3, 0.6, 0.9, 0.99)
STAGE = "real"


@pytest.fixture(scope="module")
def whole(smoke_folder):
    """The contents of every file of the finished run."""
    return {path: path.read_bytes() for path in smoke_folder.path.rglob("*") if path.is_file()}


@pytest.fixture
def run(smoke_run, tmp_path):
    """A copy of the finished run, to change."""
    shutil.copytree(smoke_run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def mended(run, plan_=None):
    """Opens the folder as training does, and returns the lines that are logged."""
    said: list[str] = []
    with run.opened(plan_ or plan(), said.append):
        pass
    return said


def assert_the_rest_is_untouched(run, whole, smoke_run, but):
    for path, content in whole.items():
        name = path.relative_to(smoke_run.path)
        if name.name not in (but, ".lock"):
            assert (run.path / name).read_bytes() == content, name


@pytest.mark.parametrize("share", CUTS)
def test_a_configuration_that_is_cut_off_is_written_again(run, whole, smoke_run, share):
    before = run.config()
    cut(run.config_path, share)
    with pytest.raises(
        RunFolderError, match=r"config\.json is damaged .*: give the command that started the run again"
    ):
        run.plan()
    (said,) = mended(run)
    assert said.startswith(f"{run.config_path} was damaged: written again from this command, which nothing in the")
    assert run.config() == before
    assert_the_rest_is_untouched(run, whole, smoke_run, "config.json")
    assert mended(run) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b'{"fields": 3}', b'{"fields": {}}', b'{"fields": {"re']
)
def test_a_configuration_that_is_nonsense_is_written_again(run, content):
    before = run.config()
    run.config_path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"config\.json is damaged \(.*\): give the command that started the run"):
        run.config()
    assert len(mended(run)) == 1
    assert run.config() == before
    assert (run.path / "config.json.damaged").read_bytes() == content


@pytest.mark.parametrize(
    ("share", "words", "message"),
    [
        (0.99, ["seed=1"], r"holds a run with seed=0, and this command has 1: give the command that started the run"),
        (0.99, ["binary.learning_rate=3"], r"holds a run with binary\.learning_rate=[\d.]+, and this command has 3"),
        (
            0.0,
            ["real.network=BNN18"],
            r"holds a run with real\.network='RealToBinaryNet', and this command has 'BNN18'",
        ),
        (
            0.0,
            ["smoke=false", "real.epochs=3", "teacher.epochs=1"],
            r"a run with \w+\.epochs=1, and this command has \d+",
        ),
        (
            0.0,
            ["progressive=false"],
            r"a run with (a stage 'real', which this|binary_activations\.initial_weights='real')",
        ),
    ],
)
def test_a_damaged_configuration_of_another_run_is_refused(run, share, words, message):
    cut(run.config_path, share)
    before = everything_in(run.path)
    with pytest.raises(RunFolderError, match=message):
        mended(run, plan(*words))
    assert everything_in(run.path) == before


@pytest.mark.parametrize("share", CUTS)
def test_a_damaged_record_of_a_stage_is_rebuilt_from_other_records(run, whole, smoke_run, share):
    before = run.stage_result(STAGE)
    cut(run.result_path(STAGE), share)
    with pytest.raises(
        RunFolderError, match=r"real/result\.json is damaged .*: run the command .* again, which rebuilds the file"
    ):
        run.stage_result(STAGE)
    (said,) = mended(run)
    assert said == f"{run.result_path(STAGE)} was damaged or missing: written again from the run's other records."
    assert run.stage_result(STAGE) == before
    assert_the_rest_is_untouched(run, whole, smoke_run, "result.json")


@pytest.mark.parametrize("also", ["missing", "cut off"])
def test_a_lost_record_is_rebuilt_from_plan_and_log(run, also):
    before = run.stage_result(STAGE)
    run.result_path(STAGE).unlink()
    if also == "missing":
        run.results_path.unlink()
    else:
        cut(run.results_path, 0.5)
    assert len(mended(run)) == 1
    found = run.stage_result(STAGE)
    lost = {"seconds", "images_per_second", "layers_not_initialised"}
    assert {k: v for k, v in found.items() if k not in lost} == {k: v for k, v in before.items() if k not in lost}
    assert found["seconds"] is None


def test_a_record_that_cannot_be_rebuilt_names_the_stage_to_train_again(run):
    run.results_path.unlink()
    cut(run.result_path(STAGE), 0.5)
    cut(run.log_path(STAGE), 0.5)
    with pytest.raises(
        RunFolderError, match=r"If that fails, delete .*stages/real and run the command again: it trains"
    ):
        mended(run)


@pytest.mark.parametrize("share", CUTS)
def test_the_whole_rows_of_a_log_are_kept(run, whole, smoke_run, share):
    path = run.log_path(STAGE)
    rows = [b"%d,0.5,0.25,0.125\r\n" % epoch for epoch in range(9)]
    content = b"epoch,loss,val_accuracy,learning_rate\r\n" + b"".join(rows)
    path.write_bytes(content)
    cut(path, share)
    left = path.read_bytes()
    said = mended(run)
    found = path.read_bytes()
    assert content.startswith(found)
    assert left.startswith(found)
    assert len(left) - len(found) < len(content) - len(b"".join(rows))
    assert [f"{path} was damaged: its" in line for line in said] == [True] * (left != found)
    assert_the_rest_is_untouched(run, whole, smoke_run, "log.csv")


def test_a_damaged_row_of_a_log_costs_no_other_row(run):
    path = run.log_path(STAGE)
    rows = [b"epoch,val_accuracy\r\n", b"0,0.5\r\n", b"1,\xff\r\n", b"2,0.75\r\n"]
    path.write_bytes(b"".join(rows))
    (said,) = mended(run)
    assert said == f"{path} was damaged: its 2 whole rows are kept. The damaged file is {path}.damaged."
    assert path.read_bytes() == b"".join([rows[0], rows[1], rows[3]])


@pytest.mark.parametrize("content", [b'{"stages": [', b"3", b""])
def test_an_error_about_damaged_results_says_how_to_rewrite_them(run, content):
    run.results_path.write_bytes(content)
    message = (
        r"results\.json is damaged \(.*\): run the command .* again, which rewrites the file from the finished stages"
    )
    for use in (run.results, lambda: write_report(run), lambda: pretrained.describe(str(run.path))):
        with pytest.raises(RunFolderError, match=message):
            use()
    assert mended(run) == []


@pytest.mark.parametrize("share", [0.3, 0.9999])
def test_damaged_weights_name_the_stage_to_train_again(run, share):
    path = run.weights("teacher")
    cut(path, share)
    message = (
        rf"teacher/weights\.h5 cannot be read .*\. If there is no copy, delete {run.stage('teacher')} and give the "
        r"command that started the run again: it trains that stage anew and keeps the others\."
    )
    with pytest.raises(RunFolderError, match=message):
        Networks(plan(), run)["teacher"]


def test_weights_whose_values_were_altered_are_refused(run):
    path = run.weights("teacher")
    content = bytearray(path.read_bytes())
    content[content.index(weights.read(path)["stem_conv"][0].tobytes()) + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        RunFolderError, match=r"is damaged: its values are not those .* delete .*stages/teacher and give"
    ):
        Networks(plan(), run)["teacher"]


@pytest.mark.parametrize("name", ["attention.npz", "examples.npz"])
@pytest.mark.parametrize("share", [0.0, 0.99])
def test_damaged_arrays_of_the_report_are_refused(run, name, share):
    cut(run.path / name, share)
    with pytest.raises(RunFolderError, match=rf"{name} is damaged \(.*\): run the command that started the run again;"):
        write_report(run)


def test_a_report_can_be_written_without_the_times_of_the_stages(run):
    results = run.results()
    for stage in results["stages"]:
        stage["seconds"] = stage["images_per_second"] = None
    run.write_results(results)
    assert write_report(run).is_file()


def test_a_folder_of_another_configuration_is_refused_before_tensorflow_starts(smoke_run):
    """Runs in a separate process, because this process has already imported TensorFlow."""
    program = (
        "import sys; from r2b_zoo.cli import main; sys.argv = ['r2b', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "train", "seed=5", "smoke=true", "width=8", "--output", str(smoke_run.path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert "holds a run with seed=0, and this command has 5" in ended.stderr
    assert ended.stdout.strip() == "1 False"


def test_training_checks_the_folder_before_it_reads_the_data(smoke_run, monkeypatch):
    monkeypatch.setattr(networks, "dataset_of", lambda plan: pytest.fail("reads the data"))
    with pytest.raises(RunFolderError, match="holds a run with seed=0, and this command has 5"):
        training.train(plan("seed=5"), smoke_run)
