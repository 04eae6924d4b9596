"""Lets tests control a headless Chromium through a pipe, with the Chrome DevTools Protocol."""

import itertools
import json
import os
import shutil
import subprocess
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's sandbox does not run as root, the usual user in containers
    "--disable-gpu",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-pipe",
)


class Browser:
    """A browser process with one page.

    Args:
        profile: folder of the browser's profile.
        seconds: time limit for each command and each `wait_for`, which then raise `AssertionError`.

    Attributes:
        events: the events that the browser has reported so far, as (method, parameters).
    """

    def __init__(self, profile, seconds=60):
        self._numbers, self._seconds, self._session = itertools.count(1), seconds, None
        self._left = b""
        self.events = []
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()

        def places():  # the browser reads commands from file descriptor 3 and writes answers to 4
            copies = os.dup(theirs_in), os.dup(theirs_out)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=places,
            close_fds=False,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        os.set_blocking(self._in, False)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._out)  # the browser ends when this pipe closes
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def send(self, method, **parameters):
        """Sends a command and returns its result; appends events that arrive before the result to `events`."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + self._seconds
        while True:
            answer = self._message(until, method)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append((answer.get("method"), answer.get("params")))

    def _message(self, until, method):
        while b"\0" not in self._left:
            assert time.monotonic() < until, f"the browser did not answer {method} within {self._seconds} s"
            try:
                part = os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            assert part, "the browser ended"
            self._left += part
        message, self._left = self._left.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, expression):
        """Returns the value of a JavaScript expression; awaits it first if it is a promise."""
        found = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression):
        """Waits until a JavaScript expression is true; returns its value."""
        until = time.monotonic() + self._seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < until, f"never true: {expression}; the page says {self.text()}"
            time.sleep(0.05)
        return value

    def text(self):
        return self.evaluate("document.body.innerText")

    def open(self, url):
        self.send("Page.navigate", url=url)
        self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def size(self, width, height, dark=False):
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def mouse(self, kind, x, y):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def faults(self):
        """Returns uncaught exceptions, logged errors and URLs that were requested from a network, in one list.

        A page must cause none of them.
        """
        found = []
        for method, parameters in self.events:
            if method == "Runtime.exceptionThrown":
                found.append(parameters["exceptionDetails"])
            elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
                found.append(parameters["entry"])
            elif method == "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:", "about:")):
                    found.append(url)
        return found
