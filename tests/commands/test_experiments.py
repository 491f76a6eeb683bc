"""Experiments, launchers and trackers compose; a sweep has as many jobs as its table."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra.types import RunMode

from editbench import compose as composing_module
from editbench import launch, plugins, registry
from editbench.conf_groups import conf_names
from editbench.model import language_model
from tests.composing import compose, enough_of, jobs_of, need_launcher

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
JOBS = {
    "paper/nse_table1": 10,
    "paper/nse_edits": 12,
    "paper/nse_batch_size": 15,
    "paper/nse_ablation": 16,
    "paper/nse_general": 4,
    "paper/nse_shift": 4,
    "paper/scen_table1": 10,
    "paper/scen_eos": 10,
    "paper/scen_theta": 16,
    "paper/scen_layers": 12,
    "paper/scen_edits": 3,
    "paper/scen_first_200": 2,
    "pocket/table": 54,
    "study/embedded": 198,
    "study/smollm2": 27,
    "study/revisions": 63,
    "study/answers": 132,
}


@pytest.fixture(scope="module", autouse=True)
def methods():
    composing_module.register(list(plugins.entry_points(plugins.METHODS)))


def first_of(experiment, *overrides):
    """The config of an experiment's first job."""
    return composing_module.parse(compose(jobs_of([f"+experiment={experiment}", *overrides])[0], hydra=False))


# -- experiments ------------------------------------------------------------------------------------------------------


def test_every_experiment_is_counted_here():
    assert set(conf_names("experiment")) == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_an_experiment_composes_and_has_its_jobs(name):
    jobs = jobs_of([f"+experiment={name}"])
    assert len(jobs) == JOBS[name]
    for job in enough_of(jobs):
        config = compose(job)
        composing_module.parse(compose(job, hydra=False))
        model = "smollm2-135m" if name == "study/smollm2" else "pocket"
        assert (config.model.path, config.tracker.group, config.hydra.mode) == (model, name, RunMode.MULTIRUN)
    head = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert head[0] == "# @package _global_"
    assert head[1].startswith("# ")


@pytest.mark.parametrize("name", [name for name in JOBS if name.startswith("paper/")])
def test_an_experiment_of_a_paper_runs_on_a_pretrained_model_by_one_override(name):
    """Its records are fetched ones, and every method has settings for the model."""
    for job in enough_of(jobs_of([f"+experiment={name}", "model=smollm2-135m"])):
        config = composing_module.parse(compose(job, hydra=False))
        assert (config.model.path, config.dataset.path) == ("smollm2-135m", "fetched")
        assert config.method.hparams != registry.DEFAULTS
        assert "pocket" not in config.protocol.ability.tasks
        assert not any(
            "pocket" in str(file) for file in registry.find_hparams(config.method.name, "smollm2-135m", "")[1]
        )


def test_an_experiment_takes_the_hparams_of_its_method_and_model():
    origin, files = registry.find_hparams("scen", "pocket", "counterfact")
    own = yaml.safe_load(files[0].read_text())
    method = first_of("paper/scen_theta").method
    assert (method.settings.expert_steps, method.hparams) == (own["expert_steps"], origin)
    given = first_of("paper/scen_theta", "model=llama-2-7b", "model.path=somewhere")
    assert given.method.settings.layer == 20


