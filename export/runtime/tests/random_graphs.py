"""Compares the runtime with Larq Compute Engine's interpreter on random graphs.

    python random_graphs.py --count 2000 --seed fresh             # a new seed, which is printed
    python random_graphs.py --count 2000 --seed fresh --pinned    # all threads on one core
    python random_graphs.py --seed 7 --first 1234 --count 1 --keep found    # repeats one graph and writes its file

Every graph (drawn_graphs.py) runs with each kernel path of this machine in 1, 2, 3 and 4 threads, several times, on two
inputs in turn. A run therefore cannot give right answers by chance, from values that the previous run left in memory.

- One thread's answers differ from LCE's, computed by its exact kernels, by at most 1e-5 of the largest float value in
  the graph; whole numbers and bits do not differ. If LceQuantize takes the sign of a value other than zero
  that rounding could flip, the outputs for that input are not compared with LCE's.
- Every number of threads gives the same bits as one thread, in every run.

Graphs run in a child process. A graph that crashes or does not answer within five minutes is a finding as well.

What is not drawn: files that are refused (fuzz.py, test_errors.py); inputs of int8 or bool, and LceDequantize to them
(test_operators.py); an odd number of channels padded with zeros, which LCE's exact kernels refuse (test_operators.py);
multipliers of a whole [height, width, channels], which LCE's interpreter cannot run (test_operators.py); inputs resized
between runs (test_operators.py, test_networks.py); windows larger than their map; tensors of more than 65,536 values;
NaN and infinite values; operators that stay with the stock interpreter between claimed ones.
"""

import argparse
import dataclasses
import multiprocessing
import os
import pathlib
import secrets
import sys
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("R2B_RUNTIME_OVERSUBSCRIBE", "1")  # as many threads as asked for, however few cores there are
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import drawn_graphs
import numpy as np
import r2b_runtime
from larq_compute_engine.tflite.python.interpreter import Interpreter as LceInterpreter

ROUNDING = 1e-5  # tolerance, relative to the largest absolute float value in the graph
LONGEST = 300.0  # seconds for one graph: a thousand times the usual time, as the machine may be busy
THREADS = (1, 2, 3, 4)


@dataclasses.dataclass
class Checked:
    """The result of checking one graph.

    Attributes:
        number: number of the graph.
        compared: whether its outputs for at least one input were compared with LCE's.
        operators: names of its operators.
        found: sentences that describe what is wrong; empty if nothing is.
    """

    number: int
    compared: bool
    operators: list
    found: list


def lce_outputs(model, x):
    return LceInterpreter(model, num_threads=1, use_reference_bconv=True).interpreter.predict([x])


class Runs:
    """Runs one model in a stock interpreter with the delegate; `kernels=None` selects this machine's best kernels."""

    def __init__(self, model, kernels, threads):
        self._interpreter = r2b_runtime.Interpreter(model, threads, kernels=kernels or "auto", engine="litert")
        self._interpreter.allocate_tensors()
        (self._input,) = (detail["index"] for detail in self._interpreter.get_input_details())
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, x):
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def apart(ours, theirs):
    """The largest absolute difference between two arrays; infinite if shapes or types differ or a difference is NaN."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return np.inf
    if ours.tobytes() == theirs.tobytes():
        return 0.0
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()
    return float(np.nan_to_num(difference, nan=np.inf))


def check(seed, number, runs, kernels, threads=THREADS):
    """Draws graph `number` of `seed`, runs it and returns a `Checked`.

    For each of `kernels` and each number of `threads`, the graph runs `runs` times on each of two inputs.
    """
    graph = drawn_graphs.draw([seed, number])
    rng = np.random.default_rng([seed, number, 1])
    inputs = [rng.integers(-8, 9, graph.shape).astype(np.float32) / 8, rng.normal(0, 1, graph.shape).astype(np.float32)]
    references = [reference(graph, x) for x in inputs]
    found = []
    for name in kernels:
        one_thread = Runs(graph.model, name, 1)
        ones = [one_thread(x) for x in inputs]
        found += [
            f"{name}, 1 thread: {difference}"
            for expected, one in zip(references, ones)
            if expected is not None
            for difference in differences(one, *expected)
        ]
        for count in threads:
            unequal, furthest = repeated(Runs(graph.model, name, count), inputs, ones, runs)
            if unequal:
                found.append(
                    f"{name}, {count} thread{'s' * (count > 1)}: {unequal} of {2 * runs} runs give other results than "
                    f"the first run in one thread, by up to {furthest:.2g}"
                )
    compared = any(expected is not None for expected in references)
    return Checked(number, compared, graph.operators, found)


def reference(graph, x):
    """Returns LCE's outputs and the largest absolute float value in the graph, at least 1.

    Returns None if rounding could decide a sign, or if the largest value is not finite.
    """
    probed = lce_outputs(graph.probe, x)
    floats = [value for value in probed if value.dtype == np.float32]
    largest = max([1.0, *(np.abs(value).max() for value in floats)])
    close = [np.abs(probed[i]) for i in graph.signs]
    if not np.isfinite(largest) or any(np.any((v > 0) & (v <= ROUNDING * largest)) for v in close):
        return None
    return probed[: graph.outputs], largest


def differences(outputs, expected, largest):
    """Yields a sentence for each output that differs from LCE's by more than rounding explains."""
    for i, (ours, theirs) in enumerate(zip(outputs, expected)):
        far = apart(ours, theirs)
        if far > (ROUNDING * largest if ours.dtype == np.float32 else 0):
            yield f"output {i} differs from LCE's by up to {far:.2g}"


