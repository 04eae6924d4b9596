"""The script that ``r2b_zoo.conversion.lce`` starts in a separate process, to run Larq Compute Engine's C++ code.

It loads one extension module but not TensorFlow, so it starts within a fifth of a second. The C++ code's output and
crashes affect only this process.
"""

import os
import sys

if __name__ == "__main__":
    # Python puts the script's folder first on the path, where its modules could shadow modules of the same name.
    sys.path = [path for path in sys.path if path not in ("", os.path.dirname(os.path.abspath(__file__)))]

import importlib.util
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

REFUSED = 3
"""Exit status of a conversion that failed without a crash; the output file then contains the reason."""


def send(stream: IO[bytes], header: dict[str, Any], payload: "bytes | memoryview" = b"") -> None:
    """Sends a line of JSON and the bytes that belong to it."""
    stream.write(json.dumps({**header, "bytes": len(payload)}).encode() + b"\n")
    stream.write(payload)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Receives what ``send`` sent.

    Raises:
        EOFError: the other side has ended.
    """
    line = stream.readline()
    header = json.loads(line) if line.endswith(b"\n") else {"bytes": 1}
    payload = stream.read(header["bytes"])
    if len(payload) < header["bytes"]:
        raise EOFError
    return header, payload


def _load(library: str) -> Any:
    specification = importlib.util.spec_from_file_location(Path(library).stem, library)
    assert specification is not None, "the path of an extension module"
    assert specification.loader is not None, "the path of an extension module"
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def _convert(library: str, saved_model: str, output: str) -> int:
    """Converts a SavedModel with the signature ``serving_default``; returns the exit status.

    Writes the ``.tflite`` to ``output``, or the reason if the conversion fails.
    """
    try:
        tflite = _load(library).convert_saved_model_to_tflite_flatbuffer(
            saved_model, ["serve"], ["serving_default"], 1, "arm", None
        )
    except Exception as error:
        Path(output).write_text(str(error), encoding="utf-8")
        return REFUSED
    Path(output).write_bytes(tflite)
    return 0


def _interpret(library: str, num_threads: str, reference: str, indirect: str) -> int:
    """Reads a model from stdin and runs it on the batches of images that follow, until stdin ends."""
    # Ignore Ctrl-C, which reaches every process of a terminal: this process must serve its parent to the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the C++ code's output must not mix with the answers
    import numpy as np

    interpreter = None
    while True:
        try:
            header, payload = receive(source)
        except EOFError:
            return 0
        try:
            if interpreter is None:
                make = _load(library).LiteInterpreter
                interpreter = make(payload, int(num_threads), reference == "1", indirect == "1", False)
                send(answers, {"outputs": len(interpreter.output_shapes)})
                continue
            images = np.frombuffer(payload, header["type"]).reshape(header["shape"])
            place = header["output"]
            outputs = [interpreter.predict([image[np.newaxis]]) for image in images]
            wanted = [np.concatenate([found[place] for found in outputs])] if place is not None else outputs[0]
            kinds = [{"shape": values.shape, "type": values.dtype.str} for values in wanted]
            send(answers, {"outputs": kinds}, b"".join(values.tobytes() for values in wanted))
        except Exception as error:
            send(answers, {"error": str(error)})


if __name__ == "__main__":
    _tasks: dict[str, Callable[..., int]] = {"convert": _convert, "interpret": _interpret}
    sys.exit(_tasks[sys.argv[1]](*sys.argv[2:]))
