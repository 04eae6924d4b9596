"""Times 1-bit networks through r2b-runtime beside LCE's interpreter and beside float and int8 networks.

    python benchmarks/inference.py                    # everything, one thread; two threads for RealToBinaryNet
    python benchmarks/inference.py --check            # exits 1 where a claim of the README does not hold here
    python -m benchmarks.hide_avx512 -m benchmarks.inference --check   # all runtimes as on a processor with AVX2 alone
    python benchmarks/inference.py --plot FILE.svg    # also draws published accuracy over the milliseconds measured

OpenVINO takes part where it is installed (`pip install '.[benchmarks]'`); it reads the same `.tflite` files.

All numbers come from one run: every round gives each network a turn, so that other load on the machine affects all of
them alike. In its turn a network is called several times in a row, as a program with a camera would call it. The first
calls are not counted, since caches and branch predictors still hold other networks' data. The program prints medians,
least times, and medians of per-round ratios.

The floor is the time that RealToBinaryNet would take if every instruction computed products. It is the time of the
binary products, at the core's peak with popcounts or with full adders, whichever is higher, plus the time of the other
products, at the peak of float or int8 products. Every round measures these peaks anew (peaks.cc).

A virtual machine's core is one hardware thread of a physical core, whose other thread may run another tenant's code.
A network then takes 1.5 times as long for tenths of a second, and no clock of the machine shows it. Therefore, networks
in one thread and the peaks of their floor are measured on the same core. Two threads are compared with the mean speed
of one thread on each of two cores. The program also prints in how many rounds these cores were equally fast, and the
comparison for these rounds alone.
"""

import argparse
import importlib.util
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
sys.path[:0] = [str(ROOT / "export" / "runtime"), str(ROOT)]

import build_native  # noqa: E402

from benchmarks import networks  # noqa: E402

# Products of RealToBinaryNet at 224×224: in its sixteen binary 3×3 convolutions, and in its stem, 1×1 shortcuts, gates
# and classifier.
BINARY_PRODUCTS = 1.676e9
REAL_PRODUCTS = 138e6
RUNTIME = ("RealToBinaryNet", "StrongBaselineNet", "BiRealNet18")
STOCK = ("ResNet18 float", "ResNet18 int8", "MobileNetV2 float", "MobileNetV2 int8", "MobileNetV3Small float")
OPENVINO = ("ResNet18 int8", "MobileNetV2 int8", "MobileNetV3Small float")
OURS = "RealToBinaryNet, runtime"
OURS_INT8 = f"{networks.INT8}, runtime"
OTHER_CORE = "RealToBinaryNet, other core"
TWO_THREADS = "RealToBinaryNet, two threads"
CLAIMS = {
    "avx512": {  # with VPOPCNTDQ and VNNI
        "RealToBinaryNet / ResNet18 int8": 0.42,
        "RealToBinaryNet / the same file in LCE's interpreter": 1 / 24,
        "RealToBinaryNet / floor": 1.35,
        "RealToBinaryNet int8 / ResNet18 int8": 0.27,
        "RealToBinaryNet int8 / MobileNetV2 int8, the faster of LiteRT and OpenVINO": 0.85,
        "RealToBinaryNet int8 / its floor": 1.5,
        "two threads / one thread at the mean speed of the two cores": 0.60,
    },
    "avx2": {
        "RealToBinaryNet / ResNet18 int8": 0.65,
        "RealToBinaryNet / the same file in LCE's interpreter": 1 / 10,
        "RealToBinaryNet int8 / ResNet18 int8": 0.5,
        "two threads / one thread at the mean speed of the two cores": 0.60,
    },
}
"""The largest value that each ratio of times may have, by the machine's best kernels. ResNet18 runs in LiteRT."""
WARM_UP = 5
CALLS = 10
EQUAL = 1.1  # two cores count as equal if one thread's times on them differ at most by this factor


def compiled_peaks(directory, kernels):
    """Compiles peaks.cc, without AVX-512 if the best kernels are AVX2's, and returns the program's path."""
    program = os.path.join(directory, "peaks")
    machine = ["-mavx2", "-mfma", "-mpopcnt"] if kernels == "avx2" else ["-march=native"]
    compiler = build_native.compiler(build_native.host())
    source = str(ROOT / "benchmarks" / "peaks.cc")
    subprocess.run([*compiler, "-O3", "-std=c++17", *machine, source, "-o", program], check=True)
    return program


