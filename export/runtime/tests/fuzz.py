"""Fuzzes the delegate with model files and drawn graphs, or the engine's C interface with model files.

    python tests/fuzz.py --seconds 600                   # native/fuzz_model.cc
    python tests/fuzz.py --target engine --seconds 600   # native/fuzz_engine.cc

Needs clang with libFuzzer (Debian: apt-get install clang) and, for the seeds, TensorFlow.
"""

import argparse
import base64
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import build_native  # noqa: E402


def seeds():
    """Yields small valid models, which together use nearly all operators and every output format of LceBconv2d."""
    import lce_model
    import small_classifier

    rng = np.random.default_rng(0)

    def signs(*shape):
        return rng.choice([-1.0, 1.0], shape)

    for output in ("float32", "int8", "int32"):
        for options in (
            {},
            {"pad_values": 1},
            {"padding": 1},
            {"stride_height": 2, "stride_width": 2},
            {"dilation_width_factor": 2},
        ):
            for channels, groups in ((33, 1), (64, 2)):
                model = lce_model.Model()
                x = model.input((1, 5, 5, channels))
                packed = model.tensor((1, 5, 5, 2), "int32")
                model.custom("LceQuantize", [x], [packed])
                out = model.tensor(
                    (1, 5, 5, 2 if output == "int32" else 40), output, **({"scale": 0.3} if output == "int8" else {})
                )
                model.bconv(
                    packed,
                    out,
                    signs(40, 3, 3, channels // groups),
                    multiplier=rng.normal(size=40),
                    bias=rng.normal(size=40),
                    thresholds=rng.integers(0, 300, 40) if output == "int32" else None,
                    channels_in=channels,
                    **options,
                )
                model.output(out)
                yield model.bytes()
    model = lce_model.Model()
    x = model.input((2, 4, 4, 32))
    names = [model.tensor((2, 4, 4, 32)) for _ in range(6)]
    bits, pooled = model.tensor((2, 4, 4, 1), "int32"), model.tensor((2, 2, 2, 1), "int32")
    model.custom("LceQuantize", [x], [bits])
    model.custom(
        "LceBMaxPool2d",
        [bits],
        [pooled],
        {"filter_height": 2, "filter_width": 2, "stride_height": 2, "stride_width": 2, "padding": 0},
    )
    model.bconv(bits, names[0], signs(32, 3, 3, 32), multiplier=rng.normal(size=32), bias=rng.normal(size=32))
    gate, scale = model.tensor((2, 1, 1, 32)), model.constant(rng.normal(size=32))
    from tensorflow.lite.python import schema_py_generated as schema

    pool = schema.Pool2DOptionsT()
    pool.padding, pool.strideW, pool.strideH, pool.filterWidth, pool.filterHeight = 1, 4, 4, 4, 4
    model.builtin("AVERAGE_POOL_2D", [x], [gate], pool)
    model.builtin("MUL", [names[0], gate], [names[1]], schema.MulOptionsT())
    model.builtin("PRELU", [names[1], scale], [names[2]])
    model.builtin("ADD", [names[2], x], [names[3]], schema.AddOptionsT())
    model.builtin("MUL", [names[3], scale], [names[4]], schema.MulOptionsT())
    again = model.tensor((2, 4, 4, 1), "int32")
    model.custom("LceQuantize", [names[4]], [again])
    model.custom("LceDequantize", [again], [names[5]])
    flat, dense, probabilities = model.tensor((2, 512)), model.tensor((2, 8)), model.tensor((2, 8))
    model.builtin("RESHAPE", [names[5], model.constant([2, 512], "int32")], [flat], schema.ReshapeOptionsT())
    model.builtin(
        "FULLY_CONNECTED", [flat, model.constant(rng.normal(size=(8, 512)))], [dense], schema.FullyConnectedOptionsT()
    )
    model.builtin("SOFTMAX", [dense], [probabilities], schema.SoftmaxOptionsT())
    conv = schema.Conv2DOptionsT()
    conv.strideW = conv.strideH = conv.dilationWFactor = conv.dilationHFactor = 1
    out, most = model.tensor((2, 4, 4, 8)), model.tensor((2, 2, 2, 8))
    model.builtin(
        "CONV_2D",
        [names[3], model.constant(rng.normal(size=(8, 3, 3, 32))), model.constant(rng.normal(size=8))],
        [out],
        conv,
    )
    pool = schema.Pool2DOptionsT()
    pool.strideW = pool.strideH = 2
    pool.filterWidth = pool.filterHeight = 3
    model.builtin("MAX_POOL_2D", [out], [most], pool)
    for t in (pooled, probabilities, most):
        model.output(t)
    yield model.bytes()
    # A binary convolution with two blocks of 32 output channels, which two threads can share. Its results are averaged
    # and packed. fuzz_model.cc uses two threads if a file has an odd number of tensors, else one. Only one of these two
    # files has a spare tensor, so both numbers of threads are used.
    for spare in (False, True):
        model = lce_model.Model()
        x = model.input((2, 6, 6, 64))
        bits, again = (model.tensor((2, 6, 6, 2), "int32") for _ in range(2))
        convolved, total = (model.tensor((2, 6, 6, 64)) for _ in range(2))
        average = model.tensor((2, 1, 1, 64))
        model.custom("LceQuantize", [x], [bits])
        model.bconv(bits, convolved, signs(64, 3, 3, 64), multiplier=np.ones(64), bias=np.zeros(64))
        model.builtin("ADD", [convolved, x], [total], schema.AddOptionsT())
        pool = schema.Pool2DOptionsT()
        pool.padding, pool.strideW, pool.strideH, pool.filterWidth, pool.filterHeight = 1, 6, 6, 6, 6
        model.builtin("AVERAGE_POOL_2D", [total], [average], pool)
        model.custom("LceQuantize", [total], [again])
        if spare:
            model.tensor((1,))
        for t in (average, again):
            model.output(t)
        yield model.bytes()
    yield small_classifier.with_files(small_classifier.model())  # with labels and preprocessing
    # An ADD with an absent third input, where neither operand has the shape of the sum.
    model = lce_model.Model()
    rows, columns = model.input((1, 4, 1, 8)), model.input((1, 1, 4, 8))
    total, bits = model.tensor((1, 4, 4, 8)), model.tensor((1, 4, 4, 1), "int32")
    model.builtin("ADD", [rows, columns, -1], [total], schema.AddOptionsT())
    model.custom("LceQuantize", [total], [bits])
    model.output(bits)
    yield model.bytes()

    yield from layouts()
    yield from whole_numbers()


def layouts(graphs=30, largest=1 << 14):
    """Yields models with one operator of drawn_layouts.py each, then drawn graphs.

    `graphs` graphs are drawn; those of more than `largest` bytes are left out.
    """
    import drawn_graphs

    for method in ("depthwise", "transpose_conv", "concat", "split", "strided_slice", "pad", "resize_bilinear"):
        for seed in range(4):
            graph = drawn_graphs.Motifs(np.random.default_rng([seed, 9]))
            graph.begin((1 + seed % 2, 4, 5, (3, 8, 33, 2)[seed]))
            made = getattr(graph, method)(graph.input)
            outputs = made if isinstance(made, list) else [made]
            graph.quantize(outputs[0])  # the delegate claims no graph without an LCE operator
            yield graph.written(graph.operators, [*outputs, graph.values[-1]])
    for number in range(graphs):
        model = drawn_graphs.draw([13, number]).model
        if len(model) <= largest:
            yield model


def whole_numbers(count=8, largest=1 << 14):
    """Yields `count` models of an int8 convolution, of at most `largest` bytes each, and one of `int8_model.stem`."""
    import int8_model

    found = number = 0
    while found < count:
        rng = np.random.default_rng([number, 5])
        model = int8_model.drawn_convolution(rng, ("uint8", "int8", "float32")[number % 3])[0]
        number += 1
        if len(model) <= largest:
            found += 1
            yield model
    yield int8_model.stem(np.random.default_rng(5), size=(12, 9), outputs=8)[0]


TARGETS = ("model", "engine")


def build(compiler, outputs, flags):
    """Compiles fuzz targets, each with the whole library and with sanitizers.

    Args:
        compiler: the compiler's command, as a list of words.
        outputs: maps the name of each target to the path of its program.
        flags: further flags for compiling and linking.
    """
    sanitize = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    with tempfile.TemporaryDirectory() as directory:
        files = build_native.objects(
            compiler, build_native.TARGETS["linux-x86_64"].sources, directory, sanitize + flags
        )
        for target, output in outputs.items():
            own = build_native.objects(compiler, {f"../tests/native/fuzz_{target}": []}, directory, sanitize + flags)
            subprocess.run([*compiler, *sanitize, *flags, *files, *own, "-pthread", "-o", str(output)], check=True)


# Inputs, in base64, that once showed a fault: an address was computed from a tensor that has no memory.
FOUND = ["UExBTiEUteRSldQWoeufvKoWhPgrQnPINT0DzyvLbel7gTKsywqNJFr+j8lLKJgV4g=="]


def draws(count):
    """Yields `FOUND` and `count` random inputs from which native/drawn_model.h draws graphs; they never change."""
    yield from map(base64.b64decode, FOUND)
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield b"PLAN" + rng.integers(0, 256, rng.integers(16, 400), np.uint8).tobytes()


def write_seeds(directory, drawn=40):
    paths = []
    for i, data in enumerate([*seeds(), *draws(drawn)]):
        paths.append(pathlib.Path(directory) / f"seed_{i}.tflite")
        paths[-1].write_bytes(data)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", default=None, help="folder that keeps the inputs (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        corpus = pathlib.Path(arguments.corpus or pathlib.Path(directory) / "corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        write_seeds(corpus, 400)
        build(["clang++"], {arguments.target: pathlib.Path(directory) / "fuzz"}, ["-fsanitize=fuzzer"])
        findings = ROOT / "build" / "fuzz"
        findings.mkdir(parents=True, exist_ok=True)
        limits = [
            f"-max_total_time={arguments.seconds}",
            "-timeout=60",
            "-rss_limit_mb=2048",
            "-max_len=65536",
            "-print_final_stats=1",
        ]
        sys.exit(
            subprocess.run(
                [str(pathlib.Path(directory) / "fuzz"), *limits, f"-artifact_prefix={findings}/", str(corpus)]
            ).returncode
        )


if __name__ == "__main__":
    main()
