"""Publishes events to an MQTT broker, and describes them so that Home Assistant shows them without further settings.

All messages are retained, so that a later subscriber gets the current state. The topics are:

    r2b/NAME/state                              the last event, as JSON
    r2b/NAME/availability                       "online" while frames arrive, else "offline"; the broker itself says
                                                "offline" when the connection breaks (the client's last will)
    homeassistant/sensor/r2b_NAME/…/config      two sensors: label and probability

Publishing never waits: while there is no connection, only the newest event is kept.
"""

import dataclasses
import json
import os
import re
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Optional

from r2b_runtime.library import version
from r2b_runtime.watch.outputs import Event

NOTHING = "nothing"
"""The state that Home Assistant shows while no class is probable enough."""

MOST_OPTIONS = 100
"""Home Assistant gets the list of labels, for its menus, only if there are no more labels than this."""

LONGEST_STATE = 255
"""The most characters that a state may have in Home Assistant."""

# Templates for Home Assistant, in the language of Jinja.
_LABEL = f"{{{{ (value_json.label if value_json.label is string else '{NOTHING}')[:{LONGEST_STATE}] }}}}"
_PERCENT = "{{ (value_json.probability * 100) | round(1) if value_json.probability is number else none }}"

_KEEP_ALIVE = 30  # seconds; a broker publishes the last will after 1.5 times as long without a message
_LAST_WORDS = 2.0  # seconds to wait at the end for the broker to receive "offline"
_DELAYS = (1, 60)  # seconds between tries to connect: the first delay and the longest


@dataclasses.dataclass(frozen=True)
class Account:
    """The address of the broker, and how to log in and publish there.

    Attributes:
        host, port: the broker's address.
        name: name of this watch in its topics, and of the device in Home Assistant.
        user, password: for logging in; None: the broker needs none.
        tls: whether to encrypt the connection and check the broker's certificate.
        authority: path of a PEM file with the certificate of the authority that signed the broker's certificate; None:
            trust the authorities that the system trusts.
        discovery: first part of the topics on which Home Assistant looks for sensors.

    Raises `ValueError` for a name or a topic that cannot be used, and for a password without a user.
    """

    host: str
    port: int
    name: str
    user: Optional[str] = None
    password: Optional[str] = None
    tls: bool = False
    authority: Optional[str] = None
    discovery: str = "homeassistant"

    def __post_init__(self) -> None:
        if not re.search("[A-Za-z0-9]", self.topic):
            raise ValueError(f"a name needs an ASCII letter or digit; received {self.name!r}: give --mqtt-name")
        if re.search(r"[+#\0]", self.discovery) or not self.discovery.strip("/"):
            raise ValueError(
                f"a topic has no +, # or NUL and is not empty; received {self.discovery!r}: "
                "give another --mqtt-discovery"
            )
        if self.password is not None and self.user is None:
            raise ValueError("a password needs a user: give --mqtt-user")

    @property
    def topic(self) -> str:
        """The name in topics and identifiers.

        "_" replaces each run of characters other than ASCII letters, digits, "_" and "-". It is removed from both ends.
        """
        return re.sub(r"[^A-Za-z0-9_-]+", "_", self.name).strip("_")


