"""A file lock that is released when its process ends, however it ends."""

import contextlib
import os
import platform
import warnings
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class LockedError(RuntimeError):
    """Another process holds the lock.

    Attributes:
        owner: a description of that process.
    """

    def __init__(self, owner: str) -> None:
        super().__init__(f"locked by {owner}")
        self.owner = owner


class Lock:
    """Holds the lock until ``release``, or until the process ends.

    The file contains the owner's process ID and host name. It is never deleted: otherwise, a process that has opened it
    could lock the deleted file while another process locks a new one. If the system or the file system has no such
    locks, there is a warning, and nothing is locked.

    Args:
        path: path of the file; its folder must exist.

    Raises:
        LockedError: another process, or another ``Lock`` in this process, holds the lock.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(path)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"process {os.getpid()} on {platform.node()}".encode())
        except BaseException:
            os.close(self._descriptor)
            raise

    def _acquire(self, path: Path) -> None:
        if fcntl is None:
            self._warn(path, "this system has no locks that end with a process")
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(path.read_text(encoding="utf-8") or "another process") from None
        except OSError as error:
            self._warn(path, f"its file system has no locks ({error.strerror})")

    @staticmethod
    def _warn(path: Path, why: str) -> None:
        warnings.warn(
            f"{path.parent} is not protected from a second process, since {why}: start only one there.", stacklevel=4
        )

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
