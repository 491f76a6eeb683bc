"""The writing operations of a process, one by one: where it is killed, or where the operating system refuses."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
TORN = 7  # bytes that a torn page lacks


@dataclass
class Act:
    """What happens instead of one operation."""

    name: str  # "kill", "torn" (the file's last bytes are missing, then a kill), "short", or an errno's name
    number: int  # of the operation, from 0


class Operations:
    """Counts what writes below ``folder`` in this process, and acts once."""

    def __init__(self, folder: Path, act: Act | None) -> None:
        self._folder, self._act = str(folder), act
        self.synced: list[bool] = []  # of each operation: whether it syncs a file, whose last bytes may be missing
        self._own, self._busy = os.fsync, False

    def start(self) -> None:
        """From now on; for a process that ends soon, since an audit hook cannot be taken out."""
        sys.addaudithook(self._audit)
        os.fsync = self._fsync

    def _audit(self, event: str, of: tuple) -> None:
        if self._busy:
            return
        if event == "open":
            path, _, flags = of
            if isinstance(flags, int) and flags & WRITES:
                self._count(path)
        elif event in CHANGES:
            self._count(of[0])

    def _fsync(self, descriptor: int) -> None:
        self._count(os.readlink(f"/proc/self/fd/{descriptor}"), descriptor)
        self._own(descriptor)

    def _count(self, path: object, descriptor: int | None = None) -> None:
        if isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(self._folder):
            return
        self.synced.append(descriptor is not None and os.path.isfile(os.fsdecode(path)))
        if self._act is not None and len(self.synced) == self._act.number + 1:
            self._do(self._act.name, os.fsdecode(path), descriptor)

    def _do(self, name: str, path: str, descriptor: int | None) -> None:
        self._busy = True
        if name in ("torn", "short") and descriptor is not None and os.path.isfile(path):
            size = os.fstat(descriptor).st_size
            with contextlib.suppress(OSError), open(path, "rb+") as file:
                file.truncate(max(0, size - TORN))
        if name in ("kill", "torn"):
            os.kill(os.getpid(), signal.SIGKILL)
        self._busy = False
        code = errno.ENOSPC if name == "short" else getattr(errno, name)
        raise OSError(code, os.strerror(code), path)


def in_child(work: Callable[[], object], log: Path) -> tuple[int, str]:
    """Do ``work`` in a forked process; its exit status (negative: the signal), and what its error or result says."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        faulthandler.disable()  # a process without memory may end by a signal of its own
        try:
            with open(log, "w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            said = log.with_suffix(".said")
            try:
                said.write_text(str(work()), encoding="utf-8")
                status = 0
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
                with contextlib.suppress(BaseException):
                    said.write_text(text, encoding="utf-8")
        finally:
            os._exit(status)
    _, waited = os.waitpid(pid, 0)
    said = log.with_suffix(".said")
    text = said.read_text(encoding="utf-8") if said.exists() else ""
    said.unlink(missing_ok=True)
    return os.waitstatus_to_exitcode(waited), text
