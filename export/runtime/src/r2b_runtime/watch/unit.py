"""Writes the systemd unit that runs a watch as a service with few rights."""

import os
import pathlib
import re
import stat
from collections.abc import Sequence

NAME = "r2b-watch"

# The service does not see these directories. ProtectHome and PrivateTmp hide them; DynamicUser implies PrivateTmp.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")

_UNIT = """\
# Written by r2b-run watch --systemd:
#   r2b-run watch MODEL SOURCE ... --systemd | sudo tee /etc/systemd/system/{name}.service
#   sudo systemctl daemon-reload && sudo systemctl enable --now {name}
#   journalctl -u {name} -f
[Unit]
Description=Says what a camera sees
After=network.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
WatchdogSec=60
Restart=always
RestartSec=5

DynamicUser=yes
SupplementaryGroups=video
StateDirectory={name}
WorkingDirectory=%S/{name}
{credential}UMask=0077
DevicePolicy=closed
{devices}
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""

# These are kinds of devices, not paths, because a path has an effect only if it exists when the service starts.
_VIDEO = ("char-video4linux",)
_LIBCAMERA = (*_VIDEO, "char-media", "char-dma_heap")  # for libcamera, which picamera2 and rpicam-vid use
PASSWORD_FILE = "--mqtt-password-file="


def unit(command: Sequence[str], source: str, password_file: str, network: bool) -> str:
    """The text of a unit.

    Args:
        command: the service's command line, without --mqtt-password-file.
        source: the source of frames, as in `open_source`.
        password_file: absolute path of the password file, or "". Only root needs to be able to read the file, because
            systemd copies it for the service.
        network: whether the service may use the network.
    """
    arguments = [_quoted(argument) for argument in command]
    if password_file:
        arguments.append(f"{PASSWORD_FILE}%d/mqtt-password")
    devices = _VIDEO if source.startswith("/dev/") else _LIBCAMERA
    return _UNIT.format(
        name=NAME,
        command=" ".join(arguments),
        credential=f"LoadCredential=mqtt-password:{_escaped(password_file)}\n" if password_file else "",
        devices="\n".join(f"DeviceAllow={device} rw" for device in devices),
        families="AF_UNIX AF_NETLINK AF_INET AF_INET6" if network else "AF_UNIX AF_NETLINK",
    )


def check_readable(path: str) -> None:
    """Raises `ValueError` if the service, which runs as a separate user, cannot see and read this file or folder."""
    absolute = pathlib.Path(os.path.abspath(path))
    way_out = "put the model and the virtual environment into a folder such as /opt/r2b"
    for folder in _HIDDEN:
        if absolute.is_relative_to(folder):
            raise ValueError(f"{str(absolute)!r} is in {folder}, which a service cannot see: {way_out}")
    needed = [(parent, stat.S_IXOTH) for parent in absolute.parents]
    for one, bit in [*needed, (absolute, stat.S_IROTH)]:
        if not os.stat(one).st_mode & bit:
            raise ValueError(
                f"a service must be able to read {str(absolute)!r}, but other users may not, because of {str(one)!r}: "
                f"chmod o+rX it, or {way_out}"
            )


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(argument: str) -> str:
    """An argument quoted for systemd.service(5), so that systemd replaces neither specifiers nor variables in it."""
    plain = _escaped(argument).replace("$", "$$")
    if re.fullmatch(r"[\w%$@=+:,./-]+", plain, re.ASCII):
        return plain
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
