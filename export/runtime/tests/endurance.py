"""Loads, runs and frees the engine many times, and runs it in many forked processes: nothing may grow or hang.

    python tests/endurance.py FILE.tflite                       # 10,000 cycles and 1,000 forks
    python tests/endurance.py FILE.tflite --cycles 500 --forks 50 --threads 1

Exits with status 1 in any of these cases:

- An answer is not bit-identical to the first.
- A child process fails, or does not end within a minute.
- After a warm-up, the process's memory grows by more than 2 MiB, or its number of threads or of open files grows.
"""

import argparse
import os
import pathlib
import re
import signal
import sys
import time
import traceback

import numpy as np
import r2b_runtime

MOST_GROWTH = 2048  # KiB of memory; the allocator keeps a varying number of freed pages
PATIENCE = 60  # seconds until a child process is killed


def resources():
    """Returns this process's resident memory in KiB, its number of threads and its number of open files."""
    status = pathlib.Path("/proc/self/status").read_text()
    memory, threads = (int(re.search(rf"{name}:\s*(\d+)", status)[1]) for name in ("VmRSS", "Threads"))
    return memory, threads, len(os.listdir("/proc/self/fd"))


class Runs:
    """Engines of one model, and the answer that all of them must give.

    Args:
        model: a `.tflite` file's contents.
        threads: number of threads of each engine.
    """

    def __init__(self, model, threads):
        self._model, self._threads = model, threads
        self.engine = self._made()
        detail = self.engine.get_input_details()[0]
        values = np.random.default_rng(0).normal(0, 1, detail["shape"])
        self._input, self._values = detail["index"], values.astype(detail["dtype"])
        self._output = self.engine.get_output_details()[0]["index"]
        self._expected = self._answer(self.engine)

    def _made(self):
        return r2b_runtime.Interpreter(self._model, self._threads, engine="r2b")

    def _answer(self, engine):
        engine.set_tensor(self._input, self._values)
        engine.invoke()
        return engine.get_tensor(self._output).tobytes()

    def check(self, engine):
        """Runs an engine; raises `RuntimeError` if its answer differs from the first."""
        if self._answer(engine) != self._expected:
            raise RuntimeError("an answer differs from the first")

    def cycle(self):
        """Makes a new engine, checks its answer and frees it."""
        self.check(self._made())

    def fork(self):
        """Runs `engine` and a new engine in a child process, which frees both; then runs `engine` in this process.

        Raises `RuntimeError` if the child fails or hangs, or if an answer differs from the first.
        """
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)  # kills a child that hangs
            try:
                self.check(self.engine)
                self.cycle()
                self.engine = None
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            raise RuntimeError(
                f"a child ended with status {status}" + (": it hung" if status == -signal.SIGALRM else "")
            )
        self.check(self.engine)


def grown(work, count):
    """Calls `work` `count` times.

    Returns by how much the memory (in KiB), the number of threads and the number of open files grew during the last
    nine tenths of the calls. The first tenth is a warm-up.
    """
    for _ in range(max(1, count // 10)):
        work()
    before = resources()
    for _ in range(count - max(1, count // 10)):
        work()
    return tuple(now - then for now, then in zip(resources(), before))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--forks", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args(arguments)
    runs, failed = Runs(parsed.model.read_bytes(), parsed.threads), False
    for name, work, count in (("cycles", runs.cycle, parsed.cycles), ("forks", runs.fork, parsed.forks)):
        began = time.perf_counter()
        memory, threads, files = grown(work, count)
        failed |= memory > MOST_GROWTH or threads > 0 or files > 0
        print(
            f"{count} {name} in {time.perf_counter() - began:.0f} s: memory grew by {memory} KiB, "
            f"threads by {threads}, open files by {files}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
