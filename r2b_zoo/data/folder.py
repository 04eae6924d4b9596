"""A data set of photographs in a user's folder.

    DIR/<class>/*                            split automatically: about a fifth of each class to test
    DIR/train/<class>/*                      the same
    DIR/train/<class>/*, DIR/val/<class>/*   as split there; ``val`` may be called ``valid``, ``validation`` or ``test``

A class is named after its folder, and its photographs may be in subfolders. ``listing`` decides which files are read;
their content decides whether they are images. Decoding gives the same pixels as in ``r2b predict``.
"""

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from r2b_zoo.data.dataset import MOST_NAMED
from r2b_zoo.data.images import (
    IMAGE_SUFFIXES,
    PILLOW_DCT,
    RAW_SUFFIXES,
    UNREAD_SUFFIXES,
    Header,
    PathLike,
    check_image,
    is_image_file,
    is_unidentified,
    read_image,
)
from r2b_zoo.data.listing import Listing, folders, is_one_line, listing, refuse, shown
from r2b_zoo.data.photographs import Encoded, Part, PhotographDataset, Size, Window, decode_jpeg_window
from r2b_zoo.data.preprocessing import IMAGENET
from r2b_zoo.data.validation import held_out
from r2b_zoo.system.machine import available_cores

TEST_SHARE = 0.2
BY_NAME, BY_RANK = "by name", "by rank"
"""Rules by which the automatic split chooses test images; both hash the photographs' paths.
``BY_NAME`` takes the photographs with a hash in the lowest fifth of all possible hashes. Photographs that are added
later then do not change the split of the others (unless a class would have none on one side). ``BY_RANK``, the rule of
earlier versions, takes the fifth of each class with the lowest hashes."""
MIN_CLASSES = 2
ADVISED_IMAGES = 20
"""Images per class, for training and testing together; a class with fewer gets a warning."""
MAX_SKIPPED_SHARE = 0.1
"""If a larger share of the image files cannot be read, the folder is refused."""
ALWAYS_SKIPPED = 3
"""Up to this many unreadable image files are skipped in a folder of any size."""
LARGEST_BATCHED = 1 << 20
"""Number of pixels (3 MB decoded). If any photograph has more, all are resized one by one, since batches of large
photographs would fill a laptop's memory."""
DIGEST_LENGTH = 16
"""Hexadecimal digits kept of a file's SHA-256, enough that no two files share them by accident."""

_TRAIN = "train"
_TEST = ("val", "valid", "validation", "test")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Photograph:
    """An image file, with its label and a digest of its content."""

    path: Path
    label: int
    header: Header
    digest: str


def folder(
    data_dir: Optional[PathLike] = None,
    image_size: int = IMAGENET.height,
    split_seed: int = 0,
    all_to_test: bool = False,
    split_rule: str = BY_NAME,
) -> "Folder":
    """Photographs in one folder per class, in any format that ``read_image`` reads.

    Checks every file by decoding it; ``skipped`` of the result lists the files and folders that are left out.

    Args:
        data_dir: the folder.
        image_size: height and width of a network's input.
        split_seed: seed of the automatic split, which depends only on this seed, the rule and the files' paths.
        all_to_test: make every photograph a test image, for photographs that a network has not seen.
        split_rule: ``BY_NAME``, or ``BY_RANK`` to split as earlier versions did.

    Raises:
        ValueError: the folder does not exist or cannot be read; there are fewer than two classes; the names of two
            classes, or of two folders of one split, differ only in case or in Unicode's composition; a class's name is
            not one line of text; a class has no images, or only one although it must be split; the folder's own two
            splits have different classes; more than a tenth of the image files (and more than three) cannot be
            decoded; or ``split_rule`` is needed and unknown.

    Warns:
        UserWarning: a class has fewer than 20 images, or fewer than 16 to train on if the folder has its own split;
            never if ``all_to_test``.
    """
    if data_dir is None:
        raise ValueError("The data set 'folder' needs data_dir=, the folder with your photographs.")
    root = Path(data_dir).expanduser()
    try:
        found_folder = root.is_dir()
    except OSError as error:
        refuse(error)
    if not found_folder:
        kind = "a file" if root.is_file() else "no folder there"
        raise ValueError(f"data_dir must be a folder with a folder of photographs per class; {root} is {kind}.")
    train_root, test_root, unused = _layout(root)
    files = _class_files(train_root)
    names = list(files)
    test_split = ""
    if test_root is None:
        found, skipped = _checked(root, names, files)
        train, test = ([], found) if all_to_test else _split(found, train_root, names, split_seed, split_rule)
        if not all_to_test:
            test_split = f"{root} has no split of its own, so these are {_SPLIT_WORDS[split_rule]}"
    else:
        test_files = _class_files(test_root)
        if set(test_files) != set(names):
            only = ", ".join(repr(name) for name in sorted(set(names) ^ set(test_files)))
            raise ValueError(f"{train_root} and {test_root} must have the same classes; only one of them has {only}.")
        train, skipped = _checked(root, names, files)
        test, skipped_test = _checked(root, names, test_files)
        skipped += skipped_test
        if all_to_test:
            train, test = [], sorted([*train, *test], key=lambda photograph: photograph.label)
    skipped += unused + _loose_images(root, {root, train_root, test_root or root})
    if not all_to_test:
        _warn_of_few(names, train, None if test_root else test)
    return Folder(
        name="folder",
        title=f"photographs in {shown(root.resolve().name)}",
        class_names=tuple(names),
        preprocessing=IMAGENET.with_size(image_size, image_size),
        skipped=tuple(skipped),
        test_split=test_split,
        root=root,
        split_rule=split_rule if test_root is None else "",
        train=tuple(train),
        test=tuple(test),
    )


