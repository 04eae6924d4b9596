"""Training resumes after a kill, an interrupt or a full disk, and ends with the weights of an uninterrupted run."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from r2b_zoo import recipes, training
from r2b_zoo.recipes import STAGE_NAMES
from r2b_zoo.runs.checkpoints import FOLDER_NAME
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from tests.test_training import assert_equal_weights, largest_file

# The plan has all four stages with all their losses. It saves a checkpoint after every step, so that a process can be
# killed at many different moments.
FIELDS = {
    "width": 8,
    "batch_size": 256,
    "augmentation": "affine",
    "checkpoint_minutes": 1e-6,
    **{f"{stage}.{field}": value for stage in STAGE_NAMES for field, value in (("epochs", 3), ("warmup_epochs", 1.0))},
}
STEPS = 5  # per epoch: 1,442 images in batches of 256
PROGRAM = """
import sys
from r2b_zoo import recipes, training
from r2b_zoo.runs.folder import RunFolder
training.train(recipes.plan("digits", **eval(sys.argv[2])), RunFolder(sys.argv[1]), log=print)
"""
ROOT = Path(__file__).parents[1]
LIMIT = 900  # seconds: far longer than any wait here takes, unless a process hangs


def start(folder, fields=FIELDS, program=PROGRAM, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), repr(fields)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process):
    """Waits until the process ends; returns its standard output, standard error and exit status."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
        process.wait()
    return out, err, process.returncode


def wait_for(condition, process):
    """Waits until ``condition()`` is true and returns its value, or None if the process ends first.

    Raises:
        TimeoutError: neither has happened within LIMIT seconds.
    """
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        if process.poll() is not None:
            return None
        time.sleep(0.0005)
    raise TimeoutError(f"nothing happened in {LIMIT} s")


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def teacher_only():
    whole = recipes.plan("digits", **FIELDS)
    return replace(whole, stages=whole.stages[:1])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a run that trained only the first stage, without an interruption."""
    folder = RunFolder(tmp_path_factory.mktemp("teacher") / "run")
    training.train(teacher_only(), folder)
    return folder


# --- moments ----------------------------------------------------------------------------------------------------------


class Moments:
    """Conditions that recognise a moment in training by the files in the run's folder."""

    def __init__(self, path):
        self.folder = RunFolder(path)

    def position(self, stage):
        paths = self.folder.checkpoints(stage).paths()
        return max(tuple(map(int, path.name.split(".")[0].split("-"))) for path in paths) if paths else (0, 0)

    def within_epoch(self, stage, steps):
        """Returns a condition: the stage is finished, or within an epoch and ``steps`` or more steps past now."""
        first = self.position(stage)
        start = first[0] * STEPS + first[1]

        def reached():
            epoch, step = self.position(stage)
            return self.folder.is_finished(stage) or (epoch * STEPS + step >= start + steps and step > 0)

        return reached

    def while_writing(self, stage, number):
        """Returns a condition: it has seen ``number`` partly written checkpoints, or the stage is finished."""
        seen: set[str] = set()

        def writing():
            partial = self.folder.partial(stage) / FOLDER_NAME
            seen.update(path.name for path in partial.glob(".*.npz"))
            return self.folder.is_finished(stage) or len(seen) >= number

        return writing

    def between_stages(self, stage):
        return lambda: self.folder.is_finished(stage)


def moments(folder, seed):
    """Yields 20 moments in their order, five per stage.

    Each is (stage, kind, a function that makes the condition, the delay before the kill: 0 to 0.02 seconds).
    """
    draw = random.Random(seed)
    see = Moments(folder)
    for stage in STAGE_NAMES:
        kinds = [
            ("before the first step", lambda stage=stage: lambda: see.folder.partial(stage).is_dir()),
            ("within an epoch", lambda stage=stage: see.within_epoch(stage, draw.randint(1, 4))),
            ("while a checkpoint is written", lambda stage=stage: see.while_writing(stage, draw.randint(1, 3))),
            ("within an epoch", lambda stage=stage: see.within_epoch(stage, draw.randint(1, 4))),
            ("between stages", lambda stage=stage: see.between_stages(stage)),
        ]
        for kind, moment in kinds:
            # Writing a file takes only a few milliseconds, so kill the process at once.
            delay = 0.0 if "written" in kind else draw.uniform(0, 0.02)
            yield stage, kind, moment, delay


