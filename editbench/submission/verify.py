"""``editbench verify RUN``: whether a run's claim holds, by its seal, by scoring again, or by editing again.

No code of the run is run, and no path that it names is followed.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from editbench.checks import at_least
from editbench.console import quiet_libraries
from editbench.json_lines import encode
from editbench.submission.claim import CannotSay, Claim, Refused, check_seal, copy_of, read_claim

SAMPLE = 64  # rows that are scored again
ROWS_A_BATCH = 8  # rows for each batch that is edited again
VERIFIED, REFUSED, UNKNOWN = "verified", "refused", "unknown"
EXIT = {VERIFIED: 0, REFUSED: 1, UNKNOWN: 2}  # exit status by verdict


@dataclass
class Verdict:
    """What was found about a run."""

    run: str  # folder
    level: int  # that was asked for
    status: str = UNKNOWN  # "verified", "refused", or "unknown": it cannot be said
    reasons: list[str] = field(default_factory=list)  # why it is not verified
    root: str | None = None  # of the manifest: the content that the verdict is about
    nonce: str | None = None  # from which, with the root, the sample was drawn
    sample: int | None = None  # rows
    seconds: float = 0.0
    seal: dict[str, Any] | None = None  # counts of level 1
    rescored: dict[str, Any] | None = None  # rows, scores, how many are equal to the bit or differ; of level 2
    reedited: dict[str, Any] | None = None  # batches, largest error, smallest cosine, the rows after them; of level 3
    tolerance: dict[str, Any] | None = None  # and by whose machine

    @property
    def exit_status(self) -> int:
        """0 verified, 1 refused, 2 unknown."""
        return EXIT[self.status]

    def as_json(self) -> str:
        """One line of strict JSON."""
        return encode(asdict(self))


def verify(
    run: str | Path,
    level: int = 1,
    sample: int = SAMPLE,
    nonce: str | None = None,
    places: Mapping[str, str] | None = None,
) -> Verdict:
    """Check a finished run's folder; nothing is written to it. A ValueError for a sample without rows.

    Args:
        run: The folder.
        level: 1 checks the seal, in seconds; 2 puts the edits into the base model and scores a sample of rows again;
            3 also edits a sample of batches again. Each level includes those below.
        sample: Rows that level 2 scores again; level 3 edits an eighth as many batches again.
        nonce: Text from which, with the manifest's root, the sample is drawn; None takes a random one.
        places: The verifier's own paths, by setting ("model.path"), where the run names others than those of editbench.
    """
    at_least(1, sample=sample)
    begun = time.perf_counter()
    verdict = Verdict(str(run), level)
    with tempfile.TemporaryDirectory(prefix="editbench-verify-") as folder:
        try:
            claim = read_claim(copy_of(Path(run), Path(folder) / "run"))
            verdict.root, verdict.seal = claim.root, check_seal(claim)
            if level > 1:
                verdict.nonce, verdict.sample = nonce or secrets.token_hex(16), sample
                _check_again(claim, Path(folder), dict(places or {}), verdict)
            verdict.status = REFUSED if verdict.reasons else VERIFIED
        except Refused as error:
            verdict.status, verdict.reasons = REFUSED, [*verdict.reasons, str(error)]
        except CannotSay as error:
            verdict.status = REFUSED if verdict.reasons else UNKNOWN
            verdict.reasons.append(str(error))
        except Exception as error:  # a value that nobody foresaw decides nothing
            verdict.reasons.append(f"{type(error).__name__}: {error}")
    copy = str(Path(folder) / "run")
    verdict.reasons = [reason.replace(copy, verdict.run) for reason in verdict.reasons]
    verdict.seconds = time.perf_counter() - begun
    return verdict


def _check_again(claim: Claim, folder: Path, places: dict[str, str], verdict: Verdict) -> None:
    """Levels 2 and 3."""
    from editbench import provenance
    from editbench.submission.agreement import tolerance_of
    from editbench.submission.rebuilt import rebuild
    from editbench.submission.reedit import reedit
    from editbench.submission.rescore import rescore
    from editbench.threads import restored_threads

    assert verdict.sample is not None and verdict.nonce is not None
    with restored_threads():
        rebuilt = rebuild(claim, places, folder / "cache", to_edit=verdict.level > 2)
        machine, tolerance = tolerance_of(claim.provenance, provenance.environment())
        verdict.tolerance = {"machine": machine, **asdict(tolerance)}
        if not (rebuilt.stream.single and verdict.level > 2):
            scores, same = rescore(rebuilt, folder / "scored", verdict.sample, verdict.nonce, tolerance)
            verdict.rescored = {**scores.report(), "equal_weights": same}
            verdict.reasons += scores.reasons()
        if verdict.level > 2:
            batches = max(1, verdict.sample // ROWS_A_BATCH)
            edits, after = reedit(rebuilt, folder / "edited", batches, verdict.nonce, tolerance)
            verdict.reedited = {**edits.report(), "scored_after": after.report()}
            verdict.reasons += [*edits.wrong, *after.reasons()]


def main(run: str, level: int, sample: int, nonce: str | None, paths: Sequence[str]) -> int:
    """Print the verdict as one line of JSON; the exit status."""
    if level > 1:
        quiet_libraries()
    places = dict(text.partition("=")[::2] for text in paths)
    if wrong := [text for text in paths if "=" not in text]:
        print(f"error: --path {wrong[0]} is not of the form SETTING=PATH, as in model.path=DIR", file=sys.stderr)
        return EXIT[UNKNOWN]
    if sample < 1:
        print(f"error: --sample is {sample}; it must be at least 1", file=sys.stderr)
        return EXIT[UNKNOWN]
    verdict = verify(run, level, sample, nonce, places)
    print(verdict.as_json())
    if verdict.status == UNKNOWN:
        print(f"error: it cannot be said: {verdict.reasons[-1]}", file=sys.stderr)
    return verdict.exit_status