class Broker:
    """An output that publishes events.

    Raises `ImportError` if paho-mqtt is missing, and `ValueError` if the authority's certificate cannot be loaded.
    """

    def __init__(self, account: Account, model: str, labels: Sequence[str], report: Callable[[str], None]) -> None:
        self._account, self._report = account, report
        self._base = f"r2b/{account.topic}"
        self._state = json.dumps({"event": "alive", "label": None, "probability": None})
        self._here = False
        self._said: Optional[str] = None
        self._lock = threading.Lock()
        self._sensors = sensors(account, os.path.basename(model), labels)
        self._client = self._made_client()
        self._client.connect_async(account.host, account.port, keepalive=_KEEP_ALIVE)
        self._client.loop_start()

    def event(self, event: Event) -> None:
        with self._lock:
            self._state = event.as_json()
            if self._client.is_connected():
                self._publish("state", self._state)

    def camera(self, here: bool) -> None:
        with self._lock:
            self._here = here
            if self._client.is_connected():
                self._publish("availability", self._availability())

    def close(self, finish: bool) -> None:
        if not self._client.is_connected():
            return
        with self._lock:
            self._here = False
            said = self._publish("availability", self._availability())
        try:
            said.wait_for_publish(_LAST_WORDS)
        except (RuntimeError, ValueError):  # the connection just broke; the last will says "offline"
            return
        self._client.disconnect()
        self._client.loop_stop()

    def _made_client(self) -> Any:
        try:
            from paho.mqtt import client as mqtt
        except ImportError:
            raise ImportError(
                "--mqtt needs paho-mqtt: pip install paho-mqtt, or apt install python3-paho-mqtt"
            ) from None
        account = self._account
        if hasattr(mqtt, "CallbackAPIVersion"):
            client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
            client.on_connect = lambda _client, _data, _flags, reason, _more: self._connected(
                str(reason) if reason.is_failure else None
            )
            client.on_disconnect = lambda _client, _data, _flags, reason, _more: self._disconnected(
                str(reason) if reason.is_failure else None
            )
        else:  # paho-mqtt 1, as in Debian 12
            client = mqtt.Client()
            client.on_connect = lambda _client, _data, _flags, code: self._connected(
                mqtt.connack_string(code) if code else None
            )
            client.on_disconnect = lambda _client, _data, code: self._disconnected(
                mqtt.error_string(code) if code else None
            )
        client.on_connect_fail = lambda _client, _data: self._unreachable()
        client.reconnect_delay_set(*_DELAYS)
        client.will_set(f"{self._base}/availability", "offline", qos=1, retain=True)
        if account.user is not None:
            client.username_pw_set(account.user, account.password)
        if account.tls:
            client.tls_set_context(_tls(account.authority))
        return client

    def _connected(self, refusal: Optional[str]) -> None:
        if refusal is not None:
            self._say(f"refuses the connection: {refusal}")
            return
        self._say("is connected")
        with self._lock:
            for topic, sensor in self._sensors.items():
                self._client.publish(topic, json.dumps(sensor), qos=1, retain=True)
            self._publish("state", self._state)
            self._publish("availability", self._availability())

    def _disconnected(self, reason: Optional[str]) -> None:
        if reason is not None and self._said == "is connected":
            self._say(f"has gone ({reason}); connecting again")

    def _unreachable(self) -> None:
        error = sys.exc_info()[1]  # paho-mqtt calls this while it handles the error, and does not pass it
        self._say(f"cannot be reached{f' ({error})' if error else ''}; trying again")

    def _say(self, sentence: str) -> None:
        """Reports a sentence about the broker, unless it was the last one that was reported."""
        if sentence != self._said:
            self._said = sentence
            self._report(f"the MQTT broker {self._account.host}:{self._account.port} {sentence}")

    def _availability(self) -> str:
        return "online" if self._here else "offline"

    def _publish(self, topic: str, text: str) -> Any:
        return self._client.publish(f"{self._base}/{topic}", text, qos=1, retain=True)


def sensors(account: Account, model: str, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The descriptions of the sensors for Home Assistant, each under the topic on which it is published."""
    name, base = f"r2b_{account.topic}", f"r2b/{account.topic}"
    common = {
        "state_topic": f"{base}/state",
        "availability_topic": f"{base}/availability",
        "device": {
            "identifiers": [name],
            "name": account.name,
            "manufacturer": "r2b_zoo",
            "model": model,
            "sw_version": version(),
        },
        "origin": {"name": "r2b-run watch", "sw_version": version()},
    }
    label: dict[str, Any] = {
        **common,
        "name": "Label",
        "unique_id": f"{name}_label",
        "icon": "mdi:eye",
        "value_template": _LABEL,
        "json_attributes_topic": f"{base}/state",
    }
    if len(labels) <= MOST_OPTIONS:
        label["device_class"] = "enum"
        label["options"] = list(dict.fromkeys([*(text[:LONGEST_STATE] for text in labels), NOTHING]))
    probability = {
        **common,
        "name": "Probability",
        "unique_id": f"{name}_probability",
        "icon": "mdi:percent",
        "unit_of_measurement": "%",
        "state_class": "measurement",
        "value_template": _PERCENT,
    }
    return {
        f"{account.discovery}/sensor/{name}/{kind}/config": sensor
        for kind, sensor in (("label", label), ("probability", probability))
    }


def read_password(path: Optional[str], report: Callable[[str], None]) -> Optional[str]:
    """The password in a file, without line breaks at its end.

    If `path` is None, the password is R2B_MQTT_PASSWORD of the environment, or None if that is not set. Calls `report`
    with a warning if every user can read the file. Raises `OSError` if the file cannot be read, and `ValueError` if it
    is not UTF-8.
    """
    if path is None:
        return os.environ.get("R2B_MQTT_PASSWORD")
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o004:
                report(f"everybody can read the password in {path!r}: chmod o-r it")
            text = file.read(1 << 16)
    except UnicodeDecodeError:
        raise ValueError(f"a password is UTF-8 text; {path!r} is not") from None
    except OSError as error:
        raise OSError(f"the password file {path!r} cannot be read: {error.strerror}") from None
    return text.rstrip("\r\n")


def _tls(authority: Optional[str]) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"{authority!r} must be the certificate, in PEM, of the authority that signed the broker's: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from None
