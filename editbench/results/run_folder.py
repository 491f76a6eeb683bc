"""One run's folder: writing it safe against crashes and a second writer, and reading it with its true status."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from editbench.checks import folder_name
from editbench.files import ResultsError, canonical, explained, is_locked, lock, make_folder, read_bytes, write_atomic
from editbench.json_lines import append_lines, cut_to, decode, encode, read_lines, split_lines
from editbench.results import schema
from editbench.results.schema import RunInfo
from editbench.results.seal import CHAINED, FILES, SOMETIMES, Chain, check_run, facts_of, names_of_files, write_manifest

if TYPE_CHECKING:
    from filelock import BaseFileLock

    Row = Mapping[str, Any]


logger = logging.getLogger(__name__)
_OWN = (schema.RUN_FILE, schema.MANIFEST_FILE, *FILES, *SOMETIMES, schema.LEDGER_FOLDER, *schema.TRACKER_FOLDERS)
_AGAIN = "start the run again with results.rerun=true"
_ASIDE = ".deleted"  # ending of folders, inside a run's, with what is being deleted


class RunFolder:
    """The writer of one run folder. Make one with `create` or `open`, and close it: it holds the run's lock.

    Every method raises a `ResultsError` if a file cannot be written or is damaged (named, with its line), if a row does
    not fit the schema, or if the run has ended. `info` is the content of run.json, changed by `set_status` and
    `add_provenance` only; `repairs` are sentences on the repairs that `open` made after a crash.
    """

    def __init__(self, path: Path, acquired: BaseFileLock, info: RunInfo, chain: Chain, repairs: Sequence[str]) -> None:
        self.path, self.info, self.repairs = path, info, tuple(repairs)
        self._lock, self._chain = acquired, chain

    @classmethod
    def create(cls, root: str | Path, run_id: str, config_text: str, provenance: Row | None = None) -> RunFolder:
        """Make the run folder `root/run_id`, with status "running"; the results folder too, if its parent is there.

        Args:
            config_text: The resolved config, YAML.

        Raises:
            ResultsError: The name is not a folder name, or the run is there already, or parts of one.
        """
        try:
            folder_name(**{"run id": run_id})
        except ValueError as error:
            raise ResultsError(str(error)) from error
        path = Path(root).absolute() / run_id
        make_folder(path.parent)
        make_folder(path)
        acquired = lock(path / schema.LOCK_FILE)
        try:
            if is_run(path):
                raise ResultsError(f"{path} holds a run already; resume it, delete it, or choose another name")
            if parts := parts_of_run(path):
                raise ResultsError(
                    f"{path} holds parts of a run without {schema.RUN_FILE} ({', '.join(parts[:3])}); restore that "
                    "file, delete them with results.rerun=true, or choose another name"
                )
            write_atomic(path / schema.CONFIG_FILE, config_text.encode("utf-8"))
            for name in (schema.SCORES_FILE, schema.EDITS_FILE, schema.CHAIN_FILE):
                write_atomic(path / name, b"")
            make_folder(path / schema.LEDGER_FOLDER)
            run_folder = cls(path, acquired, new_info(run_id, provenance or {}), Chain(path), ())
            run_folder._write_info()  # last: a folder is a run as soon as it has run.json
        except BaseException:
            acquired.release()
            raise
        return run_folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run to go on writing it. A last line torn by a crash is cut off and reported in `repairs`.

        The status stays as it was: `set_status("running")` before appending to a run that has ended.

        Raises:
            ResultsError: There is no run, another process writes it, or its files are not what it wrote.
        """
        path = Path(path).absolute()
        if not is_run(path):
            raise ResultsError(f"{path} holds no run; correct the path, or start a new run")
        acquired = lock(path / schema.LOCK_FILE)
        try:
            info = read_info(path)
            lines = (path / name for name in (*CHAINED, schema.CHAIN_FILE))
            repairs = tuple(filter(None, map(_repair, lines))) if info["status"] == "running" else ()
            return cls(path, acquired, info, check_run(path, info, tensors=False), repairs)
        except BaseException:
            acquired.release()
            raise

    @staticmethod
    def remove(path: Path, still: Callable[[], bool] = lambda: True) -> bool:
        """Delete the files of a run that no process writes, even of a damaged one; other files of the folder stay.

        All are moved aside first: what a kill leaves is no run, and is deleted by the next call. ``still`` is asked
        once nobody else can write: whether it is to be deleted after all. Returns whether it was.
        """
        acquired = lock(path / schema.LOCK_FILE)
        try:
            if not still():
                return False
            with explained("delete", path, "correct its permissions, or delete it by hand"):
                aside = path / f".{secrets.token_hex(4)}{_ASIDE}"
                aside.mkdir()
                for name in _OWN:
                    if (path / name).is_symlink() or (path / name).exists():
                        (path / name).replace(aside / name)
                for folder in path.glob(f".*{_ASIDE}"):
                    shutil.rmtree(folder)
            _remove_lock(path)  # now: once it is released, it may be another writer's
        finally:
            acquired.release()
        if sys.platform == "win32":  # where an open file cannot be deleted, so that another writer's stays
            _remove_lock(path)
        return True

    def close(self) -> None:
        """Release the lock. A run closed while "running" counts as interrupted, and can be opened again."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ledger(self) -> Path:
        """The folder for the edits themselves."""
        return self.path / schema.LEDGER_FOLDER

    @property
    def head(self) -> str:
        """Digest of the chain's last line; empty before the first."""
        return self._chain.head

    def append_scores(self, rows: Iterable[Row]) -> None:
        """Append rows of records and of the model: all of them or, if this fails, none."""
        rows = list(rows)
        for row in rows:
            check_score_row(row)
        self._append(schema.SCORES_FILE, rows)

    def append_edit(self, row: Row) -> None:
        """Append the row of one batch."""
        _check(row, "an edit row", batch=Integral, ids=Sequence, seconds=Real)
        self._append(schema.EDITS_FILE, [row])

    def seal(self, batch: int, tensors: Sequence[str] = (), cached: Mapping[str, str] | None = None) -> str:
        """Add a line to the chain that seals all rows since the last one; return its digest, the new head.

        Args:
            batch: Index of the batch that has been edited and scored; -1 for the unedited model.
            tensors: Content digests of the batch's tensors in the ledger.
            cached: Content digests of the cached files used since then, by name.
        """
        self._check_running()
        facts = {} if self._chain.links else facts_of(self.path, self.info)
        return self._chain.append(batch, tensors, cached or {}, facts)

    def truncate_after(self, head: str) -> None:
        """Drop everything that the chain does not seal up to `head`, the point to resume from ("": everything)."""
        self._check_running()
        self._chain.cut(head)

    def set_status(
        self, status: str, reason: str | None = None, *, summary: Row | None = None, costs: Row | None = None
    ) -> None:
        """Write the run's status, one of `RUN_STATUSES`, with the time and the manifest if it has ended.

        Without ``costs`` the last ones stay; so does the summary, unless the status is "running".
        """
        if status not in schema.RUN_STATUSES:
            raise ResultsError(f"unknown run status {status!r}; choose one of {', '.join(schema.RUN_STATUSES)}")
        ended, last = (_now(), self.info["summary"]) if status != "running" else (None, None)
        summary, costs = last if summary is None else summary, self.info["costs"] if costs is None else costs
        self._write_info(status=status, reason=reason, ended=ended, summary=summary, costs=costs)

    def add_provenance(self, provenance: Row, metrics: Mapping[str, Row] | None = None) -> None:
        """Add or replace keys of the provenance, and replace the `MetricFacts` by metric name if there are any."""
        known = self.info["metrics"] if metrics is None else dict(metrics)
        self._write_info(provenance={**self.info["provenance"], **provenance}, metrics=known)

    def scores(self) -> list[dict[str, Any]]:
        """All rows of scores.jsonl, in the order of writing."""
        return read_lines(self.path / schema.SCORES_FILE)[0]

    def edits(self) -> list[dict[str, Any]]:
        """All rows of edits.jsonl, in the order of writing."""
        return read_lines(self.path / schema.EDITS_FILE)[0]

    def _append(self, name: str, rows: list[Row]) -> None:
        self._check_running()
        append_lines(self.path / name, "".join(f"{encode(row)}\n" for row in rows))

    def _check_running(self) -> None:
        if self.info["status"] != "running":
            raise ResultsError(f"{self.path} is {self.info['status']}; set_status('running') before writing to it")

    def _write_info(self, **changes: Any) -> None:
        data = encode_info({**self.info, **changes})
        info = cast("RunInfo", decode(data))  # as a reader sees it
        if info["status"] != "running":  # before the status: a run that has ended always has a manifest that fits
            write_manifest(self.path, self._chain.head, data)
        write_atomic(self.path / schema.RUN_FILE, data)
        self.info = info
        if info["status"] == "running":
            (self.path / schema.MANIFEST_FILE).unlink(missing_ok=True)


