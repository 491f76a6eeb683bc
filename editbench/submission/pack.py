"""``editbench submit RUN…``: finished runs of one method and several seeds, packed so that anybody can verify them.

A submission is a folder: ``submission.json``, ``runs/<run>/`` as `editbench verify` takes them, and, once somebody has
checked it, ``verdicts/<name>.json`` with the lines that `editbench verify` printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editbench.files import new_folder, write_atomic
from editbench.json_lines import encode
from editbench.results import schema
from editbench.submission.claim import CannotSay, Claim, Refused, check_seal, copy_of, read_claim

FORMAT = 1
SUBMISSION_FILE, RUNS_FOLDER, VERDICTS_FOLDER = "submission.json", "runs", "verdicts"
SEEDS = 3  # that an official entry has at least
DECLARED = ("tuned", "published", "defaults", None)
"""Origins of hparams that say on which records they were found; None: a method without any."""


def submit(runs: Sequence[str | Path], out: str | Path, against: str | None = None) -> dict[str, Any]:
    """Pack runs that differ in their seed alone into a new folder ``out``; the content of its ``submission.json``.

    ``against`` is the root of a run that this submission gives a lower result than. A ValueError names a run that would
    not be verified at level 1, and why.
    """
    with new_folder(Path(out)) as hidden:
        claims = [_packed(Path(run), hidden / RUNS_FOLDER / Path(run).resolve().name) for run in runs]
        (hidden / VERDICTS_FOLDER).mkdir()
        about = _about(claims, against)
        write_atomic(hidden / SUBMISSION_FILE, f"{encode(about, indent=1)}\n".encode())
    return about


def _packed(run: Path, target: Path) -> Claim:
    """A copy of the run, whose seal holds."""
    if target.exists():
        raise ValueError(f"{run}: another of the runs is called {run.name} too; rename one with results.name")
    try:
        claim = read_claim(copy_of(run, target))
        check_seal(claim)
    except (Refused, CannotSay) as error:
        raise ValueError(f"{run} would not be verified: {str(error).replace(str(target), str(run))}") from error
    return claim


def _about(claims: Sequence[Claim], against: str | None) -> dict[str, Any]:
    first = claims[0].provenance
    for claim in claims[1:]:
        if claim.provenance.get("identity") != first.get("identity"):
            names = f"{claims[0].folder.name} and {claim.folder.name}"
            raise ValueError(f"{names} differ in more than their seed; submit each by itself")
    if len({claim.root for claim in claims}) < len(claims):
        raise ValueError("a run was given twice")
    why = unofficial([claim.provenance for claim in claims])
    return {
        "format": FORMAT,
        "method": first["method"]["name"],
        "comparable_group": first.get("comparable"),
        "official": not why,
        "unofficial_because": why,
        "against": against,
        "runs": [_run(claim) for claim in claims],
    }


def unofficial(provenances: Sequence[Mapping[str, Any]]) -> list[str]:
    """Reasons why runs of one method are no official entry: too few seeds, or how its settings were found.

    Runs of several seeds may edit other records: the largest overlap counts.
    """
    seeds = {provenance["seed"] for provenance in provenances}
    found = [] if len(seeds) >= SEEDS else [f"{len(seeds)} of {SEEDS} seeds"]
    methods = [provenance["method"] for provenance in provenances]
    for origin in dict.fromkeys(method.get("hparams") for method in methods if not _declared(method)):
        found.append(f"hparams {origin}: the records that they were found on are not declared")
    overlap = max(((method.get("tuning") or {}).get("overlap", 0) for method in methods), default=0)
    return [*found, f"tuned on {overlap} of these edits"] if overlap else found


def _declared(method: Mapping[str, Any]) -> bool:
    """Whether a run says on which records the settings of its method were found."""
    origin = method.get("hparams")
    return origin in DECLARED and (origin != "tuned" or bool(method.get("tuning")))


def _run(claim: Claim) -> dict[str, Any]:
    files = [path for path in claim.folder.rglob("*") if path.is_file()]
    ledger = sum(path.stat().st_size for path in files if path.parent.name == schema.LEDGER_FOLDER)
    size = {"bytes": sum(path.stat().st_size for path in files), "ledger_bytes": ledger}
    return {"run": claim.folder.name, "root": claim.root, "seed": claim.provenance["seed"], **size}


def main(runs: Sequence[str], out: str, against: str | None) -> int:
    """Pack, and print what was packed as one line of JSON."""
    print(encode({"folder": out, **submit(runs, out, against)}))
    return 0
