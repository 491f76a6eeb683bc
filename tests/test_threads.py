"""Threads: the rule, the cores of a job on each launcher, and a run's own number wherever it goes on."""

import json
import logging
import os
import re
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig

from editbench import compose, launch, single_run, threads
from editbench.editor import Editor
from editbench.model.language_model import load_model
from editbench.results import RunFolder
from tests.composing import need_launcher
from tests.test_editing_loop import make, tiny_folder  # noqa: F401

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    """A machine with eight cores that nothing bounds, whose threads are as before after the test."""
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threads.restored_threads():
        yield


def test_the_rule_goes_by_the_models_size_and_the_cores():
    assert [threads.threads_for(10**6 * size, 8) for size in (1, 50, 135, 7000)] == [1, 1, 4, 8]
    assert threads.threads_for(10**10, 1) == threads.threads_for(0, 8) == 1


def test_the_embedded_models_run_on_one_thread(monkeypatch):
    for name in ("pocket", "pocket-gpt2"):
        assert threads.set_threads(load_model(name).model) == torch.get_num_threads() == 1


def test_a_stored_number_precedes_a_setting_which_precedes_the_rule(monkeypatch, caplog):
    model = torch.nn.Linear(3, 5, bias=False)
    monkeypatch.setattr(threads, "PARAMETERS_A_THREAD", 5)
    assert threads.set_threads(model) == torch.get_num_threads() == 3
    assert threads.set_threads(model, cores=2) == 2
    assert threads.set_threads(model, cores=2, setting=4) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "1,2")
    assert threads.set_threads(model) == 1
    assert threads.set_threads(model, cores=2, stored=4) == torch.get_num_threads() == 4
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        assert threads.set_threads(model, setting=2, stored=16) == 16
    assert caplog.messages == [
        "the run goes on with the 16 threads that it began with; results.rerun=true begins it anew with threads=2",
        "the run began with 16 threads and goes on with as many on 8 cores: slow",
    ]


@pytest.mark.parametrize(
    ("launcher", "settings", "jobs", "cores"),
    [
        ("basic", {}, 5, 8),
        ("joblib", {"n_jobs": 2}, 5, 4),
        ("joblib", {"n_jobs": 4}, 2, 4),
        ("joblib", {"n_jobs": -1}, 20, 1),
        ("joblib", {"n_jobs": 30}, 30, 1),
        ("submitit_local", {"cpus_per_task": 6}, 2, 4),
        ("submitit_local", {"cpus_per_task": 2}, 2, 2),
        ("submitit_local", {"cpus_per_task": None}, 30, 1),
        ("submitit_slurm", {"cpus_per_task": 4}, 30, 4),
        ("submitit_slurm", {"cpus_per_task": 16}, 1, 8),
        ("ray", {"ray": {"init": {"num_cpus": 2}, "remote": {"num_cpus": 1}}}, 5, 1),
        ("ray", {"ray": {"init": {}, "remote": {}}}, 5, 8),
    ],
)
def test_jobs_that_run_side_by_side_share_the_cores(launcher, settings, jobs, cores, monkeypatch):
    assert threads.job_cores(launcher, settings, jobs) == cores


def test_a_job_knows_how_many_its_sweep_has(tmp_path):
    seen = []

    def job(node):
        own = HydraConfig.get()
        seen.append((os.environ[launch.JOBS], own.runtime.choices["hydra/launcher"], launch._cores()))

    given = compose.check(["method=unedited", "stream.seed=0,1,2", f"results.dir={tmp_path}"])
    launch.run_jobs(job, given, True, launch.JobReporter())
    assert seen == [("3", "basic", 8)] * 3


def test_logical_processors_of_one_core_count_once(monkeypatch, tmp_path):
    for cpu, siblings in enumerate(("0,2", "1", "0,2")):
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(threads, "_CPUS", tmp_path)
    assert len({threads._core(cpu) for cpu in range(4)}) == 3  # the last has no file


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_threads_and_they_name_no_other_run(make, monkeypatch):  # noqa: F811
    edit, seen = Editor.edit, []

    def stop_at_third(self, batch):
        seen.append(torch.get_num_threads())
        if len(seen) == 3:
            raise KeyboardInterrupt
        return edit(self, batch)

    before = torch.get_num_threads()
    monkeypatch.setattr(Editor, "edit", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        single_run.run(make("threads=2"))
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = single_run.run(make(), cores=1).folder
    assert seen[:3] == [2, 2, 2] and set(seen[3:]) == {2}
    info = json.loads((folder / "run.json").read_text())
    assert info["provenance"]["threads"] == 2 and info["provenance"]["cpu"].endswith(", 2 threads")
    assert single_run.run(make("threads=4")).already_done
    assert "threads" not in (folder / "config.yaml").read_text()
    assert not any("threads" in name for name in info["provenance"]["parts"])
    with RunFolder.open(folder) as opened:
        opened.set_status("running")
    assert single_run.run(make("threads=2", "results.rerun=true")).folder == folder


@pytest.mark.parametrize("given", ["0", "two", "1.5"])
def test_a_setting_that_is_no_number_of_threads_is_refused(given):
    with pytest.raises(ValueError, match="threads is .*; it must be a whole number from 1"):
        compose.compose(["method=unedited", f"threads={given}"])


def test_nothing_else_sets_threads():
    sets = re.compile(r"set_num_(interop_)?threads|OMP_NUM_THREADS")
    files = {file for top in ("editbench", "methods", "conf") for file in (ROOT / top).rglob("*.*")}
    texts = {file for file in files if file.suffix in (".py", ".yaml") and sets.search(file.read_text("utf-8"))}
    places = {file.relative_to(ROOT).as_posix() for file in texts}
    assert places == {"editbench/threads.py", "editbench/pocket/train_models.py"}  # the latter is no part of a run


class Returned:
    """Keeps what a sweep's jobs return."""

    plan, jobs = (), ()

    def add_returned(self, jobs):
        self.jobs = tuple(jobs)


def cores_of_job(node):
    """Number of jobs, and this job's cores on a machine of eight, in whatever process it runs."""
    from editbench import launch, threads

    threads.usable_cores = lambda: 8
    return os.environ[launch.JOBS], launch._cores(), os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "settings", "cores"),
    [
        ("joblib", ["hydra.launcher.n_jobs=2"], 4),
        ("submitit_local", ["hydra.launcher.cpus_per_task=6"], 4),
        ("submitit_local", ["hydra.launcher.cpus_per_task=2"], 2),
        ("ray", [], 1),
    ],
)
def test_a_job_in_a_process_of_its_own_knows_its_cores(launcher, settings, cores, tmp_path):
    need_launcher(launcher)
    overrides = ["method=unedited", "stream.seed=0,1", f"launcher={launcher}", f"results.dir={tmp_path}", *settings]
    returned = Returned()
    launch.run_jobs(cores_of_job, compose.check(overrides), True, returned)
    assert [job[:2] for job in returned.jobs] == [("2", cores)] * 2
    assert os.getpid() not in {job[2] for job in returned.jobs}
