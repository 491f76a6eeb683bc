"""``editbench demo`` with short streams: table, figure, sentences, files; and a failure does not sink the rest."""

import re

import pytest

from editbench import cli, demo, plugins, registry, single_run
from editbench.results.csv_files import read_csv
from tests.results.runs import write_run

pytestmark = pytest.mark.model


@pytest.fixture
def one_core(monkeypatch):
    """Jobs run one after the other in this process, where a test can put something in their place."""
    monkeypatch.setattr(demo, "usable_cores", lambda: 1)


@pytest.fixture
def written(monkeypatch, tmp_path, one_core):
    """Runs are written, not done, and rome fails. Gives the configs of those asked for."""
    asked = []

    def run(config, cores=None):
        asked.append(config)
        if config.method.name == "rome":
            raise TypeError("on purpose")
        *points, last = demo.SHORT.points if len(config.stream.evaluate_at) > 2 else (2, 4)
        rate = {"scen": 0.9, "unedited": 0.0}.get(config.method.name, 0.5)
        kept = {"parts": {"stream.edits": last}, "method": config.method.name}
        folder = write_run(tmp_path, config.folder.name, edits=last, evaluate_at=points, rate=rate, **kept)
        return single_run.RunOutcome(folder, already_done=False)

    monkeypatch.setattr(single_run, "run", run)
    return asked


def test_the_demo_shows_all_methods_and_says_what_failed(written, tmp_path, capsys):
    assert demo.main(edits=4, results=tmp_path) == 1
    out, errors = capsys.readouterr()
    assert "on purpose" in errors and "[1/6] method=rome dataset=counterfact: failed" in out
    assert {config.method.name for config in written} == set(demo.METHODS)
    for config in written:
        assert (config.stream.edits, config.stream.batch_size, config.stream.evaluate_at) == (4, 10, ())
        assert config.protocol.stages == ["final"] and config.protocol.retention_sample == demo.SHORT.sample
    assert "● finetune" in out and "counterfact: score over edits" in out
    assert re.search(r"^After 2 edits .* leads .*; after 4 scen leads", out, re.M)
    rows = read_csv(tmp_path / "leaderboard.csv")
    assert {row["method"] for row in rows} == set(demo.METHODS) - {"rome"}
    points = read_csv(tmp_path / "points.csv")
    assert sorted({(p["method"], p["edits"]) for p in points}) == [(row["method"], n) for row in rows for n in (2, 4)]
    assert (tmp_path / "report.html").stat().st_size > 1000 and "report.html" in out


def test_without_an_end_in_sight_the_streams_have_five_points(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "METHODS", ("finetune", "unedited"))
    demo.main(results=tmp_path)
    for config in written:
        assert [*config.stream.evaluate_at, config.stream.edits] == [10, 30, 100, 200, 300]
    assert re.search(r"^ +10 +30 +100 +200 +300$", capsys.readouterr().out, re.M)


@pytest.mark.slow
def test_the_long_demo_asks_for_every_method_on_every_dataset(written, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "METHODS", ("finetune", "unedited"))
    demo.main(long=True, edits=30, results=tmp_path)
    asked = [(config.dataset.name, config.method.name) for config in written]
    assert len(set(asked)) == len(asked) == 3 * len(demo.METHODS)
    for config in written:
        assert config.stream.evaluate_at == (10,) and config.stream.edits == 30
        headline = {measure.partition(".")[2] for measure in config.protocol.headline.values()}
        assert headline == set(config.protocol.metrics)
    assert demo.LONG.points[-1] == 1000


def test_the_methods_are_of_every_kind_and_the_control():
    assert set(demo.METHODS) <= set(plugins.entry_points(plugins.METHODS))
    assert {registry.load_method(name).kind for name in demo.METHODS} == {"weights", "memory", "none"}


@pytest.mark.slow
def test_two_methods_side_by_side_in_processes(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("EDITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "usable_cores", lambda: 2)
    monkeypatch.setattr(demo, "METHODS", ("memit", "unedited"))
    assert cli.main(["demo", "--edits=12", f"--results={tmp_path}"]) == 0
    out, _ = capfd.readouterr()
    assert re.search(r"^After 10 edits memit leads", out, re.M)
    rows = {row["method"]: row for row in read_csv(tmp_path / "leaderboard.csv")}
    assert set(rows) == {"memit", "unedited"} and {row["status"] for row in rows.values()} == {"done"}
    assert rows["unedited"]["locality"] == 1.0 and rows["unedited"]["reliability"] == 0.0
    assert rows["memit"]["reliability"] > 0
    assert cli.main(["demo", "--edits=12", f"--results={tmp_path}"]) == 0
    assert capfd.readouterr().out.count("done before") == 2
