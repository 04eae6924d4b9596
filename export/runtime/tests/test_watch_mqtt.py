"""Tests what a subscriber and Home Assistant see of `r2b-run watch --mqtt`, with a real broker."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")
pytest.importorskip("PIL", reason="JPEG images are made with Pillow: pip install pillow")
pytest.importorskip("paho.mqtt.client", reason="publishing needs paho-mqtt: pip install paho-mqtt")

import shades
from r2b_runtime.watch.mqtt import Account, Broker, read_password, sensors
from r2b_runtime.watch.outputs import Event

PATIENCE = 60
needs_mosquitto = pytest.mark.skipif(
    not all(map(shutil.which, ("mosquitto", "mosquitto_sub", "mosquitto_passwd"))),
    reason="the broker is mosquitto: apt-get install mosquitto mosquitto-clients",
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def broker(folder, port, lines="allow_anonymous true"):
    """Runs a broker that listens on a port of this computer; `lines` are added to its configuration."""
    (folder / "mosquitto.conf").write_text(f"user root\nlistener {port} 127.0.0.1\n{lines}\n")
    process = subprocess.Popen(
        ["mosquitto", "-c", folder / "mosquitto.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.stdout.read().decode()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Subscriber:
    """A subscriber to all topics, which receives each message's retained flag, topic and text."""

    def __init__(self, port, *options):
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", "#", "-F", "%r %t %p", *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._timer = threading.Timer(PATIENCE, self.process.kill)
        self._timer.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._timer.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def until(self, topic, text):
        """Reads until a message at `topic` matches the pattern `text`; returns its retained flag and its text."""
        seen = []
        for line in self.process.stdout:
            retained, found, payload = line.rstrip("\n").split(" ", 2)
            seen.append((found, payload))
            if found == topic and re.search(text, payload):
                return retained == "1", payload
        raise AssertionError(f"no message {text!r} at {topic}, but {seen}")


class Camera:
    """A program that writes frames of one shade into a named pipe at a camera's rate until it is killed.

    It is ffmpeg, or a shell loop where ffmpeg is missing.
    """

    def __init__(self, pipe, shade):
        frame = pipe.with_name(f"{shade}.jpg")
        frame.write_bytes(shades.jpeg(shade))
        command = ["sh", "-c", 'exec > "$1"; while cat "$2"; do sleep 0.05; done', "camera", pipe, frame]
        if shutil.which("ffmpeg"):
            command = ["ffmpeg", "-v", "error", "-y", "-re", "-loop", "1", "-framerate", "20", "-i", frame]
            command += ["-f", "mjpeg", pipe]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


