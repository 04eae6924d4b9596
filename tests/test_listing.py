"""Tests which files of a folder are read as images, and how paths are shown."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from r2b_zoo.data.listing import image_files, is_hidden, is_one_line, listing, shown


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("2.jpg", "a/1.png", "a/b/0.webp"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def names_of(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_images_are_found_by_suffix_or_content_in_the_order_of_names(photos):
    shutil.copy(photos / "2.jpg", photos / "3")
    (photos / "notes.txt").write_text("no image")
    (photos / "damaged.png").write_bytes(b"")
    assert names_of(image_files(photos), photos) == ["2.jpg", "3", "a/1.png", "a/b/0.webp", "damaged.png"]
    assert names_of(image_files(photos, 2), photos) == ["2.jpg", "3"]


def test_hidden_files_are_not_images(photos):
    for name in ("._2.jpg", "Thumbs.db", "desktop.ini", "Icon\r"):
        shutil.copy(photos / "2.jpg", photos / name)
    for name in ("@eaDir", "lost+found", "System Volume Information", ".cache"):
        shutil.copytree(photos / "a", photos / name)
    os.mkfifo(photos / "pipe.jpg")
    assert names_of(image_files(photos), photos) == ["2.jpg", "a/1.png", "a/b/0.webp"]
    assert names_of((path for path, _ in listing(photos).no_files), photos) == ["pipe.jpg"]
    assert is_hidden("THUMBS.DB")
    assert not is_hidden("eaDir")
    # A hidden folder is listed like any other if the caller passes its path.
    assert names_of(image_files(photos / ".cache"), photos) == [".cache/1.png", ".cache/b/0.webp"]


def test_paths_without_images(photos):
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nosuchdir': give a folder of images\."):
        image_files(photos / "nosuchdir")
    with pytest.raises(ValueError, match=r"2\.jpg is a file: give the folder of images that it is in\."):
        image_files(photos / "2.jpg")
    (photos / "empty").mkdir()
    with pytest.raises(ValueError, match=r"There are no images in .*empty: give a folder that has images"):
        image_files(photos / "empty")


def test_control_characters_in_names_are_shown_escaped():
    assert shown(os.fsdecode(b"caf\xe9/\x1b[2J\n.jpg")) == "caf\\udce9/\\x1b[2J\\n.jpg"
    assert shown("Café ☕ 猫.jpg") == "Café ☕ 猫.jpg"
    assert is_one_line("Café ☕ 猫 👩\u200d🌾")
    assert not any(map(is_one_line, ("a\nb", "\x1b", "\x85", "\u2028", "\udce9")))