@dataclass(frozen=True, kw_only=True)
class Folder(PhotographDataset):
    """Photographs in files, decoded to the same pixels as Pillow's.

    Attributes:
        root: the folder.
        split_rule: rule of the automatic split; "" if the folder has its own split.
        train: the training photographs.
        test: the test photographs.
    """

    root: Path = field(repr=False)
    split_rule: str = field(repr=False)
    train: tuple[Photograph, ...] = field(repr=False)
    test: tuple[Photograph, ...] = field(repr=False)

    def with_class_names(self, class_names: Sequence[str]) -> "Folder":
        """The same photographs with the labels of a classifier that knows their classes, and perhaps further classes.

        Args:
            class_names: the classifier's classes, in the order of its labels.

        Raises:
            ValueError: one of the photographs' classes is not a class of the classifier, or two of the classifier's
                classes have its name.
        """
        known_names = [normal(name) for name in class_names]
        numbers = [[i for i, name in enumerate(known_names) if name == own] for own in self.class_names]
        unknown = [own for own, found in zip(self.class_names, numbers, strict=True) if not found]
        if unknown:
            known = ", ".join(class_names[:MOST_NAMED]) + (", ..." if len(class_names) > MOST_NAMED else "")
            raise ValueError(
                f"The network does not know {', '.join(unknown[:MOST_NAMED])}; its {len(class_names)} classes are "
                f"{known}. Name the folders of photographs after its classes, or remove the other folders."
            )
        twice = [own for own, found in zip(self.class_names, numbers, strict=True) if len(found) > 1]
        if twice:
            raise ValueError(f"The network has more than one class named {twice[0]!r}: remove the folder of that name.")

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

    def record(self) -> dict[str, Any]:
        """Adds to ``Dataset.record`` the rule of the split and, for each photograph, its split and its digest."""
        sides = (("train", self.train), ("test", self.test))
        return {
            **super().record(),
            "split": self.split_rule,
            "files": {
                item.path.relative_to(self.root).as_posix(): [side, item.digest] for side, of in sides for item in of
            },
        }

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
            # Declare it stateless: else TensorFlow decodes one image at a time when determinism is on.
            return tf.numpy_function(_read, [encoded["path"]], tf.uint8, stateful=False), window

        image, within = tf.cond(encoded["is_plain_jpeg"], jpeg, other)
        return tf.ensure_shape(image, (None, None, 3)), within


def _table(photographs: Iterable[Photograph]) -> Encoded:
    photographs = list(photographs)
    with tf.init_scope():
        return {
            # Keep paths as bytes: a name need not be UTF-8.
            "path": tf.constant([os.fsencode(photograph.path) for photograph in photographs]),
            "label": tf.constant([photograph.label for photograph in photographs], tf.int32),
            "size": tf.constant([(item.header.height, item.header.width) for item in photographs], tf.int32),
            "is_plain_jpeg": tf.constant([photograph.header.is_plain_jpeg for photograph in photographs]),
        }


