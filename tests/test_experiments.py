"""Experiments, launchers and trackers compose; a sweep has as many jobs as its table; the docs' commands are right."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from editbench import registry, runner
from editbench.config import settings_of
from editbench.console import conf_names

ROOT = Path(__file__).parent.parent
JOBS = {
    "paper/nse_table1": 10,
    "paper/nse_batch_size": 10,
    "paper/nse_general": 4,
    "paper/scen_table1": 10,
    "paper/scen_theta": 8,
    "paper/scen_layers": 4,
    "pocket/table": 54,
}
PLUGINS = {"joblib": "hydra_joblib_launcher", "ray": "hydra_ray_launcher"}
PLUGINS |= dict.fromkeys(("submitit_local", "submitit_slurm"), "hydra_submitit_launcher")


def need_launcher(name):
    if name in PLUGINS:
        pytest.importorskip(f"hydra_plugins.{PLUGINS[name]}")


@pytest.fixture(scope="module", autouse=True)
def methods():
    runner.register_methods(list(registry.method_entry_points()))


def compose(overrides):
    """The whole configuration, Hydra's own part included; without the command line's checks, which cost a second."""
    with initialize_config_module(version_base="1.3", config_module="editbench.conf"):
        return hydra_compose("config", list(overrides), return_hydra_config=True)


def jobs_of(overrides):
    """What Hydra makes of these overrides: one list of overrides a job."""
    parser = OverridesParser.create()
    single = [o.input_line for o in parser.parse_overrides(list(overrides)) if not o.is_sweep_override()]
    own = [f"{key}={value}" for key, value in (compose(single).hydra.sweeper.params or {}).items()]
    return BasicSweeper.split_arguments(parser.parse_overrides([*own, *overrides]), None)[0]


def enough_of(jobs):
    """Jobs in which every value of the sweep is seen."""
    seen, chosen = set(), []
    for job in jobs:
        if not seen.issuperset(job):
            seen.update(job)
            chosen.append(job)
    return chosen


# -- experiments ------------------------------------------------------------------------------------------------------


def test_every_experiment_is_counted_here():
    assert set(conf_names("experiment")) == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_an_experiment_composes_and_has_its_jobs(name):
    jobs = jobs_of([f"+experiment={name}"])
    assert len(jobs) == JOBS[name]
    for job in enough_of(jobs):
        config = compose(job)
        method, settings = settings_of(config.method)
        registry.make_config(method, registry.load_method(method).config_class, settings)
        assert (config.model.path, config.tracker.group, config.hydra.mode) == ("pocket", name, RunMode.MULTIRUN)
    head = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert head[0] == "# @package _global_"
    assert head[1].startswith("# ")


def test_an_experiment_takes_the_cell_of_its_method_and_model():
    cell = yaml.safe_load((ROOT / "conf" / "method_model" / "scen-pocket.yaml").read_text())
    assert runner.compose(["+experiment=paper/scen_theta"]).method.expert_steps == cell["expert_steps"]
    given = runner.compose(["+experiment=paper/scen_theta", "model=llama-2-7b", "model.path=somewhere"])
    assert given.method.layer == 20


def test_the_command_line_narrows_a_sweep():
    jobs = jobs_of(["+experiment=pocket/table", "method=scen", "stream.seed=0,1"])
    assert len(jobs) == 6
    assert {o for job in jobs for o in job if o.startswith("method")} == {"method=scen"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("+experiment=paper/nse_tabel1", "did you mean 'paper/nse_table1'"),
        ("launcher=submitit", "unknown launcher 'submitit'"),
        ("tracker=wandbb", "did you mean 'wandb'"),
        ("tracker.finish_second=3", "did you mean 'tracker.finish_seconds'"),
        ("tracker.queue=many", "could not be converted to Integer"),
    ],
)
def test_a_wrong_name_is_said(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        runner.compose([wrong])


# -- trackers and launchers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", conf_names("tracker"))
def test_every_tracker_composes(name):
    assert compose([f"tracker={name}"]).tracker.name == name


@pytest.mark.parametrize("name", conf_names("launcher"))
def test_every_launcher_composes(name):
    need_launcher(name)
    config = compose([f"launcher={name}", "results.dir=somewhere"]).hydra
    own = yaml.safe_load((ROOT / "conf" / "launcher" / f"{name}.yaml").read_text())
    assert config.runtime.choices["hydra/launcher"] == own["defaults"][0]["override /hydra/launcher"]
    for key, value in own.get("hydra", {}).get("launcher", {}).items():
        if isinstance(value, (int, str)) and "$" not in str(value):
            assert config.launcher[key] == value


def test_jobs_run_in_other_processes_and_one_that_fails_does_not_sink_the_others(tmp_path):
    """The workers know the methods and their cells; scen's cell asks for prompts of the embedded world."""
    need_launcher("submitit_local")
    command = ["-m", "launcher=submitit_local", "method=scen", "stream.edits=1000,1"]  # so many records there are not
    command += ["protocol.scorers=[exact_match]", "protocol.moments=[immediate]", "protocol.max_tokens=8"]
    command += [f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}"]
    subprocess.run([sys.executable, "-m", "editbench.cli", "run", *command], cwd=tmp_path, check=False, timeout=500)
    [run] = (tmp_path / "results").glob("*/run.json")
    assert run.parent.name.startswith("counterfact-pocket-scen-e1-b1-s0")
    assert json.loads(run.read_text())["status"] == "done"


# -- docs -------------------------------------------------------------------------------------------------------------


def commands(*files):
    """The ``editbench run`` commands of code blocks and config heads, each on one line."""
    for file in files:
        text = file.read_text()
        if file.suffix == ".yaml":
            comment = "\n".join(line.removeprefix("#").rstrip() for line in text.splitlines() if line.startswith("#"))
            text = re.sub(r"\n {5}(?=\S)", " ", comment)  # a continued command is indented further
            text = "\n".join(line for line in text.splitlines() if line.startswith("   editbench"))
        for line in text.splitlines():
            if line.strip().startswith("editbench run "):
                yield line.strip()


DOCS = [ROOT / "docs" / "tracking.md", ROOT / "docs" / "sweeps.md"]
HEADS = sorted((ROOT / "conf" / "experiment").rglob("*.yaml"))


@pytest.mark.parametrize("command", sorted(set(commands(*DOCS, *HEADS))))
def test_a_documented_command_composes(command):
    arguments = [a for a in shlex.split(command)[2:] if not a.startswith("-")]
    for launcher in [a.partition("=")[2] for a in arguments if a.startswith("launcher=")]:
        need_launcher(launcher)
    jobs = jobs_of(arguments)
    runner.compose(jobs[-1])
    assert (len(jobs) > 1) == (" -m " in command or "+experiment" in command)


def test_the_docs_count_the_jobs():
    rows = re.findall(r"^\| `((?:paper|pocket)/\w+)` \|.*\| (\d+) \|", (ROOT / "docs" / "sweeps.md").read_text(), re.M)
    assert {name: int(count) for name, count in rows} == JOBS
