"""Runs the code of the how-to pages, and builds the documentation's site."""

import re
import shlex
import shutil
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import r2b_zoo
from r2b_zoo import weights
from r2b_zoo.models import topology
from tests.photo_folder import write_photographs
from tests.small import FULL

ROOT = Path(__file__).parents[1]
HOW_TO = ROOT / "docs" / "how-to"
_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^>]+) -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"(hardware|not run): \w.+")
COMMANDS = ("r2b", "ls")
NO_CODE = "text"
TIMES = ("slow", "long")  # pytest markers that a page may put before a block


def blocks_of(text):
    return [(match["mark"] or "", match["kind"], match["code"]) for match in _BLOCK.finditer(text)]


BLOCKS = [
    pytest.param(kind, code, id=f"{page.stem}-{number}", marks=[getattr(pytest.mark, mark)] if mark in TIMES else [])
    for page in sorted(HOW_TO.glob("*.md"))
    for number, (mark, kind, code) in enumerate(blocks_of(page.read_text(encoding="utf-8")), 1)
    if kind != NO_CODE and not NOT_RUN.fullmatch(mark)
]


@pytest.mark.parametrize("page", sorted(HOW_TO.glob("*.md")), ids=lambda page: page.stem)
def test_every_block_is_run_or_says_why_not(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("\n```") == 2 * len(blocks_of(text)), "a block is indented, or is not closed"
    for mark, kind, code in blocks_of(text):
        assert mark in ("", *TIMES) or NOT_RUN.fullmatch(mark), mark
        assert kind in ("python", "bash", NO_CODE), code
        if kind == "bash" and not NOT_RUN.fullmatch(mark):
            for line in code.splitlines():
                assert line.split()[0] in COMMANDS, f"mark this block as <!-- hardware: ... --> or run it: {line}"


@pytest.fixture
def folder(tmp_path, smoke_run, monkeypatch):
    """The folder in which the pages' code runs, with the files that the code uses: a run, photographs and a picture."""
    (tmp_path / "runs").mkdir()
    shutil.copytree(smoke_run.path, tmp_path / "runs" / "demo")
    write_photographs(tmp_path / "photos", number=6)
    Image.fromarray(np.full((12, 12), 90, np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("kind", "code"), BLOCKS)
def test_a_code_block_of_a_how_to_page_runs(kind, code, folder, r2b):
    # The fixture smoke_run makes all networks shallow, but the bundled CIFAR-10 weights need the full depth.
    with topology._depth(*FULL) if "r2b export cifar10" in code else nullcontext():
        _run(kind, code, folder, r2b)


def _run(kind, code, folder, r2b):
    if "weights.h5" in code:
        network = r2b_zoo.RealToBinaryNet(input_shape=(32, 32, 3), width=8, stem="cifar", num_classes=7)
        weights.save(network, folder / "weights.h5")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Few images to train on")
        if kind == "python":
            exec(compile(code, "how-to", "exec"), {"__name__": "how_to"})
            return
        for line in code.splitlines():
            command, *words = shlex.split(line)
            if command == "ls":
                assert all(Path(word).exists() for word in words)
                continue
            if any(word.startswith("cpu_devices=") for word in words):
                # The CPU can be split into devices only before TensorFlow starts: start a new process.
                start = [sys.executable, "-c", "from r2b_zoo.cli import main; main()", *words]
                alone = subprocess.run(start, capture_output=True, text=True, timeout=600)
                assert alone.returncode == 0 or "NOT PROVEN" in alone.stdout + alone.stderr, alone.stderr
                continue
            ended = r2b(*words)
            # For a network that was trained for two steps, verification may end with NOT PROVEN.
            undecided = "verify" in words or "train" in words
            assert ended.status == 0 or (undecided and "NOT PROVEN" in ended.out + ended.err), ended.err


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    for result in (ROOT / "results").glob("*.md"):
        assert f"results/{result.stem}/index.html" in pages
    for notebook in (ROOT / "notebooks").glob("[0-9]_*.ipynb"):
        assert "<img" in pages[f"tutorial/{notebook.stem}/index.html"]
    for name, page in pages.items():
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page):
            assert not re.search(r'(?:src|href)="?(?:https?:)?//', tag), (name, tag)
    assert not [
        path for path in site.rglob("*.css") if re.search(r"url\(.?(https?:)?//", path.read_text(errors="ignore"))
    ]


def test_public_names_are_in_the_reference():
    text = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    named = (
        set(re.findall(r"^::: [\w.]+\.(\w+)$", text, re.MULTILINE))
        | set(re.findall(r"r2b_zoo\.(\w+)`", text))
        | {"cost"}
    )
    missing = [
        name for name in r2b_zoo.__all__ if name not in named and name not in ("__version__", *r2b_zoo.list_models())
    ]
    assert not missing