def _read(path: Union[bytes, np.ndarray]) -> np.ndarray:
    # TensorFlow passes bytes in a graph, and a 0-dimensional array of them in eager mode.
    return read_image(os.fsdecode(path if isinstance(path, bytes) else path.item()))


# --- what is in the folder --------------------------------------------------------------------------------------------


def _layout(root: Path) -> tuple[Path, Optional[Path], list[str]]:
    """The folders of training and of test classes (None if there is none), and a sentence for each unused folder."""
    found = folders(root)
    below: dict[str, Path] = {}
    for path in found:
        other = below.setdefault(path.name.lower(), path)
        if other != path and path.name.lower() in (_TRAIN, *_TEST):
            raise ValueError(
                f"{root} has the folders {other.name!r} and {path.name!r}, which differ only in case: put their "
                "classes into one folder."
            )
    if _TRAIN not in below or not folders(below[_TRAIN]):
        return root, None, []  # train may be the name of a class
    test = next((below[name] for name in _TEST if name in below), None)
    used = [path for path in (below[_TRAIN], test) if path is not None]
    where = " and ".join(path.name for path in used)
    unused = [path for path in found if path not in used]
    return below[_TRAIN], test, [f"{shown(path.name)} is left out: the classes are in {where}" for path in unused]


def _class_files(root: Path) -> dict[str, Listing]:
    """The files of each class; classes and files are in the order of their names."""
    found = folders(root)
    names = [path.name for path in found]
    for path in found:
        if not is_one_line(path.name):
            raise ValueError(
                "The name of a class must be one line of text in UTF-8, because a converted file carries it; received "
                f"the folder '{shown(path)}': rename it."
            )
    if len(names) < MIN_CLASSES:
        there = f"there is one, {names[0]!r}" if names else "there is none"
        raise ValueError(f"A classifier needs at least {MIN_CLASSES} classes, each a folder in {root}; {there}.")
    by_case: dict[str, str] = {}
    for name in names:
        other = by_case.setdefault(normal(name).casefold(), name)
        if other != name:
            alike = "upper and lower case" if normal(other) != normal(name) else "how Unicode encodes their accents"
            raise ValueError(
                f"{root} has the classes {other!r} and {name!r}, which are the same but for {alike}: put "
                "their photographs into one folder."
            )
    return {normal(path.name): listing(path) for path in found}


def normal(name: str) -> str:
    """A name in composed Unicode (NFC): macOS, and archives made there, decompose letters with accents (NFD)."""
    return unicodedata.normalize("NFC", name)


def _loose_images(root: Path, places: Iterable[Path]) -> list[str]:
    """A sentence for each image that lies directly in one of ``places``, so in no class's folder."""
    return [
        f"{shown(path.relative_to(root))} is left out: it is not in the folder of a class"
        for place in sorted(set(places))
        for path in listing(place, recursive=False).files
        if is_image_file(path)
    ]


# --- which files are images -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Image:
    header: Header
    digest: str


@dataclass(frozen=True)
class _Unread:
    """A file that is skipped.

    Attributes:
        reason: why it is skipped.
        is_image: whether its name or its content says that it is an image.
    """

    reason: str
    is_image: bool


def _checked(root: Path, names: list[str], files: dict[str, Listing]) -> tuple[list[Photograph], list[str]]:
    """The files that are images, in the order of classes and names, and a sentence for each skipped file."""
    candidates = [(path, label) for label, name in enumerate(names) for path in files[name].files]
    found = []
    unread = [(path, _Unread(f"it is {kind}", False)) for name in names for path, kind in files[name].no_files]
    results = _examined([path for path, _ in candidates])
    for (path, label), result in zip(candidates, results, strict=True):
        if isinstance(result, _Image):
            found.append(Photograph(path, label, result.header, result.digest))
        else:
            unread.append((path, result))
    unread.sort(key=lambda item: not item[1].is_image)
    skipped = [f"{shown(path.relative_to(root))} is left out: {result.reason}" for path, result in unread]
    _check_enough(root, names, found, sum(result.is_image for _, result in unread), skipped)
    return found, skipped


