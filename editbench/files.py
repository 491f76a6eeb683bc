"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file; what the block writes there takes the place of ``path`` when it ends well.

    After a crash ``path`` holds all of the old or all of the new. Any number of processes may do so at once.

    Raises:
        OSError: It cannot be written; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it is gone when all went well
            temporary.unlink()


def _sync_folder(path: Path) -> None:
    """Make a rename in this folder durable; Windows can neither do this nor needs it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


LOCK_PATIENCE = 0.5
"""Seconds to wait for a lock: a reader that looks whether a run is alive holds it for an instant."""


@contextmanager
def explained(action: str, path: Path, remedy: str) -> Iterator[None]:
    """Turn the operating system's errors into a `ResultsError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"cannot {action} {path}: {error.strerror or error}; {remedy}") from error


def make_folder(path: Path) -> None:
    """Make `path`, whose parent must be there, unless it is there already.

    Raises:
        ResultsError: If the parent is missing, is read-only or is not a folder.
    """
    if path.is_dir():
        return
    if not path.parent.is_dir():
        raise ResultsError(
            f"cannot make the folder {path}: {path.parent} is not a folder; make it first, or correct it"
        )
    with explained("make the folder", path, "choose another results folder, or make its parent writable"):
        path.mkdir(exist_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file's content: after a crash it holds all of the old or all of the new.

    Raises:
        ResultsError: If it cannot be written; the old content is intact.
    """
    remedy = "is its folder there and writable, and is there space on the disk?"
    with explained("write", path, remedy), replacing(path) as temporary:
        temporary.write_bytes(data)


class Lock:
    """An exclusive lock on a file, which the operating system lets go when the process ends, however it ends.

    Raises:
        ResultsError: If another process, or this one, holds it already.
    """

    def __init__(self, path: Path) -> None:
        with explained("lock", path, "is its folder writable, on a file system that knows locks?"):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._acquire(path)
            except BaseException:
                self.release()
                raise

    def _acquire(self, path: Path) -> None:
        if sys.platform == "win32":
            warnings.warn("no file locks here: do not let two processes write the same run", stacklevel=4)
            return
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(self._descriptor, 200, 0).decode("utf-8", "replace") or "another process"
                    raise ResultsError(
                        f"{path.parent} is being written by {holder}; wait for it, or give this run another name"
                    ) from None
                time.sleep(0.02)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def release(self) -> None:
        """Let go; more than once is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_locked(path: Path) -> bool:
    """Whether some process holds this lock; also True where that cannot be told."""
    if sys.platform == "win32":
        return True
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class ResultsError(ValueError):
    """Results that cannot be written or read; the message names the path and says what to do."""
