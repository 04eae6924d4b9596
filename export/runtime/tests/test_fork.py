"""Tests multi-threaded interpreters and convolvers in forked processes, which have none of the parent's threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_networks import half_blocks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")

# These programs do not import TensorFlow, because the tests are not about what a fork() does to its threads.
BEGIN = """
import gc, os, sys, threading
import numpy as np
import r2b_runtime

def in_a_child(work):
    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
INTERPRETER = """
interpreter = r2b_runtime.Interpreter(sys.argv[1], num_threads=2, engine=ENGINE)
interpreter.allocate_tensors()
x = np.random.default_rng(0).uniform(-1, 1, interpreter.get_input_details()[0]["shape"]).astype(np.float32)

def answer():
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).tobytes()
"""
CONVOLVER = """
convolver = r2b_runtime.Convolver(num_threads=2)
rng = np.random.default_rng(0)
x, kernel = (rng.normal(size=size).astype(np.float32) for size in [(2, 14, 14, 64), (3, 3, 64, 64)])

def answer():
    return convolver(x, kernel).tobytes()
"""
ENGINES = {engine: INTERPRETER.replace("ENGINE", repr(engine)) for engine in ("r2b", "litert")}
TEAMS = pytest.mark.parametrize("team", [*ENGINES.values(), CONVOLVER], ids=[*ENGINES, "convolver"])


def run(tmp_path, team, then):
    (tmp_path / "model.tflite").write_bytes(half_blocks(np.random.default_rng(0)))
    result = subprocess.run(
        [sys.executable, "-c", BEGIN + team + then, str(tmp_path / "model.tflite")],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr


@TEAMS
@pytest.mark.parametrize("used", [True, False], ids=["used before", "not used before"])
def test_children_and_grandchildren_compute_equal_outputs(tmp_path, team, used):
    run(tmp_path, team, f"before = answer() if {used} else None\nshared = sys.argv[1] + '.answer'\n" + """
def work():
    ours = answer(), answer()
    with open(shared, "wb") as file:
        file.write(ours[0])
    child = os.fork()  # a grandchild
    if child == 0:
        os._exit(answer() != ours[0])
    return ours[0] == ours[1] and os.waitpid(child, 0)[1] == 0

def of_child():
    in_a_child(work)
    with open(shared, "rb") as file:
        return file.read()

first, second = of_child(), of_child()
assert first == second == answer() == (before or first)  # the parent's threads still work
""")  # fmt: skip


@TEAMS
def test_child_may_delete_its_copy_or_exit(tmp_path, team):
    name = "convolver" if team is CONVOLVER else "interpreter"
    run(tmp_path, team, f"answer()\nname = {name!r}\n" + """
def work():
    del globals()[name]
    gc.collect()
    return True

in_a_child(work)
child = os.fork()
if child == 0:
    sys.exit(0)  # runs everything that Python does at exit
assert os.waitpid(child, 0)[1] == 0
""")  # fmt: skip


def test_child_works_if_forked_while_another_thread_computes(tmp_path):
    # At a fork, the other thread usually holds the convolver's lock, and perhaps the locks of the convolver's threads.
    # Interpreters are not tested, because only one thread at a time may use them.
    run(tmp_path, CONVOLVER, """
expected = answer()
done = threading.Event()

def keep_busy():
    while not done.is_set():
        answer()

threading.Thread(target=keep_busy, daemon=True).start()
for _ in range(20):
    in_a_child(lambda: answer() == expected)
done.set()
""")  # fmt: skip
