"""Tests `r2b-run watch` as a service: what it tells systemd, and the unit that it writes."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

pytest.importorskip("tensorflow", reason="the models of these tests are written with TensorFlow's schema")

import shades
from r2b_runtime.command import main
from r2b_runtime.watch import unit

PATIENCE = 60
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="units are checked by systemd-analyze: apt-get install systemd"
)


def test_service_tells_systemd_when_it_is_ready_alive_and_stopping(tmp_path):
    """The service reports that it is ready, that it is alive although no frame comes, and that it is stopping."""
    pytest.importorskip("PIL", reason="JPEG images are read with Pillow: pip install pillow")
    model, pipe, address = tmp_path / "shades.tflite", tmp_path / "camera", tmp_path / "notify"
    model.write_bytes(shades.model())
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(PATIENCE)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "100000"}
        service = subprocess.Popen(
            [sys.executable, "-m", "r2b_runtime", "watch", model, pipe], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            assert systemd.recv(1000) == f"READY=1\nSTATUS=watching {str(pipe)!r}".encode()
            assert [systemd.recv(1000) for _ in range(4)] == [b"WATCHDOG=1"] * 4
            service.send_signal(signal.SIGTERM)
            while (message := systemd.recv(1000)) == b"WATCHDOG=1":
                pass
            assert message == b"STOPPING=1"
            assert service.wait(PATIENCE) == 0
        finally:
            service.kill()
            service.wait()


def verified(folder, text):
    """Checks a unit with systemd-analyze; returns its exit status and what it prints."""
    path = folder / f"{unit.NAME}.service"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", path], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@needs_systemd
@pytest.mark.parametrize("source", ["/dev/video0", "rpicam-vid", "/srv/camera"])
@pytest.mark.parametrize("password", ["", "/etc/r2b/50 % pass"])
def test_systemd_accepts_the_unit(tmp_path, source, password):
    arguments = [sys.executable, "-m", "r2b_runtime", "watch", "/opt/r2b/my model.tflite", source]
    made = unit.unit([*arguments, '--command=echo "$R2B_LABEL" 100%\nexit'], source, password, bool(password))
    assert verified(tmp_path, made) == (0, "")


@needs_systemd
def test_systemd_reports_mistakes_in_a_unit(tmp_path):
    made = unit.unit([sys.executable], "/dev/video0", "", False)
    assert "ProtectSystm" in verified(tmp_path, made.replace("ProtectSystem", "ProtectSystm"))[1]
    assert verified(tmp_path, made.replace(sys.executable, "/nowhere/python"))[0] != 0


def test_the_text_of_the_unit():
    arguments = ["/opt/r2b/bin/python", "-m", "r2b_runtime", '--command=echo "$A" 5%\n\\', "-x=1"]
    made = unit.unit(arguments, "/dev/video0", "/etc/r2b/50%", True)
    assert r'ExecStart=/opt/r2b/bin/python -m r2b_runtime "--command=echo \"$$A\" 5%%\n\\" -x=1 --mqtt-p' in made
    assert "--mqtt-password-file=%d/mqtt-password\n" in made
    assert "LoadCredential=mqtt-password:/etc/r2b/50%%\n" in made
    assert made.count("DeviceAllow=") == 1
    assert "AF_INET" in made
    quiet = unit.unit(arguments, "rpicam-vid", "", False)
    assert "LoadCredential" not in quiet
    assert "AF_INET" not in quiet
    for line in ("DeviceAllow=char-video4linux rw", "DeviceAllow=char-dma_heap rw", "Type=notify", "DynamicUser=yes"):
        assert f"\n{line}\n" in quiet


def test_command_writes_a_unit_with_the_given_options(capsys, monkeypatch, tmp_path):
    """The unit contains the given options, with absolute paths; the password file becomes a credential."""
    model, authority = tmp_path / "shades.tflite", tmp_path / "ca.pem"
    model.write_bytes(shades.model())
    # check_readable would refuse the tests' folders, which a service cannot read; a test below covers it.
    monkeypatch.setattr(unit, "check_readable", os.stat)
    authority.write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R2B_MQTT_USER", "camera")
    options = ["--threshold", "0.7", "--hold", "1.5s", "--every", "60", "--top", "2", "--size", "320x240", "--no-wait"]
    options += [
        "--mqtt",
        "broker",
        "--mqtt-tls",
        "--mqtt-ca",
        "ca.pem",
        "--mqtt-password-file",
        "secret",
        "--max-work",
        "9",
    ]
    assert main(["watch", "shades.tflite", "/dev/video7", "--systemd", *options]) == 0
    made = capsys.readouterr().out
    (line,) = [line for line in made.splitlines() if line.startswith("ExecStart=")]
    expected = [
        "--threshold=0.7",
        "--hold=1.5s",
        "--every=60.0",
        "--top=2",
        "--size=320x240",
        "--no-wait",
        "--max-work=9",
    ]
    expected += [
        "--mqtt=broker",
        "--mqtt-tls",
        f"--mqtt-ca={authority}",
        "--mqtt-user=camera",
        str(model),
        "/dev/video7",
    ]
    expected += ["--mqtt-password-file=%d/mqtt-password"]
    assert set(expected) <= set(line.split())
    assert f"LoadCredential=mqtt-password:{tmp_path}/secret\n" in made
    # Given the unit's arguments without the password file, the command writes the same unit without a credential.
    rerun = [word for word in line.split()[3:] if "password" not in word]
    assert main([*rerun, "--systemd"]) == 0
    again = capsys.readouterr().out
    assert again.replace(" --mqtt-password-file=%d/mqtt-password", "") == "".join(
        part
        for part in made.replace(" --mqtt-password-file=%d/mqtt-password", "").splitlines(True)
        if not part.startswith("LoadCredential")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "-"], "a service has no pipe on its standard input: give a camera, rpicam-vid or a named pipe"),
        (["nowhere.tflite", "rpicam-vid"], "there is no model file 'nowhere.tflite'"),
        (
            ["MODEL", "rpicam-vid", "--mqtt", "host"],
            "a service does not have this shell's R2B_MQTT_PASSWORD: give --mqtt-password-file",
        ),
    ],
)
def test_services_that_could_not_work_are_refused(capsys, monkeypatch, tmp_path, arguments, message):
    model = tmp_path / "shades.tflite"
    model.write_bytes(shades.model())
    monkeypatch.setenv("R2B_MQTT_PASSWORD", "secret")
    arguments = [str(model) if argument == "MODEL" else argument for argument in arguments]
    assert main(["watch", *arguments, "--systemd"]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert not captured.out


def test_what_a_service_cannot_read(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'/home/pi/m.tflite' is in /home, which a service cannot see: put the"):
        unit.check_readable("/home/pi/m.tflite")
    monkeypatch.setattr(unit, "_HIDDEN", ())
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # not tmp_path, which only its owner can read
        _check_permissions(pathlib.Path(name))


def _check_permissions(closed):
    path = closed / "m.tflite"
    path.write_text("")
    path.chmod(0o644)
    with pytest.raises(
        ValueError, match=rf"but other users may not, because of '{closed}': chmod o\+rX it, or put the model"
    ):
        unit.check_readable(str(path))
    closed.chmod(0o711)
    unit.check_readable(str(path))
    path.chmod(0o640)
    with pytest.raises(ValueError, match=r"but other users may not, because of '.*m.tflite'"):
        unit.check_readable(str(path))
