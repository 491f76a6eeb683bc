"""Commands of the documentation compose, and run where they need nothing of the reader's."""

import contextlib
import io
import os
import re
import shlex
import sys

import pytest
from omegaconf import OmegaConf

from editbench import cli, single_run, train
from editbench import compose as composing_module
from editbench.conf_groups import conf_names
from editbench.evaluation.questions import check_headline
from editbench.layer_search import command as locate
from editbench.model_places import SHIPPED_MODELS
from editbench.tuning import command as tune
from editbench.tuning.start import trial_config
from tests import composing
from tests.composing import first_job, jobs_of, need_launcher
from tests.docs.pages import FENCED, LOCATES, OTHERS, PLANS, PROJECT, ROOT, RUNS, SMALL, TEXTS, TRAINS, TUNES, blocks


def parts(command):
    """Flags and overrides of an ``editbench run``, as the command line takes them."""
    arguments = shlex.split(command)[2:]
    flags = [a for a in arguments if a[0] == "-"]
    return flags, composing_module._with_model_group([a for a in arguments if "=" in a and a not in flags])


@pytest.fixture(scope="module")
def composed(place):
    """By command: its jobs and the config of the last, in one initialisation of Hydra, or the error."""
    found = {}
    for command in RUNS:
        try:
            found[command] = jobs_of(parts(command)[1])
        except Exception as error:  # each test raises its own
            found[command] = error
    with composing.initialised():
        for command, jobs in found.items():
            if not isinstance(jobs, Exception):
                try:
                    found[command] = jobs, composing.compose([f"results.dir={place}", *jobs[-1]])
                except Exception as error:
                    found[command] = error
    return found


@pytest.mark.slow
@pytest.mark.parametrize("command", RUNS)
def test_a_run_composes(composed, command):
    """Models and files of the reader's own may be missing on this machine."""
    flags, overrides = parts(command)
    for launcher in [a.partition("=")[2] for a in overrides if a.startswith("launcher=")]:
        need_launcher(launcher)
    if isinstance(composed[command], Exception):
        raise composed[command]
    jobs, whole = composed[command]
    node = OmegaConf.masked_copy(whole, [part for part in whole if part != "hydra"])
    assert len(jobs) > 1 if "-m" in flags else len(jobs) == 1 or "+experiment" in command
    parsed = composing_module.parse(node)
    check_headline(parsed.protocol.headline, parsed.protocol.metrics)


def runnable():
    """Runs of the embedded models on data that is embedded or in the folder; each kind once."""
    titles = {title for text in TEXTS.values() for title, _ in blocks(text, "json") if title}
    apart = ("stream.", "protocol.metrics", "protocol.stages", "tracker", "launcher", "hydra.", "~hydra.", "+hydra.")
    usual = ("method=rome", "dataset=counterfact", "model=pocket")
    seen = set()
    for command in RUNS:
        flags, overrides = parts(command)
        if "precompute" in command or "--cfg" in flags or "+experiment" in command or "method.layers" in command:
            continue
        if "protocol.judge.url=" in command:  # a server of the reader's
            continue
        job = tuple(sorted(a for a in first_job(overrides) if not a.startswith(apart) and a not in usual))
        kind = tuple(a.partition("=")[0] if a.startswith("method.") else a for a in job)
        models = {a.partition("=")[2] for a in job if re.match(r"(protocol\.judge\.)?model(\.path)?=|method\.path=", a)}
        files = {a.partition("=")[2] for a in job if re.match(r"dataset\.\w*path=", a)}
        if models <= SHIPPED_MODELS.keys() and files <= titles and kind not in seen:
            seen.add(kind)
            yield job


@pytest.mark.slow
@pytest.mark.parametrize("job", list(runnable()), ids=lambda job: " ".join(job) or "as it is")
def test_a_run_runs(place, job):
    own = any(override.startswith("protocol=") for override in job)  # whose headline needs its own metrics
    small = [override for override in SMALL if not (own and override.startswith("protocol.metrics"))]
    outcome = single_run.run(composing_module.parse(composing.compose(jobs_of([*job, *small])[0], hydra=False)))
    assert (outcome.folder / "scores.jsonl").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in RUNS if "--cfg" in c and "+experiment" not in c])
def test_the_settings_are_shown(place, command, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["editbench"])
    assert cli.main(shlex.split(command)[1:]) == 0
    assert "stream:\n  edits: 50" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", LOCATES)
def test_a_search_for_layers_composes_and_runs(place, command, capsys):
    arguments = shlex.split(command)[2:]
    options = locate._parser().parse_intermixed_args(arguments)
    locate._layers(options.layers)
    locate._compose(options.overrides)
    if "model=pocket" in arguments:
        few = ["stream.edits=1", "--layers", "0", "--samples", "2", "--out", "located"]
        assert cli.main(["locate", *arguments, *few]) == 0
        assert (place / "located" / "locate.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", TUNES)
def test_a_search_for_settings_composes(place, command):
    options = tune.parser().parse_intermixed_args(shlex.split(command)[2:])
    config = trial_config(options.overrides, options.seed)
    check_headline(config.protocol.headline, config.protocol.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINS)
def test_a_training_composes(place, command):
    config = train.training_config(train.parser().parse_intermixed_args(shlex.split(command)[2:]).overrides)
    assert config.dataset.split == "train"


@pytest.mark.slow
@pytest.mark.parametrize("command", PLANS)
def test_a_plan_is_made(place, command, capsys):
    status = cli.main([*shlex.split(command)[1:], f"results.dir={place}", f"cache={place}"])
    last = capsys.readouterr().out.splitlines()[-1]  # what a model of full size needs may be too much here
    assert last.startswith("first to run out" if status == 0 else "too little: ") and status in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("command", OTHERS)
def test_another_command_runs(place, two_runs, command, capsys, monkeypatch):
    a, b = two_runs
    named = {"A": str(a), "B": str(b), "results.dir=DIR": "results.dir=results"}
    words = shlex.split(command)[1:]
    arguments = [named.get(re.sub(r"^results/(RUN_)?", "", word), word) for word in words]
    if arguments[0] == "workspace":
        pytest.importorskip("wandb_workspaces")
    if arguments[0] in ("edit", "explain", "workspace"):  # they read their own arguments
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        assert cli.main(arguments) == 0 and capsys.readouterr().out
        return
    options = cli._parser().parse_args(arguments)
    if options.command == "report":
        pytest.importorskip("plotly")
    elsewhere = ("run", "locate", "demo", "fetch", "covariance", "ranks")  # these have tests of their own
    if options.command not in elsewhere:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            assert cli.main(arguments) == 0
        assert capsys.readouterr().out


def test_other_commands_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for command, page in FENCED.items():
        program, *arguments = shlex.split(command)
        if program == "make":
            assert set(arguments) <= set(targets), f"{page}: {command}"
        else:
            assert program == "editbench" or command == "pip install -e .", f"{page}: {command}"
    for page, text in TEXTS.items():
        for extras in re.findall(r"pip install [^`\n]*?(?:editbench|\.)\[([\w,-]+)\]", text):
            assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys(), f"{page}: {extras}"


def test_every_experiment_is_explained():
    for page in ("docs/sweeps.md", "docs/reproduce.md"):
        rows = re.findall(r"^\| `((?:paper|pocket|study)/\w+)` \|", TEXTS[page], re.M)
        assert set(rows) == set(conf_names("experiment"))
