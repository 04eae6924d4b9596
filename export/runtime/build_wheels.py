"""Builds a wheel for every platform on one machine, with the ziglang package, and checks each.

python build_wheels.py                       # all, into dist/; needs pip install ziglang setuptools wheel
python build_wheels.py linux-aarch64         # some
python build_wheels.py --check dist/*.whl    # only check
"""

import argparse
import functools
import importlib.util
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

import build_native

MOST_BYTES = 2_000_000
# For each suffix of a compiled library, a pattern of the library names that it may contain: its own name, and libraries
# that every installation of the system has.
SYSTEM_LIBRARIES = {
    ".so": r"lib(c|m|dl|pthread|rt)\.so\.6|lib(dl|pthread|rt)\.so\.[0-2]|ld-linux[-\w]*\.so\.\d|libr2b_runtime\.so",
    ".dylib": r"libSystem\.B\.dylib",
    ".dll": r"(?i:kernel32|ntdll|api-ms-win-crt-[-\w]+|r2b_runtime)\.dll",
}
_NAMED = {".so": rb"[\w+-]+\.so(?:\.\d+)+", ".dll": rb"(?i)[\w.+-]+\.dll"}
_MACHO_LOADS = {0xC, 0x18 | 1 << 31, 0x1F | 1 << 31}  # LC_LOAD_DYLIB, LC_LOAD_WEAK_DYLIB, LC_REEXPORT_DYLIB

# The licences of what zig links into the library: for each name in the wheel, the path in the ziglang package.
_LICENSES = {
    "LICENSE-libcxx.txt": "lib/libcxx/LICENSE.TXT",
    "LICENSE-libcxxabi.txt": "lib/libcxxabi/LICENSE.TXT",
    "LICENSE-libunwind.txt": "lib/libunwind/LICENSE.TXT",
    "LICENSE-zig-compiler-rt.txt": "LICENSE",
}
_WINDOWS_LICENSES = {"LICENSE-mingw-w64.txt": "lib/libc/mingw/COPYING"}


@functools.cache
def _wasm():
    """Compiles the engine for browsers, only once, because it is the same in all wheels; returns its path."""
    sys.path.insert(0, str(build_native.ROOT.parent / "web"))
    import build_web

    return build_web.build()