def _remove_lock(path: Path) -> None:
    """Delete a run's lock file, and its folder unless it holds other files."""
    with contextlib.suppress(OSError):
        (path / schema.LOCK_FILE).unlink(missing_ok=True)
        path.rmdir()


def new_info(run_id: str, provenance: Row) -> RunInfo:
    """The content of run.json of a run that begins now."""
    return {
        "format": schema.FORMAT,
        "run": run_id,
        "status": "running",
        "reason": None,
        "started": _now(),
        "ended": None,
        "provenance": {"schema": schema.SCHEMA, **provenance},
        "costs": None,
        "summary": None,
        "metrics": {},
    }


def encode_info(info: Row) -> bytes:
    """The content of run.json, with a digest: of a run that has not ended no manifest has it."""
    plain = decode(encode({name: value for name, value in info.items() if name != "digest"}).encode())
    return f"{encode({**plain, 'digest': hashlib.sha256(canonical(plain)).hexdigest()}, indent=2)}\n".encode()


def is_run(path: Path) -> bool:
    """Whether this folder holds a run, even a damaged one; hidden folders hold none."""
    scores = path / schema.SCORES_FILE
    try:
        found = (path / schema.RUN_FILE).is_file() or (scores.is_file() and scores.stat().st_size > 0)
        return found and not path.name.startswith(".")
    except PermissionError:
        return True  # it may be one; reading it names the reason


