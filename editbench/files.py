"""Files that survive crashes: atomic replacement, locks, tensor files sealed with a digest, and digests of any file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.checks import folder_name

if TYPE_CHECKING:
    from io import BufferedReader

    from filelock import BaseFileLock
    from torch import Tensor

_log = logging.getLogger(__name__)

LOCK_TIMEOUT, TEST_TIMEOUT = 0.5, 0.1  # seconds to wait for a lock that a test may hold for an instant, and for a test
HOLDER_OFFSET = 1  # offset of the holder's name in a lock file: Windows locks the first byte against reading too
SEAL_KEY = "editbench"  # the only key of a tensor file's header metadata: safetensors writes several in random order
_MODEL = ("config.json", "adapter_config.json")
_OF_MODELS = (".json", ".jinja", ".model", ".txt", ".safetensors", ".bin", ".pt", ".pth", ".gguf")
_SETTLED = 2.0  # seconds: a file that was changed later may change again and keep its time
_BLOCK = 1 << 22
MAX_BYTES = 8 << 30  # of a file that is read whole: the rows of 100,000 edits take one


class ResultsError(ValueError):
    """Results that cannot be written or read; the message names the path and the remedy."""


class DamagedFile(ResultsError):
    """A file that is missing, truncated or altered; the message names it and the reason."""


# -- replacing, reading ------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces ``path`` when the block ends without an error.

    After a crash ``path`` holds all of the old or all of the new. Any number of processes may do so at once.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # replaced, it is gone
            temporary.unlink()


def sync_folder(path: Path) -> None:
    """Make new and renamed files of a folder durable; Windows cannot, and need not."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(action: str, path: Path, remedy: str) -> Iterator[None]:
    """Turn the operating system's errors into a `ResultsError` with a remedy."""
    try:
        yield
    except OSError as error:
        raise ResultsError(f"cannot {action} {path}: {error.strerror or error}; {remedy}") from error


