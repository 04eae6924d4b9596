"""Finds and loads the compiled library, which contains the engine and the delegate, and calls some of its functions."""

import ctypes
import functools
import numbers
import os
import pathlib
import platform
import sys
from typing import Optional

from r2b_runtime.stock import Delegate

_NAMES = {"win32": "r2b_runtime.dll", "darwin": "libr2b_runtime.dylib"}


def library_path() -> pathlib.Path:
    """Path of the shared library. Raises `RuntimeError` if this installation has none."""
    path = pathlib.Path(__file__).resolve().parent / _NAMES.get(sys.platform, "libr2b_runtime.so")
    if not path.exists():
        raise RuntimeError(
            f"r2b-runtime is installed without its compiled library ({path.name} for {sys.platform} on "
            f"{platform.machine()}). Install a wheel for this platform, or build it here: "
            "pip install ./export/runtime in the repository"
        )
    return path


@functools.cache
def load_library() -> ctypes.CDLL:
    """Loads the compiled library, and sets the types of its functions except those that engine.py calls."""
    library = ctypes.CDLL(str(library_path()))
    for name in ("r2b_version", "r2b_kernels"):
        getattr(library, name).restype = ctypes.c_char_p
    library.r2b_runtime_profile.restype = ctypes.c_char_p
    library.r2b_runtime_profile.argtypes = [ctypes.c_void_p]
    library.r2b_runtime_create_convolver.restype = ctypes.c_void_p
    library.r2b_runtime_create_convolver.argtypes = [ctypes.c_char_p, ctypes.c_int]
    library.r2b_runtime_destroy_convolver.argtypes = [ctypes.c_void_p]
    library.r2b_runtime_convolve.restype = ctypes.c_char_p
    library.r2b_runtime_convolve.argtypes = [ctypes.c_void_p] * 5
    library.r2b_runtime_resize.restype = ctypes.c_char_p
    library.r2b_runtime_resize.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 2, ctypes.c_int, ctypes.c_void_p]
    return library


def version() -> str:
    """Version of the compiled library."""
    return load_library().r2b_version().decode()


MOST_THREADS = 256  # the same limit as in native/cores.h


def checked_threads(num_threads: int) -> int:
    """`num_threads` as an int. Raises `ValueError` if it is not a whole number from 1 to `MOST_THREADS`."""
    if not isinstance(num_threads, numbers.Integral) or not 1 <= num_threads <= MOST_THREADS:
        raise ValueError(f"num_threads must be a whole number from 1 to {MOST_THREADS}; received {num_threads!r}")
    return int(num_threads)


def available_kernels() -> list[str]:
    """Names of the kernels that run on this CPU, best first."""
    return load_library().r2b_kernels().decode().split(",")


def chosen_kernels(name: Optional[str] = None) -> bytes:
    """The first of `name`, R2B_RUNTIME_KERNELS and "auto" that is set, as bytes.

    Raises `ValueError` if the kernels of this name do not run here.
    """
    asked, name = name, name or os.environ.get("R2B_RUNTIME_KERNELS") or "auto"
    if name != "auto" and name not in available_kernels():
        source = "" if asked else " (kernels come from the environment's R2B_RUNTIME_KERNELS: unset it)"
        raise ValueError(f"kernels {name!r} do not run here; available: auto, {', '.join(available_kernels())}{source}")
    return name.encode()


def delegates_profile(delegate: Delegate) -> tuple[str, list[tuple[float, int, str]]]:
    """The result of `r2b_runtime.profile` for a delegate; raises the same errors."""
    pointer = delegate._get_native_delegate_pointer()  # the interpreters' Python API offers no other way
    text = load_library().r2b_runtime_profile(pointer)
    if text is None:
        raise ValueError(f"{delegate!r} is not a delegate of r2b-runtime, or it has been freed; load another one")
    if not text:
        raise RuntimeError("another thread is using this interpreter; ask for the profile when it is done")
    kernels, *lines = text.decode().splitlines()
    steps = []
    for line in lines:
        seconds, runs, description = line.split("\t")
        steps.append((float(seconds), int(runs), description))
    return kernels.split("\t")[1], steps
