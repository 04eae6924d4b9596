"""Measures the time from opening a model's file to its first answer, and the peak memory, with and without LiteRT.

    make -C export/runtime wheels && python benchmarks/startup.py runs/benchmark_networks/RealToBinaryNet.tflite
    python benchmarks/startup.py FILE.tflite --check     # exits 1 above 60 ms or 60 MiB without an interpreter

Two fresh environments are made: one with only NumPy and the runtime's wheel, the other with ai-edge-litert as well.
Each round starts a process in each environment, which loads the file and runs it once: in the first environment in the
engine alone, in the second in LiteRT with the delegate. Time is measured from the call that opens the file to the first
answer, without imports, as wall-clock time and as CPU time; other programs on a busy machine disturb the CPU time less.
Memory is the process's peak resident memory (VmHWM of Linux), including Python and NumPy.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
MOST_MILLISECONDS, MOST_MEBIBYTES = 60, 60

PROGRAM = """
import importlib.util, json, re, sys, time
began = time.perf_counter()
import numpy as np
imported = time.perf_counter()
import r2b_runtime
engine, path = sys.argv[1:]
alone = not any(importlib.util.find_spec(name) for name in ("tensorflow", "ai_edge_litert", "tflite_runtime"))
if engine == "litert":
    r2b_runtime.stock_interpreter()  # imports it
ready, worked = time.perf_counter(), time.process_time()
interpreter = r2b_runtime.Interpreter(path, engine=engine)
interpreter.allocate_tensors()
detail = interpreter.get_input_details()[0]
interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
interpreter.invoke()
interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
done, worked = time.perf_counter(), time.process_time() - worked
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"alone": alone, "numpy": imported - began, "imports": ready - imported, "first": done - ready,
                  "worked": worked, "peak": peak / 1024}))
"""


def environment(folder, packages):
    """Creates an environment with these packages; returns the path of its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    inside = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True)
    return inside


def built_wheel():
    sys.path.insert(0, str(ROOT / "export" / "runtime"))
    import build_native

    tag = build_native.TARGETS[build_native.host()].wheel
    found = sorted((ROOT / "export" / "runtime" / "dist").glob(f"r2b_runtime-*-{tag}.whl"))
    if not found:
        raise SystemExit("there is no wheel for this machine: make -C export/runtime wheels")
    return found[-1]


def rounds(wheel, model, count):
    """What ``count`` processes measured, by engine, in the order of the rounds: times in seconds, "peak" in MiB."""
    measured: dict[str, list[dict[str, float]]] = {"r2b": [], "litert": []}
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pythons = {
            "r2b": environment(folder / "alone", [wheel]),
            "litert": environment(folder / "litert", [wheel, "ai-edge-litert"]),
        }
        for _ in range(count):
            for engine, python in pythons.items():
                command = [python, "-c", PROGRAM, engine, model]
                printed = subprocess.run(command, check=True, capture_output=True, text=True, env=clean).stdout
                measured[engine].append(json.loads(printed.splitlines()[-1]))
    return measured


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--wheel", type=pathlib.Path, help="default: this machine's in export/runtime/dist")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    wheel = (arguments.wheel or built_wheel()).resolve(strict=True)
    measured = rounds(wheel, arguments.model.resolve(strict=True), arguments.rounds)
    if not all(row["alone"] for row in measured["r2b"]):
        raise SystemExit("the environment of the engine alone contains an interpreter")
    columns = {"first": "load + first", "worked": "CPU time of it", "imports": "imports", "numpy": "NumPy"}
    print(f"{'':20}" + "".join(f"{title:>15}" for title in [*columns.values(), "peak memory"]))
    for engine, title in (("r2b", "the engine alone"), ("litert", "delegate in LiteRT")):
        rows = measured[engine]
        times = "".join(f"{statistics.median(1e3 * row[key] for row in rows):12.1f} ms" for key in columns)
        print(f"{title:20}{times}{statistics.median(row['peak'] for row in rows):11.1f} MiB")
    first = statistics.median(1e3 * row["first"] for row in measured["r2b"])
    peak = statistics.median(row["peak"] for row in measured["r2b"])
    return int(arguments.check and (first > MOST_MILLISECONDS or peak > MOST_MEBIBYTES))


if __name__ == "__main__":
    sys.exit(main())
