"""Installs a built wheel in fresh environments, with each tested interpreter and none; runs the README's first example.

    make wheels && python tests/check_wheels.py            # this machine's wheel; downloads the interpreters (slow)
    python tests/check_wheels.py --arm64                   # also the arm64 wheel, under qemu-aarch64-static
    python tests/check_wheels.py --network FILE.tflite     # also a whole network, beside the example's small one

FILE.tflite is any model with 1-bit layers. Its outputs for a random input must agree in all environments.
(../../benchmarks/inference.py writes such files, for example ../../runs/benchmark_networks/RealToBinaryNet.tflite.)
With --arm64, the system of arm64.py is made if it is missing. The environments use the Python that R2B_CHECK_PYTHON
names, or else the Python that runs this file. check_systems.py tests other systems, without a TensorFlow Lite
interpreter.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import arm64  # noqa: E402
import build_native  # noqa: E402
from debian import run  # noqa: E402

ALONE = "none, NumPy alone"
# The first environment also writes the model, since it has TensorFlow.
ENVIRONMENTS = {
    "tensorflow 2.19.1": ["tensorflow==2.19.1"],
    "ai-edge-litert 2.3.0": ["ai-edge-litert==2.3.0"],
    ALONE: [],
    **arm64.INTERPRETERS,
}
# The kernels that an x86-64 wheel must offer besides "portable", each with the flags of /proc/cpuinfo that it needs.
X86_KERNELS = {
    "avx512": {"avx512bw", "avx512dq", "avx512f", "avx512vl", "avx512_vpopcntdq", "avx512_vnni"},
    "avx2": {"avx2", "fma"},
}

# Runs in every environment, in a folder with model.tflite and photo.jpg, after the definitions of EXPECTED, NETWORK and
# README() that `program` adds. The last line that it prints is JSON with the values to compare.
CHECK = """
import importlib.util, json, sys
if EXPECTED and EXPECTED.startswith("tensorflow"):
    import tensorflow
else:
    assert importlib.util.find_spec("tensorflow") is None, "TensorFlow is here, but must not be needed"
import numpy as np, r2b_runtime
from r2b_runtime import model_file
if EXPECTED:
    assert r2b_runtime.interpreter_version() == EXPECTED, r2b_runtime.interpreter_version()
assert "site" in r2b_runtime.__file__, r2b_runtime.__file__
README()
with open("model.tflite", "rb") as file:
    data = file.read()
stock = EXPECTED and r2b_runtime.stock_interpreter()
image = model_file.read(data).preprocessing()(r2b_runtime.classifier.read_image("photo.jpg"))[np.newaxis]
rows = []
for kernels in r2b_runtime.available_kernels():
    for threads in (1, 3):
        for make in (r2b_runtime.Interpreter,
                     lambda *args, **options: r2b_runtime.Interpreter(*args, engine="litert", **options),
                     lambda data, threads, **options: stock.Interpreter(model_content=data, num_threads=threads,
                         experimental_delegates=[r2b_runtime.load_delegate(**options)]))[: 3 if EXPECTED else 1]:
            interpreter = make(data, threads, kernels=kernels)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
            interpreter.invoke()
            rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
for row in rows:
    np.testing.assert_allclose(row, rows[0], rtol=1e-5, atol=1e-7)
def refused(kind, words, call):
    try:
        call()
    except kind as error:
        assert words in str(error), error
    else:
        raise AssertionError("not refused: " + words)
if EXPECTED:
    refused(ValueError, "unknown option 'colour'", lambda: r2b_runtime.load_delegate(colour="red"))
    refused(ValueError, "kernels 'mmx'", lambda: r2b_runtime.load_delegate(kernels="mmx"))
else:
    refused(ImportError, "needs a TensorFlow Lite interpreter", r2b_runtime.load_delegate)
    refused(ImportError, "needs a TensorFlow Lite interpreter", lambda: r2b_runtime.Interpreter(data, engine="litert"))
refused(ValueError, "kernels 'mmx'", lambda: r2b_runtime.Interpreter(data, kernels="mmx"))
refused(ValueError, "damaged or was not copied whole", lambda: r2b_runtime.Interpreter(data[: len(data) // 2]))
refused(ValueError, "carries no labels", lambda: r2b_runtime.Classifier(data[: data.index(b"PK\\3\\4")]))
network = []
if NETWORK:
    for engine in ("r2b", "litert")[: 2 if EXPECTED else 1]:
        interpreter = r2b_runtime.Interpreter(NETWORK, 2, engine=engine)
        interpreter.allocate_tensors()
        detail = interpreter.get_input_details()[0]
        x = np.random.RandomState(0).uniform(-1, 1, detail["shape"]).astype("float32")
        interpreter.set_tensor(detail["index"], x)
        interpreter.invoke()
        answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].tolist()
        assert not network or answer == network, "the engine and the delegate differ"
        network = answer
print(json.dumps({"kernels": r2b_runtime.available_kernels(), "probabilities": rows[0].tolist(), "network": network}))
"""
WRITE_MODEL = """
import sys
sys.path.insert(0, TESTS)
import small_classifier
import numpy as np
from PIL import Image
open("model.tflite", "wb").write(small_classifier.with_files(small_classifier.model()))
Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)).resize(
    (400, 300)).save("photo.jpg")
