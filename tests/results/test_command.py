"""The leaderboard's command: all runs in leaderboard.csv whatever is shown, and clean."""

import json

import pytest

from editbench import cli
from editbench.results import RunFolder
from editbench.results.csv_files import read_csv
from editbench.results.run_folder import read_run
from tests.results.runs import write_fixed_run, write_run


@pytest.fixture
def results(tmp_path):
    for name, method, rate in (("a", "rome", 0.4), ("b", "memit", 0.6)):
        write_fixed_run(tmp_path, name, method=method, rate=rate, edits=20)
    write_fixed_run(tmp_path, "c", method="scen", status="failed", reason="layer 9 does not exist")
    return tmp_path


def board(results, *options):
    assert cli.main(["leaderboard", f"results.dir={results}", *options]) == 0


def test_the_folder_may_begin_at_home(results, monkeypatch):
    monkeypatch.setenv("HOME", str(results.parent))
    for folder in (f"~/{results.name}", f"results.dir=~/{results.name}"):
        assert cli.main(["leaderboard", folder]) == 0


@pytest.mark.parametrize(
    "options",
    [["--where", "method=nothing"], ["--by", "method"], ["--columns", "method,score"], ["--stage", "immediate"]],
)
def test_whatever_is_shown_leaderboard_csv_has_all_runs(results, options, capsys):
    board(results)
    before = (results / "leaderboard.csv").read_bytes()
    board(results, *options)
    assert (results / "leaderboard.csv").read_bytes() == before and before.count(b"\n") == 4
    assert f"3 runs: {results / 'leaderboard.csv'}" in capsys.readouterr().out


def test_what_is_shown_goes_to_out_in_its_columns_and_order(results, capsys):
    out = results / "some.csv"
    board(results, "--where", "status=done", "--sort", "score", "--columns", "method,score", f"--out={out}")
    assert [list(row) for row in read_csv(out)] == [["method", "score"]] * 2
    assert [row["method"] for row in read_csv(out)] == ["memit", "rome"]
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()]
    assert shown[0] == "method" and shown[2:4] == ["memit", "rome"]


@pytest.mark.parametrize("style", ["markdown", "latex"])
def test_papers_have_finished_runs_and_one_line_for_each_other(results, style, capsys):
    board(results, "--format", style)
    lines = capsys.readouterr().out.splitlines()
    (failed,) = [line for line in lines if "layer 9 does not exist" in line]
    assert failed.lstrip("% ") == "c: failed: layer 9 does not exist"
    assert not any("scen" in line for line in lines)


def test_by_orders_as_it_says(results, capsys):
    board(results, "--by", "method", "--where", "status=done", "--format", "markdown")
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:4]] == ["memit", "rome"]


def test_a_wide_table_has_data_sets_as_columns(results, capsys):
    board(results, "--wide", "--format", "markdown")
    out = capsys.readouterr().out
    assert out.startswith("| method | model | edits | counterfact | note |") and "c: failed" in out


def test_rows_of_a_wide_table_are_told_apart_too(results, capsys):
    write_fixed_run(results, "e", seed=1, edits=20)
    board(results, "--wide", "--columns=score,reliability", "--format", "markdown", "--where", "method=rome")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| method | model | edits | seed | counterfact score | counterfact reliability | note |"
    assert {line.split(" | ")[3] for line in lines[2:4]} == {"0", "1"}


def test_a_mistake_that_was_corrected_is_no_longer_shown(results, capsys):
    write_fixed_run(results, "d", method="scen", seed=0)
    board(results)
    out = capsys.readouterr().out
    assert "layer 9" not in out and "1 runs that did not finish are not shown" in out


def test_clean_lists_and_removes_what_did_not_finish_or_what_is_asked_for(results, capsys):
    def clean(*options):
        assert cli.main(["clean", f"results.dir={results}", *options]) == 0
        return capsys.readouterr().out

    assert f"failed: {results / 'c'}: layer 9 does not exist\n1 of 3 runs; --remove deletes them\n" == clean()
    assert (results / "c").exists()
    assert "1 of 3 runs\n" in clean("--remove")
    assert sorted(path.name for path in results.iterdir() if path.is_dir()) == ["a", "b"]
    assert [row["run"] for row in read_csv(results / "leaderboard.csv")] == ["a", "b"]
    assert clean("--where", "method=rome", "--remove").startswith(f"removed: {results / 'a'}")
    assert clean() == "0 of 1 runs\n"


def test_clean_leaves_a_run_that_was_gone_on_with_since_it_was_read(results, capsys, monkeypatch):
    remove = RunFolder.remove

    def finished_before(path, still):
        with RunFolder.open(path) as folder:
            folder.set_status("running")
            folder.set_status("done")
        return remove(path, still)

    monkeypatch.setattr(RunFolder, "remove", finished_before)
    assert cli.main(["clean", f"results.dir={results}", "--remove"]) == 0
    folder = results / "c"
    assert capsys.readouterr().out == f"left: {folder}: its files have changed since they were read\n0 of 3 runs\n"
    assert read_run(folder)["status"] == "done"


def test_clean_removes_a_damaged_run(results, capsys):
    (results / "c" / "run.json").write_text("{")
    assert cli.main(["clean", f"results.dir={results}", "--where", "status=damaged", "--remove"]) == 0
    assert capsys.readouterr().out.startswith(f"removed: {results / 'c'}: ") and not (results / "c").exists()


def test_results_that_cannot_be_written_are_shown(results, capsys):
    (results / "leaderboard.csv").mkdir()
    board(results, "--by", "method")
    shown = capsys.readouterr()
    assert "rome" in shown.out and "leaderboard.csv" not in shown.out
    assert "note: cannot write" in shown.err and "leaderboard.csv" in shown.err


def test_out_is_a_csv_file(results, tmp_path, capsys):
    assert cli.main(["leaderboard", f"results.dir={results}", "--format", "latex", "--out", str(tmp_path / "t.tex")])
    assert "--out writes CSV" in capsys.readouterr().err and not (tmp_path / "t.tex").exists()


@pytest.mark.parametrize("stage", ["before", "immediate", "interim"])
@pytest.mark.parametrize("option", ["--significance", "--reference=results/reference/demo.csv"])
def test_what_is_about_the_end_is_refused_at_another_stage(results, option, stage, capsys):
    assert cli.main(["leaderboard", f"results.dir={results}", "--stage", stage, option]) == 1
    shown = capsys.readouterr()
    assert f"scores after the last edit, and --stage {stage} shows others" in shown.err and not shown.out
    board(results, "--stage", "final", option)


def test_at_a_stage_conditions_are_on_the_rows_shown(tmp_path, capsys):
    write_run(tmp_path, "a", edits=6, rate=0.9, evaluate_at=(2, 4))

    def points(*conditions):
        where = [part for condition in conditions for part in ("--where", condition)]
        board(tmp_path, "--stage", "interim", "--json", *where)
        return [json.loads(line)["edits"] for line in capsys.readouterr().out.splitlines()]

    assert points() == [2, 4]
    assert (points("edits<3"), points("edits>=3"), points("edits=3")) == ([2], [4], [])
    assert points("final.rewrite.exact_match>0", "interim.rewrite.exact_match>0") == [2, 4]  # figures of the end, too
    board(tmp_path, "--stage", "interim")
    assert "copies" not in capsys.readouterr().out


def test_at_a_stage_a_run_that_was_made_again_is_left_out(results, capsys):
    write_fixed_run(results, "d", method="scen")
    board(results, "--stage", "immediate")
    out = capsys.readouterr().out
    assert "layer 9" not in out and "1 runs that did not finish are not shown" in out