def _check_enough(root: Path, names: list[str], found: list[Photograph], bad: int, skipped: list[str]) -> None:
    """Raises ValueError if too many images cannot be read, or a class has no readable image."""
    if bad > max(ALWAYS_SKIPPED, MAX_SKIPPED_SHARE * (len(found) + bad)):
        raise ValueError(
            f"{bad} of the {len(found) + bad} image files in {root} cannot be read, more than "
            f"{100 * MAX_SKIPPED_SHARE:.0f} %: convert, repair or remove them. The first: {'; '.join(skipped[:3])}."
        )
    present = {photograph.label for photograph in found}
    empty = [name for label, name in enumerate(names) if label not in present]
    if empty:
        there = f" (The first files there: {'; '.join(skipped[:3])}.)" if skipped else ""
        raise ValueError(
            f"There are no images of {', '.join(empty)} in {root}. Every class needs at least one: add images, or "
            f"remove the folders that have none.{there}"
        )


def _examined(paths: Sequence[Path]) -> list[Union[_Image, _Unread]]:
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(_examine, paths))


def _examine(path: Path) -> Union[_Image, _Unread]:
    """The image's header and digest, or why the file is skipped."""
    suffix = path.suffix.lower()
    unread = _Unread(f"{path.suffix} is not read, convert it to JPEG or PNG", True)
    if suffix in RAW_SUFFIXES:
        return unread
    try:
        return _Image(check_image(path), _digest(path))
    except (ValueError, OSError) as error:
        if suffix in UNREAD_SUFFIXES:
            return unread
        if suffix not in IMAGE_SUFFIXES and is_unidentified(error):
            return _Unread("it is not an image", False)
        cause = error.__cause__ or error
        # Remove the path from the message, since the sentence already starts with it.
        return _Unread(str(cause).replace(f": {str(path)!r}", "").replace(f" {str(path)!r}", ""), True)


def _digest(path: Path) -> str:
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return content.hexdigest()[:DIGEST_LENGTH]


# --- to train and to test ---------------------------------------------------------------------------------------------

_SPLIT_WORDS = {
    BY_NAME: "about a fifth of each class, which training leaves out",
    BY_RANK: "the fifth of each class that training leaves out",
}


def _split(
    found: list[Photograph], root: Path, names: list[str], seed: int, rule: str
) -> tuple[list[Photograph], list[Photograph]]:
    """Splits each class into training and test photographs, at least one of each.

    The test photographs are those whose paths have the smallest hashes.
    """
    if rule not in _SPLIT_WORDS:
        raise ValueError(f"split_rule must be one of {', '.join(map(repr, _SPLIT_WORDS))}; received {rule!r}.")
    tested: set[Path] = set()
    for label, name in enumerate(names):
        members = [photograph.path for photograph in found if photograph.label == label]
        if len(members) < 2:
            raise ValueError(
                f"Class {name!r} has one image, {members[0]}: it needs at least 2, to train and to test, and "
                f"{ADVISED_IMAGES} or more to be recognised. (With split=all, r2b evaluate accepts a class with one "
                "image.)"
            )
        hashes = {path: _hash(path.relative_to(root), seed) for path in members}
        members.sort(key=hashes.__getitem__)
        if rule == BY_RANK:
            number = round(TEST_SHARE * len(members))
        else:
            number = sum(int(value, 16) < TEST_SHARE * 16 ** len(value) for value in hashes.values())
        tested.update(members[: min(max(1, number), len(members) - 1)])
    train = [photograph for photograph in found if photograph.path not in tested]
    return train, [photograph for photograph in found if photograph.path in tested]


def _hash(path: Path, seed: int) -> str:
    """A hexadecimal hash of a relative path and a seed, the same on every system."""
    name = normal(path.as_posix())
    return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).hexdigest()


def _warn_of_few(names: list[str], train: list[Photograph], tested: Optional[list[Photograph]]) -> None:
    """Warns of classes with few images.

    ``tested`` are the test images that an automatic split chose; None if the folder has its own split.
    """
    counts = _counts(train, names)
    if tested is None:
        is_few = counts < (1 - TEST_SHARE) * ADVISED_IMAGES
    else:
        is_few = counts + _counts(tested, names) < ADVISED_IMAGES
    few = [f"{name} ({count})" for name, count, is_one in zip(names, counts, is_few, strict=True) if is_one]
    if few:
        warnings.warn(
            f"Few images to train on: {', '.join(few)}. Expect poor accuracy with fewer than {ADVISED_IMAGES} of a "
            "class.",
            stacklevel=3,
        )


def _counts(photographs: list[Photograph], names: list[str]) -> np.ndarray:
    return np.bincount([photograph.label for photograph in photographs], minlength=len(names))
