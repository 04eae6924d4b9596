"""Describes a run's data in ``data.json`` in its folder, so that the run never silently resumes on other data.

The labels of a network are numbers. For photographs, the sorted names of the folders give them their meaning: if a
folder is renamed, the order may change, and the network would call an apple a pear.

``Dataset.record`` makes the record.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from r2b_zoo.data.dataset import Dataset
from r2b_zoo.data.folder import BY_NAME, BY_RANK, normal
from r2b_zoo.data.listing import shown
from r2b_zoo.runs.folder import RunFolder, RunFolderError
from r2b_zoo.system import files

FORMAT = 1
MOST_NAMED = 3
"""A message names at most this many classes or files of a kind."""


def split_rule(folder: RunFolder) -> str:
    """The rule by which a run splits a folder of photographs that has no split of its own: ``BY_NAME`` or ``BY_RANK``.

    Runs of earlier versions split by rank.

    Args:
        folder: the run's folder, which need not exist yet.
    """
    path = folder.data_path
    if path.is_file():
        # Search the text instead of parsing it, since the record may be damaged.
        return BY_RANK if f'"{BY_RANK}"' in path.read_text(encoding="utf-8", errors="replace") else BY_NAME
    return BY_RANK if folder.config_path.is_file() and folder.stages_path.is_dir() else BY_NAME


def class_names(folder: RunFolder) -> Optional[tuple[str, ...]]:
    """The classes that a run was started with, in the order of its labels; None if they are not recorded."""
    record, _ = _recorded(folder)
    names = (record or {}).get("class_names")
    return None if names is None else tuple(names)


def keep(folder: RunFolder, dataset: Dataset, log: Callable[[str], None]) -> None:
    """Records the data of a run that starts; checks that the data of a run that resumes is unchanged.

    Args:
        folder: the run's folder, within the block of ``RunFolder.opened``.
        dataset: the data set as it is now.
        log: takes a line if the record is damaged.

    Raises:
        RunFolderError: the run was started with other data (the message says what differs), or by a version of r2b_zoo
            whose record has another format.
    """
    now = dataset.record()
    before, damage = _recorded(folder)
    if damage:
        log(damage)
    if before is None:
        before = _from_results(folder)
    differences = _differences(before, now)
    if differences:
        raise RunFolderError(
            f"{folder.path} holds a run that was started with other data: {'; '.join(differences)}. Restore the data, "
            "or choose another folder with --output to train on the present data."
        )
    if before != {"format": FORMAT, **now}:
        with folder.writing():
            files.write_text(folder.data_path, json.dumps({"format": FORMAT, **now}))


def digest(dataset: Dataset) -> str:
    """SHA-256 of the data set's record in hexadecimal, by which machines check that they have the same data."""
    return hashlib.sha256(json.dumps(dataset.record(), sort_keys=True).encode()).hexdigest()


def _recorded(folder: RunFolder) -> tuple[Optional[dict[str, Any]], str]:
    """Reads the record.

    Returns:
        The record, None if it is missing or damaged; and the sentence, "" if the record is not damaged.

    Raises:
        RunFolderError: another version of r2b_zoo, with another format, wrote the record.
    """
    path = folder.data_path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, ""
    except ValueError as error:
        return None, _damaged(path, error)
    if not isinstance(record, dict):
        return None, _damaged(path, "not a JSON object")
    if record.get("format") != FORMAT:
        raise RunFolderError(
            f"{path} has format {record.get('format')!r}, and this version of r2b_zoo reads {FORMAT}: install the "
            "version that trained the run, or choose another folder with --output."
        )
    return record, ""


def _damaged(path: Path, why: object) -> str:
    return f"{path} is damaged ({why}), so the run cannot fully check that its data are unchanged."


def _from_results(folder: RunFolder) -> dict[str, Any]:
    """Class names and number of images of a finished run of an earlier version, from its results; empty if unknown."""
    if not folder.results_path.is_file():
        return {}
    try:
        found = folder.results()["dataset"]
        images = ("training_images", "validation_images", "test_images")
        return {"class_names": found["class_names"], "images": sum(found.get(key, 0) for key in images)}
    except (RunFolderError, KeyError, TypeError):
        return {}  # a damaged results.json is written again at the end of the run


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences in words, ignoring keys that only one record has; numbers of images only if all else is equal."""
    found = []
    for key, words in (("name", "the data set"), ("version", "its version")):
        if key in before and before[key] != now[key]:
            found.append(f"{words} was {before[key]!r} and is {now[key]!r}")
    if "class_names" in before:
        found += _class_differences([normal(name) for name in before["class_names"]], now["class_names"])
    if "files" in before and "files" in now:
        found += _file_differences(before["files"], now["files"])
    if not found:
        for key, words in (
            ("images", "images"),
            ("training_images", "training images"),
            ("test_images", "test images"),
        ):
            if key in before and before[key] != now[key]:
                found.append(f"the number of {words} was {before[key]} and is {now[key]}")
    return found


def _class_differences(before: Sequence[str], now: Sequence[str]) -> list[str]:
    gone, new = ([name for name in one if name not in other] for one, other in ((before, now), (now, before)))
    found = []
    if gone:
        found.append(f"{_named(gone, 'class', 'classes')} gone")
    if new:
        found.append(f"{_named(new, 'class', 'classes')} new")
    return found or (["the classes are in another order"] if list(before) != list(now) else [])


def _file_differences(before: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> list[str]:
    """The differences in words; each record has, by file name, the photograph's side of the split and its digest."""
    both = [name for name in now if name in before]
    kinds = (
        ("gone", [name for name in before if name not in now]),
        ("new", [name for name in now if name not in before]),
        ("changed", [name for name in both if before[name][1] != now[name][1]]),
        ("on the other side of the split", [name for name in both if before[name][0] != now[name][0]]),
    )
    return [f"{_named(names, 'photograph', 'photographs')} {kind}" for kind, names in kinds if names]


def _named(names: Sequence[str], one: str, many: str) -> str:
    """Number, names and verb, for example "2 photographs (a.jpg, b.jpg) are"."""
    listed = ", ".join(shown(name) for name in names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f"{len(names)} {one if len(names) == 1 else many} ({listed}) {'is' if len(names) == 1 else 'are'}"