def make_folder(path: Path) -> None:
    """Make a folder unless it is there; its parent must be a folder."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        raise ResultsError(
            f"cannot make the folder {path}: {path.parent} is not a folder; make it first, or correct it"
        )
    with explained("make the folder", path, "choose another results folder, or make its parent writable"):
        path.mkdir(exist_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A hidden folder that becomes ``path`` when the block ends, and is deleted if it fails; ``path`` must be new."""
    folder_name(out=path.name)
    if path.exists():
        raise ValueError(f"{path} is there already; give a new folder with --out")
    make_folder(path.parent)
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        with explained("write", path, "free some space, or give another folder with --out"):
            hidden.mkdir()
            yield hidden
            hidden.rename(path)
            sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file's content; if that fails, the old content is intact."""
    remedy = "is its folder there and writable, and is there space on the disk?"
    with explained("write", path, remedy), replacing(path) as temporary:
        temporary.write_bytes(data)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, if it is one: a pipe would wait for ever, a device never end. An OSError otherwise."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """All bytes of a file that must be there, be a regular file, and have at most so many."""
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > limit:
                raise OSError(errno.EFBIG, f"it has {size} bytes, more than {limit}")
            return file.read()
    except FileNotFoundError as error:
        raise DamagedFile(f"{path} is missing; restore it from a copy, or delete the run") from error
    except OSError as error:
        raise DamagedFile(f"cannot read {path}: {error.strerror or error}") from error


# -- locks ------------------------------------------------------------------------------------------------------------


def lock(path: Path) -> BaseFileLock:
    """Lock a file exclusively until `release` or the end of this process; a `ResultsError` names another holder."""
    from filelock import FileLock, Timeout

    acquired = FileLock(path, timeout=LOCK_TIMEOUT, poll_interval=0.02, mode=0o666, thread_local=False)
    with explained("lock", path, "is its folder writable, on a file system that knows locks?"):
        path.touch()  # filelock would make missing folders
        holder = _holder(path)  # now: filelock 3 empties the file
        try:
            acquired.acquire()
        except Timeout:
            raise ResultsError(
                f"{path.parent} is being written by {holder}; wait for it, or give this run another name"
            ) from None
        try:
            with open(path, "r+b") as file:
                file.seek(HOLDER_OFFSET)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
                file.truncate()
        except BaseException:
            acquired.release()
            raise
    return acquired


def is_locked(path: Path) -> bool:
    """Whether a process holds this lock; True also if that is unknown."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=TEST_TIMEOUT, poll_interval=0.02, thread_local=False):
            return False
    except (Timeout, OSError):
        return True


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Wait for every other process that is within such a block with this lock file; where locks fail, do not wait.

    A process that ends lets go of its lock, however it ends. ``what`` is made in the block: to say what is waited for.
    """
    from filelock import FileLock, Timeout

    acquired = FileLock(path, poll_interval=0.1, mode=0o666, thread_local=False)
    try:
        try:
            acquired.acquire(timeout=LOCK_TIMEOUT)
        except Timeout:
            _log.warning("another process makes %s: waiting for it (%s)", what, path)
            acquired.acquire()
    except (OSError, NotImplementedError) as error:
        _log.warning("%s cannot be locked (%s): other processes may make %s, too", path, error, what)
    try:
        yield
    finally:
        acquired.release()


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(HOLDER_OFFSET)
        return file.read(200).decode("utf-8", "replace") or "another process"
    return "another process"


# -- tensors ----------------------------------------------------------------------------------------------------------


_DTYPES = {  # torch's names of safetensors' types
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8"},
}
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)  # made once, for speed


def canonical(value: Any) -> bytes:
    """A value as JSON with sorted keys and no blanks: equal values give equal bytes."""
    return _CANONICAL.encode(value).encode()


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 over the metadata with sorted keys and every tensor's name, dtype, shape and bytes, by name."""
    return encode_tensors(tensors, metadata)[2]


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> tuple[bytes, memoryview, str]:
    """Header, body and content digest of a safetensors file; equal content gives equal bytes.

    Tensors may be on any device and have any strides; metadata are JSON values.
    """
    from safetensors.torch import save

    storages: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if storage in storages else tensor  # safetensors refuses two views of one storage
        storages.add(storage)
    data = save(plain)
    entries, body = _split(memoryview(data))
    digest = _digest(entries, body, metadata)
    return _header(entries, metadata, digest), body, digest


def decode_tensors(data: bytes | memoryview, source: str) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, metadata and content digest of bytes of `encode_tensors`; ``source`` names them in messages.

    The tensors are copies, so that the memory of ``data`` can be used again; safetensors reads no memory but that of
    immutable bytes, and blocks of it between tensors that stay leave gaps as large as these.
    """
    metadata, digest = check_tensors(data, source)
    entries, body = _split(memoryview(data))
    try:
        return {n: _copied(entry, body) for n, entry in entries.items() if n != "__metadata__"}, metadata, digest
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFile(f"{source} is damaged ({error})") from error


def _copied(entry: Mapping[str, Any], body: memoryview) -> Tensor:
    """The tensor of an entry of a safetensors header; a ValueError if its bytes are not as many as its shape needs."""
    import numpy as np
    import torch

    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    dtype: torch.dtype = getattr(torch, _DTYPES[entry["dtype"]])
    wanted, found = math.prod(shape) * dtype.itemsize, len(body[begin:end])
    if wanted != found:
        raise ValueError(f"a tensor of {wanted} bytes has {found}")
    tensor = torch.empty(shape, dtype=dtype)
    tensor.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(body[begin:end], np.uint8)
    return tensor


def check_tensors(data: bytes | memoryview, source: str) -> tuple[dict[str, Any], str]:
    """Metadata and content digest of bytes of `encode_tensors`; a `DamagedFile` if a byte does not fit the digest."""
    try:
        entries, body = _split(memoryview(data))
        seal = json.loads(entries.pop("__metadata__")[SEAL_KEY])
        metadata, digest = seal["metadata"], seal["digest"]
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        same = end == len(body) and digest == _digest(entries, body, metadata)
        same = same and _header(entries, metadata, digest) == data[: len(data) - len(body)]
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{source} is damaged: it is no sealed tensor file ({error!r})") from error
    if not same:
        reason = "it is truncated" if len(body) < end else "its content was altered, or part of it is lost"
        raise DamagedFile(f"{source} is damaged: {reason}")
    return metadata, digest


def read_metadata(file: BufferedReader, size: int, source: str) -> tuple[dict[str, Any], str]:
    """Metadata and content digest at the place of an open file where bytes of `encode_tensors` begin, ``size`` of them.

    The tensors are not read, so that nothing is checked against the digest; a `DamagedFile` where there is no header.
    """
    try:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError("truncated in its header")
        seal = json.loads(json.loads(file.read(length))["__metadata__"][SEAL_KEY])
        metadata: dict[str, Any] = seal["metadata"]
        return metadata, str(seal["digest"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFile(f"{source} is damaged: it is no sealed tensor file ({error!r})") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """Replace a tensor file atomically; return its content digest."""
    header, body, digest = encode_tensors(tensors, metadata)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        file.write(body)
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of `write_tensors`."""
    return decode_tensors(read_bytes(path), str(path))[:2]