@pytest.mark.long
def test_twenty_kills_leave_no_trace_in_the_weights(tmp_path):
    out, err, status = finish(start(tmp_path / "whole"))
    assert status == 0, err
    assert "Resuming" not in out
    died = []
    for stage, kind, moment, delay in moments(tmp_path / "killed", seed=20260301):
        process = start(tmp_path / "killed")
        if wait_for(moment(), process) is not None:
            time.sleep(delay)
            if process.poll() is None:
                died.append((stage, kind))
        kill(process)
    assert len(died) == 20, died
    out, err, status = finish(start(tmp_path / "killed"))
    assert status == 0, err
    for stage in STAGE_NAMES:
        whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
        assert_equal_weights(killed.weights(stage), whole.weights(stage))
        assert (killed.stage(stage) / "log.csv").read_bytes() == (whole.stage(stage) / "log.csv").read_bytes()
    left = [str(p) for p in (tmp_path / "killed").rglob("*") if "partial" in p.name or FOLDER_NAME in p.name]
    assert left == []


# --- interrupted ------------------------------------------------------------------------------------------------------

COMMAND = "import sys; from r2b_zoo.cli import main; sys.argv = ['r2b', *sys.argv[1:]]; main()"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Starts `r2b train`, and stops it with SIGINT (Ctrl-C) during its first stage.

    Returns:
        The run's folder; the error message of a second training that was started in the folder meanwhile; and the id,
        standard error and exit status of the process that was stopped.
    """
    path = tmp_path_factory.mktemp("interrupted") / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", "--output", str(path), *(f"{k}={v}" for k, v in FIELDS.items())],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_for(lambda: Moments(path).position("teacher") >= (0, 3), process)
    with pytest.raises(RunFolderError) as second:
        training.train(teacher_only(), RunFolder(path))
    process.send_signal(signal.SIGINT)
    _, err, status = finish(process)
    return RunFolder(path), str(second.value), process.pid, err, status


def test_ctrl_c_saves_and_says_how_to_resume(interrupted):
    folder, _, _, err, status = interrupted
    assert status == 130
    assert re.fullmatch(
        r"Stopped in stage teacher after \d of 3 epochs( and \d of 5 steps)?, and saved: the same command resumes "
        r"there\.",
        err.strip().splitlines()[-1],
    )
    assert len(folder.checkpoints("teacher").paths()) == 2


def test_a_second_process_in_the_folder_is_refused(interrupted):
    folder, message, pid, _, _ = interrupted
    assert re.match(
        rf"{folder.path} is in use: process {pid} on .* trains in it\. Wait until it is done, stop it, or choose",
        message,
    )


def test_training_resumes_from_an_older_checkpoint_if_the_newest_is_damaged(interrupted, teacher, tmp_path):
    shutil.copytree(interrupted[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    newest = folder.checkpoints("teacher").paths()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    said: list[str] = []
    training.train(teacher_only(), folder, log=said.append)
    assert said[0] == (
        f"The checkpoint {newest} is damaged (its content does not match the hash in its name) and is not used."
    )
    assert said[1].startswith("Resuming stage teacher after ")
    assert_equal_weights(folder.weights("teacher"), teacher.weights("teacher"))


def test_a_stage_starts_again_if_all_its_checkpoints_are_damaged(interrupted, teacher, tmp_path):
    shutil.copytree(interrupted[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    for path in folder.checkpoints("teacher").paths():
        path.write_bytes(b"")
    said: list[str] = []
    training.train(teacher_only(), folder, log=said.append)
    assert said[2:] == ["Stage teacher starts again: it has no checkpoint that can be read."]
    assert_equal_weights(folder.weights("teacher"), teacher.weights("teacher"))


def test_another_configuration_is_refused_in_the_middle_of_a_stage(interrupted):
    before = interrupted[0].checkpoints("teacher").paths()
    with pytest.raises(RunFolderError, match=r"holds a run with teacher\.epochs=3, and this command has 4"):
        training.train(recipes.plan("digits", **{**FIELDS, "teacher.epochs": 4}), interrupted[0])
    assert interrupted[0].checkpoints("teacher").paths() == before


# --- a full disk ------------------------------------------------------------------------------------------------------


class FillsTheDisk(tf.keras.callbacks.Callback):
    """Lets no file grow beyond 50 kB from the second epoch on."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.stack.enter_context(largest_file(50_000))


def test_training_resumes_after_the_disk_was_full_during_a_checkpoint(teacher, tmp_path):
    folder = RunFolder(tmp_path / "run")
    message = r"run cannot be written \(File too large\): free some space there or .*and the same command resumes"
    with contextlib.ExitStack() as stack, pytest.raises(RunFolderError, match=message):
        training.train(teacher_only(), folder, lambda _: [FillsTheDisk(stack)])
    assert Moments(folder.path).position("teacher") == (1, 0)
    assert [path.name for path in folder.path.rglob(".*.npz")] == []
    said: list[str] = []
    training.train(teacher_only(), folder, log=said.append)
    assert said == ["Resuming stage teacher after 1 of 3 epochs."]
    assert_equal_weights(folder.weights("teacher"), teacher.weights("teacher"))
