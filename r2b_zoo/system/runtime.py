"""Tells whether the optional package r2b-runtime is installed."""

import importlib.util


def is_installed() -> bool:
    return importlib.util.find_spec("r2b_runtime") is not None
