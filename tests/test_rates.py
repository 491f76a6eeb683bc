"""Rates: lines through what runs of several sizes took, kept in the cache."""

import pytest
import yaml

from editbench.rates import CPU, fitted, key_of, learn, quickest
from editbench.results import RunFolder
from editbench.results.summary import summarise
from tests.results.runs import HEADLINE

CONFIG = {"method": {"name": "rome"}, "stream": {"edits": 2, "seed": 0, "batch_size": 1}, "dataset": {"limit": 2}}


def test_one_size_tells_of_itself_alone():
    assert fitted([2, 2], [1.0, 2.0], 2) == 1.5 and fitted([2, 2], [1.0, 2.0], 3) is None


def test_a_line_needs_two_sizes_and_falls_for_nothing():
    assert fitted([2, 2], [1.0, 1.0], 4) is None and fitted([], [], 4) is None
    assert fitted([2, 10], [3.0, 11.0], 100) == pytest.approx(101.0)
    assert fitted([2, 10], [3.0, 1.0], 100) == pytest.approx(2.0)  # noise: a larger run is not quicker
    assert fitted([2, 10], [1.0, 10.0], 100) == pytest.approx(100 * 102 / 104)  # nor does one of no edits pay


def test_a_key_is_of_all_but_the_size_and_of_the_machine():
    stream = {"edits": 50, "seed": 3, "batch_size": 1, "stop_when": ["nonfinite"]}
    same = {**CONFIG, "stream": stream, "dataset": {"limit": 50}}
    assert key_of(CONFIG, "here") == key_of(same, "here")
    assert key_of(CONFIG, "here") != key_of(CONFIG, "there")
    assert key_of(CONFIG, "here") != key_of({**CONFIG, "stream": {"edits": 2, "batch_size": 2}}, "here")


def test_finished_runs_are_learnt_from_and_stay_in_the_cache(tmp_path):
    results, cache = tmp_path / "results", tmp_path / "cache"
    for name, status in (("a", "done"), ("b", "failed")):
        facts = {"cpu": "here", "stream": {"edits": 2}, "protocol": {"headline": HEADLINE}}
        with RunFolder.create(results, name, yaml.safe_dump(CONFIG), facts) as run:
            costs = {"prepare_seconds": 1.0, "edit_seconds": 2.0, "evaluation_seconds": 3.0, "peak_rss_bytes": 7}
            costs["footprint"] = {"host": 3, "device": 0, "disk": 0}
            ended = {"summary": summarise([], HEADLINE), "costs": costs} if status == "done" else {}
            run.set_status(status, **ended)
    rates = learn([results, tmp_path / "none"], cache)
    assert set(rates) == {key_of(CONFIG, "here"), key_of(CONFIG, CPU)}
    (one,) = rates[key_of(CONFIG, CPU)]
    assert one.memory("host", 3) == 7 and one.memory("host", 10) == 14 and one.memory("device", 10) is None
    assert (one.edits, one.rows, one.host, one.device) == (2, 0, 7, None) and one.disk > 0
    assert one.seconds == {"prepare": 1.0, "edit": 2.0, "evaluation": 3.0}
    assert learn([], cache) == rates


def test_a_run_that_collapsed_took_its_time_for_the_edits_until_then(tmp_path):
    facts = {"cpu": "here", "stream": {"edits": 9}, "protocol": {"headline": HEADLINE}}
    with RunFolder.create(tmp_path / "results", "a", yaml.safe_dump(CONFIG), facts) as run:
        collapsed = {"edits": 4, "low": 3, "condition": "nonfinite"}
        costs = {f"{stage}_seconds": 1.0 for stage in ("prepare", "edit", "evaluation")}
        run.set_status("done", summary={**summarise([], HEADLINE), "collapsed": collapsed}, costs=costs)
    (one,) = learn([tmp_path / "results"], tmp_path / "cache")[key_of(CONFIG, CPU)]
    assert one.edits == 4


def test_the_fewest_seconds_are_kept(tmp_path):
    assert quickest(tmp_path, "a") is None
    assert [quickest(tmp_path, "a", seconds) for seconds in (3.0, 5.0, 2.0, None)] == [3.0, 3.0, 2.0, 2.0]
    assert quickest(tmp_path, "b") is None
