"""Runs networks on systems of other architectures and C libraries, and compares their outputs with this machine's.

    python tests/debian.py && make wheels && python tests/check_systems.py          # all that are set up
    python tests/check_systems.py FILE.tflite ... --on trixie-armhf musl-x86_64     # these networks, on these systems

On a Debian system, Debian's pip installs the wheel beside Debian's NumPy and Pillow, without a TensorFlow Lite
interpreter. Debian's Python then runs the README's first example and the networks. On a musl system, a C program opens
the library from the wheel and runs the networks. For x86-64, musl-gcc (apt-get install musl-tools) compiles this
program; for other architectures zig compiles it, and qemu runs it with Debian's musl. For random inputs, each network
must predict the same classes as on this machine, and its outputs may differ by at most `MOST_DIFFERENCE`. Wheels are
taken from dist/; those that are missing or older than the sources are built first.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import build_native  # noqa: E402
import build_wheels  # noqa: E402
import check_wheels  # noqa: E402
import debian  # noqa: E402

MUSL = {"musl-x86_64": None, "musl-aarch64": "trixie-arm64", "musl-armv7l": "trixie-armhf"}
"""Maps each musl target to the Debian system whose musl runs it, or to None if this machine runs it."""
NAMES = (*debian.SYSTEMS, *MUSL)
MOST_DIFFERENCE = 1e-6  # between output values

# Runs in a folder with NAME.tflite and NAME.npy (number of inputs, *input shape) for each network. The last line that
# it prints is JSON: Python's version, NumPy's version, the kernels, and {NAME: answers}.
PROGRAM = """
import importlib.util, json, pathlib, sys
import numpy as np, r2b_runtime
for package in ("tensorflow", "ai_edge_litert", "tflite_runtime"):
    assert importlib.util.find_spec(package) is None, package + " is here, but must not be needed"
assert "site" in r2b_runtime.__file__, r2b_runtime.__file__
answers = {}
for path in sorted(pathlib.Path().glob("*.tflite")):
    answers[path.stem] = rows = []
    for kernels in r2b_runtime.available_kernels():
        for threads in (1, 2):
            interpreter = r2b_runtime.Interpreter(path, threads, kernels=kernels, engine="r2b")
            number, answer = (details()[0]["index"] for details in (
                interpreter.get_input_details, interpreter.get_output_details))
            for x in np.load(path.with_suffix(".npy")):
                interpreter.set_tensor(number, x)
                interpreter.invoke()
                rows.append(interpreter.get_tensor(answer).ravel().tolist())
print(json.dumps([sys.version.split()[0], np.__version__, r2b_runtime.available_kernels(), answers]))
"""


@dataclasses.dataclass(frozen=True)
class Result:
    """The comparison of a system's answers with this machine's.

    An answer is the output for one input. It is compared with the nearer of this machine's two answers (see `Cases`).

    Attributes:
        about: description of the program that computed the answers.
        answers: number of answers.
        same: number of answers with the same predicted class as this machine's.
        worst: largest absolute difference between an output value and this machine's.
    """

    about: str
    answers: int
    same: int
    worst: float


def _answer(interpreter, x):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).ravel()


class Cases:
    """Networks in a folder, inputs for them, and this machine's answers, from its best and from its portable kernels.

    The portable kernels round every product; the best ones of x86-64 and of arm64 do not. This changes the last bits of
    a float layer's results, and sometimes the sign that the next binary layer reads.

    Args:
        folder: empty folder, into which NAME.tflite and NAME.npy are written for each network.
        models: maps each network's name to its path.
        inputs: number of random inputs for each network.
    """

    def __init__(self, folder, models, inputs=2):
        import r2b_runtime

        self.folder, self.expected = folder, {}
        for name, path in models.items():
            shutil.copy(path, folder / f"{name}.tflite")
            interpreters = [
                r2b_runtime.Interpreter(folder / f"{name}.tflite", kernels=kernels, engine="r2b")
                for kernels in (r2b_runtime.available_kernels()[0], "portable")
            ]
            detail = interpreters[0].get_input_details()[0]
            noise = np.random.default_rng(0).normal(0, 1, (inputs, *detail["shape"])).astype(detail["dtype"])
            np.save(folder / f"{name}.npy", noise)
            self.expected[name] = [np.array([_answer(one, x) for x in noise]) for one in interpreters]

    def compare(self, about, answers):
        """Compares each of a system's answers with the nearer of this machine's two answers.

        Args:
            about: description of the program that computed the answers.
            answers: maps each network's name to rows, one for each input in order. The sequence of rows may be
                repeated, for other kernels or numbers of threads.

        Returns:
            A `Result`.

        Raises:
            RuntimeError: there are no answers, or their shapes differ from this machine's.
        """
        pairs = []
        for name, expected in self.expected.items():
            found = np.asarray(answers[name], np.float32)
            inputs, outputs = expected[0].shape
            if not len(found) or len(found) % inputs or found.shape[1:] != (outputs,):
                raise RuntimeError(f"{about}: answers of other shapes than this machine's, or none")
            for i, row in enumerate(found):
                ours = [rows[i % inputs] for rows in expected]
                pairs.append((min(ours, key=lambda one: np.abs(one - row).max()), row))
        same = sum(int(row.argmax() == other.argmax()) for row, other in pairs)
        return Result(about, len(pairs), same, float(np.max([np.abs(row - other).max() for row, other in pairs])))


def wheel(target):
    """Returns a platform's wheel in dist/; builds it first if it is missing or older than a source file."""
    folders = [build_native.NATIVE, ROOT / "src"]
    sources = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".cc", ".h", ".inl", ".py")]
    try:
        found = check_wheels.wheel(target)
    except RuntimeError:
        found = None
    if found is None or found.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        found = build_wheels.build(target, ROOT / "dist")
    return found


