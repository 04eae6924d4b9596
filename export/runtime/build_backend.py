"""Setuptools' build backend, with one more requirement: ziglang, a C++ compiler from PyPI.

It is required if the machine has no C++ compiler, or if R2B_RUNTIME_TARGET asks for a wheel for other machines too.
"""

import os

import build_native
from setuptools import build_meta as _setuptools
from setuptools.build_meta import *  # noqa: F403


def _compiler():
    return [] if build_native.machine_compiler() and not os.environ.get("R2B_RUNTIME_TARGET") else ["ziglang"]


def get_requires_for_build_wheel(config_settings=None):
    return _setuptools.get_requires_for_build_wheel(config_settings) + _compiler()


def get_requires_for_build_editable(config_settings=None):
    return _setuptools.get_requires_for_build_editable(config_settings) + _compiler()
