"""A folder of one's own photographs.

    DIR/<class>/*                            split automatically: a fifth of each class to test
    DIR/train/<class>/*                      the same
    DIR/train/<class>/*, DIR/val/<class>/*   as it is split there; ``valid``, ``validation`` and ``test`` do too

The name of a class is that of its folder, and the photographs may lie in folders below it. Links are followed; hidden
files and files that are no images are left alone. Pillow decodes, as in ``r2b predict``.
"""

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NoReturn, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.cores import available_cores
from r2b_zoo.data.dataset import MOST_NAMED
from r2b_zoo.data.images import (
    IMAGE_SUFFIXES,
    PILLOW_DCT,
    UNREAD_SUFFIXES,
    Header,
    PathLike,
    check_image,
    read_image,
)
from r2b_zoo.data.photographs import Encoded, Part, PhotographDataset, Size, Window, decode_jpeg_window
from r2b_zoo.data.preprocessing import IMAGENET
from r2b_zoo.data.validation import held_out

TEST_SHARE = 0.2
MIN_CLASSES = 2
ADVISED_IMAGES = 20
"""Per class, to train and to test; a class of fewer gets a warning."""
MAX_SKIPPED_SHARE = 0.1
"""Of the image files; where more cannot be read, something is wrong with the folder."""
ALWAYS_SKIPPED = 3
"""So many bad files are no sign of that in the smallest folder."""
LARGEST_BATCHED = 1 << 20
"""Pixels, 3 MB decoded; a few batches of larger ones, decoded and not yet resized, would fill a laptop's memory."""

_TRAIN = "train"
_TEST = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class Photograph:
    """A file that was found to be an image, with its label."""

    path: Path
    label: int
    header: Header


def folder(
    data_dir: Optional[PathLike] = None,
    image_size: int = IMAGENET.height,
    split_seed: int = 0,
    all_to_test: bool = False,
) -> "Folder":
    """Photographs in a folder per class, JPEG, PNG, BMP, WebP or GIF (its first frame).

    Reads every file once, to know which can be decoded. Those that cannot be are in ``skipped``.

    Args:
        data_dir: the folder.
        image_size: height and width of a network's input.
        split_seed: of the automatic split, which is a function of it and of the names of the files.
        all_to_test: every photograph is a test image and none is left to train on, for photographs that a network has
            not seen.

    Raises:
        ValueError: the folder is not laid out as above, cannot be read, has fewer than two classes, a class twice or
            one without images, or more than a tenth of its image files (and more than three) cannot be decoded.

    Warns:
        UserWarning: a class has fewer than 20 images to train on.
    """
    if data_dir is None:
        raise ValueError("The data set 'folder' needs data_dir=, the folder with your photographs.")
    root = Path(data_dir).expanduser()
    try:
        found_folder = root.is_dir()
    except OSError as error:
        _refuse(error)
    if not found_folder:
        kind = "a file" if root.is_file() else "no folder there"
        raise ValueError(f"data_dir must be a folder with a folder of photographs per class; {root} is {kind}.")
    train_root, test_root = _layout(root)
    files = _class_files(train_root)
    names = list(files)
    test_split = ""
    if test_root is None:
        found, skipped = _checked(root, names, files)
        train, test = ([], found) if all_to_test else _split(found, train_root, names, split_seed)
        if not all_to_test:
            test_split = (
                f"{root} has no split of its own, so these are the fifth of each class that training leaves out"
            )
    else:
        test_files = _class_files(test_root)
        if list(test_files) != names:
            only = sorted(set(names) ^ set(test_files))
            raise ValueError(
                f"{train_root} and {test_root} must have the same classes; only one of them has {', '.join(only)}."
            )
        train, skipped = _checked(root, names, files)
        test, skipped_test = _checked(root, names, test_files)
        skipped += skipped_test
        if all_to_test:
            train, test = [], sorted([*train, *test], key=lambda photograph: photograph.label)
    if not all_to_test:
        _warn_of_few(names, train)
    return Folder(
        name="folder",
        title=f"photographs in {root.resolve().name}",
        class_names=tuple(names),
        preprocessing=IMAGENET.with_size(image_size, image_size),
        skipped=tuple(skipped),
        test_split=test_split,
        train=tuple(train),
        test=tuple(test),
    )


