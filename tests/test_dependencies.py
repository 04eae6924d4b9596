"""Packages that r2b_zoo imports are declared, and declared packages are pinned and listed in CONTRIBUTING.md."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# These packages are imported if they are installed; the code works without them.
OPTIONAL = {"r2b-runtime", "ipython"}
HAS_NO_RELEASE = {"r2b-zoo", "r2b-runtime"}


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements):
    return {normalised(name) for one in requirements for name in re.findall(r"^[\w.-]+", one)}


@pytest.fixture(scope="module")
def project():
    from setuptools.config.pyprojecttoml import load_file  # type: ignore[import-untyped]

    return load_file(str(ROOT / "pyproject.toml"))["project"]


def imported(package):
    """The names of the distributions that the package imports, each with the path of a file that imports it."""
    found = {}
    distributions = packages_distributions()
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules = [node.module]
            else:
                continue
            for top in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {package}:
                for distribution in distributions.get(top, [top]):
                    found[normalised(distribution)] = path.relative_to(ROOT)
    return found


def test_what_r2b_zoo_imports_is_declared(project):
    declared = names(project["dependencies"])
    missing = {name: path for name, path in imported("r2b_zoo").items() if name not in declared | OPTIONAL}
    assert not missing
    assert names(project["optional-dependencies"]["notebooks"]) >= OPTIONAL


def test_what_is_declared_is_pinned_and_has_a_reason(project):
    declared = names([*project["dependencies"], *chain(*project["optional-dependencies"].values())])
    pinned = names(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1].isalnum())
    assert declared - pinned <= HAS_NO_RELEASE
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Dependencies")[2].partition("\n## ")[0]
    reasons = {normalised(word) for word in re.findall(r"[\w.-]*\w", table)}
    assert declared - reasons <= HAS_NO_RELEASE
