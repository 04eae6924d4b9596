"""Compiles the library (engine and delegate) for this machine or, with the ziglang package, for another one.

    python build_native.py                                   # into src/r2b_runtime
    python build_native.py --target linux-aarch64 --output build/

Each instruction set is one source file with its own flags. All other files are compiled for the oldest processor of the
platform, so that they contain no instruction that a processor may lack.
"""

import argparse
import concurrent.futures
import dataclasses
import importlib.util
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent
NATIVE = ROOT / "native"

COMMON = ["delegate", "c_model", "c_engine", "model", "metadata", "json", "preprocessing"]
COMMON += ["options", "import", "read_lce", "read_builtins", "read_bytes", "operator_names", "flexbuffer"]
PLAN = [
    "cores",
    "limits",
    "graph",
    "slices",
    "weights",
    "fuse",
    "operands",
    "memory",
    "padding",
    "blocks",
    "arena",
    "executor",
    "sums",
    "planes",
    "plan",
    "arithmetic",
    "thread_pool",
    "fork",
    "convolution",
    "resample",
]
# The kinds of steps, and code that several of them share.
STEPS = ["step", "convolution", "window", "values", "line", "bconv", "fconv", "qconv", "depthwise", "transpose_conv"]
STEPS += ["pool", "bmax_pool", "load", "pad", "concat", "slice", "surround", "bilinear"]
STEPS += ["dense", "arithmetic", "logistic", "softmax", "copy", "unpack", "pack_bytes", "bytes", "move_bytes"]
PLAN += [f"steps/{name}" for name in STEPS]
PLAN += ["kernels/dispatch", "kernels/pack", "kernels/portable"]
X86 = {
    # The addresses at which this file's loops begin change a network's time by 7 %. Without alignment, they would
    # depend on what is linked before this file.
    "kernels/avx2": ["-DR2B_BUILD_AVX2", "-mavx2", "-mfma", "-falign-functions=32", "-falign-loops=32"],
    "kernels/avx512": [
        "-DR2B_BUILD_AVX512",
        "-mavx512f",
        "-mavx512bw",
        "-mavx512vl",
        "-mavx512dq",
        "-mavx512vpopcntdq",
        "-mavx512vnni",
        "-mfma",
    ],
}
# -ffp-contract=off: a multiplication and an addition are rounded separately, as in TensorFlow Lite (kernels.h).
# -iquote, not -I: native/ has a limits.h and a memory.h, but <limits.h> and <memory.h> must be the C library's.
FLAGS = [
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-iquote",
    str(NATIVE),
]


@dataclasses.dataclass(frozen=True)
class Target:
    zig: str  # for `zig c++ -target`; glibc 2.17 is that of manylinux2014
    wheel: str  # platform tag
    library: str  # file name
    arch: str

    @property
    def sources(self):
        isa = X86 if self.arch == "x86_64" else {}
        sources = {name: [] for name in COMMON + PLAN} | {name: X86[name] if isa else [] for name in X86}
        neon = {"aarch64": ["-DR2B_BUILD_NEON"], "armv7": ["-DR2B_BUILD_NEON", "-mfpu=neon-vfpv4", "-mfloat-abi=hard"]}
        dot = ["-DR2B_BUILD_NEON_DOT", "-mcpu=generic+dotprod"] if self.arch == "aarch64" else []
        return sources | {"kernels/neon": neon.get(self.arch, []), "kernels/neon_dot": dot}


TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", "manylinux2014_x86_64", "libr2b_runtime.so", "x86_64"),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", "manylinux2014_aarch64", "libr2b_runtime.so", "aarch64"),
    "linux-armv7l": Target("arm-linux-gnueabihf.2.17", "manylinux2014_armv7l", "libr2b_runtime.so", "armv7"),
    "linux-riscv64": Target("riscv64-linux-gnu.2.31", "manylinux_2_31_riscv64", "libr2b_runtime.so", "riscv64"),
    "musl-x86_64": Target("x86_64-linux-musl", "musllinux_1_2_x86_64", "libr2b_runtime.so", "x86_64"),
    "musl-aarch64": Target("aarch64-linux-musl", "musllinux_1_2_aarch64", "libr2b_runtime.so", "aarch64"),
    "musl-armv7l": Target("arm-linux-musleabihf", "musllinux_1_2_armv7l", "libr2b_runtime.so", "armv7"),
    "macos-arm64": Target("aarch64-macos.11.0", "macosx_11_0_arm64", "libr2b_runtime.dylib", "aarch64"),
    "windows-x86_64": Target("x86_64-windows-gnu", "win_amd64", "r2b_runtime.dll", "x86_64"),
}


