"""Reads and checks the ``key=value`` arguments of the command line."""

import ast
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from r2b_zoo.system.suggestions import did_you_mean

ALIASES = {"data.dir": "data_dir"}
"""Other spellings of field names, and the names that they stand for."""

_WORDS = {"true": True, "false": False, "none": None}


def parse(words: Iterable[str]) -> dict[str, Any]:
    """``["binary.epochs=3", "gate=false"]`` → ``{"binary.epochs": 3, "gate": False}``.

    Raises:
        ValueError: a word is not of the form key=value, or a key occurs twice.
    """
    return {key: _value(text) for key, text in texts(words, "binary.epochs=3", ALIASES).items()}


def texts(words: Iterable[str], example: str, aliases: Mapping[str, str]) -> dict[str, str]:
    """``["data=digits"]`` → ``{"data": "digits"}``.

    Args:
        words: words of the command line.
        example: an example of such a word, for messages.
        aliases: other spellings of keys, and the keys that they stand for.

    Raises:
        ValueError: a word is not of the form key=value, or a key occurs twice.
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
    """Raises ValueError for the first key that is not a field; the message names similar fields and all fields.

    Args:
        recipe: name of the recipe, for the message.
        overrides: new values; their keys are checked.
        fields: names of the recipe's own fields.
        stages: names of the fields of each stage, by the stage's name.
    """
    known = [*fields, *(f"{stage}.{field}" for stage, names in stages.items() for field in names)]
    for key in overrides:
        if key in known:
            continue
        stage_fields = ", ".join(dict.fromkeys(field for names in stages.values() for field in names))
        raise ValueError(
            f"Recipe {recipe} has no field {key!r}.{did_you_mean(key, known)} Its fields are {', '.join(fields)}; "
            f"and of each stage ({', '.join(stages)}), as STAGE.FIELD: {stage_fields}."
        )


def check_kinds(overrides: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raises ValueError for the first value that does not have the type of its field.

    Args:
        overrides: values by dotted field name.
        kinds: type annotations by dotted field name.
    """
    for key, value in overrides.items():
        kind = kinds[key]
        if not _is_a(value, kind):
            raise ValueError(f"{key} must be {_in_words(kind)}; received {value!r}.")


_WORDS_FOR = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "none",
    Sequence: "a list of numbers, for example [40,60,70]",
    dict: "a dictionary",
}


def _is_a(value: Any, kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return any(_is_a(value, member) for member in get_args(kind))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if origin is Sequence:
        member = get_args(kind)[0]
        return isinstance(value, (list, tuple)) and all(_is_a(one, member) for one in value)
    return isinstance(value, origin or kind)


def _in_words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(member) for member in get_args(kind))
    return _WORDS_FOR[origin or kind]


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
