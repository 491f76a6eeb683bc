"""What a run would find in the cache is what the run then reads."""

import json

import pytest

from editbench import single_run
from editbench.cache_lookup import CacheLookup, Found
from editbench.costs import COVARIANCE, TEXTS, UNEDITED_ANSWERS, VALUES
from tests.small_runs import SETTINGS
from tests.test_editing_loop import make, tiny_folder  # noqa: F401

NSE = ["method=nse", *(f"method.{name}={value}" for name, value in SETTINGS["nse"].items())]
MEMIT = ["method=memit", *(f"method.{name}={value}" for name, value in SETTINGS["memit"].items())]
EDITS = ["stream.edits=3", 'model.templates=["{}"]', "protocol.max_tokens=16"]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if "digests" not in path.parts}


def test_a_run_reads_what_was_found_and_computes_the_rest(make, tmp_path):  # noqa: F811
    config, look = make(method=NSE, settings=EDITS), CacheLookup()
    before = look(1, config)
    assert (before.read, before.computed) == ({}, {UNEDITED_ANSWERS: None, COVARIANCE: None})
    assert before.loading > 0 and not list(tmp_path.glob("cache/*/*.safetensors"))
    folder = single_run.run(config).folder
    assert json.loads((folder / "run.json").read_text())["costs"]["cached"] == []
    kept = files(tmp_path / "cache")
    after = look(1, config)
    assert set(after.read) == {UNEDITED_ANSWERS, COVARIANCE, VALUES} and after.computed == {}
    assert after.loading is None  # the model of the last look
    assert files(tmp_path / "cache") == kept
    again = single_run.run(make("results.rerun=true", method=NSE, settings=EDITS)).folder
    costs = json.loads((again / "run.json").read_text())["costs"]
    assert set(costs["cached"]) == set(after.read)
    more = look(1, make(method=NSE, settings=[*EDITS, "stream.edits=4"]))
    assert more.computed == {UNEDITED_ANSWERS: None, VALUES: None} and VALUES in more.read


def test_a_later_job_of_a_plan_finds_what_an_earlier_one_computes(make):  # noqa: F811
    look = CacheLookup()
    sampled = ["model.texts=self", "model.texts_tokens=100"]
    assert look(1, make(*sampled, method=["method=unedited"], settings=EDITS)).computed == {UNEDITED_ANSWERS: None}
    assert look(2, make(*sampled, method=MEMIT, settings=EDITS)).computed == {UNEDITED_ANSWERS: 1, TEXTS: None}
    assert look(3, make(*sampled, method=NSE, settings=EDITS)).computed == {UNEDITED_ANSWERS: 1, TEXTS: 2}


@pytest.mark.parametrize(
    ("read", "computed", "words"),
    [
        ({}, {}, "needs nothing"),
        ({"a": 1.0}, {}, "read a"),
        ({"a": 1.0}, {"b": 2, "c": None}, "read a, b (of job 2); compute c"),
        ({"a": 1.0}, {"a": None}, "read a; compute the rest of a"),
    ],
)
def test_it_is_said_in_words(read, computed, words):
    assert str(Found(read, computed, None)) == words
