"""The report's page: what of the runs reaches it, how large it is, and what it may do in a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import sys
from importlib import resources
from importlib.util import find_spec

import pytest

from editbench.results import ResultsError, RunFolder
from editbench.results.leaderboard import collect_folders
from editbench.results.report import write_report
from editbench.results.report.page import json_in_html
from editbench.results.schema import SCORES_FILE
from tests.results.runs import write_run

pytestmark = pytest.mark.skipif(not find_spec("plotly"), reason="the report needs plotly")


def page_data(path):
    """The JSON in the page, read as a browser reads it."""
    text = path.read_text(encoding="utf-8")
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(block)


# --- the page ---


def test_the_page_holds_every_run_whatever_became_of_it(tmp_path):
    write_run(tmp_path, "done", evaluate_at=(4,))
    write_run(tmp_path, "failed", status="failed")
    write_run(tmp_path, "broken")
    (tmp_path / "broken" / SCORES_FILE).write_text("{}\n")
    with RunFolder.create(tmp_path, "running", ""):
        size = write_report(collect_folders(tmp_path), tmp_path / "report.html", title="<My> report")
    assert size == (tmp_path / "report.html").stat().st_size
    data = page_data(tmp_path / "report.html")
    runs = {run["cells"]["run"]: run for run in data["runs"]}
    assert {name: run["cells"]["status"] for name, run in runs.items()} == {
        **{"done": "done", "failed": "failed", "broken": "damaged", "running": "running"}
    }
    assert runs["failed"]["reason"] == "CUDA out of memory" and runs["failed"]["curves"]["immediate"]["edits"]
    assert "is not what the run wrote" in runs["broken"]["reason"] and runs["broken"]["heat"] is None
    done = runs["done"]
    assert done["cells"]["bytes_per_edit"] == 4096 and done["cells"]["seconds_per_edit"] == 2.5
    low, high = done["intervals"]["reliability"]
    assert 0 <= low < done["cells"]["reliability"] < high <= 1 and "seconds_per_edit" not in done["intervals"]
    assert done["intervals"]["rewrite.exact_match"] and not [name for name in done["intervals"] if "immediate" in name]
    assert done["final"]["unrelated.activation"] == 0.008 and done["final"]["rewrite.activation"] == pytest.approx(0.9)
    assert not [name for name in done["final"] if name.endswith(("_n", "_low", "_high", "questions", "tokens"))]
    assert ["method.config.layer", "5"] in done["provenance"] and done["config"] == "seed: 0\n"
    assert "&lt;My&gt; report" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_twenty_runs_of_200_records_stay_below_6_mb(tmp_path):
    for seed in range(5):
        for method in ("rome", "memit", "nse", "scen"):
            write_run(tmp_path, f"{method}-{seed}", method=method, seed=seed, edits=200, evaluate_at=range(20, 200, 20))
    size = write_report(collect_folders(tmp_path), tmp_path / "report.html")
    assert size < 6_000_000
    records = page_data(tmp_path / "report.html")["records"]
    assert [one["total"] for one in records["runs"]] == [200] * 20
    shown = [len(one["rows"]) for one in records["runs"]]
    assert shown == [len(range(0, 200, records["stride"]))] * 20 and shown[0] >= 50


def test_the_policy_names_the_scripts_and_allows_nothing_else(tmp_path):
    write_run(tmp_path, "a")
    write_report(collect_folders(tmp_path), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2 and all(f"'sha256-{one}'" in policy for one in hashes)
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe-eval" not in policy
    assert text.count("plotly.js v") == 1
    assert not re.search(r'(src|href)="(?!#|data:,)', text[: text.index("<script")])


def test_the_scripts_make_no_markup_and_ask_no_network():
    folder = resources.files("editbench.results.report")
    names = [file.name for file in folder.iterdir() if file.name.endswith(".js")]
    assert len(names) == 8
    for name in names:
        source = (folder / name).read_text(encoding="utf-8")
        forbidden = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\(|XMLHttp|https?:"
        )
        assert not re.search(forbidden, source), name


@pytest.mark.parametrize(
    "text", ["</script><img src=x onerror=alert(1)>", "<!--<script>", "\u2028\u2029&amp;", "\ud800"]
)
def test_data_cannot_leave_its_script(text):
    embedded = json_in_html({text: [text]})
    assert embedded.isascii() and not set("<>&") & set(embedded)
    assert json.loads(embedded) == {text: [text]}


def test_without_runs_or_plotly_there_is_no_report(tmp_path, monkeypatch):
    with pytest.raises(ResultsError, match="no run to report on"):
        write_report({}, tmp_path / "report.html")
    write_run(tmp_path, "a")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ResultsError, match=r"pip install 'editbench\[plots\]'"):
        write_report(collect_folders(tmp_path), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
