"""The report's data: what of the runs reaches the page, and how large it is. What the page does with it is tested in
test_report_browser.py."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import random
import re
import sys
from importlib import resources
from importlib.util import find_spec

import pytest

from editbench.results import ResultsError, RunFolder
from editbench.results.curves import POINTS, VALUES, curves, heat_map, thin
from editbench.results.identity import identify
from editbench.results.leaderboard import collect_folders
from editbench.results.report import write_report
from editbench.results.report.data import TEXT_LENGTH, browse, clip, settings_that_vary
from editbench.results.report.page import json_in_html
from editbench.results.schema import SCORES_FILE
from editbench.results.summary import summarise

pytestmark = pytest.mark.skipif(not find_spec("plotly"), reason="the report needs plotly")

HEADLINE = {
    "reliability": "rewrite.exact_match",
    "generality": "paraphrase.exact_match",
    "locality": "locality.agreement",
}
KINDS = ("rewrite", "paraphrase", "paraphrase", *["locality"] * 10, "subject_fact", "subject_fact")


def write_run(
    root,
    name,
    *,
    method="rome",
    seed=0,
    edits=8,
    evaluate_at=(),
    rate=0.8,
    probe=None,
    status="done",
    settings=None,
    parts=None,
):
    """A run as a session writes it, with rates around `rate` and a probe's texts from `probe(kind, position)`."""
    rng = random.Random(f"{method} {seed}")
    provenance = {
        **{"editbench": "0.1.0", "commit": "1234567", "python": "3.12", "seed": seed},
        "model": {"name": "tiny", "hash": "12e4"},
        "dataset": {"name": "counterfact", "hash": "00123"},
        "stream": {"edits": edits, "batch_size": 1, "hash": "s"},
        "method": {"name": method, "config": settings or {"layer": 5}},
        "protocol": {"name": "default", "headline": HEADLINE},
        **identify(
            {
                "method": method,
                **{f"method.{name}": value for name, value in (settings or {"layer": 5}).items()},
                "stream.edits": edits,
                **(parts or {}),
            }
        ),
    }
    rows = [texts("before", 0, 4.0), *(texts("interim", at, 4.0 + at / 50) for at in evaluate_at)]
    rows += [texts("final", edits, 6.0)]
    for stage, at in [("before", 0), *(("interim", at) for at in evaluate_at), ("final", edits)]:
        rows.append(of_texts(stage, at, "unrelated", {"questions": 100, "activation": at / 1000}))
        stamp = {"stage": stage, "edits": at, "batch": at - 1}
        rows.append({**stamp, "of": "ability.pocket", "scores": {"recall": 1 - at / 100}, "stderr": {}, "n": 9})
        rows += [of_texts(stage, at, "drift", {"weight_change": at / 100})] if at else []
    for position in range(edits):
        stages = [("immediate", position + 1), *(("interim", at) for at in evaluate_at), ("final", edits)]
        for stage, at in stages:
            if at > position:
                rows.append(record(stage, at, position, rng, rate, probe or plain_probe))
    costs = {"edit_seconds": 2.5 * edits, "edits_made": edits, "footprint": {"device": 4096 * edits, "host": 0}}
    with RunFolder.create(root, name, f"seed: {seed}\n", provenance) as store:
        store.append_scores(rows)
        if status == "done":
            store.set_status("done", summary=summarise(store.scores(), HEADLINE), costs=costs)
        elif status != "running":
            store.set_status(status, "CUDA out of memory")
    return store.path


def texts(stage, edits, perplexity):
    return of_texts(stage, edits, "plain", {"perplexity": perplexity, "tokens": 9})


def of_texts(stage, edits, name, scores):
    return {
        "stage": stage,
        "edits": edits,
        "batch": edits - 1,
        "of": name if name in ("drift", "unrelated") else f"perplexity.{name}",
        "scores": scores,
    }


def record(stage, edits, position, rng, rate, probe):
    """One record's row; checkpoints keep no probes here, to keep the tests quick."""
    holds = {kind: rng.random() < rate for kind in HEADLINE}
    return {
        **{"stage": stage, "edits": edits, "batch": edits - 1, "status": "scored", "reason": None, "left_out": {}},
        **{"record": str(1000 + position), "position": position},
        "scores": {
            **{measure: float(holds[kind]) for kind, measure in HEADLINE.items()},
            **{"rewrite.activation": 0.9, "paraphrase.activation": 0.8, "locality.activation": edits / 1000},
        },
        "probes": []
        if stage == "interim"
        else [{**probe(kind, f"{position}.{index}"), "correct": [True]} for index, kind in enumerate(KINDS)],
    }


def plain_probe(kind, where):
    prompt = f"The mother tongue of person number {where}, whom nobody has ever heard of, is, as people say,"
    before = {"before": "French"} if kind in ("locality", "subject_fact") else {}
    return {"kind": kind, "prompt": prompt, "target": "French", "answer": "French", "nll": 0.0123456, **before}


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
    assert len(names) == 7
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


