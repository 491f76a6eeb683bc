"""The plan's command: each job, and what runs out first."""

import json

import pytest

from editbench import plan
from editbench.estimate import Estimate
from tests.full_size import config_folder

SMALL = ["model=pocket", "method=rome", "model.device=cpu", "threads=1"]


def one(**facts):
    unknown = dict.fromkeys(("seconds", "host", "device", "cache")) | {"disk": 0, "cached": 0, "weighed": True}
    return Estimate(
        **{"number": 1, "names": "", "edits": 1, "done": False, "weights": 2**20, "measured": True} | unknown | facts
    )


def test_the_largest_share_runs_out_first():
    free = {"host": 2**30, "disk": 2**30}
    few = plan.breaks_first([one(host=2**29), one(number=2, disk=2**20)], free)
    assert few == "first to run out: host memory, 512 MiB of 1.00 GiB in job 1"
    assert plan.breaks_first([one(disk=2**29), one(disk=2**30)], free) == "too little: disk, 1.50 GiB of 1.00 GiB"
    assert "GPU memory" in plan.breaks_first([one()], {**free, "device": 2**19})
    assert plan.breaks_first([one(done=True, host=2**40)], free).startswith("first to run out: disk")


@pytest.mark.slow
def test_the_command_shows_each_job_and_what_it_finds(tmp_path, capsys):
    assert plan.main(["-m", *SMALL, f"results.dir={tmp_path}", f"cache={tmp_path}", "stream.edits=2,5"]) == 0
    out = capsys.readouterr().out
    assert "2 jobs, 0 of them done: " in out and "before the first job; of 2 no rate was measured here" in out
    assert "compute unedited answers" in out and "read covariance (of job 1)" in out
    assert "~ from the model's config" in out and "first to run out" in out


def test_what_cannot_work_is_refused(tmp_path, capsys):
    places = [f"results.dir={tmp_path}", f"cache={tmp_path}"]
    assert plan.main([*SMALL, *places, "method.layer=9"]) == 2
    assert "layer 9 does not exist" in capsys.readouterr().err
    assert plan.main([*SMALL, *places, "stream.edits=2,5"]) == 2
    assert "needs -m" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_with_a_config_alone_is_planned_for_a_gpu_that_is_not_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    wide, places = config_folder(tmp_path, "llama-3-8b"), [f"results.dir={tmp_path}", f"cache={tmp_path}"]
    command = ["--on", "gpu", f"model.path={wide}", "model.dtype=bfloat16", *places, "stream.edits=2"]
    plan.main([*command, "method=memit"])  # this machine may have too little
    out = capsys.readouterr().out
    assert "│ —       │ 14.96 GiB │ ~15.94 GiB  │ ~27." in out  # no time; weights; host memory; GPU memory
    assert "~7.66 GiB" in out and "~ from the model's config" in out and "host memory, 15.94 GiB" in out
    plan.main(["--json", *command, "method=unedited"])
    one = json.loads(capsys.readouterr().out)
    assert (one["seconds"], one["cached"], one["weighed"]) == (None, 0, False)
    assert one["device"] > one["weights"] == 2 * 8_030_261_248


def test_a_model_that_is_not_to_be_had_is_one_line(tmp_path, capsys):
    places = [f"results.dir={tmp_path}", f"cache={tmp_path}"]
    assert plan.main(["method=rome", "method.layer=1", "model.path=some/where", *places]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: no model at 'some/where'") and "with model.path=DIR" in last


def test_a_job_that_cannot_work_is_named(tmp_path, capsys):
    places = [f"results.dir={tmp_path}", f"cache={tmp_path}", "--look", "never"]
    assert plan.main(["-m", *SMALL, *places, "stream.edits=2", "method.layer=1,9"]) == 2
    assert "job 2 (method.layer=9): layer 9 does not exist" in capsys.readouterr().err


def test_the_runs_of_measure_have_whole_batches():
    assert [plan.measured_edits(size, 100) for size in (1, 10)] == [[2, 10], [10, 20]]


def test_the_runs_of_measure_are_no_longer_than_the_stream():
    assert [plan.measured_edits(1, length) for length in (1, 2, 3)] == [[1], [2], [2, 3]]
    assert [plan.measured_edits(10, length) for length in (7, 10, 15)] == [[7], [10], [10, 15]]


@pytest.fixture
def measure(tmp_path, capsys):
    """Plans runs over a file of three facts with --measure; what it measured, and each job."""
    facts = [
        {"prompt": f"The mother tongue of Person {i} is", "subject": f"Person {i}", "target": "Dutch"} for i in "abc"
    ]
    data = tmp_path / "facts.json"
    data.write_text(json.dumps(facts))

    def call(*more):
        given = ["model=pocket", "method=unedited", "model.device=cpu", "threads=1", "dataset=custom"]
        given += [f"dataset.path={data}", f"results.dir={tmp_path}", f"cache={tmp_path / 'cache'}"]
        assert plan.main(["-m", "--measure", "--json", *given, *more]) == 0
        printed = capsys.readouterr()
        lines = [line for line in printed.err.splitlines() if line.startswith("measuring")]
        return [line.rpartition(": ")[2] for line in lines], [json.loads(line) for line in printed.out.splitlines()]

    return call


@pytest.mark.parametrize(
    ("given", "measured"),
    [
        (["stream.edits=3"], ["2 edits", "3 edits"]),
        pytest.param(["stream.edits=null", "stream.evaluate_at=all"], ["2 edits", "3 edits"], marks=pytest.mark.slow),
        (["stream.edits=3", "stream.batch_size=10", "stream.evaluate_at=all"], ["3 edits"]),
        pytest.param(["stream.edits=1", "stream.mode=single"], ["1 edits"], marks=pytest.mark.slow),
        pytest.param(["stream.edits=1,3"], ["2 edits", "3 edits"], marks=pytest.mark.slow),
    ],
)
def test_a_file_of_few_records_is_measured_with_those_it_has(measure, given, measured):
    found, jobs = measure(*given)
    assert found == measured and all(job["seconds"] > 0 and job["measured"] and job["weighed"] for job in jobs)
    assert measure(*given)[0] == []  # it is known now


def test_a_judge_has_a_line_of_its_own(capsys):
    plan._show([one(), one(number=2, judge="the judge mine is asked")], 0.0, "")
    assert [line for line in capsys.readouterr().out.splitlines() if "judge" in line] == [
        "job 2: the judge mine is asked"
    ]
