"""Rows that compete, figures that are shown, and the notes below the table."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from editbench.results import RunFolder
from editbench.results.leaderboard import collect, read_row
from editbench.results.schema import SCHEMA
from editbench.results.summary import summarise
from editbench.results.table_layout import BY, layout
from editbench.results.tables import print_table, to_markdown
from tests.results.runs import HEADLINE, NO_PARTS
from tests.results.runs import write_fixed_run as write_run


def plain(rows, width=260) -> str:
    """The printed table."""
    text = io.StringIO()
    print_table(rows, Console(file=text, width=width))
    return text.getvalue()


def test_the_best_of_each_comparable_group_is_bold(tmp_path):
    write_run(tmp_path, "a", method="rome", rate=0.5)
    write_run(tmp_path, "b", method="memit", rate=0.75)
    write_run(tmp_path, "c", method="grace", rate=0.25, edits=1)
    write_run(tmp_path, "d", method="nse", rate=1.0, status="failed", reason="x")
    table = layout(collect(tmp_path))
    lines, column = table.lines, table.titles.index("score")
    assert [(line[0].text, line[3].text, line[column].text, line[column].bold) for line in lines] == [
        ("grace", "1", "0.250 [.006, .982]", False),  # nothing to compare it with
        ("memit", "2", "0.750 [.112, .963]", True),
        ("rome", "2", "0.500 [.075, .925]", False),
        ("nse", "2", "—", False),
    ]
    assert r"**0.750 \[.112, .963]**" in to_markdown(collect(tmp_path))
    ratio = table.titles.index("perplexity ratio")
    assert [line[ratio].bold for line in lines] == [False, True, True, False]  # a tie
    assert lines[1][table.titles.index("other facts")].text == "0.125"  # no range is known here, and all are alike


def test_a_narrow_terminal_gets_one_run_upright_and_several_without_intervals(tmp_path):
    write_run(tmp_path, "a")
    assert "0.500 [.075, .925]" in plain(collect(tmp_path))
    upright = plain(collect(tmp_path), width=40)
    assert re.search(r"^score +0.500 \[.075, .925\] *$", upright, re.MULTILINE) and "…" not in upright
    write_run(tmp_path, "b")
    narrow = plain(collect(tmp_path), width=80)
    assert "0.500" in narrow and "[" not in narrow and "…" not in narrow


def test_names_cannot_break_the_tables(tmp_path):
    write_run(tmp_path, "a", method="[bold]x[/]", model="a|b\n<script>")
    rows = collect(tmp_path)
    assert "[bold]x[/]" in plain(rows)
    lines = to_markdown(rows).splitlines()
    assert len(lines) == 3 and "a\\|b \\<script>" in lines[2]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(layout(rows).titles) + 1}


def test_the_note_counts_records_that_are_in_no_average():
    row = {"run": "a", "status": "done", "schema": SCHEMA, "unsupported": 12, "failed": 0, "skipped": 1}
    assert layout([row]).lines[0][-1].text == "a: 12 unsupported, 1 skipped"


def test_few_survivors_do_not_win(tmp_path):
    """2 of 10 records edited, all right, is no better than 10 of 10, nearly all right."""
    write_run(tmp_path, "survivors", method="rome", rate=1.0, edits=10, unsupported=8)
    write_run(tmp_path, "all", method="memit", rate=0.75, edits=10)
    write_run(tmp_path, "others", method="nse", rate=0.5, edits=10)
    rows = collect(tmp_path)
    by_run = {row["run"]: row for row in rows}
    assert {run: (row["score"], row["coverage"]) for run, row in by_run.items()} == {
        **{"survivors": (1.0, 0.2), "all": (0.75, 1.0), "others": (0.5, 1.0)}
    }
    assert by_run["survivors"]["score_penalised"] == pytest.approx(3 / (5 + 5 + 1))  # of 0.2, 0.2 and 1
    assert by_run["all"]["score_penalised"] == pytest.approx(0.75)
    table = layout(rows)
    assert [line[0].text for line in table.lines] == ["memit", "nse", "rome"]
    bold = {title: [line[0].text for line in table.lines if line[table.titles.index(title)].bold]
            for title in ("reliability", "generality", "locality", "score", "penalised score")}  # fmt: skip
    assert bold == dict.fromkeys(bold, ["memit"])
    assert table.lines[2][table.titles.index("coverage")].text == "0.20"
    assert table.lines[2][-1].text == "survivors: 8 unsupported, never the best: coverage is below 0.95"
    assert [line[0].text for line in layout([by_run["all"], by_run["others"]]).lines] == ["memit", "nse"]
    assert "coverage" not in layout([by_run["all"], by_run["others"]]).titles  # nothing to tell


def test_of_equal_penalised_scores_that_of_most_records_stands_first(tmp_path):
    write_run(tmp_path, "few", method="a", rate=0.0, edits=4, unsupported=2)
    write_run(tmp_path, "all", method="b", rate=0.0, edits=4)
    assert [line[0].text for line in layout(collect(tmp_path)).lines] == ["b", "a"]


def test_records_left_out_for_a_reason_in_the_data_count_against_no_method(tmp_path):
    path = write_run(tmp_path, "a", edits=4)
    with RunFolder.open(path) as store:
        rows = store.scores()
        for row in rows:
            if row.get("record") == "r3":
                row.update(status="skipped", scores={}, reason="skipped: a later edit overwrites it")
        store.set_status("running")
        store.truncate_after("")
        store.append_scores(rows)
        store.set_status("done", summary=summarise(rows, HEADLINE))
    row = read_row(path)
    assert (row["scored"], row["skipped"], row["coverage"], row["score_penalised"]) == (3, 1, 1.0, 0.5)


def test_a_method_that_could_edit_nothing_has_a_penalised_score_of_0(tmp_path):
    row = read_row(write_run(tmp_path, "a", edits=3, unsupported=3))
    assert (row["score"], row["coverage"], row["score_penalised"]) == (None, 0.0, 0.0)


def test_rows_that_were_not_measured_alike_do_not_compete(tmp_path):
    write_run(tmp_path, "a", method="rome", rate=0.5)
    write_run(tmp_path, "b", method="memit", rate=0.75)
    write_run(tmp_path, "c", method="nse", rate=1.0, parts={"versions.exact_match": 2})
    write_run(tmp_path, "d", method="finetune", rate=1.0, seed=1)
    write_run(tmp_path, "e", method="scen", rate=1.0, parts=NO_PARTS)
    write_run(tmp_path, "f", method="memit", rate=1.0, parts={"model.hash": "another"})
    table = layout(collect(tmp_path))
    score = table.titles.index("score")
    assert [line[-1].text for line in table.lines if line[0].text == "scen"] == [
        "e: made before schema 2 and not compared; run it again"
    ]
    assert [line[score].bold for line in table.lines if line[0].text == "memit"].count(True) == 1
    assert {line[0].text for line in table.lines if line[score].bold} == {"memit"}
    assert table.legend == [
        "a and c are not compared: versions.exact_match is 1 and 2.",
        'b and f are neither averaged nor compared: model.hash is "12e4567" and "another".',
        "Only runs of one seed are compared; --by method,dataset makes one row of all seeds.",
    ]


def test_a_narrow_terminal_says_where_the_intervals_are(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name)
    rows = collect(tmp_path)
    assert "Too narrow for the 95 % intervals" in plain(rows, width=100)
    assert "Too narrow" not in plain(rows, width=400)


def test_rows_of_several_seeds_say_which_seed_they_are(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path, name)
    rows = collect(tmp_path)
    assert "seed" not in layout(rows).titles
    rows[1]["seed"] = 1
    titles = layout(rows).titles
    assert sorted(line[titles.index("seed")].text for line in layout(rows).lines) == ["0", "1"]


def test_weights_that_were_expanded_say_so_beside_the_models_name(tmp_path):
    write_run(tmp_path, "a")
    (row,) = collect(tmp_path)
    assert "(Q4_1" not in plain([row])
    assert "(Q4_1 expanded to float32)" in plain([{**row, "model_precision": "Q4_1 expanded to float32"}])


def test_a_coverage_of_nothing_is_shown(tmp_path):
    write_run(tmp_path, "a")
    (row,) = collect(tmp_path)
    assert "coverage" not in layout([row]).titles
    assert {"coverage", "penalised score"} <= set(layout([{**row, "coverage": 0.0}]).titles)


def test_what_follows_from_edits_is_shown_where_a_row_has_it(tmp_path):
    write_run(tmp_path, "a", method="rome")
    write_run(tmp_path, "b", method="memit")
    first, second = collect(tmp_path)
    assert not any("reasoning" in title for title in layout([first, second]).titles)
    facts = {name: {"title": name.replace("_", " "), "higher_is_better": True} for name in BY}
    more = {"metrics": json.dumps(facts), "final.reasoning.exact_match": 0.5, "final.chain.token_accuracy": 0.25}
    table = layout([{**first, **more}, {**second, **more, "final.chain.token_accuracy": 0.75}])
    titles = [title for title in table.titles if title.startswith(("reasoning", "chain"))]
    assert titles == ["reasoning: exact match", "chain to the old answer: token accuracy"]
    chain = table.titles.index(titles[1])
    assert [line[chain].text for line in table.lines if line[chain].bold] == ["0.250"]  # less of the old answers
