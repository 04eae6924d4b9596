"""Adds to the metadata in pyproject.toml what setuptools cannot know: how to compile the library, and that the wheel
depends on the platform but not on Python's version. If R2B_RUNTIME_TARGET names a target of build_native.py, the wheel
is for that platform, and runs on all machines of that platform (see build_wheels.py)."""

import importlib.util
import os
import pathlib
import shutil
import sys

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools < 70.1
    from wheel.bdist_wheel import bdist_wheel

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import build_native

TARGET = os.environ.get("R2B_RUNTIME_TARGET")


def add_web(folder):
    """Puts the engine for browsers and its JavaScript and HTML files into `folder`. R2B_RUNTIME_WASM can name the file
    of an engine that is already compiled; otherwise ziglang compiles it. Without that file and without ziglang, the
    engine is left out, and r2b_runtime.web.wasm() raises an error that says so."""
    web = build_native.ROOT.parent / "web"
    if not web.is_dir():  # this folder was copied alone
        return
    for name in ("index.js", "index.d.ts", "package.json", "page.html", "page.js"):
        shutil.copy(web / name, folder)
    compiled = os.environ.get("R2B_RUNTIME_WASM")
    if compiled:
        shutil.copyfile(compiled, folder / "r2b.wasm")
    elif TARGET or importlib.util.find_spec("ziglang"):
        sys.path.insert(0, str(web))
        import build_web

        build_web.build(folder)


class Build(build_py):
    def run(self):
        super().run()
        package = pathlib.Path("src" if self.editable_mode else self.build_lib) / "r2b_runtime"
        build_native.build(TARGET, package, distributable=TARGET is not None)
        shutil.copy(build_native.NATIVE / "r2b.h", package)  # for programs in C, and in languages that can call C
        add_web(package / "web")


class Wheel(bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "py3", "none", build_native.TARGETS[TARGET].wheel if TARGET else super().get_tag()[2]


class Platform(Distribution):
    def has_ext_modules(self):
        return True


setup(cmdclass={"build_py": Build, "bdist_wheel": Wheel}, distclass=Platform)
