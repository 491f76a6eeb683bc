"""A run of others as a claim: copied without following any path of it, and its seal checked (level 1)."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from editbench.config import StreamConfig
from editbench.files import ResultsError, canonical, read_bytes
from editbench.json_lines import decode, encode, read_lines
from editbench.results import schema
from editbench.results.intervals import VERSION
from editbench.results.recomputed import of_one_run, summary_of
from editbench.results.run_folder import read_info
from editbench.results.seal import FILES, SOMETIMES, check_run, ledger_batches
from editbench.stopping import StopRule
from editbench.stream import evaluation_points

if TYPE_CHECKING:
    from editbench.results.schema import RunInfo

_IN_LEDGER = re.compile(r"index\.jsonl|state\.safetensors|segment-[0-9]+\.bin|keyframe-[0-9]+\.safetensors")
_MOST_EDITS = 10_000_000  # of a stream: bounds the work that a made-up number asks for
_NEW = {"nonfinite"}  # keys of a summary that earlier versions did not write


class Refused(Exception):
    """The claim does not hold; the message says where."""


class CannotSay(Exception):
    """The claim cannot be checked here; the message says what is missing."""


@dataclass(frozen=True)
class Claim:
    """Content of a finished run's folder, read from a copy of it."""

    folder: Path  # the copy
    info: RunInfo
    root: str  # of the manifest
    config: dict[str, Any]  # of config.yaml
    rows: list[dict[str, Any]]
    edits: list[dict[str, Any]]  # of batches of the stream; a method's conclusion is none
    chain: list[dict[str, Any]]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Of run.json."""
        return self.info["provenance"]

    def kept_after(self, batch: int) -> int:
        """Number of batches in the ledger once this batch of the stream was edited; 0 for -1."""
        return ledger_batches(self.chain, batch)

    def records(self, stage: str, edits: int | None = None) -> list[dict[str, Any]]:
        """Rows of records at a stage, in the order of writing."""
        of_stage = (row for row in self.rows if row["stage"] == stage and "record" in row)
        return [row for row in of_stage if edits is None or row["edits"] == edits]


def copy_of(run: Path, target: Path) -> Path:
    """Copy the files that a run makes to ``target``: regular files only, and no link is followed."""
    if not (run / schema.RUN_FILE).is_file():
        inside = sorted(found.parent for found in run.glob(f"runs/*/{schema.RUN_FILE}"))
        raise CannotSay(f"{run} holds no run; give a run's folder{f', as {inside[0]}' if inside else ''}")
    (target / schema.LEDGER_FOLDER).mkdir(parents=True)
    names = [*FILES, *SOMETIMES, schema.MANIFEST_FILE]
    ledger = run / schema.LEDGER_FOLDER
    if stat.S_ISDIR(_mode(ledger)):
        names += [f"{schema.LEDGER_FOLDER}/{name}" for name in os.listdir(ledger) if _IN_LEDGER.fullmatch(name)]
    for name in names:
        mode = _mode(run / name)
        if mode and not stat.S_ISREG(mode):
            raise Refused(f"{run / name} is a link, or no regular file")
        if mode:
            descriptor = os.open(run / name, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
            with os.fdopen(descriptor, "rb") as source, (target / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
    return target


def _mode(path: Path) -> int:
    """Mode of what lies there, a link as such; 0 for nothing."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def read_claim(folder: Path) -> Claim:
    """Read a copy of a finished run, and check manifest and chain.

    Raises:
        Refused: A file is damaged, altered or missing.
        CannotSay: The run has not finished, or has another format.
    """
    try:
        with of_one_run(folder):
            found = decode(read_bytes(folder / schema.RUN_FILE, limit=schema.MAX_INFO)).get("format")
            if found != schema.FORMAT:
                raise CannotSay(f"its format is {found!r}; this editbench reads {schema.FORMAT}")
            info = read_info(folder)
            if info["status"] != "done":
                raise CannotSay(f"it is {info['status']}, and claims no result until it is done")
            check_run(folder, info)
            root = decode(read_bytes(folder / schema.MANIFEST_FILE))["root"]
            names = (schema.SCORES_FILE, schema.EDITS_FILE, schema.CHAIN_FILE)
            rows, edits, chain = (read_lines(folder / name)[0] for name in names)
            config = _yaml(read_bytes(folder / schema.CONFIG_FILE))
            return Claim(folder, info, root, config, rows, [row for row in edits if row["ids"]], chain)
    except CannotSay:
        raise
    except (ResultsError, OSError) as error:
        raise Refused(str(error)) from error


