"""The study's pages are those of its rows, and a claim is decided by its comparisons."""

import json
from dataclasses import replace

import numpy as np
import pytest

from editbench.files import ResultsError
from editbench.json_lines import encode
from editbench.results.csv_files import write_csv
from editbench.results.leaderboard import collect_folders
from editbench.results.rank_stability import RecordScores, agreements
from tests.results.test_compare import run as finished


@pytest.fixture(scope="module")
def script(docs_script):
    return docs_script("study_tables")


@pytest.fixture(scope="module")
def claims(docs_script):
    return docs_script("claims")


@pytest.fixture(scope="module")
def rows(docs_script):
    return docs_script("study_rows")


def run(method, theta, score, low=None, high=None, status="done", **more):
    facts = {"run": f"{method}-{theta}", "status": status, "method": method, "seed": 0, "dataset": "zsre", "edits": 9}
    config = json.dumps({"theta": theta, "layers": [1, 2]})
    values = {"score": score, "score_low": low, "score_high": high, "reliability": score}
    return facts | {"batch_size": 10, "method_config": config, "identity": f"{method}{theta}"} | values | more


@pytest.fixture
def sweep(rows, monkeypatch, tmp_path):
    """A study of these rows, in one file."""
    monkeypatch.setattr(rows, "STUDY", tmp_path)

    def write(*given, name="some"):
        from editbench.results.columns import COLUMNS

        write_csv([dict.fromkeys(COLUMNS) | row for row in given], tmp_path / f"{name}.csv")

    return write


def test_the_pages_are_current(script):
    for file, text in script.written().items():
        assert file.read_text(encoding="utf-8") == text, f"{file.name}: run python docs/study_tables.py"


def test_every_claim_that_is_decided_has_a_reason(script, claims):
    for claim in claims.CLAIMS:
        assert claim.why or not script.verdict(claim), claim.words


def test_what_a_table_varies(script, sweep):
    sweep(run("scen", 0.5, 0.9), run("scen", 0.6, 0.8), run("nse", 0.7, 0.7))
    assert script.varied(script.rows_of("some")) == ["method", "theta"]
    sweep(run("scen", 0.5, 0.9), run("scen", 0.5, 0.8, batch_size=5, identity="b"))
    assert script.varied(script.rows_of("some")) == ["batch_size"]
    assert script.rows_of("another") == []


def test_unfinished_runs_are_in_no_table(script, sweep):
    sweep(run("scen", 0.5, 0.9), run("scen", 0.6, None, status="running"))
    assert [row["method_config"] for row in script.rows_of("some")] == [json.dumps({"theta": 0.5, "layers": [1, 2]})]


def of(claims, theta):
    return claims.Figure(f"θ = {theta}", "some", "score", {"method": "scen", "theta": theta})


def test_ahead_and_behind_are_outside_of_both_intervals(script, claims, sweep):
    sweep(run("scen", 1, 0.9, 0.85, 0.95), run("scen", 2, 0.8, 0.7, 0.84), run("scen", 3, 0.8, 0.7, 0.86))
    first, second, third = (of(claims, theta) for theta in (1, 2, 3))
    pairs = [(first, second), (second, first), (first, third), (third, second)]
    assert [script.outcome(claims.Comparison(*pair)) for pair in pairs] == ["ahead", "behind", "level", "level"]
    assert script.outcome(claims.Comparison(second, first, small=True)) == "ahead"
    assert script.outcome(claims.Comparison(first, of(claims, 4))) == ""


def test_figures_without_intervals_are_compared_as_they_are(script, claims, sweep):
    sweep(run("scen", 1, 0.9), run("scen", 2, 0.8), run("scen", 3, 0.8))
    first, second, third = (of(claims, theta) for theta in (1, 2, 3))
    assert script.outcome(claims.Comparison(first, second)) == "ahead"
    assert script.outcome(claims.Comparison(second, third)) == "level"


def test_a_claim_holds_by_all_of_its_comparisons(script, claims, sweep):
    sweep(run("scen", 1, 0.9), run("scen", 2, 0.8), run("scen", 3, 0.8))
    up, level = claims.Comparison(of(claims, 1), of(claims, 2)), claims.Comparison(of(claims, 2), of(claims, 3))

    def verdict(*comparisons):
        return script.verdict(claims.Claim("paper", "words", comparisons, ""))

    assert verdict(up, up) == "**holds**" and verdict(up, level) == "**in part**"
    assert verdict(level) == "**does not hold**" and verdict(replace(level, keeps=True)) == "**holds**"
    assert verdict(up, claims.Comparison(of(claims, 1), of(claims, 4))) == ""


