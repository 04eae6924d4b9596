"""Whether r2b-runtime is installed, which is optional for r2b_zoo."""

import importlib.util


def is_installed() -> bool:
    return importlib.util.find_spec("r2b_runtime") is not None