def host():
    """This machine's target, a key of `TARGETS`. Raises `RuntimeError` if there is none."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if machine == "aarch64" and sys.maxsize < 2**32:
        machine = "armv7l"  # 32-bit Python on a 64-bit kernel, as on Raspberry Pi OS
    # Python is built for musl on Alpine, for example.
    linux = "musl" if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "") else "linux"
    name = {"linux": f"{linux}-{machine}", "darwin": "macos-arm64", "win32": "windows-x86_64"}.get(sys.platform, "")
    if name not in TARGETS:
        raise RuntimeError(f"no build for {sys.platform} on {machine}; there are {', '.join(TARGETS)}")
    return name


def machine_compiler():
    """The machine's own C++ compiler as a command, or None."""
    if sys.platform == "win32":
        return None  # the sources are written for GCC and Clang
    for name in filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")):
        if shutil.which(name.split()[0]):
            return name.split()
    return None


def compiler(target, distributable=False):
    """The command that compiles for `target`: this machine's compiler if `target` is this machine, otherwise zig.

    It is also zig if this machine has no compiler. With `distributable` it is always zig: this machine's compiler links
    against this machine's C library, which may be newer than that of a machine where the result is installed. Raises
    `RuntimeError` if zig is needed and the ziglang package is missing.
    """
    if not distributable and target == host() and machine_compiler():
        return machine_compiler()
    zig_package(f"compiling for {target} needs a C++ compiler")
    return zig("c++", TARGETS[target].zig)


def zig_package(need):
    """The folder of the ziglang package. Without it, raises `RuntimeError`, whose message begins with `need`."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{need}: pip install ziglang")
    return pathlib.Path(spec.submodule_search_locations[0])


def zig(language, target):
    """The command of ziglang's compiler for C ("cc") or C++ ("c++"); `target` is zig's name of the platform."""
    return [sys.executable, "-m", "ziglang", language, "-target", target, "-g0", "-Wno-unused-command-line-argument"]


def in_parallel(work, items):
    """Calls `work` for as many items at a time as there are cores; returns the results in the order of the items."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))


def version():
    for line in (ROOT / "pyproject.toml").read_text().splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    raise RuntimeError("pyproject.toml states no version")


def objects(command, sources, directory, flags=()):
    """Compiles sources, given as {name: flags}, into `directory`; returns the paths of the object files."""
    # GCC 12 warns about its own AVX-512 header when it inlines that header's functions. Clang does not know the first
    # flag.
    gcc = pathlib.Path(command[0]).name.endswith("g++") and "clang" not in command[0]
    quiet = ["-Wno-maybe-uninitialized", "-Wno-uninitialized"] if gcc else []

    def one(item):
        name, own = item
        out = pathlib.Path(directory) / (name.replace("/", "_") + ".o")
        subprocess.run(
            [*command, *FLAGS, *quiet, *flags, *own, "-c", str(NATIVE / f"{name}.cc"), "-o", str(out)], check=True
        )
        return str(out)

    return in_parallel(one, sources.items())


def build(target=None, output=None, distributable=False):
    """Compiles and links the shared library; returns its path."""
    target = target or host()
    spec, command = TARGETS[target], compiler(target, distributable)
    out = pathlib.Path(output or ROOT / "src" / "r2b_runtime") / spec.library
    out.parent.mkdir(parents=True, exist_ok=True)
    link = ["-shared", "-pthread"]
    if spec.library.endswith(".so"):
        link += [f"-Wl,--version-script={NATIVE / 'exports.map'}", "-Wl,-z,max-page-size=16384"]
        link += [] if "ziglang" in command else ["-static-libstdc++", "-static-libgcc"]
    if target.startswith("macos"):
        link.append(f"-Wl,-install_name,@rpath/{spec.library}")  # otherwise the library would name the build folder
    if "ziglang" in command or not target.startswith("macos"):
        link.append("-s")
    with tempfile.TemporaryDirectory() as directory:
        files = objects(command, spec.sources, directory, [f'-DR2B_VERSION="{version()}"'])
        subprocess.run([*command, *link, *files, "-o", str(out)], check=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", choices=TARGETS, default=None)
    parser.add_argument("--output", default=None)
    arguments = parser.parse_args()
    print(build(arguments.target, arguments.output))


if __name__ == "__main__":
    main()
