"""Times networks whose channels do not fill blocks of 32, and networks with many operators other than convolutions.

    python -m benchmarks.widths                    # ratios of this library
    python -m benchmarks.widths --before DIR       # and of another build of it, in the same run
    python -m benchmarks.widths --check            # exits 1 where a claim of results/inference.md does not hold here

RealToBinaryNet at widths from 8 to 128 is compared with itself at the next multiple of 32. At the widths of `PEERS`, it
is also compared with an int8 ResNet-18 of the same width in LiteRT: with its real part in float, and in int8. A U-Net,
a swish network and QuickNet are compared with themselves when the interpreter runs the float operators
(`claim="binary"`).

In every round, each library runs each file for a turn. The program prints each file's least time over all turns, and
ratios of these times. It prints no medians: on a busy machine they depend on how often other processes had the core.
DIR is the result of `pip install --target DIR` for another version of export/runtime. Each library runs in a separate
process, which is stopped outside of its turns.
"""

import argparse
import itertools
import os
import pathlib
import sys
import time
from functools import partial
from typing import Any

import numpy as np

from benchmarks import networks, sides

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTHS = (8, 16, 24, 31, 32, 40, 48, 56, 64, 80, 96, 100, 128)
BLOCK = 32
# Limit on the ratio of the time at a width to the time at the next multiple of 32.
NEXT_MULTIPLE = 1.15
# Limits, by width, on the ratio of the time to that of an int8 ResNet-18 of the same width in LiteRT.
PEERS = {16: 1.0, 32: 0.4}
# Limit on the ratio of the time at a width to the time at the next wider one that is timed. Above 1 because of noise.
NEXT_WIDER = 1.05
OURS, OURS_INT8, PEER = "RealToBinaryNet", "RealToBinaryNet-int8", "ResNet18-int8"
OTHERS = ("U-Net", "swish network", "QuickNet")
SIZE = {"cifar": 32, "imagenet": 224}
SECONDS = 0.06  # least duration of a file's turn


def _file(network, stem, width):
    import r2b_zoo

    build = r2b_zoo.ResNet18 if network == PEER else r2b_zoo.RealToBinaryNet
    shape = (SIZE[stem], SIZE[stem], 3)
    model = networks.randomise(build(weights=None, width=width, stem=stem, input_shape=shape, num_classes=10))
    if network == OURS:
        return r2b_zoo.convert(model).tflite
    return networks.int8(model) if network == PEER else networks.real_part_in_int8(model)


def _binary_conv(x, channels, stride=1):
    import larq
    import tensorflow as tf

    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = larq.layers.QuantConv2D(channels, 3, stride, "same", pad_values=1.0, use_bias=False, **signs)(x)
    return tf.keras.layers.BatchNormalization()(x)


def _u_net(image):
    """A U-Net with two skip connections, a one-channel map that is added to all channels, and a softmax per pixel."""
    import tensorflow as tf

    layers = tf.keras.layers
    first = x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    second = x = _binary_conv(x, 32, 2)
    x = _binary_conv(_binary_conv(x, 64, 2), 64)
    x = _binary_conv(layers.UpSampling2D()(x), 32)
    x = layers.Add()([x, second])
    x = layers.Add()([x, layers.Conv2D(1, 1)(x)])
    x = _binary_conv(layers.UpSampling2D()(x), 16)
    x = layers.Add()([x, first])
    return layers.Softmax()(layers.Conv2D(8, 1)(x))


def _swish_network(image):
    """A network with swish after every convolution, a gate for the channels of each block, and a final x · x."""
    import tensorflow as tf

    layers = tf.keras.layers
    x = layers.Conv2D(24, 3, 2, "same", activation="swish")(image)
    for channels, stride in ((40, 1), (40, 1), (80, 2), (80, 1)):
        y = layers.Activation("swish")(_binary_conv(x, channels, stride))
        gate = layers.Dense(channels, "sigmoid")(layers.Dense(8, "swish")(layers.GlobalAveragePooling2D()(y)))
        y = layers.Multiply()([y, layers.Reshape((1, 1, channels))(gate)])
        x = layers.Add()([x, y]) if x.shape[-1] == channels else y
    x = layers.Multiply()([x, x])
    return layers.Dense(10, "softmax")(layers.GlobalAveragePooling2D()(x))


def _other(name):
    import tensorflow as tf

    from r2b_zoo.conversion.converter import lce_file

    image = tf.keras.Input((64, 64, 3), batch_size=1)
    model = tf.keras.Model(image, {"U-Net": _u_net, "swish network": _swish_network}[name](image))
    return lce_file(networks.randomise(model))


def times(library, jobs, connection):
    """The work of a ``Side``: measures the seconds of each job in every turn.

    Args:
        library: folder with another build of r2b_runtime; None for the installed one.
        jobs: pairs of a file and the options of ``r2b_runtime.Interpreter``; a file with options None runs in LiteRT.
        connection: see ``Side``.
    """
    if library:
        sys.path.insert(0, library)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import ai_edge_litert.interpreter
    import r2b_runtime

    interpreters = []
    for path, options in jobs:
        if options is None:
            interpreter = ai_edge_litert.interpreter.Interpreter(path, num_threads=1)
        else:
            interpreter = r2b_runtime.Interpreter(path, num_threads=1, **options)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        low, high = (0, 255) if detail["dtype"] == np.uint8 else (-1, 1)
        value = np.random.default_rng(0).uniform(low, high, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], value)
        interpreters.append(interpreter)
    connection.send(r2b_runtime.library_path())
    while connection.recv():
        connection.send([_seconds(interpreter.invoke) for interpreter in interpreters])


