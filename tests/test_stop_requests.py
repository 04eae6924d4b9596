"""Signals that ask a process to stop are noted, even if its terminal was closed; ignored signals stay ignored."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from r2b_zoo.system.stop_requests import stop_requests

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers():
    """Gives SIGHUP its default handler before each test, and restores all handlers after the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_request_is_noted_and_the_handlers_come_back(number):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests() as stop:
        assert stop.received == 0
        send(number)
        assert stop.received == number
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), stop_requests():  # noqa: PT012 - only the second signal raises
        send(signal.SIGINT)
        send(signal.SIGINT)


def test_several_hangups_with_a_sigterm_among_them_interrupt_nothing():
    """A terminal that is closed sends several SIGHUPs; a login session that ends also sends SIGTERM."""
    with stop_requests() as stop:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            send(number)
    assert stop.received == signal.SIGHUP
    send(signal.SIGHUP)  # a late SIGHUP does not end the process either, so that it can report what it saved


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_ignored(number):
    """nohup starts a process that ignores SIGHUP, and a script's background processes ignore SIGINT."""
    signal.signal(number, signal.SIG_IGN)
    with stop_requests() as stop:
        send(number)
    assert stop.received == 0
    assert signal.getsignal(number) == signal.SIG_IGN


def test_another_thread_leaves_the_handlers_alone():
    before = [signal.getsignal(number) for number in SIGNALS]
    during: list[Any] = []

    def in_thread():
        with stop_requests():
            during.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert during == before


PRINTS_UNTIL_IT_IS_TOLD_TO_STOP = """
import sys, time
from pathlib import Path
from typing import Any
from r2b_zoo.system.stop_requests import stop_requests

with stop_requests() as stop:
    while not stop.received:
        print("training", flush=True)
        time.sleep(0.01)
    print("saving", flush=True)
    Path(sys.argv[1]).write_text(str(stop.received))
    print("stopped", file=sys.stderr, flush=True)
"""


def test_a_process_whose_terminal_is_closed_saves(tmp_path):
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    saved = tmp_path / "saved"
    process, terminal = pty.fork()
    if process == 0:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        os.execve(sys.executable, [sys.executable, "-c", PRINTS_UNTIL_IT_IS_TOLD_TO_STOP, str(saved)], environment)
    assert b"training" in os.read(terminal, 1000)
    os.close(terminal)
    end = time.monotonic() + 60
    while (found := os.waitpid(process, os.WNOHANG))[0] == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(found[1]) == 0
    assert saved.read_text() == str(int(signal.SIGHUP))


def test_under_nohup_a_hangup_ends_nothing(tmp_path):
    saved = tmp_path / "saved"
    command = [sys.executable, "-c", PRINTS_UNTIL_IT_IS_TOLD_TO_STOP, str(saved)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(["nohup", *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"training\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == b"training\n"
        assert not saved.exists()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert saved.read_text() == str(int(signal.SIGTERM))