def two_cores():
    """The first two cores that this process may use; one core twice if there is no other.

    [None, None] if the system does not let a program choose its cores.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [None, None]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[0], cores[min(1, len(cores) - 1)]]


def stay_on(*cores, process=0):
    if None not in cores:
        os.sched_setaffinity(process, cores)


def peaks(program, cores):
    """Products per second of all these cores at once, summed: binary, binary by full adders, float, int8."""
    running = [subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in cores]
    for process, core in zip(running, cores, strict=True):
        stay_on(core, process=process.pid)
    printed = [process.communicate()[0] for process in running]
    return np.sum([np.array(text.split(), float) for text in printed], axis=0) * 1e9


def stock_call(path):
    from ai_edge_litert.interpreter import Interpreter

    return _call(Interpreter(model_path=str(path), num_threads=1))


def runtime_call(path, threads):
    import r2b_runtime

    return _call(r2b_runtime.Interpreter(str(path), num_threads=threads))


def _call(interpreter):
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], _random(detail["shape"], detail["dtype"]))
    return interpreter.invoke


def _random(shape, dtype):
    """Random numbers within -1 to 1, or within what an integer type holds."""
    value = np.random.default_rng(0).uniform(-1, 1, shape)
    if dtype != np.float32:
        limits = np.iinfo(dtype)
        value = np.clip(value * limits.max, limits.min, limits.max)
    return value.astype(dtype)


def lce_call(path):
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    interpreter = Interpreter(path.read_bytes(), num_threads=1).interpreter
    value = [np.random.default_rng(0).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")]
    return lambda: interpreter.predict(value)


def openvino_call(path):
    import openvino

    one_thread = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape([1, 224, 224, 3])
    request = core.compile_model(model, "CPU", one_thread).create_infer_request()
    tensor = request.get_input_tensor()
    tensor.data[:] = _random(tensor.data.shape, tensor.data.dtype)
    return request.infer


def measure(calls, rounds, program, cores):
    """Measures every network and the machine's peaks.

    Returns:
        The seconds of the calls (rounds, CALLS), by network, and the peaks (rounds, 2, 4) in products per second: of
        one core and of both at once, for the four kinds of product. LCE's interpreter is slow, so it runs only in every
        eighth round; its seconds in other rounds are NaN.
    """
    times = {name: np.full((rounds, CALLS), np.nan) for name in calls}
    found = np.zeros((rounds, 2, 4))
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
            if name == OTHER_CORE:  # so that the peaks are measured right after the networks they are compared with
                found[r] = peaks(program, cores[:1]), peaks(program, cores)
    return times, found


def all_calls(models, only):
    """The functions to time, each of which runs one inference, by the name of the network and of its runtime.

    Args:
        models: folder where the networks' files are kept.
        only: parts of names; a name that contains none of them is left out, except the three that other figures need.
            Empty for all names.
    """

    def file(name):
        return networks.file_of(name, models)

    def runtime(name, threads=1):
        return lambda: runtime_call(file(name), threads)

    def other(call, name):
        return lambda: call(file(name))

    # Networks whose times are compared run next to each other, since the speed of a shared machine varies.
    ours = RUNTIME[0]
    makers = {OURS: runtime(ours), OURS_INT8: runtime(networks.INT8), TWO_THREADS: runtime(ours, 2)}
    makers[OTHER_CORE] = runtime(ours)
    makers |= {f"{name}, runtime": runtime(name) for name in RUNTIME[1:]}
    makers |= {name: other(stock_call, name) for name in STOCK}
    if importlib.util.find_spec("openvino"):
        makers |= {f"{name}, OpenVINO": other(openvino_call, name) for name in OPENVINO}
    makers |= {f"{name}, runtime": runtime(name) for name in networks.LARQ_ZOO}
    makers |= {f"{name}, LCE": other(lce_call, name) for name in (*RUNTIME, *networks.LARQ_ZOO)}
    return {name: makers[name]() for name in _chosen(makers, only)}


def _chosen(names, only):
    """The names that contain a part in ``only``, and those that every comparison needs. Without parts, all names."""
    unknown = [part for part in only if not any(part in name for name in names)]
    if unknown:
        sys.exit(f"--only: no network's name contains {unknown[0]!r}; the names are {', '.join(names)}")
    kept = {OURS, OTHER_CORE, TWO_THREADS}
    return [name for name in names if not only or name in kept or any(part in name for part in only)]


def floors_of(found):
    """Two arrays of seconds, (rounds,): the floors of the float file and of the file whose real part is int8."""
    binary = BINARY_PRODUCTS / np.max(found[:, 0, :2], axis=1)
    return binary + REAL_PRODUCTS / found[:, 0, 2], binary + REAL_PRODUCTS / found[:, 0, 3]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--models", default=str(ROOT / "runs" / "benchmark_networks"), help="where the files are kept")
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", help="only names with one of these parts")
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--plot", help="also draw published accuracy over milliseconds: a .svg or .png file")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.check and arguments.only:
        parser.error("--check needs every network; leave out --only")
    cores = two_cores()
    stay_on(*cores)  # before interpreters start their threads, which inherit the choice
    import r2b_runtime

    best = r2b_runtime.available_kernels()[0]
    calls = all_calls(arguments.models, arguments.only)
    with tempfile.TemporaryDirectory() as directory:
        times, found = measure(calls, arguments.rounds, compiled_peaks(directory, best), cores)

    ours = np.median(times[OURS], axis=1)
    print(f"{'one thread, milliseconds':36}{'median':>10}{'min':>10}{'KiB':>9}  {OURS} / this")
    rows = {}
    for name, seconds in times.items():
        rows[name] = {
            "ms": float(np.nanmedian(seconds) * 1e3),
            "min_ms": float(np.nanmin(seconds) * 1e3),
            "bytes": networks.file_of(name.partition(",")[0], arguments.models).stat().st_size,
            "ratio": float(np.nanmedian(ours / np.median(seconds, axis=1))),
        }
        row = rows[name]
        print(f"{name:36}{row['ms']:10.2f}{row['min_ms']:10.2f}{row['bytes'] / 1024:9.0f}{row['ratio']:10.3f}")
    numbers = {"kernels": best, "networks": rows, **_floors(times, found), **_threads(times, found)}
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(numbers, indent=1))
    if arguments.plot:
        from benchmarks import published

        published.plot({name: row["ms"] for name, row in rows.items()}, arguments.plot)
    if arguments.check:
        sys.exit(_check(numbers))


def _floors(times, found):
    """Prints and returns the floors and the machine's peaks."""
    numbers = {}
    for name, floors in zip((OURS, OURS_INT8), floors_of(found), strict=True):
        if name not in times:
            continue
        ratio = float(np.median(np.median(times[name], axis=1) / floors))
        title = f"floor of {name.partition(',')[0]}"
        print(f"{title:36}{np.median(floors) * 1e3:10.2f}{floors.min() * 1e3:10.2f}   {name} / floor: {ratio:.3f}")
        numbers[name] = {"floor_ms": float(np.median(floors) * 1e3), "ratio": ratio}
    peaks = np.median(found[:, 0], axis=0).tolist()
    both = np.median(found[:, 1] / found[:, 0], axis=0).tolist()
    kinds = ("binary", "binary by full adders", "float", "int8")
    print("peaks: " + ", ".join(f"{kind} {peak / 1e9:.0f}" for kind, peak in zip(kinds, peaks, strict=True)) + " G/s")
    print("two cores at once, of one: " + ", ".join(f"{kind} {x:.2f}" for kind, x in zip(kinds, both, strict=True)))
    return {"floors": numbers, "peaks": dict(zip(kinds, peaks, strict=True)), "two_cores": both}


