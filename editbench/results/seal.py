"""The chain and the manifest of a run folder: digests that show whether its files are what the run wrote.

`docs/run-format.md` describes what each digest covers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editbench.digests import file_digests
from editbench.files import DamagedFile, canonical, check_tensors, read_bytes, write_atomic
from editbench.json_lines import append_lines, cut_to, decode, decode_lines, encode, read_lines, split_lines
from editbench.results.schema import (
    CHAIN_FILE,
    CONFIG_FILE,
    EDITS_FILE,
    FORMAT,
    INDEX_FILE,
    LEDGER_FOLDER,
    MANIFEST_FILE,
    RUN_FILE,
    SCORES_FILE,
    STATE_FILE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from editbench.results.schema import RunInfo


CHAINED = (EDITS_FILE, SCORES_FILE, INDEX_FILE)
"""Files to which every batch appends lines."""

UNSEALED_BATCHES = 2
"""Largest number of batches without a line in a sound run: one under way, and one that a resume is cutting off."""

REMEDY = "restore it from a copy, or start the run again with results.rerun=true"


@dataclass(frozen=True)
class Link:
    """One line of the chain.

    Attributes:
        batch: Index of the batch; -1 for the unedited model.
        head: The line's digest.
        end: Size of the chain's file with this line.
        sizes: Bytes of each file in `CHAINED` that are sealed with this line.
    """

    batch: int
    head: str
    end: int
    sizes: Mapping[str, int]


START = Link(-2, "", 0, dict.fromkeys(CHAINED, 0))
"""The state of a chain without lines."""


class Chain:
    """The chain of one run folder, with all lines checked against the files that they seal.

    Attributes:
        links: One a line.
    """

    def __init__(self, folder: Path) -> None:
        """Read and check the chain.

        Raises:
            DamagedFile: A line does not fit the one before, or a file does not fit a line.
        """
        self._folder, self._file, self.links = folder, folder / CHAIN_FILE, list[Link]()
        lines = split_lines(self._file)[0] if self._file.exists() else []
        contents = {name: _content(folder / name) for name in CHAINED} if lines else {}
        for number, (line, row) in enumerate(zip(lines, decode_lines(lines, self._file), strict=True), 1):
            try:
                self.links.append(_checked(self._last, line, row, contents))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                reason = error if isinstance(error, DamagedFile) else f"it is no line of a chain ({error!r})"
                raise DamagedFile(f"{folder}: {CHAIN_FILE}, line {number}: {reason}; {REMEDY}") from error
        self.facts: dict[str, Any] = decode(lines[0]).get("facts", {}) if lines else {}

    @property
    def _last(self) -> Link:
        return self.links[-1] if self.links else START

    @property
    def head(self) -> str:
        """Digest of the last line; empty before the first."""
        return self._last.head

    def append(self, batch: int, tensors: Sequence[str], cached: Mapping[str, str], facts: Mapping[str, Any]) -> str:
        """Seal all lines written since the last call; return the new head.

        Args:
            batch: Index of the batch; -1 for the unedited model.
            tensors: Content digests of the batch's tensors.
            cached: Content digests of cached files used since the last call, by name.
            facts: What the run was started with, in the first line.
        """
        last, files, sizes = self._last, {}, {}
        for name in CHAINED:
            added = _content(self._folder / name, last.sizes[name])
            files[name] = {"bytes": len(added), "sha256": hashlib.sha256(added).hexdigest()}
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

        Batch by batch, from the end: if that is stopped midway, no more than one batch is without its line.

        Raises:
            DamagedFile: The chain has no such line.
        """
        if head and head not in [link.head for link in self.links]:
            raise DamagedFile(f"{self._file} has no line {head[:12]}, which {STATE_FILE} goes on from; {REMEDY}")
        self._cut_files()
        while self.head != head:
            del self.links[-1]
            cut_to(self._file, self._last.end)
            self._cut_files()

    def _cut_files(self) -> None:
        for name, size in self._last.sizes.items():
            if (self._folder / name).exists():
                cut_to(self._folder / name, size)

    def check_open_end(self) -> None:
        """Check the lines and tensors of a run that was stopped without a manifest.

        Raises:
            DamagedFile: Lines of the chain are lost, or the saved state is, or is another run's.
        """
        for name in (EDITS_FILE, SCORES_FILE):
            rows, _ = read_lines(self._folder / name)
            if rows and rows[-1].get("batch", 0) > self._last.batch + UNSEALED_BATCHES:
                batch = f"batch {rows[-1]['batch']}"
                raise DamagedFile(f"{self._file}: the lines before {batch} of {name} are missing; {REMEDY}")
        state = self._folder / STATE_FILE
        if state.exists() or len(self.links) > 1:
            metadata, _ = check_tensors(read_bytes(state), str(state))
            if metadata.get("head") not in [link.head for link in self.links]:
                raise DamagedFile(f"{self._file} has no line for the batch that {STATE_FILE} goes on from; {REMEDY}")
        self._check_tensors()

    def _check_tensors(self) -> None:
        index = self._folder / INDEX_FILE
        for line in read_lines(index)[0] if index.exists() else ():
            if name := line.get("segment", line.get("keyframe")):
                data = _content(index.with_name(name), line.get("offset", 0), line.get("bytes", -1))
                if check_tensors(data, f"{index.with_name(name)}, {_batch(line)}")[1] != line["digest"]:
                    raise DamagedFile(f"{index.with_name(name)}, {_batch(line)}: not that of the index; {REMEDY}")


