"""Tests that export/raspberry_pi/README.md agrees with the code. check_page.py runs its `sh` blocks under qemu."""

import dataclasses
import json
import pathlib
import re
import shlex

import pytest

pytest.importorskip("tensorflow", reason="check_page.py, which the page names, writes a model with TensorFlow")

import build_native
import check_page
from r2b_runtime.command import _parser
from r2b_runtime.watch.outputs import Event

FOLDER = pathlib.Path(check_page.__file__).parent
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, block in BLOCKS if kind in ("", "sh") for line in block.splitlines()]


@pytest.mark.parametrize("line", [line for line in COMMANDS if "r2b-run" in line])
def test_commands_have_arguments_that_exist(line):
    words = shlex.split(line)
    start = next(place for place, word in enumerate(words) if word.endswith("r2b-run")) + 1
    end = next((place for place in range(start, len(words)) if words[place] == "|"), len(words))
    parsed = _parser().parse_args(words[start:end])
    assert parsed.model == "/opt/r2b/model.tflite"


def test_there_are_commands_for_every_way_to_watch():
    text = "\n".join(COMMANDS)
    for option in ("--command", "--mqtt", "--systemd", " - ", "rpicam-vid", "/dev/video0", "mkfifo"):
        assert option in text


def test_wheels_named_on_the_page_are_built():
    named = set(re.findall(r"(?:manylinux2014|musllinux_1_2)_\w+", PAGE)) | {"musllinux_1_2_armv7l"}
    built = {target.wheel for target in build_native.TARGETS.values()}
    assert named <= built
    assert {wheel for wheel in built if "linux" in wheel} - named <= {
        "manylinux2014_x86_64",
        "manylinux_2_31_riscv64",
        "musllinux_1_2_x86_64",
    }


def test_the_line_of_json_is_what_watch_prints():
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    event = json.loads(text)
    assert list(event) == [field.name for field in dataclasses.fields(Event) if field.name != "more"]
    made = Event(**event)
    assert made.as_json() + "\n" == text


def test_check_page_finds_the_packages_and_commands_of_the_page():
    packages, commands = check_page.page()
    assert {"python3-venv", "python3-numpy", "python3-pil"} <= set(packages)
    assert any(" pip install" in command or "/pip install" in command for command in commands)
    assert any("r2b-run watch" in command for command in commands)


def test_files_named_on_the_page_exist():
    for name in re.findall(r"`(export/[\w/.*]+)`", PAGE):
        assert list(pathlib.Path(FOLDER).parents[1].glob(name)) or name.endswith("dist"), name
    assert (FOLDER / "check_page.py").exists()
