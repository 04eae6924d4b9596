"""Compiles the engine to WebAssembly, with the ziglang package.

    python build_web.py                    # r2b.wasm, beside this file
    python build_web.py --output FOLDER

The engine throws C++ exceptions, which the C++ library of ziglang does not support in WebAssembly. So the script
also compiles the parts of that library that the engine needs, from their sources inside the ziglang package, with
WebAssembly's exceptions (-fwasm-exceptions).
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "runtime"))
import build_native

ROOT = pathlib.Path(__file__).resolve().parent
WASM = "r2b.wasm"
# Chromium 95, Firefox 100, Safari 16.4 and node 17 have all of these features.
FEATURES = "generic+bulk_memory+exception_handling+mutable_globals+nontrapping_fptoint+sign_ext+simd128"
TARGET = "wasm32-wasi"
MACHINE = [f"-mcpu={FEATURES}"]
COMPILE = [*MACHINE, "-fwasm-exceptions", "-fvisibility=hidden", "-fno-ident"]
STACK = 1 << 20  # bytes
# The functions that index.js calls, and r2b_version.
EXPORTS = ["malloc", "free", "r2b_version"]
EXPORTS += [f"r2b_model_{name}" for name in ("load", "free", "labels", "label", "preprocessing")]
EXPORTS += [f"r2b_engine_{name}" for name in ("create", "free", "check_classifier", "inputs", "outputs", "input")]
EXPORTS += [f"r2b_engine_{name}" for name in ("output", "resize", "set_input", "set_image", "get_output")]
EXPORTS += [f"r2b_engine_{name}" for name in ("get_values", "run")]

LEFT_OUT = {"delegate", "convolution", "kernels/portable"}
# Reading the C++ library's headers takes most of the compile time, so they are precompiled once.
HEADERS = ["algorithm", "atomic", "cstdint", "functional", "map", "memory", "set", "string", "utility", "vector"]
DEFINES = ["-DR2B_SINGLE_THREAD", "-DR2B_BUILD_WASM", f'-DR2B_VERSION="{build_native.version()}"']
# -O3 would make the file 3 % larger and the kernels no faster. ziglang treats -Oz as -Os, unless -Xclang passes it to
# clang itself.
SPEED, SIZE = ["-Os"], ["-Os", "-Xclang", "-Oz"]

CXXABI = ["cxa_aux_runtime", "cxa_default_handlers", "cxa_exception", "cxa_exception_storage", "cxa_guard"]
CXXABI += ["cxa_handlers", "cxa_personality", "cxa_virtual", "fallback_malloc", "private_typeinfo"]
CXXABI += ["stdlib_exception", "stdlib_new_delete", "stdlib_stdexcept", "stdlib_typeinfo"]
CXX = ["exception", "functional", "hash", "memory", "new_handler", "new_helpers", "stdexcept", "string"]
# Options for the sources of the C++ libraries: what they need to be compiled, and one thread, no message before the
# program aborts, no symbols for dynamic linkers.
LIBRARY = ["-std=c++23", "-D_LIBCPP_BUILDING_LIBRARY", "-D_LIBCXXABI_BUILDING_LIBRARY", "-D_LIBCXXABI_HAS_NO_THREADS"]
LIBRARY += ["-DLIBCXX_BUILDING_LIBCXXABI", "-DLIBCXXABI_SILENT_TERMINATE"]
UNWIND = ["-std=c23", "-D_LIBUNWIND_HAS_NO_THREADS", "-D_LIBUNWIND_HIDE_SYMBOLS"]


def engine_sources():
    """The engine's files that a page needs."""
    return [name for name in [*build_native.COMMON, *build_native.PLAN, "kernels/wasm"] if name not in LEFT_OUT]


def engine_flags():
    return [flag for flag in build_native.FLAGS if flag not in ("-O3", "-fPIC")] + DEFINES


def commands(folder):
    """Yields how to compile each object file: (name, language, arguments of the compiler)."""
    native = build_native.NATIVE
    library = build_native.zig_package("compiling the engine to WebAssembly needs ziglang") / "lib"
    flags = engine_flags()
    for name in engine_sources():
        if name == "json":
            # It calls r2b_strtod() of support.cc. -Dstrtod also renames strtod() in headers, so this file cannot use
            # the precompiled ones.
            yield name, "c++", [*COMPILE, *SIZE, *flags, "-Dstrtod=r2b_strtod", str(native / f"{name}.cc")]
        elif name.startswith("kernels/"):  # with other options than the precompiled headers
            yield name, "c++", [*COMPILE, *SPEED, *flags, str(native / f"{name}.cc")]
        else:
            headers = ["-include-pch", str(folder / "headers.pch")]
            yield name, "c++", [*COMPILE, *SIZE, *flags, *headers, str(native / f"{name}.cc")]
    yield "support", "c++", [*COMPILE, *SIZE, "-std=c++17", str(ROOT / "native" / "support.cc")]
    includes = [f"-I{library / path}" for path in ("libcxxabi/include", "libcxxabi/src", "libcxx/src")]
    unwind = [f"-I{library / path}" for path in ("libunwind/include", "libunwind/src")]
    for name in CXXABI:
        source = library / "libcxxabi" / "src" / f"{name}.cpp"
        yield f"cxxabi_{name}", "c++", [*COMPILE, *SIZE, "-w", *LIBRARY, *includes, *unwind, str(source)]
    for name in CXX:
        source = library / "libcxx" / "src" / f"{name}.cpp"
        yield f"cxx_{name}", "c++", [*COMPILE, *SIZE, "-w", *LIBRARY, *includes, str(source)]
    yield (
        "unwind",
        "cc",
        [*COMPILE, *SIZE, "-w", *UNWIND, *unwind, str(library / "libunwind" / "src" / "Unwind-wasm.c")],
    )


def build(output=ROOT):
    """Writes r2b.wasm into the folder `output`; returns its path."""
    out = pathlib.Path(output) / WASM
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)

        def compiled(item):
            name, language, arguments = item
            made = folder / (name.replace("/", "_") + ".o")
            subprocess.run([*build_native.zig(language, TARGET), *arguments, "-c", "-o", str(made)], check=True)
            return str(made)

        header = folder / "headers.h"
        header.write_text("".join(f"#include <{name}>\n" for name in HEADERS))
        flags = [*COMPILE, *SIZE, *engine_flags()]
        read = [*flags, "-x", "c++-header", str(header), "-o", str(folder / "headers.pch")]
        subprocess.run([*build_native.zig("c++", TARGET), *read], check=True)
        files = build_native.in_parallel(compiled, commands(folder))
        link = [*MACHINE, "-mexec-model=reactor", "-nostdlib++", "-s", "-Wl,--gc-sections"]
        link += [f"-Wl,-z,stack-size={STACK}"]
        link += [f"-Wl,--export={name}" for name in EXPORTS]
        made = folder / WASM
        subprocess.run([*build_native.zig("c++", TARGET), *link, *files, "-o", str(made)], check=True)
        out.write_bytes(made.read_bytes())
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=ROOT, help="folder for r2b.wasm (default: the folder of build_web.py)")
    path = build(parser.parse_args().output)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
