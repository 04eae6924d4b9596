"""Counts the vector instructions in the AArch64 kernels' inner loops, and predicts their cycles with llvm-mca.

    python benchmarks/neon_instructions.py
    python benchmarks/neon_instructions.py --native DIR    # of another version: DIR is its export/runtime/native

The loops are those of a binary convolution, of a float one (the stem), and of int8 ones with and without instructions
for dot products. Needs the ziglang package (compiler) and Debian's llvm package (llvm-objdump, llvm-mca), but no ARM
machine. Exits with status 1 if a loop has more vector instructions than its limit, or is not found in this version.
"""

import argparse
import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Loop:
    """An inner loop: where it is, and how its products are counted.

    Attributes:
        title: name of the loop in the output.
        source: the loop's source file in export/runtime/native, without ".cc".
        function: part of the name of the loop's function.
        instruction: beginning of the name of the instructions that compute products.
        products: number of products per such instruction.
        unit: the number of products for which instructions and cycles are printed.
        limit: the most vector instructions that ``unit`` products may take; None for no limit.
    """

    title: str
    source: str
    function: str
    instruction: str
    products: int
    unit: int
    limit: float | None = None

    def of_products(self, lines):
        """The number of products in one pass of the loop."""
        return self.products * sum(line.startswith(self.instruction) for line in lines)


BINARY = Loop("binary products", "kernels/neon", "BconvTile", "cnt", 128, 128, 3.4)
LOOPS = (
    BINARY,
    Loop("float products", "kernels/neon", "FconvTile", "fml", 4, 4),
    Loop("int8 products", "kernels/neon", "Convolve", "smull", 8, 64),
    Loop("int8 products, with dot products", "kernels/neon_dot", "Convolve", "sdot", 16, 64),
)
# Matches a vector register with its arrangement (v3.16b), or a scalar view of one (q0, d1) in a load.
_VECTOR = re.compile(r"\bv\d+\.|\b[qd]\d+\b")


def missing_tools():
    return [tool for tool in ("llvm-objdump", "llvm-mca") if shutil.which(tool) is None]


def inner_loops(wanted=LOOPS):
    """The instructions of each loop, as lines of assembly. If it has several instances, that with the most products."""
    target = build_native.TARGETS[TARGET]
    with tempfile.TemporaryDirectory() as directory:
        sources = {name: target.sources[name] for name in sorted({loop.source for loop in wanted})}
        objects = build_native.objects(build_native.compiler(TARGET), sources, directory)
        listings = {name: _listing(path) for name, path in zip(sources, objects, strict=True)}
    return [_largest(loop, listings[loop.source]) for loop in wanted]


def _listing(path):
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", "--mattr=+dotprod", path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout + "\n\n"


def _largest(loop, listing):
    functions = re.findall(rf"^[0-9a-f]+ <(\S*{loop.function}\S*)>:\n(.*?)\n\n", listing, re.S | re.M)
    loops = (lines for _, body in functions for lines in _loops(body))
    return max(loops, key=loop.of_products, default=[])


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


def count(lines):
    """The number of vector instructions in one pass of a loop."""
    return sum(bool(_VECTOR.search(text)) for text in lines)


def cycles(lines, processor):
    """The cycles that llvm-mca predicts for one pass of the loop."""
    command = ["llvm-mca", "-mtriple=aarch64", f"-mcpu={processor}", "-mattr=+dotprod", "-iterations=1000"]
    report = subprocess.run(command, input="\n".join(lines), check=True, capture_output=True, text=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", report)
    if total is None:
        raise RuntimeError(f"llvm-mca printed no total for {processor}:\n{report}")
    return int(total[1]) / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--native", type=pathlib.Path, help="the folder of another version's sources")
    parser.add_argument("--show", action="store_true", help="print the loops too")
    arguments = parser.parse_args()
    if missing_tools():
        sys.exit(f"{', '.join(missing_tools())} not found: apt-get install llvm")
    if arguments.native:
        flags = [
            str(arguments.native.resolve()) if flag == str(build_native.NATIVE) else flag for flag in build_native.FLAGS
        ]
        build_native.NATIVE, build_native.FLAGS = arguments.native.resolve(), flags
    known = [loop for loop in LOOPS if (build_native.NATIVE / f"{loop.source}.cc").exists()]
    failed = False
    for loop, lines in zip(known, inner_loops(known), strict=True):
        if arguments.show:
            print("\n".join(lines))
        products = loop.of_products(lines)
        if not products:
            print(f"{loop.title}: no loop")
            failed |= not arguments.native  # an earlier version may lack the loop
            continue
        units = products / loop.unit
        vectors = count(lines) / units
        limit = f" (at most {loop.limit})" if loop.limit else ""
        print(f"{loop.title}: {vectors:.3f} vector instructions for {loop.unit}{limit}; {products} in a pass")
        print(
            "    cycles by llvm-mca: "
            + ", ".join(f"{processor} {cycles(lines, processor) / units:.2f}" for processor in PROCESSORS)
        )
        failed |= bool(loop.limit) and vectors > loop.limit
    sys.exit(failed)


if __name__ == "__main__":
    main()
