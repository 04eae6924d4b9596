"""Times networks whose channels do not fill blocks of 32, and networks with many other operators than convolutions.

    python -m benchmarks.widths                    # ratios of this library
    python -m benchmarks.widths --before DIR       # and of another build of it, in the same run

RealToBinaryNet at widths from 8 to 64 is compared with itself at the next multiple of 32; a U-Net, a swish network and
QuickNet are compared with themselves when the interpreter runs the float operators (`claim="binary"`). Every round
gives each file a turn in each library. The program prints the least time of all turns, and ratios of these: on a busy
machine, medians show how often other processes had the core. DIR is the result of `pip install --target DIR` for
another version of export/runtime. Each library has a separate process, which is stopped outside of its turns.
"""

import argparse
import os
import pathlib
import sys
import time

import numpy as np

from benchmarks import networks, sides

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
ROOT = pathlib.Path(__file__).resolve().parents[1]
WIDTHS = (8, 16, 24, 31, 32, 40, 48, 64)
OTHERS = ("U-Net", "swish network", "QuickNet")
SIZE = {"cifar": 32, "imagenet": 224}
SECONDS = 0.06  # least length of a file's turn


def _real_to_binary(stem, width):
    import r2b_zoo

    shape = (SIZE[stem], SIZE[stem], 3)
    model = r2b_zoo.RealToBinaryNet(weights=None, width=width, stem=stem, input_shape=shape, num_classes=10)
    return r2b_zoo.convert(networks.randomise(model)).tflite


def _binary_conv(x, channels, stride=1):
    import larq
    import tensorflow as tf

    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
    x = larq.layers.QuantConv2D(channels, 3, stride, "same", pad_values=1.0, use_bias=False, **signs)(x)
    return tf.keras.layers.BatchNormalization()(x)


def _u_net(image):
    """A U-Net with two scales, an added map of one channel, and a class for each pixel."""
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
    """A network with swish after every convolution, a gate over the channels, and a square."""
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
    import larq_compute_engine
    import tensorflow as tf

    if name == "QuickNet":
        import larq_zoo

        model = larq_zoo.sota.QuickNet(weights=None)
    else:
        image = tf.keras.Input((64, 64, 3), batch_size=1)
        model = tf.keras.Model(image, {"U-Net": _u_net, "swish network": _swish_network}[name](image))
    return larq_compute_engine.convert_keras_model(networks.randomise(model))


def _file(directory, name, build):
    path = pathlib.Path(directory) / (name.replace(" ", "_") + ".tflite")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build())
    return str(path)


def times(library, jobs, connection):
    """The work of a side: measures the seconds of each (file, options) in every turn."""
    if library:
        sys.path.insert(0, library)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import r2b_runtime

    interpreters = []
    for path, options in jobs:
        interpreter = r2b_runtime.Interpreter(path, num_threads=1, **options)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        value = np.random.default_rng(0).uniform(-1, 1, detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], value)
        interpreters.append(interpreter)
    connection.send(r2b_runtime.library_path())
    while connection.recv():
        connection.send([_seconds(interpreter.invoke) for interpreter in interpreters])


def _seconds(call):
    """The least time of the calls in a turn, since other processes use the core too; the first calls only warm up."""
    for _ in range(3):
        call()
    measured: list[float] = []
    began = time.perf_counter()
    while not measured or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        call()
        measured.append(time.perf_counter() - start)
    return min(measured)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--stems", nargs="*", default=["cifar", "imagenet"], choices=list(SIZE))
    parser.add_argument("--others", nargs="*", default=list(OTHERS), choices=OTHERS)
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--before", help="a folder with another build of r2b_runtime")
    parser.add_argument("--models", default=str(ROOT / "runs" / "benchmark_networks"), help="where the files are kept")
    arguments = parser.parse_args()
    jobs = {}
    for stem in arguments.stems:
        for width in sorted({*arguments.widths, *(-(-width // 32) * 32 for width in arguments.widths)}):
            name = f"RealToBinaryNet {stem} {width}"
            path = _file(arguments.models, name, lambda stem=stem, width=width: _real_to_binary(stem, width))
            jobs[name] = (path, {"kernels": arguments.kernels})
    for name in arguments.others:
        path = _file(arguments.models, name, lambda name=name: _other(name))
        for claim in ("all", "binary"):
            jobs[f"{name}, {claim}"] = (path, {"engine": "litert", "kernels": arguments.kernels, "claim": claim})
    libraries = {"here": None} | ({"before": arguments.before} if arguments.before else {})
    running = {name: sides.Side(name, times, library, list(jobs.values())) for name, library in libraries.items()}
    for name, side in running.items():
        print(f"{name}: {side.said}")
    rounds = [{name: side.turn() for name, side in running.items()} for _ in range(arguments.rounds)]
    found = {name: np.min([turn[name] for turn in rounds], axis=0) for name in running}
    for side in running.values():
        side.end()
    _print(list(jobs), found)


def _print(names, found):
    order = list(reversed(found))  # before, here
    columns = "".join(f"{f'{name}, ms':>12}{'ratio':>10}" for name in order)
    print(f"{'one thread':32}{columns}" + (f"{'here/before':>13}" if "before" in found else ""))
    for i, name in enumerate(names):
        words = name.split()
        if words[0] == "RealToBinaryNet":
            against = names.index(" ".join([*words[:-1], str(-(-int(words[-1]) // 32) * 32)]))
        else:
            against = names.index(name.replace(", all", ", binary"))
        line = f"{name:32}"
        for library in order:
            line += f"{found[library][i] * 1e3:12.3f}{found[library][i] / found[library][against]:10.2f}"
        if "before" in found:
            line += f"{found['here'][i] / found['before'][i]:13.3f}"
        print(line)
    print("ratio: to the next multiple of 32, or to the interpreter's float operators (binary)")


if __name__ == "__main__":
    main()