def _threads(times, found):
    """Prints and returns how two threads compare with one."""
    ours, other = (np.median(times[name], axis=1) for name in (OURS, OTHER_CORE))
    two_threads = np.median(times[TWO_THREADS], axis=1) * (1 / ours + 1 / other) / 2
    equal = two_threads[np.maximum(ours, other) <= EQUAL * np.minimum(ours, other)]
    team = float(np.median(two_threads))
    print(f"two threads / one thread at the mean speed of the two cores: {team:.3f}")
    print(f"the two cores were equally fast in {equal.size} of {two_threads.size} rounds", end="")
    print(f"; two threads / one thread in these: {np.median(equal):.3f}" if equal.size else "")
    return {"two_threads": team, "two_threads_on_equal_cores": equal.tolist()}


def _check(numbers):
    """Prints the claims for the best kernels here, and whether they hold; returns the exit status."""
    if numbers["kernels"] not in CLAIMS:
        print(f"there are claims for {' and '.join(CLAIMS)}; here the best kernels are {numbers['kernels']}")
        return 1
    rows, floors = numbers["networks"], numbers["floors"]
    ratio = {name: row["ratio"] for name, row in rows.items()}
    ours_int8 = 1 / ratio[OURS_INT8]  # its time divided by that of OURS
    mobile = max(ratio[name] for name in ("MobileNetV2 int8", "MobileNetV2 int8, OpenVINO") if name in ratio)
    values = {
        "RealToBinaryNet / ResNet18 int8": ratio["ResNet18 int8"],
        "RealToBinaryNet / the same file in LCE's interpreter": ratio["RealToBinaryNet, LCE"],
        "RealToBinaryNet / floor": floors[OURS]["ratio"],
        "RealToBinaryNet int8 / ResNet18 int8": ours_int8 * ratio["ResNet18 int8"],
        "RealToBinaryNet int8 / MobileNetV2 int8, the faster of LiteRT and OpenVINO": ours_int8 * mobile,
        "RealToBinaryNet int8 / its floor": floors[OURS_INT8]["ratio"],
        "two threads / one thread at the mean speed of the two cores": numbers["two_threads"],
    }
    claims = CLAIMS[numbers["kernels"]]
    for claim, limit in claims.items():
        verdict = "holds" if values[claim] <= limit else "DOES NOT HOLD"
        print(f"{verdict:14}{claim}: {values[claim]:.3f}, at most {limit:.3f}")
    return int(any(values[claim] > limit for claim, limit in claims.items()))


if __name__ == "__main__":
    main()