@needs_mosquitto
def test_subscribers_see_a_cameras_labels_and_availability(tmp_path):
    """The camera is killed and started again, new subscribers connect, and finally the command is killed."""
    model, pipe, port = tmp_path / "shades.tflite", tmp_path / "camera", free_port()
    model.write_bytes(shades.model())
    os.mkfifo(pipe)
    arguments = [model, pipe, "--hold", "1", "--mqtt", "127.0.0.1", "--mqtt-port", port, "--mqtt-name", "front door"]
    with broker(tmp_path, port), Subscriber(port) as subscriber:
        watch = subprocess.Popen(
            [sys.executable, "-m", "r2b_runtime", "watch", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            state, availability = "r2b/front_door/state", "r2b/front_door/availability"
            subscriber.until(availability, "^offline$")
            camera = Camera(pipe, "bright")
            subscriber.until(availability, "^online$")
            seen = json.loads(subscriber.until(state, '"label": "bright"')[1])
            assert (seen["event"], seen["previous"]) == ("change", None)
            assert seen["probability"] > 0.9
            camera.kill()
            subscriber.until(availability, "^offline$")
            camera = Camera(pipe, "dark")
            subscriber.until(availability, "^online$")
            assert json.loads(subscriber.until(state, '"label": "dark"')[1])["previous"] == "bright"
            with Subscriber(port) as later:
                retained, text = later.until("homeassistant/sensor/r2b_front_door/label/config", "")
                assert retained
                sensor = json.loads(text)
                assert (sensor["state_topic"], sensor["availability_topic"]) == (state, availability)
            with Subscriber(port, "--retained-only") as later:
                assert json.loads(later.until(state, "")[1])["label"] == "dark"
            watch.send_signal(signal.SIGKILL)
            subscriber.until(availability, "^offline$")  # the last will
            camera.kill()
        finally:
            watch.kill()
            errors = watch.stderr.read().decode()
            watch.wait()
            watch.stderr.close()
    assert f"the MQTT broker 127.0.0.1:{port} is connected" in errors


def change(label, frame=1):
    return Event("change", "2026-01-01T00:00:00.000+00:00", label, 0.75, None, frame, 0, 0)


class Heard(list):
    """Collects sentences; `wait` waits for one that matches a pattern."""

    def __init__(self):
        super().__init__()
        self._new = threading.Condition()

    def __call__(self, sentence):
        with self._new:
            self.append(sentence)
            self._new.notify_all()

    def wait(self, pattern):
        with self._new:
            found = self._new.wait_for(lambda: any(re.search(pattern, text) for text in self), PATIENCE)
        assert found, (pattern, list(self))


@contextlib.contextmanager
def publishing(account):
    heard = Heard()
    output = Broker(account, "m.tflite", shades.LABELS, heard)
    try:
        yield output, heard
    finally:
        output.close(True)


@needs_mosquitto
def test_newest_event_is_published_whenever_a_broker_starts(tmp_path):
    """Events do not wait for a broker; once there is one, the newest event is published."""
    port = free_port()
    with publishing(Account("127.0.0.1", port, "shed")) as (output, heard):
        heard.wait(r"cannot be reached \(.*refused\); trying again")
        began = time.monotonic()
        for frame in range(1000):
            output.event(change("dark", frame))
        output.event(change("grey"))
        output.camera(True)
        assert time.monotonic() - began < 5
        for _ in range(2):
            with broker(tmp_path, port), Subscriber(port) as subscriber:
                assert json.loads(subscriber.until("r2b/shed/state", "")[1])["label"] == "grey"
                subscriber.until("r2b/shed/availability", "online")
            heard.wait("has gone .*; connecting again")
    assert sum("cannot be reached" in sentence for sentence in heard) <= 3


@needs_mosquitto
def test_a_clean_end_says_offline(tmp_path):
    port = free_port()
    with broker(tmp_path, port), Subscriber(port) as subscriber:
        with publishing(Account("127.0.0.1", port, "shed")) as (output, heard):
            heard.wait("is connected")
            output.camera(True)
            subscriber.until("r2b/shed/availability", "online")
            output.event(change("bright"))
        subscriber.until("r2b/shed/state", "bright")
        subscriber.until("r2b/shed/availability", "offline")
    assert not any("gone" in sentence for sentence in heard)


@needs_mosquitto
def test_a_wrong_password_is_refused_and_the_right_one_works(tmp_path):
    port, secret = free_port(), "pass word ü"
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "camera", secret], check=True)
    (tmp_path / "password").write_text(secret + "\n", encoding="utf-8")
    (tmp_path / "password").chmod(0o644)
    warned = Heard()
    password = read_password(str(tmp_path / "password"), warned)
    assert password == secret
    assert "everybody can read the password" in warned[0]
    with broker(tmp_path, port, f"allow_anonymous false\npassword_file {tmp_path / 'users'}"):
        with publishing(Account("127.0.0.1", port, "shed", "camera", "wrong")) as (_, heard):
            heard.wait("refuses the connection: .*(?i:not authori[sz]ed)")
        with publishing(Account("127.0.0.1", port, "shed", "camera", password)) as (output, heard):
            heard.wait("is connected")
            output.event(change("dark"))
            with Subscriber(port, "-u", "camera", "-P", secret) as subscriber:
                subscriber.until("r2b/shed/state", "dark")


