"""If a test's process dies or hangs, the suite ends and names the test; files that share costly results are grouped."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import _group

ROOT = Path(__file__).parents[1]
# The test starts a process that outlives it and keeps the inherited pipes open.
DIES = """
import os, signal, subprocess, sys
def test_that_dies():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"])
    os.kill(os.getpid(), signal.SIGKILL)
"""
HANGS = """
import threading
def test_that_hangs():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
"""


@pytest.mark.parametrize(("source", "name"), [(DIES, "test_that_dies"), (HANGS, "test_that_hangs")])
def test_a_process_that_dies_or_hangs_ends_the_suite_with_the_tests_name(source, name, tmp_path):
    (options,) = re.findall(r"^PYTEST_OPTIONS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    (tmp_path / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    command += [*options.split(), "--override-ini", "timeout=3", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"worker 'gw\d' crashed while running 'test_it\.py::{name}'", done.stdout)


def test_files_that_share_something_expensive_are_a_group():
    groups = {path.stem: _group(f"tests/{path.name}::test_it[a::b]") for path in (ROOT / "tests").glob("test_*.py")}
    assert {"test_report", "test_training", "test_stages"} <= {name for name, at in groups.items() if at == "smoke_run"}
    assert {"test_conversion", "test_verification"} <= {name for name, at in groups.items() if at == "converted"}
    assert groups["test_smoke"] == "tests/test_smoke.py::test_it[a::b]"
    assert groups["test_schedules"] == "tests/test_schedules.py"
