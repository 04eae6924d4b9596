"""r2b-runtime, which r2b_zoo uses where it is installed and does without where it is not."""

import importlib.util


def is_installed() -> bool:
    return importlib.util.find_spec("r2b_runtime") is not None
