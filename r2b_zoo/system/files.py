"""Writes files so that an interrupted or failed write leaves the old file, and never a partial new one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; the file written there replaces ``path`` if the block succeeds.

    Args:
        path: the final path.
        durable: flush the content to disk before renaming, so that a power failure leaves no empty file.
    """
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        if durable:
            _to_disk(partial)
        os.replace(partial, path)
        if durable:
            _to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: "bytes | memoryview", durable: bool = False) -> None:
    with replacing(path, durable) as partial:
        partial.write_bytes(data)


def set_aside(path: Path) -> Path:
    """Renames a damaged file instead of deleting it, since parts of it may still be readable; returns its new path."""
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    return aside


def replace_folder(partial: Path, folder: Path) -> None:
    """Renames a folder to its final name, after flushing everything in it to disk."""
    for path in partial.rglob("*"):
        _to_disk(path)
    os.replace(partial, folder)
    _to_disk(folder.parent)


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
