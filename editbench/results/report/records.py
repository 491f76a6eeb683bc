"""Scored rows to the record browser's data: which questions were put, and what the model said before and after.

Runs of one stream put the same questions, so every text is stored once and named by its index. The data is bounded: if
all records do not fit, every second one of each run is kept, or every third, and so on, so that those which stay are
spread over the stream and are the same in all runs of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from editbench.results.report.run_data import clip
from editbench.results.report.series import finite
from editbench.results.schema import HEADLINES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]

RECORD_BYTES = 700_000
"""Bytes of all records together; plotly takes 4.8 MB, and the page should stay below 6 MB."""
TEXT_LENGTH = 400
"""Characters of a prompt or answer; more are cut off, and counted."""
_NOTHING = -1


class _Texts:
    """Texts, each stored once."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __call__(self, text: Any) -> int:
        """The index of this text; -1 of None."""
        return _NOTHING if text is None else self.index.setdefault(clip(str(text), TEXT_LENGTH), len(self.index))


def browse(runs: Sequence[Rows], headlines: Sequence[Mapping[str, str]], limit: int = RECORD_BYTES) -> dict[str, Any]:
    """The record browser's data.

    Args:
        runs: Each run's rows.
        headlines: Which measure stands for each of `HEADLINES`, run by run.
        limit: Bytes that it may take.

    Returns:
        "texts", which all else names by index (-1: none); "stride", the distance of the records shown; and "runs": for
        each "total" and "rows": [position, id, status, reason, headline values right after, and at the end, probes]. A
        probe is [kind, prompt, wanted, answer before, right after, whether that is right, at the end, whether that is].
    """
    found = [_records(rows) for rows in runs]
    longest = max((len(records) for records in found), default=0)
    stride = 1
    while True:
        texts = _Texts()
        shown = [
            [_record(moments, headline, texts) for moments in records[::stride]]
            for records, headline in zip(found, headlines, strict=True)
        ]
        counted = [{"total": len(records), "rows": rows} for records, rows in zip(found, shown, strict=True)]
        data = {"stride": stride, "texts": list(texts.index), "runs": counted}
        if len(json.dumps(data, separators=(",", ":"))) <= limit:
            return data
        if stride >= longest:
            return {"stride": stride, "texts": [], "runs": [{**one, "rows": []} for one in counted]}
        stride = max(stride + 1, stride * 5 // 4)


def _records(rows: Rows) -> list[dict[str, Mapping[str, Any]]]:
    """Each record's rows right after its edit and at the end, by moment, in the order of the stream."""
    records: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if "record" in row and row["moment"] in ("immediate", "final"):
            records.setdefault((row["position"], row["record"]), {})[row["moment"]] = row
    return [records[key] for key in sorted(records)]


def _record(moments: Mapping[str, Mapping[str, Any]], headline: Mapping[str, str], texts: _Texts) -> list[Any]:
    immediate, final = moments.get("immediate", {}), moments.get("final", {})
    last = final or immediate
    after, end = ({(one["kind"], one["prompt"]): one for one in row.get("probes") or ()} for row in (immediate, final))
    return [
        last["position"],
        texts(last["record"]),
        texts(last["status"]),
        texts(last.get("reason")),
        *([_rate(row.get("scores", {}).get(headline.get(kind))) for kind in HEADLINES] for row in (immediate, final)),
        [_probe(after.get(key, {}), end.get(key, {}), texts) for key in {**after, **end}],
    ]


def _probe(after: Mapping[str, Any], end: Mapping[str, Any], texts: _Texts) -> list[int]:
    either = {**after, **end}
    return [
        *(texts(either.get(name)) for name in ("kind", "prompt", "target", "before")),
        *(value for probe in (after, end) for value in (texts(probe.get("answer")), _right(probe))),
    ]


def _rate(value: Any) -> float | None:
    number = finite(value)
    return None if number is None else round(number, 3)


def _right(probe: Mapping[str, Any]) -> int:
    """1 if every token of the answer is the target's, 0 if not, -1 if it was not asked."""
    correct = probe.get("correct")
    return int(all(correct)) if isinstance(correct, list) and correct else _NOTHING
