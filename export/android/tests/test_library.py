"""The native libraries for Android: what they need from the system, and their outputs with another C library."""

import dataclasses
import shutil

import build_aar
import build_library
import elf
import musl
import numpy as np
import pytest
import r2b_runtime
import small_classifier
from conftest import ROOT, run

# Each library is compiled first, which takes about a minute on two cores. Those for 32-bit phones and for Android's
# emulator on a PC (x86_64) are tested only before releases.
ABIS = [
    pytest.param(abi, marks=[pytest.mark.slow, *([pytest.mark.long] if abi != "arm64-v8a" else [])])
    for abi in build_library.ABIS
]
QEMU = {"arm64-v8a": ["qemu-aarch64-static", "cortex-a53"], "armeabi-v7a": ["qemu-arm-static", "cortex-a7"]}


@pytest.fixture(scope="session", params=ABIS)
def library(request, tmp_path_factory):
    """The name of an ABI, and the path of the library that was compiled for it."""
    pytest.importorskip("ziglang", reason="pip install ziglang")
    if shutil.which("javac") is None:
        pytest.skip("no javac: apt-get install default-jdk-headless")
    return request.param, build_library.build(request.param, tmp_path_factory.mktemp(request.param))


def test_library_keeps_the_rules_for_android_and_is_small(library):
    """The library keeps the rules that build_aar.py checks; no phone loads it here."""
    abi, path = library
    read = elf.Library(path)
    assert build_aar.library_faults(read, abi) == []
    assert set(read.needed) <= {"libc.so", "libm.so", "libdl.so"}
    assert "__errno" in read.undefined
    assert path.stat().st_size < 1_300_000


@pytest.fixture
def host(library, tmp_path):
    """A function that runs tests/native/host.c with the library, under musl, and returns the lines that it prints."""
    abi, path = library
    loader = musl.loader(abi)
    if loader is None:
        pytest.skip(f"no musl in {musl.FOLDER}: make -C export/android musl")
    emulator, cpu = QEMU.get(abi, (None, None))
    if emulator and shutil.which(emulator) is None:
        pytest.skip(f"no {emulator}: apt-get install qemu-user-static")
    # On 32-bit ARM, compile host.c to pass floats in general registers, as Android does.
    spec = dataclasses.replace(build_library.ABIS[abi], zig=build_library.ABIS[abi].zig.replace("eabihf", "eabi"))
    command = [*spec.compiler("cc"), "-dynamic", "-O1", "-Wall", "-Werror", "-rdynamic"]
    headers = ROOT.parent / "runtime" / "native"
    run([*command, "-iquote", headers, ROOT / "tests" / "native" / "host.c", "-o", tmp_path / "host"])

    def started(*arguments, cpu=cpu):
        machine = [emulator, "-cpu", cpu] if emulator else []
        return run([*machine, loader, tmp_path / "host", path, *arguments]).splitlines()

    return started


def python_s(model, x, kernels):
    """The outputs of Python's engine for the input `x` and for host.c's image, in hexadecimal as host.c prints them."""
    interpreter = r2b_runtime.Interpreter(model, engine="r2b", kernels=kernels)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    image = (np.arange(600) ** 2 // 7).astype(np.uint8).reshape(30, 20)
    rows = [
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]),
        r2b_runtime.Classifier(model, engine="r2b", kernels=kernels).probabilities(image),
    ]
    return [row.tobytes().hex() for row in rows]


def test_library_gives_pythons_outputs_under_another_c_library(library, host, tmp_path):
    model = small_classifier.with_files(small_classifier.model())
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    (tmp_path / "model.tflite").write_bytes(model)
    x.tofile(tmp_path / "x")
    arguments = [tmp_path / "model.tflite", tmp_path / "x"]
    ran = host(*arguments, "portable", 1)[0].split(",")
    assert "portable" in ran
    assert "neon" in ran or library[0] == "x86_64"
    for kernels in ran:
        # These kernels use a fused multiply-add, which rounds once instead of twice. Their outputs are compared with
        # those of this machine's best kernels, which use it too.
        fused = kernels in ("avx2", "avx512") or (kernels == "neon" and library[0] == "arm64-v8a")
        same = r2b_runtime.available_kernels()[0] if fused else "portable"
        if fused and same == "portable":
            continue  # this machine has no kernels with a fused multiply-add
        for threads in (1, 2):
            _, *rows, label, damaged, missing, freed = host(*arguments, kernels, threads)
            assert rows == python_s(model, x, same), (kernels, threads)
            assert label == "zero"
            assert "the file is damaged" in damaged
            assert missing == "cannot read /nowhere: No such file or directory"
            assert freed == "this is not an engine, or the engine has been freed"


def test_arm_without_fused_multiply_add_gives_the_portable_outputs(library, host, tmp_path):
    if library[0] != "armeabi-v7a":
        pytest.skip("this test is for 32-bit ARM, some of whose processors have no fused multiply-add")
    model = small_classifier.with_files(small_classifier.model())
    (tmp_path / "model.tflite").write_bytes(model)
    x = np.ones((1, 8, 8, 1), np.float32)
    x.tofile(tmp_path / "x")
    printed = host(tmp_path / "model.tflite", tmp_path / "x", "neon", 1, cpu="cortex-a9")
    assert printed[1:3] == python_s(model, x, "portable")
