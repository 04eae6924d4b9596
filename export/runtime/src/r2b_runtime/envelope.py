"""The JSON document that commands print with ``--json``: one envelope for all of them.

r2b_zoo and r2b_runtime have identical copies of this file, because neither depends on the other; a test compares them.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

FORMAT = 1
"""Increases when a key is removed or changes its meaning; keys may be added without an increase."""

FORM = f'{{"r2b": {FORMAT}, "command": ..., "result": ...}}'
"""The envelope, as the help of a command shows it."""


def document(command: str, result: Any) -> str:
    """The envelope as ASCII text, so that names in it cannot control a terminal and every encoding can hold it.

    NaN and infinite numbers, which JSON does not have, become null. Bytes of file names that are not UTF-8 are written
    as escapes, for example FF as ``\\udcff``, because JSON's strings cannot hold them.

    Raises:
        TypeError: the result is not plain data.
    """
    text = json.dumps({"r2b": FORMAT, "command": command, "result": _plain(result)}, allow_nan=False)
    # json.dumps escapes all control characters except DEL.
    return text.replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
