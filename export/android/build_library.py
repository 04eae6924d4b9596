"""Compiles libr2b_android.so for Android's processors with the ziglang package; needs neither SDK nor NDK.

    python build_library.py                          # all, into build/jni
    python build_library.py x86_64 --output jni/     # some

The compiler has no headers of Android's C library, so the sources are compiled with musl's. They may call only
functions that take the same arguments in both libraries (bionic.py). They are linked with stub libraries that define
only these functions, so linking fails if another one is needed. The C++ library is compiled from its sources in the
compiler's package, and linked statically.
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
    "-fno-stack-protector",  # musl and Android keep the value that guards the stack in different places
    "-femulated-tls",  # the system's linker supports thread-local variables only since API level 29
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-sanitize=all",
]
# The needed parts of the C++ library and of the unwinder: {folder in the compiler's package: (source names, flags)}.
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
        # LIBCXXABI_SILENT_TERMINATE: do not print the name of an uncaught exception, which would need a demangler.
        [*_CXX, "-D_LIBCXXABI_BUILDING_LIBRARY", "-DLIBCXXABI_SILENT_TERMINATE"],
    ),
    "libunwind/src": (
        "libunwind Unwind-EHABI UnwindLevel1 UnwindLevel1-gcc-ext UnwindRegistersRestore UnwindRegistersSave",
        ["-DNDEBUG", "-D_LIBUNWIND_HIDE_SYMBOLS", "-fvisibility=hidden", "-funwind-tables", "-fexceptions"],
    ),
}


@dataclasses.dataclass(frozen=True)
class Abi:
    """The names that the compiler and build_native use for one of Android's processors."""

    zig: str  # for `zig cc -target`
    arch: str  # as in build_native.Target

    @property
    def sources(self):
        """{source: its flags} of the engine and its Java interface, as build_native.objects takes them."""
        sources = build_native.Target(self.zig, "", LIBRARY, self.arch).sources
        return sources | {"../../android/native/jni": [f"-I{folder}" for folder in jni_headers()]}

    def compiler(self, language):
        """The command that compiles C ("cc") or C++ ("c++") for this processor."""
        return build_native.zig(language, self.zig)


ABIS = {
    "arm64-v8a": Abi("aarch64-linux-musl", "aarch64"),
    # Within the library, floating-point numbers are passed in floating-point registers, but Android passes them in
    # general ones. So no function of Android that takes or returns such a number is called, with two exceptions:
    # strtold, which bionic.c calls in Android's way, and functions like printf, for which both use general registers.
    "armeabi-v7a": Abi("arm-linux-musleabihf", "armv7"),
    "x86_64": Abi("x86_64-linux-musl", "x86_64"),
}


def jni_headers():
    """The folders of jni.h and jni_md.h in this machine's JDK, whose types have the same sizes on Android.

    Raises `RuntimeError` if there is no JDK.
    """
    javac = shutil.which("javac")
    home = os.environ.get("JAVA_HOME") or (javac and pathlib.Path(javac).resolve().parents[1])
    types = sorted(pathlib.Path(home, "include").glob("*/jni_md.h")) if home else []
    if not types:
        raise RuntimeError(
            "jni.h comes with a JDK: apt-get install default-jdk-headless, or set JAVA_HOME to the folder of one"
        )
    return [types[0].parents[1], types[0].parent]


def compiler_folder():
    """The folder of the ziglang package, which contains the sources of the C++ library.

    Raises `RuntimeError` if it is not installed.
    """
    return build_native.zig_package("compiling for Android needs a cross compiler")


def _runtime_objects(abi, directory):
    """Compiles the C++ library and bionic.c into `directory`; returns the paths of the object files."""
    package = compiler_folder() / "lib"
    # A copy. The compiler searches the original folder by default, but after other folders, and ignores -I for it.
    unwind = shutil.copytree(package / "libunwind" / "include", pathlib.Path(directory, "unwind"))
    include = [f"-I{folder}" for folder in (unwind, package / "libcxx" / "src", package / "libcxxabi" / "include")]
    sources = {ROOT / "native" / "bionic.c": ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra"]}
    for folder, (names, flags) in _RUNTIME.items():
        for name in names.split():
            (source,) = (package / folder).glob(f"{name}.[cS]*")
            # The flags for the C++ standard and for inline functions do not apply to C and assembly.
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
    """Compiles the stub libraries to link against; returns their paths."""
    made = []
    for name, symbols in bionic.libraries(abi.arch).items():
        source, out = pathlib.Path(directory, name).with_suffix(".c"), pathlib.Path(directory, name)
        source.write_text(bionic.stub(symbols))
        command = [*abi.compiler("cc"), "-shared", "-nostdlib", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{name}"]
        subprocess.run([*command, str(source), "-o", str(out)], check=True)
        made.append(str(out))
    return made


def build(name, output):
    """Compiles and links the library for the ABI `name`, a key of ABIS, into the folder `output`; returns its path."""
    abi = ABIS[name]
    out = pathlib.Path(output) / LIBRARY
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        version = f'-DR2B_VERSION="{build_native.version()}"'
        files = build_native.objects(abi.compiler("c++"), abi.sources, directory, [*FLAGS, version])
        files += _runtime_objects(abi, directory)
        # The stubs come before the compiler's own libc.so, which is then left out because it has the same name.
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
