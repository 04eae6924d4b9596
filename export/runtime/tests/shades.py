"""A classifier whose answers for dark, grey and bright images are known, and helpers for tests of `watch`."""

import io
import json
import subprocess
import sys
import threading

import lce_model
import numpy as np
import small_classifier

LABELS = ("dark", "grey", "bright")
PATIENCE = 60
"""Seconds after which a test stops waiting; many, since the machine may be busy."""

SHADES = {"dark": 10, "grey": 128, "bright": 245}


def model(labels=LABELS):
    """The bytes of a model that returns the softmax of the logits -8 m, 6 and 8 m.

    m is the mean of (pixel - 128) / 64 over the image, which the preprocessing resizes to 8x8 grey pixels.
    """
    made = lce_model.Model()
    schema = lce_model.schema
    image = made.input([1, 8, 8, 1])
    flat, logits, output = made.tensor([1, 64]), made.tensor([1, 3]), made.tensor([1, 3])
    reshape = schema.ReshapeOptionsT()
    reshape.newShape = [1, 64]
    made.builtin("RESHAPE", [image, made.constant([1, 64], "int32")], [flat], reshape)
    weights = np.outer([-1.0, 0.0, 1.0], np.full(64, 8 / 64))
    made.builtin(
        "FULLY_CONNECTED",
        [flat, made.constant(weights), made.constant([0.0, 6.0, 0.0])],
        [logits],
        schema.FullyConnectedOptionsT(),
    )
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    made.builtin("SOFTMAX", [logits], [output], softmax)
    made.output(output)
    return small_classifier.with_files(made.bytes(), labels, mean=[128.0], std=[64.0])


def jpeg(shade, size=(64, 48)):
    """A JPEG image of one shade: a name in `SHADES`, or a number in 0–255; `size` is (width, height)."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", size, SHADES[shade] if shade in SHADES else int(shade)).save(stream, "JPEG")
    return stream.getvalue()


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def written(folder):
    """Writes the model into a folder and returns its path."""
    path = folder / "shades.tflite"
    path.write_bytes(model())
    return str(path)


def started(*arguments, **options):
    """Starts `r2b_runtime watch` with these arguments in a child process; `options` are those of `subprocess.Popen`."""
    command = [sys.executable, "-m", "r2b_runtime", "watch", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, text=False, **pipes)


def line_with(process, words):
    """Waits for a line that contains `words` on a process's standard error and returns it.

    Kills the process after `PATIENCE` seconds. Raises `StopIteration` if the process ends without such a line.
    """
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        return next(line for line in map(bytes.decode, process.stderr) if words in line)
    finally:
        timer.cancel()


def lines(process):
    """Yields the events of a process's standard output as they come; kills the process after `PATIENCE` seconds."""
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            yield json.loads(line)
    finally:
        timer.cancel()
