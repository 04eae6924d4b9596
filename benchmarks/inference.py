"""Times 1-bit networks through r2b-runtime beside LCE's interpreter and beside float and int8 networks.

    python benchmarks/inference.py                    # everything, one thread; two threads and AVX2 for RealToBinaryNet
    python benchmarks/inference.py --check            # exits 1 where a claim of the README does not hold here

All numbers come from one run: every round gives each network a turn, so that other load on the machine affects all of
them alike. In its turn a network is called several times in a row, as a program with a camera would call it; the first
calls find other networks' data in caches and branch predictors and are not counted. The program prints medians, and
medians of per-round ratios.

The floor is what RealToBinaryNet would take if every instruction were a product: its binary products at the core's
xor-popcount peak plus its float products at the multiply-add peak (peaks.cc), which every round measures anew.

A virtual machine's core is one hardware thread of a physical core, whose other thread may run another tenant's code: a
network then takes 1.5 times as long there, for tenths of a second, and no clock of the machine shows it. Everything in
one thread, and the peaks, therefore stays on one core; and two threads are compared with the mean speed of one thread
on each of the two cores. The program also prints in how many rounds the cores were equally fast, and what two threads
took in those.
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
import rich.console
import rich.progress

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "export" / "runtime"), str(ROOT / "benchmarks")]

import build_native  # noqa: E402
import networks  # noqa: E402

# Products of RealToBinaryNet at 224x224: sixteen 3x3 binary convolutions; stem, 1x1 shortcuts, gates and classifier.
BINARY_PRODUCTS = 1.676e9
FLOAT_PRODUCTS = 138e6
RUNTIME = ("RealToBinaryNet", "StrongBaselineNet", "BiRealNet18")
STOCK = ("ResNet18 float", "ResNet18 int8", "MobileNetV2 float")
OURS = "RealToBinaryNet, runtime"
OTHER_CORE = "RealToBinaryNet, other core"
TWO_THREADS = "RealToBinaryNet, two threads"
AVX2 = "RealToBinaryNet, AVX2"
WARM_UP = 5
CALLS = 10
EQUAL = 1.1  # two cores count as equal if one thread's times on them differ at most by this factor


def compiled_peaks(directory):
    """Compiles peaks.cc for this machine, and returns the program's path."""
    program = os.path.join(directory, "peaks")
    compiler = build_native.compiler(build_native.host())
    source = str(ROOT / "benchmarks" / "peaks.cc")
    subprocess.run([*compiler, "-O3", "-std=c++17", "-march=native", source, "-o", program], check=True)
    return program


def two_cores():
    """The machine's first two cores; Nones where the system does not let a program choose its cores."""
    if not hasattr(os, "sched_getaffinity"):
        return [None, None]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[0], cores[min(1, len(cores) - 1)]]


def stay_on(*cores, process=0):
    if None not in cores:
        os.sched_setaffinity(process, cores)


def peaks(program, cores):
    """(binary, float) products per second of these cores at once."""
    running = [subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in cores]
    for process, core in zip(running, cores, strict=True):
        stay_on(core, process=process.pid)
    printed = [process.communicate()[0] for process in running]
    return np.sum([np.array(text.split(), float) for text in printed], axis=0) * 1e9


def stock_call(path):
    from ai_edge_litert.interpreter import Interpreter

    return _call(Interpreter(model_path=str(path), num_threads=1))


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


