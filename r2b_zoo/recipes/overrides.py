"""``key=value`` words of the command line."""

import ast
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ALIASES = {"data.dir": "data_dir"}
"""Other spellings of fields."""

_WORDS = {"true": True, "false": False, "none": None}


def parse(words: Iterable[str]) -> dict[str, Any]:
    """``["binary.epochs=3", "gate=false"]`` → ``{"binary.epochs": 3, "gate": False}``.

    Raises:
        ValueError: a word is not of the form key=value, or a key comes twice.
    """
    return {key: _value(text) for key, text in texts(words, "binary.epochs=3", ALIASES).items()}


def texts(words: Iterable[str], example: str, aliases: Mapping[str, str]) -> dict[str, str]:
    """``["data=digits"]`` → ``{"data": "digits"}``.

    Args:
        words: of the command line.
        example: of such a word, for messages.
        aliases: other spellings of keys.

    Raises:
        ValueError: a word is not of the form key=value, or a key comes twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ValueError(f"Fields are set as key=value, for example {example}; received {word!r}.")
        key = aliases.get(key, key)
        if key in found:
            raise ValueError(f"Field {key!r} is set twice.")
        found[key] = text
    return found


def check_keys(recipe: str, overrides: Mapping[str, Any], fields: Sequence[str], stages: Mapping[str, Any]) -> None:
    """Raises ValueError for the first key that is no field, with the names that come near and all others.

    Args:
        recipe: name, for the message.
        overrides: the keys to check.
        fields: names of the recipe's own fields.
        stages: names of each stage's fields.
    """
    known = [*fields, *(f"{stage}.{field}" for stage, names in stages.items() for field in names)]
    for key in overrides:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        stage_fields = ", ".join(dict.fromkeys(field for names in stages.values() for field in names))
        raise ValueError(
            f"Recipe {recipe} has no field {key!r}.{hint} Its fields are {', '.join(fields)}; "
            f"and of each stage ({', '.join(stages)}), as STAGE.FIELD: {stage_fields}."
        )


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
