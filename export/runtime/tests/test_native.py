"""Compiles and runs the C++ tests: on this machine, under sanitizers, and on emulated ARM processors.

Further tests check the NEON kernel's inner loop, the seeds of the fuzzers and the symbols of the library.
"""

import re
import shutil
import subprocess
import sys

import build_native
import check_wheels
import pytest
import r2b_runtime

TESTS = sorted((build_native.ROOT / "tests" / "native").glob("*_test.cc"))
needs_x86 = pytest.mark.skipif(not build_native.host().endswith("x86_64"), reason="needs an x86-64 machine")


def build(compiler, target, output, flags=(), static=False):
    command = compiler or build_native.compiler(target)
    sources = {
        k: v
        for k, v in build_native.TARGETS[target].sources.items()
        if k in build_native.PLAN or k.startswith("kernels/")
    }
    sources |= {f"../tests/native/{test.stem}": ["-O1"] for test in TESTS}
    directory = output.parent / (output.name + "_objects")
    directory.mkdir()
    files = build_native.objects(command, sources, directory, flags)
    subprocess.run(
        [*command, *flags, *files, *(["-static"] if static else []), "-pthread", "-o", str(output)], check=True
    )


def run(command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    print(result.stdout, result.stderr)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_kernels(tmp_path):
    build(None, build_native.host(), tmp_path / "test")
    # On x86-64 Linux, the installed library must offer the kernels that this CPU's flags allow. The C++ program fails
    # if it lacks one of the kernels in its arguments.
    expected = check_wheels.expected_kernels() if build_native.host() == "linux-x86_64" else None
    assert expected in (None, r2b_runtime.available_kernels())
    out = run([tmp_path / "test", *r2b_runtime.available_kernels()])
    assert "0 failures" in out


@needs_x86
def test_kernels_under_sanitizers(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++: apt-get install g++")
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    build(["g++"], build_native.host(), tmp_path / "test", flags)
    assert "0 failures" in run([tmp_path / "test", *r2b_runtime.available_kernels()])


@pytest.mark.parametrize(
    ("target", "compiler", "emulator"),
    [
        ("linux-aarch64", "aarch64-linux-gnu-g++", ["qemu-aarch64-static", "-cpu", "cortex-a53"]),
        ("linux-armv7l", "arm-linux-gnueabihf-g++", ["qemu-arm-static"]),
    ],
)
def test_kernels_on_arm(tmp_path, target, compiler, emulator):
    if shutil.which(emulator[0]) is None:
        pytest.skip(f"no {emulator[0]}: apt-get install qemu-user-static")
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}: apt-get install {compiler.replace('-g++', '').join(['g++-', ''])}")
    build([compiler], target, tmp_path / "test", static=True)
    assert "0 failures" in run([*emulator, tmp_path / "test", "neon"])


def test_neon_inner_loop_keeps_to_its_limit_of_instructions():
    sys.path.insert(0, str(build_native.ROOT.parents[1] / "benchmarks"))
    neon_instructions = pytest.importorskip(
        "neon_instructions", reason="the project's benchmarks/ are not beside the runtime"
    )
    if neon_instructions.missing_tools():
        pytest.skip("no llvm-objdump or llvm-mca: apt-get install llvm")
    pytest.importorskip("ziglang", reason="ziglang is not installed: pip install ziglang")
    binary = neon_instructions.BINARY
    (lines,) = neon_instructions.inner_loops([binary])
    assert neon_instructions.count(lines) * binary.unit / binary.of_products(lines) <= binary.limit


@needs_x86
def test_fuzz_seeds(tmp_path):
    fuzz = pytest.importorskip("fuzz")
    pytest.importorskip("tensorflow")
    if shutil.which("g++") is None:
        pytest.skip("no g++: apt-get install g++")
    paths = fuzz.write_seeds(tmp_path)
    fuzz.build(["g++"], {target: tmp_path / target for target in fuzz.TARGETS}, ["-DR2B_FUZZ_REPLAY"])
    models, ran = re.search(
        r"(\d+) files read as models, (\d+) of them ran", run([tmp_path / "model", *paths])
    ).groups()
    assert int(models) == len(paths)
    assert int(ran) > len(paths) / 2  # the others are refused for their size
    drawn = [path for path in paths if path.read_bytes().startswith(b"PLAN")]
    files, ran = re.search(r"(\d+) files, (\d+) ran", run([tmp_path / "engine", *paths])).groups()
    assert int(files) == len(paths)
    assert int(ran) == len(paths) - len(drawn)  # drawn files are no models, but numbers for fuzz_model.cc


@pytest.mark.skipif(sys.platform != "linux", reason="reads an ELF file, which only Linux has")
def test_library_needs_no_tensorflow_symbols():
    if shutil.which("nm") is None:
        pytest.skip("no nm: apt-get install binutils")
    undefined = run(["nm", "-D", "--undefined-only", r2b_runtime.library_path()])
    defined = run(["nm", "-D", "--defined-only", r2b_runtime.library_path()])
    assert "tflite" not in undefined.lower()
    names = {line.split()[-1].split("@")[0] for line in defined.splitlines()}
    assert {"tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"} <= names
    assert all(name.startswith(("tflite_plugin_", "r2b_")) for name in names if name)