def parts_of_run(path: Path) -> list[str]:
    """Paths, from the folder, of a run's files there that are more than what :meth:`RunFolder.create` begins with."""
    found = [*names_of_files(path), *(name for name in (schema.MANIFEST_FILE,) if (path / name).exists())]
    return [name for name in found if name != schema.CONFIG_FILE and (path / name).stat().st_size > 0]


def read_run(path: Path) -> RunInfo:
    """run.json with the status that its files and its lock prove; needs no lock.

    The status is "interrupted" where the writer has gone, and "damaged", with the reason and without summary and costs,
    where a file is not what the run wrote. Raises as `read_info`.
    """
    info = read_info(path)
    if info["status"] == "running" and is_locked(path / schema.LOCK_FILE):
        return info
    info = read_info(path)  # again: it may have ended just now
    try:
        check_run(path, info)
    except (ResultsError, OSError) as error:
        if is_locked(path / schema.LOCK_FILE):  # resumed just now: its files change
            return read_info(path)
        return {**info, "status": "damaged", "reason": str(error), "summary": None, "costs": None}
    if info["status"] == "running":
        return {**info, "status": "interrupted", "reason": "the process that wrote it has gone"}
    return info


def read_info(path: Path) -> RunInfo:
    """The content of run.json; needs no lock. A `ResultsError` if it is missing, is damaged, or has another format."""
    file = path / schema.RUN_FILE
    data = read_bytes(file, limit=schema.MAX_INFO)
    try:
        info = decode(data)
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{file}: damaged ({error}); restore it from a copy, or delete the run") from error
    if (found := info.get("format")) != schema.FORMAT:
        reader = schema.LAST_READER.get(found, "a later version") if isinstance(found, int) else "another version"
        known = f"this editbench reads {schema.FORMAT}"
        raise ResultsError(f"{file}: format {found!r}, {known}; read it with {reader}, or do the run again")
    missing = sorted(RunInfo.__required_keys__ - info.keys())
    mappings = all(isinstance(info.get(name), dict) for name in ("provenance", "metrics"))
    if missing or info["status"] not in schema.RUN_STATUSES or not mappings:
        found = f"missing: {missing}, status {info.get('status')!r}"
        raise ResultsError(f"{file}: damaged ({found}); restore it from a copy")
    if info["status"] == "running" and data != encode_info(info):
        raise ResultsError(f"{file}: damaged (it was altered); restore it from a copy, or {_AGAIN}")
    return cast("RunInfo", info)


def _repair(path: Path) -> str | None:
    """Cut off a torn last line and report it. `check_run` finds earlier damage."""
    if not path.exists() or not (torn := split_lines(path)[1]):
        return None
    cut_to(path, path.stat().st_size - torn)
    report = f"{path}: a last line torn by a crash ({torn} bytes) was cut off"
    logger.warning(report)
    return report


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def check_score_row(row: Row) -> None:
    """Refuse a row of scores that does not fit the schema with a `ResultsError`."""
    _check(row, "a score row", stage=str, edits=Integral, batch=Integral, scores=Mapping)
    if row["stage"] not in schema.STAGES:
        raise ResultsError(f"a score row's stage {row['stage']!r} is none of {schema.STAGES}")
    if "of" in row:
        _check(row, "a model row", of=str)
        if row["of"].startswith("ability."):
            _check(row, "a row of general ability", stderr=Mapping, n=Integral)
        return
    _check(row, "a score row", record=str, position=Integral, status=str)
    if row["status"] not in schema.RECORD_STATUSES:
        raise ResultsError(
            f"record {row['record']!r} has the status {row['status']!r}, none of {schema.RECORD_STATUSES}"
        )


def _check(row: Row, what: str, **fields: type) -> None:
    for name, kind in fields.items():
        if not isinstance(row.get(name), kind):
            raise ResultsError(f"{what} has {name}={row.get(name)!r}; {kind.__name__} is wanted (keys: {list(row)})")