"""


def readme():
    """Returns the README's first Python example; raises `RuntimeError` if the pip line before it has changed."""
    shell, python = re.findall(
        r"```(?:sh|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )[:2]
    if not shell.startswith("pip install ./r2b_runtime-*.whl pillow"):
        raise RuntimeError(f"the README's first block is not the expected pip line: {shell!r}")
    return python


def program(name, network):
    lines = "".join(f"    {line}\n" if line else "\n" for line in readme().splitlines())
    expected = None if name == ALONE else name
    return f"EXPECTED = {expected!r}\nNETWORK = {network and str(network)!r}\ndef README():\n{lines}{CHECK}"


def write_model(python, folder):
    """Runs `python`, which must have TensorFlow and Pillow, to write model.tflite and photo.jpg into a folder."""
    run([python, "-c", f"TESTS = {str(ROOT / 'tests')!r}\n{WRITE_MODEL}"], cwd=folder)


def wheel(target):
    tag = build_native.TARGETS[target].wheel
    found = ROOT / "dist" / f"r2b_runtime-{build_native.version()}-py3-none-{tag}.whl"
    if not found.exists():
        raise RuntimeError(f"there is no {found}: make wheels")
    return found


def expected_kernels():
    """Returns the kernels that this machine's wheel must offer; None if the system does not list the CPU's flags."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    flags = set(" ".join(re.findall(r"^flags\s*: (.*)$", text, re.MULTILINE)).split())
    return [name for name, needed in X86_KERNELS.items() if needed <= flags] + ["portable"] if flags else None


def python_in(environment):
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def check_here(folder, network):
    """Yields (name, result) for every environment; the result is the JSON object that `CHECK` prints."""
    python = os.environ.get("R2B_CHECK_PYTHON", sys.executable)
    built = wheel(build_native.host())
    for name, packages in ENVIRONMENTS.items():
        environment = folder / re.sub(r"\W+", "-", name)
        run([python, "-m", "venv", environment])
        inside = python_in(environment)
        run([inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{built}[images]", *packages])
        if not (folder / "model.tflite").exists():
            write_model(inside, folder)
        (folder / "check.py").write_text(program(name, network), encoding="utf-8")
        lines = run([inside, "check.py"], cwd=folder).splitlines()
        predictions = [line for line in lines if re.fullmatch(r"\d+\.\d%  \w+", line)]
        if len(predictions) != 3:
            raise RuntimeError(f"{name}: the README's lines printed {predictions} instead of three classes")
        command = run([inside.with_name("r2b-run"), "predict", "model.tflite", "photo.jpg"], cwd=folder)
        if predictions[0].split()[1] not in command.splitlines()[-3]:
            raise RuntimeError(f"{name}: r2b-run printed {command!r}")
        yield name, json.loads(lines[-1])
        shutil.rmtree(environment)


def check_arm64(folder, network):
    """Yields (name, result) for every arm64 interpreter, under qemu. `folder` must have model.tflite and photo.jpg."""
    arm64.SYSTEM.make()
    built = wheel("linux-aarch64")
    for name, packages in arm64.INTERPRETERS.items():
        site = folder / f"arm64-{name.replace(' ', '-')}" / "site-packages"
        arm64.install(site, [f"{built}[images]", *packages])
        (folder / "check.py").write_text(program(name, network), encoding="utf-8")
        yield f"{name}, arm64", json.loads(arm64.SYSTEM.run_python(["check.py"], [site], folder).splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm64", action="store_true", help="also on Debian 12 for arm64, set up if it is missing")
    parser.add_argument("--network", type=pathlib.Path, metavar="FILE", help="a .tflite that every environment runs")
    arguments = parser.parse_args()
    network = arguments.network and arguments.network.resolve(strict=True)
    if sys.version_info[:2] not in ((3, 10), (3, 11)) and "R2B_CHECK_PYTHON" not in os.environ:
        parser.error(
            "tensorflow 2.19.1 and tflite-runtime 2.14.0 share Python 3.10 and 3.11: run this with one of them"
        )
    expected = None
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        checks = [(check_here(folder, network), expected_kernels())]
        if arguments.arm64:
            checks.append((check_arm64(folder, network), ["neon-dot", "neon", "portable"]))
        for results, kernels in checks:
            for interpreter, result in results:
                outputs = result["probabilities"] + result["network"]
                expected = expected or outputs
                worst = max(abs(a - b) for a, b in zip(expected, outputs, strict=True))
                what = f"{len(outputs)} outputs" + (f", {network.stem}'s among them," if network else "")
                print(
                    f"{interpreter}: kernels {', '.join(result['kernels'])}; {what} differ by at most {worst:.1g}",
                    flush=True,
                )
                if kernels is not None and result["kernels"] != kernels:
                    raise RuntimeError(
                        f"this CPU has the instructions for {', '.join(kernels)}, but the wheel does not offer exactly "
                        "these kernels"
                    )
                if worst > 1e-6:
                    raise RuntimeError("the interpreters disagree")


if __name__ == "__main__":
    main()
