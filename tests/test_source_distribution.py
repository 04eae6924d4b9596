"""The source distribution contains all that its tests need, and wheels contain the weights."""

from pathlib import Path

from setuptools._distutils.filelist import FileList  # type: ignore[import-untyped]
from setuptools._distutils.text_file import TextFile  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "benchmarks", "notebooks", "results", "export", "docs")


def test_the_source_distribution_has_what_its_tests_need(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = FileList()
    inside = [
        str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    files.allfiles = [*inside, *(path.name for path in ROOT.iterdir() if path.is_file())]
    for line in TextFile("MANIFEST.in", strip_comments=True, skip_blanks=True).readlines():
        files.process_template_line(line)
    found = {Path(name) for name in files.files}
    for path in (
        "constraints.txt",
        "tests/conftest.py",
        "tests/__init__.py",
        "tests/small.py",
        "Makefile",
        "SECURITY.md",
        "mkdocs.yml",
    ):
        assert Path(path) in found, path
    python = {
        path for path in map(Path, inside) if path.suffix in (".py", ".cc", ".h", ".md") and "build" not in path.parts
    }
    assert python <= found
    assert not [path for path in found if path.suffix in (".pyc", ".so", ".o")]


def test_wheels_carry_the_weights(monkeypatch):
    """Checks only the package data, which setuptools puts into wheels and source distributions alike."""
    from setuptools import Distribution  # type: ignore[import-untyped]
    from setuptools.config.pyprojecttoml import load_file  # type: ignore[import-untyped]

    from r2b_zoo.weights.named import BUNDLED, FOLDER

    monkeypatch.chdir(ROOT)
    configured = load_file("pyproject.toml")["tool"]["setuptools"]["package-data"]
    distribution = Distribution({"packages": ["r2b_zoo"], "package_data": configured})
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    found = {name for _, _, _, names in command.data_files for name in names}
    assert {f"{FOLDER}/{file}" for file in BUNDLED.values()} <= found