def _yaml(data: bytes) -> dict[str, Any]:
    """The config; one with aliases, which may stand for any amount of data, is none that a run writes."""
    text = data.decode("utf-8")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ResultsError(f"{schema.CONFIG_FILE} has aliases; no run writes any")
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ResultsError(f"{schema.CONFIG_FILE} is no YAML ({error})".replace("\n", " ")) from error
    if not isinstance(plain, dict):
        raise ResultsError(f"{schema.CONFIG_FILE} is no mapping")
    return plain


def check_seal(claim: Claim) -> dict[str, Any]:
    """Level 1: summary and rows against each other, provenance against config, counts against the stream.

    Returns the numbers of batches, edits and rows by stage. Raises as `read_claim`.
    """
    try:
        with of_one_run(claim.folder):
            _check_provenance(claim)
            _check_summary(claim)
            return _check_counts(claim)
    except ResultsError as error:
        raise Refused(str(error)) from error


def _check_provenance(claim: Claim) -> None:
    config, known = claim.config, claim.provenance
    method = {name: value for name, value in config["method"].items() if name not in ("name", "hparams")}
    pairs = {
        "method.name": (config["method"]["name"], known["method"]["name"]),
        "method": (method, known["method"]["config"]),
        "protocol": (config["protocol"], known["protocol"]),
        "seed": (config["stream"]["seed"], known["seed"]),
        "batch_size": (config["stream"]["batch_size"], known["stream"]["batch_size"]),
        "model.name": (config["model"]["name"], known["model"]["name"]),
        "dataset.name": (config["dataset"]["name"], known["dataset"]["name"]),
    }
    for name, (given, told) in pairs.items():
        if canonical(_json(given)) != canonical(_json(told)):
            raise Refused(f"{schema.RUN_FILE} says {told!r} of {name}, {schema.CONFIG_FILE} {given!r}")


def _json(value: Any) -> Any:
    return decode(encode({"value": value}).encode())


def _check_summary(claim: Claim) -> None:
    if (version := claim.provenance["versions"].get("interval")) != VERSION:
        raise CannotSay(f"its intervals are of version {version}, this editbench's of {VERSION}")
    told, found = claim.info["summary"] or {}, summary_of(claim.folder, claim.info)
    for name in ("headline", "ranges", "before", "immediate", "final", "interim", *_NEW):
        if told.get(name) != found[name] and not (name in _NEW and name not in told):
            raise Refused(f"the summary in {schema.RUN_FILE} is not that of the rows ({name})")


def _collapse(claim: Claim) -> dict[str, Any] | None:
    """The collapse that the rows show by the run's own conditions."""
    given = claim.config["stream"].get("stop_when") or []
    rule = StopRule([given] if isinstance(given, str) else given, claim.provenance["protocol"]["headline"])
    batches = (list(rows) for _, rows in groupby(claim.rows, key=lambda row: row["batch"]))
    found = next(filter(None, map(rule.collapse, batches)), None) if rule else None
    return None if found is None else asdict(found)


def _check_counts(claim: Claim) -> dict[str, Any]:
    stream, protocol = claim.provenance["stream"], claim.config["protocol"]
    collapsed = (claim.info["summary"] or {}).get("collapsed")
    if collapsed != (found := _collapse(claim)):
        raise Refused(f"{schema.RUN_FILE} says {collapsed} of a collapse, the rows and stream.stop_when {found}")
    edits = collapsed["edits"] if collapsed else stream["edits"]
    ids = [id for row in claim.edits for id in row["ids"]]
    single, stages = stream["mode"] == "single", protocol["stages"]
    _same("edits", len(ids), edits)
    _same("edits in the stream at least", max(edits, min(stream["edits"], _MOST_EDITS)), stream["edits"])
    _same("different edits", len({*ids}), edits)
    _same("batches", [row["batch"] for row in claim.edits], list(range(-(-edits // stream["batch_size"]))))
    wanted = {
        "immediate": ids if "immediate" in stages and not single else [],
        "final": ids if single else ids[: protocol["final_first"]] if "final" in stages else [],
    }
    for stage, records in wanted.items():
        _same(f"records at the stage {stage}", [row["record"] for row in claim.records(stage)], records)
    points = [] if single else _points(claim.config["stream"], stream["edits"])
    interim = Counter(row["edits"] for row in claim.records("interim"))
    most = protocol["retention_sample"] or edits
    _same("records at evaluation points", dict(interim), {at: min(at, most) for at in points if at <= edits})
    return {"batches": len(claim.edits), "edits": edits, "rows": dict(Counter(row["stage"] for row in claim.rows))}


def _points(stream: Mapping[str, Any], edits: int) -> list[int]:
    return [point.edits for point in evaluation_points(StreamConfig(**stream), edits)]


def _same(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        shown = [f"{len(one)}" if isinstance(one, Sequence | Mapping) else str(one) for one in (found, wanted)]
        raise Refused(f"{what}: {shown[0]} found, {shown[1]} in the stream, or not the same ones")