@dataclass(frozen=True, kw_only=True)
class Folder(PhotographDataset):
    """Photographs in files, decoded as Pillow does."""

    train: tuple[Photograph, ...] = field(repr=False)
    test: tuple[Photograph, ...] = field(repr=False)

    def with_class_names(self, class_names: Sequence[str]) -> "Folder":
        """The same photographs with the labels of a classifier that knows their classes, and maybe others.

        Args:
            class_names: in the order of its labels.

        Raises:
            ValueError: it does not know a class, or has two of that name.
        """
        numbers = [[i for i, name in enumerate(class_names) if name == own] for own in self.class_names]
        unknown = [own for own, found in zip(self.class_names, numbers, strict=True) if not found]
        if unknown:
            known = ", ".join(class_names[:MOST_NAMED]) + (", ..." if len(class_names) > MOST_NAMED else "")
            raise ValueError(
                f"The network does not know {', '.join(unknown[:MOST_NAMED])}; its {len(class_names)} classes are "
                f"{known}. Call the folders of photographs as its classes, or remove those of others."
            )
        twice = [own for own, found in zip(self.class_names, numbers, strict=True) if len(found) > 1]
        if twice:
            raise ValueError(f"The network has more than one class of the name {twice[0]!r}: remove its folder.")

        def labelled(photographs: tuple[Photograph, ...]) -> tuple[Photograph, ...]:
            return tuple(replace(photograph, label=numbers[photograph.label][0]) for photograph in photographs)

        return replace(self, class_names=tuple(class_names), train=labelled(self.train), test=labelled(self.test))

    def held_out(self, share: float) -> "Folder":
        apart = held_out(np.array([photograph.label for photograph in self.train]), share, self.class_names)
        train, test = (
            tuple(photograph for photograph, chosen in zip(self.train, apart, strict=True) if chosen == tested)
            for tested in (False, True)
        )
        return replace(self, train=train, test=test)

    @property
    def train_size(self) -> int:
        return len(self.train)

    @property
    def test_size(self) -> int:
        return len(self.test)

    @cached_property
    def _train_table(self) -> Encoded:
        return _table(self.train)

    @property
    def _fits_in_batches(self) -> bool:
        return all(item.header.height * item.header.width <= LARGEST_BATCHED for item in self.train + self.test)

    def _training_records(self, order_seed: tf.Tensor, skip: int) -> tf.data.Dataset:
        table = self._train_table
        order = tf.random.experimental.stateless_shuffle(tf.range(self.train_size), order_seed)
        return tf.data.Dataset.from_tensor_slices(order[skip:]).map(
            lambda i: {name: values[i] for name, values in table.items()}
        )

    def _test_records(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(_table(self.test))

    def _size(self, encoded: Encoded) -> Size:
        return encoded["size"]

    def _decode(self, encoded: Encoded, size: Size, window: Window) -> Part:
        def jpeg() -> Part:
            return decode_jpeg_window(tf.io.read_file(encoded["path"]), size, window, PILLOW_DCT)

        def other() -> Part:
            # Not stateful: else TensorFlow decodes one after the other where it is to be deterministic.
            return tf.numpy_function(_read, [encoded["path"]], tf.uint8, stateful=False), window

        image, within = tf.cond(encoded["is_plain_jpeg"], jpeg, other)
        return tf.ensure_shape(image, (None, None, 3)), within


def _table(photographs: Iterable[Photograph]) -> Encoded:
    photographs = list(photographs)
    with tf.init_scope():
        return {
            "path": tf.constant([os.fspath(photograph.path) for photograph in photographs]),
            "label": tf.constant([photograph.label for photograph in photographs], tf.int32),
            "size": tf.constant([(item.header.height, item.header.width) for item in photographs], tf.int32),
            "is_plain_jpeg": tf.constant([photograph.header.is_plain_jpeg for photograph in photographs]),
        }


def _read(path: bytes) -> np.ndarray:
    return read_image(os.fsdecode(path))


# --- what is in the folder --------------------------------------------------------------------------------------------


def _layout(root: Path) -> tuple[Path, Optional[Path]]:
    """The folder with the classes to train on, and the one to test on, where there is one."""
    below = {path.name.lower(): path for path in _folders(root)}
    if _TRAIN not in below or not _folders(below[_TRAIN]):
        return root, None  # a class may be called train
    tests = [below[name] for name in _TEST if name in below]
    return below[_TRAIN], tests[0] if tests else None


def _class_files(root: Path) -> dict[str, list[Path]]:
    """The image files of each class, both in the order of their names."""
    folders = _folders(root)
    names = [path.name for path in folders]
    if len(names) < MIN_CLASSES:
        found = f"there is one, {names[0]!r}" if names else "there is none"
        raise ValueError(f"A classifier needs at least {MIN_CLASSES} classes, each a folder in {root}; {found}.")
    by_case: dict[str, str] = {}
    for name in names:
        other = by_case.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(
                f"{root} has the classes {other!r} and {name!r}, which are the same but for upper and lower case: put "
                "their photographs into one folder."
            )
    return {path.name: sorted(_image_files(path)) for path in folders}


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name))
    except OSError as error:
        _refuse(error)


