"""What is known before a model is loaded is refused before the first job."""

import pytest

from editbench import compose, foresight

SMALL = ["model=pocket", "method=rome", "stream.edits=2"]


def check(tmp_path, *overrides, launcher="local"):
    config = compose.compose([*SMALL, f"results.dir={tmp_path}", *overrides])
    foresight.Foresight(launcher).check(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stream.edits=100000", "edits=100000, but"),
        ("method.layer=6", "layer 6 does not exist: pocket has layers 0 to 5"),
        ("dataset.path=nowhere.json", "nowhere.json"),
        ("model.path=.", "has no config.json"),
        ("protocol.metrics=[exact_mach]", "did you mean 'exact_match'"),
        ("model.device=cuda:7", "model.device=cuda:7: this machine has"),
    ],
)
def test_a_mistake_is_named(tmp_path, override, message):
    with pytest.raises((ValueError, OSError)) as caught:
        check(tmp_path, override)
    assert message in str(caught.value)


def test_what_works_is_not_refused_and_a_queue_may_have_other_devices(tmp_path):
    check(tmp_path)
    check(tmp_path, "model.device=cuda:7", launcher="submitit_slurm")


def test_all_jobs_that_cannot_work_are_listed_by_number(tmp_path):
    jobs = compose.check([*SMALL, f"results.dir={tmp_path}", "method.layer=1,6", "stream.seed=0,1"]).jobs
    with pytest.raises(ValueError) as caught:
        foresight.refuse_foreseen(jobs)
    why = "layer 6 does not exist: pocket has layers 0 to 5"
    assert str(caught.value).splitlines() == [
        "2 of 4 jobs cannot work, and none was run:",
        f"  job 3 (method.layer=6 stream.seed=0): {why}",
        f"  job 4 (method.layer=6 stream.seed=1): {why}",
    ]


def test_seeds_that_only_reorder_are_said(tmp_path, capsys):
    places = [*SMALL, f"results.dir={tmp_path}", "stream.seed=0,1"]
    foresight.refuse_foreseen(compose.check(places).jobs)
    assert "note: the 2 seeds edit the same records in another order" in capsys.readouterr().err
    foresight.refuse_foreseen(compose.check([*places, "stream.sample=random"]).jobs)
    assert capsys.readouterr().err == ""


def test_a_reason_of_several_lines_is_one(tmp_path, monkeypatch):
    def check(self, config):
        raise ValueError("first\n  second")

    monkeypatch.setattr(foresight.Foresight, "check", check)
    with pytest.raises(ValueError) as caught:
        foresight.refuse_foreseen(compose.check([*SMALL, f"results.dir={tmp_path}", "stream.seed=0,1"]).jobs)
    assert str(caught.value).splitlines()[1:] == [f"  job {n} (stream.seed={n - 1}): first second" for n in (1, 2)]
