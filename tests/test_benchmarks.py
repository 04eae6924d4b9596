"""The benchmarks: both sides of a comparison with Larq Zoo do the same work, and claims that do not hold are reported.

No test depends on a measured speed.
"""

import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("larq_zoo", reason="larq-zoo is not installed (pip install '.[test]' in the repository)")

from benchmarks import hide_avx512, inference, input_pipeline, networks, published, training, widths
from benchmarks.sides import Side
from tests.conftest import TEST_DATA


@pytest.mark.long
def test_training_beside_larq_zoo():
    """``measure`` exits with an error if the losses of the first batch differ by more than 1 %."""
    sides = training.measure(training.Setting(size=32, batch=8, steps=1), rounds=1, bfloat16=False)
    assert set(sides) == {"larq-zoo", "r2b_zoo"}
    assert sides["larq-zoo"]["times_larq_zoo"] == 1
    assert all(side["images_per_second"] > 0 for side in sides.values())


@pytest.mark.long
@pytest.mark.parametrize("split", input_pipeline.SPLITS)
def test_imagenet_beside_larq_zoo(split, photographs, tmp_path):
    input_pipeline.listed_often(TEST_DATA, tmp_path, batches=input_pipeline.TURN_BATCHES)
    sides = [
        Side("larq-zoo", input_pipeline.larq_zoos, str(tmp_path), split, 8, 1),
        Side("r2b_zoo", input_pipeline.ours, "imagenet", str(tmp_path), "resized_crop_flip", split, 8, 1),
    ]
    assert [side.said for side in sides] == [[8, 224, 224, 3]] * 2
    rows = input_pipeline.measure(sides, rounds=1)
    assert all(row["per_core"] > 0 for row in rows.values())


def test_later_epochs_need_a_small_sample(photographs, monkeypatch):
    monkeypatch.setattr(input_pipeline, "LATER_EPOCH_BATCHES", 1)
    monkeypatch.setattr(input_pipeline, "WARM_UP_BATCHES", 1)
    ended = CliRunner().invoke(input_pipeline.main, ["--data-dir", str(TEST_DATA), "--later-epochs"])
    assert ended.exit_code == 2
    assert "fill 1 batches, may hold at most 64 photographs; received 160. Use a smaller sample" in " ".join(
        ended.output.split()
    )


def test_every_published_accuracy_is_of_a_network_that_is_timed(tmp_path):
    known = {*networks.BINARY, *networks.LARQ_ZOO, *inference.STOCK}
    assert set(published.TOP1) <= known
    rows = {"RealToBinaryNet, runtime": 4.0, "RealToBinaryNet, LCE": 120.0, "MobileNetV2 int8": 3.5, "unknown": 1.0}
    published.plot(rows, str(tmp_path / "plot.svg"))
    drawn = (tmp_path / "plot.svg").read_text()
    assert "<!-- RealToBinaryNet -->" in drawn
    assert "<!-- MobileNetV2 int8 -->" in drawn
    assert "unknown" not in drawn


def test_a_claim_about_inference_that_does_not_hold_is_reported(capsys):
    ratios = {
        "ResNet18 int8": 0.4,
        "RealToBinaryNet, LCE": 0.03,
        inference.OURS_INT8: 1.6,
        "MobileNetV2 int8": 1.3,
        "MobileNetV2 int8, OpenVINO": 1.2,
    }
    numbers: dict[str, Any] = {
        "kernels": "avx512",
        "networks": {name: {"ratio": ratio} for name, ratio in ratios.items()},
        "floors": {inference.OURS: {"ratio": 1.3}, inference.OURS_INT8: {"ratio": 1.6}},
        "two_threads": 0.57,
    }
    assert inference._check(numbers) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("DOES NOT HOLD")]
    assert len(failed) == 1
    assert "RealToBinaryNet int8 / its floor: 1.600, at most 1.500" in failed[0]
    numbers["floors"][inference.OURS_INT8]["ratio"] = 1.4
    assert inference._check(numbers) == 0
    assert "MobileNetV2 int8, the faster of LiteRT and OpenVINO: 0.812" in capsys.readouterr().out
    # Without AVX-512 there is no claim about floors.
    numbers["floors"][inference.OURS_INT8]["ratio"] = 1.6
    assert inference._check(numbers | {"kernels": "avx2"}) == 0
    assert inference._check(numbers | {"kernels": "portable"}) == 1
    assert "there are claims for avx512 and avx2; here the best kernels are portable" in capsys.readouterr().out


def test_cpuid_is_replaced_and_nothing_else(tmp_path):
    """A program that asks the processor by CPUID no longer sees AVX-512. One byte of its library changes."""
    if platform.machine() != "x86_64" or sys.platform != "linux" or not shutil.which("objdump"):
        pytest.skip("needs Linux on x86-64, and objdump")
    source = tmp_path / "asks.cc"
    source.write_text(
        "#include <cpuid.h>\n"
        'extern "C" unsigned leaf(unsigned leaf, unsigned r) {\n'
        "    unsigned v[4];\n    __cpuid_count(leaf, 0, v[0], v[1], v[2], v[3]);\n    return v[r];\n}\n"
    )
    library, handler = tmp_path / "libasks.so", hide_avx512.compiled_handler(tmp_path)
    compiler = hide_avx512.build_native.compiler(hide_avx512.build_native.host())
    subprocess.run([*compiler, "-O2", "-g", "-fPIC", "-shared", str(source), "-o", str(library)], check=True)
    program = f"import ctypes; leaf = ctypes.CDLL({str(library)!r}).leaf; print(leaf(7, 1) & 0xffffffff, leaf(0, 0))"
    before = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    content = library.read_bytes()
    assert hide_avx512.hide_in(library) == 1
    assert sum(a != b for a, b in zip(content, library.read_bytes(), strict=True)) == 1
    preload = {**os.environ, "LD_PRELOAD": str(handler)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=preload)
    after = ran.stdout.split()
    avx512 = sum(1 << bit for bit in (16, 17, 21, 26, 27, 28, 30, 31))
    assert int(after[0]) == int(before[0]) & ~avx512
    assert after[1] == before[1]


def test_a_claim_about_widths_that_does_not_hold_is_reported(capsys):
    times = {"RealToBinaryNet cifar 16": 0.9, "RealToBinaryNet cifar 31": 1.3, "RealToBinaryNet cifar 32": 1.0}
    assert widths.check(times) == 1
    printed = capsys.readouterr().out
    assert "DOES NOT HOLD cifar stem, width 31 / next multiple of 32: 1.300, at most 1.15" in printed
    assert "holds         cifar stem, width 16 / width 31: 0.692, at most 1.05" in printed
    peers = {"RealToBinaryNet-int8 cifar 16": 0.8, "ResNet18-int8 cifar 16": 1.0}
    assert widths.check(times | {"RealToBinaryNet cifar 31": 1.0} | peers) == 0
    printed = capsys.readouterr().out
    assert "cifar stem, width 16, RealToBinaryNet / ResNet18-int8: 0.900, at most 1.00" in printed
    assert "cifar stem, width 16, RealToBinaryNet-int8 / ResNet18-int8: 0.800, at most 1.00" in printed
    for slow in ("RealToBinaryNet", "RealToBinaryNet-int8"):
        fast = {"RealToBinaryNet cifar 32": 0.5, "RealToBinaryNet-int8 cifar 32": 0.5, "ResNet18-int8 cifar 32": 2.0}
        assert widths.check(fast) == 0
        assert widths.check(fast | {f"{slow} cifar 32": 1.0}) == 1
