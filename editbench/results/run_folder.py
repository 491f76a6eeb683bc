"""One run folder: what a run did and scored, safe against crashes and against a second writer."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from editbench.files import Lock, ResultsError, explained, make_folder, write_atomic
from editbench.json_lines import append_lines, cut_tail, decode, encode, read_lines
from editbench.results.schema import (
    CONFIG_FILE,
    EDITS_FILE,
    FORMAT,
    LEDGER_FOLDER,
    LOCK_FILE,
    RECORD_STATUSES,
    RUN_FILE,
    RUN_STATUSES,
    SCHEMA,
    SCORES_FILE,
    STAGES,
    RunInfo,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


logger = logging.getLogger(__name__)


class RunFolder:
    """The writer of one run folder. Make one with `create` or `open`, and close it: it holds the run's lock.

    Attributes:
        path: The run folder.
        info: What run.json holds; changed by `set_status` and `add_provenance` only.
        repairs: What `open` had to repair after a crash, in words; empty as a rule.
    """

    def __init__(self, path: Path, lock: Lock, info: RunInfo, repairs: tuple[str, ...] = ()) -> None:
        self.path = path
        self.info = info
        self.repairs = repairs
        self._lock = lock

    @classmethod
    def create(
        cls, root: str | Path, run_id: str, config_text: str, provenance: Mapping[str, Any] | None = None
    ) -> RunFolder:
        """Make the run folder `root/run_id`, with status "running". Call it before any work is done: it writes.

        Args:
            root: The results folder; made if its parent is there.
            run_id: The folder's name.
            config_text: The resolved config, YAML.
            provenance: A `Provenance`, as far as it is known; see `add_provenance`.

        Raises:
            ResultsError: If the folder cannot be written, the name is not a file name, or the run is there already.
        """
        _check_run_id(run_id)
        path = Path(root).absolute() / run_id
        make_folder(path.parent)
        make_folder(path)
        lock = Lock(path / LOCK_FILE)
        try:
            if is_run(path):
                raise ResultsError(f"{path} holds a run already; resume it, delete it, or choose another name")
            write_atomic(path / CONFIG_FILE, config_text.encode("utf-8"))
            write_atomic(path / SCORES_FILE, b"")
            write_atomic(path / EDITS_FILE, b"")
            make_folder(path / LEDGER_FOLDER)
            store = cls(path, lock, _new_info(run_id, provenance or {}))
            store._write_info()  # last: a folder is a run as soon as it has run.json
        except BaseException:
            lock.release()
            raise
        return store

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run to go on writing it. A last line torn by a crash is cut off and reported in `repairs`.

        The status stays as it was: `set_status("running")` before appending to a run that has ended.

        Raises:
            ResultsError: If there is no run, another process writes it, or its files are damaged (file and line).
        """
        path = Path(path).absolute()
        if not is_run(path):
            raise ResultsError(f"{path} holds no run; correct the path, or start a new run")
        lock = Lock(path / LOCK_FILE)
        try:
            info = read_info(path)
            repairs = tuple(filter(None, (_repair(path / name) for name in (SCORES_FILE, EDITS_FILE))))
        except BaseException:
            lock.release()
            raise
        return cls(path, lock, info, repairs)

    def close(self) -> None:
        """Let the lock go. A run closed while "running" counts as interrupted, and can be opened again."""
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def ledger(self) -> Path:
        """The folder for the edits themselves."""
        return self.path / LEDGER_FOLDER

    def append_scores(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append `RecordRow`s and `ModelRow`s: all of them or, if this fails, none.

        Raises:
            ResultsError: If a row does not fit the schema, the run has ended, or the file cannot be written.
        """
        rows = list(rows)
        for row in rows:
            _check_score_row(row)
        self._append(SCORES_FILE, rows)

    def append_edit(self, row: Mapping[str, Any]) -> None:
        """Append the `EditRow` of one batch.

        Raises:
            ResultsError: If the row does not fit the schema, the run has ended, or the file cannot be written.
        """
        _check(row, "an edit row", batch=Integral, ids=Sequence, seconds=Real)
        self._append(EDITS_FILE, [row])

    def truncate_after(self, batch_index: int) -> None:
        """Drop all rows of batches after `batch_index`, the point to resume from; -1 keeps the baseline only.

        Rows of the stage "final" go in any case: the resumed run ends with scoring all records again.

        Raises:
            ResultsError: If the run has ended, or a file is damaged or cannot be written.
        """
        self._check_running()
        for name in (SCORES_FILE, EDITS_FILE):  # a crash in between does no harm: the resumed run does this again
            rows = self._rows(name)
            kept = [row for row in rows if row["batch"] <= batch_index and row.get("stage") != "final"]
            if len(kept) < len(rows):
                write_atomic(self.path / name, _lines(kept).encode("utf-8"))

    def set_status(
        self,
        status: str,
        reason: str | None = None,
        *,
        summary: Mapping[str, Any] | None = None,
        costs: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the run's status, with the time if it has ended.

        Args:
            status: One of `RUN_STATUSES`.
            reason: Why it failed or was interrupted.
            summary: What `summarise` returned. Without it a summary stands, but "running" drops one without it.
            costs: `Costs`; without them, those written before stand.

        Raises:
            ResultsError: If the status is unknown or run.json cannot be written.
        """
        if status not in RUN_STATUSES:
            raise ResultsError(f"unknown run status {status!r}; choose one of {', '.join(RUN_STATUSES)}")
        ended = status != "running"
        kept_summary = self.info["summary"] if ended else None
        self._write_info(
            status=status,
            reason=reason,
            ended=_now() if ended else None,
            summary=kept_summary if summary is None else dict(summary),
            costs=self.info["costs"] if costs is None else dict(costs),
            files={name: digest(self.path / name) for name in (SCORES_FILE, EDITS_FILE)} if ended else {},
        )

    def add_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Add what became known later, such as the model's hash; a key that is there already is replaced.

        Raises:
            ResultsError: If run.json cannot be written.
        """
        self._write_info(provenance={**self.info["provenance"], **provenance})

    def scores(self) -> list[dict[str, Any]]:
        """All rows of scores.jsonl, in the order of writing.

        Raises:
            ResultsError: If the file is damaged; names the line.
        """
        return self._rows(SCORES_FILE)

    def edits(self) -> list[dict[str, Any]]:
        """All rows of edits.jsonl, in the order of writing.

        Raises:
            ResultsError: If the file is damaged; names the line.
        """
        return self._rows(EDITS_FILE)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return read_lines(self.path / name)[0]

    def _append(self, name: str, rows: list[Mapping[str, Any]]) -> None:
        self._check_running()
        append_lines(self.path / name, _lines(rows))

    def _check_running(self) -> None:
        if self.info["status"] != "running":
            raise ResultsError(f"{self.path} is {self.info['status']}; set_status('running') before writing to it")

    def _write_info(self, **changes: Any) -> None:
        text = encode({**self.info, **changes}, indent=2)
        write_atomic(self.path / RUN_FILE, f"{text}\n".encode())
        self.info = cast("RunInfo", decode(text.encode()))  # what a reader would see


def is_run(path: Path) -> bool:
    """Whether this folder holds a run, be it a damaged one; a folder that something else made is none."""
    scores = path / SCORES_FILE
    try:
        return (path / RUN_FILE).is_file() or (scores.is_file() and scores.stat().st_size > 0)
    except PermissionError:
        return True  # it may be one, and reading it will say what is wrong


def read_info(path: Path) -> RunInfo:
    """What run.json holds; needs no lock.

    Raises:
        ResultsError: If it is missing, is damaged, or comes from a later version of editbench.
    """
    file = path / RUN_FILE
    with explained("read", file, "restore it from a copy, or delete the run"):
        text = file.read_bytes()
    try:
        info = decode(text)
    except ValueError as error:
        raise ResultsError(f"{file}: damaged ({error}); restore it from a copy, or delete the run") from error
    if info.get("format") != FORMAT:
        raise ResultsError(
            f"{file}: format {info.get('format')!r}, this editbench reads {FORMAT}; use a fitting version"
        )
    missing = sorted(RunInfo.__required_keys__ - info.keys())
    mappings = all(isinstance(info.get(name), dict) for name in ("provenance", "files"))
    if missing or info["status"] not in RUN_STATUSES or not mappings:
        raise ResultsError(
            f"{file}: damaged (missing: {missing}, status {info.get('status')!r}); restore it from a copy"
        )
    return cast("RunInfo", info)


def digest(*paths: Path) -> str:
    """SHA-256 of the files' content, one after the other.

    Raises:
        ResultsError: If one cannot be read.
    """
    sha = hashlib.sha256()
    for path in paths:
        with explained("read", path, "restore it from a copy, or delete the run"):
            sha.update(path.read_bytes())
    return sha.hexdigest()


def _new_info(run_id: str, provenance: Mapping[str, Any]) -> RunInfo:
    return {
        "format": FORMAT,
        "run": run_id,
        "status": "running",
        "reason": None,
        "started": _now(),
        "ended": None,
        "provenance": {"schema": SCHEMA, **provenance},
        "costs": None,
        "summary": None,
        "files": {},
    }


def _repair(path: Path) -> str | None:
    """Cut off a torn last line; says so. Earlier damage is an error."""
    _, torn = read_lines(path)
    if not torn:
        return None
    cut_tail(path, torn)
    report = f"{path}: a last line torn by a crash ({torn} bytes) was cut off"
    logger.warning(report)
    return report


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{encode(row)}\n" for row in rows)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _check_run_id(run_id: str) -> None:
    if not run_id or run_id.startswith(".") or not run_id.isprintable() or set(run_id) & set("\\/:"):
        raise ResultsError(f"run id {run_id!r} is not a folder name; use letters, digits and - _ . = +")


def _check_score_row(row: Mapping[str, Any]) -> None:
    """Raise unless `row` is a `RecordRow` or a `ModelRow`."""
    _check(row, "a score row", stage=str, edits=Integral, batch=Integral, scores=Mapping)
    if row["stage"] not in STAGES:
        raise ResultsError(f"a score row's stage {row['stage']!r} is none of {STAGES}")
    if "of" in row:
        _check(row, "a model row", of=str)
        if row["of"].startswith("ability."):
            _check(row, "a row of general ability", stderr=Mapping, n=Integral)
        return
    _check(row, "a score row", record=str, position=Integral, status=str)
    if row["status"] not in RECORD_STATUSES:
        raise ResultsError(f"record {row['record']!r} has the status {row['status']!r}, none of {RECORD_STATUSES}")


def _check(row: Mapping[str, Any], what: str, **fields: type) -> None:
    for name, kind in fields.items():
        if not isinstance(row.get(name), kind):
            raise ResultsError(f"{what} has {name}={row.get(name)!r}; {kind.__name__} is wanted (keys: {list(row)})")
