"""Runs a Python program as on a processor without AVX-512, so that all runtimes in it choose AVX2.

    python -m benchmarks.hide_avx512 -m benchmarks.inference --check

LiteRT and OpenVINO have no option for this. They ask the processor what it has, with the instruction CPUID. This
program copies the packages into a temporary folder, replaces the CPUID instructions in the copies' libraries by illegal
instructions of the same length, and loads a library (hide_avx512.cc) whose signal handler answers these: with the
processor's own answer, less the bits of AVX-512, AMX, and AVX-VNNI. It runs only on Linux on x86-64, and
needs objdump (binutils).
"""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "export" / "runtime"), str(ROOT)]

import build_native  # noqa: E402

PACKAGES = ("ai_edge_litert", "larq_compute_engine", "openvino", "r2b_runtime")
CPUID, ILLEGAL = b"\x0f\xa2", b"\x0f\xff"
_INSTRUCTION = re.compile(r"\s*([0-9a-f]+):\s+cpuid\b")
_SECTION = re.compile(r"\s*\d+ \S+ +([0-9a-f]+) +([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+)")


def hide_in(library: pathlib.Path) -> int:
    """Replaces every CPUID instruction of a shared library, in place; returns their number."""
    content = bytearray(library.read_bytes())
    if CPUID not in content:
        return 0
    sections = [[int(text, 16) for text in match.groups()] for match in _found(_SECTION, "-h", library)]
    addresses = [int(match[1], 16) for match in _found(_INSTRUCTION, "-d", library)]
    for address in addresses:
        # Skip sections with the address 0: they are not loaded, such as debug information.
        (place,) = [offset + address - at for size, at, offset in sections if at and at <= address < at + size]
        if content[place : place + 2] != CPUID:
            raise RuntimeError(f"{library} has no CPUID instruction at {address:#x}, where objdump sees one.")
        content[place : place + 2] = ILLEGAL
    library.write_bytes(content)
    return len(addresses)


def _found(pattern: "re.Pattern[str]", option: str, library: pathlib.Path) -> Iterator["re.Match[str]"]:
    """The matches in objdump's output, which is read line by line because a large library has millions of lines."""
    command = ["objdump", option, "--no-show-raw-insn", str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield from filter(None, map(pattern.match, process.stdout or ()))
    if process.returncode:
        raise RuntimeError(f"objdump {option} {library} ended with status {process.returncode}")


def copy_packages(directory: pathlib.Path) -> None:
    """Copies into a folder those of ``PACKAGES`` that are installed, and replaces the CPUID instructions there."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        copied = directory / name
        shutil.copytree(spec.submodule_search_locations[0], copied, ignore=shutil.ignore_patterns("__pycache__"))
        number = sum(hide_in(path) for path in copied.rglob("*.so*") if not path.is_symlink())
        print(f"{name}: {number} CPUID instructions replaced", file=sys.stderr)


def compiled_handler(directory: pathlib.Path) -> pathlib.Path:
    library = directory / "libhide_avx512.so"
    compiler = build_native.compiler(build_native.host())
    source = str(ROOT / "benchmarks" / "hide_avx512.cc")
    subprocess.run([*compiler, "-O2", "-fPIC", "-shared", source, "-o", str(library)], check=True)
    return library


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        copy_packages(directory)
        handler = compiled_handler(directory)
        path = os.pathsep.join([str(directory), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(handler)}
        return subprocess.run([sys.executable, *sys.argv[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
