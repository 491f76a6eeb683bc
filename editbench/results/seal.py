"""Chain and manifest of a run folder: digests of what the run wrote, described in `docs/run-format.md`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editbench.files import DamagedFile, canonical, check_tensors, file_digests, open_regular, read_bytes, write_atomic
from editbench.json_lines import append_lines, cut_to, decode, decode_lines, encode, read_lines, split_lines
from editbench.results import schema

if TYPE_CHECKING:
    from editbench.results.schema import RunInfo


CHAINED = (schema.EDITS_FILE, schema.SCORES_FILE, schema.INDEX_FILE)  # every batch appends lines to them
FILES = (schema.CONFIG_FILE, schema.RUN_FILE, schema.SCORES_FILE, schema.EDITS_FILE, schema.CHAIN_FILE)
"""Files outside the ledger that every ended run has."""
SOMETIMES = (schema.HIDDEN_SHIFT_FILE,)
"""Those that a run has only with some settings."""
UNSEALED_BATCHES = 2
"""Largest number of batches without a line in a sound run: one in work, and one that a resume is cutting off."""
REMEDY = "restore it from a copy, or start the run again with results.rerun=true"


@dataclass(frozen=True)
class Link:
    """One line of the chain."""

    batch: int  # index; -1 for the unedited model
    head: str  # the line's digest
    end: int  # size of the chain's file with this line
    sizes: Mapping[str, int]  # bytes of each file in `CHAINED` that are sealed with this line


START = Link(-2, "", 0, dict.fromkeys(CHAINED, 0))  # of a chain without lines


class Chain:
    """The chain of one run folder; reading it checks every line against the one before and the files that it seals."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file, self.links = folder, folder / schema.CHAIN_FILE, list[Link]()
        lines = split_lines(self._file)[0] if self._file.exists() else []
        contents = {name: _content(folder / name) for name in CHAINED} if lines else {}
        for number, (line, row) in enumerate(zip(lines, decode_lines(lines, self._file), strict=True), 1):
            try:
                self.links.append(_checked(self._last, line, row, contents))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                reason = error if isinstance(error, DamagedFile) else f"it is no line of a chain ({error!r})"
                raise DamagedFile(f"{folder}: {schema.CHAIN_FILE}, line {number}: {reason}; {REMEDY}") from error
        self.facts: dict[str, Any] = decode(lines[0]).get("facts", {}) if lines else {}

    @property
    def _last(self) -> Link:
        return self.links[-1] if self.links else START

    @property
    def head(self) -> str:
        """Digest of the last line; empty before the first."""
        return self._last.head

    def append(self, batch: int, tensors: Sequence[str], cached: Mapping[str, str], facts: Mapping[str, Any]) -> str:
        """Seal all lines written since the last call, as `RunFolder.seal`; the first line holds the facts."""
        last, files, sizes = self._last, {}, {}
        for name in CHAINED:
            added = _content(self._folder / name, last.sizes[name])
            files[name] = _sealed(added)
            sizes[name] = last.sizes[name] + len(added)
        row: dict[str, Any] = {"batch": batch, "previous": last.head, "files": files}
        row |= {"tensors": list(tensors), "cached": dict(cached), **({} if self.links else {"facts": dict(facts)})}
        head = hashlib.sha256(canonical(row)).hexdigest()
        line = f"{encode({**row, 'head': head})}\n"
        append_lines(self._file, line)
        self.links.append(Link(batch, head, last.end + len(line), sizes))
        self.facts = self.facts or dict(facts)
        return head

    def cut(self, head: str) -> None:
        """Keep the lines up to ``head`` ("": none), and of other files what they seal.

        Batches are cut one by one from the end: if that is stopped midway, at most one batch is without its line.
        """
        if head and head not in [link.head for link in self.links]:
            raise DamagedFile(f"{self._file} has no line {head[:12]}, which {schema.STATE_FILE} goes on from; {REMEDY}")
        self._cut_files()
        while self.head != head:
            del self.links[-1]
            cut_to(self._file, self._last.end)
            self._cut_files()

    def _cut_files(self) -> None:
        for name, size in self._last.sizes.items():
            if (self._folder / name).exists():
                cut_to(self._folder / name, size)

    def check_open_end(self, *, tensors: bool) -> None:
        """Check that a run stopped without a manifest has all its lines, its own saved state and, if asked, tensors."""
        for name in (schema.EDITS_FILE, schema.SCORES_FILE):
            rows, _ = read_lines(self._folder / name)
            if rows and rows[-1].get("batch", 0) > self._last.batch + UNSEALED_BATCHES:
                batch = f"batch {rows[-1]['batch']}"
                raise DamagedFile(f"{self._file}: the lines before {batch} of {name} are missing; {REMEDY}")
        state = self._folder / schema.STATE_FILE
        if state.exists() or len(self.links) > 1:
            metadata, _ = check_tensors(read_bytes(state), str(state))
            if metadata.get("head") not in [link.head for link in self.links]:
                raise DamagedFile(f"{self._file} has no line for the batch that {state} goes on from; {REMEDY}")
        index = self._folder / schema.INDEX_FILE
        for line in read_lines(index)[0] if index.exists() else ():
            if file := line.get("segment", line.get("keyframe")):
                batch = f"batch {line['batch']}" if "batch" in line else f"after {line['after']} batches"
                source = f"{index.with_name(file)}, {batch}"
                if not tensors and not index.with_name(file).is_file():
                    raise DamagedFile(f"{source}: the file is missing; {REMEDY}")
                for place in (line, *line.get("memory", {}).values()) if tensors else ():
                    data = _content(index.with_name(file), place.get("offset", 0), place.get("bytes", -1))
                    if check_tensors(data, source)[1] != place["digest"]:
                        raise DamagedFile(f"{source}: not that of the index; {REMEDY}")


