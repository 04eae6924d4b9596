"""Times a model, as a whole and step by step."""

import dataclasses
import os
import platform
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from r2b_runtime.interpreter import Interpreter, Options, profile
from r2b_runtime.model_file import ModelSource

if TYPE_CHECKING:
    from typing_extensions import Unpack  # type checkers know this module even if it is not installed

# Steps with these names start with a binary operator, and include the float operators fused into it (scales, PReLU).
_BINARY_STEPS = ("bconv", "bmaxpool", "quantize", "dequantize")


@dataclasses.dataclass(frozen=True)
class Step:
    """An operator and the operators fused into it, which run as one.

    Attributes:
        name: the step's kind, the shape of its result, and the operators.
        seconds: mean time in one inference.
    """

    name: str
    seconds: float

    @property
    def binary(self) -> bool:
        return self.name.split()[0] in _BINARY_STEPS


@dataclasses.dataclass(frozen=True)
class Profile:
    """The time of each step of an inference: means over the faster half of the runs.

    They are means, because medians of steps would not add up to the median of the whole. The slower half is left out,
    because it includes interruptions by other programs.

    Attributes:
        kernels: name of the kernels, one of `available_kernels()`.
        seconds: time of the whole inference, with the profiler on.
        steps: the steps in execution order, without operators that the delegate left to the interpreter.
    """

    kernels: str
    seconds: float
    steps: list[Step]

    @property
    def rest(self) -> float:
        """Seconds outside the steps: in the library's call, or in the interpreter and the operators that it runs."""
        return self.seconds - sum(step.seconds for step in self.steps)

    @property
    def binary_share(self) -> float:
        """Share of the steps' time that is spent in steps that start with a binary operator; 0 to 1."""
        total = sum(step.seconds for step in self.steps)
        return sum(step.seconds for step in self.steps if step.binary) / total if total else 0.0


@dataclasses.dataclass(frozen=True)
class Timing:
    """The times of a model's inferences.

    Attributes:
        threads: number of threads.
        runs: number of timed inferences.
        median: their median time, in seconds.
        minimum: their shortest time, in seconds.
        first: seconds from opening the file to the end of the first inference, which `runs` does not count.
    """

    threads: int
    runs: int
    median: float
    minimum: float
    first: float


def time_model(model: ModelSource, threads: int = 1, runs: int = 50, **options: "Unpack[Options]") -> Timing:
    """Times `runs` inferences of `model` on random input, after a few that are not timed.

    Raises `ValueError` for fewer than one thread or run, and the errors of `Interpreter`.
    """
    began = time.perf_counter()
    interpreter = _prepared(model, threads, **options)
    interpreter.invoke()
    first = time.perf_counter() - began
    seconds = _times(interpreter, runs)
    return Timing(threads, runs, statistics.median(seconds), min(seconds), first)


def profile_model(model: ModelSource, threads: int = 1, runs: int = 50, **options: "Unpack[Options]") -> Profile:
    """Measures the `Profile` of `runs` inferences. Raises the errors of `time_model`."""
    _check_runs(runs)
    interpreter = _prepared(model, threads, profile=True, **options)
    _times(interpreter, 1)
    measured = []
    kernels, before = profile(interpreter)
    for _ in range(runs):
        (total,) = _times(interpreter, 1, warm=0)
        _, after = profile(interpreter)
        measured.append((total, [new[0] - old[0] for new, old in zip(after, before)]))
        before = after
    faster = sorted(measured)[: (runs + 1) // 2]
    steps = [
        Step(name, statistics.fmean(times)) for (_, _, name), times in zip(before, zip(*(times for _, times in faster)))
    ]
    return Profile(kernels, statistics.fmean(total for total, _ in faster), steps)


def _prepared(model: ModelSource, threads: int, **options: Any) -> Interpreter:
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a whole number, at least 1; received {threads!r}")
    interpreter = Interpreter(model, num_threads=threads, **options)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        kind: np.dtype = np.dtype(detail["dtype"])
        values: np.ndarray = rng.normal(size=detail["shape"])
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            values = rng.integers(max(limits.min, -128), min(limits.max, 255), detail["shape"], endpoint=True)
        interpreter.set_tensor(detail["index"], values.astype(kind))
    return interpreter


def _check_runs(runs: int) -> None:
    if runs < 1:
        raise ValueError(f"runs must be at least 1; received {runs}")


def _times(interpreter: Interpreter, runs: int, warm: int = 3) -> list[float]:
    _check_runs(runs)
    seconds = []
    for run in range(warm + runs):
        began = time.perf_counter()
        interpreter.invoke()
        if run >= warm:
            seconds.append(time.perf_counter() - began)
    return seconds


def peak_memory() -> Optional[int]:
    """The peak memory of this process, in bytes; None if the system does not report it."""
    if sys.platform == "win32":
        return _windows_peak_memory()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _windows_peak_memory() -> Optional[int]:
    import ctypes

    if sys.platform != "win32":  # for type checkers: elsewhere ctypes has no windll
        return None

    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS
        _fields_ = [("cb", ctypes.c_uint32), ("faults", ctypes.c_uint32)] + [
            (name, ctypes.c_size_t)
            for name in (
                "peak",
                "working",
                "paged_peak",
                "paged",
                "nonpaged_peak",
                "nonpaged",
                "pagefile",
                "pagefile_peak",
            )
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel32 = ctypes.windll.kernel32
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    kernel32.K32GetProcessMemoryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
    done = kernel32.K32GetProcessMemoryInfo(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return counters.peak if done else None


def cpu_name() -> str:
    """The processor's name, or the architecture if that is unknown.

    If the system reports the board's name too, as on a Raspberry Pi, the result is "BOARD, PROCESSOR".
    """
    try:
        with open("/proc/cpuinfo") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        board = _read_text("/proc/device-tree/model")
        name = fields.get("model name") or fields.get("CPU part", "")
        if name:
            return f"{board}, {name}" if board else name
    except OSError:
        pass
    if sys.platform == "darwin":
        with os.popen("sysctl -n machdep.cpu.brand_string") as pipe:
            return pipe.read().strip() or platform.machine()
    return platform.processor() or platform.machine()


def _read_text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""
