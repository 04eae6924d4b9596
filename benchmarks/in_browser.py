"""Milliseconds per inference in headless Chromium: our models in r2b, others in LiteRT.js, in one page.

    npm install @litertjs/core
    python -m benchmarks.in_browser --litert node_modules/@litertjs \\
        --ours RealToBinaryNet.tflite --theirs ResNet18.tflite MobileNetV2.tflite

Each model runs in one thread. The models take turns, so that other load on the machine affects all of them alike; the
least time of each counts.
"""

import argparse
import functools
import http.server
import importlib
import json
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from r2b_runtime import web

TESTS = Path(__file__).resolve().parents[1] / "export" / "runtime" / "tests"
_PAGE = """<!DOCTYPE html><title>times</title>
<script type="importmap">{"imports": {"@litertjs/wasm-utils": "/litert/wasm-utils/dist/index.js"}}</script>
<script type="module">
import { Engine } from "/r2b/index.js";
import { loadLiteRt, loadAndCompile, Tensor } from "/litert/core/dist/index.js";

window.measure = async (ours, theirs, rounds) => {
  const runs = {};
  for (const name of ours) {
    const engine = await Engine.load(name);
    runs[name] = () => engine.invoke();
  }
  if (theirs.length) await loadLiteRt("/litert/core/wasm/", { threads: false });
  for (const name of theirs) {
    const model = await loadAndCompile(name, { accelerator: "wasm" });
    const [{ shape }] = model.getInputDetails();
    const size = Array.from(shape);
    const input = new Tensor(new Float32Array(size.reduce((a, b) => a * b)).fill(0.1), size);
    runs[name] = async () => {
      for (const result of await model.run([input])) result.delete();
    };
  }
  const least = {};
  for (let round = 0; round < rounds; ++round)
    for (const [name, run] of Object.entries(runs)) {
      const started = performance.now();
      await run();
      least[name] = Math.min(least[name] ?? Infinity, performance.now() - started);
    }
  return least;
};
</script>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def measure(ours: list[Path], theirs: list[Path], litert: Path, rounds: int) -> dict[str, float]:
    """The least time of each model in milliseconds, by file name."""
    sys.path.insert(0, str(TESTS))
    browser = importlib.import_module("browser")

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "site")
        shutil.copytree(web.FOLDER, root / "r2b")
        shutil.copytree(litert, root / "litert")
        for model in (*ours, *theirs):
            shutil.copy(model, root)
        (root / "index.html").write_text(_PAGE, encoding="utf-8")
        server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(_Quiet, directory=str(root)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with browser.Browser(Path(directory, "profile"), seconds=600) as page:
                page.open(f"http://localhost:{server.server_address[1]}/index.html")
                page.wait_for("window.measure !== undefined")
                names = [[f"/{path.name}" for path in paths] for paths in (ours, theirs)]
                found = page.evaluate(f"measure({json.dumps(names[0])}, {json.dumps(names[1])}, {rounds})")
        finally:
            server.shutdown()
    return {name[1:]: milliseconds for name, milliseconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, nargs="+", required=True, help="models for r2b")
    parser.add_argument("--theirs", type=Path, nargs="*", default=[], help="models for LiteRT.js")
    parser.add_argument("--litert", type=Path, required=True, help="the folder node_modules/@litertjs")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    times = measure(arguments.ours, arguments.theirs, arguments.litert, arguments.rounds)
    first = times[arguments.ours[0].name]
    for name, milliseconds in times.items():
        print(f"{name:40} {milliseconds:8.1f} ms {milliseconds / first:6.2f}")


if __name__ == "__main__":
    main()
