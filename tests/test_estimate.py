"""Estimates: seconds by measured rates, memory by measured peaks or from the config, weights from the config alone."""

import pytest

from editbench import compose, provenance
from editbench.estimate import (
    EDIT_BYTES,
    LETTERS,
    NO_GPU,
    PROGRAMS,
    ROW_BYTES,
    RUN_BYTES,
    Planner,
    Shape,
    has_weights,
    token_counter,
)
from editbench.model import language_model
from editbench.model_places import shipped_model_path
from editbench.rates import CPU, Measured, key_of, quickest

SMALL = ["model=pocket", "method=rome", "model.device=cpu", "threads=1"]
MACHINE = f"{provenance.processor()}, 1 threads"


def config(tmp_path, *more):
    return compose.compose([*SMALL, f"results.dir={tmp_path}", f"cache={tmp_path}", *more])


def rates(config):
    stages = {n: {"prepare": 1.0, "edit": n / 2, "evaluation": 2.0 + n} for n in (2, 10)}
    runs = [Measured(n, 2 * n, stages[n], 1000 + n, None, {"host": n, "device": 0}, 10 * n) for n in (2, 10)]
    return {key_of(config.deciding(), machine): runs for machine in (MACHINE, CPU)}


def plan(config, measured=None, look=False):
    return Planner({} if measured is None else measured, look=look).estimate(1, config)


@pytest.fixture
def loaded(tmp_path):
    """The pocket model was seen to take three seconds to load."""
    assert quickest(tmp_path, f"loading pocket float32, {MACHINE}", 3.0) == 3.0


def test_seconds_follow_the_edits_and_the_scored_records(tmp_path, loaded):
    wanted = config(tmp_path, "stream.edits=40")
    one = plan(wanted, rates(wanted))
    assert one.seconds == pytest.approx(3 + 1 + 40 / 2 + 2 + 40)
    assert (one.edits, one.done, one.host, one.device, one.disk) == (40, False, 1040, None, 400)
    assert one.measured and one.cache is None
    more = config(tmp_path, "stream.edits=40", "stream.evaluate_at=[10]")
    assert plan(more, rates(wanted)).seconds == pytest.approx(3 + 1 + 40 / 2 + 2 + 45)


def test_what_lies_in_the_cache_takes_no_time(tmp_path, loaded, monkeypatch):
    from editbench import estimate

    wanted = config(tmp_path, "stream.edits=40")
    found = estimate.Found({"covariance": 0.75, "unedited answers": 5.0}, {}, 9.0)
    monkeypatch.setattr(estimate, "CacheLookup", lambda: lambda number, config: found)
    one = plan(wanted, rates(wanted), look=None)
    assert one.seconds == pytest.approx(3 + 1 + 40 / 2 + 2 + 40 - 5.75)  # loading: the quickest
    assert one.cache == "read covariance, unedited answers"
    monkeypatch.setattr(estimate, "LOADED", 1000)
    assert plan(wanted, rates(wanted), look=None).cache is None  # too large a model to look
    assert plan(wanted, rates(wanted), look=True).cache is not None


def test_without_a_measured_rate_there_is_no_time(tmp_path, loaded):
    one = plan(config(tmp_path))
    assert (one.seconds, one.measured, one.weighed) == (None, False, False)
    assert Planner({}).unmeasured(config(tmp_path))
    assert not Planner(rates(config(tmp_path))).unmeasured(config(tmp_path))


def test_without_a_measured_loading_there_is_no_time(tmp_path):
    assert plan(config(tmp_path), rates(config(tmp_path))).seconds is None


def test_memory_of_other_machines_counts(tmp_path):
    known = {key_of(config(tmp_path).deciding(), CPU): rates(config(tmp_path)).popitem()[1]}
    one = plan(config(tmp_path, "stream.edits=100"), known)
    assert (one.host, one.measured, one.seconds) == (1100, True, None)


def test_memory_without_a_run_is_that_of_program_weights_and_what_the_method_takes(tmp_path):
    shape = Shape.of(config(tmp_path).model)
    unedited = plan(config(tmp_path, "method=unedited"))
    assert unedited.host == PROGRAMS + shape.bytes + shape.scoring(512)
    assert (unedited.device, unedited.cached, unedited.disk) == (None, 0, ROW_BYTES * 100 + EDIT_BYTES * 50 + RUN_BYTES)
    rome, more = plan(config(tmp_path)), config(tmp_path, "method=memit", "method.layers=[0,2]")
    assert rome.cached == shape.covariance(0) and plan(more).cached == 2 * rome.cached
    assert unedited.host < plan(config(tmp_path, "method.covariance_adjustment=false")).host < rome.host
    assert rome.host < plan(more).host


def test_a_plan_for_a_gpu_needs_none_here(tmp_path):
    wanted = config(tmp_path, "model.device=cuda", "model.dtype=bfloat16")
    one = Planner(rates(wanted), gpu=True).estimate(1, wanted)
    assert one.seconds is None and one.cache is None and one.device > one.weights  # no rate of a GPU is known
    assert PROGRAMS + one.weights < one.host < PROGRAMS + one.weights + 2**20  # and the unedited weight
    assert Planner({}, gpu=True)._machine(wanted) == NO_GPU


def test_tokens_are_counted_without_a_tokenizer(tmp_path):
    count = token_counter(tmp_path)
    assert [count("a" * n) for n in (0, 1, LETTERS, LETTERS + 1)] == [0, 1, 1, 2]
    assert token_counter(shipped_model_path("pocket"))("The mother tongue") == 3


def test_only_a_model_with_weights_is_looked_into(tmp_path):
    (tmp_path / "config.json").touch()
    assert not has_weights(tmp_path) and not has_weights("some/where") and has_weights(tmp_path / "config.json")
    (tmp_path / "model.safetensors").touch()
    assert has_weights(tmp_path)


def test_the_weights_are_those_that_are_loaded(tmp_path):
    wanted = config(tmp_path).model
    shape, lm = Shape.of(wanted), language_model.load_model(wanted)
    assert (shape.parameters, shape.bytes) == (lm.model.num_parameters(), 4 * lm.model.num_parameters())


def test_a_judge_is_announced_with_its_address_and_number_of_questions(tmp_path):
    judge = ["protocol.judge.url=http://127.0.0.1:9/v1", "protocol.judge.model=mine", "stream.edits=2"]
    one, both = (plan(config(tmp_path, *judge, *more)) for more in (["protocol.stages=[final]"], []))
    count = int(one.judge.split("at most ")[1].split()[0])
    assert count > 2 and f"at most {2 * count} times" in both.judge
    assert one.judge.startswith("the judge mine is asked over the network at http://127.0.0.1:9/v1, at most ")
    assert plan(config(tmp_path)).judge == ""
