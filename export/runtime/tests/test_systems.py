"""Tests wheels on other architectures and C libraries, without TensorFlow Lite; see check_systems.py."""

import pathlib

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import check_systems
import debian
import small_classifier
from test_networks import half_blocks

# test_arm64.py runs networks on bookworm-arm64.
NAMES = [name for name in check_systems.NAMES if name != "bookworm-arm64"]


@pytest.fixture
def cases(tmp_path):
    """Two networks, random inputs for them, and this machine's answers."""
    models = {"small": small_classifier.model(), "blocks": half_blocks(np.random.default_rng(0))}
    for name, content in models.items():
        (tmp_path / f"{name}.tflite").write_bytes(content)
    (tmp_path / "cases").mkdir()
    return check_systems.Cases(tmp_path / "cases", {name: tmp_path / f"{name}.tflite" for name in models})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_system_gives_the_same_answers_as_this_machine(name, cases, tmp_path):
    reason = check_systems.missing(name)
    if reason is not None:
        pytest.skip(reason)
    pytest.importorskip("ziglang", reason="ziglang compiles the library: pip install ziglang")
    result = check_systems.check(name, cases, tmp_path)
    assert result.same == result.answers >= 4, result
    assert result.worst <= check_systems.MOST_DIFFERENCE, result


def test_answers_are_compared(cases):
    ours = {name: best.tolist() for name, (best, _) in cases.expected.items()}
    portable = {name: rows.tolist() for name, (_, rows) in cases.expected.items()}
    assert cases.compare("portable", portable).worst == 0
    assert cases.compare("twice", {name: 2 * rows for name, rows in ours.items()}).answers == 8
    ours["small"][0] = ours["small"][0][::-1]
    other = cases.compare("reversed", ours)
    assert (other.same, other.answers) == (3, 4)
    assert other.worst > 0.01
    with pytest.raises(RuntimeError, match="none: answers of other shapes than this machine's, or none"):
        cases.compare("none", {name: [] for name in ours})


def test_a_system_that_is_missing_is_named(monkeypatch, tmp_path):
    system = debian.SYSTEMS["trixie-armhf"]
    monkeypatch.setitem(debian.SYSTEMS, "trixie-armhf", debian.System("trixie", "armhf", "3.13", tmp_path))
    for name in ("trixie-armhf", "musl-armv7l"):
        assert check_systems.missing(name) == f"there is no {tmp_path}: python tests/debian.py trixie-armhf"
    monkeypatch.setattr(check_systems.shutil, "which", lambda name: None)
    assert check_systems.missing("musl-x86_64") == "there is no musl-gcc: apt-get install musl-tools"
    assert {check_systems.target_of(name) for name in NAMES} <= set(check_systems.build_native.TARGETS)
    assert pathlib.Path(system.folder).name == "trixie-armhf"
