"""Calls the C interface, r2b.h, for tests, including the functions that r2b_runtime/engine.py does not use."""

import contextlib
import ctypes
import pathlib
import shutil
import subprocess
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p

import numpy as np
import pytest
import r2b_runtime
from r2b_runtime.engine import _Error, _Options, _Step

_LIBRARY = ctypes.CDLL(str(r2b_runtime.library_path()))  # separate, because engine.py sets types on its handle


def host_program(source, folder, *flags):
    """Compiles a C file of tests/native/ into a program that uses the installed library; returns the program's path.

    Skips the test if there is no C compiler.
    """
    if shutil.which("cc") is None:
        pytest.skip("no cc: apt-get install gcc")
    program, library = folder / "host", r2b_runtime.library_path()
    path = pathlib.Path(__file__).parent / "native" / source
    strict = ["-Wall", "-Wextra", "-Werror", *flags, f"-I{library.parent}"]
    subprocess.run(["cc", *strict, path, library, f"-Wl,-rpath,{library.parent}", "-o", program], check=True)
    return program


class Preprocessing(ctypes.Structure):
    _fields_ = (
        ("height", c_int32),
        ("width", c_int32),
        ("channels", c_int32),
        ("crop_fraction", c_double),
        ("mean", c_float * 3),
        ("std", c_float * 3),
    )


class Image(ctypes.Structure):
    _fields_ = (
        ("pixels", c_void_p),
        ("height", c_int32),
        ("width", c_int32),
        ("channels", c_int32),
        ("stride", c_int64),
    )


class CError(Exception):
    """Carries the message that a function wrote into its r2b_error."""


Step = _Step

_RESULTS = {
    "r2b_model_load": c_void_p,
    "r2b_model_borrow": c_void_p,
    "r2b_model_free": None,
    "r2b_model_labels": c_int32,
    "r2b_model_label": c_char_p,
    "r2b_engine_create": c_void_p,
    "r2b_engine_free": None,
    "r2b_engine_memory": c_int64,
    "r2b_engine_weights": c_int64,
}


def call(name, *arguments):
    """Calls a function of the library and returns its result; raises `CError` if the function reports an error."""
    function = getattr(_LIBRARY, name)
    function.restype = _RESULTS.get(name, c_int32)
    if function.restype is None:
        return function(*arguments)
    error = _Error()
    result = function(*arguments, byref(error))
    if error.text:
        raise CError(error.text.decode())
    return result


@contextlib.contextmanager
def model(content):
    """Loads a model file's bytes and yields the model's handle."""
    handle = c_void_p(call("r2b_model_load", content, c_size_t(len(content))))
    try:
        yield handle
    finally:
        call("r2b_model_free", handle)


@contextlib.contextmanager
def engine(content, **options):
    """Creates an engine for a model file's bytes and yields the engine's handle."""
    with model(content) as loaded:
        given = _Options(size=ctypes.sizeof(_Options), **options)
        handle = c_void_p(call("r2b_engine_create", loaded, byref(given)))
    try:
        yield handle
    finally:
        call("r2b_engine_free", handle)


def labels(content):
    with model(content) as loaded:
        return [call("r2b_model_label", loaded, i).decode() for i in range(call("r2b_model_labels", loaded))]


def preprocessing(content):
    with model(content) as loaded:
        result = Preprocessing()
        call("r2b_model_preprocessing", loaded, byref(result))
        return result


def set_image(handle, image, place=0, **changes):
    """Passes an image to an engine.

    Args:
        handle: the engine.
        image: uint8 (height, width, channels); there may be gaps between its rows.
        place: index of the image in the batch.
        changes: fields of `Image` whose values replace those of `image`.
    """
    height, width, channels = image.shape
    given = Image(image.ctypes.data, height, width, channels, image.strides[0])
    for name, value in changes.items():
        setattr(given, name, value)
    call("r2b_engine_set_image", handle, c_int32(place), byref(given))


def values(handle, count):
    """Returns the values of output 0, float32 (count,)."""
    result = np.zeros(count, np.float32)
    call("r2b_engine_get_values", handle, 0, result.ctypes.data_as(POINTER(c_float)), c_size_t(count))
    return result