# --- curves and heat maps ---


def scored(stage, edits, position, reliability, status="scored"):
    scores = {"rewrite.exact_match": reliability} if reliability is not None else {}
    return {"stage": stage, "edits": edits, "position": position, "status": status, "scores": scores}


def test_curves_are_running_means_and_checkpoint_means():
    rows = [
        texts("before", 0, 4.0),
        scored("immediate", 2, 0, 1.0),  # a batch of two
        scored("immediate", 2, 1, 0.0),
        scored("immediate", 3, 2, None),  # nothing to score
        scored("immediate", 4, 3, 1.0, "unsupported"),  # in no average
        scored("immediate", 5, 4, 1.0),
        scored("interim", 2, 0, 0.5),
        scored("interim", 5, 0, 0.9),
        scored("final", 5, 0, 0.25),  # as many edits as the last checkpoint: once is enough
        scored("final", 5, 1, 0.75),
        texts("final", 5, 6.0),
    ]
    made = curves(rows)
    assert made["immediate"] == {"edits": [2, 3, 5], "rewrite.exact_match": [0.5, 0.5, 0.66667]}
    assert made["interim"] == {
        **{"edits": [0, 2, 5], "plain.perplexity": [4.0, None, 6.0], "rewrite.exact_match": [None, 0.5, 0.5]}
    }


def test_curves_of_texts_and_ability_have_names_of_their_own():
    able = {"stage": "interim", "edits": 2, "batch": 1, "of": "ability.pocket", "scores": {"recall": 0.75}, "n": 4}
    rows = [
        of_texts("before", 0, "unrelated", {"questions": 100, "activation": 0.25}),
        of_texts("interim", 2, "unrelated", {"questions": 100, "activation": 0.5}),
        of_texts("final", 2, "drift", {"weight_change.w.0": 1e-07, "hidden_change": None}),
        of_texts("final", 2, "footprint", {"host": 12_345_678}),
        able,
    ]
    assert curves(rows)["interim"] == {
        **{"edits": [0, 2], "unrelated.activation": [0.25, 0.5], "drift.weight_change.w.0": [None, 1e-07]},
        **{"footprint.host": [None, 12_346_000.0], "ability.pocket.recall": [None, 0.75]},
    }


def test_a_long_curve_keeps_its_ends():
    made = curves([scored("immediate", n + 1, n, 1.0) for n in range(1000)])
    thin([made])
    curve = made["immediate"]
    assert len(curve["edits"]) == len(curve["rewrite.exact_match"]) == POINTS
    assert curve["edits"][0] == 1 and curve["edits"][-1] == 1000


def test_many_curves_have_fewer_points_each():
    edits = [float(n) for n in range(1, 301)]
    many = [{"immediate": {"edits": edits, **{f"a.{m}": edits for m in range(40)}}, "interim": {"edits": []}}] * 20
    many = json.loads(json.dumps(many))
    thin(many)
    lengths = {len(values) for one in many for values in one["immediate"].values()}
    assert len(lengths) == 1 and 40 < lengths.pop() <= VALUES / 20 / 41
    assert many[7]["immediate"]["edits"] == many[7]["immediate"]["a.3"]
    assert (many[0]["immediate"]["edits"][0], many[0]["immediate"]["edits"][-1]) == (1.0, 300.0)


# --- studies ---


def a_row(method, edits=10, **settings):
    return {"method": method, "method_config": json.dumps(settings), "edits": edits, "batch_size": 1}


def test_the_settings_that_vary_are_found_method_by_method():
    rows = [
        a_row("scen", theta=0.5, layer=1, store="dense", empty=""),
        a_row("scen", theta=0.65, layer=1, store="low_rank", empty="x"),
        a_row("rome", layer=5, edits=20),
        {"method": None, "method_config": None, "edits": None, "batch_size": None},  # damaged
    ]
    assert settings_that_vary(rows) == [
        {"method.empty": '""', "method.store": "dense", "method.theta": 0.5},
        {"method.empty": "x", "method.store": "low_rank", "method.theta": 0.65},
        *({}, {}),
    ]
    assert settings_that_vary([a_row("rome"), a_row("rome", edits=20)]) == [{"stream.edits": 10}, {"stream.edits": 20}]


def test_lists_are_told_by_their_text_and_prompts_by_their_count():
    made = settings_that_vary([a_row("a", layers=[0]), a_row("a", layers=[0, 1]), a_row("a", layers=None)])
    assert [one["method.layers"] for one in made] == ["[0]", "[0, 1]", "null"]
    made = settings_that_vary([a_row("a", negatives=[]), a_row("a", negatives=["p"] * 100)])
    assert made == [{"method.negatives (count)": 0}, {"method.negatives (count)": 100}]
    alike = settings_that_vary([a_row("a", negatives=["p" * 99]), a_row("a", negatives=["p" * 99 + "q"])])
    told = [one["method.negatives"] for one in alike]  # as many in both, and cut to the same length
    assert len(set(told)) == 2 and max(map(len, told)) < 70


