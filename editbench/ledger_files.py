"""The ledger on disk: one tensor blob an edit batch in append-only segments, an index of them, and keyframes.

`docs/run-format.md` describes the files. Here a batch is tensors with metadata; their meaning is the ledger's.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from editbench.files import (
    DamagedFile,
    check_tensors,
    decode_tensors,
    encode_tensors,
    make_folder,
    open_regular,
    read_bytes,
    read_metadata,
    sync_folder,
    write_tensors,
)
from editbench.json_lines import append_lines, cut_to, decode_lines, encode, split_lines

if TYPE_CHECKING:
    from torch import Tensor

INDEX_FILE = "index.jsonl"
_NAME = re.compile(r"segment-[0-9]{6,}\.bin|keyframe-[0-9]{6,}\.safetensors")
SEGMENT_BYTES = 64 << 20  # size from which a segment takes no further batch
REUSED_BYTES = 16 << 20  # of a blob that is read into memory which stays for the next one
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Blob:
    """Place and content digest of one batch's tensors."""

    segment: str
    offset: int
    bytes: int
    digest: str

    @property
    def end(self) -> int:
        """Offset of the first byte after the blob."""
        return self.offset + self.bytes


@dataclass(frozen=True, slots=True)
class Keyframe:
    """File and content digest of the changed weights after so many batches."""

    after: int
    file: str
    digest: str


