"""The summary of a run, computed again from its sealed rows: what run.json says of its own scores is not believed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from editbench.fetched import cache_folder
from editbench.files import DamagedFile, ResultsError, canonical, read_bytes, write_atomic
from editbench.json_lines import decode, encode, read_lines
from editbench.results import schema
from editbench.results.run_folder import check_score_row

KEPT = 1  # changes with what is kept


@contextlib.contextmanager
def of_one_run(folder: Path) -> Iterator[None]:
    """Make a `DamagedFile` of any error that a value of a wrong type or size in the run's files causes.

    So a run that was written by others harms no table but its own row.
    """
    try:
        yield
    except ResultsError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DamagedFile(f"{folder} holds a value that no run writes ({error!r}); do the run again") from error


def summary_of(folder: Path, info: Mapping[str, Any]) -> dict[str, Any]:
    """The `Summary` from the rows of an ended, sound run, by the headline and ranges of ``info``.

    With it goes ``final_rows``, a digest. Both are kept in the cache by the root of the run's manifest. Of ``info`` are
    the edits at which the run collapsed. A `DamagedFile` if a row is none that a run writes.
    """
    from editbench.results import intervals  # here: they import NumPy
    from editbench.results.summary import summarise

    with of_one_run(folder):
        protocol, metrics = info["provenance"].get("protocol") or {}, info["metrics"]
        ranges = {name: (fact["range"][0], fact["range"][1]) for name, fact in metrics.items() if fact.get("range")}
        headline = protocol.get("headline") or {}
        root = decode(read_bytes(folder / schema.MANIFEST_FILE, limit=schema.MAX_INFO))["root"]
        key = hashlib.sha256(canonical([KEPT, intervals.VERSION, root, headline, ranges])).hexdigest()
        file = cache_folder() / "summaries" / f"{key[:32]}.json"
        summary = _kept(file, key)
        if summary is None:
            rows = read_lines(folder / schema.SCORES_FILE)[0]
            for row in rows:
                _check_stored(row)
            found = {**summarise(rows, headline, ranges=ranges), "final_rows": _digest_of_final(rows)}
            summary = decode(encode(found).encode())  # as from the cache
            _keep(file, key, summary)
        return {**summary, "collapsed": (info["summary"] or {}).get("collapsed")}


def _check_stored(row: Mapping[str, Any]) -> None:
    """Refuse a row that no run writes: one of the schema, with numbers for scores, and prompts in its probes."""
    check_score_row(row)
    if wrong := [name for name, value in row["scores"].items() if not isinstance(value, (int, float, NoneType))]:
        raise ResultsError(f"{wrong[0]} is {row['scores'][wrong[0]]!r}, which is no number")
    for probe in row.get("probes") or ():
        if not (isinstance(probe.get("kind"), str) and isinstance(probe.get("prompt"), str)):
            raise ResultsError(f"a probe of record {row['record']!r} has no kind or no prompt")


def _digest_of_final(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Digest of the answers after the last edit, None without probes: runs of two seeds that agree in it are copies."""
    names = ("record", "position", "status", "scores", "probes")
    final = [[row.get(name) for name in names] for row in rows if row["stage"] == "final" and "record" in row]
    return hashlib.sha256(canonical(final)).hexdigest() if any(probes for *_, probes in final) else None


def _kept(file: Path, key: str) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, KeyError):  # not there, or not whole: it is computed again
        kept = json.loads(file.read_text(encoding="utf-8"))
        if (kept["key"], kept["digest"]) == (key, hashlib.sha256(canonical(kept["summary"])).hexdigest()):
            return dict(kept["summary"])
    return None


def _keep(file: Path, key: str, summary: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError, ResultsError):  # a cache that cannot be written costs time, no result
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"key": key, "digest": hashlib.sha256(canonical(summary)).hexdigest(), "summary": summary}
        write_atomic(file, encode(content).encode())