def repeated(run, inputs, expected, runs):
    """Runs each input `runs` times.

    Returns how many runs give other bits than `expected`, and the largest absolute difference.
    """
    unequal, furthest = 0, 0.0
    for _ in range(runs):
        for x, one in zip(inputs, expected):
            pairs = list(zip(run(x), one))
            unequal += any(a.tobytes() != b.tobytes() for a, b in pairs)
            furthest = max([furthest, *(apart(a, b) for a, b in pairs)])
    return unequal, furthest


def _work(numbers, arguments, results):
    """Runs in a child process: sends each graph's number through `results`, checks the graph, sends its `Checked`."""
    if arguments.pinned:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for number in numbers:
        results.send(number)
        results.send(check(arguments.seed, number, arguments.runs, arguments.kernels, arguments.threads))


def in_a_process(numbers, arguments):
    """Checks graphs in a child process and yields a `Checked` for each.

    If a graph crashes the process or hangs, its `Checked` says so, and a new process checks the remaining graphs.
    """
    context = multiprocessing.get_context("fork")
    numbers = list(numbers)
    while numbers:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(numbers, arguments, sender), daemon=True)
        process.start()
        sender.close()
        number, checked = numbers[0], None
        try:
            while numbers:
                if not receiver.poll(LONGEST):
                    process.kill()
                    checked = Checked(number, False, [], [f"no answer within {LONGEST:.0f} s"])
                    break
                received = receiver.recv()
                if isinstance(received, int):
                    number = received
                else:
                    yield received
                    numbers.pop(0)
        except EOFError:
            process.join()
            checked = Checked(number, False, [], [f"the process ended with status {process.exitcode}"])
        process.join()
        if checked:
            checked.operators = drawn_graphs.draw([arguments.seed, number]).operators
            yield checked
            numbers.pop(0)


def parse(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--count", type=int, default=100, help="how many graphs (default: %(default)s)")
    parser.add_argument("--seed", default="0", help="a number, or `fresh` (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first graph (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each input (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=None, help="start no further graph after this many seconds")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=THREADS, help="thread counts to test (default: 1 2 3 4)"
    )
    parser.add_argument("--kernels", nargs="+", default=None, help="kernels to test (default: all that run here)")
    parser.add_argument("--pinned", action="store_true", help="run all threads on one core")
    parser.add_argument(
        "--keep", type=pathlib.Path, default=None, help="write the files of graphs that fail into this folder"
    )
    arguments = parser.parse_args(words)
    if arguments.seed == "fresh":
        arguments.seed = secrets.randbelow(1 << 32)
    try:
        arguments.seed = int(arguments.seed)
    except ValueError:
        parser.error(f"--seed must be a number or `fresh`, received {arguments.seed!r}")
    if arguments.seed < 0 or arguments.first < 0:
        parser.error("--seed and --first must be 0 or more")
    if arguments.pinned and not hasattr(os, "sched_setaffinity"):
        parser.error("this system cannot bind a process to a core; leave out --pinned")
    available = r2b_runtime.available_kernels()
    arguments.kernels = arguments.kernels or available
    if not set(arguments.kernels) <= set(available):
        parser.error(f"--kernels must be among {' '.join(available)}, received {' '.join(arguments.kernels)}")
    return arguments


def main(words=None):
    """Checks graphs and prints what is wrong. Returns the exit status: 1 if anything is wrong, otherwise 0."""
    arguments = parse(words)
    print(
        f"seed {arguments.seed}: kernels {' '.join(arguments.kernels)}, threads "
        f"{' '.join(map(str, arguments.threads))}, {arguments.runs} runs of two inputs each"
        f"{', pinned to one core' if arguments.pinned else ''}",
        flush=True,
    )
    began = time.monotonic()
    graphs = compared = operators = wrong = 0
    for checked in in_a_process(range(arguments.first, arguments.first + arguments.count), arguments):
        graphs += 1
        compared += checked.compared
        operators += len(checked.operators)
        if checked.found:
            wrong += 1
            print(f"graph {checked.number}, after {time.monotonic() - began:.1f} s: {', '.join(checked.operators)}")
            for text in checked.found:
                print(f"    {text}")
            print(f"    python random_graphs.py --seed {arguments.seed} --first {checked.number} --count 1", flush=True)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                path = arguments.keep / f"graph_{arguments.seed}_{checked.number}.tflite"
                path.write_bytes(drawn_graphs.draw([arguments.seed, checked.number]).model)
        if arguments.seconds is not None and time.monotonic() - began > arguments.seconds:
            break
    print(
        f"{graphs} graphs of {operators} operators in {time.monotonic() - began:.0f} s, {compared} of them compared "
        f"with LCE, {wrong} with findings"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
