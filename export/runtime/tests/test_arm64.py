"""Tests a whole network on an emulated arm64 processor, in the engine and in stock interpreters with the delegate."""

import json
import shutil
import sys

import arm64
import build_native
import numpy as np
import pytest
from conftest import run, run_lce

PROGRAM = """
import json
import numpy as np
import r2b_runtime

x = np.load("x.npy")
rows = {}
for kernels in r2b_runtime.available_kernels():
    for threads in (1, 2):
        for engine in ("litert", "r2b"):
            interpreter = r2b_runtime.Interpreter("network.tflite", threads, kernels=kernels, engine=engine)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
            interpreter.invoke()
            answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
            rows[f"{kernels}, {threads}, {engine}"] = answer.tolist()
print(json.dumps([r2b_runtime.interpreter_version(), rows]))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder that contains r2b_runtime, compiled for arm64 as for a wheel."""
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("no qemu-aarch64-static: apt-get install qemu-user-static")
    if not arm64.exists():
        pytest.skip(f"no arm64 machine in {arm64.SYSTEM.folder}: make arm64 (needs apt-get install debootstrap)")
    pytest.importorskip("ziglang", reason="pip install ziglang")
    folder = tmp_path_factory.mktemp("arm64")
    sources = build_native.ROOT / "src" / "r2b_runtime"
    shutil.copytree(sources, folder / "r2b_runtime", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    build_native.build("linux-aarch64", folder / "r2b_runtime", distributable=True)
    return folder


@pytest.fixture(scope="module")
def network():
    """The bytes of RealToBinaryNet's `.tflite` file, and an input for it, float32 (1, 96, 96, 3)."""
    pytest.importorskip("r2b_zoo", reason="the zoo is not installed beside the runtime: pip install ../..")
    pytest.importorskip("larq_compute_engine")
    converter = pytest.importorskip("r2b_zoo.conversion.converter")
    sys.path.insert(0, str(build_native.ROOT.parents[1] / "benchmarks"))
    agreement = pytest.importorskip("agreement", reason="the project's benchmarks/ are not beside the runtime")
    x = np.random.default_rng(0).uniform(-1, 1, (8, 96, 96, 3)).astype(np.float32)
    made = agreement.logits_network("RealToBinaryNet", x, input_shape=(96, 96, 3), num_classes=100)
    return converter.lce_file(made), x[:1]


@pytest.mark.parametrize("interpreter", arm64.INTERPRETERS)
def test_whole_network(package, network, tmp_path, interpreter):
    model, x = network
    (tmp_path / "network.tflite").write_bytes(model)
    np.save(tmp_path / "x.npy", x)
    paths = [package, arm64.site(interpreter)]
    printed = arm64.SYSTEM.run_python(["-c", PROGRAM], paths, tmp_path)
    version, rows = json.loads(printed.splitlines()[-1])
    assert version == interpreter
    kernels = {name.split(",")[0] for name in rows}
    assert kernels == {"neon-dot", "neon", "portable"}
    here, lce = run(model, [x])[0][0], run_lce(model, [x])[0][0]
    for name in kernels:
        assert rows[f"{name}, 1, litert"] == rows[f"{name}, 2, r2b"]
    for row in rows.values():
        assert np.corrcoef(row, lce)[0, 1] > 0.9995
        assert np.argmax(row) == np.argmax(here) == np.argmax(lce)