def test_a_figure_of_two_runs_is_refused(script, claims, sweep):
    sweep(run("scen", 1, 0.9), run("scen", 2, 0.8))
    with pytest.raises(ValueError, match="is of 2 runs of some.csv"):
        script.run_of(claims.Figure("scen", "some", "score", {"method": "scen"}))


def test_figures_in_words(script, claims, sweep):
    sweep(run("scen", 1, 0.9), run("scen", 2, 0.8), run("scen", 3, 0.8))
    first, second, third = (of(claims, theta) for theta in (1, 2, 3))
    found = script._in_words([claims.Comparison(second, one) for one in (first, third)])
    assert found == ["score: θ = 2 0.800, behind θ = 1 0.900; level with θ = 3 0.800"]


def test_a_papers_table_leaves_its_model_blank(script, sweep):
    assert script.paper_tables_part() == "\n"
    sweep(run("nse", 1, 0.9, 0.85, 0.95), run("rome", 1, None, status="running"), name="nse_table1")
    (line,) = [line for line in script.paper_tables_part().splitlines() if "zsre" in line]
    assert [cell.strip() for cell in line.split("|")[1:5]] == ["zsre", "nse", "", "0.900"]


def test_a_run_is_added_and_the_next_like_it_takes_its_place(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(rows, "STUDY", tmp_path / "study")
    for name in ("study", "first", "second"):
        (tmp_path / name).mkdir()
    for name, share in (("rome", [1.0, 0.0, 1.0]), ("nse", [1.0, 1.0, 1.0])):
        finished(tmp_path / "first" / "some", name, share)
    rows.keep(tmp_path / "first")
    assert {row["method"]: row["reliability"] for row in rows.rows_in("some")} == {
        "rome": pytest.approx(2 / 3),
        "nse": 1.0,
    }

    finished(tmp_path / "second" / "some", "rome", [0.0, 0.0, 1.0])
    rows.keep(tmp_path / "second")
    assert {row["method"]: row["reliability"] for row in rows.rows_in("some")} == {
        "rome": pytest.approx(1 / 3),
        "nse": 1.0,
    }
    kept = rows.read_records(tmp_path / "study" / "some" / "rome.csv.gz", ["reliability"])
    assert kept.values.tolist() == [[0.0], [0.0], [1.0]]
    with pytest.raises(ResultsError, match="has no perplexity; it has reliability, .*, rewrite.generation"):
        rows.read_records(tmp_path / "study" / "some" / "rome.csv.gz", ["perplexity"])


def test_ranks_of_kept_records_are_those_of_the_run_folders(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(rows, "STUDY", tmp_path)
    monkeypatch.setattr(rows, "RANKS", tmp_path / "ranks.jsonl")
    (tmp_path / "results").mkdir()
    for seed, shares in enumerate(({"rome": [1.0, 0.0, 1.0], "nse": [1.0] * 3}, {"rome": [1.0] * 3, "nse": [0.0] * 3})):
        for method, share in shares.items():
            finished(tmp_path / "results" / "embedded", f"{method}-{seed}", share, seed=seed)
    rows.keep(tmp_path / "results")
    rows.keep_ranks()
    expected = agreements(collect_folders(tmp_path / "results" / "embedded"), "seed")
    assert [one for one in rows.ranks() if one["measure"] == "score"] == [
        json.loads(encode(vars(one))) for one in expected
    ]


def test_ranks_of_protocols_are_of_their_own_measures(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(rows, "STUDY", tmp_path)
    monkeypatch.setattr(rows, "RANKS", tmp_path / "ranks.jsonl")
    (tmp_path / "results").mkdir()
    for method in ("rome", "nse", "memit"):
        finished(tmp_path / "results" / "embedded", method, [1.0, 0.0, 1.0])
    rows.keep(tmp_path / "results")
    for method, exact, written in (("rome", 1.0, 0.5), ("nse", 0.5, 1.0)):  # memit has no written answers
        by = {"exact": exact, "written": written}
        values = [by.get(name, np.nan) for name, of in rows.PROTOCOLS.items() for _ in of]
        records = RecordScores(["r0", "r1"], np.array([[exact] * 3 + values] * 2), [])
        rows._write_records(records, "embedded", method)
    rows.keep_ranks()
    [one] = [one for one in rows.ranks() if one["a"] in rows.PROTOCOLS]
    assert (one["a"], one["b"], one["methods"], one["tau"]) == ("exact", "written", 2, -1.0)
    assert one["reversed"] == ["rome, nse"]
