"""Runs random_graphs.py on some graphs, and tests that it finds wrong answers, crashes and hangs."""

import os
import re
import signal

import pytest

pytest.importorskip("larq_compute_engine")
if not hasattr(os, "fork"):
    pytest.skip("graphs run in processes made by fork(), which this system does not have", allow_module_level=True)

import drawn_graphs
import numpy as np
import random_graphs
import tested

PINNED = pytest.param(
    ["--pinned"],
    id="on one core",
    marks=pytest.mark.skipif(
        not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a core"
    ),
)
PLACES = pytest.mark.parametrize("place", [pytest.param([], id="free"), PINNED])


def summary(capsys):
    """Returns ([graphs that ran, graphs compared with LCE, graphs with findings], printed text)."""
    text = capsys.readouterr().out
    print(text)
    counts = re.search(r"(\d+) graphs of .*, (\d+) of them compared with LCE, (\d+) with findings", text)
    return [int(number) for number in counts.groups()], text


@PLACES
def test_a_few_graphs(place, capsys):
    random_graphs.main(["--count", "50", "--first", "50" if place else "0", "--runs", "2", *place])
    (graphs, compared, found), text = summary(capsys)
    assert (graphs, found) == (50, 0), text
    assert compared >= 45


@pytest.mark.slow
@PLACES
def test_many_graphs(place, capsys):
    # In 60 seconds, two idle cores check some hundreds of graphs. The seed is printed, so a failure can be repeated.
    random_graphs.main(["--count", "2000", "--seed", "fresh", "--runs", "3", "--seconds", "60", *place])
    (graphs, compared, found), text = summary(capsys)
    assert found == 0, text
    assert compared > 0.9 * graphs


def test_every_operator_is_drawn():
    names = {name for number in range(100) for name in drawn_graphs.draw([0, number]).operators}
    binary = {f"LceBconv2d to {output}" for output in ("float32", "int8", "bits")}
    # ROUND is not drawn, because near a half even the smallest difference in its input can change its output by 1.
    drawn = set(tested.FLOAT_OPERATORS) - {"ROUND"}
    assert names == {*drawn, *binary, "LceQuantize", "LceDequantize", "LceBMaxPool2d"}


def test_the_same_seed_draws_the_same_graph():
    first, again, other = (drawn_graphs.draw(seed) for seed in ([3, 4], [3, 4], [3, 5]))
    assert first.model == again.model
    assert first.model != other.model


def test_a_wrong_answer_is_found(monkeypatch, capsys):
    class Wrong(random_graphs.Runs):
        def __init__(self, model, kernels, threads):
            super().__init__(model, kernels, threads)
            self._wrong = threads == 3

        def __call__(self, x):
            first, *others = super().__call__(x)
            return [np.nextafter(first, np.float32(9)) if self._wrong else first, *others]

    monkeypatch.setattr(random_graphs, "Runs", Wrong)
    number = next(n for n in range(100) if drawn_graphs.draw([0, n]).operators[-1] in ("ADD", "SOFTMAX"))
    assert random_graphs.main(["--first", str(number), "--count", "1", "--runs", "1"]) == 1
    (_, _, found), text = summary(capsys)
    assert found == 1
    assert re.search(r"3 threads: 2 of 2 runs give other results than the first run in one thread, by up to \d", text)
    assert f"--seed 0 --first {number} --count 1" in text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "the process ended with status -11"),
        (lambda: signal.pause(), "no answer within 1 s"),
    ],
    ids=["crash", "hang"],
)
def test_crashes_and_hangs_are_found(monkeypatch, capsys, fault, message):
    def check(seed, number, *_):
        if number == 1:
            fault()
        return random_graphs.Checked(number, True, ["ADD"], [])

    monkeypatch.setattr(random_graphs, "check", check)
    monkeypatch.setattr(random_graphs, "LONGEST", 1.0)
    assert random_graphs.main(["--count", "3"]) == 1
    (graphs, compared, found), text = summary(capsys)
    assert (graphs, compared, found) == (3, 2, 1)
    assert "graph 1," in text
    assert message in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "old"], "--seed must be a number or `fresh`, received 'old'"),
        (["--first", "-1"], "--seed and --first must be 0 or more"),
        (["--kernels", "none"], "--kernels must be among .*portable, received none"),
    ],
)
def test_wrong_command_line_arguments_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        random_graphs.parse(words)
    assert re.search(message, capsys.readouterr().err)
