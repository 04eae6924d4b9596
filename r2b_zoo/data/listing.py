"""Lists the files of a folder, by the same rule for training, ``r2b evaluate`` and ``r2b verify --images``.

Files that operating systems and programs create for themselves count as hidden, and are ignored. Every other regular
file may be an image, whatever its suffix. Links are followed.
"""

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn, Optional

from r2b_zoo.data.images import PathLike, is_image_file
from r2b_zoo.system.terminal import printable

# Names in lower case. Names that start with a dot are hidden too: .DS_Store, ._photo.jpg, .Trash-1000, .thumbnails.
HIDDEN_NAMES = frozenset(
    (
        "__macosx",  # macOS, in ZIP archives
        "icon\r",  # macOS, the icon of a folder
        "thumbs.db",  # Windows
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",  # ext2 to ext4
        "@eadir",  # Synology: thumbnails, as JPEGs
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
    )
)

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Unicode categories of control characters, bytes that are not UTF-8, and separators of lines and paragraphs.
_NOT_IN_A_LINE = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Listing:
    """The files in a folder and its subfolders, in the order of their names.

    Attributes:
        files: the regular files.
        no_files: paths that are neither regular files nor folders, each with its kind in words, for example "a pipe".
    """

    files: tuple[Path, ...]
    no_files: tuple[tuple[Path, str], ...]


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name belongs to a system or a program, not to the user."""
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


def folders(root: Path) -> list[Path]:
    """A folder's subfolders except hidden ones, sorted by name. Raises ValueError if the folder cannot be read."""
    try:
        return sorted(path for path in root.iterdir() if not is_hidden(path.name) and path.is_dir())
    except OSError as error:
        refuse(error)


def listing(root: PathLike, recursive: bool = True) -> Listing:
    """Lists a folder, and by default its subfolders. Raises ValueError if a folder cannot be read."""
    found, others = [], []
    for path in sorted(_paths(root, recursive)):
        kind = _kind(path)
        if kind is None:
            found.append(path)
        else:
            others.append((path, kind))
    return Listing(tuple(found), tuple(others))


def _paths(root: PathLike, recursive: bool) -> Iterator[Path]:
    entered = set()
    for directory, below, names in os.walk(root, followlinks=True, onerror=refuse):
        # Enter each folder once: a link to a parent folder would lead to an endless walk.
        entered.add(os.path.realpath(directory))
        below[:] = [
            name
            for name in below
            if recursive and not is_hidden(name) and os.path.realpath(os.path.join(directory, name)) not in entered
        ]
        yield from (Path(directory) / name for name in names if not is_hidden(name))


def _kind(path: Path) -> Optional[str]:
    """What a path is if it is not a regular file, found out without opening it; None if it is a regular file.

    Opening a pipe, for example, could block for ever.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "a link to nothing" if path.is_symlink() else f"not readable ({error.strerror})"
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "not a regular file")


def image_files(folder: PathLike, number: Optional[int] = None) -> list[Path]:
    """The image files in a folder and its subfolders, in the order of their names, at most ``number``.

    Damaged images are included; reading them raises an error.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it is not a folder, cannot be read, or has no images.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"There is no folder '{shown(root)}': give a folder of images.")
    if not root.is_dir():
        raise ValueError(f"{shown(root)} is a file: give the folder of images that it is in.")
    found = list(islice(filter(is_image_file, listing(root).files), number))
    if not found:
        raise ValueError(
            f"There are no images in {shown(root)}: give a folder that has images in it or in its subfolders."
        )
    return found


def refuse(error: OSError) -> NoReturn:
    """Raises ValueError with one sentence about a folder that cannot be read."""
    raise ValueError(
        f"The folder {shown(error.filename)} cannot be read ({error.strerror}): change its permissions, or choose "
        "another."
    ) from None


def shown(path: PathLike) -> str:
    """A path for display: a line break is shown as ``\\n``, and a byte that is not UTF-8 as ``\\udce9``."""
    return printable(os.fspath(path))


def is_one_line(name: str) -> bool:
    """Whether a name fits into a list of labels with one label per line."""
    return not any(unicodedata.category(char) in _NOT_IN_A_LINE for char in name)