def test_a_heat_map_without_checkpoints_has_two_lines():
    rows = [scored("immediate", n + 1, n, 1.0) for n in range(4)] + [scored("final", 4, n, n / 4) for n in range(4)]
    made = heat_map(rows, HEADLINE)
    assert made["by"] == "stage" and made["y"] == ["right after", "at the end"] and made["x"] == ["1", "2", "3", "4"]
    assert made["reliability"] == [[1.0] * 4, [0.0, 0.25, 0.5, 0.75]]
    assert made["generality"] == [[None] * 4] * 2
    assert heat_map([], HEADLINE) is None


def test_a_heat_map_with_checkpoints_is_by_age():
    rows = [scored("immediate", n + 1, n, 1.0) for n in range(4)]
    rows += [scored("interim", 2, n, 0.5) for n in range(2)] + [scored("final", 4, n, n / 4) for n in range(4)]
    made = heat_map(rows, HEADLINE)
    assert made["by"] == "age" and made["y"] == ["right after", "0–1", "2–3"]
    assert made["reliability"] == [[1.0] * 4, [0.5, 0.5, 0.5, 0.75], [0.0, 0.25, None, None]]
    assert made["n"] == [[1] * 4, [1] * 4, [1, 1, 0, 0]]


def test_the_bins_of_a_long_stream_hold_every_edit_once():
    made = heat_map([scored("final", 137, n, 1.0) for n in range(137)], HEADLINE)
    assert sum(made["n"][1]) == 137 and len(made["x"]) == 20
    widths = [int(label.split("–")[-1]) - int(label.split("–")[0]) + 1 for label in made["x"]]
    assert widths == made["n"][1] and made["x"][0].startswith("1–") and made["x"][-1].endswith("–137")


# --- records ---


def rows_of(count, probe=plain_probe):
    rng = random.Random(0)
    return [record(stage, count, n, rng, 0.5, probe) for n in range(count) for stage in ("immediate", "final")]


def test_a_record_has_its_answers_before_and_after():
    def probe(kind, answer, right, **more):
        return {"kind": kind, "prompt": f"{kind}?", "target": "new", "answer": answer, "correct": right, **more}

    common = {"edits": 1, "record": "r", "position": 0, "status": "scored", "scores": {"locality.agreement": 0.5}}
    first = [probe("rewrite", "new", [True, True]), probe("locality", "old", [], before="old")]
    last = [probe("locality", "new", [], before="old"), probe("rewrite", "old", [True, False])]  # in any order
    rows = [{**common, "stage": "immediate", "probes": first}, {**common, "stage": "final", "probes": last}]
    data = browse([rows], [HEADLINE])
    (one,) = data["runs"][0]["rows"]
    text = [*data["texts"], None]  # -1 is none
    assert [one[0], *(text[index] for index in one[1:4])] == [0, "r", "scored", None]
    assert one[4:6] == [[None, None, 0.5]] * 2
    named = [[*(text[i] for i in (*p[:5], p[6])), p[5], p[7]] for p in one[6]]
    assert named == [
        ["rewrite", "rewrite?", "new", None, "new", "old", 1, 0],
        ["locality", "locality?", "new", "old", "old", "new", -1, -1],
    ]


def test_records_are_bounded_evenly_and_alike_in_all_runs():
    runs = [rows_of(100), rows_of(100), rows_of(7)]
    everything = browse(runs, [HEADLINE] * 3, limit=10**9)
    assert everything["stride"] == 1 and [len(one["rows"]) for one in everything["runs"]] == [100, 100, 7]
    some = browse(runs, [HEADLINE] * 3, limit=len(json.dumps(everything)) // 5)
    stride = some["stride"]
    assert stride > 1 and len(json.dumps(some, separators=(",", ":"))) <= len(json.dumps(everything)) // 5
    assert [[row[0] for row in one["rows"]] for one in some["runs"]] == [
        list(range(0, count, stride)) for count in (100, 100, 7)
    ]
    assert [one["total"] for one in some["runs"]] == [100, 100, 7]
    nothing = browse(runs, [HEADLINE] * 3, limit=100)
    assert [one["rows"] for one in nothing["runs"]] == [[], [], []] and nothing["runs"][0]["total"] == 100


def test_long_texts_are_cut_and_say_so():
    rows = rows_of(1, lambda kind, where: {"kind": kind, "prompt": "x" * 100_000, "target": "t", "answer": "a"})
    longest = max(browse([rows], [HEADLINE])["texts"], key=len)
    assert longest == f"{'x' * TEXT_LENGTH}… ({100_000 - TEXT_LENGTH} more characters)"
    assert clip("short") == "short"