def _split(data: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Header of a safetensors file, decoded, and the tensors' bytes."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise ValueError("truncated in its header")
    return json.loads(bytes(data[8 : 8 + length])), data[8 + length :]


def _header(entries: Mapping[str, Any], metadata: Mapping[str, Any], digest: str) -> bytes:
    seal = canonical({"digest": digest, "metadata": metadata}).decode()
    text = canonical({"__metadata__": {SEAL_KEY: seal}, **entries})
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def _digest(entries: Mapping[str, Any], body: memoryview, metadata: Mapping[str, Any]) -> str:
    sha = hashlib.sha256(canonical(metadata))
    for name in sorted(entries):
        entry = entries[name]
        begin, end = entry["data_offsets"]
        sha.update(b"\n" + canonical([name, entry["dtype"], entry["shape"]]) + b"\n")
        sha.update(body[begin:end])
    return sha.hexdigest()


# -- digests of files -------------------------------------------------------------------------------------------------


def file_digests(path: Path, cache: Path | None = None) -> dict[str, str]:
    """SHA-256 of a file ("") or of the files in a folder, by path from there; a missing path has none.

    Of a model's folder only the files that transformers reads count (configuration, tokenizer, generation settings,
    weights), of another all but hidden ones. ``cache`` keeps digests by a file's path, size, times and inode.
    """
    if path.is_file():
        return {"": _file_digest(path, cache)}
    files = sorted(_files(path)) if path.is_dir() else []
    return {file.relative_to(path).as_posix(): _file_digest(file, cache) for file in files}


def _files(folder: Path) -> Iterator[Path]:
    if any((folder / name).is_file() for name in _MODEL):
        yield from (file for file in folder.iterdir() if file.is_file() and file.suffix in _OF_MODELS)
        return
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield file


def _file_digest(file: Path, cache: Path | None) -> str:
    file = file.resolve()
    found = file.stat()
    stamp = [str(file), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
    name = hashlib.sha256(str(file).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    kept = cache / "digests" / f"{name}.json" if cache is not None else None
    if kept is not None and (known := _remembered(kept, stamp)) is not None:
        return known
    sha, begun = hashlib.sha256(), time.time()
    with open_regular(file) as stream:
        while block := stream.read(_BLOCK):
            sha.update(block)
    if kept is not None and max(found.st_mtime, found.st_ctime) < begun - _SETTLED:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps({"stamp": stamp, "sha256": sha.hexdigest()}), encoding="utf-8")
    return sha.hexdigest()


def _remembered(kept: Path, stamp: list[object]) -> str | None:
    try:
        known = json.loads(kept.read_text(encoding="utf-8"))
        return str(known["sha256"]) if known["stamp"] == stamp else None
    except (OSError, ValueError, KeyError, TypeError):  # not there, or not whole: it is read again
        return None
