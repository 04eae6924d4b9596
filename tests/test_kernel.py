"""Tests use in Jupyter: the stop button, running the same cell again, and a converter that crashes.

Each test starts a kernel in a separate process and sends it messages as a notebook does.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

manager = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

LONGEST_CELL = 300
"""Timeout of a cell in seconds; long, because the machine may be busy."""
TRAIN = """
import r2b_zoo

train = r2b_zoo.train  # loads TensorFlow
from r2b_zoo.models import topology

overrides = {{
    "width": 8,
    "progressive": False,
    "attention_matching": False,
    "output_matching": False,
    "teacher.skip": True,
    "binary_activations.skip": True,
    "binary.epochs": 20,
}}
with topology._depth(1, 1):  # two blocks, which compile in less time
    run = train("digits", output={output!r}, **overrides)
    weights = run.networks["binary"].get_weights()
"""


class Kernel:
    """A running kernel, and the client that sends it cells."""

    def __init__(self, started: Any, client: Any) -> None:
        self._started = started
        self._client = client

    def interrupt(self) -> None:
        """Interrupts the kernel, as the stop button does."""
        self._started.interrupt_kernel()

    def run(self, code: str, seen: Callable[[str], None] = lambda html: None) -> tuple[dict[str, Any], str]:
        """Runs a cell.

        Args:
            code: the cell's Python code.
            seen: called during the cell with the HTML of each message; "" for a message without HTML.

        Returns:
            The content of the kernel's reply, and the text that the cell printed.
        """
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                printed.append(content["text"])
            seen(content.get("data", {}).get("text/html", ""))

        reply = self._client.execute_interactive(code, output_hook=hear, allow_stdin=False, timeout=LONGEST_CELL)
        return reply["content"], "".join(printed)


@contextlib.contextmanager
def kernel(folder: Any) -> Iterator[Kernel]:
    started = manager.KernelManager()
    # Start the interpreter that runs these tests, whichever kernels are installed.
    started.kernel_spec.argv[0] = sys.executable
    started.start_kernel(cwd=str(folder))
    client = started.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=LONGEST_CELL)
        yield Kernel(started, client)
    finally:
        client.stop_channels()
        started.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_stopped_and_resumed_cell_gives_the_weights_of_a_whole_run(tmp_path):
    with kernel(tmp_path) as jupyter:
        presses: list[str] = []

        def stop_in_the_second_epoch(html: str) -> None:
            if "epoch 2/20" in html and not presses:
                presses.append(html)
                jupyter.interrupt()

        reply, _ = jupyter.run(TRAIN.format(output="stopped"), stop_in_the_second_epoch)
        assert presses
        assert reply["status"] == "error"
        assert reply["ename"] == "TrainingStopped"
        assert not (tmp_path / "stopped/results.json").exists()

        resumed: list[str] = []
        reply, _ = jupyter.run(TRAIN.format(output="stopped"), resumed.append)
        assert reply["status"] == "ok"
        assert not any("epoch 1/20" in html for html in resumed), "training began anew instead of resuming"
        reply, _ = jupyter.run("resumed = weights")
        assert reply["status"] == "ok"

        reply, _ = jupyter.run(TRAIN.format(output="whole"))
        assert reply["status"] == "ok"
        reply, printed = jupyter.run(
            "equal = [a.tobytes() == b.tobytes() for a, b in zip(weights, resumed)].count(True)\n"
            "print(len(weights), len(resumed), equal)"
        )
        assert reply["status"] == "ok"
        whole, after_stop, equal = map(int, printed.split())
        assert whole == after_stop == equal > 0


def run_until_the_converter_fails(jupyter: Kernel, code: str, why: str) -> str:
    """Runs code that must raise a ConversionError containing ``why``; checks that the kernel keeps its variables.

    Returns:
        The text that the code printed.
    """
    reply, printed = jupyter.run(f"before = 6\n{code}")
    assert (reply["status"], reply["ename"]) == ("error", "ConversionError")
    assert why in reply["evalue"]
    reply, answer = jupyter.run("print(before * 7)")
    assert (reply["status"], answer) == ("ok", "42\n")
    return printed


def test_a_kernel_outlives_a_converter_that_crashes(tmp_path):
    """LCE 0.16 crashes on a constant without elements, because it reads past the constant's end.

    The cell must print nothing, because r2b_zoo hides TensorFlow's messages in a notebook.
    """
    with kernel(tmp_path) as jupyter:
        printed = run_until_the_converter_fails(
            jupyter,
            "import r2b_zoo\n"
            "import tensorflow as tf\n"
            "empty = tf.keras.layers.Lambda(lambda x: tf.reshape(x, [1, 2, 4])[:, :0])\n"
            "network = tf.keras.Sequential([tf.keras.Input((8,), batch_size=1), empty])\n"
            "r2b_zoo.convert(network)",
            "crashed (SIGSEGV)",
        )
        assert printed == ""


@pytest.mark.long
def test_a_kernel_outlives_dorefanet_of_larq_zoo(tmp_path):
    """LCE 0.16 crashes on this network once the statistics of its batch norms differ from the initial ones."""
    with kernel(tmp_path) as jupyter:
        run_until_the_converter_fails(
            jupyter,
            "import r2b_zoo\n"
            "import larq_zoo\n"
            "import numpy as np\n"
            "network = larq_zoo.literature.DoReFaNet(weights=None)\n"
            "rng = np.random.default_rng(0)\n"
            "for layer in network.layers:\n"
            "    if 'moving_variance' in ' '.join(weight.name for weight in layer.weights):\n"
            "        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])\n"
            "r2b_zoo.convert(network)",
            "cannot convert dorefanet",
        )