def build(target, output):
    """Builds one wheel and returns its path. Uses a copy of the sources that has no other platform's library."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None:
        raise RuntimeError("building wheels needs a cross compiler: pip install ziglang setuptools wheel")
    zig = pathlib.Path(spec.submodule_search_locations[0])
    licenses = _LICENSES | (_WINDOWS_LICENSES if target.startswith("windows") else {})
    with tempfile.TemporaryDirectory() as directory:
        root, made = pathlib.Path(directory, "export", "runtime"), pathlib.Path(directory, "wheel")
        for folder in (build_native.ROOT, build_native.ROOT.parent / "web"):
            shutil.copytree(
                folder,
                root.with_name(folder.name),
                ignore=shutil.ignore_patterns(
                    "*.so", "*.dylib", "*.dll", "*.wasm", "build", "dist", "tests", "*.egg-info", ".*", "__pycache__"
                ),
            )
        for name, source in licenses.items():
            shutil.copyfile(zig / source, root / name)
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--no-build-isolation",
                "--wheel-dir",
                str(made),
                str(root),
            ],
            check=True,
            env={**os.environ, "R2B_RUNTIME_TARGET": target, "R2B_RUNTIME_WASM": str(_wasm())},
        )
        (wheel,) = made.glob("*.whl")
        output.mkdir(parents=True, exist_ok=True)
        return pathlib.Path(shutil.move(str(wheel), str(output / wheel.name)))


def faults(wheel):
    """The faults of a wheel, as sentences."""
    found = []
    platforms = {spec.wheel: (target, spec) for target, spec in build_native.TARGETS.items()}
    tag = re.fullmatch(r"r2b_runtime-[^-]+-py3-none-(.+)\.whl", wheel.name)
    if not tag or tag[1] not in platforms:
        return [f"its name is not r2b_runtime-VERSION-py3-none-PLATFORM.whl with one of {', '.join(platforms)}"]
    target, spec = platforms[tag[1]]
    if wheel.stat().st_size >= MOST_BYTES:
        found.append(f"it has {wheel.stat().st_size:,} bytes; at most {MOST_BYTES:,} are allowed")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        libraries = [name for name in names if name.endswith(tuple(SYSTEM_LIBRARIES))]
        library = f"r2b_runtime/{spec.library}"
        if libraries != [library]:
            return [*found, f"it holds the libraries {libraries} instead of {library}"]
        if "r2b_runtime/py.typed" not in names:
            found.append("it lacks r2b_runtime/py.typed, without which type checkers ignore the annotations")
        if "r2b_runtime/web/r2b.wasm" not in names:
            found.append("it lacks r2b_runtime/web/r2b.wasm, without which `r2b export --web` does not work")
        for name in ["LICENSE", *_LICENSES, *(_WINDOWS_LICENSES if target.startswith("windows") else {})]:
            if not any(re.fullmatch(rf".*\.dist-info/(licenses/)?{re.escape(name)}", entry) for entry in names):
                found.append(f"it lacks {name}")
        return found + library_faults(archive.read(library), pathlib.Path(library).suffix, newest_glibc(spec.wheel))


def newest_glibc(tag):
    """The newest glibc that a wheel with this platform tag may need, as (major, minor); None for musl."""
    if tag.startswith("musllinux"):
        return None
    promised = re.match(r"manylinux_(\d+)_(\d+)_", tag)
    return (int(promised[1]), int(promised[2])) if promised else (2, 17)  # manylinux2014


def library_faults(data, suffix, glibc=(2, 17)):
    """The faults of a library, as sentences; `glibc` is the newest version that it may need, None for musl.

    Most are found by searching its bytes, because every format contains the names of symbols and libraries as text.
    """
    found = []
    if glibc is None and (b"GLIBC_" in data or b"libc.so.6" in data):
        found.append("it needs glibc, which a musl system does not have")
    for name in sorted(set(re.findall(rb"\w*(?:TfLite|tflite[A-Z0-9])\w*", data))):
        found.append(f"it names the symbol {name.decode()}, which interpreters do not export")
    for entry in (b"tflite_plugin_create_delegate", b"tflite_plugin_destroy_delegate"):
        if entry not in data:
            found.append(f"it lacks the entry point {entry.decode()}")
    for version in sorted({tuple(map(int, text.split(b"."))) for text in re.findall(rb"GLIBC_(\d+(?:\.\d+)+)", data)}):
        if glibc and version > glibc:
            found.append(
                f"it needs GLIBC_{'.'.join(map(str, version))}; {'.'.join(map(str, glibc))} is the newest allowed"
            )
    names = (
        _macho_libraries(data) if suffix == ".dylib" else [name.decode() for name in re.findall(_NAMED[suffix], data)]
    )
    for name in sorted(set(names)):
        if not re.fullmatch(SYSTEM_LIBRARIES[suffix], name):
            found.append(f"it names the library {name}, which not every system has")
    return found


def _macho_libraries(data):
    """File names of the libraries that a 64-bit Mach-O library loads. (Its bytes also contain other names.)"""
    if data[:4] != b"\xcf\xfa\xed\xfe":
        raise ValueError(f"a 64-bit Mach-O library starts with cffaedfe; received {data[:4].hex()}")
    names, at = [], 32
    for _ in range(struct.unpack_from("<I", data, 16)[0]):
        command, size = struct.unpack_from("<2I", data, at)
        if command in _MACHO_LOADS:
            start = at + struct.unpack_from("<I", data, at + 8)[0]
            names.append(data[start : at + size].split(b"\0")[0].decode().split("/")[-1])
        at += size
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(build_native.TARGETS)} (default: all)"
    )
    parser.add_argument("--output", type=pathlib.Path, default=build_native.ROOT / "dist")
    parser.add_argument("--check", nargs="+", type=pathlib.Path, default=None, metavar="WHEEL", help="only check these")
    arguments = parser.parse_args()
    for target in arguments.targets:
        if target not in build_native.TARGETS:
            parser.error(f"there is no target {target!r}; there are {', '.join(build_native.TARGETS)}")
    wheels = arguments.check or (
        build(target, arguments.output) for target in arguments.targets or build_native.TARGETS
    )
    failed = False
    for wheel in wheels:
        wrong = faults(wheel)
        failed |= bool(wrong)
        print(
            f"{wheel.name}: {wheel.stat().st_size:,} bytes, {'; '.join(wrong) if wrong else 'no fault found'}",
            flush=True,
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