@dataclass(slots=True)
class EditBatch:
    """One edit batch, on disk or in memory."""

    written: tuple[str, ...]  # ids of its requests
    weights: tuple[str, ...]  # names of the weights that it changes
    blob: Blob | None = None  # place of its tensors on disk; None: they are in memory
    changes: tuple[Any, ...] = ()  # in memory
    forgotten: dict[str, int] = field(default_factory=dict)  # ids removed since, and the number of batches then
    memory: dict[str, Blob] = field(default_factory=dict)  # places of the method's own memory by name; on disk only
    by: str = ""  # the editor's class; empty if it is not known

    def of(self, editor: str) -> bool:
        """Whether an editor of this class made it, several of which may share a ledger."""
        return self.by in ("", editor)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of its requests, without those forgotten."""
        return tuple(i for i in self.written if i not in self.forgotten) if self.forgotten else self.written

    def ids_after(self, batches: int) -> tuple[str, ...]:
        """Ids that it had when the ledger held so many batches."""
        return tuple(i for i in self.written if self.forgotten.get(i, batches + 1) > batches)


class LedgerFiles:
    """Reads and writes the files of one ledger, in the folder ``path``; ``batches`` counts those in the index."""

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        make_folder(path)
        self.path, self._index = path, path / INDEX_FILE
        self.batches = 0
        self._end: Blob | None = None  # the last batch's
        self._keyframes: list[Keyframe] = []
        self._unkeyed = 0  # bytes of the batches since the last keyframe
        self._buffer = bytearray()
        for _, line in self._lines():
            self._note(line)

    def _note(self, line: Mapping[str, Any]) -> None:
        """Follow a line of the index."""
        if "batch" in line:
            self._end = _blob(line)
            self.batches, self._unkeyed = self.batches + 1, self._unkeyed + self._end.bytes
        elif "keyframe" in line:
            self._keyframes.append(Keyframe(line["after"], _own_name(line["keyframe"]), line["digest"]))
            self._unkeyed = 0

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(
        self,
        ids: Sequence[str],
        weights: Sequence[str],
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, Any],
        memory: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]] | None = None,
        by: str = "",
    ) -> EditBatch:
        """Append one batch: complete and on disk, or the files are as they were.

        ``metadata`` are JSON values; ``memory`` has tensors and metadata by name, which can be read one by one.
        """
        number, last = self.batches, self._end
        segment, start = f"segment-{number:06d}.bin", 0
        if last is not None and last.end < SEGMENT_BYTES:
            segment, start = last.segment, last.end
        line: dict[str, Any] = {"batch": number, "ids": list(ids), "weights": list(weights)}
        try:
            with self._segment(segment, start) as file:
                end, kept = start, dict[str, Blob]()
                for name, of_it in (memory or {}).items():
                    kept[name] = _put(file, segment, end, *of_it)
                    end = kept[name].end
                own = {**metadata, **line, "memory": _digests(kept)}
                blob = _put(file, segment, end, tensors, own)
            self._add({**line, **({"by": by} if by else {}), **asdict(blob), **_memory_in_line(kept)})
        except BaseException:
            self._cut(segment, start)
            raise
        return EditBatch(tuple(ids), tuple(weights), blob, memory=kept, by=by)

    @contextmanager
    def _segment(self, segment: str, start: int) -> Iterator[BinaryIO]:
        with open(self.path / segment, "ab") as file:
            file.truncate(start)  # a batch whose process ended before its line was written
            yield file
            file.flush()
            os.fsync(file.fileno())
        if start == 0:
            sync_folder(self.path)

    def _cut(self, segment: str, size: int) -> None:
        path = self.path / segment
        if size == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            os.truncate(path, size)

    def _add(self, line: Mapping[str, Any]) -> None:
        if not self._index.exists():
            self._index.touch()
            sync_folder(self.path)
        append_lines(self._index, f"{encode(line)}\n")
        self._note(line)

    def forget(self, ids: Sequence[str]) -> None:
        """Remove ids from their batches; the changes stay."""
        self._add({"after": self.batches, "forgotten": list(ids)})

    def keyframe_due(self, every: int, weights: Mapping[str, Tensor]) -> bool:
        """Whether the last keyframe is at least ``every`` batches ago, and these have as many bytes as the weights.

        So keyframes take at most as much space as the batches, and a replay does not grow with the ledger.
        """
        last = self._keyframes[-1].after if self._keyframes else 0
        return self.batches - last >= every and self._unkeyed >= sum(weight.nbytes for weight in weights.values())

    def add_keyframe(self, weights: Mapping[str, Tensor]) -> None:
        """Store the changed weights after the last batch."""
        file = f"keyframe-{self.batches:06d}.safetensors"
        digest = write_tensors(self.path / file, weights, {"after": self.batches})
        self._add({"after": self.batches, "keyframe": file, "digest": digest})

    def truncate(self, keep: int) -> None:
        """Restore the files to those after the first ``keep`` batches."""
        size, segments, lines = 0, dict[str, int](), self._lines()
        self.batches, self._end, self._keyframes, self._unkeyed = 0, None, [], 0
        for raw, line in lines:
            if line.get("batch", line.get("after", 0) - 1) >= keep:
                break
            size += len(raw) + 1
            self._note(line)
            if "batch" in line:
                segments[line["segment"]] = line["offset"] + line["bytes"]
        if self._index.exists():
            cut_to(self._index, size)
        for path in self.path.glob("segment-*.bin"):
            self._cut(path.name, segments.get(path.name, 0))
        keyframes = {keyframe.file for keyframe in self._keyframes}
        for path in self.path.glob("keyframe-*.safetensors"):
            if path.name not in keyframes:
                path.unlink()

    # -- reading ------------------------------------------------------------------------------------------------------

    def index(self) -> list[EditBatch]:
        """All batches in order."""
        found: list[EditBatch] = []
        having: dict[str, list[EditBatch]] = defaultdict(list)
        for _, line in self._lines():
            for id in line.get("forgotten", ()):
                for batch in having.pop(id, ()):
                    batch.forgotten[id] = line["after"]
            if "batch" in line:
                if line["batch"] != len(found):
                    raise DamagedFile(f"{self._index}: batch {len(found)} is missing (found {line['batch']})")
                own = _blob(line)
                memory = {name: Blob(own.segment, **place) for name, place in line.get("memory", {}).items()}
                by = str(line.get("by", ""))
                found.append(EditBatch(tuple(line["ids"]), tuple(line["weights"]), own, memory=memory, by=by))
                for id in line["ids"]:
                    having[id].append(found[-1])
        return found

    def load(self, number: int, batch: EditBatch) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of one batch; a `DamagedFile` names batch and file."""
        data, source = self._read(batch.blob, f"batch {number}")
        tensors, metadata, digest = decode_tensors(data, source)
        return tensors, _fitting(number, batch, metadata, digest, source)

    def check(self, number: int, batch: EditBatch) -> dict[str, Any]:
        """Metadata of one batch, whose bytes must fit the index; errors as those of `load`."""
        data, source = self._read(batch.blob, f"batch {number}")
        return _fitting(number, batch, *check_tensors(data, source), source)

    def keyframe(self, keep: int) -> tuple[int, dict[str, Tensor]]:
        """The last usable keyframe of at most ``keep`` batches: their number, and the changed weights after them."""
        for keyframe in reversed([one for one in self._keyframes if one.after <= keep]):
            path = self.path / keyframe.file
            try:
                tensors, metadata, digest = decode_tensors(read_bytes(path), str(path))
                if (metadata["after"], digest) != (keyframe.after, keyframe.digest):
                    raise DamagedFile(f"{path} is damaged: it is not the keyframe of the index")
            except DamagedFile as error:
                logger.warning("%s; an earlier keyframe, or none, takes its place", error)
            else:
                return keyframe.after, tensors
        return 0, {}

    def load_memory(self, blob: Blob) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of one part of a batch's memory; a `DamagedFile` names its place."""
        data, source = self._read(blob, "memory")
        tensors, metadata, digest = decode_tensors(data, source)
        if digest != blob.digest:
            raise DamagedFile(f"{source} is damaged: it is not the memory of the index")
        return tensors, metadata

    def memory_metadata(self, blobs: Iterable[Blob]) -> Iterator[dict[str, Any]]:
        """Metadata of parts of batches' memory, without their tensors; only `load_memory` checks them against the seal.

        A `DamagedFile` names the place of one whose header is not that of the index.
        """
        for segment, some in groupby(blobs, key=lambda blob: blob.segment):
            try:
                with open_regular(self.path / segment) as file:
                    for blob in some:
                        source = self._source(blob, "memory")
                        file.seek(blob.offset)
                        metadata, digest = read_metadata(file, blob.bytes, source)
                        if digest != blob.digest:
                            raise DamagedFile(f"{source} is damaged: it is not the memory of the index")
                        yield metadata
            except OSError as error:
                raise DamagedFile(f"{self.path / segment} cannot be read: {error.strerror or error}") from error

    def _source(self, blob: Blob, what: str) -> str:
        return f"{self.path / blob.segment}, {what} (bytes {blob.offset} to {blob.end})"

    def _read(self, blob: Blob | None, what: str) -> tuple[memoryview, str]:
        """Bytes of a blob, until the next call, and their place for messages."""
        assert blob is not None
        source = self._source(blob, what)
        if blob.bytes > REUSED_BYTES:
            buffer = bytearray(blob.bytes)
        elif blob.bytes > len(self._buffer):
            buffer = self._buffer = bytearray(blob.bytes)
        else:
            buffer = self._buffer
        try:
            with open_regular(self.path / blob.segment) as file:
                file.seek(blob.offset)
                return memoryview(buffer)[: file.readinto(memoryview(buffer)[: blob.bytes])], source
        except OSError as error:
            raise DamagedFile(f"{source} cannot be read: {error.strerror or error}") from error

    def _lines(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Whole lines of the index, as bytes and decoded; a DamagedFile for one that no ledger writes."""
        if not self._index.exists():
            return []
        lines, _ = split_lines(self._index)
        found = list(zip(lines, decode_lines(lines, self._index), strict=True))
        for number, (_, line) in enumerate(found, 1):
            if not _is_entry(line):
                raise DamagedFile(f"{self._index}, line {number}: it is no batch, keyframe or forgotten edit")
        return found


_PLACE = {"offset": int, "bytes": int, "digest": str}
_ENTRIES: dict[str, dict[str, type]] = {
    "batch": {"batch": int, "ids": list, "weights": list, "segment": str, **_PLACE},
    "keyframe": {"after": int, "keyframe": str, "digest": str},
    "forgotten": {"after": int, "forgotten": list},
}
"""Keys of a line of the index with their types, by the key that only lines of this kind have; batches may have a
"memory" and a "by", too."""


def _is_entry(line: Mapping[str, Any]) -> bool:
    wanted = next((keys for kind, keys in _ENTRIES.items() if kind in line), None)
    memory = line.get("memory", {})
    places = memory.values() if isinstance(memory, dict) else [None]
    return (
        wanted is not None
        and _are_of(wanted, {key: value for key, value in line.items() if key not in ("memory", "by")})
        and isinstance(line.get("by", ""), str)
        and all(isinstance(text, str) for key in ("ids", "weights", "forgotten") for text in line.get(key, ()))
        and all(isinstance(place, dict) and _are_of(_PLACE, place) for place in places)
    )


def _are_of(types: Mapping[str, type], line: Mapping[str, Any]) -> bool:
    """Whether a line has these keys and no others, with values of these types."""
    return line.keys() == types.keys() and all(isinstance(line[key], of) for key, of in types.items())


def _blob(line: Mapping[str, Any]) -> Blob:
    return Blob(_own_name(line["segment"]), line["offset"], line["bytes"], line["digest"])


def _own_name(name: str) -> str:
    """The name of a segment or keyframe; a line of an index may name no other file."""
    if not _NAME.fullmatch(name):
        raise DamagedFile(f"{INDEX_FILE} names the file {name!r}, which is no segment or keyframe")
    return name


def _put(file: BinaryIO, segment: str, offset: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Blob:
    header, body, digest = encode_tensors(tensors, metadata)
    file.write(header)
    file.write(body)
    return Blob(segment, offset, len(header) + len(body), digest)


def _digests(memory: Mapping[str, Blob]) -> dict[str, str]:
    return {name: blob.digest for name, blob in memory.items()}


def _memory_in_line(memory: Mapping[str, Blob]) -> dict[str, Any]:
    """The index's entry: places in the batch's own segment."""
    places = {name: {"offset": b.offset, "bytes": b.bytes, "digest": b.digest} for name, b in memory.items()}
    return {"memory": places} if places else {}


def _fitting(number: int, batch: EditBatch, metadata: dict[str, Any], digest: str, source: str) -> dict[str, Any]:
    weights = metadata.get("weights", list(batch.weights))  # ledgers of before lack them
    found = (digest, metadata.get("batch"), metadata.get("ids"), weights, metadata.get("memory", {}))
    own = (number, list(batch.written), list(batch.weights), _digests(batch.memory))
    if batch.blob is None or found != (batch.blob.digest, *own):
        raise DamagedFile(f"{source} is damaged: it is not the batch of the index")
    return metadata
