"""The plan: estimates by measured rates, weights from the config alone, and what runs out first."""

import pytest

from editbench import compose, plan
from editbench.model import language_model
from editbench.rates import Measured, key_of

SMALL = ["model=pocket", "method=rome", "model.device=cpu", "threads=1"]


def config(tmp_path, *more):
    return compose.compose([*SMALL, f"results.dir={tmp_path}", f"cache={tmp_path}", *more])


def rates(config):
    runs = [
        Measured(n, 2 * n, {"prepare": 1.0, "edit": n / 2, "evaluation": 2.0 + n}, 100 * n, None, 10 * n)
        for n in (2, 10)
    ]
    return {key_of(config.deciding(), f"{plan.provenance.processor()}, 1 threads"): runs}


def test_seconds_follow_the_edits_and_the_scored_records(tmp_path):
    wanted = config(tmp_path, "stream.edits=40")
    one = plan.Planner(rates(wanted)).estimate(1, wanted)
    assert one.seconds == pytest.approx(1 + 40 / 2 + 2 + 40)
    assert (one.edits, one.done, one.host, one.device, one.disk) == (40, False, 1000, None, 400)
    more = config(tmp_path, "stream.edits=40", "stream.evaluate_at=[10]")
    assert plan.Planner(rates(wanted)).estimate(1, more).seconds == pytest.approx(1 + 40 / 2 + 2 + 45)


def test_without_a_measured_rate_there_is_no_time(tmp_path):
    planner = plan.Planner({})
    one = planner.estimate(1, config(tmp_path))
    assert (one.seconds, one.host, one.disk) == (None, None, None) and planner.unmeasured(config(tmp_path))
    assert not plan.Planner(rates(config(tmp_path))).unmeasured(config(tmp_path))


def test_the_weights_are_those_that_are_loaded(tmp_path):
    wanted = config(tmp_path).model
    parameters, size = plan.weights_of(wanted)
    lm = language_model.load_model(wanted)
    assert (parameters, size) == (lm.model.num_parameters(), 4 * lm.model.num_parameters())


def test_the_largest_share_runs_out_first():
    def one(**facts):
        return plan.Estimate(
            **{
                "number": 1,
                "names": "",
                "edits": 1,
                "done": False,
                "weights": 2**20,
                "seconds": None,
                "host": None,
                "device": None,
                "disk": None,
                **facts,
            }
        )

    free = {"host": 2**30, "disk": 2**30}
    few = plan.breaks_first([one(host=2**29), one(number=2, disk=2**20)], free)
    assert few == "first to run out: host memory, 512 MiB of 1.00 GiB in job 1"
    assert plan.breaks_first([one(disk=2**29), one(disk=2**30)], free) == "too little: disk, 1.50 GiB of 1.00 GiB"
    assert "GPU memory" in plan.breaks_first([one()], {**free, "device": 2**19})
    assert plan.breaks_first([one(done=True, host=2**40)], free).startswith("first to run out: disk")


def test_the_command_shows_each_job_and_refuses_what_cannot_work(tmp_path, capsys):
    places = [f"results.dir={tmp_path}", f"cache={tmp_path}"]
    assert plan.main(["-m", *SMALL, *places, "stream.edits=2,5"]) == 0
    out = capsys.readouterr().out
    assert "2 jobs, 0 of them done: 0 s in all; of 2 no rate was measured here" in out and "first to run out" in out
    assert plan.main([*SMALL, *places, "method.layer=9"]) == 2
    assert "layer 9 does not exist" in capsys.readouterr().err
    assert plan.main([*SMALL, *places, "stream.edits=2,5"]) == 2
    assert "needs -m" in capsys.readouterr().err


def test_a_judge_is_announced_with_its_address_and_number_of_questions(tmp_path, capsys):
    judge = ["protocol.judge.url=http://127.0.0.1:9/v1", "protocol.judge.model=mine", "stream.edits=2"]
    wanted = config(tmp_path, *judge, "protocol.stages=[final]")
    (one, both) = (plan.Planner({}).estimate(1, c) for c in (wanted, config(tmp_path, *judge)))
    count = int(one.judge.split("at most ")[1].split()[0])
    assert count > 2 and f"at most {2 * count} times" in both.judge
    plan._show([one], "")
    assert (
        f"job 1: the judge mine is asked over the network at http://127.0.0.1:9/v1, at most {count} times"
        in capsys.readouterr().out
    )
    assert plan.Planner({}).estimate(1, config(tmp_path)).judge == ""
