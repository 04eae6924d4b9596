"""Tables are complete at any terminal width; a stage has a progress bar in a terminal, and elsewhere is one line."""

import contextlib
import functools
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len

import r2b_zoo
from r2b_zoo import models, recipes
from r2b_zoo.data.digits import digits
from r2b_zoo.evaluation import costs
from r2b_zoo.evaluation.accuracy import Evaluation
from r2b_zoo.report.progress import StageProgress, image_progress
from r2b_zoo.report.tables import Stacked, console, evaluation_tables, point
from r2b_zoo.weights.cards import CARDS
from tests.small import shallow

fcntl = pytest.importorskip("fcntl", reason="no pseudo-terminals on this system")
import pty  # noqa: E402  isort: skip
import termios  # noqa: E402  isort: skip

WIDTHS = (60, 80, 100, 120, 200)
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[Callable[..., str]]:
    """Replaces stdin, stdout and stderr with a pseudo-terminal.

    Yields a function that restores them and returns what was printed, without escape sequences unless ``raw``.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    shown: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(ours, 4096):
                shown.append(data)

    reader = threading.Thread(target=read)
    saved = [os.dup(descriptor) for descriptor in range(3)]
    streams = sys.stdout, sys.stderr
    for descriptor in range(3):
        os.dup2(theirs, descriptor)
    os.close(theirs)
    sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
    reader.start()

    def end(raw: bool = False) -> str:
        if saved:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = streams
            for descriptor in range(3):
                os.dup2(saved[descriptor], descriptor)
                os.close(saved[descriptor])
            saved.clear()
            reader.join()
            os.close(ours)
        text = b"".join(shown).decode()
        return text if raw else _ESCAPES.sub("", text)

    try:
        yield end
    finally:
        end()


@pytest.fixture(autouse=True)
def _no_width_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def assert_whole(text: str, columns: int, words: "list[str] | tuple[str, ...]") -> None:
    lines = text.replace("\r", "").splitlines()
    assert max(map(cell_len, lines)) <= columns
    for word in words:
        assert word in text
    assert "…" not in text


@pytest.fixture
def r2b_in_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    from r2b_zoo import cli

    # Each network is built, and its cost counted, only once for all widths of the terminal.
    monkeypatch.setattr(models, "create", functools.cache(models.create))
    monkeypatch.setattr(costs, "cost", functools.cache(costs.cost))

    def run(columns: int, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["r2b", *words])
        with terminal(columns) as end:
            with pytest.raises(SystemExit) as ended:
                cli.main()
            text = end()
        assert ended.value.code == 0, text
        return text

    return run


def test_cost_shows_every_name_and_number(r2b_in_terminal: Callable[..., str]) -> None:
    small = ["--input-size", "32", "--stem", "cifar", "--num-classes", "10", "--width", "8"]
    for columns in WIDTHS:
        text = r2b_in_terminal(columns, "cost", "RealToBinaryNet", "--downsample", "real")
        assert_whole(text, columns, ["RealToBinaryNet", "11,995,624", "1,676,279,808", "binary operations"])
        with shallow():
            assert_whole(r2b_in_terminal(columns, "cost", *small), columns, r2b_zoo.list_models())


@pytest.mark.slow
def test_cost_shows_every_network_at_full_size(r2b_in_terminal: Callable[..., str]) -> None:
    for columns in WIDTHS:
        text = r2b_in_terminal(columns, "cost")
        assert_whole(text, columns, [*r2b_zoo.list_models(), "11,995,624", "1,676,279,808"])


def test_list_shows_every_name(r2b_in_terminal: Callable[..., str]) -> None:
    for columns in WIDTHS:
        text = r2b_in_terminal(columns, "list")
        assert_whole(text, columns, [*CARDS, "65.4 %", "Apache-2.0", *recipes.list_recipes()])
        assert_whole(r2b_in_terminal(columns, "list", "RealToBinaryNet"), columns, ["11,995,624", "Apache-2.0"])


@pytest.mark.parametrize("columns", WIDTHS)
def test_evaluation_shows_every_class_and_number(columns: int) -> None:
    names = ["apple", "a class of a name of many words, and then some more of them", "Wolpertinger" * 2]
    dataset = replace(digits(), class_names=tuple(names))
    result = Evaluation(np.array([[1_234_567, 89_012, 0], [4, 5, 6], [7, 8, 90_000]]), 1_000_000)
    with terminal(columns) as end:
        out = console()
        for part in evaluation_tables("net", dataset, result, out.width):
            out.print(part)
        text = end()
    assert_whole(text, columns, ["apple", "Wolpertinger" * 2, "1,323,579", "100.0 %", "93.3 %", "precision", "recall"])
    assert all(word in text for word in names[1].split())


def test_names_from_files_move_no_cursor() -> None:
    attack = "\r  99.99 %  all good\x1b[2J\x1b]0;title\x07"
    dataset = replace(digits(), class_names=("apple", attack))
    with terminal(80) as end:
        out = console()
        for part in evaluation_tables(attack, dataset, Evaluation(np.array([[1, 2], [3, 4]]), 10), out.width):
            out.print(part)
        out.print(point(attack))
        text = end(raw=True)
    assert text.count(r"\x1b]0;title\x07") >= 3
    assert "\r " not in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text


@pytest.mark.parametrize("columns", [20, 39, *WIDTHS])
def test_no_cell_is_lost_at_any_width(columns: int) -> None:
    headings = [("name", "left"), *((f"number {i}", "right") for i in range(9)), ("text", "left")]
    table = Stacked("A title of some words", headings, caption="And a caption, which has some more of them.")
    for row in "abc":
        table.add_row(f"row-{row}", *(f"{row}{10**i:,}" for i in range(9)), f"some words of {row}")
    with terminal(columns) as end:
        console().print(table)
        text = end()
    assert_whole(text, columns, [f"{row}{10**i:,}" for row in "abc" for i in range(9)])
    assert text.count("row-a") == text.count("row-c") >= 1
    words = " ".join(text.split())
    assert all(f"number {i}" in words or f"number{i}" in words.replace(" ", "") for i in range(9))


def test_a_stage_is_one_line_where_there_is_no_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", open(1, "w", closefd=False))  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", open(2, "w", closefd=False))  # noqa: SIM115
    run_a_stage()
    sys.stdout.flush()
    sys.stderr.flush()
    captured = capfd.readouterr()
    assert captured.err == ""
    assert len(captured.out.splitlines()) == 1
    assert "binary" in captured.out


def test_a_stage_has_a_bar_in_a_terminal() -> None:
    with terminal(100) as end:
        run_a_stage()
        text = end()
    assert "epoch 1/" in text
    assert "Evaluating" in text


def run_a_stage() -> None:
    stage = recipes.plan("digits").stages[-1]
    progress = StageProgress(stage, console())
    progress.set_params({"steps": 20})
    progress.on_train_begin()
    progress.on_epoch_begin(0)
    for step in range(20):
        progress.on_train_batch_end(step, {"images_per_second": 100.0})
    progress.on_epoch_end(0, {"loss": 1.0, "val_accuracy": 0.5})
    progress.on_train_end({"val_accuracy": 0.5})
    with image_progress("Evaluating", 10) as advance:
        for _ in range(10):
            advance(1)
