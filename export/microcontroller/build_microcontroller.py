"""Compiles the engine for microcontrollers, and an example that runs a model on an emulated one.

    python build_microcontroller.py                         # build/libr2b.a and build/r2b.h, for a Cortex-M7
    python build_microcontroller.py MODEL.tflite IMAGE...   # build/example.elf too, for Arm's MPS2 board (AN500)
    qemu-system-arm -M mps2-an500 -nographic -semihosting-config enable=on,target=native -kernel build/example.elf

It needs Arm's GNU toolchain for C++ (Debian: apt-get install libstdc++-arm-none-eabi-newlib). `--machine` takes
the compiler's options for another processor: "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard" is a Cortex-M4F.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "runtime"))
import build_native

ROOT = pathlib.Path(__file__).resolve().parent
NATIVE = ROOT / "native"
COMPILER = "arm-none-eabi-g++"
PACKAGE = "libstdc++-arm-none-eabi-newlib"
MACHINE = "-mcpu=cortex-m7 -mfpu=fpv5-d16 -mfloat-abi=hard"
LEFT_OUT = {"delegate", "convolution"}
# -f...-sections: each function has a section of its own, so that a linker can leave out what a program does not use.
# -fno-threadsafe-statics: static variables need no guards, because there is only one thread. -Wno-psabi: GCC prints no
# notes about arguments that its versions before 7 passed differently.
COMPILE = ["-mthumb", "-Os", "-ffunction-sections", "-fdata-sections", "-fno-threadsafe-statics", "-Wno-psabi"]
DEFINES = ["-DR2B_SINGLE_THREAD", f'-DR2B_VERSION="{build_native.version()}"']
EXAMPLE = ["heap.cc", "board.cc", "embedded.S"]  # sources besides the file with main()
WATCHED = ["_malloc_r", "_calloc_r", "_memalign_r", "_realloc_r", "_free_r"]  # functions that heap.cc wraps


def missing_tools():
    """The Debian package of the compiler and its C++ library; None if both are installed."""
    if shutil.which(COMPILER) is None:
        return PACKAGE
    asked = subprocess.run([COMPILER, "-print-file-name=libstdc++.a"], capture_output=True, text=True, check=True)
    return None if pathlib.Path(asked.stdout.strip()).is_absolute() else PACKAGE


def engine_sources():
    """The names of the engine's sources where only portable kernels run. Those for AVX and NEON compile to nothing."""
    return [name for name in build_native.TARGETS["linux-riscv64"].sources if name not in LEFT_OUT]


def command(machine):
    """The command that compiles the engine for a processor; `machine` is GCC's options for it, separated by spaces."""
    flags = [flag for flag in build_native.FLAGS if flag not in ("-O3", "-fPIC")]
    return [COMPILER, *machine.split(), *COMPILE, *flags, *DEFINES]


def _compiled(machine, sources, folder):
    """Compiles the sources {path: further options} into `folder`; returns the paths of the object files."""

    def one(item):
        path, flags = item
        made = folder / f"{path.parent.name}_{path.stem}.o"
        subprocess.run([*command(machine), *flags, "-c", str(path), "-o", str(made)], check=True)
        return str(made)

    return build_native.in_parallel(one, sources.items())


def build_library(output, machine=MACHINE):
    """Writes libr2b.a and r2b.h into the folder `output`; returns the library's path."""
    library = pathlib.Path(output) / "libr2b.a"
    library.parent.mkdir(parents=True, exist_ok=True)
    library.unlink(missing_ok=True)  # or else it would keep the object files of sources that no longer exist
    with tempfile.TemporaryDirectory() as directory:
        sources = {build_native.NATIVE / f"{name}.cc": [] for name in engine_sources()}
        files = _compiled(machine, sources, pathlib.Path(directory))
        subprocess.run(["arm-none-eabi-gcc-ar", "rcsD", str(library), *files], check=True)
    shutil.copyfile(build_native.NATIVE / "r2b.h", library.with_name("r2b.h"))
    return library


def build_example(library, model, images, output, machine=MACHINE, program=NATIVE / "main.cc", more=()):
    """Compiles and links an example, which classifies images with a model.

    Args:
        library: what `build_library` made for the same processor.
        model: the bytes of a `.tflite` file with labels and preprocessing.
        images: uint8 (count, height, width, channels).
        output: the example's path.
        machine: GCC's options for the processor.
        program: the path of the source with main().
        more: further options and files for the linker.

    Returns the example's path.
    """
    output = pathlib.Path(output)
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        (folder / "model.tflite").write_bytes(model)
        (folder / "images").write_bytes(images.tobytes())
        embedded = [f'-DR2B_FILE="{folder / "model.tflite"}"', f'-DR2B_IMAGES="{folder / "images"}"']
        embedded.append(f"-DR2B_IMAGES_SHAPE={','.join(map(str, images.shape))}")
        sources = {program: ["-iquote", str(NATIVE)]}
        sources |= {NATIVE / name: embedded if name == "embedded.S" else [] for name in EXAMPLE}
        files = _compiled(machine, sources, folder)
        link = [COMPILER, *machine.split(), "-mthumb", "-nostartfiles", "-Wl,--gc-sections", "-T"]
        link += [str(NATIVE / "mps2_an500.ld"), *(f"-Wl,--wrap={name}" for name in WATCHED)]
        subprocess.run([*link, *files, *map(str, more), str(library), "-o", str(output)], check=True)
    return output


def sizes(program):
    """The sizes of a program's sections: {name: bytes}."""
    printed = subprocess.run(["arm-none-eabi-size", "-A", str(program)], capture_output=True, text=True, check=True)
    lines = [line.split() for line in printed.stdout.splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 3 and line[0].startswith(".")}


def code_bytes(program):
    """The bytes of flash that a program takes besides the model and the images."""
    parts = sizes(program)
    return sum(parts.get(name, 0) for name in (".text", ".ARM.extab", ".ARM.exidx", ".data"))


def read_images(paths):
    """Reads image files: uint8 (count, height, width, channels), with 1 channel for grey files and 3 for others.

    Raises `ValueError` if sizes or channels differ.
    """
    import numpy as np
    import PIL.Image

    arrays = []
    for path in paths:
        with PIL.Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"), np.uint8)
        arrays.append(pixels.reshape(*pixels.shape[:2], -1))
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise ValueError(f"all images must be of one size, height x width x channels; received {sorted(shapes)}")
    return np.stack(arrays)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="a .tflite file with labels and preprocessing")
    parser.add_argument("images", nargs="*", help="image files of one size")
    parser.add_argument("--output", default=ROOT / "build", type=pathlib.Path, help="folder (default: build)")
    parser.add_argument("--machine", default=MACHINE, help=f"GCC's options for the processor (default: {MACHINE})")
    parsed = parser.parse_args(arguments)
    if parsed.model and not parsed.images:
        parser.error("name the images that the example should classify, after the model")
    if missing_tools():
        parser.exit(1, f"{COMPILER} and its C++ library are missing: apt-get install {missing_tools()}\n")
    images = read_images(parsed.images) if parsed.model else None
    library = build_library(parsed.output, parsed.machine)
    print(library)
    if not parsed.model:
        return
    model = pathlib.Path(parsed.model).read_bytes()
    example = build_example(library, model, images, parsed.output / "example.elf", parsed.machine)
    static = sum(sizes(example)[name] for name in (".data", ".bss"))
    print(f"{example}: flash: {code_bytes(example):,} bytes of code, {len(model):,} of the model")
    print(f"RAM: {static:,} bytes of static data, plus heap and stack; r2b-run info --memory says how much heap")


if __name__ == "__main__":
    main()
