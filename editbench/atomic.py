"""Files that are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

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
