"""Checkpoints and locks: values are restored to the bit, the last two files are kept, and damaged ones are skipped."""

import random

import numpy as np
import pytest

from r2b_zoo.runs.checkpoints import Checkpoints, Progress, set_random_state
from r2b_zoo.system.locks import Lock, LockedError


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {
        "student/00000": rng.normal(size=(3, 3, 2)).astype(np.float32),
        "optimizer/00000": np.array(7 + seed),
        "metrics/00000": np.array([np.nan, np.inf, 5e-324]),
    }


def steps(checkpoints):
    return [path.name.split(".")[0] for path in checkpoints.paths()]


def test_a_checkpoint_gives_back_what_was_saved_to_the_bit(checkpoints):
    progress = Progress(3, 17, rows=[{"epoch": 0, "loss": 0.1}, {"epoch": 1, "loss": 1 / 3}], best=0.5, seconds=2.5)
    checkpoints.save(progress, arrays(1))
    found, damaged = checkpoints.latest()
    assert damaged == []
    assert found.progress == progress
    assert found.arrays.keys() == arrays(1).keys()
    for name, value in arrays(1).items():
        assert found.arrays[name].dtype == value.dtype
        assert found.arrays[name].tobytes() == value.tobytes()


def test_random_numbers_resume_where_they_stopped(checkpoints):
    random.seed(3)
    np.random.seed(3)
    random.gauss(0, 1), np.random.normal()  # both keep a second normal number for the next call
    checkpoints.save(Progress(), {})
    expected = [random.random(), random.gauss(0, 1), np.random.normal(), *np.random.randint(0, 99, 5)]
    set_random_state(checkpoints.latest()[0].random_state)
    assert [random.random(), random.gauss(0, 1), np.random.normal(), *np.random.randint(0, 99, 5)] == expected


def test_the_last_two_are_kept(checkpoints):
    assert checkpoints.latest() == (None, [])
    for epoch, step in ((0, 9), (0, 10), (1, 0), (10, 2)):
        checkpoints.save(Progress(epoch, step), arrays(step))
    assert steps(checkpoints) == ["00001-00000000", "00010-00000002"]
    assert checkpoints.latest()[0].progress == Progress(10, 2)


def test_two_checkpoints_may_have_the_same_position(checkpoints):
    for seconds in (1.0, 2.0, 3.0):
        checkpoints.save(Progress(1, 5, seconds=seconds), arrays(0))
    assert len(checkpoints.paths()) == 2
    assert checkpoints.latest()[0].progress.epoch == 1


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "nonsense"])
def test_latest_skips_a_damaged_checkpoint_and_says_so(checkpoints, damage):
    for epoch in (1, 2):
        newest = checkpoints.save(Progress(epoch), arrays(epoch))
    content = bytearray(newest.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-100], "bit": content, "empty": b"", "nonsense": b"nonsense"}[damage])
    found, (sentence,) = checkpoints.latest()
    assert found.progress == Progress(1)
    assert str(newest) in sentence
    assert sentence.endswith("its content does not match the hash in its name) and is not used.")


def test_latest_finds_nothing_if_all_checkpoints_are_damaged(checkpoints):
    for epoch in (1, 2):
        checkpoints.save(Progress(epoch), arrays(epoch)).write_bytes(b"")
    found, damaged = checkpoints.latest()
    assert found is None
    assert len(damaged) == 2


def test_a_partial_file_of_a_killed_process_is_ignored_and_deleted_with_the_next_checkpoint(checkpoints):
    kept = checkpoints.save(Progress(1), arrays(1))
    (checkpoints.folder / f".00002-00000000.{'0' * 64}.partial.npz").write_bytes(kept.read_bytes()[:50])
    assert checkpoints.paths() == [kept]
    assert checkpoints.latest()[0].progress == Progress(1)
    checkpoints.save(Progress(3), arrays(3))
    assert [path.name for path in checkpoints.folder.iterdir() if path.name.startswith(".")] == []


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one(tmp_path):
    lock = Lock(tmp_path / "lock")
    with pytest.raises(LockedError, match=r"locked by process \d+ on "):
        Lock(tmp_path / "lock")
    lock.release()
    Lock(tmp_path / "lock").release()


def test_a_system_without_locks_causes_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr("r2b_zoo.system.locks.fcntl", None)
    with pytest.warns(UserWarning, match=r"is not protected from a second process, since this system has no locks"):
        lock = Lock(tmp_path / "lock")
    lock.release()
