"""Counts the vector instructions in the AArch64 kernel's inner loop, and predicts its cycles with llvm-mca.

    python benchmarks/neon_instructions.py

Needs the ziglang package (compiler) and Debian's llvm package (llvm-objdump, llvm-mca). Works on any machine.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "export" / "runtime"))

import build_native  # noqa: E402

TARGET = "linux-aarch64"
PROCESSORS = ("cortex-a53", "cortex-a72", "cortex-a76")
LIMIT = 3.5
# Matches a vector register with its arrangement (v3.16b), or a scalar view of one (q0, d1) in a load.
_VECTOR = re.compile(r"\bv\d+\.|\b[qd]\d+\b")


def missing_tools():
    return [tool for tool in ("llvm-objdump", "llvm-mca") if shutil.which(tool) is None]


def inner_loop():
    """The instructions of the largest tile's inner loop, as assembly text."""
    with tempfile.TemporaryDirectory() as directory:
        sources = {"kernels/neon": build_native.TARGETS[TARGET].sources["kernels/neon"]}
        (obj,) = build_native.objects(build_native.compiler(TARGET), sources, directory)
        listing = subprocess.run(
            ["llvm-objdump", "-d", "--no-show-raw-insn", obj], check=True, capture_output=True, text=True
        ).stdout
    functions = re.findall(r"^[0-9a-f]+ <(\S*BconvTile\S*)>:\n(.*?)\n\n", listing + "\n\n", re.S | re.M)
    loops = [loop for _, body in functions for loop in _loops(body)]
    return max(loops, key=lambda loop: sum(" cnt" in line or line.startswith("cnt") for line in loop))


def _loops(body):
    """Innermost loops: code that ends with a jump to its own first instruction and contains no other jump."""
    lines = []
    for line in body.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s+(.*)", line)
        if match:
            lines.append((int(match[1], 16), re.sub(r"\s+", " ", match[2].split("<")[0]).strip()))
    places = {address: i for i, (address, _) in enumerate(lines)}
    for i, (_, text) in enumerate(lines):
        jump = re.match(r"b\.\w+ 0x([0-9a-f]+)|cbn?z \w+, 0x([0-9a-f]+)", text)
        if not jump:
            continue
        start = places.get(int(jump[1] or jump[2], 16))
        if start is None or start >= i:
            continue
        loop = [text for _, text in lines[start:i]]
        if not any(re.match(r"b[. ]|cbn?z|tbn?z|bl ", text) for text in loop):
            yield loop


def count(loop):
    """Returns (vector instructions, binary products) of one pass of the loop."""
    return sum(bool(_VECTOR.search(text)) for text in loop), 128 * sum(text.startswith("cnt") for text in loop)


def cycles(loop, processor):
    """The cycles that llvm-mca predicts for one pass of the loop."""
    command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={processor}", "-iterations=1000"]
    report = subprocess.run(command, input="\n".join(loop), check=True, capture_output=True, text=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", report)
    if total is None:
        raise RuntimeError(f"llvm-mca printed no total for {processor}:\n{report}")
    return int(total[1]) / 1000


def main():
    if missing_tools():
        sys.exit(f"{', '.join(missing_tools())} not found: apt-get install llvm")
    loop = inner_loop()
    vectors, products = count(loop)
    per_128 = vectors * 128 / products
    print("\n".join(loop))
    print(f"\n{vectors} vector instructions for {products} binary products: {per_128:.3f} per 128 (at most {LIMIT})")
    for processor in PROCESSORS:
        passed = cycles(loop, processor)
        print(f"{processor}: {passed:.1f} cycles a pass, {passed * 128 / products:.2f} per 128 products (llvm-mca)")
    sys.exit(per_128 > LIMIT)


if __name__ == "__main__":
    main()