def _seconds(call):
    """The seconds of the fastest call in a turn. Slower calls shared the core with other processes."""
    for _ in range(3):
        call()
    measured: list[float] = []
    began = time.perf_counter()
    while not measured or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        call()
        measured.append(time.perf_counter() - start)
    return min(measured)


def _jobs(arguments):
    """The jobs of ``times``, (file, options), by name."""
    jobs: dict[str, tuple[str, dict[str, Any] | None]] = {}

    def file(name, build):
        return str(networks.file_of(name, arguments.models, build))

    for stem in arguments.stems:
        for width in sorted({*arguments.widths, *(_multiple(width) for width in arguments.widths)}):
            name = f"{OURS} {stem} {width}"
            jobs[name] = file(name, partial(_file, OURS, stem, width)), {"kernels": arguments.kernels}
        for width in sorted(PEERS.keys() & set(arguments.widths)):
            for network, options in ((OURS_INT8, {"kernels": arguments.kernels}), (PEER, None)):
                name = f"{network} {stem} {width}"
                jobs[name] = file(name, partial(_file, network, stem, width)), options
    for name in arguments.others:
        path = file(name, None if name in networks.LARQ_ZOO else partial(_other, name))
        for claim in ("all", "binary"):
            jobs[f"{name}, {claim}"] = (path, {"engine": "litert", "kernels": arguments.kernels, "claim": claim})
    return jobs


def _multiple(width):
    return -(-width // BLOCK) * BLOCK


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--stems", nargs="*", default=["cifar", "imagenet"], choices=list(SIZE))
    parser.add_argument("--others", nargs="*", default=list(OTHERS), choices=OTHERS)
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--before", help="a folder with another build of r2b_runtime")
    parser.add_argument("--models", default=str(ROOT / "runs" / "benchmark_networks"), help="where the files are kept")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    jobs = _jobs(arguments)
    libraries = {"here": None} | ({"before": arguments.before} if arguments.before else {})
    running = {name: sides.Side(name, times, library, list(jobs.values())) for name, library in libraries.items()}
    for name, side in running.items():
        print(f"{name}: {side.said}")
    rounds = [{name: side.turn() for name, side in running.items()} for _ in range(arguments.rounds)]
    found = {name: np.min([turn[name] for turn in rounds], axis=0) for name in running}
    for side in running.values():
        side.end()
    _print(list(jobs), found)
    if arguments.check:
        sys.exit(check(dict(zip(jobs, found["here"], strict=True))))


def _compared_with(name):
    """The name of the job whose time divides this job's time; None for an int8 ResNet-18, which has no ratio."""
    network, _, width = name.rpartition(" ")
    if network.startswith(PEER):
        return None
    if network.startswith(OURS_INT8):
        return name.replace(OURS_INT8, PEER)
    return f"{network} {_multiple(int(width))}" if network.startswith(OURS) else name.replace(", all", ", binary")


def _print(names, found):
    order = list(reversed(found))  # before, here
    columns = "".join(f"{f'{name}, ms':>12}{'ratio':>10}" for name in order)
    print(f"{'one thread':32}{columns}" + (f"{'here/before':>13}" if "before" in found else ""))
    for i, name in enumerate(names):
        against = _compared_with(name)
        line = f"{name:32}"
        for library in order:
            seconds = found[library]
            ratio = f"{seconds[i] / seconds[names.index(against)]:10.2f}" if against else f"{'':10}"
            line += f"{seconds[i] * 1e3:12.3f}{ratio}"
        if "before" in found:
            line += f"{found['here'][i] / found['before'][i]:13.3f}"
        print(line)
    print(f"ratio: to the next multiple of {BLOCK}; of {OURS_INT8}: to {PEER};")
    print("of other networks: to the interpreter's float operators (binary)")


def check(seconds):
    """Prints whether each claim holds; returns an exit status. ``seconds`` maps the names of jobs to their times.

    A width may take at most ``NEXT_MULTIPLE`` times as long as the next multiple of 32, ``NEXT_WIDER`` times as long as
    the next wider network, and ``PEERS[width]`` times as long as int8 ResNet-18 of the same width. The last limit holds
    with the real part in float and in int8.
    """
    claims = {}
    for stem in SIZE:
        widths = sorted(int(name.rpartition(" ")[2]) for name in seconds if name.startswith(f"{OURS} {stem} "))
        for width, wider in itertools.zip_longest(widths, widths[1:]):
            own = seconds[f"{OURS} {stem} {width}"]
            if width % BLOCK:
                next_one = seconds[f"{OURS} {stem} {_multiple(width)}"]
                claims[f"{stem} stem, width {width} / next multiple of {BLOCK}"] = own / next_one, NEXT_MULTIPLE
            if wider:
                claims[f"{stem} stem, width {width} / width {wider}"] = (
                    own / seconds[f"{OURS} {stem} {wider}"],
                    NEXT_WIDER,
                )
            if (peer := f"{PEER} {stem} {width}") in seconds:
                for network in (OURS, OURS_INT8):
                    ratio = seconds[f"{network} {stem} {width}"] / seconds[peer]
                    claims[f"{stem} stem, width {width}, {network} / {PEER}"] = ratio, PEERS[width]
    for claim, (value, limit) in claims.items():
        print(f"{'holds' if value <= limit else 'DOES NOT HOLD':14}{claim}: {value:.3f}, at most {limit:.2f}")
    return int(any(value > limit for value, limit in claims.values()))


if __name__ == "__main__":
    main()