def lce_call(path):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(path.read_bytes(), num_threads=1).interpreter
    value = [np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")]
    return lambda: interpreter.predict(value)


def measure(calls, rounds, program, cores):
    """Measures every network and the machine's peaks.

    Returns:
        Seconds (rounds, CALLS) by network, NaN except in every eighth round for the slow ones; and the peaks (rounds,
        1 or 2 cores, binary or float), in products per second.
    """
    times = {name: np.full((rounds, CALLS), np.nan) for name in calls}
    found = np.zeros((rounds, 2, 2))
    for r in rich.progress.track(range(rounds), "Measuring", console=rich.console.Console(stderr=True)):
        for name, call in calls.items():
            if name.endswith("LCE") and r % 8:
                continue
            stay_on(*{TWO_THREADS: cores, OTHER_CORE: cores[1:]}.get(name, cores[:1]))
            for _ in range(WARM_UP):
                call()
            for i in range(CALLS):
                start = time.perf_counter()
                call()
                times[name][r, i] = time.perf_counter() - start
            if name == OTHER_CORE:  # so that the peaks are measured close to the networks they are compared with
                found[r] = peaks(program, cores[:1]), peaks(program, cores)
    return times, found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--models", default=str(ROOT / "runs" / "benchmark_networks"), help="where the files are kept")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    cores = two_cores()
    stay_on(*cores)  # the threads that interpreters start inherit it
    import r2b_runtime

    files = {name: networks.file_of(name, arguments.models) for name in RUNTIME + STOCK}
    best = r2b_runtime.available_kernels()[0]
    # Networks whose times are compared run next to each other, since the speed of a shared machine varies.
    calls = {OURS: runtime_call(files[RUNTIME[0]], 1), TWO_THREADS: runtime_call(files[RUNTIME[0]], 2)}
    calls[OTHER_CORE] = calls[OURS]
    calls |= {f"{name}, runtime": runtime_call(files[name], 1) for name in RUNTIME[1:]}
    calls |= {name: stock_call(files[name]) for name in STOCK}
    calls |= {f"{name}, LCE": lce_call(files[name]) for name in RUNTIME}
    if "avx2" in r2b_runtime.available_kernels():
        calls[AVX2] = runtime_call(files[RUNTIME[0]], 1, kernels="avx2")
    with tempfile.TemporaryDirectory() as directory:
        times, found = measure(calls, arguments.rounds, compiled_peaks(directory), cores)
    floors = BINARY_PRODUCTS / found[:, 0, 0] + FLOAT_PRODUCTS / found[:, 0, 1]

    ours = np.median(times[OURS], axis=1)
    print(f"{'one thread, milliseconds':34}{'median':>10}{'min':>10}  {OURS} / this")
    rows = {}
    for name, seconds in times.items():
        rows[name] = {
            "ms": float(np.nanmedian(seconds) * 1e3),
            "min_ms": float(np.nanmin(seconds) * 1e3),
            "ratio": float(np.nanmedian(ours / np.median(seconds, axis=1))),
        }
        print(f"{name:34}{rows[name]['ms']:10.2f}{rows[name]['min_ms']:10.2f}{rows[name]['ratio']:10.3f}")
    floor, ratio = float(np.median(floors)), float(np.median(ours / floors))
    print(f"{'floor of RealToBinaryNet':34}{floor * 1e3:10.2f}{floors.min() * 1e3:10.2f}{ratio:10.3f}")
    binary, real = np.median(found[:, 0], axis=0).tolist()
    both = np.median(found[:, 1] / found[:, 0], axis=0).tolist()
    print(f"peaks: {binary / 1e12:.3f} T binary products/s, {real / 1e9:.1f} G float products/s; kernels: {best}")
    print(f"two cores at once: {both[0]:.2f} times the binary products of one, {both[1]:.2f} times the float ones")
    other = np.median(times[OTHER_CORE], axis=1)
    two_threads = np.median(times[TWO_THREADS], axis=1) * (1 / ours + 1 / other) / 2
    equal = two_threads[np.maximum(ours, other) <= EQUAL * np.minimum(ours, other)]
    team = float(np.median(two_threads))
    print(f"two threads / one thread at the mean speed of the two cores: {team:.3f}")
    print(f"the two cores were equally fast in {equal.size} of {two_threads.size} rounds", end="")
    print(f"; two threads / one thread in these: {np.median(equal):.3f}" if equal.size else "")
    if arguments.json:
        numbers = {
            "networks": rows,
            "floor_ms": floor * 1e3,
            "ratio_to_floor": ratio,
            "peaks": [binary, real],
            "two_cores": both,
            "two_threads": team,
            "two_threads_on_equal_cores": equal.tolist(),
        }
        pathlib.Path(arguments.json).write_text(json.dumps({"kernels": best, **numbers}, indent=1))
    if arguments.check:
        sys.exit(_check(rows, ratio, team, best))


def _check(rows, ratio, team, best):
    """Prints the claims, which are made for AVX-512 with VPOPCNTDQ and two cores, and whether they hold."""
    if best != "avx512":
        print(f"the claims are made for a processor with AVX-512 VPOPCNTDQ; here the best kernels are {best}")
        return 1
    claims = {
        "RealToBinaryNet / ResNet18 int8": (rows["ResNet18 int8"]["ratio"], 0.50),
        "RealToBinaryNet / the same file in LCE's interpreter": (rows["RealToBinaryNet, LCE"]["ratio"], 1 / 24),
        "RealToBinaryNet / floor": (ratio, 1.35),
        "RealToBinaryNet on AVX2 / ResNet18 int8": (rows["ResNet18 int8"]["ratio"] / rows[AVX2]["ratio"], 1.0),
        "two threads / one thread at the mean speed of the two cores": (team, 0.60),
    }
    for claim, (value, limit) in claims.items():
        print(f"{'holds' if value <= limit else 'DOES NOT HOLD':14}{claim}: {value:.3f}, at most {limit:.3f}")
    return int(any(value > limit for value, limit in claims.values()))


if __name__ == "__main__":
    main()