def _image_files(root: Path) -> Iterator[Path]:
    """The files in a folder and below it whose name says that they are images, also of kinds that cannot be read."""
    entered = set()
    for directory, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        # A link to a folder above would never end.
        entered.add(os.path.realpath(directory))
        folders[:] = [
            name
            for name in folders
            if not _is_hidden(name) and os.path.realpath(os.path.join(directory, name)) not in entered
        ]
        for name in files:
            if not _is_hidden(name) and Path(name).suffix.lower() in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES):
                yield Path(directory) / name


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _refuse(error: OSError) -> NoReturn:
    raise ValueError(
        f"The folder {error.filename} cannot be read ({error.strerror}): change its permissions, or choose another "
        "with data_dir=."
    ) from None


# --- which of it are images -------------------------------------------------------------------------------------------


def _checked(root: Path, names: list[str], files: dict[str, list[Path]]) -> tuple[list[Photograph], list[str]]:
    """The files that are images, in the order of classes and names, and a sentence for each other one."""
    candidates = [(path, label) for label, name in enumerate(names) for path in files[name]]
    with ThreadPoolExecutor(available_cores()) as pool:
        headers = list(pool.map(lambda candidate: _header(candidate[0]), candidates))
    found, skipped = [], []
    for (path, label), header in zip(candidates, headers, strict=True):
        if isinstance(header, Header):
            found.append(Photograph(path, label, header))
        else:
            skipped.append(f"{path.relative_to(root)} is left out: {header}")
    if len(skipped) > max(ALWAYS_SKIPPED, MAX_SKIPPED_SHARE * len(candidates)):
        raise ValueError(
            f"{len(skipped)} of the {len(candidates)} image files in {root} cannot be read, more than "
            f"{100 * MAX_SKIPPED_SHARE:.0f} %: convert, repair or remove them. The first: {'; '.join(skipped[:3])}."
        )
    present = {photograph.label for photograph in found}
    empty = [name for label, name in enumerate(names) if label not in present]
    if empty:
        raise ValueError(
            f"There are no images ({', '.join(IMAGE_SUFFIXES)}) of {', '.join(empty)} in {root}: every class needs "
            "some, so remove the folder of one that has none."
        )
    return found, skipped


def _header(path: Path) -> Union[Header, str]:
    """What the file is, or why it cannot be read."""
    if path.suffix.lower() in UNREAD_SUFFIXES:
        return f"{path.suffix} is not read, convert it to JPEG or PNG"
    try:
        return check_image(path)
    except (ValueError, FileNotFoundError) as error:
        # The sentence starts with the name of the file already.
        return str(error.__cause__ or error).replace(f": {str(path)!r}", "").replace(f" {str(path)!r}", "")


def _split(
    found: list[Photograph], root: Path, names: list[str], seed: int
) -> tuple[list[Photograph], list[Photograph]]:
    """A share of each class to test: those whose names have the smallest hashes, at least one."""
    tested: set[Path] = set()
    for label, name in enumerate(names):
        members = [photograph.path for photograph in found if photograph.label == label]
        if len(members) < 2:
            raise ValueError(
                f"Class {name!r} has one image, {members[0]}: it needs at least 2, to train and to test, and "
                f"{ADVISED_IMAGES} or more to be recognised. (r2b evaluate takes one too, with split=all.)"
            )
        members.sort(key=lambda path: _hash(path.relative_to(root), seed))
        tested.update(members[: max(1, round(TEST_SHARE * len(members)))])
    train = [photograph for photograph in found if photograph.path not in tested]
    return train, [photograph for photograph in found if photograph.path in tested]


def _hash(path: Path, seed: int) -> str:
    """The same on every system."""
    name = unicodedata.normalize("NFC", path.as_posix())
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).hexdigest()


def _warn_of_few(names: list[str], train: list[Photograph]) -> None:
    counts = np.bincount([photograph.label for photograph in train], minlength=len(names))
    enough = (1 - TEST_SHARE) * ADVISED_IMAGES
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < enough]
    if few:
        warnings.warn(
            f"Few images to train on: {', '.join(few)}. Expect poor accuracy with fewer than {ADVISED_IMAGES} of a "
            "class.",
            stacklevel=3,
        )