def on_debian(system, built, cases, folder):
    """Installs a wheel on a Debian system, and runs the README's first example and the networks; returns a `Result`."""
    site = folder / "site-packages"
    system.install(built, site)
    lines = folder / "lines"
    lines.mkdir()
    check_wheels.write_model(sys.executable, lines)
    printed = system.run_python(["-c", check_wheels.readme()], [site], lines).splitlines()
    if [bool(re.fullmatch(r"\d+\.\d%  \w+", line)) for line in printed] != [True] * 3:
        raise RuntimeError(f"{system.name}: the README's lines printed {printed} instead of three classes")
    command = system.run_python(["-m", "r2b_runtime", "predict", "model.tflite", "photo.jpg"], [site], lines)
    if printed[0].split()[1] not in command.splitlines()[0]:
        raise RuntimeError(f"{system.name}: r2b-run printed {command!r}")
    printed = system.run_python(["-c", PROGRAM], [site], cases.folder)
    python, numpy, kernels, answers = json.loads(printed.splitlines()[-1])
    return cases.compare(f"Python {python}, NumPy {numpy}, kernels {', '.join(kernels)}", answers)


def host_program(target, folder):
    """Compiles opened_host.c for a musl target; returns the program's path."""
    out, source = folder / "opened_host", ROOT / "tests" / "native" / "opened_host.c"
    zig = [*build_native.zig("cc", build_native.TARGETS[target].zig), "-dynamic"]
    command = zig if MUSL[target] else [debian.tool("musl-gcc", "musl-tools")]
    debian.run([*command, "-O1", f"-I{build_native.NATIVE}", source, "-o", out])
    return out


def on_musl(target, built, cases, folder):
    """Runs the networks in a C program that is linked with musl and opens a wheel's library; returns a `Result`."""
    program, library = host_program(target, folder), folder / "libr2b_runtime.so"
    with zipfile.ZipFile(built) as archive:
        library.write_bytes(archive.read("r2b_runtime/libr2b_runtime.so"))
    system = MUSL[target] and debian.SYSTEMS[MUSL[target]]
    before = system.emulator() if system else []
    answers = {}
    for name in cases.expected:
        answers[name] = []
        for x in np.load(cases.folder / f"{name}.npy"):
            command = [*before, program, library, cases.folder / f"{name}.tflite"]
            done = subprocess.run(command, input=x.tobytes(), capture_output=True)
            if done.returncode:
                raise RuntimeError(f"{target}: {name} ended with {done.returncode}: {done.stderr.decode()[-1000:]}")
            answers[name].append(np.frombuffer(done.stdout, np.float32))
    return cases.compare("a program in C" + (f" on {system.name}'s musl" if system else ""), answers)


def missing(name):
    """Returns why this system cannot be tested here and what to do about it, or None if it can."""
    system = debian.SYSTEMS.get(MUSL.get(name, name))
    if system is not None and not system.exists:
        return f"there is no {system.folder}: python tests/debian.py {system.name}"
    if system is None and shutil.which("musl-gcc") is None:
        return "there is no musl-gcc: apt-get install musl-tools"
    return None


def target_of(name):
    """Returns the platform of the wheel for a system."""
    return name if name in MUSL else f"linux-{debian.SYSTEMS[name].arch.machine}"


def check(name, cases, folder):
    """Returns the `Result` of a system; raises `RuntimeError` if something fails there."""
    built = wheel(target_of(name))
    if name in MUSL:
        return on_musl(name, built, cases, folder)
    return on_debian(debian.SYSTEMS[name], built, cases, folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Systems: " + ", ".join(NAMES) + ". See the top of this file."
    )
    parser.add_argument("networks", nargs="*", type=pathlib.Path, metavar="FILE", help="a .tflite with one input")
    parser.add_argument("--on", nargs="+", choices=NAMES, metavar="SYSTEM", help="default: all that are set up")
    parser.add_argument("--inputs", type=int, default=2, metavar="N", help="random inputs per network (default: 2)")
    arguments = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "cases").mkdir()
        models = {path.stem: path for path in arguments.networks}
        if not models:
            check_wheels.write_model(sys.executable, folder)
            models = {"small": folder / "model.tflite"}
        cases = Cases(folder / "cases", models, arguments.inputs)
        for system in arguments.on or NAMES:
            reason = missing(system)
            if reason is not None:
                failed |= arguments.on is not None
                print(f"{system}: not run, {reason}", flush=True)
                continue
            (folder / system).mkdir()
            result = check(system, cases, folder / system)
            failed |= result.same != result.answers or not result.worst <= MOST_DIFFERENCE
            print(
                f"{system}: {result.about}; {', '.join(models)}: {result.same} of {result.answers} answers have this "
                f"machine's class, numbers differ by at most {result.worst:.1g}",
                flush=True,
            )
    return failed


if __name__ == "__main__":
    sys.exit(main())