def ledger_batches(links: Iterable[Mapping[str, Any]], batch: int) -> int:
    """Number of batches in the ledger once this batch of the stream was edited, by the lines of the chain; 0 for -1."""
    return sum(len(link["tensors"]) for link in links if link["batch"] <= batch)


def facts_of(folder: Path, info: RunInfo) -> dict[str, Any]:
    """Facts that are known when a run starts, for the chain's first line."""
    provenance = info["provenance"]
    hashes = {name: provenance.get(name, {}).get("hash") for name in ("model", "dataset", "stream")}
    kept = {name: provenance.get(name) for name in ("schema", "seed", "versions", "inputs")}
    config = hashlib.sha256(read_bytes(folder / schema.CONFIG_FILE)).hexdigest()
    started: dict[str, Any] = {name: info[name] for name in ("format", "run", "started")}  # type: ignore[literal-required]
    return {**started, "config": config, **hashes, **kept}


def write_manifest(folder: Path, head: str, run_file: bytes) -> None:
    """List all files of the run with their digests.

    ``run_file`` is the next content of run.json: the manifest is written before the status that requires it.
    """
    files = {name: _entry(folder / name) for name in names_of_files(folder) if name != schema.RUN_FILE}
    files[schema.RUN_FILE] = _sealed(run_file)
    manifest = {"format": schema.FORMAT, "head": head, "files": dict(sorted(files.items()))}
    write_atomic(folder / schema.MANIFEST_FILE, _with_root(manifest))


def _with_root(manifest: Mapping[str, Any]) -> bytes:
    root = hashlib.sha256(canonical(manifest)).hexdigest()
    return f"{encode({**manifest, 'root': root}, indent=1)}\n".encode()


def check_run(folder: Path, info: RunInfo, *, tensors: bool = True) -> Chain:
    """Check a run folder that no process writes, and return its chain; a `DamagedFile` names what does not fit.

    Who goes on with a stopped run reads all its ``tensors``, and finds then what does not fit; they
    need only be there.
    """
    if info["status"] != "running":
        manifest = _read_manifest(folder)
        for name, entry in manifest["files"].items():
            if _entry(folder / name) != entry:
                raise DamagedFile(f"{folder / name} is not what the run wrote; restore it from a copy, or run again")
    chain = Chain(folder)
    if chain.links and chain.facts != (facts := facts_of(folder, info)):
        differing = sorted(name for name in facts | chain.facts if facts.get(name) != chain.facts.get(name))
        altered = f"{schema.RUN_FILE} or {schema.CONFIG_FILE} was altered ({', '.join(differing)})"
        raise DamagedFile(f"{folder}: {altered}; {REMEDY}")
    if info["status"] == "running":
        chain.check_open_end(tensors=tensors)
    elif manifest["head"] != chain.head:
        raise DamagedFile(f"{folder / schema.MANIFEST_FILE} is of another chain; {REMEDY}")
    return chain


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / schema.MANIFEST_FILE
    if not path.exists():
        raise DamagedFile(f"{path} is missing: the run is not sealed; {REMEDY}")
    data = read_bytes(path, limit=schema.MAX_INFO)
    try:
        manifest = decode(data)
        del manifest["root"]
        names = set(manifest["files"])
        sound = _with_root(manifest) == data and {*FILES} <= names and all(map(_of_a_run, names))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged ({error!r}); {REMEDY}") from error
    if not sound:
        raise DamagedFile(f"{path} is damaged: it was altered; {REMEDY}")
    return manifest


def names_of_files(folder: Path) -> list[str]:
    """Paths, from the run folder, of the files that a run makes; temporary ones begin with a dot."""
    own = [name for name in (*FILES, *SOMETIMES) if (folder / name).exists()]
    ledger = (path for path in (folder / schema.LEDGER_FOLDER).rglob("*") if path.is_file() and path.name[0] != ".")
    return own + [path.relative_to(folder).as_posix() for path in ledger]


def _of_a_run(name: str) -> bool:
    """Whether this is a path of a file that a run makes."""
    folder, *inside = name.split("/")
    in_ledger = folder == schema.LEDGER_FOLDER and bool(inside) and {"", ".", ".."}.isdisjoint(inside)
    return in_ledger or name in (*FILES, *SOMETIMES)


def _sealed(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _entry(path: Path) -> dict[str, Any]:
    try:
        return {"bytes": path.stat().st_size, "sha256": file_digests(path)[""]}  # none of what is no regular file
    except FileNotFoundError as error:
        raise DamagedFile(f"{path} is missing; {REMEDY}") from error
    except (OSError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read ({error}); {REMEDY}") from error


def _content(path: Path, offset: int = 0, size: int = -1) -> bytes:
    """The file's bytes from an offset, all by default; nothing for a file that is not there."""
    if not path.exists():
        return b""
    with open_regular(path) as file:
        file.seek(offset)
        return file.read(size)


def _checked(last: Link, line: bytes, row: dict[str, Any], contents: Mapping[str, bytes]) -> Link:
    head = row.pop("head")
    if row["previous"] != last.head or head != hashlib.sha256(canonical(row)).hexdigest():
        raise DamagedFile("it was altered, or lines before it are missing")
    if encode({**row, "head": head}).encode() != line:
        raise DamagedFile("it was altered")
    sizes = {}
    for name, entry in row["files"].items():
        sizes[name] = last.sizes[name] + entry["bytes"]
        if hashlib.sha256(contents[name][last.sizes[name] : sizes[name]]).hexdigest() != entry["sha256"]:
            raise DamagedFile(f"{name} is not what the run wrote in batch {row['batch']}")
    return Link(row["batch"], head, last.end + len(line) + 1, sizes)
