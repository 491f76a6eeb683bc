"""Data of the report: the settings that vary, and the records, bounded in size."""

from __future__ import annotations

import json
import random

from editbench.results import RunFolder
from editbench.results.leaderboard import collect_folders
from editbench.results.report.data import TEXT_LENGTH, browse, clip, measures_of, read_run, settings_that_vary
from editbench.results.table_layout import layout
from tests.results.runs import HEADLINE, plain_probe, record, write_run

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
    shown = [one["method.negatives"] for one in alike]  # as many in both, and cut to the same length
    assert len(set(shown)) == 2 and max(map(len, shown)) < 70


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


# --- facts ---


def test_titles_ranges_and_bold_follow_from_the_facts_in_run_json(tmp_path):
    facts = {"title": "as before", "range": [0, 1], "higher_is_better": True, "digits": 2}
    for name, method in (("a", "rome"), ("b", "memit")):
        with RunFolder.open(write_run(tmp_path, name, method=method)) as store:
            store.add_provenance({}, {"agreement": facts})
    folders = collect_folders(tmp_path)
    measures = measures_of([read_run(folder, row) for folder, row in folders.items()])
    one = measures["locality.agreement"]
    assert (one["title"], one["metric_title"], one["range"]) == ("locality: as before", "as before", (0, 1))
    assert measures["plain.perplexity"]["log"] and measures["rewrite.activation"]["title"] == "rewrite.activation"
    rows = [{**row, "final.subject_fact.agreement": 0.5 + i / 8} for i, row in enumerate(folders.values())]
    table = layout(rows)
    column = table.titles.index("other facts")
    assert {line[0].text: (line[column].text, line[column].bold) for line in table.lines} == {
        "rome": ("0.50", False),
        "memit": ("0.62", True),
    }
