"""Times 1-bit networks through r2b-runtime beside LCE's interpreter and beside float and int8 networks.

    python benchmarks/inference.py                    # everything, one thread
    python benchmarks/inference.py --kernels avx2     # another path of the runtime
    python benchmarks/inference.py --check            # exits 1 where a claim of the README does not hold here

All numbers come from one run: every round calls each network once, in turn, so that whatever else the machine
does hits all of them; medians and medians of per-round ratios are printed.

The floor is what RealToBinaryNet would take if every instruction were a product: its binary products at the core's
measured xor-popcount peak plus its float products at the measured multiply-add peak (peaks.cc).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "export" / "runtime"), str(ROOT / "benchmarks")]

import build_native  # noqa: E402
import networks  # noqa: E402

# Products of RealToBinaryNet at 224x224: sixteen 3x3 binary convolutions; stem, 1x1 shortcuts, gates and classifier.
BINARY_PRODUCTS = 1.676e9
FLOAT_PRODUCTS = 138e6
RUNTIME = ("RealToBinaryNet", "StrongBaselineNet", "BiRealNet18")
STOCK = ("ResNet18 float", "ResNet18 int8", "MobileNetV2 float")


def peaks():
    """(binary, float) products per second that this core reaches."""
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "peaks")
        compiler = build_native.compiler(build_native.host())
        source = str(ROOT / "benchmarks" / "peaks.cc")
        subprocess.run([*compiler, "-O3", "-std=c++17", "-march=native", source, "-o", program], check=True)
        binary, real = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
        return float(binary) * 1e9, float(real) * 1e9


def stock_call(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    return _call(Interpreter(model_path=str(path), num_threads=threads))


def runtime_call(path, threads, **options):
    import r2b_runtime

    return _call(r2b_runtime.Interpreter(str(path), num_threads=threads, **options))


def _call(interpreter):
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    value = np.random.default_rng(0).uniform(-1, 1, detail["shape"])
    interpreter.set_tensor(
        detail["index"], (value * 127 if detail["dtype"] == np.int8 else value).astype(detail["dtype"])
    )
    return interpreter.invoke


def lce_call(path, threads):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(path.read_bytes(), num_threads=threads).interpreter
    value = [np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")]
    return lambda: interpreter.predict(value)


def measure(calls, rounds, slow):
    """Seconds of every call in every round; those named in `slow` run in every eighth round only (NaN elsewhere)."""
    times = {name: np.full(rounds, np.nan) for name in calls}
    for call in calls.values():
        call()
        call()
    for r in range(rounds):
        for name, call in calls.items():
            if name in slow and r % 8:
                continue
            start = time.perf_counter()
            call()
            times[name][r] = time.perf_counter() - start
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--kernels", default="auto", help="path of the runtime; default: the best")
    parser.add_argument("--models", default=str(ROOT / "runs" / "benchmark_networks"), help="where the files are kept")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    files = {name: networks.file_of(name, arguments.models) for name in RUNTIME + STOCK}
    calls = {
        f"{name}, runtime": runtime_call(files[name], arguments.threads, kernels=arguments.kernels) for name in RUNTIME
    }
    calls |= {name: stock_call(files[name], arguments.threads) for name in STOCK}
    calls |= {f"{name}, LCE": lce_call(files[name], arguments.threads) for name in RUNTIME}
    before = peaks()
    times = measure(calls, arguments.rounds, slow=[name for name in calls if name.endswith("LCE")])
    binary, real = (max(a, b) for a, b in zip(before, peaks(), strict=True))
    floor = BINARY_PRODUCTS / binary + FLOAT_PRODUCTS / real

    ours = times["RealToBinaryNet, runtime"]
    print(f"{'milliseconds, median':34}{'':10}{'ratio of RealToBinaryNet to it'}")
    rows = {}
    for name, seconds in times.items():
        rows[name] = {
            "ms": float(np.nanmedian(seconds) * 1e3),
            "min_ms": float(np.nanmin(seconds) * 1e3),
            "ratio": float(np.nanmedian(ours / seconds)),
        }
        print(f"{name:34}{rows[name]['ms']:10.2f}{rows[name]['ratio']:10.3f}")
    ratio = float(np.nanmedian(ours) / floor)
    print(f"{'floor of RealToBinaryNet':34}{floor * 1e3:10.2f}{ratio:10.3f}")
    print(
        f"peaks: {binary / 1e12:.3f} T binary products/s, {real / 1e9:.1f} G float products/s; "
        f"threads: {arguments.threads}; kernels: {arguments.kernels}"
    )
    if arguments.json:
        pathlib.Path(arguments.json).write_text(
            json.dumps(
                {"networks": rows, "floor_ms": floor * 1e3, "ratio_to_floor": ratio, "peaks": [binary, real]}, indent=1
            )
        )
    if arguments.check:
        sys.exit(_check(rows, ratio, arguments.kernels))


def _check(rows, ratio, kernels):
    limits = {"ResNet18 int8": 1.0} if kernels == "avx2" else {"ResNet18 int8": 0.50, "RealToBinaryNet, LCE": 1 / 24}
    failed = [
        f"{name}: {rows[name]['ratio']:.3f} > {limit:.3f}"
        for name, limit in limits.items()
        if rows[name]["ratio"] > limit
    ]
    if kernels != "avx2" and ratio > 1.35:
        failed.append(f"floor: {ratio:.3f} > 1.35")
    print("\n".join(["not met:", *failed]) if failed else "all limits met")
    return bool(failed)


if __name__ == "__main__":
    main()