def facts_of(folder: Path, info: RunInfo) -> dict[str, Any]:
    """What a run is started with, as the chain's first line has it."""
    provenance = info["provenance"]
    hashes = {name: provenance.get(name, {}).get("hash") for name in ("model", "dataset", "stream")}
    kept = {name: provenance.get(name) for name in ("schema", "seed", "versions", "inputs")}
    config = hashlib.sha256(read_bytes(folder / CONFIG_FILE)).hexdigest()
    return {
        "format": info["format"],
        "run": info["run"],
        "started": info["started"],
        "config": config,
        **hashes,
        **kept,
    }


def write_manifest(folder: Path, head: str, run_file: bytes) -> None:
    """List all files of the run with their digests.

    Args:
        folder: The run folder.
        head: The chain's head.
        run_file: The next content of run.json: the manifest is written before the status that requires it.
    """
    run_entry = {"bytes": len(run_file), "sha256": hashlib.sha256(run_file).hexdigest()}
    files = {RUN_FILE: run_entry, **{name: _entry(folder / name) for name in _names(folder) if name != RUN_FILE}}
    manifest = {"format": FORMAT, "head": head, "files": dict(sorted(files.items()))}
    manifest["root"] = hashlib.sha256(canonical(manifest)).hexdigest()
    write_atomic(folder / MANIFEST_FILE, f"{encode(manifest, indent=1)}\n".encode())


def check_run(folder: Path, info: RunInfo) -> Chain:
    """Check a run folder that no process writes, and return its chain.

    Raises:
        DamagedFile: A file is missing, or is not what the run wrote; it is named.
    """
    if info["status"] != "running":
        manifest = _read_manifest(folder)
        for name, entry in manifest["files"].items():
            if _entry(folder / name) != entry:
                raise DamagedFile(f"{folder / name} is not what the run wrote; restore it from a copy, or run again")
    chain = Chain(folder)
    if chain.links and chain.facts != (facts := facts_of(folder, info)):
        differing = sorted(name for name in facts | chain.facts if facts.get(name) != chain.facts.get(name))
        raise DamagedFile(f"{folder}: {RUN_FILE} or {CONFIG_FILE} was altered ({', '.join(differing)}); {REMEDY}")
    if info["status"] == "running":
        chain.check_open_end()
    elif manifest["head"] != chain.head:
        raise DamagedFile(f"{folder / MANIFEST_FILE} is of another chain; {REMEDY}")
    return chain


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise DamagedFile(f"{path} is missing: the run is not sealed; {REMEDY}")
    data = read_bytes(path)
    try:
        manifest = decode(data)
        root = manifest.pop("root")
        sound = root == hashlib.sha256(canonical(manifest)).hexdigest()
        sound = sound and f"{encode({**manifest, 'root': root}, indent=1)}\n".encode() == data
        names = set(manifest["files"])
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged ({error!r}); {REMEDY}") from error
    if not sound or not names >= {RUN_FILE, CONFIG_FILE, SCORES_FILE, EDITS_FILE, CHAIN_FILE}:
        raise DamagedFile(f"{path} is damaged: it was altered; {REMEDY}")
    return manifest


def _names(folder: Path) -> list[str]:
    """Paths, from the run folder, of the files that a run makes; temporary ones begin with a dot."""
    own = [name for name in (CONFIG_FILE, RUN_FILE, SCORES_FILE, EDITS_FILE, CHAIN_FILE) if (folder / name).exists()]
    ledger = (path for path in (folder / LEDGER_FOLDER).rglob("*") if path.is_file() and path.name[0] != ".")
    return own + [path.relative_to(folder).as_posix() for path in ledger]


def _entry(path: Path) -> dict[str, Any]:
    try:
        return {"bytes": path.stat().st_size, "sha256": file_digests(path)[""]}
    except FileNotFoundError as error:
        raise DamagedFile(f"{path} is missing; {REMEDY}") from error
    except (OSError, KeyError) as error:
        raise DamagedFile(f"{path} cannot be read ({error}); {REMEDY}") from error


def _batch(line: Mapping[str, Any]) -> str:
    return f"batch {line['batch']}" if "batch" in line else f"after {line['after']} batches"


def _content(path: Path, offset: int = 0, size: int = -1) -> bytes:
    """The file's bytes from an offset, all by default; nothing for a file that is not there."""
    if not path.exists():
        return b""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _checked(last: Link, line: bytes, row: dict[str, Any], contents: Mapping[str, bytes]) -> Link:
    """The link of one line, which must follow ``last`` and fit the files."""
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