def certificate(folder, name):
    """Writes a self-signed certificate for 127.0.0.1 and its key; returns both paths."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / f"{name}.pem", folder / f"{name}.key"


@needs_mosquitto
@pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates come from openssl: apt-get install openssl")
def test_encryption_needs_the_certificate_of_the_brokers_authority(tmp_path):
    port = free_port()
    (ours, key), (other, _) = certificate(tmp_path, "ours"), certificate(tmp_path, "other")
    with broker(tmp_path, port, f"allow_anonymous true\ncertfile {ours}\nkeyfile {key}"):
        for authority in (str(other), None):
            with publishing(Account("127.0.0.1", port, "shed", tls=True, authority=authority)) as (_, heard):
                heard.wait("cannot be reached .*certificate verify failed.*trying again")
        with publishing(Account("127.0.0.1", port, "shed", tls=True, authority=str(ours))) as (output, heard):
            heard.wait("is connected")
            output.event(change("dark"))
            with Subscriber(port, "--cafile", ours) as subscriber:
                subscriber.until("r2b/shed/state", "dark")


def test_home_assistant_shows_labels_and_percentages():
    jinja2 = pytest.importorskip("jinja2", reason="Home Assistant's templates are Jinja's: pip install jinja2")
    made = sensors(Account("h", 1883, "Haustür 1"), "m.tflite", ["cat", "x" * 300, "cat"])
    assert list(made) == [
        "homeassistant/sensor/r2b_Haust_r_1/label/config",
        "homeassistant/sensor/r2b_Haust_r_1/probability/config",
    ]
    label, probability = made.values()
    assert label["options"] == ["cat", "x" * 255, "nothing"]
    assert label["device"] == probability["device"]
    assert label["device"]["name"] == "Haustür 1"
    assert label["unique_id"] != probability["unique_id"]

    def shown(sensor, **state):
        return jinja2.Template(sensor["value_template"]).render(value_json=state)

    for text, state in (("cat", "cat"), ("x" * 300, "x" * 255), (None, "nothing")):
        assert shown(label, label=text) == state
        assert state in label["options"]
    assert shown(probability, probability=0.12345) == "12.3"
    assert shown(probability, probability=None) == "None"
    many = sensors(Account("h", 1883, "x"), "m.tflite", [f"class {number}" for number in range(1000)])
    assert "options" not in next(iter(many.values()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ü"}, "a name needs an ASCII letter or digit; received 'ü': give --mqtt-name"),
        ({"name": "ü-"}, "a name needs an ASCII letter or digit; received 'ü-': give --mqtt-name"),
        ({"name": "x", "discovery": "a/#"}, r"a topic has no \+, # or NUL and is not empty; received 'a/#'"),
        ({"name": "x", "password": "secret"}, "a password needs a user: give --mqtt-user"),
    ],
)
def test_invalid_accounts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Account("host", 1883, **arguments)


def test_unreadable_password_and_certificate_files_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(OSError, match=r"the password file 'nowhere' cannot be read: No such file"):
        read_password("nowhere", print)
    with pytest.raises(ValueError, match=r"a password is UTF-8 text; '.*binary' is not"):
        read_password(str(tmp_path / "binary"), print)
    account = Account("127.0.0.1", 1, "x", tls=True, authority=str(tmp_path / "binary"))
    with pytest.raises(ValueError, match=r"'.*binary' must be the certificate, in PEM, of the authority"):
        Broker(account, "m.tflite", [], print)


def test_a_password_from_the_environment(monkeypatch):
    monkeypatch.setenv("R2B_MQTT_PASSWORD", "secret")
    assert read_password(None, print) == "secret"
    monkeypatch.delenv("R2B_MQTT_PASSWORD")
    assert read_password(None, print) is None


def test_without_paho(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(ImportError, match=r"--mqtt needs paho-mqtt: pip install paho-mqtt"):
        Broker(Account("127.0.0.1", 1, "x"), "m.tflite", [], print)
