"""Page of the report: data, style, scripts and plotly in one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from editbench.files import ResultsError, write_atomic
from editbench.results.columns import RETURNS
from editbench.results.curves import reduce_points
from editbench.results.intervals import t_quantile
from editbench.results.report.data import browse, label_columns, measures_of, read_run, settings_that_vary
from editbench.results.schema import HEADLINES, Row

_SCRIPTS = ("dom.js", "table.js", "metrics.js", "study.js", "groups.js", "charts.js", "records.js", "page.js")
_STEPS = 100  # of the page's table of Student's quantiles, by 1 / √(degrees of freedom) from 0 to 1
_IN_HTML = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def write_report(runs: Mapping[Path, Row], path: str | Path, *, title: str = "editbench report") -> int:
    """Write the report of these runs, rows of `collect_folders`, and return its size in bytes.

    A run that failed, still runs or is damaged is in the table with its reason. The record browser holds as many
    records as fit into its share of the page, and says so.
    """
    if not runs:
        raise ResultsError("there is no run to report on; run something first, or name other results folders")
    read = [read_run(folder, row) for folder, row in runs.items()]
    reduce_points(run.shown["curves"] for run in read)
    rows = list(runs.values())
    varying = settings_that_vary(rows)
    labels, columns = label_columns(rows, read)
    data = {
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "headlines": HEADLINES,
        "labels": labels,
        "columns": columns,
        "returns": RETURNS,
        "measures": measures_of(read),
        "runs": [{**run.shown, "settings": settings} for run, settings in zip(read, varying, strict=True)],
        "quantiles": t_quantile([(_STEPS / step) ** 2 if step else math.inf for step in range(_STEPS + 1)]).tolist(),
        "records": browse([run.rows for run in read], [run.shown["headline"] for run in read]),
    }
    page = render(data, title).encode("utf-8", "replace")
    write_atomic(Path(path), page)
    return len(page)


def render(data: Mapping[str, Any], title: str) -> str:
    """The page with this data; its content security policy names the scripts by their hash."""
    folder = resources.files(__package__)
    own = "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    scripts = {"plotly": _plotly_js(), "script": f'"use strict";\n(() => {{\n{own}}})();\n'}
    for script in scripts.values():
        assert "</script" not in script and "\r" not in script, "a browser would read another text than was hashed"
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts.values())
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        scripts,
        title=html.escape(title),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        data=json_in_html(data),
        policy=f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'",
    )


def json_in_html(data: Any) -> str:
    """Strict JSON that no HTML parser takes for markup: ASCII only, without <, > and &."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_IN_HTML)


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ResultsError("the report needs plotly: pip install 'editbench[plots]'") from error
    return str(get_plotlyjs())
