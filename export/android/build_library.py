"""Compiles libr2b_android.so for Android's processors with the ziglang package; needs neither SDK nor NDK.

    python build_library.py                          # all, into build/jni
    python build_library.py x86_64 --output jni/     # some

The compiler has no headers of Android's C library, so the sources are compiled with musl's, against a list of functions
in which the two agree (bionic.py), and linked with libraries that have these symbols and no others: what else is needed
is an error here. The C++ library comes from the compiler's package as source and stays within the result.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "runtime"))

import bionic
import build_native

ROOT = pathlib.Path(__file__).resolve().parent
LIBRARY = "libr2b_android.so"
PAGE_BYTES = 16384

FLAGS = [
    "-fno-stack-protector",  # its guard lies elsewhere in each C library
    "-femulated-tls",  # the system's linker knows thread-local variables since API level 29
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-sanitize=all",
]
# The parts of the C++ library that the sources need, by folder of the compiler's package.
_CXX = ["-std=c++23", "-DNDEBUG", "-DLIBCXX_BUILDING_LIBCXXABI", "-D_LIBCPP_BUILDING_LIBRARY"]
_CXX += ["-fvisibility=hidden", "-fvisibility-inlines-hidden"]
_RUNTIME = {
    "libcxx/src": (
        "atomic chrono condition_variable condition_variable_destructor error_category exception functional future "
        "hash memory mutex mutex_destructor new new_handler new_helpers stdexcept string system_error thread typeinfo "
        "verbose_abort",
        _CXX,
    ),
    "libcxxabi/src": (
        "abort_message cxa_aux_runtime cxa_default_handlers cxa_exception cxa_exception_storage cxa_guard cxa_handlers "
        "cxa_personality cxa_thread_atexit cxa_vector cxa_virtual fallback_malloc private_typeinfo stdlib_exception "
        "stdlib_new_delete stdlib_stdexcept stdlib_typeinfo",
        # Without the second one, whatever ends the program is named with the help of a parser of C++ names.
        [*_CXX, "-D_LIBCXXABI_BUILDING_LIBRARY", "-DLIBCXXABI_SILENT_TERMINATE"],
    ),
    "libunwind/src": (
        "libunwind Unwind-EHABI UnwindLevel1 UnwindLevel1-gcc-ext UnwindRegistersRestore UnwindRegistersSave",
        ["-DNDEBUG", "-D_LIBUNWIND_HIDE_SYMBOLS", "-fvisibility=hidden", "-funwind-tables", "-fexceptions"],
    ),
}


@dataclasses.dataclass(frozen=True)
class Abi:
    """A processor as Android names it."""

    zig: str
    arch: str  # as in build_native.Target

    @property
    def sources(self):
        """{source: its flags} of the engine and its face to Java, as build_native.objects takes them."""
        sources = build_native.Target(self.zig, "", LIBRARY, self.arch).sources
        return sources | {"../../android/native/jni": [f"-I{folder}" for folder in jni_headers()]}

    def compiler(self, language):
        """The command that compiles a language ("cc" or "c++") for it."""
        return build_native.zig(language, self.zig)


ABIS = {
    "arm64-v8a": Abi("aarch64-linux-musl", "aarch64"),
    # Within the library floating-point numbers are passed in registers of their own. Android passes them in general
    # ones, so functions that take or return one are not called, or called as bionic.c does.
    "armeabi-v7a": Abi("arm-linux-musleabihf", "armv7"),
    "x86_64": Abi("x86_64-linux-musl", "x86_64"),
}


def jni_headers():
    """Folders of jni.h and of its types, which are the same for every machine with Java."""
    javac = shutil.which("javac")
    home = os.environ.get("JAVA_HOME") or (javac and pathlib.Path(javac).resolve().parents[1])
    types = sorted(pathlib.Path(home, "include").glob("*/jni_md.h")) if home else []
    if not types:
        raise RuntimeError(
            "jni.h comes with a JDK: apt-get install default-jdk-headless, or set JAVA_HOME to the folder of one"
        )
    return [types[0].parents[1], types[0].parent]


def compiler_folder():
    """Where the cross compiler lies, with the sources of the C++ library."""
    return build_native.zig_package("compiling for Android needs a cross compiler")


def _runtime_objects(abi, directory):
    """The object files of the C++ library, and of what stands for Android's C library."""
    package = compiler_folder() / "lib"
    # A copy: a folder that the compiler searches late, as it does this one, it does not search early.
    unwind = shutil.copytree(package / "libunwind" / "include", pathlib.Path(directory, "unwind"))
    include = [f"-I{folder}" for folder in (unwind, package / "libcxx" / "src", package / "libcxxabi" / "include")]
    sources = {ROOT / "native" / "bionic.c": ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra"]}
    for folder, (names, flags) in _RUNTIME.items():
        for name in names.split():
            (source,) = (package / folder).glob(f"{name}.[cS]*")
            # C has neither a standard of C++ nor inline visibility.
            cxx = flags if source.suffix == ".cpp" else [f for f in flags if "inlines" not in f and "-std" not in f]
            sources[source] = [*cxx, *include]

    def one(item):
        source, flags = item
        out = pathlib.Path(directory) / f"{source.parents[1].name}_{source.stem}.o"
        command = [*abi.compiler("c++" if source.suffix == ".cpp" else "cc"), *FLAGS, "-O2", "-fPIC", *flags]
        subprocess.run([*command, "-c", str(source), "-o", str(out)], check=True)
        return str(out)

    return build_native.in_parallel(one, sources.items())


def _stubs(abi, directory):
    """Libraries to link against."""
    made = []
    for name, symbols in bionic.libraries(abi.arch).items():
        source, out = pathlib.Path(directory, name).with_suffix(".c"), pathlib.Path(directory, name)
        source.write_text(bionic.stub(symbols))
        command = [*abi.compiler("cc"), "-shared", "-nostdlib", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{name}"]
        subprocess.run([*command, str(source), "-o", str(out)], check=True)
        made.append(str(out))
    return made


def build(name, output):
    """Compiles and links the library for a name of ABIS into the folder `output`; returns its path."""
    abi = ABIS[name]
    out = pathlib.Path(output) / LIBRARY
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        version = f'-DR2B_VERSION="{build_native.version()}"'
        files = build_native.objects(abi.compiler("c++"), abi.sources, directory, [*FLAGS, version])
        files += _runtime_objects(abi, directory)
        # The stubs come before the compiler's own libc.so, which is left out as another one of that name.
        link = ["-shared", "-s", "-O2", f"-Wl,-soname,{LIBRARY}", "-Wl,-z,defs", "-Wl,--gc-sections"]
        link += [f"-Wl,-z,max-page-size={PAGE_BYTES}", f"-Wl,--version-script={ROOT / 'native' / 'exports.map'}"]
        command = [*abi.compiler("cc"), *link, *files, "-Wl,--as-needed", *_stubs(abi, directory), "-o", str(out)]
        subprocess.run(command, check=True)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("abis", nargs="*", metavar="ABI", help=f"of {', '.join(ABIS)} (default: all)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "jni")
    arguments = parser.parse_args()
    for name in arguments.abis:
        if name not in ABIS:
            parser.error(f"there is no ABI {name!r}; there are {', '.join(ABIS)}")
    for name in arguments.abis or ABIS:
        print(build(name, arguments.output / name))


if __name__ == "__main__":
    main()
