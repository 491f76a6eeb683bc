"""Downloads that are checked, go on where they broke off, and never leave a half-written file under its own name."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from editbench.files import file_digests, sync_folder, write_atomic
from editbench.progress import progress

if TYPE_CHECKING:
    from editbench.progress import Advance

_log = logging.getLogger(__name__)
TIMEOUT = httpx2.Timeout(30.0, connect=5.0)  # seconds without a byte, and to connect
TRIES, PAUSE = 5, 1.0  # connections for one file, and seconds between two
MEGABYTE = 1_000_000
_PLAIN = {"Accept-Encoding": "identity"}  # lengths and ranges are of the file's own bytes


class DownloadError(OSError):
    """A file that could not be had, or is not the expected one; the message says what to do."""


def download(url: str, target: Path, *, sha256: str | None = None, client: httpx2.Client | None = None) -> str:
    """Download to ``target``, and return the SHA-256 of what is there then.

    Until its length and its digest are right, the content is in ``<target>.part``: after a broken connection, also in
    another process, it goes on from there if the server sends ranges of the same file; else it starts anew.

    Raises:
        DownloadError: No connection, a refusal, or a content that is not that of ``sha256``.
    """
    part = target.with_name(f"{target.name}.part")
    with ExitStack() as stack:
        client = client or stack.enter_context(httpx2.Client(timeout=TIMEOUT, follow_redirects=True))
        resumed = _receive(client, url, part)
        found = digest_of(part)
        if resumed and sha256 not in (None, found):  # the first half may have been of another file
            part.unlink()
            _receive(client, url, part)
            found = digest_of(part)
    if sha256 not in (None, found):
        forget_part(target)
        raise DownloadError(f"{url} has SHA-256 {found}, and {sha256} was expected; nothing of it is kept")
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    forget_part(target)
    sync_folder(target.parent)
    return found


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return file_digests(file)[""]


def forget_part(target: Path) -> None:
    """Remove what is left of a download to ``target``."""
    for suffix in (".part", ".part.json"):
        target.with_name(f"{target.name}{suffix}").unlink(missing_ok=True)


def _receive(client: httpx2.Client, url: str, part: Path) -> bool:
    """Complete ``part``, with several connections if one breaks; whether it began with bytes of an earlier one."""
    part.parent.mkdir(parents=True, exist_ok=True)
    resumed = False
    for attempt in range(1, TRIES + 1):
        have = part.stat().st_size if part.is_file() else 0
        try:
            return _connection(client, url, part) or resumed
        except (httpx2.TransportError, _CutOff) as error:
            now = part.stat().st_size if part.is_file() else 0
            resumed = resumed or now > 0
            if attempt == TRIES or isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout)) and now == have:
                kept = f"; the same command goes on after {now / MEGABYTE:.0f} MB" if now else ""
                raise DownloadError(f"{url} cannot be read ({error or type(error).__name__}){kept}") from error
            _log.info("the connection broke after %.1f MB (%s); going on", now / MEGABYTE, error)
            time.sleep(PAUSE)
    raise AssertionError("the last try returns or raises")


class _CutOff(Exception):
    """The server closed before the whole file was there."""


def _connection(client: httpx2.Client, url: str, part: Path) -> bool:
    """One request for the rest of ``part``, to its end; whether the server went on where ``part`` ended."""
    have, mark = _resumable(url, part)
    headers = {**_PLAIN, **({"Range": f"bytes={have}-", "If-Range": mark} if have else {})}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            raise _CutOff("the kept part is longer than the file")
        if response.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise DownloadError(f"{url} answers {response.status_code} {response.reason_phrase}")
        start = have if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise _CutOff("the server sent another range than was asked for")
        length = response.headers.get("Content-Length")
        whole = start + int(length) if length is not None else None
        if not start:
            _remember(url, part, response.headers)
        title = f"{part.name.removesuffix('.part')} (MB)"
        with progress(title, max(1, (whole or 0) // MEGABYTE), start // MEGABYTE) as advance:
            written = start + _write(response, part, start, advance)
    if whole is not None and written != whole:
        raise _CutOff(f"{written} of {whole} bytes came")
    return start > 0


def _write(response: httpx2.Response, part: Path, start: int, advance: Advance) -> int:
    """Append the response's bytes behind the first ``start``; their number."""
    count = shown = 0
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        for block in response.iter_raw():
            file.write(block)
            count += len(block)
            if count // MEGABYTE > shown:
                advance(count // MEGABYTE - shown)
                shown = count // MEGABYTE
    return count


def _resumable(url: str, part: Path) -> tuple[int, str]:
    """Bytes in ``part`` that a request may go on behind, and the server's mark of the file that they are of."""
    try:
        known: dict[str, Any] = json.loads(part.with_name(f"{part.name}.json").read_text(encoding="utf-8"))
        if known["url"] == url and known["mark"]:
            return part.stat().st_size, str(known["mark"])
    except (OSError, ValueError, KeyError, TypeError):  # no mark: the file is read from its start
        pass
    return 0, ""


def _remember(url: str, part: Path, headers: httpx2.Headers) -> None:
    """Keep the server's mark of the file (a strong ETag, or its time), by which a later request tells it again."""
    tag = headers.get("ETag", "")
    mark = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
    part.unlink(missing_ok=True)
    write_atomic(part.with_name(f"{part.name}.json"), json.dumps({"url": url, "mark": mark}).encode())


def copied(source: Path, target: Path, *, sha256: str | None = None) -> str:
    """Copy a file of the user's to ``target`` if its SHA-256 is the expected one; return it."""
    if not source.is_file():
        raise DownloadError(f"there is no file {source}; correct --from")
    digest, part = hashlib.sha256(), target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, part.open("wb") as written:
        while block := read.read(1 << 22):
            digest.update(block)
            written.write(block)
        written.flush()
        os.fsync(written.fileno())
    if sha256 not in (None, digest.hexdigest()):
        part.unlink()
        raise DownloadError(f"{source} has SHA-256 {digest.hexdigest()}; the published file has {sha256}")
    os.replace(part, target)
    sync_folder(target.parent)
    return digest.hexdigest()