@pytest.mark.parametrize("name", ["scen_theta", "scen_layers", "scen_edits"])
def test_the_studies_of_scen_ask_its_neurons(name):
    """One list of metrics on top of two protocols: the default's, and those of the headline that SCEN's has."""
    default, studied = composing_module.compose([]).protocol, first_of(f"paper/{name}")
    scen = first_of(f"paper/{name}", "protocol=scen", "dataset.unrelated_path=FILE").protocol
    assert studied.dataset.settings.unrelated_path == "pocket" and studied.protocol.metrics == scen.metrics
    assert set(studied.protocol.metrics) == {*default.metrics, "generation_exact", "activation", "routing"}
    assert {measure.partition(".")[2] for measure in scen.headline.values()} <= set(scen.metrics)


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
        ("tracker.queue=many", "tracker.queue is many; it must be a whole number"),
    ],
)
def test_a_wrong_name_is_said(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        composing_module.compose([wrong])


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
    command = ["-m", "launcher=submitit_local", "method=rome,scen", "stream.edits=1"]
    command += ["model.covariance=nowhere.safetensors"]  # which rome alone needs
    command += ["protocol.metrics=[exact_match,agreement]", "protocol.stages=[immediate]", "protocol.max_tokens=8"]
    command += [f"results.dir={tmp_path / 'results'}", f"cache={tmp_path / 'cache'}"]
    editbench = [sys.executable, "-m", "editbench.cli", "run", "--json", *command]
    done = subprocess.run(editbench, cwd=tmp_path, check=False, timeout=500, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # the failure is known to the process that was called, and printed there
    fine, failed = sorted(map(json.loads, done.stdout.splitlines()), key=lambda line: line["status"])
    assert (fine["status"], fine["method"]) == ("done", "scen")
    assert (failed["status"], failed["method"]) == ("failed", "rome")
    assert "nowhere.safetensors" in failed["reason"]
    assert failed["reason"] in done.stderr
    statuses = {
        run.parent.name[:23]: json.loads(run.read_text())["status"] for run in tmp_path.glob("results/*/run.json")
    }
    assert statuses == {"counterfact-pocket-scen": "done", "counterfact-pocket-rome": "failed"}


# -- docs -------------------------------------------------------------------------------------------------------------


def test_the_docs_count_the_jobs():
    rows = re.findall(
        r"^\| `((?:paper|pocket|study)/\w+)` \|.*\| (\d+) \|", (ROOT / "docs" / "sweeps.md").read_text(), re.M
    )
    assert {name: int(count) for name, count in rows} == JOBS


# -- before runs -----------------------------------------------------------------------------------------------------


def test_what_is_prepared_in_parts_is_found_by_the_run(tmp_path, capsys):
    places = [f"cache={tmp_path / 'cache'}", f"results.dir={tmp_path / 'results'}"]
    common = ["method=nse", "stream.edits=3", "method.steps=2", "protocol.metrics=[exact_match,agreement]", *places]
    assert launch.main(["method=nse", "precompute.find_values=false", *places], precompute=True) == 0
    assert not (tmp_path / "cache" / "values").exists() and (tmp_path / "cache" / "covariance").exists()
    assert launch.main(["-m", *common, "precompute.parts=2", "precompute.part=0,1"], precompute=True) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"precomputed: nse on pocket, (\d) edits of counterfact", printed) == ["0", "2", "1"]
    kept = sorted((tmp_path / "cache" / "values").rglob("*.safetensors"))
    before = [(f, f.stat().st_mtime_ns) for f in kept]
    assert len(kept) == 3 and not list((tmp_path / "results").glob("*/run.json"))
    assert launch.main([*common, "protocol.stages=[final]"]) == 0
    after = sorted((tmp_path / "cache" / "values").rglob("*.safetensors"))
    assert [(f, f.stat().st_mtime_ns) for f in after] == before


def test_a_part_that_there_is_not_is_refused(capsys):
    assert launch.main(["method=nse", "precompute.parts=2", "precompute.part=2"], precompute=True) == 1
    assert "precompute.part is 2; it must be from 0 to precompute.parts - 1, 1" in capsys.readouterr().err
    assert launch.main(["method=nse", "precompute.parts=0"], precompute=True) == 1
    assert "precompute.parts is 0; it must be at least 1" in capsys.readouterr().err


def test_a_method_that_needs_nothing_ahead_says_so(capsys, monkeypatch):
    monkeypatch.setattr(language_model, "load_model", None)
    assert launch.main(["method=finetune", "stream.edits=2"], precompute=True) == 0
    assert capsys.readouterr().out == "nothing to precompute: finetune needs nothing in the cache\n"


def test_what_learns_from_training_records_is_prepared_too(tmp_path, capsys):
    given = ["method=in_context", "method.demonstrations=2", "stream.edits=2", f"cache={tmp_path}"]
    assert launch.main(given, precompute=True) == 0
    assert capsys.readouterr().out.startswith("precomputed: in_context on pocket, 2 edits of counterfact")


def test_a_named_run_takes_no_notice_of_what_was_prepared_ahead(tmp_path, capsys):
    named = ["method=unedited", "stream.edits=2", "protocol.metrics=[exact_match,agreement]", "results.name=mine"]
    named.append(f"results.dir={tmp_path}")
    assert launch.main(named) == 0
    assert launch.main([*named, "precompute.parts=4", "precompute.part=1"]) == 0
    assert "done before" in capsys.readouterr().out
