"""Runs the Python lines and `r2b-run` commands of the runtime's README unchanged, and checks its tables."""

import pathlib
import re
import shlex

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import arm64
import build_native
import check_wheels
import r2b_runtime
import small_classifier
import tested
from r2b_runtime.command import main

README = (build_native.ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    pillow = pytest.importorskip("PIL.Image")
    (tmp_path / "model.tflite").write_bytes(small_classifier.with_files(small_classifier.model()))
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pillow.fromarray(image).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)


def test_six_lines_from_installation_to_a_prediction(folder, capsys):
    (shell, install), (python, lines) = BLOCKS[:2]
    assert (shell, python) == ("sh", "python")
    assert len([line for line in (install + lines).splitlines() if line]) <= 6
    exec(lines, {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert all(re.fullmatch(r"\d+\.\d%  (zero|one|two)", line) for line in printed)
    assert check_wheels.readme() == lines


def test_other_python_lines(folder):
    for kind, lines in BLOCKS[2:]:
        if kind == "python":
            exec(lines, {})


def test_commands(folder, capsys):
    commands = [
        line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if line.startswith("r2b-run")
    ]
    assert [shlex.split(line)[1] for line in commands] == ["predict", "info", "bench", "watch"]
    for line in commands:
        assert main(shlex.split(line, comments=True)[1:]) == 0
        assert capsys.readouterr().out


def test_table_of_options_lists_those_of_the_delegate():
    table = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    with pytest.raises(
        ValueError, match="the options are kernels, num_threads, claim, profile, max_memory and max_work"
    ):
        r2b_runtime.load_delegate(colour="red")
    options = ["kernels", "num_threads", "claim", "profile", "max_memory", "max_work"]
    assert [name for name in table if name.islower()] == options


def test_table_of_operators_is_what_the_tests_draw_from():
    assert tested.table() in README, "README's table of operators is out of date: python tests/tested.py prints it"


def test_readme_names_the_versions_that_are_checked():
    for name in check_wheels.ENVIRONMENTS:
        assert f"| {name} | x86-64" in README
    for name in arm64.INTERPRETERS:
        assert f"| {name} | x86-64, arm64 (emulated) |" in README


def test_files_that_are_named_exist():
    for name in re.findall(r"`((?:native|tests)/[\w/.]+)`", README):
        assert (build_native.ROOT / name).exists(), name
    for name in re.findall(r"\.\./\.\./(benchmarks/\w+\.py)", README):
        assert (pathlib.Path(build_native.ROOT).parents[1] / name).exists(), name
